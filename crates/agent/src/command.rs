//! The agent's commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use domain::change::KeyId;
use domain::order::{Demand, Ranking};
use domain::pinning::OwnersWord;
use jiff::Timestamp;

use crate::client::{AgentError, Settings, connect, join, run};
use crate::look::{family, host_name};
use crate::pin::pin;
use crate::show;
use crate::state::{Identity, State};

/// Where the owner's policy lies.
const POLICY: &str = "/etc/patchwright/agent-policy.toml";

/// Where the owner's probes lie.
const PROBES: &str = "/etc/patchwright/probes.toml";

/// Join a control plane, tell it what this host has installed, and carry its orders out.
#[derive(Debug, Args)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Command,

    /// Where the agent keeps its keys, its count of reports, and its record of orders.
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
    /// Join with a token that somebody made for this host, and pin whose orders count.
    Join {
        /// Where agents connect, for example `https://patchwright.example.org:7879`.
        url: String,
        /// The token, as it was told.
        #[arg(long, env = "PATCHWRIGHT_JOIN_TOKEN", hide_env_values = true)]
        token: String,
        /// What this host is to be called; its own name where none is given.
        #[arg(long)]
        name: Option<String>,
        /// The system below this directory, as for `run`.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        #[command(flatten)]
        word: Word,
    },
    /// Pin anew whose orders and consents count, for instance once the tenant has a key.
    ///
    /// What protects against replays and older versions is kept, and less is demanded than before only
    /// where an option says so.
    Pin {
        /// The system below this directory, as for `run`.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        #[command(flatten)]
        word: Word,
    },
    /// Report, and carry orders out, until it is stopped.
    Run {
        /// One report with whatever it leads to, then end.
        #[arg(long)]
        once: bool,
        /// The system below this directory; orders need the state to lie there as well.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// What the owner of this host allows orders to do; there may be no such file.
        #[arg(long, value_name = "FILE", default_value = POLICY)]
        policy: PathBuf,
        /// What the owner of this host declares that must work, for orders to try; there may be no such file.
        #[arg(long, value_name = "FILE", default_value = PROBES)]
        probes: PathBuf,
    },
    /// Say who this agent is, whose orders it takes, and what somebody should look at.
    Status {
        /// What the owner of this host allows orders to do.
        #[arg(long, value_name = "FILE", default_value = POLICY)]
        policy: PathBuf,
    },
    /// Print this host's own record of the orders that came, and what came of them.
    Orders {
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// JSON lines, as the record has them.
    Json,
}

/// What has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Consent {
    /// The tenant signs each plan, or a standing rule that covers it.
    Signature,
    /// Nothing of the tenant's has to be signed.
    Nothing,
}

/// The owner's word about what is pinned. It is stronger than what the control plane offers.
#[derive(Debug, Args)]
struct Word {
    /// What a patch needs; what the control plane offers where nothing is said. `signature` holds for
    /// alterations as well.
    #[arg(long, value_enum, value_name = "WHAT")]
    consent: Option<Consent>,
    /// Believe the provider about priorities, so that a standing rule for some of them counts.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    believe_priorities: Option<bool>,
    /// The tenant's key with this id, and no other; may be given several times.
    #[arg(long, value_name = "KEYID")]
    consent_key: Vec<KeyId>,
    /// The provider's order key with this id, and no other; may be given several times.
    #[arg(long, value_name = "KEYID")]
    order_key: Vec<KeyId>,
}

impl From<&Word> for OwnersWord {
    fn from(word: &Word) -> Self {
        let demand = |consent| match consent {
            Consent::Signature => Demand::Signature,
            Consent::Nothing => Demand::Nothing,
        };
        let ranking = |believed| if believed { Ranking::Provider } else { Ranking::Unproven };
        Self {
            consent: word.consent.map(demand),
            ranking: word.believe_priorities.map(ranking),
            consent_keys: word.consent_key.iter().copied().collect(),
            order_keys: word.order_key.iter().copied().collect(),
        }
    }
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
    let kept = |source| AgentError::state(&state, source);
    match &arguments.command {
        Command::Join { url, token, name, root, word } => {
            let name = name.clone().unwrap_or_else(host_name);
            let identity = join(url, token, &name, &state)?;
            println!("joined as {} for {}", identity.agent, identity.ci);
            match pin_now(&state, &identity, root, word) {
                Err(error @ AgentError::NoOrders { .. }) => {
                    println!("it takes no orders: {error}\nhelp: {}", error.help());
                }
                outcome => outcome?,
            }
            println!("now run `patchwright agent run`, or start the service");
        }
        Command::Pin { root, word } => {
            let identity = state.identity().map_err(kept)?.ok_or(AgentError::NotJoined)?;
            pin_now(&state, &identity, root, word)?;
        }
        Command::Run { once, root, policy, probes } => {
            let (root, policy, probes) = (root.clone(), policy.clone(), probes.clone());
            let settings = Settings { root, policy, probes, once: *once };
            run(&state, &settings)?;
        }
        Command::Status { policy } => print!("{}", show::status(&state, policy, Timestamp::now())?),
        Command::Orders { format } => {
            let record = state.record().map_err(kept)?;
            match format {
                Format::Table => print!("{}", show::orders(&record)),
                Format::Json => {
                    for entry in &record {
                        let line = serde_json::to_string(entry);
                        println!("{}", line.map_err(|error| kept(error.into()))?);
                    }
                }
            }
        }
    }
    Ok(())
}

fn pin_now(state: &State, identity: &Identity, root: &Path, word: &Word) -> Result<(), AgentError> {
    let versions = family(root)?.version_kind();
    let pinned = pin(state, identity, &connect(state)?, &word.into(), versions, Timestamp::now())?;
    print!("{}", show::pinned(&pinned));
    Ok(())
}
