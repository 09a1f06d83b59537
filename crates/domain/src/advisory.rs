//! Advisories: what vendors and coordinators publish about vulnerabilities and their fixes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::version::VersionKind;

/// Where an advisory's statement comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Provenance {
    /// Published as an OSV record.
    Osv {
        /// OSV record id (`ALSA-2024:1234`, `DSA-5555-1`).
        id: String,
    },
    /// Derived by us from a changelog inside a package that the signed archive's index names by
    /// hash. It can say "fixed in", never "not affected".
    DerivedFromChangelog {
        /// Pool path of the package that carried the changelog.
        filename: String,
        /// Its SHA-256, lower-case hex.
        sha256: String,
    },
}

/// Versions of a package that an advisory calls affected: `introduced <= v < fixed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffectedRange {
    /// First affected version; `None` means from the beginning.
    pub introduced: Option<String>,
    /// How the range ends.
    pub end: RangeEnd,
}

/// How an affected range ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeEnd {
    /// First version with the fix (exclusive end).
    Fixed(String),
    /// Last version known to be affected (inclusive end); no fix is named.
    LastAffected(String),
    /// No fix is known.
    Unfixed,
}

/// One package of one distribution release that an advisory speaks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// Ecosystem in OSV's spelling, release included: `Debian:12`, `AlmaLinux:9`, `Alpine:v3.20`,
    /// `Ubuntu:22.04:LTS`.
    pub ecosystem: String,
    /// Whether `package` names a source or a binary package.
    pub scope: PackageScope,
    /// Package name.
    pub package: String,
    /// Version order of the ecosystem.
    pub version_kind: VersionKind,
    /// Affected intervals; a version in any of them is affected.
    pub ranges: Vec<AffectedRange>,
    /// Versions named one by one as affected, beside the ranges.
    pub versions: Vec<String>,
    /// The vendor's own urgency word for this package, where given.
    pub urgency: Option<String>,
}

/// Whether an advisory names source or binary packages (OSV: Debian, Ubuntu, Alpine and Rocky
/// Linux name sources, `AlmaLinux` and Red Hat name binaries).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageScope {
    /// Source package (Alpine: origin).
    Source,
    /// Binary package.
    Binary,
}

/// A vendor's or coordinator's publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// The publication's own id.
    pub id: String,
    /// CVE ids it covers, sorted, from aliases, related and upstream ids.
    pub cves: Vec<String>,
    /// One line for people, as published. Hostile input: encode before showing.
    pub summary: Option<String>,
    /// When it was first published.
    pub published: Option<Timestamp>,
    /// When it was withdrawn; a withdrawn advisory matches nothing.
    pub withdrawn: Option<Timestamp>,
    /// CVSS vectors as published (`CVSS:3.1/AV:N/…`).
    pub cvss_vectors: Vec<String>,
    /// The vendor's own severity word (`Important`, `high`), where given.
    pub vendor_severity: Option<String>,
    /// What it affects.
    pub affected: Vec<Affected>,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// One security-relevant entry of a Debian changelog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogEntry {
    /// Source version that the entry introduces.
    pub version: String,
    /// Target distributions (`bookworm-security`).
    pub distributions: Vec<String>,
    /// `urgency=` in lower case, empty where missing.
    pub urgency: String,
    /// When it was signed off; `None` where the date cannot be read.
    pub date: Option<Timestamp>,
    /// CVE ids named in the entry, sorted and unique.
    pub cves: Vec<String>,
}

/// A source package's changelog, newest entry first, as extracted from a verified package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changelog {
    /// Source package.
    pub source: String,
    /// All entries, newest first.
    pub entries: Vec<ChangelogEntry>,
    /// Where it was read.
    pub provenance: Provenance,
}

/// One entry of CISA's catalogue of Known Exploited Vulnerabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownExploited {
    /// CVE id.
    pub cve: String,
    /// Day it was added (`2024-05-01`).
    pub date_added: String,
    /// Day by which CISA orders remediation.
    pub due_date: String,
    /// Whether ransomware campaigns are known to use it.
    pub ransomware: bool,
}
