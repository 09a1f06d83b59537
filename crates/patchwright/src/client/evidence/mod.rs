//! `patchwright ledger export`: the log and one's own records, taken along for an audit.
//!
//! What is exported is verified before it counts: the log continues what the directory held before, each
//! record is what its entry commits to, and entries and records are the same in number. The directory's
//! checkpoint is written last.

mod report;
mod tally;

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use domain::cloud::{Role, Side};
use ledger::errors::{MirrorError, StorageError};
use ledger::verify::Verified;
use ledger::{
    Commitment, Directory, Envelope, Hash, Mirror, PayloadDirectory, Policy, ReadStorage,
    SignedCheckpoint, Storage as _, VerifierKey,
};
use serde_json::Value;

use self::report::Report;
use self::tally::Tally;
use super::connection::Connection;
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{BOLD, styled, text};
use super::transfer::progress;
use crate::failure::{during, helped, usage};

/// Records of one request.
const AT_ONCE: usize = 200;

/// Longest key or checkpoint.
const LONGEST_NOTE: usize = 128 << 10;

/// The log's public key, as an export keeps it.
const KEY: &str = "ledger.key";

/// Where an export has its payloads.
const PAYLOADS: &str = "payloads";

/// Copy the log of a control plane with the records that one may see into a directory.
///
/// The provider's people see all records, a tenant's people their own; the log itself is the same for
/// everybody. A second export into the same directory fetches what is new, and refuses where the log does
/// not continue what was there.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArgs {
    /// The directory; made where it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A checkpoint kept elsewhere: refuse if the log was rolled back or rewritten since.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The log's public key, where it is known from elsewhere. Otherwise the one that the directory
    /// keeps, and at first the one that the control plane names.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Exports.
pub(crate) fn export(arguments: &EvidenceArgs, out: &mut impl Write) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let copy = Directory::new(&arguments.directory);
    let payloads = PayloadDirectory::new(arguments.directory.join(PAYLOADS));
    let account = connection.get("/session")?;
    let sees_all = text(&account["role"]).parse::<Role>()?.side() == Side::Provider;
    let key = trusted_key(&connection, &copy, arguments.key.as_deref())?;
    let policy = Policy::of_logs([key.clone()]);
    let since = arguments.since.as_deref().map(read_checkpoint).transpose()?;
    let (_alone, is_new) = reserve(&copy, &arguments.directory)?;

    let mut mirror =
        Mirror::begin(Published(&connection), &copy, &policy, since.as_ref()).map_err(told)?;
    mirror.fetch().map_err(told)?;
    let fetched = fetch_records(&connection, &mirror, &payloads)?;
    let names = Names::new(&connection);
    let (report, tally) = read_all(&mirror, &payloads, &names, &arguments.directory)?;
    tally.check(sees_all)?;
    let held = mirror.held();
    if is_new {
        copy.put(KEY, format!("{key}\n").as_bytes())?;
    }
    let verified = mirror.finish(Some(&payloads)).map_err(told)?;
    let taken = Taken { verified, held, fetched, sees_all, key, from: connection.url().to_owned() };
    report.keep(&taken, &tally, &names, &account)?;
    tell(&taken, &tally, &names, &arguments.directory, out)?;
    Ok(ExitCode::SUCCESS)
}

/// What an export came to.
struct Taken {
    verified: Verified,
    /// Entries that the directory had before.
    held: u64,
    /// Records that came with this export.
    fetched: u64,
    sees_all: bool,
    key: VerifierKey,
    /// The control plane's address.
    from: String,
}

/// A control plane's log, as it publishes it.
struct Published<'a>(&'a Connection);

impl ReadStorage for Published<'_> {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.file(&format!("ledger/{path}"), limit).map_err(|error| StorageError {
            action: "fetch",
            path: path.to_owned(),
            source: io::Error::other(format!("{error:#}")),
        })
    }

    fn list(&self, _folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        Ok(None)
    }
}

/// The key that the log must be signed with: no other than the one that was trusted before.
fn trusted_key(
    connection: &Connection,
    copy: &Directory,
    given: Option<&str>,
) -> Result<VerifierKey> {
    let parse = |key: &str| {
        key.trim().parse::<VerifierKey>().map_err(|error| {
            let help = error.help();
            with_help(error, help)
        })
    };
    let named = text(&connection.get("/ledger")?["key"]);
    let kept = copy.get(KEY, LONGEST_NOTE)?;
    let kept = kept.as_deref().map(String::from_utf8_lossy);
    let trusted = given.or(kept.as_deref()).unwrap_or(&named);
    let key = parse(trusted)?;
    if parse(&named)? != key {
        let error = anyhow!("the control plane names another key for its log: {named}");
        return Err(helped(
            error.context(format!("trusted is {key}")),
            "ask its operator why; name the new key with --key once you know, and export into a new \
             directory",
        ));
    }
    Ok(key)
}

/// Keeps other exports out of the directory, and refuses one that is something else. Says whether it is
/// new.
fn reserve(copy: &Directory, directory: &Path) -> Result<(ledger::DirectoryLock, bool)> {
    let is_ours = copy.get(KEY, LONGEST_NOTE)?.is_some();
    let has_files = fs::read_dir(directory).is_ok_and(|files| {
        files.flatten().any(|file| !file.file_name().to_string_lossy().starts_with('.'))
    });
    let is_started = directory.join("tile").exists() || directory.join(PAYLOADS).exists();
    let has_checkpoint = directory.join("checkpoint").exists();
    if has_files && !is_ours && (has_checkpoint || !is_started) {
        return Err(usage(
            format!("`{}` holds something that is no export", directory.display()),
            "name a new or empty directory",
        ));
    }
    let unwritable = || format!("cannot write in `{}`", directory.display());
    let lock = copy.lock().with_context(unwritable)?;
    // The log is for everybody to read, the records are not.
    let records = directory.join(PAYLOADS);
    DirBuilder::new().recursive(true).mode(0o700).create(&records).with_context(unwritable)?;
    Ok((lock, !is_ours))
}

/// Fetches the records of the entries that are new, each held to what its entry commits to.
fn fetch_records<S: ReadStorage>(
    connection: &Connection,
    mirror: &Mirror<'_, S>,
    payloads: &PayloadDirectory,
) -> Result<u64> {
    let (from, size) = (mirror.held(), mirror.size());
    let bar = progress(usize::try_from(size - from).unwrap_or(usize::MAX), "entries");
    let mut entries = mirror.entries(from);
    let mut fetched = 0;
    for item in connection.items("/ledger/records", &format!("from={from}"), AT_ONCE) {
        let item = item?;
        let record = Fetched::read(&item)?;
        if record.sequence >= size {
            break;
        }
        let entry = loop {
            match entries.next().transpose().map_err(told)? {
                Some(entry) if entry.sequence < record.sequence => {}
                Some(entry) if entry.sequence == record.sequence => break entry,
                _ => return Err(odd("its records are not in the order of its entries")),
            }
        };
        let commitment = record.committed(&entry)?;
        payloads.put(&commitment.sha256, &record.salt, record.text.as_bytes())?;
        fetched += 1;
        bar.set_position(record.sequence - from);
    }
    bar.finish_and_clear();
    Ok(fetched)
}

/// A record as the control plane gives it.
struct Fetched<'a> {
    sequence: u64,
    text: &'a str,
    salt: [u8; 32],
}

impl<'a> Fetched<'a> {
    fn read(item: &'a Value) -> Result<Self> {
        let salt = item["salt"].as_str().and_then(|salt| Hash::from_hex(salt).ok());
        match (item["sequence"].as_u64(), item["record"].as_str(), salt) {
            (Some(sequence), Some(text), Some(salt)) => {
                Ok(Self { sequence, text, salt: *salt.as_bytes() })
            }
            _ => Err(odd("a record of it cannot be read")),
        }
    }

    /// What its entry says that it must be.
    fn committed(&self, entry: &Envelope) -> Result<Commitment> {
        let commitment = entry.commitments.first().filter(|it| {
            entry.commitments.len() == 1 && it.verify(&self.salt, self.text.as_bytes())
        });
        commitment.cloned().ok_or_else(|| {
            let error = anyhow!(
                "the record at place {} is not the one that the ledger commits to",
                self.sequence
            );
            helped(
                error,
                "the database was altered after the event, or the answer was: keep it, ask the \
                 operator, and compare with an earlier export",
            )
        })
    }
}

/// Reads the whole export again: what is in its reports comes from what lies in it.
fn read_all<S: ReadStorage>(
    mirror: &Mirror<'_, S>,
    payloads: &PayloadDirectory,
    names: &Names<'_>,
    directory: &Path,
) -> Result<(Report, Tally)> {
    let mut report = Report::begin(directory)?;
    let mut tally = Tally::default();
    for entry in mirror.entries(0) {
        let entry = entry.map_err(told)?;
        let record = kept_record(&entry, payloads)?;
        tally.add(&entry, record.as_ref())?;
        if let Some(record) = &record {
            report.add(&entry, record, names)?;
        }
    }
    Ok((report, tally))
}

/// The record of an entry, where it is here, as what was committed to.
fn kept_record(entry: &Envelope, payloads: &PayloadDirectory) -> Result<Option<Value>> {
    for commitment in &entry.commitments {
        let Some(bytes) = payloads.get(&commitment.sha256)? else { continue };
        let found = Hash::of(&bytes);
        if found != commitment.sha256 {
            let error = ledger::errors::VerifyError::Payload {
                index: entry.sequence,
                part: commitment.part.clone(),
                committed: commitment.sha256,
                found,
            };
            return Err(told(error.into()));
        }
        let record = serde_json::from_slice(bytes.get(32..).unwrap_or_default());
        return record.map(Some).with_context(|| {
            format!("the record at place {} is not the JSON that it should be", entry.sequence)
        });
    }
    Ok(None)
}

fn tell(
    taken: &Taken,
    tally: &Tally,
    names: &Names<'_>,
    directory: &Path,
    out: &mut impl Write,
) -> Result<()> {
    let Verified { origin, size, root, payloads, continues, .. } = &taken.verified;
    let held = payloads.map_or(0, |count| count.held);
    let others = payloads.map_or(0, |count| count.absent);
    let continues = match continues.or((taken.held > 0).then_some(taken.held)) {
        Some(held) => format!("what was here before: {held} entries"),
        None => "nothing: this is the first export".to_owned(),
    };
    let directory = directory.display();
    styled(out, &format!("{BOLD}{origin}{BOLD:#}: sound, in {directory}\n"))?;
    writeln!(out, "  entries    {size}, {} of them new", size - taken.held)?;
    writeln!(out, "  records    {held} as committed, {others} of others, {} new", taken.fetched)?;
    writeln!(out, "  root       {root}")?;
    writeln!(out, "  continues  {continues}\n")?;
    tally.table(|tenant| names.tenant(tenant)).print(out)?;
    writeln!(out, "\nEntries and records are the same in number, by tenant and kind.")?;
    writeln!(out, "Read {directory}/README.md, and verify it anywhere with")?;
    writeln!(out, "  {}", verify_command(&taken.key, &directory.to_string()))?;
    Ok(())
}

/// How anybody verifies an export.
fn verify_command(key: &VerifierKey, directory: &str) -> String {
    format!("patchwright-verify {directory} --key '{key}' --payloads {directory}/{PAYLOADS}")
}

fn read_checkpoint(file: &Path) -> Result<SignedCheckpoint> {
    let unusable = || format!("cannot use `{}`", file.display());
    let bytes = fs::read(file).with_context(unusable)?;
    SignedCheckpoint::parse(&bytes).map_err(|error| {
        let help = error.help();
        during(with_help(error, help), unusable())
    })
}

fn told(error: MirrorError) -> anyhow::Error {
    let help = error.help();
    with_help(error, help)
}

fn with_help(error: impl Into<anyhow::Error>, help: Option<String>) -> anyhow::Error {
    match help {
        Some(help) => helped(error, help),
        None => error.into(),
    }
}

fn odd(what: &str) -> anyhow::Error {
    helped(
        anyhow!("the control plane does not answer as one does: {what}"),
        "update this program and the control plane to the same release",
    )
}
