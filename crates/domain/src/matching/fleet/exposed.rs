//! Whom an advisory concerns.

use roaring::RoaringBitmap;

use super::cells::CellId;
use super::{AdvisoryId, Fleet, SetId, TenantId, VmId};
use crate::matching::missing::Missing;

/// The VMs and tenants that an advisory concerns.
///
/// Held as the sets concerned: every VM has one set, so counting or listing VMs needs no union.
#[derive(Debug, Clone)]
pub struct Exposed<'a> {
    fleet: &'a Fleet,
    advisory: AdvisoryId,
    sets: RoaringBitmap,
}

impl<'a> Exposed<'a> {
    pub(super) fn new(
        fleet: &'a Fleet,
        advisory: AdvisoryId,
        cells: Vec<(CellId, Missing)>,
    ) -> Self {
        let mut sets = RoaringBitmap::new();
        for (cell, _) in cells {
            sets |= fleet.cells.bitmap_of(cell);
        }
        Self { fleet, advisory, sets }
    }

    /// The advisory.
    pub const fn advisory(&self) -> AdvisoryId {
        self.advisory
    }

    /// How many VMs are concerned.
    pub fn vm_count(&self) -> usize {
        self.members().map(|members| members.vms.len()).sum()
    }

    /// The VMs concerned, each once, in no particular order.
    pub fn vms(&self) -> Vec<VmId> {
        let mut vms = Vec::with_capacity(self.vm_count());
        for members in self.members() {
            vms.extend_from_slice(&members.vms);
        }
        vms
    }

    /// The tenants concerned, ascending, with how many of their VMs are.
    pub fn tenants(&self) -> Vec<(TenantId, u32)> {
        let mut vms_of = vec![0_u32; self.fleet.population.tenants() as usize];
        for members in self.members() {
            for &(tenant, vms) in &members.tenants {
                vms_of[tenant.0 as usize] += vms;
            }
        }
        let counted = (0..).map(TenantId).zip(vms_of);
        counted.filter(|(_, vms)| *vms > 0).collect()
    }

    fn members(&self) -> impl Iterator<Item = &'a super::population::Members> {
        let population = &self.fleet.population;
        self.sets.iter().map(move |set| population.members(SetId(set)))
    }
}
