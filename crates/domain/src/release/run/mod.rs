//! A release on its way.
//!
//! ```text
//!  item:  planned ──start──► ordered ► working ► checking ──verified──► (restart: planned again) done
//!            │                  └──────────┴─────────┴─ failed ──► rolling back ──► rolled back
//!         skipped                                                    ▲
//!  run:   running ◄──resume── held ──────────── roll back ───────────┘
//!            └── abort ──► aborted
//! ```
//!
//! [`Run::step`] is all of it: a function of the run, an event and the time. It starts nothing by
//! itself: what begins is an [`Effect`], and only a [`Event::Tick`] lets anything begin. An event that
//! comes twice does nothing twice: reports quote the attempt that they answer to, looks and
//! withdrawals say when they were, commands have names.
//!
//! An item is *out* from the effect that takes it out until it is verified to work, or to be back. One
//! that failed or is silent stays out, and so keeps others from going out.

mod advance;
mod books;
mod clearance;
mod command;
mod event;
mod report;

pub use event::{
    Command, Effect, End, Event, Health, Job, Refusal, Report, Tally, Vacated, Warrant,
};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::books::Books;
use super::layout::{Body, Layout, StepKind, Task};
use super::terrain::Node;
use super::waiting::{Hold, Waiting};
use crate::change::LayoutHash;
use crate::cloud::{CiId, EventId, TenantId, words};

/// Place of a task in the layout.
type TaskId = usize;

/// A release on its way.
#[derive(Debug, Clone)]
pub struct Run {
    layout: Arc<Layout>,
    state: State,
    books: Books,
}

/// A run without its layout, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The layout that it is a run of.
    pub layout: LayoutHash,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    mode: Mode,
    ended: Option<End>,
    /// Place of the wave at work.
    wave: usize,
    waves: Vec<WaveState>,
    items: Vec<ItemState>,
    consents: BTreeMap<TenantId, Consent>,
    /// Where VMs run that moved; `None` is outside the fleet.
    moved: BTreeMap<Node, Option<Node>>,
    /// What is off because its hypervisor is drained.
    off: BTreeSet<Node>,
    /// What is out because something restarts: that.
    stopped: BTreeMap<Node, Node>,
    /// What nobody waits for any more.
    aside: BTreeSet<TaskId>,
    /// What was last seen of items.
    looks: BTreeMap<Node, (Timestamp, Health)>,
    /// What does not work, and not for the release.
    lacking: BTreeSet<Node>,
    /// The steps that began within the last hour.
    begun: VecDeque<Timestamp>,
    /// Commands that count already.
    commands: BTreeSet<EventId>,
    /// Tenants that have nothing left to do.
    told: BTreeSet<TenantId>,
    last: Timestamp,
    version: u64,
}

/// How a release stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "why", rename_all = "snake_case")]
pub enum Mode {
    /// It goes on.
    Running,
    /// Nothing begins until somebody decides.
    Held(Hold),
    /// Everything becomes what it was.
    RollingBack(Hold),
    /// Nothing begins any more.
    Aborted(Hold),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveState {
    /// Since when nothing of it has begun and all of it is settled.
    settled: Option<Timestamp>,
    /// All that ever failed.
    failed: BTreeSet<TaskId>,
    /// All that ever was silent.
    silent: BTreeSet<TaskId>,
    /// How many of those were let pass.
    pardoned: (u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemState {
    phase: Phase,
    step: StepKind,
    /// The last order; 0 before the first.
    attempt: u32,
    /// Since when it is in its phase.
    since: Timestamp,
    /// Since when nothing is heard of it.
    silent: Option<Timestamp>,
    /// The attempt of which it was reported that nobody answers.
    silenced: u32,
    /// Whether the release has it out.
    is_out: bool,
}

/// How an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// Its next step has not begun.
    Planned,
    /// It is being emptied before it restarts.
    Draining,
    /// Its step is ordered.
    Ordered,
    /// Its step began.
    Working,
    /// Its step ended, and is being verified.
    Checking,
    /// All its steps are verified.
    Done,
    /// It failed, and is out.
    Failed {
        /// How.
        fault: Fault,
    },
    /// It failed, and works all the same.
    Mended,
    /// It is to become what it was.
    Returning,
    /// It becomes what it was.
    RollingBack,
    /// It is what it was.
    RolledBack,
    /// It was left out.
    Skipped {
        /// Why.
        why: Skip,
    },
}

words! {
    /// How an item failed.
    Fault {
        /// Its step failed.
        Failed = "failed",
        /// Its step is said to be done, and is not.
        Conflict = "conflict",
        /// It was done, and works no more.
        Sick = "sick",
        /// It could not be made what it was.
        NoWayBack = "no_way_back",
    }
}

words! {
    /// Why an item, or its restart, was left out.
    Skip {
        /// Its window closed before it could begin.
        WindowOver = "window_over",
        /// What it depends on is not there.
        Behind = "behind",
        /// Somebody set it aside.
        SetAside = "set_aside",
        /// It did not work before its turn.
        Sick = "sick",
        /// The release was aborted.
        Aborted = "aborted",
        /// The release was rolled back.
        RolledBack = "rolled_back",
    }
}

/// What is known of a tenant's agreement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consent {
    deemed_at: Option<Timestamp>,
    warrant: Option<Warrant>,
    withdrawn: Option<Timestamp>,
}

impl Run {
    /// A release that is about to begin.
    pub fn new(layout: Arc<Layout>, now: Timestamp) -> Self {
        let body = layout.body();
        let item = ItemState {
            phase: Phase::Planned,
            step: StepKind::Install,
            attempt: 0,
            since: now,
            silent: None,
            silenced: 0,
            is_out: false,
        };
        let state = State {
            mode: Mode::Running,
            ended: None,
            wave: 0,
            waves: vec![WaveState::default(); body.waves.len()],
            items: vec![item; body.tasks.len()],
            consents: BTreeMap::new(),
            moved: BTreeMap::new(),
            off: BTreeSet::new(),
            stopped: BTreeMap::new(),
            aside: BTreeSet::new(),
            looks: BTreeMap::new(),
            lacking: BTreeSet::new(),
            begun: VecDeque::new(),
            commands: BTreeSet::new(),
            told: BTreeSet::new(),
            last: now,
            version: 0,
        };
        let books = Books::new(body, &state);
        Self { layout, state, books }
    }

    /// As it is kept, beside its layout.
    pub fn to_kept(&self) -> Kept {
        Kept { layout: self.layout.hash(), state: self.state.clone() }
    }

    /// As it was kept. Whoever keeps it vouches that it is what [`Run::to_kept`] gave.
    ///
    /// # Errors
    /// [`Refusal::Layout`] if the layout is another one.
    pub fn from_kept(kept: Kept, layout: Arc<Layout>) -> Result<Self, Refusal> {
        let (given, current) = (layout.hash(), kept.layout);
        if given != current {
            return Err(Refusal::Layout { given, current });
        }
        let books = Books::new(layout.body(), &kept.state);
        Ok(Self { layout, state: kept.state, books })
    }

    /// Lets an event happen, and says what follows. It takes the run by the hand instead of giving
    /// a new one, because a run is large; where it refuses, the run is as it was.
    ///
    /// # Errors
    /// As [`Refusal`]; to be recorded.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        if now < self.state.last {
            return Err(Refusal::TimeWentBack { last: self.state.last, now });
        }
        let mut effects = Vec::new();
        match event {
            Event::Tick => self.advance(now, &mut effects),
            Event::Asked { tenant, plan, deemed_at } => {
                self.consent(tenant, plan)?.deemed_at = deemed_at;
            }
            Event::Permitted { tenant, permit } => {
                let consent = self.consent(tenant, permit.plan())?;
                let is_newer =
                    consent.warrant.is_none_or(|known| known.granted_at() < permit.granted_at());
                if is_newer {
                    consent.warrant = Some(Warrant::of(tenant, permit));
                }
            }
            Event::Withdrawn { tenant, plan, at } => {
                let consent = self.consent(tenant, plan)?;
                consent.withdrawn = consent.withdrawn.max(Some(at));
            }
            Event::Reported { item, attempt, report } => {
                self.report((item, attempt, report), now, &mut effects)?;
            }
            Event::Looked { item, taken_at, health } => {
                self.look(item, (taken_at, health), now, &mut effects)?;
            }
            Event::Vacated { vm, from, how } => self.vacate(vm, from, how, now)?,
            Event::Commanded { id, by, command } => {
                self.command(id, by, command, now, &mut effects)?;
            }
        }
        self.state.last = now;
        self.state.version += 1;
        Ok(effects)
    }

    /// The layout.
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// How it stands.
    pub const fn mode(&self) -> &Mode {
        &self.state.mode
    }

    /// How it ended, once it has.
    pub const fn ended(&self) -> Option<End> {
        self.state.ended
    }

    /// The number of the wave at work, 0 for the canaries; `None` when all are through.
    pub fn wave(&self) -> Option<u16> {
        self.body().waves.get(self.state.wave).map(|wave| wave.number)
    }

    /// How often it was stepped.
    pub const fn version(&self) -> u64 {
        self.state.version
    }

    /// How an item stands; `None` where it has no place in the release.
    pub fn phase(&self, item: CiId) -> Option<Phase> {
        Some(self.state.items[self.books.task(item)?].phase)
    }

    /// On which of the plan's hosts something runs, as far as the release was told.
    pub fn host_of(&self, item: CiId) -> Option<CiId> {
        Some(self.ci(self.host(self.books.node(item)?)?))
    }

    /// Whether it reckons with an item, be it only as what others depend on.
    pub fn reckons_with(&self, item: CiId) -> bool {
        self.books.node(item).is_some()
    }

    /// How many items stand how.
    pub fn tally(&self) -> Tally {
        self.tally_of(0..self.state.items.len())
    }

    fn tally_of(&self, tasks: std::ops::Range<TaskId>) -> Tally {
        let mut tally = Tally::default();
        for item in &self.state.items[tasks] {
            let count = match item.phase {
                _ if item.silent.is_some() => &mut tally.silent,
                Phase::Planned | Phase::Returning => &mut tally.waiting,
                Phase::Done => &mut tally.done,
                Phase::Failed { .. } | Phase::Mended => &mut tally.failed,
                Phase::RolledBack => &mut tally.rolled_back,
                Phase::Skipped { .. } => &mut tally.skipped,
                Phase::Draining
                | Phase::Ordered
                | Phase::Working
                | Phase::Checking
                | Phase::RollingBack => &mut tally.at_work,
            };
            *count += 1;
        }
        tally
    }

    /// What an item waits for now; `None` where nothing is left to wait for, or its next step begins
    /// with the next tick.
    pub fn why(&self, item: CiId, now: Timestamp) -> Option<Waiting> {
        self.waiting(self.books.task(item)?, now)
    }

    /// What items wait for now, with how many of them do, the most frequent first.
    pub fn waits(&self, now: Timestamp) -> Vec<(Waiting, u32)> {
        let mut counts: BTreeMap<Waiting, u32> = BTreeMap::new();
        for task in 0..self.state.items.len() {
            if let Some(waiting) = self.waiting(task, now) {
                *counts.entry(waiting).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    fn consent(
        &mut self,
        tenant: TenantId,
        given: crate::change::PlanHash,
    ) -> Result<&mut Consent, Refusal> {
        let plan = self.layout.plans().get(&tenant).ok_or(Refusal::Tenant { tenant })?;
        let current = plan.hash();
        if current != given {
            return Err(Refusal::StalePlan { tenant, given, current });
        }
        Ok(self.state.consents.entry(tenant).or_default())
    }

    fn body(&self) -> &Body {
        self.layout.body()
    }

    fn task(&self, task: TaskId) -> &Task {
        &self.body().tasks[task]
    }

    fn ci(&self, node: Node) -> CiId {
        self.body().terrain.node(node).ci
    }
}

impl Consent {
    /// By what right something may begin.
    fn in_force(&self) -> Option<Warrant> {
        self.warrant.filter(|warrant| self.withdrawn.is_none_or(|at| at < warrant.granted_at()))
    }
}

impl Mode {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Held(_) => "held",
            Self::RollingBack(_) => "rolling_back",
            Self::Aborted(_) => "aborted",
        }
    }
}

impl Phase {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Draining => "draining",
            Self::Ordered => "ordered",
            Self::Working => "working",
            Self::Checking => "checking",
            Self::Done => "done",
            Self::Failed { .. } => "failed",
            Self::Mended => "mended",
            Self::Returning => "returning",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Whether somebody is at it.
    const fn is_at_work(self) -> bool {
        matches!(
            self,
            Self::Draining | Self::Ordered | Self::Working | Self::Checking | Self::RollingBack
        )
    }
}
