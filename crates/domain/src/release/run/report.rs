//! What is heard of items.

use jiff::Timestamp;

use super::event::{Effect, Health, Job, Refusal, Report, Vacated};
use super::{Fault, Mode, Phase, Run, Skip, TaskId};
use crate::cloud::CiId;
use crate::release::layout::{Return, StepKind};
use crate::release::profile::OnFailure;
use crate::release::waiting::Hold;

impl Run {
    pub(super) fn report(
        &mut self,
        (item, attempt, report): (CiId, u32, Report),
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let task = self.books.task(item).ok_or(Refusal::Item { item })?;
        let state = &self.state.items[task];
        let (phase, current, silenced) = (state.phase, state.attempt, state.silenced);
        if attempt < current {
            // It is late; what followed from it, or from its silence, has followed.
            return Ok(());
        }
        if current < attempt || attempt == 0 {
            return Err(Refusal::Attempt { item, given: attempt, current });
        }
        match (phase, report) {
            (Phase::Ordered, Report::Started) => self.set(task, Phase::Working, now),
            (Phase::Ordered | Phase::Working, Report::Succeeded) => {
                self.set(task, Phase::Checking, now);
                let step = self.state.items[task].step;
                effects.push(Effect::Verify { item, attempt, step });
            }
            (Phase::Checking, Report::Verified) => self.verified(task, now, effects),
            (
                Phase::Draining | Phase::Ordered | Phase::Working | Phase::Checking,
                Report::Failed,
            ) => self.fail(task, Fault::Failed, now, effects),
            (Phase::Checking, Report::Conflict) => self.fail(task, Fault::Conflict, now, effects),
            // A later look: what was verified is not so any more.
            (Phase::Done, Report::Conflict) => self.hold(Hold::Conflict { item }, effects),
            (Phase::RollingBack, Report::Failed) => {
                self.set(task, Phase::Failed { fault: Fault::NoWayBack }, now);
            }
            (Phase::RollingBack, Report::RolledBack) => {
                self.set(task, Phase::RolledBack, now);
                self.come_back(task);
            }
            (_, Report::Silent) if phase.is_at_work() && silenced < attempt => {
                self.state.items[task].silenced = attempt;
                self.fall_silent(task, now, effects);
            }
            // Nothing is verified that has not ended, and nothing is back that was not sent back.
            (
                Phase::Draining | Phase::Ordered | Phase::Working,
                Report::Verified | Report::Conflict | Report::RolledBack,
            )
            | (Phase::Draining, Report::Started | Report::Succeeded)
            | (Phase::Checking | Phase::Done, Report::RolledBack) => {
                return Err(Refusal::Unexpected { item, phase, report });
            }
            // It was heard already.
            _ => {}
        }
        Ok(())
    }

    fn verified(&mut self, task: TaskId, now: Timestamp, effects: &mut Vec<Effect>) {
        self.come_back(task);
        let has_restart =
            self.state.items[task].step == StepKind::Install && self.task(task).reboot.is_some();
        let phase = match self.state.mode {
            Mode::RollingBack(_) if self.can_return(task) => Phase::Returning,
            Mode::RollingBack(_) if has_restart => Phase::Skipped { why: Skip::RolledBack },
            Mode::Aborted(_) if has_restart => Phase::Skipped { why: Skip::Aborted },
            _ if has_restart => Phase::Planned,
            _ => Phase::Done,
        };
        if phase == Phase::Planned || matches!(phase, Phase::Skipped { .. }) {
            self.state.items[task].step = StepKind::Reboot;
        }
        self.set(task, phase, now);
        // What was seen while it was at work counts from now on.
        let last = self.state.looks.get(&self.task(task).node);
        if last.is_some_and(|(_, health)| *health == Health::Sick)
            && matches!(phase, Phase::Done | Phase::Planned | Phase::Returning)
        {
            self.fail(task, Fault::Sick, now, effects);
        }
    }

    pub(super) fn can_return(&self, task: TaskId) -> bool {
        self.task(task).can_return != Return::Impossible
    }

    /// An item fails: it is out from now on, and what depends on it does not begin.
    fn fail(&mut self, task: TaskId, fault: Fault, now: Timestamp, effects: &mut Vec<Effect>) {
        self.go_out(task);
        self.set(task, Phase::Failed { fault }, now);
        self.skip_dependents(task, now);
        let wave = usize::from(self.task(task).wave);
        self.state.waves[wave].failed.insert(task);
        if fault == Fault::Conflict {
            let item = self.ci(self.task(task).node);
            self.hold(Hold::Conflict { item }, effects);
        }
        self.see_gate(wave, effects);
        let is_sent_back = self.layout.body().on_failure == OnFailure::RollBack
            || matches!(self.state.mode, Mode::RollingBack(_));
        if is_sent_back && self.can_return(task) {
            self.send_back(task, now, effects);
        }
    }

    /// Orders that an item becomes what it was. It is out already, or goes out with this.
    pub(super) fn send_back(&mut self, task: TaskId, now: Timestamp, effects: &mut Vec<Effect>) {
        let node = self.task(task).node;
        let tenant = self.body().terrain.node(node).tenant;
        let consent = self.state.consents.get(&tenant).copied().unwrap_or_default();
        let Some(warrant) = consent.warrant else { return };
        self.go_out(task);
        self.set(task, Phase::RollingBack, now);
        let item = &mut self.state.items[task];
        item.attempt += 1;
        let attempt = item.attempt;
        let stage = self.task(task).install.stage;
        effects.push(Effect::RollBack(Job { item: self.ci(node), attempt, stage, warrant }));
    }

    /// Nothing is heard of an item: it stays out, and others go on within what is left.
    pub(super) fn fall_silent(&mut self, task: TaskId, now: Timestamp, effects: &mut Vec<Effect>) {
        let item = &mut self.state.items[task];
        if item.silent.is_some() {
            return;
        }
        item.silent = Some(now);
        let phase = item.phase;
        self.books.file(task, phase, Some(now));
        let wave = usize::from(self.task(task).wave);
        self.state.waves[wave].silent.insert(task);
        self.see_gate(wave, effects);
    }

    /// Leaves out whatever depends on a task and has not begun.
    pub(super) fn skip_dependents(&mut self, task: TaskId, now: Timestamp) {
        let mut ahead = vec![self.task(task).node];
        while let Some(node) = ahead.pop() {
            for place in 0..self.books.dependents[node as usize].len() {
                let dependent = self.books.dependents[node as usize][place];
                let Some(task) = self.books.task_of(dependent) else { continue };
                if self.state.items[task].phase == Phase::Planned {
                    self.set(task, Phase::Skipped { why: Skip::Behind }, now);
                    ahead.push(dependent);
                }
            }
        }
    }

    /// Holds the release; once, whatever else happens.
    pub(super) fn hold(&mut self, hold: Hold, effects: &mut Vec<Effect>) {
        if self.state.mode == Mode::Running {
            self.state.mode = Mode::Held(hold.clone());
            effects.push(Effect::Hold(hold));
        }
    }

    /// Whether a wave lost more than may be.
    fn see_gate(&mut self, place: usize, effects: &mut Vec<Effect>) {
        let wave = &self.body().waves[place];
        let (of, gate, number) = (wave.size(), wave.gate, wave.number);
        let state = &self.state.waves[place];
        let count =
            |set: &std::collections::BTreeSet<TaskId>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        let (failed, silent) = (count(&state.failed), count(&state.silent));
        let (pardoned_failed, pardoned_silent) = state.pardoned;
        if failed - pardoned_failed > gate.max_failed.at_most(of) {
            self.hold(Hold::Failed { failed, of, wave: number }, effects);
        } else if silent - pardoned_silent > gate.max_silent.at_most(of) {
            self.hold(Hold::Silent { silent, of, wave: number }, effects);
        }
    }

    /// Somebody looked whether an item works.
    pub(super) fn look(
        &mut self,
        item: CiId,
        (taken_at, health): (Timestamp, Health),
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let node = self.books.node(item).ok_or(Refusal::Item { item })?;
        if self.state.looks.get(&node).is_some_and(|(known, _)| taken_at <= *known) {
            return Ok(());
        }
        self.state.looks.insert(node, (taken_at, health));
        let task = self.books.task_of(node);
        let phase = task.map(|task| self.state.items[task].phase);
        match (health, task, phase) {
            (Health::Sick, Some(task), Some(Phase::Done | Phase::Returning)) => {
                self.fail(task, Fault::Sick, now, effects);
            }
            (Health::Sick, Some(task), Some(Phase::Planned)) => {
                if self.state.items[task].attempt > 0 {
                    self.fail(task, Fault::Sick, now, effects);
                } else {
                    self.lacks(node);
                    self.set(task, Phase::Skipped { why: Skip::Sick }, now);
                    self.skip_dependents(task, now);
                }
            }
            (Health::Sick, Some(task), Some(Phase::RolledBack | Phase::Mended)) => {
                self.go_out(task);
                self.set(task, Phase::Failed { fault: Fault::NoWayBack }, now);
            }
            // It is out already, for as long as somebody is at it.
            (Health::Sick, Some(_), Some(Phase::Failed { .. })) => {}
            (Health::Sick, Some(_), Some(phase)) if phase.is_at_work() => {}
            (Health::Sick, ..) => self.lacks(node),
            (Health::Healthy, Some(task), Some(Phase::Failed { .. })) => {
                self.set(task, Phase::Mended, now);
                self.come_back(task);
            }
            (Health::Healthy, ..) => {
                self.state.lacking.remove(&node);
                self.books.budget.mend(&self.layout.body().terrain, node);
            }
        }
        Ok(())
    }

    fn lacks(&mut self, node: crate::release::terrain::Node) {
        self.state.lacking.insert(node);
        self.books.budget.lack(&self.layout.body().terrain, node);
    }

    /// A VM left a hypervisor.
    pub(super) fn vacate(
        &mut self,
        vm: CiId,
        from: CiId,
        how: Vacated,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let node = self.books.node(vm).ok_or(Refusal::Item { item: vm })?;
        let from = self.books.node(from);
        if from.is_none() || self.host(node) != from {
            return Ok(());
        }
        let draining = from.and_then(|from| self.books.task_of(from));
        let draining = draining.filter(|&task| self.state.items[task].phase == Phase::Draining);
        match how {
            Vacated::Moved { to } => {
                let to = self.books.node(to);
                if to == from {
                    return Ok(());
                }
                self.state.moved.insert(node, to);
                self.books.settle_in(from, node, to);
                self.state.off.remove(&node);
                if self.state.stopped.get(&node).copied() == from {
                    self.state.stopped.remove(&node);
                    self.books.budget.give_back(&self.layout.body().terrain, node);
                }
            }
            Vacated::Off => {
                let (Some(_), Some(from)) = (draining, from) else { return Ok(()) };
                if !self.state.off.insert(node) {
                    return Ok(());
                }
                self.stop_for(node, from);
            }
        }
        if let Some(task) = draining {
            // It gets on: that is to be heard of it.
            self.set(task, Phase::Draining, now);
        }
        Ok(())
    }
}
