//! Builds the guest program as one static binary, to be embedded.
//!
//! A second cargo with a target directory of its own, `guest` beside `debug` and `release`: the outer
//! one holds the lock of its own directory only, so neither waits for the other, and clippy, tests and
//! releases share what was built. The guest's dependencies are a part of the workspace's lock file and
//! of this crate's own dependencies, so nothing is fetched here.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/Cargo.toml");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let inputs = [
        "../guest/src",
        "../guest/Cargo.toml",
        "../probes/src",
        "../probes/Cargo.toml",
        "build.rs",
    ];
    for input in inputs {
        println!("cargo::rerun-if-changed={input}");
    }
    // TARGET/PROFILE/build/PACKAGE/out
    let target = out.ancestors().nth(4).expect("cargo names a directory of its own");
    let directory = target.join("guest");
    let cargo = std::env::var_os("CARGO").expect("cargo sets it");
    let status = Command::new(cargo)
        .args(["build", "--locked", "--release", "--bin", "patchwright-guest"])
        .args(["--target", TARGET, "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&directory)
        // What the outer build was told, its wrapper (clippy) included, is not for this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_LTO", "thin")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the guest program does not build: {status}");
    let built = directory.join(TARGET).join("release/patchwright-guest");
    let program = out.join("patchwright-guest");
    std::fs::copy(&built, &program).expect("the guest program can be copied");
    println!("cargo::rustc-env=PATCHWRIGHT_GUEST={}", program.display());
}
