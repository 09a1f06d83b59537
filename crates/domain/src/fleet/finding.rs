//! Findings over time: opened, fixed, opened again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{AdvisoryRef, Finding, Report, Status};
use crate::cloud::{PatchId, words};
use crate::inventory::{InstalledPackage, Inventory, PackageFamily};
use crate::priority::Priority;
use crate::version::VersionKind;

words! {
    /// Where a finding stands. Whether its risk is accepted, or its item silent, is told beside it:
    /// neither closes it.
    FindingState {
        /// The patch is missing.
        Open = "open",
        /// The patch, or a later one, is installed, or the package is gone.
        Fixed = "fixed",
        /// The sources offer the patch no more.
        Withdrawn = "withdrawn",
        /// The item left the cloud.
        Retired = "retired",
    }
}

/// A patch that a system lacks: one source package, whose binaries are installed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPatch {
    /// Source package.
    pub source: String,
    /// The oldest source version installed.
    pub installed: String,
    /// Source version with the patch.
    pub candidate: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Why.
    pub reason: String,
    /// CVE ids that it fixes here, sorted.
    pub cves: Vec<String>,
    /// Advisories that speak of it, sorted.
    pub advisories: Vec<String>,
    /// Whether it closes a vulnerability.
    pub security: bool,
    /// Whether the administrator holds a package of it at its version.
    pub held: bool,
    /// Those of `cves` that are known to be exploited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exploited: Vec<String>,
    /// When the vendor published the candidate, by the signed changelog's entry of that version or
    /// an advisory about it; where neither has a date, the latest date of all that speak of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
}

impl MissingPatch {
    /// The patch's id, the same wherever it is missing: from the distribution's release
    /// (`debian:12`), the source package and the version with the patch.
    pub fn id(&self, release: &str) -> PatchId {
        let mut hasher = blake3::Hasher::new();
        for text in [release, &self.source, &self.candidate] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        PatchId::of_content(first)
    }
}

/// A finding that is known already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFinding {
    /// Where it stands.
    pub state: FindingState,
    /// The patch as it was when last looked at.
    pub patch: MissingPatch,
}

/// What a check means for one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Missing, and never seen before.
    Open(MissingPatch),
    /// Missing again.
    Reopen(MissingPatch),
    /// Missing as before, but something about it is new (a later candidate, another priority).
    Alter(MissingPatch),
    /// Installed, or the package is gone.
    Fix {
        /// Source package.
        source: String,
    },
    /// Not installed, and not offered any more.
    Withdraw {
        /// Source package.
        source: String,
    },
}

/// The patches that a report calls missing, by source package.
pub fn missing_patches(report: &Report, family: PackageFamily) -> Vec<MissingPatch> {
    let kind = family.version_kind();
    let mut patches: BTreeMap<&str, MissingPatch> = BTreeMap::new();
    for finding in &report.findings {
        let new = MissingPatch {
            source: finding.source.clone(),
            installed: finding.installed_source.clone(),
            candidate: finding.candidate_source.clone(),
            priority: finding.decision.priority,
            reason: finding.decision.reason.clone(),
            cves: finding.cves.clone(),
            advisories: sorted(finding.advisories.iter().map(|it| it.id.clone())),
            security: finding.security,
            held: finding.held,
            exploited: sorted(finding.exploited.iter().cloned()),
            published: published(finding, report.checked_at),
        };
        match patches.get_mut(finding.source.as_str()) {
            None => drop(patches.insert(&finding.source, new)),
            Some(patch) => join(patch, new, kind),
        }
    }
    patches.into_values().collect()
}

/// Two binaries of one source: the older one installed, the later one wanted, all that it fixes.
fn join(patch: &mut MissingPatch, new: MissingPatch, kind: VersionKind) {
    if kind.compare(&new.installed, &patch.installed).is_lt() {
        patch.installed = new.installed;
    }
    match kind.compare(&new.candidate, &patch.candidate) {
        Ordering::Greater => (patch.candidate, patch.published) = (new.candidate, new.published),
        Ordering::Equal => patch.published = patch.published.max(new.published),
        Ordering::Less => {}
    }
    if new.priority > patch.priority {
        (patch.priority, patch.reason) = (new.priority, new.reason);
    }
    patch.cves = sorted(patch.cves.drain(..).chain(new.cves));
    patch.advisories = sorted(patch.advisories.drain(..).chain(new.advisories));
    patch.exploited = sorted(patch.exploited.drain(..).chain(new.exploited));
    patch.security |= new.security;
    patch.held |= new.held;
}

/// When its candidate was published, as far as anybody says; what was not published by the time of the
/// check is a wrong date.
fn published(finding: &Finding, checked_at: Timestamp) -> Option<Timestamp> {
    let is_about = |it: &AdvisoryRef| it.fixed.as_ref() == Some(&finding.candidate_source);
    let dated = finding.advisories.iter().filter_map(|it| Some((is_about(it), it.published?)));
    dated.filter(|(_, at)| *at <= checked_at).max().map(|(_, at)| at)
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a report about a system means for the findings known of it; an unchanged one has no step.
///
/// A finding is fixed only by what is installed. That a check says nothing of it any more proves
/// nothing where the check could not tell everything; then it stays as it is.
pub fn reconcile(known: &[KnownFinding], inventory: &Inventory, report: &Report) -> Vec<Step> {
    let mut missing: BTreeMap<String, MissingPatch> = missing_patches(report, inventory.family)
        .into_iter()
        .map(|patch| (patch.source.clone(), patch))
        .collect();
    let mut steps = Vec::new();
    for finding in known {
        let source = &finding.patch.source;
        match (finding.state, missing.remove(source)) {
            (FindingState::Open, Some(patch)) if patch == finding.patch => {}
            (FindingState::Open, Some(patch)) => steps.push(Step::Alter(patch)),
            (FindingState::Open, None) => steps.extend(closed(finding, inventory, report)),
            (_, Some(patch)) => steps.push(Step::Reopen(patch)),
            (_, None) => {}
        }
    }
    steps.extend(missing.into_values().map(Step::Open));
    steps
}

/// Whether a system has a patch, a later one, or nothing that would need it; not where its package
/// database could not be read whole.
pub fn has_patch(inventory: &Inventory, source: &str, candidate: &str) -> bool {
    let kind = inventory.family.version_kind();
    // Some publishers fix source versions, some those of binaries.
    let is_in = |package: &InstalledPackage| {
        kind.compare(&package.source.version, candidate).is_ge()
            || kind.compare(&package.version, candidate).is_ge()
    };
    let mut installed = inventory.packages.iter().filter(|it| it.source.name == source);
    inventory.problems.is_empty() && installed.all(is_in)
}

/// How an open finding ended that is no longer missing; `None` where that cannot be told.
fn closed(finding: &KnownFinding, inventory: &Inventory, report: &Report) -> Option<Step> {
    let patch = &finding.patch;
    let source = patch.source.clone();
    if has_patch(inventory, &source, &patch.candidate) {
        return Some(Step::Fix { source });
    }
    let knows_everything = report.status != Status::Unknown && report.unknown.is_empty();
    knows_everything.then_some(Step::Withdraw { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{OsRelease, PackageState, SourcePackage};
    use serde_json::json;

    fn system(packages: &[(&str, &str, &str)]) -> Inventory {
        let packages = packages.iter().map(|&(name, source, version)| InstalledPackage {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
            source: SourcePackage { name: source.into(), version: version.into() },
            state: PackageState::Installed,
            held: false,
        });
        Inventory {
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            family: PackageFamily::Dpkg,
            architecture: "amd64".into(),
            foreign_architectures: Vec::new(),
            packages: packages.collect(),
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        }
    }

    /// `(package, source, installed, candidate, priority)`.
    fn report(missing: &[(&str, &str, &str, &str, &str)], unknown: &[&str]) -> Report {
        let findings: Vec<_> = missing
            .iter()
            .map(|(package, source, installed, candidate, priority)| {
                json!({
                    "package": package, "architecture": "amd64", "source": source,
                    "installed": installed, "installed_source": installed,
                    "candidate": candidate, "candidate_source": candidate,
                    "offered_by": { "kind": "advisory" },
                    "priority": priority, "reason": priority, "inputs": {},
                    "policy": { "name": "default", "version": "1", "sha256": "" },
                    "unscored": false, "outcome": priority, "cves": [format!("CVE-{package}")],
                    "advisories": [], "security": true, "held": false,
                })
            })
            .collect();
        let unknown: Vec<_> = unknown
            .iter()
            .map(|subject| json!({ "about": "source", "subject": subject, "reason": "refused" }))
            .collect();
        let status = match (findings.is_empty(), unknown.is_empty()) {
            (false, _) => "outdated",
            (true, true) => "latest",
            (true, false) => "unknown",
        };
        serde_json::from_value(json!({
            "schema": crate::check::SCHEMA, "target": "t", "checked_at": "2026-01-01T00:00:00Z",
            "os": OsRelease::default(), "architecture": "amd64", "packages": 1, "sources": [],
            "policy": { "name": "default", "version": "1", "sha256": "" }, "status": status,
            "findings": findings, "unfixed": [], "unknown": unknown,
        }))
        .unwrap()
    }

    const OLD: (&str, &str, &str, &str, &str) = ("libssl3", "openssl", "1-1", "1-2", "high");

    fn known(state: FindingState) -> KnownFinding {
        let mut patches = missing_patches(&report(&[OLD], &[]), PackageFamily::Dpkg);
        KnownFinding { state, patch: patches.remove(0) }
    }

    #[test]
    fn binaries_of_one_source_are_one_patch() {
        let both = report(&[OLD, ("openssl", "openssl", "1-0", "1-3", "critical")], &[]);

        let patches = missing_patches(&both, PackageFamily::Dpkg);

        let [patch] = patches.as_slice() else { panic!("{patches:?}") };
        assert_eq!((&*patch.installed, &*patch.candidate), ("1-0", "1-3"));
        assert_eq!(patch.priority, Priority::Critical);
        assert_eq!(patch.cves, ["CVE-libssl3", "CVE-openssl"]);
    }

    #[test]
    fn a_patch_was_published_when_its_own_version_was() {
        let told = |fixed: &str, published: &str| AdvisoryRef {
            id: "X".into(),
            fixed: Some(fixed.into()),
            cves: Vec::new(),
            urgency: None,
            published: Some(published.parse().unwrap()),
            provenance: serde_json::from_value(json!({ "kind": "osv", "id": "X" })).unwrap(),
        };
        let published = |advisories: &[AdvisoryRef]| {
            let mut found = report(&[OLD], &[]);
            found.findings[0].advisories = advisories.to_vec();
            let patch = missing_patches(&found, PackageFamily::Dpkg).remove(0);
            patch.published.map(|at| at.to_string())
        };
        let (older, own) =
            (told("1-1.1", "2025-12-20T00:00:00Z"), told("1-2", "2025-12-10T00:00:00Z"));
        let to_come = told("1-2", "2030-01-01T00:00:00Z");

        assert_eq!(published(&[]), None);
        assert_eq!(published(std::slice::from_ref(&older)).unwrap(), "2025-12-20T00:00:00Z");
        assert_eq!(published(&[older, own.clone()]).unwrap(), "2025-12-10T00:00:00Z");
        assert_eq!(published(&[own, to_come]).unwrap(), "2025-12-10T00:00:00Z", "not yet");
    }

    #[test]
    fn what_is_missing_opens_once_and_opens_again() {
        let system = system(&[("libssl3", "openssl", "1-1")]);
        let found = report(&[OLD], &[]);
        let patch = known(FindingState::Open).patch;

        assert_eq!(reconcile(&[], &system, &found), [Step::Open(patch.clone())]);
        assert_eq!(reconcile(&[known(FindingState::Open)], &system, &found), []);
        for ended in [FindingState::Fixed, FindingState::Withdrawn] {
            assert_eq!(reconcile(&[known(ended)], &system, &found), [Step::Reopen(patch.clone())]);
        }
    }

    #[test]
    fn a_later_candidate_alters_it() {
        let system = system(&[("libssl3", "openssl", "1-1")]);
        let found = report(&[("libssl3", "openssl", "1-1", "1-3", "high")], &[]);

        let steps = reconcile(&[known(FindingState::Open)], &system, &found);

        assert!(matches!(&*steps, [Step::Alter(patch)] if patch.candidate == "1-3"), "{steps:?}");
    }

    #[test]
    fn it_is_fixed_by_what_is_installed() {
        let fixed = [Step::Fix { source: "openssl".to_owned() }];
        let open = [known(FindingState::Open)];

        for version in ["1-2", "1-4"] {
            let system = system(&[("libssl3", "openssl", version)]);
            assert_eq!(reconcile(&open, &system, &report(&[], &[])), fixed);
            // Also where the check could not reach a source: the version speaks for itself.
            assert_eq!(reconcile(&open, &system, &report(&[], &["security"])), fixed);
        }
        assert_eq!(reconcile(&open, &system(&[]), &report(&[], &[])), fixed, "package removed");
    }

    #[test]
    fn silence_of_an_incomplete_check_closes_nothing() {
        let system = system(&[("libssl3", "openssl", "1-1")]);
        let open = [known(FindingState::Open)];

        assert_eq!(reconcile(&open, &system, &report(&[], &["security"])), []);
        assert_eq!(
            reconcile(&open, &system, &report(&[], &[])),
            [Step::Withdraw { source: "openssl".to_owned() }]
        );
    }

    #[test]
    fn one_old_binary_keeps_it_open_to_the_end() {
        let system = system(&[("libssl3", "openssl", "1-2"), ("openssl", "openssl", "1-1")]);

        let steps = reconcile(&[known(FindingState::Open)], &system, &report(&[], &["x"]));

        assert_eq!(steps, []);
    }

    #[test]
    fn a_database_that_was_not_understood_proves_no_removal() {
        let mut system = system(&[]);
        system.problems.push("half of it is missing".to_owned());

        let steps = reconcile(&[known(FindingState::Open)], &system, &report(&[], &["inventory"]));

        assert_eq!(steps, []);
    }
}
