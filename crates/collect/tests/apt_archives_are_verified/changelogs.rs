//! What a patch fixes is read from the very package that the archive vouches for.

use std::fs;
use std::path::Path;

use collect::apt::{ChangelogError, ChangelogWant, Collector, DebError, Suite};
use collect::fetch::FetchError;
use domain::advisory::{Changelog, Provenance};

use super::archive::{Deb, Edition, sha256};
use super::server::Conduct;
use super::world::{NOW, World, offline, online};

const CHANGELOG: &str = "\
tool (1.0-1+deb12u1) bookworm-security; urgency=high

  * Fix CVE-2026-1111 and CVE-2026-2222.

 -- A Person <person@example.org>  Thu, 19 Nov 2026 10:00:00 +0100

tool (1.0-1) unstable; urgency=medium

  * First (Closes: #1). CVE-2025-3333

 -- A Person <person@example.org>  Wed, 19 Nov 2025 10:00:00 +0100
";

pub(super) const WITH: Deb<'_> = Deb {
    name: "tool-with",
    version: "1.0-1+deb12u1",
    changelog: Some(CHANGELOG),
    ballast: 50_000,
};

/// A world whose archive offers these packages of source `tool` besides the smallest, whose
/// documentation is a link.
pub(super) fn world(debs: &[Deb<'_>]) -> World {
    let edition = Edition::default();
    let world = World::new();
    let pool = world.archive.root().join("pool/main");
    for deb in debs {
        deb.build(&pool);
    }
    let lists = world.archive.dists(&edition).join("main/binary-amd64");
    fs::remove_dir_all(&lists).unwrap();
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("Packages"), world.archive.packages("main")).unwrap();
    let text = world.archive.release(&edition);
    world.archive.sign(&edition, &world.key, &text);
    world
}

fn changelog(collector: &Collector, suite: &Suite) -> Result<Changelog, ChangelogError> {
    let want = ChangelogWant {
        source: "tool".to_owned(),
        version: "1.0-1+deb12u1".to_owned(),
        suite,
        packages: suite.packages(&|_, source| source == "tool").unwrap(),
    };
    collector.changelogs(&[want], &()).remove(0)
}

pub(super) fn pool(world: &World, deb: &Deb<'_>) -> std::path::PathBuf {
    let name = format!("pool/main/{}_{}_amd64.deb", deb.name, deb.version);
    world.archive.root().join(name)
}

fn entries(changelog: &Changelog) -> Vec<String> {
    let entries = changelog.entries.iter();
    entries.map(|entry| format!("{} {}", entry.version, entry.cves.join(" "))).collect()
}

#[test]
fn a_changelog_is_read_from_the_smallest_package_that_has_one_and_kept() {
    let world = world(&[WITH, Deb { name: "tool-large", ballast: 90_000, ..WITH }]);
    let suite = world.refresh().unwrap();
    let hash = sha256(&fs::read(pool(&world, &WITH)).unwrap());
    let data = world.data.path().to_owned();
    world.server.take_requests();

    let read = changelog(&online(&data, NOW), &suite).unwrap();

    assert_eq!(
        entries(&read),
        ["1.0-1+deb12u1 CVE-2026-1111 CVE-2026-2222", "1.0-1 CVE-2025-3333"]
    );
    let Provenance::DerivedFromChangelog { filename, sha256 } = &read.provenance else { panic!() };
    assert_eq!(filename, "pool/main/tool-with_1.0-1+deb12u1_amd64.deb");
    assert_eq!(*sha256, hash);
    let fetched = world.server.take_requests();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    assert!(fetched[0].contains("tool-main_1.0-1_amd64.deb"), "the smallest, a link: {fetched:?}");
    world.server.set("", Conduct::Absent);
    assert_eq!(changelog(&online(&data, NOW), &suite).unwrap(), read);
    assert_eq!(leftovers(&data), 0);
}

#[test]
fn a_kept_changelog_needs_no_network() {
    let world = world(&[WITH]);
    let mut suite = world.refresh().unwrap();
    let data = world.data.path().to_owned();
    assert!(matches!(changelog(&offline(&data, NOW), &suite), Err(ChangelogError::NotCached)));
    let read = changelog(&online(&data, NOW), &suite).unwrap();
    suite = world.offline().unwrap();
    world.server.set("", Conduct::Absent);

    let kept = changelog(&offline(&data, NOW), &suite).unwrap();

    assert_eq!(kept, read);
    assert_eq!(changelog(&online(&data, NOW), &suite).unwrap(), read);
    world.server.reform();
    world.server.take_requests();
    assert_eq!(changelog(&online(&data, NOW), &suite).unwrap(), read);
    assert!(world.server.take_requests().is_empty());
}

#[test]
fn a_package_with_altered_bytes_is_refused() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    let deb = pool(&world, &WITH);
    let mut bytes = fs::read(&deb).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&deb, &bytes).unwrap();

    let error = changelog(&online(world.data.path(), NOW), &suite).unwrap_err();

    let ChangelogError::Fetch(FetchError::HashMismatch { got, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(got, sha256(&bytes));
    assert_eq!(leftovers(world.data.path()), 0);
}

#[test]
fn a_source_whose_packages_hold_no_changelog_says_so() {
    let world = world(&[]);
    let suite = world.refresh().unwrap();

    let error = changelog(&online(world.data.path(), NOW), &suite).unwrap_err();

    assert!(matches!(error, ChangelogError::Deb { source: DebError::NoChangelog, .. }));
}

#[test]
fn what_holds_no_changelog_is_fetched_once() {
    let world = world(&[]);
    let suite = world.refresh().unwrap();
    let read = || changelog(&online(world.data.path(), NOW), &suite).unwrap_err().to_string();
    let first = read();
    world.server.take_requests();

    assert_eq!(read(), first);

    assert_eq!(world.server.take_requests(), Vec::<String>::new());
}

#[test]
fn the_changelog_of_another_version_is_not_taken() {
    let older = CHANGELOG.split_once("\n\ntool (").map(|(_, rest)| format!("tool ({rest}"));
    let world = world(&[
        Deb { name: "tool-copy", changelog: older.as_deref(), ballast: 0, ..WITH },
        Deb { ballast: 1 << 20, ..WITH },
    ]);
    let suite = world.refresh().unwrap();

    let read = changelog(&online(world.data.path(), NOW), &suite).unwrap();

    assert_eq!(read.entries.len(), 2);
    fs::remove_file(pool(&world, &WITH)).unwrap();
    fs::remove_dir_all(world.data.path().join("changelogs")).unwrap();
    let error = changelog(&online(world.data.path(), NOW), &suite).unwrap_err();
    assert!(matches!(error, ChangelogError::Fetch(FetchError::Absent { .. })), "{error:?}");
}

#[test]
fn a_changelog_that_unpacks_to_gigabytes_is_refused() {
    let huge = " \n".repeat(17 << 20);
    let world = world(&[Deb { changelog: Some(&huge), ballast: 0, ..WITH }]);
    let suite = world.refresh().unwrap();

    let error = changelog(&online(world.data.path(), NOW), &suite).unwrap_err();

    assert!(
        matches!(error, ChangelogError::Deb { source: DebError::Oversize { .. }, .. }),
        "{error:?}"
    );
}

#[test]
fn what_a_killed_run_left_behind_is_removed() {
    let world = world(&[WITH]);
    let suite = world.refresh().unwrap();
    let left = world.data.path().join("changelogs/.deb-killed");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("deb.partial"), "half").unwrap();

    changelog(&online(world.data.path(), NOW), &suite).unwrap();

    assert_eq!(leftovers(world.data.path()), 0);
}

/// Directories of unfinished fetches.
fn leftovers(data: &Path) -> usize {
    let entries = fs::read_dir(data.join("changelogs")).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."))
        .count()
}
