//! What an execution asks of a package system, and of whoever knows which packages are their vendor's.

use std::io;
use std::path::{Path, PathBuf};

use domain::change::ExactPackage;
use domain::order::{Refusal, Versions};
use domain::version::VersionKind;
use serde::{Deserialize, Serialize};

/// Alters what is installed: dpkg with apt, or rpm; apk has its place here.
///
/// Nothing here is told what to run: names, versions and files are all that goes in.
pub trait PackageSystem {
    /// How it orders versions.
    fn versions(&self) -> VersionKind;

    /// How the name of a package file ends.
    fn ending(&self) -> &'static str;

    /// What is installed, also what is so in part.
    ///
    /// # Errors
    /// If its database cannot be read.
    fn installed(&self) -> Result<Vec<Found>, PackageFault>;

    /// Whether all that is installed is so whole.
    ///
    /// # Errors
    /// What is not.
    fn audit(&self) -> Result<(), PackageFault>;

    /// Ends what an interruption left half done, after whoever else works there has ended.
    ///
    /// # Errors
    /// If something stays half done.
    fn repair(&self) -> Result<(), PackageFault>;

    /// Unpacks packages whole that an interruption left [torn](Completeness::Torn), so that all their files
    /// are known, and those that only they have go with them.
    ///
    /// # Errors
    /// If one stays torn.
    fn mend(&self, files: &[PathBuf]) -> Result<(), PackageFault>;

    /// Puts right what an interruption left wrong of the notes on configuration files: one that has what its
    /// package brings counts as altered, where it was put into its place and that was not written down.
    /// `files` are the packages as they are installed.
    ///
    /// # Errors
    /// If its notes cannot be read, or one of the packages is not whole afterwards.
    fn settle(&self, files: &[PathBuf]) -> Result<(), PackageFault>;

    /// Takes away what is left of packages that are gone: their settings, where an interruption came between their removal and
    /// that of these.
    ///
    /// # Errors
    /// If something of one stays.
    fn clear(&self, packages: &[ExactPackage]) -> Result<(), PackageFault>;

    /// Bytes that a package takes once it is installed.
    ///
    /// # Errors
    /// If the file is none of this system's packages.
    fn unpacked_size(&self, file: &Path) -> Result<u64, PackageFault>;

    /// A directory of the file system that packages are unpacked to.
    fn unpacks_to(&self) -> PathBuf;

    /// Makes a package file of what is installed, so that it can be installed again.
    ///
    /// # Errors
    /// If something of it cannot be read.
    fn repack(&self, package: &Found, into: &Path) -> Result<PathBuf, PackageFault>;

    /// Keeps the configuration files of packages as they are.
    ///
    /// # Errors
    /// If one cannot be read.
    fn keep_settings(&self, packages: &[Found], into: &Path) -> Result<(), PackageFault>;

    /// Gives them the content again that they had.
    ///
    /// # Errors
    /// If one cannot be written.
    fn restore_settings(&self, from: &Path) -> Result<(), PackageFault>;

    /// Installs these files and takes these packages away, and nothing beside them.
    ///
    /// # Errors
    /// If the package system failed; what is installed then is to be looked at.
    fn alter(&self, alteration: &Alteration<'_>) -> Result<(), PackageFault>;
}

/// What is to be installed and what is to go.
#[derive(Debug, Clone, Copy)]
pub struct Alteration<'a> {
    /// Where it leads.
    pub direction: Direction,
    /// Packages to install.
    pub files: &'a [PathBuf],
    /// Installed packages to take away.
    pub remove: &'a [Found],
}

/// Where an alteration leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To what was ordered: nothing is taken away, nothing becomes older.
    Forward,
    /// To what was there before.
    Back,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// Whether it is installed whole.
    pub completeness: Completeness,
    /// Whether the owner holds it at its version.
    pub hold: Hold,
    /// What a newer version of it does.
    pub newer: Newer,
}

/// What a newer version of a package does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newer {
    /// It takes its place.
    Replaces,
    /// It stands beside it, as a kernel of rpm's does.
    StandsBeside,
}

/// How completely a package is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Unpacked and configured.
    Whole,
    /// Unpacked, and not configured.
    Part,
    /// Unpacked in part: files of it may lie there that the package system does not know yet.
    Torn,
}

/// Whether a package is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is.
    Held,
    /// It is not.
    Free,
}

/// A package file for the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPackage {
    /// Name of the package.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// The version that it goes back to.
    pub version: String,
    /// Name of the file in the directory of the way back.
    pub file: String,
}

/// Knows which packages are their vendor's, by archives that the host itself trusts.
pub trait TrustedPackages {
    /// Brings packages as files into a directory, in their order: only such as a signed list names with
    /// exactly this name, architecture, version and hash. `room` is asked before anything is fetched, with
    /// how many bytes come into which directory.
    ///
    /// # Errors
    /// [`Refusal::NotVouched`] for the first that no list names, [`Refusal::NotFetched`], or what `room`
    /// says.
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal>;
}

/// Says whether there is room for so many bytes in each directory; those on one file system are added up.
pub type Room<'a> = dyn Fn(&[(&Path, u64)]) -> Result<(), Refusal> + 'a;

/// What is installed, as orders are judged by it.
pub(crate) fn versions_of(kind: VersionKind, installed: &[Found]) -> Versions {
    let mut versions = Versions::none(kind);
    for package in installed {
        versions.raise(&package.name, &package.architecture, &package.version);
    }
    versions
}

/// What is wrong with a package system.
#[derive(Debug, thiserror::Error)]
pub enum PackageFault {
    /// A program cannot be started or ended badly.
    #[error("`{program}` {how}: {output}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        how: String,
        /// The end of what it said.
        output: String,
    },
    /// This agent does not know how.
    #[error("this agent carries no orders out with {kind}")]
    Unattended {
        /// The package system.
        kind: VersionKind,
    },
    /// Somebody else works there and does not end.
    #[error("the package system is locked by somebody else")]
    Locked,
    /// Something is not installed whole.
    #[error("not installed whole: {}", .packages.join(", "))]
    InPart {
        /// Packages, or what the tool says of them.
        packages: Vec<String>,
    },
    /// Somebody else installed something in between.
    #[error("somebody else installed {} meanwhile", .packages.join(", "))]
    Altered {
        /// Packages with their versions.
        packages: Vec<String>,
    },
    /// More would go than is replaced.
    #[error("it would take away {}", .packages.join(", "))]
    WouldRemove {
        /// Packages with their versions.
        packages: Vec<String>,
    },
    /// A file lies where the package system does not see it.
    #[error("`{path}` lies outside of the system's root")]
    Outside {
        /// The file.
        path: PathBuf,
    },
    /// Its database says something that cannot be understood.
    #[error("the package database cannot be used: {reason}")]
    Database {
        /// Why.
        reason: String,
    },
    /// The disk failed.
    #[error("cannot use `{path}`")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PackageFault {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Program { .. } | Self::InPart { .. } => {
                "see what the package system says of it, as `dpkg --audit` does"
            }
            Self::Altered { .. } => {
                "look at what was installed; what was replaced lies in `orders/stuck-…/back`"
            }
            Self::Unattended { .. } => "bring the agent up to date, or patch this host by hand",
            Self::WouldRemove { .. } => "plan it together with what takes their place",
            Self::Locked => "end the other installation",
            Self::Outside { .. } => "keep the agent's state below the root",
            Self::Database { .. } => "repair the package database first",
            Self::Disk { .. } => "check space and permissions there",
        }
    }

    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { path, source }
    }
}
