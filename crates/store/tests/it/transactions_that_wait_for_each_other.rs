//! Two transactions that wait for each other: one gives way, and nobody who asked hears of it.
//! PostgreSQL alone; SQLite has one writer.

use std::time::Duration;

use crate::changes_and_their_clocks::{Case, DAY, done};
use crate::support::{World, vm};
use domain::change::Decision;
use domain::cloud::{CiId, PROVIDER};
use sqlx::{Connection as _, PgConnection};
use store::{CiFilter, Move, PageRequest};

const ALL: PageRequest = PageRequest { after: None, limit: 1000 };

async fn insert(connection: &mut PgConnection, number: u8, name: &str) {
    let id = CiId::of_content([number; 16]).to_string();
    sqlx::query(
        "INSERT INTO cis (id, tenant_id, class, name, created_at, version)
         VALUES ($1, $2, 'vm', $3, 0, 1)",
    )
    .bind(id)
    .bind(PROVIDER.to_string())
    .bind(name)
    .execute(connection)
    .await
    .unwrap();
}

async fn until_somebody_waits(watch: &mut PgConnection) {
    let waits = "SELECT 1 FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query(waits).fetch_optional(&mut *watch).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_way_is_tried_again() {
    let (world, address) = World::postgres_at().await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    // It is ours that is to give way, however long the other one waits.
    sqlx::query("SET deadlock_timeout = '1h'").execute(&mut other).await.unwrap();
    let mut watch = PgConnection::connect(&address).await.unwrap();
    sqlx::query("BEGIN").execute(&mut other).await.unwrap();
    insert(&mut other, 1, "second").await;

    // Ours holds `first` and waits for `second`; the other one then waits for `first`.
    let (store, admin) = (world.store.clone(), world.admin.clone());
    let ours = tokio::spawn(async move {
        let both = vec![vm(PROVIDER, "first"), vm(PROVIDER, "second")];
        store.create_cis(&admin, None, both).await
    });
    until_somebody_waits(&mut watch).await;
    insert(&mut other, 2, "first").await;
    let counts = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    let made = ours.await.unwrap().unwrap();

    assert_eq!(made.len(), 2);
    let items = world.store.cis(&world.admin, &CiFilter::default(), &ALL).await.unwrap().items;
    assert_eq!(items.len(), 2, "once");
    // Statistics lag behind; without a deadlock this test has shown nothing.
    let deadlocks = async |watch: &mut PgConnection| -> i64 {
        sqlx::query_scalar(counts).fetch_one(watch).await.unwrap()
    };
    for _ in 0..1000 {
        if deadlocks(&mut watch).await > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody gave way");
}

/// On one thread, so that what is asked for in one breath is one transaction.
#[tokio::test]
async fn who_began_earlier_and_waited_is_later() {
    let (world, address) = World::postgres_at().await;
    let (case, plan) = Case::told(&world, "high", DAY * 5).await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    let mut watch = PgConnection::connect(&address).await.unwrap();
    sqlx::query("BEGIN").execute(&mut other).await.unwrap();
    insert(&mut other, 1, "taken").await;
    let ours = async {
        let waits = world.store.create_ci(&world.admin, None, vm(PROVIDER, "taken"));
        tokio::join!(waits, case.say(&world, &plan, Decision::Approve, 1))
    };
    let others = async {
        until_somebody_waits(&mut watch).await;
        world.environment.pass(DAY);
        let acknowledged = case.does(&world, &case.owner, Move::Acknowledge).await;
        assert_eq!(case.phase(&world).await, "notified", "the answer waits");
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
        done(acknowledged);
    };

    let ((made, answered), ()) = tokio::join!(ours, others);

    made.unwrap();
    done(answered);
    assert_eq!(case.phase(&world).await, "scheduled");
}
