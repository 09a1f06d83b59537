//! What a trial may take at most.

use std::time::Duration;

/// Bounds of one trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Virtual processors. In a cloud, the flavor says.
    pub processors: u8,
    /// Memory in MiB. In a cloud, the flavor says.
    pub memory_mib: u32,
    /// Bytes that the machine's copy of the disk may grow to; of a cloud, bytes of its snapshot.
    pub disk_bytes: u64,
    /// From the request until the machine runs; in a cloud with the image's way there.
    pub create: Duration,
    /// From running until a login prompt.
    pub boot: Duration,
    /// From the power button until the machine is off.
    pub shutdown: Duration,
    /// Until the disk at rest is here; of a cloud, with its snapshot.
    pub hand_over: Duration,
}

impl Default for Limits {
    /// Enough for a server image without KVM.
    fn default() -> Self {
        Self {
            processors: 2,
            memory_mib: 1024,
            disk_bytes: 8 << 30,
            create: Duration::from_secs(900),
            boot: Duration::from_secs(300),
            shutdown: Duration::from_secs(180),
            hand_over: Duration::from_secs(900),
        }
    }
}

impl Limits {
    /// The lab's, of the same size.
    pub(crate) fn of_lab(&self) -> lab::Limits {
        lab::Limits {
            processors: self.processors,
            memory_mib: self.memory_mib,
            disk_bytes: self.disk_bytes,
            boot: self.boot,
            shutdown: self.shutdown,
            ..lab::Limits::default()
        }
    }
}
