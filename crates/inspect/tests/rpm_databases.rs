//! What we read from rpm's databases is what rpm itself says.

#![allow(clippy::unwrap_used)] // In tests, also outside of test functions.

mod support;

use std::path::{Path, PathBuf};

use domain::inventory::{PackageFamily, SourcePackage};
use support::{run, text, write};

const FORMAT: &str = "%{NAME}\t%{ARCH}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{SOURCERPM}\n";

/// Builds a small package and gives its file.
fn build(place: &Path, name: &str, more: &str) -> PathBuf {
    let spec = place.join(format!("{name}.spec"));
    write(
        &spec,
        format!(
            "Name: {name}\nVersion: 1.2\nRelease: 3.el9\nSummary: x\nLicense: MIT\n{more}\n%description\nx\n%files\n%changelog\n"
        ),
    );
    let top = format!("_topdir {}", text(place));
    run("rpmbuild", &["-bb", "--quiet", "--target", "x86_64-linux", "--define", &top, text(&spec)]);
    // The file is named after the binary package, which a spec may rename.
    let directories = ["x86_64", "noarch"].map(|directory| place.join("RPMS").join(directory));
    directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-")))
        .unwrap()
}

/// A system with rpm's own database in sqlite form, and some packages in it.
fn system(place: &Path, packages: &[PathBuf]) -> PathBuf {
    let root = place.join("sqlite");
    write(&root.join("etc/os-release"), OS_RELEASE);
    let database = root.join(SQLITE);
    std::fs::create_dir_all(&database).unwrap();
    let common = ["--define", "_db_backend sqlite", "--dbpath", text(&database)];
    run("rpm", &[&common[..], &["--initdb"]].concat());
    for package in packages {
        let install =
            ["-i", "--justdb", "--nodeps", "--ignorearch", "--nosignature", text(package)];
        run("rpm", &[&common[..], &install].concat());
    }
    root
}

const OS_RELEASE: &str =
    "ID=almalinux\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=9.4\nPRETTY_NAME=\"AlmaLinux 9.4\"\n";
const SQLITE: &str = "var/lib/rpm";
const NDB: &str = "usr/lib/sysimage/rpm";

/// The same packages in ndb form. Debian's rpm is built without it, so the real headers are
/// laid out here as `lib/backend/ndb/rpmpkg.c` of rpm does it.
fn as_ndb(place: &Path, sqlite: &Path) -> PathBuf {
    let database = rusqlite::Connection::open(sqlite.join(SQLITE).join("rpmdb.sqlite")).unwrap();
    let mut statement = database.prepare("SELECT hnum, blob FROM Packages").unwrap();
    let headers: Vec<(u32, Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut file = [&b"RpmP"[..], &word(0), &word(9), &word(1), &word(77)].concat();
    file.resize(32, 0);
    file.extend([&b"Slot"[..], &[0; 12]].concat().repeat(4096 / 16 - 2));
    for (slot, (number, header)) in headers.iter().enumerate() {
        let at = file.len();
        file.extend([&b"BlbS"[..], &number.to_le_bytes(), &word(1), &word(header.len())].concat());
        file.extend_from_slice(header);
        file.resize((file.len() + 12).next_multiple_of(16) - 12, 0);
        // The checksum is not looked at.
        file.extend([&[0; 4][..], &word(header.len()), b"BlbE"].concat());
        let blocks = (file.len() - at) / 16;
        // Slots are reused in any order.
        let place = 32 + 16 * (slot * 50 + 3);
        file[place + 4..place + 16]
            .copy_from_slice(&[&number.to_le_bytes()[..], &word(at / 16), &word(blocks)].concat());
    }
    let root = place.join("ndb");
    write(&root.join("etc/os-release"), OS_RELEASE);
    write(&root.join(NDB).join("Packages.db"), file);
    root
}

/// What rpm says of itself, in our words.
fn asked(root: &Path) -> Vec<(String, String, String)> {
    let database = root.join(SQLITE);
    let printed = run("rpm", &["--dbpath", text(&database), "-qa", "--queryformat", FORMAT]);
    let mut packages: Vec<_> = printed
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let epoch = if fields[2] == "0" { String::new() } else { format!("{}:", fields[2]) };
            let version = format!("{epoch}{}-{}", fields[3], fields[4]);
            (fields[0].to_owned(), fields[1].to_owned(), version)
        })
        .collect();
    packages.sort();
    packages
}

#[test]
fn both_formats_in_both_places() {
    let place = tempfile::tempdir().unwrap();
    let packages = [
        build(place.path(), "plain", ""),
        build(place.path(), "epochal", "Epoch: 32\n"),
        build(place.path(), "anywhere", "BuildArch: noarch\n"),
    ];
    let sqlite = system(place.path(), &packages);
    let expected = asked(&sqlite);
    for root in [&sqlite, &as_ndb(place.path(), &sqlite)] {
        let inventory = inspect::open(root, None).unwrap().inventory().unwrap();

        assert_eq!(inventory.family, PackageFamily::Rpm);
        assert_eq!(inventory.architecture, "x86_64");
        assert_eq!(inventory.problems, Vec::<String>::new());
        let ours: Vec<_> = inventory
            .packages
            .iter()
            .map(|package| {
                (package.name.clone(), package.architecture.clone(), package.version.clone())
            })
            .collect();
        assert_eq!(ours, expected, "{}", root.display());
        assert_eq!(ours.len(), 3);
        let epochal = &inventory.packages[1];
        let source =
            SourcePackage { name: "epochal".to_owned(), version: "32:1.2-3.el9".to_owned() };
        assert_eq!(epochal.source, source);
    }
}

#[test]
fn what_is_still_in_the_write_ahead_log_counts() {
    let place = tempfile::tempdir().unwrap();
    let package = build(place.path(), "plain", "");
    let root = system(place.path(), &[package]);
    let database = root.join("var/lib/rpm/rpmdb.sqlite");
    // A reader that is still there keeps the log from being merged.
    let reader = rusqlite::Connection::open(&database).unwrap();
    reader.pragma_update(None, "journal_mode", "WAL").unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM Packages;").unwrap();
    let writer = rusqlite::Connection::open(&database).unwrap();
    writer.pragma_update(None, "foreign_keys", false).unwrap();
    let copied = "INSERT INTO Packages SELECT hnum + 100, blob FROM Packages; DELETE FROM Packages WHERE hnum < 100;";
    writer.execute_batch(copied).unwrap();
    let log = std::fs::metadata(root.join("var/lib/rpm/rpmdb.sqlite-wal")).unwrap();
    assert!(log.len() > 0);

    let inventory = inspect::open(&root, None).unwrap().inventory().unwrap();

    assert_eq!(inventory.packages.len(), 1);
    assert_eq!(inventory.problems, Vec::<String>::new());
}

#[test]
fn a_damaged_database_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    write(&root.join("etc/os-release"), OS_RELEASE);
    write(&root.join("var/lib/rpm/Packages.db"), "RpmP");

    let error = inspect::open(root, None).unwrap().inventory().unwrap_err();

    assert!(error.to_string().contains("/var/lib/rpm/Packages.db"), "{error}");
}
