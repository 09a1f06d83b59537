//! Why a package manager refuses a string as a version.

use super::VersionKind;

/// A string that the package manager would refuse as a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{version}` is no {kind} version: {reason} (at byte {position})")]
pub struct InvalidVersion {
    /// Whose rules were applied.
    pub kind: VersionKind,
    /// The string as given.
    pub version: String,
    /// Byte offset of the first offence; the string's length where something is missing at its
    /// end.
    pub position: usize,
    /// What is wrong there.
    pub reason: InvalidVersionReason,
}

/// What is wrong with a version string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVersionReason {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// A colon without digits before it.
    #[error("the epoch before the colon is not a number")]
    EpochNotANumber,
    /// The epoch exceeds what the package manager stores.
    #[error("the epoch is larger than {limit}")]
    EpochTooLarge {
        /// Largest epoch that is accepted.
        limit: u32,
    },
    /// No version between epoch and revision or release.
    #[error("the upstream version is empty")]
    VersionEmpty,
    /// A hyphen with nothing behind it.
    #[error("nothing follows the last hyphen")]
    RevisionEmpty,
    /// The (upstream) version must start with a digit.
    #[error("a digit is expected")]
    DigitExpected,
    /// A character that may not stand there.
    #[error("`{}` may not stand here", .found.escape_default())]
    Character {
        /// The character.
        found: char,
    },
    /// apk's `-r` needs a number.
    #[error("a number is expected after `-r`")]
    RevisionNumberExpected,
    /// apk knows only certain words behind an underscore.
    #[error("the suffix after `_` is none of alpha, beta, pre, rc, cvs, svn, git, hg, p")]
    UnknownSuffix,
    /// apk's commit hash needs hexadecimal digits.
    #[error("lower-case hexadecimal digits are expected after `~`")]
    HashExpected,
}

impl InvalidVersion {
    /// The next step for a person.
    pub const fn help(&self) -> &'static str {
        match self.kind {
            VersionKind::Dpkg => {
                "write [epoch:]upstream[-revision] as in deb-version(7), for example 1:2.3.4-5"
            }
            VersionKind::Rpm => "write [epoch:]version[-release], for example 1:2.3.4-5.el9",
            VersionKind::Apk => {
                "write digits{.digits}{letter}{_suffix{number}}{~hash}{-rN}, \
                 for example 2.3.4_rc1-r0"
            }
        }
    }
}
