//! The same records mean the same, however they are packed.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use collect::fetch::Fetcher;
use collect::osv::{self, OsvError, OsvLoad, Wanted};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const RECORDS: &str = include_str!("data/almalinux9.osv.jsonl");

fn load(path: &Path) -> Result<OsvLoad, OsvError> {
    osv::load(path, &Wanted::Everything)
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zipped(files: &[(String, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn one_file_each() -> Vec<(String, &'static [u8])> {
    RECORDS
        .lines()
        .enumerate()
        .map(|(number, line)| (format!("ALSA-{number}.json"), line.as_bytes()))
        .collect()
}

#[test]
fn every_packing_holds_the_same_advisories() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("a.jsonl"), RECORDS.as_bytes());
    write(&at("b.jsonl.gz"), &gzipped(RECORDS.as_bytes()));
    write(&at("all.zip"), &zipped(&one_file_each()));
    for (name, content) in one_file_each() {
        write(&at("tree").join(&name[5..6]).join(&name), content);
    }
    write(&at("tree/README.md"), b"not a record");

    let lines = load(&at("a.jsonl")).unwrap();

    assert_eq!(lines.advisories.len(), 40);
    for name in ["b.jsonl.gz", "all.zip", "tree"] {
        let other = load(&at(name)).unwrap();
        assert_eq!(other.advisories, lines.advisories, "{name}");
        assert_eq!((other.records, other.skipped_count), (40, 0), "{name}");
    }
}

#[test]
fn a_single_record_and_fetched_bytes_are_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("one.json");
    let first = RECORDS.lines().next().unwrap().as_bytes();
    write(&path, first);

    let from_file = load(&path).unwrap();
    let from_bytes = osv::load_bytes("one.json", first, &Wanted::Everything).unwrap();
    let fetcher = Fetcher::new(Box::new(|_, _| None));
    let uri = format!("file://{}", path.display());
    let from_uri = osv::fetch(&uri, &fetcher, &Wanted::Everything).unwrap();

    assert_eq!(from_file.advisories.len(), 1);
    assert_eq!(from_bytes, from_file);
    assert_eq!(from_uri, from_file);
}

#[test]
fn of_two_states_of_a_record_the_last_changed_counts() {
    let record = |modified: &str, fixed: &str| {
        format!(
            r#"{{"id":"DSA-1-1","modified":"{modified}","affected":[{{"package":{{"ecosystem":
            "Debian:12","name":"sudo"}},"ranges":[{{"type":"ECOSYSTEM","events":[{{"introduced":
            "0"}},{{"fixed":"{fixed}"}}]}}]}}]}}"#
        )
        .replace('\n', " ")
    };
    let new = record("2026-02-01T00:00:00Z", "2");
    let old = record("2026-01-01T00:00:00Z", "1");

    let load_lines = |lines: [&str; 2]| {
        osv::load_bytes("x.jsonl", lines.join("\n").as_bytes(), &Wanted::Everything).unwrap()
    };
    let one_way = load_lines([&new, &old]);
    let other_way = load_lines([&old, &new]);

    assert_eq!(one_way.advisories, other_way.advisories);
    assert_eq!(one_way.records, 2);
    assert!(format!("{:?}", one_way.advisories[0].affected[0].ranges).contains("Fixed(\"2\")"));
}

#[test]
fn the_hash_names_what_was_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.jsonl");
    write(&path, RECORDS.as_bytes());
    let tree = directory.path().join("tree");
    write(&tree.join("a.json"), RECORDS.lines().next().unwrap().as_bytes());

    let of_file = load(&path).unwrap().sha256;
    let of_tree = load(&tree).unwrap().sha256;
    fs::rename(tree.join("a.json"), tree.join("b.json")).unwrap();

    let of_bytes = osv::load_bytes("a.jsonl", RECORDS.as_bytes(), &Wanted::Everything).unwrap();
    assert_eq!(of_file, of_bytes.sha256);
    assert_eq!(of_file.len(), 64);
    assert_ne!(load(&tree).unwrap().sha256, of_tree);
}

#[test]
fn symbolic_links_in_a_directory_are_not_followed() {
    let directory = TempDir::new().unwrap();
    let outside = directory.path().join("outside");
    let tree = directory.path().join("tree");
    write(&outside.join("secret.json"), RECORDS.lines().next().unwrap().as_bytes());
    write(&tree.join("one.json"), RECORDS.lines().nth(1).unwrap().as_bytes());
    std::os::unix::fs::symlink(&outside, tree.join("away")).unwrap();
    std::os::unix::fs::symlink(&tree, tree.join("round")).unwrap();

    assert_eq!(load(&tree).unwrap().records, 1);
}

#[test]
fn what_holds_no_record_says_what_it_expected() {
    let directory = TempDir::new().unwrap();
    let empty = load(directory.path()).unwrap_err();
    File::create(directory.path().join("a.json")).unwrap();
    let nothing = load(&directory.path().join("a.json")).unwrap_err();
    let missing = load(&directory.path().join("nowhere")).unwrap_err();

    assert!(empty.to_string().ends_with("holds no usable OSV record"));
    assert!(empty.help().unwrap().contains("all.zip"));
    assert!(nothing.to_string().contains("EOF while parsing"), "{nothing}");
    assert!(missing.to_string().starts_with("cannot read OSV records from"));
}
