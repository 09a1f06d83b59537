//! Payloads in a directory.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::Hash;
use crate::errors::StorageError;
use crate::verify::Payloads;

/// Files `ab/abcd…` named after their SHA-256, each the salt's 32 bytes and then the payload: so
/// that `sha256sum` checks them too.
#[derive(Debug, Clone)]
pub struct PayloadDirectory {
    root: PathBuf,
}

impl PayloadDirectory {
    /// The payloads in this directory; writing makes it where it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Puts a payload, beside its place and then renamed. It is not flushed one by one: whoever needs
    /// that to survive a loss of power verifies afterwards.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, sha256: &Hash, salt: &[u8; 32], payload: &[u8]) -> Result<(), StorageError> {
        let path = self.place(sha256);
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let beside = path.with_extension("new");
            fs::write(&beside, [salt, payload].concat())?;
            fs::rename(&beside, &path)
        };
        write().map_err(|source| failed("write", &path, source))
    }

    /// Salt and payload, as they lie there; `None` where they are not here.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn get(&self, sha256: &Hash) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.place(sha256);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    fn place(&self, sha256: &Hash) -> PathBuf {
        let name = sha256.to_hex();
        self.root.join(&name[..2]).join(&name)
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StorageError {
    StorageError { action, path: path.display().to_string(), source }
}

impl Payloads for PayloadDirectory {
    fn digest(&self, sha256: &Hash) -> Result<Option<Hash>, StorageError> {
        let path = self.place(sha256);
        let failed = |source| failed("read", &path, source);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut hasher = Sha256::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(Hash::new(hasher.finalize().into()))),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Commitment;

    #[test]
    fn a_payload_lies_under_its_commitment() {
        let root = tempfile::tempdir().unwrap();
        let payloads = PayloadDirectory::new(root.path().join("payloads"));
        let commitment = Commitment::new("event", &[7; 32], b"what happened");

        assert_eq!(payloads.digest(&commitment.sha256).unwrap(), None);
        payloads.put(&commitment.sha256, &[7; 32], b"what happened").unwrap();

        assert_eq!(payloads.digest(&commitment.sha256).unwrap(), Some(commitment.sha256));
        let kept = payloads.get(&commitment.sha256).unwrap().unwrap();
        assert_eq!(kept, [&[7; 32][..], b"what happened"].concat());
    }
}
