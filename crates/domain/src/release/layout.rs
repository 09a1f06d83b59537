//! A release laid out: who, what, when, under which limits, and the plans that tenants agree to.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::fleet::Caps;
use super::profile::{Gate, OnFailure};
use super::terrain::{InvalidFleet, Node, Terrain};
use super::waiting::UtcMinute;
use crate::change::{Action, InvalidPlan, LayoutHash, Plan, Stage, Window};
use crate::cloud::{ChangeId, CiId, Name, ReleaseId, TenantId, words};

/// A release as it was planned. Nothing in it changes any more: another fleet, other windows or
/// another content make another layout, with other plans that need other consents.
///
/// What is kept of it is read back by [`Layout::parse`], which sees that it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    body: Body,
    hash: LayoutHash,
}

/// All that is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) release: ReleaseId,
    pub(super) change: ChangeId,
    pub(super) profile: String,
    pub(super) patience: SignedDuration,
    pub(super) on_failure: OnFailure,
    pub(super) caps: Caps,
    pub(super) waves: Vec<Wave>,
    /// In the order in which they begin.
    pub(super) tasks: Vec<Task>,
    pub(super) terrain: Terrain,
    pub(super) plans: BTreeMap<TenantId, Plan>,
    pub(super) unplaced: BTreeMap<CiId, Unplaced>,
}

/// A wave of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// 0 for the canaries.
    pub number: u16,
    /// How long it is watched before the next one begins.
    pub soak: SignedDuration,
    /// What stops it.
    pub gate: Gate,
    /// Places of its tasks.
    pub(super) tasks: Range<usize>,
}

impl Wave {
    /// How many items it has.
    pub fn size(&self) -> u32 {
        u32::try_from(self.tasks.len()).unwrap_or(u32::MAX)
    }
}

words! {
    /// The steps of an item's way; each has its own place in the plan.
    StepKind {
        /// The content is installed.
        Install = "install",
        /// The system restarts.
        Reboot = "reboot",
    }
}

/// What an item has to go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    pub(super) node: Node,
    /// Place of its wave in [`Body::waves`].
    pub(super) wave: u16,
    pub(super) install: Slot,
    pub(super) reboot: Option<Slot>,
    pub(super) can_return: Return,
}

/// Whether there is a way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Return {
    /// By the item's agent.
    Possible,
    /// From outside, also where nothing is heard of it.
    Snapshot,
    Impossible,
}

/// When a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slot {
    /// Place of the stage in the tenant's plan.
    pub(super) stage: u32,
    /// When it begins if all goes as planned.
    pub(super) at: Timestamp,
    /// When it may be done: that of the stage.
    pub(super) window: Window,
    pub(super) takes: SignedDuration,
}

/// One line of the answer to who, what, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// The item.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// The number of its wave, 0 for the canaries.
    pub wave: u16,
    /// What.
    pub step: StepKind,
    /// When it begins if all goes as planned.
    pub at: Timestamp,
    /// How long it takes, as known from before.
    pub takes: SignedDuration,
    /// When it may be done.
    pub window: Window,
    /// What the plan says.
    pub actions: &'a [Action],
}

/// Why an item is not in the plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Unplaced {
    /// It does not work, and nothing is done to such an item.
    #[error("the item was down when the release was planned")]
    Down,
    /// None of its windows is long enough.
    #[error("no window for the {step} is {} minutes long before {}", .minutes, UtcMinute(*.until))]
    NoWindow {
        /// For which step.
        step: StepKind,
        /// How long it takes.
        minutes: i64,
        /// Until when was looked.
        until: Timestamp,
    },
    /// There are windows, and all are frozen.
    #[error("every window for the {step} before {} lies in a freeze", UtcMinute(*.until))]
    Frozen {
        /// For which step.
        step: StepKind,
        /// Until when was looked.
        until: Timestamp,
    },
    /// A service cannot lack it, alone as it goes.
    #[error("service {service} has {members} members, can lack {spare}, and would lack {needed}")]
    Service {
        /// The service.
        service: Name,
        /// How many members it has.
        members: u32,
        /// How many may be out.
        spare: u32,
        /// How many would be.
        needed: u32,
    },
    /// With all that stops with it, it is more than may be out at a time.
    #[error(
        "{needed} items would be out together, and a limit of the release or of an update domain is less"
    )]
    TooMany {
        /// The item and the VMs that stop with it.
        needed: u32,
    },
    /// What it depends on is not in the plan.
    #[error("it depends on {on}, which has no place")]
    Behind {
        /// That.
        on: CiId,
    },
    /// Others filled all its windows.
    #[error("the limits leave no room for the {step} in its windows before {}", UtcMinute(*.until))]
    Crowded {
        /// For which step.
        step: StepKind,
        /// Until when was looked.
        until: Timestamp,
    },
}

impl Unplaced {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Down => "repair it, then plan again",
            Self::NoWindow { .. } => "agree on a longer window, or plan further ahead",
            Self::Frozen { .. } => "plan beyond the freeze, or have it lifted",
            Self::Service { .. } => "add a member, or agree that the service may lack more",
            Self::TooMany { .. } => "let VMs move instead of stop, or raise the limit",
            Self::Behind { .. } => "find a place for what it depends on first",
            Self::Crowded { .. } => "plan further ahead, or agree on more windows",
        }
    }
}

/// Why there is no layout at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLayout {
    /// The fleet contradicts itself.
    #[error(transparent)]
    Fleet(#[from] InvalidFleet),
    /// There is no time to plan in.
    #[error("nothing can be planned from {} until {}", UtcMinute(*.now), UtcMinute(*.until))]
    NoTime {
        /// From when on.
        now: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// A step that takes no time cannot be planned for.
    #[error("a step on {ci} is said to take {seconds} seconds, less than a minute")]
    Takes {
        /// The item.
        ci: CiId,
        /// How long.
        seconds: i64,
    },
    /// A restart among the actions would stand beside the limits.
    #[error("the actions on {ci} hold a restart, which is a step of its own")]
    HiddenReboot {
        /// The item.
        ci: CiId,
    },
    /// The plan for a tenant breaks a rule of plans.
    #[error("the plan for {tenant} is refused: {because}")]
    Plan {
        /// The tenant.
        tenant: TenantId,
        /// Why.
        because: InvalidPlan,
    },
    /// The plan to take the place of is another change's or tenant's.
    #[error("the previous plan of {tenant} is one of {change} for {of}")]
    Previous {
        /// The tenant.
        tenant: TenantId,
        /// Of which change the previous plan is.
        change: ChangeId,
        /// For whom it is.
        of: TenantId,
    },
}

impl NoLayout {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Fleet(error) => error.help(),
            Self::NoTime { .. } => "plan until a later time",
            Self::Takes { .. } => "say how long it takes, with the scan after it",
            Self::HiddenReboot { .. } => "leave the restart out, and say that the item reboots",
            Self::Plan { because, .. } => because.help(),
            Self::Previous { .. } => "name the tenant's own last plan of this change",
        }
    }
}

/// Why what was kept is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLayout {
    /// It cannot be read.
    #[error("the layout cannot be read: {0}")]
    Unreadable(String),
    /// It was altered.
    #[error("the layout says that its hash is {said}, and it is {found}")]
    Altered {
        /// What stands in it.
        said: LayoutHash,
        /// What it is.
        found: LayoutHash,
    },
}

impl InvalidLayout {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "read it with the version of Patchwright that wrote it",
            Self::Altered { .. } => "take it from a backup, or plan anew and ask for consent again",
        }
    }
}

impl Layout {
    pub(super) fn seal(body: Body) -> Self {
        let hash = hash(&body);
        Self { body, hash }
    }

    /// A layout from its JSON.
    ///
    /// # Errors
    /// If it is none, or was altered since.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidLayout> {
        #[derive(Deserialize)]
        struct Kept {
            body: Body,
            hash: LayoutHash,
        }
        let Kept { body, hash: said } = serde_json::from_slice(json)
            .map_err(|error| InvalidLayout::Unreadable(error.to_string()))?;
        let found = hash(&body);
        if said == found {
            Ok(Self { body, hash: found })
        } else {
            Err(InvalidLayout::Altered { said, found })
        }
    }

    pub(super) const fn body(&self) -> &Body {
        &self.body
    }

    /// What names it.
    pub const fn hash(&self) -> LayoutHash {
        self.hash
    }

    /// The release.
    pub const fn release(&self) -> ReleaseId {
        self.body.release
    }

    /// The change that it carries out.
    pub const fn change(&self) -> ChangeId {
        self.body.change
    }

    /// The waves that have items, in order.
    pub fn waves(&self) -> &[Wave] {
        &self.body.waves
    }

    /// What each tenant is asked to agree to.
    pub const fn plans(&self) -> &BTreeMap<TenantId, Plan> {
        &self.body.plans
    }

    /// Who is not in it, and why.
    pub const fn unplaced(&self) -> &BTreeMap<CiId, Unplaced> {
        &self.body.unplaced
    }

    /// Who, what and when, item by item in the order of their waves.
    pub fn turns(&self) -> impl Iterator<Item = Turn<'_>> {
        self.body.tasks.iter().flat_map(|task| {
            let steps = [(StepKind::Install, Some(task.install)), (StepKind::Reboot, task.reboot)];
            steps.into_iter().filter_map(|(step, slot)| Some(self.turn(task, step, slot?)))
        })
    }

    fn turn(&self, task: &Task, step: StepKind, slot: Slot) -> Turn<'_> {
        let item = self.body.terrain.node(task.node);
        let stage = self.body.stage(item.tenant, slot);
        let found = stage.and_then(|stage| {
            let place = stage.items.binary_search_by_key(&item.ci, |it| it.ci).ok()?;
            Some(stage.items[place].actions.as_slice())
        });
        Turn {
            ci: item.ci,
            tenant: item.tenant,
            wave: self.body.waves[usize::from(task.wave)].number,
            step,
            at: slot.at,
            takes: slot.takes,
            window: slot.window,
            actions: found.unwrap_or_default(),
        }
    }
}

impl Body {
    fn stage(&self, tenant: TenantId, slot: Slot) -> Option<&Stage> {
        self.plans.get(&tenant)?.draft().stages.get(slot.stage as usize)
    }
}

impl Task {
    /// All of it, for a hash.
    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { node, wave, install, reboot, can_return } = self;
        bytes.extend(node.to_le_bytes());
        bytes.extend(wave.to_le_bytes());
        bytes.push(u8::from(*can_return == Return::Possible));
        bytes.push(u8::from(reboot.is_some()));
        for Slot { stage, at, window, takes } in std::iter::once(install).chain(reboot) {
            bytes.extend(stage.to_le_bytes());
            for instant in [at, &window.from, &window.until] {
                bytes.extend(instant.as_nanosecond().to_le_bytes());
            }
            bytes.extend(takes.as_nanos().to_le_bytes());
        }
    }

    pub(super) fn slot(&self, step: StepKind) -> Slot {
        match step {
            StepKind::Install => self.install,
            StepKind::Reboot => self.reboot.unwrap_or(self.install),
        }
    }
}

impl fmt::Display for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ci, wave, step, at, .. } = self;
        write!(f, "{} wave {wave} {step} {ci}", UtcMinute(*at))
    }
}

/// Plans count by their hashes.
fn hash(body: &Body) -> LayoutHash {
    let Body { release, change, profile, patience, on_failure, caps, waves, .. } = body;
    let Body { tasks, terrain, plans, unplaced, .. } = body;
    let hashes: Vec<_> = plans.iter().map(|(tenant, plan)| (tenant, plan.hash())).collect();
    let parts = (
        ("patchwright.layout/1", release, change, profile, patience),
        (on_failure, caps, waves, hashes, unplaced),
        (&terrain.zones, &terrain.domains, &terrain.services),
    );
    let mut bytes = serde_json::to_vec(&parts).expect("texts, whole numbers, lists and objects");
    // What there is a hundred thousand times goes in as numbers: that is twenty times faster.
    for task in tasks {
        task.write(&mut bytes);
    }
    for node in &terrain.nodes {
        node.write(&mut bytes);
    }
    <[u8; 32]>::from(Sha256::digest(&bytes)).into()
}
