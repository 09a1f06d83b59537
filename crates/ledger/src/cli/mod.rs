//! The command: `patchwright-verify`, and `patchwright ledger verify` with the same arguments.
//!
//! It lives here once, apart from all else of ours, so that a tenant or an auditor can build and
//! read the little that judges us.

mod failure;
mod render;
mod web;

pub use failure::Failure;

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::web::Web;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::errors::VerifyError;
use crate::storage::{Directory, ReadStorage};
use crate::tree::Tree;
use crate::verify::{self, Against};
use crate::{Envelope, PayloadDirectory, Policy, Receipt, VerifierKey};

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Directory or http(s) address of the log: where `checkpoint` lies.
    #[arg(value_name = "LOG")]
    log: String,

    /// The log's public key, `NAME+ID+BASE64`. Repeat it while one key replaces another; leave it
    /// out where the policy names the log.
    #[arg(long = "key", value_name = "VKEY", required_unless_present = "policy")]
    keys: Vec<String>,

    /// Trust policy (C2SP tlog-policy): which witnesses must have cosigned.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// A checkpoint kept from earlier: fails if the log was rolled back or rewritten since.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,

    /// Keeps the verified checkpoint in this file, for a later `--since`.
    #[arg(long, value_name = "FILE", conflicts_with = "entry")]
    keep: Option<PathBuf>,

    /// Compares the payloads in this directory with what the entries commit to.
    #[arg(long, value_name = "DIR", conflicts_with = "entry")]
    payloads: Option<PathBuf>,

    /// Prints one entry after proving it to be in the log, instead of verifying all of it.
    #[arg(long, value_name = "N")]
    entry: Option<u64>,

    /// With `--entry`: writes its offline proof (C2SP tlog-proof) to this file.
    #[arg(long, value_name = "FILE", requires = "entry")]
    proof: Option<PathBuf>,

    /// How to tell the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// How a result is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A few lines.
    Human,
    /// One JSON object, on standard output in every case.
    Json,
}

/// Verifies a log, or proves one entry of it, and tells the result on `out`.
pub fn run(arguments: &VerifyArgs, out: &mut impl Write) -> Result<(), Failure> {
    let outcome = match arguments.log.split_once("://") {
        Some(("http" | "https", _)) => {
            // Answers are waited for most of the time.
            on(&Web::new(&arguments.log), 8, arguments, out)
        }
        Some((scheme, _)) => Err(Failure::usage(
            format!("cannot read a log over `{scheme}`"),
            "give a directory, or an http or https address",
        )),
        None => on(&Directory::new(&arguments.log), 2, arguments, out),
    };
    if let Err(failure) = &outcome
        && arguments.format == Format::Json
    {
        let _ = writeln!(out, "{}", failure.to_json());
    }
    outcome
}

fn on<S: ReadStorage>(
    storage: &S,
    threads: usize,
    arguments: &VerifyArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let policy = arguments.policy()?;
    let since = arguments.since.as_deref().map(read_checkpoint).transpose()?;
    if let Some(index) = arguments.entry {
        return one(storage, &policy, since.as_ref(), index, arguments, out);
    }
    let payloads = arguments.payloads.as_ref().map(PayloadDirectory::new);
    let against = Against {
        policy: &policy,
        since: since.as_ref(),
        payloads: payloads.as_ref().map(|payloads| payloads as &dyn verify::Payloads),
        threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
    };
    let verified = verify::verify(storage, &against)?;
    if let Some(file) = &arguments.keep {
        write(file, &verified.checkpoint.to_bytes())?;
    }
    tell(
        out,
        &match arguments.format {
            Format::Human => render::human(&verified, policy.asks_witnesses()),
            Format::Json => render::json(&verified),
        },
    )
}

/// One entry: the checkpoint and the proof are verified, the rest of the log is not read.
fn one<S: ReadStorage>(
    storage: &S,
    policy: &Policy,
    since: Option<&SignedCheckpoint>,
    index: u64,
    arguments: &VerifyArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (checkpoint, head) = verify::checkpoint(storage, policy)?;
    let tree = Tree::new(storage, head.size(), head.root());
    if let Some(since) = since {
        verify::continues(&tree, since, &head, policy)?;
    }
    let bytes = tree.entry(index).map_err(VerifyError::Tree)?;
    let envelope =
        Envelope::parse(&bytes).map_err(|source| VerifyError::Entry { index, source })?;
    if envelope.sequence != index {
        return Err(VerifyError::Sequence { index, found: envelope.sequence }.into());
    }
    if let Some(file) = &arguments.proof {
        let proof = tree.inclusion(index).map_err(VerifyError::Tree)?;
        write(file, Receipt::new(index, proof, checkpoint).to_text().as_bytes())?;
    }
    tell(
        out,
        &match arguments.format {
            Format::Human => render::entry(&envelope, &head),
            Format::Json => render::entry_json(&bytes, &head),
        },
    )
}

impl VerifyArgs {
    fn policy(&self) -> Result<Policy, Failure> {
        let keys: Vec<VerifierKey> = self
            .keys
            .iter()
            .map(|key| key.parse())
            .collect::<Result<_, crate::errors::KeyError>>()
            .map_err(|error| Failure::of(&error, error.help()).into_usage())?;
        let Some(file) = &self.policy else { return Ok(Policy::of_logs(keys)) };
        let policy = Policy::parse(&read(file)?)
            .map_err(|error| Failure::of(&error, error.help()).in_file(file).into_usage())?;
        Ok(policy.and_logs(keys))
    }
}

fn read_checkpoint(file: &Path) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::parse(&read(file)?)
        .map_err(|error| Failure::of(&error, error.help()).in_file(file))
}

/// Files that the caller names are small: keys, policies, checkpoints.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let named = file.file_name().and_then(|name| name.to_str());
    match named.map(|name| Directory::new(folder).get(name, MAX_NOTE)) {
        Some(Ok(Some(bytes))) => Ok(bytes),
        Some(Err(error)) => Err(Failure::of(&error, error.help()).in_file(file)),
        _ => Err(Failure::usage(
            format!("there is no file `{}`", file.display()),
            "name a file that exists",
        )),
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(file, bytes).map_err(|error| Failure::of(&error, None).in_file(file))
}

fn tell(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}").map_err(|error| Failure::of(&error, None))
}
