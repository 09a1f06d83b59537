//! Package managers' databases, read from their files alone.
//!
//! Each reader is lenient where its package manager is and says as a *problem* what it could not
//! understand: one damaged record must not hide the others, and must not go unseen either.

pub mod apk;
pub mod dpkg;
pub mod rpm;

use domain::inventory::InstalledPackage;

/// What one database says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Installed packages, sorted by name, architecture, version.
    pub packages: Vec<InstalledPackage>,
    /// What could not be understood, in words.
    pub problems: Vec<String>,
}

impl Listing {
    /// Sorts as an inventory is sorted and drops records told twice.
    pub(crate) fn sorted(mut self) -> Self {
        self.packages.sort();
        self.packages.dedup();
        self
    }

    /// The architecture that most packages have, apart from `independent` ones.
    pub(crate) fn most_frequent_architecture(&self, independent: &str) -> Option<String> {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for package in &self.packages {
            if package.architecture != independent {
                *counts.entry(&package.architecture).or_default() += 1;
            }
        }
        counts.into_iter().max_by_key(|&(_, count)| count).map(|(name, _)| name.to_owned())
    }
}

/// Names, versions and architectures become part of findings, messages and queries: nothing but
/// visible characters without white space may be in them.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 512
        && text.chars().all(|character| !character.is_whitespace() && !character.is_control())
}
