//! What a virtual machine may use at most.

use std::time::Duration;

/// Bounds of one job. Whatever is exceeded ends the machine and is told as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Virtual processors.
    pub processors: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Bytes that the copy-on-write overlay may grow to. The kernel enforces it (`RLIMIT_FSIZE`).
    pub disk_bytes: u64,
    /// From power-on until systemd has finished starting up.
    pub boot: Duration,
    /// One installation of packages.
    pub install: Duration,
    /// One picture, probes included.
    pub picture: Duration,
    /// From the request to reboot or power off until the machine is off.
    pub shutdown: Duration,
}

impl Default for Limits {
    /// Enough for a server image with all its pending patches, without KVM.
    fn default() -> Self {
        Self {
            processors: 2,
            memory_mib: 1024,
            disk_bytes: 8 << 30,
            boot: Duration::from_secs(300),
            install: Duration::from_secs(1800),
            picture: Duration::from_secs(300),
            shutdown: Duration::from_secs(180),
        }
    }
}
