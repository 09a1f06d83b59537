//! `cargo xtask test` and `cargo xtask lint`.

use anyhow::Result;

use crate::system::{ensure_packages, ensure_schemathesis, has, run};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to `cargo test` in place of `--workspace`, for example `-p domain`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// Installs the peers that the tests compare us with, then runs the tests.
pub(crate) fn run_tests(given: &Arguments) -> Result<()> {
    ensure_packages()?;
    ensure_schemathesis();
    let mut arguments = vec!["test", "--locked"];
    if given.cargo.is_empty() {
        arguments.push("--workspace");
    }
    arguments.extend(given.cargo.iter().map(String::as_str));
    run("cargo", &arguments)
}

/// Format, clippy and dependency policy.
pub(crate) fn lint() -> Result<()> {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if !has("cargo", &["deny", "--version"]) {
        run("cargo", &["install", "--locked", "cargo-deny"])?;
    }
    run("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    if has("cargo", &["deny", "fetch", "db"]) {
        run("cargo", &["deny", "check", "advisories"])
    } else {
        eprintln!("warning: the RustSec advisory database cannot be reached; not checked here");
        Ok(())
    }
}
