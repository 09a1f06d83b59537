//! Which package system a host has: the one place where that is decided.

use std::path::Path;

use domain::inventory::PackageFamily;
use jiff::Timestamp;

use super::apt::Apt;
use super::archives::HostArchives;
use super::packages::{PackageSystem, TrustedPackages};
use super::rpm::{Dnf, HostRepositories};
use super::unattended::Unattended;

/// A host's package system, with whatever the host itself trusts to bring packages.
pub struct Packages {
    /// Alters what is installed.
    pub system: Box<dyn PackageSystem>,
    /// Knows which packages are their vendor's.
    pub archives: Box<dyn TrustedPackages>,
}

impl Packages {
    /// Those of the system below a root, by the family that it is of; with a directory to work in that lies
    /// below it as well, judged by the time `now`.
    pub fn of(family: PackageFamily, root: &Path, work: &Path, now: Timestamp) -> Self {
        let archives = work.join("archives");
        match family {
            PackageFamily::Dpkg => Self {
                system: Box::new(Apt::new(root, work)),
                archives: Box::new(HostArchives::new(root, archives, now)),
            },
            PackageFamily::Rpm => Self {
                system: Box::new(Dnf::new(root, work)),
                archives: Box::new(HostRepositories::new(root, archives)),
            },
            PackageFamily::Apk => {
                let unattended = Unattended(family.version_kind());
                Self { system: Box::new(unattended), archives: Box::new(unattended) }
            }
        }
    }
}
