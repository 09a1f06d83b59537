//! The control plane as a process: started from nothing, killed in the middle of its work, started
//! again. `PATCHWRIGHT_KILLS` sets how often it is killed.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::up::{self, Up, verify};
use serde_json::{Value, json};

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
        // What is published verifies as the kill left it, and continues what was seen before.
        if data.join("ledger/checkpoint").exists() {
            verify(&data, &up.key, &kept, kept.exists());
        }
    }
    assert!(kept.exists(), "nothing was ever published before a kill");

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
    let key = up.key.clone();
    assert!(up.end("-TERM"));
    verify(&data, &key, &kept, true);
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
        .args(["up", "--no-check", "--listen", "0.0.0.0:0", "--agents", "127.0.0.1:0", "--data"])
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

#[test]
fn a_lost_password_is_replaced_from_the_machine_itself() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let reset = |login: &str, data: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command.args(["user", "reset", login, "--data"]).arg(data).output().unwrap()
    };
    let early = reset("admin", &data);
    assert!(String::from_utf8_lossy(&early.stderr).contains("there is no control plane"));
    let up = Up::start(&data);
    let token = up.sign_in();

    let done = reset("admin", &data);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told = String::from_utf8(done.stdout).unwrap();
    let password = told.split_whitespace().nth(3).unwrap();

    let sign_in = |password: &str| {
        let body = json!({ "login": "admin", "password": password });
        up.ask("", "POST", "/session", &body, "").unwrap().0
    };
    assert_eq!([sign_in(up::PASSWORD), sign_in(password)], [401, 201]);
    let (status, _) = up.ask(&token, "GET", "/cis", &Value::Null, "").unwrap();
    assert_eq!(status, 401, "sessions of before have ended");
    let nobody = reset("nobody", &data);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nobody signs in as `nobody`"));
}
