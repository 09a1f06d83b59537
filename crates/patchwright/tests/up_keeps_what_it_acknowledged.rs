//! The control plane as a process: started from nothing, killed in the middle of its work, started
//! again. `PATCHWRIGHT_KILLS` sets how often it is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const PASSWORD: &str = "a password of many words";

/// A running `patchwright up`; killed where it is dropped.
struct Up {
    process: Child,
    console: String,
    key: String,
}

impl Up {
    fn start(data: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["up", "--no-check", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("PATCHWRIGHT_PASSWORD", PASSWORD)
            .env_remove("PATCHWRIGHT_DATABASE")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut found = BTreeMap::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((name, value)) = line.trim().split_once("  ") {
                found.insert(name.to_owned(), value.trim().to_owned());
            }
            if found.contains_key("data") {
                break;
            }
        }
        let console = found["console"].trim_end_matches('/').to_owned();
        Self { process, console, key: found["ledger"].clone() }
    }

    /// `None` where the server went away before it answered.
    fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Option<(u16, Value)> {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(60)))
                .build(),
        );
        let address = format!("{}/api/v1{path}", self.console);
        let authorization = format!("Bearer {token}");
        let mut response = if method == "GET" {
            agent.get(address).header("authorization", authorization).call().ok()?
        } else {
            agent
                .post(address)
                .header("authorization", authorization)
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .send(body.to_string())
                .ok()?
        };
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).ok()?))
    }

    fn sign_in(&self) -> String {
        let body = json!({ "login": "admin", "password": PASSWORD });
        let (status, session) = self.ask("", "POST", "/session", &body, "sign-in").unwrap();
        assert_eq!(status, 201, "{session}");
        session["secret"].as_str().unwrap().to_owned()
    }

    fn all_names(&self, token: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/cis?limit=1000{after}");
            let (_, page) = self.ask(token, "GET", &path, &Value::Null, "").unwrap();
            let items = page["items"].as_array().unwrap();
            names.extend(items.iter().map(|ci| ci["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return names,
            }
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn verify(data: &Path, key: &str, kept: &Path, since: bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command.args(["ledger", "verify"]).arg(data.join("ledger")).args(["--key", key]);
    if since {
        command.arg("--since").arg(kept);
    }
    let output = command.arg("--keep").arg(kept).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_killed_control_plane_loses_nothing_and_doubles_nothing() {
    const WRITERS: u64 = 4;
    let kills: u64 =
        std::env::var("PATCHWRIGHT_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(100);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let kept = directory.path().join("checkpoint.kept");
    let next = AtomicU64::new(0);
    let mut acknowledged = Vec::new();
    let mut unanswered: Vec<String> = Vec::new();

    for kill in 0..kills {
        let mut up = Up::start(&data);
        let token = up.sign_in();
        let tenant = "ten_00000000000000000000000000";
        let create = |name: &str| {
            let body = json!({ "tenant": tenant, "class": "vm", "name": name });
            // The key is the name: asking again must not make a second one.
            up.ask(&token, "POST", "/cis", &body, name)
        };
        // What had no answer the last time is asked for again, with the same key.
        for name in unanswered.drain(..) {
            assert_eq!(create(&name).map(|(status, _)| status), Some(201), "{name}");
            acknowledged.push(name);
        }
        let pid = up.process.id().to_string();
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut written = Vec::new();
                        loop {
                            let name = format!("vm-{}", next.fetch_add(1, Ordering::SeqCst));
                            match create(&name) {
                                Some((201, _)) => written.push((name, true)),
                                Some((status, problem)) => panic!("{status} {problem}"),
                                None => {
                                    written.push((name, false));
                                    return written;
                                }
                            }
                        }
                    })
                })
                .collect();
            // At another moment each time: before, while and after the recorder publishes.
            thread::sleep(Duration::from_millis(40 + kill * 37 % 600));
            assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        up.process.wait().unwrap();
        for (name, was_answered) in written {
            if was_answered { acknowledged.push(name) } else { unanswered.push(name) }
        }
    }

    let up = Up::start(&data);
    let token = up.sign_in();
    let mut names = up.all_names(&token);
    names.sort_unstable();
    let total = names.len();
    names.dedup();
    assert_eq!(names.len(), total, "an item was made twice");
    let lost: Vec<_> = acknowledged.iter().filter(|it| names.binary_search(it).is_err()).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let strange: Vec<_> = names
        .iter()
        .filter(|name| !acknowledged.contains(name) && !unanswered.contains(name))
        .collect();
    assert!(strange.is_empty(), "nobody asked for {strange:?}");

    // An orderly end publishes the rest: then as many entries say `ci.created` as there are items.
    let pid = up.process.id().to_string();
    let mut up = up;
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(up.process.wait().unwrap().success());
    verify(&data, &up.key, &kept, false);
    let up = Up::start(&data);
    let token = up.sign_in();
    let (mut created, mut from) = (0, 0);
    loop {
        let path = format!("/events?limit=1000&from={from}");
        let (_, page) = up.ask(&token, "GET", &path, &Value::Null, "").unwrap();
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            break;
        }
        created += items.iter().filter(|event| event["kind"] == "ci.created").count();
        from = page["next"].as_u64().unwrap();
    }
    assert_eq!(created, total);
    verify(&data, &up.key, &kept, true);
    eprintln!("{kills} kills, {} acknowledged, {total} items", acknowledged.len());
}

#[test]
fn up_refuses_to_be_reached_from_elsewhere_without_tls() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .args(["up", "--no-check", "--listen", "0.0.0.0:0", "--data"])
        .arg(directory.path().join("data"))
        .output()
        .unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("there is no TLS") && told.contains("help:"), "{told}");
}

#[test]
fn what_up_makes_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let _up = Up::start(&data);

    for (path, mode) in [(data.clone(), 0o700), (data.join("master.key"), 0o600)] {
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o777,
            mode,
            "{}",
            path.display()
        );
    }
}
