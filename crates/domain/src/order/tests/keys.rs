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
