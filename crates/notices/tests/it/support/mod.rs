//! Programs of other people that read what we send, installed by `cargo xtask test` into
//! `target/notices`.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use notices::content::{Draft, Kind, Notice};
use notices::sample::{Fullness, sample};
use serde_json::Value;

/// A full notice of a kind with something altered.
pub(crate) fn altered(kind: Kind, alter: impl FnOnce(&mut Draft)) -> Notice {
    let mut draft = sample(kind, Fullness::Full).draft().clone();
    alter(&mut draft);
    Notice::new(draft).unwrap()
}

/// Python with the packages; where it is not there, the test says that it is skipped.
pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/notices/bin/python3");
    if python.exists() {
        return Some(python);
    }
    eprintln!("SKIPPED: the readers are not installed; `cargo xtask test` does that");
    None
}

fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// What a script says of its input, as JSON.
pub(crate) fn asked(python: &Path, name: &str, input: &str) -> Value {
    let mut child = script(python, name).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{name} failed: {said}");
    serde_json::from_str(&said).unwrap()
}

/// A server in a script: says its port first, then a line of JSON for each thing that it gets.
pub(crate) struct Server {
    child: Child,
    said: Receiver<String>,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(python: &Path, name: &str, arguments: &[&str]) -> Self {
        let mut child = script(python, name).args(arguments).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        // Read at once: a server whose words nobody takes stands still.
        let (say, said) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|it| say.send(it)));
        let mut server = Self { child, said, port: 0 };
        server.port = server.next()["port"].as_u64().unwrap().try_into().unwrap();
        server
    }

    /// The next thing that it got.
    pub(crate) fn next(&mut self) -> Value {
        let line = self.said.recv_timeout(Duration::from_secs(60)).expect("the server says more");
        serde_json::from_str(&line).unwrap()
    }

    /// All that it got and that was not asked for yet; it ends with that.
    pub(crate) fn rest(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        self.said.iter().map(|line| serde_json::from_str(&line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for this machine with its key, in files, and in PEM for who believes it.
pub(crate) struct Identity {
    folder: tempfile::TempDir,
    pub(crate) pem: Vec<u8>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, pem: made.cert.pem().into_bytes() }
    }

    pub(crate) fn files(&self) -> [String; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name).display().to_string())
    }
}
