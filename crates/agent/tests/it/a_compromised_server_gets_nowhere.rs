//! Somebody holds the order key and all of the control plane. With real signatures on a real root:
//! nothing that they try alters the host, and each attempt has its name.

use domain::change::{Action, Decision, Statement};
use domain::order::{Bundle, Handover, Refusal};
use jiff::SignedDuration;
use ledger::attestation::Attestor;

use crate::support::{Deb, Host, Told, envelope, id, provider, runs_as_root, tenant, upgrade};

#[test]
fn each_attempt_has_its_refusal() {
    if !runs_as_root("a_compromised_server_gets_nowhere::each_attempt_has_its_refusal") {
        return;
    }
    let host = Host::new("attacked");
    let old = host.offer(&Deb::new("tool", "1.0-2"));
    host.install(std::slice::from_ref(&old));
    let older = host.offer(&Deb::new("tool", "1.0-1"));
    let new = host.offer(&Deb::new("tool", "1.0-3"));
    let other = host.offer(&Deb::new("backdoor", "1.0-1"));
    let agreed = Told::to(vec![upgrade(std::slice::from_ref(&new))], 5);
    let honest = agreed.bundle();
    let refused = |bundle: &Bundle| {
        let refusal = host.refusal(bundle);
        assert_eq!(host.version("tool"), "1.0-2", "{refusal}");
        assert_eq!(host.version("backdoor"), "", "{refusal}");
        assert!(!refusal.help().is_empty());
        refusal
    };
    let signed = |order| Bundle { order: envelope(&provider(), &order), ..honest.clone() };

    // What nobody agreed to: another package, or this one without a consent.
    let mut unconsented = Told::to(vec![upgrade(&[other])], 6).bundle();
    unconsented.consents = honest.consents.clone();
    assert!(matches!(refused(&unconsented), Refusal::Consent { .. }));
    let bare = Bundle { consents: Vec::new(), ..honest.clone() };
    assert!(matches!(refused(&bare), Refusal::Consent { .. }));

    // A consent that the server signed itself, with a key that it brought itself.
    let thief = Attestor::new(&[66; 32]);
    let forged = Bundle {
        consents: vec![envelope(&thief, &agreed.consent), envelope(&provider(), &agreed.consent)],
        public_keys: [honest.public_keys.clone(), vec![thief.key().to_string()]].concat(),
        ..honest.clone()
    };
    assert!(matches!(refused(&forged), Refusal::Consent { .. }));

    // The tenant's no, turned into a yes by an altered byte.
    let said = Statement { decision: Decision::Approve, tenant: id(9), ..agreed.consent.clone() };
    let foreign = Bundle { consents: vec![envelope(&tenant(), &said)], ..honest.clone() };
    assert!(matches!(refused(&foreign), Refusal::Consent { .. }));

    // An order that another key signs, also one that it hands over to itself.
    let strange = Bundle {
        order: envelope(&thief, &agreed.order),
        public_keys: forged.public_keys.clone(),
        handovers: vec![envelope(
            &thief,
            &Handover { version: 2, keys: [thief.key().id_bytes().into()].into() },
        )],
        ..honest.clone()
    };
    assert!(matches!(refused(&strange), Refusal::Envelope { .. }));

    // A consent shown as an order, and an order with a byte altered.
    let confused = Bundle { order: envelope(&provider(), &agreed.consent), ..honest.clone() };
    assert!(matches!(refused(&confused), Refusal::Envelope { .. }));
    let torn = Bundle { order: honest.order.replacen("ey", "eX", 1), ..honest.clone() };
    assert!(matches!(refused(&torn), Refusal::Envelope { .. }));

    // Something older, although the tenant agreed to it.
    let back = Told::to(vec![upgrade(&[older])], 6).bundle();
    assert!(matches!(refused(&back), Refusal::Older { .. }));

    // A package that no archive lists, although the tenant agreed to it.
    let mut unsigned = new.clone();
    unsigned.sha256 = [3; 32].into();
    let unlisted = Told::to(vec![upgrade(&[unsigned])], 6).bundle();
    assert!(matches!(refused(&unlisted), Refusal::NotVouched { .. }));

    // A command in the place of a name: names are arguments, and versions are versions.
    let mut injected = new.clone();
    injected.version = "1.0;reboot".to_owned();
    let command = Told::to(vec![upgrade(&[injected])], 7).bundle();
    assert!(matches!(refused(&command), Refusal::Version { .. }));

    // Another agent's order, and more than the plan says.
    let mut altered = agreed.order.clone();
    altered.agent = id(6);
    assert!(matches!(refused(&signed(altered)), Refusal::Agent { .. }));
    let mut altered = agreed.order.clone();
    (altered.sequence, altered.nonce) = (7, [7; 16].into());
    // Not before the one that was accepted, however slow this test is.
    altered.issued_at += SignedDuration::from_mins(2);
    altered.actions.push(Action::Reboot);
    assert!(matches!(refused(&signed(altered)), Refusal::Actions { .. }));

    // Numbers that were used: the unlisted one was accepted as number 6, and refused later.
    assert!(matches!(refused(&honest), Refusal::Sequence { given: 5, seen: 6 }));

    // Backdated, and from the future.
    let mut altered = agreed.order.clone();
    altered.sequence = 8;
    altered.nonce = [8; 16].into();
    altered.issued_at -= SignedDuration::from_mins(30);
    assert!(matches!(refused(&signed(altered.clone())), Refusal::Backdated { .. }));
    altered.issued_at = agreed.order.issued_at + SignedDuration::from_mins(30);
    assert!(matches!(refused(&signed(altered)), Refusal::Future { .. }));
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
}
