//! The steps of a share.

use jiff::{SignedDuration, Timestamp};

use super::untold;
use super::{Context, Effect, Event, Notice, Outcome, Phase, Refusal, Share, Shortfall, Sight};
use crate::change::consent::{CLOCK_TOLERANCE, Decision, Heard, Statement};
use crate::change::digest::PlanHash;
use crate::change::lifecycle::Stage;
use crate::change::permit::{Basis, Countersign, Lack, Lacks, consented};
use crate::change::plan::Plan;
use crate::change::signed::Verified;
use crate::cloud::UserId;
use crate::priority::Priority;
use crate::sla::Approval;
use crate::sla::Dates;

/// Most statements that are kept of one share: nobody changes their mind so often.
const MOST_STATEMENTS: usize = 64;

/// How many more a tenant may say that make nothing happen: a flood of yes takes nobody's no away.
const KEPT_FOR_NO: usize = 16;

/// Where an accepted event leads, and what follows beside the record.
type Next = (Phase, Vec<Effect>);

impl Share {
    /// The share after an event.
    ///
    /// A [`Event::Tick`] to which nothing happens leaves it as it is, without any effect.
    ///
    /// # Errors
    /// If the event may not happen; the share stays as it is, and the refusal is to be recorded.
    pub fn step(
        &self,
        event: Event,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), Refusal> {
        if now < self.state.last {
            return Err(Refusal::TimeWentBack { last: self.state.last, now });
        }
        let draft = self.plan.draft();
        if context.change.id != draft.change {
            let (given, expected) = (context.change.id, draft.change);
            return Err(Refusal::Change { given, expected });
        }
        let word = event.as_str();
        let mut next = self.clone();
        let mut effects = Vec::new();
        // Before anything alters who holds the ball.
        if let Some(breach) = next.pass_due(now) {
            effects.push(breach);
        }
        let Some((phase, follows)) = next.take(event, context, now)? else {
            // Only a breach is worth keeping without anything else.
            let next = if effects.is_empty() { self.clone() } else { next };
            return Ok((next, effects));
        };
        next.state.version += 1;
        next.state.last = now;
        if phase != self.state.phase {
            next.state.since = now;
        }
        next.state.phase = phase;
        let (from, to) = (self.state.phase.as_str(), phase.as_str());
        effects.push(Effect::Record { version: next.state.version, event: word, from, to });
        effects.extend(follows);
        Ok((next, effects))
    }

    fn pass_due(&mut self, now: Timestamp) -> Option<Effect> {
        let due = self.state.terms.dates.due;
        if now < due || self.state.judged == Some(due) {
            return None;
        }
        self.state.judged = Some(due);
        // Whose ball it was until then: at the date itself it is too late for everybody.
        let last = due.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(due);
        self.holder(last).map(|side| Effect::Breach { due, side })
    }

    fn take(
        &mut self,
        event: Event,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Option<Next>, Refusal> {
        let word = event.as_str();
        match event {
            Event::Tick => Ok(self.tick(context, now)),
            Event::Replan { plan, author } => self.replan(plan, author, context, now).map(Some),
            Event::Notified { plan, written_at, dates } => {
                self.notified(plan, written_at, dates, now).map(Some)
            }
            Event::Redate { dates, priority, reason: _ } => {
                self.redate(dates, priority, context, now).map(Some)
            }
            Event::Answer(statement) => self.answer(statement, context, now).map(Some),
            Event::Countersign(countersign) => self.countersign(countersign).map(Some),
            Event::Finished { plan, outcome } => self.finished(plan, outcome).map(Some),
            Event::Scanned { taken_at, sight } => self.scanned(taken_at, sight, now).map(Some),
            Event::Withdraw if self.state.phase.is_before_start() => Ok(Some(self.withdrawn())),
            // What is refused is asked again when that is over.
            Event::Close if self.state.phase == Phase::Verified => {
                Ok(Some((Phase::Closed, Vec::new())))
            }
            Event::Withdraw | Event::Close => Err(self.not_now(word)),
        }
    }

    /// One step that time, or what stands beside the share, brings about.
    fn tick(&mut self, context: &Context<'_>, now: Timestamp) -> Option<Next> {
        if !self.state.phase.is_before_start() {
            return None;
        }
        if let Stage::Withdrawn { .. } = context.change.stage() {
            return Some(self.withdrawn());
        }
        match self.state.phase {
            Phase::Deferred { until } | Phase::Refused { until } if now < until => None,
            // Nobody bears the risk any more, so the tenant is asked again.
            Phase::Deferred { .. } | Phase::Refused { .. } => {
                self.forget_notice(now);
                Some((Phase::Planned, self.tell_anew(now)))
            }
            Phase::Planned if self.state.terms.dates.approval != Approval::NotNeeded => None,
            Phase::Planned | Phase::Notified | Phase::Lapsed => self.await_consent(context, now),
            Phase::Approved { .. } | Phase::Scheduled { .. } => self.await_start(context, now),
            _ => None,
        }
    }

    fn await_consent(&self, context: &Context<'_>, now: Timestamp) -> Option<Next> {
        let lacks = match consented(&self.case(context), now) {
            Ok(basis) => return Some((Phase::Approved { basis }, Vec::new())),
            Err(lacks) => lacks,
        };
        // An earlier plan was deferred or refused; that holds for its successors.
        if let Some(phase) = held(&lacks) {
            return Some((phase, Vec::new()));
        }
        let is_over = self.state.terms.dates.answer_by.is_some_and(|over| over <= now);
        (is_over && self.state.phase == Phase::Notified)
            .then(|| (Phase::Lapsed, vec![self.tell(Notice::Lapsed)]))
    }

    fn await_start(&self, context: &Context<'_>, now: Timestamp) -> Option<Next> {
        let lacks = match self.permit(context, now) {
            Ok(permit) => {
                if matches!(self.state.phase, Phase::Approved { .. }) {
                    return Some(schedule(now));
                }
                // The change is as it is in this very transaction: what is withdrawn, or proven
                // no more, does not start.
                context.change.proven().ok()?;
                let effects = vec![Effect::Start(permit), self.tell(Notice::Started)];
                return Some((Phase::RollingOut, effects));
            }
            Err(lacks) => lacks,
        };
        if let Some(phase) = held(&lacks) {
            return Some((phase, Vec::new()));
        }
        if lacks.iter().any(|lack| matches!(lack, Lack::Consent { .. })) {
            // A key was revoked, or a rule withdrawn: the tenant is asked again.
            return Some((Phase::Notified, vec![self.tell(Notice::Planned)]));
        }
        if lacks.iter().any(|lack| matches!(lack, Lack::WindowOver { .. })) {
            return Some(fall_short(self, Shortfall::WindowMissed));
        }
        match (self.state.phase, lacks.pass_at()) {
            (Phase::Approved { .. }, Some(at)) => Some(schedule(at)),
            (Phase::Scheduled { at }, Some(later)) if at != later => Some(schedule(later)),
            _ => None,
        }
    }

    fn replan(
        &mut self,
        plan: Plan,
        author: UserId,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        if !self.state.phase.takes_a_plan() {
            return Err(self.not_now("replan"));
        }
        context.change.proven()?;
        plan.follows(&self.plan)?;
        self.plan = plan;
        self.state.author = author;
        self.forget_notice(now);
        Ok((Phase::Planned, vec![self.tell(Notice::Planned)]))
    }

    fn notified(
        &mut self,
        plan: PlanHash,
        written_at: Timestamp,
        dates: Dates,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        self.is_in_force(plan)?;
        if let Some(asked_at) = self.state.asked_at.filter(|asked_at| written_at < *asked_at) {
            return Err(Refusal::OldNotice { written_at, asked_at });
        }
        if self.state.phase != Phase::Planned {
            return Err(self.not_now("notify"));
        }
        let due = self.state.terms.dates.due;
        if dates.due != due {
            return Err(Refusal::OtherDue { given: dates.due, due });
        }
        has_lead_time(&dates)?;
        self.state.terms.dates = dates;
        self.state.notified_at = Some(now);
        Ok((Phase::Notified, Vec::new()))
    }

    fn redate(
        &mut self,
        dates: Dates,
        priority: Priority,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        if self.holder(now).is_none() {
            return Err(self.not_now("redate"));
        }
        let is_told = self.state.notified_at.is_some();
        if is_told {
            has_lead_time(&dates)?;
        }
        let old = &self.state.terms;
        // Before the notice nobody sees what a lead time will be: whatever is on its way is old.
        let asks_otherwise = self.state.phase == Phase::Planned
            || priority != old.priority
            || dates.approval != old.dates.approval
            || dates.earliest_start < old.dates.earliest_start
            || dates.answer_by < old.dates.answer_by;
        let is_agreed = matches!(consented(&self.case(context), now), Ok(Basis::Consent { .. }));
        let terms = &mut self.state.terms;
        terms.priority = priority;
        // Without a notice there is no lead time to be over, whatever the dates say.
        terms.dates = if is_told { dates } else { untold(&dates) };
        // What was told holds no more: no silence, rule or lead time of the old notice counts for
        // terms that the tenant does not know.
        if asks_otherwise && !is_agreed && self.state.phase.is_before_start() {
            self.forget_notice(now);
            return Ok((Phase::Planned, self.tell_anew(now)));
        }
        Ok((self.state.phase, Vec::new()))
    }

    fn answer(
        &mut self,
        statement: Verified<Statement>,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        let said = statement.said();
        let (given, expected) = (said.change, self.plan.draft().change);
        if given != expected {
            return Err(Refusal::Change { given, expected });
        }
        let heard = Heard::admit(statement, context.keys, now)?;
        self.is_in_force(heard.statement().plan)?;
        self.is_fresh(&heard)?;
        self.allows(&heard.statement().decision, now)?;

        let key = heard.key();
        let decision = heard.statement().decision.clone();
        self.state.heard.push(heard);
        match decision {
            Decision::Approve => {
                let is_back =
                    matches!(self.state.phase, Phase::Deferred { .. } | Phase::Refused { .. });
                let basis = consented(&self.case(context), now);
                let phase = basis.map_or(Phase::Notified, |basis| Phase::Approved { basis });
                Ok((phase, is_back.then_some(Effect::EndAcceptance).into_iter().collect()))
            }
            Decision::Defer { until, acceptance } => {
                self.state.terms.dates.deferrals_left -= 1;
                Ok((Phase::Deferred { until }, vec![Effect::AcceptFinding { acceptance, key }]))
            }
            Decision::Refuse { acceptance } => {
                let phase = Phase::Refused { until: acceptance.expiry };
                Ok((phase, vec![Effect::AcceptFinding { acceptance, key }]))
            }
        }
    }

    /// Whether a statement is said now: after the notice, after what was said before, and once.
    fn is_fresh(&self, heard: &Heard) -> Result<(), Refusal> {
        let Statement { nonce, given_at, ref decision, .. } = *heard.statement();
        let most = match decision {
            Decision::Refuse { .. } => MOST_STATEMENTS + KEPT_FOR_NO,
            Decision::Approve | Decision::Defer { .. } => MOST_STATEMENTS,
        };
        if self.state.heard.len() >= most {
            return Err(Refusal::TooManyStatements { most });
        }
        if self.state.heard.iter().any(|known| known.statement().nonce == nonce) {
            return Err(Refusal::Replayed { nonce });
        }
        match (self.state.phase, self.state.notified_at) {
            (
                Phase::Notified
                | Phase::Lapsed
                | Phase::Approved { .. }
                | Phase::Scheduled { .. }
                | Phase::Deferred { .. }
                | Phase::Refused { .. },
                Some(notified_at),
            ) => {
                if notified_at.duration_since(given_at) > CLOCK_TOLERANCE {
                    return Err(Refusal::BeforeNotice { given_at, notified_at });
                }
            }
            _ => return Err(self.not_now("answer")),
        }
        let later = self.state.heard.iter().find(|known| !heard.outweighs(known));
        match later {
            Some(later) => Err(Refusal::Stale { given_at, latest: later.statement().given_at }),
            None => Ok(()),
        }
    }

    /// Whether the SLA lets the tenant decide like this.
    fn allows(&self, decision: &Decision, now: Timestamp) -> Result<(), Refusal> {
        decision.makes_sense(now)?;
        let Dates { deferrals_left, longest_deferral, .. } = self.state.terms.dates;
        match decision {
            Decision::Defer { .. } if deferrals_left == 0 => Err(Refusal::NoDeferralLeft),
            Decision::Defer { until, .. } if until.duration_since(now) > longest_deferral => {
                Err(Refusal::DeferralTooLong { until: *until, now, longest: longest_deferral })
            }
            Decision::Approve | Decision::Refuse { .. } | Decision::Defer { .. } => Ok(()),
        }
    }

    fn countersign(&mut self, countersign: Countersign) -> Result<Next, Refusal> {
        let Countersign { by, plan } = countersign;
        self.is_in_force(plan)?;
        if !self.state.phase.is_before_start() {
            return Err(self.not_now("countersign"));
        }
        if by == self.state.author {
            return Err(Refusal::OwnPlan { by });
        }
        if self.state.approvals.contains(&countersign) {
            return Err(Refusal::AgreedAlready { by });
        }
        self.state.approvals.push(countersign);
        Ok((self.state.phase, Vec::new()))
    }

    fn finished(&self, plan: PlanHash, outcome: Outcome) -> Result<Next, Refusal> {
        self.is_in_force(plan)?;
        if self.state.phase != Phase::RollingOut {
            return Err(self.not_now("finish"));
        }
        Ok(match outcome {
            Outcome::Done => (Phase::Verifying, vec![Effect::Scan]),
            Outcome::Failed => fall_short(self, Shortfall::Failed),
            Outcome::RolledBack => fall_short(self, Shortfall::RolledBack),
        })
    }

    fn scanned(
        &mut self,
        taken_at: Timestamp,
        sight: Sight,
        now: Timestamp,
    ) -> Result<Next, Refusal> {
        let since = self.state.since;
        if taken_at < since || now < taken_at {
            return Err(Refusal::ScanTime { taken_at, since, now });
        }
        match (self.state.phase, sight) {
            (Phase::Verifying, Sight::Missing) => Ok(fall_short(self, Shortfall::StillMissing)),
            (Phase::Verifying, Sight::Unknown) => Ok(fall_short(self, Shortfall::Unknown)),
            // Also where the tenant did it by itself before the plan came to it.
            (phase, Sight::Clean)
                if phase.is_before_start()
                    || matches!(
                        phase,
                        Phase::Verifying | Phase::NonCompliant { .. } | Phase::Reopened
                    ) =>
            {
                Ok((Phase::Verified, vec![self.tell(Notice::Completed)]))
            }
            (Phase::Verified | Phase::Closed, Sight::Missing) => {
                // What the tenant was told is settled with what was done.
                self.forget_notice(now);
                Ok((Phase::Reopened, Vec::new()))
            }
            _ => Err(self.not_now("scan")),
        }
    }

    fn withdrawn(&self) -> Next {
        (Phase::Withdrawn, vec![self.tell(Notice::Withdrawn)])
    }

    fn forget_notice(&mut self, now: Timestamp) {
        self.state.asked_at = Some(now);
        self.state.terms.dates = untold(&self.state.terms.dates);
        self.state.notified_at = None;
    }

    /// The plan in force is told once more, unless its window is past: then another one is.
    fn tell_anew(&self, now: Timestamp) -> Vec<Effect> {
        let is_past = self.plan.draft().stages[0].window.until <= now;
        if is_past { Vec::new() } else { vec![self.tell(Notice::Planned)] }
    }

    fn tell(&self, notice: Notice) -> Effect {
        Effect::Notify { notice, plan: self.plan.hash() }
    }

    fn is_in_force(&self, given: PlanHash) -> Result<(), Refusal> {
        let current = self.plan.hash();
        if given == current { Ok(()) } else { Err(Refusal::Plan { given, current }) }
    }

    fn not_now(&self, event: &'static str) -> Refusal {
        match self.state.phase {
            Phase::RollingOut | Phase::Verifying => {
                Refusal::Started { at: self.state.since, event }
            }
            phase => Refusal::Phase { phase: phase.as_str(), event },
        }
    }
}

/// The tenant's later or no, where that is what stands in the way.
fn held(lacks: &Lacks) -> Option<Phase> {
    lacks.iter().find_map(|lack| match lack {
        Lack::Deferred { until } => Some(Phase::Deferred { until: *until }),
        Lack::Refused { until } => Some(Phase::Refused { until: *until }),
        _ => None,
    })
}

/// Who is told ahead has a time for it.
fn has_lead_time(dates: &Dates) -> Result<(), Refusal> {
    match (dates.approval, dates.earliest_start) {
        (Approval::Notice | Approval::Required { .. }, None) => Err(Refusal::NoLeadTime),
        _ => Ok(()),
    }
}

fn schedule(at: Timestamp) -> Next {
    (Phase::Scheduled { at }, vec![Effect::Schedule { at }])
}

fn fall_short(share: &Share, shortfall: Shortfall) -> Next {
    (Phase::NonCompliant { shortfall }, vec![share.tell(Notice::Failed)])
}

impl Phase {
    /// Whether the plan has not started, and still may.
    pub const fn is_before_start(self) -> bool {
        matches!(
            self,
            Self::Planned
                | Self::Notified
                | Self::Approved { .. }
                | Self::Deferred { .. }
                | Self::Refused { .. }
                | Self::Lapsed
                | Self::Scheduled { .. }
        )
    }

    const fn takes_a_plan(self) -> bool {
        self.is_before_start() || matches!(self, Self::NonCompliant { .. } | Self::Reopened)
    }
}
