//! A real image becomes one that is at the latest: baked with all that is pending, seen to start as
//! a machine of its own, scanned, and attested so that other people's tools believe it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Mirror, attempt, empty, run};
use scratch::Scratch;
use serde_json::Value;

/// The image that `cargo xtask make-image` makes, or made before.
fn image() -> PathBuf {
    let path = run(Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "make-image", "bookworm"])
        .args(["--profile", "minimal"])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    PathBuf::from(path.trim())
}

struct Bench {
    place: Scratch,
    sources: PathBuf,
}

impl Bench {
    /// `patchwright image VERB … --format json`, its exit status and what it printed.
    fn image(&self, verb: &str, arguments: &[&Path]) -> (Option<i32>, Value) {
        let output = attempt(
            Command::new(env!("CARGO_BIN_EXE_patchwright"))
                .args(["image", verb])
                .args(arguments)
                .args(["--format", "json", "--processors", "1", "--memory", "512"])
                .args(["--boot-seconds", "600", "--sources"])
                .arg(&self.sources)
                .arg("--data")
                .arg(self.place.join("data")),
        );
        let errors = String::from_utf8_lossy(&output.stderr);
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{verb}: {error}\n{errors}"));
        (output.status.code(), value)
    }

    fn key(&self) -> PathBuf {
        let key = run(Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["image", "key", "--data"])
            .arg(self.place.join("data")));
        let path = self.place.join("key.pem");
        fs::write(&path, key).unwrap();
        path
    }
}

/// What an attestation says, as securesystemslib reads it; nothing where that is not installed.
fn opened(envelope: &Path, key: &Path) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../target/securesystemslib/bin/python3");
    if !python.exists() {
        eprintln!("SKIPPED: securesystemslib is not installed; `cargo xtask test` does that");
        return None;
    }
    let script = root.join("../ledger/tests/peers/dsse.py");
    let said = run(Command::new(&python).arg(script).args([envelope, key]));
    Some(serde_json::from_str(&said).unwrap())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[test]
fn what_is_pending_is_baked_in_and_a_machine_made_from_it_is_clean() {
    let place = empty("images-to-the-latest");
    let sources = place.join("bookworm.sources");
    fs::write(&sources, Mirror::of_this_machine().sources("bookworm", false)).unwrap();
    let bench = Bench { place, sources };
    let old = image();

    let into = bench.place.join("images");
    let (status, baked) = bench.image("bake", &[&old, Path::new("--into"), &into]);

    assert_eq!((status, &baked["check"]), (Some(0), &Value::from("latest")), "{baked:#}");
    let new = PathBuf::from(baked["baked"]["path"].as_str().unwrap());
    let patches = baked["patches"].as_array().unwrap();
    let kernel = patches
        .iter()
        .find_map(|patch| patch["package"].as_str()?.strip_prefix("linux-image-6"))
        .expect("a kernel is pending");

    // Each file that differs is a patch's, or follows from one.
    let diff = attempt(
        Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["image", "diff", "--format", "json"])
            .args([&old, &new]),
    );
    let diff: Value = serde_json::from_slice(&diff.stdout).unwrap();
    assert_eq!(diff["packages"].as_array().unwrap().len(), patches.len());
    let unexplained = |file: &&Value| file["because"] == "unexplained";
    let unexplained: Vec<&Value> =
        diff["files"].as_array().unwrap().iter().filter(unexplained).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");

    let attestation = bench.place.join("trial.dsse.json");
    let (status, trial) = bench.image("test", &[&new, Path::new("--attestation"), &attestation]);

    assert_eq!((status, strings(&trial["problems"])), (Some(0), vec![]), "{trial:#}");
    assert_eq!(trial["scan"]["status"], "latest");
    assert_eq!(trial["seen"]["kernel"]["release"], format!("6{kernel}"));

    // The old one starts as well, and is not at the latest.
    let (status, trial) = bench.image("test", &[&old]);

    assert_eq!((status, &trial["scan"]["status"]), (Some(3), &Value::from("outdated")));
    let problems = strings(&trial["problems"]);
    assert!(
        problems.iter().any(|it| it.starts_with("security patches are missing")),
        "{problems:?}"
    );

    let key = bench.key();
    let kinds = ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"];
    let sha256 = &baked["baked"]["sha256"];
    for (place, kind) in strings(&baked["attestations"]).into_iter().zip(kinds) {
        let Some(statement) = opened(Path::new(place), &key) else { return };
        assert_eq!(statement["predicateType"], kind);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], *sha256);
    }
    let statement = opened(&attestation, &key).unwrap();
    assert_eq!(statement["predicate"]["result"], "PASSED");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], *sha256);
}

#[test]
fn somebody_may_look_around_in_a_copy_that_is_thrown_away() {
    let place = empty("lab-run");
    let image = image();
    let before = fs::metadata(&image).unwrap().modified().unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .args(["lab", "run", "--processors", "1", "--memory", "512", "--data"])
        .args([&*place, &*image])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut types, mut console) = (lab.stdin.take().unwrap(), lab.stdout.take().unwrap());
    let mut seen = String::new();
    let mut until = |wanted: &str| {
        let mut byte = [0];
        while !seen.contains(wanted) {
            let read = console.read(&mut byte).unwrap();
            assert_eq!(read, 1, "it ended before {wanted}:\n{seen}");
            seen.push(char::from(byte[0]));
        }
        std::mem::take(&mut seen)
    };

    until(":/# ");
    types.write_all(b"touch /left-behind; echo it-is-$((6*7)); ls /sys/class/net\n").unwrap();
    until("it-is-42");
    let network = until(":/# ");
    types.write_all(b"exit\n").unwrap();

    assert!(lab.wait().unwrap().success());
    assert_eq!(network.split_whitespace().next(), Some("lo"), "{network}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(place.join("lab/work")).unwrap().count(), 0);
}
