//! Whoever has the log's key can sign another history, but not unnoticed by those who saw the
//! first one (requirements T14).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use crate::world::{self, Memory, OneMemory, entries, event, open, payload, trust, witness_key};
use ledger::errors::{StorageError, VerifyError};
use ledger::verify::{Against, PayloadCount, Payloads, verify};
use ledger::witness::{AddCheckpoint, Witness};
use ledger::{Hash, SignedCheckpoint};

/// A checkpoint as someone kept it.
fn kept(storage: &Memory) -> SignedCheckpoint {
    SignedCheckpoint::parse(&storage.file("checkpoint")).unwrap()
}

fn since(storage: &Memory, earlier: &SignedCheckpoint) -> Result<u64, VerifyError> {
    let trust = trust();
    let against = Against { since: Some(earlier), ..Against::policy(&trust) };
    verify(storage, &against).map(|verified| verified.continues.unwrap())
}

/// The whole log made anew with one entry edited, and signed with the real key.
fn edited(size: u64, index: usize) -> Memory {
    let mut entries = entries(0..size);
    let mut other = event(index as u64);
    other.actor = "nobody".into();
    entries[index] = other.to_canonical().unwrap();
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();
    log.integrate(0, &entries).unwrap();
    log.publish().unwrap();
    drop(log);
    storage
}

#[test]
fn an_honest_log_continues_what_was_kept() {
    let now = world::log(600);
    for earlier in [0, 1, 256, 300, 599, 600] {
        assert_eq!(since(&now, &kept(&world::log(earlier))).unwrap(), earlier);
    }
}

#[test]
fn an_edited_entry_is_told_by_an_earlier_checkpoint() {
    let earlier = kept(&world::log(300));

    for size in [300, 600] {
        let forged = edited(size, 17);
        assert!(verify(&forged, &Against::policy(&trust())).is_ok(), "by itself it is sound");
        let error = since(&forged, &earlier).unwrap_err();
        let VerifyError::Rewritten { size: 300, earlier: before, now } = error else {
            panic!("{error}")
        };
        assert_eq!(before, earlier.claimed().root);
        assert_ne!(before, now);
    }
}

#[test]
fn an_edit_after_the_earlier_checkpoint_is_beyond_what_it_can_tell() {
    assert_eq!(since(&edited(600, 400), &kept(&world::log(300))).unwrap(), 300);
}

#[test]
fn a_log_cut_short_is_told_by_an_earlier_checkpoint() {
    let earlier = kept(&world::log(600));

    let error = since(&world::log(300), &earlier).unwrap_err();

    assert!(matches!(error, VerifyError::RolledBack { earlier: 600, now: 300 }), "{error}");
    assert!(error.help().unwrap().contains("keep both"));
}

#[test]
fn a_checkpoint_that_the_log_never_signed_proves_nothing() {
    let storage = world::log(300);
    let mut forged = storage.file("checkpoint");
    let size = forged.windows(5).position(|window| window == b"\n300\n").unwrap();
    forged[size + 1] = b'2';
    let forged = SignedCheckpoint::parse(&forged).unwrap();

    assert!(matches!(since(&storage, &forged), Err(VerifyError::Earlier(_))));
}

#[test]
fn a_witness_does_not_cosign_another_history() {
    let witness = Witness::new(witness_key(1), trust());
    let mut memory = OneMemory::default();
    let now = "2026-03-02T00:00:00Z".parse().unwrap();
    let mut ask = |old: u64, storage: &Memory| {
        let log = open(storage).unwrap();
        let proof = log.tree().consistency(old.min(log.size())).unwrap();
        let request = AddCheckpoint::new(old, proof, kept(storage));
        witness.add_checkpoint(&mut memory, &request.to_bytes(), now).unwrap().status
    };

    assert_eq!(ask(0, &world::log(300)), 200);
    assert_eq!(ask(300, &edited(300, 17)), 422, "edited");
    assert_eq!(ask(300, &edited(600, 17)), 422, "edited and grown");
    assert_eq!(ask(300, &world::log(299)), 400, "cut short");
    assert_eq!(ask(0, &world::log(299)), 409, "cut short, and saying it is new");
    assert_eq!(ask(300, &world::log(600)), 200, "the honest one goes on");
}

#[test]
fn a_sequence_that_does_not_fit_is_told_though_all_hashes_agree() {
    // Our own log refuses such entries; another program with the key need not.
    let mut forged = entries(0..4);
    forged.remove(2);
    let storage = world::forged_log(&forged);

    let error = verify(&storage, &Against::policy(&trust())).unwrap_err();

    assert!(matches!(error, VerifyError::Sequence { index: 2, found: 3 }), "{error}");
}

#[test]
fn bytes_that_are_no_entry_are_told_though_all_hashes_agree() {
    let storage = world::forged_log(&[entries(0..1).remove(0), b"{}".to_vec()]);

    let error = verify(&storage, &Against::policy(&trust())).unwrap_err();

    assert!(matches!(error, VerifyError::Entry { index: 1, .. }), "{error}");
}

struct Kept(BTreeMap<Hash, Hash>);

impl Payloads for Kept {
    fn digest(&self, sha256: &Hash) -> Result<Option<Hash>, StorageError> {
        Ok(self.0.get(sha256).copied())
    }
}

#[test]
fn payloads_are_compared_as_far_as_they_are_there() {
    let storage = world::log(300);
    let digests = (0..200).map(|sequence| {
        let (salt, payload) = payload(sequence);
        let digest = Hash::of(&[&salt[..], &payload].concat());
        (digest, digest)
    });
    let mut payloads = Kept(digests.collect());
    let trust = trust();
    let check = |payloads: &Kept| {
        verify(&storage, &Against { payloads: Some(payloads), ..Against::policy(&trust) })
    };

    let count = check(&payloads).unwrap().payloads;
    assert_eq!(count, Some(PayloadCount { held: 200, absent: 100 }));

    let of_17 = event(17).commitments[0].sha256;
    payloads.0.insert(of_17, Hash::of(b"altered"));
    let error = check(&payloads).unwrap_err();

    let VerifyError::Payload { index: 17, part, committed, found } = error else {
        panic!("{error}")
    };
    assert_eq!((part.as_str(), committed, found), ("report", of_17, Hash::of(b"altered")));
}
