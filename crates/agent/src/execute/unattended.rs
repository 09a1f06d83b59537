//! A package system with which no orders are carried out: each is refused, for that reason.

use std::path::{Path, PathBuf};

use domain::change::ExactPackage;
use domain::order::Refusal;
use domain::version::VersionKind;

use super::packages::{Alteration, Found, PackageFault, PackageSystem, Room, TrustedPackages};

/// Refuses, and says with which package system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unattended(pub(super) VersionKind);

impl Unattended {
    fn no<T>(self) -> Result<T, PackageFault> {
        Err(PackageFault::Unattended { kind: self.0 })
    }
}

impl PackageSystem for Unattended {
    fn versions(&self) -> VersionKind {
        self.0
    }

    fn ending(&self) -> &'static str {
        self.0.name()
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        self.no()
    }

    fn audit(&self) -> Result<(), PackageFault> {
        self.no()
    }

    fn repair(&self) -> Result<(), PackageFault> {
        self.no()
    }

    fn mend(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        self.no()
    }

    fn settle(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        self.no()
    }

    fn clear(&self, _: &[ExactPackage]) -> Result<(), PackageFault> {
        self.no()
    }

    fn unpacked_size(&self, _: &Path) -> Result<u64, PackageFault> {
        self.no()
    }

    fn unpacks_to(&self) -> PathBuf {
        PathBuf::from("/")
    }

    fn repack(&self, _: &Found, _: &Path) -> Result<PathBuf, PackageFault> {
        self.no()
    }

    fn keep_settings(&self, _: &[Found], _: &Path) -> Result<(), PackageFault> {
        self.no()
    }

    fn restore_settings(&self, _: &Path) -> Result<(), PackageFault> {
        self.no()
    }

    fn alter(&self, _: &Alteration<'_>) -> Result<(), PackageFault> {
        self.no()
    }
}

impl TrustedPackages for Unattended {
    fn bring(
        &self,
        packages: &[ExactPackage],
        _: &Path,
        _: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let fault = PackageFault::Unattended { kind: self.0 };
        match packages.first() {
            None => Ok(Vec::new()),
            Some(first) => Err(Refusal::NotFetched {
                package: Box::new(first.clone()),
                because: fault.to_string(),
            }),
        }
    }
}
