//! Why a log does not grow.

use crate::Hash;
use crate::checkpoint::CheckpointError;
use crate::envelope::EnvelopeError;
use crate::storage::StorageError;
use crate::tree::TreeError;

/// Why a log cannot be opened, does not take entries or does not publish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// No key was given.
    #[error("a log needs at least one key to sign with")]
    NoKey,
    /// A key of another name or kind.
    #[error("the key `{key}` is not one of the log `{origin}`")]
    ForeignKey {
        /// The key, as a vkey.
        key: String,
        /// The log.
        origin: String,
    },
    /// The storage holds another log.
    #[error("this is the log `{stored}`, not `{ours}`")]
    OtherLog {
        /// The log that is there.
        stored: String,
        /// The log that was asked for.
        ours: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The published checkpoint, or a witness' answer to it, is not what it should be.
    #[error("the published checkpoint is not usable")]
    Checkpoint(#[from] CheckpointError),
    /// The published tree cannot be read.
    #[error("the published tree is not usable")]
    Tree(#[from] TreeError),
    /// The tree's right edge does not lead to the published root.
    #[error(
        "the log's files are damaged: {size} entries are signed with the root {signed}, \
         the files give {computed}"
    )]
    Damaged {
        /// The published size.
        size: u64,
        /// The published root.
        signed: Hash,
        /// The root that the files lead to.
        computed: Hash,
    },
    /// Entries are missing in between.
    #[error("the next entry is {expected}, given was {given}")]
    Gap {
        /// The next index.
        expected: u64,
        /// The first index given.
        given: u64,
    },
    /// Bytes that are not an entry.
    #[error("entry {index} is refused")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: EnvelopeError,
    },
    /// An entry at the wrong place.
    #[error("entry {index} says it is entry {found}")]
    Sequence {
        /// The index it was given for.
        index: u64,
        /// The sequence number in it.
        found: u64,
    },
    /// Something else stands at this index already.
    #[error("entry {index} is in the log with the hash {stored}; given now is {given}")]
    Rewritten {
        /// Its index.
        index: u64,
        /// The leaf's hash in the log.
        stored: Hash,
        /// The leaf's hash as given.
        given: Hash,
    },
    /// Another process published a larger tree.
    #[error("published are {stored} entries already, more than the {ours} here")]
    Behind {
        /// The published size.
        stored: u64,
        /// The size here.
        ours: u64,
    },
    /// Another process published a different tree.
    #[error(
        "the tree here does not continue the published one of {size} entries and root {signed}"
    )]
    Fork {
        /// The published size.
        size: u64,
        /// The published root.
        signed: Hash,
    },
    /// The checkpoint is gone.
    #[error("the log was published before, but its checkpoint is gone")]
    Vanished,
}

impl LogError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Storage(error) => return error.help(),
            Self::Tree(error) => return error.help(),
            Self::Entry { source, .. } => return source.help(),
            Self::Checkpoint(CheckpointError::Unsigned { .. }) => {
                "open the log with the key that signed it, and with the new one beside it"
            }
            Self::Checkpoint(error) => return error.help(),
            Self::NoKey => "give the log's private key",
            Self::ForeignKey { .. } => "a log's key is of kind 0x01 and carries the log's name",
            Self::OtherLog { .. } => "give the storage of this log, or an empty one",
            Self::Damaged { .. } => {
                "restore the log's files from a copy; they can also be made again from the \
                 database, into an empty storage, and must give the same root"
            }
            Self::Gap { .. } | Self::Sequence { .. } => {
                "integrate every event of the database, in the order of its sequence"
            }
            Self::Rewritten { .. } | Self::Fork { .. } => {
                "the database no longer holds what was published: it was altered, or restored \
                 from an older copy. Nothing was signed; find out which before going on"
            }
            Self::Behind { .. } => "another process grows this log: open it again, one at a time",
            Self::Vanished => "restore the checkpoint from a copy; witnesses keep one",
        };
        Some(help.to_owned())
    }
}
