//! What a check says. The serialised form is the stable output of `patchwright check
//! --format json`, documented in `docs/check-json.md`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::advisory::Provenance;
use crate::archive::Signer;
use crate::inventory::{OsRelease, Runtime};
use crate::priority::{Decision, PolicyRef};

/// Version of the serialised form; raised when a field changes its meaning or goes away.
pub const SCHEMA: &str = "patchwright.check/1";

/// The outcome of checking one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the target as the caller gave it.
    pub target: String,
    /// The instant at which freshness was judged.
    pub checked_at: Timestamp,
    /// The target's operating system.
    pub os: OsRelease,
    /// Native architecture.
    pub architecture: String,
    /// How many packages are installed.
    pub packages: usize,
    /// Every configured source, used or not.
    pub sources: Vec<SourceReport>,
    /// Priority policy that ranked the findings.
    pub policy: PolicyRef,
    /// The verdict.
    pub status: Status,
    /// Missing patches, one entry per installed package: the most urgent first.
    pub findings: Vec<Finding>,
    /// Vulnerabilities for which an advisory source says that no fix exists yet.
    pub unfixed: Vec<Unfixed>,
    /// What could not be told. Never empty when `status` is `unknown`.
    pub unknown: Vec<Unknown>,
    /// What the system runs, as opposed to what is installed; live systems only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runtime: Option<Runtime>,
}

/// The verdict over a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is missing, and nothing is unknown.
    Latest,
    /// At least one patch is missing.
    Outdated,
    /// No patch is known to be missing, but something could not be told.
    Unknown,
}

/// One source of knowledge and how it fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// What kind of source it is.
    pub kind: SourceKind,
    /// Where it is: base URI, or path as given.
    pub uri: String,
    /// Suite, for archives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suite: Option<String>,
    /// Components read, for archives.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub components: Vec<String>,
    /// Whether it could be used.
    pub state: SourceState,
    /// `Origin` of the release file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<String>,
    /// `Label` of the release file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// `Codename` of the release file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub codename: Option<String>,
    /// `Version` of the release file (`12.15`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// Keys whose signatures were verified; empty for sources without signatures.
    pub signed_by: Vec<Signer>,
    /// When the source made this state.
    pub date: Option<Timestamp>,
    /// Until when the source vouches for it.
    pub valid_until: Option<Timestamp>,
    /// SHA-256 of the release file or of the data read, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// How many advisories or packages it offers, where counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub records: Option<usize>,
}

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A signed APT archive.
    Apt,
    /// OSV records.
    Osv,
    /// CISA's catalogue of known exploited vulnerabilities.
    Kev,
}

/// Whether a source could be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum SourceState {
    /// Its signature, hashes and freshness were verified.
    Verified,
    /// It was read; the source carries no signature (a file that the operator named).
    Unsigned,
    /// It was refused or could not be reached; what only it knows is unknown.
    Refused {
        /// Why, in words.
        reason: String,
        /// The way out.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        help: Option<String>,
    },
}

/// A missing patch on one installed package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Installed binary package.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Source package that the patch is made for.
    pub source: String,
    /// Installed version.
    pub installed: String,
    /// Source version that the installed package was built from.
    pub installed_source: String,
    /// Version with the patch: what apt would install, or (where only an advisory knows it) the
    /// fixed version named there.
    pub candidate: String,
    /// Source version of the candidate.
    pub candidate_source: String,
    /// Who offers the candidate.
    pub offered_by: OfferedBy,
    /// Priority, policy, inputs, reason.
    #[serde(flatten)]
    pub decision: Decision,
    /// CVE ids that the patch fixes on this package, sorted.
    pub cves: Vec<String>,
    /// Advisories that speak of the patch.
    pub advisories: Vec<AdvisoryRef>,
    /// Whether the patch closes a vulnerability.
    pub security: bool,
    /// Whether the administrator holds the package at its version.
    pub held: bool,
    /// Those of its CVE ids that the catalogue of exploited vulnerabilities lists, sorted; which of
    /// them decided the priority stands in its inputs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub exploited: Vec<String>,
}

/// Who offers a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum OfferedBy {
    /// A verified archive suite: it can be installed.
    Archive {
        /// Suite as configured.
        suite: String,
        /// Pool path.
        filename: String,
        /// SHA-256 of the package file, lower-case hex.
        sha256: String,
    },
    /// An advisory names the fixed version; no configured archive offers it.
    Advisory,
}

/// A short reference to an advisory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisoryRef {
    /// Advisory id; for derived ones the source package and version that brought the fix.
    pub id: String,
    /// First source (or, for rpm, binary) version with the fix.
    pub fixed: Option<String>,
    /// CVE ids it names.
    pub cves: Vec<String>,
    /// Urgency or severity in the publisher's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub urgency: Option<String>,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// Where it comes from, and whether it was derived.
    pub provenance: Provenance,
}

/// Known vulnerabilities of an installed package without a fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfixed {
    /// Installed binary package.
    pub package: String,
    /// Source package.
    pub source: String,
    /// Installed version.
    pub installed: String,
    /// CVE ids, sorted; the advisory's own id where it names none.
    pub cves: Vec<String>,
}

/// Something that could not be told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unknown {
    /// What kind of knowledge is missing.
    pub about: UnknownAbout,
    /// Source, package or part of the inventory.
    pub subject: String,
    /// Why, in words.
    pub reason: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
}

/// Kinds of missing knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownAbout {
    /// A configured source.
    Source,
    /// The inventory itself.
    Inventory,
    /// Whether an installed package is at its latest.
    Package,
    /// What a known candidate fixes.
    Content,
}
