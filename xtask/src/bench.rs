//! `cargo xtask bench`: our figures and, where they run here, those of peers over the same input.

use std::fs::File;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::system::{ensure_packages, root, run};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; where nothing is given, everything but `updates`, which takes an hour.
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Version orders, beside libapt.
    Versions,
    /// One host, a fleet of a million, a new advisory.
    Matching,
    /// One host beside debsecan, OpenSCAP and syft, from one feed.
    Host,
    /// Inventory of stopped images.
    Inventory,
    /// Updates of a virtual machine, turn by turn with unattended-upgrades.
    Updates,
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
    if wanted(What::Host) {
        compare_host()?;
    }
    if wanted(What::Inventory) {
        run("cargo", &["bench", "--package", "inspect", "--bench", "inventory"])?;
    }
    if arguments.what == Some(What::Updates) {
        run("cargo", &["bench", "--package", "agent", "--bench", "updates"])?;
    }
    Ok(())
}

/// The same system judged from the same facts, by the program and by those of others.
fn compare_host() -> Result<()> {
    let parts = ["--bin", "patchwright", "--example", "host_match"];
    run("cargo", &[&["build", "--release", "--package", "patchwright"], &parts[..]].concat())?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |directory| root().join(directory));
    let status = Command::new("/usr/bin/python3")
        .arg("benches/peers/host.py")
        .arg(target.join("release/patchwright"))
        .arg(target.join("release/examples/host_match"))
        .arg(target.join("peers"))
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("the peers' answers or times cannot be taken");
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
