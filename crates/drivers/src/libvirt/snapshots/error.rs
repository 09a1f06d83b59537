//! Why libvirt's machines are not kept or brought back.

use crate::libvirt::{LibvirtError, NO_DOMAIN};
use crate::snapshots::SnapshotName;

/// Why a hypervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// What is no address of a hypervisor.
    #[error("{uri:?} is no address of a hypervisor that can be used: {reason}")]
    Address {
        /// What was given.
        uri: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// What is no name of a machine.
    #[error("{machine:?} is not the name of a machine")]
    Name {
        /// What was given.
        machine: String,
    },
    /// There is no such machine.
    #[error("there is no machine `{machine}`")]
    NoMachine {
        /// The machine.
        machine: String,
    },
    /// libvirt takes the name for another machine's number.
    #[error("libvirt takes `{machine}` for the number of another machine")]
    Ambiguous {
        /// The machine.
        machine: String,
    },
    /// libvirt did not do what it was asked.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// What libvirt says cannot be used.
    #[error("what libvirt says of `{of}` cannot be used: {reason}")]
    Odd {
        /// What it was asked about.
        of: String,
        /// What is wrong.
        reason: String,
    },
    /// A machine that is gone when it is off.
    #[error("`{machine}` is not defined, only running: it would be gone once it is off")]
    Transient {
        /// The machine.
        machine: String,
    },
    /// There is a saved memory, which belongs to the disks as they are.
    #[error("`{machine}` was saved with its memory")]
    Saved {
        /// The machine.
        machine: String,
    },
    /// It cannot be done with the machine as it is.
    #[error("`{machine}`: {refusal}")]
    Refused {
        /// The machine.
        machine: String,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The pool of the disks' directory is not active, and it is somebody's.
    #[error("the storage pool of `{directory}` is not active")]
    Pool {
        /// The directory.
        directory: String,
    },
    /// It takes longer than it may.
    #[error("`{snapshot}` of `{machine}` is still being merged after {seconds} s")]
    Slow {
        /// The machine.
        machine: String,
        /// The snapshot.
        snapshot: SnapshotName,
        /// The limit.
        seconds: u64,
    },
    /// Step follows step, and somebody else seems to alter the machine as well.
    #[error("`{machine}` did not come to what was asked within {steps} steps")]
    Restless {
        /// The machine.
        machine: String,
        /// The limit.
        steps: usize,
    },
}

/// Why it cannot be done with a machine as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A disk that cannot be kept.
    #[error("its disk `{target}` {reason}")]
    Unfit {
        /// The disk.
        target: String,
        /// What it is, as the rest of a sentence.
        reason: &'static str,
    },
    /// There is nothing that it writes to.
    #[error("it has no disk that it writes to")]
    NoDisks,
    /// Its disks are not those that it will have after the next start.
    #[error("its disks are others than it will have when it is started next")]
    Differs,
    /// Something else is done with a disk.
    #[error("its disk `{target}` is being copied")]
    Busy {
        /// The disk.
        target: String,
    },
    /// There is no such snapshot.
    #[error("it has no such snapshot")]
    NoSnapshot,
    /// There are enough.
    #[error("it has as many snapshots as it may, or too many files are left of earlier ones")]
    TooMany,
    /// Others lie on it.
    #[error("later snapshots lie on this one: {}", names(later))]
    Later {
        /// These.
        later: Vec<SnapshotName>,
    },
    /// Somebody put a disk on another file.
    #[error("its disk `{target}` was put on another file since")]
    Moved {
        /// The disk.
        target: String,
    },
    /// Another work was begun and stopped.
    #[error("the {verb} of `{snapshot}` was begun and not finished")]
    Unfinished {
        /// The snapshot.
        snapshot: SnapshotName,
        /// What was begun.
        verb: &'static str,
    },
    /// Somebody else's snapshot needs the file.
    #[error("a snapshot that is not ours, {snapshot:?}, was made since")]
    Foreign {
        /// It.
        snapshot: String,
    },
}

fn names(snapshots: &[SnapshotName]) -> String {
    let names: Vec<_> = snapshots.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

impl HypervisorError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Address { .. } => {
                Some("use `qemu:///system`, `qemu:///session` or `qemu+ssh://USER@HOST/system`")
            }
            Self::Name { .. } | Self::NoMachine { .. } => {
                Some("`virsh list --all` at this connection shows the names of its machines")
            }
            Self::Ambiguous { .. } => Some("give its UUID, which `virsh domuuid` tells"),
            Self::Libvirt(_) => Some(
                "try `virsh -c ADDRESS list --all` and `pool-list --all` as the same user; the storage driver of libvirt must be there",
            ),
            Self::Odd { .. } => Some("`virsh dumpxml` shows what libvirt says"),
            Self::Transient { .. } => Some("define it: `virsh define`"),
            Self::Saved { .. } => {
                Some("start it, or give its memory up: `virsh managedsave-remove`")
            }
            Self::Refused { refusal, .. } => refusal.help(),
            Self::Pool { .. } => Some("start it: `virsh pool-start`"),
            Self::Slow { .. } => Some("libvirt goes on; ask again"),
            Self::Restless { .. } => Some("ask again, with nobody else at it"),
        }
    }
}

impl Refusal {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Unfit { .. } => Some(
                "disks must be raw or qcow2 files of this machine alone; keep this one by other means",
            ),
            Self::Differs => {
                Some("restart the machine, so that it has the disks it is defined with")
            }
            Self::Busy { .. } => Some("`virsh blockjob MACHINE DISK` shows what is done with it"),
            Self::NoDisks | Self::NoSnapshot => None,
            Self::TooMany => Some(
                "remove those that are needed no longer; each removal also removes files that are left",
            ),
            Self::Later { .. } => Some("remove these first, latest first"),
            Self::Moved { .. } => Some(
                "put it back: `virsh domblklist` shows where it is, `virsh metadata MACHINE urn:patchwright:snapshots` where it was left",
            ),
            Self::Unfinished { .. } => Some("ask for that again, so that it is finished"),
            Self::Foreign { .. } => Some("remove it with the tools that made it"),
        }
    }
}

impl LibvirtError {
    /// Whether it says that there is no such machine.
    pub(super) fn lacks_machine(&self) -> bool {
        self.says(NO_DOMAIN)
    }
}
