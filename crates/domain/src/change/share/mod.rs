//! What a change means for one tenant: told, agreed, carried out, verified.
//!
//! ```text
//!  planned ──notice──► notified ──yes, rule, silence──► approved ──► scheduled ──permit──► rolling out
//!   ▲  ▲ ▲              │    └──no answer──► lapsed        │            │                       │
//!   │  │ └── time over ─┤ deferred, refused ◄──later, no────┴────────────┘              verifying◄┘
//!   │  └──── new plan ──┴─ from each of these                                             │   │
//!   │                                                        non-compliant ◄──missing─────┤   ▼
//!   └──── new plan ──── reopened ◄──missing again── verified ◄──clean scan────────────────┘
//! ```
//!
//! [`Share::step`] is all of it: a pure function of the share, an event, what stands beside it and
//! the time. The share starts nothing by itself: a start is an [`Effect`] that carries a
//! [`Permit`], and only [`permit`](super::permit) makes those.
//!
//! Whoever drives it gives it a [`Event::Tick`] after each event, until nothing follows, and at
//! [`Share::wakes_at`].

mod refusal;
mod step;

pub use refusal::Refusal;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::consent::{Acceptance, Decision, Heard, Statement};
use super::digest::{KeyId, PlanHash};
use super::keyring::KeyRing;
use super::lifecycle::{Change, Proven};
use super::permit::{Basis, Case, Countersign, Lacks, Permit, Terms, permit};
use super::plan::{NoSuccessor, Plan};
use super::signed::Verified;
use super::standing::Standing;
use super::text::Reason;
use crate::cloud::{Side, UserId};
use crate::priority::Priority;
use crate::sla::Dates;
use crate::sla::{Approval, Silence};

/// A tenant's share of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    plan: Plan,
    state: State,
}

/// A share without its plan, as it is kept: the plan is kept once, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The hash of the plan in force.
    pub plan: PlanHash,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    author: UserId,
    terms: Terms,
    heard: Vec<Heard>,
    approvals: Vec<Countersign>,
    phase: Phase,
    /// When the tenant was told of the plan.
    notified_at: Option<Timestamp>,
    /// Since when the tenant is to be told what it is to be told now; a notice from before then
    /// speaks of another plan or of other terms.
    #[serde(default)]
    asked_at: Option<Timestamp>,
    /// Since when it is in its phase.
    since: Timestamp,
    /// When it was last altered.
    last: Timestamp,
    version: u64,
    /// The date at which it was seen whether it is met, so that a breach is told once.
    judged: Option<Timestamp>,
}

/// Where a share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// There is a plan, and the tenant has no notice of it.
    Planned,
    /// The tenant was told.
    Notified,
    /// The tenant's side agrees.
    Approved {
        /// What that rests on.
        basis: Basis,
    },
    /// The tenant said later.
    Deferred {
        /// Until when.
        until: Timestamp,
    },
    /// The tenant said no.
    Refused {
        /// Until when it bears the risk.
        until: Timestamp,
    },
    /// The tenant did not answer in time; it still can.
    Lapsed,
    /// Only time is lacking.
    Scheduled {
        /// When it is over.
        at: Timestamp,
    },
    /// It started.
    RollingOut,
    /// It is said to be done; a scan is to show it.
    Verifying,
    /// A scan showed it.
    Verified,
    /// It was tried and is not done.
    NonCompliant {
        /// How.
        shortfall: Shortfall,
    },
    /// It was taken back before it started.
    Withdrawn,
    /// It is settled.
    Closed,
    /// It was verified, and is missing again.
    Reopened,
}

/// How a share falls short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortfall {
    /// Its window passed before everything was there to start.
    WindowMissed,
    /// It failed on the way.
    Failed,
    /// It failed, and what was before is back.
    RolledBack,
    /// It is said to be done, and a scan sees that it is not: the two are in conflict.
    StillMissing,
    /// The scan could not tell; unknown is not compliant.
    Unknown,
}

/// What happens to a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Another plan takes the place of the one in force. Consent to the old one is none to it.
    Replan {
        /// The next generation.
        plan: Plan,
        /// Who wrote it.
        author: UserId,
    },
    /// The tenant was told of the plan, which the SLA's dates follow from.
    Notified {
        /// The plan that it was told of.
        plan: PlanHash,
        /// When the notice was written; one from before the question is none.
        written_at: Timestamp,
        /// The dates.
        dates: Dates,
    },
    /// The dates are others: the priority rose, or people agreed on them. Where a told plan asks
    /// something else by them, it is told anew, unless the tenant said yes to this very plan.
    Redate {
        /// The dates.
        dates: Dates,
        /// The priority that they follow from.
        priority: Priority,
        /// Why.
        reason: Reason,
    },
    /// The tenant speaks.
    Answer(Verified<Statement>),
    /// One of the provider's people agrees.
    Countersign(Countersign),
    /// Time passed.
    Tick,
    /// The agents are at the end of the plan.
    Finished {
        /// The plan that they had.
        plan: PlanHash,
        /// How it went.
        outcome: Outcome,
    },
    /// Somebody else than the agent looked (R25).
    Scanned {
        /// When.
        taken_at: Timestamp,
        /// What was seen.
        sight: Sight,
    },
    /// It is taken back for this tenant.
    Withdraw,
    /// It is settled.
    Close,
}

/// How a rollout went, by those who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// It failed and stays as it is.
    Failed,
    /// It failed, and what was before is back.
    RolledBack,
}

/// What an independent scan saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// Everything that the change wants is there.
    Clean,
    /// Something is missing.
    Missing,
    /// It could not tell.
    Unknown,
}

/// What follows from an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// To be recorded, in the transaction that keeps the share. Stands once in the list of each
    /// event that alters it.
    Record {
        /// The share's version after it.
        version: u64,
        /// What happened.
        event: &'static str,
        /// Where it stood.
        from: &'static str,
        /// Where it stands.
        to: &'static str,
    },
    /// The SLA's date is missed; told once for each date.
    Breach {
        /// The date.
        due: Timestamp,
        /// Who held the ball then.
        side: Side,
    },
    /// Tell the tenant.
    Notify {
        /// Of what.
        notice: Notice,
        /// About which plan.
        plan: PlanHash,
    },
    /// The tenant took its later or no back: nobody bears that risk any more.
    EndAcceptance,
    /// The finding is accepted meanwhile.
    AcceptFinding {
        /// Who bears the risk, why, and until when.
        acceptance: Acceptance,
        /// The key that signed it.
        key: KeyId,
    },
    /// Start when this is over.
    Schedule {
        /// When.
        at: Timestamp,
    },
    /// Have the plan carried out.
    Start(Permit),
    /// Have it verified by somebody else than the agents.
    Scan,
}

/// What a tenant is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// What is planned, with its window; the tenant is asked where the SLA says so.
    Planned,
    /// It did not answer in time.
    Lapsed,
    /// It starts.
    Started,
    /// It is done and verified.
    Completed,
    /// It is not done.
    Failed,
    /// It will not be done.
    Withdrawn,
}

/// What stands beside a share when something happens.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The change, as it is now.
    pub change: &'a Change,
    /// The tenant's keys, as they are now.
    pub keys: &'a KeyRing,
    /// The rules by which the tenant agreed ahead.
    pub standing: &'a [Standing],
}

impl Share {
    /// The first plan for a tenant. Only a proven change has one.
    ///
    /// # Errors
    /// If the plan is of another change, or not the first.
    pub fn open(
        proven: Proven,
        plan: Plan,
        author: UserId,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), Refusal> {
        let draft = plan.draft();
        if draft.change != proven.change() {
            let (given, expected) = (draft.change, proven.change());
            return Err(Refusal::Change { given, expected });
        }
        if draft.generation != 0 {
            return Err(Refusal::NoSuccessor(NoSuccessor {
                generation: draft.generation,
                parent: draft.parent,
                expected: 0,
                expected_parent: plan.hash(),
            }));
        }
        let hash = plan.hash();
        let state = State {
            author,
            terms: Terms { kind: proven.kind(), dates: untold(&terms.dates), ..*terms },
            heard: Vec::new(),
            approvals: Vec::new(),
            phase: Phase::Planned,
            notified_at: None,
            asked_at: Some(now),
            since: now,
            last: now,
            version: 0,
            judged: None,
        };
        let share = Self { plan, state };
        let effects = vec![
            Effect::Record { version: 0, event: "plan", from: "none", to: "planned" },
            Effect::Notify { notice: Notice::Planned, plan: hash },
        ];
        Ok((share, effects))
    }

    /// As it is kept, beside its plan.
    pub fn to_kept(&self) -> Kept {
        Kept { plan: self.plan.hash(), state: self.state.clone() }
    }

    /// As it was kept. Whoever keeps it vouches that it is what [`Share::to_kept`] gave; what was
    /// signed is kept beside it and can be verified anew.
    ///
    /// # Errors
    /// If the plan is another one.
    pub fn from_kept(kept: Kept, plan: Plan) -> Result<Self, Refusal> {
        let (given, current) = (plan.hash(), kept.plan);
        if given == current {
            Ok(Self { plan, state: kept.state })
        } else {
            Err(Refusal::Plan { given, current })
        }
    }

    /// Who wrote the plan.
    pub const fn author(&self) -> UserId {
        self.state.author
    }

    /// From now on fewer items are one person's to decide; never more than before.
    pub(crate) fn decides_alone(&mut self, two_persons_above: usize) {
        let terms = &mut self.state.terms;
        terms.two_persons_above = terms.two_persons_above.min(two_persons_above);
    }

    /// What the patch may wipe is saved: the start waits for it no more.
    pub(crate) fn evidence_saved(&mut self) {
        self.state.terms.dates.evidence_by = None;
    }

    /// Who of the provider agreed to plans of it.
    pub fn approvals(&self) -> &[Countersign] {
        &self.state.approvals
    }

    /// When the tenant was told of the plan in force.
    pub const fn notified_at(&self) -> Option<Timestamp> {
        self.state.notified_at
    }

    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        self.state.phase
    }

    /// The plan in force.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is agreed.
    pub const fn terms(&self) -> &Terms {
        &self.state.terms
    }

    /// What the tenant said.
    pub fn heard(&self) -> &[Heard] {
        &self.state.heard
    }

    /// How often the tenant has deferred.
    pub fn deferrals(&self) -> usize {
        let decisions = self.state.heard.iter().map(|heard| &heard.statement().decision);
        decisions.filter(|decision| matches!(decision, Decision::Defer { .. })).count()
    }

    /// How often it was altered.
    pub const fn version(&self) -> u64 {
        self.state.version
    }

    /// Whether nothing is left to do for it.
    pub const fn is_settled(&self) -> bool {
        matches!(self.state.phase, Phase::Verified | Phase::Withdrawn | Phase::Closed)
    }

    /// Who holds the ball at an instant, if nothing else happens before it; `None` once there is
    /// nothing to do.
    pub fn holder(&self, at: Timestamp) -> Option<Side> {
        match self.state.phase {
            Phase::Verified | Phase::Withdrawn | Phase::Closed => None,
            Phase::Lapsed => Some(Side::Tenant),
            // When its time is over, the tenant is to be asked again.
            Phase::Deferred { until } | Phase::Refused { until } if at < until => {
                Some(Side::Tenant)
            }
            Phase::Notified => Some(match self.state.terms.dates {
                Dates { approval: Approval::Required { silence }, answer_by, .. } => {
                    let is_over = answer_by.is_some_and(|over| over <= at);
                    match silence {
                        Silence::Approves if is_over => Side::Provider,
                        Silence::Approves | Silence::Waits => Side::Tenant,
                    }
                }
                Dates { approval: Approval::Notice | Approval::NotNeeded, .. } => Side::Provider,
            }),
            _ => Some(Side::Provider),
        }
    }

    /// When time alone may alter it next.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let next = match self.state.phase {
            Phase::Notified => self.state.terms.dates.answer_by,
            Phase::Deferred { until } | Phase::Refused { until } => Some(until),
            Phase::Approved { .. } => Some(self.plan.draft().stages[0].window.until),
            Phase::Scheduled { at } => Some(at),
            _ => None,
        };
        let due = (self.state.judged != Some(self.state.terms.dates.due)
            && self.holder(self.state.last).is_some())
        .then_some(self.state.terms.dates.due);
        next.into_iter().chain(due).min()
    }

    /// What it lacks to start now.
    ///
    /// # Errors
    /// All that it lacks.
    pub fn permit(&self, context: &Context<'_>, now: Timestamp) -> Result<Permit, Lacks> {
        permit(&self.case(context), now)
    }

    fn case<'a>(&'a self, context: &Context<'a>) -> Case<'a> {
        Case {
            plan: &self.plan,
            author: self.state.author,
            terms: &self.state.terms,
            consents: &self.state.heard,
            standing: context.standing,
            approvals: &self.state.approvals,
            keys: context.keys,
        }
    }
}

/// Dates that no notice has made yet.
fn untold(dates: &Dates) -> Dates {
    Dates { earliest_start: None, answer_by: None, ..dates.clone() }
}

impl Phase {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Notified => "notified",
            Self::Approved { .. } => "approved",
            Self::Deferred { .. } => "deferred",
            Self::Refused { .. } => "refused",
            Self::Lapsed => "lapsed",
            Self::Scheduled { .. } => "scheduled",
            Self::RollingOut => "rolling_out",
            Self::Verifying => "verifying",
            Self::Verified => "verified",
            Self::NonCompliant { .. } => "non_compliant",
            Self::Withdrawn => "withdrawn",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
        }
    }
}

impl Event {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Replan { .. } => "replan",
            Self::Notified { .. } => "notify",
            Self::Redate { .. } => "redate",
            Self::Answer(_) => "answer",
            Self::Countersign(_) => "countersign",
            Self::Tick => "tick",
            Self::Finished { .. } => "finish",
            Self::Scanned { .. } => "scan",
            Self::Withdraw => "withdraw",
            Self::Close => "close",
        }
    }
}
