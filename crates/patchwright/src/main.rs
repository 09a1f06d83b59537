//! The `patchwright` command: composition root of the rooms below it.

mod check;
mod failure;
mod text;
mod version;

use std::io::{stdin, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tells which patches a cloud is missing, and proves it.
#[derive(Parser)]
#[command(name = "patchwright", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell which patches a system, running or stopped, is missing.
    Check(check::CheckArgs),
    /// Compare versions as dpkg, rpm and apk do.
    Version(version::VersionArgs),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Version(arguments) => version::run(arguments, stdin().lock(), stdout().lock()),
    };
    outcome.unwrap_or_else(|error| failure::report(&error))
}
