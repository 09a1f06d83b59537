//! Where state is kept, who works with it, and the key over its keys.

use std::env;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use store::{MasterKey, MasterKeyError, Store, System};

use crate::failure::helped;
use crate::up::store_failed;

/// `$XDG_DATA_HOME/patchwright`, or its default below the home directory.
pub(crate) fn data_directory() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/share")))
        .map(|base| base.join("patchwright"))
        .ok_or_else(|| {
            helped(anyhow::anyhow!("there is no home directory to keep state in"), "use --data DIR")
        })
}

/// Somebody works with a data directory for as long as this lives.
#[derive(Debug)]
pub(crate) struct AtWork {
    _file: File,
}

/// Works with a data directory beside others: nobody alters its keys meanwhile.
pub(crate) fn together(data: &Path) -> Result<AtWork> {
    let file = work_file(data)?;
    file.try_lock_shared().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let error = anyhow!("the keys of `{}` are being altered", data.display());
            helped(error, "try again in a moment")
        }
        TryLockError::Error(error) => anyhow!(error).context("cannot lock the data directory"),
    })?;
    Ok(AtWork { _file: file })
}

/// Works with a data directory alone.
pub(crate) fn alone(data: &Path) -> Result<AtWork> {
    let file = work_file(data)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let error = anyhow!("somebody is at work with `{}`", data.display());
            helped(error, "end `patchwright up` and `patchwright backup` there, then try again")
        }
        TryLockError::Error(error) => anyhow!(error).context("cannot lock the data directory"),
    })?;
    Ok(AtWork { _file: file })
}

fn work_file(data: &Path) -> Result<File> {
    let path = data.join(".at-work");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(&path).with_context(|| format!("cannot use `{}`", path.display()))
}

/// The file with the key over all keys.
pub(crate) fn master_key_file(data: &Path) -> PathBuf {
    data.join("master.key")
}

/// The key over all keys, made where there is none. A rotation that was broken off after its commit is brought to its
/// end; before it, the next key is of no use yet.
pub(crate) async fn master_key(data: &Path, store: &Store) -> Result<MasterKey> {
    let path = master_key_file(data);
    let next = MasterKey::next_path(&path);
    if next.is_file() {
        let next = MasterKey::open(&next, &System).map_err(master_key_failed)?;
        if store.opens_with(&next).await.map_err(store_failed)? == Some(true) {
            MasterKey::promote(&path).map_err(master_key_failed)?;
        }
    }
    MasterKey::open(&path, &System).map_err(master_key_failed)
}

pub(crate) fn master_key_failed(error: MasterKeyError) -> anyhow::Error {
    let help = error.help();
    helped(error, help)
}

/// The data directory that was named, where there is a control plane in it.
pub(crate) fn existing(data: Option<&Path>) -> Result<PathBuf> {
    let data = match data {
        Some(data) => data.to_owned(),
        None => data_directory()?,
    };
    // Nothing is made where there is nothing.
    if master_key_file(&data).is_file() {
        return Ok(data);
    }
    let error = anyhow!("there is no control plane in `{}`", data.display());
    Err(helped(error, "name its data directory with --data DIR"))
}
