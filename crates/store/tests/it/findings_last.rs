//! Package sets, checks and findings on both engines.

use crate::support::{World, package_set, vm};
use domain::check::Report;
use domain::cloud::{EventKind, PROVIDER};
use domain::fleet::FindingState;
use domain::priority::Priority;
use jiff::SignedDuration;
use serde_json::json;
use store::{
    Actor, AdvisoryDecision, AdvisoryState, FindingFilter, NewAcceptance, NewAdvisory, PageRequest,
    StoreError,
};

on_both_engines! {
    a_set_is_sent_once_and_each_tenant_has_its_own
    checks_are_due_when_something_is_new
    a_check_is_carried_over_to_every_system_that_has_the_set
    an_accepted_risk_ends_with_its_time
    an_accepted_risk_ends_when_it_grows
    advisories_are_seen_by_those_whom_they_concern
    times_of_silence_never_go_back
}

const ALL: PageRequest = PageRequest { after: None, limit: 1000 };

fn report(at: jiff::Timestamp, missing: &[(&str, &str, &str)]) -> Report {
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
                "cves": ["CVE-2026-1"], "advisories": [], "security": true, "held": false,
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

fn now(world: &World) -> jiff::Timestamp {
    store::Environment::now(&*world.environment)
}

async fn findings(world: &World, by: &Actor) -> Vec<store::Finding> {
    world.store.findings(by, &FindingFilter::default(), &ALL).await.unwrap().items
}

async fn a_set_is_sent_once_and_each_tenant_has_its_own(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let web = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    let set = package_set(&[("web", "1")]);
    let at = now(&world);

    assert!(!world.store.observe(&anna, web.id, set.digest(), at).await.unwrap());
    assert_eq!(world.store.observations(&anna, web.id, 9).await.unwrap(), []);
    world.store.add_package_set(&anna, a.id, set.clone()).await.unwrap();
    assert!(world.store.observe(&anna, web.id, set.digest(), at).await.unwrap());
    assert!(world.store.observe(&anna, web.id, set.digest(), at).await.unwrap());
    assert_eq!(world.store.observations(&anna, web.id, 9).await.unwrap().len(), 1);

    // That A has it tells B nothing.
    let db = world.store.create_ci(&bert, None, vm(b.id, "db")).await.unwrap();
    assert!(!world.store.observe(&bert, db.id, set.digest(), at).await.unwrap());
    assert_eq!(world.store.package_set(&bert, a.id, set.digest()).await.unwrap(), None);
    assert_eq!(
        world.store.package_set(&anna, a.id, set.digest()).await.unwrap(),
        Some(set.clone())
    );
    assert!(world.store.observe(&bert, web.id, set.digest(), at).await.is_err());
    assert!(world.store.add_package_set(&bert, a.id, set).await.is_err());
}

async fn checks_are_due_when_something_is_new(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let due = async |world: &World, before| {
        let unknown_before = before - SignedDuration::from_secs(1);
        world.store.sets_to_check(before, unknown_before, 10).await.unwrap().len()
    };
    let set = package_set(&[("web", "1")]);
    world.store.add_package_set(&anna, a.id, set.clone()).await.unwrap();
    assert_eq!(due(&world, now(&world)).await, 0, "nothing has it");

    let ci = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, set).await;
    let before = now(&world);
    assert_eq!(due(&world, before).await, 1, "never checked");

    world.checked(&ci, report(now(&world), &[])).await;
    assert_eq!(due(&world, before).await, 0, "just checked");
    assert_eq!(due(&world, now(&world)).await, 1, "its time is over");

    let new = NewAdvisory {
        name: "X".into(),
        document: "{}".into(),
        note: String::new(),
        published: None,
    };
    world.store.submit_advisory(&anna, None, new).await.unwrap();
    assert_eq!(due(&world, before).await, 1, "something may concern it");

    let mut unsure = report(now(&world), &[]);
    unsure.unknown = serde_json::from_value(json!([
        { "about": "source", "subject": "security", "reason": "cannot be reached" }
    ]))
    .unwrap();
    world.checked(&ci, unsure).await;
    assert_eq!(due(&world, before).await, 0);
    let (before, later) = (before, now(&world));
    let again = world.store.sets_to_check(before, later, 10).await.unwrap();
    assert_eq!(again.len(), 1, "what is unknown is asked again sooner");
}

async fn a_check_is_carried_over_to_every_system_that_has_the_set(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let set = package_set(&[("db", "1"), ("web", "1")]);
    let fresh_since = now(&world);
    let mut cis = Vec::new();
    for (tenant, name) in [(&a, "one"), (&a, "two"), (&b, "three")] {
        let ci = world.store.create_ci(&world.admin, None, vm(tenant.id, name)).await.unwrap();
        world.observe(&ci, set.clone()).await;
        cis.push(ci);
    }
    let missing = [("db", "2", "low"), ("web", "2", "high")];
    world.checked(&cis[0], report(now(&world), &missing)).await;

    let of_anna = findings(&world, &anna).await;
    assert_eq!(of_anna.len(), 4);
    assert_eq!(findings(&world, &bert).await, []);
    let totals = world.store.check_totals(&anna, fresh_since).await.unwrap();
    assert_eq!((totals.outdated, totals.unchecked, totals.findings), (2, 0, [0, 2, 0, 2]));
    let all = world.store.check_totals(&world.admin, fresh_since).await.unwrap();
    assert_eq!((all.outdated, all.unchecked), (2, 1));
    let patches = world.store.patches(&anna, &ALL).await.unwrap().items;
    assert_eq!(patches.len(), 2);
    assert!(patches.iter().all(|patch| patch.items == 2 && patch.tenants == 1), "{patches:?}");

    // The same again: no system is looked at, no item has a new record.
    world.store.record_set_check(a.id, set.digest(), report(now(&world), &missing)).await.unwrap();
    assert_eq!(world.store.apply_checks(10).await.unwrap(), 0);
    // A later candidate.
    let missing = [("db", "2", "low"), ("web", "3", "high")];
    world.checked(&cis[0], report(now(&world), &missing)).await;
    let filter = FindingFilter {
        ci: Some(cis[1].id),
        state: Some(FindingState::Open),
        priority: Some(Priority::High),
        ..FindingFilter::default()
    };
    let web = world.store.findings(&anna, &filter, &ALL).await.unwrap().items;
    assert_eq!((web.len(), web[0].patch.candidate.as_str(), web[0].version), (1, "3", 2));

    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let counts = world.store.event_counts().await.unwrap();
    let of = |kind| counts.iter().filter(|it| it.1 == kind).map(|it| it.2).sum::<u64>();
    assert_eq!(of(EventKind::CiObserved), 3);
    assert_eq!(of(EventKind::PackageSetChecked), 3);
    assert_eq!(of(EventKind::CiChecked), 4);
}

async fn an_accepted_risk_ends_with_its_time(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let ci = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "high")])).await;
    let finding = findings(&world, &anna).await.remove(0);
    let acceptance = |hours| NewAcceptance {
        reason: "behind a proxy".into(),
        risk_owner: "CISO".into(),
        until: now(&world) + SignedDuration::from_hours(hours),
    };
    let others = world.store.accept_finding(&world.admin, None, finding.id, acceptance(1)).await;
    assert!(matches!(others, Err(StoreError::Refused { .. })), "{others:?}");

    world.store.accept_finding(&anna, None, finding.id, acceptance(1)).await.unwrap();
    let totals = world.store.check_totals(&anna, now(&world)).await.unwrap();
    assert_eq!(totals.accepted, [0, 1, 0, 0]);
    assert_eq!(world.store.expire_acceptances(10).await.unwrap(), 0);

    world.environment.pass(SignedDuration::from_hours(1));
    let totals = world.store.check_totals(&anna, now(&world)).await.unwrap();
    assert_eq!(totals.accepted, [0; 4], "it counts no more, even before anybody tidied up");
    assert_eq!(world.store.expire_acceptances(10).await.unwrap(), 1);
    assert_eq!(world.store.expire_acceptances(10).await.unwrap(), 0);
    let finding = world.store.finding(&anna, finding.id).await.unwrap();
    assert_eq!((finding.acceptance, finding.state), (None, FindingState::Open));
}

async fn an_accepted_risk_ends_when_it_grows(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let ci = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "low")])).await;
    let id = findings(&world, &anna).await[0].id;
    let acceptance = NewAcceptance {
        reason: "low".into(),
        risk_owner: "CISO".into(),
        until: now(&world) + SignedDuration::from_hours(9),
    };
    let accept = || world.store.accept_finding(&anna, None, id, acceptance.clone());
    let accepted = async || world.store.finding(&anna, id).await.unwrap().acceptance.is_some();

    accept().await.unwrap();
    world.checked(&ci, report(now(&world), &[("web", "2", "low")])).await;
    assert!(accepted().await);
    world.checked(&ci, report(now(&world), &[("web", "2", "critical")])).await;
    assert!(!accepted().await, "it is more urgent than when somebody took it");
    accept().await.unwrap();
    world.checked(&ci, report(now(&world), &[("web", "3", "critical")])).await;
    assert!(!accepted().await, "and nobody has taken what this one fixes");
}

async fn advisories_are_seen_by_those_whom_they_concern(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let new = |name: &str| NewAdvisory {
        name: name.into(),
        document: "{}".into(),
        note: "secret".into(),
        published: None,
    };
    let brought = world.store.submit_advisory(&anna, None, new("X")).await.unwrap();
    let own = world.store.submit_advisory(&world.admin, None, new("Y")).await.unwrap();
    assert_eq!(own.state, AdvisoryState::Accepted, "the provider needs no second word");
    assert!(world.store.advisory(&bert, brought.id).await.is_err());
    let seen = world.store.advisories(&bert, &ALL).await.unwrap().items;
    assert_eq!(seen.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["Y"]);

    let decide = |state| AdvisoryDecision { state, reason: "so".into() };
    let stale = world
        .store
        .decide_advisory(&world.admin, brought.id, Some(7), decide(AdvisoryState::Accepted))
        .await;
    assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
    for by in [&anna, &bert] {
        let refused = world
            .store
            .decide_advisory(by, brought.id, None, decide(AdvisoryState::Accepted))
            .await;
        assert!(refused.is_err());
    }
    world
        .store
        .decide_advisory(&world.admin, brought.id, Some(1), decide(AdvisoryState::Accepted))
        .await
        .unwrap();
    let seen = world.store.advisory(&bert, brought.id).await.unwrap();
    assert_eq!((seen.tenant, seen.note.as_str(), seen.submitted_by.as_str()), (PROVIDER, "", ""));
    let mut request = PageRequest { after: None, limit: 1 };
    let mut names = Vec::new();
    loop {
        let page = world.store.advisories(&bert, &request).await.unwrap();
        names.extend(page.items.into_iter().map(|it| it.name));
        let Some(next) = page.next else { break };
        assert!(!next.to_string().contains(&a.id.to_string()), "a place tells who brought it");
        request.after = Some(next);
    }
    assert_eq!(names, ["X", "Y"]);
}

async fn times_of_silence_never_go_back(world: World) {
    let a = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[])).await;
    let seen = async |world: &World| {
        world.store.check(&world.admin, ci.id).await.unwrap().unwrap().counts.seen_at
    };
    let first = seen(&world).await;

    world.store.note_seen(vec![(ci.id, first - SignedDuration::from_hours(1))]).await.unwrap();
    assert_eq!(seen(&world).await, first);
    let later = first + SignedDuration::from_hours(1);
    world.store.note_seen(vec![(ci.id, later)]).await.unwrap();
    assert_eq!(seen(&world).await, later);
}
