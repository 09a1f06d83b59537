//! `patchwright witness`: hold somebody else's log to its word.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use ledger::witness::Witness;
use ledger::{KeyKind, Policy, Signer, VerifierKey};
use server::{Tls, WitnessMemory, serve_router, witness_router};
use store::System;

use crate::failure::helped;
use crate::up::interruption;

/// Where a witness keeps its key, and what it cosigned.
const KEY: &str = "witness.key";

/// Hold somebody else's log to its word.
///
/// A witness keeps the last checkpoint that it saw of a log, and cosigns the next one only if that is
/// proven to continue it (C2SP tlog-witness). Run one on another machine than the log's, under
/// somebody else's hand.
#[derive(Debug, Args)]
pub(crate) struct WitnessArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a witness' key, and print its public half for the policies of others.
    Init {
        /// Where the witness keeps its key and its memory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Its name: a domain of yours and a word, such as `tenant.example/witness`.
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Cosign for logs over HTTP.
    Serve {
        /// Where the witness keeps its key and its memory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where to listen; without a certificate, loopback only. Port 0 takes any that is free.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7880")]
        listen: SocketAddr,
        /// The public key of a log to watch, `NAME+ID+BASE64`; may be given several times.
        #[arg(long, value_name = "VKEY", required = true)]
        log: Vec<String>,
        /// Speak TLS with the certificate in this file (PEM, with those above it).
        #[arg(long, value_name = "FILE", requires = "tls_key")]
        tls_cert: Option<PathBuf>,
        /// The certificate's key (PEM).
        #[arg(long, value_name = "FILE", requires = "tls_cert")]
        tls_key: Option<PathBuf>,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &WitnessArgs) -> Result<ExitCode> {
    match &arguments.command {
        Command::Init { data, name } => init(data, name),
        Command::Serve { data, listen, log, tls_cert, tls_key } => {
            let tls = match (tls_cert, tls_key) {
                (Some(certificate), Some(key)) => {
                    let tls = Tls::read(certificate, key).map_err(|error| {
                        let help = error.help();
                        helped(error, help)
                    })?;
                    Some(tls)
                }
                _ => None,
            };
            serve(data, *listen, log, tls)
        }
    }
}

fn init(data: &Path, name: &str) -> Result<ExitCode> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let signer = Signer::new(KeyKind::Witness, name, &seed).map_err(|error| {
        let help = error.help().unwrap_or_else(|| "use a name such as tenant.example/w".to_owned());
        helped(error, help)
    })?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot make `{}`", data.display()))?;
    let path = data.join(KEY);
    let failed = || format!("cannot write `{}`", path.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(
            |error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => helped(
                    anyhow!("there is a witness in `{}` already", data.display()),
                    "serve it, or name another directory: a key is never overwritten",
                ),
                _ => anyhow!(error).context(failed()),
            },
        )?;
    writeln!(file, "{}", signer.to_secret()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    println!("{}", signer.verifier());
    Ok(ExitCode::SUCCESS)
}

fn serve(data: &Path, listen: SocketAddr, logs: &[String], tls: Option<Tls>) -> Result<ExitCode> {
    let signer = read_key(&data.join(KEY))?;
    let logs = logs
        .iter()
        .map(|key| {
            key.parse::<VerifierKey>().map_err(|error| {
                let error = anyhow!(error).context(format!("`{key}` is not the key of a log"));
                helped(error, "the log's operator tells it: it stands on the ledger's page")
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(key) = logs.iter().find(|key| key.kind() != KeyKind::Log) {
        let error = anyhow!("`{}` is a witness' key", key.name());
        return Err(helped(error, "name the key of the log that it watches"));
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let key = signer.verifier().clone();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let names: Vec<String> = logs.iter().map(|key| key.name().to_owned()).collect();
    let witness = Witness::new(signer, Policy::of_logs(logs));
    let memory = WitnessMemory::new(data);
    let router = witness_router(witness, key.clone(), memory, Arc::new(System));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let interruption = interruption()?;
        let ready = |address: SocketAddr| {
            let (name, watched) = (key.name(), names.join(", "));
            let told = format!("Witness {name}\n\n  watches  {watched}\n  key      {key}\n");
            // Whoever reads this may stop before its end; it serves all the same.
            let _ = writeln!(std::io::stdout(), "{told}  address  {scheme}://{address}");
        };
        serve_router(router, listen, tls, ready, interruption).await.map_err(|error| {
            match error.help() {
                Some(help) => helped(error, help),
                None => anyhow!(error),
            }
        })
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read_key(path: &Path) -> Result<Signer> {
    let unreadable = || format!("cannot read the witness' key `{}`", path.display());
    let text = fs::read_to_string(path).map_err(|error| {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = anyhow!(error).context(unreadable());
        if is_missing { helped(error, "make one with `patchwright witness init`") } else { error }
    })?;
    let mode = fs::metadata(path).with_context(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let error = anyhow!("others can read `{}` (mode {mode:o})", path.display());
        return Err(helped(error, "make a new witness: others may sign as this one"));
    }
    let signer = Signer::parse(text.trim()).with_context(unreadable)?;
    if signer.verifier().kind() != KeyKind::Witness {
        return Err(anyhow!("`{}` is not a witness' key", path.display()));
    }
    Ok(signer)
}
