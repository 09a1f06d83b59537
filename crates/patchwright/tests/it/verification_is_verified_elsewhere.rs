//! What a look came to, as the verifier signed it, verified by OpenSSL with the very commands that the
//! documentation gives.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use domain::change::{FileHash, Nonce, Payload as _, PlanHash};
use domain::cloud::Id;
use domain::fleet::SetDigest;
use domain::priority::PolicyRef;
use domain::verification::{Claim, Occasion, Record, Sighting, Verdict};
use jiff::Timestamp;
use ledger::attestation::Attestor;
use serde_json::Value;

fn record() -> Record {
    let at = Timestamp::from_second(1_900_000_000).unwrap();
    Record {
        id: Id::new(at, [1; 10]),
        release: Id::new(at, [2; 10]),
        change: Id::new(at, [3; 10]),
        tenant: Id::new(at, [4; 10]),
        ci: Id::new(at, [5; 10]),
        claim: Claim {
            plan: PlanHash::from([6; 32]),
            stage: 1,
            order: Nonce::from([7; 16]),
            agent: Some(Id::new(at, [8; 10])),
            execution: Some(Id::new(at, [9; 10])),
            result: Some(FileHash::from([10; 32])),
            answered_at: Some(at),
        },
        occasion: Occasion::AfterOrder,
        seen: Some(Sighting {
            agent: Id::new(at, [8; 10]),
            package_set: SetDigest::from([11; 32]),
            facts: None,
            kernel: Some("6.1.0-2-amd64".to_owned()),
            files: None,
            seen_at: at,
        }),
        verdict: Verdict::Verified { newer: Vec::new() },
        policy: PolicyRef { name: "x1642-default".to_owned(), version: "1.0.0".to_owned() },
        knowledge: None,
        verified_at: at,
    }
}

/// The commands of `docs/releases.md`, in a directory.
fn verify_elsewhere(directory: &Path) -> Output {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/releases.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (_, rest) = docs.split_once("\n## Verified, and on which word\n").unwrap();
    let (_, rest) = rest.split_once("```sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    Command::new("bash").current_dir(directory).args(["-c", script]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn openssl_verifies_what_the_verifier_signed_and_nothing_else() {
    let (directory, verifier) = (tempfile::tempdir().unwrap(), Attestor::new(&[7; 32]));
    let [envelope, key] = ["verification.json", "verifier.pem"].map(|it| directory.path().join(it));
    let signed = verifier.sign(&record().to_payload()).unwrap();
    let signed = serde_json::to_value(&signed).unwrap();
    fs::write(&envelope, signed.to_string()).unwrap();
    fs::write(&key, verifier.key().to_string()).unwrap();

    let opened = verify_elsewhere(directory.path());

    let said = text(&opened.stdout);
    assert!(opened.status.success(), "{said}{}", text(&opened.stderr));
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    assert!(said.contains(r#""is": "verified""#) && said.contains("6.1.0-2-amd64"), "{said}");

    let mut altered: Value = signed.clone();
    let payload = BASE64_STANDARD.decode(signed["payload"].as_str().unwrap()).unwrap();
    let payload = text(&payload).replace("verified\"", "conflict\"");
    altered["payload"] = BASE64_STANDARD.encode(payload).into();
    fs::write(&envelope, altered.to_string()).unwrap();
    assert!(!verify_elsewhere(directory.path()).status.success(), "altered");
    fs::write(&envelope, signed.to_string()).unwrap();
    fs::write(&key, Attestor::new(&[8; 32]).key().to_string()).unwrap();
    assert!(!verify_elsewhere(directory.path()).status.success(), "another key");
}
