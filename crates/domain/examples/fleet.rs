//! Measures a synthetic fleet: times, worst cases, memory.
//!
//! ```text
//! fleet [VMS] [SETS]       1,000,000 VMs over 2,000 package sets
//! fleet unlike [VMS]       no two VMs alike, in parts of 50,000 so that memory holds them
//! ```

#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

use std::fs;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use domain::advisory::Advisory;
use domain::matching::{Fleet, Index, PackageSet};
use synthetic::{Cloud, SEED, TENANTS};

const ADVISORIES: usize = 40_000;
const PART: usize = 50_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        arguments.get(at).and_then(|it| it.parse::<usize>().ok()).unwrap_or(default)
    };
    let mut cloud = Cloud::new(SEED);
    let advisories = cloud.advisories(ADVISORIES);
    println!("{ADVISORIES} advisories, seed {SEED}");
    if arguments.first().is_some_and(|first| first == "unlike") {
        unlike(&mut cloud, &advisories, number(1, 1_000_000));
    } else {
        shared(&mut cloud, &advisories, number(0, 1_000_000), number(1, 2_000));
    }
}

/// A fleet in which many VMs share a set.
fn shared(cloud: &mut Cloud, advisories: &[Advisory], vms: usize, sets: usize) {
    one_system(cloud, advisories);
    let sets: Vec<PackageSet> = (0..sets).map(|_| PackageSet::of(&cloud.system())).collect();
    let population = cloud.population(vms, sets.len());
    let before = resident();
    let mut fleet = Fleet::new(advisories);
    let tenants: Vec<_> = (0..TENANTS).map(|_| fleet.add_tenant()).collect();
    let mut observed = Vec::with_capacity(vms);
    let ((), taken) = timed(|| {
        for (tenant, set) in population {
            let vm = fleet.enrol(tenants[tenant]);
            fleet.observe(vm, &sets[set]);
            observed.push(vm);
        }
    });
    println!(
        "{} VMs observed, {} sets, {} versions, in {taken:.1?}",
        fleet.observed_vms(),
        fleet.distinct_sets(),
        fleet.distinct_versions()
    );
    println!(
        "fleet: {} MB resident (process {} MB)",
        (resident() - before) >> 20,
        resident() >> 20
    );

    for workers in [1, 2] {
        let workers = NonZeroUsize::new(workers).expect("not zero");
        let taken = series(11, || fleet.rematch(advisories, workers));
        println!("rematch from nothing, {workers} workers: {taken}");
    }
    let missing = observed.iter().filter_map(|&vm| fleet.missing(vm));
    let findings: u64 = missing.map(|missing| u64::from(missing.fixable)).sum();
    println!("findings: {findings}, {} for each VM", findings / vms as u64);

    let more: Vec<Advisory> =
        (0..5_000).map(|number| cloud.advisory(ADVISORIES + number)).collect();
    let mut concerned = (0, 0);
    let mut each = more.iter();
    let taken = series(more.len(), || {
        let Some(advisory) = each.next() else { return };
        let exposed = fleet.add_advisory(advisory);
        concerned.0 = concerned.0.max(exposed.vms().len());
        concerned.1 = concerned.1.max(exposed.tenants().len());
    });
    println!("new advisory to VMs and tenants: {taken} (at most {concerned:?})");

    let mut turn = 0;
    let taken = series(10_000, || {
        turn = (turn + 7_919) % observed.len();
        fleet.observe(observed[turn], &sets[turn % sets.len()]);
    });
    println!("a VM moves to a known set: {taken}");
    let unseen: Vec<PackageSet> = (0..1_000).map(|_| PackageSet::of(&cloud.system())).collect();
    let mut each = unseen.iter().zip(&observed);
    let taken = series(unseen.len(), || {
        let Some((set, &vm)) = each.next() else { return };
        fleet.observe(vm, set);
    });
    println!("a VM moves to a set never seen: {taken}");
    println!("process at its peak: {} MB", peak() >> 20);
}

fn one_system(cloud: &mut Cloud, advisories: &[Advisory]) {
    let mut index = Index::default();
    let taken = series(5, || index = Index::new(advisories));
    println!("index built: {taken}");
    let systems: Vec<_> = (0..200).map(|_| cloud.system()).collect();
    let mut each = systems.iter();
    let mut found = 0;
    let taken = series(systems.len(), || {
        let Some(system) = each.next() else { return };
        found += index.matches(system).len();
    });
    println!("one system: {taken} ({} matches each)", found / systems.len());
}

/// A fleet in which every VM has a set of its own.
fn unlike(cloud: &mut Cloud, advisories: &[Advisory], vms: usize) {
    let (mut rematching, mut observing, mut sets, mut findings) =
        (Duration::ZERO, Duration::ZERO, 0, 0);
    let mut left = vms;
    while left > 0 {
        let part = left.min(PART);
        left -= part;
        let mut fleet = Fleet::new(advisories);
        let tenant = fleet.add_tenant();
        let mut observed = Vec::with_capacity(part);
        for _ in 0..part {
            let packages = PackageSet::of(&cloud.system());
            let vm = fleet.enrol(tenant);
            observing += timed(|| fleet.observe(vm, &packages)).1;
            observed.push(vm);
        }
        let workers = NonZeroUsize::new(2).expect("not zero");
        rematching += timed(|| fleet.rematch(advisories, workers)).1;
        sets += fleet.distinct_sets();
        let missing = observed.iter().filter_map(|&vm| fleet.missing(vm));
        findings += missing.map(|missing| u64::from(missing.fixable)).sum::<u64>();
    }
    println!("{vms} VMs with {sets} distinct sets, {findings} findings");
    println!(
        "first observations: {observing:.1?}; rematch from nothing, 2 workers: {rematching:.1?}"
    );
    println!("at its peak: {} MB with {PART} VMs at a time", peak() >> 20);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let made = work();
    (made, start.elapsed())
}

/// Runs a number of times; says the median, the 99th percentile and the worst.
fn series(count: usize, mut work: impl FnMut()) -> String {
    let mut taken: Vec<Duration> = (0..count).map(|_| timed(&mut work).1).collect();
    taken.sort_unstable();
    let at = |percent: usize| taken[(count * percent / 100).min(count - 1)];
    format!("median {:.1?}, p99 {:.1?}, worst {:.1?}", at(50), at(99), at(100))
}

fn resident() -> u64 {
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

/// A line of `/proc/self/status`, in bytes; 0 where there is none.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib = line.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
