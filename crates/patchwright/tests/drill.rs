//! The whole loop on virtual machines, with the control plane killed in the middle of it and an agent that dies. By
//! itself, as it needs the machine that it runs on.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lab::Accelerator;
use serde_json::Value;

const GO_LIBRARIES: &str = "/usr/share/gocode";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// The image that `cargo xtask make-image` makes, or made before.
fn image() -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "xtask", "--", "make-image", "bookworm"]);
    let made = run(command.args(["--profile", "tenant"]).current_dir(root()));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// The program without what debuggers need: machines read it from a disk.
fn program(place: &Path) -> PathBuf {
    let program = place.join("patchwright");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_patchwright"));
    let is_stripped = strip.output().is_ok_and(|output| output.status.success());
    if is_stripped { program } else { PathBuf::from(env!("CARGO_BIN_EXE_patchwright")) }
}

/// Go's own verifier of such ledgers, if Debian's packages are there.
fn foreign_verifier(place: &Path) -> Option<PathBuf> {
    if !Path::new(GO_LIBRARIES).join("src/golang.org/x/mod/sumdb/tlog").exists() {
        eprintln!("SKIPPED: Go's x/mod; install golang-go and golang-golang-x-mod-dev");
        return None;
    }
    let program = place.join("xmod");
    let mut command = Command::new("/usr/bin/go");
    command
        .args(["build", "-o"])
        .args([&program, &root().join("crates/ledger/tests/peers/xmod.go")])
        .env("GO111MODULE", "off")
        .env("GOPATH", GO_LIBRARIES)
        .env("GOCACHE", place.join("go"))
        .env("GOFLAGS", "");
    run(&mut command);
    Some(program)
}

#[test]
fn a_drill_passes_although_much_goes_wrong() {
    // Without KVM it takes as long as half of all other tests together.
    let is_asked_for = std::env::var_os("PATCHWRIGHT_DRILL").is_some();
    if !is_asked_for && Accelerator::of_this_machine() == Accelerator::Tcg {
        eprintln!(
            "SKIPPED: there is no KVM; `PATCHWRIGHT_DRILL=1 cargo test --test drill` takes half an hour"
        );
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = place.path();
    let (out, home) = (place.join("report"), place.join("home"));
    let program = program(place);
    let patchwright = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("HOME", &home).env_remove("XDG_DATA_HOME");
        command
    };
    let mut drill =
        patchwright(&["drill", "--fault", "server-killed,agent-dies", "--image", &image()]);
    drill.arg("--out").arg(&out);
    let foreign = foreign_verifier(place);
    if let Some(foreign) = &foreign {
        drill.arg("--foreign-verifier").arg(foreign);
    }

    let output = drill.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    println!("{told}");
    assert!(output.status.success(), "{told}");

    let report: Value = serde_json::from_slice(&fs::read(out.join("drill.json")).unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["because"]), (&Value::Bool(true), &Value::Null));
    let acts = report["acts"].as_array().unwrap();
    assert!(acts.len() > 15 && acts.iter().all(|act| act["outcome"] == "done"), "{acts:#?}");
    let exercised = report["requirements"].as_array().unwrap();
    for number in ["R1", "R10", "R13", "R16", "R17", "R18", "R23", "R24", "R25", "R45"] {
        assert!(exercised.iter().any(|it| it["number"] == number), "{number}");
    }
    let seen = |of: &str, what: &str| {
        let facts = acts.iter().flat_map(|act| act["facts"].as_array().unwrap());
        let mut found =
            facts.filter(|fact| fact["of"] == of).map(|it| it["seen"].as_str().unwrap());
        found.any(|seen| seen.contains(what))
    };
    for machine in ["web-1", "web-2", "web-3", "shop-1", "shop-2"] {
        assert!(seen(machine, "packages on its disk, at the latest"), "{machine}");
    }
    assert!(seen("control plane", "started again"));
    assert!(seen("fault", "web-2's agent was killed"));
    assert!(seen("globex", "put it off until"));
    assert!(foreign.is_none() || seen("foreign", "agrees"));
    assert!(!out.join("work").exists(), "nothing is left but the report and its evidence");

    // The commands of docs/drill.md, which need nothing of ours but the key.
    let docs = fs::read_to_string(root().join("docs/drill.md")).unwrap();
    let (_, script) = docs.split_once("```sh\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap());
    let mut verify = Command::new("bash");
    verify.args(["-euo", "pipefail", "-c", script]).current_dir(&out).env("PATH", path);
    run(verify.env("HOME", &home).env_remove("XDG_DATA_HOME"));
    fs::write(out.join("drill.html"), "another report").unwrap();
    assert!(!verify.output().unwrap().status.success(), "a report that was altered");
}
