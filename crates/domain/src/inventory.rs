//! What is installed on a system: an observation of its packages and, where the system runs,
//! of what it has loaded.

use serde::{Deserialize, Serialize};

use crate::version::VersionKind;

/// Identity of an operating system, from `os-release(5)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID`, for example `debian`, `almalinux`, `alpine`.
    pub id: String,
    /// `ID_LIKE`, split at spaces.
    pub id_like: Vec<String>,
    /// `VERSION_ID`, for example `12`, `9.4`, `3.20.1`. Absent on rolling systems.
    pub version_id: Option<String>,
    /// `VERSION_CODENAME`, for example `bookworm`.
    pub codename: Option<String>,
    /// `PRETTY_NAME`, for people.
    pub pretty_name: String,
}

/// Which package manager's database and version order a system uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageFamily {
    /// dpkg: Debian, Ubuntu and their derivatives.
    Dpkg,
    /// rpm: Red Hat family, SUSE.
    Rpm,
    /// apk-tools: Alpine.
    Apk,
}

impl PackageFamily {
    /// The order in which this family compares versions.
    pub const fn version_kind(self) -> VersionKind {
        match self {
            Self::Dpkg => VersionKind::Dpkg,
            Self::Rpm => VersionKind::Rpm,
            Self::Apk => VersionKind::Apk,
        }
    }
}

/// The source package that a binary package was built from.
///
/// Advisories are written for source packages, so matching uses this name and version and never
/// the binary's (a binNMU `1.2-3+b1` is built from source `1.2-3`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourcePackage {
    /// Source name; signed kernels are mapped to the source they sign
    /// (`linux-signed-amd64` → `linux`).
    pub name: String,
    /// Source version, in the family's syntax; for signed kernels that of the signed source
    /// (`6.1.192+2` → `6.1.192-2`).
    pub version: String,
}

/// How completely a package is installed (dpkg's status word; rpm and apk know only `Installed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageState {
    /// Unpacked and configured.
    Installed,
    /// `half-installed`: unpacking was interrupted.
    HalfInstalled,
    /// `unpacked`: not configured yet.
    Unpacked,
    /// `half-configured`: configuring was interrupted or failed.
    HalfConfigured,
    /// `triggers-awaited` or `triggers-pending`.
    Triggers,
}

/// One installed package. Removed packages whose configuration files remain are not listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// Binary package name.
    pub name: String,
    /// Architecture as recorded (`amd64`, `all`, `x86_64`, `noarch`).
    pub architecture: String,
    /// Installed version in the family's full syntax (rpm: `[epoch:]version-release`).
    pub version: String,
    /// What it was built from.
    pub source: SourcePackage,
    /// How completely it is installed.
    pub state: PackageState,
    /// Whether the administrator holds it at its version (`dpkg` selection `hold`).
    pub held: bool,
}

/// A running process that still maps files of a package that has been replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StaleProcess {
    /// Process id at the time of the observation.
    pub pid: u32,
    /// Command name (`/proc/PID/comm`).
    pub command: String,
    /// systemd unit, where the control group names one.
    pub unit: Option<String>,
    /// The deleted files that it maps, sorted.
    pub deleted_files: Vec<String>,
}

/// What a live system runs, as opposed to what is installed on its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// `uname -r`.
    pub running_kernel: String,
    /// Newest installed kernel release by dpkg order, `None` where none is installed (containers).
    pub newest_installed_kernel: Option<String>,
    /// Packages that asked for a reboot (`/run/reboot-required.pkgs`); `Some(empty)` where the
    /// request names none.
    pub reboot_required_by: Option<Vec<String>>,
    /// Processes that map deleted files.
    pub stale_processes: Vec<StaleProcess>,
    /// How many processes could not be looked into (not ours to read): what they map is unknown.
    pub unreadable_processes: u32,
}

/// Everything that was read from one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Identity of the operating system.
    pub os: OsRelease,
    /// Package family.
    pub family: PackageFamily,
    /// Native architecture in the family's spelling (`amd64`, `x86_64`).
    pub architecture: String,
    /// Further architectures that dpkg accepts (`/var/lib/dpkg/arch`), sorted.
    pub foreign_architectures: Vec<String>,
    /// Installed packages, sorted by name, then architecture, then version.
    pub packages: Vec<InstalledPackage>,
    /// Kernel releases found on disk (`/lib/modules`, `/usr/lib/modules`), sorted by name.
    pub installed_kernels: Vec<String>,
    /// Only of a live root.
    pub runtime: Option<Runtime>,
    /// Parts that could not be understood, in words; what they would have said is unknown.
    pub problems: Vec<String>,
}
