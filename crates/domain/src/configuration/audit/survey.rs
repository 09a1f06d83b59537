//! What audits of many items came to, together: each item by attribute, how far each baseline is from being kept, the
//! worst first, and what nobody can tell by its name.
//!
//! The *drift* of an item or a baseline is how much of what applies does not hold, in percent: the weight of rules that
//! fail or are unknown, of the weight of these and of those that pass. A rule weighs 8 where it is critical, else 4, 2,
//! 1. What is waived counts on neither side, and is told. It is rounded up: 0 means that all of it holds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Attribute, Outcomes, RuleOutcome};
use crate::cloud::{CiId, Class, TenantId};
use crate::configuration::baseline::Outcome;
use crate::priority::Priority;

/// After how long what an audit came to says nothing of now.
pub const OLD: SignedDuration = SignedDuration::from_hours(48);

/// An item with what its last audit came to.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// Which item.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub class: Class,
    /// As it was recorded at this time it came to this; `None` where it was never audited.
    pub last: Option<(Timestamp, Outcomes)>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Of whom, in words: `group front ends`.
    pub about: String,
    /// When.
    pub at: Timestamp,
}

/// What audits of many items came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// What was asked.
    #[serde(flatten)]
    pub asked: Asked,
    /// How many items came to what, for each attribute.
    pub attributes: BTreeMap<Attribute, BTreeMap<Outcome, u32>>,
    /// Each baseline, the worst first.
    pub baselines: Vec<Score>,
    /// Each item, the worst first.
    pub items: Vec<SurveyRow>,
}

/// How far a baseline is from being kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Which, by its name.
    pub baseline: String,
    /// In which versions.
    pub versions: BTreeSet<String>,
    /// In percent; none where nothing of it applies.
    pub drift: Option<u8>,
    /// Items that are held to it.
    pub items: u32,
    /// Rules that hold, of all items.
    pub pass: u32,
    /// Rules that do not.
    pub fail: u32,
    /// Rules of which nobody can tell.
    pub unknown: u32,
    /// Rules for which somebody answers.
    pub waived: u32,
}

/// One item of a survey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyRow {
    /// Which.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub class: Class,
    /// As it was recorded at this time; none where it was never audited.
    pub audited_at: Option<Timestamp>,
    /// Each attribute.
    pub attributes: BTreeMap<Attribute, Outcome>,
    /// In percent; none where no rule applies.
    pub drift: Option<u8>,
    /// Rules that do not hold: `sshd/sshd-root-login`.
    pub failing: Vec<String>,
    /// Of what nobody can tell, and why where it is the whole item.
    pub unknown: Vec<String>,
    /// Rules for which somebody answers.
    pub waived: Vec<String>,
    /// Baselines that would be for it, and that somebody unbound.
    pub left_out: Vec<String>,
}

impl Survey {
    /// Puts together what audits came to, at the time of asking.
    pub fn of(asked: Asked, items: &[Surveyed]) -> Self {
        let mut survey = Self {
            attributes: BTreeMap::new(),
            baselines: scores(items, asked.at),
            items: items.iter().map(|item| row(item, asked.at)).collect(),
            asked,
        };
        for (attribute, outcome) in survey.items.iter().flat_map(|row| &row.attributes) {
            let counts = survey.attributes.entry(*attribute).or_default();
            *counts.entry(*outcome).or_default() += 1;
        }
        survey.items.sort_by_cached_key(|row| {
            let count = |outcome| row.attributes.values().filter(|it| **it == outcome).count();
            let worst = (count(Outcome::Fail), row.drift.unwrap_or(0), count(Outcome::Unknown));
            (Reverse(worst), row.name.clone(), row.ci)
        });
        survey
    }

    /// How many items have an attribute that came to this.
    pub fn items_with(&self, outcome: Outcome) -> usize {
        let has = |row: &&SurveyRow| row.attributes.values().any(|it| *it == outcome);
        self.items.iter().filter(has).count()
    }

    /// How many items pass in all that is asked.
    pub fn items_that_pass(&self) -> usize {
        let passes = |row: &&SurveyRow| row.attributes.values().all(|it| *it == Outcome::Pass);
        self.items.iter().filter(passes).count()
    }
}

/// What an item's last audit says of now; an error that says why it says nothing.
fn current(item: &Surveyed, now: Timestamp) -> Result<&Outcomes, String> {
    match &item.last {
        None => Err("it was never audited".to_owned()),
        Some((at, _)) if now.duration_since(*at) > OLD => {
            Err(format!("it was not audited since {}", at.strftime("%F %R UTC")))
        }
        Some((_, outcomes)) => Ok(outcomes),
    }
}

fn row(item: &Surveyed, now: Timestamp) -> SurveyRow {
    let mut row = SurveyRow {
        ci: item.ci,
        tenant: item.tenant,
        name: item.name.clone(),
        class: item.class,
        audited_at: item.last.as_ref().map(|(at, _)| *at),
        attributes: Attribute::ALL.iter().map(|it| (*it, Outcome::Unknown)).collect(),
        drift: None,
        failing: Vec::new(),
        unknown: Vec::new(),
        waived: Vec::new(),
        left_out: Vec::new(),
    };
    let outcomes = match current(item, now) {
        Ok(outcomes) => outcomes,
        Err(because) => {
            row.unknown.push(because);
            return row;
        }
    };
    row.attributes.extend(&outcomes.attributes);
    row.drift = drift(&outcomes.rules);
    row.left_out.clone_from(&outcomes.left_out);
    for rule in &outcomes.rules {
        match rule.outcome {
            Outcome::Fail => row.failing.push(name(rule)),
            Outcome::Unknown => row.unknown.push(name(rule)),
            Outcome::Waived => row.waived.push(name(rule)),
            Outcome::Pass | Outcome::NotApplicable => {}
        }
    }
    // What is unknown of correctness is said by its rules, where there are any.
    let by_rules = !row.unknown.is_empty();
    let unknown = row.attributes.iter().filter(|(_, outcome)| **outcome == Outcome::Unknown);
    let unnamed = unknown.filter(|(it, _)| !(by_rules && **it == Attribute::Correctness));
    let unnamed: Vec<_> = unnamed.map(|(attribute, _)| attribute.to_string()).collect();
    row.unknown.extend(unnamed);
    row
}

fn name(rule: &RuleOutcome) -> String {
    let of = if rule.baseline.is_empty() { "" } else { "/" };
    let count = if rule.count > 1 { format!(" ({})", rule.count) } else { String::new() };
    format!("{}{of}{}{count}", rule.baseline, rule.rule)
}

fn scores(items: &[Surveyed], now: Timestamp) -> Vec<Score> {
    #[derive(Default)]
    struct Of<'a> {
        versions: BTreeSet<String>,
        items: u32,
        rules: Vec<&'a RuleOutcome>,
    }
    let mut all: BTreeMap<&str, Of<'_>> = BTreeMap::new();
    for outcomes in items.iter().filter_map(|item| current(item, now).ok()) {
        for by in &outcomes.baselines {
            let of = all.entry(&by.id).or_default();
            of.versions.insert(by.version.clone());
            of.items += 1;
        }
        for rule in outcomes.rules.iter().filter(|rule| !rule.baseline.is_empty()) {
            all.entry(&rule.baseline).or_default().rules.push(rule);
        }
    }
    let score = |(baseline, of): (&str, Of<'_>)| {
        let count = |outcome| {
            let such = of.rules.iter().filter(|rule| rule.outcome == outcome);
            such.map(|rule| rule.count).sum()
        };
        Score {
            baseline: baseline.to_owned(),
            drift: drift(of.rules.iter().copied()),
            items: of.items,
            pass: count(Outcome::Pass),
            fail: count(Outcome::Fail),
            unknown: count(Outcome::Unknown),
            waived: count(Outcome::Waived),
            versions: of.versions,
        }
    };
    let mut scores: Vec<_> = all.into_iter().map(score).collect();
    scores.sort_by_key(|score| Reverse(score.drift));
    scores
}

const fn weight(severity: Priority) -> u64 {
    match severity {
        Priority::Critical => 8,
        Priority::High => 4,
        Priority::Medium => 2,
        Priority::Low => 1,
    }
}

fn drift<'a>(rules: impl IntoIterator<Item = &'a RuleOutcome>) -> Option<u8> {
    let (mut open, mut all) = (0_u64, 0_u64);
    for rule in rules {
        let weight = weight(rule.severity) * u64::from(rule.count);
        match rule.outcome {
            Outcome::Pass => all += weight,
            Outcome::Fail | Outcome::Unknown => {
                open += weight;
                all += weight;
            }
            Outcome::Waived | Outcome::NotApplicable => {}
        }
    }
    (all > 0).then(|| u8::try_from((open * 100).div_ceil(all)).unwrap_or(100))
}
