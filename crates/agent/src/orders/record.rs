//! The agent's own record of orders: what came, and what came of it. It lies on the host, and no control
//! plane can alter it.

use std::io;

use domain::change::{Nonce, PlanHash};
use domain::cloud::words;
use domain::order::{Ended, ExecutionId, OrderResult, Refusal};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::State;

/// Its file in the agent's state.
const FILE: &str = "orders.log";

/// Lines kept of orders that were refused, and as many of others: whoever sends orders that are refused
/// pushes none out of the record that was carried out.
const KEPT_OF_EACH: usize = 500;
/// Lines beyond those, until they are cut.
const SURPLUS: usize = 100;
/// Longest text of an entry, in characters: what is refused may be any length.
const LONGEST_TEXT: usize = 2000;
/// Most packages that an entry names.
const MOST_PACKAGES: usize = 200;
/// Most files that an entry names.
const MOST_FILES: usize = 200;

words! {
    /// What came of an order.
    Came {
        /// Nothing was altered.
        Refused = "refused",
        /// All of it was done.
        Done = "done",
        /// The host is what it was before.
        RolledBack = "rolled_back",
        /// Somebody has to look at the host.
        Stuck = "stuck",
    }
}

/// One order in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was answered, by this host's clock.
    pub at: Timestamp,
    /// The order's nonce; of one that was refused at once, as the control plane calls it.
    pub order: Nonce,
    /// What came of it.
    pub came: Came,
    /// Which execution, where it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// By which plan, where it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanHash>,
    /// The refusal's name, as in the result that is sent: `consent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The way out, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// What is installed by it: name and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Files that were written by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl Entry {
    /// An order that was refused.
    pub(crate) fn refused(order: Nonce, refusal: &Refusal, at: Timestamp) -> Self {
        Self {
            at,
            order,
            came: Came::Refused,
            execution: None,
            plan: None,
            refused: name(refusal),
            because: Some(short(&refusal.to_string())),
            help: Some(refusal.help().to_owned()),
            packages: Vec::new(),
            files: Vec::new(),
        }
    }

    /// One that is over.
    pub(crate) fn ended(result: &OrderResult) -> Self {
        let packages = result.packages.iter().take(MOST_PACKAGES);
        let entry = Self {
            at: result.ended_at,
            order: result.order,
            came: Came::Done,
            execution: Some(result.execution),
            plan: Some(result.plan),
            refused: None,
            because: None,
            help: None,
            packages: packages.map(|it| format!("{} {}", it.name, it.version)).collect(),
            files: result.files.iter().take(MOST_FILES).map(|it| it.path.clone()).collect(),
        };
        match &result.ended {
            Ended::Done => entry,
            Ended::Refused { refusal } => {
                let Self { came, refused, because, help, .. } =
                    Self::refused(result.order, refusal, result.ended_at);
                Self { came, refused, because, help, ..entry }
            }
            Ended::RolledBack { because } => {
                let because = Some(short(because));
                let help = Some("mend what is told, and order it by a new plan".to_owned());
                Self { came: Came::RolledBack, because, help, ..entry }
            }
            Ended::Stuck { because } => {
                let (because, kept) = (Some(short(because)), result.execution);
                let help = Some(format!(
                    "look at the host; journal and way back lie in `orders/stuck-{kept}` of the agent's state"
                ));
                Self { came: Came::Stuck, because, help, ..entry }
            }
        }
    }

    /// Whether it says what another one says: an execution is told once, and so is an order that is shown
    /// again and refused for the same reason.
    fn repeats(&self, other: &Self) -> bool {
        self.order == other.order
            && self.came == other.came
            && self.execution == other.execution
            && self.refused == other.refused
    }
}

impl State {
    /// The record of orders, the oldest first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn record(&self) -> io::Result<Vec<Entry>> {
        self.lines(FILE)
    }

    /// Puts an order into the record, unless it stands there already; it is durable afterwards.
    pub(crate) fn enter(&self, entry: &Entry) -> io::Result<()> {
        let mut entries = self.record()?;
        let same_order = entries.iter().rev().find(|it| it.order == entry.order);
        if same_order.is_some_and(|known| entry.repeats(known)) {
            return Ok(());
        }
        self.append(FILE, entry)?;
        entries.push(entry.clone());
        if entries.len() > 2 * KEPT_OF_EACH + SURPLUS {
            self.replace(FILE, &newest(entries))
        } else {
            Ok(())
        }
    }
}

/// The newest of each kind, in their order.
fn newest(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut refused, mut others) = (0, 0);
    let mut kept: Vec<_> = entries
        .into_iter()
        .rev()
        .filter(|entry| {
            // One that was accepted needed a signature, also where it was refused later.
            let is_cheap = entry.came == Came::Refused && entry.execution.is_none();
            let count = if is_cheap { &mut refused } else { &mut others };
            *count += 1;
            *count <= KEPT_OF_EACH
        })
        .collect();
    kept.reverse();
    kept
}

/// What a refusal is called where it travels.
fn name(refusal: &Refusal) -> Option<String> {
    let json = serde_json::to_value(refusal).ok()?;
    json["refused"].as_str().map(str::to_owned)
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use domain::order::Forbidden;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn refused(order: u16, refusal: &Refusal, second: i64) -> Entry {
        let mut nonce = [0; 16];
        nonce[..2].copy_from_slice(&order.to_le_bytes());
        Entry::refused(nonce.into(), refusal, at(second))
    }

    fn late() -> Refusal {
        Refusal::Late { closed: at(0), now: at(1) }
    }

    #[test]
    fn each_order_has_a_line_that_says_what_why_and_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        assert_eq!(state.record().unwrap(), []);

        state.enter(&refused(1, &late(), 10)).unwrap();
        let forbidden = Refusal::Forbidden(Forbidden::Reboot);
        state.enter(&refused(1, &forbidden, 11)).unwrap();

        let record = state.record().unwrap();
        let names: Vec<_> = record.iter().filter_map(|it| it.refused.as_deref()).collect();
        assert_eq!(names, ["late", "forbidden"]);
        assert_eq!(record[0].because.as_deref(), Some(late().to_string().as_str()));
        assert_eq!(record[0].help.as_deref(), Some(late().help()));
        let file = state.directory().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_order_that_is_shown_again_is_recorded_once() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        let early = |now| Refusal::Early { opens: at(9), now: at(now) };
        for second in 1..5 {
            state.enter(&refused(1, &early(second), second)).unwrap();
            state.enter(&refused(2, &early(second), second)).unwrap();
        }
        state.enter(&refused(1, &late(), 20)).unwrap();

        assert_eq!(state.record().unwrap().len(), 3);
    }

    #[test]
    fn it_is_bounded_and_a_flood_of_refused_orders_pushes_no_other_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        let done = Entry { came: Came::Done, refused: None, ..refused(9999, &late(), 1) };
        state.enter(&done).unwrap();
        let entries: Vec<_> = (0..1098).map(|order| refused(order, &late(), 2)).collect();
        state.replace(FILE, &[vec![done.clone()], entries].concat()).unwrap();
        for order in 2000..2003 {
            state.enter(&refused(order, &late(), 3)).unwrap();
        }

        let record = state.record().unwrap();
        assert!(record.len() <= 1000, "{}", record.len());
        assert_eq!(record[0], done);
        assert_eq!(record.last(), Some(&refused(2002, &late(), 3)));
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        state.enter(&refused(1, &late(), 1)).unwrap();
        let file = directory.path().join(FILE);
        let mut text = std::fs::read_to_string(&file).unwrap();
        text.push_str("{\"at\":\"20");
        std::fs::write(&file, text).unwrap();
        state.enter(&refused(2, &late(), 2)).unwrap();

        assert_eq!(state.record().unwrap().len(), 2);
    }
}
