//! Packs as they are written, and the checks that make them policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Column, Floor, Outcome, OutcomeIndex, PackError, Step, Table, Test};
use crate::priority::{Due, Priority};

/// Most cases that a decision table may distinguish; the largest built-in one has 72.
const MAX_CASES: usize = 4096;

/// A pack as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) title: String,
    pub(super) source: String,
    pub(super) unscored_reason: String,
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
    pub(super) fn outcomes(&self) -> Result<Vec<Outcome>, PackError> {
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

    pub(super) fn steps(&self, outcomes: &[Outcome]) -> Result<Vec<Step>, PackError> {
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

    pub(super) fn floors(&self, outcomes: &[Outcome]) -> Result<Vec<Floor>, PackError> {
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

    pub(super) fn table(&self, outcomes: &[Outcome]) -> Result<Option<Table>, PackError> {
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
