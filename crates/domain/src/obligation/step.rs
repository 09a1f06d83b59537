//! The steps of an obligation.

use jiff::Timestamp;

use super::{Context, Effect, Event, Obligation, Record, Refusal};
use crate::change::{self, Decision, Phase, Share, Sight, Terms};
use crate::sla::{Breach, Cause, Deferral, Errand, Interruption, Moment, Rung};

/// Most steps that follow from one event: a way from a notice to a start has six.
const MOST_STEPS: usize = 32;

/// Most interruptions that are kept of one obligation.
const MOST_INTERRUPTIONS: usize = 200;

impl Obligation {
    /// The obligation after an event, and after all that time alone brings about by then.
    ///
    /// An [`Event::Tick`] to which nothing happens leaves it as it is, without any effect.
    ///
    /// # Errors
    /// If the event may not happen; the obligation stays as it is, and the refusal is to be recorded.
    pub fn step(
        &self,
        event: Event,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), Refusal> {
        if now < self.record.last {
            return Err(Refusal::TimeWentBack { last: self.record.last, now });
        }
        let given = context.policy.reference();
        if given != self.record.policy {
            return Err(Refusal::Policy { governs: self.record.policy.clone(), given });
        }
        let mut next = self.clone();
        let mut effects = Vec::new();
        // What was missed before this event was missed with the ball where it was.
        next.escalate(context, now, &mut effects);
        next.take(event, context, now, &mut effects)?;
        for _ in 0..MOST_STEPS {
            if !next.tick(context, now, &mut effects)? {
                break;
            }
        }
        next.escalate(context, now, &mut effects);
        if next != *self {
            next.record.last = now;
        }
        Ok((next, effects))
    }

    fn take(
        &mut self,
        event: Event,
        context: &Context<'_>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let word = event.as_str();
        match event {
            Event::Tick => Ok(()),
            Event::Assess { facts } => {
                let known = self.record.facts.clone();
                self.assess(*facts, now)?;
                self.recorded(word, effects);
                let is_new = known != self.record.facts;
                self.redate(is_new, context, now, effects)
            }
            Event::Acknowledged => {
                self.share.as_ref().ok_or(Refusal::NoPlan { event: word })?;
                if self.at(Moment::Acknowledged).is_none() {
                    self.record.instants.record(Moment::Acknowledged, now)?;
                    self.recorded(word, effects);
                }
                Ok(())
            }
            Event::Interrupt { interruption } => {
                self.record.interrupt(interruption)?;
                self.recorded(word, effects);
                Ok(())
            }
            Event::Plan { plan, author, two_persons_above } if self.share.is_some() => {
                let closes = plan.draft().stages[0].window.until;
                if let Some(share) = &mut self.share {
                    share.decides_alone(two_persons_above);
                }
                self.share_step(change::Event::Replan { plan, author }, context, now, effects)?;
                self.record.can_start_before(closes, context, now)
            }
            Event::Plan { plan, author, two_persons_above } => {
                let dates = self.record.dates(context, now)?;
                let proven = context.change.proven()?;
                let priority = self.record.facts.priority;
                let kind = context.change.kind;
                let terms = Terms { kind, priority, dates, two_persons_above };
                let (share, follows) = Share::open(proven, plan, author, &terms, now)?;
                let before = self.phase();
                let closes = share.plan().draft().stages[0].window.until;
                self.share = Some(share);
                self.follow(word, before, follows, effects);
                self.record.can_start_before(closes, context, now)
            }
            Event::Notified { plan, written_at } => {
                // The dates follow from this very notice.
                let mut told = self.record.clone();
                if told.instants.at(Moment::Notified).is_none() {
                    told.instants.record(Moment::Notified, now)?;
                }
                let dates = told.dates(context, now)?;
                let event = change::Event::Notified { plan, written_at, dates };
                self.share_step(event, context, now, effects)
            }
            Event::Answer(statement) => {
                if let Decision::Defer { until, .. } = statement.said().decision {
                    self.record.case(context.policy).defer(until, now)?;
                }
                self.share_step(change::Event::Answer(statement), context, now, effects)
            }
            Event::Countersign(countersign) => {
                let event = change::Event::Countersign(countersign);
                self.share_step(event, context, now, effects)
            }
            Event::Finished { plan, outcome } => {
                let event = change::Event::Finished { plan, outcome };
                self.share_step(event, context, now, effects)
            }
            Event::EvidenceSaved => self.evidence_saved(now, word, effects),
            Event::DoneTold { at } => {
                if self.owes(Errand::DoneNotice, context) {
                    self.record.once(Moment::DoneTold, at)?;
                    self.recorded(word, effects);
                }
                Ok(())
            }
            Event::ReEvaluated => {
                if !self.owes(Errand::ReEvaluation, context) {
                    return Err(Refusal::NotOwed { event: word });
                }
                self.record.once(Moment::ReEvaluated, now)?;
                self.recorded(word, effects);
                Ok(())
            }
            Event::Restarted { at } => self.restarted(at, word, effects),
            Event::Scanned { taken_at, sight } if self.share.is_none() => {
                self.scanned_without_plan(taken_at, sight, context, now, effects)
            }
            Event::Scanned { taken_at, sight } => {
                let event = change::Event::Scanned { taken_at, sight };
                self.share_step(event, context, now, effects)
            }
            Event::Withdraw if self.share.is_none() => {
                self.record.instants.record(Moment::Withdrawn, now)?;
                self.recorded(word, effects);
                Ok(())
            }
            Event::Withdraw => self.share_step(change::Event::Withdraw, context, now, effects),
            Event::Close => self.share_step(change::Event::Close, context, now, effects),
        }
    }

    /// In an emergency: what the patch may wipe was saved before it.
    fn evidence_saved(
        &mut self,
        now: Timestamp,
        word: &'static str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let over = [Moment::Installed, Moment::Verified, Moment::Withdrawn];
        if over.into_iter().any(|moment| self.at(moment).is_some()) {
            return Err(Refusal::NotOwed { event: word });
        }
        self.record.once(Moment::EvidenceSaved, now)?;
        if let Some(share) = &mut self.share {
            share.evidence_saved();
        }
        self.recorded(word, effects);
        Ok(())
    }

    /// All items that were to restart did, after the installation.
    fn restarted(
        &mut self,
        at: Timestamp,
        word: &'static str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.at(Moment::Installed).is_some() && self.at(Moment::Rebooted).is_none() {
            self.record.instants.record(Moment::Rebooted, at)?;
            self.recorded(word, effects);
        }
        Ok(())
    }

    /// One step that time, or what stands beside it, brings about; whether there was one.
    fn tick(
        &mut self,
        context: &Context<'_>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Refusal> {
        match context.change.stage() {
            change::ChangeStage::Proven { .. } if self.at(Moment::Tested).is_none() => {
                if self.at(Moment::Evaluated).is_none() {
                    self.record.instants.record(Moment::Evaluated, now)?;
                }
                self.record.instants.record(Moment::Tested, now)?;
                self.recorded("test", effects);
                return Ok(true);
            }
            change::ChangeStage::Withdrawn { .. }
                if self.share.is_none() && self.at(Moment::Withdrawn).is_none() =>
            {
                self.record.instants.record(Moment::Withdrawn, now)?;
                self.recorded("withdraw", effects);
                return Ok(true);
            }
            _ => {}
        }
        let Some(share) = &self.share else { return Ok(false) };
        let before = share.version();
        self.share_step(change::Event::Tick, context, now, effects)?;
        Ok(self.share.as_ref().is_some_and(|share| share.version() != before))
    }

    fn share_step(
        &mut self,
        event: change::Event,
        context: &Context<'_>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let word = event.as_str();
        let share = self.share.as_ref().ok_or(Refusal::NoPlan { event: word })?;
        let Context { change, keys, standing, .. } = *context;
        let beside = change::Context { change, keys, standing };
        let (next, follows) = share.step(event, &beside, now)?;
        let (before, after) = (share.phase(), next.phase());
        let was_told = share.notified_at();
        let altered = next.version() != share.version();
        self.share = Some(next);
        if altered {
            self.leave_instants(word, before, was_told, now)?;
        }
        self.follow(word, before.as_str(), follows, effects);
        // What was lost again has dates of its own.
        if altered && after == Phase::Reopened {
            self.redate(false, context, now, effects)
        } else {
            Ok(())
        }
    }

    /// What a step of the share means for the SLA's record.
    fn leave_instants(
        &mut self,
        word: &'static str,
        before: Phase,
        was_told: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(share) = &self.share else { return Ok(()) };
        let (after, told) = (share.phase(), share.notified_at());
        if before == after && was_told == told {
            return Ok(());
        }
        // The end of a no or a later that the tenant itself took back.
        if matches!(before, Phase::Deferred { until } | Phase::Refused { until } if now < until) {
            self.record.end_waiting(now);
        }
        let asked_before =
            [Moment::Notified, Moment::Approved].iter().any(|moment| self.at(*moment).is_some());
        let record = &mut self.record;
        match after {
            Phase::Planned if asked_before => {
                record.instants.record(Moment::AskedAgain, now)?;
            }
            Phase::Notified => {
                if matches!(before, Phase::Approved { .. } | Phase::Scheduled { .. }) {
                    // Consent was lost, and the tenant is asked again without another notice.
                    record.instants.record(Moment::AskedAgain, now)?;
                }
                record.once(Moment::Notified, told.unwrap_or(now))?;
            }
            Phase::Approved { .. } => record.once(Moment::Approved, now)?,
            Phase::Scheduled { .. } => record.once(Moment::Scheduled, now)?,
            // Nobody said it anew: what was said before the tenant was asked again holds.
            Phase::Deferred { until } => {
                let again = word != "answer";
                record.deferrals.push(Deferral { at: now, until, again });
            }
            Phase::Refused { until } => record.interruptions.push(Interruption {
                cause: Cause::Refusal,
                from: now,
                until: Some(until),
            }),
            Phase::Verifying => record.once(Moment::Installed, now)?,
            Phase::Verified => record.once(Moment::Verified, now)?,
            Phase::Withdrawn => record.once(Moment::Withdrawn, now)?,
            Phase::Reopened => {
                record.instants.record(Moment::Regressed, now)?;
            }
            Phase::Planned
            | Phase::Lapsed
            | Phase::RollingOut
            | Phase::NonCompliant { .. }
            | Phase::Closed => {}
        }
        Ok(())
    }

    /// What others did by themselves before there was a plan, or undid again.
    fn scanned_without_plan(
        &mut self,
        taken_at: Timestamp,
        sight: Sight,
        context: &Context<'_>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let is_verified = self.at(Moment::Verified).is_some();
        match sight {
            Sight::Clean if !is_verified && self.at(Moment::Withdrawn).is_none() => {
                self.record.once(Moment::Installed, taken_at)?;
                self.record.once(Moment::Verified, now)?;
            }
            Sight::Missing if is_verified => {
                self.record.instants.record(Moment::Regressed, now)?;
                self.record.reassess(context);
            }
            Sight::Clean | Sight::Missing | Sight::Unknown => return Ok(()),
        }
        self.recorded("scan", effects);
        Ok(())
    }

    fn assess(&mut self, mut facts: crate::sla::Facts, now: Timestamp) -> Result<(), Refusal> {
        // What is listed stays listed, whoever says nothing of it.
        if self.record.facts.is_exploited() && !facts.is_exploited() {
            facts.patch.known_exploited.clone_from(&self.record.facts.patch.known_exploited);
        }
        let newly_exploited = facts.is_exploited() && !self.record.facts.is_exploited();
        if newly_exploited && self.at(Moment::KevAdded).is_none() {
            self.record.instants.record(Moment::KevAdded, now)?;
        }
        if self.at(Moment::Evaluated).is_none() {
            self.record.instants.record(Moment::Evaluated, now)?;
        }
        self.record.facts = facts;
        Ok(())
    }

    /// Dates that another assessment made earlier, also for the share.
    fn redate(
        &mut self,
        is_new: bool,
        context: &Context<'_>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.record.reassess(context);
        let Some(share) = &self.share else { return Ok(()) };
        let dates = self.record.dates(context, now)?;
        let (terms, priority) = (share.terms(), self.record.facts.priority);
        let is_same = dates == terms.dates && priority == terms.priority;
        // Of what is not told yet the dates do not show all that became of them.
        let is_on_its_way = is_new && share.phase() == Phase::Planned;
        if is_same && !is_on_its_way || share.holder(now).is_none() {
            return Ok(());
        }
        let reason = "the patch was assessed again".parse().expect("a plain sentence");
        self.share_step(change::Event::Redate { dates, priority, reason }, context, now, effects)
    }

    fn follow(
        &mut self,
        word: &'static str,
        before: &'static str,
        follows: Vec<change::Effect>,
        effects: &mut Vec<Effect>,
    ) {
        for effect in follows {
            match effect {
                // The obligation has a version of its own, and tells breaches with their facts.
                change::Effect::Record { .. } => {
                    self.record.version += 1;
                    let (version, to) = (self.record.version, self.phase());
                    effects.push(Effect::Record { version, event: word, from: before, to });
                }
                change::Effect::Breach { .. } => {}
                effect => effects.push(Effect::Share(effect)),
            }
        }
    }

    fn recorded(&mut self, event: &'static str, effects: &mut Vec<Effect>) {
        self.record.version += 1;
        let (version, to) = (self.record.version, self.phase());
        effects.push(Effect::Record { version, event, from: to, to });
    }

    /// Takes the steps of escalation that are due.
    fn escalate(&mut self, context: &Context<'_>, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_over() {
            return;
        }
        let case = self.record.case(context.policy);
        let Some(clock) = case.clock(now) else { return };
        let breaches: Vec<_> = clock.due.iter().map(|date| case.breach_of(date, now)).collect();
        let rungs = clock.escalations(&self.record.taken);
        if rungs.is_empty() {
            return;
        }
        self.record.version += 1;
        let (version, at) = (self.record.version, self.phase());
        effects.push(Effect::Record { version, event: "escalate", from: at, to: at });
        for rung in rungs {
            self.record.taken.insert(rung.clone());
            if let Rung::Due { pack, goal, .. } = &rung {
                let is_meant = |it: &&Breach| it.date.pack.name == *pack && it.date.goal == *goal;
                let breach = breaches.iter().find(is_meant).cloned();
                effects.extend(breach.map(|breach| Effect::Breach(Box::new(breach))));
            }
            effects.push(Effect::Escalate { rung, holder: clock.holder });
        }
    }

    /// Whether nothing more is said about time. What is closed may still owe something.
    fn is_over(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.phase() == Phase::Withdrawn)
    }

    fn owes(&self, errand: Errand, context: &Context<'_>) -> bool {
        let owed = self.record.case(context.policy).owed();
        owed.iter().any(|owed| owed.errand == errand && owed.is_open())
    }
}

impl Record {
    /// An instant of this round, if it has none.
    fn once(&mut self, moment: Moment, at: Timestamp) -> Result<(), Refusal> {
        if self.instants.at(moment).is_none() {
            self.instants.record(moment, at)?;
        }
        Ok(())
    }

    fn dates(&self, context: &Context<'_>, now: Timestamp) -> Result<crate::sla::Dates, Refusal> {
        self.case(context.policy).dates(now).ok_or(Refusal::NoPlan { event: "date" })
    }

    fn reassess(&mut self, context: &Context<'_>) {
        let dates = context.policy.due_dates(&self.facts, &self.instants);
        self.dues = self.dues.reassess(dates);
    }

    /// Whether a plan that is told now can start before its first window closes.
    fn can_start_before(
        &self,
        closes: Timestamp,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut told = self.clone();
        if told.instants.at(Moment::Notified).is_some() {
            told.instants.record(Moment::AskedAgain, now)?;
        }
        told.instants.record(Moment::Notified, now)?;
        let earliest = told.dates(context, now)?.earliest_start.unwrap_or(now).max(now);
        if earliest < closes { Ok(()) } else { Err(Refusal::Untenable { earliest, closes }) }
    }

    /// Something begins to stand in the way, or what does gets its end.
    fn interrupt(&mut self, new: Interruption) -> Result<(), Refusal> {
        let open = self
            .interruptions
            .iter()
            .position(|old| old.cause == new.cause && old.from == new.from && old.until.is_none());
        match open {
            Some(at) => self.interruptions[at].until = new.until,
            None if self.interruptions.len() >= MOST_INTERRUPTIONS => {
                return Err(Refusal::TooManyInterruptions { most: MOST_INTERRUPTIONS });
            }
            None => self.interruptions.push(new),
        }
        Ok(())
    }

    fn end_waiting(&mut self, now: Timestamp) {
        for deferral in self.deferrals.iter_mut().filter(|it| it.at <= now && now < it.until) {
            deferral.until = now;
        }
        let refused = self.interruptions.iter_mut().filter(|it| it.cause == Cause::Refusal);
        for refusal in refused.filter(|it| it.until.is_none_or(|until| now < until)) {
            refusal.until = Some(now);
        }
    }
}
