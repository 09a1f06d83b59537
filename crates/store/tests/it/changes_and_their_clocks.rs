//! Changes, obligations, consent and notices on both engines.

use std::collections::BTreeSet;

use crate::notices_on_their_way::channel_by;
use crate::support::{self, World, package_set, person, vm};
use domain::agent::Facts as HostFacts;
use domain::change::{
    Acceptance, Action, Decision, Disruption, Draft, FileHash, Item, KeyEvent, KeyId, KeyKind,
    Kind, Lack, NewKey, Nonce, Outcome as Rollout, Payload, Phase, Plan, Rollback, Scope, Sight,
    Stage, StandingRule, Statement, Verified, WeeklyWindow, Window,
};
use domain::check::Report;
use domain::cloud::{
    ChangeId, ChannelId, Class, Duty, EventKind, NoticeId, PROVIDER, TenantId, UserId,
};
use domain::fleet::FindingState;
use domain::inventory::Runtime;
use domain::priority::{Exposure, Priority, Sourced};
use domain::sla::{Errand, Facts, Moment, Party, Path as SlaPath, Policy};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use store::{
    Actor, AdvisoryDecision, AdvisoryState, ChangeStep, Ci, CiAlteration, ClockFilter, ClockRow,
    ClockStanding, FindingFilter, Matter, Move, NewAdvisory, NewChange, NewCi, NoticeFilter,
    Opening, Outcome, PageRequest, StoreError, Subject, Tenant, TrackedChange, Written,
};

on_both_engines! {
    a_missing_patch_opens_a_change_and_a_clock
    the_whole_way_leaves_a_record
    what_is_refused_is_recorded_and_alters_nothing
    another_tenants_part_is_not_there
    a_plan_reaches_its_tenants_items_alone_each_with_its_duty
    nothing_starts_after_a_withdrawal
    one_answer_counts_whoever_is_faster
    policies_are_agreed_on_and_govern_what_comes_after
    a_rule_agrees_ahead_until_it_is_withdrawn
    a_revoked_key_starts_nothing
    what_a_tenant_brings_starts_its_clock
    what_was_brought_asks_nothing_once_it_is_rejected
    what_is_accepted_is_everybodys_change
    a_later_patch_of_a_package_has_a_clock_of_its_own
    what_a_later_patch_took_the_place_of_is_not_done_by_that
    checks_verify_and_reopen_by_themselves
    a_claim_that_is_not_borne_out_is_a_conflict
    an_alteration_is_not_verified_by_what_nobody_looked_at
    what_was_seen_before_it_was_done_does_not_verify_it
    what_is_closed_is_reopened_by_a_check
    what_nobody_lacked_for_a_while_has_a_clock_again
    an_old_machine_reopens_the_latest_patch_alone
    a_tenant_says_later_to_what_the_provider_must_patch
    one_person_does_not_split_a_large_change
    a_no_accepts_the_findings
    a_breach_is_told_once_whoever_looks
    what_is_missing_again_reopens
    what_becomes_exploited_is_due_earlier
    what_the_vendor_published_is_recorded_when_a_clock_starts
    a_restart_is_recorded_once_facts_prove_it
    an_item_that_never_lacked_it_is_done_by_what_it_has
    an_alteration_is_verified_by_whoever_else_looked
    items_say_how_exposed_they_are
    what_an_emergency_owes_is_shown_until_somebody_records_it
    the_notice_that_it_is_done_is_owed_until_the_tenant_has_it
    what_the_sla_excludes_asks_nothing_and_is_missing_all_the_same
    what_has_a_clock_is_not_excluded_afterwards
}

pub(crate) const ALL: PageRequest = PageRequest { after: None, limit: 1000 };
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(crate) fn report(at: Timestamp, missing: &[(&str, &str, &str)]) -> Report {
    let findings: Vec<_> = missing
        .iter()
        .map(|(source, candidate, priority)| {
            json!({
                "package": source, "architecture": "amd64", "source": source,
                "installed": "1", "installed_source": "1",
                "candidate": candidate, "candidate_source": candidate,
                "offered_by": { "kind": "advisory" },
                "priority": priority, "outcome": priority, "unscored": false,
                "policy": { "name": "default", "version": "1.0.0" },
                "inputs": {}, "reason": "urgency",
                "cves": ["CVE-2026-1"], "advisories": [{
                    "id": "X-1", "fixed": null, "cves": [], "published": null,
                    "provenance": { "kind": "osv", "id": "X-1" },
                }], "security": true, "held": false,
            })
        })
        .collect();
    let status = if findings.is_empty() { "latest" } else { "outdated" };
    serde_json::from_value(json!({
        "schema": "patchwright.check/1", "target": "", "checked_at": at,
        "os": { "id": "debian", "id_like": [], "version_id": "12", "codename": "bookworm",
            "pretty_name": "Debian 12" },
        "architecture": "amd64", "packages": 2, "sources": [],
        "policy": { "name": "default", "version": "1.0.0" },
        "status": status, "findings": findings, "unfixed": [], "unknown": [],
    }))
    .unwrap()
}

pub(crate) fn now(world: &World) -> Timestamp {
    store::Environment::now(&*world.environment)
}

pub(crate) fn user(by: &Actor) -> UserId {
    let Actor::Person { user, .. } = by else { panic!("{by:?}") };
    *user
}

pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        Outcome::Refused { reason, .. } => panic!("{reason}"),
    }
}

pub(crate) fn reason<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Done(value) => panic!("{value:?}"),
        Outcome::Refused { reason, .. } => reason,
    }
}

/// A tenant whose one item lacks one patch, and a key to sign with.
pub(crate) struct Case {
    pub(crate) tenant: Tenant,
    pub(crate) owner: Actor,
    pub(crate) ci: Ci,
    pub(crate) change: TrackedChange,
}

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) async fn lacking(world: &World, priority: &str) -> Case {
    lacking_on(world, priority, Class::Vm).await
}

async fn lacking_on(world: &World, priority: &str, class: Class) -> Case {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let new = NewCi { class, ..vm(tenant.id, "web") };
    let ci = world.store.create_ci(&world.admin, None, new).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(world), &[("web", "2", priority)])).await;
    assert_eq!(world.open_obligations(100).await, 2);
    assert_eq!(world.open_obligations(100).await, 0);
    let change = world.store.changes(&world.admin, &ALL).await.unwrap().items.remove(0);
    let key = NewKey { id: KeyId::from(KEY), kind: KeyKind::Ed25519, holder: user(&owner) };
    let register = KeyEvent::Register { key, by: user(&owner) };
    done(world.store.alter_keys(&owner, tenant.id, register, None).await.unwrap());
    Case { tenant, owner, ci, change }
}

impl Case {
    pub(crate) async fn proven(world: &World, priority: &str) -> Self {
        let mut case = lacking(world, priority).await;
        case.step(world, ChangeStep::Prove).await;
        case.step(world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
        wake(world).await;
        case
    }

    async fn step(&mut self, world: &World, step: ChangeStep) {
        let id = self.change.change.id;
        self.change = done(world.store.step_change(&world.admin, id, step).await.unwrap());
    }

    pub(crate) fn plan_from(&self, from: Timestamp, parent: Option<&Plan>) -> Plan {
        Plan::new(Draft {
            change: self.change.change.id,
            tenant: self.tenant.id,
            generation: parent.map_or(0, |plan| plan.draft().generation + 1),
            parent: parent.map(Plan::hash),
            stages: vec![Stage {
                window: Window { from, until: from + DAY },
                items: vec![Item {
                    ci: self.ci.id,
                    duty: self.ci.duty,
                    actions: vec![Action::Reboot],
                    rollback: Rollback::Snapshot,
                }],
            }],
        })
        .unwrap()
    }

    pub(crate) async fn does(&self, world: &World, by: &Actor, action: Move) -> Outcome<Matter> {
        let id = self.change.change.id;
        world.store.advance(by, id, self.tenant.id, action).await.unwrap()
    }

    pub(crate) async fn plan(&self, world: &World, from: Timestamp) -> Plan {
        let plan = self.plan_from(from, None);
        let action = Move::Plan { plan: plan.clone(), two_persons_above: 9 };
        done(self.does(world, &world.admin, action).await);
        plan
    }

    /// Another plan in the place of one.
    pub(crate) async fn replan(&self, world: &World, from: Timestamp, parent: &Plan) -> Plan {
        let plan = self.plan_from(from, Some(parent));
        let action = Move::Plan { plan: plan.clone(), two_persons_above: 9 };
        done(self.does(world, &world.admin, action).await);
        plan
    }

    /// The same change, planned for another tenant that lacks it.
    pub(crate) async fn plan_another(&self, world: &World, tenant: &Tenant) {
        let ci = world.store.create_ci(&world.admin, None, vm(tenant.id, "web")).await.unwrap();
        world.observe(&ci, package_set(&[("web", "1")])).await;
        world.checked(&ci, report(now(world), &[("web", "2", "high")])).await;
        world.open_obligations(100).await;
        wake(world).await;
        let mut draft = self.plan_from(now(world) + DAY * 5, None).draft().clone();
        draft.tenant = tenant.id;
        (draft.stages[0].items[0].ci, draft.stages[0].items[0].duty) = (ci.id, ci.duty);
        let action = Move::Plan { plan: Plan::new(draft).unwrap(), two_persons_above: 9 };
        let id = self.change.change.id;
        done(world.store.advance(&world.admin, id, tenant.id, action).await.unwrap());
    }

    /// Planned from a time on, and told of it.
    pub(crate) async fn told(world: &World, priority: &str, ahead: SignedDuration) -> (Self, Plan) {
        let case = Self::proven(world, priority).await;
        let plan = case.plan(world, now(world) + ahead).await;
        assert_eq!(publish(world, 1).await, 1);
        (case, plan)
    }

    fn statement(&self, plan: &Plan, decision: Decision, at: Timestamp, nonce: u8) -> Move {
        let said = Statement {
            change: self.change.change.id,
            plan: plan.hash(),
            tenant: self.tenant.id,
            decision,
            given_at: at,
            nonce: Nonce::from([nonce; 16]),
        };
        let statement = Verified::signed_by(KeyId::from(KEY), &said.to_payload()).unwrap();
        Move::Answer { statement, envelope: format!("{{\"nonce\":{nonce}}}") }
    }

    pub(crate) async fn say(
        &self,
        world: &World,
        plan: &Plan,
        decision: Decision,
        nonce: u8,
    ) -> Outcome<Matter> {
        let action = self.statement(plan, decision, now(world), nonce);
        self.does(world, &self.owner, action).await
    }

    pub(crate) async fn matter(&self, world: &World) -> Matter {
        let id = self.change.change.id;
        world.store.matter(&world.admin, id, self.tenant.id).await.unwrap()
    }

    pub(crate) async fn phase(&self, world: &World) -> &'static str {
        self.matter(world).await.obligation.phase()
    }
}

/// Writes what is to be written; says how many there were.
pub(crate) async fn publish(world: &World, first: u8) -> usize {
    let tidings = world.store.tidings(100).await.unwrap();
    for (number, one) in (first..).zip(tidings.clone()) {
        let Subject::Step(what) = one.what else { panic!("{one:?}") };
        let kind = serde_json::to_value(what).unwrap();
        let written = Written {
            id: NoticeId::of_content([number; 16]),
            kind: kind.as_str().unwrap().to_owned(),
            sequence: 0,
            document: "{}".to_owned(),
            remind_at: None,
        };
        assert!(world.store.publish_notice(one.clone(), written.clone()).await.unwrap());
        assert!(!world.store.publish_notice(one, written).await.unwrap(), "once");
    }
    tidings.len()
}

pub(crate) async fn wake(world: &World) -> usize {
    let mut total = 0;
    loop {
        let (woken, failed) = world.store.wake_obligations(100).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        total += woken;
        if woken == 0 {
            return total;
        }
    }
}

pub(crate) async fn events(world: &World, kind: EventKind) -> u64 {
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let counts = world.store.event_counts().await.unwrap();
    counts.iter().filter(|count| count.1 == kind).map(|count| count.2).sum()
}

async fn clocks(world: &World, by: &Actor) -> Vec<ClockRow> {
    world.store.clocks(by, &ClockFilter::default(), 100).await.unwrap()
}

pub(crate) fn acceptance(until: Timestamp) -> Acceptance {
    Acceptance {
        reason: "Quarter-end close".parse().unwrap(),
        risk_owner: "Ada".parse().unwrap(),
        expiry: until,
    }
}

async fn a_missing_patch_opens_a_change_and_a_clock(world: World) {
    let case = lacking(&world, "high").await;

    assert_eq!(case.change.title, "web 2 for debian:12");
    assert_eq!(case.change.found_by, PROVIDER);
    let [clock] = &clocks(&world, &case.owner).await[..] else { panic!() };
    assert_eq!((clock.tenant, clock.priority), (case.tenant.id, Priority::High));
    assert_eq!((&*clock.phase, &*clock.state), ("evaluated", "ok"));
    assert_eq!(clock.holder, Some(Party::Provider));
    let finding =
        &world.store.findings(&case.owner, &FindingFilter::default(), &ALL).await.unwrap().items[0];
    assert_eq!(clock.due, Some(finding.first_seen_at + DAY * 14), "since it was found");
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.duty(), Duty::Tenant, "a VM of a tenant that has IaaS");
    assert_eq!(world.store.open_clocks().await.unwrap(), 1);
    assert_eq!(events(&world, EventKind::ChangeFound).await, 1);
    assert_eq!(events(&world, EventKind::ObligationOpened).await, 1);
}

async fn the_whole_way_leaves_a_record(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    assert_eq!(case.phase(&world).await, "notified");
    let notice =
        &world.store.notices(&case.owner, &NoticeFilter::default(), &ALL).await.unwrap().items[0];
    assert!(notice.given_at.is_some(), "there is no channel: the console is one");
    world.store.acknowledge_notice(&case.owner, notice.id).await.unwrap();
    assert!(world.store.acknowledge_notice(&world.admin, notice.id).await.is_err());

    done(case.say(&world, &plan, Decision::Approve, 1).await);
    assert_eq!(case.phase(&world).await, "scheduled");
    assert_eq!(events(&world, EventKind::RolloutPermitted).await, 0);
    world.environment.pass(DAY * 5);
    assert!(wake(&world).await > 0);
    assert_eq!(case.phase(&world).await, "rolling_out");
    assert_eq!(events(&world, EventKind::RolloutPermitted).await, 1);

    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    reason(case.does(&world, &world.admin, Move::Scan).await);
    assert_eq!(case.phase(&world).await, "verifying", "what is open was seen before it");
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    world.store.note_seen(vec![(case.ci.id, now(&world))]).await.unwrap();
    done(case.does(&world, &world.admin, Move::Scan).await);
    assert_eq!(case.phase(&world).await, "verified");

    let matter = case.matter(&world).await;
    let happened: Vec<_> =
        matter.obligation.instants().records().iter().map(|record| record.moment).collect();
    assert_eq!(
        happened,
        [
            Moment::Collected,
            Moment::Evaluated,
            Moment::Tested,
            Moment::Notified,
            Moment::Acknowledged,
            Moment::Approved,
            Moment::Scheduled,
            Moment::Installed,
            Moment::Verified,
        ]
    );
    assert_eq!(publish(&world, 10).await, 2, "started, completed");
    let consents =
        world.store.consents(&case.owner, case.change.change.id, case.tenant.id).await.unwrap();
    assert_eq!(consents.len(), 1);
    assert_eq!((consents[0].plan, &*consents[0].decision), (plan.hash(), "approve"));
    assert_eq!(world.store.plan(&case.owner, plan.hash()).await.unwrap(), plan);
    assert_eq!(clocks(&world, &world.admin).await, [], "nothing is left to do");
    assert_eq!(world.store.next_wake().await.unwrap(), None);
    let told = case.matter(&world).await.obligation.instants().at(Moment::DoneTold);
    assert!(told.is_some(), "in the console, as there is no channel");
}

async fn what_is_refused_is_recorded_and_alters_nothing(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    let before = case.matter(&world).await.obligation;

    let other = case.plan_from(now(&world) + DAY, None);
    assert!(reason(case.say(&world, &other, Decision::Approve, 1).await).contains("in force"));
    let until = now(&world) + DAY * 30;
    let decision = Decision::Defer { until, acceptance: acceptance(until) };
    assert!(reason(case.say(&world, &plan, decision, 2).await).contains("too long"));
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    reason(case.does(&world, &world.admin, finish).await);
    reason(case.does(&world, &world.admin, Move::Close).await);
    let close = world.store.step_change(&world.admin, case.change.change.id, ChangeStep::Close);
    assert!(reason(close.await.unwrap()).contains("not settled"));

    assert_eq!(case.matter(&world).await.obligation, before);
    assert_eq!(events(&world, EventKind::ChangeRefused).await, 5);
    let id = case.change.change.id;
    assert_eq!(world.store.consents(&case.owner, id, case.tenant.id).await.unwrap(), []);
    assert!(matches!(
        world
            .store
            .advance(&Actor::System, id, case.tenant.id, Move::Countersign(plan.hash()))
            .await,
        Err(StoreError::Refused { .. })
    ));
}

async fn another_tenants_part_is_not_there(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    let b = world.tenant("b").await;
    let bert = world.owner(&b).await;
    let id = case.change.change.id;
    let is_hidden = |error: StoreError| matches!(error, StoreError::NotFound { .. });

    assert!(is_hidden(world.store.change(&bert, id).await.unwrap_err()));
    assert!(world.store.changes(&bert, &ALL).await.unwrap().items.is_empty());
    assert!(is_hidden(world.store.matter(&bert, id, case.tenant.id).await.unwrap_err()));
    assert!(is_hidden(world.store.plan(&bert, plan.hash()).await.unwrap_err()));
    assert!(is_hidden(world.store.consents(&bert, id, case.tenant.id).await.unwrap_err()));
    assert!(is_hidden(world.store.key_ring(&bert, case.tenant.id).await.unwrap_err()));
    assert!(is_hidden(world.store.rules(&bert, case.tenant.id).await.unwrap_err()));
    assert!(is_hidden(world.store.policy_versions(&bert, case.tenant.id).await.unwrap_err()));
    assert!(is_hidden(world.store.channels(&bert, case.tenant.id).await.unwrap_err()));
    assert_eq!(clocks(&world, &bert).await, []);
    let notice =
        &world.store.notices(&case.owner, &NoticeFilter::default(), &ALL).await.unwrap().items[0];
    assert!(
        world.store.notices(&bert, &NoticeFilter::default(), &ALL).await.unwrap().items.is_empty()
    );
    let of_a = NoticeFilter { tenant: Some(case.tenant.id), ..NoticeFilter::default() };
    let theirs = world.store.notices(&bert, &of_a, &ALL).await.unwrap();
    assert!(theirs.items.is_empty());
    assert!(is_hidden(world.store.notice(&bert, notice.id).await.unwrap_err()));
    assert!(is_hidden(world.store.deliveries(&bert, notice.id).await.unwrap_err()));
    assert!(is_hidden(world.store.acknowledge_notice(&bert, notice.id).await.unwrap_err()));
    let answer = case.statement(&plan, Decision::Approve, now(&world), 1);
    assert!(is_hidden(world.store.advance(&bert, id, case.tenant.id, answer).await.unwrap_err()));
    let channel = channel(&world, &case, 1).await;
    assert!(is_hidden(world.store.end_channel(&bert, channel).await.unwrap_err()));
}

/// Whoever withdraws, approves and starts at the same time: the permit is recorded before the
/// withdrawal, or not at all.
async fn a_plan_reaches_its_tenants_items_alone_each_with_its_duty(world: World) {
    let case = Case::proven(&world, "high").await;
    let other = world.tenant("b").await;
    let theirs = world.store.create_ci(&world.admin, None, vm(other.id, "web")).await.unwrap();
    let gone = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "old")).await.unwrap();
    world.store.retire_ci(&case.owner, gone.id, None).await.unwrap();
    let of = |ci: &Ci, duty| {
        let mut draft = case.plan_from(now(&world) + DAY * 5, None).draft().clone();
        let item = &mut draft.stages[0].items[0];
        (item.ci, item.duty) = (ci.id, duty);
        Plan::new(draft).unwrap()
    };
    let duty = case.ci.duty;
    let not_theirs = if duty == Duty::Tenant { Duty::Provider } else { Duty::Tenant };
    for (plan, said) in [
        (of(&theirs, theirs.duty), "is no item of this tenant"),
        (of(&gone, gone.duty), "left the cloud"),
        (of(&case.ci, not_theirs), "to patch, and the plan says"),
    ] {
        let action = Move::Plan { plan, two_persons_above: 9 };
        let refused = reason(case.does(&world, &world.admin, action).await);
        assert!(refused.contains(said), "{refused}");
    }
    assert!(case.matter(&world).await.obligation.share().is_none());
    case.plan(&world, now(&world) + DAY * 5).await;
}

async fn nothing_starts_after_a_withdrawal(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 4).await;
    world.environment.pass(DAY * 4);
    let reason = "The vendor took it back".parse().unwrap();
    let id = case.change.change.id;

    let (approved, withdrawn, woken) = tokio::join!(
        case.say(&world, &plan, Decision::Approve, 1),
        world.store.step_change(&world.admin, id, ChangeStep::Withdraw(reason)),
        world.store.wake_obligations(10),
    );
    done(withdrawn.unwrap());
    woken.unwrap();
    wake(&world).await;

    let permitted = events(&world, EventKind::RolloutPermitted).await;
    let all = world.store.events(&world.admin, store::Retrieval::Events, 0, 10_000).await.unwrap();
    let place = |is: &dyn Fn(&store::Event) -> bool| all.iter().position(is);
    let ended = place(&|event| {
        event.kind == EventKind::ChangeAltered
            && String::from_utf8_lossy(&event.payload).contains("\"to\":\"withdrawn\"")
    });
    match case.phase(&world).await {
        "withdrawn" => assert_eq!(permitted, 0),
        "rolling_out" => {
            let started = place(&|event| event.kind == EventKind::RolloutPermitted);
            assert!(started.unwrap() < ended.unwrap());
            done(approved);
        }
        other => panic!("{other}"),
    }
}

async fn one_answer_counts_whoever_is_faster(world: World) {
    let (case, plan) = Case::told(&world, "medium", DAY * 10).await;
    let until = now(&world) + DAY * 4;
    let no = Decision::Refuse { acceptance: acceptance(until) };
    let at = now(&world);
    let (yes, no) =
        (case.statement(&plan, Decision::Approve, at, 1), case.statement(&plan, no, at, 2));

    let (yes, no) =
        tokio::join!(case.does(&world, &case.owner, yes), case.does(&world, &case.owner, no));

    // Of two of one instant the more careful one counts.
    drop(yes);
    done(no);
    assert_eq!(case.phase(&world).await, "refused");
    let again = case.statement(&plan, Decision::Approve, at, 1);
    assert!(matches!(case.does(&world, &case.owner, again).await, Outcome::Refused { .. }));
}

pub(crate) async fn channel(world: &World, case: &Case, number: u8) -> ChannelId {
    channel_by(world, &case.owner, case.tenant.id, number).await
}

async fn policies_are_agreed_on_and_govern_what_comes_after(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let shipped = Policy::builtin("x1642-default").unwrap();
    let in_force = async |world: &World| {
        world.store.policy_in_force(&owner, tenant.id).await.unwrap().reference().version
    };
    assert_eq!(in_force(&world).await, shipped.reference().version);

    let ours = shipped.negotiate("version = \"cloud-1\"").unwrap();
    world.store.propose_policy(&world.admin, PROVIDER, ours.clone()).await.unwrap();
    assert_eq!(in_force(&world).await, "cloud-1", "the provider's default needs nobody");
    let theirs = ours.negotiate("version = \"acme-1\"\nmedium.deferrals = { count = 0 }").unwrap();
    let proposed = world.store.propose_policy(&owner, tenant.id, theirs.clone()).await.unwrap();
    assert_eq!(proposed.since, None);
    assert_eq!(in_force(&world).await, "cloud-1", "proposed is not agreed");
    let own = world.store.agree_to_policy(&owner, tenant.id, "acme-1".into()).await.unwrap_err();
    assert!(own.to_string().contains("the other side"), "{own}");
    world.store.agree_to_policy(&world.admin, tenant.id, "acme-1".into()).await.unwrap();
    assert_eq!(in_force(&world).await, "acme-1");
    assert!(world.store.agree_to_policy(&world.admin, tenant.id, "acme-1".into()).await.is_err());
    assert!(
        world.store.propose_policy(&owner, tenant.id, theirs).await.is_err(),
        "what was agreed stays"
    );
    assert_eq!(world.store.policy_versions(&owner, tenant.id).await.unwrap().len(), 2);
    let stranger = world.owner(&world.tenant("b").await).await;
    let other = ours.negotiate("version = \"b-1\"").unwrap();
    assert!(world.store.propose_policy(&stranger, tenant.id, other).await.is_err());

    let ci = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "high")])).await;
    let later = ours.negotiate("version = \"acme-2\"").unwrap();
    world.store.propose_policy(&world.admin, tenant.id, later).await.unwrap();
    world.store.agree_to_policy(&owner, tenant.id, "acme-2".into()).await.unwrap();
    world.open_obligations(10).await;
    let change = world.store.changes(&world.admin, &ALL).await.unwrap().items[0].change.id;
    let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
    assert_eq!(matter.policy.reference().version, "acme-1", "in force when it was collected");
}

async fn a_rule_agrees_ahead_until_it_is_withdrawn(world: World) {
    let case = Case::proven(&world, "low").await;
    let rule = StandingRule {
        tenant: case.tenant.id,
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Low]),
        items: Scope::All,
        disruption: Disruption::Reboots,
        windows: vec![WeeklyWindow { begins: 0, minutes: 7 * 24 * 60 }],
        from: now(&world),
        until: now(&world) + DAY * 90,
        given_at: now(&world),
        nonce: Nonce::from([9; 16]),
    };
    let verified =
        |key: [u8; 32]| Verified::signed_by(KeyId::from(key), &rule.to_payload()).unwrap();
    let add = async |world: &World, key| {
        world.store.add_rule(&case.owner, case.tenant.id, verified(key), "{}".into()).await.unwrap()
    };
    assert!(reason(add(&world, [8; 32]).await).contains("none of the tenant's"));
    assert_eq!(events(&world, EventKind::StandingRuleRefused).await, 1);
    done(add(&world, KEY).await);
    let week = now(&world).as_second().rem_euclid(7 * 24 * 3600);
    let monday = now(&world) + DAY * 21 - SignedDuration::from_secs(week) + DAY * 4;
    case.plan(&world, monday + DAY).await;
    publish(&world, 1).await;
    assert_eq!(case.phase(&world).await, "scheduled", "{:?}", case.matter(&world).await);

    world.store.withdraw_rule(&case.owner, case.tenant.id, rule.nonce).await.unwrap();
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "notified", "the tenant is asked");
    let kept = world.store.rules(&case.owner, case.tenant.id).await.unwrap();
    assert!(kept[0].standing.withdrawn().is_some());
}

async fn a_revoked_key_starts_nothing(world: World) {
    let (case, plan) = Case::told(&world, "low", DAY * 20).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    assert_eq!(case.phase(&world).await, "scheduled");
    let revoke = || KeyEvent::Revoke { key: KeyId::from(KEY), by: user(&case.owner) };
    done(world.store.alter_keys(&case.owner, case.tenant.id, revoke(), None).await.unwrap());
    reason(world.store.alter_keys(&case.owner, case.tenant.id, revoke(), None).await.unwrap());
    assert_eq!(events(&world, EventKind::ConsentKeyRefused).await, 1);

    world.environment.pass(DAY * 20);
    wake(&world).await;

    assert_ne!(case.phase(&world).await, "rolling_out");
    assert_eq!(events(&world, EventKind::RolloutPermitted).await, 0);
}

async fn what_a_tenant_brings_starts_its_clock(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let new = |name: &str| NewAdvisory {
        name: name.into(),
        document: "{}".into(),
        note: String::new(),
        published: None,
    };
    let advisory = world.store.submit_advisory(&anna, None, new("X-1")).await.unwrap();

    let [clock] = &clocks(&world, &anna).await[..] else { panic!() };
    assert_eq!((&*clock.title, &*clock.phase), ("X-1", "collected"));
    let change = world.store.change(&world.admin, clock.change).await.unwrap();
    assert_eq!((change.found_by, change.advisory), (a.id, Some(advisory.id)), "with credit");
    assert_eq!(world.store.change(&anna, clock.change).await.unwrap(), change);

    // Once it is found missing, it is the same change.
    let ci = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "critical")])).await;
    assert_eq!(world.open_obligations(10).await, 1);
    assert_eq!(world.store.changes(&world.admin, &ALL).await.unwrap().items.len(), 1);
    assert_eq!(world.store.change(&anna, clock.change).await.unwrap().patches.len(), 1);
    let known = &clocks(&world, &anna).await[0];
    assert_eq!((&*known.phase, known.priority), ("evaluated", Priority::Critical));

    // Whatever a tenant calls what it brings, it decides for itself alone.
    let b = world.tenant("b").await;
    let bert = world.owner(&b).await;
    let ci = world.store.create_ci(&bert, None, vm(b.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "critical")])).await;
    assert_eq!(world.open_obligations(10).await, 2);
    assert_eq!(world.open_obligations(10).await, 0);
    let [theirs] = &clocks(&world, &bert).await[..] else { panic!() };
    assert_ne!(theirs.change, clock.change);
    assert!(world.store.change(&bert, clock.change).await.is_err());
    assert_eq!(clocks(&world, &anna).await.len(), 1, "one clock for one patch");

    let decision = AdvisoryDecision { state: AdvisoryState::Rejected, reason: "Not ours".into() };
    world.store.decide_advisory(&world.admin, advisory.id, None, decision).await.unwrap();
    wake(&world).await;
    for (by, change, tenant) in [(&anna, clock.change, a.id), (&bert, theirs.change, b.id)] {
        let matter = world.store.matter(by, change, tenant).await.unwrap();
        assert_eq!(matter.obligation.phase(), "evaluated", "the patch is missing all the same");
    }
}

async fn what_the_vendor_published_is_recorded_when_a_clock_starts(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let published = |matter: &Matter| matter.obligation.instants().at(Moment::VendorPublished);
    // By the check that found it missing.
    let ci = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    let mut found = report(now(&world), &[("web", "2", "high")]);
    let before = now(&world) - DAY * 3;
    found.findings[0].advisories[0].published = Some(before);
    world.checked(&ci, found).await;
    world.open_obligations(10).await;
    let [clock] = &clocks(&world, &anna).await[..] else { panic!() };
    let matter = world.store.matter(&anna, clock.change, a.id).await.unwrap();
    assert_eq!(published(&matter), Some(before));

    // By the advisory that a tenant brings; not where that says what cannot be.
    for (name, date, recorded) in [("X-2", before, Some(before)), ("X-3", now(&world) + DAY, None)]
    {
        let (document, note) = ("{}".into(), String::new());
        let new = NewAdvisory { name: name.into(), document, note, published: Some(date) };
        world.store.submit_advisory(&anna, None, new).await.unwrap();
        let all = clocks(&world, &anna).await;
        let change = all.iter().find(|it| it.title == name).unwrap().change;
        let matter = world.store.matter(&anna, change, a.id).await.unwrap();
        assert_eq!(published(&matter), recorded, "{name}");
    }
}

async fn a_restart_is_recorded_once_facts_prove_it(world: World) {
    let runs = |boot: &str, reboot_required_by: Option<Vec<String>>| HostFacts {
        boot: Some(boot.to_owned()),
        runtime: Some(Runtime { reboot_required_by, ..Runtime::default() }),
        ..HostFacts::default()
    };
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let says = |facts| world.store.record_facts(&Actor::System, case.ci.id, facts);
    let restarted = async || {
        wake(&world).await;
        case.matter(&world).await.obligation.instants().at(Moment::Rebooted)
    };
    says(runs("a", None)).await.unwrap();
    // A restart before anything was altered is none that the plan asks for.
    says(runs("b", None)).await.unwrap();
    world.environment.pass(SignedDuration::from_mins(1));
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    says(runs("b", Some(Vec::new()))).await.unwrap();
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    assert_eq!(restarted().await, None);

    world.observe(&case.ci, package_set(&[("web", "2"), ("more", "1")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    assert_eq!(restarted().await, None);
    assert_eq!(case.phase(&world).await, "verified");
    world.environment.pass(SignedDuration::from_mins(10));
    let at = now(&world);
    says(runs("c", None)).await.unwrap();
    assert!(restarted().await.unwrap() >= at, "also where it was verified before");
    let before = case.matter(&world).await.obligation.instants().clone();
    world.environment.pass(DAY);
    says(runs("d", None)).await.unwrap();
    wake(&world).await;
    assert_eq!(*case.matter(&world).await.obligation.instants(), before, "once");
}

/// A plan names an item that had the patch before anybody looked.
async fn an_item_that_never_lacked_it_is_done_by_what_it_has(world: World) {
    let case = Case::proven(&world, "high").await;
    let other = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "db")).await.unwrap();
    let mut draft = case.plan_from(now(&world) + DAY * 5, None).draft().clone();
    let item = Item { ci: other.id, duty: other.duty, ..draft.stages[0].items[0].clone() };
    draft.stages[0].items.push(item);
    let plan = Plan::new(draft).unwrap();
    let action = Move::Plan { plan: plan.clone(), two_persons_above: 9 };
    done(case.does(&world, &world.admin, action).await);
    publish(&world, 1).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    let looks = async |minutes: i64| {
        world.environment.pass(SignedDuration::from_mins(minutes));
        wake(&world).await;
        case.phase(&world).await
    };
    world.environment.pass(SignedDuration::from_mins(10));
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    assert_eq!(looks(6).await, "verifying", "nobody heard of the other one");
    world.observe(&other, package_set(&[("web", "1")])).await;
    world.checked(&other, report(now(&world), &[])).await;
    assert_eq!(looks(6).await, "verifying", "it is older, and no check says what it lacks");
    world.observe(&other, package_set(&[("web", "3")])).await;
    world.checked(&other, report(now(&world), &[])).await;
    assert_eq!(looks(6).await, "verified");
}

async fn an_alteration_is_verified_by_whoever_else_looked(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let ci = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    let new = NewChange {
        kind: Kind::Alteration,
        title: "no passwords".into(),
        patches: Vec::new(),
        tenants: vec![tenant.id],
        priority: Priority::Critical,
    };
    let change = world.store.create_change(&world.admin, None, new).await.unwrap();
    let mut case = Case { tenant, owner, ci, change };
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
    wake(&world).await;
    let plan = case.plan(&world, now(&world) + DAY * 2).await;
    publish(&world, 1).await;
    let saw = |sight| Move::Saw { sight, evidence: FileHash::from([4; 32]) };
    let other = person(PROVIDER, "olga", domain::cloud::Role::Operator);
    let other = support::actor(&world.store.create_user(&world.admin, None, other).await.unwrap());
    let early = reason(case.does(&world, &other, saw(Sight::Clean)).await);
    assert!(early.contains("not carried out"), "{early}");
    world.environment.pass(DAY * 2);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(DAY);
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verifying", "no scan sees files");

    let own = reason(case.does(&world, &world.admin, saw(Sight::Clean)).await);
    assert!(own.contains("wrote a plan"), "{own}");
    done(case.does(&world, &other, saw(Sight::Clean)).await);
    assert_eq!(case.phase(&world).await, "verified");
    done(case.does(&world, &other, saw(Sight::Missing)).await);
    assert_eq!(case.phase(&world).await, "reopened");

    let patch = lacking_again(&world, &case).await;
    let brought = world.store.advance(&other, patch, case.tenant.id, saw(Sight::Clean)).await;
    assert!(reason(brought.unwrap()).contains("nobody's word"));
}

/// The change of a patch that an item lacks.
async fn lacking_again(world: &World, case: &Case) -> ChangeId {
    world.observe(&case.ci, package_set(&[("web", "1")])).await;
    world.checked(&case.ci, report(now(world), &[("web", "2", "high")])).await;
    world.open_obligations(10).await;
    let all = clocks(world, &case.owner).await;
    all.iter().find(|clock| clock.title.starts_with("web")).unwrap().change
}

async fn items_say_how_exposed_they_are(world: World) {
    let mut found = report(now(&world), &[("web", "2", "critical")]);
    found.findings[0].exploited = vec!["CVE-2026-1".into()];
    let case = lacking(&world, "critical").await;
    world.checked(&case.ci, found.clone()).await;
    let stands = async || {
        let facts = case.matter(&world).await.obligation.facts().clone();
        (facts.path(), facts.asset.exposure.map(|said| said.value))
    };
    let label = async |ci: &Ci, value: Option<&str>| {
        let labels = value.map(|value| ("exposure".parse().unwrap(), value.to_owned()));
        let labels = Some(labels.into_iter().collect());
        let alteration = CiAlteration { labels, ..CiAlteration::default() };
        world.store.alter_ci(&case.owner, ci.id, None, alteration).await.unwrap();
    };
    assert_eq!(stands().await, (SlaPath::Emergency, None), "unknown counts as open");
    label(&case.ci, Some("controlled")).await;
    assert_eq!(stands().await, (SlaPath::Ordinary, Some(Exposure::Controlled)));

    // Another one that says nothing.
    let other = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "db")).await.unwrap();
    world.observe(&other, package_set(&[("web", "1")])).await;
    world.checked(&other, found.clone()).await;
    assert_eq!(stands().await, (SlaPath::Emergency, None));
    label(&other, Some("small")).await;
    assert_eq!(stands().await, (SlaPath::Ordinary, Some(Exposure::Controlled)), "the worst");
    label(&other, Some("open")).await;
    assert_eq!(stands().await, (SlaPath::Emergency, Some(Exposure::Open)));

    // What was patched was exposed all the same.
    world.observe(&other, package_set(&[("web", "2")])).await;
    world.checked(&other, report(now(&world), &[])).await;
    label(&case.ci, Some("small")).await;
    assert_eq!(stands().await, (SlaPath::Emergency, Some(Exposure::Open)));

    // A person's word on this patch: nobody else looked at both.
    label(&other, None).await;
    assert_eq!(stands().await, (SlaPath::Emergency, None));
    let mut facts = case.matter(&world).await.obligation.facts().clone();
    facts.asset.exposure = Some(Sourced::new(Exposure::Small, Facts::ASSESSED));
    done(case.does(&world, &world.admin, Move::Assess(Box::new(facts))).await);
    label(&case.ci, Some("controlled")).await;
    assert_eq!(stands().await, (SlaPath::Ordinary, Some(Exposure::Small)));
}

async fn what_an_emergency_owes_is_shown_until_somebody_records_it(world: World) {
    let mut case = lacking(&world, "critical").await;
    let mut found = report(now(&world), &[("web", "2", "critical")]);
    found.findings[0].exploited = vec!["CVE-2026-1".into()];
    world.checked(&case.ci, found).await;
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
    wake(&world).await;
    let hours = SignedDuration::from_hours;
    let plan = case.plan(&world, now(&world) + hours(5)).await;
    publish(&world, 1).await;
    world.environment.pass(hours(6));
    wake(&world).await;
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.phase(), "scheduled");
    let lacks = matter.lacks(now(&world)).unwrap();
    assert!(matches!(lacks[..], [Lack::Evidence { .. }]), "{lacks:?}");
    let owed = async || {
        let clocks = clocks(&world, &case.owner).await;
        clocks.first().map(|clock| (clock.owed, clock.is_settled, clock.standing))
    };
    assert_eq!(owed().await.unwrap().0, Some(Errand::Evidence));

    let what: domain::change::Reason = "Memory of web".parse().unwrap();
    let sha256 = FileHash::from([5; 32]);
    let save = || Move::SaveEvidence { what: what.clone(), sha256 };
    assert!(matches!(
        world.store.advance(&Actor::System, case.change.change.id, case.tenant.id, save()).await,
        Err(StoreError::Refused { .. })
    ));
    done(case.does(&world, &world.admin, save()).await);
    assert_eq!(case.phase(&world).await, "rolling_out");
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    reason(case.does(&world, &world.admin, save()).await);
    world.environment.pass(SignedDuration::from_mins(10));
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    publish(&world, 10).await;
    assert_eq!(case.phase(&world).await, "verified");

    let again = Some(Errand::ReEvaluation);
    assert_eq!(owed().await, Some((again, true, ClockStanding::InTime)));
    done(case.does(&world, &world.admin, Move::Close).await);
    let escalated = events(&world, EventKind::ObligationEscalated).await;
    world.environment.pass(hours(80));
    wake(&world).await;
    wake(&world).await;
    assert_eq!(events(&world, EventKind::ObligationEscalated).await, escalated + 1, "once");
    assert_eq!(owed().await, Some((again, true, ClockStanding::Overdue)));
    assert_eq!(world.store.clock_totals(&case.owner).await.unwrap().overdue, 1);
    let filter = ClockFilter { overdue: true, ..ClockFilter::default() };
    assert_eq!(world.store.clocks(&case.owner, &filter, 10).await.unwrap().len(), 1);

    let conclusion = "No trace of an attack".parse().unwrap();
    done(case.does(&world, &world.admin, Move::ReEvaluate { conclusion }).await);
    assert_eq!(owed().await, None);
    assert_eq!(world.store.next_wake().await.unwrap(), None);
    let id = case.change.change.id;
    let records = world.store.errand_records(&case.owner, id, case.tenant.id).await.unwrap();
    assert_eq!((records[0].errand, records[0].sha256), (Errand::Evidence, Some(sha256)));
    assert_eq!((&records[0].said, &records[0].recorded_by), (&what, &world.admin.id()));
    assert_eq!(records[1].errand, Errand::ReEvaluation);
    let other = world.tenant("b").await;
    let bert = world.owner(&other).await;
    assert!(world.store.errand_records(&bert, id, case.tenant.id).await.is_err());
}

async fn the_notice_that_it_is_done_is_owed_until_the_tenant_has_it(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");
    assert_eq!(clocks(&world, &case.owner).await, [], "it is on its way");

    world.environment.pass(DAY);
    wake(&world).await;
    let [clock] = &clocks(&world, &case.owner).await[..] else { panic!() };
    assert_eq!((clock.owed, clock.standing), (Some(Errand::DoneNotice), ClockStanding::Overdue));
    publish(&world, 10).await;
    assert_eq!(clocks(&world, &case.owner).await, []);
    assert!(case.matter(&world).await.obligation.instants().at(Moment::DoneTold).is_some());
}

/// Both sides agree that what stands in the laboratory is not covered.
async fn agree_on_the_lab(world: &World, tenant: &Tenant, owner: &Actor, version: &str) {
    let until = (now(world) + DAY * 10).strftime("%Y-%m-%d").to_string();
    let policy = Policy::builtin("x1642-default").unwrap().negotiate(&format!(
        "version = \"{version}\"\n[[exclusions]]\nwhat = \"the lab\"\nreason = \"air gap\"\n\
         until = \"{until}\"\nlabels = {{ network = \"lab\" }}"
    ));
    world.store.propose_policy(owner, tenant.id, policy.unwrap()).await.unwrap();
    let version = version.to_owned();
    world.store.agree_to_policy(&world.admin, tenant.id, version).await.unwrap();
}

async fn network(world: &World, owner: &Actor, ci: &Ci, value: &str) {
    let labels = Some([("network".parse().unwrap(), value.to_owned())].into());
    let alteration = CiAlteration { labels, ..CiAlteration::default() };
    world.store.alter_ci(owner, ci.id, None, alteration).await.unwrap();
}

async fn what_the_sla_excludes_asks_nothing_and_is_missing_all_the_same(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    agree_on_the_lab(&world, &tenant, &owner, "a-1").await;
    let in_lab = world.store.create_ci(&owner, None, vm(tenant.id, "lab")).await.unwrap();
    network(&world, &owner, &in_lab, "lab").await;
    world.observe(&in_lab, package_set(&[("web", "1")])).await;
    let found = || report(now(&world), &[("web", "2", "critical")]);
    world.checked(&in_lab, found()).await;
    assert_eq!(world.open_obligations(10).await, 0);
    assert_eq!(clocks(&world, &owner).await, []);
    let findings = async || {
        let page = world.store.findings(&owner, &FindingFilter::default(), &ALL).await.unwrap();
        page.items.into_iter().map(|it| (it.state, it.excluded.map(|(it, _)| it.reason)))
    };
    let excluded = (FindingState::Open, Some("air gap".to_owned()));
    assert_eq!(findings().await.collect::<Vec<_>>(), std::slice::from_ref(&excluded));

    // Another item that lacks it has a clock, and is verified without the lab's.
    let web = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    world.observe(&web, package_set(&[("web", "1")])).await;
    world.checked(&web, found()).await;
    assert!(world.open_obligations(10).await > 0);
    let change = clocks(&world, &owner).await[0].change;
    let phase = async || {
        let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
        (matter.obligation.phase(), matter.obligation.instants().start().unwrap())
    };
    assert_eq!(phase().await.0, "evaluated");
    world.observe(&web, package_set(&[("web", "2")])).await;
    world.checked(&web, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(phase().await.0, "verified");

    // When the exclusion is over, it is missing again, from then on.
    let ended = now(&world) + DAY * 11;
    world.environment.pass(DAY * 11);
    world.checked(&in_lab, found()).await;
    world.open_obligations(10).await;
    wake(&world).await;
    let (phase, start) = phase().await;
    assert!(matches!(phase, "evaluated" | "tested" | "reopened"), "{phase}");
    assert!(start > ended - DAY * 2, "{start}");
}

async fn what_has_a_clock_is_not_excluded_afterwards(world: World) {
    let case = lacking(&world, "high").await;
    agree_on_the_lab(&world, &case.tenant, &case.owner, "a-1").await;
    world.environment.pass(SignedDuration::from_mins(1));
    network(&world, &case.owner, &case.ci, "lab").await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "evaluated", "its version excludes nothing");

    // A patch that is found missing since then is excluded, until the item leaves the lab.
    world.observe(&case.ci, package_set(&[("web", "1"), ("db", "1")])).await;
    let both = report(now(&world), &[("web", "2", "high"), ("db", "2", "high")]);
    world.checked(&case.ci, both).await;
    assert_eq!(world.open_obligations(10).await, 0);
    world.environment.pass(DAY);
    network(&world, &case.owner, &case.ci, "office").await;
    let since = now(&world);
    assert_eq!(world.open_obligations(10).await, 2);
    let all = clocks(&world, &case.owner).await;
    let db = all.iter().find(|clock| clock.title.starts_with("db")).unwrap();
    assert!(db.due.unwrap() > since + DAY * 13, "the clock starts with the end of it: {db:?}");
}

async fn what_was_brought_asks_nothing_once_it_is_rejected(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let new = NewAdvisory {
        name: "X-1".into(),
        document: "{}".into(),
        note: String::new(),
        published: None,
    };
    let advisory = world.store.submit_advisory(&anna, None, new).await.unwrap();
    let [clock] = &clocks(&world, &anna).await[..] else { panic!() };
    let decision = AdvisoryDecision { state: AdvisoryState::Rejected, reason: "Not ours".into() };
    world.store.decide_advisory(&world.admin, advisory.id, None, decision).await.unwrap();
    wake(&world).await;
    let matter = world.store.matter(&anna, clock.change, a.id).await.unwrap();
    assert_eq!(matter.obligation.phase(), "withdrawn");
}

async fn what_is_accepted_is_everybodys_change(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let new = NewAdvisory {
        name: "X-1".into(),
        document: "{}".into(),
        note: String::new(),
        published: None,
    };
    let advisory = world.store.submit_advisory(&anna, None, new).await.unwrap();
    let [clock] = &clocks(&world, &anna).await[..] else { panic!() };
    let decision = AdvisoryDecision { state: AdvisoryState::Accepted, reason: "It is so".into() };
    world.store.decide_advisory(&world.admin, advisory.id, None, decision).await.unwrap();
    let b = world.tenant("b").await;
    let bert = world.owner(&b).await;
    let ci = world.store.create_ci(&bert, None, vm(b.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "critical")])).await;
    assert_eq!(world.open_obligations(10).await, 2);
    let seen = world.store.change(&bert, clock.change).await.unwrap();
    assert_eq!((seen.found_by, seen.advisory, &*seen.created_by), (PROVIDER, None, ""));
}

/// Web 2 is fixed, and web 3 is missing later: two patches, two clocks.
async fn a_later_patch_of_a_package_has_a_clock_of_its_own(world: World) {
    let mut case = lacking(&world, "high").await;
    world.environment.pass(DAY);
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified", "the tenant did it itself");

    world.environment.pass(DAY * 60);
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    let mut found = report(now(&world), &[("web", "3", "high")]);
    found.findings[0].installed_source = "2".into();
    world.checked(&case.ci, found).await;
    world.open_obligations(10).await;
    wake(&world).await;
    let first = case.change.change.id;
    assert_eq!(case.phase(&world).await, "verified", "what it fixed is fixed");
    let all = world.store.changes(&case.owner, &ALL).await.unwrap().items;
    case.change = all.into_iter().find(|it| it.change.id != first).unwrap();
    let matter = case.matter(&world).await;
    let collected = matter.obligation.instants().at(Moment::Collected).unwrap();
    assert!(now(&world).duration_since(collected) < DAY, "{collected}");
    assert_eq!(matter.obligation.phase(), "evaluated");
}

/// Web 3 takes the place of web 2 before that was installed.
async fn what_a_later_patch_took_the_place_of_is_not_done_by_that(world: World) {
    let (case, _) = Case::told(&world, "high", DAY * 5).await;
    world.environment.pass(DAY);
    world.checked(&case.ci, report(now(&world), &[("web", "3", "high")])).await;
    world.open_obligations(10).await;
    wake(&world).await;
    let refused = reason(case.does(&world, &world.admin, Move::Scan).await);
    assert!(refused.contains("scan"), "{refused}");
    assert_eq!(case.phase(&world).await, "notified");

    // The later one has what the earlier one had.
    world.observe(&case.ci, package_set(&[("web", "3")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");
}

/// Nobody posts a scan: checks bring it about.
async fn checks_verify_and_reopen_by_themselves(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verifying", "nobody has looked since");
    let early = reason(case.does(&world, &world.admin, Move::Scan).await);
    assert!(early.contains("no check since then"), "{early}");

    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");

    // A machine made from an old image.
    world.environment.pass(DAY);
    let new = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "new")).await.unwrap();
    world.observe(&new, package_set(&[("web", "1")])).await;
    world.checked(&new, report(now(&world), &[("web", "2", "high")])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "reopened");
}

async fn a_claim_that_is_not_borne_out_is_a_conflict(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    world.observe(&case.ci, package_set(&[("web", "1")])).await;
    world.checked(&case.ci, report(now(&world), &[("web", "2", "high")])).await;
    world.environment.pass(SignedDuration::from_mins(10));
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "non_compliant");
}

/// No check can tell yet whether a file is as an alteration wants it.
async fn an_alteration_is_not_verified_by_what_nobody_looked_at(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let ci = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    let new = NewChange {
        kind: Kind::Alteration,
        title: "no passwords".into(),
        patches: Vec::new(),
        tenants: vec![tenant.id],
        priority: Priority::Medium,
    };
    let change = world.store.create_change(&world.admin, None, new).await.unwrap();
    let mut case = Case { tenant, owner, ci, change };
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
    wake(&world).await;
    case.plan(&world, now(&world) + DAY * 20).await;
    let refused = reason(case.does(&world, &world.admin, Move::Scan).await);
    assert!(refused.contains("no check"), "{refused}");
    world.environment.pass(DAY * 15);
    assert!(world.store.wake_obligations(10).await.unwrap().0 > 0);
    assert_eq!(case.phase(&world).await, "planned");
}

async fn what_is_closed_is_reopened_by_a_check(world: World) {
    let mut case = verified(&world).await;
    done(case.does(&world, &world.admin, Move::Close).await);
    case.step(&world, ChangeStep::Close).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "closed");

    world.environment.pass(DAY);
    world.observe(&case.ci, package_set(&[("web", "1")])).await;
    world.checked(&case.ci, report(now(&world), &[("web", "2", "high")])).await;
    let (_, failed) = world.store.wake_obligations(10).await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(case.phase(&world).await, "reopened");
    let change = world.store.change(&world.admin, case.change.change.id).await.unwrap();
    assert_eq!(change.change.stage().as_str(), "reopened");

    // And what was put right without a plan is right.
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");
}

async fn what_nobody_lacked_for_a_while_has_a_clock_again(world: World) {
    let case = Case::proven(&world, "high").await;
    world.store.retire_ci(&case.owner, case.ci.id, None).await.unwrap();
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "withdrawn");
    assert_eq!(world.open_obligations(10).await, 0);

    world.environment.pass(DAY);
    let new = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "new")).await.unwrap();
    world.observe(&new, package_set(&[("web", "1")])).await;
    world.checked(&new, report(now(&world), &[("web", "2", "high")])).await;
    assert_eq!(world.open_obligations(10).await, 1);
    let matter = case.matter(&world).await;
    let collected = matter.obligation.instants().at(Moment::Collected).unwrap();
    assert!(now(&world).duration_since(collected) < SignedDuration::from_hours(1));
}

async fn an_old_machine_reopens_the_latest_patch_alone(world: World) {
    let case = verified(&world).await;
    world.environment.pass(DAY);
    let new = world.store.create_ci(&case.owner, None, vm(case.tenant.id, "old")).await.unwrap();
    world.observe(&new, package_set(&[("web", "1")])).await;
    world.checked(&new, report(now(&world), &[("web", "3", "high")])).await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified", "web 3 has what web 2 had");
    assert_eq!(world.open_obligations(10).await, 2);
}

/// A change that went its way.
async fn verified(world: &World) -> Case {
    let (case, plan) = Case::told(world, "high", DAY * 5).await;
    done(case.say(world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(world), &[])).await;
    wake(world).await;
    assert_eq!(case.phase(world).await, "verified");
    case
}

/// It was installed by somebody while it was rolled out, and nobody has looked since it was done.
async fn what_was_seen_before_it_was_done_does_not_verify_it(world: World) {
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "rolling_out");
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    world.environment.pass(DAY);
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.environment.pass(SignedDuration::from_mins(10));
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verifying");
    world.store.note_seen(vec![(case.ci.id, now(&world))]).await.unwrap();
    world.environment.pass(SignedDuration::from_mins(10));
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");
}

async fn a_no_accepts_the_findings(world: World) {
    let (case, plan) = Case::told(&world, "medium", DAY * 10).await;
    let until = now(&world) + DAY * 9;
    let no = Decision::Refuse { acceptance: acceptance(until) };
    done(case.say(&world, &plan, no, 1).await);

    let findings =
        world.store.findings(&case.owner, &FindingFilter::default(), &ALL).await.unwrap();
    let [finding] = &findings.items[..] else { panic!() };
    let accepted = finding.acceptance.as_ref().unwrap();
    assert_eq!((finding.state, accepted.until), (FindingState::Open, until));
    assert_eq!(&*accepted.risk_owner, "Ada");
    assert!(accepted.reason.starts_with("Quarter-end close (signed by "), "{}", accepted.reason);
}

/// The provider patches some of a tenant's items; the tenant decides when, all the same.
async fn a_tenant_says_later_to_what_the_provider_must_patch(world: World) {
    let mut case = lacking_on(&world, "medium", Class::SecurityDevice).await;
    assert_eq!(case.ci.duty, Duty::Provider);
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
    wake(&world).await;
    let plan = case.plan(&world, now(&world) + DAY * 10).await;
    assert_eq!(publish(&world, 1).await, 1);

    let until = now(&world) + DAY * 9;
    done(case.say(&world, &plan, Decision::Refuse { acceptance: acceptance(until) }, 1).await);
    let accepted = async |world: &World| {
        let filter = FindingFilter::default();
        let findings = world.store.findings(&case.owner, &filter, &ALL).await.unwrap();
        findings.items[0].acceptance.as_ref().map(|it| it.until)
    };
    assert_eq!(accepted(&world).await, Some(until));
    assert!(!case.matter(&world).await.obligation.is_settled(), "it is asked again");
    let long = Decision::Refuse { acceptance: acceptance(now(&world) + DAY * 367) };
    let refused = reason(case.say(&world, &plan, long, 2).await);
    assert!(refused.contains("later than"), "{refused}");

    done(case.say(&world, &plan, Decision::Approve, 3).await);
    assert_eq!(accepted(&world).await, None, "nobody bears it any more");
}

async fn one_person_does_not_split_a_large_change(world: World) {
    let mut case = lacking_on(&world, "high", Class::SecurityDevice).await;
    let other = world.tenant("b").await;
    let new = NewCi { class: Class::SecurityDevice, ..vm(other.id, "wall") };
    let theirs = world.store.create_ci(&world.admin, None, new).await.unwrap();
    world.observe(&theirs, package_set(&[("web", "1")])).await;
    world.checked(&theirs, report(now(&world), &[("web", "2", "high")])).await;
    world.open_obligations(10).await;
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
    wake(&world).await;
    let of = |ci: &Ci| {
        let mut draft = case.plan_from(now(&world) + DAY * 5, None).draft().clone();
        draft.tenant = ci.tenant;
        let item = &mut draft.stages[0].items[0];
        (item.ci, item.duty) = (ci.id, Duty::Provider);
        Plan::new(draft).unwrap()
    };
    let lacks = async |ci: &Ci| {
        let (change, plan) = (case.change.change.id, of(ci));
        let action = Move::Plan { plan, two_persons_above: 1 };
        let planned = world.store.advance(&world.admin, change, ci.tenant, action).await.unwrap();
        let matter = done(planned);
        let beside = domain::change::Context {
            change: &matter.change.change,
            keys: &matter.keys,
            standing: &matter.standing,
        };
        let share = matter.obligation.share().unwrap();
        let lacks = share.permit(&beside, now(&world)).unwrap_err();
        lacks.iter().any(|it| matches!(it, domain::change::Lack::Approvers { .. }))
    };
    assert!(!lacks(&case.ci).await, "one item is one person's to decide");
    assert!(lacks(&theirs).await, "two items of one change are not, whosever they are");
}

async fn a_breach_is_told_once_whoever_looks(world: World) {
    let case = lacking(&world, "critical").await;
    world.environment.pass(DAY * 3);
    let looks = (0..8).map(|_| world.store.wake_obligations(100));
    for look in futures_util::future::join_all(looks).await {
        let (_, failed) = look.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
    }
    world.environment.pass(DAY);
    wake(&world).await;

    assert_eq!(events(&world, EventKind::ObligationBreached).await, 1);
    let clock = &clocks(&world, &case.owner).await[0];
    assert_eq!((&*clock.state, clock.holder), ("breached", Some(Party::Provider)));
    let all = world.store.events(&world.admin, store::Retrieval::Events, 0, 10_000).await.unwrap();
    let breach = all.iter().find(|event| event.kind == EventKind::ObligationBreached).unwrap();
    let breach: serde_json::Value = serde_json::from_slice(&breach.payload).unwrap();
    assert_eq!(breach["breach"]["by"], "provider");
    assert_eq!(breach["breach"]["date"]["clause"], "critical 3d");
}

async fn what_is_missing_again_reopens(world: World) {
    let tenants: Vec<TenantId> = Vec::new();
    let new = NewChange {
        kind: Kind::Alteration,
        title: "TLS 1.3 alone".into(),
        patches: Vec::new(),
        tenants,
        priority: Priority::Low,
    };
    let alteration = world.store.create_change(&world.admin, None, new.clone()).await.unwrap();
    assert_eq!(alteration.change.stage().as_str(), "found");
    assert!(world.store.create_change(&Actor::System, None, new).await.is_err());
    let carol = person(PROVIDER, "carol", domain::cloud::Role::Operator);
    let carol = support::actor(&world.store.create_user(&world.admin, None, carol).await.unwrap());

    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    done(case.does(&world, &carol, Move::Countersign(plan.hash())).await);
    done(case.say(&world, &plan, Decision::Approve, 1).await);
    world.environment.pass(DAY * 5);
    wake(&world).await;
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    done(case.does(&world, &world.admin, finish).await);
    world.observe(&case.ci, package_set(&[("web", "2")])).await;
    world.checked(&case.ci, report(now(&world), &[])).await;
    done(case.does(&world, &world.admin, Move::Scan).await);
    assert_eq!(case.phase(&world).await, "verified");

    world.observe(&case.ci, package_set(&[("web", "1")])).await;
    world.checked(&case.ci, report(now(&world), &[("web", "2", "high")])).await;
    done(case.does(&world, &world.admin, Move::Scan).await);
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.phase(), "reopened");
    let started = matter.obligation.instants().regressed().unwrap();
    assert_eq!(matter.obligation.dues().binding().unwrap().due, started + DAY * 14);
    let next = case.plan_from(now(&world) + DAY * 5, Some(&plan));
    let action = Move::Plan { plan: next, two_persons_above: 9 };
    let planned = done(case.does(&world, &world.admin, action).await);
    assert_eq!(planned.obligation.share().unwrap().phase(), Phase::Planned);
}

async fn what_becomes_exploited_is_due_earlier(world: World) {
    let (case, _) = Case::told(&world, "high", DAY * 5).await;
    let before = clocks(&world, &case.owner).await[0].due.unwrap();
    let mut report = report(now(&world), &[("web", "2", "critical")]);
    report.findings[0].exploited = vec!["CVE-2026-1".into()];
    world.checked(&case.ci, report).await;

    let clock = &clocks(&world, &case.owner).await[0];
    assert_eq!(clock.priority, Priority::Critical);
    assert_eq!(clock.due, Some(before - DAY * 11), "3 days instead of 14");
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.facts().path(), domain::sla::Path::Emergency);
    assert!(matter.obligation.instants().at(Moment::KevAdded).is_some());
}

/// Something that cannot be opened each time takes nobody's place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_stands_in_nobodys_way() {
    let (world, address) = World::postgres_at().await;
    let tenant = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(tenant.id, "web")).await.unwrap();
    let set = package_set(&[("aa", "1"), ("bb", "1"), ("cc", "1")]);
    world.observe(&ci, set).await;
    let missing = [("aa", "2", "high"), ("bb", "2", "high"), ("cc", "2", "high")];
    world.checked(&ci, report(now(&world), &missing)).await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    // Of the two that are looked at first.
    let broken = "UPDATE findings SET patch = '{}' WHERE patch_id IN (
        SELECT patch_id FROM findings ORDER BY patch_id LIMIT 2)";
    sqlx::query(broken).execute(&mut other).await.unwrap();

    let (opened, failed) = world.store.open_obligations(2, &BTreeSet::new()).await.unwrap();
    assert_eq!((opened, failed.len()), (0, 2), "both places are theirs");
    let aside: BTreeSet<Opening> = failed.iter().map(|it| it.what).collect();
    assert_eq!(aside.len(), 2);

    let (opened, failed) = world.store.open_obligations(2, &aside).await.unwrap();

    assert_eq!((opened, failed.len()), (2, 0), "a change, and its clock");
    assert_eq!(world.store.open_clocks().await.unwrap(), 1);
}
