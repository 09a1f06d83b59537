//! The control plane on a disk that fails or is full, at one write or sync after another.
//! `PATCHWRIGHT_FAULT_STEP` sets how many of them are left out between two tries (1: none).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::up::{self, Up, verify};
use serde_json::{Value, json};

/// Items that are asked for in each try.
const ITEMS: usize = 8;

/// A disk that fails, and a data directory from which each try begins.
struct Bench {
    directory: tempfile::TempDir,
    /// Where programs may lie: memory may be mounted so that none do.
    _built: tempfile::TempDir,
    library: PathBuf,
}

/// What came of one try.
struct Outcome {
    acknowledged: Vec<String>,
    refused: Vec<(u16, Value)>,
}

impl Bench {
    fn new() -> Self {
        let (directory, built) = (crate::memory::directory(), tempfile::tempdir().unwrap());
        let library = built.path().join("faulty_disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/faulty_disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .status()
            .unwrap();
        assert!(compiled.success());
        assert!(Up::start(&directory.path().join("fresh")).end("-TERM"));
        Self { directory, _built: built, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A copy of the fresh data directory.
    fn data(&self) -> PathBuf {
        let data = self.path("data");
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        let copied =
            Command::new("cp").arg("-a").arg(self.path("fresh")).arg(&data).status().unwrap();
        assert!(copied.success());
        data
    }

    /// Starts on a disk that fails at an operation, asks for items, and stops it the hard way
    /// (`-KILL`) or the orderly one.
    fn try_at(&self, data: &Path, kind: &str, at: u64, many: u64, signal: &str) -> Outcome {
        let mut outcome = Outcome { acknowledged: Vec::new(), refused: Vec::new() };
        let (at, many) = (at.to_string(), many.to_string());
        let variables = [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAULT_DIR", data.to_str().unwrap()),
            ("FAULT_KIND", kind),
            ("FAULT_AT", &at),
            ("FAULT_FOR", &many),
            ("FAULT_COUNT", &self.path("count").display().to_string()),
        ];
        let Some(up) = Up::start_with(data, &[], &variables) else { return outcome };
        let body = json!({ "login": "admin", "password": up::PASSWORD });
        let token = match up.ask("", "POST", "/session", &body, "sign-in") {
            Some((201, session)) => session["secret"].as_str().unwrap().to_owned(),
            Some(refused) => {
                outcome.refused.push(refused);
                return outcome;
            }
            None => return outcome,
        };
        for number in 0..ITEMS {
            let name = format!("vm-{number}");
            let body =
                json!({ "tenant": "ten_00000000000000000000000000", "class": "vm", "name": name });
            match up.ask(&token, "POST", "/cis", &body, &name) {
                Some((201, _)) => outcome.acknowledged.push(name),
                Some(refused) => outcome.refused.push(refused),
                None => {}
            }
            // Reading goes on whatever happens to writing.
            let read = up.ask(&token, "GET", "/cis", &Value::Null, "");
            assert_eq!(read.map(|(status, _)| status), Some(200), "at {at}");
        }
        up.end(signal);
        outcome
    }

    /// On a disk that works again: everything acknowledged is there, and the ledger is whole.
    fn check(&self, data: &Path, outcome: &Outcome, what: &str) {
        let up = Up::start(data);
        let names = up.all_names(&up.sign_in());
        for name in &outcome.acknowledged {
            assert!(names.contains(name), "{what}: {name} is lost");
        }
        let key = up.key.clone();
        assert!(up.end("-TERM"), "{what}");
        verify(data, &key, &self.path("kept"), false);
        for (status, problem) in &outcome.refused {
            assert!(*status == 503, "{what}: {status} {problem}");
            assert!(problem["help"].is_string(), "{what}: {problem}");
        }
    }
}

fn step() -> usize {
    std::env::var("PATCHWRIGHT_FAULT_STEP").ok().and_then(|it| it.parse().ok()).unwrap_or(29)
}

#[test]
fn whichever_write_or_sync_fails_nothing_acknowledged_is_lost() {
    let bench = Bench::new();
    let data = bench.data();
    let whole = bench.try_at(&data, "eio", 0, 0, "-TERM");
    assert_eq!((whole.acknowledged.len(), whole.refused.len()), (ITEMS, 0));
    let operations: u64 = fs::read_to_string(bench.path("count")).unwrap().trim().parse().unwrap();
    assert!(operations > 50, "{operations}: the faulty disk is not in the way");

    let (mut tries, mut refused) = (0, 0);
    for at in (1..=operations).step_by(step()) {
        let data = bench.data();
        let outcome = bench.try_at(&data, "eio", at, 1, "-KILL");
        bench.check(&data, &outcome, &format!("EIO at {at}"));
        tries += 1;
        refused += outcome.refused.len();
    }
    assert!(refused > 0, "no fault was ever felt");
    eprintln!("{tries} of {operations} operations failed in turn, {refused} requests were refused");
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room_again() {
    let bench = Bench::new();
    let data = bench.data();
    bench.try_at(&data, "full", 0, 0, "-TERM");
    let operations: u64 = fs::read_to_string(bench.path("count")).unwrap().trim().parse().unwrap();

    let mut recovered = 0;
    for at in (1..=operations).step_by(step()) {
        let data = bench.data();
        let outcome = bench.try_at(&data, "full", at, 6, "-TERM");
        bench.check(&data, &outcome, &format!("full at {at}"));
        let last = format!("vm-{}", ITEMS - 1);
        recovered +=
            usize::from(!outcome.refused.is_empty() && outcome.acknowledged.contains(&last));
    }
    assert!(recovered > 0, "after a full disk no request was ever taken again");
}
