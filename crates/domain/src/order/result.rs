//! What came of an order, as the agent signs it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::change::{ExactPackage, FileHash, Nonce, Payload, PlanHash};
use crate::cloud::{AgentId, CiId, Id, IdKind, words};

/// What an execution is called by.
#[derive(Debug)]
pub enum Execution {}

impl IdKind for Execution {
    const PREFIX: &'static str = "exe";
}

/// One time that an agent carried an order out.
pub type ExecutionId = Id<Execution>;

/// What came of an order. It proves what the agent says; that the host is patched is proven by a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderResult {
    /// Which execution.
    pub execution: ExecutionId,
    /// Who did it.
    pub agent: AgentId,
    /// On which item.
    pub ci: CiId,
    /// By which plan.
    pub plan: PlanHash,
    /// By which order.
    pub order: Nonce,
    /// How it ended.
    pub ended: Ended,
    /// What came of each action, in the order's order.
    pub actions: Vec<ActionOutcome>,
    /// The packages that the host has after it, of those that were ordered.
    pub packages: Vec<ExactPackage>,
    /// The files that the host has after it, of those that were ordered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<WrittenFile>,
    /// How the probes ended that were tried, each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeOutcome>,
    /// How long units were down that were down.
    pub downtime: Vec<Downtime>,
    /// How often it was taken up again after it was interrupted.
    pub interruptions: u32,
    /// When it was accepted.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ended {
    /// All of it was done.
    Done,
    /// Nothing was begun.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The host is what it was before.
    RolledBack {
        /// Why.
        because: String,
    },
    /// Neither way could be gone to its end: somebody has to look at the host.
    Stuck {
        /// What is wrong.
        because: String,
    },
}

words! {
    /// What came of one action.
    ActionOutcome {
        /// It was done.
        Done = "done",
        /// It was tried, and failed.
        Failed = "failed",
        /// It was done, and taken back.
        RolledBack = "rolled_back",
        /// It was not begun.
        Skipped = "skipped",
    }
}

/// A file as an order wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFile {
    /// Where it is.
    pub path: String,
    /// Of its content.
    pub sha256: FileHash,
}

/// How a probe of the owner's ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOutcome {
    /// Its name.
    pub probe: String,
    /// What failed at the last try; `None` where it passed.
    pub failure: Option<String>,
    /// How long until it passed or was given up.
    pub milliseconds: u64,
}

/// How long a unit was down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downtime {
    /// `nginx.service`.
    pub unit: String,
    /// From when it stopped until it was up again, in milliseconds, as the service manager measured it.
    pub milliseconds: u64,
}

/// About the plan, as the order is.
impl Payload for OrderResult {
    const KIND: &'static str = "urn:patchwright:order-result:v1";

    fn subject(&self) -> (String, [u8; 32]) {
        (self.ci.to_string(), *self.plan.as_bytes())
    }
}
