//! An agent's rounds against a control plane in memory: each order ends with one answer, whatever is lost
//! on the way, and stands in the host's own record.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::execute::{Room, System, TrustedPackages, UnitTimes};
use agent::orders::{Came, Desk, OrderError};
use agent::{AgentError, ControlPlane, Next, Round, Settings};
use domain::agent::{
    AtWork, Facts, FilesSent, HandedOrder, Need, OrderAnswer, OrderProgress, PinsOffered,
    PinsRequest, Report, ReportAnswer,
};
use domain::change::{Action, ExactPackage, Verified};
use domain::fleet::PackageSet;
use domain::order::{Ended, OrderResult, Refusal};
use domain::release::Health;
use jiff::Timestamp;
use ledger::attestation;
use probes::{Probe, ProbeResult};
use rustix::fs::{FlockOperation, flock};

use crate::support::{Deb, Host, Told, runs_as_root, upgrade};

/// What a control plane does with orders: hands over the first that has no answer.
#[derive(Default)]
struct Plane {
    orders: RefCell<VecDeque<HandedOrder>>,
    answers: RefCell<Vec<OrderAnswer>>,
    reports: RefCell<Vec<Report>>,
    facts: RefCell<Vec<Facts>>,
    progress: RefCell<Vec<AtWork>>,
    /// How many answers come, and nobody learns that they did.
    lost: Cell<u32>,
}

impl Plane {
    fn with(orders: &[&Told]) -> Self {
        let orders = orders.iter().map(|told| told.handed()).collect();
        Self { orders: RefCell::new(orders), ..Self::default() }
    }
}

fn unreachable() -> AgentError {
    AgentError::Unreachable { url: "memory".to_owned(), reason: "nobody is there".to_owned() }
}

impl ControlPlane for &Plane {
    fn report(
        &self,
        report: &Report,
        _: &PackageSet,
        facts: &Facts,
    ) -> Result<ReportAnswer, AgentError> {
        self.facts.borrow_mut().push(facts.clone());
        self.reports.borrow_mut().push(report.clone());
        let has_orders = !self.orders.borrow().is_empty();
        let need = if has_orders { vec![Need::Orders] } else { Vec::new() };
        Ok(ReportAnswer { need, interval: 60, now: Timestamp::now() })
    }

    fn files(&self, _: &FilesSent) -> Result<(), AgentError> {
        Ok(())
    }

    fn pins(&self, _: &PinsRequest) -> Result<PinsOffered, AgentError> {
        Err(unreachable())
    }

    fn next_order(&self) -> Result<Option<HandedOrder>, AgentError> {
        Ok(self.orders.borrow().front().cloned())
    }

    fn progress(&self, progress: OrderProgress) -> Result<(), AgentError> {
        assert_eq!(self.orders.borrow().front().unwrap().order, progress.order);
        self.progress.borrow_mut().push(progress.at);
        // Nobody hears of the way back: the work goes on all the same.
        if progress.at == AtWork::Altering { Err(unreachable()) } else { Ok(()) }
    }

    fn answer(&self, answer: &OrderAnswer) -> Result<(), AgentError> {
        self.orders.borrow_mut().retain(|handed| handed.order != answer.order());
        self.answers.borrow_mut().push(answer.clone());
        match self.lost.get() {
            0 => Ok(()),
            lost => {
                self.lost.set(lost - 1);
                Err(unreachable())
            }
        }
    }
}

fn go(host: &Host, desk: &Desk<'_>, plane: &Plane) -> Result<Next, AgentError> {
    Round { desk, root: &host.root, eyes: None }.go(|| Ok(plane))
}

/// One round, now, on a system at rest.
fn round(host: &Host, plane: &Plane) -> Result<Next, AgentError> {
    host.at_desk(&Timestamp::now, |desk| go(host, desk, plane))
}

/// What came of an order, as its signature proves.
fn result(host: &Host, answer: &OrderAnswer) -> OrderResult {
    let OrderAnswer::Ended { envelope, .. } = answer else { panic!("{answer:?}") };
    let key = host.state().attestor().unwrap().key();
    let opened = attestation::open(envelope.as_bytes(), &[key]).unwrap();
    let key = opened.key.id_bytes().into();
    Verified::<OrderResult>::signed_by(key, &opened.payload).unwrap().said().clone()
}

fn host(name: &str) -> (Host, ExactPackage) {
    let host = Host::new(name);
    let old = host.offer(&Deb::new("tool", "1.0-1"));
    host.install(&[old]);
    let new = host.offer(&Deb::new("tool", "1.0-2"));
    (host, new)
}

const MINUTE: Next = Next::Wait(Duration::from_secs(60));

#[test]
fn an_order_is_done_answered_and_looked_at_again() {
    if !runs_as_root("orders_come_and_are_answered::an_order_is_done_answered_and_looked_at_again")
    {
        return;
    }
    let (host, new) = host("answered");
    let told = Told::to(vec![upgrade(&[new])], 1);
    let plane = Plane::with(&[&told]);

    assert_eq!(round(&host, &plane).unwrap(), MINUTE);

    assert_eq!(host.version("tool"), "1.0-2");
    let told_on_the_way = [AtWork::Fetching, AtWork::KeepingWayBack, AtWork::Altering];
    assert_eq!(*plane.progress.borrow(), told_on_the_way);
    let answers = plane.answers.borrow();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].order(), told.order.nonce);
    let said = result(&host, &answers[0]);
    assert_eq!((said.order, said.ended), (told.order.nonce, Ended::Done));
    assert_eq!(host.state().results().unwrap(), [], "nothing is kept that is told");
    let reports = plane.reports.borrow();
    assert_eq!(reports.len(), 2, "before it, and at once after it");
    assert_ne!(reports[0].package_set, reports[1].package_set);
    let record = host.state().record().unwrap();
    assert_eq!(record.len(), 1);
    assert_eq!((record[0].came, record[0].order), (Came::Done, told.order.nonce));
    assert_eq!(record[0].packages, ["tool 1.0-2"]);
}

#[test]
fn an_answer_that_is_lost_is_given_again() {
    if !runs_as_root("orders_come_and_are_answered::an_answer_that_is_lost_is_given_again") {
        return;
    }
    let (host, new) = host("answer-lost");
    let plane = Plane::with(&[&Told::to(vec![upgrade(&[new])], 1)]);
    plane.lost.set(2);

    assert!(matches!(round(&host, &plane), Err(AgentError::Unreachable { .. })));
    assert_eq!(host.state().results().unwrap().len(), 1, "kept until it is certain");
    assert_eq!(round(&host, &plane).unwrap(), MINUTE);

    assert_eq!(host.state().results().unwrap(), []);
    let answers = plane.answers.borrow();
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|it| it == &answers[0]), "the same each time");
    assert_eq!(host.state().record().unwrap().len(), 1);
    drop(answers);
    assert_eq!(round(&host, &plane).unwrap(), MINUTE);
    assert_eq!(plane.answers.borrow().len(), 3);
}

#[test]
fn a_refused_order_is_recorded_and_answered() {
    if !runs_as_root("orders_come_and_are_answered::a_refused_order_is_recorded_and_answered") {
        return;
    }
    let (host, new) = host("refusing");
    host.write("/etc/patchwright/policy.toml", "[packages]\nforbid = [\"tool\"]\n");
    let told = Told::to(vec![upgrade(std::slice::from_ref(&new))], 1);
    let mut bare = Told::to(vec![upgrade(&[new]), Action::Reboot], 2).handed();
    bare.bundle.consents.clear();
    let plane = Plane::with(&[&told]);
    plane.orders.borrow_mut().push_back(bare.clone());

    assert_eq!(round(&host, &plane).unwrap(), MINUTE);

    assert_eq!(host.version("tool"), "1.0-1");
    let answers = plane.answers.borrow();
    let refusals: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            OrderAnswer::Refused { order, refusal } => (*order, refusal.to_string()),
            OrderAnswer::Ended { .. } => panic!("{answer:?}"),
        })
        .collect();
    assert_eq!([refusals[0].0, refusals[1].0], [told.order.nonce, bare.order]);
    let record = host.state().record().unwrap();
    assert_eq!(record.len(), 2);
    for ((order, words), (entry, name)) in
        refusals.iter().zip(record.iter().zip(["forbidden", "consent"]))
    {
        assert_eq!((entry.came, entry.order), (Came::Refused, *order));
        assert_eq!(entry.because.as_ref(), Some(words));
        assert_eq!(entry.refused.as_deref(), Some(name));
        assert!(entry.help.is_some());
    }
    assert_eq!(plane.reports.borrow().len(), 1, "nothing was altered");
}

#[test]
fn without_pins_every_order_is_refused() {
    if !runs_as_root("orders_come_and_are_answered::without_pins_every_order_is_refused") {
        return;
    }
    let (host, new) = host("unpinned");
    std::fs::remove_file(host.state().directory().join("trusted.json")).unwrap();
    let plane = Plane::with(&[&Told::to(vec![upgrade(&[new])], 1)]);

    assert_eq!(round(&host, &plane).unwrap(), MINUTE);

    let answers = plane.answers.borrow();
    let [OrderAnswer::Refused { refusal, .. }] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(matches!(**refusal, Refusal::Envelope { .. }), "{refusal}");
    assert!(refusal.to_string().contains("agent pin"), "{refusal}");
    assert_eq!(host.state().trusted().unwrap(), None);
}

#[test]
fn what_ended_before_a_crash_is_told_at_the_next_start_once() {
    if !runs_as_root(
        "orders_come_and_are_answered::what_ended_before_a_crash_is_told_at_the_next_start_once",
    ) {
        return;
    }
    let (host, new) = host("told-later");
    let told = Told::to(vec![upgrade(&[new])], 1);
    let plane = Plane::with(&[&told]);
    // The agent ends between the execution and the answer.
    host.take(&told.bundle());
    assert_eq!(host.version("tool"), "1.0-2");

    // Nobody is there at first.
    let alone = host.at_desk(&Timestamp::now, |desk| {
        Round { desk, root: &host.root, eyes: None }.go(|| Err::<&Plane, _>(unreachable()))
    });
    assert!(alone.is_err());
    for _ in 0..2 {
        assert_eq!(round(&host, &plane).unwrap(), MINUTE);
    }

    let answers = plane.answers.borrow();
    assert_eq!(answers.len(), 1);
    assert_eq!(result(&host, &answers[0]).ended, Ended::Done);
    assert_eq!(host.state().results().unwrap(), []);
    assert_eq!(host.state().record().unwrap().len(), 1);
}

/// Archives in which the agent is killed the first time.
struct Deadly<'a> {
    host: &'a Host,
    is_deadly: Cell<bool>,
}

impl TrustedPackages for Deadly<'_> {
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        assert!(!self.is_deadly.replace(false), "killed");
        self.host.pool.bring(packages, into, room)
    }
}

#[test]
fn what_was_begun_ends_also_where_nobody_is_reached() {
    if !runs_as_root(
        "orders_come_and_are_answered::what_was_begun_ends_also_where_nobody_is_reached",
    ) {
        return;
    }
    let (host, new) = host("alone");
    let told = Told::to(vec![upgrade(&[new])], 1);
    let plane = Plane::with(&[&told]);
    let archives = Deadly { host: &host, is_deadly: Cell::new(true) };
    host.at_desk_with(&archives, &Timestamp::now, |desk| {
        let killed = catch_unwind(AssertUnwindSafe(|| go(&host, desk, &plane)));
        assert!(killed.is_err());
        assert_eq!(host.version("tool"), "1.0-1");

        let alone =
            Round { desk, root: &host.root, eyes: None }.go(|| Err::<&Plane, _>(unreachable()));
        assert!(matches!(alone, Err(AgentError::Unreachable { .. })));
        assert_eq!(host.version("tool"), "1.0-2");

        assert_eq!(go(&host, desk, &plane).unwrap(), MINUTE);
    });
    let answers = plane.answers.borrow();
    assert_eq!(answers.len(), 1, "answered before it is handed over again");
    assert_eq!(result(&host, &answers[0]).interruptions, 1);
}

/// A system that restarts when the test says so. Its probes fail after as long as they may, but the good one.
#[derive(Default)]
struct Machine {
    boot: Cell<u32>,
    asked: Cell<u32>,
    patience: RefCell<Vec<u64>>,
}

impl System for Machine {
    fn boot(&self) -> String {
        self.boot.get().to_string()
    }

    fn reboot(&self) -> Result<(), String> {
        self.asked.set(self.asked.get() + 1);
        Ok(())
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        Err(unit.to_owned())
    }

    fn stale_units(&self) -> std::collections::BTreeSet<String> {
        [].into()
    }

    fn times(&self) -> UnitTimes {
        UnitTimes::new()
    }

    fn probe(&self, probe: &Probe) -> ProbeResult {
        self.patience.borrow_mut().push(probe.within_seconds);
        let failure = (probe.name != "good").then(|| format!("\u{1b}[1m{}", "x".repeat(400)));
        let took_ms = if failure.is_some() { probe.within_seconds * 1000 } else { 0 };
        ProbeResult { name: probe.name.clone(), failure, took_ms }
    }
}

#[test]
fn while_the_system_restarts_nothing_else_is_taken() {
    if !runs_as_root(
        "orders_come_and_are_answered::while_the_system_restarts_nothing_else_is_taken",
    ) {
        return;
    }
    let (host, new) = host("restarts");
    let newer = host.offer(&Deb::new("tool", "1.0-3"));
    let first = Told::to(vec![upgrade(&[new]), Action::Reboot], 1);
    let second = Told::to(vec![upgrade(&[newer])], 2);
    let plane = Plane::with(&[&first, &second]);
    let machine = Machine { boot: Cell::new(1), ..Machine::default() };
    host.at_desk_of(&host.pool, &machine, &Timestamp::now, |desk| {
        assert_eq!(go(&host, desk, &plane).unwrap(), Next::Rebooting);
        // It does not restart at once: it is asked again, and that is all.
        assert_eq!(go(&host, desk, &plane).unwrap(), Next::Rebooting);
        assert_eq!((machine.asked.get(), plane.reports.borrow().len()), (2, 1));
        assert_eq!(host.version("tool"), "1.0-2");
        assert!(plane.answers.borrow().is_empty());

        machine.boot.set(2);
        assert_eq!(go(&host, desk, &plane).unwrap(), MINUTE);
    });
    assert_eq!(host.version("tool"), "1.0-3");
    let answers = plane.answers.borrow();
    let said: Vec<_> = answers.iter().map(|answer| result(&host, answer)).collect();
    assert!(said.iter().all(|it| it.ended == Ended::Done), "{said:?}");
    assert_eq!([said[0].order, said[1].order], [first.order.nonce, second.order.nonce]);
}

#[test]
fn what_an_owner_expects_is_tried_before_each_report() {
    let directory = tempfile::tempdir().unwrap();
    let probes = directory.path().join("probes.toml");
    let state = agent::State::new(directory.path());
    let (plane, system) = (Plane::default(), Machine::default());
    let desk = Desk {
        state: &state,
        policy: &directory.path().join("none"),
        probes: &probes,
        packages: &agent::execute::Apt::new(Path::new("/"), directory.path().join("work")),
        archives: &crate::support::Pool::default(),
        system: &system,
        files: &agent::execute::HostFiles::new(directory.path(), Vec::new()),
        clock: &Timestamp::now,
    };
    let told = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&probes, text).unwrap();
        }
        Round { desk: &desk, root: Path::new("/"), eyes: None }.go(|| Ok(&plane)).unwrap();
        plane.facts.borrow().last().unwrap().clone()
    };

    assert_eq!(told(None).health(), None, "no file, no probes");

    let names = ["good", "bad", "worse", "worst"];
    let declared = names
        .map(|name| format!("[[probe]]\nname = \"{name}\"\nunit = \"a\"\nwithin_seconds = 40\n"));
    let facts = told(Some(&declared.concat()));
    assert_eq!(facts.health(), Some(Health::Sick));
    let outcomes: Vec<_> =
        facts.probes.iter().map(|it| (it.name.as_str(), it.failure.is_none())).collect();
    assert_eq!(outcomes, [("good", true), ("bad", false), ("worse", false), ("worst", false)]);
    assert_eq!(*system.patience.borrow(), [40, 40, 20, 0], "a minute in all, and a try of each");
    let failure = facts.probes[1].failure.as_ref().unwrap();
    assert!(failure.len() < 400 && !failure.contains('\u{1b}'), "{failure}");

    assert_eq!(told(Some(&declared[0])).health(), Some(Health::Healthy));
    let broken = told(Some("[[probe]]\nnonsense = 1\n"));
    assert_eq!(broken.health(), Some(Health::Sick), "what cannot be tried does not pass");
}

#[test]
fn one_agent_at_a_time_works_with_a_state() {
    let directory = tempfile::tempdir().unwrap();
    let state = agent::State::new(directory.path());
    let hold = |name: &str| {
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    };
    let file = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("etc/os-release", "ID=debian\nVERSION_ID=12\n");
    file("var/lib/dpkg/status", "");
    let settings = Settings {
        root: directory.path().to_owned(),
        policy: directory.path().join("none"),
        probes: directory.path().join("none"),
        once: true,
    };

    let other = hold("run.lock");
    let error = agent::run(&state, &settings).unwrap_err();
    assert!(matches!(error, AgentError::Running { .. }), "{error}");
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    drop(other);

    // It does not only report alone: an order is one process's.
    let _other = hold("desk.lock");
    let error = agent::run(&state, &settings).unwrap_err();
    assert!(matches!(error, AgentError::NotJoined), "a report goes out all the same: {error}");
    let packages = agent::execute::Apt::new(directory.path(), directory.path().join("work"));
    let desk = Desk {
        state: &state,
        policy: &settings.policy,
        probes: &settings.probes,
        packages: &packages,
        archives: &crate::support::Pool::default(),
        system: &agent::execute::AtRest,
        files: &agent::execute::HostFiles::new(directory.path(), Vec::new()),
        clock: &Timestamp::now,
    };
    assert!(matches!(desk.resume(), Err(OrderError::Busy { .. })));
    let told = Told::to(vec![Action::Reboot], 1);
    assert!(matches!(desk.take(&told.handed()), Err(OrderError::Busy { .. })));
}
