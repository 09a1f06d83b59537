//! The dates that a change needs, with all waits turned into instants.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::calendar::later;
use super::instants::Moment;
use super::notices::Errand;
use super::terms::{Asked, Terms};
use super::timeline::Case;
use super::{Approval, Silence};

/// What the SLA says of one change for one tenant (X.1642 8.7.2; R17, R21, R22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dates {
    /// Whether the tenant has to agree, and what its silence means.
    pub approval: Approval,
    /// When the lead time of the notice is over, the patch old enough and no freeze in the way.
    /// `None` until the notice.
    pub earliest_start: Option<Timestamp>,
    /// Until when the tenant is to answer; where silence approves, it does so then. `None` where
    /// the tenant is not asked, and until the notice.
    pub answer_by: Option<Timestamp>,
    /// In an emergency, as long as what the patch may wipe is not saved: until when the start waits for
    /// that. It starts without it then, and somebody answers for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_by: Option<Timestamp>,
    /// The first instant that is too late for the verified installation: the earliest date of all
    /// packs that bind.
    pub due: Timestamp,
    /// How often the tenant may still defer.
    pub deferrals_left: u8,
    /// How far a deferral that is received now may reach: the policy's limit, or less where a
    /// regulation could not be kept after it.
    pub longest_deferral: SignedDuration,
}

/// What the tenant put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferral {
    /// When it was received.
    pub at: Timestamp,
    /// Until when the change waits.
    pub until: Timestamp,
    /// Whether it is an earlier one that goes on: the tenant was asked anew meanwhile, and what it
    /// had said still held. It spends none of what the policy allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// Why a deferral is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDeferred {
    /// Nothing waits yet, or any more.
    #[error("there is nothing to put off")]
    NothingWaits,
    /// The policy allows no further one.
    #[error("the policy allows {allowed} deferrals, and {used} were used")]
    NoneLeft {
        /// How many it allows.
        allowed: u8,
        /// How many were used.
        used: usize,
    },
    /// It reaches too far.
    #[error("a deferral until {until} is too long: {latest} is the latest")]
    TooLong {
        /// The time asked for.
        until: Timestamp,
        /// The latest that the policy allows.
        latest: Timestamp,
    },
    /// A regulation could not be kept after it.
    #[error(
        "a deferral until {until} would break `{pack}`, due {due}: {latest} is the latest that \
         leaves time to install and verify"
    )]
    BreaksDue {
        /// The time asked for.
        until: Timestamp,
        /// The pack.
        pack: String,
        /// Its date.
        due: Timestamp,
        /// The latest that it leaves.
        latest: Timestamp,
    },
    /// It would be over already.
    #[error("a deferral until {until} puts nothing off")]
    Past {
        /// The time asked for.
        until: Timestamp,
    },
}

impl NotDeferred {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NothingWaits => "wait for the notice".to_owned(),
            Self::NoneLeft { .. } | Self::BreaksDue { .. } => {
                "approve, refuse with a reason, or have the risk accepted by its owner".to_owned()
            }
            Self::TooLong { latest, .. } => format!("ask for a time until {latest}"),
            Self::Past { .. } => "ask for a time to come".to_owned(),
        })
    }
}

impl Case<'_> {
    /// The dates of the change as they are now; `None` before anything was collected.
    pub fn dates(&self, now: Timestamp) -> Option<Dates> {
        let terms = self.terms();
        let due = self.dues.binding().map(|date| date.due)?;
        let left = usize::from(terms.deferrals.count).saturating_sub(self.deferrals_spent());
        let latest = self.latest_deferral(&terms, now);
        Some(Dates {
            approval: terms.approval.approval(),
            earliest_start: self.earliest_start(&terms),
            answer_by: self.answer_by(&terms),
            evidence_by: self
                .owed()
                .into_iter()
                .find(|owed| owed.errand == Errand::Evidence && owed.is_open())
                .map(|owed| owed.by),
            due,
            deferrals_left: u8::try_from(left).unwrap_or(u8::MAX),
            longest_deferral: latest.duration_since(now).max(SignedDuration::ZERO),
        })
    }

    /// Judges a deferral that the tenant asks for now.
    ///
    /// # Errors
    /// Why it is refused, with the latest time that would not be.
    pub fn defer(&self, until: Timestamp, now: Timestamp) -> Result<Deferral, NotDeferred> {
        let terms = self.terms();
        let waits = self.instants.at(Moment::Notified).is_some()
            && self.instants.at(Moment::Installed).is_none()
            && self.instants.at(Moment::Verified).is_none()
            && self.instants.at(Moment::Withdrawn).is_none();
        if !waits {
            return Err(NotDeferred::NothingWaits);
        }
        let used = self.deferrals_spent();
        if used >= usize::from(terms.deferrals.count) {
            return Err(NotDeferred::NoneLeft { allowed: terms.deferrals.count, used });
        }
        if until <= now {
            return Err(NotDeferred::Past { until });
        }
        let latest = self.policy.calendar().end(now, terms.deferrals.longest);
        if until > latest {
            return Err(NotDeferred::TooLong { until, latest });
        }
        if let Some((latest, date)) = self.latest_by_regulation(&terms)
            && until > latest
        {
            let (pack, due) = (date.pack.name.clone(), date.due);
            return Err(NotDeferred::BreaksDue { until, pack, due, latest });
        }
        Ok(Deferral { at: now, until, again: false })
    }

    /// The tenant is asked until then.
    pub(super) fn answer_by(&self, terms: &Terms) -> Option<Timestamp> {
        let Asked::Required { answer, .. } = terms.approval else { return None };
        let notified = self.instants.at(Moment::Notified)?;
        Some(self.policy.calendar().end(notified, answer))
    }

    /// When silence approves.
    pub(super) fn deemed_at(&self, terms: &Terms) -> Option<Timestamp> {
        let Asked::Required { silence: Silence::Approves, .. } = terms.approval else {
            return None;
        };
        self.answer_by(terms)
    }

    /// Lead time over, old enough, no freeze.
    pub(super) fn earliest_start(&self, terms: &Terms) -> Option<Timestamp> {
        let calendar = self.policy.calendar();
        let notified = self.instants.at(Moment::Notified)?;
        let lead = match terms.approval {
            Asked::NotNeeded => notified,
            Asked::Required { .. } | Asked::Notice => calendar.end(notified, terms.notice.lead),
        };
        let published = self.instants.at(Moment::VendorPublished);
        let ripe = published
            .or(self.instants.at(Moment::Collected))
            .map_or(lead, |since| calendar.end(since, terms.soak));
        Some(calendar.thawed(lead.max(ripe), self.facts.priority))
    }

    /// Deferrals of the present round.
    pub(super) fn deferrals_used(&self) -> impl Iterator<Item = &Deferral> {
        let since = self.instants.regressed().unwrap_or(Timestamp::MIN);
        self.deferrals.iter().filter(move |deferral| deferral.at >= since)
    }

    /// How many of those that the policy allows they spent.
    pub(super) fn deferrals_spent(&self) -> usize {
        self.deferrals_used().filter(|deferral| !deferral.again).count()
    }

    fn latest_deferral(&self, terms: &Terms, now: Timestamp) -> Timestamp {
        let by_policy = self.policy.calendar().end(now, terms.deferrals.longest);
        let by_regulation = self.latest_by_regulation(terms);
        by_regulation.map_or(by_policy, |(latest, _)| latest.min(by_policy))
    }

    /// The latest end of a deferral after which every regulation can still be kept. The contract's
    /// own date does not count: whatever the provider lost before, the tenant has its right.
    fn latest_by_regulation(&self, terms: &Terms) -> Option<(Timestamp, &super::due::DueDate)> {
        let own = self.policy.reference().name;
        let calendar = self.policy.calendar();
        let rest = calendar.longest(terms.install).saturating_add(calendar.longest(terms.verify));
        let verified = super::due::Goal::Verified;
        self.dues
            .all()
            .iter()
            .filter(|date| date.pack.name != own && date.goal == verified)
            .map(|date| (later(date.due, rest.checked_neg().unwrap_or_default()), date))
            .min_by_key(|(latest, _)| *latest)
    }
}
