//! Where a log's files lie.

mod directory;

pub use directory::{Directory, DirectoryLock};

use std::io;

/// Reads a log's files by their paths (C2SP tlog-tiles, "APIs").
pub trait ReadStorage: Sync {
    /// The file's bytes; `None` where there is no such file. Longer than `limit` is an error: what
    /// is read here is not trusted yet.
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError>;

    /// The names of the files directly under a folder, in any order; `None` where this storage
    /// cannot tell, as over HTTP.
    fn list(&self, folder: &str) -> Result<Option<Vec<String>>, StorageError>;
}

/// Keeps a log's files. One process writes at a time; the caller sees to that.
pub trait Storage: ReadStorage {
    /// Puts a file, whole or not at all, and returns only once it survives a loss of power.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError>;

    /// Removes a file that nothing refers to any more. That it comes back after a crash is
    /// harmless.
    fn remove(&self, path: &str) -> Result<(), StorageError>;
}

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`")]
pub struct StorageError {
    /// What was tried: `read`, `write`, `list`, `remove`.
    pub action: &'static str,
    /// The file.
    pub path: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl StorageError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self.source.kind() {
            io::ErrorKind::PermissionDenied => "run it as a user who may access this file",
            io::ErrorKind::StorageFull => "free some space; nothing was lost",
            io::ErrorKind::FileTooLarge => "no file of a log is this long: fetch it again",
            _ => return None,
        };
        Some(help.to_owned())
    }

    /// A file longer than asked for.
    pub fn too_long(path: &str, limit: usize) -> Self {
        let message = format!("it is longer than {limit} bytes");
        let source = io::Error::new(io::ErrorKind::FileTooLarge, message);
        Self { action: "read", path: path.to_owned(), source }
    }
}

impl<S: ReadStorage + ?Sized> ReadStorage for &S {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        (**self).get(path, limit)
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        (**self).list(folder)
    }
}

impl<S: Storage + ?Sized> Storage for &S {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        (**self).put(path, bytes)
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        (**self).remove(path)
    }
}
