//! The agent's commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::client::{AgentError, join, run};
use crate::look::host_name;
use crate::state::State;

/// Join a control plane, and tell it what this host has installed.
#[derive(Debug, Args)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Command,

    /// Where the agent keeps its key and its count of reports.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PATCHWRIGHT_AGENT_STATE",
        default_value = "/var/lib/patchwright-agent"
    )]
    state: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join with a token that somebody made for this host.
    Join {
        /// Where agents connect, for example `https://patchwright.example.org:7879`.
        url: String,
        /// The token, as it was told.
        #[arg(long, env = "PATCHWRIGHT_JOIN_TOKEN", hide_env_values = true)]
        token: String,
        /// What this host is to be called; its own name where none is given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Report until it is stopped.
    Run {
        /// Report once, then end.
        #[arg(long)]
        once: bool,
        /// Look at the system below this directory.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Say who this agent is.
    Status,
}

/// Runs a command; errors go to standard error with their way out.
pub fn main(arguments: &AgentArgs) -> ExitCode {
    match perform(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                eprintln!("caused by: {next}");
                cause = next.source();
            }
            eprintln!("help: {}", error.help());
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &AgentArgs) -> Result<(), AgentError> {
    let state = State::new(&arguments.state);
    match &arguments.command {
        Command::Join { url, token, name } => {
            let name = name.clone().unwrap_or_else(host_name);
            let identity = join(url, token, &name, &state)?;
            println!("joined as {} for {}", identity.agent, identity.ci);
            println!("now run `patchwright agent run`, or start the service");
            Ok(())
        }
        Command::Run { once, root } => run(&state, root, *once),
        Command::Status => {
            let identity = state.identity().map_err(|source| AgentError::State {
                directory: state.directory().display().to_string(),
                source,
            })?;
            let identity = identity.ok_or(AgentError::NotJoined)?;
            let left = identity.expires_at.duration_since(Timestamp::now()).as_hours() / 24;
            println!("control plane  {}", identity.url);
            println!("agent          {}", identity.agent);
            println!("speaks for     {}", identity.ci);
            println!("certificate    good until {} ({left} days)", identity.expires_at);
            Ok(())
        }
    }
}
