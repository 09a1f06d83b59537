//! How many durable changes a second: `throughput ADDRESS [CALLERS] [SECONDS]`.
//!
//! Each change takes up a configuration item and records an event; a caller waits for the answer
//! before it asks again. Beside it, as the baseline, one caller alone: a commit for each change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domain::cloud::{Class, PROVIDER, Role};
use store::{Actor, Database, Labels, NewCi, NewUser, Store, System};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let database: Database = arguments.next().ok_or("name a database")?.parse()?;
    let callers: u64 = arguments.next().map_or(Ok(256), |it| it.parse())?;
    let time = Duration::from_secs(arguments.next().map_or(Ok(5), |it| it.parse())?);

    let store = Store::open(&database, Arc::new(System)).await?;
    let first = NewUser {
        tenant: PROVIDER,
        login: "root".parse()?,
        name: "Root".parse()?,
        role: Role::Admin,
        password: None,
    };
    store.found("Cloud".parse()?, first).await?;
    let (alone, alone_waits) = measure(&store, 1, time, "alone").await?;
    let (together, waits) = measure(&store, callers, time, "together").await?;
    println!("1 caller       {alone:>8.0} /s   p99 {alone_waits:.1?}");
    println!("{callers:<4} callers   {together:>8.0} /s   p99 {waits:.1?}");
    println!("ratio          {:>8.1}", together / alone);
    Ok(())
}

/// Changes a second, and the 99th percentile of how long a caller waited.
async fn measure(
    store: &Store,
    callers: u64,
    time: Duration,
    name: &'static str,
) -> Result<(f64, Duration), Box<dyn std::error::Error>> {
    let made = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, made) = (store.clone(), Arc::clone(&made));
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while begin.elapsed() < time {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    let new = NewCi {
                        tenant: PROVIDER,
                        class: Class::Vm,
                        name: format!("{name}-{}-{number}", std::process::id())
                            .parse()
                            .expect("it is a name"),
                        labels: Labels::new(),
                    };
                    let asked = Instant::now();
                    store.create_ci(&Actor::System, None, new).await.expect("it is written");
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await?);
    }
    let made = u32::try_from(made.load(Ordering::Relaxed))?;
    let rate = f64::from(made) / begin.elapsed().as_secs_f64();
    waits.sort_unstable();
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
    Ok((rate, p99))
}
