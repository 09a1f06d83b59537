//! Package managers' databases, read from their files alone.
//!
//! Each reader is lenient where its package manager is and says as a *problem* what it could not
//! understand: one damaged record must not hide the others, and must not go unseen either.

pub mod apk;
pub mod dpkg;
pub mod rpm;

use domain::files::FileView;
use domain::inventory::InstalledPackage;
use jiff::Timestamp;

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

/// A checksum as package managers have it. What is compared with it is of them, and no secret: MD5 and SHA-1 do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    /// rpm's of old packages.
    Md5([u8; 16]),
    /// apk's.
    Sha1([u8; 20]),
    /// rpm's.
    Sha256([u8; 32]),
}

impl Checksum {
    /// The one that is written so in hexadecimal, told apart by its length.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
            let mut bytes = [0; N];
            for (byte, pair) in bytes.iter_mut().zip(text.as_chunks::<2>().0) {
                *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
            }
            Some(bytes)
        }
        if !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        match text.len() {
            32 => bytes(text).map(Self::Md5),
            64 => bytes(text).map(Self::Sha256),
            _ => None,
        }
    }
}

/// A file as its package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedFile {
    /// Absolute path.
    pub path: String,
    /// Of its content; `None` of what has none, such as links and directories.
    pub checksum: Option<Checksum>,
    /// Whether it is one that people alter, so that the package manager lays its own beside it.
    pub is_configuration: bool,
}

/// An installed package with files of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFiles {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// When it was installed, where its package manager keeps that.
    pub installed_at: Option<Timestamp>,
    /// Those of its files that were asked for.
    pub files: Vec<PackagedFile>,
}

/// Files below a directory as the packages of rpm have them that were installed since a time. What cannot be read has
/// none.
pub fn files_of_rpm(
    files: &dyn FileView,
    below: &str,
    since: Timestamp,
) -> Result<Vec<PackageFiles>, rpm::RpmError> {
    rpm::packaged(files, below, since)
}

/// Files below a directory as apk's installed packages have them.
pub fn files_of_apk(
    files: &dyn FileView,
    below: &str,
) -> Result<Vec<PackageFiles>, domain::files::FileError> {
    apk::packaged(files, below)
}

/// Names, versions and architectures become part of findings, messages and queries: nothing but
/// visible characters without white space may be in them.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 512
        && text.chars().all(|character| !character.is_whitespace() && !character.is_control())
}
