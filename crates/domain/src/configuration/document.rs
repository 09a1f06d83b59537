//! What a host is configured by beside its files, as documents with names of their own: policies, profiles, database
//! servers.
//!
//! ```
//! use domain::configuration::document::{Aspect, DocumentPattern, aspect};
//!
//! assert_eq!(aspect("policy:sshd"), Some(Aspect::Policy));
//! assert_eq!(aspect("/etc/policy:sshd"), None, "this is a file");
//! let databases = DocumentPattern::try_from("database:*".to_owned())?;
//! assert!(databases.has("database:postgresql/15-main/settings"));
//! # Ok::<(), String>(())
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::cloud::words;

words! {
    /// What a document tells of: what its name begins with, before a colon.
    Aspect {
        /// What the host lets be done.
        Policy = "policy",
        /// What it has and runs.
        Profile = "profile",
        /// What a database server goes by.
        Database = "database",
    }
}

/// What the name begins with under which the original of a file is kept, where its owner says so: with its secrets, for
/// whoever says why they read it.
const ORIGINAL: &str = "original:";

/// The name under which the original of a file is kept.
///
/// ```
/// use domain::configuration::document::{original, original_of};
///
/// assert_eq!(original("/etc/app.ini"), "original:/etc/app.ini");
/// assert_eq!(original_of("original:/etc/app.ini"), Some("/etc/app.ini"));
/// assert_eq!(original_of("/etc/app.ini"), None);
/// ```
pub fn original(path: &str) -> String {
    format!("{ORIGINAL}{path}")
}

/// The file of which something that has such a name is the original.
pub fn original_of(name: &str) -> Option<&str> {
    name.strip_prefix(ORIGINAL)
}

/// What the document with a name tells of; `None` where the name is a file's, or a device's own.
pub fn aspect(name: &str) -> Option<Aspect> {
    name.split_once(':')?.0.parse().ok()
}

/// Which documents are made of a host, as its owner says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentRules {
    /// Only these; all where none are given.
    pub watch: Vec<DocumentPattern>,
    /// Never these: nothing is said of them.
    pub ignore: Vec<DocumentPattern>,
    /// Where services of this host speak TLS: they are asked what they offer, nobody else is.
    pub tls: Vec<SocketAddr>,
}

impl DocumentRules {
    /// Whether a document is made.
    pub fn wants(&self, name: &str) -> bool {
        let is_in = |patterns: &[DocumentPattern]| patterns.iter().any(|it| it.has(name));
        (self.watch.is_empty() || is_in(&self.watch)) && !is_in(&self.ignore)
    }

    /// Whether one may be made whose name begins so.
    pub fn reaches(&self, beginning: &str) -> bool {
        let is_all = |it: &DocumentPattern| {
            it.0.strip_suffix('*').is_some_and(|it| !it.contains('*') && beginning.starts_with(it))
        };
        (self.watch.is_empty() || self.watch.iter().any(|it| it.reaches(beginning)))
            && !self.ignore.iter().any(is_all)
    }
}

/// Names of documents; `*` stands for any letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DocumentPattern(String);

impl DocumentPattern {
    /// Whether it stands for a name.
    pub fn has(&self, name: &str) -> bool {
        crate::order::matches(&self.0, name)
    }

    fn reaches(&self, beginning: &str) -> bool {
        let fixed = self.0.split('*').next().unwrap_or_default();
        let is_open = fixed.len() < self.0.len();
        fixed.starts_with(beginning) || (is_open && beginning.starts_with(fixed))
    }
}

/// One that stands for nothing is an error: what was meant to stay on the host must not leave it by a slip.
impl TryFrom<String> for DocumentPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" || (aspect(&text).is_some() && !text.ends_with(':')) {
            return Ok(Self(text));
        }
        let known: Vec<_> = Aspect::ALL.iter().map(|it| format!("`{it}:…`")).collect();
        Err(format!("`{text}` is no pattern of documents; they begin with {}", known.join(", ")))
    }
}

impl From<DocumentPattern> for String {
    fn from(pattern: DocumentPattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(watch: &[&str], ignore: &[&str]) -> DocumentRules {
        let patterns = |texts: &[&str]| {
            texts.iter().map(|it| DocumentPattern::try_from((*it).to_owned()).unwrap()).collect()
        };
        DocumentRules { watch: patterns(watch), ignore: patterns(ignore), tls: Vec::new() }
    }

    #[test]
    fn all_are_made_unless_the_owner_says_otherwise() {
        assert!(rules(&[], &[]).wants("policy:sshd"));
        assert!(!rules(&[], &["policy:*"]).wants("policy:sshd"));
        assert!(!rules(&["database:*"], &[]).wants("policy:sshd"));
        let some = rules(&["database:*"], &["database:*/roles"]);
        assert!(some.wants("database:postgresql/15-main/hba"));
        assert!(!some.wants("database:postgresql/15-main/roles"));
    }

    #[test]
    fn what_cannot_be_wanted_is_not_looked_for() {
        for (watch, ignore, beginning, is) in [
            (&[][..], &[][..], "database:postgresql/", true),
            (&["policy:*"], &[], "database:postgresql/", false),
            (&["database:postgresql/15-main/hba"], &[], "database:postgresql/", true),
            (&["database:*/hba"], &[], "database:postgresql/", true),
            (&["*"], &["database:*"], "database:postgresql/", false),
            (&["*"], &["database:*/hba"], "database:postgresql/", true),
            (&["policy:sshd"], &[], "policy:sshd", true),
            (&["policy:ss"], &[], "policy:sshd", false),
        ] {
            assert_eq!(rules(watch, ignore).reaches(beginning), is, "{watch:?} {ignore:?}");
        }
    }

    #[test]
    fn a_slip_is_an_error() {
        for slip in ["", "sshd", "polcy:sshd", "policy:", "/etc/**", "policy"] {
            assert!(DocumentPattern::try_from(slip.to_owned()).is_err(), "{slip}");
        }
    }
}
