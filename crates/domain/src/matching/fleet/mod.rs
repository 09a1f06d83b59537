//! A fleet: how exposed many systems are, kept up to date by what changes.

mod cells;
mod exposed;
mod population;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::thread;

use crate::advisory::Advisory;

use super::index::Index;
use super::lane::{LaneName, Stream, number};
use super::missing::Missing;
use super::set::{PackageSet, SetDigest};

use cells::{CellId, Cells};
use population::Population;

pub use exposed::Exposed;

/// A VM of a [`Fleet`]; given out by [`Fleet::enrol`], never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(u32);

/// A tenant of a [`Fleet`]; given out by [`Fleet::add_tenant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(u32);

/// An advisory of a [`Fleet`]: its position among those given to [`Fleet::new`] or
/// [`Fleet::rematch`], later ones following in the order added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdvisoryId(u32);

impl AdvisoryId {
    /// Its position.
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

/// Position of a set; reused once no VM has the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SetId(u32);

/// No VM has ever reported the set of this digest, or none does any more: the set itself is
/// needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("package set {digest} is not known")]
pub struct UnknownSet {
    /// The digest asked for.
    pub digest: SetDigest,
}

impl UnknownSet {
    /// The next step.
    pub const fn help(&self) -> &'static str {
        "send the whole package set once; its digest is enough from then on"
    }
}

/// VMs with their package sets, joined with advisories.
///
/// Every verb keeps the counts exact: after any sequence of them they are what
/// [`Fleet::rematch`] would compute from nothing.
///
/// Memory is bounded by what is present: sets and versions that no VM has are dropped. Names of
/// packages and advisories stay until the fleet is built anew.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    index: Index,
    cells: Cells,
    sets: Vec<Set>,
    free_sets: Vec<SetId>,
    set_of_digest: HashMap<SetDigest, SetId>,
    population: Population,
}

/// A package set that at least one VM has.
#[derive(Debug, Clone)]
struct Set {
    digest: SetDigest,
    /// Without duplicates.
    cells: Box<[CellId]>,
    /// `None` where no advisories exist for the set's release.
    missing: Option<Missing>,
}

impl Fleet {
    /// A fleet without VMs that knows these advisories.
    pub fn new(advisories: &[Advisory]) -> Self {
        Self { index: Index::new(advisories), ..Self::default() }
    }

    /// Adds a tenant.
    pub fn add_tenant(&mut self) -> TenantId {
        self.population.add_tenant()
    }

    /// Adds a VM of a tenant, not observed yet.
    ///
    /// # Panics
    /// If the tenant is of another fleet.
    pub fn enrol(&mut self, tenant: TenantId) -> VmId {
        self.population.enrol(tenant)
    }

    /// Takes a VM out of all counts, until it is observed again.
    ///
    /// # Panics
    /// As do all verbs that name a VM, if it is of another fleet.
    pub fn retire(&mut self, vm: VmId) {
        if let Some(set) = self.population.leave(vm) {
            self.drop_if_unused(set);
        }
    }

    /// Records what a VM has installed.
    pub fn observe(&mut self, vm: VmId, packages: &PackageSet) {
        let set = match self.set_of_digest.get(&packages.digest()) {
            Some(&set) => set,
            None => self.add_set(packages),
        };
        self.move_to(vm, set);
    }

    /// Records what a VM has installed, by digest alone.
    ///
    /// # Errors
    /// Where no other VM has that set now; the VM stays as it was observed before.
    pub fn observe_digest(&mut self, vm: VmId, digest: SetDigest) -> Result<(), UnknownSet> {
        let set = *self.set_of_digest.get(&digest).ok_or(UnknownSet { digest })?;
        self.move_to(vm, set);
        Ok(())
    }

    /// Takes a new advisory into account and says whom it concerns.
    pub fn add_advisory(&mut self, advisory: &Advisory) -> Exposed<'_> {
        let added = AdvisoryId(self.index.add(advisory));
        let exposed = self.cells.affected(&self.index, added);
        for &(cell, missing) in &exposed {
            *self.cells.missing_mut(cell) += missing;
            for set in self.cells.sets_of(cell) {
                if let Some(of_set) = &mut self.sets[set.position()].missing {
                    *of_set += missing;
                }
            }
        }
        Exposed::new(self, added, exposed)
    }

    /// Takes an advisory back and says whom it concerned until now.
    pub fn withdraw_advisory(&mut self, advisory: AdvisoryId) -> Exposed<'_> {
        let exposed = self.cells.affected(&self.index, advisory);
        self.index.remove(advisory.0);
        for &(cell, missing) in &exposed {
            *self.cells.missing_mut(cell) -= missing;
            for set in self.cells.sets_of(cell) {
                if let Some(of_set) = &mut self.sets[set.position()].missing {
                    *of_set -= missing;
                }
            }
        }
        Exposed::new(self, advisory, exposed)
    }

    /// Whom an advisory concerns.
    pub fn exposed_to(&self, advisory: AdvisoryId) -> Exposed<'_> {
        Exposed::new(self, advisory, self.cells.affected(&self.index, advisory))
    }

    /// What a VM misses; `None` where that is unknown, because it was not observed or no
    /// advisories exist for its release.
    pub fn missing(&self, vm: VmId) -> Option<Missing> {
        self.sets[self.population.set_of(vm)?.position()].missing
    }

    /// How many VMs are observed.
    pub fn observed_vms(&self) -> usize {
        self.population.observed()
    }

    /// How many distinct package sets they have.
    pub fn distinct_sets(&self) -> usize {
        self.set_of_digest.len()
    }

    /// How many distinct versions of packages are in those sets.
    pub fn distinct_versions(&self) -> usize {
        self.cells.len()
    }

    /// Forgets all advisories and every count, takes these advisories and computes all counts from
    /// nothing, on as many threads as given.
    pub fn rematch(&mut self, advisories: &[Advisory], workers: NonZeroUsize) {
        self.index.rebuild(advisories, workers);
        self.cells.recount(&self.index, workers);
        let cells = &self.cells;
        let share = self.sets.len().div_ceil(workers.get()).max(1);
        thread::scope(|scope| {
            for sets in self.sets.chunks_mut(share) {
                scope.spawn(move || {
                    for set in sets {
                        set.missing = set.missing.map(|_| cells.total(&set.cells));
                    }
                });
            }
        });
    }

    fn move_to(&mut self, vm: VmId, set: SetId) {
        let left = self.population.leave(vm);
        self.population.enter(vm, set);
        if let Some(left) = left {
            self.drop_if_unused(left);
        }
    }

    fn add_set(&mut self, packages: &PackageSet) -> SetId {
        let set = self.free_sets.pop().unwrap_or(SetId(number(self.sets.len())));
        let mut cells = Vec::new();
        let mut key = Vec::new();
        if let Some(ecosystem) = packages.release() {
            let kind = packages.kind();
            let names = packages.packages().map(|(scope, name, version)| {
                let stream = Stream::of(kind, version);
                LaneName { ecosystem, name, kind, scope, stream }
            });
            let lanes = self.index.lanes(names);
            cells.reserve_exact(lanes.len());
            for (lane, (_, _, version)) in lanes.into_iter().zip(packages.packages()) {
                key.clear();
                kind.write_key(version, &mut key);
                cells.push(self.cells.find_or_add(lane, &key, &self.index));
            }
        }
        // Versions may differ in writing alone.
        cells.sort_unstable();
        cells.dedup();
        for &cell in &cells {
            self.cells.enter(cell, set);
        }
        let missing = packages.release().map(|_| self.cells.total(&cells));
        let digest = packages.digest();
        let added = Set { digest, cells: cells.into_boxed_slice(), missing };
        match self.sets.get_mut(set.position()) {
            Some(free) => *free = added,
            None => self.sets.push(added),
        }
        self.population.add_set(set);
        self.set_of_digest.insert(digest, set);
        set
    }

    fn drop_if_unused(&mut self, set: SetId) {
        if !self.population.is_unused(set) {
            return;
        }
        let dropped = &mut self.sets[set.position()];
        self.set_of_digest.remove(&dropped.digest);
        for cell in std::mem::take(&mut dropped.cells) {
            self.cells.leave(cell, set);
        }
        dropped.missing = None;
        self.free_sets.push(set);
    }
}

impl SetId {
    const fn position(self) -> usize {
        self.0 as usize
    }
}
