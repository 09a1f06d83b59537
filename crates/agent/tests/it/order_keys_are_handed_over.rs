//! The provider's order keys change hands, one version after another, also for hosts that joined in between.

use agent::orders::open;
use domain::change::Action;
use domain::order::{Bundle, Handover, Refusal};
use jiff::Timestamp;
use ledger::attestation::Attestor;

use crate::support::{Told, envelope, key, provider, tenant, trusted, trusted_since};

/// The key of a version; the first is the one that all hosts pinned that joined before.
fn of(version: u8) -> Attestor {
    if version == 1 { provider() } else { Attestor::new(&[100 + version; 32]) }
}

/// As each version hands over to the next.
fn handover(to: u8) -> String {
    envelope(&of(to - 1), &Handover { version: to.into(), keys: [key(&of(to))].into() })
}

/// An order signed by a version, with all that was said about keys.
fn bundle(by: u8, handovers: &[u8]) -> Bundle {
    let told = Told::to(vec![Action::Reboot], 1);
    let public_keys = (1..=4).map(|version| of(version).key().to_string());
    Bundle {
        order: envelope(&of(by), &told.order),
        handovers: handovers.iter().map(|to| handover(*to)).collect(),
        public_keys: public_keys.chain([tenant().key().to_string()]).collect(),
        ..told.bundle()
    }
}

#[test]
fn a_host_takes_each_handover_that_follows_what_it_pinned() {
    let now = Timestamp::now();
    // Joined before all of them; after the first; after the last.
    for (trusted, joined) in
        [(trusted(), 1), (trusted_since(&of(2), 2), 2), (trusted_since(&of(3), 3), 3)]
    {
        let bundle = bundle(3, &[2, 3]);
        let opened = open(&bundle, &trusted, now);
        let opened = opened.unwrap_or_else(|refusal| panic!("joined at {joined}: {refusal}"));
        assert_eq!(opened.trusted.order_key_version(), 3, "joined at {joined}");
        assert_eq!(opened.trusted.order_keys().collect::<Vec<_>>(), [key(&of(3))]);
        // The same again, and the first alone, alter nothing.
        for handovers in [&[2, 3][..], &[2]] {
            let again = crate::order_keys_are_handed_over::bundle(3, handovers);
            assert_eq!(open(&again, &opened.trusted, now).unwrap().trusted, opened.trusted);
        }
    }
}

#[test]
fn a_handover_out_of_turn_lets_no_key_sign() {
    let now = Timestamp::now();
    let refused = |bundle: Bundle, since: u8| {
        let trusted = trusted_since(&of(since), since.into());
        let refusal = open(&bundle, &trusted, now).unwrap_err();
        assert!(matches!(refusal, Refusal::Envelope { .. }), "{refusal}");
    };

    // One is missing; the key before counts no more; what came first does not come again.
    refused(bundle(3, &[3]), 1);
    refused(bundle(1, &[2]), 1);
    refused(bundle(1, &[2]), 2);
    let back = Handover { version: 2, keys: [key(&of(1))].into() };
    let back = Bundle { handovers: vec![envelope(&of(2), &back)], ..bundle(1, &[]) };
    refused(back, 2);
}
