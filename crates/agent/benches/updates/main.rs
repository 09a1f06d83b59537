//! The same updates of the same machine by unattended-upgrades and by the agent, turn by turn, measured from outside.
//!
//! ```text
//! one image ─► a fresh copy each time: firmware, boot loader, nginx, PostgreSQL
//!                begin ─► lists, packages, installation, restarts, sync ─► end ─► a look at what runs
//!                 └── every 50 ms: does nginx answer? does PostgreSQL? ──┘     └─► off, its disk is read
//! ```
//!
//! The peer goes first, uncounted: what it installs then is what the agent is ordered to install, and what every
//! further run has to end with. `PATCHWRIGHT_BENCH_RUNS` says how many runs of each are counted (3).

#![allow(clippy::unwrap_used)] // A world that cannot be made ends the bench.

mod machine;
mod mirror;
mod prober;
mod table;

#[path = "../../tests/it/plane.rs"]
mod plane;
#[path = "../../tests/it/sockets.rs"]
mod sockets;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/support.rs"]
mod support;
#[path = "../../tests/it/vendor.rs"]
mod vendor;

use std::collections::BTreeSet;
use std::path::Path;

use bootstrap::{Purpose, Recipe, Release};
use domain::change::ExactPackage;

use crate::machine::{Installed, Outcome, Worker, World};
use crate::vendor::Vendor;

/// Counted runs of each.
const RUNS: u64 = 3;

fn main() {
    let release = Release::Bookworm;
    let images = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("images");
    let recipe = Recipe { release, purpose: Purpose::SideBySide };
    let image = bootstrap::make(recipe, &images, false)
        .unwrap_or_else(|error| panic!("{error}\n{}", error.help().unwrap_or_default()));
    let before = installed(&image);
    // What is pending comes from the security archive alone; without KVM, unattended-upgrades looks through all of
    // Debian for minutes before it begins.
    let sources = bootstrap::sources(release).unwrap();
    let (_, security) = sources.split_once("\n\n").unwrap();
    let world = World::open(&image, security);

    let first = world.run("uncounted", &Worker::Peer);
    println!("{first}");
    let packages = altered(&before, &first.installed);
    let ours = Worker::Agent(packages);
    let runs = support::number("PATCHWRIGHT_BENCH_RUNS").unwrap_or(RUNS);
    let (mut by_peer, mut by_us) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        for (worker, outcomes) in [(&Worker::Peer, &mut by_peer), (&ours, &mut by_us)] {
            let outcome = world.run(&number.to_string(), worker);
            println!("{outcome}");
            must_agree(&first, &outcome);
            outcomes.push(outcome);
        }
    }
    table::print(&by_peer, &by_us);
}

/// What is installed on a disk at rest.
fn installed(disk: &Path) -> Installed {
    let target = inspect::open(disk, None).unwrap();
    let inventory = target.inventory().unwrap();
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let packages = inventory.packages.into_iter();
    packages.map(|it| (it.name, it.architecture, it.version)).collect()
}

/// What became newer or was added, as an order names it; nothing may have gone.
fn altered(before: &Installed, after: &Installed) -> Vec<ExactPackage> {
    let names = |of: &Installed| -> BTreeSet<(String, String)> {
        of.iter().map(|(name, architecture, _)| (name.clone(), architecture.clone())).collect()
    };
    let gone: Vec<_> = names(before).difference(&names(after)).cloned().collect();
    assert!(gone.is_empty(), "the peer takes packages away, which no order can: {gone:?}");
    let vendor = Vendor::security();
    let exact = |(name, architecture, version): &(String, String, String)| {
        let offered = vendor.offered(name, architecture, version);
        offered.unwrap_or_else(|| panic!("the security archive has no {name} {version}"))
    };
    let packages: Vec<_> = after.difference(before).map(exact).collect();
    assert!(!packages.is_empty(), "nothing is pending: the image is as new as the archive");
    let names: Vec<_> = packages.iter().map(|it| it.name.as_str()).collect();
    println!("{} packages: {}", packages.len(), names.join(" "));
    packages
}

fn must_agree(first: &Outcome, other: &Outcome) {
    let differs: Vec<_> = first.installed.symmetric_difference(&other.installed).collect();
    assert!(differs.is_empty(), "{} ends with something else: {differs:?}", other.worker);
}
