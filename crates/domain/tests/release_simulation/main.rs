//! A release over a cloud in virtual time never takes more away than was agreed: judged by an oracle
//! that shares no code with the engine.
//!
//! A failure prints its seed; `PATCHWRIGHT_SIM_SEED=<seed> cargo test -p domain --test
//! release_simulation` runs that one alone.

mod cloud;
mod oracle;
#[path = "../support/random.rs"]
mod random;
mod world;

use std::sync::Arc;

use domain::release::End;

use self::cloud::Cloud;
use self::random::Random;
use self::world::{Faults, Outcome, World};

/// 2 % fail, 1 % say nothing.
const USUAL: Faults =
    Faults { failing: 20, silent: 10, sick: 2, bad_wave: None, restart_every: 997 };

fn run(seed: u64, hosts: u32, profile: &str, faults: Faults) -> Outcome {
    let mut random = Random::new(seed);
    let cloud = Cloud::new(hosts, profile, &mut random);
    let layout = Arc::new(cloud.plan());
    let world = World::new(&cloud, &layout, random, faults);
    world.run().unwrap_or_else(|wrong| panic!("seed {seed}, {hosts} hosts, {profile}: {wrong}"))
}

fn seed(otherwise: u64) -> u64 {
    let given = std::env::var("PATCHWRIGHT_SIM_SEED").ok();
    given.map_or(otherwise, |text| text.parse().expect("the seed is a number"))
}

#[test]
fn ten_thousand_hosts_are_released_within_every_limit() {
    let seed = seed(1);

    let outcome = run(seed, 10_000, "default", USUAL);

    println!("seed {seed}: {outcome:#?}");
    assert_eq!(outcome.end, Some(End::Released));
    assert!(outcome.tally.done > 7_000, "{outcome:?}");
    assert!(outcome.seen.most_out > 200, "the limits are used: {outcome:?}");
    assert!(outcome.seen.drains > 500, "{outcome:?}");
}

#[test]
fn a_bad_patch_is_held_within_the_error_budget_and_goes_back() {
    let seed = seed(2);
    let faults = Faults { bad_wave: Some(2), ..USUAL };

    let outcome = run(seed, 10_000, "default", faults);

    println!("seed {seed}: {outcome:#?}");
    assert_eq!(outcome.end, Some(End::RolledBack));
    assert_eq!(outcome.altered, 0, "{outcome:?}");
    // What is at work when it is held can still fail.
    let budget = outcome.allowed_in_bad_wave + 400;
    assert!(outcome.failed_in_bad_wave > outcome.allowed_in_bad_wave, "{outcome:?}");
    assert!(outcome.failed_in_bad_wave <= budget, "{outcome:?}");
}

#[test]
fn many_small_clouds_are_released_within_every_limit() {
    let seeds: Vec<u64> = match std::env::var("PATCHWRIGHT_SIM_SEED") {
        Ok(_) => vec![seed(0)],
        Err(_) => (0..40).collect(),
    };
    for seed in seeds {
        let number = usize::try_from(seed % 1000).expect("a small number");
        let profile = ["default", "accelerated", "emergency"][number % 3];
        let bad_wave = (seed % 4 == 3).then_some(2);
        let faults = Faults {
            failing: (number * 13) % 90,
            silent: (number * 7) % 40,
            sick: (number * 3) % 20,
            bad_wave,
            restart_every: 50 + number,
        };
        let hosts = 200 + 10 * u32::try_from(number % 40).expect("a small number");
        let outcome = run(seed, hosts, profile, faults);
        assert!(outcome.end.is_some(), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn a_seed_names_a_whole_release() {
    let once = || run(77, 300, "emergency", USUAL);

    assert_eq!(once(), once());
}
