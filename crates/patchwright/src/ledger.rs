//! `patchwright ledger`: the record of all that happened, verified.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ledger::cli::VerifyArgs;

/// Verify the record of all that happened.
#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a log: signatures, every entry, every tile; against an earlier checkpoint, witnesses
    /// and payloads where given. The small program `patchwright-verify` does the same.
    Verify(VerifyArgs),
}

/// Runs the command.
pub(crate) fn run(arguments: &LedgerArgs, out: &mut impl Write) -> ExitCode {
    let Command::Verify(arguments) = &arguments.command;
    match ledger::cli::run(arguments, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // It is written for people already.
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
