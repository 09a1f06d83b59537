//! What a release wrote becomes a baseline, on both engines: after it went through and was borne out, and for whom it
//! was.

use domain::cloud::{EventKind, PROVIDER};
use domain::configuration::baseline::{BaselineRef, ReleasedSource, Wanted};
use domain::order::Ended;
use domain::priority::Priority;
use serde_json::{Value, json};
use store::{
    Actor, BaselineContent, BaselineKind, Erasure, History, NewBaseline, NewBinding, NewWaiver,
    StoreError, Target,
};

use crate::alterations_go_out::{Altered, MOTD, NEW, OLD, hash, reports, tells};
use crate::changes_and_their_clocks::{DAY, now, wake};
use crate::releases_on_their_way::Host;
use crate::support::World;

on_both_engines! {
    what_a_release_wrote_becomes_a_baseline_of_its_tenant
    what_is_not_borne_out_becomes_none
    what_is_not_kept_any_more_becomes_none
}

/// A release that wrote a file, was seen to have done so, and went through.
async fn released(world: &World) -> (History, Host) {
    let (history, host) = Altered::begun(world).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    tells(world, &history, &host, Some(NEW)).await;
    world.environment.pass(DAY);
    host.go_on(world).await;
    wake(world).await;
    (history, host)
}

async fn taken(history: &History, by: &Actor, host: &Host) -> Result<ReleasedSource, StoreError> {
    let of = (host.release, host.case.tenant.id);
    history.released_files(by, of, &Wanted::default(), Priority::High).await
}

fn baseline(host: &Host, source: ReleasedSource) -> NewBaseline {
    NewBaseline {
        tenant: host.case.tenant.id,
        name: "banner".to_owned(),
        title: "The banner".to_owned(),
        version: None,
        content: BaselineContent::Release(source),
    }
}

fn why(outcome: Result<impl std::fmt::Debug, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn what_a_release_wrote_becomes_a_baseline_of_its_tenant(world: World) {
    let world = &world;
    let (history, host) = released(world).await;
    let (owner, tenant, ci) = (&host.case.owner, host.case.tenant.id, host.case.ci.id);
    let offered = history.released_alterations(owner, None).await.unwrap();
    assert_eq!((offered.len(), offered[0].release, offered[0].tenant), (1, host.release, tenant));

    let source = taken(&history, owner, &host).await.unwrap();

    let file = source.files[MOTD];
    assert_eq!((source.files.len(), file.sha256, file.ci), (1, hash(NEW), ci));
    assert_eq!((source.release, source.change), (host.release, host.case.change.change.id));
    assert_eq!(source.plan, offered[0].plan);
    let kept =
        world.store.put_baseline(owner, None, baseline(&host, source.clone())).await.unwrap();
    assert_eq!((kept.kind, kept.version.as_str()), (BaselineKind::Release, "1"));
    let version = world.store.baseline_version(owner, kept.id, None).await.unwrap();
    assert_eq!(version.content, BaselineContent::Release(source.clone()));
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let events = world.store.sequenced_events(0, 1000).await.unwrap();
    let put = events.iter().find(|it| it.kind == EventKind::BaselinePut).unwrap();
    let payload: Value = serde_json::from_slice(&put.payload).unwrap();
    let from = json!({ "release": source.release, "change": source.change, "plan": source.plan });
    assert_eq!(payload["from"], from, "where it comes from is recorded");

    // Of what was written there is a rule for each file, and no other.
    let waiver = |rule: &str| NewWaiver {
        baseline: BaselineRef::Own(kept.id),
        rule: rule.to_owned(),
        target: Target::Ci(ci),
        owner: "Anna".to_owned(),
        reason: "the move".to_owned(),
        until: now(world) + DAY,
    };
    world.store.waive_rule(owner, None, waiver(MOTD)).await.unwrap();
    let other = why(world.store.waive_rule(owner, None, waiver("/etc/issue")).await);
    assert!(other.contains("has no rule"), "{other}");

    // Nobody else finds it, and nobody's items but its tenant's are held to it.
    let b = world.tenant("b").await;
    let stranger = world.owner(&b).await;
    for of in [(host.release, tenant), (host.release, b.id)] {
        let found = history.released_files(&stranger, of, &Wanted::default(), Priority::High).await;
        assert!(matches!(found, Err(StoreError::NotFound { .. })), "{found:?}");
    }
    assert!(history.released_alterations(&stranger, None).await.unwrap().is_empty());
    let (of, all) = ((host.release, PROVIDER), Wanted::default());
    let nothing = history.released_files(&world.admin, of, &all, Priority::Low).await;
    assert!(matches!(nothing, Err(StoreError::NotFound { .. })), "{nothing:?}");
    let theirs = NewBaseline { tenant: b.id, ..baseline(&host, source) };
    let theirs = why(world.store.put_baseline(&world.admin, None, theirs).await);
    assert!(theirs.contains("is not an item of"), "{theirs}");
    let everywhere = NewBinding {
        tenant: b.id,
        baseline: BaselineRef::Own(kept.id),
        target: Target::Class(host.case.ci.class),
        holds: true,
    };
    let bound = why(world.store.bind_baseline(&world.admin, None, everywhere).await);
    assert!(bound.contains("another tenant's files"), "{bound}");
}

async fn what_is_not_borne_out_becomes_none(world: World) {
    let world = &world;
    let (history, host) = Altered::begun(world).await;
    let owner = &host.case.owner;
    let fetched = host.fetch(world).await;
    let under_way = why(taken(&history, owner, &host).await);
    assert_eq!(under_way, "the release has not ended");
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    tells(world, &history, &host, Some(NEW)).await;
    world.environment.pass(DAY);
    host.go_on(world).await;
    assert!(taken(&history, owner, &host).await.is_ok());

    // A week later somebody has put back what was there before.
    wake(world).await;
    tells(world, &history, &host, None).await;
    reports(world, &host).await;
    world.environment.pass(DAY * 6);
    tells(world, &history, &host, Some(OLD)).await;
    reports(world, &host).await;

    let gone = why(taken(&history, owner, &host).await);
    let name = &host.case.ci.name;
    assert_eq!(gone, format!("what it wrote is not borne out on {name}"));
}

async fn what_is_not_kept_any_more_becomes_none(world: World) {
    let world = &world;
    let (history, host) = released(world).await;
    let tenant = host.case.tenant.id;
    let sealed = history.seal(tenant, "test").await.unwrap();
    assert!(!sealed.is_empty(), "something is to be erased");
    for partition in sealed {
        let what = Erasure::Partition(partition.number);
        history.erase(&host.case.owner, tenant, what, "asked for", "test").await.unwrap();
    }

    let gone = why(taken(&history, &host.case.owner, &host).await);

    assert_eq!(gone, format!("what it wrote to `{MOTD}` is not kept any more"));
}
