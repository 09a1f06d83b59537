//! How long it takes to lay a release out, and to let it run.
//!
//! `cargo bench -p domain --bench release`; the target is one second for 100,000 items, with the
//! plans and their hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use divan::Bencher;
use domain::change::{Action, ExactPackage, FileHash, Rollback, Window};
use domain::cloud::{Class, Duty, Id, IdKind, Name};
use domain::release::{
    Amount, Caps, Condition, Content, Fleet, Mobility, Order, Profile, Reboot, Service, Target,
    Windows, Work, plan,
};
use jiff::{SignedDuration, Timestamp};

fn main() {
    divan::main();
}

const TENANTS: u32 = 200;
const ZONES: u32 = 3;
const DOMAIN: u32 = 50;
const SERVICE: u32 = 5;

fn id<K: IdKind>(kind: u8, number: u32) -> Id<K> {
    let mut bytes = [kind; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Id::of_content(bytes)
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3600).expect("a time")
}

fn package(package: &str, version: &str) -> ExactPackage {
    ExactPackage {
        name: package.to_owned(),
        architecture: "amd64".to_owned(),
        version: version.to_owned(),
        sha256: FileHash::from([7; 32]),
    }
}

/// VMs of 200 tenants over three zones, in update domains of 50 and services of five of which four
/// are needed. Half of the tenants have windows at night; a fifth of the VMs restarts; a tenth depends
/// on another VM.
fn fleet(size: u32) -> Fleet {
    let content = Arc::new(Content {
        actions: vec![Action::Upgrade {
            packages: vec![package("libssl3", "3.0.15-1"), package("openssl", "3.0.15-1")],
        }],
        rollback: Rollback::Packages {
            packages: vec![package("libssl3", "3.0.14-1"), package("openssl", "3.0.14-1")],
        },
    });
    let nights = (0..30).map(|day| Window { from: at(24 * day + 14), until: at(24 * day + 20) });
    let windows = [Arc::new(Windows::Always), Arc::new(Windows::Within(nights.collect()))];
    let names = |kind: &str, count: u32| -> Vec<Name> {
        (0..count).map(|number| name(&format!("{kind}-{number}"))).collect()
    };
    let (zones, domains) = (names("az", ZONES), names("ud", size.div_ceil(DOMAIN)));
    let targets = (0..size).map(|number| {
        let tenant = number % TENANTS;
        let windows = Arc::clone(&windows[(tenant % 2) as usize]);
        let reboot = (number % 5 == 0).then(|| Reboot {
            takes: SignedDuration::from_mins(15),
            windows: Arc::clone(&windows),
        });
        let takes = SignedDuration::from_mins(10);
        Target {
            ci: id(1, number),
            tenant: id(2, tenant),
            duty: Duty::Provider,
            class: Class::Vm,
            labels: BTreeMap::new(),
            zone: Some(zones[(number / DOMAIN % ZONES) as usize].clone()),
            domain: Some(domains[(number / DOMAIN) as usize].clone()),
            depends_on: if number % 10 == 9 { vec![id(1, number - 9)] } else { Vec::new() },
            member_of: vec![id(3, number / SERVICE)],
            runs_on: None,
            mobility: Mobility::Moves,
            condition: Condition::Healthy,
            work: Some(Work { content: Arc::clone(&content), takes, windows, reboot }),
        }
    });
    let services = (0..size.div_ceil(SERVICE)).map(|number| Service {
        ci: id(3, number),
        name: name(&format!("service {number}")),
        min_available: Amount::Count(SERVICE - 1),
        max_unavailable: None,
    });
    Fleet { targets: targets.collect(), services: services.collect() }
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn layout_with_plans(bencher: Bencher<'_, '_>, size: u32) {
    let fleet = fleet(size);
    let profile = Profile::builtin("default").expect("built in");
    let many = NonZeroU32::new(u32::MAX).expect("not zero");
    let (canaries, previous) = (BTreeSet::new(), BTreeMap::new());
    let order = Order {
        release: id(4, 1),
        change: id(5, 1),
        profile: &profile,
        caps: Caps {
            max_unavailable: NonZeroU32::new(5_000).expect("not zero"),
            per_wave: many,
            per_tenant: many,
            per_hour: NonZeroU32::new(20_000).expect("not zero"),
        },
        canaries: &canaries,
        freezes: &[],
        previous: &previous,
        until: at(24 * 30),
    };
    let layout = plan(&fleet, &order, at(0)).expect("a layout");
    assert_eq!(layout.unplaced().len(), 0, "{:?}", layout.unplaced().first_key_value());
    bencher.bench_local(|| plan(&fleet, &order, at(0)));
}
