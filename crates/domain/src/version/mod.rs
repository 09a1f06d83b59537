//! Version orders of dpkg, rpm and apk.
//!
//! One version string means different things to different package managers, so every comparison
//! names whose rules it follows ([`VersionKind`]). Each order comes in two forms that always
//! agree:
//!
//! - [`VersionKind::compare`] walks two strings; right for a single comparison;
//! - [`VersionKind::key`] turns a string into bytes whose plain `memcmp` order *is* the version
//!   order, equality included; right where versions are sorted or compared often.
//!
//! Both are total: any two strings compare, because an inventory is foreign data and must never
//! stop a check. What a package manager would refuse, [`VersionKind::validate`] names.
//!
//! ```
//! use std::cmp::Ordering;
//! use domain::version::VersionKind;
//!
//! assert_eq!(VersionKind::Dpkg.compare("1.0~rc1-1", "1.0-1"), Ordering::Less);
//! assert_eq!(VersionKind::Rpm.compare("0:1.05-1.el9", "1.5-1.el9"), Ordering::Equal);
//! assert!(VersionKind::Apk.key("1.2.3_p1-r0") > VersionKind::Apk.key("1.2.3-r7"));
//! ```

mod apk;
mod dpkg;
mod invalid;
mod key;
mod rpm;

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use invalid::{InvalidVersion, InvalidVersionReason};
pub use key::VersionKey;

/// Whose rules order two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionKind {
    /// Debian Policy 5.6.12, as implemented by dpkg.
    Dpkg,
    /// rpm's `rpmvercmp` over epoch, version, release.
    Rpm,
    /// apk-tools.
    Apk,
}

impl VersionKind {
    /// Orders two versions.
    ///
    /// Strings that the package manager would refuse compare too; how is said in the module of
    /// each order.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Dpkg => dpkg::compare(a, b),
            Self::Rpm => rpm::compare(a, b),
            Self::Apk => apk::compare(a, b),
        }
    }

    /// Whether the package manager accepts the string as a version.
    ///
    /// # Errors
    /// Names the string, the place in it and the reason.
    pub fn validate(self, version: &str) -> Result<(), InvalidVersion> {
        let found = match self {
            Self::Dpkg => dpkg::validate(version),
            Self::Rpm => rpm::validate(version),
            Self::Apk => apk::validate(version),
        };
        found.map_err(|(position, reason)| InvalidVersion {
            kind: self,
            version: version.to_owned(),
            position,
            reason,
        })
    }

    /// The byte key of a version: `key(a).cmp(&key(b))` is `compare(a, b)`.
    ///
    /// Keys of different kinds do not compare with one another.
    pub fn key(self, version: &str) -> VersionKey {
        let mut bytes = Vec::with_capacity(2 * version.len() + 8);
        self.write_key(version, &mut bytes);
        VersionKey::from_bytes(bytes)
    }

    /// Appends the bytes of [`VersionKind::key`] to `out`, without a further allocation where
    /// its capacity suffices.
    pub fn write_key(self, version: &str, out: &mut Vec<u8>) {
        match self {
            Self::Dpkg => dpkg::write_key(version, out),
            Self::Rpm => rpm::write_key(version, out),
            Self::Apk => apk::write_key(version, out),
        }
    }

    /// The package manager's name: `dpkg`, `rpm` or `apk`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
        }
    }
}

impl fmt::Display for VersionKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests;
