//! What is in a repository tells nothing to whoever lacks the key, and is not believed where it was altered.

use std::fs;

use backup::{BackupError, Repository, Secret};

use crate::backups_are_of_a_moment::NOTHING_ELSE;
use crate::support::{MASTER, Place, SECRET, Writer, at, below, check, random};

const CANARY: &str = "a canary that must be seen nowhere";

fn filled() -> (Place, i64) {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    fs::create_dir_all(place.data.join("sources")).unwrap();
    fs::write(place.data.join("sources/canary-name"), CANARY.repeat(3)).unwrap();
    rusqlite::Connection::open(place.data.join("patchwright.db"))
        .unwrap()
        .execute_batch(&format!("CREATE TABLE canary AS SELECT '{CANARY}' AS text"))
        .unwrap();
    let mut backup = place.begin();
    for number in 0..4 {
        for _ in 0..30 {
            writer.write();
        }
        backup.step(at(number)).unwrap();
    }
    (place, writer.number)
}

#[test]
fn nothing_is_readable_in_it() {
    let (place, _) = filled();
    let mut seen = 0;
    for entry in fs::read_dir(&place.repository).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for secret in [CANARY.as_bytes(), b"canary-name", b"SQLite format 3", &SECRET, &MASTER] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", String::from_utf8_lossy(secret));
        }
        seen += bytes.len();
    }
    assert!(seen > 50_000, "{seen}");
    // It is in there, for whoever has the key.
    let repository = place.open();
    let into = place.folder.path().join("restored");
    repository.restore(&repository.newest(None).unwrap(), &into).unwrap();
    assert_eq!(fs::read_to_string(into.join("sources/canary-name")).unwrap(), CANARY.repeat(3));
}

#[test]
fn every_bit_counts() {
    let (place, last) = filled();
    // So that each object belongs to what is restored.
    let files: Vec<_> = fs::read_dir(&place.repository)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(".lock"))
        .collect();
    for flip in 0..600 {
        let path = &files[flip % files.len()];
        let whole = fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let at = usize::try_from(below(bytes.len() as u64)).unwrap();
        bytes[at] ^= 1 << below(8);
        fs::write(path, &bytes).unwrap();
        let objects = Repository::directory(&place.repository).unwrap();
        match Repository::open(objects, &Secret::new(MASTER), random) {
            Err(BackupError::Locked) => {}
            Err(error) => panic!("{error}"),
            Ok(repository) => {
                let damages = repository.verify().unwrap().damages;
                assert!(!damages.is_empty(), "{} at {at}", path.display());
                // Whatever comes back is what was backed up.
                let into = tempfile::tempdir_in(place.folder.path()).unwrap();
                let into = into.path().join("restored");
                let newest = repository.newest(None);
                if newest.and_then(|newest| repository.restore(&newest, &into)).is_ok() {
                    assert_eq!(check(&into), last);
                }
            }
        }
        fs::write(path, &whole).unwrap();
    }
    assert!(place.open().verify().unwrap().damages.is_empty());
}

#[test]
fn an_object_that_is_gone_or_another_ones_is_found() {
    let (place, _) = filled();
    let mut files: Vec<_> =
        fs::read_dir(&place.repository).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("backup-") {
            // That a backup is not there any more looks like retention; one under another's name does not.
            let whole = fs::read(path).unwrap();
            fs::write(place.repository.join("backup-20990101T000000000000Z"), &whole).unwrap();
            assert!(!place.open().verify().unwrap().damages.is_empty(), "{name}");
            fs::remove_file(place.repository.join("backup-20990101T000000000000Z")).unwrap();
        } else if name.starts_with("pack-") {
            let aside = place.folder.path().join("aside");
            fs::rename(path, &aside).unwrap();
            let damages = place.open().verify().unwrap().damages;
            assert!(damages.iter().any(|it| it.contains("gone")), "{damages:?}");
            fs::rename(&aside, path).unwrap();
        }
    }
}

#[test]
fn another_master_key_opens_nothing_of_what_was_before_it() {
    let (place, last) = filled();
    let objects = || Repository::directory(&place.repository).unwrap();
    let other = Secret::new([1; 32]);
    assert!(matches!(Repository::open(objects(), &other, random), Err(BackupError::Locked)));

    // The master key was rotated: each backup opens with the one that its database is sealed under, and no other.
    let secrets = vec![Secret::new(SECRET), Secret::new([8; 32])];
    let (both, writing) = Repository::adopt(objects(), &other, secrets, random).unwrap();
    let mut backup = backup::Backup::begin(both.clone(), writing, place.source()).unwrap();
    let taken = backup.step(at(10)).unwrap();
    assert!(taken.is_full);

    for (master, second, (whole, locked)) in
        [(Secret::new(MASTER), 3, (4, 1)), (other.clone(), 10, (1, 4))]
    {
        let repository = Repository::open(objects(), &master, random).unwrap();
        let verified = repository.verify().unwrap();
        assert!(verified.damages.is_empty());
        assert_eq!((verified.backups, verified.locked), (whole, locked));
        let manifest = repository.newest(None).unwrap();
        assert_eq!(manifest.at, at(second));
        let into = tempfile::tempdir_in(place.folder.path()).unwrap();
        let into = into.path().join("restored");
        repository.restore(&manifest, &into).unwrap();
        assert_eq!(check(&into), last);
    }
    // And those before go with time: the installation has the keys of all.
    let removed = both.retain(&NOTHING_ELSE, at(11)).unwrap();
    assert_eq!(removed.backups, 4);
    let repository = Repository::open(objects(), &other, random).unwrap();
    let verified = repository.verify().unwrap();
    assert_eq!((verified.backups, verified.garbage, verified.damages.len()), (1, 0, 0));
}

#[test]
fn nothing_is_restored_over_something() {
    let (place, _) = filled();
    let repository = place.open();
    let newest = repository.newest(None).unwrap();
    let refused = repository.restore(&newest, &place.data);
    assert!(matches!(refused, Err(BackupError::NotEmpty { .. })));
}

#[test]
fn one_at_a_time_backs_up_into_it() {
    let (place, _) = filled();
    let held = Repository::lock(&place.repository).unwrap();
    assert!(matches!(Repository::lock(&place.repository), Err(BackupError::Held { .. })));
    drop(held);
    assert!(Repository::lock(&place.repository).is_ok());
}
