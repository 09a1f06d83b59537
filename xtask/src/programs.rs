//! The workspace's test programs, two at a time.
//!
//! `cargo test` runs one after the other, and many of them wait most of their time: for disks, for processes that they
//! started and killed, for a machine that boots on one processor.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::system::{output, root};

/// How many run at a time. Each runs several of its tests at a time, too.
const LANES: usize = 2;

/// What takes longest begins first, so that no lane works on alone in the end. The others follow in cargo's order.
const LONGEST: &[&str] = &["patchwright/it", "agent/it"];

/// Packages whose tests start machines, several at a time and within limits of time: one program of them at a time, early, so
/// that others have the second lane meanwhile.
const MACHINES: &[&str] = &["lab", "drivers"];

/// Where each writes what it says.
const SAID: &str = "target/tests";

/// A program of tests, as cargo built it.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Its package, and what it is called there if it is not the library's own.
    name: String,
    package: String,
    /// Its package's folder, where cargo would run it.
    folder: PathBuf,
    executable: PathBuf,
}

/// Those that nobody runs yet.
struct Waiting {
    programs: VecDeque<Program>,
    /// Whether one that starts machines is running.
    has_machines: bool,
}

/// The same for several lanes.
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn new(programs: Vec<Program>) -> Self {
        let waiting = Waiting { programs: programs.into(), has_machines: false };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// The first that may run, once one may.
    fn next(&self) -> Option<Program> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !waiting.programs.is_empty() {
            let has_machines = waiting.has_machines;
            let may = |it: &Program| !(has_machines && it.starts_machines());
            if let Some(at) = waiting.programs.iter().position(may) {
                let program = waiting.programs.remove(at)?;
                waiting.has_machines |= program.starts_machines();
                return Some(program);
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn ended(&self, starts_machines: bool) {
        if starts_machines {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.has_machines = false;
            self.changed.notify_all();
        }
    }
}

/// What came of one.
struct Ended {
    name: String,
    took: Duration,
    /// What went wrong.
    failure: Option<String>,
    said: PathBuf,
}

/// Builds all test programs by `cargo test` with these arguments, runs each to its end, and tells how long each took.
pub(crate) fn build_and_run(arguments: &[&str]) -> Result<()> {
    let further = ["--no-run", "--message-format=json-render-diagnostics"];
    let messages = output("cargo", &[arguments, &further].concat())?;
    let programs = longest_first(built(&messages)?)?;
    let said = root().join(SAID);
    fs::create_dir_all(&said).with_context(|| format!("cannot make `{SAID}`"))?;
    run(programs, &said, &mut std::io::stdout())
}

/// The test programs that cargo's messages tell of.
fn built(messages: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines() {
        let message: Value =
            serde_json::from_str(line).with_context(|| format!("cargo says `{line}`"))?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let text = |value: &Value| {
            let text = value.as_str().map(str::to_owned);
            text.with_context(|| format!("cargo does not say what is tested: `{line}`"))
        };
        let manifest = PathBuf::from(text(&message["manifest_path"])?);
        let folder = manifest.parent().context("a manifest lies in a folder")?.to_owned();
        let package = folder.file_name().context("a package's folder has a name")?;
        let package = package.to_string_lossy().into_owned();
        let name = match &message["target"]["kind"][0] {
            Value::String(kind) if kind == "lib" => package.clone(),
            _ => format!("{package}/{}", text(&message["target"]["name"])?),
        };
        let executable = PathBuf::from(text(&message["executable"])?);
        programs.push(Program { name, package, folder, executable });
    }
    ensure!(!programs.is_empty(), "cargo built no test program");
    Ok(programs)
}

fn longest_first(mut programs: Vec<Program>) -> Result<Vec<Program>> {
    for name in LONGEST {
        let is_there = programs.iter().any(|it| it.name == *name);
        ensure!(
            is_there,
            "there is no test program `{name}`\n\
             help: see to `LONGEST` in {}",
            file!()
        );
    }
    let place = |it: &Program| LONGEST.iter().position(|name| it.name == *name);
    programs.sort_by_key(|it| (place(it).unwrap_or(LONGEST.len()), !it.starts_machines()));
    Ok(programs)
}

/// Runs each to its end, whatever comes of others. What one says is shown whole when it has ended.
fn run(programs: Vec<Program>, said: &Path, shown: &mut impl Write) -> Result<()> {
    let begun = Instant::now();
    let queue = Queue::new(programs);
    let (tell, told) = mpsc::channel();
    let mut all = thread::scope(|scope| -> Result<Vec<Ended>> {
        for _ in 0..LANES {
            let (tell, queue) = (tell.clone(), &queue);
            scope.spawn(move || {
                while let Some(program) = queue.next() {
                    let ended = program.run(said);
                    queue.ended(program.starts_machines());
                    // Nobody listens any more where it could not be shown.
                    let _ = tell.send(ended);
                }
            });
        }
        drop(tell);
        let mut all = Vec::new();
        for ended in told {
            ended.show(shown)?;
            all.push(ended);
        }
        Ok(all)
    })?;
    all.sort_by_key(|it| std::cmp::Reverse(it.took));
    let whole = begun.elapsed().as_secs();
    writeln!(shown, "\n{} test programs in {whole} s, {LANES} at a time:", all.len())?;
    for ended in &all {
        let failed = if ended.failure.is_some() { "  FAILED" } else { "" };
        writeln!(shown, "{:>7.1} s  {}{failed}", ended.took.as_secs_f64(), ended.name)?;
    }
    let failed: Vec<&str> =
        all.iter().filter(|it| it.failure.is_some()).map(|it| it.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("{} of {} test programs failed: {}", failed.len(), all.len(), failed.join(", "));
    }
    Ok(())
}

impl Program {
    fn starts_machines(&self) -> bool {
        MACHINES.contains(&self.package.as_str())
    }

    fn run(&self, said: &Path) -> Ended {
        eprintln!("  + {}", self.executable.display());
        let begun = Instant::now();
        let said = said.join(format!("{}.log", self.name.replace('/', "-")));
        let failure = match self.status(&said) {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("it ended with {status}")),
            Err(error) => Some(format!("{error:#}")),
        };
        Ended { name: self.name.clone(), took: begun.elapsed(), failure, said }
    }

    /// Not through a pipe: what a test leaves running would keep one open.
    fn status(&self, said: &Path) -> Result<std::process::ExitStatus> {
        let output =
            File::create(said).with_context(|| format!("cannot write {}", said.display()))?;
        let errors = output.try_clone()?;
        let status = Command::new(&self.executable)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("CARGO_MANIFEST_PATH", self.folder.join("Cargo.toml"))
            .env("CARGO_PKG_NAME", &self.package)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .status();
        status.with_context(|| format!("cannot start {}", self.executable.display()))
    }
}

impl Ended {
    fn show(&self, shown: &mut impl Write) -> Result<()> {
        writeln!(shown, "\n=== {}, {:.1} s", self.name, self.took.as_secs_f64())?;
        // What was said may be no text, and is shown as it is.
        let said = fs::read(&self.said).unwrap_or_default();
        shown.write_all(&said)?;
        if let Some(failure) = &self.failure {
            writeln!(shown, "{}: {failure}", self.name)?;
        }
        shown.flush()?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn artifact(package: &str, kind: &str, name: &str, is_test: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("/code/crates/{package}/Cargo.toml"),
            "target": { "kind": [kind], "name": name },
            "profile": { "test": is_test },
            "executable": (kind != "lib" || is_test).then(|| format!("/built/{package}-{kind}-{name}")),
        })
        .to_string()
    }

    #[test]
    fn what_cargo_built_to_be_tested_is_run_in_its_package() {
        let messages = [
            r#"{"reason":"build-script-executed","out_dir":"/built"}"#.to_owned(),
            artifact("agent", "lib", "agent", false),
            artifact("agent", "bin", "agent", false),
            artifact("agent", "lib", "agent", true),
            artifact("agent", "bin", "agent", true),
            artifact("agent", "test", "it", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];

        let programs = built(&messages.join("\n")).unwrap();

        let names: Vec<&str> = programs.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["agent", "agent/agent", "agent/it"]);
        let folder = "/code/crates/agent".into();
        let executable = "/built/agent-test-it".into();
        let last = Program {
            name: "agent/it".to_owned(),
            package: "agent".to_owned(),
            folder,
            executable,
        };
        assert_eq!(programs[2], last);
        assert!(built("warning: not what was asked for").is_err());
        assert!(built(&artifact("agent", "lib", "agent", false)).is_err(), "nothing is tested");
    }

    #[test]
    fn the_longest_begin_and_none_of_them_is_forgotten() {
        let of = |names: &[&str]| {
            let script = |name: &&str| script(name, "/");
            names.iter().map(script).collect::<Vec<_>>()
        };
        let mut names = LONGEST.to_vec();
        names.reverse();
        names.insert(0, "domain");
        names.push("lab");

        let sorted = longest_first(of(&names)).unwrap();

        let sorted: Vec<&str> = sorted.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(sorted, [LONGEST, &["lab", "domain"]].concat());
        let error = longest_first(of(&LONGEST[1..])).unwrap_err();
        assert!(error.to_string().contains(LONGEST[0]), "{error}");
    }

    /// A program of this name which is that one.
    fn script(name: &str, executable: impl Into<PathBuf>) -> Program {
        Program {
            name: name.to_owned(),
            package: name.to_owned(),
            folder: std::env::temp_dir(),
            executable: executable.into(),
        }
    }

    /// Runs shell scripts in a place of their own; what was shown, and what went wrong.
    fn ran(scripts: &[(&str, &str)]) -> (String, Option<String>) {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let programs = scripts.iter().map(|(name, text)| {
            let path = place.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            Program { folder: place.path().to_owned(), ..script(name, path) }
        });
        let mut shown = Vec::new();
        let outcome = run(programs.collect(), place.path(), &mut shown);
        (String::from_utf8(shown).unwrap(), outcome.err().map(|error| error.to_string()))
    }

    #[test]
    fn one_that_fails_hides_no_other() {
        let (shown, error) = ran(&[
            ("fails", "echo it does not hold; exit 101"),
            ("is-killed", "kill -9 $$"),
            (
                "holds",
                "echo \"$CARGO_PKG_NAME in $(pwd)\" >&2; test \"$(pwd)\" = \"$CARGO_MANIFEST_DIR\"",
            ),
            ("holds-too", "true"),
        ]);

        assert!(shown.contains("=== fails") && shown.contains("it does not hold\n"), "{shown}");
        assert!(shown.contains("fails: it ended with exit status: 101"), "{shown}");
        assert!(shown.contains("holds in /"), "{shown}");
        assert!(shown.contains("4 test programs"), "{shown}");
        assert_eq!(shown.matches("  FAILED\n").count(), 2, "{shown}");
        let error = error.unwrap();
        assert!(error.starts_with("2 of 4 test programs failed: "), "{error}");
        assert!(error.contains("fails") && error.contains("is-killed"), "{error}");
        assert!(!error.contains("holds"), "{error}");
    }

    #[test]
    fn one_that_cannot_be_started_has_failed() {
        let place = tempfile::tempdir().unwrap();
        let programs = vec![script("lost", place.path().join("nothing"))];

        let error = run(programs, place.path(), &mut Vec::new()).unwrap_err();

        assert_eq!(error.to_string(), "1 of 1 test programs failed: lost");
    }

    #[test]
    fn two_run_at_a_time_and_what_they_say_is_not_mixed() {
        let waits = "mkfifo first second 2>/dev/null; echo begins; timeout 60 sh -c";
        let first = format!("{waits} 'echo > first; read it < second' && echo ends");
        let second = format!("{waits} 'read it < first; echo > second' && echo ends");

        let (shown, error) = ran(&[("a", &first), ("b", &second)]);

        assert_eq!(error, None, "{shown}");
        assert_eq!(shown.matches("begins\nends\n").count(), 2, "{shown}");
    }

    #[test]
    fn none_that_starts_machines_runs_beside_another_one() {
        let (shown, error) = ran(&[
            ("lab", "mkfifo go; mkdir machines && timeout 60 cat go && rmdir machines"),
            ("drivers", "touch began; mkdir machines && rmdir machines"),
            (
                "domain",
                "until test -p go; do :; done; test ! -e began; ended=$?; echo > go; exit $ended",
            ),
        ]);

        assert_eq!(error, None, "{shown}");
    }
}
