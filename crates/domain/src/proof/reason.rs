//! Reasons against a patch, and what follows from them.

use serde::{Deserialize, Serialize};

use super::picture::{Listener, SpecialPath};
use crate::inventory::StaleProcess;

/// A reason against a patch, with everything that a person needs to see why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// apt or a package's script failed.
    InstallFailed {
        /// apt's exit status; `None` where a signal ended it.
        exit: Option<i32>,
        /// The end of what they printed.
        output: String,
    },
    /// The installation did not end in time.
    InstallHung {
        /// The limit.
        seconds: u64,
        /// The end of what was printed.
        output: String,
    },
    /// The system did not do what it was asked, where it did before the patch.
    Lost {
        /// In which stage.
        stage: String,
        /// What it did instead.
        what: String,
        /// The end of the serial console.
        console: String,
    },
    /// It wrote more than it may.
    DiskLimit {
        /// In which stage.
        stage: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A package of the patch is not installed at its version.
    NotInstalled {
        /// The package.
        package: String,
        /// The version that was given.
        expected: String,
        /// The version that is installed, if any.
        found: Option<String>,
    },
    /// A binary of the fixed source is still older than the fix.
    NotFixed {
        /// The binary package.
        package: String,
        /// Its source.
        source: String,
        /// The source version that it has.
        found: String,
        /// The source version that fixes.
        fixed: String,
        /// What is not fixed: CVEs and advisories.
        ids: Vec<String>,
    },
    /// A newer version was installed and not a single file is different.
    ChangesNothing {
        /// The source package.
        source: String,
        /// Its binaries that were installed.
        packages: Vec<String>,
    },
    /// A package is older than before.
    Downgraded {
        /// The package.
        package: String,
        /// Before.
        before: String,
        /// After.
        after: String,
    },
    /// A package that nobody asked to remove is gone.
    Removed {
        /// The package.
        package: String,
        /// The version that was installed.
        version: String,
    },
    /// Something waits for connections where nothing did.
    NewListener {
        /// Where.
        listener: Listener,
    },
    /// A file has rights that no file had there.
    NewSpecialPath {
        /// Which, and what rights.
        path: SpecialPath,
    },
    /// After the restart, a process still runs code that was replaced.
    StaleCode {
        /// The process and its files.
        process: StaleProcess,
    },
    /// After the restart, the kernel that runs is not the newest installed.
    OldKernelRuns {
        /// The kernel that runs, with its version.
        running: String,
        /// The newest installed.
        newest: String,
    },
    /// A unit that ran does not run.
    UnitStopped {
        /// The unit.
        unit: String,
        /// Its state before.
        before: String,
        /// Its state now.
        after: String,
    },
    /// A unit failed that had not.
    UnitFailed {
        /// The unit.
        unit: String,
    },
    /// A probe that passed fails.
    ProbeFailed {
        /// The probe.
        probe: String,
        /// What failed.
        failure: String,
    },
    /// Both sides changed a configuration file; dpkg kept ours and left the other beside it.
    ConffileConflict {
        /// What was left.
        path: String,
    },
    /// Too little space is left.
    SpaceShort {
        /// The filesystem.
        mount_point: String,
        /// Bytes available before.
        before: u64,
        /// Bytes available after.
        after: u64,
        /// Bytes that must be left.
        needed: u64,
    },
    /// A filesystem that could be written no longer can.
    ReadOnly {
        /// The filesystem.
        mount_point: String,
    },
    /// A picture could not be taken whole: what it lacks is unknown.
    Unseen {
        /// In which stage.
        stage: String,
        /// What is missing, in words.
        what: String,
    },
}

/// Which of the two tests a reason belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Is the hole closed, and none opened?
    Security,
    /// Does everything that worked still work?
    Adaptability,
}

impl Reason {
    /// The test that it belongs to.
    pub const fn side(&self) -> Side {
        match self {
            Self::NotInstalled { .. }
            | Self::NotFixed { .. }
            | Self::ChangesNothing { .. }
            | Self::Downgraded { .. }
            | Self::NewListener { .. }
            | Self::NewSpecialPath { .. }
            | Self::StaleCode { .. }
            | Self::OldKernelRuns { .. }
            | Self::Unseen { .. } => Side::Security,
            Self::InstallFailed { .. }
            | Self::InstallHung { .. }
            | Self::Lost { .. }
            | Self::DiskLimit { .. }
            | Self::Removed { .. }
            | Self::UnitStopped { .. }
            | Self::UnitFailed { .. }
            | Self::ProbeFailed { .. }
            | Self::ConffileConflict { .. }
            | Self::SpaceShort { .. }
            | Self::ReadOnly { .. } => Side::Adaptability,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InstallFailed { exit: Some(exit), .. } => {
                write!(formatter, "the installation failed with status {exit}")
            }
            Self::InstallFailed { exit: None, .. } => {
                write!(formatter, "the installation was ended by a signal")
            }
            Self::InstallHung { seconds, .. } => {
                write!(formatter, "the installation did not end within {seconds} s")
            }
            Self::Lost { stage, what, .. } => write!(formatter, "{stage}: {what}"),
            Self::DiskLimit { stage, limit } => {
                write!(formatter, "{stage}: more than {limit} bytes were written")
            }
            Self::NotInstalled { package, expected, found } => {
                let found = found.as_deref().unwrap_or("nothing");
                write!(formatter, "`{package}` should be {expected} and is {found}")
            }
            Self::NotFixed { package, source, found, fixed, ids } => write!(
                formatter,
                "`{package}` is of {source} {found}, older than the fix {fixed} ({})",
                ids.join(", ")
            ),
            Self::ChangesNothing { source, packages } => write!(
                formatter,
                "the new `{source}` changes not a single file of {}",
                packages.join(", ")
            ),
            Self::Downgraded { package, before, after } => {
                write!(formatter, "`{package}` went back from {before} to {after}")
            }
            Self::Removed { package, version } => {
                write!(formatter, "`{package}` {version} was removed")
            }
            Self::NewListener { listener } => write!(formatter, "something listens on {listener}"),
            Self::NewSpecialPath { path } => {
                write!(formatter, "`{}` has new rights: {}", path.path, path.rights)
            }
            Self::StaleCode { process } => write!(
                formatter,
                "`{}` still runs replaced code after the restart: {}",
                process.command,
                process.deleted_files.join(", ")
            ),
            Self::OldKernelRuns { running, newest } => {
                write!(formatter, "the kernel {running} runs after the restart, not {newest}")
            }
            Self::UnitStopped { unit, before, after } => {
                write!(formatter, "`{unit}` was {before} and is {after}")
            }
            Self::UnitFailed { unit } => write!(formatter, "`{unit}` failed"),
            Self::ProbeFailed { probe, failure } => {
                write!(formatter, "the probe `{probe}` fails: {failure}")
            }
            Self::ConffileConflict { path } => {
                write!(formatter, "a configuration file was changed by both sides: `{path}`")
            }
            Self::SpaceShort { mount_point, after, needed, .. } => write!(
                formatter,
                "{after} bytes are left on `{mount_point}`, where {needed} are needed"
            ),
            Self::ReadOnly { mount_point } => {
                write!(formatter, "`{mount_point}` became read-only")
            }
            Self::Unseen { stage, what } => write!(formatter, "{stage}: not seen: {what}"),
        }
    }
}

/// Whether the previous packages bring back what was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way-back", rename_all = "kebab-case")]
pub enum WayBack {
    /// The picture after it is the picture before.
    Restores,
    /// It was tried, and these differ.
    Differs {
        /// What is not as it was.
        differences: Vec<Difference>,
    },
    /// The previous packages could not be installed, or the system was lost on the way.
    Fails {
        /// Why.
        reason: String,
    },
    /// It was not tried.
    Untried {
        /// Why not.
        reason: String,
    },
}

/// Something that the way back did not restore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// What: `package openssl`, `unit nginx.service`, `file /etc/ssl/openssl.cnf`.
    pub what: String,
    /// Before the patch; absent where it was not there.
    pub before: Option<String>,
    /// After the way back; absent where it is not there.
    pub after: Option<String>,
}

/// What a proof found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Reasons against its security.
    pub security: Vec<Reason>,
    /// Reasons against its adaptability.
    pub adaptability: Vec<Reason>,
    /// Whether there is a way back. None is told, not held against a patch.
    pub way_back: WayBack,
}

impl Verdict {
    /// Whether nothing speaks against the patch.
    pub fn passes(&self) -> bool {
        self.security.is_empty() && self.adaptability.is_empty()
    }

    /// All reasons.
    pub fn reasons(&self) -> impl Iterator<Item = &Reason> {
        self.security.iter().chain(&self.adaptability)
    }
}
