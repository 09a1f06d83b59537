//! A configuration audit of one item: is what is recorded of it correct, consistent, complete, valid and traceable
//! (X.1642 8.8)?
//!
//! | attribute | holds where |
//! |---|---|
//! | correctness | each rule of each baseline for its class holds |
//! | consistency | what is recorded is what its agent said; links lead somewhere; files do not contradict each other |
//! | completeness | what every item of its class has is there; nothing was erased, left unseen, or too large to be told |
//! | validity | files of known formats are understood; it was heard of lately |
//! | traceability | of each file that altered it is known when, by which source, and by whom or by which change; no drift is open |
//!
//! A pure function of what history holds, of what is said beside it ([`Audited`]), and of what the item is held to
//! ([`Standards`]): the same at any later time. What audits came to is put together in a [`Survey`].

mod outcomes;
mod survey;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::baseline::{Content, Evidence, JudgedBy, Observed, Outcome, RuleResult, Standards};
use super::mask::Masks;
use super::parameter::Force;
use crate::change::FileHash;
use crate::cloud::{Class, WaiverId, words};
use crate::fleet::SetDigest;

pub use outcomes::{Outcomes, RuleOutcome};
pub use survey::{Asked, OLD, Score, Survey, SurveyRow, Surveyed};

/// How long an item may be silent.
pub const SILENT: SignedDuration = SignedDuration::from_hours(24);

/// How far clocks may differ.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// Most places that one attribute tells.
const MOST: usize = 50;

words! {
    /// What is asked of a configuration item (X.1642 8.8).
    Attribute {
        /// Is it as it should be?
        Correctness = "correctness",
        /// Does it contradict itself?
        Consistency = "consistency",
        /// Is all of it there?
        Completeness = "completeness",
        /// Can it be read, and is it of now?
        Validity = "validity",
        /// Is it known where it came from?
        Traceability = "traceability",
    }
}

/// A file that altered, and what is known of how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// Which file.
    pub path: String,
    /// When that was recorded.
    pub recorded_at: Timestamp,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// Who says so.
    pub source: String,
    /// Who altered it.
    pub by: Option<String>,
    /// The change that it belongs to.
    pub change: Option<String>,
    /// Whether it was recorded when the item was looked at first.
    pub is_first: bool,
}

/// What an audit looks at.
#[derive(Debug, Clone)]
pub struct Audited {
    /// The item's files at that time.
    pub item: Arc<Observed>,
    /// At which time.
    pub at: Timestamp,
    /// Since when alterations are looked at.
    pub since: Timestamp,
    /// When the item was heard of last, as far as that is known of that time.
    pub seen_at: Option<Timestamp>,
    /// What its agent said its files are, in one digest, where it did.
    pub said: Option<SetDigest>,
    /// The digest of what is recorded; nothing where a part of it was erased.
    pub recorded: Option<SetDigest>,
    /// What altered; an error where nobody can tell any more.
    pub altered: Result<Vec<Altered>, String>,
    /// Alterations that nobody had agreed to, or nobody could explain, and that were open.
    pub drifts: u64,
}

/// What an attribute came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeResult {
    /// Which.
    pub attribute: Attribute,
    /// What it came to: never `not_applicable`.
    pub outcome: Outcome,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// What an audit of an item came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    /// What the item is.
    pub class: Class,
    /// As it was recorded at this time.
    pub at: Timestamp,
    /// Alterations since then were looked at.
    pub since: Timestamp,
    /// When it was heard of last.
    pub seen_at: Option<Timestamp>,
    /// By which baselines.
    pub baselines: Vec<JudgedBy>,
    /// All five.
    pub attributes: Vec<AttributeResult>,
    /// Baselines that would be for it, and that somebody unbound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Waivers that counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<WaiverId>,
    /// What each rule came to.
    pub rules: Vec<RuleResult>,
}

impl AuditReport {
    /// Audits an item.
    pub fn of(audited: &Audited, standards: &Standards) -> Self {
        let class = audited.item.subject().class;
        let (rules, waivers) = standards.judge(&audited.item, audited.at, Masks::built_in());
        let attributes = match audited.item.believable() {
            Ok(()) => vec![
                correctness(&rules),
                consistency(audited),
                completeness(audited),
                validity(audited),
                traceability(audited),
            ],
            Err(because) => {
                let unknown = |attribute: &Attribute| {
                    let evidence = vec![Evidence::words(because.clone())];
                    AttributeResult { attribute: *attribute, outcome: Outcome::Unknown, evidence }
                };
                Attribute::ALL.iter().map(unknown).collect()
            }
        };
        let Audited { at, since, seen_at, .. } = *audited;
        let baselines = standards.held.iter().map(|it| it.judged_by.clone()).collect();
        let left_out = standards.left_out.clone();
        Self { class, at, since, seen_at, baselines, attributes, left_out, waivers, rules }
    }

    /// The bytes that stand for it: JSON, whose fields have one order.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts, numbers and lists always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What it is, in one word (SHA-256 of [`to_bytes`](Self::to_bytes)).
    pub fn hash(&self) -> String {
        FileHash::from(<[u8; 32]>::from(Sha256::digest(self.to_bytes()))).to_string()
    }

    /// What an attribute came to.
    pub fn outcome(&self, attribute: Attribute) -> Outcome {
        let found = self.attributes.iter().find(|it| it.attribute == attribute);
        found.map_or(Outcome::Unknown, |it| it.outcome)
    }
}

/// Things found that are wrong, and such that nobody can tell.
#[derive(Default)]
struct Findings {
    wrong: Vec<Evidence>,
    unknown: Vec<Evidence>,
    fine: Vec<Evidence>,
}

impl Findings {
    fn result(self, attribute: Attribute) -> AttributeResult {
        let (outcome, mut evidence) = if !self.wrong.is_empty() {
            (Outcome::Fail, [self.wrong, self.unknown].concat())
        } else if !self.unknown.is_empty() {
            (Outcome::Unknown, self.unknown)
        } else {
            (Outcome::Pass, self.fine)
        };
        let more = evidence.len().saturating_sub(MOST);
        evidence.truncate(MOST);
        if more > 0 {
            evidence.push(Evidence::words(format!("and {more} more")));
        }
        AttributeResult { attribute, outcome, evidence }
    }
}

fn correctness(rules: &[RuleResult]) -> AttributeResult {
    let mut findings = Findings::default();
    let (mut kept, mut waived) = (0, 0);
    for rule in rules {
        let first = rule.evidence.first().map(|it| format!(": {it}")).unwrap_or_default();
        // A file of a golden item is named by what was found.
        let name = if rule.rule.starts_with('/') { &rule.baseline } else { &rule.rule };
        let said = Evidence::words(format!("{name}{first}"));
        match rule.outcome {
            Outcome::Pass => kept += 1,
            Outcome::Fail => findings.wrong.push(said),
            Outcome::Unknown => findings.unknown.push(said),
            Outcome::Waived => waived += 1,
            Outcome::NotApplicable => {}
        }
    }
    if kept == 0 && findings.wrong.is_empty() && findings.unknown.is_empty() {
        let text = match waived {
            0 => "no rule of a baseline is about it",
            _ => "all rules that are about it are waived",
        };
        findings.unknown.push(Evidence::words(text));
    }
    let text = match waived {
        0 => format!("{kept} rules hold"),
        _ => format!("{kept} rules hold; {waived} are waived"),
    };
    findings.fine.push(Evidence::words(text));
    findings.result(Attribute::Correctness)
}

fn consistency(audited: &Audited) -> AttributeResult {
    let mut findings = Findings::default();
    match (&audited.said, &audited.recorded) {
        (Some(said), Some(recorded)) if said == recorded => {
            findings
                .fine
                .push(Evidence::words(format!("what is recorded is what was said: {said}")));
        }
        (Some(said), Some(recorded)) => {
            let text = format!("the agent said {said}, and what is recorded is {recorded}");
            findings.wrong.push(Evidence::words(text));
        }
        (None, _) => {
            let text = "what the agent said all of it is, is not known of that time";
            findings.unknown.push(Evidence::words(text));
        }
        (Some(_), None) => {
            findings.unknown.push(Evidence::words("a part of what was recorded was erased"));
        }
    }
    for (path, file) in audited.item.files() {
        if let Content::Link(target) = &file.content
            && audited.item.leads_nowhere(path)
        {
            findings
                .wrong
                .push(Evidence::file(path, format!("leads to `{target}`, which is not there")));
        }
    }
    for it in audited.item.parameters() {
        if it.force == Force::Unknown {
            let text = format!("`{}` may be set otherwise in another file", it.name);
            findings.unknown.push(Evidence {
                path: Some(it.path.clone()),
                line: Some(it.line),
                text,
            });
        }
    }
    findings.result(Attribute::Consistency)
}

/// What every item of a class has.
fn expected(class: Class) -> &'static [&'static str] {
    match class {
        Class::Hypervisor
        | Class::Host
        | Class::Vm
        | Class::Image
        | Class::DatabaseServer
        | Class::ManagementTerminal => &["/etc/passwd", "/etc/group", "/etc/hostname"],
        Class::NetworkDevice | Class::SecurityDevice | Class::Application | Class::Service => &[],
    }
}

fn completeness(audited: &Audited) -> AttributeResult {
    let mut findings = Findings::default();
    for path in expected(audited.item.subject().class) {
        if !audited.item.files().contains_key(*path) {
            findings.wrong.push(Evidence::file(*path, "is not recorded"));
        }
    }
    for (path, file) in audited.item.files() {
        let Content::Kept { because } = &file.content else { continue };
        // Keys, what the owner keeps back, and what is no text are withheld with leave.
        let leave = ["(owner)", "(key_file)", "(binary)", "(undecodable)"];
        if because.starts_with("it could not be seen") {
            findings.wrong.push(Evidence::file(path, because.clone()));
        } else if !leave.iter().any(|it| because.ends_with(it)) {
            findings.unknown.push(Evidence::file(path, because.clone()));
        }
    }
    let text = format!("{} files are recorded", audited.item.files().len());
    findings.fine.push(Evidence::words(text));
    findings.result(Attribute::Completeness)
}

fn validity(audited: &Audited) -> AttributeResult {
    let mut findings = Findings::default();
    for it in audited.item.not_understood() {
        let (path, line) = (Some(it.path.clone()), Some(it.line));
        findings.unknown.push(Evidence { path, line, text: it.because.clone() });
    }
    match audited.seen_at {
        None => {
            let text = "when it was heard of last is not known of that time";
            findings.unknown.push(Evidence::words(text));
        }
        Some(seen) if audited.at.duration_since(seen) > SILENT => {
            findings.wrong.push(Evidence::words(format!("it was heard of last at {seen}")));
        }
        Some(seen) => findings.fine.push(Evidence::words(format!("it was heard of at {seen}"))),
    }
    findings.result(Attribute::Validity)
}

fn traceability(audited: &Audited) -> AttributeResult {
    let mut findings = Findings::default();
    if audited.drifts > 0 {
        let text = format!("drifts that are open: {}", audited.drifts);
        findings.wrong.push(Evidence::words(text));
    }
    match &audited.altered {
        Err(because) => findings.unknown.push(Evidence::words(because.clone())),
        Ok(altered) => {
            for it in altered.iter().filter(|it| !it.is_first) {
                if it.source.is_empty() {
                    findings.wrong.push(Evidence::file(&it.path, "no source says so"));
                }
                if it.observed_at.duration_since(it.recorded_at) > CLOCKS {
                    let text =
                        format!("seen at {}, recorded at {}", it.observed_at, it.recorded_at);
                    findings.wrong.push(Evidence::file(&it.path, text));
                }
                if it.by.is_none() && it.change.is_none() {
                    let text = format!("altered at {}; nobody saw by whom", it.recorded_at);
                    findings.unknown.push(Evidence::file(&it.path, text));
                }
            }
            let text = format!("{} files altered since {}", altered.len(), audited.since);
            findings.fine.push(Evidence::words(text));
        }
    }
    findings.result(Attribute::Traceability)
}

#[cfg(test)]
mod tests;
