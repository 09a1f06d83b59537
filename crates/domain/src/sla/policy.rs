//! The SLA policy: what provider and tenant agreed to, as a versioned document.
//!
//! A provider has a default, a tenant negotiates what differs, and what is not covered is stated
//! (X.1642 8.7.2 and 7.2.1; R21, R22, R37). A [`Policy`] is checked: its worst path keeps its own
//! deadline, for every priority.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::error::PolicyError;
use super::regulation::Regulation;
use super::terms::Terms;
use super::{lint, read};
use crate::cloud::{Class, LabelKey};
use crate::priority::{PolicyRef, Priority};

/// Hours that an alteration to which nobody agreed stays open before it escalates, where a policy does not say it.
pub const DRIFT_HOURS: u16 = 24;

/// The form of document that this version reads.
pub const SCHEMA: &str = "patchwright.sla/1";

/// A policy as it is written. It becomes a [`Policy`] by [`Policy::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name, the same for all versions.
    pub name: String,
    /// Version. What was agreed stays: a change is a new version.
    pub version: String,
    /// What people call it.
    pub title: String,
    /// Who agreed to it, or where its numbers come from.
    pub source: String,
    /// What it was negotiated from, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiated_from: Option<PolicyRef>,
    /// Names of the regulations that bind as well; the earliest due date wins.
    #[serde(default)]
    pub regulations: Vec<String>,
    /// What the policy does not cover.
    #[serde(default)]
    pub exclusions: Vec<Exclusion>,
    /// Whether the provider may keep the disks of the tenant's machines as they are before a step with a
    /// restart, and go back to them where the step fails: what was written meanwhile is lost then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshots: bool,
    /// Hours that an alteration of configuration to which nobody agreed may stay open before it escalates; a day
    /// where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_hours: Option<u16>,
    /// Time zone, business days, holidays, freezes.
    pub calendar: Calendar,
    /// Terms of critical patches.
    pub critical: Terms,
    /// Terms of high ones.
    pub high: Terms,
    /// Terms of medium ones.
    pub medium: Terms,
    /// Terms of low ones.
    pub low: Terms,
}

/// Something that the policy does not cover, said openly. Class, labels and sources say it to a
/// machine: what all that are given fit is excluded. With none of them it is said to people alone, and
/// nothing is excluded by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// What is excluded.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Last day of the exclusion, on the policy's calendar; none for as long as the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// Items of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Patches of these source packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Items with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, String>,
}

impl Exclusion {
    /// Whether it says to a machine what is excluded.
    pub fn is_exact(&self) -> bool {
        self.class.is_some() || !self.sources.is_empty() || !self.labels.is_empty()
    }

    /// Whether it is about a patch of a source package on an item, whenever.
    pub fn covers(&self, class: Class, labels: &BTreeMap<LabelKey, String>, source: &str) -> bool {
        self.is_exact()
            && self.class.is_none_or(|own| own == class)
            && (self.sources.is_empty() || self.sources.iter().any(|own| own == source))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    document: Document,
}

const BUILTIN: [&str; 1] = [include_str!("../../data/sla/x1642-default.toml")];

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    BUILTIN
        .iter()
        .map(|text| Policy::from_toml(text).expect("the built-in policies are checked by tests"))
        .collect()
});

impl Policy {
    /// The built-in policy of this name.
    ///
    /// # Errors
    /// If there is none; the error names those there are.
    pub fn builtin(name: &str) -> Result<&'static Self, PolicyError> {
        POLICIES.iter().find(|policy| policy.document.name == name).ok_or_else(|| {
            PolicyError::UnknownPolicy { name: name.to_owned(), known: Self::builtin_names() }
        })
    }

    /// Names of the built-in policies, the default first.
    pub fn builtin_names() -> Vec<&'static str> {
        POLICIES.iter().map(|policy| policy.document.name.as_str()).collect()
    }

    /// Reads and checks a whole policy.
    ///
    /// # Errors
    /// With the key and its place, if the text is no policy or its worst path is too long.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let table = read::table(text)?;
        Self::new(read::document(table, text)?).map_err(|error| error.located(text))
    }

    /// What a tenant negotiated: this policy with the keys of `text` in place of its own. The text
    /// gives a version, and whatever differs; lists are replaced whole.
    ///
    /// # Errors
    /// As [`Policy::from_toml`].
    pub fn negotiate(&self, text: &str) -> Result<Self, PolicyError> {
        let overrides = read::table(text)?;
        if !overrides.contains_key("version") {
            return Err(PolicyError::NoVersion);
        }
        let mut table = read::to_table(&self.document);
        table.remove("negotiated_from");
        read::lay_over(&mut table, overrides);
        let mut document = read::document(table, text)?;
        document.negotiated_from = Some(self.reference());
        Self::new(document).map_err(|error| error.located(text))
    }

    /// Checks a document.
    ///
    /// # Errors
    /// If it contradicts itself; the error says which key.
    pub fn new(document: Document) -> Result<Self, PolicyError> {
        if document.schema != SCHEMA {
            return Err(PolicyError::Schema { schema: document.schema, known: SCHEMA });
        }
        for name in &document.regulations {
            Regulation::builtin(name)?;
        }
        lint::check(&document)?;
        Ok(Self { document })
    }

    /// The whole policy as text that reads the same.
    ///
    /// # Panics
    /// Never: every part of a document has a form in TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.document).expect("every part of a policy has a form in TOML")
    }

    /// Name and version, for the record.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { name: self.document.name.clone(), version: self.document.version.clone() }
    }

    /// What it says.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// How long an alteration of configuration to which nobody agreed may stay open before it escalates.
    pub fn drift_escalates_after(&self) -> SignedDuration {
        SignedDuration::from_hours(self.document.drift_hours.unwrap_or(DRIFT_HOURS).into())
    }

    /// Its calendar.
    pub fn calendar(&self) -> &Calendar {
        &self.document.calendar
    }

    /// The exclusion that a patch of a source package on an item falls under, and the first instant
    /// at which it does so no more; `None` for as long as the policy. Of several the longest.
    pub fn excludes(
        &self,
        class: Class,
        labels: &BTreeMap<LabelKey, String>,
        source: &str,
        now: Timestamp,
    ) -> Option<(&Exclusion, Option<Timestamp>)> {
        let all = self.document.exclusions.iter();
        let all = all.filter(|it| it.covers(class, labels, source));
        all.map(|it| (it, it.until.map(|last| self.calendar().end_of(last))))
            .filter(|(_, end)| end.is_none_or(|end| now < end))
            .max_by_key(|(_, end)| end.unwrap_or(Timestamp::MAX))
    }

    /// What it says for a priority.
    pub fn terms(&self, priority: Priority) -> &Terms {
        self.document.terms(priority)
    }

    /// The regulations that bind beside it.
    pub fn regulations(&self) -> impl Iterator<Item = &'static Regulation> {
        self.document.regulations.iter().filter_map(|name| Regulation::builtin(name).ok())
    }
}

impl Document {
    /// What it says for a priority.
    pub fn terms(&self, priority: Priority) -> &Terms {
        match priority {
            Priority::Critical => &self.critical,
            Priority::High => &self.high,
            Priority::Medium => &self.medium,
            Priority::Low => &self.low,
        }
    }
}

/// All priorities, the most urgent first.
pub const PRIORITIES: [Priority; 4] =
    [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];
