//! Due dates: several packs bind, all are kept, the earliest wins, and none ever moves later.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::instants::Moment;
use super::terms::Path;
use crate::priority::{
    AssetFacts, CveFacts, Exposure, KevListing, PolicyRef, Priority, PriorityInputs, Sourced,
};

/// What is known of a patch and of the item that lacks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The priority that the priority policy gave it.
    pub priority: Priority,
    /// Facts about the patch.
    pub patch: PriorityInputs,
    /// Facts about the vulnerabilities that it fixes.
    pub cves: Vec<CveFacts>,
    /// Facts about the item.
    pub asset: AssetFacts,
}

impl Facts {
    /// Who states what somebody assessed for this very patch, and not the items for all.
    pub const ASSESSED: &'static str = "assessed by a person";

    /// Takes what the items say of their exposure; `None` where one of them says nothing. What a
    /// person assessed for this patch stands, unless an item says that it is open.
    pub fn expose(&mut self, said: Option<Sourced<Exposure>>) {
        let known = self.asset.exposure.as_ref();
        let is_open = said.as_ref().is_some_and(|said| said.value == Exposure::Open);
        if is_open || known.is_none_or(|known| known.by != Self::ASSESSED) {
            self.asset.exposure = said;
        }
    }

    /// Whether the patch fixes something that is known to be exploited.
    pub fn is_exploited(&self) -> bool {
        self.exploited_by().is_some()
    }

    /// Who lists it as known to be exploited, where somebody does.
    pub fn exploited_by(&self) -> Option<&str> {
        let all = std::iter::once(&self.patch).chain(self.cves.iter().map(|cve| &cve.inputs));
        let mut listed = all.filter_map(|inputs| inputs.known_exploited.as_ref());
        listed.find(|fact| fact.value == KevListing::Listed).map(|fact| fact.by.as_str())
    }

    /// The way that it takes: known to be exploited and exposed is an emergency. An exposure that
    /// nobody knows counts as open.
    pub fn path(&self) -> Path {
        let exposure = self.asset.exposure.as_ref().map_or(Exposure::Open, |fact| fact.value);
        if self.is_exploited() && exposure == Exposure::Open {
            Path::Emergency
        } else {
            Path::Ordinary
        }
    }
}

/// What has to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The evaluation.
    Evaluated,
    /// The verified installation. What is installed and not verified counts for nothing.
    Verified,
}

impl Goal {
    /// The moment that reaches it.
    pub fn moment(self) -> Moment {
        match self {
            Self::Evaluated => Moment::Evaluated,
            Self::Verified => Moment::Verified,
        }
    }
}

/// A date that a pack sets, and what it follows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueDate {
    /// The policy or regulation.
    pub pack: PolicyRef,
    /// Its own words (`3 days & forensic investigation`).
    pub clause: String,
    /// What has to be reached.
    pub goal: Goal,
    /// From which moment it counts.
    pub start: Moment,
    /// When that was.
    pub started: Timestamp,
    /// The first instant that is too late.
    pub due: Timestamp,
}

/// All dates that bind a patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DueDates {
    dates: Vec<DueDate>,
}

impl DueDates {
    /// The dates of a first evaluation.
    pub fn new(dates: Vec<DueDate>) -> Self {
        Self::default().reassess(dates)
    }

    /// After another evaluation: of each pack, goal and start the earlier date stays, and so does
    /// the date of a pack that no longer speaks. A regression starts anew and has dates of its own.
    #[must_use]
    pub fn reassess(&self, dates: Vec<DueDate>) -> Self {
        let mut kept = self.dates.clone();
        let restarted = dates.iter().filter(|date| date.start == Moment::Regressed);
        if let Some(started) = restarted.map(|date| date.started).max() {
            // An evaluation is not lost with the patch, and what was due before it was lost is
            // settled with that round.
            kept.retain(|date| date.goal == Goal::Evaluated || date.started >= started);
        }
        for new in dates {
            let same =
                kept.iter_mut().find(|old| old.pack.name == new.pack.name && old.goal == new.goal);
            match same {
                Some(old) if new.due < old.due => *old = new,
                Some(_) => {}
                None => kept.push(new),
            }
        }
        kept.sort_by(|a, b| (a.due, &a.pack, a.goal).cmp(&(b.due, &b.pack, b.goal)));
        Self { dates: kept }
    }

    /// The date that binds: the earliest for the verified installation.
    pub fn binding(&self) -> Option<&DueDate> {
        self.dates.iter().find(|date| date.goal == Goal::Verified)
    }

    /// All of them, the earliest first.
    pub fn all(&self) -> &[DueDate] {
        &self.dates
    }
}
