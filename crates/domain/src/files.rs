//! A read-only view of one system's files, whatever holds them.
//!
//! A live root, a directory, a disk image and a container image all look alike to the readers
//! of package databases and of apt configuration. Implementations resolve symbolic links *inside*
//! the viewed root: a link can never lead out of it (requirements.md, T12).

use std::collections::BTreeMap;

/// Kind of a directory entry, after following symbolic links inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: device, socket, pipe, or a link that leads nowhere.
    Other,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// File name, without its directory. Names that are not UTF-8 are converted lossily.
    pub name: String,
    /// What the name leads to.
    pub kind: EntryKind,
}

/// Why a file could not be read. Absence is not an error: it is `Ok(None)`.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is larger than the caller is ready to hold.
    #[error("`{path}` is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Path inside the root.
        path: String,
        /// The caller's limit, in bytes.
        limit: u64,
    },
    /// Symbolic links form a loop, or there are too many of them.
    #[error("`{path}` leads through too many symbolic links")]
    LinkLoop {
        /// Path inside the root.
        path: String,
    },
    /// The medium failed or its content is damaged.
    #[error("cannot read `{path}`: {reason}")]
    Unreadable {
        /// Path inside the root.
        path: String,
        /// What went wrong, in words.
        reason: String,
    },
}

/// Read access to the files of one system.
///
/// Paths are absolute (`/etc/os-release`) and are resolved inside the root.
pub trait FileView {
    /// The content of the file, `None` where there is no such file (or it is no regular file).
    ///
    /// # Errors
    /// [`FileError::TooLarge`] when the file holds more than `limit` bytes; nothing beyond the
    /// limit is read.
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FileError>;

    /// The entries of a directory sorted by name; empty where there is no such directory.
    fn list(&self, path: &str) -> Result<Vec<Entry>, FileError>;
}

/// A [`FileView`] held in memory: fixtures, and files captured from a stream.
impl FileView for BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
        match self.get(path) {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(FileError::TooLarge { path: path.to_owned(), limit })
            }
            found => Ok(found.cloned()),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let mut entries: Vec<Entry> = Vec::new();
        for key in self.range(prefix.clone()..).map(|(key, _)| key) {
            let Some(rest) = key.strip_prefix(&prefix) else { break };
            let (name, kind) = match rest.split_once('/') {
                Some((directory, _)) => (directory, EntryKind::Directory),
                None => (rest, EntryKind::File),
            };
            if entries.last().is_none_or(|last| last.name != name) {
                entries.push(Entry { name: name.to_owned(), kind });
            }
        }
        Ok(entries)
    }
}
