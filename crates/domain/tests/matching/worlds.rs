//! Small random worlds in which everything meets everything: few names, few releases, few
//! versions, all forms of ranges.

use domain::advisory::{Advisory, Affected, AffectedRange, PackageScope, Provenance, RangeEnd};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use domain::version::VersionKind;
use jiff::Timestamp;
use proptest::prelude::*;

/// Version kind, `ID`, `VERSION_ID` of the systems in a world.
const SYSTEMS: &[(PackageFamily, &str, &str)] = &[
    (PackageFamily::Dpkg, "debian", "12"),
    (PackageFamily::Dpkg, "ubuntu", "22.04"),
    (PackageFamily::Rpm, "almalinux", "9.4"),
    (PackageFamily::Apk, "alpine", "3.20.1"),
];

const ECOSYSTEMS: &[(VersionKind, &str)] = &[
    (VersionKind::Dpkg, "Debian:12"),
    (VersionKind::Dpkg, "Debian:13"),
    (VersionKind::Dpkg, "Ubuntu:22.04"),
    (VersionKind::Dpkg, "Ubuntu:22.04:LTS"),
    (VersionKind::Dpkg, "Ubuntu:Pro:22.04:LTS"),
    (VersionKind::Rpm, "AlmaLinux:9"),
    (VersionKind::Apk, "Alpine:v3.20"),
    // A record may be wrong about its own ecosystem's order.
    (VersionKind::Rpm, "Debian:12"),
];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "c"][..]).prop_map(str::to_owned)
}

fn version() -> impl Strategy<Value = String> {
    let versions = [
        "0",
        "1",
        "1.0",
        "1.00",
        "1-1",
        "1-2",
        "1.0~rc1-1",
        "2-1",
        "2-1.module_el9",
        "3-1",
        "3-1.module+el9",
        "10-1",
        "1:1-1",
        "1_rc1",
        "1-r1",
        "1-r2",
        "2-r0",
    ];
    prop::sample::select(versions.to_vec()).prop_map(str::to_owned)
}

fn scope() -> impl Strategy<Value = PackageScope> {
    prop_oneof![Just(PackageScope::Source), Just(PackageScope::Binary)]
}

fn range() -> impl Strategy<Value = AffectedRange> {
    let end = prop_oneof![
        4 => version().prop_map(RangeEnd::Fixed),
        1 => version().prop_map(RangeEnd::LastAffected),
        1 => Just(RangeEnd::Unfixed),
    ];
    let introduced = prop_oneof![3 => Just(None), 1 => version().prop_map(Some)];
    (introduced, end).prop_map(|(introduced, end)| AffectedRange { introduced, end })
}

fn affected() -> impl Strategy<Value = Affected> {
    let many_ranges = prop_oneof![
        4 => prop::collection::vec(range(), 1..2),
        1 => prop::collection::vec(range(), 0..3),
    ];
    let versions = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(version(), 1..3)];
    (prop::sample::select(ECOSYSTEMS), scope(), name(), many_ranges, versions).prop_map(
        |((version_kind, ecosystem), scope, package, ranges, versions)| Affected {
            ecosystem: ecosystem.to_owned(),
            scope,
            package,
            version_kind,
            ranges,
            versions,
            urgency: None,
        },
    )
}

/// An advisory, sometimes withdrawn.
pub(crate) fn advisory() -> impl Strategy<Value = Advisory> {
    let withdrawn = prop_oneof![9 => Just(None), 1 => Just(Some(Timestamp::UNIX_EPOCH))];
    (prop::collection::vec(affected(), 0..4), withdrawn).prop_map(|(affected, withdrawn)| {
        Advisory {
            id: "TEST".to_owned(),
            cves: Vec::new(),
            summary: None,
            published: None,
            withdrawn,
            cvss_vectors: Vec::new(),
            vendor_severity: None,
            affected,
            provenance: Provenance::Osv { id: "TEST".to_owned() },
        }
    })
}

fn installed() -> impl Strategy<Value = InstalledPackage> {
    (name(), version(), name(), version()).prop_map(|(name, version, source, source_version)| {
        InstalledPackage {
            name,
            architecture: "any".to_owned(),
            version,
            source: SourcePackage { name: source, version: source_version },
            state: PackageState::Installed,
            held: false,
        }
    })
}

/// A system with a few packages.
pub(crate) fn inventory() -> impl Strategy<Value = Inventory> {
    (prop::sample::select(SYSTEMS), prop::collection::vec(installed(), 0..5)).prop_map(
        |((family, id, version_id), packages)| Inventory {
            os: OsRelease {
                id: id.to_owned(),
                version_id: Some(version_id.to_owned()),
                ..OsRelease::default()
            },
            family,
            architecture: "any".to_owned(),
            foreign_architectures: Vec::new(),
            packages,
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        },
    )
}
