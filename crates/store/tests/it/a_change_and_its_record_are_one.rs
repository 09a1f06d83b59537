//! Every change is recorded in its own commit, once, and gets one place in the ledger.

use std::collections::BTreeMap;

use crate::support::{self, World, vm};
use domain::cloud::{Access, Class, EventKind};
use jiff::SignedDuration;
use store::{CiAlteration, NewToken, Once, PageRequest, Proof, StoreError, Whose};

on_both_engines! {
    each_change_leaves_one_event
    a_refused_change_leaves_none
    a_request_sent_again_has_no_second_effect
    somebody_elses_alteration_is_not_overwritten
    concurrent_changes_are_sequenced_without_gap
    what_opens_a_door_ends_in_time
    a_lease_has_one_holder
    a_database_opens_again_with_all_that_was_acknowledged
}

async fn kinds(world: &World) -> Vec<EventKind> {
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let events = world.store.sequenced_events(0, 1000).await.unwrap();
    events.into_iter().map(|event| event.kind).collect()
}

async fn each_change_leaves_one_event(world: World) {
    let a = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    let renamed = CiAlteration { name: Some("web-2".parse().unwrap()), ..CiAlteration::default() };
    let altered = world.store.alter_ci(&world.admin, ci.id, Some(1), renamed).await.unwrap();
    assert_eq!((altered.name.as_str(), altered.version), ("web-2", 2));
    world.store.retire_ci(&world.admin, ci.id, Some(2)).await.unwrap();
    world.store.retire_ci(&world.admin, ci.id, None).await.unwrap();

    assert_eq!(
        kinds(&world).await,
        [
            EventKind::TenantCreated,
            EventKind::UserCreated,
            EventKind::TenantCreated,
            EventKind::CiCreated,
            EventKind::CiAltered,
            EventKind::CiRetired,
        ]
    );
    let last = world.store.sequenced_events(0, 1000).await.unwrap().pop().unwrap();
    assert_eq!((last.object, last.version), (ci.id.to_string(), 3));
    assert_eq!(last.tenant, a.id);
    assert_eq!(last.actor, world.admin.id());
}

async fn a_refused_change_leaves_none(world: World) {
    let a = world.tenant("a").await;
    world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    let before = kinds(&world).await;

    // The second of the two is refused, so the first must not stay.
    let both = vec![vm(a.id, "db"), vm(a.id, "web")];
    let refused = world.store.create_cis(&world.admin, None, both).await.unwrap_err();

    assert!(matches!(refused, StoreError::Exists { .. }), "{refused}");
    assert_eq!(kinds(&world).await, before);
    assert_eq!(world.store.ci_counts(&world.admin).await.unwrap(), [(Class::Vm, 1)]);
}

async fn a_request_sent_again_has_no_second_effect(world: World) {
    let a = world.tenant("a").await;
    let once = || Some(Once::new("key-1", &[b"POST", b"/cis", b"web"]));

    let first = world.store.create_ci(&world.admin, once(), vm(a.id, "web")).await.unwrap();
    let again = world.store.create_ci(&world.admin, once(), vm(a.id, "web")).await.unwrap();

    assert_eq!(first, again);
    assert_eq!(kinds(&world).await.iter().filter(|&&it| it == EventKind::CiCreated).count(), 1);
    let other = Some(Once::new("key-1", &[b"POST", b"/cis", b"db"]));
    let refused = world.store.create_ci(&world.admin, other, vm(a.id, "db")).await.unwrap_err();
    assert!(matches!(refused, StoreError::KeyReused { .. }), "{refused}");

    world.environment.pass(SignedDuration::from_hours(49));
    assert_eq!(world.store.forget_expired().await.unwrap(), 1);
}

async fn somebody_elses_alteration_is_not_overwritten(world: World) {
    let a = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    let rename =
        |name: &str| CiAlteration { name: Some(name.parse().unwrap()), ..CiAlteration::default() };

    world.store.alter_ci(&world.admin, ci.id, Some(1), rename("one")).await.unwrap();
    let refused =
        world.store.alter_ci(&world.admin, ci.id, Some(1), rename("two")).await.unwrap_err();

    assert!(matches!(refused, StoreError::Stale { expected: 1, found: 2, .. }), "{refused}");
    assert_eq!(world.store.ci(&world.admin, ci.id).await.unwrap().name.as_str(), "one");
}

async fn concurrent_changes_are_sequenced_without_gap(world: World) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    let a = world.tenant("a").await;
    let sequencers = (0..2).map(|_| {
        let store = world.store.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                store.sequence_events(7).await.unwrap();
            }
        })
    });
    let writers = (0..TASKS).map(|task| {
        let (store, admin) = (world.store.clone(), world.admin.clone());
        tokio::spawn(async move {
            for number in 0..EACH {
                let new = vm(a.id, &format!("vm-{task}-{number}"));
                store.create_ci(&admin, None, new).await.unwrap();
            }
        })
    });
    let tasks: Vec<_> = sequencers.chain(writers).collect::<Vec<_>>();
    for task in tasks {
        task.await.unwrap();
    }
    let total = kinds(&world).await.len();

    let mut sequenced = Vec::new();
    while let page @ [_, ..] =
        &*world.store.sequenced_events(sequenced.len() as u64, 30).await.unwrap()
    {
        sequenced.extend(page.iter().map(|event| event.sequence.unwrap()));
    }

    assert_eq!(total, TASKS * EACH + 3);
    assert_eq!(sequenced, (0..total as u64).collect::<Vec<_>>());
    let counts: BTreeMap<_, _> = world
        .store
        .event_counts()
        .await
        .unwrap()
        .into_iter()
        .map(|(tenant, kind, count)| ((tenant, kind), count))
        .collect();
    assert_eq!(counts[&(a.id, EventKind::CiCreated)], (TASKS * EACH) as u64);
}

async fn what_opens_a_door_ends_in_time(world: World) {
    let (root, _) = world.store.user_by_login(&"root".parse().unwrap()).await.unwrap().unwrap();
    let hour = SignedDuration::from_hours(1);
    let (session, secret) =
        world.store.open_session(root.clone(), Proof::Password, hour).await.unwrap();
    let new = NewToken {
        name: "ci".parse().unwrap(),
        access: Access::Read,
        lifetime: hour,
        is_strong: false,
    };
    let (token, of_token) = world.store.create_token(&world.admin, new).await.unwrap();

    let identity = world.store.identify(&secret).await.unwrap().unwrap();
    assert_eq!((identity.actor.clone(), identity.session), (world.admin.clone(), Some(session)));
    let identity = world.store.identify(&of_token).await.unwrap().unwrap();
    assert_eq!((identity.access, identity.session), (Access::Read, None));
    let guessed = store::Secret::presented("pwt_00");
    assert_eq!(world.store.identify(&guessed).await.unwrap(), None);

    world.store.close_session(&world.admin, session).await.unwrap();
    assert_eq!(world.store.identify(&secret).await.unwrap(), None);
    world.store.revoke_token(&world.admin, Whose::Own, token.id).await.unwrap();
    assert_eq!(world.store.identify(&of_token).await.unwrap(), None);

    let (_, secret) = world.store.open_session(root.clone(), Proof::Password, hour).await.unwrap();
    world.environment.pass(hour);
    assert_eq!(world.store.identify(&secret).await.unwrap(), None);

    let (_, secret) = world.store.open_session(root.clone(), Proof::Password, hour).await.unwrap();
    let refused = world.store.disable_user(&world.admin, root.id).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    world.store.disable_user(&store::Actor::System, root.id).await.unwrap();
    assert_eq!(world.store.identify(&secret).await.unwrap(), None);
    assert_eq!(world.store.user_by_login(&root.login).await.unwrap(), None);
    let all = PageRequest { after: None, limit: 9 };
    let tokens = world.store.tokens(&world.admin, Whose::Anybodys, &all).await;
    assert!(!format!("{tokens:?}").contains(of_token.reveal()));
}

async fn a_lease_has_one_holder(world: World) {
    let minute = SignedDuration::from_mins(1);
    let take = |holder: &'static str| world.store.take_lease("sequence", holder, minute);

    assert_eq!(take("one").await.unwrap().unwrap().term, 1);
    assert_eq!(take("two").await.unwrap(), None);
    assert_eq!(take("one").await.unwrap().unwrap().term, 1);
    world.environment.pass(minute);
    assert_eq!(take("two").await.unwrap().unwrap().term, 2);
    assert_eq!(take("one").await.unwrap(), None);
    world.store.give_lease_back("sequence", "one").await.unwrap();
    assert_eq!(take("one").await.unwrap(), None);
    world.store.give_lease_back("sequence", "two").await.unwrap();
    assert_eq!(take("one").await.unwrap().unwrap().term, 3);
}

async fn a_database_opens_again_with_all_that_was_acknowledged(world: World) {
    let a = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    world.store.clone().close().await;

    let again = store::Store::open(&world.database, world.environment.clone()).await.unwrap();

    assert_eq!(again.ci(&world.admin, ci.id).await.unwrap(), ci);
    let first = support::person(domain::cloud::PROVIDER, "x", domain::cloud::Role::Admin);
    assert!(!again.found("Other".parse().unwrap(), first).await.unwrap());
}
