//! A release in virtual time: agents that work, fail, say nothing; tenants that answer when they like;
//! an operator who looks at what is held; a control plane that restarts now and then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use domain::change::{
    Case, Decision, Heard, KeyEvent, KeyId, KeyKind, KeyRing, Kind, NewKey, Nonce, Payload, Plan,
    Statement, Terms, Verified, permit,
};
use domain::cloud::{CiId, EventId};
use domain::priority::Priority;
use domain::release::{
    Command, Effect, End, Event, Health, Job, Kept, Layout, Mobility, Phase, Report, Run, Target,
    Vacated,
};
use domain::sla::{Approval, Dates, Silence};
use jiff::{SignedDuration, Timestamp};

use crate::cloud::{Cloud, MUTE, at, id, tenant};
use crate::oracle::{Oracle, Seen};
use crate::random::Random;

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// How many of a thousand fail.
    pub(crate) failing: usize,
    /// How many of a thousand say nothing for a while.
    pub(crate) silent: usize,
    /// How many of a thousand fall sick after they were verified.
    pub(crate) sick: usize,
    /// The wave whose items mostly fail; the operator rolls back what is held there.
    pub(crate) bad_wave: Option<u16>,
    /// After so many steps the control plane restarts.
    pub(crate) restart_every: usize,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) end: Option<End>,
    pub(crate) tally: domain::release::Tally,
    pub(crate) seen: Seen,
    pub(crate) minutes: i64,
    pub(crate) failed_in_bad_wave: usize,
    pub(crate) allowed_in_bad_wave: usize,
    pub(crate) altered: usize,
    pub(crate) unplaced: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Report(CiId, u32, Report),
    Look(CiId, Health),
    Vacate(CiId, CiId),
    Answer(u32),
    Permit(u32),
    Operate,
    SetAside(Vec<CiId>),
    Repair(CiId, u32),
    Wake,
}

/// Longest run, in days.
const MOST_DAYS: i64 = 60;

pub(crate) struct World<'a> {
    layout: Arc<Layout>,
    targets: HashMap<CiId, &'a Target>,
    hypervisors: Vec<CiId>,
    hosts: HashMap<CiId, CiId>,
    waves: HashMap<CiId, u16>,
    oracle: Oracle<'a>,
    run: Run,
    random: Random,
    faults: Faults,
    queue: BinaryHeap<Reverse<(i64, u64, Act)>>,
    sequence: u64,
    consents: BTreeMap<u32, Vec<Heard>>,
    keys: BTreeMap<u32, KeyRing>,
    commands: u32,
    steps: usize,
    /// What was heard, so that what comes twice is told from what is new.
    heard: HashSet<(CiId, u32, Report)>,
    /// Items that say nothing until somebody looks after them.
    mute: HashSet<(CiId, u32)>,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        cloud: &'a Cloud,
        layout: &'a Arc<Layout>,
        random: Random,
        faults: Faults,
    ) -> Self {
        let targets = cloud.fleet.targets.iter();
        let mut world = Self {
            layout: Arc::clone(layout),
            targets: targets.clone().map(|target| (target.ci, target)).collect(),
            hypervisors: targets
                .clone()
                .filter(|it| it.runs_on.is_none())
                .map(|it| it.ci)
                .collect(),
            hosts: targets.filter_map(|it| Some((it.ci, it.runs_on?))).collect(),
            waves: layout.turns().map(|turn| (turn.ci, turn.wave)).collect(),
            oracle: Oracle::new(cloud, layout),
            run: Run::new(Arc::clone(layout), at(0)),
            random,
            faults,
            queue: BinaryHeap::new(),
            sequence: 0,
            consents: BTreeMap::new(),
            keys: BTreeMap::new(),
            commands: 0,
            steps: 0,
            heard: HashSet::new(),
            mute: HashSet::new(),
        };
        for number in 0..crate::cloud::TENANTS {
            world.keys.insert(number, keys(number));
            let answer = world.minutes(180);
            match number {
                MUTE => {}
                _ if number % 2 == 1 => world.plan(answer, Act::Answer(number)),
                _ => world.plan(0, Act::Permit(number)),
            }
        }
        let mute = layout.turns().filter(|turn| turn.tenant == tenant(MUTE)).map(|turn| turn.ci);
        let mute: Vec<CiId> = mute.collect();
        world.plan(10 * 60, Act::SetAside(mute));
        world.plan(0, Act::Wake);
        world
    }

    fn plan(&mut self, minute: i64, act: Act) {
        self.sequence += 1;
        self.queue.push(Reverse((minute, self.sequence, act)));
    }

    fn minutes(&mut self, below: usize) -> i64 {
        i64::try_from(self.random.below(below)).expect("some minutes")
    }

    fn in_a_while(&mut self, minute: i64, least: i64, most: usize, act: Act) {
        let wait = least + self.minutes(most);
        self.plan(minute + wait, act);
    }

    /// Runs until nothing is left to do.
    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        let mut last = 0;
        while let Some(Reverse((minute, ..))) = self.queue.peek() {
            let minute = *minute;
            last = minute;
            if minute > MOST_DAYS * 1440 {
                let waits = self.run.waits(at(minute));
                let waits: Vec<_> =
                    waits.iter().take(5).map(|(it, n)| format!("{n}: {it}")).collect();
                return Err(format!("it does not end: {:?}, {waits:?}", self.run.tally()));
            }
            while let Some(Reverse((_, _, act))) =
                self.queue.peek().filter(|Reverse((its, ..))| *its == minute)
            {
                let act = act.clone();
                self.queue.pop();
                self.act(act, minute)?;
            }
            self.step(Event::Tick, minute)?;
            if self.run.ended().is_some()
                && self.queue.iter().all(|Reverse((.., act))| *act == Act::Wake)
            {
                break;
            }
            if let Some(wake) = self.run.wakes_at(at(minute)) {
                // To the next full minute.
                let seconds = wake.duration_since(at(0)).as_secs();
                let next = (seconds + 59).div_euclid(60);
                self.plan(next.max(minute + 1), Act::Wake);
            }
        }
        let bad = self.faults.bad_wave.unwrap_or(1);
        Ok(Outcome {
            end: self.run.ended(),
            tally: self.run.tally(),
            seen: self.oracle.seen,
            minutes: last,
            failed_in_bad_wave: self.oracle.failed(bad),
            allowed_in_bad_wave: self.oracle.allowed_in(bad),
            altered: self.oracle.altered(),
            unplaced: self.layout.unplaced().len(),
        })
    }

    fn act(&mut self, act: Act, minute: i64) -> Result<(), String> {
        match act {
            Act::Report(item, attempt, report) => self.report(item, attempt, report, minute),
            Act::Look(item, health) => self.look(item, health, minute),
            Act::Vacate(vm, from) => self.vacate(vm, from, minute),
            Act::Answer(number) => {
                let plan = self.layout.plans().get(&tenant(number)).cloned();
                if let Some(plan) = plan {
                    let heard = answer(&plan, number, &self.keys[&number], at(minute));
                    self.consents.entry(number).or_default().push(heard);
                    self.plan(minute, Act::Permit(number));
                }
                Ok(())
            }
            Act::Permit(number) => self.permit(number, minute),
            Act::Operate => self.operate(minute),
            Act::SetAside(items) => {
                self.oracle.sets_aside(&items);
                let reason = "Nobody answers".parse().expect("a reason");
                self.command(&Command::SetAside { items, reason }, minute)
            }
            Act::Repair(item, attempt) => {
                self.mute.remove(&(item, attempt));
                self.report(item, attempt, Report::Succeeded, minute)
            }
            Act::Wake => Ok(()),
        }
    }

    /// As a worker does: again each hour, until there is nothing lacking.
    fn permit(&mut self, number: u32, minute: i64) -> Result<(), String> {
        let Some(plan) = self.layout.plans().get(&tenant(number)).cloned() else { return Ok(()) };
        let terms = terms(number);
        let case = Case {
            plan: &plan,
            author: id(6, 1),
            terms: &terms,
            consents: self.consents.get(&number).map_or(&[], Vec::as_slice),
            standing: &[],
            approvals: &[],
            keys: &self.keys[&number],
        };
        match permit(&case, at(minute)) {
            Ok(permit) => {
                self.oracle.permits(tenant(number), plan.hash());
                self.step(Event::Permitted { tenant: tenant(number), permit }, minute)
            }
            Err(_) if self.run.ended().is_some() => Ok(()),
            Err(_) => {
                self.plan(minute + 60, Act::Permit(number));
                Ok(())
            }
        }
    }

    /// The operator looks at what is held.
    fn operate(&mut self, minute: i64) -> Result<(), String> {
        if self.run.mode().as_str() != "held" {
            return Ok(());
        }
        let is_bad = self.faults.bad_wave.is_some() && self.run.wave() == self.faults.bad_wave;
        let reason = "As it stands in the runbook".parse().expect("a reason");
        if is_bad {
            self.oracle.rolls_back();
            return self.command(&Command::RollBack { reason }, minute);
        }
        self.oracle.resumes();
        self.command(&Command::Resume { reason }, minute)
    }

    fn command(&mut self, command: &Command, minute: i64) -> Result<(), String> {
        self.commands += 1;
        let name: EventId = id(9, self.commands);
        let event = || Event::Commanded { id: name, by: id(6, 2), command: command.clone() };
        self.step(event(), minute)?;
        self.twice(event(), minute)
    }

    fn report(
        &mut self,
        item: CiId,
        attempt: u32,
        report: Report,
        minute: i64,
    ) -> Result<(), String> {
        if self.mute.contains(&(item, attempt)) {
            return Ok(());
        }
        let phase = self.run.phase(item);
        let is_new = self.heard.insert((item, attempt, report));
        if is_new && phase_takes(phase, report) {
            self.oracle.hears(item, report);
        }
        let event = || Event::Reported { item, attempt, report };
        self.step(event(), minute)?;
        if self.random.below(10) == 0 {
            self.twice(event(), minute)?;
        }
        if report == Report::Verified
            && self.run.phase(item) == Some(Phase::Done)
            && self.random.below(1000) < self.faults.sick
        {
            self.in_a_while(minute, 5, 300, Act::Look(item, Health::Sick));
        }
        Ok(())
    }

    fn look(&mut self, item: CiId, health: Health, minute: i64) -> Result<(), String> {
        let phase = self.run.phase(item);
        let counts = match health {
            Health::Healthy => matches!(phase, Some(Phase::Failed { .. })),
            Health::Sick => matches!(phase, Some(Phase::Done)),
        };
        if !counts {
            return Ok(());
        }
        self.oracle.looks(item, health);
        let event = || Event::Looked { item, taken_at: at(minute), health };
        self.step(event(), minute)?;
        self.twice(event(), minute)
    }

    fn vacate(&mut self, vm: CiId, from: CiId, minute: i64) -> Result<(), String> {
        let is_draining = self.run.phase(from) == Some(Phase::Draining);
        if self.hosts.get(&vm) != Some(&from) || !is_draining {
            return Ok(());
        }
        let how = match self.targets[&vm].mobility {
            Mobility::Stops => Vacated::Off,
            Mobility::Moves => {
                let zone = &self.targets[&from].zone;
                let others = self.hypervisors.iter().filter(|&&it| {
                    it != from
                        && self.targets[&it].zone == *zone
                        && !matches!(
                            self.run.phase(it),
                            Some(Phase::Draining | Phase::Ordered | Phase::Working)
                        )
                });
                let others: Vec<CiId> = others.copied().collect();
                match others.get(self.random.below(others.len().max(1))) {
                    None => Vacated::Off,
                    Some(&to) => Vacated::Moved { to },
                }
            }
        };
        match how {
            Vacated::Moved { to } => {
                self.hosts.insert(vm, to);
                self.oracle.moves(vm, to);
            }
            Vacated::Off => self.oracle.goes_off(vm, from),
        }
        self.step(Event::Vacated { vm, from, how }, minute)?;
        self.twice(Event::Vacated { vm, from, how }, minute)
    }

    fn step(&mut self, event: Event, minute: i64) -> Result<(), String> {
        self.steps += 1;
        if self.steps.is_multiple_of(self.faults.restart_every) {
            let json = serde_json::to_string(&self.run.to_kept()).expect("kept");
            let kept: Kept = serde_json::from_str(&json).expect("reads back");
            self.run = Run::from_kept(kept, Arc::clone(&self.layout)).expect("its layout");
        }
        let told = format!("{event:?}");
        let effects = self.run.step(event, at(minute));
        let effects = effects.map_err(|refused| format!("minute {minute}: {told}: {refused}"))?;
        for effect in effects {
            let judged = self.oracle.judge(&effect, at(minute));
            judged.map_err(|wrong| format!("minute {minute}, after {told}: {wrong}"))?;
            self.perform(effect, minute);
        }
        Ok(())
    }

    /// What comes twice does nothing twice.
    fn twice(&mut self, event: Event, minute: i64) -> Result<(), String> {
        let told = format!("{event:?}");
        match self.run.step(event, at(minute)) {
            Ok(effects) if effects.is_empty() => Ok(()),
            Ok(effects) => Err(format!("minute {minute}: {told} again: {effects:?}")),
            Err(refused) => Err(format!("minute {minute}: {told} again: {refused}")),
        }
    }

    fn perform(&mut self, effect: Effect, minute: i64) {
        match effect {
            Effect::Start(job) | Effect::Reboot(job) => self.work(job, minute),
            Effect::Drain { job, residents } => {
                for vm in residents {
                    self.in_a_while(minute, 1, 8, Act::Vacate(vm, job.item));
                }
            }
            Effect::Verify { item, attempt, .. } => {
                let report = match self.random.below(4000) {
                    0 => Report::Conflict,
                    _ => Report::Verified,
                };
                self.in_a_while(minute, 1, 4, Act::Report(item, attempt, report));
            }
            Effect::RollBack(job) => {
                let Job { item, attempt, .. } = job;
                if self.random.below(100) == 0 {
                    self.in_a_while(minute, 2, 6, Act::Report(item, attempt, Report::Failed));
                    self.in_a_while(minute, 100, 100, Act::Look(item, Health::Healthy));
                } else {
                    self.in_a_while(minute, 2, 6, Act::Report(item, attempt, Report::RolledBack));
                }
            }
            Effect::Hold(_) => self.in_a_while(minute, 20, 20, Act::Operate),
            Effect::Refill { .. }
            | Effect::WaveDone { .. }
            | Effect::TenantDone { .. }
            | Effect::ReleaseDone { .. } => {}
        }
    }

    /// An agent carries a step out, or not.
    fn work(&mut self, job: Job, minute: i64) {
        let Job { item, attempt, .. } = job;
        let is_bad = self.faults.bad_wave == Some(self.waves[&item]);
        let failing = if is_bad { 600 } else { self.faults.failing };
        let draw = self.random.below(1000);
        self.in_a_while(minute, 0, 2, Act::Report(item, attempt, Report::Started));
        if draw < failing {
            self.in_a_while(minute, 3, 6, Act::Report(item, attempt, Report::Failed));
        } else if draw < failing + self.faults.silent {
            self.oracle.falls_silent(item);
            if self.random.below(3) == 0 {
                self.mute.insert((item, attempt));
                self.in_a_while(minute, 90, 60, Act::SetAside(vec![item]));
                self.in_a_while(minute, 300, 600, Act::Repair(item, attempt));
            } else {
                // Somebody repairs the network; then it is heard of.
                self.in_a_while(minute, 60, 120, Act::Report(item, attempt, Report::Succeeded));
            }
        } else {
            self.in_a_while(minute, 3, 9, Act::Report(item, attempt, Report::Succeeded));
        }
    }
}

/// Whether a report alters how an item stands, by the protocol that agents keep to.
fn phase_takes(phase: Option<Phase>, report: Report) -> bool {
    match report {
        Report::Started => phase == Some(Phase::Ordered),
        Report::Succeeded => matches!(phase, Some(Phase::Ordered | Phase::Working)),
        Report::Failed => {
            phase.is_some_and(|it| !matches!(it, Phase::Done | Phase::Skipped { .. }))
        }
        Report::Verified | Report::Conflict => phase == Some(Phase::Checking),
        Report::RolledBack => phase == Some(Phase::RollingBack),
        Report::Silent => false,
    }
}

fn key(number: u32) -> KeyId {
    let byte = u8::try_from(number).expect("few tenants");
    KeyId::from([byte; 32])
}

fn keys(number: u32) -> KeyRing {
    let key = NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(6, 3) };
    let register = KeyEvent::Register { key, by: id(6, 3) };
    KeyRing::new(tenant(number)).step(register, at(-60)).expect("the first key").0
}

/// Every other tenant has to agree.
fn terms(number: u32) -> Terms {
    let approval = match number % 2 {
        1 => Approval::Required { silence: Silence::Waits },
        _ => Approval::Notice,
    };
    let dates = Dates {
        approval,
        earliest_start: Some(at(0)),
        answer_by: None,
        evidence_by: None,
        due: Timestamp::MAX,
        deferrals_left: 0,
        longest_deferral: SignedDuration::ZERO,
    };
    let kind = Kind::Patch;
    Terms { kind, priority: Priority::Medium, dates, two_persons_above: 1_000_000 }
}

fn answer(plan: &Plan, number: u32, keys: &KeyRing, now: Timestamp) -> Heard {
    let byte = u8::try_from(number).expect("few tenants");
    let statement = Statement {
        change: plan.draft().change,
        plan: plan.hash(),
        tenant: plan.draft().tenant,
        decision: Decision::Approve,
        given_at: now,
        nonce: Nonce::from([byte; 16]),
    };
    let signed = Verified::signed_by(key(number), &statement.to_payload()).expect("a payload");
    Heard::admit(signed, keys, now).expect("a key in force")
}
