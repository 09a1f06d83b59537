//! A damaged record costs only itself, and is never passed over in silence.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

use std::io::Write as _;

use collect::osv::{self, MAX_RECORD, MAX_SKIPPED, OsvError, OsvLoad, Wanted};
use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const WHOLE: &str = r#"{"id":"DSA-1-1","modified":"2026-01-01T00:00:00Z","aliases":["CVE-2026-0001"],"affected":[{"package":{"ecosystem":"Debian:12","name":"sudo"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.9-1"}]}]}]}"#;

fn load(lines: &[&str]) -> OsvLoad {
    osv::load_bytes("feed.jsonl", lines.join("\n").as_bytes(), &Wanted::Everything).unwrap()
}

/// The reason for which an altered record is skipped, with its neighbour kept.
fn skipped(from: &str, to: &str) -> String {
    assert!(WHOLE.contains(from), "{from}");
    let altered = WHOLE.replace(from, to).replace("DSA-1-1", "DSA-2-1");

    let load = load(&[&altered, WHOLE]);

    assert_eq!(load.advisories.len(), 1, "{to}");
    assert_eq!((load.records, load.skipped_count, load.skipped.len()), (1, 1, 1), "{to}");
    assert_eq!((load.skipped[0].file.as_str(), load.skipped[0].line), ("feed.jsonl", Some(1)));
    load.skipped[0].reason.clone()
}

#[test]
fn each_damage_is_named() {
    assert!(skipped(r#""modified""#, r#""modifiet""#).contains("missing field `modified`"));
    assert!(skipped(r#""id":"DSA-1-1""#, r#""id":7"#).contains("invalid type"));
    assert_eq!(skipped(r#""DSA-1-1""#, r#""""#), "`` is no id");
    assert_eq!(skipped("DSA-1-1", "a\\nb"), "`a\\nb` is no id");
    assert_eq!(skipped("2026-01-01T00:00:00Z", "soon"), "modified `soon` is no time");
    assert_eq!(skipped(r#""sudo""#, r#"" sudo""#), "` sudo` is no package name");
    assert_eq!(skipped("1.9-1", "\\u001b[2J"), "`\\u{1b}[2J` is no version");
    assert_eq!(skipped("ECOSYSTEM", "SEMVER"), "range type `SEMVER` fits no Debian:12");
    assert_eq!(
        skipped("ECOSYSTEM", "GIT"),
        "it names no versions that a package manager could compare"
    );
    assert_eq!(skipped(r#"{"introduced":"0"},"#, ""), "a range introduces nothing");
    assert_eq!(
        skipped(r#"{"fixed":"1.9-1"}"#, r#"{"fixed":"1","introduced":"2"}"#),
        "an event is not exactly one change"
    );
    assert_eq!(
        skipped(r#"{"fixed":"1.9-1"}"#, r#"{"limit":"2"}"#),
        "a `limit` means nothing for package versions"
    );
    assert!(skipped("}]}]}]}", "}]}]").starts_with("EOF while parsing an object"));
}

#[test]
fn too_long_names_are_refused_and_shown_short() {
    let reason = skipped("1.9-1", &"9".repeat(300));

    assert_eq!(reason, format!("`{}` is no version", "9".repeat(40)));
}

#[test]
fn deep_nesting_ends_the_record_and_not_the_program() {
    let deep = format!(r#"{{"id":"DSA-2-1","aliases":{}"#, "[".repeat(1_000_000));
    let ignored = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));

    let load = load(&[&deep, &ignored, WHOLE]);

    assert_eq!((load.records, load.skipped_count), (1, 2));
}

#[test]
fn an_oversized_record_is_skipped_and_the_next_is_read() {
    let huge = format!(r#"{{"details":"{}"}}"#, "x".repeat(MAX_RECORD));

    let load = load(&[&huge, WHOLE]);

    assert_eq!((load.records, load.skipped[0].line), (1, Some(1)));
    assert_eq!(load.skipped[0].reason, format!("it is larger than {MAX_RECORD} bytes"));
}

#[test]
fn all_damage_is_counted_and_the_first_of_it_kept() {
    let mut lines = vec!["{"; MAX_SKIPPED + 5];
    lines.push(WHOLE);

    let load = load(&lines);

    assert_eq!((load.skipped.len(), load.skipped_count), (MAX_SKIPPED, MAX_SKIPPED + 5));
}

#[test]
fn a_cut_off_stream_keeps_what_came_before_and_says_so() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    let lines: Vec<String> =
        (0..100).map(|number| WHOLE.replace("DSA-1-1", &format!("DSA-{number}-1"))).collect();
    encoder.write_all(lines.join("\n").as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();

    let cut = &whole[..whole.len() / 2];
    let load = osv::load_bytes("feed.jsonl.gz", cut, &Wanted::Everything).unwrap();

    assert!(load.records > 40 && load.records < 60, "{}", load.records);
    assert_eq!(load.skipped_count, 1);
    assert!(load.skipped[0].reason.starts_with("the rest cannot be read"));
}

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_bomb_in_an_archive_costs_only_itself() {
    let bomb = vec![b' '; 4 * MAX_RECORD];
    let archive = zipped(&[("bomb.json", &bomb), ("whole.json", WHOLE.as_bytes())]);
    assert!(archive.len() < 200_000);

    let load = osv::load_bytes("all.zip", &archive, &Wanted::Everything).unwrap();

    assert_eq!((load.records, load.skipped_count), (1, 1));
    assert_eq!(load.skipped[0].file, "all.zip!bomb.json");
}

#[test]
fn an_archive_that_grows_beyond_reason_is_refused() {
    let bomb = vec![b' '; MAX_RECORD];
    let files: Vec<(String, &[u8])> =
        (0..9).map(|number| (format!("{number}.json"), bomb.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, *bytes)).collect();

    let error = osv::load_bytes("all.zip", &zipped(&files), &Wanted::Everything).unwrap_err();

    assert_eq!(error.to_string(), "`all.zip` holds more than 67108864 bytes");
}

#[test]
fn compressed_lines_that_grow_beyond_reason_are_refused() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..70 {
        encoder.write_all(&vec![b'\n'; 1024 * 1024]).unwrap();
        encoder.write_all(&vec![b' '; 1024]).unwrap();
    }
    let bomb = encoder.finish().unwrap();

    let error = osv::load_bytes("feed.jsonl.gz", &bomb, &Wanted::Everything).unwrap_err();

    assert!(matches!(error, OsvError::TooLarge { .. }), "{error}");
}

#[test]
fn a_flipped_byte_in_an_archive_is_noticed() {
    let mut archive = zipped(&[("a.json", WHOLE.as_bytes()), ("b.json", WHOLE.as_bytes())]);
    archive[60] ^= 1;

    let load = osv::load_bytes("all.zip", &archive, &Wanted::Everything).unwrap();

    assert_eq!((load.records, load.skipped_count), (1, 1));
    assert_eq!(load.skipped[0].file, "all.zip!a.json");
}

#[test]
fn a_cut_off_archive_is_refused() {
    let archive = zipped(&[("a.json", WHOLE.as_bytes())]);

    let error = osv::load_bytes("all.zip", &archive[..archive.len() - 10], &Wanted::Everything)
        .unwrap_err();

    assert!(matches!(error, OsvError::DamagedArchive { .. }), "{error}");
}
