//! What a change asks of both sides for one tenant: its share of the change, and the clock of the
//! SLA that runs beside it.
//!
//! ```text
//! collected ─► evaluated ─► tested ─► Share (planned … verified) ─► regressed ─► …
//!     └───────────── instants, never overwritten ──────────┘
//!                          │
//!                          ▼ Case: dates, clock, attribution, breach
//! ```
//!
//! [`Obligation::step`] is a pure function: what the share does leaves its instants in the SLA's
//! record, and what the SLA says gives the share its dates. The time is one that does not jump, see
//! [`Steady`](crate::sla::Steady).
//!
//! An obligation begins when a patch is collected, long before there is a plan: the waits before it
//! are the provider's, and are escalated and attributed like all others.

mod step;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::{
    self, Acceptance, Change, ChangeRefusal, Countersign, Kept, KeyId, KeyRing, Outcome, Permit,
    Plan, PlanHash, Share, Sight, Standing, Statement, Verified,
};
use crate::cloud::{ChangeId, Duty, TenantId, UserId};
use crate::priority::PolicyRef;
use crate::sla::{
    Breach, Case, ClockView, Deferral, DueDates, Facts, History, Instants, Interruption, Moment,
    NotDeferred, NotRecorded, Party, Policy, Rung,
};

/// A change as one tenant's SLA sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Obligation {
    record: Record,
    share: Option<Share>,
}

/// What an obligation is made of before there is a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The change.
    pub change: ChangeId,
    /// Whose items it concerns.
    pub tenant: TenantId,
    /// What is known of the patch and of the items; the most urgent of them counts.
    pub facts: Facts,
    /// Who installs.
    pub duty: Duty,
    /// When the vendor published it, where that is known. A time after `collected` is wrong and
    /// taken as unknown, as is the beginning of computers' time.
    pub published: Option<Timestamp>,
    /// When it was collected.
    pub collected: Timestamp,
}

/// What is known of an obligation beside its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    change: ChangeId,
    tenant: TenantId,
    policy: PolicyRef,
    facts: Facts,
    duty: Duty,
    instants: Instants,
    deferrals: Vec<Deferral>,
    interruptions: Vec<Interruption>,
    dues: DueDates,
    taken: BTreeSet<Rung>,
    version: u64,
    last: Timestamp,
}

/// An obligation as it is kept; the plan is kept beside it, once, by its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptObligation {
    record: Record,
    share: Option<Kept>,
}

/// What happens to an obligation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The patch was evaluated, or is again: what is known is this now.
    Assess {
        /// What is known.
        facts: Box<Facts>,
    },
    /// The first plan, or another in the place of the one in force.
    Plan {
        /// The plan.
        plan: Plan,
        /// Who wrote it.
        author: UserId,
        /// More items than this that the provider must patch need two of its people.
        two_persons_above: usize,
    },
    /// The tenant was told of the plan.
    Notified {
        /// Which plan.
        plan: PlanHash,
        /// When the notice was written.
        written_at: Timestamp,
    },
    /// Somebody of the tenant says that they read it.
    Acknowledged,
    /// The tenant speaks.
    Answer(Verified<Statement>),
    /// One of the provider's people agrees.
    Countersign(Countersign),
    /// Something stands in the way of both sides, or no more.
    Interrupt {
        /// What, since when, and until when.
        interruption: Interruption,
    },
    /// The agents are at the end of the plan.
    Finished {
        /// The plan that they had.
        plan: PlanHash,
        /// How it went.
        outcome: Outcome,
    },
    /// In an emergency: what the patch may wipe was saved.
    EvidenceSaved,
    /// The tenant was told how it ended.
    DoneTold {
        /// When.
        at: Timestamp,
    },
    /// After an emergency: it was judged again.
    ReEvaluated,
    /// All items that the plan restarts have started anew since it was installed there.
    Restarted {
        /// When that was known of the last one.
        at: Timestamp,
    },
    /// Somebody else than the agent looked.
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
    /// Time passed, or the change was proven or withdrawn.
    Tick,
}

/// What stands beside an obligation when something happens.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The policy that governs, see [`Obligation::policy`].
    pub policy: &'a Policy,
    /// The change, as it is now.
    pub change: &'a Change,
    /// The tenant's keys, as they are now.
    pub keys: &'a KeyRing,
    /// The rules by which the tenant agreed ahead.
    pub standing: &'a [Standing],
}

/// What follows from an event.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// To be recorded, in the transaction that keeps the obligation.
    Record {
        /// The obligation's version after it.
        version: u64,
        /// What happened.
        event: &'static str,
        /// Where the share stood; `none` before there is a plan.
        from: &'static str,
        /// Where it stands.
        to: &'static str,
    },
    /// Of the change's share.
    Share(change::Effect),
    /// A step of escalation; each is taken once.
    Escalate {
        /// Which.
        rung: Rung,
        /// Who holds the ball; `None` where it is settled meanwhile.
        holder: Option<Party>,
    },
    /// A due date was missed, with the facts; told once for each date.
    Breach(Box<Breach>),
}

/// Why something does not happen to an obligation; to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The share does not take it.
    #[error(transparent)]
    Share(#[from] change::Refusal),
    /// The change does not.
    #[error(transparent)]
    Change(#[from] ChangeRefusal),
    /// The SLA does not let the tenant put it off so long.
    #[error(transparent)]
    Deferral(#[from] NotDeferred),
    /// What happened is recorded otherwise.
    #[error(transparent)]
    Instant(#[from] NotRecorded),
    /// There is no plan yet.
    #[error("there is no plan yet: `{event}` is not possible")]
    NoPlan {
        /// What was tried.
        event: &'static str,
    },
    /// The plan comes too late for its own window.
    #[error(
        "told now, the plan may not start before {earliest}, and its first window closes at {closes}"
    )]
    Untenable {
        /// When the lead time of a notice that is given now is over.
        earliest: Timestamp,
        /// When nothing may be begun any more.
        closes: Timestamp,
    },
    /// What is done comes too late, or was not asked for.
    #[error("`{event}` is not owed here, or not any more")]
    NotOwed {
        /// What was tried.
        event: &'static str,
    },
    /// More than anybody looks through.
    #[error("{most} interruptions are recorded already")]
    TooManyInterruptions {
        /// The most that are kept.
        most: usize,
    },
    /// The record would go back in time.
    #[error("it is {now}, and the obligation was altered at {last}")]
    TimeWentBack {
        /// When it was.
        last: Timestamp,
        /// When this is said to be.
        now: Timestamp,
    },
    /// It is judged by another policy than the one that governs it.
    #[error("`{}` {} governs, and `{}` {} was given", .governs.name, .governs.version, .given.name, .given.version)]
    Policy {
        /// The one that governs.
        governs: PolicyRef,
        /// The one that was given.
        given: PolicyRef,
    },
}

impl Refusal {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Share(refusal) => refusal.help().to_owned(),
            Self::Change(refusal) => refusal.help().to_owned(),
            Self::Deferral(refusal) => refusal.help().unwrap_or_default(),
            Self::Instant(refusal) => refusal.help().unwrap_or_default(),
            Self::NoPlan { .. } => "make a plan first".to_owned(),
            Self::Untenable { .. } => "give a later window".to_owned(),
            Self::NotOwed { .. } => "see what its clock says is owed, and since when".to_owned(),
            Self::TooManyInterruptions { .. } => "end one that is open".to_owned(),
            Self::TimeWentBack { .. } => "set the clock, then try again".to_owned(),
            Self::Policy { .. } => "give the policy in force when the patch was collected".into(),
        }
    }
}

impl Obligation {
    /// A patch was collected that a tenant's items lack. `policy` is the tenant's in force then, see
    /// [`governing`](crate::sla::governing).
    pub fn open(draft: Draft, policy: &Policy, now: Timestamp) -> (Self, Vec<Effect>) {
        let Draft { change, tenant, facts, duty, published, collected } = draft;
        let mut instants = Instants::new();
        // Whoever dates it must not take time from the least age, or give any.
        let published = published.filter(|at| Timestamp::UNIX_EPOCH < *at && *at <= collected);
        for (moment, at) in
            [(Moment::VendorPublished, published), (Moment::Collected, Some(collected))]
        {
            if let Some(at) = at {
                // The first record of each can only be taken.
                let _ = instants.record(moment, at);
            }
        }
        let dues = DueDates::new(policy.due_dates(&facts, &instants));
        let policy = policy.reference();
        let record = Record {
            change,
            tenant,
            policy,
            facts,
            duty,
            instants,
            deferrals: Vec::new(),
            interruptions: Vec::new(),
            dues,
            taken: BTreeSet::new(),
            version: 1,
            last: now.max(collected),
        };
        let effect = Effect::Record { version: 1, event: "collect", from: "none", to: "collected" };
        (Self { record, share: None }, vec![effect])
    }

    /// The change.
    pub const fn change(&self) -> ChangeId {
        self.record.change
    }

    /// The tenant.
    pub const fn tenant(&self) -> TenantId {
        self.record.tenant
    }

    /// The policy that governs: the tenant's version in force when the patch was collected.
    pub const fn policy(&self) -> &PolicyRef {
        &self.record.policy
    }

    /// What is known of the patch and the items.
    pub const fn facts(&self) -> &Facts {
        &self.record.facts
    }

    /// Who installs.
    pub const fn duty(&self) -> Duty {
        self.record.duty
    }

    /// All that happened.
    pub const fn instants(&self) -> &Instants {
        &self.record.instants
    }

    /// The dates that bind.
    pub const fn dues(&self) -> &DueDates {
        &self.record.dues
    }

    /// The tenant's share, once there is a plan.
    pub const fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// How often it was altered.
    pub const fn version(&self) -> u64 {
        self.record.version
    }

    /// Where it stands, in a word.
    pub fn phase(&self) -> &'static str {
        match &self.share {
            Some(share) => share.phase().as_str(),
            None if self.at(Moment::Withdrawn).is_some() => "withdrawn",
            // Done by somebody before there was a plan.
            None if self.at(Moment::Verified).is_some() => "verified",
            None if self.at(Moment::Tested).is_some() => "tested",
            None if self.at(Moment::Evaluated).is_some() => "evaluated",
            None => "collected",
        }
    }

    /// Whether nothing is left to do for it.
    pub fn is_settled(&self) -> bool {
        match &self.share {
            Some(share) => share.is_settled(),
            None => [Moment::Withdrawn, Moment::Verified].iter().any(|it| self.at(*it).is_some()),
        }
    }

    /// The clock at an instant.
    pub fn clock(&self, policy: &Policy, now: Timestamp) -> Option<ClockView> {
        self.case(policy).clock(now)
    }

    /// All that its clock depends on.
    pub fn case<'a>(&'a self, policy: &'a Policy) -> Case<'a> {
        self.record.case(policy)
    }

    /// When time alone may alter it next; `None` where it never does.
    pub fn wakes_at(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        let clock = self.clock(policy, now).and_then(|clock| clock.next_wake);
        // What is settled may still owe a notice, or to be judged again.
        let share = self.share.as_ref().filter(|_| !self.is_settled());
        share.and_then(Share::wakes_at).into_iter().chain(clock).min()
    }

    /// As it is kept, beside its plan.
    pub fn to_kept(&self) -> KeptObligation {
        let share = self.share.as_ref().map(Share::to_kept);
        KeptObligation { record: self.record.clone(), share }
    }

    /// As it was kept.
    ///
    /// # Errors
    /// If the plan is not the one that it is kept with.
    pub fn from_kept(kept: KeptObligation, plan: Option<Plan>) -> Result<Self, Refusal> {
        let share = match (kept.share, plan) {
            (None, _) => None,
            (Some(_), None) => return Err(Refusal::NoPlan { event: "restore" }),
            (Some(share), Some(plan)) => Some(Share::from_kept(share, plan)?),
        };
        Ok(Self { record: kept.record, share })
    }

    fn at(&self, moment: Moment) -> Option<Timestamp> {
        self.record.instants.at(moment)
    }
}

impl KeptObligation {
    /// The plan that it is kept with.
    pub fn plan(&self) -> Option<PlanHash> {
        self.share.as_ref().map(|share| share.plan)
    }

    /// What happened to it, for judging it under another policy.
    pub fn into_history(self, name: String) -> History {
        let Record { facts, duty, instants, deferrals, interruptions, .. } = self.record;
        History { name, facts, duty, instants, deferrals, interruptions }
    }

    /// The policy that governs it.
    pub const fn policy(&self) -> &PolicyRef {
        &self.record.policy
    }
}

impl Record {
    fn case<'a>(&'a self, policy: &'a Policy) -> Case<'a> {
        Case {
            policy,
            facts: &self.facts,
            duty: self.duty,
            instants: &self.instants,
            deferrals: &self.deferrals,
            interruptions: &self.interruptions,
            dues: &self.dues,
        }
    }
}

impl Event {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Assess { .. } => "assess",
            Self::Plan { .. } => "plan",
            Self::Notified { .. } => "notify",
            Self::Acknowledged => "acknowledge",
            Self::Answer(_) => "answer",
            Self::Countersign(_) => "countersign",
            Self::Interrupt { .. } => "interrupt",
            Self::Finished { .. } => "finish",
            Self::EvidenceSaved => "save_evidence",
            Self::DoneTold { .. } => "tell_done",
            Self::ReEvaluated => "re_evaluate",
            Self::Restarted { .. } => "restart",
            Self::Scanned { .. } => "scan",
            Self::Withdraw => "withdraw",
            Self::Close => "close",
            Self::Tick => "tick",
        }
    }
}

/// The finding that a tenant's no or later leaves open, for whoever keeps findings.
impl Effect {
    /// Who bears the risk, and by whose signature, where this is such an effect.
    pub const fn acceptance(&self) -> Option<(&Acceptance, KeyId)> {
        match self {
            Self::Share(change::Effect::AcceptFinding { acceptance, key }) => {
                Some((acceptance, *key))
            }
            _ => None,
        }
    }

    /// The permit to start, where this is one.
    pub const fn permit(&self) -> Option<&Permit> {
        match self {
            Self::Share(change::Effect::Start(permit)) => Some(permit),
            _ => None,
        }
    }
}
