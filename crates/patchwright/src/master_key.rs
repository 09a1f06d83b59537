//! `patchwright master-key`: the key over all keys, rotated.
//!
//! ```text
//! master.key.next written ─► all keys sealed anew, one commit ─► master.key.next becomes master.key
//!        │ killed: of no use yet          │ killed: the next start finds which of them opens, and ends it
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use store::{Actor, MasterKey, System};

use crate::data::{alone, existing, master_key, master_key_failed, master_key_file};
use crate::up::{open_store, store_failed};

/// Keep the key over all keys.
#[derive(Debug, Args)]
pub(crate) struct MasterKeyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make another master key, and seal all keys anew under it.
    ///
    /// While no control plane runs, and no backup is taken. Nothing that those keys sealed is touched, so it takes a moment
    /// however much there is; backups go on in the same repository, under a key that the old master key does not open. KEEP
    /// A COPY of the new `master.key` apart from the backups: without it neither they nor the database open. Backups that
    /// were taken before open with the OLD one alone: keep that as long as them. It stands in the ledger like any other
    /// change.
    Rotate {
        /// Where all is kept. By default the user's data directory.
        #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
        data: Option<PathBuf>,
        /// A database elsewhere: a file, or `postgres://USER@HOST/DATABASE`.
        #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
        database: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &MasterKeyArgs) -> Result<ExitCode> {
    let Command::Rotate { data, database } = &arguments.command;
    let data = existing(data.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(rotate(&data, database.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(data: &Path, database: Option<&str>) -> Result<()> {
    let _alone = alone(data)?;
    let store = open_store(database, data).await?;
    let old = master_key(data, &store).await?;
    let path = master_key_file(data);
    // One that a rotation left before its commit will do: nobody uses it.
    let new = MasterKey::open(&MasterKey::next_path(&path), &System).map_err(master_key_failed)?;
    let (before, after) = (old.fingerprint(), new.fingerprint());
    stop_at("written");
    let rotated = store
        .rotate_master_key(&Actor::System, Arc::new(old), Arc::new(new))
        .await
        .map_err(store_failed)?;
    stop_at("sealed");
    MasterKey::promote(&path).map_err(master_key_failed)?;
    stop_at("promoted");
    store.close().await;
    println!("Another master key is in force\n");
    println!("  before   {before}");
    println!("  now      {after}");
    println!(
        "  sealed   {} keys, and those of {} tenants' histories",
        rotated.keys, rotated.tenants
    );
    println!("  file     {}\n", path.display());
    println!("Keep a copy of it apart from the backups: without it nothing opens.");
    Ok(())
}

/// For tests, which kill it at each step.
fn stop_at(step: &str) {
    if cfg!(debug_assertions) && std::env::var("PATCHWRIGHT_STOP_AT").is_ok_and(|it| it == step) {
        std::process::abort();
    }
}
