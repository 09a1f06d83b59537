//! A backup, or a removal, that is killed at whichever write leaves all that was there, whole.

use std::fs;

use backup::Retention;

use crate::backups_are_of_a_moment::NOTHING_ELSE;
use crate::support::{Faulty, Place, Writer, at};

#[test]
fn whichever_write_is_the_last_the_backups_before_are_whole() {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    let (mut last, mut second, mut kills) = (Vec::new(), 0, 0);
    for calls in 0.. {
        for is_done in [false, true] {
            let objects = Faulty::new(&place.repository, calls, is_done);
            let mut taken = Vec::new();
            if let Ok(mut backup) = place.begin_on(objects.clone()) {
                for round in 0..4 {
                    writer.write();
                    fs::write(place.data.join(format!("history/{second}")), b"object").unwrap();
                    second += 1;
                    if backup.step(at(second)).is_err() {
                        break;
                    }
                    taken.push(writer.number);
                    if round == 2 {
                        let rule = Retention { newest: 5, ..NOTHING_ELSE };
                        if backup.repository().retain(&rule, at(second)).is_err() {
                            break;
                        }
                    }
                }
            }
            kills += 1;
            last.extend(taken);
            if !objects.was_reached() && calls > 3 {
                assert!(kills > 12, "{kills}");
                return;
            }
            // The one that fell may be there if only its answer was lost.
            if !last.is_empty() {
                let verified = place.open().verify().unwrap();
                assert!(verified.damages.is_empty(), "{:?}", verified.damages);
                let newest = place.open().newest(None).unwrap();
                let restored = place.restored(&newest);
                assert!(restored >= *last.last().unwrap(), "{restored} {last:?}");
            }
        }
    }
}

#[test]
fn whichever_removal_is_the_last_what_is_left_is_whole() {
    for is_done in [false, true] {
        for calls in 0.. {
            let place = Place::new();
            let mut writer = Writer::open(&place.data);
            let mut backup = place.begin();
            for number in 0..6 {
                writer.write();
                backup.step(at(number)).unwrap();
            }
            drop(backup);
            // A pack of a backup that was broken off.
            fs::write(place.repository.join("pack-000000000000000000000000"), b"half").unwrap();
            let objects = Faulty::new(&place.repository, calls, is_done);
            let repository = backup::Repository::open(
                objects.clone(),
                &backup::Secret::new(crate::support::MASTER),
                crate::support::random,
            )
            .unwrap();
            let rule = Retention { newest: 2, ..NOTHING_ELSE };
            let removed = repository.retain(&rule, at(10));
            assert!(place.open().verify().unwrap().damages.is_empty());
            assert_eq!(place.restored(&place.open().newest(None).unwrap()), writer.number);
            // Again, without being killed.
            place.open().retain(&rule, at(10)).unwrap();
            let verified = place.open().verify().unwrap();
            assert_eq!((verified.backups, verified.garbage), (2, 0));
            if removed.is_ok() && !objects.was_reached() {
                break;
            }
        }
    }
}

#[test]
fn where_a_manifest_is_damaged_no_pack_is_removed() {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    let mut backup = place.begin();
    for number in 0..4 {
        writer.write();
        backup.step(at(number)).unwrap();
    }
    let mut manifests: Vec<_> = fs::read_dir(&place.repository)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("backup-"))
        .collect();
    manifests.sort();
    let whole = fs::read(&manifests[1]).unwrap();
    fs::write(&manifests[1], &whole[..whole.len() - 1]).unwrap();

    let removed = place.open().retain(&NOTHING_ELSE, at(10)).unwrap();

    assert_eq!((removed.backups, removed.packs), (2, 0));
    fs::write(&manifests[1], whole).unwrap();
    assert!(place.open().verify().unwrap().damages.is_empty());
}
