//! `patchwright backup`: backups of a control plane while it runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::backup::{Alone, Backup, BackupError, Repository, Retention, Secret, Source, Taken, wait};
use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use store::{Engine, Environment as _, MasterKey, Objects, System};

use crate::data::{existing, master_key_failed, together};
use crate::failure::{helped, report, usage};
use crate::objects::{self, ObjectsArgs, address, s3_failed};
use crate::up::{interruption, open_both, store_failed};

/// What backups' keys are wrapped under.
const PURPOSE: &str = "patchwright backup 2026 master";

/// How often what is not kept any more is removed.
const TIDY: SignedDuration = SignedDuration::from_mins(5);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Back up a control plane while it runs.
///
/// The first time everything is copied, after that what altered. Everything in the repository is encrypted and
/// authenticated under keys that only the MASTER KEY opens, and the master key is NEVER in it: keep a copy of
/// `DATA/master.key` elsewhere, or no backup can be restored.
///
/// With PostgreSQL the database itself is NOT backed up by this: that has base backups and archived logs for it (see
/// docs/backup.md). Objects, images and sources are.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    take: TakeArgs,
}

#[derive(Debug, Args)]
struct TakeArgs {
    /// Where all is kept. By default the user's data directory.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    data: Option<PathBuf>,
    /// A database elsewhere: a file, or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
    database: Option<String>,
    #[command(flatten)]
    objects: ObjectsArgs,
    /// The repository: a directory, on another disk best, or `s3://BUCKET/PREFIX?region=REGION` as for --objects.
    #[arg(long, value_name = "REPOSITORY")]
    to: Option<PathBuf>,
    /// Take one after another, so often, until it is ended: `2s` loses less than five seconds.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    every: Option<SignedDuration>,
    /// Take one, and end. So it is without `--every`.
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// Leave out the bytes of images.
    #[arg(long)]
    without_images: bool,
    /// Keep so many of the newest at least.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    keep: usize,
    /// Keep all that are not older.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    keep_all: SignedDuration,
    /// Keep the last one of each hour, as long.
    #[arg(long, value_name = "TIME", default_value = "48h", value_parser = duration)]
    keep_hourly: SignedDuration,
    /// Keep the last one of each day, as long.
    #[arg(long, value_name = "TIME", default_value = "744h", value_parser = duration)]
    keep_daily: SignedDuration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the backups of a repository.
    List(LookArgs),
    /// Read all backups of a repository, and tell whether each bit is what was written. Ends with 1 where one is not.
    Verify(LookArgs),
}

#[derive(Debug, Args)]
struct LookArgs {
    /// The repository.
    #[arg(long, value_name = "REPOSITORY")]
    from: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
}

/// Which master key opens a repository.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The master key's file, as it was kept apart from the backups. By default that of the user's data directory.
    #[arg(long, value_name = "FILE", env = "PATCHWRIGHT_MASTER_KEY")]
    pub(crate) master_key: Option<PathBuf>,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if duration.is_negative() { Err("it is less than nothing".to_owned()) } else { Ok(duration) }
}

/// Runs the command.
pub(crate) fn run(arguments: &BackupArgs) -> Result<ExitCode> {
    match &arguments.command {
        Some(Command::List(arguments)) => list(arguments),
        Some(Command::Verify(arguments)) => verify(arguments),
        None => take(&arguments.take),
    }
}

/// Opens a repository for reading.
pub(crate) fn open(from: &Path, key: &KeyArgs) -> Result<Repository> {
    let elsewhere = address(from)?;
    if elsewhere.is_none() && !from.is_dir() {
        let error = anyhow!("there is no repository `{}`", from.display());
        return Err(helped(error, "name the repository that `patchwright backup --to` was given"));
    }
    let path = match &key.master_key {
        Some(path) => path.clone(),
        None => crate::data::master_key_file(&crate::data::data_directory()?),
    };
    if !path.is_file() {
        let error = anyhow!("there is no master key `{}`", path.display());
        return Err(helped(
            error,
            "give the one that the installation had, with --master-key FILE",
        ));
    }
    let master = MasterKey::open(&path, &System).map_err(master_key_failed)?;
    let objects: Arc<dyn Objects> = match &elsewhere {
        Some(address) => Arc::new(objects::open(address)?),
        None => Repository::directory(from).map_err(backup_failed)?,
    };
    Repository::open(objects, &wrapping(&master), random).map_err(backup_failed)
}

fn wrapping(master: &MasterKey) -> Secret {
    master.derive(PURPOSE)
}

fn random(bytes: &mut [u8]) {
    System.fill(bytes);
}

fn list(arguments: &LookArgs) -> Result<ExitCode> {
    let repository = open(&arguments.from, &arguments.key)?;
    println!("{:<24} {:<20} {:>8}  HOLDS", "BACKUP", "AT", "BYTES");
    for (id, backup) in repository.backups().map_err(backup_failed)? {
        match backup {
            Ok(backup) => println!(
                "{id:<24} {:<20} {:>8}  {}",
                backup.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                human(backup.bytes),
                if backup.has_database { "all" } else { "all but the database" },
            ),
            Err(error) => println!("{id:<24} {error}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &LookArgs) -> Result<ExitCode> {
    let repository = open(&arguments.from, &arguments.key)?;
    let verified = repository.verify().map_err(backup_failed)?;
    for damage in &verified.damages {
        println!("{damage}");
    }
    if verified.locked > 0 {
        println!("{} backups open with another master key alone: not checked", verified.locked);
    }
    println!(
        "{} backups are whole; {} packs of {} read, {} of none: {}",
        verified.backups,
        verified.packs,
        human(verified.bytes),
        verified.garbage,
        if verified.damages.is_empty() { "sound" } else { "DAMAGED" },
    );
    Ok(if verified.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn take(arguments: &TakeArgs) -> Result<ExitCode> {
    let Some(to) = &arguments.to else {
        return Err(usage(
            "there is no repository to back up to",
            "name a directory or an object store with --to",
        ));
    };
    let data = existing(arguments.data.as_deref())?;
    let _at_work = together(&data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let is_ended = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ended);
    runtime.block_on(async {
        let interruption = interruption()?;
        tokio::spawn(async move {
            interruption.await;
            ending.store(true, Ordering::SeqCst);
        });
        Ok::<_, anyhow::Error>(())
    })?;
    let (repository, _alone) = alone(&data, to)?;
    let installation = runtime.block_on(installation(arguments, &data, repository))?;
    let rule = Retention {
        newest: arguments.keep,
        all: arguments.keep_all,
        hourly: arguments.keep_hourly,
        daily: arguments.keep_daily,
    };
    match arguments.every {
        None => {
            let taken = once(&mut installation.begin()?, &rule)?;
            tell(&taken);
        }
        Some(every) => again_and_again(&installation, every, &rule, &is_ended),
    }
    Ok(ExitCode::SUCCESS)
}

/// A repository, with nobody else who writes there.
fn alone(data: &Path, to: &Path) -> Result<(Arc<dyn Objects>, Alone)> {
    let Some(address) = address(to)? else {
        std::fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
        let alone = Repository::lock(to).map_err(backup_failed)?;
        return Ok((Repository::directory(to).map_err(backup_failed)?, alone));
    };
    let store = objects::open(&address)?;
    store.check().map_err(s3_failed)?;
    let text = address.to_string();
    let place = Sha256::digest(text.split('?').next().unwrap_or_default());
    let file =
        data.join(format!(".backup-writer-{:02x}{:02x}{:02x}", place[0], place[1], place[2]));
    let leased = Repository::lease(Arc::new(store), &file, &text, || System.now(), random);
    leased.map_err(backup_failed)
}

/// What is backed up, and where to.
struct Installation {
    to: Arc<dyn Objects>,
    /// Where history's objects are, if not below the data directory.
    elsewhere: Option<Arc<dyn Objects>>,
    source: Source,
    wrapping: Secret,
    secrets: Vec<Secret>,
}

impl Installation {
    fn begin(&self) -> Result<Backup> {
        let objects = Arc::clone(&self.to);
        let secrets = self.secrets.clone();
        let (repository, writing) =
            Repository::adopt(objects, &self.wrapping, secrets, random).map_err(backup_failed)?;
        let backup =
            Backup::begin(repository, writing, self.source.clone()).map_err(backup_failed)?;
        Ok(match &self.elsewhere {
            Some(objects) => backup.with_objects(Arc::clone(objects)),
            None => backup,
        })
    }
}

/// The keys come from the database, which is not held open for that any longer.
async fn installation(
    arguments: &TakeArgs,
    data: &Path,
    to: Arc<dyn Objects>,
) -> Result<Installation> {
    let address = arguments.database.as_deref();
    let engine = match address {
        Some(address) => address.parse::<store::Database>().map_err(store_failed)?.engine(),
        None => Engine::Sqlite,
    };
    let (store, master) = open_both(address, data).await?;
    let secrets = store.backup_keys(&master).await.map_err(store_failed)?;
    store.close().await;
    let database = match engine {
        Engine::Sqlite => Some(address.map_or_else(|| data.join("patchwright.db"), PathBuf::from)),
        Engine::Postgres => {
            eprintln!(
                "The database is PostgreSQL and is NOT in these backups: take base backups and archive its logs, \
                 as docs/backup.md says."
            );
            None
        }
    };
    let elsewhere: Option<Arc<dyn Objects>> = match arguments.objects.store(data)? {
        Some(address) => Some(Arc::new(objects::open(&address)?)),
        None => None,
    };
    Ok(Installation {
        to,
        elsewhere,
        source: Source { data: data.to_owned(), database, with_images: !arguments.without_images },
        wrapping: wrapping(&master),
        secrets,
    })
}

fn once(backup: &mut Backup, rule: &Retention) -> Result<Taken> {
    let taken = backup.step(System.now()).map_err(backup_failed)?;
    backup.repository().retain(rule, System.now()).map_err(backup_failed)?;
    Ok(taken)
}

/// Until the end is asked for; then once more.
fn again_and_again(
    installation: &Installation,
    every: SignedDuration,
    rule: &Retention,
    is_ended: &AtomicBool,
) {
    let (mut going, mut tidied, mut is_told) = (None, Timestamp::UNIX_EPOCH, false);
    loop {
        let begun = System.now();
        let is_last = is_ended.load(Ordering::SeqCst);
        match step(&mut going, installation, &mut tidied, rule) {
            Ok(taken) => {
                if !is_told || taken.is_full {
                    tell(&taken);
                }
                is_told = true;
            }
            Err(error) => {
                // Nothing of it is there. What is at hand may be half altered: begun anew.
                going = None;
                is_told = false;
                report(&error);
                std::thread::sleep(PAUSE);
            }
        }
        if is_last {
            return;
        }
        let mut left = wait(begun, System.now(), every).unsigned_abs();
        while !left.is_zero() && !is_ended.load(Ordering::SeqCst) {
            let slice = left.min(Duration::from_millis(50));
            std::thread::sleep(slice);
            left -= slice;
        }
    }
}

fn step(
    going: &mut Option<Backup>,
    installation: &Installation,
    tidied: &mut Timestamp,
    rule: &Retention,
) -> Result<Taken> {
    let backup = match going {
        Some(backup) => backup,
        None => going.insert(installation.begin()?),
    };
    let now = System.now();
    let taken = backup.step(now).map_err(backup_failed)?;
    if now.duration_since(*tidied) >= TIDY {
        backup.repository().retain(rule, now).map_err(backup_failed)?;
        *tidied = now;
    }
    Ok(taken)
}

fn tell(taken: &Taken) {
    println!(
        "backup {}: {} added, {} pages read{}",
        taken.id,
        human(taken.written),
        taken.pages,
        if taken.is_full { " (everything was compared)" } else { "" },
    );
}

/// Bytes, as people say them.
pub(crate) fn human(bytes: u64) -> String {
    let mut size = bytes;
    for unit in ["B", "KiB", "MiB"] {
        if size < 10_000 {
            return format!("{size} {unit}");
        }
        size /= 1024;
    }
    format!("{size} GiB")
}

pub(crate) fn backup_failed(error: BackupError) -> anyhow::Error {
    let help = error.help();
    helped(error, help)
}
