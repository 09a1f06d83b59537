//! Good archives are used, and fetched no more than needed.

use std::fs;
use std::path::{Path, PathBuf};

use collect::apt::{IndexError, Refusal};
use domain::archive::Signer;
use jiff::Timestamp;

use super::archive::{Archive, Edition, Key, USER_ID};
use super::world::{NOW, World, packages, refresh, source, sources_text};

#[test]
fn a_good_archive_tells_its_facts_its_signer_and_its_packages() {
    let world = World::new();

    let suite = world.refresh().unwrap();

    let facts = &suite.facts;
    assert_eq!(facts.suite, "bookworm-security");
    assert_eq!(facts.release_suite.as_deref(), Some("oldstable-security"));
    assert_eq!(facts.codename.as_deref(), Some("bookworm-security"));
    assert_eq!(facts.origin.as_deref(), Some("Example"));
    assert_eq!(facts.label.as_deref(), Some("Example-Security"));
    assert_eq!(facts.architectures, ["amd64"]);
    assert_eq!(facts.date, "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(facts.valid_until, Some("2026-11-27T10:00:00Z".parse().unwrap()));
    let signer = Signer { fingerprint: world.key.fingerprint.clone(), user_id: USER_ID.to_owned() };
    assert_eq!(facts.signed_by, [signer]);
    let offered = suite.packages(&|_, source| source == "tool").unwrap();
    assert_eq!(offered.len(), 1);
    assert_eq!(offered[0].name, "tool-main");
    assert_eq!(offered[0].version, "1.0-1");
    assert_eq!(offered[0].source.name, "tool");
    assert_eq!(offered[0].component, "main");
    assert_eq!(offered[0].filename, "pool/main/tool-main_1.0-1_amd64.deb");
    assert_eq!(offered[0].sha256.len(), 64);
    assert!(suite.packages(&|name, _| name == "other").unwrap().is_empty());
}

#[test]
fn lists_are_fetched_by_hash_and_only_when_they_change() {
    let world = World::new();

    world.refresh().unwrap();
    let first = world.server.take_requests();
    world.refresh().unwrap();
    let second = world.server.take_requests();

    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first[0].ends_with("/dists/bookworm-security/InRelease"));
    assert!(first[1].contains("/main/binary-amd64/by-hash/SHA256/"));
    assert_eq!(second, ["/dists/bookworm-security/InRelease"]);
}

#[test]
fn a_mirror_without_links_by_hash_is_read_by_name() {
    let world = World::new();
    let directory = world.archive.dists(&Edition::default()).join("main/binary-amd64");
    fs::remove_dir_all(directory.join("by-hash")).unwrap();

    let suite = world.refresh().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
}

#[test]
fn every_compression_is_read() {
    for formats in [&["xz"][..], &["gz"], &["zst"], &[]] {
        let world = World::with(&Edition { formats, ..Edition::default() });

        assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"], "{formats:?}");
    }
}

#[test]
fn a_newer_state_replaces_the_one_before() {
    let world = World::new();
    world.refresh().unwrap();
    world.publish(&newer());

    let suite = world.refresh().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.1-1"]);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.1-1"]);
}

#[test]
fn without_network_the_kept_state_is_used() {
    let world = World::new();
    assert!(matches!(world.offline(), Err(Refusal::NotCached)));
    world.refresh().unwrap();

    let suite = world.offline().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
    assert_eq!(suite.facts.signed_by.len(), 1);
}

#[test]
fn a_detached_signature_serves_as_well() {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    world.archive.put_detached(&edition, &text, Some(&world.key.detached(&text)));

    let suite = world.refresh().unwrap();

    assert_eq!(suite.facts.signed_by[0].fingerprint, world.key.fingerprint);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.0-1"]);
    world.publish(&newer());
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.1-1"]);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.1-1"]);
}

#[test]
fn a_local_archive_without_signature_needs_the_administrators_word() {
    let edition = Edition::default();
    let (archive, key) = (Archive::new(), Key::new());
    archive.lists(&edition);
    let text = archive.release(&edition);
    archive.put_detached(&edition, &text, None);
    let uri = format!("file:{}", archive.root().display());
    let trusted = source(&format!(
        "Types: deb\nURIs: {uri}\nSuites: bookworm-security\nComponents: main\nTrusted: yes\n"
    ));
    let signed = source(&sources_text(&uri, "bookworm-security", "main", &key));
    let data = tempfile::tempdir().unwrap();
    let collector = super::world::online(data.path(), NOW);

    let suite = refresh(&collector, &trusted).unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
    assert!(suite.facts.signed_by.is_empty());
    assert!(matches!(refresh(&collector, &signed), Err(Refusal::Signature(_))));
}

#[test]
fn a_flat_archive_is_read() {
    let archive = Archive::new();
    let key = Key::new();
    super::archive::Deb { name: "tool-flat", ..Default::default() }
        .build(&archive.root().join("pool/flat"));
    let plain = archive.packages("flat");
    fs::write(archive.root().join("Packages"), &plain).unwrap();
    let text = format!(
        "Date: Fri, 20 Nov 2026 10:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n {} {} Packages\n",
        super::archive::sha256(&plain),
        plain.len()
    );
    fs::write(archive.root().join("InRelease"), key.clearsign(&text)).unwrap();
    let server = super::server::Server::start(archive.root());
    let text = sources_text(&server.uri(), "./", "", &key).replace("Components: \n", "");
    let data = tempfile::tempdir().unwrap();

    let suite = refresh(&super::world::online(data.path(), NOW), &source(&text)).unwrap();

    assert_eq!(packages(&suite), ["tool-flat 1.0-1"]);
    assert!(server.take_requests().iter().all(|path| !path.contains("//")));
}

#[test]
fn the_same_suite_for_two_architectures_is_kept_for_both() {
    let edition = Edition::default();
    let world = World::new();
    let main = world.archive.dists(&edition).join("main");
    fs::create_dir(main.join("binary-arm64")).unwrap();
    let list = fs::read_to_string(main.join("binary-amd64/Packages")).unwrap();
    fs::write(main.join("binary-arm64/Packages"), list.replace("amd64", "arm64")).unwrap();
    let text = world.archive.release(&edition);
    world.archive.sign(&edition, &world.key, &text);
    let [amd64, arm64] = ["amd64", "arm64"].map(|architecture| {
        source(&format!("{}Architectures: {architecture}\n", world.sources_text()))
    });

    let suites = [world.refresh_of(&amd64, NOW).unwrap(), world.refresh_of(&arm64, NOW).unwrap()];

    for (suite, architecture) in suites.iter().zip(["amd64", "arm64"]) {
        let offered = suite.packages(&|_, _| true).unwrap();
        assert_eq!(offered[0].architecture, architecture);
    }
}

#[test]
fn an_archive_that_lists_packed_forms_only_is_read() {
    let edition = Edition::default();
    let world = World::new();
    let text = world.archive.release(&edition);
    let packed: Vec<&str> = text.lines().filter(|line| !line.ends_with("/Packages")).collect();
    assert!(packed.len() < text.lines().count());
    world.archive.sign(&edition, &world.key, &(packed.join("\n") + "\n"));

    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn a_kept_list_that_was_damaged_is_noticed() {
    let world = World::new();
    world.refresh().unwrap();
    let list = kept_list(world.data.path(), false);
    let good = fs::read(&list).unwrap();
    let intact = world.offline().unwrap().packages(&|_, _| true).unwrap();
    let mut noticed = 0;
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x10;
        fs::write(&list, damaged).unwrap();

        match world.offline().unwrap().packages(&|_, _| true) {
            Err(error) => {
                assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
                assert!(error.help().unwrap().contains(list.to_str().unwrap()));
                noticed += 1;
            }
            // A bit of the frame that says nothing of the content.
            Ok(packages) => assert_eq!(packages, intact, "byte {at}"),
        }
    }
    assert!(noticed + 4 > good.len(), "{noticed} of {}", good.len());
    fs::remove_file(&list).unwrap();
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn what_packages_ask_of_each_other_is_kept_beside_the_list() {
    let world = World::new();
    world.refresh().unwrap();
    let relations = kept_list(world.data.path(), true);

    let known = world.offline().unwrap().relations(&|_| true).unwrap();
    assert_eq!(known[0].name, "tool-main");
    assert_eq!(known[0].version, "1.0-1");

    // What an older program kept lacks it, and is fetched again.
    fs::remove_file(&relations).unwrap();
    assert!(world.offline().is_err());
    assert_eq!(world.refresh().unwrap().relations(&|_| true).unwrap(), known);
}

/// The kept list, or what is kept beside it.
fn kept_list(data: &Path, relations: bool) -> PathBuf {
    let suite = fs::read_dir(data.join("archives")).unwrap().next().unwrap().unwrap().path();
    let paths = fs::read_dir(suite.join("index")).unwrap().map(|entry| entry.unwrap().path());
    let is_relations = |path: &PathBuf| path.to_string_lossy().ends_with(".relations.zst");
    paths.into_iter().find(|path| is_relations(path) == relations).unwrap()
}

#[test]
fn a_kept_release_that_was_damaged_is_fetched_again() {
    let world = World::new();
    world.refresh().unwrap();
    let archives = world.data.path().join("archives");
    let kept = fs::read_dir(archives).unwrap().next().unwrap().unwrap().path().join("release");
    fs::write(&kept, b"damaged").unwrap();
    assert!(matches!(world.offline(), Err(Refusal::Signature(_))));

    let suite = world.refresh().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
    assert!(world.offline().is_ok());
}

/// The edition of the day after.
pub(crate) fn newer() -> Edition {
    Edition { date: "Sat, 21 Nov 2026 10:00:00 UTC", version: "1.1-1", ..Edition::default() }
}
