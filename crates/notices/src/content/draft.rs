//! What a notice says, before it was looked over.

use domain::change::{Kind as Category, PlanHash, Reason};
use domain::cloud::{ChangeId, CiId, Name, NoticeId, TenantId, words};
use domain::priority::Priority;
use domain::proof::Impact;
use domain::sla::Zone;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::link::LinkBase;
use super::news::News;
use super::text::{AdvisoryName, Line, Text};

/// What a notice says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Its id, by which a second delivery of the same is recognised.
    pub id: NoticeId,
    /// Who is told.
    pub tenant: Tenant,
    /// Of which change.
    pub change: ChangeId,
    /// The plan, where there is one; what a consent binds to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<PlanHash>,
    /// Rises with each notice of the same change to the same tenant.
    pub sequence: u32,
    /// When it was made.
    pub published_at: Timestamp,
    /// What is told.
    pub news: News,
    /// Patch or alteration.
    pub category: Category,
    /// How urgent it is.
    pub priority: Priority,
    /// The change in one line.
    pub title: Line,
    /// What it does, for those who run the systems.
    pub description: Text,
    /// What it fixes.
    pub advisories: Vec<AdvisoryName>,
    /// What will be noticed, as it was measured on a copy; `None` if it was not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub impact: Option<Impact>,
    /// By when the SLA wants it done and verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<Timestamp>,
    /// The tenant's affected items, by name.
    pub items: Vec<Item>,
    /// How they become what they were.
    pub rollback: Vec<WayBack>,
    /// Who answers questions.
    pub contact: Contact,
    /// Where links lead.
    pub link_base: LinkBase,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: Name,
    /// The zone in which it reads times.
    pub zone: Zone,
}

/// An affected item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Which.
    pub ci: CiId,
    /// Its name.
    pub name: Name,
    /// How it stands.
    pub state: ItemState,
}

words! {
    /// How the change stands on one item.
    ItemState {
        /// It is still to be done.
        Pending = "pending",
        /// It is done.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// It was left out.
        Skipped = "skipped",
        /// The tenant bears the risk instead.
        Accepted = "accepted",
    }
}

/// How some items become what they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WayBack {
    /// How many items.
    pub items: u32,
    /// How.
    pub by: Rollback,
}

/// How an item becomes what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rollback {
    /// The packages that were replaced are installed again.
    Packages,
    /// The files get their content from before.
    Files,
    /// The machine goes back to a snapshot.
    Snapshot,
    /// It does not.
    Impossible {
        /// Why.
        reason: Reason,
    },
}

/// Who answers questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Who: `Operations desk`.
    pub name: Line,
    /// How to reach them: a mail address, a number.
    pub at: Line,
}
