//! The cloud as both sides see it: who is in it, what it is made of, and who must patch what.
//!
//! Names are those of the glossary in `ARCHITECTURE.md`; the standard calls the provider CSP and
//! the tenant CSC.

mod class;
mod duty;
mod event;
mod id;
mod name;
mod role;

pub use class::{Class, RelationKind};
pub use duty::{Duty, ServiceModel, duty};
pub use event::EventKind;
pub use id::{
    AdvisoryId, AgentId, AuditId, BaselineId, BindingId, BreakGlassId, CeremonyId, ChangeId,
    ChannelId, CiId, DriftId, EventId, ExternalIdentityId, FindingId, GroupId, Id, IdKind, ImageId,
    InvalidId, JobId, JoinTokenId, NoticeId, PROVIDER, PasskeyId, PatchId, ReleaseId, SessionId,
    SnapshotId, TenantId, TokenId, UserId, VerificationId, WaiverId,
};
pub use name::{InvalidName, LabelKey, Login, Name, Slug, is_invisible};
pub use role::{Access, Role, Side};

/// Writes an enum whose values have one word each, in storage, in the API and in the CLI.
#[doc(hidden)]
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::cloud::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|it| it.as_str() == word).ok_or_else(|| {
                    let known = Self::ALL.iter().map(|it| it.as_str()).collect();
                    $crate::cloud::UnknownWord::new(stringify!($name), word, known)
                })
            }
        }
    };
}
pub use words;

/// A word that is none of those known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
    known: Vec<&'static str>,
}

impl UnknownWord {
    /// Says what was meant, what was given, and what there is.
    pub fn new(what: &'static str, word: &str, known: Vec<&'static str>) -> Self {
        Self { what, word: word.chars().take(64).collect(), known }
    }

    /// The known words.
    pub fn help(&self) -> String {
        format!("use one of {}", self.known.join(", "))
    }
}
