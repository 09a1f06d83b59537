//! Versions of packages on one host.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::ExactPackage;
use crate::version::VersionKind;

/// Versions by the names of packages and their architectures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    kind: VersionKind,
    packages: BTreeMap<String, BTreeMap<String, String>>,
}

impl Versions {
    /// None yet, of a host whose package manager orders them so.
    pub const fn none(kind: VersionKind) -> Self {
        Self { kind, packages: BTreeMap::new() }
    }

    /// How the host's package manager orders them.
    pub const fn kind(&self) -> VersionKind {
        self.kind
    }

    /// Takes a version in, unless a newer one of the same name and architecture is there.
    pub fn raise(&mut self, name: &str, architecture: &str, version: &str) {
        let of_name = self.packages.entry(name.to_owned()).or_default();
        match of_name.get_mut(architecture) {
            Some(known) if self.kind.compare(known, version) != Ordering::Less => {}
            Some(known) => version.clone_into(known),
            None => {
                of_name.insert(architecture.to_owned(), version.to_owned());
            }
        }
    }

    /// The newest version that a package [would take the place of](ExactPackage::takes_place_of).
    pub fn replaced_by(&self, package: &ExactPackage) -> Option<&str> {
        self.packages
            .get(&package.name)?
            .iter()
            .filter(|(architecture, _)| package.takes_place_of(&package.name, architecture))
            .map(|(_, version)| version.as_str())
            .max_by(|a, b| self.kind.compare(a, b))
    }

    /// Whether the package manager would take a text for a version.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn validate(&self, version: &str) -> Result<(), String> {
        self.kind.validate(version).map_err(|error| error.to_string())
    }

    /// How the package manager orders two of them.
    pub fn compare(&self, a: &str, b: &str) -> Ordering {
        self.kind.compare(a, b)
    }
}
