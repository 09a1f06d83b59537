//! Times the match of one system alone, as a server does it that holds the index.
//!
//! ```text
//! host_match TARGET RECORDS [RUNS]
//! ```
//!
//! Prints one JSON object: times of each step, and the pairs (package, CVE) that the timed call
//! found. `benches/peers/host.py` puts them beside those of debsecan and OpenSCAP.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use collect::osv::{self, Wanted};
use domain::matching::{Index, ecosystems_of};
use serde_json::json;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: host_match TARGET RECORDS [RUNS]";
    let target = arguments.next().context(usage)?;
    let records = arguments.next().context(usage)?;
    let runs: usize = arguments.next().map_or(Ok(5_000), |runs| runs.parse()).context(usage)?;

    let (inventory, observed) =
        timed(|| anyhow::Ok(inspect::open(Path::new(&target), None)?.inventory()?));
    let inventory = inventory?;
    let wanted = Wanted::Ecosystems(ecosystems_of(&inventory.os).into_iter().collect());
    let (load, loaded) = timed(|| osv::load(Path::new(&records), &wanted));
    let load = load?;
    let (index, indexed) = timed(|| Index::new(&load.advisories));

    let mut taken: Vec<Duration> = (0..runs.max(1))
        .map(|_| timed(|| std::hint::black_box(index.matches(&inventory)).len()).1)
        .collect();
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];

    let pairs: BTreeSet<(&str, &str)> = index
        .matches(&inventory)
        .iter()
        .flat_map(|found| {
            let package = inventory.packages[found.package].name.as_str();
            load.advisories[found.advisory].cves.iter().map(move |cve| (package, cve.as_str()))
        })
        .collect();
    let answer = json!({
        "packages": inventory.packages.len(),
        "records": load.advisories.len(),
        "inventory_seconds": observed.as_secs_f64(),
        "load_seconds": loaded.as_secs_f64(),
        "index_seconds": indexed.as_secs_f64(),
        "runs": taken.len(),
        "match_seconds": {
            "median": at(50).as_secs_f64(),
            "p99": at(99).as_secs_f64(),
            "worst": at(100).as_secs_f64(),
        },
        "pairs": pairs,
    });
    println!("{answer}");
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let made = work();
    (made, start.elapsed())
}
