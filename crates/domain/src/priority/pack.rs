//! Policy packs: decision tables and rules as data, checked when they are loaded.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::resolve::NAMES;
use super::{Due, Priority};

/// Most cases that a decision table may distinguish; the largest built-in one has 72.
const MAX_CASES: usize = 4096;

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

/// A checked pack.
#[derive(Debug, Clone)]
pub(super) struct Pack {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) title: String,
    pub(super) source: String,
    /// What a decision says when nothing could be scored.
    pub(super) unscored_reason: String,
    /// Most urgent first.
    pub(super) outcomes: Vec<Outcome>,
    /// Tried in order before the table.
    pub(super) steps: Vec<Step>,
    pub(super) table: Option<Table>,
    /// Lower bounds on whatever steps and table say.
    pub(super) floors: Vec<Floor>,
}

/// A possible result.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) priority: Priority,
    pub(super) due: Option<Due>,
}

/// Position in [`Pack::outcomes`]; smaller is more urgent.
pub(super) type OutcomeIndex = usize;

/// A rule over one input that decides alone where it applies.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) input: String,
    pub(super) test: Test,
    /// Phrase for people; `{value}` stands for the value that decided.
    pub(super) reason: String,
}

/// How a step looks at its input.
#[derive(Debug, Clone)]
pub(super) enum Test {
    /// The input is a list of words; the most urgent of those known decides.
    Words(BTreeMap<String, OutcomeIndex>),
    /// The input is a number; the first band that it reaches decides.
    AtLeast(Vec<(f64, OutcomeIndex)>),
}

/// A decision table that has exactly one outcome for every case.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// Outcome by case; the case's number has the columns' values as digits, the first column
    /// the most significant.
    cases: Vec<OutcomeIndex>,
}

/// An input of a decision table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) input: String,
    pub(super) values: Vec<String>,
    /// The value taken where nobody says: only for facts about the asset.
    #[serde(default)]
    pub(super) assume: Option<String>,
    /// Phrases for people, by value.
    #[serde(default)]
    pub(super) say: BTreeMap<String, String>,
}

/// A value of an input below whose outcome no decision may fall.
#[derive(Debug, Clone)]
pub(super) struct Floor {
    pub(super) input: String,
    pub(super) is: String,
    pub(super) outcome: OutcomeIndex,
    pub(super) reason: String,
}

impl Pack {
    /// Reads and checks a pack.
    pub(super) fn from_toml(text: &str) -> Result<Self, PackError> {
        let written: Written =
            toml::from_str(text).map_err(|error| PackError::Syntax(error.to_string()))?;
        let outcomes = written.outcomes()?;
        let steps = written.steps(&outcomes)?;
        let table = written.table(&outcomes)?;
        let floors = written.floors(&outcomes)?;
        let pack = Self {
            name: written.name,
            version: written.version,
            title: written.title,
            source: written.source,
            unscored_reason: written.unscored_reason,
            outcomes,
            steps,
            table,
            floors,
        };
        let unknown = pack.used_inputs().find(|input| !NAMES.contains(input)).map(str::to_owned);
        match unknown {
            Some(input) => Err(PackError::UnknownInput { policy: pack.name, input }),
            None => Ok(pack),
        }
    }

    /// Every input that the pack looks at.
    pub(super) fn used_inputs(&self) -> impl Iterator<Item = &str> {
        let columns = self.table.iter().flat_map(|table| &table.columns);
        self.steps
            .iter()
            .map(|step| step.input.as_str())
            .chain(columns.map(|column| column.input.as_str()))
            .chain(self.floors.iter().map(|floor| floor.input.as_str()))
    }

    /// The cautious value of an input that nobody gave.
    pub(super) fn assumed(&self, input: &str) -> Option<&str> {
        let columns = &self.table.as_ref()?.columns;
        columns.iter().find(|column| column.input == input)?.assume.as_deref()
    }
}

impl Table {
    /// Every outcome that agrees with the known values; one where all are known.
    pub(super) fn possible(&self, known: &[Option<usize>]) -> BTreeSet<OutcomeIndex> {
        let agrees = |case: usize| {
            let mut rest = case;
            self.columns.iter().zip(known).rev().all(|(column, known)| {
                let digit = rest % column.values.len();
                rest /= column.values.len();
                known.is_none_or(|value| value == digit)
            })
        };
        (0..self.cases.len()).filter(|&case| agrees(case)).map(|case| self.cases[case]).collect()
    }
}

/// A pack as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    title: String,
    source: String,
    unscored_reason: String,
    outcomes: Vec<WrittenOutcome>,
    #[serde(default)]
    steps: Vec<WrittenStep>,
    #[serde(default)]
    table: Option<WrittenTable>,
    #[serde(default)]
    floors: Vec<WrittenFloor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOutcome {
    name: String,
    priority: Priority,
    #[serde(default)]
    due: Option<Due>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    input: String,
    reason: String,
    #[serde(default)]
    words: BTreeMap<String, String>,
    #[serde(default)]
    at_least: Vec<(f64, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    columns: Vec<Column>,
    rows: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFloor {
    input: String,
    is: String,
    outcome: String,
    reason: String,
}

impl Written {
    fn outcomes(&self) -> Result<Vec<Outcome>, PackError> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for WrittenOutcome { name, priority, due } in &self.outcomes {
            let misplaced = outcomes
                .iter()
                .any(|earlier| earlier.name == *name || earlier.priority < *priority);
            if misplaced {
                let policy = self.name.clone();
                return Err(PackError::OutcomeOrder { policy, outcome: name.clone() });
            }
            outcomes.push(Outcome { name: name.clone(), priority: *priority, due: *due });
        }
        Ok(outcomes)
    }

    fn outcome(&self, outcomes: &[Outcome], name: &str) -> Result<OutcomeIndex, PackError> {
        outcomes.iter().position(|outcome| outcome.name == name).ok_or_else(|| {
            PackError::UnknownOutcome { policy: self.name.clone(), outcome: name.to_owned() }
        })
    }

    fn value_error(&self, reason: String) -> PackError {
        PackError::Value { policy: self.name.clone(), reason }
    }

    fn steps(&self, outcomes: &[Outcome]) -> Result<Vec<Step>, PackError> {
        self.steps.iter().map(|step| self.step(step, outcomes)).collect()
    }

    fn step(&self, step: &WrittenStep, outcomes: &[Outcome]) -> Result<Step, PackError> {
        let test = if step.at_least.is_empty() {
            let mut words = BTreeMap::new();
            for (word, outcome) in &step.words {
                words.insert(word.clone(), self.outcome(outcomes, outcome)?);
            }
            Test::Words(words)
        } else {
            let falling = step.at_least.is_sorted_by(|(a, _), (b, _)| a > b);
            if !falling || !step.words.is_empty() {
                return Err(self.value_error(format!(
                    "the step over `{}` needs either words or bands that fall",
                    step.input
                )));
            }
            let mut bands = Vec::new();
            for (least, outcome) in &step.at_least {
                bands.push((*least, self.outcome(outcomes, outcome)?));
            }
            Test::AtLeast(bands)
        };
        Ok(Step { input: step.input.clone(), test, reason: step.reason.clone() })
    }

    fn floors(&self, outcomes: &[Outcome]) -> Result<Vec<Floor>, PackError> {
        self.floors
            .iter()
            .map(|floor| {
                Ok(Floor {
                    input: floor.input.clone(),
                    is: floor.is.clone(),
                    outcome: self.outcome(outcomes, &floor.outcome)?,
                    reason: floor.reason.clone(),
                })
            })
            .collect()
    }

    fn table(&self, outcomes: &[Outcome]) -> Result<Option<Table>, PackError> {
        let Some(WrittenTable { columns, rows }) = &self.table else { return Ok(None) };
        for column in columns {
            let values: BTreeSet<&String> = column.values.iter().collect();
            let strange =
                column.assume.iter().chain(column.say.keys()).find(|v| !values.contains(v));
            if let Some(value) = strange {
                let reason = format!("`{value}` is no value of `{}`", column.input);
                return Err(self.value_error(reason));
            }
            if values.is_empty() || values.len() != column.values.len() {
                let reason = format!("the values of `{}` are missing or repeated", column.input);
                return Err(self.value_error(reason));
            }
        }
        let count = columns
            .iter()
            .try_fold(1_usize, |count, column| count.checked_mul(column.values.len()))
            .filter(|&count| count <= MAX_CASES)
            .ok_or_else(|| PackError::TooManyCases {
                policy: self.name.clone(),
                limit: MAX_CASES,
            })?;

        let mut cases: Vec<Option<OutcomeIndex>> = vec![None; count];
        for row in rows {
            let (pattern, outcome) = self.row(row, columns)?;
            let outcome = self.outcome(outcomes, outcome)?;
            for case in matching_cases(&pattern, columns) {
                if cases[case].replace(outcome).is_some() {
                    let policy = self.name.clone();
                    return Err(PackError::Overlap { policy, row: row.clone() });
                }
            }
        }
        if let Some(case) = cases.iter().position(Option::is_none) {
            let (policy, case) = (self.name.clone(), case_in_words(case, columns));
            return Err(PackError::Gap { policy, case });
        }
        Ok(Some(Table { columns: columns.clone(), cases: cases.into_iter().flatten().collect() }))
    }

    /// `value, *, value -> outcome`.
    fn row<'a>(
        &self,
        row: &'a str,
        columns: &[Column],
    ) -> Result<(Vec<Option<usize>>, &'a str), PackError> {
        let refused = |reason: String| PackError::Row {
            policy: self.name.clone(),
            row: row.to_owned(),
            reason,
        };
        let (values, outcome) =
            row.split_once("->").ok_or_else(|| refused("`->` is missing".to_owned()))?;
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        if values.len() != columns.len() {
            return Err(refused(format!("{} values for {}", values.len(), columns.len())));
        }
        let pattern = values
            .iter()
            .zip(columns)
            .map(|(value, column)| {
                if *value == "*" {
                    return Ok(None);
                }
                let position = column.values.iter().position(|one| one == value);
                let unknown = || refused(format!("`{value}` is no value of `{}`", column.input));
                position.map(Some).ok_or_else(unknown)
            })
            .collect::<Result<_, _>>()?;
        Ok((pattern, outcome.trim()))
    }
}

fn matching_cases(pattern: &[Option<usize>], columns: &[Column]) -> Vec<usize> {
    pattern.iter().zip(columns).fold(vec![0], |cases, (wanted, column)| {
        let radix = column.values.len();
        let digits = match *wanted {
            Some(digit) => digit..digit + 1,
            None => 0..radix,
        };
        cases
            .iter()
            .flat_map(|case| digits.clone().map(move |digit| case * radix + digit))
            .collect()
    })
}

fn case_in_words(case: usize, columns: &[Column]) -> String {
    let mut rest = case;
    let mut words: Vec<&str> = Vec::new();
    for column in columns.iter().rev() {
        words.push(&column.values[rest % column.values.len()]);
        rest /= column.values.len();
    }
    words.reverse();
    words.join(", ")
}
