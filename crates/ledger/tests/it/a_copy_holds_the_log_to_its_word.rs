//! A copy grows with its log by what is new, and not with a log that tells another story.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use crate::world::{Memory, entries, event, forged_log, log, trust};
use ledger::errors::{MirrorError, StorageError, VerifyError};
use ledger::verify::{Against, verify};
use ledger::{Directory, Mirror, ReadStorage, SignedCheckpoint};

/// A storage that remembers what was asked for.
struct Asked<'a>(&'a Memory, Mutex<Vec<String>>);

impl ReadStorage for Asked<'_> {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.1.lock().unwrap().push(path.to_owned());
        self.0.get(path, limit)
    }

    fn list(&self, _: &str) -> Result<Option<Vec<String>>, StorageError> {
        Ok(None)
    }
}

fn copy(log: &impl ReadStorage, to: &Directory) -> Result<u64, MirrorError> {
    let policy = trust();
    let mut mirror = Mirror::begin(log, to, &policy, None)?;
    mirror.fetch()?;
    Ok(mirror.finish(None)?.size)
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

#[test]
fn a_copy_is_a_log_of_its_own_at_each_size() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path());

    for size in [1, 7, 255, 256, 257, 600, 600, 1024] {
        assert_eq!(copy(&log(size), &directory).unwrap(), size);

        let policy = trust();
        assert_eq!(verify(&directory, &Against::policy(&policy)).unwrap().size, size);
        let fresh = tempfile::tempdir().unwrap();
        copy(&log(size), &Directory::new(fresh.path())).unwrap();
        assert_eq!(files(root.path()), files(fresh.path()), "as if it were copied at once");
    }
}

#[test]
fn what_the_copy_has_is_not_fetched_again() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path());
    copy(&log(600), &directory).unwrap();
    let grown = log(700);
    let asked = Asked(&grown, Mutex::default());

    copy(&asked, &directory).unwrap();

    let asked = asked.1.into_inner().unwrap();
    assert!(!asked.iter().any(|path| path == "tile/entries/000"), "{asked:?}");
    assert!(asked.iter().any(|path| path == "tile/entries/002.p/188"), "{asked:?}");
}

#[test]
fn the_entries_are_there_before_they_count() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path());
    let (policy, log) = (trust(), log(300));
    let mut mirror = Mirror::begin(&log, &directory, &policy, None).unwrap();
    mirror.fetch().unwrap();

    let found: Vec<_> = mirror.entries(250).map(|entry| entry.unwrap()).collect();

    assert_eq!(found, (250..300).map(event).collect::<Vec<_>>());
    drop(mirror);
    assert!(files(root.path()).is_empty(), "a copy that is given up leaves nothing");
}

#[test]
fn a_rewritten_log_is_refused_and_the_copy_stays() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path());
    copy(&log(100), &directory).unwrap();
    let before = files(root.path());
    let mut forged = entries(0..200);
    let mut other = event(12);
    other.actor = "someone-else".into();
    forged[12] = other.to_canonical().unwrap();

    // Signed with the real key.
    let refused = copy(&forged_log(&forged), &directory).unwrap_err();

    assert!(matches!(refused, MirrorError::Log(VerifyError::Rewritten { size: 100, .. })));
    let refused = copy(&log(99), &directory).unwrap_err();
    assert!(matches!(refused, MirrorError::Log(VerifyError::RolledBack { earlier: 100, now: 99 })));
    assert_eq!(files(root.path()), before);
}

#[test]
fn a_damaged_log_is_refused_and_the_copy_stays() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path());
    copy(&log(300), &directory).unwrap();
    let before = files(root.path());

    let grown = log(600);
    grown.alter("tile/entries/001", |bytes| bytes[700] ^= 1);
    copy(&grown, &directory).unwrap_err();
    assert_eq!(files(root.path()), before);

    let grown = log(600);
    grown.lose("tile/0/001");
    copy(&grown, &directory).unwrap_err();
    assert_eq!(files(root.path()), before);

    assert_eq!(copy(&log(600), &directory).unwrap(), 600);
}

#[test]
fn a_checkpoint_kept_elsewhere_counts_as_well() {
    let root = tempfile::tempdir().unwrap();
    let (policy, directory) = (trust(), Directory::new(root.path()));
    let since = SignedCheckpoint::parse(&log(500).file("checkpoint")).unwrap();

    let log = log(400);
    let refused = Mirror::begin(&log, &directory, &policy, Some(&since)).err().unwrap();

    assert!(matches!(refused, MirrorError::Log(VerifyError::RolledBack { .. })));
}
