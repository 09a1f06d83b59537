//! `patchwright ledger`: the record of all that happened, verified and taken along.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use ledger::cli::VerifyArgs;

use crate::client::evidence::{self, EvidenceArgs};

/// Verify the record of all that happened, or take it along.
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
    /// Copy the log of a control plane with the records that one may see into a directory, for an audit
    /// without the control plane.
    Export(EvidenceArgs),
}

/// Runs the command.
pub(crate) fn run(arguments: &LedgerArgs, out: &mut impl Write) -> Result<ExitCode> {
    match &arguments.command {
        Command::Verify(arguments) => Ok(verify(arguments, out)),
        Command::Export(arguments) => evidence::export(arguments, out),
    }
}

fn verify(arguments: &VerifyArgs, out: &mut impl Write) -> ExitCode {
    match ledger::cli::run(arguments, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // It is written for people already.
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
