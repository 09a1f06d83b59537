//! A plain reading of advisories: nested loops over packages, advisories and ranges, sharing
//! nothing with the index but the types and the comparison of two versions.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use domain::advisory::{Advisory, Affected, AffectedRange, PackageScope, RangeEnd};
use domain::inventory::Inventory;
use domain::matching::{Missing, ecosystems_of};
use domain::version::VersionKind;

/// What the plain reading says of one installed package and one advisory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) package: usize,
    pub(crate) advisory: usize,
    pub(crate) fixed: Option<String>,
}

/// All findings of a system, by package, then advisory.
pub(crate) fn plain_check(inventory: &Inventory, advisories: &[Advisory]) -> Vec<Found> {
    let mut found = Vec::new();
    for (package, installed) in inventory.packages.iter().enumerate() {
        for (advisory, published) in advisories.iter().enumerate() {
            let mut verdicts = verdicts(
                published,
                inventory,
                &[
                    (PackageScope::Source, &installed.source.name, &installed.source.version),
                    (PackageScope::Binary, &installed.name, &installed.version),
                ],
            );
            if verdicts.is_empty() {
                continue;
            }
            let kind = inventory.family.version_kind();
            verdicts.retain(Option::is_some);
            let fixed = verdicts.into_iter().flatten().min_by(|a, b| kind.compare(a, b));
            found.push(Found { package, advisory, fixed });
        }
    }
    found
}

/// What a system misses, each advisory once for each source and binary package.
pub(crate) fn plain_count(inventory: &Inventory, advisories: &[Advisory]) -> Missing {
    let kind = inventory.family.version_kind();
    let mut installed: Vec<(PackageScope, &str, &str)> = Vec::new();
    for package in &inventory.packages {
        for (scope, name, version) in [
            (PackageScope::Source, &package.source.name, &package.source.version),
            (PackageScope::Binary, &package.name, &package.version),
        ] {
            let is_known = installed.iter().any(|(s, n, v)| {
                (*s, *n) == (scope, name) && kind.compare(v, version) == Ordering::Equal
                    // Inside and outside a module stream are different things.
                    && is_module(kind, v) == is_module(kind, version)
            });
            if !is_known {
                installed.push((scope, name, version));
            }
        }
    }
    let mut missing = Missing::default();
    for package in installed {
        for advisory in advisories {
            let verdicts = verdicts(advisory, inventory, &[package]);
            if verdicts.iter().any(Option::is_some) {
                missing.fixable += 1;
            } else if !verdicts.is_empty() {
                missing.unfixed += 1;
            }
        }
    }
    missing
}

/// One verdict for each statement that says "affected": the fixed version, if there is one.
fn verdicts(
    advisory: &Advisory,
    inventory: &Inventory,
    packages: &[(PackageScope, &str, &str)],
) -> Vec<Option<String>> {
    let mut verdicts = Vec::new();
    if advisory.withdrawn.is_some() {
        return verdicts;
    }
    let ecosystems: BTreeSet<String> = ecosystems_of(&inventory.os).into_iter().collect();
    for &(scope, name, version) in packages {
        let kind = inventory.family.version_kind();
        let about: Vec<&Affected> = advisory
            .affected
            .iter()
            .filter(|affected| {
                ecosystems.contains(&affected.ecosystem)
                    && affected.scope == scope
                    && affected.package == name
                    && affected.version_kind == kind
            })
            .collect();
        let ranges: Vec<&AffectedRange> = about
            .iter()
            .flat_map(|affected| &affected.ranges)
            .filter(|range| speaks_of(kind, range, version))
            .collect();
        let is_listed = about.iter().flat_map(|affected| &affected.versions).any(|listed| {
            kind.compare(listed, version) == Ordering::Equal
                && is_module(kind, listed) == is_module(kind, version)
        });
        if !is_listed && !ranges.iter().any(|range| holds(kind, range, version)) {
            continue;
        }
        let mut fixes: Vec<&str> = Vec::new();
        for range in ranges {
            if let RangeEnd::Fixed(fixed) = &range.end
                && (is_listed || holds(kind, range, version))
                && kind.compare(fixed, version) == Ordering::Greater
            {
                fixes.push(fixed);
            }
        }
        fixes.sort_by(|a, b| kind.compare(a, b));
        verdicts.push(fixes.first().map(|&fixed| fixed.to_owned()));
    }
    verdicts
}

fn holds(kind: VersionKind, range: &AffectedRange, version: &str) -> bool {
    let has_begun = match range.introduced.as_deref() {
        None | Some("0") => true,
        Some(introduced) => kind.compare(introduced, version) != Ordering::Greater,
    };
    has_begun
        && match &range.end {
            RangeEnd::Fixed(fixed) => kind.compare(version, fixed) == Ordering::Less,
            RangeEnd::LastAffected(last) => kind.compare(version, last) != Ordering::Greater,
            RangeEnd::Unfixed => true,
        }
}

/// A fix of a module stream says nothing about a package outside streams, nor the other way.
fn speaks_of(kind: VersionKind, range: &AffectedRange, version: &str) -> bool {
    match &range.end {
        RangeEnd::Fixed(end) | RangeEnd::LastAffected(end) => {
            is_module(kind, end) == is_module(kind, version)
        }
        RangeEnd::Unfixed => true,
    }
}

fn is_module(kind: VersionKind, version: &str) -> bool {
    kind == VersionKind::Rpm && (version.contains(".module_") || version.contains(".module+"))
}
