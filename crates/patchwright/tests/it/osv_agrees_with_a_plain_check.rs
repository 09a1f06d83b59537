//! On AlmaLinux and Alpine inventories the findings equal a plain reading of the OSV records by a
//! program that shares no code with ours.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{check, empty, report, run};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// Package and advisory.
type Pairs = BTreeSet<(String, String)>;

fn ours(root: &Path, records: &Path) -> Pairs {
    let report = report(check(root).arg("--osv").arg(records));
    assert_eq!(report["status"], "outdated");
    let mut pairs = Pairs::new();
    for finding in report["findings"].as_array().expect("findings") {
        let package = finding["package"].as_str().expect("a name");
        for advisory in finding["advisories"].as_array().expect("advisories") {
            let id = advisory["id"].as_str().expect("an id");
            pairs.insert((package.to_owned(), id.to_owned()));
        }
    }
    pairs
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("below scratch")).expect("writable");
    fs::write(path, text).expect("writable");
}

/// Every name that the records speak of, with its first fixed version.
fn names_in(records: &str) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for line in records.lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        for affected in record["affected"].as_array().expect("affected") {
            let name = affected["package"]["name"].as_str().expect("name").to_owned();
            let fixed = affected["ranges"][0]["events"][1]["fixed"].as_str().expect("fixed");
            if seen.insert(name.clone()) {
                names.push((name, fixed.to_owned()));
            }
        }
    }
    names
}

/// An rpm database made by rpm itself: one package of each kind is older than the fix, at the
/// fix, newer than it.
fn alma_root(directory: &Path, names: &[(String, String)]) -> PathBuf {
    let root = directory.join("root");
    write(
        &root.join("etc/os-release"),
        "NAME=\"AlmaLinux\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.6\"\n",
    );
    let mut spec = String::from(
        "Name: base\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n\
         %description\nx\n",
    );
    for (number, (name, fixed)) in names.iter().enumerate() {
        let (epoch, rest) = fixed.split_once(':').unwrap_or(("0", fixed));
        let (version, release) = rest.split_once('-').expect("version-release");
        let (version, release) = match number % 3 {
            0 => (format!("{version}~before"), release.to_owned()),
            1 => (version.to_owned(), release.to_owned()),
            _ => (version.to_owned(), format!("{release}.9")),
        };
        let _ = write!(
            spec,
            "%package -n {name}\nEpoch: {epoch}\nVersion: {version}\nRelease: {release}\n\
             Summary: x\n%description -n {name}\nx\n%files -n {name}\n"
        );
    }
    let spec_file = directory.join("base.spec");
    write(&spec_file, &spec);
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define"])
        .arg(format!("_topdir {}", directory.join("build").display()))
        .arg(&spec_file));
    let database = root.join("var/lib/rpm");
    fs::create_dir_all(&database).expect("writable");
    let built: Vec<PathBuf> = fs::read_dir(directory.join("build/RPMS/noarch"))
        .expect("rpmbuild made them")
        .map(|entry| entry.expect("readable").path())
        .collect();
    run(rpm(&database).args(["-i", "--justdb", "--nodeps", "--force"]).args(built));
    root
}

fn rpm(database: &Path) -> Command {
    let mut command = Command::new("rpm");
    command.args(["--define", "_db_backend sqlite", "--dbpath"]).arg(database);
    command
}

/// The independent check: plain loops, librpm's own comparison.
const PLAIN_RPM_CHECK: &str = r#"
import json, rpm, sys
def evr(text):
    epoch, _, rest = text.rpartition(":")
    version, _, release = rest.rpartition("-")
    return (epoch or "0", version, release)
installed = [line.split("\t") for line in open(sys.argv[1]).read().splitlines()]
for line in open(sys.argv[2]):
    record = json.loads(line)
    for affected in record["affected"]:
        if affected["package"]["ecosystem"] != "AlmaLinux:9":
            continue
        for name, version in installed:
            if name != affected["package"]["name"]:
                continue
            for span in affected["ranges"]:
                fixed = span["events"][1]["fixed"]
                # A module stream's fix says nothing about packages outside the stream.
                if (".module_" in fixed) != (".module_" in version):
                    continue
                if rpm.labelCompare(evr(version), evr(fixed)) < 0:
                    print(name, record["id"])
"#;

#[test]
fn alma_linux() {
    let directory = empty("osv-alma");
    let mut records = String::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/osv-almalinux9.jsonl.gz");
    GzDecoder::new(fs::File::open(path).expect("fixture"))
        .read_to_string(&mut records)
        .expect("fixture");
    let names: Vec<_> = names_in(&records).into_iter().step_by(7).collect();
    let root = alma_root(&directory, &names);
    let records_file = directory.join("records.jsonl");
    write(&records_file, &records);
    let installed = run(rpm(&root.join("var/lib/rpm")).args([
        "-qa",
        "--qf",
        "%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n",
    ]));
    let installed_file = directory.join("installed.tsv");
    write(&installed_file, &installed);
    assert!(installed.lines().count() >= names.len());

    let mut python = Command::new("/usr/bin/python3")
        .args(["-", installed_file.to_str().expect("UTF-8")])
        .arg(&records_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().expect("piped").write_all(PLAIN_RPM_CHECK.as_bytes()).expect("python");
    let output = python.wait_with_output().expect("python");
    assert!(output.status.success(), "python3-rpm is missing? run `cargo xtask test`");
    let plain: Pairs = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, id)| (name.to_owned(), id.to_owned()))
        .collect();

    assert!(plain.len() > 60, "only {} pairs", plain.len());
    assert_eq!(ours(&root, &records_file), plain);
}

#[test]
fn alpine() {
    let directory = empty("osv-alpine");
    let root = directory.join("root");
    write(&root.join("etc/os-release"), "ID=alpine\nVERSION_ID=3.20.3\n");
    // (binary, origin, version); libcrypto3 is built from openssl.
    let installed = [
        ("busybox", "busybox", "1.36.1-r29"),
        ("libcrypto3", "openssl", "3.3.1-r0"),
        ("libssl3", "openssl", "3.3.1-r0"),
        ("musl", "musl", "1.2.5-r0"),
        ("zlib", "zlib", "1.3.1-r1"),
    ];
    let mut database = String::new();
    for (name, origin, version) in installed {
        let _ = write!(database, "P:{name}\nV:{version}\nA:x86_64\no:{origin}\n\n");
    }
    write(&root.join("lib/apk/db/installed"), &database);
    let fixes = [
        ("ALPINE-1", "Alpine:v3.20", "openssl", "3.3.2-r0"),
        ("ALPINE-2", "Alpine:v3.20", "openssl", "3.3.1-r0"),
        ("ALPINE-3", "Alpine:v3.20", "busybox", "1.36.1-r30"),
        ("ALPINE-4", "Alpine:v3.19", "musl", "1.2.6-r0"),
        ("ALPINE-5", "Alpine:v3.20", "libcrypto3", "9.0.0-r0"),
        ("ALPINE-6", "Alpine:v3.20", "zlib", "1.3.1-r10"),
    ];
    let mut records = String::new();
    for (id, ecosystem, name, fixed) in fixes {
        let record = json!({
            "schema_version": "1.7.0", "id": id, "modified": "2026-11-21T00:00:00Z",
            "affected": [{
                "package": { "ecosystem": ecosystem, "name": name },
                "ranges": [{
                    "type": "ECOSYSTEM",
                    "events": [{ "introduced": "0" }, { "fixed": fixed }],
                }],
            }],
        });
        let _ = writeln!(records, "{record}");
    }
    let records_file = directory.join("records.jsonl");
    write(&records_file, &records);

    // Plain numbers compare as numbers: 1.36.1-r30 → [1, 36, 1, 30].
    let numbers = |version: &str| -> Vec<u32> {
        version.replace("-r", ".").split('.').map(|part| part.parse().expect("digits")).collect()
    };
    let mut plain = Pairs::new();
    for (id, ecosystem, name, fixed) in fixes {
        for (package, origin, version) in installed {
            let applies = ecosystem == "Alpine:v3.20" && origin == name;
            if applies && numbers(version) < numbers(fixed) {
                plain.insert((package.to_owned(), id.to_owned()));
            }
        }
    }

    assert_eq!(plain.len(), 4);
    assert_eq!(ours(&root, &records_file), plain);
}
