//! The `patchwright` command: composition root of the rooms below it.

mod backup;
mod check;
mod client;
mod consent;
mod data;
mod drill;
mod failure;
mod fleet_sim;
mod fsck;
mod image;
mod image_stores;
mod ledger;
mod master_key;
mod objects;
mod places;
mod policy;
mod restore;
mod shell;
mod sla;
mod text;
mod up;
mod user;
mod version;
mod witness;

use std::io::{stdin, stdout};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// glibc's heap scatters under what a control plane asks of it (`docs/decisions/0007-libraries.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Prove patches on copies of an image, and bake the image with them.
    Image(image::ImageArgs),
    /// Work in a throw-away copy of an image.
    Lab(image::LabCommand),
    /// Start the control plane on this machine, and check it.
    Up(up::UpArgs),
    /// Run the whole loop on scratch virtual machines, and report what was seen.
    Drill(drill::DrillArgs),
    /// Join a control plane, and tell it what this host has installed.
    Agent(agent::AgentArgs),
    /// Make load like that of many agents.
    FleetSim(fleet_sim::FleetSimArgs),
    /// Verify the record of all that happened, or take it along.
    Ledger(ledger::LedgerArgs),
    /// Tell who may do what, and check that it is what was meant.
    Policy(policy::PolicyArgs),
    /// Read SLA policies between provider and tenant, and tell whether they can be kept.
    Sla(sla::SlaArgs),
    /// Read plans, and sign what a tenant says to them.
    Consent(consent::ConsentArgs),
    /// Back up a control plane while it runs, and tell whether backups are whole.
    Backup(backup::BackupArgs),
    /// Bring a control plane back from a backup.
    Restore(restore::RestoreArgs),
    /// Keep the key over all keys.
    MasterKey(master_key::MasterKeyArgs),
    /// Tell whether the history of configuration is whole.
    Fsck(fsck::FsckArgs),
    /// Keep people from the machine itself, for when nobody can sign in.
    User(user::UserArgs),
    /// Hold somebody else's log to its word.
    Witness(witness::WitnessArgs),
    /// Compare versions as dpkg, rpm and apk do.
    Version(version::VersionArgs),
    #[command(flatten)]
    Client(client::Command),
    /// Print completions of this command for a shell.
    Completions(shell::CompletionsArgs),
    /// Print the manual, or write a page for each command.
    Man(shell::ManArgs),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Lab(arguments) => image::run_lab(&arguments),
        Command::Up(arguments) => up::run(&arguments),
        Command::Drill(arguments) => drill::run(&arguments),
        Command::Agent(arguments) => Ok(agent::main(&arguments)),
        Command::FleetSim(arguments) => fleet_sim::run(&arguments),
        Command::Ledger(arguments) => ledger::run(&arguments, &mut stdout().lock()),
        Command::Policy(arguments) => policy::run(&arguments, &mut anstream::stdout().lock()),
        Command::Sla(arguments) => sla::run(&arguments, &mut anstream::stdout().lock()),
        Command::Consent(arguments) => consent::run(&arguments, &mut anstream::stdout().lock()),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::MasterKey(arguments) => master_key::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Witness(arguments) => witness::run(&arguments),
        Command::Version(arguments) => version::run(arguments, stdin().lock(), stdout().lock()),
        Command::Client(command) => client::run(&command),
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => shell::manual(&arguments, Arguments::command()),
    };
    outcome.unwrap_or_else(|error| failure::report(&error))
}
