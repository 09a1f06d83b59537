//! The loader says of real records what a plain reading of their JSON says.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use collect::osv::{self, Wanted};
use domain::advisory::{PackageScope, RangeEnd};
use domain::version::VersionKind;
use serde_json::Value;

const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/almalinux9.osv.jsonl");

type Triple = (String, String, Option<String>);

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn plainly_read() -> BTreeMap<String, (BTreeSet<Triple>, BTreeSet<String>)> {
    let lines = std::fs::read_to_string(RECORDS).unwrap();
    lines
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let mut triples = BTreeSet::new();
            for affected in record["affected"].as_array().unwrap() {
                for range in affected["ranges"].as_array().unwrap() {
                    let fixed = range["events"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .find_map(|event| event.get("fixed").map(text));
                    let package = &affected["package"];
                    triples.insert((text(&package["ecosystem"]), text(&package["name"]), fixed));
                }
            }
            let cves = record["related"].as_array().unwrap().iter().map(text).collect();
            (text(&record["id"]), (triples, cves))
        })
        .collect()
}

#[test]
fn real_records_are_read_as_their_json_says() {
    let load = osv::load(Path::new(RECORDS), &Wanted::Everything).unwrap();

    let loaded: BTreeMap<_, _> = load
        .advisories
        .iter()
        .map(|advisory| {
            let triples: BTreeSet<Triple> = advisory
                .affected
                .iter()
                .flat_map(|affected| {
                    affected.ranges.iter().map(|range| {
                        assert_eq!(range.introduced, None);
                        let fixed = match &range.end {
                            RangeEnd::Fixed(version) => Some(version.clone()),
                            RangeEnd::LastAffected(_) | RangeEnd::Unfixed => None,
                        };
                        (affected.ecosystem.clone(), affected.package.clone(), fixed)
                    })
                })
                .collect();
            let cves: BTreeSet<String> = advisory.cves.iter().cloned().collect();
            (advisory.id.clone(), (triples, cves))
        })
        .collect();

    assert_eq!(load.records, 40);
    assert_eq!(load.skipped, []);
    assert_eq!(loaded, plainly_read());
    assert_eq!(load.newest.unwrap().to_string(), newest_in_file());
}

fn newest_in_file() -> String {
    let lines = std::fs::read_to_string(RECORDS).unwrap();
    let modified =
        lines.lines().map(|line| text(&serde_json::from_str::<Value>(line).unwrap()["modified"]));
    modified.max().unwrap()
}

#[test]
fn rpm_records_name_binary_packages_and_carry_the_vendors_word() {
    let load = osv::load(Path::new(RECORDS), &Wanted::Everything).unwrap();

    let httpd = load.advisories.iter().find(|one| one.id == "ALSA-2026:41906").unwrap();
    assert_eq!(httpd.vendor_severity.as_deref(), Some("Important"));
    assert!(httpd.affected.iter().any(|affected| affected.package == "mod_ssl"));
    for affected in &httpd.affected {
        assert_eq!(affected.scope, PackageScope::Binary);
        assert_eq!(affected.version_kind, VersionKind::Rpm);
    }
}

#[test]
fn other_ecosystems_are_counted_and_left_out() {
    let wanted =
        |names: &[&str]| Wanted::Ecosystems(names.iter().map(|&name| name.to_owned()).collect());

    let nine = osv::load(Path::new(RECORDS), &wanted(&["AlmaLinux:9"])).unwrap();
    let ten = osv::load(Path::new(RECORDS), &wanted(&["AlmaLinux:10", "Debian:12"])).unwrap();

    assert_eq!((nine.records, nine.advisories.len()), (40, 40));
    assert_eq!((ten.records, ten.advisories.len(), ten.newest), (40, 0, None));
}

#[test]
fn a_release_is_wanted_in_each_of_its_spellings() {
    let wanted = |name: &str| Wanted::Ecosystems(BTreeSet::from([name.to_owned()]));

    assert!(wanted("Ubuntu:22.04").wants("Ubuntu:22.04:LTS"));
    assert!(wanted("Ubuntu:22.04:LTS").wants("Ubuntu:22.04"));
    assert!(wanted("Debian:12").wants("Debian"));
    assert!(!wanted("Debian:12").wants("Debian:1"));
    assert!(!wanted("Debian:1").wants("Debian:12"));
    assert!(!wanted("Ubuntu:22.04:LTS").wants("Ubuntu:Pro:22.04:LTS"));
    assert!(!wanted("Alpine:v3.2").wants("Alpine:v3.20"));
}
