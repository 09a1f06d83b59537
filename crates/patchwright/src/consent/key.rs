//! A tenant's signing key: Ed25519, in a file that OpenSSL reads as well.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use domain::change::{KeyId, Order};
use ledger::attestation::{Attestor, AttestorKey};
use ledger::passkey::{PasskeyKey, PasskeyKeyError};

use super::{DIM, Form, GOOD, order, remote};
use crate::client::contexts::Access;
use crate::failure::{during, helped};

/// Longer than any key in PEM.
const LONGEST: usize = 4096;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key, readable for you alone, and print its public half.
    New {
        /// Where it goes; never over another file.
        file: PathBuf,
    },
    /// Print the public half of a key, and its id.
    Show {
        /// The private key, or the public one (PEM), a passkey's too.
        file: PathBuf,
    },
    /// Register your tenant's first key with the control plane; owners may.
    Register {
        /// The public key, or the private one, of which only the public half is sent (PEM).
        file: PathBuf,
        /// What people call it.
        #[arg(long, default_value = "")]
        label: String,
        #[command(flatten)]
        access: Access,
    },
    /// List the keys that your tenant signs with.
    List {
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
        #[command(flatten)]
        access: Access,
    },
    /// Add a key beside the one that signs.
    Add {
        #[command(flatten)]
        brought: order::Brought,
        #[command(flatten)]
        signing: order::Signing,
    },
    /// Put a key in the place of the one that signs; what that signed before stays good.
    Rotate {
        #[command(flatten)]
        brought: order::Brought,
        #[command(flatten)]
        signing: order::Signing,
    },
    /// End a key that may be in wrong hands: nothing that it signed starts anything any more.
    ///
    /// An owner needs no key for it. With `--key`, an order is signed, which an owner hands in.
    Revoke {
        /// Which, by its id.
        id: KeyId,
        #[command(flatten)]
        by: order::Revoking,
    },
    /// Hand in an order about keys that was signed elsewhere.
    Order {
        /// The order, as it was signed (DSSE in JSON).
        order: PathBuf,
        /// The public half of the key that it brings (PEM).
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// What people call that key.
        #[arg(long, default_value = "")]
        label: String,
        #[command(flatten)]
        access: Access,
    },
    /// Get a key without a signature, where all are lost: two owners ask, and 72 hours pass.
    ///
    /// Both have been owners for 72 hours before the first asked, and nobody reset them since.
    Recover {
        #[command(subcommand)]
        command: order::Recovery,
    },
}

pub(super) fn run(command: &Command, out: &mut impl Write) -> Result<()> {
    match command {
        Command::New { file } => {
            let attestor = make(file)?;
            writeln!(out, "{GOOD}✓{GOOD:#} made {}", file.display())?;
            writeln!(
                out,
                "  {DIM}keep it where only you can read it; a copy belongs elsewhere{DIM:#}\n"
            )?;
            show(&attestor.key().id(), &attestor.key(), out)
        }
        Command::Show { file } => match either(file) {
            Ok(key) => show(&key.id(), &key, out),
            // A passkey's may be on another curve.
            Err(error) => {
                let key = read_passkey(file).map_err(|_| error)?;
                show(&key.id(), &key, out)
            }
        },
        Command::Register { file, label, access } => {
            remote::register(&either(file)?.to_string(), label, access, out)
        }
        Command::List { output, access } => remote::keys(*output, access, out),
        Command::Add { brought, signing } => {
            order::bring(brought, signing, |key| Order::Add { key }, out)
        }
        Command::Rotate { brought, signing } => {
            order::bring(brought, signing, |key| Order::Rotate { key }, out)
        }
        Command::Revoke { id, by } => order::revoke(*id, by, out),
        Command::Order { order, public_key, label, access } => {
            order::send(order, public_key.as_deref(), label, access, out)
        }
        Command::Recover { command } => order::recover(command, out),
    }
}

/// A public key, or the public half of a private one.
pub(super) fn either(path: &Path) -> Result<AttestorKey> {
    match read(path) {
        Ok(attestor) => Ok(attestor.key()),
        Err(error) => read_public(path).map_err(|_| error),
    }
}

fn show(id: &str, pem: &impl Display, out: &mut impl Write) -> Result<()> {
    writeln!(out, "  key id  {id}\n")?;
    write!(out, "{pem}")?;
    Ok(())
}

fn make(path: &Path) -> Result<Attestor> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let attestor = Attestor::new(&seed);
    let attempt = || format!("cannot make the key `{}`", path.display());
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AlreadyExists => "name a file that is not there yet",
            _ => "name a file in a directory that you may write to",
        };
        helped(anyhow::Error::new(error).context(attempt()), help)
    })?;
    file.write_all(attestor.to_pem().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(attempt)?;
    Ok(attestor)
}

/// A private key. One that others can read is not used.
pub(super) fn read(path: &Path) -> Result<Attestor> {
    let attempt = || format!("cannot use the key `{}`", path.display());
    let mode = fs::metadata(path).with_context(attempt)?.permissions().mode();
    if mode & 0o077 != 0 {
        let error = anyhow::anyhow!("others can read it (mode {:o})", mode & 0o777);
        let help = "take that away (chmod 600), and make a new key if others may have read it";
        return Err(during(helped(error, help), attempt()));
    }
    Attestor::from_pem(&text(path)?).map_err(|error| {
        let help =
            "make one with `patchwright consent key new`, or `openssl genpkey -algorithm ed25519`";
        during(helped(error, help), attempt())
    })
}

/// A public key.
pub(super) fn read_public(path: &Path) -> Result<AttestorKey> {
    text(path)?.parse().map_err(|error: ledger::attestation::AttestorKeyError| {
        let help = "give the public half, as `patchwright consent key show` prints it";
        during(helped(error, help), format!("cannot use the key `{}`", path.display()))
    })
}

/// A passkey's public key.
pub(super) fn read_passkey(path: &Path) -> Result<PasskeyKey> {
    text(path)?.parse().map_err(|error: PasskeyKeyError| {
        let help = "give the public key that `GET /api/v1/keys/TENANT` tells as `pem`";
        during(helped(error, help), format!("cannot use the key `{}`", path.display()))
    })
}

/// The file's text, from the first line of PEM on: `key show` prints the id above it.
fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&super::read(path, LONGEST)?).into_owned();
    Ok(text.find("-----BEGIN").and_then(|at| text.get(at..)).unwrap_or(&text).to_owned())
}
