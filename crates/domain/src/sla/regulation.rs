//! Regulations: by when they want a patch on, counted from where. Their clocks never pause.
//!
//! Days that depend on facts about the vulnerability and the item come from the priority policy of
//! the same publication (`data/priority`), so that no table is written twice.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde::Deserialize;

use super::calendar::{Calendar, later};
use super::due::{DueDate, Facts, Goal};
use super::error::PolicyError;
use super::instants::{Instants, Moment};
use super::policy::{PRIORITIES, Policy};
use super::{Wait, read};
use crate::priority::{
    self, AssetFacts, Due, PolicyRef, Priority, PriorityInputs, Sourced, SystemImpact,
};

/// A regulation that can bind beside a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regulation {
    written: Written,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    title: String,
    source: String,
    /// From where its days count.
    start: Moment,
    /// From where they count for what is known to be exploited.
    #[serde(default)]
    exploited_start: Option<Moment>,
    /// By when it wants an evaluation, from collected.
    #[serde(default)]
    evaluate_within: Option<Wait>,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Rule {
    /// The due date of a priority policy's decision.
    Decision {
        priority_policy: String,
        /// The impact level that the regulation is chosen for.
        #[serde(default)]
        system_impact: Option<SystemImpact>,
    },
    /// So many days by priority.
    Days {
        #[serde(default)]
        exploited: Option<Wait>,
        #[serde(default)]
        critical: Option<Wait>,
        #[serde(default)]
        high: Option<Wait>,
        #[serde(default)]
        medium: Option<Wait>,
        #[serde(default)]
        low: Option<Wait>,
    },
}

const BUILTIN: [&str; 6] = [
    include_str!("../../data/sla/fedramp-vdr-low.toml"),
    include_str!("../../data/sla/fedramp-vdr-moderate.toml"),
    include_str!("../../data/sla/fedramp-vdr-high.toml"),
    include_str!("../../data/sla/bod-26-04.toml"),
    include_str!("../../data/sla/bod-19-02.toml"),
    include_str!("../../data/sla/pci-dss-4.0.1.toml"),
];

static REGULATIONS: LazyLock<Vec<Regulation>> = LazyLock::new(|| {
    BUILTIN
        .iter()
        .map(|text| {
            let table = read::table(text).expect("the built-in regulations are TOML");
            let written = read::from_table(table).expect("and are checked by tests");
            Regulation { written }
        })
        .collect()
});

/// Where a policy allows more time than a regulation gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The regulation.
    pub regulation: String,
    /// Its own word for the row (`2 days`), or what else it asks.
    pub clause: String,
    /// The priority that such a patch has.
    pub priority: Priority,
    /// The time that the regulation gives.
    pub allowed: jiff::SignedDuration,
    /// The time that the policy promises, at its longest.
    pub promised: jiff::SignedDuration,
}

impl Regulation {
    /// The built-in regulation of this name.
    ///
    /// # Errors
    /// If there is none; the error names those there are.
    pub fn builtin(name: &str) -> Result<&'static Self, PolicyError> {
        REGULATIONS.iter().find(|one| one.written.name == name).ok_or_else(|| {
            PolicyError::UnknownRegulation { name: name.to_owned(), known: Self::builtin_names() }
        })
    }

    /// Names of the built-in regulations.
    pub fn builtin_names() -> Vec<&'static str> {
        REGULATIONS.iter().map(|regulation| regulation.written.name.as_str()).collect()
    }

    /// Name and version, for the record.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.written.name.clone(), version: self.written.version.clone() }
    }

    /// What people call it.
    pub fn title(&self) -> &str {
        &self.written.title
    }

    /// Where it is published.
    pub fn source(&self) -> &str {
        &self.written.source
    }

    /// The dates that it sets. None for what may wait for the next upgrade, and none yet where the
    /// clock has not started.
    pub fn due(&self, facts: &Facts, instants: &Instants) -> Vec<DueDate> {
        let mut dates = Vec::new();
        if let Some(within) = self.written.evaluate_within
            && let Some(started) = instants.at(Moment::Collected)
        {
            let clause = format!("evaluate within {within}");
            dates.extend(self.date(Goal::Evaluated, clause, (Moment::Collected, started), within));
        }
        if let Some(start) = self.start(facts, instants)
            && let Some((clause, within)) = self.within(facts)
        {
            dates.extend(self.date(Goal::Verified, clause, start, within));
        }
        dates
    }

    fn date(
        &self,
        goal: Goal,
        clause: String,
        (start, started): (Moment, Timestamp),
        within: Wait,
    ) -> Option<DueDate> {
        let due = later(started, within.exact()?);
        Some(DueDate { pack: self.reference(), clause, goal, start, started, due })
    }

    /// From where it counts. A start that nobody knows is taken at the collection; one that has
    /// not happened yet, such as an evaluation, starts nothing.
    fn start(&self, facts: &Facts, instants: &Instants) -> Option<(Moment, Timestamp)> {
        if let Some(lost) = instants.regressed() {
            return Some((Moment::Regressed, lost));
        }
        let wanted = self.written.exploited_start.filter(|_| facts.is_exploited());
        let wanted = wanted.unwrap_or(self.written.start);
        match instants.at(wanted) {
            Some(at) => Some((wanted, at)),
            None if wanted == Moment::Evaluated => None,
            None => instants.at(Moment::Collected).map(|at| (Moment::Collected, at)),
        }
    }

    /// What its priority policy decides, where it rests on one.
    fn decision(&self, facts: &Facts) -> Option<priority::Decision> {
        let Rule::Decision { priority_policy, system_impact } = &self.written.rule else {
            return None;
        };
        let policy = priority::Policy::builtin(priority_policy).ok()?;
        let mut asset = facts.asset.clone();
        if let Some(level) = system_impact {
            asset.system_impact = Some(Sourced::new(*level, self.written.name.clone()));
        }
        Some(policy.decide_patch(&facts.patch, &facts.cves, &asset))
    }

    /// How long it gives, in its own words and as a wait.
    fn within(&self, facts: &Facts) -> Option<(String, Wait)> {
        match &self.written.rule {
            Rule::Decision { .. } => {
                let decision = self.decision(facts)?;
                match decision.due? {
                    Due::WithinHours(hours) => Some((decision.outcome, Wait::hours(hours))),
                    Due::NextUpgrade => None,
                }
            }
            Rule::Days { exploited, .. } => {
                let by_priority = self.days(facts.priority);
                let listed = exploited.filter(|_| facts.is_exploited());
                let shorter = match (by_priority, listed) {
                    (Some(days), Some(listed)) if listed.exact() < days.exact() => Some(listed),
                    (days, listed) => days.or(listed),
                }?;
                Some((shorter.to_string(), shorter))
            }
        }
    }

    fn days(&self, of: Priority) -> Option<Wait> {
        let Rule::Days { critical, high, medium, low, .. } = &self.written.rule else {
            return None;
        };
        match of {
            Priority::Critical => *critical,
            Priority::High => *high,
            Priority::Medium => *medium,
            Priority::Low => *low,
        }
    }

    /// Where a policy can be kept to the last hour and this regulation be missed: what it promises
    /// is longer than what the regulation gives. Agreed freezes come on top.
    pub fn unmet(&self, policy: &Policy) -> Vec<Unmet> {
        let mut unmet: Vec<Unmet> = Vec::new();
        let mut compare = |clause: String, priority: Priority, within: Wait, promised: Wait| {
            let Some(allowed) = within.exact() else { return };
            let promised = policy.calendar().longest(promised);
            let regulation = self.written.name.clone();
            let row = Unmet { regulation, clause, priority, allowed, promised };
            if promised > allowed && !unmet.contains(&row) {
                unmet.push(row);
            }
        };
        for facts in cases() {
            // Its days by priority, and its own priority where it decides one.
            let mut facts = facts;
            if let Some(decision) = self.decision(&facts) {
                facts.priority = decision.priority;
            }
            if let Some((clause, within)) = self.within(&facts) {
                let promised = policy.terms(facts.priority).on(facts.path()).deadline;
                compare(clause, facts.priority, within, promised);
            }
        }
        for priority in PRIORITIES {
            if let Some(within) = self.written.evaluate_within {
                let clause = format!("evaluate within {within}");
                compare(clause, priority, within, policy.terms(priority).evaluate);
            }
        }
        unmet.sort_by_key(|row| (row.allowed, std::cmp::Reverse(row.priority)));
        unmet
    }
}

/// Every case that a built-in regulation distinguishes.
fn cases() -> impl Iterator<Item = Facts> {
    use crate::priority::{
        Automatable, Exposure, KevListing, LikelyExploitable, PotentialImpact, TechnicalImpact,
    };
    const IMPACTS: [PotentialImpact; 5] = [
        PotentialImpact::N1,
        PotentialImpact::N2,
        PotentialImpact::N3,
        PotentialImpact::N4,
        PotentialImpact::N5,
    ];
    // One bit per input of two values.
    (0_u8..32).flat_map(|bits| IMPACTS.map(|impact| (bits, impact))).flat_map(|(bits, impact)| {
        let bit = |place: u8| bits >> place & 1 == 1;
        let mut facts = Facts {
            priority: Priority::Medium,
            patch: PriorityInputs::default(),
            cves: Vec::new(),
            asset: AssetFacts::default(),
        };
        let listed = if bit(0) { KevListing::Listed } else { KevListing::NotListed };
        let exposure = if bit(1) { Exposure::Open } else { Exposure::Controlled };
        let automatable = if bit(2) { Automatable::Yes } else { Automatable::No };
        let technical = if bit(3) { TechnicalImpact::Total } else { TechnicalImpact::Partial };
        let likely = if bit(4) { LikelyExploitable::Yes } else { LikelyExploitable::No };
        facts.patch.known_exploited = Some(Sourced::new(listed, "case"));
        facts.asset.exposure = Some(Sourced::new(exposure, "case"));
        facts.patch.automatable = Some(Sourced::new(automatable, "case"));
        facts.patch.technical_impact = Some(Sourced::new(technical, "case"));
        facts.patch.likely_exploitable = Some(Sourced::new(likely, "case"));
        facts.patch.potential_impact = Some(Sourced::new(impact, "case"));
        PRIORITIES.map(|priority| Facts { priority, ..facts.clone() })
    })
}

impl Policy {
    /// By when the contract wants the patch verified. Its agreed freezes pause it.
    pub fn due(&self, facts: &Facts, instants: &Instants) -> Option<DueDate> {
        let started = instants.start()?;
        let start =
            if instants.regressed().is_some() { Moment::Regressed } else { Moment::Collected };
        let terms = self.terms(facts.priority).on(facts.path());
        let calendar: &Calendar = self.calendar();
        Some(DueDate {
            pack: self.reference(),
            clause: format!("{} {}", facts.priority, terms.deadline),
            goal: Goal::Verified,
            start,
            started,
            due: calendar.end_with_pauses(started, terms.deadline, facts.priority),
        })
    }

    /// Every date that binds: the contract's and those of all its regulations.
    pub fn due_dates(&self, facts: &Facts, instants: &Instants) -> Vec<DueDate> {
        let of_regulations = self.regulations().flat_map(|one| one.due(facts, instants));
        self.due(facts, instants).into_iter().chain(of_regulations).collect()
    }
}
