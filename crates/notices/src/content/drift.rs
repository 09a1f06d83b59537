//! A notice of drift: files that were altered without anybody's agreement, or without explanation, for the owner
//! of the items.
//!
//! It tells of break-glass too, under which files are altered without being asked: that it was opened, by whom and for
//! which files, and that nobody has reviewed it in time.
//!
//! It says what happened to which file, and never what stands in it: contents and differences stay where whoever
//! reads them is known.

use std::cmp::Reverse;
use std::sync::Arc;

use domain::cloud::{BreakGlassId, CiId, DriftId, Name, NoticeId, TenantId, words};
use domain::configuration::verdict::{Confidence, Standing};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document;
use super::draft::{Contact, Tenant};
use super::link::LinkBase;
use super::notice::InvalidNotice;
use super::text::{FileName, Line};

/// Most drifts that one notice names; it counts the others.
pub const MOST_DRIFTS: usize = 200;

/// Most break-glass that one notice tells of.
pub const MOST_BREAK_GLASS: usize = 200;

/// Stands in the JSON of each notice of drift.
pub const DRIFT_SCHEMA: &str = "patchwright.drift/1";

/// A notice of drift that was looked over: all of it that an owner is told at once.
///
/// As JSON it is a document that names its schema, `patchwright.drift/1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftNotice(Arc<DriftDraft>);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftDraft {
    /// Its id, by which a second delivery of the same is recognised.
    pub id: NoticeId,
    /// Who is told: a tenant, or the provider's own people.
    pub tenant: Tenant,
    /// When it was made.
    pub published_at: Timestamp,
    /// How many drifts there are, those that are not named included.
    pub counts: DriftCounts,
    /// The most urgent of them, these first.
    pub drifts: Vec<OpenDrift>,
    /// Break-glass that was opened, or that nobody has reviewed in time, these first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub break_glass: Vec<OpenBreakGlass>,
    /// Who answers questions.
    pub contact: Contact,
    /// Where links lead.
    pub link_base: LinkBase,
}

/// How many drifts reached which step, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftCounts {
    /// Nobody settled them in time.
    pub escalated: u64,
    /// They are new.
    pub opened: u64,
    /// On how many items.
    pub items: u64,
}

words! {
    /// Of what of a drift its owner is told, the least first.
    DriftStep {
        /// It was opened.
        Opened = "opened",
        /// Nobody settled it in time.
        Escalated = "escalated",
    }
}

words! {
    /// What happened to a file.
    Happening {
        /// It is there, and was not.
        Came = "came",
        /// It is another one than before.
        Altered = "altered",
        /// It is not there any more.
        Gone = "gone",
    }
}

/// A file that is not as it was agreed to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenDrift {
    /// By which it is adopted or put back.
    pub id: DriftId,
    /// On which item.
    pub ci: CiId,
    /// What the item is called.
    pub ci_name: Name,
    /// Whose item it is.
    pub of: TenantId,
    /// What that tenant is called.
    pub of_name: Name,
    /// Which file.
    pub path: FileName,
    /// Of what its owner is told.
    pub step: DriftStep,
    /// What happened to the file the last time.
    pub what: Happening,
    /// What that is held to be.
    pub verdict: Standing,
    /// How sure that is.
    pub confidence: Confidence,
    /// By whom it was, as the host tells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<Line>,
    /// When it happened the last time.
    pub happened_at: Timestamp,
    /// Since when it is open: when it happened first.
    pub opened_at: Timestamp,
    /// How often it happened, the first time included.
    pub alterations: u32,
}

/// Leave to alter files first and to explain it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenBreakGlass {
    /// By which it is closed and reviewed.
    pub id: BreakGlassId,
    /// What the item or the group is called whose files may be altered.
    pub on: Line,
    /// Whose it is.
    pub of: TenantId,
    /// What that tenant is called.
    pub of_name: Name,
    /// Of what its owner is told.
    pub step: DriftStep,
    /// What it is called where people keep track of it.
    pub ticket: Line,
    /// Why it was opened.
    pub reason: Line,
    /// Who opened it.
    pub opened_by: Line,
    /// When.
    pub opened_at: Timestamp,
    /// Until before when files may be altered under it.
    pub until: Timestamp,
    /// Before when somebody else has to review it.
    pub review_by: Timestamp,
    /// Which files, as patterns.
    pub patterns: Vec<FileName>,
    /// How many files were altered under it.
    pub altered: u64,
}

impl DriftCounts {
    /// All drifts.
    pub const fn total(self) -> u64 {
        self.escalated.saturating_add(self.opened)
    }
}

impl OpenDrift {
    /// Sorts what must be seen first first: what nobody settled in time, what nobody agreed to, what is
    /// surest, what is open longest.
    fn urgency(&self) -> impl Ord + use<> {
        let rank = match self.verdict {
            Standing::Unauthorised => 0,
            Standing::Unknown => 1,
            Standing::Vendor | Standing::Authorised => 2,
        };
        (Reverse(self.step), rank, Reverse(self.confidence), self.opened_at, self.id)
    }
}

impl DriftNotice {
    /// A draft that holds to the rules; its drifts are brought into their order.
    ///
    /// # Errors
    /// If it names no drift and no break-glass, or more than [`MOST_DRIFTS`] or [`MOST_BREAK_GLASS`].
    pub fn new(mut draft: DriftDraft) -> Result<Self, InvalidNotice> {
        let count = draft.drifts.len();
        if count == 0 && draft.break_glass.is_empty() {
            return Err(InvalidNotice::NoDrifts);
        }
        if draft.break_glass.len() > MOST_BREAK_GLASS {
            let count = draft.break_glass.len();
            return Err(InvalidNotice::TooMany {
                what: "break-glass",
                count,
                most: MOST_BREAK_GLASS,
            });
        }
        if count > MOST_DRIFTS {
            return Err(InvalidNotice::TooMany { what: "drifts", count, most: MOST_DRIFTS });
        }
        draft.drifts.sort_by_cached_key(OpenDrift::urgency);
        draft.break_glass.sort_by_key(|it| (Reverse(it.step), it.opened_at, it.id));
        Ok(Self(Arc::new(draft)))
    }

    /// The notice that was kept as this JSON.
    ///
    /// # Errors
    /// If it is none, or breaks a rule.
    pub fn parse(json: &str) -> Result<Self, InvalidNotice> {
        Self::new(document::read(json, DRIFT_SCHEMA)?)
    }

    /// The JSON to keep.
    ///
    /// # Errors
    /// Never for what was looked over.
    pub fn to_json(&self) -> Result<String, InvalidNotice> {
        document::write(&*self.0, DRIFT_SCHEMA)
    }

    /// What it says.
    pub fn draft(&self) -> &DriftDraft {
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

    /// The page on which one of its drifts is settled.
    pub fn link_of(&self, drift: &OpenDrift) -> String {
        self.0.link_base.to(&["drifts", &drift.id.to_string()])
    }

    /// The page on which one of its break-glass is closed and reviewed.
    pub fn link_of_break_glass(&self, it: &OpenBreakGlass) -> String {
        self.0.link_base.to(&["break-glass", &it.id.to_string()])
    }

    /// The page of the file of one of its drifts.
    pub fn file_of(&self, drift: &OpenDrift) -> String {
        self.0.link_base.to_file(&["cis", &drift.ci.to_string(), "file"], &drift.path)
    }
}
