//! Verifies a Patchwright log, with nothing of Patchwright but its ledger.

use std::io::stdout;
use std::process::ExitCode;

use clap::Parser;
use ledger::cli::{VerifyArgs, run};

/// Verifies a log: signatures, every entry, every tile; against an earlier checkpoint, witnesses
/// and payloads where given.
///
/// Exits with 0 if all of it holds, with 1 if anything does not, with 2 if it was not understood.
#[derive(Parser)]
#[command(name = "patchwright-verify", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    verify: VerifyArgs,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verify, &mut stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
