//! What the steps of a journal add up to.

use std::collections::{BTreeMap, BTreeSet};

use domain::change::{Action, ExactPackage, FileHash};
use domain::order::{
    ActionOutcome, Downtime, Ended, ExecutionId, Order, OrderResult, ProbeOutcome, WrittenFile,
};
use jiff::Timestamp;

use super::files::KeptFile;
use super::journal::Step;
use super::packages::KeptPackage;
use super::system::UnitTimes;

/// How far an execution is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) accepted: Option<(ExecutionId, Order, Timestamp)>,
    pub(super) is_fetched: bool,
    pub(super) way_back: Option<WayBack>,
    /// The action that was begun last, and how often it was tried: begun, or taken up again whatever came
    /// of it then.
    pub(super) started: Option<(usize, u32)>,
    pub(super) finished: Vec<ExactPackage>,
    pub(super) probed: Vec<ProbeOutcome>,
    pub(super) restarted: BTreeSet<String>,
    /// The boot that was to end.
    pub(super) rebooting: Option<String>,
    /// How many actions are done.
    pub(super) done: usize,
    pub(super) turned_back: Option<(usize, String)>,
    /// How often the way back was taken up again.
    pub(super) returns: u32,
    pub(super) interruptions: u32,
    pub(super) ended: Option<(Ended, Vec<Downtime>, Timestamp)>,
}

/// What was there before.
#[derive(Debug, Clone)]
pub(super) struct WayBack {
    pub(super) packages: Vec<KeptPackage>,
    pub(super) added: Vec<ExactPackage>,
    pub(super) files: Vec<KeptFile>,
    pub(super) units: UnitTimes,
}

impl Progress {
    pub(super) fn of(steps: &[Step]) -> Self {
        let mut progress = Self::default();
        for step in steps {
            progress.take(step.clone());
        }
        progress
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Accepted { execution, order, at, .. } => {
                self.accepted = Some((execution, *order, at));
            }
            Step::Fetched => self.is_fetched = true,
            Step::WayBackKept { packages, added, files, units } => {
                self.way_back = Some(WayBack { packages, added, files, units });
            }
            Step::Started { action } => {
                if self.started.is_none_or(|(place, _)| place != action) {
                    self.started = Some((action, 1));
                }
                self.rebooting = None;
            }
            Step::Finished { packages } => {
                for package in packages {
                    if !self.finished.contains(&package) {
                        self.finished.push(package);
                    }
                }
            }
            Step::Restarted { unit } => {
                self.restarted.insert(unit);
            }
            Step::Probed { outcome } => self.probed.push(outcome),
            Step::Rebooting { boot } => self.rebooting = Some(boot),
            Step::ActionDone { action } => self.done = action + 1,
            Step::TurnedBack { because, action } => self.turned_back = Some((action, because)),
            Step::Resumed { .. } => {
                self.interruptions += 1;
                match &mut self.started {
                    _ if self.turned_back.is_some() => self.returns += 1,
                    Some((action, tries)) if *action >= self.done => *tries += 1,
                    _ => {}
                }
            }
            Step::Ended { ended, downtime, at } => self.ended = Some((ended, downtime, at)),
        }
    }

    /// Files that were begun to be altered, each with all that it may have by that.
    pub(super) fn written(&self) -> BTreeMap<&str, BTreeSet<Option<FileHash>>> {
        let begun = self.started.map_or(0, |(place, _)| place + 1).max(self.done);
        let actions = self.accepted.iter().flat_map(|(_, order, _)| &order.actions);
        let mut written = BTreeMap::<_, BTreeSet<_>>::new();
        for action in actions.take(begun) {
            let Action::AlterFile { path, change } = action else { continue };
            let both = [change.before().sha256(), change.after().sha256()];
            written.entry(path.as_str()).or_default().extend(both);
        }
        written
    }

    /// All packages of the order.
    pub(super) fn packages(&self) -> Vec<ExactPackage> {
        let actions = self.accepted.iter().flat_map(|(_, order, _)| &order.actions);
        let packages = actions.filter_map(|action| match action {
            Action::Upgrade { packages } => Some(packages.clone()),
            _ => None,
        });
        packages.flatten().collect()
    }

    /// What is told of it, once it has ended.
    pub(super) fn result(&self) -> Option<OrderResult> {
        let (execution, order, began_at) = self.accepted.clone()?;
        let (ended, downtime, ended_at) = self.ended.clone()?;
        let failed = self.turned_back.as_ref().map(|(action, _)| *action);
        let outcome = |place: usize| match (&ended, failed) {
            (Ended::Done, _) => ActionOutcome::Done,
            (Ended::Refused { .. }, _) => ActionOutcome::Skipped,
            (_, Some(failed)) if place == failed => ActionOutcome::Failed,
            (_, Some(failed)) if place > failed => ActionOutcome::Skipped,
            (Ended::Stuck { .. }, _) => ActionOutcome::Failed,
            (Ended::RolledBack { .. }, _) => ActionOutcome::RolledBack,
        };
        let actions = (0..order.actions.len()).map(outcome).collect();
        let is_done = ended == Ended::Done;
        let mut files = BTreeMap::new();
        for action in order.actions.iter().filter(|_| is_done) {
            // The last one of a path says what it has.
            let Action::AlterFile { path, change } = action else { continue };
            match change.after().sha256() {
                Some(sha256) => drop(files.insert(path.clone(), sha256)),
                None => drop(files.remove(path)),
            }
        }
        Some(OrderResult {
            execution,
            agent: order.agent,
            ci: order.ci,
            plan: order.plan,
            order: order.nonce,
            actions,
            packages: if is_done { self.finished.clone() } else { Vec::new() },
            files: files.into_iter().map(|(path, sha256)| WrittenFile { path, sha256 }).collect(),
            probes: self.probed.clone(),
            ended,
            downtime,
            interruptions: self.interruptions,
            began_at,
            ended_at,
        })
    }
}
