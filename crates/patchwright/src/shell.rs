//! What a shell and a manual want to know about the command.

use std::fs;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// Print completions of this command for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual, or write a page for each command.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints completions.
pub(crate) fn completions(arguments: &CompletionsArgs, mut command: Command) -> Result<ExitCode> {
    // The generator gives up where it cannot write; whoever closed the pipe has seen enough.
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "patchwright", &mut text);
    stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes the manual.
pub(crate) fn manual(arguments: &ManArgs, command: Command) -> Result<ExitCode> {
    if let Some(directory) = &arguments.out {
        let unwritten = || format!("cannot write the manual into `{}`", directory.display());
        fs::create_dir_all(directory).with_context(unwritten)?;
        clap_mangen::generate_to(command, directory).with_context(unwritten)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
