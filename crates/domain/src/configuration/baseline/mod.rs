//! What configuration is held against: rules over what files set, the files of an item that is as all of its kind
//! should be, and the files that a release wrote.
//!
//! ```text
//! files of an item at a time ─► Observed ─┬─► Baseline::judge  rules in CEL      ─► RuleResult, one each
//!                                         └─► Golden::judge    files of another, ─► FileResult, one each
//!                                                              or of a release
//! ```
//!
//! What cannot be told is *unknown*, with the reason, and never counts as kept.
//!
//! ```
//! use std::sync::Arc;
//! use domain::cloud::Class;
//! use domain::configuration::baseline::{Baseline, Observed, ObservedFile, Outcome, Subject};
//!
//! let sshd = Baseline::built_in().iter().find(|it| it.id == "sshd").unwrap();
//! let file = ObservedFile::new(0o100_644, "root:root", b"PermitRootLogin yes\n");
//! let subject = Subject { class: Class::Vm, labels: Default::default() };
//! let item = Arc::new(Observed::new(subject, [("/etc/ssh/sshd_config".to_owned(), file)]));
//!
//! let results = sshd.judge(&item);
//! let root = results.iter().find(|it| it.rule == "sshd-root-login").unwrap();
//! assert_eq!(root.outcome, Outcome::Fail);
//! assert_eq!(root.evidence[0].to_string(), "/etc/ssh/sshd_config:1: sshd.PermitRootLogin=yes");
//! ```

mod expression;
mod golden;
mod observed;
mod released;
mod standard;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::cloud::{Class, words};
use crate::priority::Priority;

pub(super) use expression::is_like;
pub use expression::{Expression, InvalidExpression};
pub use golden::{FileResult, Golden, GoldenFile};
pub use observed::{Content, Observed, ObservedFile, Subject};
pub use released::{Fate, Look, ReleasedFile, ReleasedSource, Unfit, Wanted, take};
pub use standard::{
    BaselineRef, FilesSource, GoldenSource, HeldFiles, Hold, JudgedBy, Measure, Reach, Said,
    Standard, Standards, UnknownBaseline, Waiver, hold,
};

/// Largest file of rules, in bytes.
const LONGEST: usize = 1 << 20;

/// Most rules of one baseline.
const MOST: usize = 500;

/// Most places that one result tells.
const MOST_EVIDENCE: usize = 20;

/// The files of those that come with the program.
const PACKS: &[&str] = &[
    include_str!("../../../data/baseline/sshd.toml"),
    include_str!("../../../data/baseline/sysctl.toml"),
    include_str!("../../../data/baseline/postgresql.toml"),
    include_str!("../../../data/baseline/nginx.toml"),
    include_str!("../../../data/baseline/frr.toml"),
    include_str!("../../../data/baseline/switch.toml"),
    include_str!("../../../data/baseline/firewall.toml"),
];

words! {
    /// What it came to.
    Outcome {
        /// It is as it should be.
        Pass = "pass",
        /// It is not.
        Fail = "fail",
        /// Nobody can tell.
        Unknown = "unknown",
        /// It has nothing that this is about.
        NotApplicable = "not_applicable",
        /// Somebody answers for it until a day, whatever it came to.
        Waived = "waived",
    }
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// In which file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// On which line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What.
    pub text: String,
}

/// Rules for items of some classes.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Its name.
    pub id: String,
    /// Other rules have another version.
    pub version: String,
    /// In words.
    pub title: String,
    /// For items of which classes; all of them where none is named.
    pub classes: Vec<Class>,
    /// In the order in which they are told.
    pub rules: Vec<Rule>,
    applies: Option<Expression>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique within its baseline.
    pub id: String,
    /// In words.
    pub title: String,
    /// How bad it is where it does not hold.
    pub severity: Priority,
    /// Why.
    pub why: String,
    /// Document and clause.
    pub source: String,
    /// What should be found, in words.
    pub expected: String,
    applies: Option<Expression>,
    check: Expression,
}

/// What a rule came to for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleResult {
    /// Of which baseline, by its name.
    pub baseline: String,
    /// Which rule.
    pub rule: String,
    /// In words.
    pub title: String,
    /// How bad it is where it does not hold.
    pub severity: Priority,
    /// What it came to.
    pub outcome: Outcome,
    /// What was looked at and where; why it is unknown.
    pub evidence: Vec<Evidence>,
    /// What should be found.
    pub expected: String,
}

/// Rules that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseline {
    /// More than anybody writes.
    #[error("the baseline has {size} bytes, more than {LONGEST}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// More than anybody needs.
    #[error("the baseline has {count} rules; it may have 1 to {MOST}")]
    Count {
        /// How many.
        count: usize,
    },
    /// It does not say what it could.
    #[error("line {line}: {because}")]
    Unreadable {
        /// On which line, from 1.
        line: usize,
        /// What is wrong there.
        because: String,
    },
    /// Two rules have one name.
    #[error("line {line}: two rules are called `{id}`")]
    Twice {
        /// On which line the second is named.
        line: usize,
        /// How.
        id: String,
    },
    /// A name is none.
    #[error(
        "line {line}: `{id}` is no name: lower-case letters, digits and `-`, at most 64 of them"
    )]
    Name {
        /// On which line.
        line: usize,
        /// Which.
        id: String,
    },
    /// The word for a version is none.
    #[error("line {line}: `{version}` is no version: 1 to 64 letters, digits, `.`, `-` or `_`")]
    Version {
        /// On which line.
        line: usize,
        /// Which.
        version: String,
    },
    /// An expression is none that can be used.
    #[error("line {line}, `{id}`: {because}")]
    Expression {
        /// On which line it begins.
        line: usize,
        /// Of which rule; of the whole baseline where it is its own name.
        id: String,
        /// What is wrong with it.
        because: InvalidExpression,
    },
}

impl InvalidBaseline {
    /// On which line of the file, from 1; none where it is the file as a whole.
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::TooLong { .. } | Self::Count { .. } => None,
            Self::Unreadable { line, .. }
            | Self::Twice { line, .. }
            | Self::Name { line, .. }
            | Self::Version { line, .. }
            | Self::Expression { line, .. } => Some(*line),
        }
    }

    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Count { .. } => "divide it into several",
            Self::Unreadable { .. }
            | Self::Twice { .. }
            | Self::Name { .. }
            | Self::Version { .. } => "correct the line as described in docs/baselines.md",
            Self::Expression { .. } => "docs/baselines.md lists what an expression may say",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Spanned<String>,
    version: Spanned<String>,
    title: String,
    #[serde(default)]
    classes: Vec<Class>,
    applies: Option<Spanned<String>>,
    #[serde(default)]
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    id: Spanned<String>,
    title: String,
    severity: Priority,
    why: String,
    source: String,
    expected: String,
    applies: Option<Spanned<String>>,
    check: Spanned<String>,
}

/// The text that is read, for the lines of what is wrong in it.
struct Source<'t>(&'t str);

impl Source<'_> {
    /// The line of a place, from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.0.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn line_of(&self, text: &Spanned<String>) -> usize {
        self.line(text.span().start)
    }

    fn expression(&self, id: &str, text: &Spanned<String>) -> Result<Expression, InvalidBaseline> {
        let line = self.line_of(text);
        let wrong = |because| InvalidBaseline::Expression { line, id: id.to_owned(), because };
        Expression::parse(text.get_ref()).map_err(wrong)
    }
}

impl Baseline {
    /// Those that come with the program (`data/baseline`).
    pub fn built_in() -> &'static [Self] {
        static BUILT_IN: LazyLock<Vec<Baseline>> = LazyLock::new(|| {
            let parse = |text: &&str| Baseline::parse(text);
            let read = PACKS.iter().map(parse).collect::<Result<_, _>>();
            read.expect("a test reads the baselines that come with the program")
        });
        &BUILT_IN
    }

    /// The file of one that comes with the program, from which somebody may begin their own.
    pub fn built_in_text(name: &str) -> Option<&'static str> {
        let mut with_texts = Self::built_in().iter().zip(PACKS);
        with_texts.find(|(it, _)| it.id == name).map(|(_, text)| *text)
    }

    /// Reads rules (TOML).
    ///
    /// # Errors
    /// If anything in them is not understood: a rule that says less than was meant passes what it should not.
    pub fn parse(text: &str) -> Result<Self, InvalidBaseline> {
        if text.len() > LONGEST {
            return Err(InvalidBaseline::TooLong { size: text.len() });
        }
        let source = Source(text);
        let written: Written =
            toml::from_str(text).map_err(|error| InvalidBaseline::Unreadable {
                line: source.line(error.span().map_or(0, |span| span.start)),
                because: error.message().to_owned(),
            })?;
        let Written { id, version, title, classes, applies, rule } = written;
        if rule.is_empty() || rule.len() > MOST {
            return Err(InvalidBaseline::Count { count: rule.len() });
        }
        let mut seen = BTreeSet::new();
        for name in rule.iter().map(|rule| &rule.id).chain([&id]) {
            if !is_name(name.get_ref()) {
                let (line, id) = (source.line_of(name), name.get_ref().clone());
                return Err(InvalidBaseline::Name { line, id });
            }
        }
        if !is_version(version.get_ref()) {
            let (line, version) = (source.line_of(&version), version.into_inner());
            return Err(InvalidBaseline::Version { line, version });
        }
        if let Some(twice) = rule.iter().find(|rule| !seen.insert(rule.id.get_ref().clone())) {
            let (line, id) = (source.line_of(&twice.id), twice.id.get_ref().clone());
            return Err(InvalidBaseline::Twice { line, id });
        }
        let (id, version) = (id.into_inner(), version.into_inner());
        let applies = applies.map(|text| source.expression(&id, &text)).transpose()?;
        let rules =
            rule.into_iter().map(|rule| Rule::read(rule, &source)).collect::<Result<_, _>>()?;
        Ok(Self { id, version, title, classes, rules, applies })
    }

    /// Of which items it is about at all, as its author wrote that; all of them where nothing is said.
    pub fn applies(&self) -> Option<&str> {
        self.applies.as_ref().map(Expression::text)
    }

    /// Whether it is for items of a class.
    pub fn is_for(&self, class: Class) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }

    /// What each of its rules comes to for an item.
    pub fn judge(&self, item: &Arc<Observed>) -> Vec<RuleResult> {
        let all = self.applies.as_ref().map(|applies| applies.of(item));
        let of = |rule: &Rule| match &all {
            None => rule.judge(item),
            Some(all) => match all.answer {
                Ok(true) => rule.judge(item),
                Ok(false) => rule.result(Outcome::NotApplicable, all.looked_at.clone()),
                Err(ref because) => rule.unknown(because, all.looked_at.clone()),
            },
        };
        let named = |rule| RuleResult { baseline: self.id.clone(), ..of(rule) };
        self.rules.iter().map(named).collect()
    }
}

impl Rule {
    /// Of which items it is about at all, as its author wrote that; all of them where nothing is said.
    pub fn applies(&self) -> Option<&str> {
        self.applies.as_ref().map(Expression::text)
    }

    /// What must hold, as its author wrote it.
    pub fn check(&self) -> &str {
        self.check.text()
    }

    fn read(written: WrittenRule, text: &Source<'_>) -> Result<Self, InvalidBaseline> {
        let WrittenRule { id, title, severity, why, source, expected, applies, check } = written;
        let id = id.into_inner();
        let applies = applies.map(|applies| text.expression(&id, &applies)).transpose()?;
        let check = text.expression(&id, &check)?;
        Ok(Self { id, title, severity, why, source, expected, applies, check })
    }

    fn judge(&self, item: &Arc<Observed>) -> RuleResult {
        if let Some(applies) = &self.applies {
            let said = applies.of(item);
            match said.answer {
                Ok(true) => {}
                Ok(false) => return self.result(Outcome::NotApplicable, said.looked_at),
                Err(because) => return self.unknown(&because, said.looked_at),
            }
        }
        let said = self.check.of(item);
        match said.answer {
            Ok(true) => self.result(Outcome::Pass, said.looked_at),
            Ok(false) => self.result(Outcome::Fail, said.looked_at),
            Err(because) => self.unknown(&because, said.looked_at),
        }
    }

    fn unknown(&self, because: &str, looked_at: Vec<Evidence>) -> RuleResult {
        let mut evidence = vec![Evidence::words(because)];
        evidence.extend(looked_at);
        self.result(Outcome::Unknown, evidence)
    }

    fn result(&self, outcome: Outcome, mut evidence: Vec<Evidence>) -> RuleResult {
        let more = evidence.len().saturating_sub(MOST_EVIDENCE);
        evidence.truncate(MOST_EVIDENCE);
        if more > 0 {
            evidence.push(Evidence::words(format!("and {more} more")));
        }
        let (rule, title, expected) = (self.id.clone(), self.title.clone(), self.expected.clone());
        // Its baseline names itself.
        let baseline = String::new();
        RuleResult { baseline, rule, title, severity: self.severity, outcome, evidence, expected }
    }
}

impl Evidence {
    /// Words about no place.
    pub fn words(text: impl Into<String>) -> Self {
        Self { path: None, line: None, text: text.into() }
    }

    /// About a file.
    pub fn file(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: Some(path.into()), line: None, text: text.into() }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.line) {
            (Some(path), Some(line)) => write!(f, "{path}:{line}: {}", self.text),
            (Some(path), None) => write!(f, "{path}: {}", self.text),
            (None, _) => f.write_str(&self.text),
        }
    }
}

/// Whether it can name a baseline, or a rule.
pub fn is_name(text: &str) -> bool {
    let known = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    (1..=64).contains(&text.len()) && text.chars().all(known)
}

/// Whether it can name a version in a path.
fn is_version(text: &str) -> bool {
    let known = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    (1..=64).contains(&text.len()) && text.chars().all(known)
}

#[cfg(test)]
mod tests;
