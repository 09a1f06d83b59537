//! A cloud of hosts: hypervisors with VMs on them, in zones, update domains and services, of some
//! tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use domain::change::{Action, ExactPackage, FileHash, Rollback, Window};
use domain::cloud::{CiId, Class, Duty, Id, IdKind, Name, TenantId};
use domain::release::{
    Amount, Caps, Condition, Content, Fleet, Layout, Mobility, Order, Profile, Reboot, Service,
    Target, Windows, Work, plan,
};
use jiff::{SignedDuration, Timestamp};

use crate::random::Random;

pub(crate) const TENANTS: u32 = 12;
/// It never answers.
pub(crate) const MUTE: u32 = 5;

pub(crate) fn id<K: IdKind>(kind: u8, number: u32) -> Id<K> {
    let mut bytes = [kind; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Id::of_content(bytes)
}

pub(crate) fn ci(number: u32) -> CiId {
    id(1, number)
}

pub(crate) fn tenant(number: u32) -> TenantId {
    id(2, number)
}

/// Minutes after the planning.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).expect("a time")
}

pub(crate) fn mins(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Everything that a release is planned from.
pub(crate) struct Cloud {
    pub(crate) fleet: Fleet,
    pub(crate) profile: Profile,
    pub(crate) caps: Caps,
    pub(crate) canaries: BTreeSet<CiId>,
}

impl Cloud {
    /// So many hosts: of each ten one is a hypervisor with the nine others on it.
    pub(crate) fn new(hosts: u32, profile: &str, random: &mut Random) -> Self {
        let content = content();
        let always = Arc::new(Windows::Always);
        let nights = (0..60)
            .map(|day| Window { from: at(day * 1440 + 600), until: at(day * 1440 + 600 + 8 * 60) });
        let nights = Arc::new(Windows::Within(nights.collect()));
        let racks = hosts.div_ceil(10);
        let targets = (0..hosts).map(|number| {
            let rack = number / 10;
            let is_hypervisor = number % 10 == 0;
            let owner = if is_hypervisor { 0 } else { 1 + number % (TENANTS - 1) };
            let windows = if owner % 3 == 1 { &nights } else { &always };
            let restarts = is_hypervisor || random.below(5) == 0;
            let reboot = restarts.then(|| Reboot { takes: mins(20), windows: Arc::clone(windows) });
            let is_bystander = random.below(50) == 0;
            let work = Work {
                content: Arc::clone(&content),
                takes: mins(15),
                windows: Arc::clone(windows),
                reboot,
            };
            // VMs depend on VMs of their rack alone, so that no circle arises.
            let depends_on = (number % 10 > 1 && random.below(20) == 0).then(|| ci(number - 1));
            let class = if is_hypervisor { Class::Hypervisor } else { Class::Vm };
            // Members of a service stand in different racks.
            let service = (number % 10) * racks.div_ceil(5) + rack / 5;
            Target {
                ci: ci(number),
                tenant: tenant(owner),
                duty: Duty::Provider,
                class,
                labels: BTreeMap::new(),
                zone: Some(name(["az-1", "az-2", "az-3"][rack as usize % 3])),
                domain: Some(name(&format!("ud-{}-{}", u32::from(is_hypervisor), rack / 12))),
                depends_on: depends_on.into_iter().collect(),
                member_of: if is_hypervisor { Vec::new() } else { vec![id(3, service)] },
                runs_on: (!is_hypervisor).then(|| ci(rack * 10)),
                mobility: if random.below(8) == 0 { Mobility::Stops } else { Mobility::Moves },
                condition: Condition::Healthy,
                work: (!is_bystander).then_some(work),
            }
        });
        let targets: Vec<Target> = targets.collect();
        let services = (0..10 * racks.div_ceil(5)).map(|number| Service {
            ci: id(3, number),
            name: name(&format!("service {number}")),
            min_available: if number % 2 == 0 {
                Amount::Count(3)
            } else {
                Amount::Share(60.try_into().expect("a part"))
            },
            max_unavailable: None,
        });
        let cap = |most: u32| NonZeroU32::new(most.max(1)).expect("not zero");
        Self {
            fleet: Fleet { targets, services: services.collect() },
            profile: Profile::builtin(profile).expect("built in"),
            caps: Caps {
                max_unavailable: cap(hosts / 25),
                per_wave: cap(hosts / 3),
                per_tenant: cap(hosts / 10),
                per_hour: cap(hosts / 8),
            },
            canaries: (0..hosts / 200).map(|number| ci(number * 37 + 1)).collect(),
        }
    }

    pub(crate) fn plan(&self) -> Layout {
        let order = Order {
            release: id(4, 1),
            change: id(5, 1),
            profile: &self.profile,
            caps: self.caps,
            canaries: &self.canaries,
            freezes: &[],
            previous: &BTreeMap::new(),
            until: at(40 * 1440),
        };
        plan(&self.fleet, &order, at(0)).expect("a layout")
    }
}

fn content() -> Arc<Content> {
    let package = |version: &str| ExactPackage {
        name: "openssl".to_owned(),
        architecture: "amd64".to_owned(),
        version: version.to_owned(),
        sha256: FileHash::from([7; 32]),
    };
    Arc::new(Content {
        actions: vec![Action::Upgrade { packages: vec![package("3.0.15-1")] }],
        rollback: Rollback::Packages { packages: vec![package("3.0.14-1")] },
    })
}
