//! Somebody holds the order key and all of the control plane. With real signatures on a real root:
//! nothing that they try alters the host, and each attempt has its name.

use std::os::unix::fs::symlink;

use domain::change::{Action, Decision, PlanHash, Statement};
use domain::order::{Bundle, Forbidden, Handover, LARGEST_CONTENT, Refusal};
use jiff::SignedDuration;
use ledger::attestation::Attestor;
use sha2::{Digest as _, Sha256};

use crate::support::{
    Deb, Host, Told, envelope, id, provider, runs_as_root, tenant, upgrade, write,
};

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

#[test]
fn no_file_is_written_but_what_was_agreed_to_where_it_may_be() {
    if !runs_as_root(
        "a_compromised_server_gets_nowhere::no_file_is_written_but_what_was_agreed_to_where_it_may_be",
    ) {
        return;
    }
    let host = Host::new("attacked-files");
    let (motd, old, new) = ("/etc/motd", "the owner's\n", "agreed\n");
    host.write(motd, old);
    host.write("/etc/patchwright/policy.toml", "[files]\nforbid = [\"/etc/ssh/**\"]\n");
    symlink("patchwright", host.root.join("etc/alias")).unwrap();
    symlink("/etc/shadow", host.root.join("etc/link")).unwrap();
    let shadow = host.read("/etc/shadow");
    let mut sequence = 0;
    let mut told = |path: &str, before: Option<&str>| {
        sequence += 1;
        Told::to(vec![write(path, before, new)], sequence)
    };
    let refused = |bundle: &Bundle| {
        let refusal = host.refusal(bundle);
        assert_eq!([host.read(motd), host.read("/etc/shadow")], [old, &shadow], "{refusal}");
        assert!(!refusal.help().is_empty());
        refusal
    };

    // Another content than the tenant agreed to, and none.
    let agreed = told(motd, Some(old));
    for contents in [&[b"* * * * * root evil\n".as_slice()][..], &[]] {
        let refusal = refused(&agreed.bundle_with(contents));
        assert!(matches!(refusal, Refusal::NoContent { .. }), "{refusal}");
        assert!(refusal.accuses());
    }

    // More than anybody writes, or what is no content at all.
    let large = vec![b'x'; LARGEST_CONTENT + 1];
    let flood = agreed.bundle_with(&[new.as_bytes(), &large]);
    assert!(matches!(refused(&flood), Refusal::Envelope { .. }));
    let odd = Bundle { contents: vec!["not base64!".to_owned()], ..agreed.bundle() };
    assert!(matches!(refused(&odd), Refusal::Envelope { .. }));
    let many = agreed.bundle_with(&vec![new.as_bytes(); 257]);
    assert!(matches!(refused(&many), Refusal::Envelope { .. }));

    // What the tenant signed for a file is not written to another.
    let mut moved = agreed.order.clone();
    moved.actions = vec![write("/etc/cron.d/x", None, new)];
    let order = envelope(&provider(), &moved);
    let moved = Bundle { order, ..agreed.bundle_with(&[new.as_bytes()]) };
    assert!(matches!(refused(&moved), Refusal::Actions { .. }));

    // A path that steps out of where it seems to be is in no plan, however it is spelt.
    let traversal = "/etc/../etc/shadow";
    let mut stepping = agreed.order.clone();
    let plan = agreed.bundle().plan.replace(motd, traversal);
    assert!(plan.contains(traversal));
    stepping.plan = PlanHash::from(<[u8; 32]>::from(Sha256::digest(&plan)));
    stepping.actions = vec![write(traversal, Some(old), new)];
    let order = envelope(&provider(), &stepping);
    let stepping = Bundle { order, plan, ..agreed.bundle_with(&[new.as_bytes()]) };
    assert!(matches!(refused(&stepping), Refusal::Plan { .. }));

    // The agent's own files, by their names and by others, although the tenant agreed.
    for path in [
        "/var/lib/patchwright-agent/trusted.json",
        "/var/lib/patchwright-agent/orders/journal",
        "/etc/patchwright/policy.toml",
        "/etc/systemd/system/patchwright-agent.service.d/x.conf",
    ] {
        let refusal = refused(&told(path, None).bundle_with(&[new.as_bytes()]));
        assert_eq!(refusal, Refusal::OwnFile { path: path.to_owned() });
    }
    let ssh = refused(&told("/etc/ssh/sshd_config", None).bundle_with(&[new.as_bytes()]));
    assert!(matches!(ssh, Refusal::Forbidden(Forbidden::File { .. })), "{ssh}");

    // Links, on the way and at its end.
    for (path, at) in [("/etc/alias/policy.toml", "/etc/alias"), ("/etc/link", "/etc/link")] {
        let refusal = refused(&told(path, None).bundle_with(&[new.as_bytes()]));
        assert!(matches!(&refusal, Refusal::NotPlain { at: is, .. } if is == at), "{refusal}");
    }

    // A file that became another one since it was agreed.
    let stale = told(motd, Some("as it was once\n")).bundle_with(&[new.as_bytes()]);
    assert!(matches!(refused(&stale), Refusal::OtherFile { .. }));

    // The same again, as it was agreed: that is written, and only once.
    let honest = told(motd, Some(old)).bundle_with(&[new.as_bytes()]);
    let answer = host.take(&honest);
    assert!(matches!(answer, agent::orders::Answer::Ended(_)), "{answer:?}");
    assert_eq!(host.read(motd), new);
    host.write(motd, old);
    assert!(matches!(refused(&honest), Refusal::Replayed { .. }));
}
