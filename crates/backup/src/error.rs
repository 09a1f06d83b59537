//! What can go wrong, and what to do then.

use std::io;
use std::path::PathBuf;

/// Why something was not backed up or brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The repository's objects cannot be read or written.
    #[error("the object `{name}` cannot be read or written")]
    Object {
        /// Which object.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bytes are not those that were written: altered, cut short, or another's.
    #[error("{what} is damaged")]
    Damaged {
        /// Which part.
        what: String,
    },
    /// A later Patchwright wrote it.
    #[error("the backup has format {found}; this Patchwright knows {known}")]
    Format {
        /// Format found.
        found: u16,
        /// Format known.
        known: u16,
    },
    /// No key of the repository opens with this master key.
    #[error("the repository does not open with this master key")]
    Locked,
    /// There is no such backup.
    #[error("there is no backup {wanted}")]
    NoBackup {
        /// What was asked for.
        wanted: String,
    },
    /// A file of the installation, or of what is restored.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else backs up into the repository.
    #[error("another process backs up into `{}`", path.display())]
    Held {
        /// Which repository.
        path: PathBuf,
    },
    /// The place to restore to holds something.
    #[error("`{}` is not empty", path.display())]
    NotEmpty {
        /// Which directory.
        path: PathBuf,
    },
    /// The database cannot be held still.
    #[error("the database cannot be read")]
    Database(#[from] rusqlite::Error),
    /// The database's log was begun anew while it was read.
    #[error("the database's log was begun anew while it was read")]
    Moved,
}

impl BackupError {
    /// The way out, for a person.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Object { .. } => {
                "see to the disk or the object store where it is; what was backed up before is whole"
            }
            Self::Damaged { .. } => {
                "`patchwright backup verify` tells which backups are whole; restore one of them"
            }
            Self::Format { .. } => "use the Patchwright that wrote it, or a later one",
            Self::Locked => "give the master key that the installation had then, with --master-key",
            Self::NoBackup { .. } => "`patchwright backup list` shows those that there are",
            Self::File { .. } => "see what the system says, then try again",
            Self::Held { .. } => {
                "one process at a time: end the other one, or wait for it; one that was killed on another host counts for \
                 five minutes"
            }
            Self::NotEmpty { .. } => "restore to a directory that is not there yet",
            Self::Database(_) => "look at the database's disk; `up` tells more",
            Self::Moved => "try again",
        }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(crate) fn object(name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Object { name, source }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

pub(crate) type Result<T, E = BackupError> = std::result::Result<T, E>;
