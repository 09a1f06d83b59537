//! The API does what its document says: schemathesis makes requests of it, right ones and wrong ones, and
//! judges each answer by the document. `cargo xtask test` installs it; without, this is skipped.
//!
//! To run it longer: `PATCHWRIGHT_SCHEMATHESIS_EXAMPLES=1000 cargo test -p patchwright --test
//! the_api_withstands_schemathesis`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/up.rs"]
mod up;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use up::Up;

/// Requests of each operation that are made up, beside those that the document's limits give.
const EXAMPLES: &str = "8";

/// The same requests each time.
const SEED: &str = "20261125";

/// What an answer is judged by. Left out are checks that ask for what the document does not promise: that
/// everything which fits the schema is accepted (names are taken, versions are stale), and the like.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    missing_required_header,unsupported_method,allow_header_conformance,ignored_auth";

/// Operations that are not tried: the first never ends its answer, and the others would take away what the
/// requests are made with, where it hits upon the administrator's own id.
const LEFT_OUT: [(&str, &str); 3] = [
    ("GET", "/api/v1/events/stream"),
    ("POST", "/api/v1/users/{id}/reset"),
    ("DELETE", "/api/v1/tokens/{id}"),
];

#[test]
fn no_request_brings_an_answer_that_the_document_does_not_know() {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/schemathesis/bin/schemathesis");
    if !program.exists() {
        eprintln!(
            "SKIPPED: there is no schemathesis at {}; `cargo xtask test` installs it",
            program.display()
        );
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path());
    let token = admin_with_a_cloud(&up);
    let examples = env::var("PATCHWRIGHT_SCHEMATHESIS_EXAMPLES").unwrap_or(EXAMPLES.to_owned());

    let mut run = Command::new(&program);
    run.current_dir(data.path())
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", up.console))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--checks", CHECKS, "--seed", SEED, "--max-examples", &examples])
        .args(["--workers", "2", "--request-timeout", "20", "--continue-on-failure"])
        .args(["--generation-database", "none", "--suppress-health-check", "all"])
        .args(["--warnings", "off", "--no-color", "--report", "json"])
        .args(["--report-json-path", "report.json"]);
    for (method, path) in LEFT_OUT {
        let name = format!("{method} {path}");
        run.args(["--exclude-name", &name]);
    }
    let output = run.output().unwrap();

    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report = fs::read_to_string(data.path().join("report.json")).unwrap();
    let _report: Value = serde_json::from_str(&report).unwrap();
    println!("{told}");
    // It stood, and let the administrator in to the end.
    let (status, _) = up.ask(&token, "GET", "/session", &Value::Null, "").unwrap();
    assert_eq!(status, 200);
}

/// Something of each kind for the requests to meet; the token of somebody who may do everything.
fn admin_with_a_cloud(up: &Up) -> String {
    let session = up.sign_in();
    let made = |path: &str, body: Value| {
        let (status, made) = up.ask(&session, "POST", path, &body, path).unwrap();
        assert!(status < 300, "{path}: {made}");
        made
    };
    let tenant = made("/tenants", json!({ "slug": "acme", "name": "Acme", "model": "iaas" }));
    made("/cis", json!({ "tenant": tenant["id"], "class": "vm", "name": "web" }));
    made("/groups", json!({ "tenant": tenant["id"], "name": "all" }));
    let token = made("/tokens", json!({ "name": "test", "access": "write", "days": 1 }));
    token["secret"].as_str().unwrap().to_owned()
}
