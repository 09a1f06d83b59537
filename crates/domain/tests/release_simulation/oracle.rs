//! Judges a release by what was ordered and what was reported, with counts of its own: it knows the
//! fleet as it was described, and nothing of how the engine keeps its books.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use domain::change::Action;
use domain::cloud::{CiId, TenantId};
use domain::release::{
    Amount, Caps, Effect, Health, Hold, Job, Layout, Mobility, Profile, Report, Target,
};
use jiff::{SignedDuration, Timestamp};

use crate::cloud::Cloud;

/// What the oracle saw at most.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) most_out: usize,
    pub(crate) starts: usize,
    pub(crate) restarts: usize,
    pub(crate) drains: usize,
    pub(crate) holds: usize,
    pub(crate) sent_back: usize,
    pub(crate) waves: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Old,
    AtWork,
    New,
    Failed,
}

pub(crate) struct Oracle<'a> {
    layout: &'a Layout,
    targets: HashMap<CiId, &'a Target>,
    caps: Caps,
    profile: &'a Profile,
    /// By service: members and how many have to work.
    services: HashMap<CiId, (Vec<CiId>, usize)>,
    domains: HashMap<String, usize>,
    waves: HashMap<CiId, u16>,
    sizes: BTreeMap<u16, usize>,
    stands: HashMap<CiId, Stand>,
    /// Out, and since when.
    out: HashSet<CiId>,
    /// Out because of another.
    stopped: HashMap<CiId, CiId>,
    hosts: HashMap<CiId, CiId>,
    /// VMs that were stopped for a drain.
    off: HashSet<CiId>,
    restarting: HashSet<CiId>,
    attempts: HashMap<CiId, u32>,
    permitted: HashMap<TenantId, domain::change::PlanHash>,
    starts: Vec<Timestamp>,
    failed: BTreeMap<u16, BTreeSet<CiId>>,
    pardoned: BTreeMap<u16, usize>,
    is_held: bool,
    is_rolling_back: bool,
    aside: HashSet<CiId>,
    silent: HashSet<CiId>,
    last_begun: BTreeMap<u16, Timestamp>,
    passed: BTreeSet<u16>,
    pub(crate) seen: Seen,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(cloud: &'a Cloud, layout: &'a Layout) -> Self {
        let targets: HashMap<CiId, &Target> =
            cloud.fleet.targets.iter().map(|target| (target.ci, target)).collect();
        let mut services: HashMap<CiId, (Vec<CiId>, usize)> = HashMap::new();
        for service in &cloud.fleet.services {
            let members =
                cloud.fleet.targets.iter().filter(|it| it.member_of.contains(&service.ci));
            let members: Vec<CiId> = members.map(|it| it.ci).collect();
            let needed = match service.min_available {
                Amount::Count(count) => count as usize,
                Amount::Share(part) => (members.len() * part.get() as usize).div_ceil(100),
            };
            services.insert(service.ci, (members, needed));
        }
        let mut domains = HashMap::new();
        for target in &cloud.fleet.targets {
            let domain = target.domain.as_ref().expect("all have one").to_string();
            *domains.entry(domain).or_insert(0) += 1;
        }
        let waves: HashMap<CiId, u16> = layout.turns().map(|turn| (turn.ci, turn.wave)).collect();
        let mut sizes = BTreeMap::new();
        for &wave in waves.values() {
            *sizes.entry(wave).or_insert(0) += 1;
        }
        let hosts = targets.values().filter_map(|it| Some((it.ci, it.runs_on?))).collect();
        Self {
            layout,
            stands: targets.keys().map(|&ci| (ci, Stand::Old)).collect(),
            targets,
            caps: cloud.caps,
            profile: &cloud.profile,
            services,
            domains,
            waves,
            sizes,
            hosts,
            out: HashSet::new(),
            stopped: HashMap::new(),
            off: HashSet::new(),
            restarting: HashSet::new(),
            attempts: HashMap::new(),
            permitted: HashMap::new(),
            starts: Vec::new(),
            failed: BTreeMap::new(),
            pardoned: BTreeMap::new(),
            is_held: false,
            is_rolling_back: false,
            aside: HashSet::new(),
            silent: HashSet::new(),
            last_begun: BTreeMap::new(),
            passed: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(crate) fn permits(&mut self, tenant: TenantId, plan: domain::change::PlanHash) {
        self.permitted.insert(tenant, plan);
    }

    pub(crate) fn resumes(&mut self) {
        self.is_held = false;
        self.pardoned = self.failed.iter().map(|(&wave, failed)| (wave, failed.len())).collect();
    }

    pub(crate) fn rolls_back(&mut self) {
        (self.is_held, self.is_rolling_back) = (false, true);
    }

    pub(crate) fn sets_aside(&mut self, items: &[CiId]) {
        let theirs = self.stopped.iter().filter(|(_, host)| items.contains(host));
        let theirs: Vec<CiId> = theirs.map(|(&vm, _)| vm).collect();
        self.aside.extend(items.iter().filter(|it| self.out.contains(*it)));
        self.aside.extend(theirs);
    }

    pub(crate) fn moves(&mut self, vm: CiId, to: CiId) {
        self.hosts.insert(vm, to);
        self.stopped.remove(&vm);
    }

    pub(crate) fn goes_off(&mut self, vm: CiId, host: CiId) {
        self.off.insert(vm);
        self.stopped.insert(vm, host);
    }

    /// A report that is the first of its kind, of the present attempt.
    pub(crate) fn hears(&mut self, item: CiId, report: Report) {
        // Whoever says nothing any more may have said that it began.
        if report != Report::Started {
            self.silent.remove(&item);
        }
        match report {
            Report::Verified => self.comes_back(item, Stand::New),
            Report::RolledBack => self.comes_back(item, Stand::Old),
            Report::Failed | Report::Conflict => self.fails(item),
            Report::Started | Report::Succeeded | Report::Silent => {}
        }
    }

    pub(crate) fn looks(&mut self, item: CiId, health: Health) {
        match health {
            Health::Healthy => self.comes_back(item, Stand::Failed),
            Health::Sick => self.fails(item),
        }
    }

    fn fails(&mut self, item: CiId) {
        self.out.insert(item);
        self.stands.insert(item, Stand::Failed);
        self.failed.entry(self.waves[&item]).or_default().insert(item);
    }

    fn comes_back(&mut self, item: CiId, stand: Stand) {
        self.out.remove(&item);
        self.aside.remove(&item);
        self.restarting.remove(&item);
        self.stands.insert(item, stand);
        let theirs = self.stopped.iter().filter(|(_, host)| **host == item);
        let theirs: Vec<CiId> = theirs.map(|(&vm, _)| vm).collect();
        for vm in theirs {
            self.stopped.remove(&vm);
            self.off.remove(&vm);
            self.aside.remove(&vm);
        }
    }

    /// Judges what follows at a time.
    pub(crate) fn judge(&mut self, effect: &Effect, now: Timestamp) -> Result<(), String> {
        match effect {
            Effect::Start(job) => {
                self.seen.starts += 1;
                self.begins(job, now, false)?;
                self.goes_out(job.item)
            }
            Effect::Drain { job, .. } => {
                self.seen.drains += 1;
                self.begins(job, now, true)?;
                self.restarts(job.item)
            }
            Effect::Reboot(job) if self.restarting.contains(&job.item) => {
                self.seen.restarts += 1;
                self.orders(job)?;
                self.is_permitted(job, now, true)?;
                self.is_empty(job.item)
            }
            Effect::Reboot(job) => {
                self.seen.restarts += 1;
                self.begins(job, now, true)?;
                self.restarts(job.item)?;
                if self.targets[&job.item].class == domain::cloud::Class::Hypervisor {
                    self.is_empty(job.item)?;
                }
                Ok(())
            }
            Effect::RollBack(job) => self.goes_back(job, now),
            Effect::Hold(hold) => {
                self.seen.holds += 1;
                self.holds(hold)
            }
            Effect::WaveDone { wave, .. } => {
                self.seen.waves += 1;
                self.passes(*wave, now)
            }
            Effect::Refill { item, .. } => {
                let stand = Stand::New;
                self.comes_back(*item, stand);
                Ok(())
            }
            Effect::Verify { .. } | Effect::TenantDone { .. } | Effect::ReleaseDone { .. } => {
                Ok(())
            }
        }
    }

    fn begins(&mut self, job: &Job, now: Timestamp, is_restart: bool) -> Result<(), String> {
        let item = job.item;
        if self.is_held || self.is_rolling_back {
            return Err(format!("{item} begins while the release is held or rolled back"));
        }
        for (wave, failed) in &self.failed {
            let pardoned = self.pardoned.get(wave).copied().unwrap_or(0);
            if failed.len() - pardoned > self.allowed(*wave) {
                return Err(format!("{item} begins, and {} failed in wave {wave}", failed.len()));
            }
        }
        self.orders(job)?;
        self.is_permitted(job, now, is_restart)?;
        let wave = self.waves[&item];
        if let Some(ahead) = self.sizes.keys().find(|it| **it < wave && !self.passed.contains(*it))
        {
            return Err(format!("{item} of wave {wave} begins before wave {ahead} is through"));
        }
        for on in &self.targets[&item].depends_on {
            let is_released = self.waves.contains_key(on);
            if is_released && self.stands[on] != Stand::New {
                return Err(format!("{item} begins before {on}, which it depends on, is done"));
            }
        }
        if let Some(host) = self.hosts.get(&item)
            && self.restarting.contains(host)
        {
            return Err(format!("{item} begins while {host} restarts"));
        }
        self.last_begun.insert(wave, now);
        self.stands.insert(item, Stand::AtWork);
        self.counts_rate(now)
    }

    fn counts_rate(&mut self, now: Timestamp) -> Result<(), String> {
        self.starts.push(now);
        let hour = SignedDuration::from_hours(1);
        let recent = self.starts.iter().rev().take_while(|at| now.duration_since(**at) < hour);
        let recent = recent.count();
        if recent > self.caps.per_hour.get() as usize {
            return Err(format!("{recent} began within an hour"));
        }
        Ok(())
    }

    fn orders(&mut self, job: &Job) -> Result<(), String> {
        let before = self.attempts.insert(job.item, job.attempt).unwrap_or(0);
        if job.attempt == before + 1 {
            return Ok(());
        }
        Err(format!("attempt {} on {} follows {before}", job.attempt, job.item))
    }

    fn is_permitted(&self, job: &Job, now: Timestamp, is_restart: bool) -> Result<(), String> {
        let tenant = self.targets[&job.item].tenant;
        let plan = &self.layout.plans()[&tenant];
        if self.permitted.get(&tenant) != Some(&plan.hash()) || job.warrant.plan() != plan.hash() {
            return Err(format!("{} begins without a permit", job.item));
        }
        let stage = &plan.draft().stages[job.stage as usize];
        let item = stage.items.iter().find(|it| it.ci == job.item);
        let says = item.is_some_and(|it| (it.actions == [Action::Reboot]) == is_restart);
        if !says || !stage.window.has(now) {
            return Err(format!("{} begins outside its place in the plan", job.item));
        }
        Ok(())
    }

    fn restarts(&mut self, item: CiId) -> Result<(), String> {
        let residents: Vec<CiId> =
            self.hosts.iter().filter(|(_, host)| **host == item).map(|(&vm, _)| vm).collect();
        for &vm in &residents {
            if self.stands[&vm] == Stand::AtWork && !self.silent.contains(&vm) {
                return Err(format!("{item} restarts while {vm} on it is at work"));
            }
            if self.targets[&vm].mobility == Mobility::Stops {
                self.stopped.insert(vm, item);
            }
        }
        self.restarting.insert(item);
        self.goes_out(item)?;
        let stopping = residents.into_iter().filter(|vm| self.stopped.contains_key(vm));
        let stopping: Vec<CiId> = stopping.collect();
        stopping.into_iter().try_for_each(|vm| self.fits(vm))
    }

    fn is_empty(&self, item: CiId) -> Result<(), String> {
        let on_it = |(vm, host): &(&CiId, &CiId)| **host == item && !self.off.contains(*vm);
        match self.hosts.iter().find(on_it) {
            Some((vm, _)) => Err(format!("{item} restarts with {vm} on it")),
            None => Ok(()),
        }
    }

    fn goes_out(&mut self, item: CiId) -> Result<(), String> {
        if !self.out.insert(item) {
            return Err(format!("{item} goes out twice"));
        }
        self.fits(item)
    }

    fn is_out(&self, item: &CiId) -> bool {
        self.out.contains(item) || self.stopped.contains_key(item)
    }

    fn all_out(&self) -> HashSet<CiId> {
        self.out.iter().chain(self.stopped.keys()).copied().collect()
    }

    /// Whether an item that just went out could.
    fn fits(&mut self, item: CiId) -> Result<(), String> {
        let out = self.all_out();
        self.seen.most_out = self.seen.most_out.max(out.len());
        if out.len() > self.caps.max_unavailable.get() as usize {
            return Err(format!("{} items are out", out.len()));
        }
        let target = self.targets[&item];
        for other in &out {
            if self.targets[other].zone != target.zone && !self.aside.contains(other) {
                return Err(format!("{item} goes out, and {other} of another zone is"));
            }
        }
        let domain = target.domain.as_ref().expect("all have one");
        let of_domain = |it: &&CiId| self.targets[*it].domain.as_ref() == Some(domain);
        let (down, size) = (out.iter().filter(of_domain).count(), self.domains[domain.as_str()]);
        if down > 1 && down * 5 > size {
            return Err(format!("{down} of {size} items of {domain} are out"));
        }
        for service in &target.member_of {
            let (members, needed) = &self.services[service];
            let up = members.iter().filter(|it| !self.is_out(it)).count();
            if up < *needed {
                return Err(format!("{up} of the {needed} members that {service} needs are left"));
            }
        }
        Ok(())
    }

    fn goes_back(&mut self, job: &Job, now: Timestamp) -> Result<(), String> {
        self.seen.sent_back += 1;
        self.orders(job)?;
        let item = job.item;
        if self.stands[&item] == Stand::Old {
            return Err(format!("{item} goes back, and was never altered"));
        }
        if self.is_out(&item) {
            self.out.insert(item);
        } else {
            if !self.is_rolling_back {
                return Err(format!("{item} works, and goes back though nobody asked"));
            }
            let ahead = self.targets.values().find(|it| {
                it.depends_on.contains(&item)
                    && matches!(self.stands[&it.ci], Stand::New | Stand::AtWork)
                    && !self.silent.contains(&it.ci)
            });
            if let Some(ahead) = ahead {
                return Err(format!("{item} goes back before {}, which depends on it", ahead.ci));
            }
            self.counts_rate(now)?;
            self.goes_out(item)?;
        }
        self.stands.insert(item, Stand::AtWork);
        Ok(())
    }

    /// How many of a wave may fail.
    fn allowed(&self, wave: u16) -> usize {
        let gate = match wave {
            0 => self.profile.canary().gate,
            _ => self.step(wave).gate,
        };
        self.sizes.get(&wave).copied().unwrap_or(0) * gate.max_failed.get() as usize / 100
    }

    fn step(&self, wave: u16) -> domain::release::Step {
        let steps = self.profile.steps();
        steps[usize::from(wave - 1).min(steps.len() - 1)]
    }

    fn holds(&mut self, hold: &Hold) -> Result<(), String> {
        if std::mem::replace(&mut self.is_held, true) {
            return Err("a hold is told twice".to_owned());
        }
        if let Hold::Failed { failed, of, wave } = hold {
            let known = self.failed[wave].len();
            let pardoned = self.pardoned.get(wave).copied().unwrap_or(0);
            if known != *failed as usize || self.sizes[wave] != *of as usize {
                return Err(format!("`{hold}`, and {known} of {} did", self.sizes[wave]));
            }
            if known - pardoned != self.allowed(*wave) + 1 {
                return Err(format!("`{hold}`, too early or too late"));
            }
        }
        Ok(())
    }

    fn passes(&mut self, wave: u16, now: Timestamp) -> Result<(), String> {
        let soak = if wave == 0 { self.profile.canary().soak } else { self.step(wave).soak };
        // What falls silent is heard of last when it begins.
        let at_work = self.waves.iter().find(|(ci, its)| {
            **its == wave && self.stands[*ci] == Stand::AtWork && !self.silent.contains(*ci)
        });
        if let Some((ci, _)) = at_work {
            return Err(format!("wave {wave} is through, and {ci} is at work"));
        }
        if let Some(&last) = self.last_begun.get(&wave)
            && now.duration_since(last) < soak
        {
            return Err(format!("wave {wave} was not watched for as long as it has to be"));
        }
        self.passed.insert(wave);
        Ok(())
    }

    pub(crate) fn falls_silent(&mut self, item: CiId) {
        self.silent.insert(item);
    }

    pub(crate) fn failed(&self, wave: u16) -> usize {
        self.failed.get(&wave).map_or(0, BTreeSet::len)
    }

    pub(crate) fn allowed_in(&self, wave: u16) -> usize {
        self.allowed(wave)
    }

    /// Items that stand altered.
    pub(crate) fn altered(&self) -> usize {
        self.stands.values().filter(|stand| **stand == Stand::New).count()
    }
}
