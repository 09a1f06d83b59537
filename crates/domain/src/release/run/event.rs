//! What happens to a release, and what follows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::layout::StepKind;
use super::super::waiting::Hold;
use super::{Mode, Phase};
use crate::change::{Basis, LayoutHash, Outcome, Permit, PlanHash, Reason};
use crate::cloud::{CiId, EventId, TenantId, UserId, words};

/// What happens to a release.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed. This is what lets things begin: whoever drives a release gives it one after
    /// other events, and at [`Run::wakes_at`](super::Run::wakes_at).
    Tick,
    /// A tenant was asked.
    Asked {
        /// The tenant.
        tenant: TenantId,
        /// What it was asked for.
        plan: PlanHash,
        /// When its silence is a yes, if it ever is.
        deemed_at: Option<Timestamp>,
    },
    /// Consent arrived, and all else that its plan needs.
    Permitted {
        /// The tenant.
        tenant: TenantId,
        /// What makes it so.
        permit: Permit,
    },
    /// A tenant's plan lacks something again: its consent, its key. Nothing more of it begins.
    Withdrawn {
        /// The tenant.
        tenant: TenantId,
        /// Its plan.
        plan: PlanHash,
        /// When; a permit that was given later outweighs it.
        at: Timestamp,
    },
    /// An agent, or the scan after it, reports on a step.
    Reported {
        /// The item.
        item: CiId,
        /// The attempt of the effect that it answers to.
        attempt: u32,
        /// What.
        report: Report,
    },
    /// Somebody looked whether an item works.
    Looked {
        /// The item.
        item: CiId,
        /// When. What was seen earlier than what is known counts no more.
        taken_at: Timestamp,
        /// What was seen.
        health: Health,
    },
    /// A VM left a hypervisor that is drained, or just moved.
    Vacated {
        /// The VM.
        vm: CiId,
        /// Where it ran.
        from: CiId,
        /// How.
        how: Vacated,
    },
    /// Somebody of the provider decides.
    Commanded {
        /// Names the command, so that it counts once.
        id: EventId,
        /// Who.
        by: UserId,
        /// What.
        command: Command,
    },
}

words! {
    /// What is reported of a step.
    Report {
        /// It began.
        Started = "started",
        /// It ended well, by whoever did it.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
        /// Nobody answers.
        Silent = "silent",
        /// Somebody else looked, and it is done and works.
        Verified = "verified",
        /// Somebody else looked, and it is not done.
        Conflict = "conflict",
        /// The item is what it was, and works.
        RolledBack = "rolled_back",
    }
}

words! {
    /// Whether an item works.
    Health {
        /// It does.
        Healthy = "healthy",
        /// It does not.
        Sick = "sick",
    }
}

/// How a VM left its hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Vacated {
    /// It runs elsewhere.
    Moved {
        /// Where.
        to: CiId,
    },
    /// It is off.
    Off,
}

/// What somebody decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Nothing more begins until it is resumed. What has begun ends.
    Hold {
        /// Why.
        reason: Reason,
    },
    /// It goes on; what failed until now is let pass.
    Resume {
        /// Why.
        reason: Reason,
    },
    /// Nothing more begins, for good. What is done stays.
    Abort {
        /// Why.
        reason: Reason,
    },
    /// Everything that was altered becomes what it was: last things first, under the same limits.
    RollBack {
        /// Why.
        reason: Reason,
    },
    /// These are not waited for any more: what has not begun is left out, and what is out no longer
    /// keeps the other zones waiting.
    SetAside {
        /// The items.
        items: Vec<CiId>,
        /// Why.
        reason: Reason,
    },
}

impl Command {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Hold { .. } => "hold",
            Self::Resume { .. } => "resume",
            Self::Abort { .. } => "abort",
            Self::RollBack { .. } => "roll_back",
            Self::SetAside { .. } => "set_aside",
        }
    }
}

/// That a tenant's plan may be carried out. Only a [`Permit`] becomes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warrant {
    tenant: TenantId,
    plan: PlanHash,
    basis: Basis,
    granted_at: Timestamp,
}

impl Warrant {
    /// The caller has seen that the permit is for the tenant's plan in the layout.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up")]
    pub(super) const fn of(tenant: TenantId, permit: Permit) -> Self {
        let (plan, basis, granted_at) = (permit.plan(), permit.basis(), permit.granted_at());
        Self { tenant, plan, basis, granted_at }
    }

    /// Whose items.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The plan.
    pub const fn plan(&self) -> PlanHash {
        self.plan
    }

    /// What it rests on.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// When it was given.
    pub const fn granted_at(&self) -> Timestamp {
        self.granted_at
    }
}

/// One item's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The item.
    pub item: CiId,
    /// Names the order, together with the item; reports quote it.
    pub attempt: u32,
    /// Place in the plan's stages, from 0. The item stands in it with its actions and its way back.
    pub stage: u32,
    /// By what right.
    pub warrant: Warrant,
}

/// What follows from an event. Each is told once; whoever performs them may do so more often, under
/// the item's attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Have the stage's actions carried out on the item.
    Start(Job),
    /// Move or stop what runs on it, and report each as [`Event::Vacated`].
    Drain {
        /// The hypervisor or host.
        job: Job,
        /// What runs on it.
        residents: Vec<CiId>,
    },
    /// Restart it. A hypervisor is empty by now.
    Reboot(Job),
    /// It does not restart after all: what was stopped for it may start again.
    Refill {
        /// The hypervisor or host.
        item: CiId,
        /// What was stopped.
        stopped: Vec<CiId>,
    },
    /// Have somebody else than the agent look whether the step is done and the item works, with what
    /// was stopped for it.
    Verify {
        /// The item.
        item: CiId,
        /// The attempt.
        attempt: u32,
        /// Which step.
        step: StepKind,
    },
    /// Make it what it was.
    RollBack(Job),
    /// Nothing more begins until somebody decides.
    Hold(Hold),
    /// A wave is through, watched for as long as it has to be.
    WaveDone {
        /// Its number, 0 for the canaries.
        wave: u16,
        /// How it went.
        tally: Tally,
    },
    /// Nothing is left to do of a tenant's plan.
    TenantDone {
        /// The tenant.
        tenant: TenantId,
        /// Its plan.
        plan: PlanHash,
        /// How it went.
        outcome: Outcome,
    },
    /// Nothing is left to do.
    ReleaseDone {
        /// How it ended.
        end: End,
        /// How it went.
        tally: Tally,
    },
}

words! {
    /// How a release ended.
    End {
        /// All waves are through.
        Released = "released",
        /// Somebody aborted it.
        Aborted = "aborted",
        /// Everything that can be is what it was.
        RolledBack = "rolled_back",
    }
}

/// How many items stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Have not begun, or wait for their restart, or for their way back.
    pub waiting: u32,
    /// Are at work, and heard of.
    pub at_work: u32,
    /// Are at work, and not heard of.
    pub silent: u32,
    /// Done and verified.
    pub done: u32,
    /// Failed, and not back.
    pub failed: u32,
    /// Are what they were.
    pub rolled_back: u32,
    /// Were left out.
    pub skipped: u32,
}

impl Tally {
    /// How many items there are.
    pub const fn total(&self) -> u32 {
        let Self { waiting, at_work, silent, done, failed, rolled_back, skipped } = *self;
        waiting + at_work + silent + done + failed + rolled_back + skipped
    }
}

/// Why an event does not happen. The run stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The record would go back in time.
    #[error("it is {now}, and the release was altered at {last}")]
    TimeWentBack {
        /// When it was.
        last: Timestamp,
        /// When this is said to be.
        now: Timestamp,
    },
    /// It is about another plan than the one in the layout.
    #[error("the plan of {tenant} in this release is {current}, not {given}")]
    StalePlan {
        /// The tenant.
        tenant: TenantId,
        /// What it is about.
        given: PlanHash,
        /// What is released.
        current: PlanHash,
    },
    /// The tenant has nothing in this release.
    #[error("{tenant} has no plan in this release")]
    Tenant {
        /// The tenant.
        tenant: TenantId,
    },
    /// The item has no place in this release.
    #[error("{item} is not in this release")]
    Item {
        /// The item.
        item: CiId,
    },
    /// An attempt that was never ordered.
    #[error("the report on {item} is of attempt {given}, and {current} were ordered")]
    Attempt {
        /// The item.
        item: CiId,
        /// What is reported on.
        given: u32,
        /// The last that was ordered.
        current: u32,
    },
    /// It cannot be, as the item stands.
    #[error("{item} is {}: a report that it {report} cannot be", .phase.as_str())]
    Unexpected {
        /// The item.
        item: CiId,
        /// How it stands.
        phase: Phase,
        /// What was reported.
        report: Report,
    },
    /// Not as the release stands.
    #[error("the release is {}: `{command}` is not possible", .mode.as_str())]
    Mode {
        /// How it stands.
        mode: Mode,
        /// What was tried.
        command: &'static str,
    },
    /// The run was kept for another layout.
    #[error("the run is of the layout {current}, not of {given}")]
    Layout {
        /// What was given.
        given: LayoutHash,
        /// What it was kept for.
        current: LayoutHash,
    },
}

impl Refusal {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TimeWentBack { .. } => "set the clock, then try again",
            Self::StalePlan { .. } => "ask for consent to the plan that is released",
            Self::Tenant { .. } | Self::Item { .. } => "look for the release that it belongs to",
            Self::Attempt { .. } => "report what was ordered, with its attempt",
            Self::Unexpected { .. } => "look at the item: somebody else may have altered it",
            Self::Mode { .. } => "see how it stands, and what is possible from there",
            Self::Layout { .. } => "load the layout that the run began with",
        }
    }
}
