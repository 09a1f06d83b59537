//! Alarms of drift: what the owner of an item is told of files that nobody agreed to, once and together.

use crate::changes_and_their_clocks::ALL;
use crate::support::{World, drift, vm};
use domain::cloud::{CiId, DriftId, NoticeId, PROVIDER, TenantId};
use jiff::SignedDuration;
use store::{
    CLOCKS, DRIFT, DriftAlarms, DriftGrade, Environment as _, NoticeFilter, NoticeRow, Store,
    StoreError, Written,
};

on_both_engines! {
    what_drifts_in_one_night_is_told_once_and_together
    a_side_is_left_alone_for_an_hour_and_no_longer
    what_is_settled_is_not_told
    of_two_processes_one_tells
    what_cannot_be_written_waits
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn written(number: u8, kind: &str) -> Written {
    Written {
        id: NoticeId::of_content([number; 16]),
        kind: kind.to_owned(),
        sequence: 0,
        document: "{}".to_owned(),
        remind_at: None,
    }
}

async fn item(world: &World, slug: &str) -> (TenantId, CiId) {
    let tenant = world.tenant(slug).await.id;
    let ci = world.store.create_ci(&world.admin, None, vm(tenant, "web")).await.unwrap();
    (tenant, ci.id)
}

async fn alarms(world: &World, to: TenantId, at_most: u16) -> Option<DriftAlarms> {
    world.store.drift_alarms(to, at_most).await.unwrap()
}

async fn notices(world: &World) -> Vec<NoticeRow> {
    world.store.notices(&world.admin, &NoticeFilter::default(), &ALL).await.unwrap().items
}

async fn told(world: &World, to: TenantId, number: u8) -> bool {
    let found = alarms(world, to, 100).await.unwrap();
    world.store.tell_drift_alarms(found, Some(written(number, DRIFT))).await.unwrap()
}

async fn what_drifts_in_one_night_is_told_once_and_together(world: World) {
    let (tenant, ci) = item(&world, "a").await;
    let other = world.store.create_ci(&world.admin, None, vm(tenant, "db")).await.unwrap().id;
    let first = drift::open(&world, tenant, ci, 1).await;
    world.environment.pass(MINUTE * 4);
    let second = drift::open(&world, tenant, ci, 2).await;
    let third = drift::open(&world, tenant, other, 3).await;
    drift::escalate(&world, tenant, other, 3).await;
    drift::escalate(&world, tenant, other, 3).await;
    drift::open(&world, PROVIDER, ci, 4).await;
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), [], "they wait for others");
    world.environment.pass(MINUTE * 2);

    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), [tenant]);
    let found = alarms(&world, tenant, 100).await.unwrap();
    assert_eq!((found.to, found.drifts, found.items), (tenant, [2, 1], 2), "{found:?}");
    let read: Vec<_> = found.first.iter().map(|it| (it.drift, it.ci, it.grade)).collect();
    let (opened, escalated) = (DriftGrade::Opened, DriftGrade::Escalated);
    assert_eq!(read, [(third, other, escalated), (first, ci, opened), (second, ci, opened)]);
    let few = alarms(&world, tenant, 1).await.unwrap();
    assert_eq!((few.first.len(), few.drifts), (1, [2, 1]), "named one, counted all");
    assert!(world.store.tell_drift_alarms(few, Some(written(1, DRIFT))).await.unwrap());

    assert!(!world.store.tell_drift_alarms(found, Some(written(2, DRIFT))).await.unwrap(), "once");
    let [row] = &notices(&world).await[..] else { panic!() };
    assert_eq!((row.tenant, &*row.kind, row.change, row.plan), (tenant, DRIFT, None, None));
    assert!(row.given_at.is_some(), "without a channel, in the console");
    assert_eq!(alarms(&world, tenant, 100).await, None);
    assert_eq!(alarms(&world, PROVIDER, 100).await.unwrap().drifts, [1, 0], "that is another side");
}

async fn a_side_is_left_alone_for_an_hour_and_no_longer(world: World) {
    let (tenant, ci) = item(&world, "a").await;
    drift::open(&world, tenant, ci, 1).await;
    world.environment.pass(MINUTE * 6);
    assert!(told(&world, tenant, 1).await);
    drift::open(&world, tenant, ci, 2).await;
    world.environment.pass(MINUTE * 50);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), []);
    world.environment.pass(MINUTE * 11);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), [tenant], "an hour is over");
    assert!(told(&world, tenant, 2).await);

    // A notice of clocks is no reason to wait: it says something else.
    world.environment.pass(MINUTE * 61);
    let pool = world.raw().await;
    drift::open(&world, tenant, ci, 3).await;
    let insert =
        "INSERT INTO notices (id, tenant_id, change_id, plan_hash, kind, sequence, document,
                                       created_at) VALUES ($1, $2, '', '', $3, 0, '{}', $4)";
    sqlx::query(insert)
        .bind(NoticeId::of_content([9; 16]).to_string())
        .bind(tenant.to_string())
        .bind(CLOCKS)
        .bind(world.environment.now().as_microsecond())
        .execute(&pool)
        .await
        .unwrap();
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), [tenant]);
}

async fn what_is_settled_is_not_told(world: World) {
    let (tenant, ci) = item(&world, "a").await;
    drift::open(&world, tenant, ci, 1).await;
    drift::open(&world, tenant, ci, 2).await;
    drift::escalate(&world, tenant, ci, 1).await;
    let before = alarms(&world, tenant, 100).await.unwrap();
    drift::settle(&world, 1).await;

    let refused = world.store.tell_drift_alarms(before, Some(written(1, DRIFT))).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "what was read is not so any more");
    assert_eq!(notices(&world).await, []);
    let found = alarms(&world, tenant, 100).await.unwrap();
    assert_eq!((found.drifts, found.items, found.first.len()), ([1, 0], 1, 1));

    drift::settle(&world, 2).await;
    assert_eq!(alarms(&world, tenant, 100).await, None);
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), []);

    // One that came in beside is not lost.
    drift::open(&world, tenant, ci, 3).await;
    let before = alarms(&world, tenant, 100).await.unwrap();
    drift::open(&world, tenant, ci, 4).await;
    assert!(world.store.tell_drift_alarms(before, Some(written(2, DRIFT))).await.unwrap());
    let left = alarms(&world, tenant, 100).await.unwrap();
    assert_eq!(left.first[0].drift, DriftId::of_content([4; 16]));

    // What nobody need be told is dropped without a notice.
    assert!(world.store.tell_drift_alarms(left, None).await.unwrap());
    assert_eq!(alarms(&world, tenant, 100).await, None);
    assert_eq!(notices(&world).await.len(), 1);
}

async fn of_two_processes_one_tells(world: World) {
    let other = Store::open(&world.database, world.environment.clone()).await.unwrap();
    let (tenant, ci) = item(&world, "a").await;
    for round in 0..8_u8 {
        for number in 0..5 {
            drift::open(&world, tenant, ci, 1 + round * 5 + number).await;
        }
        let ours = alarms(&world, tenant, 100).await.unwrap();
        let theirs = other.drift_alarms(tenant, 100).await.unwrap().unwrap();
        assert_eq!(ours, theirs);

        let number = 100 + round * 2;
        let (ours, theirs) = tokio::join!(
            world.store.tell_drift_alarms(ours, Some(written(number, DRIFT))),
            other.tell_drift_alarms(theirs, Some(written(number + 1, DRIFT))),
        );

        assert_ne!(ours.unwrap(), theirs.unwrap(), "one of both");
        assert_eq!(notices(&world).await.len(), usize::from(round) + 1);
        assert_eq!(alarms(&world, tenant, 100).await, None);
    }
}

async fn what_cannot_be_written_waits(world: World) {
    let (tenant, ci) = item(&world, "a").await;
    drift::open(&world, tenant, ci, 1).await;
    let until = world.environment.now() + MINUTE * 30;
    world.store.postpone_drift_alarms(tenant, until).await.unwrap();
    world.environment.pass(MINUTE * 20);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), []);
    world.environment.pass(MINUTE * 11);
    assert_eq!(world.store.drift_alarmed(10).await.unwrap(), [tenant]);
}
