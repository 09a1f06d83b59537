//! CISA's catalogue is taken whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use std::path::Path;

use collect::kev::{self, Catalogue, KevError};

const CATALOGUE: &str = include_str!("data/kev.json");

fn parse(from: &str, to: &str) -> Result<Catalogue, KevError> {
    assert!(CATALOGUE.contains(from), "{from}");
    kev::parse("kev.json", CATALOGUE.replace(from, to).as_bytes())
}

fn refusal(from: &str, to: &str) -> String {
    let error = parse(from, to).unwrap_err();
    assert!(error.help().is_some());
    error.to_string()
}

#[test]
fn a_whole_catalogue_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kev.json");

    let catalogue = kev::load(Path::new(path)).unwrap();

    assert_eq!(catalogue.version, "2025.08.25");
    assert_eq!(catalogue.released.to_string(), "2025-08-25T17:04:19.9796Z");
    assert_eq!(catalogue.entries.len(), 11);
    let log4shell = &catalogue.entries["CVE-2021-44228"];
    assert_eq!(log4shell.date_added, "2021-12-10");
    assert_eq!(log4shell.due_date, "2021-12-24");
    assert!(log4shell.ransomware);
    assert!(!catalogue.entries["CVE-2022-0847"].ransomware);
    assert_eq!(catalogue.sha256.len(), 64);
}

#[test]
fn a_catalogue_with_fewer_entries_than_declared_is_refused() {
    assert_eq!(
        refusal(r#""count": 11"#, r#""count": 12"#),
        "the KEV catalogue `kev.json` declares 12 entries and holds 11"
    );
}

#[test]
fn an_empty_catalogue_is_refused() {
    let empty = br#"{"catalogVersion":"1","dateReleased":"2025-08-25T17:04:19Z","count":0,"vulnerabilities":[]}"#;

    assert!(matches!(kev::parse("kev.json", empty), Err(KevError::Count { .. })));
}

#[test]
fn a_damaged_entry_is_named() {
    assert!(
        refusal(r#""CVE-2021-44228""#, r#""CVE-21-44228""#)
            .ends_with("of the KEV catalogue `kev.json`: `CVE-21-44228` is no CVE id")
    );
    assert!(
        refusal(r#""CVE-2021-44228""#, r#""DEBIAN-CVE-2021-44228""#)
            .ends_with("`DEBIAN-CVE-2021-44228` is no CVE id")
    );
    assert!(refusal("2021-12-24", "2021-13-24").ends_with("`2021-13-24` is no date"));
    assert!(refusal("2021-12-24", "soon").ends_with("`soon` is no date"));
    assert_eq!(
        refusal("CVE-2022-0847", "CVE-2021-44228"),
        "the KEV catalogue `kev.json` lists CVE-2021-44228 twice"
    );
}

#[test]
fn what_is_no_catalogue_is_refused() {
    assert!(refusal("vulnerabilities", "items").contains("missing field `vulnerabilities`"));
    assert!(refusal("2025-08-25T17:04:19.9796Z", "today").contains("dateReleased `today`"));
    assert!(kev::parse("kev.json", &CATALOGUE.as_bytes()[..500]).is_err());
    assert!(kev::parse("kev.json", b"<html>").is_err());
}

#[test]
fn a_missing_file_is_named() {
    let error = kev::load(Path::new("/nowhere/kev.json")).unwrap_err();

    assert_eq!(error.to_string(), "cannot read the KEV catalogue `/nowhere/kev.json`");
}
