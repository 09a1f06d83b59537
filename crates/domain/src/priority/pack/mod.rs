//! Policy packs: decision tables and rules as data, checked when they are loaded.

mod error;
mod written;

pub use error::PackError;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use self::written::Written;
use super::resolve::NAMES;
use super::{Due, Priority};

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
