//! Endless data costs neither time nor memory.

use std::fs;
use std::process::Command;

use collect::apt::{IndexError, Refusal, SignatureError};
use collect::fetch::FetchError;

use super::archive::{Edition, pack, sha256};
use super::interruption::refresh_program;
use super::server::Conduct;
use super::world::{NOW, World, packages};

/// Memory that a refusal may cost beyond a good refresh, in kB.
const ALLOWANCE: u64 = 64 * 1024;

#[test]
fn a_release_that_never_ends_is_refused() {
    let world = World::new();
    world.server.set("/InRelease", Conduct::Endless);

    let refusal = world.refusal();

    assert!(matches!(refusal, Refusal::Fetch(FetchError::Oversize { limit: 16_777_216, .. })));
    assert_cheap(&world);
}

/// Each of these once cost time by the square of its length, before any signature was checked.
#[test]
fn a_release_of_nothing_but_lines_is_refused_at_once() {
    let world = World::new();
    let lines = "\n".repeat(4 << 20);
    for file in [
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{lines}"),
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n-----BEGIN PGP SIGNATURE-----{lines}"
        ),
        lines,
    ] {
        world.server.set("/InRelease", Conduct::Instead(file.into_bytes()));

        let refusal = world.refusal();

        assert!(matches!(refusal, Refusal::Signature(SignatureError::Malformed { .. })));
    }
}

#[test]
fn a_list_that_never_ends_is_refused_at_its_listed_size() {
    let world = World::with(&Edition { formats: &["xz"], ..Edition::default() });
    let path = world.archive.dists(&Edition::default()).join("main/binary-amd64/Packages.xz");
    let listed = fs::read(path).unwrap();
    world.server.set(&sha256(&listed), Conduct::Endless);

    let refusal = world.refusal();

    let Refusal::Index(IndexError::Fetch(FetchError::Oversize { limit, .. })) = refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(limit, listed.len() as u64);
    assert_cheap(&world);
    world.server.reform();
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}

/// Files of a few megabytes that unpack to four gigabytes. Their own size and hash are signed
/// correctly; the plain size that is signed beside them is small.
#[test]
fn a_list_that_unpacks_to_gigabytes_is_refused_at_its_listed_size() {
    let block = vec![0; 16 << 20];
    for format in ["gz", "xz", "zst"] {
        let edition = Edition { formats: &[], ..Edition::default() };
        let world = World::with(&edition);
        let mut bomb = pack(format, &block).repeat(256);
        // Whoever unpacks it to its end meets this instead.
        bomb.extend(b"not compressed");
        assert!(bomb.len() < 8 << 20);
        let directory = world.archive.dists(&edition).join("main/binary-amd64");
        fs::write(directory.join(format!("Packages.{format}")), bomb).unwrap();
        let text = world.archive.release(&edition);
        assert!(text.contains(&format!("main/binary-amd64/Packages.{format}")));
        world.archive.sign(&edition, &world.key, &text);

        let refusal = world.refusal();

        assert!(matches!(refusal, Refusal::Index(IndexError::Content { .. })), "{refusal:?}");
        assert!(refusal.to_string().contains("it has more than"), "{refusal}");
        assert_cheap(&world);
    }
}

#[test]
fn a_list_that_unpacks_to_another_one_is_refused() {
    let edition = Edition { formats: &[], ..Edition::default() };
    for (altered, reason) in [("1.1-1", "its SHA-256 is"), ("1-1", "it has fewer than")] {
        let world = World::with(&edition);
        let directory = world.archive.dists(&edition).join("main/binary-amd64");
        let plain = fs::read_to_string(directory.join("Packages")).unwrap();
        let other = plain.replace("1.0-1", altered);
        fs::write(directory.join("Packages.xz"), pack("xz", other.as_bytes())).unwrap();
        let text = world.archive.release(&edition);
        world.archive.sign(&edition, &world.key, &text);

        let refusal = world.refusal();

        assert!(matches!(refusal, Refusal::Index(IndexError::Content { .. })), "{refusal:?}");
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
}

#[test]
fn a_list_that_is_no_archive_of_its_format_is_refused() {
    let edition = Edition { formats: &[], ..Edition::default() };
    for format in ["gz", "xz", "zst"] {
        let world = World::with(&edition);
        let directory = world.archive.dists(&edition).join("main/binary-amd64");
        fs::write(directory.join(format!("Packages.{format}")), "not compressed").unwrap();
        let text = world.archive.release(&edition);
        world.archive.sign(&edition, &world.key, &text);

        let refusal = world.refusal();

        assert!(matches!(refusal, Refusal::Index(IndexError::Content { .. })), "{refusal:?}");
        assert!(matches!(world.offline(), Err(Refusal::NotCached)));
    }
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_fetched() {
    let edition = Edition { formats: &[], ..Edition::default() };
    let world = World::new();
    let directory = world.archive.dists(&edition).join("main/binary-amd64");
    fs::remove_file(directory.join("Packages.xz")).unwrap();
    fs::remove_file(directory.join("Packages.gz")).unwrap();
    let plain = fs::read(directory.join("Packages")).unwrap();
    let text = world.archive.release(&edition);
    let line = |size: &str| format!(" {} {size} main/binary-amd64/Packages\n", sha256(&plain));
    let listed = text.lines().find(|line| line.contains(&sha256(&plain))).unwrap();
    for size in ["536870913", "18446744073709551615"] {
        let absurd = text.replace(&format!("{listed}\n"), &line(size));
        world.archive.sign(&edition, &world.key, &absurd);
        world.server.take_requests();

        let refusal = world.refusal();

        assert!(matches!(refusal, Refusal::Index(IndexError::Oversize { .. })), "{refusal:?}");
        assert_eq!(world.server.take_requests().len(), 1);
    }
    let no_number = text.replace(&format!("{listed}\n"), &line("18446744073709551616"));
    world.archive.sign(&edition, &world.key, &no_number);
    assert!(matches!(world.refusal(), Refusal::Index(IndexError::NotListed { .. })));
}

#[test]
fn a_server_that_never_agrees_to_a_range_ends_in_a_refusal() {
    let world = World::with(&Edition { formats: &["xz"], ..Edition::default() });
    let path = world.archive.dists(&Edition::default()).join("main/binary-amd64/Packages.xz");
    world.server.set(&sha256(&fs::read(path).unwrap()), Conduct::Status(416));

    let refusal = world.refusal();

    assert!(matches!(
        refusal,
        Refusal::Index(IndexError::Fetch(FetchError::Status { status: 416, .. }))
    ));
}

/// Compares the peaks of a process that meets this refusal and of one that meets none.
fn assert_cheap(world: &World) {
    let (calm, refused) = (peak_of_refresh(&World::new()), peak_of_refresh(world));
    assert!(refused < calm + ALLOWANCE, "{refused} kB instead of {calm} kB");
}

fn peak_of_refresh(world: &World) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let sources = place.path().join("s.sources");
    fs::write(&sources, world.sources_text()).unwrap();
    let output = Command::new(refresh_program())
        .arg(&sources)
        .arg(place.path().join("data"))
        .arg(NOW)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
