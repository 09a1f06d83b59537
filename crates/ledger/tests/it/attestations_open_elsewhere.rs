//! securesystemslib, which is nobody's of ours, verifies what we attest and refuses it once altered.
//!
//! `cargo xtask test` installs it into `target/securesystemslib`. Where it is not there, this is skipped,
//! and said so.
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ledger::attestation::{Attestor, Digest, Statement};
use serde_json::{Value, json};

#[test]
fn securesystemslib_agrees() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../target/securesystemslib/bin/python3");
    if !python.exists() {
        eprintln!("SKIPPED: securesystemslib is not installed; `cargo xtask test` does that");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (envelope, key) = (folder.path().join("envelope.json"), folder.path().join("key.pem"));
    let attestor = Attestor::new(&[7; 32]);
    let statement = Statement::new("https://in-toto.io/attestation/test-result/v0.1")
        .about("web.qcow2", Digest::of(b"image"))
        .saying(&json!({ "result": "PASSED", "note": "Grüße, \u{2028} and \"quotes\"" }))
        .unwrap();
    let attested = serde_json::to_value(attestor.attest(&statement).unwrap()).unwrap();
    fs::write(&key, attestor.key().to_string()).unwrap();
    let verified = |carried: &Value| -> Output {
        fs::write(&envelope, carried.to_string()).unwrap();
        let script = root.join("tests/peers/dsse.py");
        Command::new(&python).arg(script).args([&envelope, &key]).output().unwrap()
    };

    let good = verified(&attested);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let seen: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(seen, serde_json::to_value(&statement).unwrap());

    let mut altered = attested.clone();
    let payload = attested["payload"].as_str().unwrap();
    let text = String::from_utf8(BASE64_STANDARD.decode(payload).unwrap()).unwrap();
    altered["payload"] = BASE64_STANDARD.encode(text.replace("PASSED", "FAILED")).into();
    assert_eq!(verified(&altered).status.code(), Some(1));
    fs::write(&key, Attestor::new(&[8; 32]).key().to_string()).unwrap();
    assert_eq!(verified(&attested).status.code(), Some(1), "another key");
}
