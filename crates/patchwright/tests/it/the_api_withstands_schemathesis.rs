//! The API does what its document says: schemathesis makes requests of it, right ones and wrong ones, and
//! judges each answer by the document. `cargo xtask test` installs it; without, this is skipped.
//!
//! To run it longer: `PATCHWRIGHT_SCHEMATHESIS_EXAMPLES=1000 cargo test -p patchwright --test
//! the_api_withstands_schemathesis`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::up::{self, Up};

/// Requests of each operation that are made up, beside those that the document's limits give.
const EXAMPLES: &str = "8";

/// The same requests each time.
const SEED: &str = "20261125";

/// What an answer is judged by. Left out are checks that ask for what the document does not promise: that
/// everything which fits the schema is accepted (names are taken, versions are stale), and the like.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    missing_required_header,unsupported_method,allow_header_conformance,ignored_auth";

/// Operations that at least one request must use as they are meant; else all of this is about refusals.
const MET: usize = 30;

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
    let data = crate::memory::directory();
    let up = Up::start(data.path());
    let (token, ids) = admin_with_a_cloud(&up);
    let examples = env::var("PATCHWRIGHT_SCHEMATHESIS_EXAMPLES").unwrap_or(EXAMPLES.to_owned());

    let mut run = Command::new(&program);
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    run.current_dir(data.path())
        .env("PYTHONPATH", &peers)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PATCHWRIGHT_IDS", ids.to_string())
        .arg("--config-file")
        .arg(peers.join("schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", up.console))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--checks", CHECKS, "--seed", SEED, "--max-examples", &examples])
        .args(["--workers", "1", "--request-timeout", "20", "--continue-on-failure"])
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
    let report: Value = serde_json::from_str(&report).unwrap();
    println!("{}", told.split_once("= SUMMARY =").map_or(told.as_str(), |(_, summary)| summary));
    let (operations, cases) = (&report["operations"], &report["test_cases"]);
    assert_eq!(operations["tested"], operations["selected"], "{operations}");
    assert_eq!(
        operations["total"],
        operations["selected"].as_u64().unwrap() + LEFT_OUT.len() as u64
    );
    assert_eq!((&cases["with_failures"], &cases["errored"]), (&0.into(), &0.into()));
    // Right requests were among them, that found what they are about.
    let accepted = |operation: &&Value| {
        let phases = operation.as_object().unwrap().values();
        phases.filter_map(|phase| phase["accepted"].as_u64()).sum::<u64>() > 0
    };
    let met = report["valid_rates"].as_object().unwrap().values().filter(accepted).count();
    println!("{met} operations did what they were asked for");
    assert!(met >= MET, "only {met} operations were ever used rightly");
    // It stood, and let the administrator in to the end.
    let (status, _) = up.ask(&token, "GET", "/session", &Value::Null, "").unwrap();
    assert_eq!(status, 200);
}

/// Something of each kind for the requests to meet: the token of somebody who may do everything, and ids.
fn admin_with_a_cloud(up: &Up) -> (String, Value) {
    let session = up.sign_in();
    let made = |path: &str, body: &Value| {
        let key = format!("{path}{body}").replace(' ', "");
        let (status, made) = up.ask(&session, "POST", path, body, &key).unwrap();
        assert!(status < 300, "{path}: {made}");
        made
    };
    let tenant = made("/tenants", &json!({ "slug": "acme", "name": "Acme", "model": "iaas" }));
    let tenant = &tenant["id"];
    let ci = |name: &str| {
        let ci = json!({ "tenant": tenant, "class": "vm", "name": name });
        made("/cis", &ci)["id"].clone()
    };
    let cis = [ci("web"), ci("db"), ci("cache")];
    let group = made("/groups", &json!({ "tenant": tenant, "name": "all" }));
    let user = json!({
        "tenant": tenant, "login": "owner", "name": "Owner", "role": "tenant_owner",
        "password": up::PASSWORD,
    });
    let user = made("/users", &user);
    let osv = json!({
        "schema_version": "1.7.0", "id": "ACME-1", "modified": "2026-01-02T03:04:05Z",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": "web" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "2" }] }],
        }],
    });
    let advisory = made("/advisories", &json!({ "osv": osv }));
    let token = made("/tokens", &json!({ "name": "test", "access": "write", "days": 1 }));
    let ids = json!({
        "tenant": [tenant], "tenants": [tenant],
        "cis": cis, "ci": cis, "to": cis,
        "group": [group["id"]], "groups": [group["id"]],
        "users": [user["id"]], "advisories": [advisory["id"]],
        "sequence": [0, 1, 2], "kind": ["depends_on"],
    });
    (token["secret"].as_str().unwrap().to_owned(), ids)
}
