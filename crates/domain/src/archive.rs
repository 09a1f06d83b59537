//! What a signed package archive offers: suites and the package versions in them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::inventory::SourcePackage;

/// Facts about one verified suite of an archive; only collecting makes them, after the
/// signature, the hashes and the freshness have been checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteFacts {
    /// Base URI as configured, without credentials.
    pub uri: String,
    /// Suite as configured, for example `bookworm-security`.
    pub suite: String,
    /// Components read, in the order configured.
    pub components: Vec<String>,
    /// Architectures read.
    pub architectures: Vec<String>,
    /// `Origin` of the release file.
    pub origin: Option<String>,
    /// `Label` of the release file.
    pub label: Option<String>,
    /// `Suite` field of the release file (`oldstable-security`).
    pub release_suite: Option<String>,
    /// `Codename` of the release file.
    pub codename: Option<String>,
    /// `Version` of the release file (`12.15`).
    pub version: Option<String>,
    /// When the archive made this state.
    pub date: Timestamp,
    /// Until when the archive vouches for it; many suites do not say.
    pub valid_until: Option<Timestamp>,
    /// Who signed it; empty only where the administrator configured `trusted=yes`.
    pub signed_by: Vec<Signer>,
    /// SHA-256 of the verified release file, lower-case hex.
    pub release_sha256: String,
    /// `NotAutomatic: yes`.
    pub not_automatic: bool,
    /// `ButAutomaticUpgrades: yes`.
    pub but_automatic_upgrades: bool,
}

/// An OpenPGP key whose signature over the release file was verified.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// Fingerprint of the primary key, upper-case hex.
    pub fingerprint: String,
    /// Primary user id.
    pub user_id: String,
}

/// One version of one binary package that a suite offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedPackage {
    /// Binary package name.
    pub name: String,
    /// `Architecture` field, `all` included.
    pub architecture: String,
    /// Binary version.
    pub version: String,
    /// What it is built from (aliases of signed sources resolved, as in the inventory).
    pub source: SourcePackage,
    /// Component the package list belongs to.
    pub component: String,
    /// Pool path relative to the archive's base URI.
    pub filename: String,
    /// Size of the .deb in bytes.
    pub size: u64,
    /// SHA-256 of the .deb, lower-case hex.
    pub sha256: String,
    /// `Phased-Update-Percentage`, where the archive (Ubuntu) rolls out in phases.
    pub phased_percentage: Option<u8>,
}

impl SuiteFacts {
    /// Whether the suite exists to carry security fixes, by its own words or its name
    /// (`Debian-Security`, `bookworm-security`, `buster/updates`).
    pub fn is_security(&self) -> bool {
        let names = [&self.release_suite, &self.codename];
        let by_name = |name: &str| name.ends_with("-security") || name.ends_with("/updates");
        by_name(&self.suite)
            || names.iter().any(|name| name.as_deref().is_some_and(by_name))
            || self.label.as_deref().is_some_and(|label| label.ends_with("-Security"))
    }
}
