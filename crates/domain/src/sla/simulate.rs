//! What a policy would have made of patches that were: the records of a quarter, judged again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::{Breach, Rung, State};
use super::dates::Deferral;
use super::due::{DueDate, DueDates, Facts};
use super::instants::Instants;
use super::policy::Policy;
use super::timeline::{Case, Interruption, Stage};
use crate::cloud::Duty;
use crate::priority::Priority;

/// What happened to one patch on one tenant's items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// What people know it by.
    pub name: String,
    /// What was known of it.
    pub facts: Facts,
    /// Who installed.
    pub duty: Duty,
    /// What happened, when.
    pub instants: Instants,
    /// What the tenant put off.
    pub deferrals: Vec<Deferral>,
    /// What kept both sides from going on.
    pub interruptions: Vec<Interruption>,
}

/// A history as the policy judges it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: Priority,
    /// All due dates under the policy.
    pub due: Vec<DueDate>,
    /// The result.
    pub verdict: Verdict,
    /// Stages that took longer than the policy allows, also where the due date was kept.
    pub slow: Vec<Stage>,
    /// Deferrals beyond those that the policy allows. They happened, and are not undone here.
    pub deferrals_too_many: usize,
}

/// What a policy says of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// Verified in time.
    Kept,
    /// Not in time.
    Breached(Box<Breach>),
    /// Neither verified nor due yet.
    Open,
    /// The vendor took it back.
    Withdrawn,
    /// Nothing was collected: there is no clock.
    NotStarted,
}

/// Judges histories under a policy, as of an instant. Every stage is judged by what really
/// happened; how people would have acted under other terms, nobody can tell.
pub fn simulate(policy: &Policy, histories: &[History], now: Timestamp) -> Vec<Judged> {
    histories.iter().map(|history| judge(policy, history, now)).collect()
}

fn judge(policy: &Policy, history: &History, now: Timestamp) -> Judged {
    let dues = DueDates::new(policy.due_dates(&history.facts, &history.instants));
    let case = Case {
        policy,
        facts: &history.facts,
        duty: history.duty,
        instants: &history.instants,
        deferrals: &history.deferrals,
        interruptions: &history.interruptions,
        dues: &dues,
    };
    let view = case.clock(now);
    let slow = view.iter().flat_map(|view| &view.reached).filter_map(|rung| match rung {
        Rung::Stage { stage, .. } => Some(*stage),
        Rung::Share { .. } | Rung::Errand { .. } | Rung::Due { .. } => None,
    });
    let slow = slow.collect();
    let verdict = match view.map(|view| view.state) {
        None => Verdict::NotStarted,
        Some(State::Breached(breach)) => Verdict::Breached(breach),
        Some(State::Met) => Verdict::Kept,
        Some(State::Withdrawn) => Verdict::Withdrawn,
        Some(State::Ok | State::Warn { .. } | State::Overdue { .. }) => Verdict::Open,
    };
    let allowed = usize::from(case.terms().deferrals.count);
    Judged {
        name: history.name.clone(),
        priority: history.facts.priority,
        due: dues.all().to_vec(),
        verdict,
        slow,
        deferrals_too_many: case.deferrals_spent().saturating_sub(allowed),
    }
}

/// How many of a priority were kept, breached or are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Verified in time.
    pub kept: usize,
    /// Not in time.
    pub breached: usize,
    /// Not due yet.
    pub open: usize,
    /// Without a result: withdrawn, or never collected.
    pub without: usize,
}

/// Counts results by priority.
pub fn tally(judged: &[Judged]) -> BTreeMap<Priority, Tally> {
    let mut tallies: BTreeMap<Priority, Tally> = BTreeMap::new();
    for one in judged {
        let tally = tallies.entry(one.priority).or_default();
        match one.verdict {
            Verdict::Kept => tally.kept += 1,
            Verdict::Breached(_) => tally.breached += 1,
            Verdict::Open => tally.open += 1,
            Verdict::Withdrawn | Verdict::NotStarted => tally.without += 1,
        }
    }
    tallies
}
