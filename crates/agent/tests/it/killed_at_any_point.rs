//! Killed at any instant, a host ends patched or as it was, after its agent starts again.
//!
//! Twenty-five kills run each time. `PATCHWRIGHT_KILLS=500` runs more, `PATCHWRIGHT_KILL_SEED=<seed>`
//! draws other instants.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::orders::Answer;
use domain::change::ExactPackage;
use domain::order::{Bundle, Ended};
use jiff::{SignedDuration, Timestamp};
use scratch::Scratch;
use serde::{Deserialize, Serialize};

use crate::support::{Deb, Host, Pool, Random, Told, handed, number, runs_as_root, upgrade, write};

const KILLS: u64 = 25;

/// The test, which runs itself again as the process that is killed.
const THIS: &str = "killed_at_any_point::a_host_ends_patched_or_as_it_was";

/// Names what that process is to do; nobody else has it.
const WORK: &str = "PATCHWRIGHT_KILL_WORK";

/// What the process that is killed is to do.
#[derive(Serialize, Deserialize)]
struct Work {
    root: std::path::PathBuf,
    packages: Vec<ExactPackage>,
    /// An order to take; without one the agent starts again.
    bundle: Option<Bundle>,
    /// How far its clock is ahead, in hours.
    hours: i64,
}

/// How a kill is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// Everything at once, as a loss of power does.
    All,
    /// The agent alone: its apt goes on.
    Agent,
}

/// The process that is killed: this program again, in a namespace that ends with it, or not.
fn work(work: &Work, kill: Kill) -> Child {
    let itself = std::env::current_exe().unwrap();
    let mut command = match kill {
        Kill::All => {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]).arg(itself);
            command
        }
        Kill::Agent => Command::new(itself),
    };
    command
        .args(["--exact", THIS, "--nocapture"])
        .env(WORK, serde_json::to_string(work).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the process does that is killed: takes the order, or goes on with it.
fn carry_out(text: &str) {
    let Work { root, packages, bundle, hours } = serde_json::from_str(text).unwrap();
    let root = Scratch::of_another(root);
    let host = Host { debs: root.join("var/tmp/debs"), pool: Pool::default(), root };
    for package in &packages {
        host.pool.offer(package, &host.debs);
    }
    let now = || Timestamp::now() + SignedDuration::from_hours(hours);
    host.at_desk(&now, |desk| match bundle {
        Some(bundle) => {
            let answer = desk.take(&handed(&bundle)).unwrap();
            assert!(matches!(answer, Answer::Ended(_)), "{answer:?}");
        }
        None => drop(desk.resume().unwrap()),
    });
}

/// Three packages that belong together, with scripts that take a while.
fn build(host: &Host, number: u64) -> Vec<ExactPackage> {
    let version = format!("1.0-{number}");
    let mut data = Deb::new("kill-data", &version);
    data.files.extend(
        (0..40).map(|place| (format!("/usr/lib/kill-data/{place}"), format!("{version} {place}"))),
    );
    let mut library = Deb::new("kill-lib", &version);
    "sleep 0.05".clone_into(&mut library.postinst);
    let mut program = Deb::new("kill", &version);
    program.depends = format!("kill-lib (= {version}), kill-data (= {version})");
    program.files.push(("/etc/kill.conf".to_owned(), format!("version = {version}\n")));
    program.files.push(("/etc/kill-plain.conf".to_owned(), format!("plain = {version}\n")));
    "sleep 0.05".clone_into(&mut program.postinst);
    [data, library, program].iter().map(|deb| host.offer(deb)).collect()
}

/// A file that is none of a package's, which the order writes as well.
const WRITTEN: &str = "/etc/kill-written.conf";

/// What it has with a version.
fn content(version: &str) -> String {
    format!("written with {version}\n").repeat(2000)
}

/// The one version that all three have, with all that belongs to it.
fn whole(host: &Host) -> String {
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    let version = host.version("kill");
    assert_eq!(host.version("kill-lib"), version);
    assert_eq!(host.version("kill-data"), version);
    assert_eq!(host.read("/usr/lib/kill/version"), version);
    for place in 0..40 {
        let content = host.read(&format!("/usr/lib/kill-data/{place}"));
        assert_eq!(content, format!("{version} {place}"));
    }
    assert_eq!(host.read("/etc/kill.conf"), "the owner's own\n");
    assert_eq!(host.read("/etc/kill-plain.conf"), format!("plain = {version}\n"));
    assert_eq!(host.read(WRITTEN), content(&version));
    version
}

#[derive(Debug, Default)]
struct Tally {
    patched: u64,
    rolled_back: u64,
    refused: u64,
    lost: u64,
    not_killed: u64,
    interrupted_in: std::collections::BTreeMap<String, u64>,
}

#[test]
fn a_host_ends_patched_or_as_it_was() {
    if let Ok(text) = std::env::var(WORK) {
        return carry_out(&text);
    }
    if !runs_as_root(THIS) {
        return;
    }
    let (kills, seed) = (
        number("PATCHWRIGHT_KILLS").unwrap_or(KILLS),
        number("PATCHWRIGHT_KILL_SEED").unwrap_or(1),
    );
    let host = Host::new("killed");
    host.install(&build(&host, 1));
    host.write("/etc/kill.conf", "the owner's own\n");
    host.write(WRITTEN, &content("1.0-1"));
    let mut version = whole(&host);
    let mut random = Random::new(seed);
    let mut longest = 0;
    let mut tally = Tally::default();
    for kill in 0..=kills {
        let packages = build(&host, kill + 2);
        let after = content(&format!("1.0-{}", kill + 2));
        let file = write(WRITTEN, Some(&content(&version)), &after);
        let told = Told::to(vec![upgrade(&packages), file], kill + 1);
        let bundle = Some(told.bundle_with(&[after.as_bytes()]));
        let mut todo = Work { root: host.root.to_owned(), packages, bundle, hours: 0 };
        // The first one runs to its end, and says how long that is.
        let how = if random.below(4) == 0 { Kill::Agent } else { Kill::All };
        let began = Instant::now();
        let mut child = work(&todo, how);
        if kill == 0 {
            assert!(child.wait().unwrap().success());
            longest = u64::try_from(began.elapsed().as_millis()).unwrap();
            println!("seed {seed}: an execution takes {longest} ms");
        } else {
            thread::sleep(Duration::from_millis(random.below(longest)));
            if child.try_wait().unwrap().is_some() {
                tally.not_killed += 1;
            }
            let _ = child.kill();
            let _ = child.wait();
            wait_for_end(&host);
            let step = last_step(&host.state().directory().join("orders/journal"));
            *tally.interrupted_in.entry(step).or_default() += 1;
            // Starts again, in the window or after it; sometimes it is killed once more.
            todo.bundle = None;
            todo.hours = if random.below(2) == 0 { 0 } else { 2 };
            if random.below(3) == 0 {
                let mut child = work(&todo, Kill::All);
                thread::sleep(Duration::from_millis(random.below(longest)));
                let _ = child.kill();
                let _ = child.wait();
                wait_for_end(&host);
            }
            let status = work(&todo, Kill::All).wait().unwrap();
            assert!(status.success(), "seed {seed}, kill {kill}: the agent does not start again");
        }
        let results = host.state().results().unwrap();
        for result in &results {
            host.state().drop_result(result.execution).unwrap();
        }
        let ended = results.last().map(|result| &result.ended);
        let now = whole(&host);
        let new = format!("1.0-{}", kill + 2);
        match ended {
            Some(Ended::Done) => {
                assert_eq!(now, new, "seed {seed}, kill {kill}");
                tally.patched += 1;
            }
            Some(Ended::RolledBack { .. }) => {
                assert_eq!(now, version, "seed {seed}, kill {kill}");
                tally.rolled_back += 1;
            }
            Some(Ended::Refused { .. }) => {
                assert_eq!(now, version, "seed {seed}, kill {kill}");
                tally.refused += 1;
            }
            None => {
                assert_eq!(now, version, "seed {seed}, kill {kill}");
                tally.lost += 1;
            }
            Some(Ended::Stuck { because }) => panic!("seed {seed}, kill {kill}: {because}"),
        }
        assert!(!host.state().directory().join("orders/journal").exists());
        version = now;
        for old in fs::read_dir(&host.debs).unwrap() {
            fs::remove_file(old.unwrap().path()).unwrap();
        }
    }
    println!("{kills} kills: {tally:#?}");
}

/// Waits until the process that was killed is gone: its end takes a moment.
fn wait_for_end(host: &Host) {
    use rustix::fs::{FlockOperation, flock};
    let Ok(lock) = fs::File::open(host.state().directory().join("orders/lock")) else { return };
    flock(&lock, FlockOperation::LockExclusive).unwrap();
}

/// The step that was begun last.
fn last_step(journal: &Path) -> String {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let last = text.lines().rfind(|line| line.ends_with('}'));
    let step = last.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    step.map_or_else(|| "none".to_owned(), |step| step["step"].as_str().unwrap_or("?").to_owned())
}
