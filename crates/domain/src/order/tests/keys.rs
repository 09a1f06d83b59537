//! Keys change hands, and only those who hold them can do that.

use super::*;
use crate::change::{KeyOrder, KeyRefusal, Order as KeyChange};

fn handover(version: u64, keys: &[u8]) -> Handover {
    Handover { version, keys: keys.iter().map(|number| key(*number)).collect() }
}

#[test]
fn order_keys_are_handed_over_by_one_of_them() {
    let mut world = World::new();
    world.trusted = world.trusted.hand_over(&signed(PROVIDER, &handover(2, &[10]))).unwrap();

    assert_eq!(world.refusal(), Refusal::Key { key: key(PROVIDER) }, "the old one counts no more");
    world.signer = 10;
    world.accepted();
}

#[test]
fn a_handover_by_others_again_or_out_of_turn_is_none() {
    let trusted = World::new().trusted;
    let refused = |by, said: Handover| trusted.hand_over(&signed(by, &said)).unwrap_err();

    assert_eq!(refused(TENANT, handover(2, &[10])), NoHandover::Key { key: key(TENANT) });
    assert_eq!(refused(PROVIDER, handover(3, &[10])), NoHandover::Version { given: 3, next: 2 });
    assert_eq!(refused(PROVIDER, handover(1, &[10])), NoHandover::Version { given: 1, next: 2 });
    assert_eq!(refused(PROVIDER, handover(2, &[])), NoHandover::Keys { keys: 0 });

    let second = signed(PROVIDER, &handover(2, &[10]));
    let after = trusted.hand_over(&second).unwrap();
    assert_eq!(after.hand_over(&second), Err(NoHandover::Key { key: key(PROVIDER) }));
}

#[test]
fn a_host_that_joins_after_a_handover_goes_on_from_there() {
    let offered = |version| Pins { order_key_version: version, ..pins(5, 10, ring(TENANT)) };
    let joined = Trusted::join(offered(2), at(0));
    let first = signed(PROVIDER, &handover(2, &[10]));
    let second = signed(10, &handover(3, &[11]));

    assert_eq!(joined.hand_over(&first), Err(NoHandover::Key { key: key(PROVIDER) }));
    let again = signed(10, &handover(2, &[PROVIDER]));
    assert_eq!(joined.hand_over(&again), Err(NoHandover::Version { given: 2, next: 3 }));
    let after = joined.hand_over(&second).unwrap();
    assert_eq!((after.order_key_version(), after.order_keys().collect()), (3, vec![key(11)]));

    // Pinning anew follows what is offered, and goes back for nobody.
    assert_eq!(joined.repin(offered(7)).order_key_version(), 7);
    assert_eq!(after.repin(offered(2)).order_key_version(), 3);
    let other = Pins { agent: id(6), ..offered(2) };
    assert_eq!(after.repin(other).order_key_version(), 2);
}

#[test]
fn the_tenants_keys_change_by_the_tenants_word() {
    let mut world = World::new();
    let rotate =
        KeyOrder { tenant: id(2), order: KeyChange::Rotate { key: new_key(20) }, nonce: nonce(80) };
    let by_provider = world.trusted.learn(signed(PROVIDER, &rotate), at(40));
    assert!(matches!(by_provider, Err(KeyRefusal::NotInForce(_))));

    world.trusted = world.trusted.learn(signed(TENANT, &rotate), at(40)).unwrap();
    assert!(matches!(world.refusal(), Refusal::Consent { .. }), "asked for again");
    world.consents = vec![signed(20, &statement(&world.plan, Decision::Approve))];
    world.accepted();
    let again = world.trusted.learn(signed(20, &rotate), at(41));
    assert!(matches!(again, Err(KeyRefusal::Replayed { .. })));
}

#[test]
fn a_key_that_was_taken_back_starts_nothing() {
    let mut world = World::new();
    world.trusted = world.trusted.forget_key(key(TENANT), at(45)).unwrap();

    assert!(matches!(world.refusal(), Refusal::Consent { .. }));
    assert!(world.trusted.forget_key(key(TENANT), at(46)).is_err());
    assert!(world.trusted.forget_key(key(99), at(46)).is_err());
}

/// What the world's host pinned, but for what the keys are.
fn pins(agent: u8, order_key: u8, consent_keys: KeyRing) -> Pins {
    let terms = World::new().trusted.terms();
    Pins {
        agent: id(agent),
        ci: id(3),
        versions: VersionKind::Dpkg,
        order_keys: [key(order_key)].into(),
        order_key_version: 1,
        consent_keys,
        origins: [].into(),
        terms,
    }
}

fn ring(number: u8) -> KeyRing {
    let register = KeyEvent::Register { key: new_key(number), by: id(1) };
    KeyRing::new(id(2)).step(register, at(0)).unwrap().0
}

#[test]
fn pinning_anew_lets_nothing_be_replayed_or_made_older() {
    let mut world = World::new();
    world.trusted = world.accepted().done(&world.order);
    let same = world.trusted.consent_keys().clone();
    world.trusted = world.trusted.repin(pins(5, 10, same));
    world.signer = 10;

    assert_eq!(world.refusal(), Refusal::Replayed { nonce: nonce(70) });
    world.order.nonce = nonce(71);
    assert_eq!(world.refusal(), Refusal::Sequence { given: 7, seen: 7 });
    world.order.sequence = 8;
    assert_eq!(world.refusal(), Refusal::Done { stage: 1 });
    world.order.issued_at = at(46);
    assert!(matches!(world.refusal(), Refusal::Backdated { .. }));
    world.order.issued_at = at(47);
    world.replan(vec![upgrade("1.22.1-9")]);
    world.consents = vec![signed(TENANT, &statement(&world.plan, Decision::Approve))];
    assert!(matches!(world.refusal(), Refusal::Older { .. }), "the host's floor stays");
    let now = std::mem::replace(&mut world.now, at(40));
    assert!(matches!(world.refusal(), Refusal::Clock { .. }), "so does its clock");
    world.now = now;
    world.replan(vec![upgrade("1.22.1-10")]);
    world.consents = vec![signed(TENANT, &statement(&world.plan, Decision::Approve))];
    world.accepted();
}

#[test]
fn pinning_anew_brings_no_key_back() {
    let mut world = World::new();
    let rotate =
        KeyOrder { tenant: id(2), order: KeyChange::Rotate { key: new_key(20) }, nonce: nonce(80) };
    let rotated = world.trusted.learn(signed(TENANT, &rotate), at(40)).unwrap();
    let revoked = rotated.forget_key(key(20), at(41)).unwrap();

    // The control plane offers what was there before all that.
    for (known, number) in [(rotated, TENANT), (revoked, 20)] {
        let again = known.repin(pins(5, PROVIDER, ring(number)));
        assert!(again.consent_keys().in_force(key(number)).is_err());
        let replayed = again.learn(signed(number, &rotate), at(42));
        assert!(replayed.is_err(), "{replayed:?}");
    }
    // Handed over to the second version, the third is next.
    world.trusted = world.trusted.hand_over(&signed(PROVIDER, &handover(2, &[10]))).unwrap();
    let again = world.trusted.repin(pins(5, PROVIDER, ring(TENANT)));
    let refused = again.hand_over(&signed(PROVIDER, &handover(2, &[10]))).unwrap_err();
    assert_eq!(refused, NoHandover::Version { given: 2, next: 3 });
}

#[test]
fn a_host_that_joins_again_counts_anew_and_becomes_no_older() {
    let mut world = World::new();
    world.trusted = world.accepted().done(&world.order);
    world.trusted = world.trusted.repin(pins(6, PROVIDER, ring(TENANT)));
    assert_eq!(world.trusted.sequence(), 0);
    world.order.agent = id(6);
    world.order.sequence = 1;
    world.order.nonce = nonce(71);
    assert_eq!(world.refusal(), Refusal::Done { stage: 1 });
    world.replan(vec![upgrade("1.22.1-9")]);
    world.consents = vec![signed(TENANT, &statement(&world.plan, Decision::Approve))];
    assert!(matches!(world.refusal(), Refusal::Older { .. }));
}
