//! What people decide.

use jiff::Timestamp;

use super::event::{Command, Effect, Refusal};
use super::{End, Mode, Phase, Run, Skip, TaskId};
use crate::cloud::{EventId, UserId};
use crate::release::layout::{Return, StepKind};
use crate::release::waiting::Hold;

impl Run {
    pub(super) fn command(
        &mut self,
        id: EventId,
        by: UserId,
        command: Command,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.state.commands.contains(&id) {
            return Ok(());
        }
        let mode = self.state.mode.clone();
        let refused = Refusal::Mode { mode: mode.clone(), command: command.as_str() };
        let is_on_its_way = self.state.ended.is_none();
        match (mode, command) {
            (Mode::Running, Command::Hold { reason }) if is_on_its_way => {
                self.hold(Hold::Operator { user: by, reason }, effects);
            }
            // It is held, whoever was first.
            (Mode::Held(_), Command::Hold { .. }) => {}
            (Mode::Held(_), Command::Resume { .. }) => self.resume(),
            (Mode::Running | Mode::Held(_), Command::Abort { reason }) if is_on_its_way => {
                self.state.mode = Mode::Aborted(Hold::Operator { user: by, reason });
                self.leave_out_the_rest(Skip::Aborted, now, effects);
            }
            (Mode::Running | Mode::Held(_) | Mode::Aborted(_), Command::RollBack { reason }) => {
                self.state.mode = Mode::RollingBack(Hold::Operator { user: by, reason });
                self.state.ended = None;
                self.state.told.clear();
                self.roll_back(now, effects);
            }
            (_, Command::SetAside { items, .. }) => {
                let tasks = items.iter().map(|&item| {
                    let found = self.books.task(item);
                    found.ok_or(Refusal::Item { item })
                });
                let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
                for task in tasks {
                    self.set_aside(task, now, effects);
                }
            }
            _ => return Err(refused),
        }
        self.state.commands.insert(id);
        Ok(())
    }

    /// What failed until now is let pass, or it would hold at once again.
    fn resume(&mut self) {
        self.state.mode = Mode::Running;
        for wave in &mut self.state.waves {
            let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
            wave.pardoned = (count(wave.failed.len()), count(wave.silent.len()));
        }
    }

    fn leave_out_the_rest(&mut self, why: Skip, now: Timestamp, effects: &mut Vec<Effect>) {
        for task in 0..self.state.items.len() {
            match self.state.items[task].phase {
                Phase::Planned => self.set(task, Phase::Skipped { why }, now),
                Phase::Draining => self.refill(task, why, now, effects),
                _ => {}
            }
        }
    }

    /// It does not restart after all.
    pub(super) fn refill(
        &mut self,
        task: TaskId,
        why: Skip,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let stopped = self.come_back(task);
        self.set(task, Phase::Skipped { why }, now);
        effects.push(Effect::Refill { item: self.ci(self.task(task).node), stopped });
    }

    fn roll_back(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.leave_out_the_rest(Skip::RolledBack, now, effects);
        for task in 0..self.state.items.len() {
            let item = &self.state.items[task];
            // An item whose restart was left out was altered all the same.
            let is_altered = match item.phase {
                Phase::Skipped { .. } => item.step == StepKind::Reboot,
                Phase::Done | Phase::Mended | Phase::Failed { .. } => true,
                // It may never answer: its machine goes back all the same.
                Phase::Ordered | Phase::Working | Phase::Checking => {
                    item.silent.is_some() && self.task(task).can_return == Return::Snapshot
                }
                _ => false,
            };
            if !is_altered || !self.can_return(task) {
                continue;
            }
            if item.is_out {
                self.send_back(task, now, effects);
            } else {
                self.set(task, Phase::Returning, now);
            }
        }
    }

    fn set_aside(&mut self, task: TaskId, now: Timestamp, effects: &mut Vec<Effect>) {
        let why = Skip::SetAside;
        match self.state.items[task].phase {
            Phase::Planned => self.set(task, Phase::Skipped { why }, now),
            Phase::Draining => self.refill(task, why, now, effects),
            _ => {}
        }
        if self.state.items[task].is_out && self.state.aside.insert(task) {
            self.books.leave_aside(self.layout.body(), &self.state, task);
        }
        self.skip_dependents(task, now);
    }

    /// Whether an end is reached that was not there before.
    pub(super) fn end(&mut self, end: End, effects: &mut Vec<Effect>) {
        if self.state.ended.replace(end).is_none() {
            self.tell_tenants(self.state.items.len(), effects);
            effects.push(Effect::ReleaseDone { end, tally: self.tally() });
        }
    }
}
