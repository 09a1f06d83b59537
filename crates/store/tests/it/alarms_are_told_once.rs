//! Alarms: each step of a clock is told once, to the side that holds the ball, together with others.

use crate::changes_and_their_clocks::{ALL, Case, DAY, lacking, now, report, wake};
use crate::support::{World, package_set, vm};
use domain::cloud::{EventKind, NoticeId, PROVIDER, TenantId};
use domain::sla::{Rung, Stage};
use jiff::SignedDuration;
use store::{Alarms, CLOCKS, NoticeFilter, StoreError, Written};

on_both_engines! {
    a_step_is_told_once_to_whoever_holds_the_ball
    alarms_wait_for_others_and_then_for_an_hour
    an_alarm_that_came_in_beside_is_not_lost
    what_nobody_need_be_told_is_dropped
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn written(number: u8) -> Written {
    Written {
        id: NoticeId::of_content([number; 16]),
        kind: CLOCKS.to_owned(),
        sequence: 0,
        document: "{}".to_owned(),
        remind_at: None,
    }
}

async fn alarms(world: &World, to: TenantId) -> Option<Alarms> {
    world.store.alarms(to, 100).await.unwrap()
}

/// A clock that nobody proved anything of: its test is overdue, and it is the provider's.
async fn overdue(world: &World) -> Case {
    let case = lacking(world, "high").await;
    world.environment.pass(DAY * 3 + MINUTE);
    wake(world).await;
    case
}

async fn a_step_is_told_once_to_whoever_holds_the_ball(world: World) {
    let case = overdue(&world).await;
    assert_eq!(world.store.alarmed(10).await.unwrap(), [], "it waits for others");
    assert_eq!(alarms(&world, case.tenant.id).await, None, "the ball is not theirs");
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.alarmed(10).await.unwrap(), [PROVIDER]);

    let found = alarms(&world, PROVIDER).await.unwrap();
    assert_eq!((found.total, found.clocks), (1, [0, 1, 0]));
    let [alarm] = &found.first[..] else { panic!("{found:?}") };
    assert_eq!((alarm.change, alarm.tenant), (case.change.change.id, case.tenant.id));
    assert_eq!(alarm.step, Rung::Stage { stage: Stage::Test, round: 0 });
    assert!(world.store.tell_alarms(found.clone(), Some(written(1))).await.unwrap());

    assert!(!world.store.tell_alarms(found, Some(written(2))).await.unwrap(), "once");
    let rows = world.store.notices(&world.admin, &NoticeFilter::default(), &ALL).await.unwrap();
    let [row] = &rows.items[..] else { panic!("{rows:?}") };
    assert_eq!((row.tenant, row.change, row.plan), (PROVIDER, None, None));
    assert!(row.given_at.is_some(), "without a channel, in the console");
    assert_eq!(crate::changes_and_their_clocks::events(&world, EventKind::NoticeGiven).await, 1);
    world.store.acknowledge_notice(&world.admin, row.id).await.unwrap();
    assert!(world.store.notice(&case.owner, row.id).await.is_err(), "it is the provider's");
    wake(&world).await;
    assert_eq!(alarms(&world, PROVIDER).await, None);
}

async fn alarms_wait_for_others_and_then_for_an_hour(world: World) {
    lacking(&world, "high").await;
    world.environment.pass(MINUTE * 20);
    let other = world.tenant("b").await;
    let ci = world.store.create_ci(&world.admin, None, vm(other.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "high")])).await;
    assert_eq!(world.open_obligations(10).await, 1);
    // The first is overdue, and 20 minutes later the other, when its side was told just now.
    world.environment.pass(DAY * 3 - MINUTE * 19);
    wake(&world).await;
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.alarmed(10).await.unwrap(), [PROVIDER]);
    let found = alarms(&world, PROVIDER).await.unwrap();
    assert!(world.store.tell_alarms(found, Some(written(1))).await.unwrap());
    world.environment.pass(MINUTE * 15);
    wake(&world).await;
    world.environment.pass(MINUTE * 6);
    assert_eq!(alarms(&world, PROVIDER).await.unwrap().total, 1);
    assert_eq!(world.store.alarmed(10).await.unwrap(), []);
    world.environment.pass(MINUTE * 40);
    assert_eq!(world.store.alarmed(10).await.unwrap(), [PROVIDER], "an hour is over");
    let found = alarms(&world, PROVIDER).await.unwrap();
    assert!(world.store.tell_alarms(found, Some(written(2))).await.unwrap());

    // Half of the time is used: that may wait a night.
    world.environment.pass(DAY * 4);
    wake(&world).await;
    let found = alarms(&world, PROVIDER).await.unwrap();
    assert_eq!((found.total, found.clocks), (2, [2, 0, 0]), "{found:?}");
    world.environment.pass(MINUTE * 60 * 7);
    assert_eq!(world.store.alarmed(10).await.unwrap(), []);
    // What is past takes it along.
    world.environment.pass(DAY * 7);
    wake(&world).await;
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.alarmed(10).await.unwrap(), [PROVIDER]);
    let found = alarms(&world, PROVIDER).await.unwrap();
    assert_eq!(found.clocks, [0, 0, 2], "each clock counts once: {found:?}");
    assert_eq!(found.total, 6, "{found:?}");
}

async fn an_alarm_that_came_in_beside_is_not_lost(world: World) {
    overdue(&world).await;
    let before = alarms(&world, PROVIDER).await.unwrap();
    world.environment.pass(DAY * 4);
    wake(&world).await;
    let after = alarms(&world, PROVIDER).await.unwrap();
    assert!(after.total > before.total, "{after:?}");

    assert!(world.store.tell_alarms(before, Some(written(1))).await.unwrap());

    let left = alarms(&world, PROVIDER).await.unwrap();
    assert_eq!(left.clocks, [1, 0, 0], "{left:?}");
    assert!(matches!(
        world.store.tell_alarms(after, Some(written(2))).await,
        Err(StoreError::Busy)
    ));
    assert_eq!(alarms(&world, PROVIDER).await, Some(left), "nothing of it happened");
}

async fn what_nobody_need_be_told_is_dropped(world: World) {
    overdue(&world).await;
    let found = alarms(&world, PROVIDER).await.unwrap();
    let until = now(&world) + MINUTE * 30;
    world.store.postpone_alarms(PROVIDER, until).await.unwrap();
    world.environment.pass(MINUTE * 6);
    assert_eq!(world.store.alarmed(10).await.unwrap(), []);
    world.environment.pass(MINUTE * 30);
    assert_eq!(world.store.alarmed(10).await.unwrap(), [PROVIDER]);

    assert!(world.store.tell_alarms(found, None).await.unwrap());

    assert_eq!(alarms(&world, PROVIDER).await, None);
    let rows = world.store.notices(&world.admin, &NoticeFilter::default(), &ALL).await.unwrap();
    assert_eq!(rows.items, []);
}
