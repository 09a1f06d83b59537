//! What follows from a run's state and is kept ready: it is made anew when a run is loaded.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::{Phase, Run, State, TaskId};
use crate::cloud::CiId;
use crate::release::budget::Budget;
use crate::release::layout::Body;
use crate::release::terrain::Node;

#[derive(Debug, Clone)]
pub(super) struct Books {
    pub(super) budget: Budget,
    /// Tasks with which something is still to happen by itself. A silent item is none.
    pub(super) open: BTreeSet<TaskId>,
    /// Tasks that somebody is at, and that are heard of.
    pub(super) at_work: BTreeSet<TaskId>,
    pub(super) dependents: Vec<Vec<Node>>,
    /// By node, what runs on it now.
    pub(super) residents: Vec<Vec<Node>>,
    tasks: HashMap<CiId, TaskId>,
    nodes: HashMap<CiId, Node>,
    /// By node.
    task_of: Vec<Option<TaskId>>,
}

impl Books {
    pub(super) fn new(body: &Body, state: &State) -> Self {
        let terrain = &body.terrain;
        let mut task_of = vec![None; terrain.nodes.len()];
        let mut tasks = HashMap::with_capacity(body.tasks.len());
        for (place, task) in body.tasks.iter().enumerate() {
            task_of[task.node as usize] = Some(place);
            tasks.insert(terrain.node(task.node).ci, place);
        }
        let mut books = Self {
            budget: Budget::new(terrain, &body.caps),
            open: BTreeSet::new(),
            at_work: BTreeSet::new(),
            dependents: terrain.dependents(),
            residents: terrain.residents(),
            tasks,
            nodes: (0..).zip(&terrain.nodes).map(|(node, item)| (item.ci, node)).collect(),
            task_of,
        };
        for (&vm, &to) in &state.moved {
            books.settle_in(terrain.node(vm).runs_on, vm, to);
        }
        for (&node, (_, health)) in &state.looks {
            match health {
                super::Health::Healthy => books.budget.mend(terrain, node),
                super::Health::Sick if state.lacking.contains(&node) => {
                    books.budget.lack(terrain, node);
                }
                super::Health::Sick => {}
            }
        }
        for (place, item) in state.items.iter().enumerate() {
            if item.is_out {
                books.budget.take(terrain, body.tasks[place].node);
            }
            books.file(place, item.phase, item.silent);
        }
        state.stopped.keys().for_each(|&node| books.budget.take(terrain, node));
        for &task in &state.aside {
            books.leave_aside(body, state, task);
        }
        books
    }

    /// A task, and what is stopped for it, keeps the other zones waiting no more.
    pub(super) fn leave_aside(&mut self, body: &Body, state: &State, task: TaskId) {
        let node = body.tasks[task].node;
        let theirs = state.stopped.iter().filter(|(_, root)| **root == node).map(|(&it, _)| it);
        for node in theirs.chain([node]) {
            self.budget.set_aside(&body.terrain, node);
        }
    }

    pub(super) fn task(&self, item: CiId) -> Option<TaskId> {
        self.tasks.get(&item).copied()
    }

    pub(super) fn node(&self, item: CiId) -> Option<Node> {
        self.nodes.get(&item).copied()
    }

    pub(super) fn task_of(&self, node: Node) -> Option<TaskId> {
        self.task_of[node as usize]
    }

    /// Files a task by how it stands.
    pub(super) fn file(&mut self, task: TaskId, phase: Phase, silent: Option<Timestamp>) {
        let is_heard_at_work = phase.is_at_work() && silent.is_none();
        let is_open = is_heard_at_work || matches!(phase, Phase::Planned | Phase::Returning);
        let set = |set: &mut BTreeSet<TaskId>, is_in: bool| {
            if is_in { set.insert(task) } else { set.remove(&task) }
        };
        set(&mut self.at_work, is_heard_at_work);
        set(&mut self.open, is_open);
    }

    /// A VM runs elsewhere from now on.
    pub(super) fn settle_in(&mut self, from: Option<Node>, vm: Node, to: Option<Node>) {
        if let Some(from) = from {
            self.residents[from as usize].retain(|&it| it != vm);
        }
        if let Some(to) = to {
            self.residents[to as usize].push(vm);
        }
    }
}

impl Run {
    /// A task stands otherwise from now on.
    pub(super) fn set(&mut self, task: TaskId, phase: Phase, now: Timestamp) {
        let item = &mut self.state.items[task];
        (item.phase, item.since, item.silent) = (phase, now, None);
        self.books.file(task, phase, None);
    }

    /// The release has the item out.
    pub(super) fn go_out(&mut self, task: TaskId) {
        let is_out = &mut self.state.items[task].is_out;
        if !std::mem::replace(is_out, true) {
            let terrain = &self.layout.body().terrain;
            self.books.budget.take(terrain, self.layout.body().tasks[task].node);
        }
    }

    /// The item works again, and with it what was stopped for it: that is told.
    pub(super) fn come_back(&mut self, task: TaskId) -> Vec<CiId> {
        let node = self.task(task).node;
        if !std::mem::replace(&mut self.state.items[task].is_out, false) {
            return Vec::new();
        }
        let layout = std::sync::Arc::clone(&self.layout);
        let terrain = &layout.body().terrain;
        self.books.budget.give_back(terrain, node);
        self.state.aside.remove(&task);
        let theirs = self.state.stopped.iter().filter(|(_, root)| **root == node);
        let theirs: Vec<Node> = theirs.map(|(&it, _)| it).collect();
        for &node in &theirs {
            self.state.stopped.remove(&node);
            self.state.off.remove(&node);
            self.books.budget.give_back(terrain, node);
        }
        theirs.into_iter().map(|node| terrain.node(node).ci).collect()
    }

    /// Something is out because `root` restarts.
    pub(super) fn stop_for(&mut self, node: Node, root: Node) {
        if self.state.stopped.insert(node, root).is_none() {
            self.books.budget.take(&self.layout.body().terrain, node);
        }
    }

    /// Where something runs now.
    pub(super) fn host(&self, node: Node) -> Option<Node> {
        let planned = self.body().terrain.node(node).runs_on;
        self.state.moved.get(&node).copied().unwrap_or(planned)
    }

    /// Counts kept ready, as they would be made anew.
    #[cfg(test)]
    pub(in crate::release) fn books_are_right(&self) -> bool {
        let anew = Books::new(self.body(), &self.state);
        format!("{:?}", anew.budget) == format!("{:?}", self.books.budget)
            && anew.open == self.books.open
            && anew.at_work == self.books.at_work
    }
}

impl State {
    /// Whether a task takes down what runs on its item.
    pub(super) fn is_restarting(&self, task: TaskId) -> bool {
        let item = &self.items[task];
        let restarts = item.step == super::StepKind::Reboot || item.phase == Phase::RollingBack;
        item.is_out && restarts
    }
}
