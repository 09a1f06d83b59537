//! A picture: what a running system is, reduced to what is compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::inventory::{InstalledPackage, StaleProcess};

/// A running system at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Identity of the boot.
    pub boot_id: String,
    /// `uname -r` of the kernel that runs.
    pub kernel_release: String,
    /// `uname -v`, where Debian writes the kernel package's version.
    pub kernel_version: String,
    /// Newest kernel release in `/boot`, by dpkg's order.
    pub newest_kernel: Option<String>,
    /// Installed packages, sorted.
    pub packages: Vec<InstalledPackage>,
    /// systemd's units by their names.
    pub units: BTreeMap<String, Unit>,
    /// What systemd did to units in this boot, in order.
    pub unit_events: Vec<UnitEvent>,
    /// Where something waits for connections or datagrams.
    pub listeners: BTreeSet<Listener>,
    /// Processes that map deleted code.
    pub stale_processes: Vec<StaleProcess>,
    /// Packages that asked for a reboot.
    pub reboot_required_by: Option<Vec<String>>,
    /// Files told for their mode.
    pub special_paths: BTreeSet<SpecialPath>,
    /// Digests of the files below `/etc`.
    pub configuration: BTreeMap<String, String>,
    /// Digests of the files of the packages in question, by package and path.
    pub package_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Filesystems on disks, by mount point.
    pub filesystems: BTreeMap<String, Filesystem>,
    /// Journal messages at priority `err` and worse, each once.
    pub errors: BTreeSet<String>,
    /// The image's own probes, in their order.
    pub probes: Vec<ProbeOutcome>,
    /// Files touched since the installation began, sorted.
    pub touched: Vec<String>,
    /// Milliseconds from the kernel's start until systemd had finished.
    pub boot_ms: u64,
    /// What could not be seen, in words.
    pub problems: Vec<String>,
}

/// A systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `ActiveState`: `active`, `failed`, `inactive` and others.
    pub active: String,
    /// `SubState`: `running`, `exited`, `listening` and others.
    pub sub: String,
    /// `Type` of a service.
    pub kind: String,
    /// `UnitFileState`.
    pub file_state: String,
    /// Whether a socket, a timer or a bus name starts it when it is needed.
    pub on_demand: bool,
    /// When it was last activated, in milliseconds since the kernel started; 0 for never.
    pub activated_ms: u64,
}

/// What systemd did to a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitEvent {
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// The unit.
    pub unit: String,
    /// What happened.
    pub step: UnitStep,
}

/// What happened to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitStep {
    /// It is being started.
    Starting,
    /// It is up.
    Started,
    /// It is being stopped.
    Stopping,
    /// It is down.
    Stopped,
    /// It failed.
    Failed,
}

/// Where something waits for connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// The protocol.
    pub protocol: Protocol,
    /// The address that it is bound to.
    pub address: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Listener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(formatter, "{protocol} {} port {}", self.address, self.port)
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A file or directory told for its mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecialPath {
    /// Where it is.
    pub path: String,
    /// Why it is told.
    pub why: SpecialWhy,
    /// Permission bits, owner and group, as `4755 0:0`.
    pub rights: String,
}

/// Why a file is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecialWhy {
    /// It runs with its owner's or group's rights.
    SetId,
    /// Anybody may write it.
    WorldWritable,
    /// It is a device node.
    Device,
    /// It is what remains of a conflict between two versions of a configuration file.
    ConffileLeftover,
}

/// How full a filesystem is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Size in bytes.
    pub total: u64,
    /// Bytes that a service may still write.
    pub available: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// Its name.
    pub name: String,
    /// What failed; `None` where it passed.
    pub failure: Option<String>,
}

impl Picture {
    /// An installed package by name and architecture.
    pub fn package(&self, name: &str, architecture: &str) -> Option<&InstalledPackage> {
        let fits = |package: &&InstalledPackage| {
            package.name == name && package.architecture == architecture
        };
        self.packages.iter().find(fits)
    }
}
