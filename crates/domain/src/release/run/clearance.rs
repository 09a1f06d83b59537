//! Whether something may begin now, and what it waits for where not. What begins and what people are
//! told are the same answer.

use jiff::{SignedDuration, Timestamp};

use super::{Mode, Phase, Run, TaskId, Warrant};
use crate::release::budget::Limit;
use crate::release::layout::StepKind;
use crate::release::schedule::{HOUR, later};
use crate::release::terrain::{Node, stopping};
use crate::release::waiting::Waiting;

impl Run {
    /// What a task waits for.
    pub(super) fn waiting(&self, task: TaskId, now: Timestamp) -> Option<Waiting> {
        let item = &self.state.items[task];
        if let Some(since) = item.silent {
            return Some(Waiting::Silence { since });
        }
        match item.phase {
            Phase::Planned => self.clearance(task, now).err(),
            Phase::Returning => self.way_back(task, now).err(),
            Phase::Draining => {
                let of = self.books.residents[self.task(task).node as usize].len();
                let left = self.left(self.task(task).node);
                let counts = (u32::try_from(left).ok()?, u32::try_from(of).ok()?);
                Some(Waiting::Drain { left: counts.0, of: counts.1 })
            }
            Phase::Ordered | Phase::Working | Phase::Checking | Phase::RollingBack => {
                Some(Waiting::Report { since: item.since })
            }
            Phase::Done
            | Phase::Failed { .. }
            | Phase::Mended
            | Phase::RolledBack
            | Phase::Skipped { .. } => None,
        }
    }

    /// By what right a task's next step begins now.
    ///
    /// # Errors
    /// What it waits for.
    pub(super) fn clearance(&self, task: TaskId, now: Timestamp) -> Result<Warrant, Waiting> {
        if let Mode::Held(hold) | Mode::RollingBack(hold) | Mode::Aborted(hold) = &self.state.mode {
            return Err(Waiting::Held(hold.clone()));
        }
        self.clear_wave(task)?;
        let node = self.task(task).node;
        let item = self.body().terrain.node(node);
        let step = self.state.items[task].step;
        let consent = self.state.consents.get(&item.tenant).copied().unwrap_or_default();
        let Some(warrant) = consent.in_force() else {
            return Err(Waiting::Consent { tenant: item.tenant, deemed_at: consent.deemed_at });
        };
        let slot = self.task(task).slot(step);
        if now < slot.window.from {
            return Err(Waiting::Window { opens: slot.window.from });
        }
        if slot.window.until < later(now, slot.takes) {
            return Err(Waiting::WindowOver { closes: slot.window.until });
        }
        let not_done = item.depends_on.iter().find(|&&on| {
            let phase = self.books.task_of(on).map(|task| self.state.items[task].phase);
            phase.is_some_and(|phase| phase != Phase::Done)
        });
        if let Some(&on) = not_done {
            return Err(Waiting::Dependency { on: self.ci(on) });
        }
        self.clear_host(node)?;
        if step == StepKind::Reboot {
            self.clear_residents(node)?;
        }
        self.clear_rate(now)?;
        self.clear_limits(&self.out(node, step))?;
        Ok(warrant)
    }

    /// By what right a task goes back now.
    ///
    /// # Errors
    /// What it waits for.
    pub(super) fn way_back(&self, task: TaskId, now: Timestamp) -> Result<Warrant, Waiting> {
        let node = self.task(task).node;
        let item = self.body().terrain.node(node);
        let consent = self.state.consents.get(&item.tenant).copied().unwrap_or_default();
        // What was begun under a warrant may be undone under it, whatever became of the consent.
        let Some(warrant) = consent.warrant else {
            return Err(Waiting::Consent { tenant: item.tenant, deemed_at: consent.deemed_at });
        };
        let dependents = &self.books.dependents[node as usize];
        let ahead = dependents.iter().find(|&&it| {
            let task = self.books.task_of(it);
            task.is_some_and(|task| {
                self.state.items[task].phase == Phase::Returning
                    || self.books.at_work.contains(&task)
            })
        });
        if let Some(&dependent) = ahead {
            return Err(Waiting::Dependent { dependent: self.ci(dependent) });
        }
        self.clear_host(node)?;
        self.clear_rate(now)?;
        self.clear_limits(&[node])?;
        Ok(warrant)
    }

    fn clear_wave(&self, task: TaskId) -> Result<(), Waiting> {
        let at = self.state.wave;
        let Some(wave) = self.body().waves.get(at) else { return Ok(()) };
        if usize::from(self.task(task).wave) <= at {
            return Ok(());
        }
        let left = self.books.open.range(..wave.tasks.end).count();
        Err(match self.state.waves[at].settled {
            Some(settled) if left == 0 => {
                Waiting::Soak { wave: wave.number, until: later(settled, self.soak(at)) }
            }
            _ => Waiting::Wave { wave: wave.number, left: u32::try_from(left).unwrap_or(u32::MAX) },
        })
    }

    /// How long a wave is watched; one in which nothing began is not.
    pub(super) fn soak(&self, wave: usize) -> SignedDuration {
        let wave = &self.body().waves[wave];
        let has_begun = self.state.items[wave.tasks.clone()].iter().any(|it| it.attempt > 0);
        if has_begun { wave.soak } else { SignedDuration::ZERO }
    }

    fn clear_host(&self, node: Node) -> Result<(), Waiting> {
        let hosts = std::iter::successors(self.host(node), |&on| self.host(on)).take(8);
        for on in hosts {
            if self.books.task_of(on).is_some_and(|task| self.state.is_restarting(task)) {
                return Err(Waiting::HostAway { on: self.ci(on) });
            }
        }
        Ok(())
    }

    fn clear_residents(&self, node: Node) -> Result<(), Waiting> {
        let direct = &self.books.residents[node as usize];
        let theirs = direct.iter().flat_map(|&it| &self.books.residents[it as usize]);
        let busy = direct.iter().chain(theirs).find(|&&it| {
            let task = self.books.task_of(it);
            task.is_some_and(|task| self.state.items[task].phase.is_at_work())
        });
        busy.map_or(Ok(()), |&it| Err(Waiting::ResidentBusy { resident: self.ci(it) }))
    }

    pub(super) fn clear_rate(&self, now: Timestamp) -> Result<(), Waiting> {
        let per_hour = self.body().caps.per_hour.get();
        let begun = &self.state.begun;
        let recent = begun.iter().position(|&at| now < later(at, HOUR)).unwrap_or(begun.len());
        if begun.len() - recent < per_hour as usize {
            return Ok(());
        }
        // The next may begin when so many of them are more than an hour old.
        let last = begun[begun.len() - per_hour as usize];
        Err(Waiting::Rate { per_hour, until: later(last, HOUR) })
    }

    fn clear_limits(&self, nodes: &[Node]) -> Result<(), Waiting> {
        let terrain = &self.body().terrain;
        let Some(limit) = self.books.budget.limit(terrain, nodes) else { return Ok(()) };
        Err(match limit {
            Limit::Total { down, most } => Waiting::Unavailable { down, most },
            Limit::Zone { zone, down } => {
                Waiting::Zone { zone: terrain.zones[zone as usize].clone(), down }
            }
            Limit::Domain { domain, down, most } => {
                let domain = terrain.domains[domain as usize].name.clone();
                Waiting::Domain { domain, down, most }
            }
            Limit::Service { service, down } => {
                let members = &terrain.services[service as usize];
                Waiting::Service { service: members.name.clone(), down, of: members.size }
            }
        })
    }

    /// All that is out while a step is done.
    pub(super) fn out(&self, node: Node, step: StepKind) -> Vec<Node> {
        match step {
            StepKind::Install => vec![node],
            StepKind::Reboot => stopping(&self.body().terrain, &self.books.residents, node),
        }
    }

    /// How many VMs still run on something that is drained.
    pub(super) fn left(&self, node: Node) -> usize {
        let residents = self.books.residents[node as usize].iter();
        residents.filter(|it| !self.state.off.contains(it)).count()
    }
}
