//! Why a look at a source came to nothing.

use devices::LookError;
use domain::device::HostKeyFingerprint;
use reach::Unreachable;

use crate::document::plain;

/// Longest word of the other side that is told, in characters.
const SAID: usize = 160;

/// Why a look at a source came to nothing. Nothing of it is recorded then. Says nothing of an address but its host.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nobody may go there.
    #[error(transparent)]
    Closed(#[from] Unreachable),
    /// Nobody answers there.
    #[error("no way through to `{host}`: {reason}")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        reason: String,
    },
    /// Its certificate is of nobody who counts.
    #[error("the certificate of `{host}` is of no authority that counts for this source")]
    UnknownAuthority {
        /// Where.
        host: String,
    },
    /// The authorities that count for it count no more.
    #[error(
        "the authority `{subject}` counts no more since {until}; set the source with the next one"
    )]
    Over {
        /// The one that counted longest.
        subject: String,
        /// Since when.
        until: jiff::Timestamp,
    },
    /// It is another host, or somebody in between.
    #[error("its host key is {offered}, and not {pinned}")]
    KeyDiffers {
        /// The one that is known.
        pinned: HostKeyFingerprint,
        /// The one that it shows.
        offered: HostKeyFingerprint,
    },
    /// SSH came to nothing otherwise.
    #[error("over SSH: {0}")]
    Ssh(#[source] LookError),
    /// It answers, but with no document.
    #[error("`{host}` answered HTTP {status}{more}")]
    Status {
        /// Who.
        host: String,
        /// With what.
        status: u16,
        /// What that means for a look.
        more: String,
    },
    /// More than is taken.
    #[error("{what} has more than {most} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Most bytes.
        most: u64,
    },
    /// It is not what it should be.
    #[error("{0}")]
    NotJson(#[source] domain::source::NotJson),
    /// The repository does not have the branch or tag.
    #[error("the repository has no `{name}`{known}")]
    NoReference {
        /// Which.
        name: String,
        /// Some that it has.
        known: String,
    },
    /// The other side says no.
    #[error("the repository's server refuses: {said}")]
    Refused {
        /// In its words.
        said: String,
    },
    /// It does not speak as a repository does.
    #[error("what came is no repository's answer: {reason}")]
    Malformed {
        /// Why not.
        reason: String,
    },
    /// More of something than is looked at.
    #[error("the repository has more than {most} {of}")]
    TooMany {
        /// Most of them.
        most: usize,
        /// Of what.
        of: &'static str,
    },
    /// Something of our own does not work.
    #[error("{what}: {reason}")]
    Own {
        /// What was to be done.
        what: &'static str,
        /// What stood in the way.
        reason: String,
    },
    /// The image cannot be read.
    #[error("the image cannot be read: {reason}")]
    Image {
        /// Why.
        reason: String,
    },
}

impl SourceError {
    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: excerpt(&reason.into()) }
    }

    pub(crate) fn ssh(host: &str, error: LookError) -> Self {
        match error {
            LookError::KeyDiffers { pinned, offered } => Self::KeyDiffers { pinned, offered },
            // The address is told by its name: what that stands for is not whoever's to learn.
            LookError::Unreachable { reason, .. } => {
                Self::Unreachable { host: host.to_owned(), reason: excerpt(&reason) }
            }
            error => Self::Ssh(error),
        }
    }
}

/// One harmless line of what somebody said, cut.
pub(crate) fn excerpt(said: &str) -> String {
    let line = plain(said.trim().lines().next().unwrap_or_default());
    if line.chars().nth(SAID).is_none() {
        return line;
    }
    line.chars().take(SAID - 1).chain(['…']).collect()
}
