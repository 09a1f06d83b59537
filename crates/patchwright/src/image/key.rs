//! The key that this machine attests with.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use ledger::attestation::Attestor;

use crate::failure::helped;

/// 32 random bytes, readable for their owner alone.
const FILE: &str = "attestor.key";

/// The key below a data directory, made where there is none.
pub(crate) fn attestor(data: &Path) -> Result<Attestor> {
    let path = data.join(FILE);
    let attempt = || format!("cannot use the attesting key `{}`", path.display());
    match File::open(&path) {
        Ok(mut file) => {
            let mut seed = [0; 32];
            let whole = file.read_exact(&mut seed).and_then(|()| file.read(&mut [0]));
            match whole {
                Ok(0) => Ok(Attestor::new(&seed)),
                _ => Err(helped(
                    anyhow::anyhow!("it has not 32 bytes").context(attempt()),
                    "put it back from a copy, or move it away: another is made",
                )),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(data, &path).with_context(attempt)?;
            attestor(data)
        }
        Err(error) => Err(error).with_context(attempt),
    }
}

/// Whole or not at all, and never over another.
fn make(data: &Path, path: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&seed)?;
    file.sync_all()?;
    // Another process may have been faster: its key is the one.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();

        let first = attestor(place.path()).unwrap().key();

        assert_eq!(attestor(place.path()).unwrap().key(), first);
        let mode = fs::metadata(place.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_torn_key_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        for bytes in [&[1; 31][..], &[1; 33]] {
            fs::write(place.path().join(FILE), bytes).unwrap();
            assert!(attestor(place.path()).is_err());
            assert_eq!(fs::read(place.path().join(FILE)).unwrap(), bytes);
        }
    }
}
