//! A backup is the installation at the end of a transaction, whatever happens to it meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::SignedDuration;

use crate::support::{Place, Writer, at, below, check};

#[test]
fn under_load_every_backup_is_of_a_moment_and_none_misses_what_was_acknowledged() {
    const BACKUPS: i64 = 40;
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    writer.write();
    let (ended, acknowledged) = (AtomicBool::new(false), AtomicI64::new(1));
    let allowed = AtomicI64::new(1);
    let mut taken = Vec::new();
    let mut writer = std::thread::scope(|scope| {
        let (ended, acknowledged, allowed) = (&ended, &acknowledged, &allowed);
        let writing = scope.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                if writer.number >= allowed.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                    continue;
                }
                // The log is begun anew as often as can be.
                writer.checkpoints_after(u32::try_from(1 + below(200)).unwrap());
                writer.write();
                acknowledged.store(writer.number, Ordering::SeqCst);
            }
            writer
        });
        let mut backup = place.begin();
        for number in 0..BACKUPS {
            // Some are taken by a process that was started for it.
            if number % 16 == 15 {
                backup = place.begin();
            }
            let before = acknowledged.load(Ordering::SeqCst);
            allowed.store(before + 300, Ordering::SeqCst);
            let is_full = backup.step(at(number)).unwrap().is_full;
            taken.push((before, is_full));
            while acknowledged.load(Ordering::SeqCst) < before + 150 {
                std::thread::yield_now();
            }
        }
        ended.store(true, Ordering::SeqCst);
        writing.join().unwrap()
    });

    let repository = place.open();
    assert!(repository.verify().unwrap().damages.is_empty());
    let backups = repository.backups().unwrap();
    assert_eq!(backups.len(), taken.len());
    let mut last = 0;
    for ((_, manifest), (before, _)) in backups.iter().zip(&taken) {
        let restored = place.restored(manifest.as_ref().unwrap());
        assert!(restored >= *before && restored >= last, "{restored}, {before}, {last}");
        last = restored;
    }
    // Only what began anew held everything against what was there.
    let full = taken.iter().filter(|(_, is_full)| *is_full).count();
    assert_eq!(full, 3, "{taken:?}");

    // Byte for byte, with a log that was begun anew meanwhile.
    let mut backup = place.begin();
    for number in 0..3 {
        for _ in 0..200 {
            writer.write();
        }
        assert_eq!(backup.step(at(100 + number)).unwrap().is_full, number == 0);
    }
    drop(backup);
    let manifest = place.open().newest(None).unwrap();
    let into = place.folder.path().join("last");
    place.open().restore(&manifest, &into).unwrap();
    writer.settle();
    let bytes = |folder: &std::path::Path| fs::read(folder.join("patchwright.db")).unwrap();
    assert!(bytes(&into) == bytes(&place.data));
}

#[test]
fn a_long_log_is_made_short_and_nothing_is_missed() {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    writer.write();
    let mut backup = place.begin();
    assert!(backup.step(at(0)).unwrap().is_full);
    let mut largest = 0;
    for number in 1..=24 {
        for _ in 0..400 {
            writer.write();
        }
        let taken = backup.step(at(number)).unwrap();
        assert!(!taken.is_full, "{number}");
        let log = fs::metadata(place.data.join("patchwright.db-wal")).unwrap().len();
        largest = largest.max(log);
        let manifest = place.open().newest(None).unwrap();
        assert_eq!(place.restored(&manifest), writer.number);
    }
    // Without room being made it would hold everything: some 60 MiB.
    assert!(largest < 26 << 20, "{largest}");
}

#[test]
fn after_the_first_it_costs_what_altered() {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    for _ in 0..3000 {
        writer.write();
    }
    for number in 0..20_u8 {
        fs::write(place.data.join(format!("history/{number}")), vec![number; 300_000]).unwrap();
    }
    let mut backup = place.begin();
    let first = backup.step(at(0)).unwrap();
    writer.write();
    let second = backup.step(at(1)).unwrap();
    let idle = backup.step(at(2)).unwrap();
    // A process that begins anew reads all, and keeps what altered.
    writer.write();
    let again = place.begin().step(at(3)).unwrap();

    assert!(first.is_full && first.written > 4_000_000, "{first:?}");
    assert!(!second.is_full && second.pages < 20 && second.written < 100_000, "{second:?}");
    assert!(idle.pages == 0 && idle.written < 500, "{idle:?}");
    assert!(again.is_full && again.written < 1_000_000, "{again:?}");
    let manifest = place.open().newest(None).unwrap();
    assert_eq!(place.restored(&manifest), writer.number);
}

#[test]
fn files_come_and_go_with_what_names_them() {
    let place = Place::new();
    Writer::open(&place.data).write();
    let file = |name: &str| place.data.join(name);
    let mut backup = place.begin();
    fs::write(file("history/a"), b"one").unwrap();
    fs::create_dir_all(file("sources")).unwrap();
    fs::write(file("sources/x"), b"old").unwrap();
    backup.step(at(0)).unwrap();
    fs::write(file("history/b"), vec![3; 3 << 20]).unwrap();
    fs::write(file("sources/x"), b"new").unwrap();
    backup.step(at(1)).unwrap();
    fs::remove_file(file("history/a")).unwrap();
    backup.step(at(2)).unwrap();
    let mut backup = place.begin();
    backup.step(at(3)).unwrap();

    let repository = place.open();
    let lists = |second: i64| {
        let into = place.folder.path().join(format!("at-{second}"));
        let manifest = repository.newest(Some(at(second))).unwrap();
        repository.restore(&manifest, &into).unwrap();
        check(&into);
        let mut names: Vec<_> = fs::read_dir(into.join("history"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        (names.concat(), fs::read_to_string(into.join("sources/x")).unwrap())
    };
    let expected = [("a", "old"), ("ab", "new"), ("b", "new"), ("b", "new")];
    for (second, (names, source)) in (0..).zip(expected) {
        assert_eq!(lists(second), (names.to_owned(), source.to_owned()), "{second}");
    }
    assert_eq!(fs::read(place.folder.path().join("at-3/history/b")).unwrap(), vec![3; 3 << 20]);
    assert!(repository.newest(Some(at(-1))).is_err());
}

/// What was acknowledged five seconds before whichever end is in a backup, if one takes no longer than three.
#[test]
fn five_seconds_at_most_are_lost() {
    let every = SignedDuration::from_secs(2);
    let milliseconds = SignedDuration::from_millis;
    for seed in 0..2000_u64 {
        let (mut now, mut last_begun) = (at(0), None);
        for _ in 0..50 {
            let begun = now;
            let takes = milliseconds(i64::try_from((seed * 7 + below(3000)) % 3001).unwrap());
            let ends = begun + takes;
            // Killed just before the manifest is there, all since the backup before is lost.
            if let Some(last_begun) = last_begun {
                let lost = ends.duration_since(last_begun);
                assert!(lost <= SignedDuration::from_secs(6), "{lost}");
                if takes <= SignedDuration::from_secs(2) {
                    assert!(lost <= SignedDuration::from_secs(5));
                }
            }
            last_begun = Some(begun);
            now = ends + backup::wait(begun, ends, every);
        }
    }
}

#[test]
fn images_without_number_do_not_make_packs_without_number() {
    let place = Place::new();
    let mut writer = Writer::open(&place.data);
    let mut backup = place.begin();
    for number in 0..500 {
        for _ in 0..3 {
            writer.write();
        }
        fs::write(place.data.join(format!("history/{number}")), number.to_string()).unwrap();
        backup.step(at(number)).unwrap();
    }
    backup.repository().retain(&backup::Retention { newest: 2, ..NOTHING_ELSE }, at(500)).unwrap();
    let packs = fs::read_dir(&place.repository)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("pack-"))
        .count();
    // 128 increments, and what is spared.
    assert!(packs < 128 + 64 + 20, "{packs}");
    assert!(place.open().verify().unwrap().damages.is_empty());
    let manifest = place.open().newest(None).unwrap();
    assert_eq!(place.restored(&manifest), writer.number);
}

pub(crate) const NOTHING_ELSE: backup::Retention = backup::Retention {
    newest: 1,
    all: SignedDuration::ZERO,
    hourly: SignedDuration::ZERO,
    daily: SignedDuration::ZERO,
};
