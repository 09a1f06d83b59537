//! Time passes, and what may begin begins.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::event::{Effect, End, Job};
use super::{Mode, Phase, Run, Skip, TaskId, Warrant};
use crate::change::Outcome;
use crate::cloud::TenantId;
use crate::release::layout::StepKind;
use crate::release::schedule::{HOUR, later};

impl Run {
    pub(super) fn advance(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while self.state.begun.front().is_some_and(|&at| later(at, HOUR) <= now) {
            self.state.begun.pop_front();
        }
        self.listen(now, effects);
        self.close_windows(now, effects);
        match self.state.mode {
            Mode::Running if self.state.ended.is_none() => loop {
                self.begin(now, effects);
                if !self.pass_wave(now, effects) {
                    break;
                }
                // Windows of the wave that has come may be over as well.
                self.close_windows(now, effects);
            },
            Mode::Running | Mode::Held(_) => {}
            Mode::RollingBack(_) => {
                self.go_back(now, effects);
                if self.books.open.is_empty() {
                    self.end(End::RolledBack, effects);
                }
            }
            Mode::Aborted(_) => {
                if self.books.open.is_empty() {
                    self.end(End::Aborted, effects);
                }
            }
        }
    }

    /// Who says nothing for too long is silent.
    fn listen(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let tasks: Vec<TaskId> = self.books.at_work.iter().copied().collect();
        for task in tasks {
            // One that is empty, and may not restart now, is not waited for.
            let is_empty = self.state.items[task].phase == Phase::Draining
                && self.left(self.task(task).node) == 0;
            if !is_empty && self.patience_ends(task) <= now {
                self.fall_silent(task, now, effects);
            }
        }
    }

    fn patience_ends(&self, task: TaskId) -> Timestamp {
        let item = &self.state.items[task];
        let takes = self.task(task).slot(item.step).takes;
        later(item.since, self.body().patience.max(takes))
    }

    /// What of the waves that have come has not begun and cannot any more is left out.
    fn close_windows(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(wave) = self.body().waves.get(self.state.wave) else { return };
        let tasks: Vec<TaskId> = self.books.open.range(..wave.tasks.end).copied().collect();
        for task in tasks {
            let item = &self.state.items[task];
            let slot = self.task(task).slot(item.step);
            match item.phase {
                Phase::Planned if slot.window.until < later(now, slot.takes) => {
                    self.set(task, Phase::Skipped { why: Skip::WindowOver }, now);
                    self.skip_dependents(task, now);
                }
                Phase::Draining if slot.window.until <= now => {
                    self.refill(task, Skip::WindowOver, now, effects);
                    self.skip_dependents(task, now);
                }
                _ => {}
            }
        }
    }

    /// Begins all of the waves that have come that may begin.
    fn begin(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(wave) = self.body().waves.get(self.state.wave) else { return };
        let tasks: Vec<TaskId> = self.books.open.range(..wave.tasks.end).copied().collect();
        for task in tasks {
            match self.state.items[task].phase {
                Phase::Planned if !self.books.budget.is_spent() => {
                    if let Ok(warrant) = self.clearance(task, now) {
                        self.start(task, warrant, now, effects);
                    }
                }
                Phase::Draining if self.left(self.task(task).node) == 0 => {
                    self.restart_drained(task, now, effects);
                }
                _ => {}
            }
        }
    }

    /// The one place where something begins; it needs the warrant.
    fn start(&mut self, task: TaskId, warrant: Warrant, now: Timestamp, effects: &mut Vec<Effect>) {
        let node = self.task(task).node;
        let step = self.state.items[task].step;
        let job = self.order(task, warrant);
        self.go_out(task);
        self.state.begun.push_back(now);
        // What begins late, because it was silent or had no consent, is watched as long as others.
        self.state.waves[self.state.wave].settled = None;
        match step {
            StepKind::Install => {
                self.set(task, Phase::Ordered, now);
                effects.push(Effect::Start(job));
            }
            StepKind::Reboot => {
                for other in self.out(node, step).into_iter().skip(1) {
                    self.stop_for(other, node);
                }
                if self.body().terrain.node(node).is_drained() && self.left(node) > 0 {
                    self.set(task, Phase::Draining, now);
                    let residents = self.books.residents[node as usize].iter();
                    let residents = residents.map(|&it| self.ci(it)).collect();
                    effects.push(Effect::Drain { job, residents });
                } else {
                    self.set(task, Phase::Ordered, now);
                    effects.push(Effect::Reboot(job));
                }
            }
        }
    }

    /// Everything left it: it restarts, if it still may.
    fn restart_drained(&mut self, task: TaskId, now: Timestamp, effects: &mut Vec<Effect>) {
        let tenant = self.body().terrain.node(self.task(task).node).tenant;
        let consent = self.state.consents.get(&tenant).copied().unwrap_or_default();
        if let Some(warrant) = consent.in_force() {
            let job = self.order(task, warrant);
            self.set(task, Phase::Ordered, now);
            effects.push(Effect::Reboot(job));
        }
    }

    /// A new attempt at a task's step.
    fn order(&mut self, task: TaskId, warrant: Warrant) -> Job {
        let item = &mut self.state.items[task];
        item.attempt += 1;
        let (attempt, step) = (item.attempt, item.step);
        let (stage, item) = (self.task(task).slot(step).stage, self.ci(self.task(task).node));
        Job { item, attempt, stage, warrant }
    }

    /// Sends back what is to go back, last things first.
    fn go_back(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let tasks: Vec<TaskId> = self.books.open.iter().rev().copied().collect();
        for task in tasks {
            let is_next = self.state.items[task].phase == Phase::Returning;
            if is_next && self.way_back(task, now).is_ok() {
                self.state.begun.push_back(now);
                self.send_back(task, now, effects);
            }
        }
    }

    /// Whether the wave at work is through, and the next one has come.
    fn pass_wave(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let place = self.state.wave;
        let Some(wave) = self.layout.body().waves.get(place).cloned() else {
            self.end(End::Released, effects);
            return false;
        };
        if self.books.open.range(..wave.tasks.end).next().is_some() {
            return false;
        }
        let settled = *self.state.waves[place].settled.get_or_insert(now);
        if now < later(settled, self.soak(place)) {
            return false;
        }
        let tally = self.tally_of(wave.tasks.clone());
        effects.push(Effect::WaveDone { wave: wave.number, tally });
        self.tell_tenants(wave.tasks.end, effects);
        self.state.wave += 1;
        true
    }

    /// Tells of tenants all of whose items have a place before `end`.
    pub(super) fn tell_tenants(&mut self, end: TaskId, effects: &mut Vec<Effect>) {
        let body = self.layout.body();
        let mut last: BTreeMap<TenantId, (TaskId, Outcome)> = BTreeMap::new();
        for (task, item) in self.state.items.iter().enumerate() {
            let tenant = body.terrain.node(body.tasks[task].node).tenant;
            let outcome = match item.phase {
                Phase::Done => Outcome::Done,
                Phase::RolledBack => Outcome::RolledBack,
                _ => Outcome::Failed,
            };
            let entry = last.entry(tenant).or_insert((task, outcome));
            *entry = (task, worse(entry.1, outcome));
        }
        let due = last.into_iter().filter(|(_, (task, _))| *task < end);
        for (tenant, (_, outcome)) in due {
            if let (Some(plan), true) = (body.plans.get(&tenant), self.state.told.insert(tenant)) {
                effects.push(Effect::TenantDone { tenant, plan: plan.hash(), outcome });
            }
        }
    }

    /// When time alone may let something happen next.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let mut at = |instant: Timestamp| {
            if now < instant {
                next = Some(next.map_or(instant, |known| known.min(instant)));
            }
        };
        self.books.at_work.iter().for_each(|&task| at(self.patience_ends(task)));
        if let Some(wave) = self.body().waves.get(self.state.wave) {
            if let Some(settled) = self.state.waves[self.state.wave].settled {
                at(later(settled, self.soak(self.state.wave)));
            }
            for &task in self.books.open.range(..wave.tasks.end) {
                let item = &self.state.items[task];
                let slot = self.task(task).slot(item.step);
                at(slot.window.from);
                // The first instant at which it is too late.
                let takes = match item.phase {
                    Phase::Planned => slot.takes,
                    _ => jiff::SignedDuration::ZERO,
                };
                let last = slot.window.until.checked_sub(takes).unwrap_or(Timestamp::MIN);
                at(later(last, jiff::SignedDuration::from_nanos(1)));
            }
        }
        if let Err(waiting) = self.clear_rate(now) {
            waiting.passes_at().into_iter().for_each(&mut at);
        }
        next
    }
}

/// Of a tenant's items the one that is worst off decides.
const fn worse(a: Outcome, b: Outcome) -> Outcome {
    match (a, b) {
        (Outcome::Failed, _) | (_, Outcome::Failed) => Outcome::Failed,
        (Outcome::RolledBack, _) | (_, Outcome::RolledBack) => Outcome::RolledBack,
        (Outcome::Done, Outcome::Done) => Outcome::Done,
    }
}
