//! An rpm that is ended in the middle of a transaction, with the agent or without, leaves a host that ends
//! patched or as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use domain::order::{Bundle, Ended};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::rpm_world::{Rpm, RpmHost, System, host, tool};
use crate::support::{Told, handed, runs_as_root, upgrade};

/// The test, which runs itself again as the process that is killed.
const THIS: &str = "rpm_interrupted::a_host_ends_patched_or_as_it_was";

/// Names what that process is to do; nobody else has it.
const WORK: &str = "PATCHWRIGHT_RPM_WORK";

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Serialize, Deserialize)]
struct Work {
    root: PathBuf,
    /// An order to take; without one the agent starts again.
    bundle: Option<Bundle>,
    /// How far its clock is ahead, in hours.
    hours: i64,
}

/// The agent, as this program again, in a namespace that ends with it: all that it started ends as well.
fn agent(work: &Work) -> Child {
    Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", THIS, "--nocapture"])
        .env(WORK, serde_json::to_string(work).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn carry_out(text: &str) {
    let Work { root, bundle, hours } = serde_json::from_str(text).unwrap();
    let host = RpmHost::again(root);
    let now = || Timestamp::now() + SignedDuration::from_hours(hours);
    host.at_desk(&now, |desk| match bundle {
        Some(bundle) => drop(desk.take(&handed(&bundle)).unwrap()),
        None => drop(desk.resume().unwrap()),
    });
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills an agent and all that it started, and waits until nothing of it lives.
fn kill(mut child: Child, host: &RpmHost) {
    use rustix::fs::{FlockOperation, flock};
    let _ = child.kill();
    let _ = child.wait();
    let lock = host.state().directory().join("orders/lock");
    let Ok(lock) = fs::File::open(lock) else { return };
    flock(&lock, FlockOperation::LockExclusive).unwrap();
}

/// What came of the execution; its result is dropped.
fn ended(host: &RpmHost) -> Option<Ended> {
    let results = host.state().results().unwrap();
    for result in &results {
        host.state().drop_result(result.execution).unwrap();
    }
    assert!(!host.state().directory().join("orders/journal").exists());
    results.into_iter().last().map(|result| result.ended)
}

/// That all of a version is there, and nothing else.
fn is_patched(host: &RpmHost, version: &str, when: &str) {
    for name in ["tool", "tool-lib"] {
        assert_eq!(host.version(name), version, "{when}");
    }
    let mut left: Vec<_> = fs::read_dir(host.root.join("usr/lib/tool"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let only = format!("only-{version}");
    let there = ["directory", "gone", "link", "one", only.as_str(), "other", "patched", "version"];
    assert_eq!(left, there, "{when}");
    assert_eq!(host.read("/etc/tool.conf"), "the owner's own\n", "{when}");
    assert_eq!(host.read("/etc/tool-replaced.conf"), "the owner's own as well\n", "{when}");
    let plain = format!("/etc/tool-plain.conf of {version}\n");
    assert_eq!(host.read("/etc/tool-plain.conf"), plain, "{when}");
    let note = host.state().directory().join("work/rpm-unfinished.json");
    assert!(!note.exists(), "{when}");
}

/// A script that is never done until it was interrupted once.
fn stops() -> String {
    "[ -e /var/tmp/reached ] || { touch /var/tmp/reached; while :; do sleep 1; done; }".to_owned()
}

/// The tool, with a script of one of its packages in which it stops. Those that run when the old one goes are
/// the old one's.
fn stopping(version: &str, package: usize, section: &'static str) -> [Rpm; 2] {
    let mut rpms = tool(version);
    rpms[package].scripts = vec![(section, stops())];
    rpms
}

/// Everything is ended where rpm is at one of the places in a transaction; the agent starts again, with the
/// window open or over.
#[test]
fn a_host_ends_patched_or_as_it_was() {
    if let Ok(text) = std::env::var(WORK) {
        return carry_out(&text);
    }
    if !runs_as_root(THIS) {
        return;
    }
    let host = host("interrupted");
    let reached = host.root.join("var/tmp/reached");
    let mut sequence = 0;
    let mut number = 1;
    for hours in [2, 0] {
        for (place, section) in
            [(0, "%pre"), (0, "%post"), (1, "%pre"), (1, "%post"), (1, "%preun"), (1, "%postun")]
        {
            let when = format!("{section} of package {place}, {hours} hours later");
            // What runs when the old one goes has to be in it.
            let is_of_old = matches!(section, "%preun" | "%postun");
            if is_of_old {
                fs::write(&reached, "").unwrap();
                number += 1;
                let old = stopping(&format!("1.0-{number}"), place, section);
                let old: Vec<_> = old.iter().map(|rpm| host.offer(rpm)).collect();
                sequence += 1;
                assert_eq!(host.result(vec![upgrade(&old)], sequence).ended, Ended::Done);
                ended(&host);
                fs::remove_file(&reached).unwrap();
            }
            let before = host.system();
            let _ = fs::remove_file(&reached);
            number += 1;
            let version = format!("1.0-{number}");
            let rpms = if is_of_old { tool(&version) } else { stopping(&version, place, section) };
            let new: Vec<_> = rpms.iter().map(|rpm| host.offer(rpm)).collect();
            sequence += 1;
            let told = Told::to(vec![upgrade(&new)], sequence);
            let bundle = Some(told.bundle());
            let child = agent(&Work { root: host.root.to_owned(), bundle, hours: 0 });
            wait_until(&when, || reached.exists());
            kill(child, &host);

            let mut again = agent(&Work { root: host.root.to_owned(), bundle: None, hours });
            assert!(again.wait().unwrap().success(), "{when}");

            let ended = ended(&host);
            if hours == 0 {
                assert_eq!(ended, Some(Ended::Done), "{when}");
                is_patched(&host, &version, &when);
            } else {
                assert!(matches!(ended, Some(Ended::RolledBack { .. })), "{when}: {ended:?}");
                host.system().assert_is(&before, &when);
            }
        }
    }
}

/// The same at each step of the journal: as soon as it is there, everything is ended.
#[test]
fn at_each_step_a_host_ends_patched_or_as_it_was() {
    if !runs_as_root("rpm_interrupted::at_each_step_a_host_ends_patched_or_as_it_was") {
        return;
    }
    let host = host("steps");
    let journal = host.state().directory().join("orders/journal");
    let mut before: System = host.system();
    let mut current = "1.0-1".to_owned();
    let mut came = Vec::new();
    for step in 0_usize..8 {
        let number = u64::try_from(step).unwrap();
        let version = format!("1.0-{}", number + 2);
        let when = format!("after step {step}");
        let new: Vec<_> = tool(&version).iter().map(|rpm| host.offer(rpm)).collect();
        let told = Told::to(vec![upgrade(&new)], number + 1);
        let bundle = Some(told.bundle());
        let mut child = agent(&Work { root: host.root.to_owned(), bundle, hours: 0 });
        let has_ended = || !host.state().results().unwrap().is_empty();
        wait_until(&when, || steps(&journal) > step || has_ended());
        let _ = child.try_wait();
        kill(child, &host);
        // In the window or after it.
        let hours = if step % 2 == 0 { 0 } else { 2 };
        let mut again = agent(&Work { root: host.root.to_owned(), bundle: None, hours });
        assert!(again.wait().unwrap().success(), "{when}");

        let ended = ended(&host);
        match &ended {
            Some(Ended::Done) => {
                is_patched(&host, &version, &when);
                before = host.system();
                current = version;
            }
            Some(Ended::RolledBack { .. } | Ended::Refused { .. }) | None => {
                assert_eq!(host.version("tool"), current, "{when}");
                host.system().assert_is(&before, &when);
            }
            Some(Ended::Stuck { because }) => panic!("{when}: {because}"),
        }
        came.push(ended);
    }
    println!("{came:#?}");
    assert!(came.contains(&Some(Ended::Done)), "{came:#?}");
    assert!(came.iter().any(|it| !matches!(it, Some(Ended::Done))), "{came:#?}");
}

fn steps(journal: &Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().lines().count()
}

/// rpm alone is ended, by a script of the package: the agent lives, and goes back.
#[test]
fn where_rpm_dies_the_host_goes_back() {
    if !runs_as_root("rpm_interrupted::where_rpm_dies_the_host_goes_back") {
        return;
    }
    let host = host("dies");
    let before = host.system();
    for (number, section) in ["%pre", "%post"].into_iter().enumerate() {
        let [library, mut program] = tool(&format!("1.0-{}", number + 2));
        program.scripts = vec![(section, "kill -9 $PPID".to_owned())];
        let new: Vec<_> = [library, program].iter().map(|rpm| host.offer(rpm)).collect();

        let result = host.result(vec![upgrade(&new)], u64::try_from(number).unwrap() + 1);

        assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
        host.system().assert_is(&before, section);
    }
}
