//! Whatever happens to a fleet in whatever order, its counts and its answers are those of a plain
//! reading of what is there now.

use std::num::NonZeroUsize;

use crate::plain_check::plain_count;
use crate::worlds;
use domain::advisory::Advisory;
use domain::inventory::Inventory;
use domain::matching::{AdvisoryId, Fleet, Missing, PackageSet, TenantId, VmId};
use jiff::Timestamp;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Observe { vm: usize, inventory: Box<Inventory> },
    ObserveLike { vm: usize, other: usize },
    Retire { vm: usize },
    Publish(Box<Advisory>),
    Withdraw { advisory: usize },
    Rematch { workers: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..VMS, worlds::inventory())
            .prop_map(|(vm, inventory)| Event::Observe { vm, inventory: Box::new(inventory) }),
        2 => (0..VMS, 0..VMS).prop_map(|(vm, other)| Event::ObserveLike { vm, other }),
        1 => (0..VMS).prop_map(|vm| Event::Retire { vm }),
        4 => worlds::advisory().prop_map(|advisory| Event::Publish(Box::new(advisory))),
        2 => any::<prop::sample::Index>()
            .prop_map(|advisory| Event::Withdraw { advisory: advisory.index(1 << 16) }),
        1 => (1..4_usize).prop_map(|workers| Event::Rematch { workers }),
    ]
}

const VMS: usize = 6;
const TENANTS: usize = 3;

/// What is there, without any index.
struct World {
    advisories: Vec<Advisory>,
    inventories: Vec<Option<Inventory>>,
}

impl World {
    fn missing(&self, vm: usize) -> Option<Missing> {
        Some(plain_count(self.inventories[vm].as_ref()?, &self.advisories))
    }

    fn exposed_to(&self, advisory: usize) -> Vec<usize> {
        let one = std::slice::from_ref(&self.advisories[advisory]);
        let is_exposed = |inventory: &Inventory| plain_count(inventory, one) != Missing::default();
        (0..VMS).filter(|&vm| self.inventories[vm].as_ref().is_some_and(is_exposed)).collect()
    }
}

struct Pair {
    world: World,
    fleet: Fleet,
    tenants: Vec<TenantId>,
    vms: Vec<VmId>,
    advisories: Vec<AdvisoryId>,
}

impl Pair {
    fn new(advisories: Vec<Advisory>) -> Self {
        let mut fleet = Fleet::new(&advisories);
        let tenants: Vec<TenantId> = (0..TENANTS).map(|_| fleet.add_tenant()).collect();
        let vms = (0..VMS).map(|vm| fleet.enrol(tenants[vm % TENANTS])).collect();
        // Ids are positions: those of the first advisories come from adding and rematching.
        let mut started = Fleet::default();
        let ids = advisories.iter().map(|one| started.add_advisory(one).advisory()).collect();
        let world = World { advisories, inventories: vec![None; VMS] };
        Self { world, fleet, tenants, vms, advisories: ids }
    }

    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Observe { vm, inventory } => {
                self.fleet.observe(self.vms[vm], &PackageSet::of(&inventory));
                self.world.inventories[vm] = Some(*inventory);
            }
            Event::ObserveLike { vm, other } => {
                let Some(inventory) = self.world.inventories[other].clone() else { return Ok(()) };
                let digest = PackageSet::of(&inventory).digest();
                prop_assert_eq!(self.fleet.observe_digest(self.vms[vm], digest), Ok(()));
                self.world.inventories[vm] = Some(inventory);
            }
            Event::Retire { vm } => {
                self.fleet.retire(self.vms[vm]);
                self.world.inventories[vm] = None;
            }
            Event::Publish(advisory) => {
                self.world.advisories.push(*advisory);
                let position = self.world.advisories.len() - 1;
                let expected = self.world.exposed_to(position);
                let exposed = self.fleet.add_advisory(&self.world.advisories[position]);
                prop_assert_eq!(exposed.advisory().position(), position);
                prop_assert_eq!(exposed.vm_count(), expected.len());
                self.advisories.push(exposed.advisory());
            }
            Event::Withdraw { advisory } => {
                if self.advisories.is_empty() {
                    return Ok(());
                }
                let position = advisory % self.advisories.len();
                let expected = self.world.exposed_to(position);
                let exposed = self.fleet.withdraw_advisory(self.advisories[position]);
                prop_assert_eq!(exposed.vm_count(), expected.len());
                self.world.advisories[position].withdrawn = Some(Timestamp::UNIX_EPOCH);
            }
            Event::Rematch { workers } => {
                let workers = NonZeroUsize::new(workers).expect("at least one");
                self.fleet.rematch(&self.world.advisories, workers);
            }
        }
        Ok(())
    }

    fn agree(&self) -> Result<(), TestCaseError> {
        for (position, &vm) in self.vms.iter().enumerate() {
            prop_assert_eq!(
                self.fleet.missing(vm),
                self.world.missing(position),
                "VM {}",
                position
            );
        }
        for (position, &advisory) in self.advisories.iter().enumerate() {
            let exposed = self.fleet.exposed_to(advisory);
            let expected = self.world.exposed_to(position);
            let mut vms = exposed.vms();
            vms.sort_unstable();
            let expected_vms: Vec<VmId> = expected.iter().map(|&vm| self.vms[vm]).collect();
            prop_assert_eq!(vms, expected_vms, "advisory {}", position);
            let mut tenants = Vec::new();
            for (number, &tenant) in self.tenants.iter().enumerate() {
                let theirs = expected.iter().filter(|&&vm| vm % TENANTS == number).count();
                if theirs > 0 {
                    tenants.push((tenant, u32::try_from(theirs).expect("few")));
                }
            }
            prop_assert_eq!(exposed.tenants(), tenants);
        }
        let observed = self.world.inventories.iter().flatten();
        let mut digests: Vec<_> = observed.map(|it| PackageSet::of(it).digest()).collect();
        prop_assert_eq!(self.fleet.observed_vms(), digests.len());
        digests.sort_unstable();
        digests.dedup();
        prop_assert_eq!(self.fleet.distinct_sets(), digests.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn after_every_event(
        advisories in prop::collection::vec(worlds::advisory(), 0..6),
        events in prop::collection::vec(event(), 0..24),
    ) {
        let mut pair = Pair::new(advisories);
        for event in events {
            pair.apply(event)?;
            pair.agree()?;
        }
        let incremental: Vec<_> = pair.vms.iter().map(|&vm| pair.fleet.missing(vm)).collect();

        pair.fleet.rematch(&pair.world.advisories, NonZeroUsize::MIN);

        let from_nothing: Vec<_> = pair.vms.iter().map(|&vm| pair.fleet.missing(vm)).collect();
        prop_assert_eq!(incremental, from_nothing);
    }
}

#[test]
fn what_nobody_has_is_forgotten() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tree = worlds::inventory().new_tree(&mut runner).expect("a world");
    let inventory = proptest::strategy::ValueTree::current(&tree);
    let packages = PackageSet::of(&inventory);
    let mut fleet = Fleet::default();
    let tenant = fleet.add_tenant();
    let vm = fleet.enrol(tenant);

    fleet.observe(vm, &packages);
    fleet.retire(vm);

    assert_eq!((fleet.distinct_sets(), fleet.distinct_versions()), (0, 0));
    let unknown = fleet.observe_digest(vm, packages.digest()).expect_err("it was forgotten");
    assert_eq!(unknown.to_string(), format!("package set {} is not known", packages.digest()));
    assert_eq!(fleet.missing(vm), None);
}
