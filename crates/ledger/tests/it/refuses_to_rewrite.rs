//! A log takes no entry that does not fit, and signs no tree that does not continue the last one.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::world::{self, Memory, ORIGIN, entries, event, key, open};
use ledger::errors::LogError;
use ledger::{KeyKind, Log, Policy, Signer};

#[test]
fn a_gap_is_refused() {
    let storage = world::log(10);
    let mut log = open(&storage).unwrap();

    let refused = log.integrate(12, &entries(12..13));

    assert!(matches!(refused, Err(LogError::Gap { expected: 10, given: 12 })));
}

#[test]
fn an_entry_at_another_place_than_it_says_is_refused() {
    let mut log = open(Memory::new()).unwrap();

    let refused = log.integrate(0, &entries(1..2));

    assert!(matches!(refused, Err(LogError::Sequence { index: 0, found: 1 })));
}

#[test]
fn bytes_that_are_no_entry_are_refused_before_any_is_written() {
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();

    let refused = log.integrate(0, &[entries(0..1).remove(0), b"{}".to_vec()]);

    assert!(matches!(refused, Err(LogError::Entry { index: 1, .. })));
    assert_eq!(log.size(), 0);
    assert!(storage.files().is_empty());
}

#[test]
fn another_content_for_an_index_that_is_taken_is_refused() {
    let storage = world::log(600);
    let mut log = open(&storage).unwrap();
    let mut other = event(300);
    other.actor = "someone-else".into();
    let mut given = entries(290..610);
    given[10] = other.to_canonical().unwrap();

    let refused = log.integrate(290, &given).unwrap_err();

    assert!(matches!(refused, LogError::Rewritten { index: 300, .. }), "{refused}");
    assert!(refused.help().unwrap().contains("restored"));
    assert_eq!(log.size(), 600);
}

#[test]
fn the_same_content_again_changes_nothing() {
    let storage = world::log(600);
    let before = storage.files();
    let mut log = open(&storage).unwrap();

    assert_eq!(log.integrate(0, &entries(0..600)).unwrap(), 600);
    log.publish().unwrap();

    assert_eq!(storage.files(), before);
}

#[test]
fn a_second_process_cannot_take_the_log_back() {
    let storage = world::log(10);
    let mut slow = open(&storage).unwrap();
    let mut fast = open(&storage).unwrap();
    fast.integrate(10, &entries(10..20)).unwrap();
    fast.publish().unwrap();

    slow.integrate(10, &entries(10..15)).unwrap();
    let refused = slow.publish().unwrap_err();

    assert!(matches!(refused, LogError::Behind { stored: 20, ours: 15 }));
}

#[test]
fn a_second_process_cannot_fork_the_log() {
    let storage = world::log(10);
    let mut one = open(&storage).unwrap();
    let mut other = open(&storage).unwrap();
    let mut differing = event(10);
    differing.actor = "someone-else".into();

    one.integrate(10, &entries(10..20)).unwrap();
    one.publish().unwrap();
    other.integrate(10, &[differing.to_canonical().unwrap()]).unwrap();
    other.integrate(11, &entries(11..30)).unwrap();
    let signed_before = storage.file("checkpoint");
    let refused = other.publish().unwrap_err();

    assert!(matches!(refused, LogError::Fork { size: 20, .. }), "{refused}");
    assert_eq!(storage.file("checkpoint"), signed_before);
}

#[test]
fn a_vanished_checkpoint_is_not_made_anew() {
    let storage = world::log(10);
    let mut log = open(&storage).unwrap();
    storage.lose("checkpoint");

    assert!(matches!(log.publish(), Err(LogError::Vanished)));
}

#[test]
fn a_damaged_right_edge_is_noticed_on_opening() {
    for path in ["tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1"] {
        let storage = world::log(300);
        storage.alter(path, |bytes| bytes[20] ^= 1);

        assert!(open(&storage).is_err(), "{path}");
    }
}

#[test]
fn keys_are_changed_by_signing_with_both() {
    let new = Signer::new(KeyKind::Log, ORIGIN, &[8; 32]).unwrap();
    let storage = world::log(10);
    assert!(matches!(Log::open(&storage, ORIGIN, vec![new.clone()]), Err(LogError::Checkpoint(_))));

    // Publishing is enough; no event need happen.
    let mut both = Log::open(&storage, ORIGIN, vec![key(), new.clone()]).unwrap();
    both.publish().unwrap();
    let mut after = Log::open(&storage, ORIGIN, vec![new.clone()]).unwrap();

    let signed = after.published().unwrap();
    for key in [key(), new.clone()] {
        assert!(signed.verify(&Policy::of_logs([key.verifier().clone()])).is_ok());
    }
    after.integrate(10, &entries(10..11)).unwrap();
    let signed = after.publish().unwrap();
    assert!(signed.verify(&Policy::of_logs([new.verifier().clone()])).is_ok());
    assert!(signed.verify(&world::trust()).is_err());
}

#[test]
fn only_a_key_of_the_log_signs_it() {
    let other = Signer::new(KeyKind::Log, "other.example", &[7; 32]).unwrap();
    let witness = Signer::new(KeyKind::Witness, ORIGIN, &[7; 32]).unwrap();

    for foreign in [other, witness] {
        let refused = Log::open(Memory::new(), ORIGIN, vec![foreign]);
        assert!(matches!(refused, Err(LogError::ForeignKey { .. })));
    }
    assert!(matches!(Log::open(Memory::new(), ORIGIN, Vec::new()), Err(LogError::NoKey)));
}
