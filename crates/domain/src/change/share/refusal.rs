//! Why something does not happen to a share.

use jiff::{SignedDuration, Timestamp};

use crate::change::consent::NotHeard;
use crate::change::digest::{Nonce, PlanHash};
use crate::change::lifecycle::ChangeRefusal;
use crate::change::plan::NoSuccessor;
use crate::cloud::{ChangeId, UserId};

/// Why an event does not happen. The share stays as it is; the refusal is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not from where it stands.
    #[error("the share is {phase}: `{event}` is not possible")]
    Phase {
        /// Where it stands.
        phase: &'static str,
        /// What was tried.
        event: &'static str,
    },
    /// It is too late for that.
    #[error("the plan started at {at}: `{event}` is too late")]
    Started {
        /// When.
        at: Timestamp,
        /// What was tried.
        event: &'static str,
    },
    /// The record would go back in time.
    #[error("it is {now}, and the share was altered at {last}")]
    TimeWentBack {
        /// When it was.
        last: Timestamp,
        /// When this is said to be.
        now: Timestamp,
    },
    /// It is about another change.
    #[error("this is about {given}, not about {expected}")]
    Change {
        /// Which.
        given: ChangeId,
        /// The share's.
        expected: ChangeId,
    },
    /// It is about another plan.
    #[error("this is about the plan {given}, and {current} is in force")]
    Plan {
        /// Which.
        given: PlanHash,
        /// The one in force.
        current: PlanHash,
    },
    /// The change is not proven at the moment.
    #[error(transparent)]
    NotProven(#[from] ChangeRefusal),
    /// The new plan does not follow the one in force.
    #[error(transparent)]
    NoSuccessor(#[from] NoSuccessor),
    /// The statement does not count, whatever the plan.
    #[error(transparent)]
    NotHeard(#[from] NotHeard),
    /// The statement came in before.
    #[error("a statement with the nonce {nonce} came in before")]
    Replayed {
        /// Its nonce.
        nonce: Nonce,
    },
    /// The tenant has said something later.
    #[error("the statement was given at {given_at}, and the tenant spoke at {latest}")]
    Stale {
        /// When.
        given_at: Timestamp,
        /// When it said what counts.
        latest: Timestamp,
    },
    /// Nobody can agree to what they were not told.
    #[error("the statement was given at {given_at}, before the notice at {notified_at}")]
    BeforeNotice {
        /// When.
        given_at: Timestamp,
        /// When the tenant was told.
        notified_at: Timestamp,
    },
    /// It has deferred as often as it may.
    #[error("no deferral is left")]
    NoDeferralLeft,
    /// It defers for too long.
    #[error("a deferral until {until} reaches further than {longest:#} from {now}")]
    DeferralTooLong {
        /// Until when.
        until: Timestamp,
        /// Now.
        now: Timestamp,
        /// The longest that the SLA allows.
        longest: SignedDuration,
    },
    /// Nobody would bear the risk for as long as nothing is done.
    #[error("the risk is borne until {expiry}, and nothing is done until {until}")]
    RiskUncovered {
        /// Until when somebody bears it.
        expiry: Timestamp,
        /// Until when nothing is done; now, for a refusal.
        until: Timestamp,
    },
    /// More than anybody has to say.
    #[error("{most} statements about this change are kept already")]
    TooManyStatements {
        /// The most that are kept.
        most: usize,
    },
    /// Nobody bears a risk for so long without looking at it again.
    #[error("the risk is borne until {expiry}, which is later than {latest}")]
    RiskTooLong {
        /// Until when somebody bears it.
        expiry: Timestamp,
        /// The latest that is taken.
        latest: Timestamp,
    },
    /// It reaches no further than now.
    #[error("`until` is {until}, and it is {now}")]
    Past {
        /// Until when.
        until: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// Nobody agrees to their own plan.
    #[error("{by} wrote the plan, and cannot agree to it for the provider")]
    OwnPlan {
        /// Who.
        by: UserId,
    },
    /// They have agreed already.
    #[error("{by} has agreed to this plan already")]
    AgreedAlready {
        /// Who.
        by: UserId,
    },
    /// The notice speaks of terms that are none any more.
    #[error("the notice was written at {written_at}, before the terms of {asked_at}")]
    OldNotice {
        /// When it was written.
        written_at: Timestamp,
        /// Since when the terms are others.
        asked_at: Timestamp,
    },
    /// A notice does not move the date that both sides owe.
    #[error("the notice says due at {given}, and {due} is agreed")]
    OtherDue {
        /// By the notice.
        given: Timestamp,
        /// The date in force.
        due: Timestamp,
    },
    /// A notice ahead says when its lead time is over.
    #[error("the dates of the notice name no earliest start")]
    NoLeadTime,
    /// The scan says nothing of how it is now.
    #[error("the scan was taken at {taken_at}, not between {since} and {now}")]
    ScanTime {
        /// When it was taken.
        taken_at: Timestamp,
        /// Since when it stands where it stands.
        since: Timestamp,
        /// Now.
        now: Timestamp,
    },
}

impl Refusal {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Phase { .. } => "see where it stands, and what is possible from there",
            Self::Started { .. } => "halt the rollout instead; what began goes to its end or back",
            Self::TimeWentBack { .. } => "set the clock, then try again",
            Self::Change { .. } => "address the change that it is about",
            Self::Plan { .. } | Self::BeforeNotice { .. } => {
                "read the plan in force, then answer it"
            }
            Self::NotProven(error) => error.help(),
            Self::NoSuccessor(_) => "plan again from the plan in force",
            Self::NotHeard(error) => error.help(),
            Self::Replayed { .. } | Self::Stale { .. } => "sign a new statement",
            Self::NoDeferralLeft => "approve, or refuse and have somebody bear the risk",
            Self::DeferralTooLong { .. } => "defer for a shorter time",
            Self::RiskUncovered { .. } => "have the risk borne for at least as long",
            Self::TooManyStatements { .. } => {
                "refuse the plan, or have the provider withdraw the change"
            }
            Self::RiskTooLong { .. } => "bear it for at most 366 days, and decide anew then",
            Self::Past { .. } => "name a time to come",
            Self::OwnPlan { .. } | Self::AgreedAlready { .. } => "have somebody else look at it",
            Self::OldNotice { .. } => "send the notice of now",
            Self::OtherDue { .. } => "agree on another date first, with a reason",
            Self::NoLeadTime => "resolve the lead time by the tenant's policy",
            Self::ScanTime { .. } => "scan again",
        }
    }
}
