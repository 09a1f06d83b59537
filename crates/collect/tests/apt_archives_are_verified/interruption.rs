//! Broken transfers, concurrent runs and kill -9 leave a whole state behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use collect::apt::config::read_sources_file;
use collect::apt::{Collector, Refusal, Suite};

use super::archive::{Archive, Edition, Key};
use super::server::{Conduct, Server, Silence};
use super::world::{NOW, World, offline, online, packages, sources_text};

/// The program that is killed: `examples/refresh.rs`, which `cargo test` builds beside the tests.
pub(crate) fn refresh_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/refresh");
    assert!(program.exists(), "build it first: cargo build -p collect --examples");
    program
}

#[test]
fn a_transfer_that_broke_is_resumed_where_it_broke() {
    let world = World::with(&Edition { formats: &[], ..Edition::default() });
    world.server.set("/main/binary-amd64/Packages", Conduct::Broken(100));
    let by_hash = "/by-hash/SHA256/";
    let directory = world.archive.dists(&Edition::default()).join("main/binary-amd64");
    fs::remove_dir_all(directory.join("by-hash")).unwrap();
    assert!(matches!(world.refusal(), Refusal::Index(_)));
    world.server.reform();
    world.server.take_requests();

    let suite = world.refresh().unwrap();

    assert_eq!(packages(&suite), ["tool-main 1.0-1"]);
    let requests: Vec<String> = world
        .server
        .take_requests()
        .into_iter()
        .filter(|request| request.contains("Packages") && !request.contains(by_hash))
        .collect();
    assert_eq!(requests, ["/dists/bookworm-security/main/binary-amd64/Packages bytes=100-"]);
}

#[test]
fn what_is_resumed_must_hold_as_a_whole() {
    let world = World::with(&Edition { formats: &[], ..Edition::default() });
    let list = world.archive.dists(&Edition::default()).join("main/binary-amd64/Packages");
    let good = fs::read(&list).unwrap();
    let hash = super::archive::sha256(&good);
    let by_hash = list.parent().unwrap().join("by-hash/SHA256").join(&hash);
    let mut evil = good.clone();
    evil[0] ^= 1;
    fs::write(&by_hash, &evil).unwrap();
    world.server.set(&hash, Conduct::Broken(100));
    assert!(matches!(world.refusal(), Refusal::Index(_)));
    fs::write(&by_hash, &good).unwrap();
    world.server.reform();

    assert!(matches!(world.refusal(), Refusal::Index(_)));
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}

#[test]
fn eight_runs_at_once_leave_one_whole_state() {
    let world = World::new();
    let source = world.source();

    let suites: Vec<Suite> = thread::scope(|scope| {
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| world.refresh_of(&source, NOW).unwrap())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });

    for suite in &suites {
        assert_eq!(packages(suite), ["tool-main 1.0-1"]);
    }
    let lists = world.server.take_requests();
    assert_eq!(lists.iter().filter(|path| path.contains("binary-amd64")).count(), 1);
    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.0-1"]);
    assert_eq!(leftovers(&world), Vec::<String>::new());
}

/// Names on disk that only an unfinished run has.
fn leftovers(world: &World) -> Vec<String> {
    let archives = fs::read_dir(world.data.path().join("archives")).unwrap();
    let directories = archives.map(|entry| entry.unwrap().path());
    directories
        .flat_map(|suite| [suite.join("index"), suite])
        .flat_map(|directory| fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".new-") || name.contains(".packed"))
        .collect()
}

const BEFORE: Edition = Edition {
    suite: "stable",
    codename: "bookworm",
    date: "Fri, 20 Nov 2026 10:00:00 UTC",
    valid_until: None,
    version: "1.0-1",
    components: &["main", "contrib", "extra"],
    formats: &["xz"],
};
const AFTER: Edition =
    Edition { date: "Sat, 21 Nov 2026 10:00:00 UTC", version: "2.0-1", ..BEFORE };

/// A run is killed while it moves a state from version 1 to 2, at every request and at three
/// stages of its answer. Each time what is kept is one of the two states as a whole, and the next
/// run brings the second.
#[test]
fn a_run_killed_at_any_request_leaves_a_whole_state() {
    let components = BEFORE.components.join(" ");
    let (key, archive) = (Key::new(), Archive::new());
    let server = Server::start(archive.root());
    let place = tempfile::tempdir().unwrap();
    let sources = place.path().join("s.sources");
    fs::write(&sources, sources_text(&server.uri(), "bookworm", &components, &key)).unwrap();
    let before = place.path().join("before");
    let refresh = |data: &PathBuf| {
        let mut command = Command::new(refresh_program());
        command.arg(&sources).arg(data).arg(NOW).stdout(Stdio::null());
        command
    };
    archive.publish(&BEFORE, &key);
    assert!(refresh(&before).status().unwrap().success());
    archive.publish(&AFTER, &key);
    server.take_requests();
    let whole = place.path().join("whole");
    assert!(refresh(&whole).status().unwrap().success());
    let requests = server.take_requests().len();
    assert_eq!(requests, 4);

    for from_version_1 in [true, false] {
        for request in 0..requests {
            for silence in [Silence::BeforeHeaders, Silence::InTheBody, Silence::AfterTheBody] {
                let data = place.path().join(format!("{from_version_1}-{request}-{silence:?}"));
                if from_version_1 {
                    copy(&before, &data);
                }
                let (reached, release) = server.pause_at(request, silence);
                let mut child = refresh(&data).spawn().unwrap();
                reached.recv().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                drop(release);

                let files = std::collections::BTreeMap::from([(
                    "/s.sources".to_owned(),
                    fs::read(&sources).unwrap(),
                )]);
                let source = read_sources_file(&files, "/s.sources", "/etc/apt").unwrap().remove(0);
                let kept = |collector: Collector| super::world::refresh(&collector, &source);
                match kept(offline(&data, NOW)) {
                    Ok(suite) => assert!(is_whole(&suite, "1.0-1") || is_whole(&suite, "2.0-1")),
                    Err(refusal) => assert!(
                        !from_version_1 && matches!(refusal, Refusal::NotCached),
                        "{refusal}"
                    ),
                }
                assert!(is_whole(&kept(online(&data, NOW)).unwrap(), "2.0-1"));
                assert!(is_whole(&kept(offline(&data, NOW)).unwrap(), "2.0-1"));
            }
        }
    }
}

/// What lies on disk is damaged in each way in which a run can be killed between two files.
#[test]
fn a_run_killed_between_two_files_leaves_a_whole_state() {
    let world = World::new();
    world.refresh().unwrap();
    let archives = fs::read_dir(world.data.path().join("archives")).unwrap();
    let directory = archives.last().unwrap().unwrap().path();
    let state = fs::read(directory.join("state.json")).unwrap();
    world.publish(&super::good::newer());
    world.refresh().unwrap();

    fs::write(directory.join("state.json"), state).unwrap();
    fs::write(directory.join(".new-1"), "half").unwrap();
    fs::write(directory.join("index/.new-2"), "half").unwrap();
    let gone = format!("{}.packed.partial", "0".repeat(64));
    fs::write(directory.join("index").join(gone), "half").unwrap();

    assert_eq!(packages(&world.offline().unwrap()), ["tool-main 1.1-1"]);
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.1-1"]);
    assert_eq!(leftovers(&world), Vec::<String>::new());
}

fn is_whole(suite: &Suite, version: &str) -> bool {
    let expected: Vec<String> =
        BEFORE.components.iter().map(|component| format!("tool-{component} {version}")).collect();
    packages(suite) == expected
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
