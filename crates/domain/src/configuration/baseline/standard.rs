//! To which baselines an item is held, by whom, and which of their rules somebody answers for instead.
//!
//! ```text
//! what the program brings, by class ─┐
//! what the provider binds ───────────┼─► hold ─► Standard::judge ─► Waiver, where one counts ─► RuleResult
//! what the item's owner binds ───────┘
//! ```
//!
//! What the provider holds an item to, its tenant neither unbinds nor waives.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Baseline, Evidence, Golden, Observed, Outcome, ReleasedSource, RuleResult};
use crate::cloud::{BaselineId, CiId, Side, WaiverId, words};
use crate::configuration::mask::Masks;
use crate::order::PathPattern;
use crate::priority::Priority;

words! {
    /// For which items something is meant. What is meant for fewer counts before what is meant for more.
    Reach {
        /// For those of a class.
        Class = "class",
        /// For those of a group.
        Group = "group",
        /// For one.
        Ci = "ci",
    }
}

words! {
    /// Why an item is held to a baseline.
    #[derive(Default)]
    Hold {
        /// It comes with the program, for items of its class.
        #[default]
        Class = "class",
        /// Its owner says so.
        Tenant = "tenant",
        /// The provider says so.
        Provider = "provider",
    }
}

/// Names a baseline: `sshd`, which comes with the program, or `bsl_…`, which somebody put in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BaselineRef {
    /// One that comes with the program.
    BuiltIn(String),
    /// One that somebody put in.
    Own(BaselineId),
}

/// A name of no baseline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` names no baseline: use an id `bsl_…`, or one of {known}")]
pub struct UnknownBaseline {
    given: String,
    known: String,
}

/// What somebody said of a baseline and an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Whose people.
    pub by: Side,
    /// For which items they said it.
    pub reach: Reach,
    /// Whether items are held to it.
    pub holds: bool,
}

/// By which rules an item was judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedBy {
    /// The baseline; of the provider's, where the item is a tenant's: `provider/…`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its id, where it did not come with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<BaselineId>,
    /// Why the item is held to it.
    #[serde(default, skip_serializing_if = "Hold::is_by_class")]
    pub hold: Hold,
}

/// Which files of which item are golden. What they held is in the history alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSource {
    /// Of which item.
    pub ci: CiId,
    /// As it was recorded at this time.
    pub at: Timestamp,
    /// Which files.
    pub paths: Vec<PathPattern>,
    /// How bad it is where one differs.
    pub severity: Priority,
    /// How many files there were: fewer were lost since.
    pub files: usize,
}

/// Where files come from that others are held against.
#[derive(Debug, Clone)]
pub enum FilesSource {
    /// They are those of a golden item.
    Item(GoldenSource),
    /// A release wrote them.
    Release(ReleasedSource),
}

/// Files that others are held against, as the history has them now.
#[derive(Debug, Clone)]
pub struct HeldFiles {
    /// Where they come from.
    pub source: FilesSource,
    /// What they are; or why nobody can tell any more.
    pub files: Result<Golden, String>,
}

/// What an item is held against.
#[derive(Debug, Clone)]
pub enum Measure {
    /// Rules.
    Rules(Arc<Baseline>),
    /// Files.
    Files(Box<HeldFiles>),
    /// Something of which nobody can tell what it says: why.
    Unusable(String),
}

/// One baseline that an item is held to.
#[derive(Debug, Clone)]
pub struct Standard {
    /// Which, as reports name it, and why.
    pub judged_by: JudgedBy,
    /// What it says.
    pub measure: Measure,
}

/// That somebody answers for a rule, until a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// Its id.
    pub id: WaiverId,
    /// Of which baseline.
    pub baseline: BaselineRef,
    /// Which rule; of golden items, which file.
    pub rule: String,
    /// Whose people gave it.
    pub by: Side,
    /// Who answers for it, in words.
    pub owner: String,
    /// Why, in words.
    pub reason: String,
    /// Until when; then it counts no more.
    pub until: Timestamp,
}

/// All that one item is held to.
#[derive(Debug, Clone, Default)]
pub struct Standards {
    /// The baselines, in the order in which they are told.
    pub held: Vec<Standard>,
    /// Names of those that would be for it, and that somebody unbound.
    pub left_out: Vec<String>,
    /// Waivers that count for it, each until its end.
    pub waivers: Vec<Waiver>,
}

/// Why an item is held to a baseline; `None` where it is not.
///
/// `by_class` says whether the baseline comes with the program and is for the item's class.
///
/// ```
/// use domain::cloud::Side;
/// use domain::configuration::baseline::{Hold, Reach, Said, hold};
///
/// let group = Said { by: Side::Tenant, reach: Reach::Group, holds: false };
/// assert_eq!(hold(&[group], true), None);
/// let item = Said { reach: Reach::Ci, holds: true, ..group };
/// assert_eq!(hold(&[group, item], true), Some(Hold::Tenant));
/// let cloud = Said { by: Side::Provider, reach: Reach::Class, holds: true };
/// assert_eq!(hold(&[group, cloud], true), Some(Hold::Provider));
/// ```
pub fn hold(said: &[Said], by_class: bool) -> Option<Hold> {
    // Of two that reach as far, the stricter counts.
    let narrowest = |side: Side| {
        let by = said.iter().filter(|it| it.by == side);
        by.max_by_key(|it| (it.reach, it.holds)).map(|it| it.holds)
    };
    match (narrowest(Side::Provider), narrowest(Side::Tenant)) {
        (Some(true), _) => Some(Hold::Provider),
        (_, Some(true)) => Some(Hold::Tenant),
        (_, Some(false)) | (Some(false), None) => None,
        (None, None) => by_class.then_some(Hold::Class),
    }
}

impl Hold {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    const fn is_by_class(&self) -> bool {
        matches!(self, Self::Class)
    }
}

impl FromStr for BaselineRef {
    type Err = UnknownBaseline;

    fn from_str(text: &str) -> Result<Self, UnknownBaseline> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Own(id));
        }
        let names = || Baseline::built_in().iter().map(|it| it.id.as_str());
        if names().any(|name| name == text) {
            return Ok(Self::BuiltIn(text.to_owned()));
        }
        let known = names().collect::<Vec<_>>().join(", ");
        Err(UnknownBaseline { given: text.chars().take(64).collect(), known })
    }
}

impl fmt::Display for BaselineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) => f.pad(name),
            Self::Own(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl Serialize for BaselineRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BaselineRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JudgedBy {
    /// One that comes with the program.
    pub fn built_in(baseline: &Baseline) -> Self {
        let (id, version) = (baseline.id.clone(), baseline.version.clone());
        Self { id, version, own: None, hold: Hold::Class }
    }

    /// Which baseline it is.
    pub fn baseline(&self) -> BaselineRef {
        match self.own {
            Some(id) => BaselineRef::Own(id),
            None => BaselineRef::BuiltIn(self.id.clone()),
        }
    }
}

impl Standards {
    /// What comes with the program for items of a class, and nothing else.
    pub fn built_in(class: crate::cloud::Class) -> Self {
        let meant = Baseline::built_in().iter().filter(|baseline| baseline.is_for(class));
        let held = meant.map(|baseline| Standard::built_in(Hold::Class, baseline)).collect();
        Self { held, ..Self::default() }
    }

    /// The items against whose files it is held.
    pub fn items(&self) -> BTreeSet<CiId> {
        let sources = self.held.iter().filter_map(|standard| match &standard.measure {
            Measure::Files(held) => Some(held.source.items()),
            Measure::Rules(_) | Measure::Unusable(_) => None,
        });
        sources.flatten().collect()
    }

    /// With those waivers that count: whoever holds an item to a rule waives it. `is_providers` says whether the
    /// item is the provider's to keep.
    #[must_use]
    pub fn waived(mut self, waivers: Vec<Waiver>, is_providers: bool) -> Self {
        let counts = |waiver: &Waiver| {
            let of = self.held.iter().find(|it| it.judged_by.baseline() == waiver.baseline);
            of.is_some_and(|standard| match (standard.judged_by.hold, waiver.by) {
                (Hold::Provider, by) => by == Side::Provider,
                (Hold::Class | Hold::Tenant, Side::Tenant) => true,
                (Hold::Class | Hold::Tenant, Side::Provider) => is_providers,
            })
        };
        self.waivers = waivers.into_iter().filter(counts).collect();
        self
    }

    /// What each rule comes to for an item at a time, with the waivers that counted.
    pub fn judge(
        &self,
        item: &Arc<Observed>,
        at: Timestamp,
        masks: &Masks,
    ) -> (Vec<RuleResult>, Vec<WaiverId>) {
        let mut counted = Vec::new();
        let mut results = Vec::new();
        for standard in &self.held {
            for mut result in standard.judge(item, masks) {
                if let Some(waiver) = self.waive(standard, &mut result, at) {
                    counted.push(waiver);
                }
                results.push(result);
            }
        }
        counted.sort_unstable();
        counted.dedup();
        (results, counted)
    }

    /// Says of a result that it is waived, where it is: with what it came to, and who answers for it.
    fn waive(
        &self,
        standard: &Standard,
        result: &mut RuleResult,
        at: Timestamp,
    ) -> Option<WaiverId> {
        if result.outcome == Outcome::NotApplicable {
            return None;
        }
        let baseline = standard.judged_by.baseline();
        let is_meant =
            |it: &&Waiver| it.baseline == baseline && it.rule == result.rule && at < it.until;
        let waiver = self.waivers.iter().filter(is_meant).max_by_key(|it| (it.until, it.id))?;
        let Waiver { owner, reason, until, .. } = waiver;
        let text = format!(
            "it came to {}; {owner} answers for it until {until}: {reason}",
            result.outcome
        );
        result.evidence.insert(0, Evidence::words(text));
        result.outcome = Outcome::Waived;
        Some(waiver.id)
    }
}

impl Standard {
    /// Rules that come with the program.
    pub fn built_in(hold: Hold, baseline: &Baseline) -> Self {
        let judged_by = JudgedBy { hold, ..JudgedBy::built_in(baseline) };
        Self { judged_by, measure: Measure::Rules(Arc::new(baseline.clone())) }
    }

    fn judge(&self, item: &Arc<Observed>, masks: &Masks) -> Vec<RuleResult> {
        let mut results = match &self.measure {
            Measure::Rules(baseline) => baseline.judge(item),
            Measure::Files(files) => files.judge(&self.judged_by.id, item, masks),
            Measure::Unusable(because) => vec![nobody_can_tell(Priority::Medium, because)],
        };
        for result in &mut results {
            result.baseline.clone_from(&self.judged_by.id);
        }
        results
    }
}

impl FilesSource {
    /// The items in whose history they are.
    fn items(&self) -> BTreeSet<CiId> {
        match self {
            Self::Item(source) => [source.ci].into(),
            Self::Release(source) => source.files.values().map(|file| file.ci).collect(),
        }
    }

    const fn severity(&self) -> Priority {
        match self {
            Self::Item(source) => source.severity,
            Self::Release(source) => source.severity,
        }
    }

    /// How many there were: fewer were lost since.
    fn count(&self) -> usize {
        match self {
            Self::Item(source) => source.files,
            Self::Release(source) => source.files.len(),
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Item(source) => {
                format!("as it was recorded of {} until {}", source.ci, source.at)
            }
            Self::Release(source) => {
                format!("as {} wrote it by the plan {}", source.release, source.plan)
            }
        }
    }
}

impl HeldFiles {
    fn judge(&self, name: &str, item: &Observed, masks: &Masks) -> Vec<RuleResult> {
        let severity = self.source.severity();
        let files = match &self.files {
            Ok(files) if files.files.len() >= self.source.count() => files,
            Ok(_) => return vec![nobody_can_tell(severity, "what the golden item held is lost")],
            Err(because) => return vec![nobody_can_tell(severity, because)],
        };
        let result = |it: super::FileResult| RuleResult {
            baseline: String::new(),
            rule: it.path,
            title: format!("The file is as in {name}"),
            severity,
            outcome: it.outcome,
            evidence: it.evidence,
            expected: self.source.expected(),
        };
        files.judge(item, masks).into_iter().map(result).collect()
    }
}

fn nobody_can_tell(severity: Priority, because: &str) -> RuleResult {
    RuleResult {
        baseline: String::new(),
        rule: "baseline".to_owned(),
        title: "What the baseline says can be told".to_owned(),
        severity,
        outcome: Outcome::Unknown,
        evidence: vec![Evidence::words(because)],
        expected: "a baseline that can be read".to_owned(),
    }
}
