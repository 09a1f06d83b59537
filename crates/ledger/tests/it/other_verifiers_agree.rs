//! Two programs by other people verify what we export, and refuse it once altered.
//!
//! Go's `x/mod` comes from Debian (`golang-go`, `golang-golang-x-mod-dev`). `aics-tlog` comes from
//! `PyPI` and needs Python 3.12: name an interpreter that has it in `LEDGER_PEER_PYTHON`. What is
//! not there is skipped, and said so.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::world::{self, entries, key, open, trust, trust_with_witness, witness_key};
use ledger::verify::{Against, verify};
use ledger::witness::{AddCheckpoint, Witness};
use ledger::{Directory, Hash};

const SIZE: u64 = 100_003;
const EARLIER: u64 = 70_000;
const GO_LIBRARIES: &str = "/usr/share/gocode";

struct Export {
    _folder: tempfile::TempDir,
    log: PathBuf,
    earlier: PathBuf,
    root: Hash,
}

/// A cosigned log, grown in steps, and a checkpoint kept from one of them.
fn export() -> Export {
    let folder = tempfile::tempdir().unwrap();
    let (path, earlier) = (folder.path().join("log"), folder.path().join("earlier"));
    let mut log = open(Directory::new(&path)).unwrap();
    for until in [1000, EARLIER, SIZE] {
        let from = log.size();
        log.integrate(from, &entries(from..until)).unwrap();
        let published = log.publish().unwrap();
        if until == EARLIER {
            fs::write(&earlier, published.to_bytes()).unwrap();
        }
    }
    let witness = witness_key(1);
    let wanted = trust_with_witness(&witness);
    let request = AddCheckpoint::new(0, Vec::new(), log.published().unwrap().clone());
    let reply = Witness::new(witness, trust())
        .add_checkpoint(
            &mut world::OneMemory::default(),
            &request.to_bytes(),
            "2026-03-02T00:00:00Z".parse().unwrap(),
        )
        .unwrap();
    let root = log.cosign(&reply.body, &wanted).unwrap().claimed().root;
    Export { _folder: folder, log: path, earlier, root }
}

fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Go's own, built once; `None` where Debian's packages are not installed.
fn xmod() -> Option<PathBuf> {
    let library = Path::new(GO_LIBRARIES).join("src/golang.org/x/mod/sumdb/tlog");
    let go = ["/usr/bin/go", "/usr/lib/go/bin/go"].into_iter().find(|go| Path::new(go).exists())?;
    if !library.exists() {
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("xmod");
    let built = Command::new(go)
        .args(["build", "-o"])
        .args([&program, &peer("xmod.go")])
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_LIBRARIES)
        .env("GOCACHE", folder.join("go"))
        .env("GOFLAGS", "")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// An interpreter that has `aics-tlog`.
fn aics() -> Option<String> {
    let named = std::env::var("LEDGER_PEER_PYTHON").ok();
    let known = ["python3.13", "python3.12", "python3"].map(str::to_owned);
    named.into_iter().chain(known).find(|python| {
        let asked = Command::new(python).args(["-c", "import aics_tlog"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    })
}

fn agrees(output: &Output, root: Hash) {
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(told.trim(), format!("{SIZE} {root}"));
}

#[test]
fn a_hundred_thousand_entries_are_verified_by_others() {
    let export = export();
    let (xmod, aics) = (xmod(), aics());
    let vkey = key().verifier().to_string();
    let log = export.log.to_str().unwrap();

    let ours = verify(&Directory::new(log), &Against::policy(&trust())).unwrap();
    assert_eq!((ours.size, ours.root), (SIZE, export.root));

    let run_xmod = |program: &Path| {
        let earlier = export.earlier.to_str().unwrap();
        Command::new(program).args([log, &vkey, earlier]).output().unwrap()
    };
    let run_aics = |python: &str| {
        let witness = witness_key(1).verifier().to_string();
        Command::new(python).arg(peer("aics.py")).args([log, &vkey, &witness]).output().unwrap()
    };
    if let Some(program) = &xmod {
        agrees(&run_xmod(program), export.root);
    } else {
        eprintln!("SKIPPED: Go's x/mod; install golang-go and golang-golang-x-mod-dev");
    }
    if let Some(python) = &aics {
        agrees(&run_aics(python), export.root);
    } else {
        eprintln!("SKIPPED: aics-tlog; name a Python that has it in LEDGER_PEER_PYTHON");
    }

    // One bit, in the middle of the log.
    let bundle = export.log.join("tile/entries/180");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[2000] ^= 1;
    fs::write(&bundle, bytes).unwrap();

    assert!(verify(&Directory::new(log), &Against::policy(&trust())).is_err());
    assert!(xmod.is_none_or(|program| !run_xmod(&program).status.success()));
    assert!(aics.is_none_or(|python| !run_aics(&python).status.success()));
}
