//! `cargo xtask fuzz`: each target of `fuzz/` for a while, from real data and the corpus kept so
//! far.

use anyhow::{Result, bail};

use crate::system::{has, root, run, run_with};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets; all when none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// Runs the targets one after the other and stops at the first crash.
pub(crate) fn run_targets(arguments: &Arguments) -> Result<()> {
    if !has("cargo", &["+nightly", "fuzz", "--version"]) {
        bail!(
            "fuzzing needs a nightly toolchain and cargo-fuzz\n\
             help: rustup toolchain install nightly; cargo install --locked cargo-fuzz"
        );
    }
    let targets = if arguments.targets.is_empty() { all()? } else { arguments.targets.clone() };
    let time = format!("-max_total_time={}", arguments.seconds);
    run("/usr/bin/python3", &["fuzz/seeds.py"])?;
    for target in &targets {
        // Our parsers promise bounded memory and time; AddressSanitizer needs its share of both.
        let limits = ["-rss_limit_mb=2048", "-timeout=25", "-print_final_stats=1"];
        let mut command = vec!["+nightly", "fuzz", "run", target, "--", time.as_str()];
        command.extend(limits);
        // Errors that keep a backtrace would spend a fuzzer's time on symbols.
        run_with("cargo", &command, &[("RUST_BACKTRACE", "0")])?;
    }
    Ok(())
}

/// Names of the targets: the files of `fuzz/fuzz_targets`.
fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        if let Some(stem) = entry?.path().file_stem().and_then(|stem| stem.to_str()) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
