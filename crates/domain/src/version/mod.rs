//! Version orders of dpkg, rpm and apk.

use serde::{Deserialize, Serialize};

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
