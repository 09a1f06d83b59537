//! What an audit came to, without what was found: what may be kept when the history is erased.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attribute, AuditReport};
use crate::cloud::WaiverId;
use crate::configuration::baseline::{JudgedBy, Outcome, RuleResult};
use crate::priority::Priority;

/// What stands for the files of a golden item, whose paths are not kept.
const FILES: &str = "files";

/// What an audit came to, in words without what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcomes {
    /// By which baselines.
    pub baselines: Vec<JudgedBy>,
    /// Baselines that would be for it, and that somebody unbound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Waivers that counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<WaiverId>,
    /// Each attribute.
    pub attributes: BTreeMap<Attribute, Outcome>,
    /// Each rule.
    pub rules: Vec<RuleOutcome>,
}

/// What a rule came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOutcome {
    /// Of which baseline, by its name.
    #[serde(default)]
    pub baseline: String,
    /// Which rule; `files` stands for those of a golden item that came to the same.
    pub rule: String,
    /// How bad it is where it does not hold.
    #[serde(default = "usual")]
    pub severity: Priority,
    /// What it came to.
    pub outcome: Outcome,
    /// How many did.
    #[serde(default = "one")]
    pub count: u32,
}

const fn usual() -> Priority {
    Priority::Medium
}

const fn one() -> u32 {
    1
}

impl From<&AuditReport> for Outcomes {
    fn from(report: &AuditReport) -> Self {
        let mut rules: Vec<RuleOutcome> = Vec::new();
        for result in &report.rules {
            let outcome = RuleOutcome::from(result);
            let is_same = |it: &&mut RuleOutcome| {
                outcome.rule == FILES && RuleOutcome { count: 1, ..(**it).clone() } == outcome
            };
            match rules.iter_mut().find(is_same) {
                Some(same) => same.count += 1,
                None => rules.push(outcome),
            }
        }
        Self {
            baselines: report.baselines.clone(),
            left_out: report.left_out.clone(),
            waivers: report.waivers.clone(),
            attributes: report.attributes.iter().map(|it| (it.attribute, it.outcome)).collect(),
            rules,
        }
    }
}

impl From<&RuleResult> for RuleOutcome {
    fn from(it: &RuleResult) -> Self {
        let is_file = it.rule.starts_with('/');
        Self {
            baseline: it.baseline.clone(),
            rule: if is_file { FILES.to_owned() } else { it.rule.clone() },
            severity: it.severity,
            outcome: it.outcome,
            count: 1,
        }
    }
}
