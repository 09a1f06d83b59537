//! No bit of a log can change unnoticed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::world::{self, Memory, entries, key, open, trust, trust_with_witness, witness_key};
use ledger::errors::{TreeError, VerifyError};
use ledger::verify::{Against, verify};
use ledger::witness::AddCheckpoint;
use ledger::{Policy, ReadStorage};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FLIPS: usize = 10_000;

/// `SplitMix64`: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(SEED);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Full and partial tiles on two levels, earlier states of partial ones, a cosigned checkpoint.
fn cosigned_log() -> (Memory, Policy) {
    let witness = witness_key(3);
    let trust = trust_with_witness(&witness);
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();
    for until in [100, 270, 300] {
        let from = log.size();
        log.integrate(from, &entries(from..until)).unwrap();
        log.publish().unwrap();
    }
    let request = AddCheckpoint::new(0, Vec::new(), log.published().unwrap().clone());
    let mut memory = world::OneMemory::default();
    let now = "2026-03-02T00:00:00Z".parse().unwrap();
    let reply = ledger::witness::Witness::new(witness, world::trust())
        .add_checkpoint(&mut memory, &request.to_bytes(), now)
        .unwrap();
    assert_eq!(reply.status, 200, "{reply}");
    log.cosign(&reply.body, &trust).unwrap();
    drop(log);
    (storage, trust)
}

fn is_sound<S: ReadStorage>(storage: &S, trust: &Policy) -> bool {
    // One thread: the flips themselves are shared out over the processors.
    verify(storage, &Against { threads: NonZeroUsize::MIN, ..Against::policy(trust) }).is_ok()
}

/// Flips each of these bits in turn; returns those that nobody noticed.
fn unnoticed(storage: &Memory, trust: &Policy, flips: &[(String, usize)]) -> Vec<(String, usize)> {
    let next = AtomicUsize::new(0);
    let files = storage.files();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let storage = Memory::of(files.clone());
                    let mut missed = Vec::new();
                    while let Some((path, bit)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                        storage.alter(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                        if is_sound(&storage, trust) {
                            missed.push((path.clone(), *bit));
                        }
                        storage.alter(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                    }
                    assert!(is_sound(&storage, trust), "all is as it was");
                    missed
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn ten_thousand_flipped_bits_are_all_noticed() {
    let (storage, trust) = cosigned_log();
    let files: Vec<_> = storage.files().into_iter().collect();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len() * 8).sum();
    let mut random = Random(SEED);
    let flips: Vec<_> = (0..FLIPS)
        .map(|_| {
            let mut bit = random.below(total);
            let file = files.iter().find(|(_, bytes)| {
                let inside = bit < bytes.len() * 8;
                if !inside {
                    bit -= bytes.len() * 8;
                }
                inside
            });
            (file.unwrap().0.clone(), bit)
        })
        .collect();

    assert_eq!(unnoticed(&storage, &trust, &flips), [], "seed {SEED:#x}");
}

#[test]
fn every_flipped_bit_of_the_checkpoint_is_noticed() {
    let (storage, trust) = cosigned_log();
    let bits = storage.file("checkpoint").len() * 8;
    let flips: Vec<_> = (0..bits).map(|bit| ("checkpoint".to_owned(), bit)).collect();

    assert_eq!(unnoticed(&storage, &trust, &flips), []);
}

#[test]
fn a_missing_file_is_named() {
    let sound = world::log(600);
    for path in sound.files().into_keys().filter(|path| path != "checkpoint") {
        let storage = Memory::of(sound.files());
        storage.lose(&path);

        let error = verify(&storage, &Against::policy(&trust())).unwrap_err();

        let VerifyError::Tree(TreeError::Missing { path: named, size: 600 }) = &error else {
            panic!("{path}: {error}")
        };
        assert_eq!(*named, path);
        assert!(error.help().is_some());
    }
    let storage = Memory::of(sound.files());
    storage.lose("checkpoint");
    assert!(matches!(verify(&storage, &Against::policy(&trust())), Err(VerifyError::NoCheckpoint)));
}

#[test]
fn an_entry_cut_off_a_bundle_is_named() {
    let storage = world::log(300);
    let whole = storage.file("tile/entries/001.p/44");
    let last = u64::try_from(whole.len()).unwrap()
        - 2
        - u64::try_from(entries(299..300)[0].len()).unwrap();
    storage.alter("tile/entries/001.p/44", |bytes| bytes.truncate(usize::try_from(last).unwrap()));

    let error = verify(&storage, &Against::policy(&trust())).unwrap_err();

    assert!(matches!(error, VerifyError::MissingEntry { index: 299, .. }), "{error}");
}

#[test]
fn an_altered_entry_is_named_with_both_hashes() {
    let storage = world::log(300);
    storage.alter("tile/entries/000", |bytes| bytes[40] ^= 1);

    let error = verify(&storage, &Against::policy(&trust())).unwrap_err();

    let VerifyError::Leaf { index: 0, in_tile, computed } = error else { panic!("{error}") };
    assert_ne!(in_tile, computed);
}

#[test]
fn a_sound_log_says_what_was_verified() {
    let storage = world::log(600);

    let verified = verify(&storage, &Against::policy(&trust())).unwrap();

    assert_eq!((verified.size, verified.tiles), (600, 4));
    assert_eq!(verified.signed_by, [key().verifier().clone()]);
    assert_eq!(verified.bytes, entries(0..600).iter().map(|entry| entry.len() as u64).sum::<u64>());
    let (first, last) = verified.span.unwrap();
    assert_eq!((first, last), (world::event(0).at, world::event(599).at));
    assert_eq!((verified.continues, verified.payloads), (None, None));
}

#[test]
fn an_empty_log_is_sound() {
    let storage = world::log(0);

    let verified = verify(&storage, &Against::policy(&trust())).unwrap();

    assert_eq!((verified.size, verified.span), (0, None));
}
