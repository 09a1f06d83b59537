//! Why a policy is refused: which key, where it stands, what to do.

use std::fmt;

use super::lint::{Leg, WorstPath};
use super::read;
use crate::priority::Priority;

/// Where a key stands in a text; lines and columns count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// The suffix that says where.
struct At<'a>(&'a Option<Place>);

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |place| write!(formatter, " ({place})"))
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is no TOML.
    #[error("the policy is no TOML{}: {reason}", At(.place))]
    Syntax {
        /// Where.
        place: Option<Place>,
        /// What the reader says.
        reason: String,
    },
    /// A key is missing, unknown, or its value is none.
    #[error("`{key}`{}: {reason}", At(.place))]
    Key {
        /// The key's path (`high.notice.lead`).
        key: String,
        /// Where it stands, or the table that lacks it.
        place: Option<Place>,
        /// What is wrong.
        reason: String,
    },
    /// The document is of a form that this version does not read.
    #[error("the document is of the form `{schema}`, and `{known}` is read here")]
    Schema {
        /// Its form.
        schema: String,
        /// The one that is read.
        known: &'static str,
    },
    /// What was negotiated has no version of its own.
    #[error("`version` is missing: what was negotiated is a version of its own")]
    NoVersion,
    /// No built-in policy has this name.
    #[error("there is no SLA policy `{name}`")]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// No regulation has this name.
    #[error("there is no regulation `{name}`")]
    UnknownRegulation {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The policy cannot be kept even if everyone keeps all its waits.
    #[error(
        "`{key}`{}: the worst path takes {}, longer than the deadline of {}; it is passed while \
         waiting for: {}", At(.place), .path.total_text(), .path.deadline_text(), .step
    )]
    TooLong {
        /// The key of the wait in which the deadline passes.
        key: String,
        /// Where it stands.
        place: Option<Place>,
        /// The priority.
        priority: Priority,
        /// The wait in which the deadline passes.
        step: Leg,
        /// All waits.
        path: Box<WorstPath>,
    },
}

impl PolicyError {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Syntax { .. } => "compare it with docs/sla.md".to_owned(),
            Self::Key { .. } => "docs/sla.md has every key and what it may be".to_owned(),
            Self::Schema { known, .. } => format!("write `schema = \"{known}\"`"),
            Self::NoVersion => "write one, such as `version = \"2\"`".to_owned(),
            Self::UnknownPolicy { known, .. } | Self::UnknownRegulation { known, .. } => {
                format!("choose one of: {}", known.join(", "))
            }
            Self::TooLong { path, .. } => {
                format!("shorten a wait or raise the deadline: {}", path.sum_text())
            }
        })
    }

    /// The same with the place of its key in the text.
    pub(super) fn located(mut self, text: &str) -> Self {
        if let Self::Key { key, place, .. } | Self::TooLong { key, place, .. } = &mut self {
            *place = read::locate(text, key);
        }
        self
    }
}
