//! The decision itself: steps in order, then the table, then the floors.

use super::facts::InputProvenance;
use super::pack::{OutcomeIndex, Pack, Step, Table, Test};
use super::resolve::Inputs;
use super::{Decision, PolicyRef, Priority};

/// The outcome's name where nothing could be scored.
const UNSCORED: &str = "unscored";

/// What steps and table say before floors.
struct Finding {
    /// `None` where nothing known demands any outcome.
    outcome: Option<OutcomeIndex>,
    reason: String,
    unscored: bool,
}

/// Decides by a pack over resolved inputs.
pub(super) fn decide(pack: &Pack, inputs: Inputs) -> Decision {
    let by_step = pack.steps.iter().find_map(|step| apply(step, &inputs));
    let by_table = || pack.table.as_ref().map(|table| look_up(pack, table, &inputs));
    let mut finding = by_step.or_else(by_table).unwrap_or_else(|| Finding {
        outcome: None,
        reason: pack.unscored_reason.clone(),
        unscored: true,
    });
    for floor in &pack.floors {
        let applies = inputs.get(&floor.input).is_some_and(|input| input.value == floor.is);
        if applies && finding.outcome.is_none_or(|outcome| outcome > floor.outcome) {
            finding.outcome = Some(floor.outcome);
            finding.reason.clone_from(&floor.reason);
        }
    }

    // Unscored is medium or more, never low.
    let outcome = finding
        .outcome
        .map(|index| &pack.outcomes[index])
        .filter(|outcome| !finding.unscored || outcome.priority >= Priority::Medium);
    Decision {
        priority: outcome.map_or(Priority::Medium, |outcome| outcome.priority),
        outcome: outcome.map_or_else(|| UNSCORED.to_owned(), |outcome| outcome.name.clone()),
        due: outcome.and_then(|outcome| outcome.due),
        unscored: finding.unscored,
        policy: PolicyRef { name: pack.name.clone(), version: pack.version.clone() },
        inputs,
        reason: finding.reason,
        decided_by: None,
    }
}

fn apply(step: &Step, inputs: &Inputs) -> Option<Finding> {
    let input = inputs.get(&step.input)?;
    let (outcome, value) = match &step.test {
        Test::Words(words) => input
            .value
            .split(", ")
            .filter_map(|word| Some((*words.get(word)?, word)))
            .min_by_key(|(outcome, _)| *outcome)?,
        Test::AtLeast(bands) => {
            let number: f64 = input.value.parse().ok()?;
            let (_, outcome) = bands.iter().find(|(least, _)| number >= *least)?;
            (*outcome, input.value.as_str())
        }
    };
    let reason = step.reason.replace("{value}", value);
    Some(Finding { outcome: Some(outcome), reason, unscored: false })
}

/// Looks a case up. Where an input is missing, the least urgent of the outcomes still possible
/// is certain, and the finding is unscored.
fn look_up(pack: &Pack, table: &Table, inputs: &Inputs) -> Finding {
    let known: Vec<Option<usize>> = table
        .columns
        .iter()
        .map(|column| {
            let value = &inputs.get(&column.input)?.value;
            column.values.iter().position(|one| one == value)
        })
        .collect();
    let outcome = table.possible(&known).last().copied();
    let unscored = known.contains(&None);
    let mut phrases = phrases(table, inputs);
    if unscored {
        phrases.push(pack.unscored_reason.clone());
    } else if phrases.is_empty() {
        phrases.extend(outcome.map(|index| pack.outcomes[index].name.clone()));
    }
    Finding { outcome, reason: phrases.join(", "), unscored }
}

fn phrases(table: &Table, inputs: &Inputs) -> Vec<String> {
    table
        .columns
        .iter()
        .filter_map(|column| {
            let input = inputs.get(&column.input)?;
            let phrase = column.say.get(&input.value)?;
            Some(match input.provenance {
                InputProvenance::Assumed => format!("{phrase} (assumed)"),
                _ => phrase.clone(),
            })
        })
        .collect()
}
