//! Where sealed objects are kept: below the data directory, or in an S3-compatible store, which is noted there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::s3::{Address, Patience, S3, S3Error};
use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use store::{Environment as _, ObjectDirectory, Objects, System};

use crate::failure::{during, helped, report};

/// Where the history's objects are.
#[derive(Debug, Args)]
pub(crate) struct ObjectsArgs {
    /// Where the content history's sealed objects are, if not in the data directory:
    /// `s3://BUCKET/PREFIX?region=REGION`, with `&endpoint=https://HOST` where it is not Amazon's.
    ///
    /// Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from a file of such lines that
    /// `&credentials=FILE` names. Noted in the data directory once `up` was given it (docs/history.md).
    #[arg(long, value_name = "s3://…", env = "PATCHWRIGHT_OBJECTS", hide_env_values = true)]
    objects: Option<String>,
}

impl ObjectsArgs {
    /// The store that was given, not one that is noted.
    pub(crate) fn given(&self) -> Result<Option<Address>> {
        self.objects.as_deref().map(|text| text.parse().map_err(s3_failed)).transpose()
    }

    /// The store of a control plane: the one that is given, which must be the noted one if there is one, or the noted one.
    pub(crate) fn store(&self, data: &Path) -> Result<Option<Address>> {
        let noted = noted(data)?;
        match (self.given()?, noted) {
            (Some(given), Some(noted)) if !given.is_same_place(&noted) => {
                let error = anyhow!("the history's objects are in `{noted}`, not in `{given}`");
                let note = note(data);
                let help = format!("copy all objects there, then remove `{}`", note.display());
                Err(helped(error, help))
            }
            (given, noted) => Ok(given.or(noted)),
        }
    }

    /// The objects of a control plane, to be read.
    pub(crate) fn open(&self, data: &Path) -> Result<Arc<dyn Objects>> {
        match self.store(data)? {
            Some(address) => Ok(Arc::new(open(&address)?)),
            None => directory(data),
        }
    }

    /// The same, to be written by the installation with this ledger and by no other, and noted.
    pub(crate) fn claim(&self, data: &Path, ledger: &str) -> Result<Arc<dyn Objects>> {
        let is_noted = noted(data)?.is_some();
        let Some(address) = self.store(data)? else { return directory(data) };
        let place = data.join("history");
        let is_used = fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some());
        if is_used && !is_noted {
            let error = anyhow!("the history's objects are in `{}`", place.display());
            let help = format!(
                "copy its files to `{address}`, under the names they have, then remove the directory"
            );
            return Err(helped(error, help));
        }
        let store = open(&address)?;
        match store.claim(ledger) {
            Ok(()) => {}
            // It is known to be ours; everything but sealed history works without it, and sealing is tried again.
            Err(error @ S3Error::Store { .. }) if is_noted => {
                report(&s3_failed(error));
            }
            Err(error) => return Err(s3_failed(error)),
        }
        keep_note(data, &address)?;
        Ok(Arc::new(store))
    }
}

/// Opens a store.
pub(crate) fn open(address: &Address) -> Result<S3> {
    S3::open(address, || System.now(), Patience::default()).map_err(s3_failed)
}

/// The address that a repository's name is, if it is one.
pub(crate) fn address(repository: &Path) -> Result<Option<Address>> {
    match repository.to_str().filter(|text| Address::is_meant(text)) {
        Some(text) => text.parse().map(Some).map_err(s3_failed),
        None => Ok(None),
    }
}

/// Notes in a data directory that its history's objects are elsewhere.
pub(crate) fn keep_note(data: &Path, address: &Address) -> Result<()> {
    let path = note(data);
    let text = format!("{address}\n");
    if fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let beside = data.join("objects.at.new");
    let written = fs::write(&beside, text).and_then(|()| {
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(data)?.sync_all()
    });
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn note(data: &Path) -> PathBuf {
    data.join("objects.at")
}

fn noted(data: &Path) -> Result<Option<Address>> {
    let path = note(data);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let address = text.trim().parse().map_err(s3_failed);
    address.map(Some).map_err(|error| during(error, format!("cannot use `{}`", path.display())))
}

fn directory(data: &Path) -> Result<Arc<dyn Objects>> {
    let place = data.join("history");
    let objects = ObjectDirectory::open(&place)
        .with_context(|| format!("cannot use the directory `{}`", place.display()))?;
    Ok(Arc::new(objects))
}

pub(crate) fn s3_failed(error: S3Error) -> anyhow::Error {
    let help = error.help();
    helped(error, help)
}
