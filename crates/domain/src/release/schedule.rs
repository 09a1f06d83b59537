//! When each step is to be done: the release as it goes if every step takes as long as it did before.
//!
//! Wave by wave, in planned time: whatever may begin begins, under the same limits as in the run; then
//! the clock moves to when the next step ends, a window opens or the rate fuse allows more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::budget::{Budget, Limit};
use super::fleet::{Condition, Order, Target, Windows, joined, without};
use super::layout::{StepKind, Unplaced};
use super::seats::{Seat, WaveNumber};
use super::terrain::{Node, Terrain, stopping};
use crate::change::Window;
use crate::cloud::TenantId;

/// Length of the rate fuse.
pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// An item that has its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) node: Node,
    pub(super) wave: WaveNumber,
    pub(super) install: Span,
    pub(super) reboot: Option<Span>,
}

/// When a step begins, how long it takes, and when its window closes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) at: Timestamp,
    pub(super) takes: SignedDuration,
    pub(super) closes: Timestamp,
}

pub(super) struct Scheduled {
    /// In the order of their waves; within, in that of their seats.
    pub(super) placed: Vec<Placed>,
    pub(super) unplaced: BTreeMap<Node, Unplaced>,
}

/// Places everything that has a place.
pub(super) fn schedule(
    order: &Order<'_>,
    targets: &[Target],
    terrain: &Terrain,
    seats: &[Seat],
    now: Timestamp,
) -> Scheduled {
    let mut turns: Vec<Node> =
        (0..).zip(targets).filter(|(_, it)| it.work.is_some()).map(|(node, _)| node).collect();
    turns.sort_by_key(|&node| (seats[node as usize], node));
    let mut scheduler = Scheduler::new(order, targets, terrain, now);
    turns.retain(|&node| scheduler.is_possible(node));
    for wave in turns.chunk_by(|a, b| seats[*a as usize].wave == seats[*b as usize].wave) {
        let number = wave.first().map_or(0, |&node| seats[node as usize].wave);
        scheduler.wave(number, wave);
    }
    let Scheduler { spans, unplaced, .. } = scheduler;
    let placed = turns.into_iter().filter_map(|node| {
        let [install, reboot] = spans[node as usize];
        let wave = seats[node as usize].wave;
        let is_placed = !unplaced.contains_key(&node);
        install.filter(|_| is_placed).map(|install| Placed { node, wave, install, reboot })
    });
    Scheduled { placed: placed.collect(), unplaced }
}

/// How long a wave of this number is watched.
pub(super) fn soak(order: &Order<'_>, wave: WaveNumber) -> SignedDuration {
    match step_of(order, wave) {
        None => order.profile.canary().soak,
        Some(step) => step.soak,
    }
}

/// The profile's step for a wave; those that the caps add are as the last one.
pub(super) fn step_of<'a>(order: &Order<'a>, wave: WaveNumber) -> Option<&'a super::profile::Step> {
    let place = usize::from(wave.checked_sub(1)?);
    let steps = order.profile.steps();
    steps.get(place).or(steps.last())
}

/// Spans in which a step may be done.
struct Open {
    spans: Vec<Window>,
    /// The first that is not over.
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Busy(StepKind),
    Done,
}

#[derive(Clone, Copy)]
struct Job {
    node: Node,
    step: StepKind,
    takes: SignedDuration,
}

/// Jobs by zone and openings, so that a closed window or another zone costs one look.
type Pending = BTreeMap<(Option<u32>, usize), Vec<Job>>;

struct Scheduler<'a> {
    order: &'a Order<'a>,
    targets: &'a [Target],
    terrain: &'a Terrain,
    residents: Vec<Vec<Node>>,
    openings: Openings<'a>,
    budget: Budget,
    states: Vec<State>,
    spans: Vec<[Option<Span>; 2]>,
    unplaced: BTreeMap<Node, Unplaced>,
    begun: VecDeque<Timestamp>,
    /// When the next wave may begin.
    ready: Timestamp,
}

impl<'a> Scheduler<'a> {
    fn new(
        order: &'a Order<'a>,
        targets: &'a [Target],
        terrain: &'a Terrain,
        now: Timestamp,
    ) -> Self {
        Self {
            order,
            targets,
            terrain,
            residents: terrain.residents(),
            openings: Openings::new(order, now),
            budget: Budget::new(terrain, &order.caps),
            states: vec![State::Waits; targets.len()],
            spans: vec![[None; 2]; targets.len()],
            unplaced: BTreeMap::new(),
            begun: VecDeque::new(),
            ready: now,
        }
    }

    /// Whether an item could have a place if it were alone in the world; recorded where not.
    fn is_possible(&mut self, node: Node) -> bool {
        if self.terrain.node(node).condition == Condition::Down {
            self.unplaced.insert(node, Unplaced::Down);
            return false;
        }
        let steps = [StepKind::Install, StepKind::Reboot];
        let problem = steps.into_iter().find_map(|step| self.impossible(node, step));
        let is_possible = problem.is_none();
        self.unplaced.extend(problem.map(|problem| (node, problem)));
        is_possible
    }

    fn impossible(&mut self, node: Node, step: StepKind) -> Option<Unplaced> {
        let (takes, windows) = self.step(node, step)?;
        let opening = self.openings.find(windows, self.terrain.node(node).tenant);
        if let Some(problem) = self.openings.too_short(opening, step, takes) {
            return Some(problem);
        }
        let out = self.out(node, step);
        let needed = u32::try_from(out.len()).unwrap_or(u32::MAX);
        match self.budget.limit(self.terrain, &out)? {
            Limit::Service { service, down } => {
                let members = &self.terrain.services[service as usize];
                let is_in = |node: &&Node| self.terrain.node(**node).services.contains(&service);
                let count = u32::try_from(out.iter().filter(is_in).count()).unwrap_or(u32::MAX);
                Some(Unplaced::Service {
                    service: members.name.clone(),
                    members: members.size,
                    spare: members.spare,
                    needed: down + count,
                })
            }
            Limit::Total { .. } | Limit::Zone { .. } | Limit::Domain { .. } => {
                Some(Unplaced::TooMany { needed })
            }
        }
    }

    fn step(&self, node: Node, step: StepKind) -> Option<(SignedDuration, &'a Arc<Windows>)> {
        let work = self.targets[node as usize].work.as_ref()?;
        match step {
            StepKind::Install => Some((work.takes, &work.windows)),
            StepKind::Reboot => work.reboot.as_ref().map(|it| (it.takes, &it.windows)),
        }
    }

    /// All that is out while a step is done.
    fn out(&self, node: Node, step: StepKind) -> Vec<Node> {
        match step {
            StepKind::Install => vec![node],
            StepKind::Reboot => stopping(self.terrain, &self.residents, node),
        }
    }

    fn wave(&mut self, number: WaveNumber, nodes: &[Node]) {
        let mut pending = Pending::new();
        for &node in nodes {
            self.push(&mut pending, node, StepKind::Install);
        }
        let mut active: BinaryHeap<Reverse<(Timestamp, Node, StepKind)>> = BinaryHeap::new();
        let mut now = self.ready;
        let mut end = None;
        loop {
            while let Some(&Reverse((_, node, step))) =
                active.peek().filter(|Reverse((ends, ..))| *ends <= now)
            {
                active.pop();
                self.end(&mut pending, node, step);
            }
            let begun = self.begin(&mut pending, now);
            for job in begun {
                let ends = later(now, job.takes);
                end = end.max(Some(ends));
                active.push(Reverse((ends, job.node, job.step)));
            }
            pending.retain(|_, jobs| !jobs.is_empty());
            let ends = active.peek().map(|Reverse((ends, ..))| *ends);
            match ends.into_iter().chain(self.opens(&pending, now)).min() {
                Some(next) if !(pending.is_empty() && active.is_empty()) => now = next,
                _ => break,
            }
        }
        for job in pending.into_values().flatten() {
            self.leave(job);
        }
        if let Some(end) = end {
            // One that says nothing, or fails and goes back, must not cost the next wave its window.
            let reserve = self.order.profile.patience();
            self.ready = later(later(end, reserve), soak(self.order, number));
        }
    }

    fn push(&mut self, pending: &mut Pending, node: Node, step: StepKind) {
        let Some((takes, windows)) = self.step(node, step) else { return };
        let item = self.terrain.node(node);
        let opening = self.openings.find(windows, item.tenant);
        pending.entry((item.zone, opening)).or_default().push(Job { node, step, takes });
    }

    fn end(&mut self, pending: &mut Pending, node: Node, step: StepKind) {
        for node in self.out(node, step) {
            self.budget.give_back(self.terrain, node);
        }
        let has_reboot = self.step(node, StepKind::Reboot).is_some();
        self.states[node as usize] = if step == StepKind::Install && has_reboot {
            self.push(pending, node, StepKind::Reboot);
            State::Waits
        } else {
            State::Done
        };
    }

    /// Begins all that may begin now.
    fn begin(&mut self, pending: &mut Pending, now: Timestamp) -> Vec<Job> {
        let mut begun = Vec::new();
        for (&(zone, opening), jobs) in pending {
            let busy = self.budget.zone();
            if self.budget.is_spent() || self.fuse(now).is_some() {
                break;
            }
            if zone.is_some() && busy.is_some() && zone != busy {
                continue;
            }
            let Some(closes) = self.openings.closes(opening, now) else { continue };
            jobs.retain(|&job| {
                let is_over = self.budget.is_spent() || self.is_blown();
                if is_over || closes < later(now, job.takes) || !self.may_begin(job) {
                    return true;
                }
                for node in self.out(job.node, job.step) {
                    self.budget.take(self.terrain, node);
                }
                self.begun.push_back(now);
                self.states[job.node as usize] = State::Busy(job.step);
                let span = Span { at: now, takes: job.takes, closes };
                self.spans[job.node as usize][place(job.step)] = Some(span);
                begun.push(job);
                false
            });
        }
        begun
    }

    fn may_begin(&self, job: Job) -> bool {
        let item = self.terrain.node(job.node);
        let is_behind = item.depends_on.iter().any(|&on| {
            let has_work = self.targets[on as usize].work.is_some();
            has_work && self.states[on as usize] != State::Done
        });
        if is_behind {
            return false;
        }
        let is_host_away = std::iter::successors(item.runs_on, |&on| self.terrain.node(on).runs_on)
            // A host that runs on itself is nonsense, and ends somewhere all the same.
            .take(8)
            .any(|on| self.states[on as usize] == State::Busy(StepKind::Reboot));
        if is_host_away {
            return false;
        }
        if job.step == StepKind::Install {
            return self.budget.limit(self.terrain, &[job.node]).is_none();
        }
        let out = self.out(job.node, job.step);
        let mut residents = self.all_residents(job.node);
        let is_busy = residents.any(|it| matches!(self.states[it as usize], State::Busy(_)));
        !is_busy && self.budget.limit(self.terrain, &out).is_none()
    }

    fn all_residents(&self, node: Node) -> impl Iterator<Item = Node> + '_ {
        let direct = &self.residents[node as usize];
        let theirs = direct.iter().flat_map(|&it| &self.residents[it as usize]);
        direct.iter().chain(theirs).copied()
    }

    /// When the rate fuse allows another step, if it does not now.
    fn fuse(&mut self, now: Timestamp) -> Option<Timestamp> {
        while self.begun.front().is_some_and(|&at| later(at, HOUR) <= now) {
            self.begun.pop_front();
        }
        self.begun.front().filter(|_| self.is_blown()).map(|&at| later(at, HOUR))
    }

    /// Whether so many steps began as may within an hour; older ones are to be taken out first.
    fn is_blown(&self) -> bool {
        self.begun.len() >= self.order.caps.per_hour.get() as usize
    }

    /// When time alone lets something begin next.
    fn opens(&mut self, pending: &Pending, now: Timestamp) -> Option<Timestamp> {
        let fuse = self.fuse(now);
        let keys = pending.keys().map(|&(_, opening)| opening);
        keys.filter_map(|opening| self.openings.opens_after(opening, now)).chain(fuse).min()
    }

    /// It found no place.
    fn leave(&mut self, job: Job) {
        let Job { node, step, .. } = job;
        let behind = self.terrain.node(node).depends_on.iter().find(|&&on| {
            self.targets[on as usize].work.is_some() && self.states[on as usize] != State::Done
        });
        let until = self.order.until;
        let problem = match behind {
            Some(&on) => Unplaced::Behind { on: self.terrain.node(on).ci },
            None => Unplaced::Crowded { step, until },
        };
        self.unplaced.insert(node, problem);
    }
}

const fn place(step: StepKind) -> usize {
    match step {
        StepKind::Install => 0,
        StepKind::Reboot => 1,
    }
}

/// An instant so much later, or the end of time.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Windows without freezes, once for all items that have the same.
struct Openings<'a> {
    order: &'a Order<'a>,
    whole: Window,
    open: Vec<Open>,
    /// By the windows' address, which lives as long as the order, and the tenant, where it has
    /// freezes of its own.
    known: HashMap<(*const Windows, Option<TenantId>), usize>,
    /// By opening, whether there were longer windows without the freezes.
    unfrozen: Vec<Vec<Window>>,
}

impl<'a> Openings<'a> {
    fn new(order: &'a Order<'a>, now: Timestamp) -> Self {
        let whole = Window { from: now, until: order.until };
        Self { order, whole, open: Vec::new(), known: HashMap::new(), unfrozen: Vec::new() }
    }

    fn find(&mut self, windows: &'a Arc<Windows>, tenant: TenantId) -> usize {
        let freezes = self.order.freezes;
        let tenant = freezes.iter().any(|it| it.tenant == Some(tenant)).then_some(tenant);
        let key = (Arc::as_ptr(windows), tenant);
        if let Some(&place) = self.known.get(&key) {
            return place;
        }
        let theirs = freezes.iter().filter(|it| it.tenant.is_none() || it.tenant == tenant);
        let closed = joined(theirs.map(|it| it.span).collect(), self.whole);
        let unfrozen = windows.within(self.whole);
        self.open.push(Open { spans: without(&unfrozen, &closed), next: 0 });
        self.unfrozen.push(unfrozen);
        let place = self.open.len() - 1;
        self.known.insert(key, place);
        place
    }

    /// Why no window is long enough, if none is.
    fn too_short(&self, opening: usize, step: StepKind, takes: SignedDuration) -> Option<Unplaced> {
        let fits = |spans: &[Window]| spans.iter().any(|it| later(it.from, takes) <= it.until);
        let until = self.order.until;
        if fits(&self.open[opening].spans) {
            None
        } else if fits(&self.unfrozen[opening]) {
            Some(Unplaced::Frozen { step, until })
        } else {
            Some(Unplaced::NoWindow { step, minutes: takes.as_mins(), until })
        }
    }

    /// When the window closes that is open now.
    fn closes(&mut self, opening: usize, now: Timestamp) -> Option<Timestamp> {
        let Open { spans, next } = &mut self.open[opening];
        while spans.get(*next).is_some_and(|span| span.until <= now) {
            *next += 1;
        }
        spans.get(*next).filter(|span| span.from <= now).map(|span| span.until)
    }

    fn opens_after(&self, opening: usize, now: Timestamp) -> Option<Timestamp> {
        let Open { spans, next } = &self.open[opening];
        spans[*next..].iter().map(|span| span.from).find(|&from| now < from)
    }
}
