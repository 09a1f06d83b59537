//! A change on its way, before and beside what it means for each tenant.
//!
//! ```text
//!  found ──prove──► proving ──pass──► proven ──close──► closed ──reopen──► reopened ──prove──► …
//!    ▲                │  └───fail───► rejected ──reopen──────────────────────┘
//!    └──lost──────────┘       (withdrawn: from anywhere but closed, for good)
//! ```
//!
//! A patch and an alteration go the same way; of a patch the lab's verdict is the proof, of an
//! alteration the review with its impact.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::FileHash;
use super::text::Reason;
use crate::cloud::{ChangeId, UserId, words};

words! {
    /// What alters the cloud.
    Kind {
        /// The installable fix of a vendor.
        Patch = "patch",
        /// Intended content of files, policies or parameters.
        Alteration = "alteration",
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its id.
    pub id: ChangeId,
    /// Patch or alteration.
    pub kind: Kind,
    /// How it stands.
    stage: Stage,
    /// How often it was altered.
    version: u64,
    /// When it last was.
    at: Timestamp,
}

/// How a change stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Stage {
    /// It is known, nothing is proven.
    Found,
    /// The lab, or the reviewers, are at it.
    Proving,
    /// Nothing speaks against it.
    Proven {
        /// Hash of the attestation that says so.
        evidence: FileHash,
    },
    /// Something does.
    Rejected {
        /// Hash of the attestation that says what.
        evidence: FileHash,
    },
    /// Somebody took it back; it is started nowhere any more.
    Withdrawn {
        /// Who.
        by: UserId,
        /// Why.
        reason: Reason,
    },
    /// It is carried out, or settled otherwise, for every tenant.
    Closed,
    /// It was closed or rejected, and is needed again.
    Reopened {
        /// Why.
        reason: Reason,
    },
}

/// What happens to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "does", rename_all = "snake_case")]
pub enum ChangeEvent {
    /// The proof begins.
    Prove,
    /// Nothing speaks against it.
    Pass {
        /// Hash of the attestation.
        evidence: FileHash,
    },
    /// Something does.
    Fail {
        /// Hash of the attestation.
        evidence: FileHash,
    },
    /// The proof came to no end; it says nothing.
    Lose,
    /// Somebody takes it back.
    Withdraw {
        /// Who.
        by: UserId,
        /// Why.
        reason: Reason,
    },
    /// Everything is settled.
    Close {
        /// For how many tenants it is not.
        unsettled: u32,
    },
    /// It is needed again.
    Reopen {
        /// Why.
        reason: Reason,
    },
}

impl ChangeEvent {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Prove => "prove",
            Self::Pass { .. } => "pass",
            Self::Fail { .. } => "fail",
            Self::Lose => "lose",
            Self::Withdraw { .. } => "withdraw",
            Self::Close { .. } => "close",
            Self::Reopen { .. } => "reopen",
        }
    }
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeEffect {
    /// To be recorded; stands in each list once.
    Record {
        /// The change's version after it.
        version: u64,
        /// How it stood.
        from: &'static str,
        /// How it stands.
        to: &'static str,
    },
    /// Have it proven.
    Prove,
    /// Make a plan for each tenant concerned.
    Plan,
    /// Take back the plans that have not started.
    Withdraw,
}

/// Why an event does not happen; to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// Not as it stands.
    #[error("the change is {stage}: `{event}` is not possible")]
    Stage {
        /// How it stands.
        stage: &'static str,
        /// What was tried.
        event: &'static str,
    },
    /// Some tenants are not done.
    #[error("the change is not settled for {unsettled} tenants")]
    Unsettled {
        /// How many.
        unsettled: u32,
    },
    /// The record would go back in time.
    #[error("it is {now}, and the change was altered at {last}")]
    TimeWentBack {
        /// When it was.
        last: Timestamp,
        /// When this is said to be.
        now: Timestamp,
    },
}

impl ChangeRefusal {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "see how it stands, and what is possible from there",
            Self::Unsettled { .. } => {
                "have each tenant's part verified, refused or withdrawn first"
            }
            Self::TimeWentBack { .. } => "set the clock, then try again",
        }
    }
}

/// A change may be planned and started: it is proven, and nobody took it back. Only a [`Change`]
/// makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    change: ChangeId,
    kind: Kind,
}

impl Proven {
    /// The change.
    pub const fn change(&self) -> ChangeId {
        self.change
    }

    /// Patch or alteration.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl Stage {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Proving => "proving",
            Self::Proven { .. } => "proven",
            Self::Rejected { .. } => "rejected",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Closed => "closed",
            Self::Reopened { .. } => "reopened",
        }
    }
}

impl Change {
    /// One that was just found.
    pub const fn found(id: ChangeId, kind: Kind, now: Timestamp) -> Self {
        Self { id, kind, stage: Stage::Found, version: 0, at: now }
    }

    /// How it stands.
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The same for readers whom the words about it are not for: how it stands, without who said so and
    /// why.
    ///
    /// # Panics
    /// Never: what it says instead is a reason.
    #[must_use]
    pub fn without_words(&self) -> Self {
        let reason = || "whoever found it said why".parse().expect("it is a plain sentence");
        let stage = match &self.stage {
            Stage::Withdrawn { .. } => {
                Stage::Withdrawn { by: UserId::of_content([0; 16]), reason: reason() }
            }
            Stage::Reopened { .. } => Stage::Reopened { reason: reason() },
            stage => stage.clone(),
        };
        Self { stage, ..self.clone() }
    }

    /// How often it was altered.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// That it is proven at the moment.
    ///
    /// # Errors
    /// If it is not.
    pub const fn proven(&self) -> Result<Proven, ChangeRefusal> {
        match self.stage {
            Stage::Proven { .. } => Ok(Proven { change: self.id, kind: self.kind }),
            _ => Err(ChangeRefusal::Stage { stage: self.stage.as_str(), event: "start" }),
        }
    }

    /// The change after an event.
    ///
    /// # Errors
    /// If it may not happen; the change stays as it is, and the refusal is to be recorded.
    pub fn step(
        &self,
        event: ChangeEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<ChangeEffect>), ChangeRefusal> {
        if now < self.at {
            return Err(ChangeRefusal::TimeWentBack { last: self.at, now });
        }
        let refused = ChangeRefusal::Stage { stage: self.stage.as_str(), event: event.as_str() };
        let (stage, effect) = match (&self.stage, event) {
            (Stage::Found | Stage::Reopened { .. }, ChangeEvent::Prove) => {
                (Stage::Proving, Some(ChangeEffect::Prove))
            }
            (Stage::Proving, ChangeEvent::Pass { evidence }) => {
                (Stage::Proven { evidence }, Some(ChangeEffect::Plan))
            }
            (Stage::Proving, ChangeEvent::Fail { evidence }) => {
                (Stage::Rejected { evidence }, None)
            }
            (Stage::Proving, ChangeEvent::Lose) => (Stage::Found, None),
            (Stage::Withdrawn { .. } | Stage::Closed, ChangeEvent::Withdraw { .. }) => {
                return Err(refused);
            }
            (_, ChangeEvent::Withdraw { by, reason }) => {
                (Stage::Withdrawn { by, reason }, Some(ChangeEffect::Withdraw))
            }
            (Stage::Proven { .. }, ChangeEvent::Close { unsettled: 0 }) => (Stage::Closed, None),
            (Stage::Proven { .. }, ChangeEvent::Close { unsettled }) => {
                return Err(ChangeRefusal::Unsettled { unsettled });
            }
            (Stage::Closed | Stage::Rejected { .. }, ChangeEvent::Reopen { reason }) => {
                (Stage::Reopened { reason }, None)
            }
            _ => return Err(refused),
        };
        let version = self.version + 1;
        let (from, to) = (self.stage.as_str(), stage.as_str());
        let record = ChangeEffect::Record { version, from, to };
        let next = Self { stage, version, at: now, ..self.clone() };
        Ok((next, std::iter::once(record).chain(effect).collect()))
    }
}
