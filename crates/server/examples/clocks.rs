//! A million open clocks: how soon after a start the timers are right, how late they fire, and what
//! memory that takes.
//!
//! ```text
//! clocks DIRECTORY [CLOCKS] [SECONDS]
//! ```
//!
//! Makes the database in the directory where there is none yet. Rows are written directly; what is
//! measured is what `patchwright up` does with them. Their times are spread so that in each second
//! some hundred wake, as the notices of a large cloud do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::change::{Change, Kind};
use domain::cloud::{ChangeId, Duty, PROVIDER, Role, ServiceModel, TenantId};
use domain::obligation::{Draft, Obligation};
use domain::priority::{AssetFacts, Priority, PriorityInputs};
use domain::sla::{Facts, Policy};
use jiff::{SignedDuration, Timestamp};
use sqlx::SqlitePool;
use store::{Database, NewTenant, NewUser, SteadySystem, Store};

type Failure = Box<dyn std::error::Error>;

const TENANTS: usize = 1_000;

/// Clocks that wake in a second.
const WAKES: usize = 200;

/// Rows of one transaction.
const ROWS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = Path::new(arguments.first().ok_or("name a directory")?);
    let number = |at: usize, default| {
        arguments.get(at).and_then(|it| it.parse::<usize>().ok()).unwrap_or(default)
    };
    let (clocks, seconds) = (number(1, 1_000_000), number(2, 60));
    std::fs::create_dir_all(directory)?;
    let path = directory.join("clocks.db");
    let is_new = !path.exists();
    let store = open(&path).await?;
    if is_new {
        fill(&store, &path, clocks).await?;
    }
    spread(&path, seconds).await?;
    store.close().await;

    let begin = Instant::now();
    let store = open(&path).await?;
    let next = store.next_wake().await?;
    let (woken, failed) = store.wake_obligations(256).await?;
    println!("{} open clocks", store.open_clocks().await?);
    println!(
        "from start to right timers {:>8.1?}   {woken} overdue ones looked at; next at {next:?}",
        begin.elapsed()
    );
    assert!(failed.is_empty(), "{failed:?}");

    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await?;
    let (begin, mut lags) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(seconds.try_into()?) {
        let now = Timestamp::now().as_microsecond();
        let due: Vec<(i64,)> = sqlx::query_as(
            "SELECT wakes_at FROM obligations WHERE wakes_at <= $1 ORDER BY wakes_at LIMIT 256",
        )
        .bind(now)
        .fetch_all(&pool)
        .await?;
        let (woken, failed) = store.wake_obligations(256).await?;
        assert!(failed.is_empty(), "{failed:?}");
        let after = Timestamp::now().as_microsecond();
        lags.extend(due.iter().take(woken).map(|(at,)| after - at));
        if woken == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    lags.sort_unstable();
    let at = |percent: usize| {
        let lag = lags.get(lags.len() * percent / 100).or(lags.last()).copied().unwrap_or_default();
        Duration::from_micros(lag.unsigned_abs())
    };
    println!(
        "fired late by              {:>8.1?}   p99 {:.1?}, worst {:.1?}; {} in {seconds} s",
        at(50),
        at(99),
        at(100),
        lags.len()
    );
    println!("resident                   {:>5} MB", resident());
    Ok(())
}

async fn open(path: &Path) -> Result<Store, Failure> {
    Ok(Store::open(&Database::file(path), Arc::new(SteadySystem::default())).await?)
}

/// Tenants, changes and their obligations, all open.
async fn fill(store: &Store, path: &Path, clocks: usize) -> Result<(), Failure> {
    let first = NewUser {
        tenant: PROVIDER,
        login: "root".parse()?,
        name: "Root".parse()?,
        role: Role::Admin,
        password: None,
    };
    store.found("Cloud".parse()?, first).await?;
    let mut tenants: Vec<TenantId> = Vec::with_capacity(TENANTS);
    for number in 0..TENANTS {
        let new = NewTenant {
            slug: format!("tenant-{number}").parse()?,
            name: format!("Tenant {number}").parse()?,
            model: ServiceModel::Iaas,
        };
        tenants.push(store.create_tenant(&store::Actor::System, None, new).await?.id);
    }
    let policy = Policy::builtin("x1642-default")?;
    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await?;
    let now = Timestamp::now();
    for from in (0..clocks).step_by(ROWS) {
        let mut transaction = pool.begin().await?;
        for number in from..(from + ROWS).min(clocks) {
            let mut bytes = [0; 10];
            bytes[2..].copy_from_slice(&((number / TENANTS) as u64).to_be_bytes());
            let (id, tenant) = (ChangeId::new(now, bytes), tenants[number % TENANTS]);
            if number % TENANTS == 0 {
                let change = Change::found(id, Kind::Patch, now);
                sqlx::query(
                    "INSERT INTO changes (id, title, tenant_id, record, stage, created_by,
                                          created_at, version)
                     VALUES ($1, 'a patch', $2, $3, 'found', 'system', $4, 0)",
                )
                .bind(id.to_string())
                .bind(PROVIDER.to_string())
                .bind(serde_json::to_string(&change)?)
                .bind(now.as_microsecond())
                .execute(&mut *transaction)
                .await?;
            }
            let facts = Facts {
                priority: Priority::Low,
                patch: PriorityInputs::default(),
                cves: Vec::new(),
                asset: AssetFacts::default(),
            };
            let draft = Draft {
                change: id,
                tenant,
                facts,
                duty: Duty::Provider,
                published: None,
                collected: now,
            };
            let (obligation, _) = Obligation::open(draft, policy, now);
            sqlx::query(
                "INSERT INTO obligations (record, phase, holder, state, priority, due, wakes_at,
                                          is_settled, version, change_id, tenant_id)
                 VALUES ($1, 'collected', 'provider', 'ok', 0, $2, $3, 0, 1, $4, $5)",
            )
            .bind(serde_json::to_string(&obligation.to_kept())?)
            .bind(obligation.dues().binding().map(|date| date.due.as_microsecond()))
            .bind((now + SignedDuration::from_hours(24 * 7)).as_microsecond())
            .bind(id.to_string())
            .bind(tenant.to_string())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// From a few seconds on, some clocks wake in each second.
async fn spread(path: &Path, seconds: usize) -> Result<(), Failure> {
    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await?;
    let start = Timestamp::now() + SignedDuration::from_secs(5);
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT change_id, tenant_id FROM obligations ORDER BY tenant_id LIMIT $1")
            .bind(i64::try_from(seconds * WAKES)?)
            .fetch_all(&pool)
            .await?;
    let mut transaction = pool.begin().await?;
    for (number, (change, tenant)) in rows.into_iter().enumerate() {
        let after = SignedDuration::from_millis(i64::try_from(number * 1000 / WAKES)?);
        sqlx::query("UPDATE obligations SET wakes_at = $1 WHERE change_id = $2 AND tenant_id = $3")
            .bind((start + after).as_microsecond())
            .bind(change)
            .bind(tenant)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Resident memory of this process, in megabytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}
