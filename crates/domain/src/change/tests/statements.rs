use super::*;

fn yes() -> Statement {
    statement(&plan(), Decision::Approve, at(0), 1)
}

#[test]
fn a_statement_is_heard_with_a_key_in_force_and_not_from_the_future() {
    let heard = |said: &Statement, by, keys: &KeyRing| {
        Heard::admit(signed(by, said), keys, at(0)).map(|it| (it.key(), it.received_at()))
    };
    assert_eq!(heard(&yes(), 1, &ring()), Ok((key(1), at(0))));
    let ahead = |by| Statement { given_at: at(0) + by, ..yes() };
    assert_eq!(heard(&ahead(CLOCK_TOLERANCE), 1, &ring()), Ok((key(1), at(0))));
    let (given_at, now) = (at(0) + CLOCK_TOLERANCE + SECOND, at(0));
    let future = Err(NotHeard::Future { given_at, now });
    assert_eq!(heard(&ahead(CLOCK_TOLERANCE + SECOND), 1, &ring()), future);
    let unknown = NotHeard::Key(NotInForce::Unknown { key: key(2) });
    assert_eq!(heard(&yes(), 2, &ring()), Err(unknown));
    let gone = NotHeard::Key(NotInForce::Revoked { key: key(1), at: at(-1) });
    assert_eq!(heard(&yes(), 1, &revoked(&ring(), 1, at(-1))), Err(gone));
    let tenant = Err(NotHeard::Tenant { given: id(2), expected: id(7) });
    assert_eq!(heard(&yes(), 1, &ring_of(7)), tenant);
}

#[test]
fn what_a_passkey_signed_is_not_kept_back() {
    let new = NewKey { kind: KeyKind::Passkey, ..new_key(1) };
    let register = KeyEvent::Register { key: new, by: id(1) };
    let passkeys = KeyRing::new(ring().tenant()).step(register, at(-100)).unwrap().0;
    let heard = |keys: &KeyRing, now| Heard::admit(signed(1, &yes()), keys, now).map(|_| ());
    let given_at = yes().given_at;
    let (last, late) = (given_at + PASSKEY_TOLERANCE, given_at + PASSKEY_TOLERANCE + SECOND);

    assert_eq!(heard(&passkeys, last), Ok(()));
    assert_eq!(heard(&passkeys, late), Err(NotHeard::Late { given_at, now: late }));
    assert_eq!(heard(&ring(), late), Ok(()), "a key's statement may be carried by hand");
}

#[test]
fn of_two_words_the_later_counts_and_of_one_instant_the_one_that_does_less() {
    let heard = |decision, hour| {
        let said = statement(&plan(), decision, at(hour), 1);
        Heard::admit(signed(1, &said), &ring(), at(9)).unwrap()
    };
    let (yes, put_off, refusal) =
        (heard(Decision::Approve, 1), heard(later(50), 1), heard(no(50), 1));
    assert!(heard(Decision::Approve, 2).outweighs(&refusal));
    assert!(!refusal.outweighs(&heard(Decision::Approve, 2)));
    assert!(put_off.outweighs(&yes) && refusal.outweighs(&put_off) && refusal.outweighs(&yes));
    assert!(!yes.outweighs(&put_off) && !put_off.outweighs(&refusal));
    for word in [yes, put_off, refusal] {
        assert!(!word.outweighs(&word.clone()));
    }
}

#[test]
fn what_was_signed_as_one_kind_or_about_one_thing_is_nothing_else() {
    let payload = String::from_utf8(yes().to_payload()).unwrap();
    let read = |text: &str| Verified::<Statement>::signed_by(key(1), text.as_bytes());
    assert_eq!(read(&payload).unwrap().said(), &yes());
    assert_eq!(read(&payload).unwrap().key(), key(1));

    let other = Verified::<StandingRule>::signed_by(key(1), payload.as_bytes()).unwrap_err();
    let (found, expected) = (Statement::KIND.to_owned(), StandingRule::KIND);
    assert_eq!(other, InvalidPayload::Kind { found, expected });
    let renamed = payload.replace(Statement::KIND, "urn:patchwright:consent:v2");
    assert!(matches!(read(&renamed), Err(InvalidPayload::Kind { .. })));
    let hash = plan().hash().to_string();
    let of_other = payload.replacen(&hash, &"0".repeat(64), 1);
    assert_ne!(of_other, payload);
    assert_eq!(read(&of_other), Err(InvalidPayload::Subject), "of two hashes one is another");
    assert!(matches!(read(&format!("{payload} ")), Err(InvalidPayload::Spelling(_))));
}
