//! Releases and orders on both engines.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::changes_and_their_clocks::{ALL, Case, DAY, done, events, now, publish, report, wake};
use crate::support::{World, package_set, vm};
use domain::agent::{AtWork, Facts, OrderAnswer, OrderProgress, ProbeOutcome};
use domain::change::{Action, Decision, ExactPackage, FileHash, Payload as _, Rollback};
use domain::cloud::{Class, EventKind, Id, RelationKind, ReleaseId};
use domain::fleet::FindingState;
use domain::inventory::Runtime;
use domain::order::{Ended, OrderResult};
use domain::release::{
    Caps, Command, Condition, Content, Fleet, Layout, Mobility, Order, Profile, Reboot, Target,
    Windows, Work, plan,
};
use domain::verification::Occasion;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{
    Actor, Agent, Answered, Fetched, FindingFilter, Issued, Joining, NewJoinToken, OrderFilter,
    Outcome, PageRequest, Relation, StoreError, VerificationFilter,
};

on_both_engines! {
    a_release_goes_its_whole_way
    what_does_not_answer_in_time_is_told
    a_host_that_does_not_do_what_its_owner_expects_counts_as_failed
    half_a_release_is_never_kept
    what_was_aborted_before_its_time_does_not_seem_to_go_on
    an_order_is_signed_once_and_answered_once
    each_look_is_signed_and_kept_for_its_tenant
    what_was_verified_is_looked_at_again
    what_went_back_is_told_and_missing_again
    who_says_nothing_is_undecided_after_a_day
    a_hypervisor_restarts_once_what_runs_on_it_has_left
}

fn exact(version: &str) -> Vec<ExactPackage> {
    vec![ExactPackage {
        name: "web".into(),
        architecture: "amd64".into(),
        version: version.into(),
        sha256: FileHash::from([1; 32]),
    }]
}

pub(crate) fn target(case: &Case) -> Target {
    let content = Content {
        actions: vec![Action::Upgrade { packages: exact("2") }],
        rollback: Rollback::Packages { packages: exact("1") },
    };
    Target {
        ci: case.ci.id,
        tenant: case.tenant.id,
        duty: case.ci.duty,
        class: case.ci.class,
        labels: BTreeMap::new(),
        zone: None,
        domain: None,
        depends_on: Vec::new(),
        member_of: Vec::new(),
        runs_on: None,
        mobility: Mobility::Stops,
        condition: Condition::Healthy,
        work: Some(Work {
            content: Arc::new(content),
            takes: SignedDuration::from_mins(20),
            windows: Arc::new(Windows::Always),
            reboot: None,
        }),
    }
}

fn layout(case: &Case, from: Timestamp, random: u8) -> Arc<Layout> {
    layout_of(case, vec![target(case)], from, random)
}

pub(crate) fn layout_of(
    case: &Case,
    targets: Vec<Target>,
    from: Timestamp,
    random: u8,
) -> Arc<Layout> {
    let most = NonZeroU32::MAX;
    let order = Order {
        release: ReleaseId::of_content([random; 16]),
        change: case.change.change.id,
        profile: &Profile::builtin("emergency").unwrap(),
        caps: Caps { max_unavailable: most, per_wave: most, per_tenant: most, per_hour: most },
        canaries: &BTreeSet::new(),
        freezes: &[],
        previous: &BTreeMap::new(),
        until: from + DAY * 30,
    };
    let fleet = Fleet { targets, services: Vec::new() };
    Arc::new(plan(&fleet, &order, from).unwrap())
}

pub(crate) struct Host {
    pub(crate) case: Case,
    pub(crate) agent: Agent,
    pub(crate) release: ReleaseId,
}

impl Host {
    async fn begun(world: &World) -> Self {
        let case = Case::proven(world, "high").await;
        let layout = layout(&case, now(world) + DAY * 10, 1);
        Self::carries_out(world, case, layout).await
    }

    /// A release that begins in ten days, and has begun.
    pub(crate) async fn carries_out(world: &World, case: Case, layout: Arc<Layout>) -> Self {
        let new = NewJoinToken {
            tenant: case.tenant.id,
            ci: Some(case.ci.id),
            class: case.ci.class,
            labels: store::Labels::new(),
            uses: 1,
            lifetime: SignedDuration::from_hours(1),
        };
        let (_, token) = world.store.create_join_token(&world.admin, new).await.unwrap();
        let (name, key) = ("x".parse().unwrap(), store::KeyHash::from([9; 32]));
        let joining = Joining { token, name, key, expires_at: now(world) + DAY * 90 };
        let agent = world.store.join(joining).await.unwrap().0;
        let release = layout.release();
        world.store.create_release(&world.admin, layout, 9).await.unwrap();
        let planned = case.matter(world).await.obligation.share().unwrap().plan().clone();
        assert_eq!(publish(world, 1).await, 1);
        let waits = world.store.release(&world.admin, release).await.unwrap();
        let waits = waits.run.why(case.ci.id, now(world)).unwrap();
        assert!(waits.to_string().contains(", deemed at "), "{waits}");
        done(case.say(world, &planned, Decision::Approve, 1).await);
        world.environment.pass(DAY * 10 + SignedDuration::from_mins(1));
        let host = Self { case, agent, release };
        host.go_on(world).await;
        host
    }

    pub(crate) async fn go_on(&self, world: &World) {
        wake(world).await;
        for _ in 0..3 {
            world.environment.pass(SignedDuration::from_secs(2));
            let (_, failed) =
                world.store.step_releases(&world.verifier, &world.history(), 10).await.unwrap();
            assert!(failed.is_empty(), "{failed:?}");
            let (_, failed) =
                world.store.verify_again(&world.verifier, &world.history(), 10).await.unwrap();
            assert!(failed.is_empty(), "{failed:?}");
        }
    }

    /// A release that was carried out on it and verified.
    async fn verified(world: &World) -> Self {
        let host = Self::begun(world).await;
        let fetched = host.fetch(world).await;
        host.ends(world, &fetched, Ended::Done).await;
        host.looks(world, "2", Runtime::default()).await;
        world.checked(&host.case.ci, report(now(world), &[])).await;
        host
    }

    async fn is_awaited(&self, world: &World) -> bool {
        world.store.awaited_agents().await.unwrap().contains(&self.agent.id)
    }

    /// Each occasion with its verdict and what there is to say beside it, the newest first.
    async fn history(&self, world: &World) -> Vec<String> {
        let kept = self.verifications(world).await;
        let told = kept.iter().map(|it| {
            let (occasion, verdict) = (it.record.occasion, &it.record.verdict);
            format!("{occasion} {} {verdict}", verdict.as_str()).trim_end().to_owned()
        });
        told.collect()
    }

    pub(crate) fn actor(&self) -> Actor {
        let Agent { id, tenant, ci, .. } = self.agent;
        Actor::Agent { agent: id, tenant, ci }
    }

    pub(crate) async fn fetch(&self, world: &World) -> Fetched {
        let actor = self.actor();
        let fetched = world.store.order_for(&actor).await.unwrap().unwrap();
        let (nonce, number) = (fetched.nonce, fetched.sequence);
        let envelope = "signed".to_owned();
        let issued = Issued { nonce, sequence: number, key_version: 1, envelope };
        world.store.issue_order(&actor, issued).await.unwrap();
        fetched
    }

    pub(crate) async fn ends(&self, world: &World, fetched: &Fetched, ended: Ended) {
        let now = now(world);
        let result = OrderResult {
            execution: Id::new(now, [1; 10]),
            agent: self.agent.id,
            ci: self.agent.ci,
            plan: fetched.plan.hash(),
            order: fetched.nonce,
            ended,
            actions: Vec::new(),
            packages: Vec::new(),
            files: Vec::new(),
            probes: Vec::new(),
            downtime: Vec::new(),
            interruptions: 0,
            began_at: now,
            ended_at: now,
        };
        let answer = OrderAnswer::Ended { order: fetched.nonce, envelope: "{}".to_owned() };
        let answered =
            Answered { answer, result: Some(result), digest: Some(FileHash::from([5; 32])) };
        world.store.answer_order(&self.actor(), answered).await.unwrap();
    }

    pub(crate) async fn phase(&self, world: &World) -> &'static str {
        let release = world.store.release(&world.admin, self.release).await.unwrap();
        release.run.phase(self.case.ci.id).unwrap().as_str()
    }
}

async fn a_release_goes_its_whole_way(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    assert_eq!(host.phase(world).await, "ordered");
    let fetched = host.fetch(world).await;
    assert_eq!(host.phase(world).await, "working");
    let progress = OrderProgress { order: fetched.nonce, at: AtWork::Altering };
    world.store.note_progress(&host.actor(), progress).await.unwrap();
    let told = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(told[0].at_work, Some(AtWork::Altering));
    host.ends(world, &fetched, Ended::Done).await;
    assert_eq!(host.phase(world).await, "checking");
    assert!(world.store.note_progress(&host.actor(), progress).await.is_err(), "it is over");
    assert_eq!(world.store.awaited_agents().await.unwrap(), BTreeSet::from([host.agent.id]));

    // What was known before the claim does not count.
    world.store.note_complete(host.agent.id, now(world) - DAY).await.unwrap();
    host.go_on(world).await;
    assert_eq!(host.phase(world).await, "checking");

    world.observe(&host.case.ci, package_set(&[("web", "2")])).await;
    let facts = Facts { runtime: Some(Runtime::default()), ..Facts::default() };
    world.store.record_facts(&host.actor(), host.case.ci.id, facts).await.unwrap();
    world.environment.pass(SignedDuration::from_secs(1));
    world.store.note_complete(host.agent.id, now(world)).await.unwrap();
    host.go_on(world).await;
    assert_eq!(host.phase(world).await, "done");
    world.environment.pass(DAY);
    host.go_on(world).await;

    let release = world.store.release(&world.admin, host.release).await.unwrap();
    assert_eq!(release.run.ended(), Some(domain::release::End::Released));
    assert!(world.store.release(&host.case.owner, host.release).await.is_err());
    let all = world.store.releases(&world.admin, None, &ALL).await.unwrap();
    assert_eq!(all.items.len(), 1);
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("done"));
    // It is to be looked at again, a day later.
    assert_eq!(world.store.awaited_agents().await.unwrap(), BTreeSet::from([host.agent.id]));
}

async fn what_does_not_answer_in_time_is_told(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    host.fetch(world).await;
    world.environment.pass(DAY);
    host.go_on(world).await;
    let release = world.store.release(&world.admin, host.release).await.unwrap();
    assert_eq!(release.run.tally().silent, 1);
    assert_eq!(release.run.mode().as_str(), "held");
}

async fn a_host_that_does_not_do_what_its_owner_expects_counts_as_failed(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    host.tells(world, None).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    let told = async || events(world, EventKind::CiHealth).await;
    assert_eq!(told().await, 0, "it works, as ever");

    // All of the plan is there, and its service is not.
    world.environment.pass(SignedDuration::from_secs(1));
    world.observe(&host.case.ci, package_set(&[("web", "2")])).await;
    host.tells(world, Some("answered 502, not 200")).await;
    assert_eq!(host.phase(world).await, "checking");
    world.environment.pass(SignedDuration::from_secs(1));
    world.store.note_complete(host.agent.id, now(world)).await.unwrap();
    host.go_on(world).await;

    assert_eq!(host.phase(world).await, "failed");
    let release = world.store.release(&world.admin, host.release).await.unwrap();
    assert_eq!(release.run.mode().as_str(), "held");
    let sick = async || {
        let change = host.case.change.change.id;
        world.store.ground(&world.admin, change).await.unwrap().sick
    };
    assert_eq!(sick().await, BTreeSet::from([host.case.ci.id]));
    assert_eq!(told().await, 1);

    // The same again is no news; that it works again is.
    host.tells(world, Some("answered 503, not 200")).await;
    assert_eq!(told().await, 1);
    world.environment.pass(SignedDuration::from_secs(1));
    host.tells(world, None).await;
    assert_eq!(host.phase(world).await, "mended");
    assert_eq!(told().await, 2);
    assert_eq!(sick().await, BTreeSet::new());
}

async fn half_a_release_is_never_kept(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    // One is under way.
    let another = layout(&host.case, now(world) + DAY * 10, 2);
    let id = another.release();
    let refused = world.store.create_release(&world.admin, another, 9).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    assert!(world.store.release(&world.admin, id).await.is_err());
    let abort = Command::Abort { reason: "we stop".parse().unwrap() };
    done(world.store.command_release(&world.admin, host.release, abort.clone()).await.unwrap());
    let again = world.store.command_release(&world.admin, host.release, abort).await.unwrap();
    assert!(matches!(again, Outcome::Refused { .. }), "{again:?}");
}

async fn what_was_aborted_before_its_time_does_not_seem_to_go_on(world: World) {
    let world = &world;
    let case = Case::proven(world, "high").await;
    let layout = layout(&case, now(world) + DAY * 10, 1);
    let release = layout.release();
    world.store.create_release(&world.admin, layout, 9).await.unwrap();
    let planned = case.matter(world).await.obligation.share().unwrap().plan().clone();
    publish(world, 1).await;
    done(case.say(world, &planned, Decision::Approve, 1).await);
    let abort = Command::Abort { reason: "we stop".parse().unwrap() };
    done(world.store.command_release(&world.admin, release, abort).await.unwrap());

    world.environment.pass(DAY * 10 + SignedDuration::from_mins(1));
    wake(world).await;
    assert_eq!(case.phase(world).await, "rolling_out");
    let (_, failed) =
        world.store.step_releases(&world.verifier, &world.history(), 10).await.unwrap();

    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(case.phase(world).await, "non_compliant");
    assert_eq!(
        world.store.step_releases(&world.verifier, &world.history(), 10).await.unwrap().0,
        0,
        "it is over"
    );
}

async fn an_order_is_signed_once_and_answered_once(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    let fetched = host.fetch(world).await;
    let actor = host.actor();
    // Signed again by another process at the same time: what was signed first counts.
    let (nonce, number) = (fetched.nonce, fetched.sequence);
    let envelope = "other".to_owned();
    let issued = Issued { nonce, sequence: number, key_version: 1, envelope };
    let again = world.store.issue_order(&actor, issued).await.unwrap();
    assert_eq!(again, "signed");
    let again = world.store.order_for(&actor).await.unwrap().unwrap();
    assert_eq!((again.envelope.as_deref(), again.sequence), (Some("signed"), number + 1));

    host.ends(world, &fetched, Ended::Stuck { because: "x".repeat(9000) }).await;
    host.ends(world, &fetched, Ended::Done).await;

    let orders = world.store.orders(&actor, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("stuck"));
    assert!(orders[0].reason.as_ref().unwrap().len() <= 2000);
}

/// What an agent looks like from here.
impl Host {
    /// The agent looks, and all of it is known.
    pub(crate) async fn looks(&self, world: &World, version: &str, runtime: Runtime) {
        world.observe(&self.case.ci, package_set(&[("web", version)])).await;
        let facts = Facts { runtime: Some(runtime), ..Facts::default() };
        world.store.record_facts(&self.actor(), self.case.ci.id, facts).await.unwrap();
        world.environment.pass(SignedDuration::from_secs(1));
        world.store.note_complete(self.agent.id, now(world)).await.unwrap();
        self.go_on(world).await;
    }

    /// The agent says what came of its owner's probe.
    async fn tells(&self, world: &World, failure: Option<&str>) {
        let failure = failure.map(str::to_owned);
        let probes = vec![ProbeOutcome { name: "web".to_owned(), failure }];
        let facts = Facts { runtime: Some(Runtime::default()), probes, ..Facts::default() };
        world.store.record_facts(&self.actor(), self.case.ci.id, facts).await.unwrap();
    }

    async fn verifications(&self, world: &World) -> Vec<store::Verification> {
        let filter = VerificationFilter::Item(self.case.ci.id);
        world.store.verifications(&self.case.owner, filter, &ALL).await.unwrap().items
    }
}

async fn each_look_is_signed_and_kept_for_its_tenant(world: World) {
    let world = &world;
    let host = Host::begun(world).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    let blind = || Runtime { unreadable_processes: 3, ..Runtime::default() };

    host.looks(world, "2", blind()).await;
    // The same again tells nothing new, however often it is looked at.
    host.looks(world, "2", blind()).await;
    world.checked(&host.case.ci, report(now(world), &[])).await;
    host.looks(world, "3", Runtime { running_kernel: "6.1".into(), ..Runtime::default() }).await;

    let kept = host.verifications(world).await;
    let told: Vec<_> = kept.iter().map(|it| it.record.verdict.to_string()).collect();
    assert_eq!(told, ["web is at 3 by now, after 2", "what some processes run is not known"]);
    let [verified, undecided] = [&kept[0].record, &kept[1].record];
    assert_eq!(undecided.verdict.as_str(), "undecided");
    for record in [verified, undecided] {
        assert_eq!((record.release, record.ci), (host.release, host.case.ci.id));
        assert_eq!(record.claim.order, fetched.nonce);
        assert_eq!(record.claim.plan, fetched.plan.hash());
        assert_eq!(record.claim.stage, 1);
        assert_eq!(record.claim.agent, Some(host.agent.id));
        assert!(record.claim.execution.is_some(), "it names its execution");
        assert_eq!(record.claim.result, Some(FileHash::from([5; 32])));
        assert_eq!(record.occasion, Occasion::AfterOrder);
        assert_eq!(record.policy.name, "x1642-default");
    }
    let seen = verified.seen.as_ref().unwrap();
    assert_eq!(seen.package_set, package_set(&[("web", "3")]).digest());
    assert_eq!(seen.kernel.as_deref(), Some("6.1"));
    assert!(seen.facts.is_some() && seen.seen_at <= verified.verified_at);
    // The set that is there now was not checked yet; the one before was not when it was looked at.
    assert!(verified.knowledge.is_none() && undecided.knowledge.is_none());

    // In the commit of what follows, and for its tenant and the provider alone.
    let statement = verified.to_payload();
    assert_eq!(kept[0].envelope, json!({ "signed": statement.len() }).to_string());
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let events = world.store.sequenced_events(0, 1000).await.unwrap();
    let told = |kind| events.iter().filter(move |it| it.kind == kind).collect::<Vec<_>>();
    let recorded = told(EventKind::VerificationRecorded);
    assert_eq!(recorded.len(), 2);
    let payload: serde_json::Value = serde_json::from_slice(&recorded[1].payload).unwrap();
    let digest: [u8; 32] = Sha256::digest(&statement).into();
    assert_eq!(payload["statement_sha256"], json!(FileHash::from(digest).to_string()));
    assert_eq!(payload["execution"], json!(verified.claim.execution));
    let followed: serde_json::Value =
        serde_json::from_slice(&told(EventKind::OrderVerified)[0].payload).unwrap();
    assert_eq!(followed["verification"], json!(verified.id));
    assert_eq!(recorded[1].at, told(EventKind::OrderVerified)[0].at, "one commit");
    let other = world.tenant("b").await;
    let stranger = world.owner(&other).await;
    let of = |filter| world.store.verifications(&stranger, filter, &ALL);
    for filter in [VerificationFilter::All, VerificationFilter::Item(host.case.ci.id)] {
        assert!(of(filter).await.unwrap().items.is_empty());
    }
    assert!(world.store.verification(&stranger, verified.id).await.is_err());
    let change = VerificationFilter::Change(host.case.change.change.id);
    let first = PageRequest { limit: 1, ..PageRequest::default() };
    let page = world.store.verifications(&world.admin, change, &first).await.unwrap();
    let rest = PageRequest { after: page.next.clone(), limit: 1 };
    let next = world.store.verifications(&world.admin, change, &rest).await.unwrap();
    assert_eq!([page.items[0].record.id, next.items[0].record.id], [verified.id, undecided.id]);
    assert!(next.next.is_none());
}

async fn what_was_verified_is_looked_at_again(world: World) {
    let world = &world;
    let host = Host::verified(world).await;
    world.environment.pass(SignedDuration::from_hours(23));
    host.go_on(world).await;
    assert!(!host.is_awaited(world).await, "it is not due yet");
    assert_eq!(host.history(world).await, ["after_order verified"]);

    world.environment.pass(SignedDuration::from_hours(1));
    host.go_on(world).await;
    assert!(host.is_awaited(world).await);
    assert_eq!(host.history(world).await.len(), 1, "what was seen before does not count");
    host.looks(world, "2", Runtime::default()).await;
    assert_eq!(host.history(world).await, ["after_24h verified", "after_order verified"]);
    assert!(!host.is_awaited(world).await);

    world.environment.pass(DAY * 6);
    host.looks(world, "3", Runtime::default()).await;
    let history = host.history(world).await;
    assert_eq!(history[0], "after_7d verified web is at 3 by now, after 2");
    world.environment.pass(DAY * 30);
    host.looks(world, "3", Runtime::default()).await;
    assert_eq!(host.history(world).await.len(), 3, "that was all");
    let records = host.verifications(world).await;
    assert!(records.iter().all(|it| it.record.claim == records[0].record.claim));
}

async fn what_went_back_is_told_and_missing_again(world: World) {
    let world = &world;
    let host = Host::verified(world).await;
    world.environment.pass(DAY);
    host.go_on(world).await;
    // Only what was heard of since it was installed counts.
    world.store.note_seen(vec![(host.case.ci.id, now(world))]).await.unwrap();
    world.checked(&host.case.ci, report(now(world), &[])).await;
    world.environment.pass(SignedDuration::from_mins(6));
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "verified");
    let ended = world.store.release(&world.admin, host.release).await.unwrap().run.ended();
    assert!(ended.is_some(), "also where nothing is under way any more");

    // A snapshot was restored.
    host.looks(world, "1", Runtime::default()).await;

    let because = "web is at 1, and 2 was planned";
    assert_eq!(host.history(world).await[0], format!("after_24h conflict {because}"));
    let order = &world.store.orders(&host.case.owner, &OrderFilter::default(), 1).await.unwrap()[0];
    assert_eq!(
        (order.outcome.as_deref(), order.reason.as_deref()),
        (Some("conflict"), Some(because))
    );
    world.checked(&host.case.ci, report(now(world), &[("web", "2", "high")])).await;
    let filter = FindingFilter { ci: Some(host.case.ci.id), ..FindingFilter::default() };
    let findings = world.store.findings(&host.case.owner, &filter, &ALL).await.unwrap().items;
    assert_eq!((findings[0].state, findings[0].reopened), (FindingState::Open, 1));
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "reopened");
}

async fn who_says_nothing_is_undecided_after_a_day(world: World) {
    let world = &world;
    let host = Host::verified(world).await;
    world.environment.pass(DAY + SignedDuration::from_hours(23));
    host.go_on(world).await;
    assert_eq!(host.history(world).await.len(), 1, "it is waited for");

    world.environment.pass(SignedDuration::from_hours(1));
    host.go_on(world).await;

    assert_eq!(host.history(world).await[0], "after_24h undecided the item was not heard of");
    assert!(host.verifications(world).await[0].record.seen.is_none());
    // The week's look stands by itself; of what left the cloud nothing is said.
    world.store.retire_ci(&world.admin, host.case.ci.id, None).await.unwrap();
    world.environment.pass(DAY * 9);
    host.go_on(world).await;
    assert_eq!(host.history(world).await.len(), 2);
}

async fn a_hypervisor_restarts_once_what_runs_on_it_has_left(world: World) {
    let world = &world;
    let case = Case::proven(world, "high").await;
    let (tenant, from) = (case.tenant.id, now(world) + DAY * 10);
    let vm = async |name: &str| {
        world.store.create_ci(&world.admin, None, vm(tenant, name)).await.unwrap().id
    };
    let (moves, stops, other) = (vm("moves").await, vm("stops").await, vm("other").await);
    let on = |from, to| Relation { from, kind: RelationKind::RunsOn, to };
    let mut hypervisor = target(&case);
    hypervisor.class = Class::Hypervisor;
    let work = hypervisor.work.as_mut().unwrap();
    work.reboot =
        Some(Reboot { takes: SignedDuration::from_mins(10), windows: Arc::new(Windows::Always) });
    let beside = |ci, class, runs_on| Target { ci, class, runs_on, work: None, ..target(&case) };
    let guest = |ci| beside(ci, Class::Vm, Some(case.ci.id));
    let targets = vec![
        hypervisor.clone(),
        guest(moves),
        guest(stops),
        beside(other, Class::Hypervisor, None),
    ];
    for guest in [moves, stops] {
        world.store.relate(&world.admin, on(guest, case.ci.id)).await.unwrap();
    }
    let layout = layout_of(&case, targets, from, 1);
    let host = Host::carries_out(world, case, layout).await;
    let hypervisor = host.case.ci.id;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    host.looks(world, "2", Runtime::default()).await;
    // The restart's turn comes when the installation's time is over.
    world.environment.pass(SignedDuration::from_mins(19));
    let left = async || {
        host.go_on(world).await;
        let release = world.store.release(&world.admin, host.release).await.unwrap();
        release.run.why(hypervisor, now(world)).map(|why| why.to_string()).unwrap_or_default()
    };
    assert_eq!(left().await, "waiting to be emptied: 2 of 2 still run on it");

    // It runs in both places for a moment, as one that moves does.
    world.store.relate(&world.admin, on(moves, other)).await.unwrap();
    assert_eq!(left().await, "waiting to be emptied: 2 of 2 still run on it");
    world.store.unrelate(&world.admin, on(moves, hypervisor)).await.unwrap();
    assert_eq!(left().await, "waiting to be emptied: 1 of 1 still run on it");
    assert!(world.store.order_for(&host.actor()).await.unwrap().is_none());
    world.store.unrelate(&world.admin, on(stops, hypervisor)).await.unwrap();

    host.go_on(world).await;
    assert_eq!(host.phase(world).await, "ordered");
    let fetched = host.fetch(world).await;
    assert_eq!(fetched.stage, 1);
    // What has nothing to do with it is no matter of it.
    world.store.relate(&world.admin, on(stops, other)).await.unwrap();
    assert_eq!(host.phase(world).await, "working");
}
