//! Somebody who types commands of the client, against a control plane of their own.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::up::{PASSWORD, Up};

/// That we look at a tenant's events is an event of its own.
pub(crate) const LOOKED: &str = "records.retrieved";

/// A control plane, and a home directory of somebody who uses it.
pub(crate) struct World {
    pub(crate) up: Up,
    pub(crate) home: TempDir,
    pub(crate) data: TempDir,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let data = crate::memory::directory();
        let up = Up::start(data.path());
        let world = Self { up, home: tempfile::tempdir().unwrap(), data };
        let url = world.up.console.clone();
        let said = world.typed(&["login", &url, "--login", "admin"], PASSWORD);
        assert_eq!(said.code, 0, "{}", said.err);
        world
    }

    /// A command as it is typed, in this home and with nothing else around it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn typed(&self, arguments: &[&str], input: &str) -> Said {
        said(self.command(arguments), input)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.typed(arguments, "")
    }

    /// What a command that succeeds prints.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}: {}", said.out);
        said.out
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Waits until so many events are recorded, those not counted that tell of our looking; the ledger
    /// is told of them within a second.
    pub(crate) fn recorded(&self, events: usize) {
        let mut watching =
            Watching(self.command(&["get", "events", "-w", "-o", "json"]).spawn().unwrap());
        let lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
        let happened = lines.map(Result::unwrap).filter(|line| !line.contains(LOOKED));
        assert_eq!(happened.take(events).count(), events);
    }

    /// Waits until the ledger has an event of a kind.
    pub(crate) fn happened(&self, kind: &str) {
        let mut watching =
            Watching(self.command(&["get", "events", "-w", "-o", "json"]).spawn().unwrap());
        let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(&format!("\"{kind}\""))));
    }

    /// What `describe` says, once the ledger has so many events.
    pub(crate) fn described(&self, kind: &str, name: &str, events: usize) -> String {
        self.recorded(events);
        let mut is_event = false;
        let mut out = String::new();
        for line in steady(&self.ok(&["describe", kind, name])).lines() {
            // What the machine of the test is like is not for us to say.
            let own = [LOOKED, "host name", "agent:", "key sha256", "runtime", "architecture"];
            if own.iter().any(|it| line.trim_start().trim_start_matches("TIME  ").starts_with(it)) {
                continue;
            }
            // Nor in which order two things were recorded that nobody waited for.
            let line = if is_event { line.rsplit_once("  ").unwrap_or((line, "")).0 } else { line };
            is_event |= line == "latest events";
            out.push_str(line);
            out.push('\n');
        }
        out
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

pub(crate) fn said(mut command: Command, input: &str) -> Said {
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // Who does not read it has its reasons.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same text for every run: ids, times and ports are another's each time. Columns get narrower or
/// wider with them, so runs of spaces become two.
pub(crate) fn steady(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut words = Vec::new();
        for column in line.trim_start().split("  ").map(str::trim).filter(|it| !it.is_empty()) {
            words.push(column.split(' ').map(steady_word).collect::<Vec<_>>().join(" "));
        }
        out.push_str(&" ".repeat(indent));
        out.push_str(&words.join("  ").replace("DAY TIME", "TIME"));
        out.push('\n');
    }
    out
}

pub(crate) fn steady_word(word: &str) -> String {
    let core = word.trim_matches(|c: char| "\"'`,()[]".contains(c));
    let (prefix, name) = core.rsplit_once('/').map_or(("", core), |(before, name)| (before, name));
    let is_id = name.split_once('_').is_some_and(|(kind, rest)| {
        kind.len() <= 3 && rest.len() == 26 && rest.chars().all(|c| c.is_ascii_alphanumeric())
    });
    let day = |text: &str| text.len() == 10 && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    let steady = if is_id && name.ends_with("00000000000000000000000000") {
        "PROVIDER".to_owned()
    } else if is_id {
        let kind = name.split('_').next().unwrap_or_default();
        if prefix.is_empty() { format!("{kind}_ID") } else { format!("{prefix}/{kind}_ID") }
    } else if day(core) {
        "DAY".to_owned()
    } else if core.len() >= 16 && core.get(..10).is_some_and(day) && core.contains('T') {
        "MOMENT".to_owned()
    } else if core.ends_with('Z') && core.len() == 6 && core.contains(':') {
        "TIME".to_owned()
    } else if let Some(rest) = core.strip_prefix("http://127.0.0.1:") {
        format!("http://HERE{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
    } else {
        return word.to_owned();
    };
    word.replace(core, &steady)
}

pub(crate) struct Watching(pub(crate) Child);

impl Drop for Watching {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
