//! Devices on both engines: when each is due, what is told of looks at it, and that what opens it stays where it is.

use crate::changes_and_their_clocks::events;
use crate::support::{World, vm};
use domain::cloud::{CiId, EventKind};
use domain::device::{DeviceState, HostKeyFingerprint};
use jiff::SignedDuration;
use store::{Actor, DeviceSettings, HostKeyWish, Looked, NewDevice, Retrieval, StoreError};

on_both_engines! {
    a_device_is_due_again_and_again
    who_does_not_answer_is_told_of_once
    another_host_key_stops_everything_until_somebody_says_what_is_so
    what_opens_a_device_is_given_again_for_another_one
    only_the_provider_sets_devices_and_the_tenant_sees_its_own
    with_its_item_it_is_forgotten
}

const SEALED: &[u8] = b"sealed-canary";

const EVERY: SignedDuration = SignedDuration::from_mins(15);

fn key(digit: char) -> HostKeyFingerprint {
    format!("SHA256:{}8", digit.to_string().repeat(42)).parse().unwrap()
}

fn new(host_key: HostKeyWish) -> NewDevice {
    NewDevice {
        settings: DeviceSettings {
            model: "ios".to_owned(),
            address: "192.0.2.7".to_owned(),
            port: 22,
            user: "observer".to_owned(),
            method: "password".to_owned(),
            every: EVERY,
        },
        credential: Some(SEALED.to_vec()),
        host_key,
    }
}

/// An item of a tenant, and the tenant's owner.
async fn item(world: &World) -> (CiId, Actor) {
    let tenant = world.tenant("acme").await;
    let ci = world.store.create_ci(&world.admin, None, vm(tenant.id, "edge-1")).await.unwrap();
    (ci.id, world.owner(&tenant).await)
}

async fn is_due(world: &World) -> bool {
    let due = world.store.due_devices(10).await.unwrap();
    assert!(due.iter().all(|(_, sealed)| sealed == SEALED));
    !due.is_empty()
}

async fn came(world: &World, ci: CiId, looked: Looked) {
    let device = world.store.device(&world.admin, ci).await.unwrap();
    world.store.device_looked(ci, device.version, looked).await.unwrap();
}

fn seen(digit: char) -> Looked {
    Looked::Seen { host_key: key(digit), untold: None }
}

fn failed(reason: &str) -> Looked {
    Looked::Failed { reason: reason.to_owned(), offered: None }
}

async fn a_device_is_due_again_and_again(world: World) {
    let world = &world;
    let (ci, _) = item(world).await;
    let set = world.store.set_device(&world.admin, ci, new(HostKeyWish::First)).await.unwrap();
    assert_eq!((set.state, set.host_key, set.version), (DeviceState::New, None, 1));
    assert!(is_due(world).await);

    came(world, ci, seen('a')).await;
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!((known.state, known.host_key), (DeviceState::Seen, Some(key('a'))));
    assert_eq!(events(world, EventKind::DevicePinned).await, 1);
    assert!(!is_due(world).await);
    world.environment.pass(EVERY);
    assert!(is_due(world).await);

    came(world, ci, Looked::Seen { host_key: key('a'), untold: Some("/version".to_owned()) }).await;
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!(known.reason.as_deref(), Some("/version"));
    assert_eq!(events(world, EventKind::DevicePinned).await, 1, "that was the first one");
    assert!(!is_due(world).await);
    world.store.wake_device(&world.admin, ci).await.unwrap();
    assert!(is_due(world).await, "somebody wants it seen now");

    // What came of a look at what it was before says nothing of what it is.
    let altered = new(HostKeyWish::Keep);
    world.store.set_device(&world.admin, ci, altered).await.unwrap();
    world.store.device_looked(ci, 1, failed("late")).await.unwrap();
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!((known.state, known.version), (DeviceState::Seen, 2));
    assert!(is_due(world).await);
    assert_eq!(events(world, EventKind::DeviceAdded).await, 1);
    assert_eq!(events(world, EventKind::DeviceAltered).await, 1);
}

async fn who_does_not_answer_is_told_of_once(world: World) {
    let world = &world;
    let (ci, _) = item(world).await;
    world.store.set_device(&world.admin, ci, new(HostKeyWish::Pinned(key('a')))).await.unwrap();
    came(world, ci, seen('a')).await;
    assert_eq!(events(world, EventKind::DeviceRecovered).await, 0, "it was never away");

    for waits in [EVERY, EVERY, EVERY * 2, EVERY * 4] {
        world.environment.pass(waits);
        assert!(is_due(world).await, "after {waits:#}");
        came(world, ci, failed(&"cannot connect ".repeat(1000))).await;
        assert!(!is_due(world).await);
    }
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!((known.state, known.failures), (DeviceState::Unreachable, 4));
    assert_eq!(known.reason.unwrap().len(), 2000);
    assert_eq!(events(world, EventKind::DeviceUnreachable).await, 1);

    came(world, ci, seen('a')).await;
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!((known.state, known.failures, known.reason), (DeviceState::Seen, 0, None));
    assert_eq!(events(world, EventKind::DeviceRecovered).await, 1);
    came(world, ci, failed("again")).await;
    assert_eq!(events(world, EventKind::DeviceUnreachable).await, 2);
}

async fn another_host_key_stops_everything_until_somebody_says_what_is_so(world: World) {
    let world = &world;
    let (ci, _) = item(world).await;
    world.store.set_device(&world.admin, ci, new(HostKeyWish::Pinned(key('a')))).await.unwrap();

    came(world, ci, Looked::Failed { reason: "x".to_owned(), offered: Some(key('b')) }).await;

    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!(known.state, DeviceState::KeyDiffers);
    assert_eq!((known.host_key, known.offered_key), (Some(key('a')), Some(key('b'))));
    assert_eq!(events(world, EventKind::DeviceKeyDiffers).await, 1);
    world.environment.pass(SignedDuration::from_hours(1000));
    assert!(!is_due(world).await);
    let refused = world.store.wake_device(&world.admin, ci).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");

    world.store.set_device(&world.admin, ci, new(HostKeyWish::Pinned(key('b')))).await.unwrap();
    assert!(is_due(world).await);
    came(world, ci, seen('b')).await;
    let known = world.store.device(&world.admin, ci).await.unwrap();
    assert_eq!((known.state, known.offered_key), (DeviceState::Seen, None));
    assert_eq!(events(world, EventKind::DeviceRecovered).await, 1);
}

async fn what_opens_a_device_is_given_again_for_another_one(world: World) {
    let world = &world;
    let (ci, _) = item(world).await;
    let set = async |new| world.store.set_device(&world.admin, ci, new).await;
    let pinned = || HostKeyWish::Pinned(key('a'));
    let kept = |alter: fn(&mut DeviceSettings), host_key| {
        let mut wanted = NewDevice { credential: None, ..new(host_key) };
        alter(&mut wanted.settings);
        wanted
    };
    let is_refused = |outcome| matches!(outcome, Err(StoreError::Refused { .. }));
    assert!(is_refused(set(kept(|_| {}, pinned())).await), "there is none yet");
    assert!(is_refused(set(new(HostKeyWish::Keep)).await), "no key is known yet");
    set(new(pinned())).await.unwrap();

    set(kept(|it| it.every = EVERY * 2, HostKeyWish::Keep)).await.unwrap();
    set(kept(|it| "nxos".clone_into(&mut it.model), pinned())).await.unwrap();
    for alter in [
        (|it: &mut DeviceSettings| "192.0.2.8".clone_into(&mut it.address))
            as fn(&mut DeviceSettings),
        |it| it.port = 23,
        |it| "root".clone_into(&mut it.user),
    ] {
        assert!(is_refused(set(kept(alter, HostKeyWish::Keep)).await));
    }
    for other in [HostKeyWish::First, HostKeyWish::Pinned(key('b'))] {
        assert!(is_refused(set(kept(|_| {}, other)).await));
    }
    assert!(is_due(world).await, "with what opened it");
    for alter in [
        (|it: &mut DeviceSettings| it.address = String::new()) as fn(&mut DeviceSettings),
        |it| "a b".clone_into(&mut it.address),
        |it| "a\nb".clone_into(&mut it.user),
        |it| it.model = "x".repeat(256),
        |it| it.port = 0,
        |it| it.every = SignedDuration::from_secs(59),
        |it| it.every = SignedDuration::from_hours(169),
    ] {
        let mut wanted = new(pinned());
        alter(&mut wanted.settings);
        assert!(is_refused(set(wanted).await));
    }
}

async fn only_the_provider_sets_devices_and_the_tenant_sees_its_own(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    let other = world.owner(&world.tenant("other").await).await;
    let wanted = || new(HostKeyWish::First);
    let is_missing = |error| matches!(error, StoreError::NotFound { .. });
    assert!(is_missing(world.store.set_device(&owner, ci, wanted()).await.unwrap_err()));
    world.store.set_device(&world.admin, ci, wanted()).await.unwrap();

    assert_eq!(world.store.device(&owner, ci).await.unwrap().settings.address, "192.0.2.7");
    assert!(is_missing(world.store.device(&other, ci).await.unwrap_err()));
    for by in [&owner, &other] {
        assert!(is_missing(world.store.wake_device(by, ci).await.unwrap_err()));
        assert!(is_missing(world.store.remove_device(by, ci).await.unwrap_err()));
    }
    assert!(is_due(world).await);

    // What opens it is in no record.
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let told = world.store.events(&owner, Retrieval::Events, 0, 1000).await.unwrap();
    assert!(told.iter().any(|event| event.kind == EventKind::DeviceAdded));
    assert!(!format!("{told:?}").contains("canary"));
}

async fn with_its_item_it_is_forgotten(world: World) {
    let world = &world;
    let (ci, _) = item(world).await;
    world.store.set_device(&world.admin, ci, new(HostKeyWish::First)).await.unwrap();
    world.store.remove_device(&world.admin, ci).await.unwrap();
    assert!(world.store.device(&world.admin, ci).await.is_err());
    assert!(world.store.remove_device(&world.admin, ci).await.is_err());

    world.store.set_device(&world.admin, ci, new(HostKeyWish::First)).await.unwrap();
    world.store.retire_ci(&world.admin, ci, None).await.unwrap();
    assert!(!is_due(world).await);
    assert_eq!(events(world, EventKind::DeviceRemoved).await, 2);
    let refused = world.store.set_device(&world.admin, ci, new(HostKeyWish::First)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}
