//! A notice of clocks: what of the SLA is late or about to be, for the side that holds the ball.

use std::sync::Arc;

use domain::cloud::{ChangeId, Name, NoticeId, TenantId, words};
use domain::priority::Priority;
use domain::sla::{Party, Stage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document;
use super::draft::{Contact, Tenant};
use super::link::LinkBase;
use super::notice::InvalidNotice;
use super::text::Line;

/// Most clocks that one notice names; it counts the others.
pub const MOST_CLOCKS: usize = 1_000;

/// Stands in the JSON of each notice of clocks.
pub const CLOCKS_SCHEMA: &str = "patchwright.clocks/1";

/// A notice of clocks that was looked over: all steps of escalation of one night, of which a side is
/// told at once.
///
/// As JSON it is a document that names its schema, `patchwright.clocks/1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockNotice(Arc<ClockDraft>);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockDraft {
    /// Its id, by which a second delivery of the same is recognised.
    pub id: NoticeId,
    /// Who is told: a tenant, or the provider's own people.
    pub tenant: Tenant,
    /// When it was made.
    pub published_at: Timestamp,
    /// How many clocks reached a step, those that are not named included.
    pub counts: ClockCounts,
    /// The most urgent of them, these first.
    pub clocks: Vec<LateClock>,
    /// Who answers questions.
    pub contact: Contact,
    /// Where links lead.
    pub link_base: LinkBase,
}

/// How many clocks reached which step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockCounts {
    /// A due date passed.
    pub breached: u64,
    /// A stage took longer than agreed.
    pub overdue: u64,
    /// A share of the time is used.
    pub warned: u64,
}

words! {
    /// How late a clock is, the least first.
    Lateness {
        /// In time, and a share of it is used.
        Warned = "warned",
        /// A stage took longer than agreed; the due dates can still be kept.
        Overdue = "overdue",
        /// A due date passed.
        Breached = "breached",
    }
}

/// A clock that reached a step of escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateClock {
    /// Of which change.
    pub change: ChangeId,
    /// What the change is called.
    pub title: Line,
    /// Whose systems it concerns.
    pub of: TenantId,
    /// What that tenant is called.
    pub of_name: Name,
    /// How urgent it is.
    pub priority: Priority,
    /// How late it is.
    pub lateness: Lateness,
    /// The share of the time that is used, in percent, where it only warns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub share: Option<u8>,
    /// The first instant that was too late; `None` where it only warns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub late_since: Option<Timestamp>,
    /// What it waits for; `None` where it is settled meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stage: Option<Stage>,
    /// Who holds the ball; `None` where it is settled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub holder: Option<Party>,
    /// Since when; of what is settled, when it was.
    pub held_since: Timestamp,
    /// The first instant that is too late for what it waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stage_deadline: Option<Timestamp>,
    /// By when the SLA wants it done and verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<Timestamp>,
}

impl ClockCounts {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.breached.saturating_add(self.overdue).saturating_add(self.warned)
    }
}

impl ClockNotice {
    /// A draft that holds to the rules; its clocks are brought into their order: the latest first, of
    /// these the most urgent, of these the one due first.
    ///
    /// # Errors
    /// If it names no clock, or more than [`MOST_CLOCKS`].
    pub fn new(mut draft: ClockDraft) -> Result<Self, InvalidNotice> {
        let count = draft.clocks.len();
        if count == 0 {
            return Err(InvalidNotice::NoClocks);
        }
        if count > MOST_CLOCKS {
            return Err(InvalidNotice::TooMany { what: "clocks", count, most: MOST_CLOCKS });
        }
        draft.clocks.sort_by(|a, b| {
            let rank = |it: &LateClock| (it.lateness, it.priority);
            let due = |it: &LateClock| it.due.unwrap_or(Timestamp::MAX);
            rank(b)
                .cmp(&rank(a))
                .then(due(a).cmp(&due(b)))
                .then((a.change, a.of).cmp(&(b.change, b.of)))
        });
        Ok(Self(Arc::new(draft)))
    }

    /// The notice that was kept as this JSON.
    ///
    /// # Errors
    /// If it is none, or breaks a rule.
    pub fn parse(json: &str) -> Result<Self, InvalidNotice> {
        Self::new(document::read(json, CLOCKS_SCHEMA)?)
    }

    /// The JSON to keep.
    ///
    /// # Errors
    /// Never for what was looked over.
    pub fn to_json(&self) -> Result<String, InvalidNotice> {
        document::write(&*self.0, CLOCKS_SCHEMA)
    }

    /// What it says.
    pub fn draft(&self) -> &ClockDraft {
        &self.0
    }

    /// Its id.
    pub fn id(&self) -> NoticeId {
        self.0.id
    }

    /// The page of the control plane that shows it.
    pub fn link(&self) -> String {
        self.0.link_base.to(&["notices", &self.0.id.to_string()])
    }

    /// The page of one of its clocks.
    pub fn link_of(&self, clock: &LateClock) -> String {
        let (change, of) = (clock.change.to_string(), clock.of.to_string());
        self.0.link_base.to(&["obligations", &change, &of])
    }
}
