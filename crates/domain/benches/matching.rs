//! What matching costs: one system, a million VMs from nothing, one new advisory.
//!
//! How the cloud is drawn stands in `synthetic/mod.rs`; worst cases and memory are shown by
//! `examples/fleet.rs`.

mod synthetic;

use std::num::NonZeroUsize;

use divan::Bencher;
use domain::matching::{Fleet, Index, PackageSet};
use synthetic::{Cloud, SEED, TENANTS};

const ADVISORIES: usize = 40_000;
const SETS: usize = 2_000;
const VMS: usize = 1_000_000;

fn main() {
    divan::main();
}

#[divan::bench]
fn index_of_40k_advisories(bencher: Bencher<'_, '_>) {
    let advisories = Cloud::new(SEED).advisories(ADVISORIES);
    bencher.bench(|| Index::new(&advisories));
}

#[divan::bench]
fn host_of_400_packages(bencher: Bencher<'_, '_>) {
    let mut cloud = Cloud::new(SEED);
    let index = Index::new(&cloud.advisories(ADVISORIES));
    let systems: Vec<_> = (0..64).map(|_| cloud.system()).collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        index.matches(&systems[turn % systems.len()]).len()
    });
}

fn fleet(cloud: &mut Cloud, fleet: &mut Fleet) {
    let sets: Vec<PackageSet> = (0..SETS).map(|_| PackageSet::of(&cloud.system())).collect();
    let tenants: Vec<_> = (0..TENANTS).map(|_| fleet.add_tenant()).collect();
    for (tenant, set) in cloud.population(VMS, SETS) {
        let vm = fleet.enrol(tenants[tenant]);
        fleet.observe(vm, &sets[set]);
    }
}

#[divan::bench(args = [1, 2], sample_count = 20)]
fn fleet_of_1m_vms_from_nothing(bencher: Bencher<'_, '_>, workers: usize) {
    let mut cloud = Cloud::new(SEED);
    let advisories = cloud.advisories(ADVISORIES);
    let mut rematched = Fleet::default();
    fleet(&mut cloud, &mut rematched);
    let workers = NonZeroUsize::new(workers).expect("not zero");
    bencher.bench_local(|| rematched.rematch(&advisories, workers));
}

#[divan::bench(sample_count = 1_000)]
fn new_advisory_to_vms_and_tenants(bencher: Bencher<'_, '_>) {
    let mut cloud = Cloud::new(SEED);
    let mut known = Fleet::new(&cloud.advisories(ADVISORIES));
    fleet(&mut cloud, &mut known);
    let mut number = ADVISORIES;
    bencher
        .with_inputs(|| {
            number += 1;
            cloud.advisory(number)
        })
        .bench_local_values(|advisory| {
            let exposed = known.add_advisory(&advisory);
            (exposed.vms().len(), exposed.tenants().len())
        });
}
