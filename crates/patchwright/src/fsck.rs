//! `patchwright fsck`: whether the content history can still be read, and is what was recorded.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use store::{Actor, History, PageRequest, Store};

use crate::data::{existing, together};
use crate::objects::ObjectsArgs;
use crate::text::plain;
use crate::up::{open_both, store_failed};

/// Tell whether all that items were configured by can be read, and is what was recorded.
///
/// Reads everything: each partition, each version, each content, and holds what was recorded against the events.
/// The control plane may run or rest. Ends with 1 where something is damaged.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Where all is kept. By default the user's data directory.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    data: Option<PathBuf>,
    /// A database elsewhere: a file, or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
    database: Option<String>,
    #[command(flatten)]
    objects: ObjectsArgs,
}

/// Runs the command.
pub(crate) fn run(arguments: &FsckArgs) -> Result<ExitCode> {
    let data = existing(arguments.data.as_deref())?;
    let _at_work = together(&data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let (store, master) = open_both(arguments.database.as_deref(), &data).await?;
        let history = store.history(Arc::clone(&master), arguments.objects.open(&data)?);
        let damages = check(&store, &history).await?;
        store.close().await;
        Ok(if damages == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Checks the history of all tenants, prints what is found, and says how much is damaged.
pub(crate) async fn check(store: &Store, history: &History) -> Result<usize> {
    let (mut page, mut damages) = (PageRequest { after: None, limit: 1000 }, 0);
    loop {
        let tenants = store.tenants(&Actor::System, &page).await.map_err(store_failed)?;
        for tenant in &tenants.items {
            let found = history.fsck(&Actor::System, tenant.id).await.map_err(store_failed)?;
            println!(
                "{:<24} {} partitions ({} erased), {} versions, {} contents of {} bytes, {} records: {}",
                plain(tenant.slug.as_str()),
                found.partitions,
                found.erased,
                found.versions,
                found.contents,
                found.bytes,
                found.batches,
                if found.damages.is_empty() { "sound" } else { "DAMAGED" },
            );
            for damage in &found.damages {
                println!("  {}", plain(damage));
            }
            damages += found.damages.len();
        }
        if tenants.next.is_none() {
            return Ok(damages);
        }
        page.after = tenants.next;
    }
}
