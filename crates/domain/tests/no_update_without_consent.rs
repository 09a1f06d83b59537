//! Nothing starts before its notice's lead time is over, without the consent that the policy
//! demands, or on another plan than the one agreed to; each alteration is recorded once; a breach is
//! told of the side that held the ball. Whatever is lost, doubled, late, forged or withdrawn.
//!
//! A hundred thousand schedules from seeds run each time. `PATCHWRIGHT_SIM_SCHEDULES=1000000` runs
//! more, `PATCHWRIGHT_SIM_SEED=<seed>` replays one and prints its record.

#[path = "support/random.rs"]
mod random;
mod simulation;

use std::collections::BTreeMap;

use simulation::{Entry, Fact, judge, run};

const SCHEDULES: u64 = 100_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a whole number"))
}

fn words(record: &[Entry]) -> BTreeMap<&'static str, u64> {
    let mut words = BTreeMap::new();
    for Entry { fact, .. } in record {
        let word = match fact {
            Fact::Moved { to, .. } => to,
            Fact::Started { .. } => "started",
            Fact::Breached { by_tenant: true, .. } => "breached by the tenant",
            Fact::Breached { by_tenant: false, .. } => "breached by the provider",
            Fact::Refused { .. } => "something was refused",
            Fact::Restarted => "restarted",
            Fact::Jumped { .. } => "the clock jumped",
            Fact::Reassessed { .. } => "it was judged anew",
            _ => continue,
        };
        *words.entry(word).or_default() += 1;
    }
    words
}

/// Runs and judges schedules; how often each word was met.
fn run_all(seeds: impl Iterator<Item = u64>) -> BTreeMap<&'static str, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let judged = std::panic::catch_unwind(|| {
            let record = run(seed);
            judge(&record).map(|()| words(&record))
        });
        let wrong = match judged {
            Ok(Ok(words)) => {
                for (word, count) in words {
                    *seen.entry(word).or_insert(0) += count;
                }
                continue;
            }
            Ok(Err(wrong)) => wrong,
            Err(_) => "it panicked".to_owned(),
        };
        panic!(
            "seed {seed}: {wrong}\nreplay: PATCHWRIGHT_SIM_SEED={seed} cargo test -p domain --test \
             no_update_without_consent -- --nocapture"
        );
    }
    seen
}

#[test]
fn no_update_without_consent() {
    if let Some(seed) = number("PATCHWRIGHT_SIM_SEED") {
        let record = run(seed);
        for Entry { at, fact } in &record {
            println!("{at:>9} s  {fact:?}");
        }
        assert_eq!(judge(&record), Ok(()), "seed {seed}");
        return;
    }
    let schedules = number("PATCHWRIGHT_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    // Each seed is a world of its own; which thread runs it makes no difference.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seen = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_all((0..schedules).skip(first).step_by(threads))))
            .collect();
        let mut seen = BTreeMap::new();
        for part in parts {
            for (word, count) in part.join().expect("a schedule that fails says so itself") {
                *seen.entry(word).or_insert(0) += count;
            }
        }
        seen
    });
    println!("{schedules} schedules: {seen:#?}");
    for word in [
        "planned",
        "notified",
        "approved",
        "deferred",
        "refused",
        "lapsed",
        "scheduled",
        "rolling_out",
        "verifying",
        "verified",
        "non_compliant",
        "withdrawn",
        "reopened",
        "breached by the tenant",
        "breached by the provider",
        "restarted",
        "the clock jumped",
        "it was judged anew",
        "something was refused",
    ] {
        let count = seen.get(word).copied().unwrap_or(0);
        assert!(count >= schedules / 200, "hardly ever {word}: {count} in {schedules} schedules");
    }
}

#[test]
fn a_seed_names_a_whole_schedule() {
    for seed in [0, 7, 4242] {
        assert_eq!(run(seed), run(seed));
    }
}
