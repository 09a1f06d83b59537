//! A witness under somebody else's hand cosigns the ledger, and notices when it takes something back.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::up::Up;
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";

fn patchwright(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patchwright")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running `patchwright witness serve`; killed where it is dropped.
struct Witness {
    process: Child,
    address: String,
}

impl Witness {
    fn start(data: &Path, log: &str) -> Self {
        Self::start_at("127.0.0.1:0", data, log)
    }

    fn start_at(listen: &str, data: &Path, log: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["witness", "serve", "--listen", listen, "--log", log, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| {
            line.trim().strip_prefix("address").map(|address| address.trim().to_owned())
        });
        Self { process, address: address.unwrap() }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A witness' directory and its public key.
fn new_witness(directory: &Path) -> (PathBuf, String) {
    let data = directory.join("witness");
    let made =
        patchwright(&["witness", "init", "--data", text(&data), "--name", "tenant.example/w"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (data, String::from_utf8(made.stdout).unwrap().trim().to_owned())
}

fn policy(directory: &Path, log: &str, witness: &str, address: &str) -> PathBuf {
    let path = directory.join("policy");
    let lines = format!("log {log}\nwitness ours {witness} {address}\nquorum ours\n");
    fs::write(&path, lines).unwrap();
    path
}

/// Asks until the answer is as wanted; its last form where it never is.
fn eventually<T>(what: impl Fn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let now = what();
        if wanted(&now) || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn metric(up: &Up, name: &str) -> Option<u64> {
    let text = ureq::get(format!("{}/metrics", up.console)).call().ok()?;
    let text = text.into_body().read_to_string().ok()?;
    text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
}

fn witnessed_size(data: &Path) -> u64 {
    let file = fs::read_to_string(data.join("ledger/checkpoint.witnessed")).unwrap_or_default();
    file.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

fn kinds(up: &Up, token: &str) -> Vec<String> {
    let (_, page) = up.ask(token, "GET", "/events?limit=1000", &Value::Null, "").unwrap();
    let items = page["items"].as_array().unwrap();
    items.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

fn write(up: &Up, token: &str, name: &str) {
    let body = json!({ "tenant": PROVIDER, "class": "vm", "name": name });
    assert_eq!(up.ask(token, "POST", "/cis", &body, name).unwrap().0, 201);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn what_is_published_is_cosigned_and_what_is_taken_back_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let data = directory.join("data");
    let (of_witness, key) = new_witness(directory);
    let first = Up::start(&data);
    let log = first.key.clone();
    write(&first, &first.sign_in(), "before");
    assert!(first.end("-TERM"));

    let witness = Witness::start(&of_witness, &log);
    let policy = policy(directory, &log, &key, &witness.address);
    let start = |data: &Path| {
        Up::start_with(data, &["--witnesses", text(&policy)], &[]).expect("it starts")
    };
    let verify = |data: &Path| {
        patchwright(&["ledger", "verify", text(&data.join("ledger")), "--policy", text(&policy)])
    };

    let up = start(&data);
    let token = up.sign_in();
    let old = witnessed_size(&data);
    write(&up, &token, "watched");
    let seen = eventually(|| witnessed_size(&data), |&size| size > old);
    assert!(seen > old, "a new checkpoint is cosigned");
    assert!(up.end("-TERM"));
    let verified = verify(&data);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    // The provider goes back to an earlier state, and on from there as if nothing had been.
    let earlier = directory.join("earlier");
    copy(&data, &earlier);
    let up = start(&data);
    let token = up.sign_in();
    let old = witnessed_size(&data);
    for number in 0..3 {
        write(&up, &token, &format!("undone-{number}"));
    }
    eventually(|| witnessed_size(&data), |&size| size >= old + 3);
    assert!(up.end("-TERM"));
    fs::remove_dir_all(&data).unwrap();
    copy(&earlier, &data);

    let up = start(&data);
    let token = up.sign_in();
    write(&up, &token, "instead");
    let told = eventually(
        || kinds(&up, &token),
        |kinds| kinds.iter().any(|kind| kind == "witness.refused"),
    );
    assert_eq!(told.iter().filter(|kind| *kind == "witness.refused").count(), 1, "{told:?}");
    write(&up, &token, "more");
    let refusals = "patchwright_witness_refusals_total{witness=\"ours\"}";
    assert!(eventually(|| metric(&up, refusals), |count| *count >= Some(2)) >= Some(2));
    let again = kinds(&up, &token);
    assert_eq!(again.iter().filter(|kind| *kind == "witness.refused").count(), 1, "{again:?}");
    let behind = metric(&up, "patchwright_witness_behind_entries{witness=\"ours\"}").unwrap();
    assert!(behind > 0, "nothing of this history is cosigned");
    assert!(up.end("-TERM"));
    // What the witness keeps is the proof, for whoever doubts.
    let kept = fs::read_dir(of_witness.join("logs")).unwrap().next().unwrap().unwrap().path();
    let (rewritten, since) = (data.join("ledger"), text(&kept).to_owned());
    let told =
        patchwright(&["ledger", "verify", text(&rewritten), "--key", &log, "--since", &since]);
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stdout));
}

#[test]
fn a_witness_that_is_away_stops_nobody_and_is_caught_up_with() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let data = directory.join("data");
    let (of_witness, key) = new_witness(directory);
    let first = Up::start(&data);
    let log = first.key.clone();
    assert!(first.end("-TERM"));
    let witness = Witness::start(&of_witness, &log);
    let policy = policy(directory, &log, &key, &witness.address);
    let address = witness.address.clone();
    drop(witness);

    let up = Up::start_with(&data, &["--witnesses", text(&policy)], &[]).unwrap();
    let token = up.sign_in();
    write(&up, &token, "unwatched");

    let name = "patchwright_witness_behind_entries{witness=\"ours\"}";
    assert!(eventually(|| metric(&up, name), |behind| *behind > Some(0)) > Some(0));
    assert_eq!(witnessed_size(&data), 0);

    let listen = address.trim_start_matches("http://");
    let _back = Witness::start_at(listen, &of_witness, &log);
    assert!(eventually(|| witnessed_size(&data), |size| *size > 0) > 0);
    assert_eq!(eventually(|| metric(&up, name), |behind| *behind == Some(0)), Some(0));
}

#[test]
fn a_witness_keeps_its_key_to_itself_and_watches_logs_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (data, key) = new_witness(directory.path());

    let again = patchwright(&["witness", "init", "--data", text(&data), "--name", "other.example"]);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && told.contains("there is a witness in"), "{told}");

    let wrong = patchwright(&["witness", "serve", "--data", text(&data), "--log", &key]);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("is a witness' key"), "{told}");

    fs::set_permissions(data.join("witness.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let log = "example.com/log+00000000+AA";
    let open = patchwright(&["witness", "serve", "--data", text(&data), "--log", log]);
    let told = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(!open.status.success() && told.contains("others can read"), "{told}");
}

#[test]
fn a_policy_that_names_nobody_to_ask_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy");
    let (_, key) = new_witness(directory.path());
    fs::write(&path, format!("witness ours {key}\nquorum ours\n")).unwrap();

    let data = directory.path().join("data");
    let refused = patchwright(&[
        "up",
        "--no-check",
        "--listen",
        "127.0.0.1:0",
        "--agents",
        "127.0.0.1:0",
        "--data",
        text(&data),
        "--witnesses",
        text(&path),
    ]);

    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("no witness in it has an address"),
        "{told}"
    );
}
