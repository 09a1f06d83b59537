//! debsecan, fed with the same advisories, names the same (package, CVE) pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{check, empty, report, run};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

type Pairs = BTreeSet<(String, String)>;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let file = fs::File::open(&path).expect("fixture");
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("fixture");
    text
}

/// Source package, fixed version, CVE.
fn facts() -> Vec<(String, String, String)> {
    let text = fixture("bookworm-security-facts.tsv.gz");
    let mut facts = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        for cve in fields[3].split(',') {
            facts.push((fields[0].to_owned(), fields[1].to_owned(), cve.to_owned()));
        }
    }
    facts
}

fn osv_records(facts: &[(String, String, String)]) -> String {
    let mut lines = String::new();
    for (number, (source, fixed, cve)) in facts.iter().enumerate() {
        let record = json!({
            "schema_version": "1.7.0",
            "id": format!("TEST-{number}"),
            "modified": "2026-11-21T00:00:00Z",
            "aliases": [cve],
            "affected": [{
                "package": { "ecosystem": "Debian:12", "name": source },
                "ranges": [{
                    "type": "ECOSYSTEM",
                    "events": [{ "introduced": "0" }, { "fixed": fixed }],
                }],
            }],
        });
        let _ = writeln!(lines, "{record}");
    }
    lines
}

/// debsecan's own format: names, then `package,index,flags,version,other versions`, then binaries.
fn debsecan_feed(facts: &[(String, String, String)]) -> Vec<u8> {
    let mut text = String::from("VERSION 1\n");
    let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, _, cve) in facts {
        let next = indices.len();
        if let std::collections::btree_map::Entry::Vacant(entry) = indices.entry(cve) {
            entry.insert(next);
            let _ = writeln!(text, "{cve},,");
        }
    }
    text.push('\n');
    for (source, fixed, cve) in facts {
        let _ = writeln!(text, "{source},{},S  F,{fixed},", indices[cve.as_str()]);
    }
    text.push_str("\n\n");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("in memory");
    encoder.finish().expect("in memory")
}

/// The same system as first released: without the suffix that Debian gives to stable updates.
fn before_all_updates(status: &str) -> String {
    let mut older = String::with_capacity(status.len());
    for line in status.lines() {
        let is_version = line.starts_with("Version: ") || line.starts_with("Source: ");
        match line.find("+deb12u") {
            Some(suffix) if is_version => {
                older.push_str(&line[..suffix]);
                older.push_str(if line.ends_with(')') { ")" } else { "" });
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

/// Binary packages built from signed copies of a source. debsecan looks for the copy's name,
/// under which no advisory is ever published, and so misses them.
fn from_signed_sources(status: &str) -> BTreeSet<String> {
    status
        .split("\n\n")
        .filter(|stanza| {
            stanza.lines().any(|line| line.starts_with("Source: ") && line.contains("-signed"))
        })
        .filter_map(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Package: ")))
        .map(str::to_owned)
        .collect()
}

fn ours(root: &Path, records: &Path) -> Pairs {
    let report = report(check(root).arg("--offline").arg("--osv").arg(records));
    let mut pairs = Pairs::new();
    for list in ["findings", "unfixed"] {
        for item in report[list].as_array().expect("a list") {
            let package = item["package"].as_str().expect("a name");
            for cve in item["cves"].as_array().map(Vec::as_slice).unwrap_or_default() {
                pairs.insert((package.to_owned(), Value::as_str(cve).expect("an id").to_owned()));
            }
        }
    }
    pairs
}

fn debsecans(status: &Path, feed: &Path) -> Pairs {
    run(Command::new("debsecan")
        .args(["--suite", "bookworm", "--format", "simple", "--source"])
        .arg(format!("file://{}", feed.display()))
        .arg("--status")
        .arg(status))
    .lines()
    .filter_map(|line| line.split_once(' '))
    .map(|(cve, package)| (package.to_owned(), cve.to_owned()))
    .collect()
}

#[test]
fn same_pairs_from_the_same_feed() {
    let directory = empty("debsecan");
    let write = |path: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("below scratch")).expect("writable");
        fs::write(&path, bytes).expect("writable");
        path
    };
    let facts = facts();
    let status = before_all_updates(&fixture("dpkg-status-bookworm-server-main-only.gz"));
    let os_release = b"ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
    write("root/etc/os-release", os_release);
    let status_file = write("root/var/lib/dpkg/status", status.as_bytes());
    let records = write("records.jsonl", osv_records(&facts).as_bytes());
    write("feed/bookworm", &debsecan_feed(&facts));

    let mut ours = ours(&directory.join("root"), &records);
    let debsecans = debsecans(&status_file, &directory.join("feed"));

    let signed = from_signed_sources(&status);
    ours.retain(|(package, _)| !signed.contains(package));
    assert!(debsecans.len() > 300, "debsecan found only {} pairs", debsecans.len());
    let missed: Vec<_> = debsecans.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&debsecans).collect();
    assert!(missed.is_empty() && extra.is_empty(), "missed {missed:?}, extra {extra:?}");
}
