//! By when notices are to be sent, and what an emergency asks for besides.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::instants::Moment;
use super::terms::Path;
use super::timeline::Case;

/// When the tenant is told of a change that is planned for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeDates {
    /// The latest time of the first notice.
    pub first_by: Timestamp,
    /// The latest time of the reminder, where there is one.
    pub reminder_by: Option<Timestamp>,
    /// The latest time of the notice that it is done, if it is done at `done`.
    pub done_by: Timestamp,
}

/// What an emergency asks for besides the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyDates {
    /// Until when volatile evidence is to be saved; and before the patch in any case.
    pub evidence_by: Timestamp,
    /// Until when it is to be judged again; `None` until it is verified.
    pub re_evaluate_by: Option<Timestamp>,
}

impl Case<'_> {
    /// The dates of notices for a change that starts and is done then, by the policy's calendar.
    pub fn notices(&self, start: Timestamp, done: Timestamp) -> NoticeDates {
        let notice = self.terms().notice;
        let calendar = self.policy.calendar();
        NoticeDates {
            first_by: calendar.latest_start(start, notice.lead),
            reminder_by: (!notice.reminder.is_none())
                .then(|| calendar.latest_start(start, notice.reminder)),
            done_by: calendar.end(done, notice.done),
        }
    }

    /// What the emergency path asks for; `None` on the ordinary one, where the policy has none, and
    /// before anything was collected.
    pub fn emergency(&self) -> Option<EmergencyDates> {
        let emergency = self.terms().emergency.filter(|_| self.facts.path() == Path::Emergency)?;
        let calendar = self.policy.calendar();
        let collected = self.instants.at(Moment::Collected)?;
        // Nobody can act on a listing before the patch is known, nor on a patch as exploited
        // before the listing.
        let known = self.instants.at(Moment::KevAdded).map_or(collected, |it| it.max(collected));
        let verified = self.instants.at(Moment::Verified);
        Some(EmergencyDates {
            evidence_by: calendar.end(known, emergency.evidence),
            re_evaluate_by: verified.map(|at| calendar.end(at, emergency.re_evaluate)),
        })
    }
}
