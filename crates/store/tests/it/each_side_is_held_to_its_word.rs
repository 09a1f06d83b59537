//! What is said to a change has its bounds and its author, and what one side says alone binds nobody.

use std::collections::BTreeSet;

use domain::change::{
    Decision, Disruption, KeyEvent, KeyId, KeyKind, Kind, NewKey, Nonce, Payload, Scope,
    StandingRule, Verified, WeeklyWindow,
};
use domain::cloud::{EventKind, PROVIDER, Role, TenantId};
use domain::priority::Priority;
use domain::sla::{Cause, Interruption, Moment, Policy};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use store::{
    Actor, AdvisoryDecision, AdvisoryState, ClockFilter, Move, NewAdvisory, NewConsentKey,
    StoreError,
};

use crate::changes_and_their_clocks::{
    ALL, Case, DAY, KEY, acceptance, done, events, lacking, now, reason, report, user, wake,
};
use crate::support::{self, World, package_set, person, vm};

on_both_engines! {
    what_nobody_agreed_to_governs_nothing
    a_name_of_a_policy_means_one_text
    rules_in_force_are_bounded
    statements_to_a_plan_are_bounded
    what_stands_in_the_way_is_somebodys_word
    a_new_owner_recovers_no_key
    keys_are_their_tenants_own_peoples
    the_provider_makes_no_owner_beside_an_owner
    what_is_late_is_found_whoever_looked
    what_another_tenant_said_is_told_to_nobody
}

/// The shipped default under another version, with so many days for what is medium.
fn default_as(version: &str, days: u8) -> Policy {
    let text = format!("version = \"{version}\"\nmedium.deadline = \"{days}d\"");
    Policy::builtin("x1642-default").unwrap().negotiate(&text).unwrap()
}

async fn what_nobody_agreed_to_governs_nothing(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let theirs = default_as("2027-1", 60);
    world.store.propose_policy(&owner, tenant.id, theirs).await.unwrap();
    let ours = default_as("2027-1", 30);
    world.store.propose_policy(&world.admin, PROVIDER, ours.clone()).await.unwrap();

    let ci = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "medium")])).await;
    world.open_obligations(10).await;

    let change = world.store.changes(&world.admin, &ALL).await.unwrap().items[0].change.id;
    let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
    assert_eq!(matter.policy.to_toml(), ours.to_toml(), "a proposal is nobody's agreement");
    let late = world.store.agree_to_policy(&world.admin, tenant.id, "2027-1".into()).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("another policy in force is called x1642-default 2027-1"), "{late}");
    let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
    assert_eq!(matter.policy.to_toml(), ours.to_toml());
}

async fn a_name_of_a_policy_means_one_text(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let propose = async |world: &World, by: &Actor, tenant, version: &str, days| {
        world.store.propose_policy(by, tenant, default_as(version, days)).await
    };
    let is_taken =
        |outcome: Result<_, StoreError>| matches!(outcome, Err(StoreError::Exists { .. }));

    // What the provider publishes takes its name from tenants, and so does what is shipped.
    propose(&world, &world.admin, PROVIDER, "1", 30).await.unwrap();
    assert!(is_taken(propose(&world, &anna, a.id, "1", 40).await));
    let shipped = Policy::builtin("x1642-default").unwrap().clone();
    assert!(is_taken(world.store.propose_policy(&anna, a.id, shipped.clone()).await));
    assert!(is_taken(world.store.propose_policy(&world.admin, PROVIDER, shipped).await));

    // Two tenants may call theirs alike; the provider may not call its default like one of them.
    for (by, tenant) in [(&anna, a.id), (&bert, b.id)] {
        propose(&world, by, tenant, "2", 40).await.unwrap();
        world.store.agree_to_policy(&world.admin, tenant, "2".into()).await.unwrap();
    }
    assert!(is_taken(propose(&world, &world.admin, PROVIDER, "2", 30).await));
    propose(&world, &world.admin, PROVIDER, "3", 30).await.unwrap();
}

async fn rules_in_force_are_bounded(world: World) {
    let case = lacking(&world, "low").await;
    let add = async |world: &World, number: u8, until: Timestamp| {
        let rule = StandingRule {
            tenant: case.tenant.id,
            kinds: BTreeSet::from([Kind::Patch]),
            priorities: BTreeSet::from([Priority::Low]),
            items: Scope::All,
            disruption: Disruption::Reboots,
            windows: vec![WeeklyWindow { begins: 0, minutes: 60 }],
            from: now(world),
            until,
            given_at: now(world),
            nonce: Nonce::from([number; 16]),
        };
        let rule = Verified::signed_by(KeyId::from(KEY), &rule.to_payload()).unwrap();
        world.store.add_rule(&case.owner, case.tenant.id, rule, "{}".into()).await.unwrap()
    };
    for number in 0..100 {
        let days = if number == 99 { 1 } else { 90 };
        done(add(&world, number, now(&world) + DAY * days).await);
    }
    assert!(reason(add(&world, 100, now(&world) + DAY).await).contains("100 rules are in force"));
    assert_eq!(events(&world, EventKind::StandingRuleRefused).await, 1);

    // What ended makes room, by its time or by its tenant.
    world.environment.pass(DAY);
    done(add(&world, 101, now(&world) + DAY * 90).await);
    reason(add(&world, 102, now(&world) + DAY * 90).await);
    let first = Nonce::from([0; 16]);
    world.store.withdraw_rule(&case.owner, case.tenant.id, first).await.unwrap();
    done(add(&world, 102, now(&world) + DAY * 90).await);
    assert_eq!(world.store.rules(&case.owner, case.tenant.id).await.unwrap().len(), 102);
}

async fn statements_to_a_plan_are_bounded(world: World) {
    let (case, plan) = Case::told(&world, "medium", DAY * 20).await;
    for nonce in 0..64 {
        done(case.say(&world, &plan, Decision::Approve, nonce).await);
    }
    let more = reason(case.say(&world, &plan, Decision::Approve, 64).await);
    assert!(more.contains("64 statements about this change"), "{more}");

    // A flood of yes takes nobody's no away.
    let until = now(&world) + DAY * 25;
    let no = || Decision::Refuse { acceptance: acceptance(until) };
    world.environment.pass(SignedDuration::from_secs(1));
    done(case.say(&world, &plan, no(), 64).await);
    assert_eq!(case.phase(&world).await, "refused");
    for nonce in 65..80 {
        done(case.say(&world, &plan, no(), nonce).await);
    }
    reason(case.say(&world, &plan, no(), 80).await);
    let id = case.change.change.id;
    assert_eq!(world.store.consents(&case.owner, id, case.tenant.id).await.unwrap().len(), 80);
}

async fn what_stands_in_the_way_is_somebodys_word(world: World) {
    let case = lacking(&world, "high").await;
    world.environment.pass(DAY * 3);
    let hours = SignedDuration::from_hours;
    let said = async |world: &World, cause, from, until| {
        let interruption = Interruption { cause, from, until };
        case.does(world, &world.admin, Move::Interrupt(interruption)).await
    };
    let collected = case.matter(&world).await.obligation.instants().at(Moment::Collected).unwrap();
    let at = now(&world);

    let old = reason(said(&world, Cause::Vendor, at - hours(25), None).await);
    assert!(old.contains("24 hours"), "{old}");
    reason(said(&world, Cause::Vendor, at + hours(1), None).await);
    let freeze = reason(said(&world, Cause::ChangeFreeze, at, None).await);
    assert!(freeze.contains("agreed by both sides"), "{freeze}");
    reason(said(&world, Cause::Refusal, at, None).await);
    let from = at - hours(23);
    done(said(&world, Cause::Vendor, from, None).await);
    reason(said(&world, Cause::Vendor, from, None).await);
    done(said(&world, Cause::Vendor, from, Some(at)).await);
    let ended = reason(said(&world, Cause::Vendor, from, Some(at + hours(9))).await);
    assert!(ended.contains("ended at"), "{ended}");

    let claims = world
        .store
        .interruption_claims(&case.owner, case.change.change.id, case.tenant.id)
        .await
        .unwrap();
    let [claim] = &claims[..] else { panic!("{claims:?}") };
    assert_eq!((claim.cause, claim.from, claim.until), (Cause::Vendor, from, Some(at)));
    assert_eq!(claim.claimed_by, world.admin.id());
    assert!(at < claim.claimed_at && claim.claimed_at < now(&world), "{claim:?}");
    let stranger = world.owner(&world.tenant("b").await).await;
    let id = case.change.change.id;
    assert!(world.store.interruption_claims(&stranger, id, case.tenant.id).await.is_err());
    events(&world, EventKind::ObligationAltered).await;
    let all = world.store.events(&world.admin, store::Retrieval::Events, 0, 10_000).await.unwrap();
    let words: Vec<_> = all.iter().map(|it| String::from_utf8_lossy(&it.payload)).collect();
    let told = words.iter().filter(|it| it.contains("interruption_claimed")).count();
    assert_eq!(told, 2, "when it began, and when it ended");

    // As many as anybody needs, and none from before there was anything to patch.
    for number in 1..200 {
        done(
            said(
                &world,
                Cause::HostUnreachable,
                at - hours(1) + SignedDuration::from_secs(number),
                Some(at),
            )
            .await,
        );
    }
    let more = reason(said(&world, Cause::HostUnreachable, at, None).await);
    assert!(more.contains("200 interruptions"), "{more}");
    let fresh = lacking_more(&world, &case).await;
    let early = Interruption { cause: Cause::Vendor, from: collected, until: None };
    let early = world.store.advance(&world.admin, fresh, case.tenant.id, Move::Interrupt(early));
    assert!(reason(early.await.unwrap()).contains("before the patch was collected"));
}

/// Another patch that the item of a case lacks.
async fn lacking_more(world: &World, case: &Case) -> domain::cloud::ChangeId {
    world.observe(&case.ci, package_set(&[("web", "1"), ("db", "1")])).await;
    let report = report(now(world), &[("web", "2", "high"), ("db", "2", "high")]);
    world.checked(&case.ci, report).await;
    world.open_obligations(100).await;
    let changes = world.store.changes(&world.admin, &ALL).await.unwrap().items;
    changes.iter().find(|it| it.change.id != case.change.change.id).unwrap().change.id
}

fn new_key(number: u8) -> NewConsentKey {
    let id = KeyId::from([number; 32]);
    NewConsentKey { id, kind: KeyKind::Ed25519, public_key: Vec::new(), label: String::new() }
}

/// Another owner of a case's tenant, made by the one there is.
async fn second_owner(world: &World, case: &Case, login: &str) -> Actor {
    let new = person(case.tenant.id, login, Role::TenantOwner);
    support::actor(&world.store.create_user(&case.owner, None, new).await.unwrap())
}

async fn a_new_owner_recovers_no_key(world: World) {
    let case = lacking(&world, "low").await;
    let tenant = case.tenant.id;
    world.environment.pass(DAY * 4);
    // Somebody with a stolen session of the owner is a second owner as well.
    let mallory = second_owner(&world, &case, "mallory").await;
    let ask = async |world: &World, by: &Actor| {
        world.store.ask_recovery(by, tenant, new_key(5)).await.unwrap()
    };
    assert!(reason(ask(&world, &mallory).await).contains("is an owner, or has this way in, only"));
    done(ask(&world, &case.owner).await);
    reason(ask(&world, &mallory).await);
    world.environment.pass(DAY * 30);
    reason(ask(&world, &mallory).await);
    let complete = world.store.alter_keys(&case.owner, tenant, KeyEvent::CompleteRecovery, None);
    reason(complete.await.unwrap());
    let warned = async |world: &World| {
        while world.store.sequence_events(1000).await.unwrap() > 0 {}
        let all =
            world.store.events(&case.owner, store::Retrieval::Events, 0, 10_000).await.unwrap();
        let words = all.iter().map(|it| String::from_utf8_lossy(&it.payload).into_owned());
        words.filter(|it| it.contains("key.recovery_warned")).count()
    };
    assert_eq!(warned(&world).await, 1, "and all owners can see it");
    let object = KeyEvent::Object { by: user(&case.owner) };
    done(world.store.alter_keys(&case.owner, tenant, object, None).await.unwrap());

    // Who is an owner for long is one again only since somebody reset them.
    let hash = store::PasswordHash("x".to_owned());
    world.store.reset_user(&case.owner, user(&mallory), hash).await.unwrap();
    reason(ask(&world, &mallory).await);
    world.environment.pass(DAY * 3);
    done(ask(&world, &mallory).await);
    done(ask(&world, &case.owner).await);
    assert_eq!(warned(&world).await, 3);
    world.environment.pass(DAY * 3);
    let complete = world.store.alter_keys(&case.owner, tenant, KeyEvent::CompleteRecovery, None);
    done(complete.await.unwrap());
}

async fn keys_are_their_tenants_own_peoples(world: World) {
    let tenant = world.tenant("a").await;
    let by = user(&world.admin);
    let key = NewKey { id: KeyId::from(KEY), kind: KeyKind::Ed25519, holder: by };
    for actor in [&world.admin, &Actor::System] {
        let register = KeyEvent::Register { key, by };
        let refused = world.store.alter_keys(actor, tenant.id, register, None).await.unwrap_err();
        assert!(refused.to_string().contains("own people's alone"), "{refused}");
        assert!(world.store.ask_recovery(actor, tenant.id, new_key(5)).await.is_err());
    }
    assert_eq!(world.store.key_ring(&world.admin, tenant.id).await.unwrap().0.keys().count(), 0);
}

async fn the_provider_makes_no_owner_beside_an_owner(world: World) {
    let tenant = world.tenant("a").await;
    let anna = world.owner(&tenant).await;
    let owner = |login: &str| person(tenant.id, login, Role::TenantOwner);
    let create =
        async |world: &World, by: &Actor, new| world.store.create_user(by, None, new).await;
    let hash = || store::PasswordHash("x".to_owned());

    let refused = create(&world, &world.admin, owner("eve")).await.unwrap_err();
    assert!(refused.to_string().contains("the tenant has an owner"), "{refused}");
    let viewer = person(tenant.id, "vera", Role::TenantViewer);
    create(&world, &world.admin, viewer).await.unwrap();
    // The only owner, who lost the way in, is helped; one of two helps the other.
    world.store.reset_user(&world.admin, user(&anna), hash()).await.unwrap();
    let bert = support::actor(&create(&world, &anna, owner("bert")).await.unwrap());
    let refused = world.store.reset_user(&world.admin, user(&bert), hash()).await.unwrap_err();
    assert!(refused.to_string().contains("another owner"), "{refused}");
    world.store.reset_user(&anna, user(&bert), hash()).await.unwrap();
    // Where there is none any more, the provider makes the first one again.
    world.store.disable_user(&world.admin, user(&anna)).await.unwrap();
    world.store.disable_user(&world.admin, user(&bert)).await.unwrap();
    create(&world, &world.admin, owner("eve")).await.unwrap();
}

async fn what_is_late_is_found_whoever_looked(world: World) {
    let case = lacking(&world, "critical").await;
    let asked = async |world: &World, overdue, unknown, settled| {
        let filter = ClockFilter { overdue, unknown, settled, ..ClockFilter::default() };
        let found = world.store.clocks(&case.owner, &filter, 100).await.unwrap();
        found.iter().map(|clock| clock.standing.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&world, true, true, false).await, [""; 0]);
    world.environment.pass(DAY * 2);
    assert_eq!(asked(&world, false, true, false).await, ["unknown"], "nobody looked");
    assert_eq!(asked(&world, true, false, false).await, [""; 0]);
    assert_eq!(asked(&world, true, true, false).await, ["unknown"]);
    world.environment.pass(DAY);
    assert_eq!(
        asked(&world, true, false, false).await,
        ["overdue"],
        "its date passed all the same"
    );

    // What was missed and is settled since, is asked for as well.
    wake(&world).await;
    done(case.does(&world, &world.admin, Move::Withdraw).await);
    assert_eq!(asked(&world, true, false, false).await, [""; 0]);
    assert_eq!(asked(&world, true, false, true).await, ["settled"]);
}

async fn what_another_tenant_said_is_told_to_nobody(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    // Known as "X-1", which is how A's own people call it.
    let new = NewAdvisory {
        name: "X-1".into(),
        document: "{}".into(),
        note: String::new(),
        published: None,
    };
    let advisory = world.store.submit_advisory(&anna, None, new).await.unwrap();
    // The provider takes it on for everybody: B has a part in A's change.
    let decision = AdvisoryDecision { state: AdvisoryState::Accepted, reason: "It is so".into() };
    world.store.decide_advisory(&world.admin, advisory.id, None, decision).await.unwrap();
    for (by, tenant) in [(&anna, a.id), (&bert, b.id)] {
        let ci = world.store.create_ci(by, None, vm(tenant, "web")).await.unwrap();
        world.observe(&ci, package_set(&[("web", "1")])).await;
        world.checked(&ci, report(now(&world), &[("web", "2", "low")])).await;
        world.open_obligations(10).await;
    }
    let change = world.store.changes(&anna, &ALL).await.unwrap().items[0].change.id;
    let step = store::ChangeStep::Withdraw("Anna's secret".parse().unwrap());
    done(world.store.step_change(&world.admin, change, step).await.unwrap());
    wake(&world).await;

    let seen = async |by: &Actor, tenant: TenantId| {
        let settled = ClockFilter { settled: true, ..ClockFilter::default() };
        let clocks = world.store.clocks(by, &settled, 10).await.unwrap();
        let change = clocks[0].change;
        let one = world.store.change(by, change).await.unwrap();
        let listed = world.store.changes(by, &ALL).await.unwrap().items.remove(0);
        assert_eq!(one, listed);
        let matter = world.store.matter(by, change, tenant).await.unwrap().change;
        let filter = store::HistoryFilter { tenant: Some(tenant), since: None };
        let past = world.store.histories(by, &filter, &ALL).await.unwrap().items.remove(0);
        json!([clocks[0].title, one, matter, past.history.name]).to_string()
    };
    for (by, tenant) in [(&bert, b.id), (&Actor::System, b.id)] {
        let mut told = seen(by, tenant).await;
        if *by == Actor::System {
            // Patchwright itself writes to B with the matter alone.
            let change = world.store.changes(&anna, &ALL).await.unwrap().items[0].change.id;
            let matter = world.store.matter(by, change, tenant).await.unwrap().change;
            told = json!(matter).to_string();
        }
        for secret in ["X-1", "secret", &user(&anna).to_string(), &a.id.to_string()] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
        assert!(told.contains("web 2 for debian:12"), "{told}");
    }
    for by in [&anna, &world.admin] {
        let told = seen(by, a.id).await;
        assert!(told.contains("X-1") && told.contains("secret"), "{told}");
    }
}
