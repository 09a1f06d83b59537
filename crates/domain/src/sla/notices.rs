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

/// Something that is owed beside the patch itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// In an emergency, before the patch: to save what it may wipe.
    Evidence,
    /// To tell the tenant how it ended.
    DoneNotice,
    /// After an emergency: to judge it again.
    ReEvaluation,
}

impl Errand {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::DoneNotice => "done_notice",
            Self::ReEvaluation => "re_evaluation",
        }
    }
}

/// By when an errand is owed. The provider owes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// What.
    pub errand: Errand,
    /// The first instant that is too late.
    pub by: Timestamp,
    /// When it was done, or could not be done any more; `None` while it is owed.
    pub ended: Option<Timestamp>,
}

impl Owed {
    /// Whether it is still to be done.
    pub const fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether it is too late, or was.
    pub fn is_missed(&self, now: Timestamp) -> bool {
        self.by <= self.ended.unwrap_or(now)
    }
}

/// What an emergency asks for besides the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyDates {
    /// Until when volatile evidence is to be saved. A patch waits for it so long and no longer: who is
    /// attacked meanwhile is worse off than who lacks the evidence.
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
        let start = self.instants.start()?;
        // Nobody can act on a listing before the patch is known, nor on a patch as exploited
        // before the listing.
        let known = self.instants.at(Moment::KevAdded).map_or(start, |it| it.max(start));
        let verified = self.instants.at(Moment::Verified);
        Some(EmergencyDates {
            evidence_by: calendar.end(known, emergency.evidence),
            re_evaluate_by: verified.map(|at| calendar.end(at, emergency.re_evaluate)),
        })
    }

    /// All that is owed beside the patch, in the order in which it comes.
    pub fn owed(&self) -> Vec<Owed> {
        let at = |moment| self.instants.at(moment);
        let installed = at(Moment::Installed).or(at(Moment::Verified));
        let withdrawn = at(Moment::Withdrawn);
        let owed = |errand, by, ended: Option<Timestamp>| {
            let ended = ended.into_iter().chain(withdrawn).min();
            Owed { errand, by, ended }
        };
        let emergency = self.emergency();
        let evidence = emergency.map(|dates| {
            // After the patch there is nothing to save.
            let ended = at(Moment::EvidenceSaved).into_iter().chain(installed).min();
            owed(Errand::Evidence, dates.evidence_by, ended)
        });
        // Whoever was told that it comes is told how it went.
        let done = self.terms().notice.done;
        let told = installed.filter(|_| !done.is_none() && at(Moment::Notified).is_some());
        let told = told.map(|installed| {
            let by = self.policy.calendar().end(installed, done);
            owed(Errand::DoneNotice, by, at(Moment::DoneTold))
        });
        let again = emergency.and_then(|dates| dates.re_evaluate_by);
        let again = again.map(|by| owed(Errand::ReEvaluation, by, at(Moment::ReEvaluated)));
        evidence.into_iter().chain(told).chain(again).collect()
    }
}
