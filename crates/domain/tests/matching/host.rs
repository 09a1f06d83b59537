//! The index says of a system what a plain reading of all advisories says.

use domain::advisory::{Advisory, Affected, AffectedRange, PackageScope, Provenance, RangeEnd};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use domain::matching::Index;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::plain_check::{Found, plain_check};
use crate::worlds;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn same_findings_and_fixes(
        inventory in worlds::inventory(),
        advisories in prop::collection::vec(worlds::advisory(), 0..12),
    ) {
        let index = Index::new(&advisories);
        let ours: Vec<Found> = index
            .matches(&inventory)
            .into_iter()
            .map(|found| Found {
                package: found.package,
                advisory: found.advisory,
                fixed: found.fixed.map(str::to_owned),
            })
            .collect();

        let kind = inventory.family.version_kind();
        let plain = plain_check(&inventory, &advisories);
        prop_assert_eq!(ours.len(), plain.len(), "{:?} and {:?}", ours, plain);
        for (ours, plain) in ours.iter().zip(&plain) {
            prop_assert_eq!((ours.package, ours.advisory), (plain.package, plain.advisory));
            // Of fixes that are equal as versions, either may be named.
            let key = |found: &Found| found.fixed.as_deref().map(|fixed| kind.key(fixed));
            prop_assert_eq!(key(ours), key(plain));
        }
    }
}

/// Builds the one advisory and the one package that a rule is about.
struct Case {
    advisory: Advisory,
    inventory: Inventory,
}

impl Case {
    fn debian(installed: &str, fixed: &str) -> Self {
        Self::new(
            PackageFamily::Dpkg,
            ("debian", "12"),
            ("Debian:12", PackageScope::Source),
            [installed, fixed],
        )
    }

    fn alma(installed: &str, fixed: &str) -> Self {
        let alma = ("AlmaLinux:9", PackageScope::Binary);
        Self::new(PackageFamily::Rpm, ("almalinux", "9.6"), alma, [installed, fixed])
    }

    fn new(
        family: PackageFamily,
        (id, version_id): (&str, &str),
        (ecosystem, scope): (&str, PackageScope),
        [installed, fixed]: [&str; 2],
    ) -> Self {
        let package = InstalledPackage {
            name: "library1".to_owned(),
            architecture: "any".to_owned(),
            version: installed.to_owned(),
            source: SourcePackage { name: "library".to_owned(), version: installed.to_owned() },
            state: PackageState::Installed,
            held: false,
        };
        let name = if scope == PackageScope::Source { "library" } else { "library1" };
        let affected = Affected {
            ecosystem: ecosystem.to_owned(),
            scope,
            package: name.to_owned(),
            version_kind: family.version_kind(),
            ranges: vec![AffectedRange {
                introduced: None,
                end: RangeEnd::Fixed(fixed.to_owned()),
            }],
            versions: Vec::new(),
            urgency: None,
        };
        let advisory = Advisory {
            id: "A-1".to_owned(),
            cves: vec!["CVE-2026-1".to_owned()],
            summary: None,
            published: None,
            withdrawn: None,
            cvss_vectors: Vec::new(),
            vendor_severity: None,
            affected: vec![affected],
            provenance: Provenance::Osv { id: "A-1".to_owned() },
        };
        let os = OsRelease {
            id: id.to_owned(),
            version_id: Some(version_id.to_owned()),
            ..OsRelease::default()
        };
        let inventory = Inventory {
            os,
            family,
            architecture: "any".to_owned(),
            foreign_architectures: Vec::new(),
            packages: vec![package],
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        };
        Self { advisory, inventory }
    }

    /// `lacks X`, `lacks a fix`, or `fine`.
    fn verdict(&self) -> String {
        let index = Index::new(std::slice::from_ref(&self.advisory));
        match index.matches(&self.inventory).first().map(|found| found.fixed) {
            None => "fine".to_owned(),
            Some(None) => "lacks a fix".to_owned(),
            Some(Some(fixed)) => format!("lacks {fixed}"),
        }
    }
}

#[test]
fn the_fixed_version_itself_is_fine() {
    assert_eq!(Case::debian("1.2-3", "1.2-3+deb12u1").verdict(), "lacks 1.2-3+deb12u1");
    assert_eq!(Case::debian("1.2-3+deb12u1", "1.2-3+deb12u1").verdict(), "fine");
    assert_eq!(Case::debian("1.2-3+deb12u2", "1.2-3+deb12u1").verdict(), "fine");
}

#[test]
fn a_rebuilt_binary_counts_with_the_version_of_its_source() {
    let mut rebuilt = Case::debian("1.2-3", "1.2-3+a1");

    rebuilt.inventory.packages[0].version = "1.2-3+b9".to_owned();

    assert_eq!(rebuilt.verdict(), "lacks 1.2-3+a1");
}

#[test]
fn another_release_is_another_matter() {
    let mut case = Case::debian("1.2-3", "1.2-4");

    case.inventory.os.version_id = Some("13".to_owned());
    assert_eq!(case.verdict(), "fine");
    case.inventory.os.version_id = None;
    assert_eq!(case.verdict(), "fine");
}

#[test]
fn a_withdrawn_advisory_matches_nothing() {
    let mut case = Case::debian("1.2-3", "1.2-4");

    case.advisory.withdrawn = Some(Timestamp::UNIX_EPOCH);

    assert_eq!(case.verdict(), "fine");
}

#[test]
fn no_fix_is_told_apart() {
    let mut case = Case::debian("1.2-3", "1.2-4");

    case.advisory.affected[0].ranges[0].end = RangeEnd::Unfixed;
    assert_eq!(case.verdict(), "lacks a fix");
    case.advisory.affected[0].ranges[0].end = RangeEnd::LastAffected("1.2-3".to_owned());
    assert_eq!(case.verdict(), "lacks a fix");
    case.inventory.packages[0].source.version = "1.2-4".to_owned();
    assert_eq!(case.verdict(), "fine");
}

#[test]
fn module_streams_keep_to_themselves() {
    let module = "18.4-2.module_el9.8.0+280+5ad12178";

    assert_eq!(Case::alma("13.20-1.el9_5", module).verdict(), "fine");
    assert_eq!(
        Case::alma("18.1-2.module_el9.7.0+200+aaaaaaaa", module).verdict(),
        format!("lacks {module}")
    );
    assert_eq!(Case::alma("16.1-2.module_el9.7.0+200+aaaaaaaa", "18-1.el9").verdict(), "fine");
}

#[test]
fn both_spellings_of_a_long_term_release_are_one() {
    for ecosystem in ["Ubuntu:22.04", "Ubuntu:22.04:LTS"] {
        let jammy = ("ubuntu", "22.04");
        let source = (ecosystem, PackageScope::Source);
        let case = Case::new(PackageFamily::Dpkg, jammy, source, ["1-1", "1-2"]);
        assert_eq!(case.verdict(), "lacks 1-2", "{ecosystem}");
    }
}
