//! The client: what people and scripts do with a control plane from a command line.
//!
//! [`Connection`] speaks to it, [`contexts`] keeps which one and as whom, [`kind::Kind`] knows what each
//! kind of objects looks like; the commands are made of these.

mod accept;
mod alterations;
mod apply;
mod baselines;
mod break_glass;
pub(crate) mod changes;
mod clocks;
mod configuration;
pub(crate) mod connection;
pub(crate) mod contexts;
mod create;
pub(crate) mod delete;
mod describe;
mod devices;
mod draft;
pub(crate) mod evidence;
mod get;
pub(crate) mod images;
pub(crate) mod kind;
mod login;
pub(crate) mod names;
mod notices;
mod order_key;
pub(crate) mod output;
mod releases;
pub(crate) mod secret;
mod sources;
mod status;
mod transfer;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// The commands of the client.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in to a control plane, and keep it as a context.
    Login(login::LoginArgs),
    /// Sign out, and forget the secret.
    Logout(login::LogoutArgs),
    /// Keep several control planes apart.
    Context(login::ContextArgs),
    /// Tell whether the cloud is at its latest, and what is not.
    Status(status::StatusArgs),
    /// List the clocks of the SLA that run, and who holds the ball.
    Clocks(clocks::ClocksArgs),
    /// Take up changes, plan them for each tenant, and see what they wait for.
    Change(changes::ChangeArgs),
    /// Take a change out over the fleet, wave by wave, and see what waits for what.
    Release(releases::ReleaseArgs),
    /// See what items are and were configured by.
    Config(configuration::ConfigArgs),
    /// Put baselines in, say to which items they apply, and answer for rules.
    Baseline(baselines::BaselineArgs),
    /// Say how network and security devices are looked at over SSH, and see how that goes.
    Device(devices::DeviceArgs),
    /// Say from where items are told what they are configured by: git repositories and documents behind addresses.
    Source(sources::SourceArgs),
    /// Read or hand over the key with which orders are signed.
    OrderKey(order_key::OrderKeyArgs),
    /// Say that a notice was read, and send it again.
    Notice(notices::NoticeArgs),
    /// Tell where a tenant's notices go, beside the console.
    Channel(notices::ChannelArgs),
    /// Subscribe to a tenant's changes with a calendar or a reader.
    Feed(notices::FeedArgs),
    /// List objects, or read some.
    Get(get::GetArgs),
    /// Tell everything about one object.
    Describe(describe::DescribeArgs),
    /// Create an object.
    Create(create::CreateArgs),
    /// Make the cloud's description what a file says: create what is missing, alter what differs.
    Apply(apply::ApplyArgs),
    /// Take up many items: from CSV, JSON lines, or the domains of a libvirt host.
    Import(transfer::ImportArgs),
    /// Write all items down, as `import` reads them.
    Export(transfer::ExportArgs),
    /// Retire an item, end an agent or relation, take a token or somebody's access back.
    Delete(delete::DeleteArgs),
    /// Accept the risk of a finding for a while.
    Accept(accept::AcceptArgs),
}

/// Runs a command of the client.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Login(arguments) => login::login(arguments),
        Command::Logout(arguments) => login::logout(arguments),
        Command::Context(arguments) => login::context(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Clocks(arguments) => clocks::run(arguments),
        Command::Change(arguments) => changes::run(arguments),
        Command::Release(arguments) => releases::run(arguments),
        Command::Config(arguments) => configuration::run(arguments),
        Command::Baseline(arguments) => baselines::run(arguments),
        Command::Device(arguments) => devices::run(arguments),
        Command::Source(arguments) => sources::run(arguments),
        Command::OrderKey(arguments) => order_key::run(arguments),
        Command::Notice(arguments) => notices::run(arguments),
        Command::Channel(arguments) => notices::channel(arguments),
        Command::Feed(arguments) => notices::feed(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Describe(arguments) => describe::run(arguments),
        Command::Create(arguments) => create::run(arguments),
        Command::Apply(arguments) => apply::run(arguments),
        Command::Import(arguments) => transfer::import(arguments),
        Command::Export(arguments) => transfer::export(arguments),
        Command::Delete(arguments) => delete::run(arguments),
        Command::Accept(arguments) => accept::run(arguments),
    }
}
