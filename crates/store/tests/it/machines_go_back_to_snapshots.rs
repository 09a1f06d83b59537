//! Snapshots on both engines: kept before an order is given, gone back to where its machine needs it.

use std::sync::Arc;

use crate::changes_and_their_clocks::{Case, DAY, done, events, now};
use crate::releases_on_their_way::{Host, layout_of, target};
use crate::support::{World, vm};
use domain::change::Rollback;
use domain::cloud::EventKind;
use domain::inventory::Runtime;
use domain::order::Ended;
use domain::release::{Command, Content};
use jiff::SignedDuration;
use store::{
    AgentSeen, OrderFilter, Placement, Snapshot, SnapshotAct, SnapshotFilter, SnapshotState,
    StoreError,
};

on_both_engines! {
    an_order_waits_until_what_it_alters_is_kept
    where_nothing_can_be_kept_nothing_is_altered
    a_machine_that_says_nothing_more_goes_back
    a_host_that_went_back_is_no_copy_of_itself
    a_machine_that_cannot_go_back_is_said_to_have_failed
    what_is_verified_is_not_gone_back_to
    only_the_provider_says_where_machines_live
}

fn rack(machine: &str) -> Placement {
    Placement { place: "rack-1".to_owned(), machine: machine.to_owned() }
}

/// A release whose way back is a snapshot, and its item's machine at a place.
async fn begun(world: &World) -> Host {
    let case = Case::proven(world, "high").await;
    world.store.place_ci(&world.admin, case.ci.id, Some(rack("web-1"))).await.unwrap();
    let mut target = target(&case);
    let work = target.work.as_mut().unwrap();
    let actions = work.content.actions.clone();
    work.content = Arc::new(Content { actions, rollback: Rollback::Snapshot });
    let layout = layout_of(&case, vec![target], now(world) + DAY * 10, 1);
    Host::carries_out(world, case, layout).await
}

async fn due(world: &World) -> Option<(Snapshot, SnapshotAct)> {
    let mut due = world.store.due_snapshots(10).await.unwrap();
    assert!(due.len() < 2, "{due:?}");
    due.pop()
}

/// What is due is done, and has to be this.
async fn act(world: &World, what: SnapshotAct, outcome: Result<(), &str>) {
    let (snapshot, act) = due(world).await.unwrap();
    assert_eq!(act, what);
    let outcome = outcome.map_err(str::to_owned);
    world.store.snapshot_came(snapshot.id, act, outcome).await.unwrap();
}

async fn state(world: &World, host: &Host) -> (SnapshotState, Option<String>) {
    let filter = SnapshotFilter { ci: Some(host.case.ci.id), release: Some(host.release) };
    let mut found = world.store.snapshots(&host.case.owner, filter, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    let found = found.remove(0);
    (found.state, found.reason)
}

async fn roll_back(world: &World, host: &Host) {
    let command = Command::RollBack { reason: "it does not come up".parse().unwrap() };
    done(world.store.command_release(&world.admin, host.release, command).await.unwrap());
}

async fn an_order_waits_until_what_it_alters_is_kept(world: World) {
    let world = &world;
    let host = begun(world).await;
    assert_eq!(host.phase(world).await, "ordered");
    assert!(world.store.order_for(&host.actor()).await.unwrap().is_none());
    assert_eq!(due(world).await.unwrap().0.placement, rack("web-1"));

    act(world, SnapshotAct::Take, Ok(())).await;

    assert_eq!(state(world, &host).await, (SnapshotState::Taken, None));
    host.fetch(world).await;
    assert_eq!(events(world, EventKind::SnapshotTaken).await, 1);
    assert!(due(world).await.is_none());
    // Another tenant sees nothing of it.
    let other = world.owner(&world.tenant("another").await).await;
    assert!(world.store.snapshots(&other, SnapshotFilter::default(), 10).await.unwrap().is_empty());
}

async fn where_nothing_can_be_kept_nothing_is_altered(world: World) {
    let world = &world;
    let host = begun(world).await;

    act(world, SnapshotAct::Take, Err("the disk is full")).await;

    let failed = (SnapshotState::Failed, Some("the disk is full".to_owned()));
    assert_eq!(state(world, &host).await, failed);
    assert!(world.store.order_for(&host.actor()).await.unwrap().is_none());
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("called_off"));
    assert!(orders[0].reason.as_deref().unwrap().contains("the disk is full"));
    host.looks(world, "1", Runtime::default()).await;
    assert_eq!(host.phase(world).await, "rolled_back", "it is what it was");
}

async fn a_machine_that_says_nothing_more_goes_back(world: World) {
    let world = &world;
    let host = begun(world).await;
    act(world, SnapshotAct::Take, Ok(())).await;
    host.fetch(world).await;
    world.environment.pass(DAY);
    host.go_on(world).await;
    assert!(due(world).await.is_none(), "nobody asked for it yet");

    roll_back(world, &host).await;
    assert_eq!(state(world, &host).await.0, SnapshotState::Returning);
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("called_off"));
    act(world, SnapshotAct::Return, Ok(())).await;

    assert_eq!(host.phase(world).await, "rolling_back", "until somebody has looked");
    host.looks(world, "1", Runtime::default()).await;
    assert_eq!(host.phase(world).await, "rolled_back");
    assert_eq!(events(world, EventKind::SnapshotReturned).await, 1);
    // It is given up later, and tried again where that fails.
    assert!(due(world).await.is_none());
    world.environment.pass(SignedDuration::from_hours(27));
    act(world, SnapshotAct::Remove, Err("busy")).await;
    assert!(due(world).await.is_none());
    world.environment.pass(SignedDuration::from_mins(11));
    act(world, SnapshotAct::Remove, Ok(())).await;
    assert_eq!(state(world, &host).await, (SnapshotState::Removed, None));
    assert!(due(world).await.is_none());
}

async fn a_host_that_went_back_is_no_copy_of_itself(world: World) {
    let world = &world;
    let host = begun(world).await;
    let agent = host.agent.id;
    let seen = async |counter, returns| {
        let at = now(world);
        let seen = AgentSeen { agent, ci: host.case.ci.id, counter, report: None, at, returns };
        world.store.note_agents(vec![seen]).await.unwrap();
        let known = world.store.agent(&host.case.owner, agent).await.unwrap();
        (known.counter, known.returns)
    };
    act(world, SnapshotAct::Take, Ok(())).await;
    host.fetch(world).await;
    assert_eq!(seen(40, 0).await, (40, 0));
    world.environment.pass(DAY);
    host.go_on(world).await;
    roll_back(world, &host).await;
    act(world, SnapshotAct::Return, Ok(())).await;

    // What another process still remembers from before does not raise the count again.
    assert_eq!(seen(41, 0).await, (0, 1));
    assert_eq!(seen(1, 1).await, (1, 1));
    // What came of it comes once.
    let filter = SnapshotFilter::default();
    let snapshot = world.store.snapshots(&world.admin, filter, 1).await.unwrap().remove(0);
    world.store.snapshot_came(snapshot.id, SnapshotAct::Return, Ok(())).await.unwrap();
    assert_eq!(seen(2, 1).await, (2, 1));
}

async fn a_machine_that_cannot_go_back_is_said_to_have_failed(world: World) {
    let world = &world;
    let host = begun(world).await;
    act(world, SnapshotAct::Take, Ok(())).await;
    let fetched = host.fetch(world).await;
    // The profile sends back what failed.
    host.ends(world, &fetched, Ended::Stuck { because: "dpkg is broken".to_owned() }).await;
    assert_eq!(state(world, &host).await.0, SnapshotState::Returning);

    act(world, SnapshotAct::Return, Err("the place is not reached")).await;

    assert_eq!(host.phase(world).await, "failed");
    let kept = (SnapshotState::Taken, Some("the place is not reached".to_owned()));
    assert_eq!(state(world, &host).await, kept, "it is still there for whoever repairs it");
    assert_eq!(events(world, EventKind::SnapshotFailed).await, 1);
}

async fn what_is_verified_is_not_gone_back_to(world: World) {
    let world = &world;
    let host = begun(world).await;
    act(world, SnapshotAct::Take, Ok(())).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    host.looks(world, "2", Runtime::default()).await;
    assert_eq!(host.phase(world).await, "done");

    roll_back(world, &host).await;

    assert_eq!(host.phase(world).await, "failed", "no way back");
    assert_eq!(state(world, &host).await, (SnapshotState::Taken, None));
    world.environment.pass(SignedDuration::from_hours(27));
    act(world, SnapshotAct::Remove, Ok(())).await;
}

async fn only_the_provider_says_where_machines_live(world: World) {
    let world = &world;
    let case = Case::proven(world, "high").await;
    let place =
        async |by, ci, name: Option<&str>| world.store.place_ci(by, ci, name.map(rack)).await;
    let refused = place(&case.owner, case.ci.id, Some("web-1")).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
    assert!(world.store.placement_of(&case.owner, case.ci.id).await.is_err());

    place(&world.admin, case.ci.id, Some("web-1")).await.unwrap();
    place(&world.admin, case.ci.id, Some("web-1")).await.unwrap();
    let found = world.store.placement_of(&world.admin, case.ci.id).await.unwrap();
    assert_eq!(found, Some(rack("web-1")));
    assert_eq!(events(world, EventKind::CiPlaced).await, 1, "said twice, altered once");
    // A machine is one item's.
    let other = vm(case.tenant.id, "other");
    let other = world.store.create_ci(&world.admin, None, other).await.unwrap();
    let taken = place(&world.admin, other.id, Some("web-1")).await;
    assert!(matches!(taken, Err(StoreError::Refused { .. })), "{taken:?}");
    for odd in ["", "a\nb"] {
        assert!(place(&world.admin, other.id, Some(odd)).await.is_err(), "{odd:?}");
    }
    place(&world.admin, case.ci.id, None).await.unwrap();
    place(&world.admin, other.id, Some("web-1")).await.unwrap();
}
