//! Who has which package set.

use super::{SetId, TenantId, VmId};
use crate::matching::lane::number;

/// VMs, their tenants and their sets, looked up either way.
#[derive(Debug, Clone, Default)]
pub(super) struct Population {
    vms: Vec<Vm>,
    /// By position of the set.
    members: Vec<Members>,
    tenants: u32,
    observed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Vm {
    tenant: TenantId,
    /// The set, and the place among its members.
    set: Option<(SetId, u32)>,
}

/// Who has a set. Each VM has one, so members of different sets never overlap.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    pub(super) vms: Vec<VmId>,
    /// Ascending by tenant; how many of the VMs are whose.
    pub(super) tenants: Vec<(TenantId, u32)>,
}

impl Population {
    pub(super) fn add_tenant(&mut self) -> TenantId {
        let tenant = TenantId(self.tenants);
        self.tenants += 1;
        tenant
    }

    pub(super) fn enrol(&mut self, tenant: TenantId) -> VmId {
        assert!(tenant.0 < self.tenants, "{tenant:?} is of another fleet");
        let vm = VmId(number(self.vms.len()));
        self.vms.push(Vm { tenant, set: None });
        vm
    }

    pub(super) fn add_set(&mut self, set: SetId) {
        if self.members.len() <= set.position() {
            self.members.resize_with(set.position() + 1, Members::default);
        }
    }

    pub(super) fn set_of(&self, vm: VmId) -> Option<SetId> {
        self.vms[vm.0 as usize].set.map(|(set, _)| set)
    }

    pub(super) fn members(&self, set: SetId) -> &Members {
        &self.members[set.position()]
    }

    pub(super) const fn tenants(&self) -> u32 {
        self.tenants
    }

    pub(super) const fn observed(&self) -> usize {
        self.observed
    }

    pub(super) fn is_unused(&self, set: SetId) -> bool {
        self.members(set).vms.is_empty()
    }

    /// The VM, which has no set, gets this one.
    pub(super) fn enter(&mut self, vm: VmId, set: SetId) {
        let entering = &mut self.vms[vm.0 as usize];
        let members = &mut self.members[set.position()];
        entering.set = Some((set, number(members.vms.len())));
        members.vms.push(vm);
        match members.tenants.binary_search_by_key(&entering.tenant, |(tenant, _)| *tenant) {
            Ok(place) => members.tenants[place].1 += 1,
            Err(place) => members.tenants.insert(place, (entering.tenant, 1)),
        }
        self.observed += 1;
    }

    /// The VM no longer has a set; returns the one that it had.
    pub(super) fn leave(&mut self, vm: VmId) -> Option<SetId> {
        let leaving = &mut self.vms[vm.0 as usize];
        let tenant = leaving.tenant;
        let (set, place) = leaving.set.take()?;
        let members = &mut self.members[set.position()];
        members.vms.swap_remove(place as usize);
        if let Some(moved) = members.vms.get(place as usize) {
            self.vms[moved.0 as usize].set = Some((set, place));
        }
        if let Ok(of_tenant) = members.tenants.binary_search_by_key(&tenant, |(it, _)| *it) {
            members.tenants[of_tenant].1 -= 1;
            if members.tenants[of_tenant].1 == 0 {
                members.tenants.remove(of_tenant);
            }
        }
        self.observed -= 1;
        Some(set)
    }
}
