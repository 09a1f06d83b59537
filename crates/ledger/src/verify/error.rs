//! What can be wrong with a log, each fault by its name.

use crate::Hash;
use crate::checkpoint::CheckpointError;
use crate::envelope::EnvelopeError;
use crate::storage::StorageError;
use crate::tree::TreeError;

/// The first fault of a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no log.
    #[error("there is no `checkpoint`: this is not a log, or its checkpoint was removed")]
    NoCheckpoint,
    /// The checkpoint is not believed.
    #[error("the log's checkpoint is not believed")]
    Checkpoint(#[from] CheckpointError),
    /// The earlier checkpoint is not believed.
    #[error("the earlier checkpoint is not believed")]
    Earlier(#[source] CheckpointError),
    /// The earlier checkpoint is of another log.
    #[error("the earlier checkpoint is of `{earlier}`, this is the log `{now}`")]
    OtherLog {
        /// The earlier checkpoint's log.
        earlier: String,
        /// This log.
        now: String,
    },
    /// The log was taken back: it had more entries.
    #[error("the log was rolled back: it had {earlier} entries, now it has {now}")]
    RolledBack {
        /// The earlier size.
        earlier: u64,
        /// The size now.
        now: u64,
    },
    /// The log was rewritten: what was there is not there any more.
    #[error(
        "the log was rewritten: its first {size} entries had the root {earlier}, now they have \
         {now}"
    )]
    Rewritten {
        /// The earlier size.
        size: u64,
        /// The earlier root.
        earlier: Hash,
        /// The root of as many entries now.
        now: Hash,
    },
    /// A tile or bundle is missing or malformed.
    #[error("the log is incomplete or damaged")]
    Tree(#[from] TreeError),
    /// A bundle ends too early.
    #[error("entry {index} is missing: `{path}` ends before it")]
    MissingEntry {
        /// Its index.
        index: u64,
        /// The bundle.
        path: String,
    },
    /// An entry that is not the one whose hash the tree holds.
    #[error(
        "entry {index} was altered: the tree holds the hash {in_tile}, the entry has {computed}"
    )]
    Leaf {
        /// Its index.
        index: u64,
        /// The hash in the tree.
        in_tile: Hash,
        /// The entry's hash.
        computed: Hash,
    },
    /// An entry that no release of ours would have let in.
    #[error("entry {index} is not a valid entry")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: EnvelopeError,
    },
    /// A gap or a repetition in the sequence.
    #[error("the sequence is broken: entry {index} says it is entry {found}")]
    Sequence {
        /// Its index.
        index: u64,
        /// The sequence number in it.
        found: u64,
    },
    /// A payload that is not what was committed to.
    #[error(
        "the payload `{part}` of entry {index} was altered: committed was {}, found is {}",
        committed.to_hex(), found.to_hex()
    )]
    Payload {
        /// The entry's index.
        index: u64,
        /// Which part.
        part: String,
        /// SHA-256 that the entry commits to.
        committed: Hash,
        /// SHA-256 of the salt and payload found.
        found: Hash,
    },
    /// A tile of an upper level that is not what the entries give.
    #[error("`{path}` was altered: its hash {place} is {in_tile}, the entries give {computed}")]
    Tile {
        /// The tile.
        path: String,
        /// Which of its hashes.
        place: usize,
        /// The hash in the tile.
        in_tile: Hash,
        /// The hash that the entries give.
        computed: Hash,
    },
    /// An earlier state of a tile that is not its beginning.
    #[error("`{path}` was altered: it is not the beginning of `{tile}`")]
    Partial {
        /// The earlier state.
        path: String,
        /// The tile as it is now.
        tile: String,
    },
    /// Entries and tiles agree with one another, but not with what was signed.
    #[error("the {size} entries give the root {computed}; signed is {signed}")]
    Root {
        /// The signed size.
        size: u64,
        /// The signed root.
        signed: Hash,
        /// The root that the entries give.
        computed: Hash,
    },
}

impl VerifyError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Storage(error) => return error.help(),
            Self::Checkpoint(error) | Self::Earlier(error) => return error.help(),
            Self::NoCheckpoint => "give the directory or address that holds `checkpoint`",
            Self::OtherLog { .. } => "give a checkpoint of this log",
            Self::RolledBack { .. } | Self::Rewritten { .. } => {
                "keep both checkpoints: two signatures over different histories are proof. Ask \
                 the log's operator, and compare with the witnesses' copies"
            }
            Self::Entry { source, .. } => {
                return source.help().or_else(|| Some("ask the log's operator".to_owned()));
            }
            Self::Sequence { .. } => {
                "events are missing between the database and the log, or were put in; ask the \
                 log's operator"
            }
            Self::Payload { .. } => {
                "the log is sound, this payload is not: get it again from whoever keeps it"
            }
            Self::Tree(_)
            | Self::MissingEntry { .. }
            | Self::Leaf { .. }
            | Self::Tile { .. }
            | Self::Partial { .. }
            | Self::Root { .. } => {
                "fetch the log again; if the fault stays, keep this copy and compare it with \
                 another one, entry by entry from here"
            }
        };
        Some(help.to_owned())
    }
}
