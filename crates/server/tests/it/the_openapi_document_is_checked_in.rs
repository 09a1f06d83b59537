//! `docs/openapi.json` is what the routes say. A change of it is a change of the API, to be seen in
//! review. To take it up: `PATCHWRIGHT_UPDATE=1 cargo test -p server --test
//! the_openapi_document_is_checked_in`.

use std::path::Path;

#[test]
fn the_document_is_that_of_the_routes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let now = server::openapi() + "\n";
    if std::env::var_os("PATCHWRIGHT_UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }

    let kept = std::fs::read_to_string(&path).unwrap_or_default();

    assert!(
        kept == now,
        "docs/openapi.json is not what the routes say; the head of this test tells how to update it"
    );
}

/// Every operation tells what it answers, refusals included.
#[test]
fn every_operation_is_described() {
    let document: serde_json::Value = serde_json::from_str(&server::openapi()).unwrap();

    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert!(answers.contains_key("401") && answers.contains_key("503"), "{method} {path}");
        }
    }
}
