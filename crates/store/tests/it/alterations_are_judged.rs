//! Verdicts and drifts on both engines: what opens one, what settles it, who may see and adopt it, and what is left of
//! it when history goes.

use std::collections::BTreeMap;

use domain::agent::{Installed, Trace};
use domain::configuration::verdict::{
    Actor as Hand, Approval, Confidence, Evidence, Standing, Verdict,
};
use jiff::{SignedDuration, Timestamp};
use store::{
    Drift, DriftFilter, DriftState, Erasure, FilePath, FileVerdict, Happening, PageRequest,
    StoreError, Telling,
};

use crate::support::World;
use crate::support::history::{HOLDER, Remembering, file};

on_both_engines! {
    what_nobody_agreed_to_stays_open_until_it_is_settled
    an_adopted_content_is_what_the_file_is_to_be
    what_a_package_brought_is_its_vendors
    what_came_about_unseen_is_unknown
    a_policy_in_force_follows_from_its_files
    what_alters_by_itself_is_quiet
    a_drift_escalates_once
    nobody_sees_another_tenants_drifts
    what_is_erased_leaves_no_verdict
    a_batch_is_judged_once
}

const SSHD: &str = "/etc/ssh/sshd_config";

pub(crate) struct Host {
    pub(crate) it: Remembering,
    pub(crate) looked: Option<Timestamp>,
}

impl Host {
    pub(crate) async fn new(world: World) -> Self {
        let host = Self { it: Remembering::new(world, 5).await, looked: None };
        // As it was from the beginning.
        let first = file(path(SSHD), Some((b"PermitRootLogin no\n".to_vec(), 0o100_600)));
        host.it.history.record(&host.it.owner, host.it.cis[0], vec![first]).await.unwrap();
        host
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.it.world.store.environment().now()
    }

    /// The host tells a file, and it is judged.
    pub(crate) async fn writes(
        &mut self,
        name: &str,
        content: Option<&str>,
        trace: impl Into<Option<Trace>>,
    ) -> FileVerdict {
        self.tells(name, content, trace.into(), Evidence::Complete).await
    }

    async fn tells(
        &mut self,
        name: &str,
        content: Option<&str>,
        trace: impl Into<Option<Trace>>,
        evidence: Evidence,
    ) -> FileVerdict {
        let state = content.map(|text| (text.as_bytes().to_vec(), 0o100_600));
        let mut told = file(path(name), state);
        told.observed_at = self.now();
        let traces = trace.into().map(|trace| (name.to_owned(), trace)).into_iter().collect();
        let telling = Telling { looked_before: self.looked, evidence, traces };
        self.looked = Some(told.observed_at);
        let (owner, ci) = (&self.it.owner, self.it.cis[0]);
        let recorded = self.it.history.record_told(owner, ci, vec![told], telling).await.unwrap();
        let at = recorded.expect("it is another one").at;
        assert!(self.it.history.has_unjudged().await.unwrap());
        assert_eq!(self.it.history.judge(10).await.unwrap(), 1);
        self.verdicts().await.remove(&(at, name.to_owned())).unwrap()
    }

    pub(crate) async fn verdicts(&self) -> BTreeMap<(Timestamp, String), FileVerdict> {
        self.it.history.verdicts(&self.it.owner, self.it.cis[0], None).await.unwrap()
    }

    pub(crate) async fn drifts(&self, state: Option<DriftState>) -> Vec<Drift> {
        let (filter, page) = (DriftFilter { state, ..DriftFilter::default() }, page());
        self.it.history.drifts(&self.it.owner, filter, &page).await.unwrap().items
    }

    pub(crate) async fn open(&self) -> Vec<Drift> {
        self.drifts(Some(DriftState::Open)).await
    }
}

pub(crate) fn page() -> PageRequest {
    PageRequest { after: None, limit: 100 }
}

fn path(name: &str) -> FilePath {
    FilePath::new(name).unwrap()
}

pub(crate) fn by(login: &str) -> Trace {
    let who = Hand::Person { login: login.to_owned() };
    Trace { who, changed_at: None, shipped: None }
}

async fn what_nobody_agreed_to_stays_open_until_it_is_settled(world: World) {
    let mut host = Host::new(world).await;

    let verdict = host.writes(SSHD, Some("PermitRootLogin yes\n"), by("anna")).await;

    assert_eq!(verdict.judgement.verdict, Verdict::Unauthorised);
    assert_eq!(verdict.judgement.confidence, Confidence::High);
    let open = host.open().await.remove(0);
    assert_eq!((open.path.as_str(), open.what, open.count), (SSHD, Happening::Altered, 1));
    assert_eq!(open.judgement, verdict.judgement);
    assert_eq!(open.ci_name, "web-0");
    let store = host.it.world.store.clone();
    let alarms = store.drift_alarms(host.it.tenant, 9).await.unwrap().unwrap();
    assert_eq!((alarms.first[0].drift, alarms.drifts), (open.id, [1, 0]), "its owner is told");

    host.writes(SSHD, None, by("bob")).await;
    let again = host.open().await.remove(0);
    assert_eq!((again.id, again.what, again.count), (open.id, Happening::Gone, 2));
    assert_eq!(again.since, open.since);
    assert!(again.recorded_at > open.recorded_at);

    // Whoever puts back what was there before it does right.
    let verdict = host.writes(SSHD, Some("PermitRootLogin no\n"), by("carl")).await;
    let before = Approval::Before { drift: open.id };
    assert_eq!(verdict.judgement.verdict, Verdict::Reverted { to: before });
    assert!(host.open().await.is_empty());
    assert_eq!(
        store.drift_alarms(host.it.tenant, 9).await.unwrap(),
        None,
        "and need not be any more"
    );
    let settled = host.drifts(None).await.remove(0);
    assert_eq!(settled.state, DriftState::Reverted);
    assert_eq!(settled.settlement.unwrap().by, "system");

    // With no drift open, what was there before it is not agreed to for that.
    host.writes(SSHD, Some("PermitRootLogin yes\n"), by("anna")).await;
    assert_ne!(host.open().await[0].id, open.id);
    assert_eq!(host.drifts(None).await.len(), 2);
}

async fn an_adopted_content_is_what_the_file_is_to_be(world: World) {
    let mut host = Host::new(world).await;
    host.writes(SSHD, Some("Port 2222\n"), by("anna")).await;
    let seen = host.open().await.remove(0);
    host.writes(SSHD, Some("Port 2223\n"), by("anna")).await;
    let (owner, why) = (host.it.owner.clone(), || "we moved it".parse().unwrap());

    let stale = host.it.history.adopt_drift(&owner, seen.id, seen.recorded_at, why()).await;
    assert!(matches!(stale, Err(StoreError::Refused { .. })), "{stale:?}");
    let seen = host.open().await.remove(0);
    let adopted = host.it.history.adopt_drift(&owner, seen.id, seen.recorded_at, why()).await;

    let adopted = adopted.unwrap();
    assert_eq!(adopted.state, DriftState::Adopted);
    assert_eq!(adopted.settlement.unwrap().reason.as_deref(), Some("we moved it"));
    let twice = host.it.history.adopt_drift(&owner, seen.id, seen.recorded_at, why()).await;
    assert!(matches!(twice, Err(StoreError::Refused { .. })), "{twice:?}");

    host.writes(SSHD, Some("Port 22\n"), by("bob")).await;
    assert_eq!(host.open().await.len(), 1);
    let back = host.writes(SSHD, Some("Port 2223\n"), by("bob")).await;
    let adoption = Approval::Adoption { drift: seen.id };
    assert_eq!(back.judgement.verdict, Verdict::Reverted { to: adoption });
    assert!(host.open().await.is_empty());
}

async fn what_a_package_brought_is_its_vendors(world: World) {
    let mut host = Host::new(world).await;
    let shipped = |from: Timestamp, who| {
        let until = from + SignedDuration::from_secs(60);
        let (package, version) = ("openssh-server".to_owned(), "1:9.2p1-3".to_owned());
        let shipped = Some(Installed { package, version, from, until });
        Some(Trace { who, changed_at: None, shipped })
    };
    host.writes(SSHD, Some("Port 2222\n"), by("anna")).await;
    let now = host.now();

    let verdict = host.writes(SSHD, Some("# new\n"), shipped(now, Hand::PackageManager)).await;

    assert_eq!(verdict.judgement.verdict.standing(), Standing::Vendor);
    assert!(host.open().await.is_empty());
    assert_eq!(host.drifts(None).await[0].state, DriftState::Superseded);
    // At another time it is nobody's.
    let long_ago = host.now() - SignedDuration::from_hours(1);
    let verdict = host.writes(SSHD, Some("# old\n"), shipped(long_ago, Hand::PackageManager)).await;
    assert_eq!(verdict.judgement.verdict, Verdict::Unauthorised);
    // And by another hand.
    let (now, anna) = (host.now(), Hand::Person { login: "anna".to_owned() });
    let verdict = host.writes(SSHD, Some("# older\n"), shipped(now, anna)).await;
    assert_eq!(verdict.judgement.verdict, Verdict::Unauthorised);
}

async fn what_came_about_unseen_is_unknown(world: World) {
    let mut host = Host::new(world).await;

    let verdict = host.tells(SSHD, Some("Port 1\n"), None, Evidence::Gap).await;

    assert_eq!(verdict.judgement.verdict, Verdict::Unknown);
    let open = host.open().await.remove(0);
    assert_eq!(open.judgement.verdict.standing(), Standing::Unknown);
    let counts = host.it.history.drift_counts(&host.it.owner, None).await.unwrap();
    assert_eq!((counts.unauthorised, counts.unknown, counts.escalated), (0, 1, 0));
}

async fn what_alters_by_itself_is_quiet(world: World) {
    let mut host = Host::new(world).await;
    let rules = |count: u32| format!("*filter\n:INPUT ACCEPT [{count}:{count}]\nCOMMIT\n");
    let place = "/etc/iptables/rules.v4";
    host.writes(place, Some(&rules(1)), None).await;
    let id = host.open().await[0].id;

    let verdict = host.writes(place, Some(&rules(2)), None).await;

    assert_eq!(verdict.judgement.verdict, Verdict::Noise);
    let open = host.open().await.remove(0);
    assert_eq!((open.id, open.count), (id, 1), "a file that is not agreed to stays so");
    // And is adopted as it is.
    let (owner, why) = (host.it.owner.clone(), "ours".parse().unwrap());
    host.it.history.adopt_drift(&owner, id, open.recorded_at, why).await.unwrap();
    let rule = "*filter\n:INPUT DROP [2:2]\nCOMMIT\n";
    assert_eq!(host.writes(place, Some(rule), None).await.judgement.verdict, Verdict::Unauthorised);
    let back = host.writes(place, Some(&rules(2)), None).await;
    assert!(matches!(back.judgement.verdict, Verdict::Reverted { .. }), "{back:?}");
}

async fn a_drift_escalates_once(world: World) {
    let mut host = Host::new(world).await;
    host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    host.writes("/etc/motd", Some("hello\n"), by("anna")).await;
    let store = host.it.world.store.clone();
    assert!(!store.has_drifts_to_escalate().await.unwrap());
    host.writes("/etc/motd", Some("hello again\n"), by("anna")).await;
    let drifts = host.open().await;
    let motd = drifts.iter().find(|drift| drift.path.as_str() == "/etc/motd").unwrap();
    let (owner, why) = (host.it.owner.clone(), "fine".parse().unwrap());
    host.it.history.adopt_drift(&owner, motd.id, motd.recorded_at, why).await.unwrap();

    host.it.world.environment.pass(SignedDuration::from_hours(25));

    let (ci, now) = (host.it.cis[0], host.now());
    assert_eq!(store.drifts_open_at(&owner, ci, now).await.unwrap(), 1);
    let before = now - SignedDuration::from_hours(26);
    assert_eq!(store.drifts_open_at(&owner, ci, before).await.unwrap(), 0);
    assert!(store.has_drifts_to_escalate().await.unwrap());
    assert_eq!(store.escalate_drifts(10).await.unwrap(), 1, "of what is settled nobody is told");
    assert_eq!(store.escalate_drifts(10).await.unwrap(), 0);
    let alarms = store.drift_alarms(host.it.tenant, 9).await.unwrap().unwrap();
    assert_eq!(alarms.drifts, [0, 1], "its owner is told of that too");
    let open = host.open().await.remove(0);
    assert!(open.escalated_at.is_some() && open.escalates_at.is_none());
    assert_eq!(host.it.history.drift_counts(&owner, None).await.unwrap().escalated, 1);
}

async fn nobody_sees_another_tenants_drifts(world: World) {
    let mut host = Host::new(world).await;
    host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    let id = host.open().await[0].id;
    let other = host.it.world.tenant("other").await;
    let stranger = host.it.world.owner(&other).await;
    let history = &host.it.history;

    assert!(matches!(history.drift(&stranger, id).await, Err(StoreError::NotFound { .. })));
    let why = "mine".parse().unwrap();
    let adopted = history.adopt_drift(&stranger, id, host.now(), why).await;
    assert!(matches!(adopted, Err(StoreError::NotFound { .. })), "{adopted:?}");
    for tenant in [None, Some(host.it.tenant)] {
        let filter = DriftFilter { tenant, ..DriftFilter::default() };
        assert!(history.drifts(&stranger, filter, &page()).await.unwrap().items.is_empty());
        let counts = history.drift_counts(&stranger, tenant).await.unwrap();
        assert_eq!((counts.unauthorised, counts.unknown), (0, 0));
    }
    let seen = history.verdicts(&stranger, host.it.cis[0], None).await;
    assert!(matches!(seen, Err(StoreError::NotFound { .. })), "{seen:?}");
    // The provider sees all of them.
    assert_eq!(history.drift(&host.it.world.admin, id).await.unwrap().id, id);
}

async fn what_is_erased_leaves_no_verdict(world: World) {
    let mut host = Host::new(world).await;
    host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    let (owner, tenant) = (host.it.owner.clone(), host.it.tenant);
    let now = host.now();
    host.it.history.forget(&owner, tenant, now, HOLDER).await.unwrap();
    assert!(host.verdicts().await.is_empty(), "retention takes them along");
    host.writes(SSHD, Some("Port 2\n"), by("anna")).await;
    assert_eq!(host.verdicts().await.len(), 1);

    let all = Erasure::Everything;
    host.it.history.erase(&owner, tenant, all, "asked for", HOLDER).await.unwrap();

    assert!(host.verdicts().await.is_empty());
    assert!(host.drifts(None).await.is_empty());
    // It begins anew.
    host.writes(SSHD, Some("Port 3\n"), by("anna")).await;
    assert_eq!(host.open().await.len(), 1);
}

async fn a_batch_is_judged_once(world: World) {
    let mut host = Host::new(world).await;
    let (owner, ci) = (host.it.owner.clone(), host.it.cis[0]);
    for number in 0..5 {
        let told = file(path(SSHD), Some((format!("Port {number}\n").into_bytes(), 0o100_600)));
        let (looked_before, traces) = (None, BTreeMap::new());
        let telling = Telling { looked_before, evidence: Evidence::Complete, traces };
        host.it.history.record_told(&owner, ci, vec![told], telling).await.unwrap();
    }
    // Sealed meanwhile, and judged by two at once.
    host.it.history.seal(host.it.tenant, HOLDER).await.unwrap();
    let (one, other) = tokio::join!(host.it.history.judge(3), host.it.history.judge(3));
    assert_eq!((one.unwrap(), other.unwrap()), (3, 3));
    while host.it.history.judge(3).await.unwrap() > 0 {}

    assert_eq!(host.verdicts().await.len(), 5);
    let open = host.open().await;
    assert_eq!(open.len(), 1);
    assert!(!host.it.history.has_unjudged().await.unwrap());
    host.looked = None;
    let back = host.writes(SSHD, Some("PermitRootLogin no\n"), None).await;
    assert!(matches!(back.judgement.verdict, Verdict::Reverted { .. }), "{back:?}");
}

async fn a_policy_in_force_follows_from_its_files(world: World) {
    let mut host = Host::new(world).await;
    let (owner, ci) = (host.it.owner.clone(), host.it.cis[0]);
    let present = |text: &str| Some((text.as_bytes().to_vec(), 0));
    let first = ["policy:sshd", "policy:nftables", "profile:sockets"];
    let first = first.map(|name| file(path(name), present("as it was\n"))).to_vec();
    host.it.history.record(&owner, ci, first).await.unwrap();
    let told = vec![
        file(path(SSHD), present("Port 2222\n")),
        file(path("policy:sshd"), present("port 2222\n")),
        file(path("policy:pam"), present("told for the first time\n")),
        file(path("profile:sockets"), present("tcp 0.0.0.0:2222 /usr/sbin/sshd\n")),
    ];
    let traces = [(SSHD.to_owned(), by("anna"))].into();
    let telling = Telling { looked_before: None, evidence: Evidence::Complete, traces };
    host.it.history.record_told(&owner, ci, told, telling).await.unwrap();
    assert_eq!(host.it.history.judge(10).await.unwrap(), 1);

    let open = host.open().await;
    assert_eq!(open.len(), 1, "what is to be done is done with the file");
    assert_eq!(open[0].path.as_str(), SSHD);
    let verdicts = host.verdicts().await;
    let of = |name: &str| verdicts.values().find(|it| it.path == name);
    let policy = &of("policy:sshd").unwrap().judgement;
    assert_eq!(policy.verdict, Verdict::Unauthorised);
    assert!(policy.trace[0].because.contains(SSHD), "{policy:?}");
    assert!(of("profile:sockets").is_none() && of("policy:pam").is_none());

    // By itself it is somebody's act.
    host.writes("policy:nftables", Some("table inet filter\n"), None).await;
    assert_eq!(host.open().await.len(), 2);
}
