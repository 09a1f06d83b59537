//! What is installed on a system: an observation of its packages and, where the system runs,
//! of what it has loaded.

use std::collections::BTreeSet;

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

impl OsRelease {
    /// The distribution's release in one word: `debian:12`, `alpine:3.20.1`, `arch:rolling`.
    pub fn release(&self) -> String {
        let release = self.version_id.as_deref().or(self.codename.as_deref());
        format!("{}:{}", self.id, release.unwrap_or("rolling"))
    }
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

/// Debian architectures whose boot files are signed, as they end the names of signed sources.
const SIGNED_ARCHITECTURES: [&str; 4] = ["-amd64", "-arm64", "-i386", "-armhf"];

impl SourcePackage {
    /// The source package whose code a binary carries, seen through Secure Boot signing.
    ///
    /// Debian builds signed boot files from a generated second source, while advisories speak of
    /// the first one: `linux-signed-amd64 6.1.192+2` carries the signed binaries of
    /// `linux 6.1.192-2` and is invisible to whoever asks for `linux`. The generated version is
    /// the first one's with its `-` written as `+`; some templates put a number of their own
    /// before it (`grub-efi-amd64-signed 1+2.06+13+deb12u1` signs `grub2 2.06-13+deb12u1`).
    /// Ubuntu's `linux-signed` has the version of `linux` itself.
    ///
    /// `shim-signed` has code and fixes of its own and stays what it is, as does everything
    /// whose name or version does not follow the pattern.
    pub fn resolve_signed(name: &str, version: &str) -> Self {
        signed_source(name, version)
            .unwrap_or_else(|| Self { name: name.to_owned(), version: version.to_owned() })
    }

    /// The source of a binary package from its `Source: name (version)` field, both parts taken
    /// from the binary where missing (Debian Policy 5.6.1), seen through signing.
    pub fn of_binary(name: &str, version: &str, field: Option<&str>) -> Self {
        let field = field.map(str::trim).filter(|field| !field.is_empty());
        let (source, source_version) = match field.map(|field| (field, field.split_once('('))) {
            None => (name, version),
            Some((source, None)) => (source, version),
            Some((_, Some((source, rest)))) => {
                (source.trim(), rest.trim_end().trim_end_matches(')').trim())
            }
        };
        Self::resolve_signed(source, source_version)
    }
}

/// What the generated source `name version` signs, `None` where it signs nothing.
fn signed_source(name: &str, version: &str) -> Option<SourcePackage> {
    if let Some(flavour) = name.strip_prefix("linux-signed")
        && (flavour.is_empty() || flavour.starts_with('-'))
    {
        let debian_flavour = without_signed_architecture(flavour);
        let (flavour, version) = match debian_flavour {
            Some(flavour) => (flavour, unsigned_version(version)?),
            None => (flavour, version.to_owned()),
        };
        return Some(SourcePackage { name: format!("linux{flavour}"), version });
    }
    let template = without_signed_architecture(name.strip_suffix("-signed")?)?;
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (Some(epoch), rest),
        None => (None, version),
    };
    let name = match template {
        "grub-efi" => "grub2",
        "shim-helpers" => "shim",
        "systemd-boot-efi" => "systemd",
        "fwupd-efi" => "fwupd-efi",
        // fwupd 1.5 signed itself; since it was split, fwupd-efi (epoch 1) is what is signed.
        "fwupd" if epoch.is_some() => "fwupd-efi",
        "fwupd" => "fwupd",
        _ => return None,
    };
    let unsigned = unsigned_version(without_template_version(rest))?;
    let version = epoch.map_or_else(|| unsigned.clone(), |epoch| format!("{epoch}:{unsigned}"));
    Some(SourcePackage { name: name.to_owned(), version })
}

fn without_signed_architecture(name: &str) -> Option<&str> {
    SIGNED_ARCHITECTURES.iter().find_map(|architecture| name.strip_suffix(architecture))
}

/// `2.06+13+deb12u1` → `2.06-13+deb12u1`; `None` where it is not a rewritten version.
fn unsigned_version(signed: &str) -> Option<String> {
    if signed.contains('-') {
        return None;
    }
    let (upstream, revision) = signed.split_once('+')?;
    Some(format!("{upstream}-{revision}"))
}

/// `1+2.06+13` → `2.06+13`; `16.1+2` stays, as nothing but the version itself is in it.
fn without_template_version(signed: &str) -> &str {
    match signed.split_once('+') {
        Some((template, rest))
            if rest.contains('+') && template.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            rest
        }
        _ => signed,
    }
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

impl PackageState {
    /// In which state an interrupted dpkg left it; `None` where its files are those of its version.
    pub const fn trouble(self) -> Option<&'static str> {
        match self {
            // A pending trigger leaves the package's own files in place.
            Self::Installed | Self::Triggers => None,
            Self::HalfInstalled => Some("half-installed"),
            Self::Unpacked => Some("unpacked but not configured"),
            Self::HalfConfigured => Some("half-configured"),
        }
    }
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
    /// The packages that have files of these names now; empty where nobody can tell.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub packages: BTreeSet<String>,
}

impl StaleProcess {
    /// Whether what it still runs may be of one of these packages: it is, or nobody can tell.
    pub fn may_run(&self, mut packages: impl Iterator<Item = impl AsRef<str>>) -> bool {
        self.packages.is_empty() || packages.any(|name| self.packages.contains(name.as_ref()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_boot_files_are_traced_to_the_source_they_sign() {
        let cases = [
            ("linux-signed-amd64", "6.1.192+2", "linux", "6.1.192-2"),
            ("linux-signed-arm64", "5.10.127+2~bpo10+1", "linux", "5.10.127-2~bpo10+1"),
            ("linux-signed-6.12-amd64", "6.12.117+1~deb12u1", "linux-6.12", "6.12.117-1~deb12u1"),
            ("linux-signed", "5.15.0-91.101", "linux", "5.15.0-91.101"),
            ("linux-signed-hwe-6.5", "6.5.0-14.14~22.04.1", "linux-hwe-6.5", "6.5.0-14.14~22.04.1"),
            ("grub-efi-amd64-signed", "1+2.06+13+deb12u1", "grub2", "2.06-13+deb12u1"),
            ("grub-efi-arm64-signed", "1+2.06+3~deb11u6", "grub2", "2.06-3~deb11u6"),
            ("shim-helpers-amd64-signed", "1+16.1+2~deb12u1", "shim", "16.1-2~deb12u1"),
            ("fwupd-amd64-signed", "1:1.4+1", "fwupd-efi", "1:1.4-1"),
            ("fwupd-amd64-signed", "1.5.7+4", "fwupd", "1.5.7-4"),
        ];
        for (name, version, source, source_version) in cases {
            let expected =
                SourcePackage { name: source.to_owned(), version: source_version.to_owned() };
            assert_eq!(SourcePackage::resolve_signed(name, version), expected, "{name} {version}");
        }
    }

    #[test]
    fn everything_else_stays_what_it_is() {
        for (name, version) in [
            ("shim-signed", "1.51~1+deb12u1"),
            ("openssl", "3.0.19-1~deb12u2"),
            ("linux", "6.1.192-2"),
            ("linux-signedness", "1-1"),
            ("linux-signed-amd64", "6.1.192"),
            ("grub-efi-amd64-signed", "2.06-13"),
            ("python-signedjson", "1.1.1-2"),
            ("acme-amd64-signed", "1+2.0+1"),
        ] {
            let expected = SourcePackage { name: name.to_owned(), version: version.to_owned() };
            assert_eq!(SourcePackage::resolve_signed(name, version), expected);
        }
    }
}
