//! What can go wrong.

use std::io;

/// Why history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Bytes are not those that were sealed: altered, cut short, or under another key.
    #[error("{what} does not hold what was sealed")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// A later Patchwright wrote it.
    #[error("the object has format {found}; this Patchwright knows {known}")]
    Format {
        /// Format found.
        found: u16,
        /// Format known.
        known: u16,
    },
    /// More than is kept of one thing.
    #[error("{what} of {given} bytes; at most {largest} are kept")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many there are.
        given: u64,
        /// How many there may be.
        largest: u64,
    },
    /// A text that is no path of a file.
    #[error("`{given}` is not a file's path")]
    NotAPath {
        /// As given, its beginning.
        given: String,
    },
    /// The frame was taken out: its version is kept no more.
    #[error("there is no frame {number}")]
    NoFrame {
        /// Which one.
        number: u64,
    },
    /// What is to be sealed comes in another order than it is kept in.
    #[error("{what} does not come after the one before it")]
    Unordered {
        /// Of what.
        what: &'static str,
    },
    /// What was recorded and what there is are not the same.
    #[error("{what} is not what was recorded")]
    Unlike {
        /// Which part.
        what: String,
    },
    /// The object store failed.
    #[error("the object `{name}` cannot be read or written")]
    Object {
        /// Which object.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HistoryError {
    /// The way out, for a person.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Damaged { .. } | Self::Unlike { .. } => {
                "restore the object from a backup; `fsck` tells which others are damaged"
            }
            Self::Format { .. } => "use the Patchwright that wrote it, or a later one",
            Self::TooLarge { .. } => "leave the file out, or keep what it is made of",
            Self::NotAPath { .. } => "give a path of 1 to 4096 bytes without control characters",
            Self::NoFrame { .. } => "ask for a later time: retention took this one",
            Self::Unordered { .. } => "sort by item, path and time",
            Self::Object { .. } => "see to the object store, then try again",
        }
    }

    pub(crate) const fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }
}

pub(crate) type Result<T, E = HistoryError> = std::result::Result<T, E>;
