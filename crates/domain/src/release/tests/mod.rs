//! What holds of releases, one rule at a time, at its very edge. All rules together are tried by
//! `tests/release_simulation`.

mod drains;
mod holds;
mod laws;
mod plans;
mod returns;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::change::{Action, Case, KeyRing, Kind, Permit, Plan, Rollback, Terms, Window, permit};
use crate::cloud::{CiId, Class, Duty, EventId, Id, IdKind, Name, TenantId};
use crate::priority::Priority;
use crate::sla::{Approval, Dates};

/// Minutes after Friday, 2026-11-27 00:00 UTC.
fn at(minute: i64) -> Timestamp {
    let friday: Timestamp = "2026-11-27T00:00:00Z".parse().unwrap();
    friday + SignedDuration::from_mins(minute)
}

fn span(from: i64, until: i64) -> Window {
    Window { from: at(from), until: at(until) }
}

fn mins(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn id<K: IdKind>(number: u32) -> Id<K> {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Id::of_content(bytes)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// An item of the tenant 1 with ten minutes of work, whenever.
fn target(number: u32) -> Target {
    Target {
        ci: id(number),
        tenant: id(1),
        duty: Duty::Provider,
        class: Class::Vm,
        labels: BTreeMap::new(),
        zone: None,
        domain: None,
        depends_on: Vec::new(),
        member_of: Vec::new(),
        runs_on: None,
        mobility: Mobility::Moves,
        condition: Condition::Healthy,
        work: Some(work()),
    }
}

fn work() -> Work {
    Work { content: content(), takes: mins(10), windows: Arc::new(Windows::Always), reboot: None }
}

fn content() -> Arc<Content> {
    let restart = Action::RestartUnit { unit: "nginx.service".to_owned() };
    Arc::new(Content { actions: vec![restart], rollback: Rollback::Files })
}

fn within(windows: &[Window]) -> Arc<Windows> {
    Arc::new(Windows::Within(windows.to_vec()))
}

#[expect(clippy::unnecessary_wraps, reason = "as it stands in a work")]
fn reboot(windows: &[Window]) -> Option<Reboot> {
    Some(Reboot { takes: mins(10), windows: within(windows) })
}

fn service(number: u32, min_available: u32) -> Service {
    Service {
        ci: id(number),
        name: name("shop"),
        min_available: Amount::Count(min_available),
        max_unavailable: None,
    }
}

impl Target {
    fn work(&mut self) -> &mut Work {
        self.work.as_mut().unwrap()
    }
}

/// Waves of so many percent, each watched for an hour, that may lose a tenth.
fn profile(percent: &[u8]) -> Profile {
    let mut text = "schema = \"patchwright.waves/1\"\nname = \"test\"\ntitle = \"Test\"\n\
                    source = \"here\"\npatience = \"30m\"\non_failure = \"roll_back\"\n[canary]\n\
                    labels = { ring = \"canary\" }\nsoak = \"2h\"\nmax_failed = 0\n\
                    max_silent = 0\n"
        .to_owned();
    for percent in percent {
        text += "[[waves]]\nsoak = \"1h\"\nmax_failed = 10\nmax_silent = 10\n";
        writeln!(text, "percent = {percent}").unwrap();
    }
    Profile::parse(&text).unwrap()
}

/// What is planned from.
#[derive(Debug)]
struct Plot {
    fleet: Fleet,
    profile: Profile,
    caps: Caps,
    canaries: BTreeSet<CiId>,
    freezes: Vec<Freeze>,
    previous: BTreeMap<TenantId, Plan>,
    until: Timestamp,
}

fn many() -> NonZeroU32 {
    NonZeroU32::new(1000).unwrap()
}

impl Plot {
    /// One wave with these items.
    fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        Self {
            fleet: Fleet { targets: targets.into_iter().collect(), services: Vec::new() },
            profile: profile(&[100]),
            caps: Caps {
                max_unavailable: many(),
                per_wave: many(),
                per_tenant: many(),
                per_hour: many(),
            },
            canaries: BTreeSet::new(),
            freezes: Vec::new(),
            previous: BTreeMap::new(),
            until: at(30 * 24 * 60),
        }
    }

    fn try_plan(&self) -> Result<Layout, NoLayout> {
        let Self { fleet, profile, caps, canaries, freezes, previous, until } = self;
        let (release, change) = (id(7), id(8));
        let order = Order {
            release,
            change,
            profile,
            caps: *caps,
            canaries,
            freezes,
            previous,
            until: *until,
        };
        plan(fleet, &order, at(0))
    }

    fn plan(&self) -> Layout {
        self.try_plan().unwrap()
    }

    /// On its way, with a permit for all.
    fn run(&self) -> World {
        let mut world = self.waiting();
        world.permit_all(0);
        world
    }

    /// On its way, without any permit.
    fn waiting(&self) -> World {
        let layout = Arc::new(self.plan());
        assert_eq!(layout.unplaced(), &BTreeMap::new());
        let run = Run::new(Arc::clone(&layout), at(0));
        World { layout, run, attempts: BTreeMap::new(), commands: 0 }
    }
}

/// A permit, as soon as the plan's first window is open.
fn permit_for(plan: &Plan, now: Timestamp) -> Permit {
    let dates = Dates {
        approval: Approval::NotNeeded,
        earliest_start: None,
        answer_by: None,
        evidence_by: None,
        due: Timestamp::MAX,
        deferrals_left: 0,
        longest_deferral: SignedDuration::ZERO,
    };
    let terms =
        Terms { kind: Kind::Patch, priority: Priority::Medium, dates, two_persons_above: 1000 };
    let keys = KeyRing::new(plan.draft().tenant);
    let case = Case {
        plan,
        author: id(1),
        terms: &terms,
        consents: &[],
        standing: &[],
        approvals: &[],
        keys: &keys,
    };
    let now = now.max(plan.draft().stages[0].window.from);
    permit(&case, now).unwrap()
}

/// A run, and what was ordered of whom.
struct World {
    layout: Arc<Layout>,
    run: Run,
    attempts: BTreeMap<CiId, u32>,
    commands: u32,
}

impl World {
    fn permit_all(&mut self, minute: i64) {
        let layout = Arc::clone(&self.layout);
        for (&tenant, plan) in layout.plans() {
            let permit = permit_for(plan, at(minute));
            assert_eq!(self.step(Event::Permitted { tenant, permit }, minute), []);
        }
    }

    fn step(&mut self, event: Event, minute: i64) -> Vec<Effect> {
        self.try_step(event, minute).unwrap()
    }

    fn try_step(&mut self, event: Event, minute: i64) -> Result<Vec<Effect>, Refusal> {
        let effects = self.run.step(event, at(minute))?;
        assert!(self.run.books_are_right());
        for effect in &effects {
            if let Effect::Start(job)
            | Effect::Reboot(job)
            | Effect::RollBack(job)
            | Effect::Drain { job, .. } = effect
            {
                self.attempts.insert(job.item, job.attempt);
            }
        }
        Ok(effects)
    }

    fn tick(&mut self, minute: i64) -> Vec<Effect> {
        self.step(Event::Tick, minute)
    }

    fn report(&mut self, item: u32, report: Report, minute: i64) -> Vec<Effect> {
        let attempt = self.attempts.get(&id(item)).copied().unwrap_or(1);
        self.step(Event::Reported { item: id(item), attempt, report }, minute)
    }

    /// It ends its step well, and a scan sees that.
    fn verify(&mut self, item: u32, minute: i64) {
        let verify = self.report(item, Report::Succeeded, minute);
        assert!(matches!(verify[..], [Effect::Verify { .. }]), "{verify:?}");
        assert_eq!(self.report(item, Report::Verified, minute), []);
    }

    fn look(&mut self, item: u32, health: Health, minute: i64) -> Vec<Effect> {
        self.step(Event::Looked { item: id(item), taken_at: at(minute), health }, minute)
    }

    fn command(&mut self, command: Command, minute: i64) -> Vec<Effect> {
        self.commands += 1;
        let id: EventId = id(self.commands);
        self.step(Event::Commanded { id, by: self::id(1), command }, minute)
    }

    fn why(&self, item: u32, minute: i64) -> String {
        self.run.why(id(item), at(minute)).map_or_else(String::new, |why| why.to_string())
    }

    fn phase(&self, item: u32) -> Phase {
        self.run.phase(id(item)).unwrap()
    }
}

fn resume() -> Command {
    Command::Resume { reason: "Looked at it".parse().unwrap() }
}

fn roll_back() -> Command {
    Command::RollBack { reason: "It is slow".parse().unwrap() }
}

/// The items that effects start.
fn started(effects: &[Effect]) -> Vec<CiId> {
    let start = |effect: &Effect| match effect {
        Effect::Start(job) => Some(job.item),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<CiId> {
    numbers.into_iter().map(id).collect()
}
