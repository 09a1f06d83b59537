use super::*;

fn step(ring: &KeyRing, event: KeyEvent, now: Timestamp) -> Result<KeyRing, KeyRefusal> {
    let (next, effects) = ring.step(event, now)?;
    let records = effects.iter().filter(|it| matches!(it, KeyEffect::Record { .. }));
    let versions: Vec<_> = records
        .map(|it| match it {
            KeyEffect::Record { version, .. } => *version,
            KeyEffect::Warn { .. } => 0,
        })
        .collect();
    assert_eq!(versions, [ring.version() + 1], "recorded once");
    assert_eq!(next.version(), ring.version() + 1);
    Ok(next)
}

fn order(by: u8, order: Order, number: u8) -> KeyEvent {
    KeyEvent::Ordered(signed(by, &KeyOrder { tenant: id(2), order, nonce: nonce(number) }))
}

fn add(number: u8) -> Order {
    Order::Add { key: new_key(number) }
}

fn rotate(number: u8) -> Order {
    Order::Rotate { key: new_key(number) }
}

fn ask(number: u8, by: u8) -> KeyEvent {
    ask_since(number, by, at(-1000))
}

fn ask_since(number: u8, by: u8, owner_since: Timestamp) -> KeyEvent {
    KeyEvent::AskRecovery { key: new_key(number), by: id(by), owner_since }
}

fn in_force(ring: &KeyRing) -> Vec<KeyId> {
    ring.keys().map(|it| it.key.id).filter(|key| ring.in_force(*key).is_ok()).collect()
}

/// Two owners asked for the key 5 at 0 and 1.
fn recovering() -> KeyRing {
    let asked = step(&ring(), ask(5, 1), at(0)).unwrap();
    step(&asked, ask(5, 2), at(1)).unwrap()
}

#[test]
fn an_owner_alone_registers_the_first_key_only() {
    let event = KeyEvent::Register { key: new_key(2), by: id(1) };
    let refusal = step(&ring(), event.clone(), at(0)).unwrap_err();
    assert_eq!(refusal, KeyRefusal::NotFirst { tenant: id(2), keys: 1 });
    // Also where no key is in force any more.
    let lost = revoked(&ring(), 1, at(0));
    assert!(matches!(step(&lost, event, at(1)), Err(KeyRefusal::NotFirst { .. })));
}

#[test]
fn an_order_counts_once_of_its_tenant_and_with_a_key_in_force() {
    let added = step(&ring(), order(1, add(2), 1), at(0)).unwrap();
    assert_eq!(in_force(&added), [key(1), key(2)]);

    let again = step(&added, order(1, add(3), 1), at(0)).unwrap_err();
    assert_eq!(again, KeyRefusal::Replayed { nonce: nonce(1) });
    let known = step(&added, order(1, add(2), 2), at(0)).unwrap_err();
    assert_eq!(known, KeyRefusal::Known { key: key(2) });
    let unknown = step(&added, order(9, add(3), 2), at(0)).unwrap_err();
    assert_eq!(unknown, NotInForce::Unknown { key: key(9) }.into());
    let other = KeyOrder { tenant: id(7), order: add(3), nonce: nonce(2) };
    let refusal = step(&added, KeyEvent::Ordered(signed(1, &other)), at(0)).unwrap_err();
    assert_eq!(refusal, KeyRefusal::Tenant { given: id(7), expected: id(2) });
    let lost = revoked(&added, 1, at(3));
    let refusal = step(&lost, order(1, add(3), 2), at(4)).unwrap_err();
    assert_eq!(refusal, NotInForce::Revoked { key: key(1), at: at(3) }.into());
}

#[test]
fn a_rotated_key_signs_nothing_more_and_what_it_signed_stays_good() {
    let rotated = step(&ring(), order(1, rotate(2), 1), at(0)).unwrap();
    assert_eq!(in_force(&rotated), [key(2)]);
    let to = key(2);
    assert_eq!(rotated.in_force(key(1)), Err(NotInForce::Rotated { key: key(1), at: at(0), to }));
    assert_eq!(rotated.revoked_at(key(1)), None);
    assert!(step(&rotated, order(1, add(3), 2), at(1)).is_err());

    // It turns out later that it was stolen.
    let stolen = revoked(&rotated, 1, at(2));
    assert_eq!(stolen.revoked_at(key(1)), Some(at(2)));
    let again = stolen.step(KeyEvent::Revoke { key: key(1), by: id(1) }, at(3)).unwrap_err();
    assert_eq!(again, NotInForce::Revoked { key: key(1), at: at(2) }.into());
}

#[test]
fn an_order_revokes_the_key_that_it_names() {
    let two = step(&ring(), order(1, add(2), 1), at(0)).unwrap();
    let first = step(&two, order(2, Order::Revoke { key: key(1) }, 2), at(1)).unwrap();
    assert_eq!(in_force(&first), [key(2)]);
    assert_eq!(first.revoked_at(key(1)), Some(at(1)));
    let own = step(&first, order(2, Order::Revoke { key: key(2) }, 3), at(2)).unwrap();
    assert_eq!(in_force(&own), []);
    let unknown = step(&two, order(2, Order::Revoke { key: key(9) }, 2), at(1)).unwrap_err();
    assert_eq!(unknown, NotInForce::Unknown { key: key(9) }.into());
    assert_eq!(two.revoked_at(key(9)), Some(Timestamp::MIN), "what never was counts for nothing");
}

#[test]
fn so_many_keys_are_in_force_and_no_more() {
    let most = u8::try_from(MOST_KEYS).unwrap();
    let full = (2..=most)
        .fold(ring(), |ring, number| step(&ring, order(1, add(number), number), at(0)).unwrap());
    assert_eq!(in_force(&full).len(), MOST_KEYS);
    let refusal = step(&full, order(1, add(200), 200), at(0)).unwrap_err();
    assert_eq!(refusal, KeyRefusal::TooMany);
    // Those that ended are not counted.
    let fewer = revoked(&full, 2, at(1));
    assert!(step(&fewer, order(1, add(200), 200), at(2)).is_ok());
    assert!(step(&full, order(1, rotate(200), 200), at(0)).is_ok());
}

#[test]
fn two_owners_recover_after_a_wait_in_which_all_are_warned() {
    let warned = |ring: &KeyRing, event, now| ring.step(event, now).unwrap().1[1..].to_vec();
    let asked = step(&ring(), ask(5, 1), at(0)).unwrap();
    let warning = |completes_at| [KeyEffect::Warn { key: key(5), completes_at }];
    assert_eq!(warned(&ring(), ask(5, 1), at(0)), warning(None));
    let completes_at = at(1) + SignedDuration::from_hours(72);
    assert_eq!(warned(&asked, ask(5, 2), at(1)), warning(Some(completes_at)));

    let one = step(&asked, KeyEvent::CompleteRecovery, at(500)).unwrap_err();
    assert_eq!(one, KeyRefusal::OneOwner { owner: id(1) });
    let same = KeyRefusal::SameOwner { owner: id(1) };
    assert_eq!(step(&asked, ask(5, 1), at(1)).unwrap_err(), same);
    let third = KeyRefusal::SameOwner { owner: id(3) };
    assert_eq!(step(&recovering(), ask(5, 3), at(2)).unwrap_err(), third, "the wait stays");
    let other = step(&asked, ask(6, 2), at(1)).unwrap_err();
    assert_eq!(other, KeyRefusal::OtherRecovery { asked: key(6), under_way: key(5) });
    let known = step(&ring(), ask(1, 1), at(0)).unwrap_err();
    assert_eq!(known, KeyRefusal::Known { key: key(1) });

    let now = completes_at - SECOND;
    let early = step(&recovering(), KeyEvent::CompleteRecovery, now).unwrap_err();
    assert_eq!(early, KeyRefusal::TooEarly { completes_at, now });
    let done = step(&recovering(), KeyEvent::CompleteRecovery, completes_at).unwrap();
    assert_eq!(in_force(&done), [key(5)], "lost keys may turn up in wrong hands");
    assert_eq!(done.revoked_at(key(1)), Some(completes_at));
    let again = step(&done, KeyEvent::CompleteRecovery, at(500)).unwrap_err();
    assert_eq!(again, KeyRefusal::NoRecovery);
}

#[test]
fn an_objection_or_a_key_in_force_stops_a_recovery() {
    let none = Err(KeyRefusal::NoRecovery);
    for event in [KeyEvent::Object { by: id(3) }, order(1, add(2), 1)] {
        let stopped = step(&recovering(), event, at(2)).unwrap();
        assert_eq!(step(&stopped, KeyEvent::CompleteRecovery, at(500)), none);
        assert_eq!(step(&stopped, KeyEvent::Object { by: id(3) }, at(3)), none);
    }
    // An order that is refused stops nothing.
    assert!(step(&recovering(), order(9, add(2), 1), at(2)).is_err());
}

#[test]
fn nobody_recovers_who_is_an_owner_for_less_than_the_wait() {
    let refusal =
        |owner, since, asked_at| Err(KeyRefusal::NewOwner { owner: id(owner), since, asked_at });
    let late = at(-72) + SECOND;
    // The first who asks, at that time.
    assert_eq!(step(&ring(), ask_since(5, 1, late), at(0)), refusal(1, late, at(0)));
    let asked = step(&ring(), ask_since(5, 1, at(-72)), at(0)).unwrap();

    // And the second, by when the first asked: waiting on does not make an owner old enough.
    for since in [late, at(0), at(500)] {
        let second = step(&asked, ask_since(5, 2, since), at(1000));
        assert_eq!(second, refusal(2, since, at(0)));
    }
    let agreed = step(&asked, ask_since(5, 2, at(-72)), at(1)).unwrap();
    let recovery = agreed.recovery().unwrap();
    assert_eq!((recovery.asked_by, recovery.agreed_by), (id(1), Some(id(2))));
    assert_eq!((recovery.asked_at, recovery.completes_at), (Some(at(0)), Some(at(73))));
}
