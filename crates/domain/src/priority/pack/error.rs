//! Why a policy pack is refused.

use crate::priority::resolve::NAMES;

/// Why a policy pack was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// It is no TOML, or not of the form of a pack.
    #[error("the policy pack cannot be read: {0}")]
    Syntax(String),
    /// It uses an input that does not exist.
    #[error("policy `{policy}` uses an input `{input}`, which nobody provides")]
    UnknownInput {
        /// Name of the pack.
        policy: String,
        /// The input.
        input: String,
    },
    /// It names an outcome that it does not define.
    #[error("policy `{policy}` names an outcome `{outcome}`, which it does not define")]
    UnknownOutcome {
        /// Name of the pack.
        policy: String,
        /// The outcome.
        outcome: String,
    },
    /// Two outcomes have one name, or a more urgent one follows a less urgent one.
    #[error("outcome `{outcome}` of policy `{policy}` stands twice or in the wrong place")]
    OutcomeOrder {
        /// Name of the pack.
        policy: String,
        /// The outcome.
        outcome: String,
    },
    /// A row of the table is not of the form `value, value -> outcome`, or names a value that
    /// its column does not have.
    #[error("row `{row}` of policy `{policy}` does not fit its columns: {reason}")]
    Row {
        /// Name of the pack.
        policy: String,
        /// The row as written.
        row: String,
        /// What does not fit.
        reason: String,
    },
    /// No row decides this case.
    #[error("policy `{policy}` does not decide the case `{case}`")]
    Gap {
        /// Name of the pack.
        policy: String,
        /// The case.
        case: String,
    },
    /// Two rows decide one case.
    #[error("row `{row}` of policy `{policy}` decides a case that an earlier row has decided")]
    Overlap {
        /// Name of the pack.
        policy: String,
        /// The later row.
        row: String,
    },
    /// The table distinguishes too many cases.
    #[error("the table of policy `{policy}` has more than {limit} cases")]
    TooManyCases {
        /// Name of the pack.
        policy: String,
        /// The limit.
        limit: usize,
    },
    /// An assumed or floor value is none of the values of its column, or the bands of a step do
    /// not fall.
    #[error("policy `{policy}`: {reason}")]
    Value {
        /// Name of the pack.
        policy: String,
        /// What is wrong.
        reason: String,
    },
}

impl PackError {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Syntax(_) => "compare it with a built-in pack in crates/domain/data/priority",
            Self::UnknownInput { .. } => return Some(format!("inputs are: {}", NAMES.join(", "))),
            Self::UnknownOutcome { .. } => "define it under [[outcomes]]",
            Self::OutcomeOrder { .. } => "list each outcome once, the most urgent first",
            Self::Gap { .. } => "add a row for it; `*` in a row stands for any value",
            Self::Overlap { .. } | Self::Row { .. } => "correct or remove the row",
            Self::TooManyCases { .. } => "split the table or join values",
            Self::Value { .. } => return None,
        };
        Some(help.to_owned())
    }
}
