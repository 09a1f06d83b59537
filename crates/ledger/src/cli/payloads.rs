//! Payloads in a directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::Hash;
use crate::errors::StorageError;
use crate::verify::Payloads;

/// Files `ab/abcd…` named after their SHA-256, each the salt's 32 bytes and then the payload: so
/// that `sha256sum` checks them too.
pub(super) struct PayloadDirectory<'a> {
    root: &'a PathBuf,
}

impl<'a> PayloadDirectory<'a> {
    pub(super) fn new(root: &'a PathBuf) -> Self {
        Self { root }
    }
}

impl Payloads for PayloadDirectory<'_> {
    fn digest(&self, sha256: &Hash) -> Result<Option<Hash>, StorageError> {
        let name = sha256.to_hex();
        let path = self.root.join(&name[..2]).join(&name);
        let failed =
            |source| StorageError { action: "read", path: path.display().to_string(), source };
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
