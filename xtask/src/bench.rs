//! `cargo xtask bench`: our figures and, where they run here, those of peers over the same input.

use std::fs::File;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::system::{ensure_packages, root, run};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; everything where not given.
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Version orders, beside libapt.
    Versions,
    /// One host, a fleet of a million, a new advisory.
    Matching,
    /// Inventory of stopped images.
    Inventory,
}

/// Runs the benchmarks one after the other, so that none disturbs another.
pub(crate) fn run_benches(arguments: &Arguments) -> Result<()> {
    ensure_packages()?;
    let wanted = |one: What| arguments.what.is_none_or(|what| what == one);
    if wanted(What::Versions) {
        run("cargo", &["bench", "--package", "domain", "--bench", "version"])?;
        time_apt()?;
    }
    if wanted(What::Matching) {
        run("cargo", &["bench", "--package", "domain", "--bench", "matching"])?;
        run("cargo", &["run", "--release", "--package", "domain", "--example", "fleet"])?;
    }
    if wanted(What::Inventory) {
        run("cargo", &["bench", "--package", "inspect", "--bench", "inventory"])?;
    }
    Ok(())
}

/// The same random pairs, compared by libapt through its Python binding.
fn time_apt() -> Result<()> {
    let pairs = root().join("target/version-pairs.txt");
    let example = ["run", "--release", "--package", "domain", "--example", "version_pairs", "--"];
    let made = Command::new("cargo")
        .args(example)
        .args(["generate", "dpkg", "1", "10000"])
        .current_dir(root())
        .stdout(File::create(&pairs).context("cannot keep the pairs")?)
        .status()?;
    let timed = Command::new("/usr/bin/python3")
        .args(["benches/peers/apt_order.py", "--time", "1000000"])
        .current_dir(root())
        .stdin(File::open(&pairs)?)
        .status()?;
    if !made.success() || !timed.success() {
        bail!("cannot time apt over our pairs");
    }
    Ok(())
}
