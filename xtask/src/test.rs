//! `cargo xtask test` and `cargo xtask lint`.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::programs;
use crate::system::{ensure_packages, ensure_python, has, install_python, root, run};

/// The provider that a test signs in at, with the library that it locks.
const PROVIDER: &str = "crates/server/tests/oidc-provider";

/// Where it is installed, beside what else is built.
const INSTALLED: &str = "target/oidc-provider";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to `cargo test` in place of `--workspace`, for example `-p domain`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// The one example that a test starts. The others are looked at by clippy, and linked for nobody here.
const STARTED: &str = "refresh";

/// Installs the peers that the tests compare us with, then runs the tests.
pub(crate) fn run_tests(given: &Arguments) -> Result<()> {
    ensure_packages()?;
    ensure_python();
    ensure_provider()?;
    if !given.cargo.is_empty() {
        // One that fails hides no other.
        let mut arguments = vec!["test", "--locked", "--no-fail-fast"];
        arguments.extend(given.cargo.iter().map(String::as_str));
        return run("cargo", &arguments);
    }
    run("cargo", &["build", "--locked", "--workspace", "--example", STARTED])?;
    let every = ["test", "--locked", "--workspace"];
    let outcome = programs::build_and_run(&[&every[..], &["--lib", "--bins", "--tests"]].concat());
    run("cargo", &[&every[..], &["--no-fail-fast", "--doc"]].concat()).and(outcome)
}

/// Installs a certified OpenID Connect provider by its lock file, where npm is there; the test that signs in
/// there says that it was skipped where it is not.
fn ensure_provider() -> Result<()> {
    if !has("npm", &["--version"]) {
        eprintln!("warning: npm is not there; nobody signs in at a certified provider");
        return Ok(());
    }
    let (from, to) = (root().join(PROVIDER), root().join(INSTALLED));
    let locked = |directory: &std::path::Path| fs::read(directory.join("package-lock.json"));
    let is_installed = to.join("node_modules").is_dir() && locked(&from)? == locked(&to)?;
    fs::create_dir_all(&to).with_context(|| format!("cannot make `{INSTALLED}`"))?;
    for file in ["package.json", "package-lock.json", "provider.js"] {
        fs::copy(from.join(file), to.join(file))
            .with_context(|| format!("cannot copy `{file}`"))?;
    }
    if is_installed {
        return Ok(());
    }
    let install = ["ci", "--prefix", INSTALLED, "--no-audit", "--no-fund", "--ignore-scripts"];
    if let Err(error) = run("npm", &install) {
        eprintln!("warning: {error:#}; nobody signs in at a certified provider");
    }
    Ok(())
}

/// Format, clippy and dependency policy.
pub(crate) fn lint() -> Result<()> {
    every_test_is_listed()?;
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let deny = cargo_deny()?;
    run(&deny, &["check", "bans", "licenses", "sources"])?;
    if has(&deny, &["fetch", "db"]) {
        run(&deny, &["check", "advisories"])
    } else {
        eprintln!("warning: the RustSec advisory database cannot be reached; not checked here");
        Ok(())
    }
}

/// cargo-deny: the one that is here, one that is built already, or one that is compiled now.
fn cargo_deny() -> Result<String> {
    if has("cargo-deny", &["--version"]) {
        return Ok("cargo-deny".to_owned());
    }
    match install_python("cargo-deny", "xtask/cargo-deny.txt") {
        Ok(programs) => Ok(programs.join("cargo-deny").display().to_string()),
        Err(error) => {
            eprintln!("warning: cargo-deny has to be compiled: {error:#}");
            run("cargo", &["install", "--locked", "--debug", "cargo-deny"])?;
            Ok("cargo-deny".to_owned())
        }
    }
}

/// Rust compiles only what `tests/it/main.rs` names: a file that it forgets would be tests that nobody runs.
fn every_test_is_listed() -> Result<()> {
    for krate in fs::read_dir(root().join("crates"))? {
        let tests = krate?.path().join("tests/it");
        let Ok(list) = fs::read_to_string(tests.join("main.rs")) else { continue };
        for file in fs::read_dir(&tests)? {
            let path = file?.path();
            let (Some(name), Some("rs")) =
                (path.file_stem(), path.extension().and_then(|end| end.to_str()))
            else {
                continue;
            };
            let name = name.to_string_lossy();
            let listed = list.lines().any(|line| line == format!("mod {name};"));
            ensure!(
                listed || name == "main",
                "`{}` is not run: add `mod {name};` to `main.rs` beside it",
                path.display()
            );
        }
    }
    Ok(())
}
