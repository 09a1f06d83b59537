//! A log grows the same way however its entries come, and its proofs are those of RFC 6962.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use crate::world::{self, Memory, entries, open, oracle};
use ledger::Hash;
use ledger::verify;
use proptest::prelude::*;

/// What a tree of this size is made of; earlier states of its tiles may lie beside it.
fn mandated(files: &BTreeMap<String, Vec<u8>>, plain: &Memory) -> BTreeMap<String, Vec<u8>> {
    let wanted = plain.files();
    files
        .iter()
        .filter(|(path, _)| wanted.contains_key(*path))
        .map(|(p, b)| (p.clone(), b.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batches_and_crashes_leave_no_trace(
        steps in proptest::collection::vec((1_u64..400, any::<bool>(), any::<bool>(), 0_u64..50), 1..12),
    ) {
        let storage = Memory::new();
        let mut log = open(&storage).unwrap();
        let mut size = 0;
        for (count, publish, crash, back) in steps {
            // The caller may begin earlier than it must.
            let first = log.size().saturating_sub(back);
            size = size.max(first + count);
            log.integrate(first, &entries(first..first + count)).unwrap();
            if publish {
                log.publish().unwrap();
            }
            if crash {
                log = open(&storage).unwrap();
                prop_assert_eq!(log.size(), log.published_size());
            }
        }
        let from = log.size();
        log.integrate(from, &entries(from..size)).unwrap();
        log.publish().unwrap();

        let plain = world::log(log.size());
        prop_assert_eq!(mandated(&storage.files(), &plain), plain.files());
    }

    #[test]
    fn roots_and_proofs_are_the_oracle_s(size in 1_u64..1500, old in 0_u64..1500, index in 0_u64..1500) {
        let (old, index) = (old % (size + 1), index % size);
        let entries = entries(0..size);
        let leaves: Vec<Hash> = entries.iter().map(|entry| oracle::leaf(entry)).collect();
        let storage = world::log(size);
        let log = open(&storage).unwrap();
        let root = log.published().unwrap().claimed().root;
        let tree = log.tree();

        prop_assert_eq!(root, oracle::root(&leaves));

        let at = usize::try_from(index).unwrap();
        let inclusion = tree.inclusion(index).unwrap();
        prop_assert_eq!(&inclusion, &oracle::path(at, &leaves));
        prop_assert!(verify::inclusion(index, leaves[at], size, root, &inclusion));
        prop_assert!(!verify::inclusion(index, Hash::of(b"other"), size, root, &inclusion));
        prop_assert_eq!(&tree.entry(index).unwrap(), &entries[at]);

        let before = &leaves[..usize::try_from(old).unwrap()];
        let consistency = tree.consistency(old).unwrap();
        if old > 0 {
            prop_assert_eq!(&consistency, &oracle::proof(before.len(), &leaves));
        }
        prop_assert!(verify::consistency(old, oracle::root(before), size, root, &consistency));
        prop_assert!(!verify::consistency(old, Hash::of(b"other"), size, root, &consistency));
    }
}

#[test]
fn proofs_for_an_earlier_size_come_from_the_same_files() {
    let storage = world::log(700);
    let leaves: Vec<Hash> = entries(0..700).iter().map(|entry| oracle::leaf(entry)).collect();

    // Wider tiles have taken the place of those that a log of 300 had.
    let tree = open(&storage).unwrap();
    let tree = tree.tree().earlier(300).unwrap();
    assert_eq!(tree.root(), oracle::root(&leaves[..300]));

    assert_eq!(tree.inclusion(299).unwrap(), oracle::path(299, &leaves[..300]));
    assert_eq!(tree.entry(270).unwrap(), entries(270..271)[0]);
    assert_eq!(tree.consistency(256).unwrap(), oracle::proof(256, &leaves[..300]));
}

#[test]
fn partial_tiles_go_when_the_full_one_is_published() {
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();
    for first in (0..255).step_by(5) {
        log.integrate(first, &entries(first..first + 5)).unwrap();
        log.publish().unwrap();
    }
    assert!(storage.files().contains_key("tile/0/000.p/5"));

    log.integrate(255, &entries(255..260)).unwrap();
    assert!(storage.files().contains_key("tile/0/000.p/255"), "the checkpoint still needs it");
    log.publish().unwrap();

    let names: Vec<_> = storage.files().into_keys().collect();
    assert_eq!(
        names,
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001.p/4",
            "tile/1/000.p/1",
            "tile/entries/000",
            "tile/entries/001.p/4",
        ]
    );
}
