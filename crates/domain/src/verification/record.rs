//! What a look came to, as the verifier signs it: a Statement that is kept for ever.
//!
//! It is no VSA (`slsa.dev/verification_summary/v1`): that passes or fails an artifact, and here an item
//! may be undecided as well. Verifier, time, policy and inputs are what they are there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::change::{FileHash, Nonce, Payload, PlanHash};
use crate::check::{Report, SourceKind, Status};
use crate::cloud::{AgentId, ChangeId, CiId, ReleaseId, TenantId, VerificationId, words};
use crate::fleet::SetDigest;
use crate::order::ExecutionId;
use crate::priority::PolicyRef;

/// Most sources that a record names.
const MOST_SOURCES: usize = 64;

words! {
    /// Why somebody looked.
    Occasion {
        /// An agent said that it is done.
        AfterOrder = "after_order",
        /// A day has passed since it was verified.
        After24h = "after_24h",
        /// A week has.
        After7d = "after_7d",
    }
}

/// What a look at an item came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What names it.
    pub id: VerificationId,
    /// The release that the order was for.
    pub release: ReleaseId,
    /// The change.
    pub change: ChangeId,
    /// Whose item.
    pub tenant: TenantId,
    /// The item.
    pub ci: CiId,
    /// What is verified.
    pub claim: Claim,
    /// Why somebody looked.
    pub occasion: Occasion,
    /// What the claim was held against; `None` where nobody looked.
    pub seen: Option<Sighting>,
    /// What came of it.
    pub verdict: Verdict,
    /// The version of the SLA that governs the tenant's part of the change.
    pub policy: PolicyRef,
    /// What was known about patches when what was seen was last checked; `None` where it was not yet.
    pub knowledge: Option<Knowledge>,
    /// When it was held against it.
    pub verified_at: Timestamp,
}

/// What an agent says: that a stage of a plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The plan, whose bytes say what was to be done.
    pub plan: PlanHash,
    /// The stage, from 1.
    pub stage: u32,
    /// The order.
    pub order: Nonce,
    /// Who carried it out.
    pub agent: Option<AgentId>,
    /// The execution; `None` of what was answered before executions were kept.
    pub execution: Option<ExecutionId>,
    /// SHA-256 of the envelope with the agent's result; as of the execution.
    pub result: Option<FileHash>,
    /// When that came in.
    pub answered_at: Option<Timestamp>,
}

/// What was seen of an item: all of it, by a report that left nothing open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sighting {
    /// By whom.
    pub agent: AgentId,
    /// What is installed.
    pub package_set: SetDigest,
    /// What runs, where that is known.
    pub facts: Option<SetDigest>,
    /// The kernel that runs, where that is known.
    pub kernel: Option<String>,
    /// SHA-256 of what the plan's files held, where it writes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileHash>,
    /// When all of it was known here.
    pub seen_at: Timestamp,
}

/// What was known about patches at a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knowledge {
    /// When it was checked.
    pub checked_at: Timestamp,
    /// What the check said.
    pub status: Status,
    /// SHA-256 of the check's report, as it was recorded.
    pub report: FileHash,
    /// The policy that ranked what it found.
    pub policy: PolicyRef,
    /// The sources, and which state of each.
    pub sources: Vec<SourceUsed>,
}

/// A source of knowledge, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceUsed {
    /// What kind of source it is.
    pub kind: SourceKind,
    /// Where it is.
    pub uri: String,
    /// The suite, of archives.
    pub suite: Option<String>,
    /// When the source made this state.
    pub date: Option<Timestamp>,
    /// SHA-256 of its release file, or of the data read.
    pub sha256: Option<String>,
}

impl Knowledge {
    /// What a check's report says of it; `report` is the report's SHA-256.
    pub fn of(checked: &Report, report: FileHash) -> Self {
        let source = |it: &crate::check::SourceReport| SourceUsed {
            kind: it.kind,
            uri: it.uri.clone(),
            suite: it.suite.clone(),
            date: it.date,
            sha256: it.sha256.clone(),
        };
        Self {
            checked_at: checked.checked_at,
            status: checked.status,
            report,
            policy: checked.policy.clone(),
            sources: checked.sources.iter().take(MOST_SOURCES).map(source).collect(),
        }
    }
}

impl Record {
    /// Whether it says the same of the same as another: a second one would tell nothing new.
    pub fn repeats(&self, other: &Self) -> bool {
        let seen =
            |it: &Self| it.seen.as_ref().map(|seen| (seen.package_set, seen.facts, seen.files));
        self.claim == other.claim
            && self.occasion == other.occasion
            && self.verdict == other.verdict
            && seen(self) == seen(other)
    }
}

/// About the plan, as the order and its result are.
impl Payload for Record {
    const KIND: &'static str = "urn:patchwright:verification:v1";

    /// Room for what a verdict and its knowledge name at most.
    const LONGEST: usize = 256 << 10;

    fn subject(&self) -> (String, [u8; 32]) {
        (self.ci.to_string(), *self.claim.plan.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{KeyId, Verified};
    use crate::cloud::Id;
    use crate::verification::Untold;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + second).unwrap()
    }

    fn record() -> Record {
        Record {
            id: Id::new(at(0), [1; 10]),
            release: Id::new(at(0), [2; 10]),
            change: Id::new(at(0), [3; 10]),
            tenant: Id::new(at(0), [4; 10]),
            ci: Id::new(at(0), [5; 10]),
            claim: Claim {
                plan: PlanHash::from([6; 32]),
                stage: 1,
                order: Nonce::from([7; 16]),
                agent: Some(Id::new(at(0), [8; 10])),
                execution: Some(Id::new(at(0), [9; 10])),
                result: Some(FileHash::from([10; 32])),
                answered_at: Some(at(1)),
            },
            occasion: Occasion::AfterOrder,
            seen: Some(Sighting {
                agent: Id::new(at(0), [8; 10]),
                package_set: SetDigest::from([11; 32]),
                facts: None,
                kernel: None,
                files: None,
                seen_at: at(2),
            }),
            verdict: Verdict::Undecided { because: Untold::Runtime },
            policy: PolicyRef { name: "x1642-default".to_owned(), version: "1.0.0".to_owned() },
            knowledge: None,
            verified_at: at(3),
        }
    }

    #[test]
    fn what_is_signed_reads_back_and_is_about_the_plan() {
        let record = record();
        let payload = record.to_payload();
        let read = Verified::<Record>::signed_by(KeyId::from([1; 32]), &payload).unwrap();
        assert_eq!(*read.said(), record);
        let text = String::from_utf8(payload).unwrap();
        assert!(text.contains(&"06".repeat(32)) && text.contains(Record::KIND), "{text}");
    }

    #[test]
    fn the_same_look_twice_is_one_and_another_look_is_another() {
        let first = record();
        let later = Record { id: Id::new(at(9), [9; 10]), verified_at: at(9), ..record() };
        assert!(later.repeats(&first));

        let mut seen = first.seen.clone().unwrap();
        seen.facts = Some(SetDigest::from([12; 32]));
        let other = Record { seen: Some(seen), ..later.clone() };
        assert!(!other.repeats(&first));
        let decided = Record { verdict: Verdict::Verified { newer: Vec::new() }, ..later };
        assert!(!decided.repeats(&first));
    }
}
