//! Package sets: what matching needs to know of a system, named by its content.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::advisory::PackageScope;
use crate::inventory::Inventory;
use crate::version::VersionKind;

use super::ecosystem::release_of;

/// Content address of a [`PackageSet`]: BLAKE3 over its canonical encoding.
///
/// Two systems have the same digest exactly when matching cannot tell them apart, so a system may
/// send its digest first and the set only where the receiver has never seen it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SetDigest([u8; 32]);

impl SetDigest {
    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SetDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SetDigest({self})")
    }
}

/// The source and binary packages of a system in the versions installed, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSet {
    /// Ecosystem in canonical spelling; `None` where no advisories exist for the system's release.
    release: Option<String>,
    kind: VersionKind,
    /// Sorted, without duplicates.
    packages: Vec<(PackageScope, String, String)>,
    digest: SetDigest,
}

impl PackageSet {
    /// The set of an inventory.
    pub fn of(inventory: &Inventory) -> Self {
        let packages = inventory.packages.iter().flat_map(|package| {
            let source = &package.source;
            [
                (PackageScope::Source, source.name.clone(), source.version.clone()),
                (PackageScope::Binary, package.name.clone(), package.version.clone()),
            ]
        });
        Self::new(release_of(&inventory.os), inventory.family.version_kind(), packages.collect())
    }

    fn new(
        release: Option<String>,
        kind: VersionKind,
        mut packages: Vec<(PackageScope, String, String)>,
    ) -> Self {
        packages.sort_unstable();
        packages.dedup();
        let digest = digest(release.as_deref(), kind, &packages);
        Self { release, kind, packages, digest }
    }

    /// Its content address.
    pub const fn digest(&self) -> SetDigest {
        self.digest
    }

    pub(super) fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    pub(super) const fn kind(&self) -> VersionKind {
        self.kind
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = (PackageScope, &str, &str)> + Clone {
        self.packages.iter().map(|(scope, name, version)| (*scope, &**name, &**version))
    }
}

/// BLAKE3 over: a label with the encoding's version, then each text preceded by its length (four
/// bytes, little-endian), so that no two sets share an encoding.
fn digest(
    release: Option<&str>,
    kind: VersionKind,
    packages: &[(PackageScope, String, String)],
) -> SetDigest {
    let mut bytes = b"patchwright package set 1\n".to_vec();
    push_text(release.unwrap_or_default(), &mut bytes);
    push_text(kind.name(), &mut bytes);
    for (scope, name, version) in packages {
        bytes.push(match scope {
            PackageScope::Source => b's',
            PackageScope::Binary => b'b',
        });
        push_text(name, &mut bytes);
        push_text(version, &mut bytes);
    }
    SetDigest(*blake3::hash(&bytes).as_bytes())
}

fn push_text(text: &str, bytes: &mut Vec<u8>) {
    // A name of 4 GiB does not fit into any package database; it would still be hashed whole.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(packages: &[(PackageScope, &str, &str)]) -> PackageSet {
        let owned = packages.iter().map(|(s, n, v)| (*s, (*n).to_owned(), (*v).to_owned()));
        PackageSet::new(Some("Debian:12".to_owned()), VersionKind::Dpkg, owned.collect())
    }

    #[test]
    fn order_and_repetition_do_not_count() {
        let (a, b) = ((PackageScope::Source, "a", "1"), (PackageScope::Source, "b", "2"));

        assert_eq!(set(&[a, b]).digest(), set(&[b, a, b]).digest());
    }

    #[test]
    fn everything_else_counts() {
        let digests = [
            set(&[(PackageScope::Source, "ab", "1")]).digest(),
            set(&[(PackageScope::Source, "a", "b1")]).digest(),
            set(&[(PackageScope::Binary, "ab", "1")]).digest(),
            set(&[(PackageScope::Source, "ab", "1.0")]).digest(),
            set(&[]).digest(),
            PackageSet::new(Some("Debian:13".to_owned()), VersionKind::Dpkg, Vec::new()).digest(),
            PackageSet::new(Some("Debian:12".to_owned()), VersionKind::Rpm, Vec::new()).digest(),
            PackageSet::new(None, VersionKind::Dpkg, Vec::new()).digest(),
        ];
        let distinct: std::collections::HashSet<SetDigest> = digests.into_iter().collect();

        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn the_encoding_stays_what_it_is() {
        // Agents and servers of different releases compare digests.
        let digest = set(&[(PackageScope::Source, "openssl", "3.0.15-1~deb12u1")]).digest();

        assert_eq!(
            digest.to_string(),
            "456c4f18eff9896d2dcd2585cbdf267cd7f1d35bca7549b90d1fedebe5ac3627"
        );
    }
}
