//! Whoever reads a tenant's records is told of in them, before, and without end only where reading is.

use crate::support::{World, vm};
use domain::cloud::EventKind;
use jiff::SignedDuration;
use serde_json::Value;
use store::{Actor, Event, Retrieval};

on_both_engines! {
    the_providers_reading_of_a_tenant_is_told_to_it
    what_was_told_is_not_told_again_within_the_hour
    what_lies_before_is_told_as_well
    a_tenant_reads_its_own_events_untold_and_takes_its_records_told
    following_the_events_does_not_feed_itself
    the_proof_of_one_tells_the_one_whose_it_is
}

async fn all(world: &World) -> Vec<Event> {
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    world.store.sequenced_events(0, 1000).await.unwrap()
}

/// The records of access, and what they say.
async fn told(world: &World) -> Vec<(Event, Value)> {
    let mut told = all(world).await;
    told.retain(|event| event.kind == EventKind::RecordsRetrieved);
    let payload = |event: &Event| serde_json::from_slice(&event.payload).unwrap();
    told.into_iter().map(|event| (event.clone(), payload(&event))).collect()
}

async fn read(world: &World, by: &Actor, retrieval: Retrieval, from: u64) -> Vec<Event> {
    all(world).await;
    world.store.events(by, retrieval, from, 1000).await.unwrap()
}

async fn the_providers_reading_of_a_tenant_is_told_to_it(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let bert = world.owner(&b).await;
    world.store.create_ci(&bert, None, vm(b.id, "web")).await.unwrap();

    read(&world, &world.admin, Retrieval::Events, 0).await;

    let told = told(&world).await;
    assert_eq!(told.iter().map(|(it, _)| it.tenant).collect::<Vec<_>>(), [a.id, b.id]);
    let (of_b, says) = &told[1];
    assert_eq!((of_b.actor.as_str(), of_b.role.as_str()), (&*world.admin.id(), "admin"));
    assert_eq!(of_b.object, b.id.to_string());
    assert_eq!((&says["what"], &says["count"]), (&"events".into(), &3.into()));
    let places: Vec<u64> = all(&world)
        .await
        .iter()
        .filter(|event| event.tenant == b.id && event.sequence < of_b.sequence)
        .map(|event| event.sequence.unwrap())
        .collect();
    assert_eq!((says["from"].as_u64(), says["to"].as_u64()), (Some(places[0]), Some(places[2])));
    let seen = world.store.events(&bert, Retrieval::Events, 0, 1000).await.unwrap();
    assert_eq!(seen.last().unwrap().kind, EventKind::RecordsRetrieved);
}

async fn what_was_told_is_not_told_again_within_the_hour(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    for number in 0..5 {
        world.store.create_ci(&anna, None, vm(a.id, &format!("vm-{number}"))).await.unwrap();
        read(&world, &world.admin, Retrieval::Events, 0).await;
    }
    assert_eq!(told(&world).await.len(), 1);

    read(&world, &world.admin, Retrieval::Records, 0).await;
    read(&world, &world.admin, Retrieval::Records, 3).await;
    assert_eq!(told(&world).await.len(), 3, "of a's records and of the provider's own");

    world.environment.pass(SignedDuration::from_mins(61));
    read(&world, &world.admin, Retrieval::Events, 0).await;
    assert_eq!(told(&world).await.len(), 4);
}

async fn what_lies_before_is_told_as_well(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let first = all(&world).await.len() as u64;
    for name in ["web", "db"] {
        world.store.create_ci(&anna, None, vm(a.id, name)).await.unwrap();
    }

    read(&world, &anna, Retrieval::Records, first + 1).await;
    read(&world, &anna, Retrieval::Records, first).await;

    let counts: Vec<_> = told(&world).await.iter().map(|(_, it)| it["count"].as_u64()).collect();
    // Of the second one the first is a record as well.
    assert_eq!(counts, [Some(1), Some(3)]);
}

async fn a_tenant_reads_its_own_events_untold_and_takes_its_records_told(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;

    read(&world, &anna, Retrieval::Events, 0).await;
    read(&world, &world.admin, Retrieval::Events, u64::MAX).await;
    assert_eq!(told(&world).await.len(), 0);

    read(&world, &anna, Retrieval::Records, 0).await;
    let told = told(&world).await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0.tenant, &told[0].0.actor), (a.id, &anna.id()));
}

async fn following_the_events_does_not_feed_itself(world: World) {
    world.tenant("a").await;
    let mut from = 0;
    let mut rounds = 0;
    // As a stream does, and an hour passes between any two looks.
    loop {
        let events = read(&world, &world.admin, Retrieval::Events, from).await;
        let Some(last) = events.last() else { break };
        from = last.sequence.unwrap() + 1;
        rounds += 1;
        assert!(rounds < 5, "it goes on for ever");
        world.environment.pass(SignedDuration::from_mins(61));
    }

    assert_eq!(told(&world).await.len(), 1);
}

async fn the_proof_of_one_tells_the_one_whose_it_is(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let anna = world.owner(&a).await;
    let events = all(&world).await;
    let place = |tenant| events.iter().find(|it| it.tenant == tenant).unwrap().sequence.unwrap();

    // Another's is not there, and that it was asked for is no access to one's own.
    assert_eq!(world.store.event(&anna, place(b.id)).await.unwrap(), None);
    assert_eq!(told(&world).await.len(), 0);

    assert!(world.store.event(&anna, place(a.id)).await.unwrap().is_some());
    assert!(world.store.event(&world.admin, place(b.id)).await.unwrap().is_some());
    let told: Vec<_> = told(&world).await.into_iter().map(|(event, _)| event.tenant).collect();
    assert_eq!(told, [a.id, b.id]);
}
