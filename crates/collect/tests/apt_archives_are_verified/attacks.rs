//! The attacks that The Update Framework names: rollback, freeze, mix-and-match, fast-forward.

use std::fs;

use collect::apt::{IndexError, Refusal, ReleaseError, SignatureError};
use collect::fetch::FetchError;

use super::archive::Edition;
use super::good::newer;
use super::server::Conduct;
use super::world::{World, packages};

#[test]
fn an_older_state_is_refused_and_the_newer_one_kept() {
    let world = World::with(&newer());
    world.refresh().unwrap();
    world.publish(&Edition::default());

    let Refusal::Rollback { seen, offered, .. } = world.refusal() else { panic!() };

    assert_eq!(seen.to_string(), "2026-11-21T10:00:00Z");
    assert_eq!(offered.to_string(), "2026-11-20T10:00:00Z");
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.1-1"]);
    world.publish(&newer());
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.1-1"]);
}

#[test]
fn an_older_state_is_refused_also_by_its_detached_signature() {
    let (older, newer) = (Edition::default(), newer());
    let world = World::with(&newer);
    world.refresh().unwrap();
    world.archive.lists(&older);
    let text = world.archive.release(&older);
    world.archive.put_detached(&older, &text, Some(&world.key.detached(&text)));

    assert!(matches!(world.refusal(), Refusal::Rollback { .. }));
}

#[test]
fn another_state_of_the_same_date_is_refused() {
    let world = World::new();
    world.refresh().unwrap();
    world.publish(&Edition { version: "1.2-1", ..Edition::default() });

    let Refusal::Equivocation { seen, offered, .. } = world.refusal() else { panic!() };

    assert_ne!(seen, offered);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn the_same_state_signed_again_is_no_other_state() {
    let edition = Edition::default();
    let world = World::new();
    world.refresh().unwrap();
    let text = world.archive.release(&edition);
    let signed_again = world.key.clearsign_at("20261111T000000", &[], &text);
    world.archive.put_inline(&edition, &signed_again);

    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn the_same_state_by_its_detached_signature_is_no_other_state() {
    let world = World::new();
    world.refresh().unwrap();
    let edition = Edition::default();
    let text = world.archive.release(&edition);
    world.archive.put_detached(&edition, &text, Some(&world.key.detached(&text)));

    let suite = world.refresh().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
}

#[test]
fn a_state_past_its_validity_is_refused_with_and_without_network() {
    let world = World::new();
    world.refresh().unwrap();
    let late = "2026-11-27T10:00:01Z";

    for refusal in [world.refresh_at(late), world.offline_at(late)] {
        let Err(Refusal::Release(ReleaseError::Expired { valid_until, now })) = refusal else {
            panic!()
        };
        assert_eq!(valid_until.to_string(), "2026-11-27T10:00:00Z");
        assert_eq!(now.to_string(), late);
    }
    assert!(world.refresh_at("2026-11-27T10:00:00Z").is_ok());
}

#[test]
fn an_administrator_may_ignore_the_validity_of_an_archive_that_rests() {
    let world = World::new();
    let text = format!("{}Check-Valid-Until: no\n", world.sources_text());

    let suite = world.refresh_of(&super::world::source(&text), "2028-01-01T00:00:00Z");

    assert_eq!(packages(&suite.unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn a_state_without_validity_ages_by_our_own_limit() {
    let world = World::with(&Edition { valid_until: None, ..Edition::default() });

    // 120 days after 20 Nov 2026.
    assert!(world.refresh_at("2027-03-20T10:00:00Z").is_ok());
    for refusal in
        [world.refresh_at("2027-03-20T10:00:01Z"), world.offline_at("2027-03-20T10:00:01Z")]
    {
        assert!(matches!(
            refusal,
            Err(Refusal::Release(ReleaseError::TooOld { limit_days: 120, .. }))
        ));
    }
}

#[test]
fn lists_of_one_state_under_the_release_of_another_are_refused() {
    let edition = Edition::default();
    let world = World::new();
    let release = fs::read_to_string(world.archive.dists(&edition).join("InRelease")).unwrap();
    // The same length, so that only the hash tells.
    world.publish(&Edition { version: "1.1-1", formats: &[], ..edition.clone() });
    let other = fs::read(world.archive.dists(&edition).join("main/binary-amd64/Packages")).unwrap();
    world.publish(&Edition { formats: &[], ..edition.clone() });
    let plain = fs::read_to_string(world.archive.dists(&edition).join("InRelease")).unwrap();
    let directory = world.archive.dists(&edition).join("main/binary-amd64");
    fs::remove_dir_all(directory.join("by-hash")).unwrap();
    fs::write(directory.join("Packages"), &other).unwrap();

    let Refusal::Index(IndexError::Fetch(FetchError::HashMismatch { wanted, got, .. })) =
        world.refusal()
    else {
        panic!()
    };

    assert!(plain.contains(&wanted));
    assert_eq!(got, super::archive::sha256(&other));
    assert!(matches!(world.offline(), Err(Refusal::NotCached)));
    fs::write(directory.join("Packages"), &other[..other.len() - 1]).unwrap();
    let shorter = world.refusal();
    assert!(
        matches!(shorter, Refusal::Index(IndexError::Fetch(FetchError::SizeMismatch { .. }))),
        "{shorter:?}"
    );
    world.archive.put_inline(&edition, &release);
    assert!(matches!(
        world.refusal(),
        Refusal::Index(IndexError::Fetch(FetchError::Absent { .. }))
    ));
}

#[test]
fn a_page_of_a_network_portal_is_taken_for_nothing() {
    let world = World::new();
    world.refresh().unwrap();
    world.publish(&newer());
    let page = || Conduct::Instead(b"<html>Please log in</html>".to_vec());
    world.server.set("", page());
    assert!(matches!(world.refusal(), Refusal::Signature(SignatureError::Malformed { .. })));
    world.server.reform();
    let listed = world.archive.dists(&newer()).join("main/binary-amd64/Packages.gz");
    world.server.set(&super::archive::sha256(&fs::read(listed).unwrap()), page());

    assert!(matches!(world.refusal(), Refusal::Index(IndexError::Fetch(_))));

    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn a_state_from_the_future_is_refused_and_remembered_nowhere() {
    let world = World::new();
    world.publish(&Edition {
        date: "Wed, 23 Dec 2026 12:00:00 UTC",
        valid_until: Some("Wed, 30 Dec 2026 12:00:00 UTC"),
        version: "9-1",
        ..Edition::default()
    });

    let Refusal::Release(ReleaseError::FromTheFuture { date, .. }) = world.refusal() else {
        panic!()
    };

    assert_eq!(date.to_string(), "2026-12-23T12:00:00Z");
    world.publish(&Edition::default());
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn the_release_of_another_suite_is_refused() {
    let edition = Edition::default();
    let world = World::new();
    let text = world
        .archive
        .release(&edition)
        .replace("Suite: oldstable-security", "Suite: stable-security")
        .replace("Codename: bookworm-security", "Codename: trixie-security");
    world.archive.sign(&edition, &world.key, &text);

    assert_eq!(
        world.refusal().to_string(),
        "the release file is of suite `stable-security`, codename `trixie-security`, not of \
         `bookworm-security`"
    );
}

#[test]
fn a_suite_whose_codename_moves_on_is_refused() {
    let edition = Edition::default();
    let world = World::new();
    let dists = world.archive.root().join("dists");
    std::os::unix::fs::symlink("bookworm-security", dists.join("oldstable-security")).unwrap();
    let text = world.sources_text().replace("Suites: bookworm", "Suites: oldstable");
    let by_suite = super::world::source(&text);
    let now = super::world::NOW;
    world.refresh_of(&by_suite, now).unwrap();
    let moved = world
        .archive
        .release(&newer())
        .replace("Codename: bookworm-security", "Codename: trixie-security");
    world.archive.sign(&edition, &world.key, &moved);

    let Err(Refusal::CodenameChanged { seen, offered, .. }) = world.refresh_of(&by_suite, now)
    else {
        panic!()
    };

    assert_eq!((seen.as_str(), offered.as_str()), ("bookworm-security", "trixie-security"));
}

#[test]
fn a_damaged_memory_of_what_was_seen_is_not_taken_for_none() {
    let world = World::with(&newer());
    world.refresh().unwrap();
    let archives = world.data.path().join("archives");
    let directory = fs::read_dir(archives).unwrap().next().unwrap().unwrap().path();
    fs::write(directory.join("state.json"), b"{").unwrap();
    world.publish(&Edition::default());

    assert!(matches!(world.refusal(), Refusal::Disk { .. }));
}
