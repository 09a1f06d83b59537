//! What the lab and the program inside its virtual machines say to each other.
//!
//! The host asks, the guest answers: one JSON document a line over a virtio-serial port. Requests
//! are typed steps; there is no "run this command". The only programs that the guest starts by a
//! caller's choice are the command probes that an image's own application profile declares.
//!
//! The guest *gathers* and never judges: what it sends is as near to what the system said as it
//! can be, and the host reads it as it would read any hostile bytes.

use std::collections::BTreeMap;

use probes::{Probe, ProbeResult};
use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port between the two.
pub const PORT: &str = "patchwright.guest.0";

/// Serial number of the read-only disk with the packages.
pub const PACKAGE_DISK: &str = "patchwright";

/// Name of the unit that runs the guest; pictures leave it out.
pub const UNIT: &str = "patchwright-guest.service";

/// Where the guest's files lie while the system runs, in memory and never on its disk.
pub const HOME: &str = "/run/patchwright";

/// The guest as the first process, instead of the image's own: the system stands still, none of its
/// services runs. The lab puts it on the kernel's command line.
pub const STILL: &str = "init=/run/patchwright/guest";

/// A word on the kernel's command line: a shell on the console, with the system running, in place
/// of the guest. The machine is switched off when it ends.
pub const SHELL: &str = "patchwright.shell";

/// Version of this protocol. Both sides come from one build, so it only guards against mixing.
pub const PROTOCOL: u32 = 2;

/// What the host asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Wait until systemd has finished starting up.
    Settle {
        /// Longest wait, in seconds.
        seconds: u64,
    },
    /// Tell everything that is compared before and after.
    Picture(PictureRequest),
    /// Install packages from the package disk.
    Install(InstallRequest),
    /// Take away what only one machine may have, and what nobody needs in an image.
    Generalise(GeneraliseRequest),
    /// Restart the system.
    Reboot,
    /// Shut the system down.
    PowerOff,
}

/// What a picture is to hold beside what it always holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRequest {
    /// The image's own probes, run in this order.
    pub probes: Vec<Probe>,
    /// Packages whose files are told one by one (`name` or `name:architecture`).
    pub packages: Vec<String>,
    /// Files whose inode changed at this time or later are told as touched; nanoseconds since
    /// 1970 on the guest's clock.
    pub touched_since: Option<i64>,
}

/// Packages to install and to take away in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// Directory on the package disk whose `.deb` files are installed, all of them.
    pub directory: String,
    /// Packages to remove.
    pub remove: Vec<String>,
    /// Whether an older version may replace a newer one.
    pub downgrades: Downgrades,
    /// Longest time that this may take, in seconds.
    pub seconds: u64,
    /// What programs that build files take for the time, in seconds since 1970
    /// (`SOURCE_DATE_EPOCH`), so that the same inputs give the same files.
    pub source_date_epoch: Option<i64>,
}

/// What is taken away, beside what always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneraliseRequest {
    /// Whether the machine's keys of SSH go as well.
    pub ssh_host_keys: bool,
}

/// Whether an older version may replace a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downgrades {
    /// Patches only go forward.
    Refused,
    /// The way back.
    Allowed,
}

/// What the guest says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Message {
    /// The guest runs; said once after each boot, before anything is asked.
    Hello(Hello),
    /// Answer to [`Request::Settle`].
    Settled(Settled),
    /// Answer to [`Request::Picture`].
    Picture(Box<RawPicture>),
    /// Answer to [`Request::Install`].
    Installed(Installed),
    /// Answer to [`Request::Generalise`].
    Generalised(Generalised),
    /// The system goes down now, as asked.
    Going,
    /// A step could not be done at all.
    Failed {
        /// Why not.
        reason: String,
    },
}

/// The first message after a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the guest.
    pub protocol: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
}

/// How the start of the system ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// systemd's word: `running`, `degraded`, `starting` and others.
    pub state: String,
    /// Jobs that were still queued, as `systemctl list-jobs` prints them.
    pub jobs: String,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
}

/// How an installation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// apt's exit status; `None` where a signal or the time limit ended it.
    pub exit: Option<i32>,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// What apt and the packages' scripts printed, its last mebibyte.
    pub output: String,
    /// When it began, nanoseconds since 1970 on the guest's clock.
    pub began: i64,
    /// Milliseconds since the kernel started, when it began.
    pub began_uptime_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generalised {
    /// Files that were emptied, sorted.
    pub emptied: Vec<String>,
    /// Files and directories that were removed, sorted.
    pub removed: Vec<String>,
    /// Bytes that the filesystems gave back to the disk, as `fstrim` tells.
    pub trimmed: String,
    /// What could not be done, in words.
    pub problems: Vec<String>,
}

/// Everything that is compared, as the system itself says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RawPicture {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// Milliseconds since the kernel started, when the picture was begun.
    pub uptime_ms: u64,
    /// How long the picture took, in milliseconds.
    pub took_ms: u64,
    /// `/etc/os-release`.
    pub os_release: String,
    /// `/var/lib/dpkg/status`.
    pub dpkg_status: String,
    /// Names in `/boot`.
    pub boot_files: Vec<String>,
    /// `systemctl show` of every loaded unit.
    pub units: String,
    /// `systemctl show` of the manager itself.
    pub manager: String,
    /// `/proc/net/{tcp,tcp6,udp,udp6}` by their names.
    pub sockets: BTreeMap<String, String>,
    /// Running processes.
    pub processes: Vec<RawProcess>,
    /// Filesystems on disks.
    pub filesystems: Vec<FilesystemUse>,
    /// Files that are told for their mode.
    pub special_files: Vec<SpecialFile>,
    /// Files touched since the time asked for, sorted; at most [`MAX_TOUCHED`].
    pub touched: Vec<String>,
    /// SHA-256 of configuration files, by path.
    pub configuration: BTreeMap<String, String>,
    /// Digests of the files of the packages asked for, by package and path.
    pub package_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Journal of this boot at priority `err` and worse, JSON lines.
    pub journal_errors: String,
    /// What systemd logged of units that start, stop and fail in this boot, JSON lines.
    pub unit_journal: String,
    /// `/run/reboot-required.pkgs`, where something asked for a restart.
    pub reboot_required: Option<String>,
    /// Results of the probes, in their order.
    pub probes: Vec<ProbeResult>,
    /// Parts that could not be gathered, in words.
    pub problems: Vec<String>,
}

/// Touched files beyond this many are counted as a problem and not told.
pub const MAX_TOUCHED: usize = 50_000;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawProcess {
    /// Process id.
    pub pid: u32,
    /// `/proc/PID/comm`.
    pub command: String,
    /// `/proc/PID/exe`, empty for kernel threads.
    pub executable: String,
    /// `/proc/PID/cgroup`.
    pub cgroup: String,
    /// Inodes of its sockets.
    pub sockets: Vec<u64>,
    /// Lines of `/proc/PID/maps` that are executable and whose file was deleted.
    pub deleted_maps: Vec<String>,
}

/// How full a filesystem is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemUse {
    /// Where it is mounted.
    pub mount_point: String,
    /// Size in bytes.
    pub total: u64,
    /// Bytes that a service may still write.
    pub available: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// A file told for its mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpecialFile {
    /// Where it is.
    pub path: String,
    /// Why it is told.
    pub why: Special,
    /// Permission bits, in full.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a file is told for its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Special {
    /// A regular file that runs with its owner's or group's rights.
    SetId,
    /// A file that anybody may write, or a directory where anybody may replace others' files.
    WorldWritable,
    /// A device node outside `/dev`.
    Device,
    /// What dpkg or ucf left because a configuration file had been changed by both sides.
    ConffileLeftover,
}
