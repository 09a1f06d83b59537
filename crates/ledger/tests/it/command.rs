//! `patchwright-verify` as people run it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use crate::world::{self, Memory, entries, event, key, open, payload};
use ledger::{Directory, Hash, Storage as _};
use serde_json::Value;

fn verify(arguments: &[&str]) -> Output {
    verify_with(arguments, None)
}

fn verify_with(arguments: &[&str], token: Option<&str>) -> Output {
    let vkey = key().verifier().to_string();
    let program = env!("CARGO_BIN_EXE_patchwright-verify");
    let mut command = Command::new(program);
    command.args(arguments).args(["--key", &vkey]).env_remove("PATCHWRIGHT_TOKEN");
    if let Some(token) = token {
        command.env("PATCHWRIGHT_TOKEN", token);
    }
    command.output().unwrap()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = verify(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(arguments: &[&str], status: i32) -> String {
    let output = verify(arguments);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn export(storage: &Memory, to: &Path) {
    let directory = Directory::new(to);
    for (path, bytes) in storage.files() {
        directory.put(&path, &bytes).unwrap();
    }
}

fn world(size: u64) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    export(&world::log(size), folder.path());
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_sound_log_is_told_in_a_few_lines() {
    let (_folder, log) = world(600);

    let told = succeeds(&[&log]);

    assert_eq!(
        told,
        format!(
            "cloud.example/audit: sound
  entries     600, each read, 2026-03-01 08:00:00Z to 2026-03-01 08:00:22Z
  tiles       4, each computed again
  root        {}
  signed by   {}
  witnesses   none asked for
  continues   not asked: keep a checkpoint and give it with --since
  payloads    not asked
",
            open(&world::log(600)).unwrap().published().unwrap().claimed().root,
            key().verifier(),
        )
    );
}

#[test]
fn a_kept_checkpoint_is_what_the_next_run_holds_the_log_to() {
    let (folder, log) = world(600);
    let (_shorter, shorter) = world(300);
    let kept = folder.path().join("kept");
    let kept = kept.to_str().unwrap();

    succeeds(&[&shorter, "--keep", kept]);
    let told = succeeds(&[&log, "--since", kept, "--keep", kept]);
    assert!(told.contains("continues   the earlier checkpoint of 300 entries"), "{told}");

    let error = fails(&[&shorter, "--since", kept], 1);
    assert!(
        error.starts_with(
            "error: the log was rolled back: it had 600 entries, now it has 300\n  help: "
        ),
        "{error}"
    );
    assert!(succeeds(&[&log, "--since", kept, "--entry", "3"]).contains("entry 3"));
    fails(&[&shorter, "--since", kept, "--entry", "3"], 1);
}

#[test]
fn an_altered_log_fails_in_both_formats() {
    let (folder, log) = world(300);
    let bundle = folder.path().join("tile/entries/001.p/44");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    fs::write(&bundle, bytes).unwrap();

    let error = fails(&[&log], 1);
    assert!(error.starts_with("error: entry 256 was altered: "), "{error}");

    let output = verify(&[&log, "--format", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told["sound"], false);
    assert!(told["help"].as_str().unwrap().contains("fetch the log again"));
}

#[test]
fn one_entry_is_printed_and_proven() {
    let (folder, log) = world(600);
    let proof = folder.path().join("entry.tlog-proof");

    let told = succeeds(&[&log, "--entry", "300", "--proof", proof.to_str().unwrap()]);

    assert!(told.starts_with("entry 300 is in cloud.example/audit, of 600 entries\n"), "{told}");
    assert!(told.contains(&format!("object      {}, version 1", event(300).object)));
    let receipt = ledger::Receipt::parse(&fs::read(proof).unwrap()).unwrap();
    assert!(receipt.verify(&entries(300..301)[0], &world::trust()).is_ok());

    let told = succeeds(&[&log, "--entry", "300", "--format", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["entry"]["sequence"], 300);

    let error = fails(&[&log, "--entry", "600"], 1);
    assert!(error.contains("600 is beyond the log's 600 entries"), "{error}");
}

#[test]
fn payloads_are_files_that_sha256sum_checks_too() {
    let (folder, log) = world(300);
    let payloads = folder.path().join("payloads");
    let place = |sequence: u64| {
        let (salt, payload) = payload(sequence);
        let bytes = [&salt[..], &payload].concat();
        let name = Hash::of(&bytes).to_hex();
        (payloads.join(&name[..2]).join(&name), bytes)
    };
    for sequence in 0..100 {
        let (path, bytes) = place(sequence);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let given = payloads.to_str().unwrap();

    let told = succeeds(&[&log, "--payloads", given]);
    assert!(told.contains("payloads    100 as committed, 200 not here"), "{told}");

    fs::write(place(42).0, "another").unwrap();
    let error = fails(&[&log, "--payloads", given], 1);
    assert!(error.starts_with("error: the payload `report` of entry 42 was altered"), "{error}");
}

#[test]
fn a_policy_can_ask_for_witnesses() {
    let (folder, log) = world(300);
    let policy = folder.path().join("policy");
    let witness = world::witness_key(1);
    fs::write(&policy, format!("witness ours {}\nquorum ours\n", witness.verifier())).unwrap();
    let given = policy.to_str().unwrap();

    let error = fails(&[&log, "--policy", given], 1);
    assert!(
        error.contains("the quorum `ours` is not met") || error.contains("missing: ours"),
        "{error}"
    );

    fs::write(&policy, "quorum nobody\n").unwrap();
    let error = fails(&[&log, "--policy", given], 2);
    assert!(error.contains("line 1 of the policy"), "{error}");
    assert!(error.contains("`nobody` is not defined on an earlier line"), "{error}");
}

#[test]
fn what_is_not_understood_is_told_apart_from_what_does_not_hold() {
    let (_folder, log) = world(3);
    let program = env!("CARGO_BIN_EXE_patchwright-verify");
    let run = |arguments: &[&str]| Command::new(program).args(arguments).output().unwrap();

    assert_eq!(run(&[&log]).status.code(), Some(2), "no key");
    let bad = run(&[&log, "--key", "x"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("NAME+ID+BASE64"));
    fails(&["ftp://cloud.example/audit"], 2);
    assert!(fails(&["/nowhere"], 1).contains("help: give the directory"));
}

/// Serves files to as many requests as come; ends with the test.
fn serve(storage: &Memory) -> String {
    serve_to(storage, None)
}

/// The same, where only whoever brings the token gets an answer.
fn serve_to(storage: &Memory, token: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = std::sync::Arc::new(storage.files());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, files) = (stream.unwrap(), files.clone());
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut request = String::new();
                    if lines.read_line(&mut request).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut header = request.clone();
                    let mut may = token.is_none();
                    while header.trim() != "" {
                        header.clear();
                        lines.read_line(&mut header).unwrap();
                        let brought = header.trim().strip_prefix("authorization: Bearer ");
                        may = may || brought.is_some() && brought == token;
                    }
                    let path = request.split(' ').nth(1).unwrap().strip_prefix("/audit/").unwrap();
                    let (status, body) = match files.get(path) {
                        _ if !may => ("401 Unauthorized", &[][..]),
                        None => ("404 Not Found", &[][..]),
                        Some(bytes) => ("200 OK", &bytes[..]),
                    };
                    let head =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
                }
            });
        }
    });
    format!("http://{address}/audit/")
}

#[test]
fn a_log_is_verified_over_http() {
    let address = serve(&world::log(600));

    assert!(succeeds(&[&address]).contains("entries     600"));
    assert!(succeeds(&[&address, "--entry", "599"]).contains("entry 599"));

    let address = serve_to(&world::log(3), Some("pwt_secret"));
    assert!(fails(&[&address], 1).contains("put an API token into PATCHWRIGHT_TOKEN"));
    assert!(verify_with(&[&address], Some("pwt_secret")).status.success());

    let damaged = world::log(600);
    damaged.lose("tile/entries/001");
    let error = fails(&[&serve(&damaged)], 1);
    assert!(error.contains("`tile/entries/001` is missing from a log of 600 entries"), "{error}");
}
