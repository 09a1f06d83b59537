//! What a release is planned from: the items of a cloud with all that hangs together with them,
//! what is to be done to whom, when, and how much at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::profile::{Percent, Profile};
use crate::change::{Action, Plan, Reason, Rollback, Window};
use crate::cloud::{ChangeId, CiId, Class, Duty, LabelKey, Name, ReleaseId, TenantId, words};

/// The cloud as a planner sees it: also the items that the release leaves alone, because they count
/// for the availability of services and live on hypervisors.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The items, in any order.
    pub targets: Vec<Target>,
    /// The services that they are members of.
    pub services: Vec<Service>,
}

/// An item.
#[derive(Debug, Clone)]
pub struct Target {
    /// The item.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// Who must patch it.
    pub duty: Duty,
    /// What it is.
    pub class: Class,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, String>,
    /// The part of the cloud that fails as one; two are never touched together.
    pub zone: Option<Name>,
    /// The update domain: a fifth of it is out at a time, at most.
    pub domain: Option<Name>,
    /// What it needs: these go ahead of it.
    pub depends_on: Vec<CiId>,
    /// The services that it is a member of.
    pub member_of: Vec<CiId>,
    /// Its hypervisor or host.
    pub runs_on: Option<CiId>,
    /// What becomes of it when its hypervisor restarts.
    pub mobility: Mobility,
    /// Whether it works at the moment.
    pub condition: Condition,
    /// What is done to it; `None` leaves it alone.
    pub work: Option<Work>,
}

words! {
    /// What becomes of a VM when its hypervisor restarts.
    Mobility {
        /// It moves to another one and runs on.
        Moves = "moves",
        /// It stops for as long.
        Stops = "stops",
    }
}

words! {
    /// Whether an item works.
    Condition {
        /// It does.
        Healthy = "healthy",
        /// It does not, before anything was done to it.
        Down = "down",
    }
}

/// What is done to an item.
#[derive(Debug, Clone)]
pub struct Work {
    /// The content; shared by all items that get the same.
    pub content: Arc<Content>,
    /// How long that takes until it is verified, as known from before; at least a minute.
    pub takes: SignedDuration,
    /// When it may be done; shared by all items with the same windows.
    pub windows: Arc<Windows>,
    /// Whether it restarts after that, as a step of its own.
    pub reboot: Option<Reboot>,
}

/// What is done, word for word as it stands in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The actions, in this order. [`Action::Reboot`] is none of them: it is a step of its own.
    pub actions: Vec<Action>,
    /// The way back.
    pub rollback: Rollback,
}

/// A restart.
#[derive(Debug, Clone)]
pub struct Reboot {
    /// How long it takes, with emptying a hypervisor before it; at least a minute.
    pub takes: SignedDuration,
    /// When it may be done.
    pub windows: Arc<Windows>,
}

/// When items may be touched. Recurring windows and calendars are resolved to instants outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Windows {
    /// Whenever.
    Always,
    /// Within these.
    Within(Vec<Window>),
}

/// A service, by what its users need of it.
#[derive(Debug, Clone)]
pub struct Service {
    /// The service.
    pub ci: CiId,
    /// What people call it.
    pub name: Name,
    /// How many of its members always work.
    pub min_available: Amount,
    /// How many of its members are out at a time, at most; `None` leaves that to `min_available`.
    pub max_unavailable: Option<Amount>,
}

/// A number of things, or a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So many.
    Count(u32),
    /// Such a part, rounded to the careful side.
    Share(Percent),
}

/// How much at a time: what a mistake, or a stolen session, can do before somebody sees it (T15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Most items that the release has out at a time, wherever.
    pub max_unavailable: NonZeroU32,
    /// Most items of a wave; what is beyond goes with the next.
    pub per_wave: NonZeroU32,
    /// Most items of one tenant in a wave; what is beyond goes with the next.
    pub per_tenant: NonZeroU32,
    /// Most steps that begin within any hour: the rate fuse.
    pub per_hour: NonZeroU32,
}

/// A time in which nothing is begun, and nothing that would last into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Whose items; `None` for everybody's.
    pub tenant: Option<TenantId>,
    /// When.
    pub span: Window,
    /// Why.
    pub reason: Reason,
}

/// What is released, and how.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The release. With an item's id it decides in which wave the item has its turn.
    pub release: ReleaseId,
    /// The change that it carries out.
    pub change: ChangeId,
    /// The waves.
    pub profile: &'a Profile,
    /// How much at a time.
    pub caps: Caps,
    /// Canaries beside those that have the profile's labels.
    pub canaries: &'a BTreeSet<CiId>,
    /// When nothing is begun.
    pub freezes: &'a [Freeze],
    /// The tenants' plans that the new ones take the place of.
    pub previous: &'a BTreeMap<TenantId, Plan>,
    /// Nothing is planned beyond this.
    pub until: Timestamp,
}

impl Windows {
    /// The spans in which something may be done, in order and without overlap, within `whole`.
    pub(super) fn within(&self, whole: Window) -> Vec<Window> {
        match self {
            Self::Always => joined(vec![whole], whole),
            Self::Within(windows) => joined(windows.clone(), whole),
        }
    }
}

impl Amount {
    /// How many of `count` must be there at least.
    pub(super) fn at_least(self, count: u32) -> u32 {
        match self {
            Self::Count(number) => number,
            Self::Share(percent) => percent.at_least(count),
        }
    }

    /// How many of `count` may be missing at most.
    pub(super) fn at_most(self, count: u32) -> u32 {
        match self {
            Self::Count(number) => number,
            Self::Share(percent) => percent.at_most(count),
        }
    }
}

/// Spans in order, without overlap, cut to `whole`. Spans that touch become one.
pub(super) fn joined(mut spans: Vec<Window>, whole: Window) -> Vec<Window> {
    spans.sort_unstable_by_key(|span| (span.from, span.until));
    let mut joined: Vec<Window> = Vec::with_capacity(spans.len());
    for Window { from, until } in spans {
        let (from, until) = (from.max(whole.from), until.min(whole.until));
        match joined.last_mut() {
            _ if until <= from => {}
            Some(last) if from <= last.until => last.until = last.until.max(until),
            _ => joined.push(Window { from, until }),
        }
    }
    joined
}

/// What is left of `open` without `closed`; both in order and without overlap.
pub(super) fn without(open: &[Window], closed: &[Window]) -> Vec<Window> {
    let mut left = Vec::with_capacity(open.len());
    for &Window { mut from, until } in open {
        for shut in closed.iter().filter(|shut| shut.from < until) {
            if shut.until <= from {
                continue;
            }
            if from < shut.from {
                left.push(Window { from, until: shut.from });
            }
            from = shut.until;
        }
        if from < until {
            left.push(Window { from, until });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span((from, until): (i64, i64)) -> Window {
        let at = |second| Timestamp::from_second(second).unwrap();
        Window { from: at(from), until: at(until) }
    }

    fn spans() -> impl Strategy<Value = Vec<Window>> {
        let one = (0..40_i64, 0..10_i64).prop_map(|(from, length)| span((from, from + length)));
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn what_is_open_is_told_second_by_second(open in spans(), closed in spans()) {
            let whole = span((5, 35));

            let left = without(
                &Windows::Within(open.clone()).within(whole),
                &joined(closed.clone(), whole),
            );

            for second in 0..50 {
                let now = Timestamp::from_second(second).unwrap();
                let has = |spans: &[Window]| spans.iter().any(|span| span.has(now));
                let expected = whole.has(now) && has(&open) && !has(&closed);
                prop_assert_eq!(has(&left), expected, "second {}: {:?}", second, left);
            }
            prop_assert!(left.windows(2).all(|pair| pair[0].until < pair[1].from));
        }
    }
}
