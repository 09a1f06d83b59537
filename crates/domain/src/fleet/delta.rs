//! Package sets as differences: an upgrade changes few of many packages.

use serde::{Deserialize, Serialize};

use super::{PackageSet, SetDigest};
use crate::inventory::{InstalledPackage, Inventory};

/// What makes one package set of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDelta {
    /// The set that it begins with.
    pub base: SetDigest,
    /// The set that it leads to.
    pub result: SetDigest,
    /// Packages that are gone, or are there in another version now.
    pub removed: Vec<InstalledPackage>,
    /// Packages that are new, or are there in this version now.
    pub added: Vec<InstalledPackage>,
    /// Kernels on disk now.
    pub installed_kernels: Vec<String>,
}

/// A delta that does not lead where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the difference does not lead from its base to its result")]
pub struct BrokenDelta;

impl SetDelta {
    /// What makes `new` of `base`; `None` where they differ in more than packages and kernels.
    pub fn between(base: &PackageSet, new: &PackageSet) -> Option<Self> {
        let (old, fresh) = (base.inventory(), new.inventory());
        let without = |inventory: &Inventory| Inventory {
            packages: Vec::new(),
            installed_kernels: Vec::new(),
            ..inventory.clone()
        };
        if base.choice() != new.choice() || without(old) != without(fresh) {
            return None;
        }
        // Both are sorted: a package that is not in the other is removed or added.
        let lacking = |from: &[InstalledPackage], of: &[InstalledPackage]| {
            from.iter().filter(|package| of.binary_search(package).is_err()).cloned().collect()
        };
        Some(Self {
            base: base.digest(),
            result: new.digest(),
            removed: lacking(&old.packages, &fresh.packages),
            added: lacking(&fresh.packages, &old.packages),
            installed_kernels: fresh.installed_kernels.clone(),
        })
    }

    /// The set that it leads to.
    ///
    /// # Errors
    /// If the base is another one, or something else than promised comes out.
    pub fn apply(&self, base: &PackageSet) -> Result<PackageSet, BrokenDelta> {
        if base.digest() != self.base {
            return Err(BrokenDelta);
        }
        let mut inventory = base.inventory().clone();
        inventory.packages.retain(|package| !self.removed.contains(package));
        inventory.packages.extend(self.added.iter().cloned());
        inventory.packages.sort();
        inventory.installed_kernels.clone_from(&self.installed_kernels);
        let set = PackageSet::new(inventory, base.choice().clone());
        if set.digest() == self.result { Ok(set) } else { Err(BrokenDelta) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::VersionChoice;
    use crate::inventory::{OsRelease, PackageFamily, PackageState, SourcePackage};
    use proptest::prelude::*;

    fn set(packages: &[(u8, u8)]) -> PackageSet {
        let mut packages: Vec<_> = packages
            .iter()
            .map(|(name, version)| InstalledPackage {
                name: format!("p{name}"),
                architecture: "amd64".into(),
                version: version.to_string(),
                source: SourcePackage { name: format!("p{name}"), version: version.to_string() },
                state: PackageState::Installed,
                held: false,
            })
            .collect();
        packages.sort();
        packages.dedup();
        let inventory = Inventory {
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            family: PackageFamily::Dpkg,
            architecture: "amd64".into(),
            foreign_architectures: Vec::new(),
            packages,
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        };
        PackageSet::new(inventory, VersionChoice::default())
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_to_the_other(
            old in proptest::collection::vec((0_u8..20, 0_u8..4), 0..30),
            new in proptest::collection::vec((0_u8..20, 0_u8..4), 0..30),
        ) {
            let (old, new) = (set(&old), set(&new));
            let delta = SetDelta::between(&old, &new).unwrap();

            prop_assert_eq!(delta.apply(&old).unwrap(), new);
        }
    }

    #[test]
    fn a_difference_that_was_altered_is_refused() {
        let (old, new) = (set(&[(1, 1), (2, 1)]), set(&[(1, 2), (2, 1)]));
        let delta = SetDelta::between(&old, &new).unwrap();
        assert_eq!((delta.removed.len(), delta.added.len()), (1, 1));

        let elsewhere = SetDelta { base: new.digest(), ..delta.clone() };
        let more = SetDelta { removed: Vec::new(), ..delta.clone() };
        assert_eq!(elsewhere.apply(&old), Err(BrokenDelta));
        assert_eq!(more.apply(&old), Err(BrokenDelta));
        assert_eq!(delta.apply(&new), Err(BrokenDelta));
    }

    #[test]
    fn another_system_is_no_difference() {
        let other = set(&[(1, 1)]);
        let inventory = Inventory { architecture: "arm64".into(), ..other.inventory().clone() };
        let foreign = PackageSet::new(inventory, VersionChoice::default());

        assert_eq!(SetDelta::between(&other, &foreign), None);
    }
}
