//! `patchwright restore`: a control plane, back from a backup.
//!
//! ```text
//! backup ─► DIR.restoring: files, each byte checked ─► event `installation.restored` ─► ledger made again, and held
//!                                                        against its last checkpoint ─► renamed to DIR
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ::backup::Manifest;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use ledger::{Directory, Policy, SignedCheckpoint, Tree};
use server::Recorder;
use store::{Actor, Lapse, MasterKey, Objects, Restoration, Store};

use crate::backup::{KeyArgs, backup_failed, human, open};
use crate::data::master_key_file;
use crate::failure::{helped, usage};
use crate::fsck;
use crate::objects::{self, ObjectsArgs, keep_note, s3_failed};
use crate::up::{open_both, recorder_failed, store_failed};

/// Bring a control plane back from a backup.
///
/// Into a directory that is not there yet; each byte is checked against what was backed up, and the ledger is made again from
/// the database and held against the checkpoint that was published then. The first record after it is
/// `installation.restored`. What was acknowledged after the backup is LOST, and others may have seen it: so the ledger
/// goes on under a NEW name and key, and whoever verifies it or witnesses it must be told (docs/backup.md), unless
/// `--same-ledger` shows that nothing that was published is missing.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The repository, as `patchwright backup --to` was given it.
    #[arg(long, value_name = "REPOSITORY")]
    from: PathBuf,
    /// The data directory to make.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
    /// The newest backup as of this time (RFC 3339), not the newest of all.
    #[arg(long, value_name = "TIME", conflicts_with = "backup")]
    at: Option<Timestamp>,
    /// This backup.
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// The last checkpoint that was published of the ledger, as a witness, a copy, or the old disk has it. The ledger goes
    /// on as the same one if it continues that; otherwise nothing is restored.
    #[arg(long, value_name = "FILE")]
    same_ledger: Option<PathBuf>,
    /// Check the history of configuration as well, as `patchwright fsck` does.
    #[arg(long)]
    check: bool,
    /// The database that was brought back already, where it is PostgreSQL.
    #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
    database: Option<String>,
    #[command(flatten)]
    objects: ObjectsArgs,
}

/// Runs the command.
pub(crate) fn run(arguments: &RestoreArgs) -> Result<ExitCode> {
    let repository = open(&arguments.from, &arguments.key)?;
    let manifest = match &arguments.backup {
        Some(id) => repository.manifest(id),
        None => repository.newest(arguments.at),
    }
    .map_err(backup_failed)?;
    if manifest.has_database && arguments.database.is_some() {
        return Err(usage("the database is in this backup", "leave --database out"));
    }
    let to = std::path::absolute(&arguments.to).context("cannot find the data directory")?;
    // Nothing of it is under its name before all of it is.
    let beside = beside(&to)?;
    let elsewhere = arguments.objects.given()?;
    let store = elsewhere.as_ref().map(objects::open).transpose()?;
    if let Some(store) = &store {
        store.check().map_err(s3_failed)?;
    }
    let objects = store.as_ref().map(|store| store as &dyn Objects);
    let restored = repository.restore_with(&manifest, &beside, objects).map_err(backup_failed)?;
    if let Some(address) = &elsewhere {
        keep_note(&beside, address)?;
    }
    keep_master(arguments, &beside)?;
    let told = if manifest.has_database || arguments.database.is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start threads")?;
        let told = runtime.block_on(set_going(arguments, &manifest, &beside));
        if told.is_err() && arguments.database.is_none() {
            fs::remove_dir_all(&beside).with_context(|| format!("in `{}`", beside.display()))?;
        }
        Some(told?)
    } else {
        None
    };
    fs::rename(&beside, &to).with_context(|| format!("cannot rename to `{}`", to.display()))?;
    sync_parent(&to)?;
    println!("Restored to {}\n", to.display());
    println!("  backup   {}", manifest.id);
    println!("  holds    all that was acknowledged before {}", manifest.at);
    println!(
        "  bytes    {}, in {} files beside the database",
        human(restored.bytes),
        restored.files
    );
    if let Some(address) = &elsewhere {
        println!("  history  its objects are in {address}");
    }
    let Some(told) = told else {
        println!(
            "\nThe DATABASE IS NOT in this backup: bring PostgreSQL back to a time after {}",
            manifest.at
        );
        println!("(docs/backup.md), then restore again with --database, so that it is recorded.");
        return Ok(ExitCode::SUCCESS);
    };
    println!("  last     {}", told.last);
    println!("  ledger   {}", told.ledger);
    println!("           {}\n", told.continues);
    if !arguments.check {
        println!("Check the history of configuration: patchwright fsck --data {}", to.display());
    }
    println!("Then start it: patchwright up --data {}", to.display());
    Ok(if told.damages == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where it is made, beside its place. What an earlier try left there goes.
fn beside(to: &Path) -> Result<PathBuf> {
    let is_taken = match fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).with_context(|| format!("cannot use `{}`", to.display())),
    };
    if is_taken {
        let error = anyhow!("`{}` is not empty", to.display());
        return Err(helped(error, "name a directory that is not there yet with --to"));
    }
    let mut name = to.file_name().context("it has no name")?.to_owned();
    name.push(".restoring");
    let beside = to.with_file_name(name);
    if beside.exists() {
        fs::remove_dir_all(&beside)
            .with_context(|| format!("cannot remove `{}`", beside.display()))?;
    }
    Ok(beside)
}

/// The master key's file, as it was given.
fn keep_master(arguments: &RestoreArgs, data: &Path) -> Result<()> {
    let given = match &arguments.key.master_key {
        Some(path) => path.clone(),
        None => master_key_file(&crate::data::data_directory()?),
    };
    let text = fs::read(&given).with_context(|| format!("cannot read `{}`", given.display()))?;
    let path = master_key_file(data);
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = made.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("it is nowhere")?;
    fs::File::open(parent).and_then(|folder| folder.sync_all()).context("cannot make it durable")
}

/// What is told of an installation that is there again.
struct Told {
    last: String,
    ledger: String,
    continues: String,
    damages: usize,
}

/// Records that it was restored, and makes its ledger.
async fn set_going(arguments: &RestoreArgs, manifest: &Manifest, data: &Path) -> Result<Told> {
    let (store, master) = open_both(arguments.database.as_deref(), data).await?;
    let published = manifest.checkpoint.as_deref().map(checkpoint).transpose()?;
    let (last, entries) = last_event(&store).await?;
    let shown = if let Some(file) = &arguments.same_ledger {
        Some(shown(file, &store, &master, data).await?)
    } else {
        set_aside(manifest, data)?;
        None
    };
    let restoration = Restoration {
        backup: manifest.id.clone(),
        taken_at: manifest.at,
        checkpoint: published.clone(),
        same_ledger: shown.is_some(),
    };
    store.record_restoration(&Actor::System, restoration).await.map_err(store_failed)?;
    let recorder = Recorder::open(store.clone(), &master, data.join("ledger"))
        .await
        .map_err(recorder_failed)?;
    recorder.finish().await.map_err(recorder_failed)?;
    // A database that was brought back by itself may be of an earlier time than the checkpoint in the backup.
    let missing = match &published {
        Some(published) if arguments.database.is_some() => published.size.saturating_sub(entries),
        _ => 0,
    };
    if let Some(published) = published.as_ref().filter(|_| missing == 0) {
        hold_against(published, data)?;
    }
    let damages = if arguments.check {
        let history = store.history(Arc::clone(&master), arguments.objects.open(data)?);
        fsck::check(&store, &history).await?
    } else {
        0
    };
    let ledger = recorder.key().to_string();
    store.close().await;
    let continues = match (shown, published) {
        (Some(size), _) => {
            format!("goes on as the same one: it continues the {size} entries that were shown")
        }
        (None, Some(it)) if missing > 0 => format!(
            "NEW: of {} entries of {} that were published, the last {missing} are LOST",
            it.size, it.origin
        ),
        (None, Some(it)) => {
            format!(
                "NEW: the first {} entries are those of {}, as they were published",
                it.size, it.origin
            )
        }
        (None, None) => "NEW: none was published when the backup was taken".to_owned(),
    };
    Ok(Told { last, ledger, continues, damages })
}

fn checkpoint(text: &str) -> Result<Lapse> {
    let signed = SignedCheckpoint::parse(text.as_bytes()).context("cannot read a checkpoint")?;
    let claimed = signed.claimed();
    Ok(Lapse { origin: claimed.origin.clone(), size: claimed.size, root: claimed.root.to_string() })
}

/// What the old ledger showed last stays to be read, beside the new one.
fn set_aside(manifest: &Manifest, data: &Path) -> Result<()> {
    let before = data.join("ledger.before");
    let witnessed = data.join("ledger/checkpoint.witnessed");
    if let Some(checkpoint) = &manifest.checkpoint {
        fs::create_dir_all(&before)?;
        fs::write(before.join("checkpoint"), checkpoint)?;
    }
    if witnessed.is_file() {
        fs::create_dir_all(&before)?;
        fs::rename(witnessed, before.join("checkpoint.witnessed"))?;
    }
    Ok(())
}

/// Makes the ledger again as it was, and holds it against the last checkpoint that was published.
async fn shown(file: &Path, store: &Store, master: &Arc<MasterKey>, data: &Path) -> Result<u64> {
    let unusable = || format!("cannot use the checkpoint `{}`", file.display());
    let bytes = fs::read(file).with_context(unusable)?;
    let signed =
        SignedCheckpoint::parse(&bytes).map_err(|error| anyhow!(error).context(unusable()))?;
    let recorder = Recorder::open(store.clone(), master, data.join("ledger"))
        .await
        .map_err(recorder_failed)?;
    let trusted = signed.verify(&Policy::of_logs([recorder.key().clone()])).map_err(|error| {
        helped(
            anyhow!(error).context(unusable()),
            "give a checkpoint of this installation's ledger",
        )
    })?;
    recorder.finish().await.map_err(recorder_failed)?;
    let lapse = Lapse {
        origin: trusted.origin().to_owned(),
        size: trusted.size(),
        root: trusted.root().to_string(),
    };
    hold_against(&lapse, data).map_err(|error| {
        helped(
            error.context("what was published after the backup is missing in it"),
            "restore a later backup, or leave --same-ledger out: the ledger goes on under a new name then",
        )
    })?;
    Ok(lapse.size)
}

/// The ledger that was made again has what was published.
fn hold_against(published: &Lapse, data: &Path) -> Result<()> {
    let directory = Directory::new(data.join("ledger"));
    let bytes = fs::read(data.join("ledger/checkpoint")).context("the ledger was not made")?;
    let made = SignedCheckpoint::parse(&bytes)?;
    let made = made.claimed();
    if made.size < published.size {
        bail!(
            "the ledger has {} entries, not the {} that were published",
            made.size,
            published.size
        );
    }
    let tree = Tree::new(directory, made.size, made.root).earlier(published.size)?;
    if tree.root().to_string() != published.root {
        bail!(
            "the first {} entries of the ledger are not those that were published",
            published.size
        );
    }
    Ok(())
}

/// The last event before, and how many there are.
async fn last_event(store: &Store) -> Result<(String, u64)> {
    while store.has_waiting_events().await.map_err(store_failed)? {
        store.sequence_events(2000).await.map_err(store_failed)?;
    }
    let total: u64 = store
        .event_counts()
        .await
        .map_err(store_failed)?
        .into_iter()
        .map(|(_, _, count)| count)
        .sum();
    let from = total.saturating_sub(1);
    let events = store.sequenced_events(from, 1).await.map_err(store_failed)?;
    let last = match events.last() {
        Some(event) => format!("{} at {}, the {total}th entry", event.kind.as_str(), event.at),
        None => "nothing was recorded".to_owned(),
    };
    Ok((last, total))
}
