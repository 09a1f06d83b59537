//! What can be wrong with a disk image.

use std::path::PathBuf;

/// Why a disk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused to read.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The path is neither a regular file nor a block device.
    #[error("`{}` is neither a regular file nor a block device", path.display())]
    NoDisk {
        /// The path.
        path: PathBuf,
    },
    /// A structure points behind the end of the disk.
    #[error("{length} bytes at offset {offset} are asked for, but the disk ends at {size}")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        length: u64,
        /// Size of the disk.
        size: u64,
    },
    /// The qcow2 image breaks its own rules.
    #[error("`{}` is a damaged qcow2 image: {reason}", path.display())]
    DamagedImage {
        /// The image.
        path: PathBuf,
        /// Which rule, with the values.
        reason: String,
    },
    /// The qcow2 image uses something that is not read.
    #[error("`{}` is a qcow2 image with {feature}, which is not read", path.display())]
    UnsupportedImage {
        /// The image.
        path: PathBuf,
        /// What it uses.
        feature: String,
    },
    /// The backing file of an image cannot be used.
    #[error("the backing file `{backing}` of `{}` cannot be used: {reason}", path.display())]
    Backing {
        /// The image that names it.
        path: PathBuf,
        /// The backing file as named there.
        backing: String,
        /// Why not.
        reason: String,
    },
    /// The partition table is damaged.
    #[error("the {table} partition table is damaged: {reason}")]
    PartitionTable {
        /// Its kind.
        table: &'static str,
        /// Which rule is broken, with the values.
        reason: String,
    },
    /// A filesystem is damaged.
    #[error("the {filesystem} filesystem on {volume} is damaged: {reason}")]
    DamagedFilesystem {
        /// Its kind.
        filesystem: &'static str,
        /// Where it is.
        volume: String,
        /// What is wrong.
        reason: String,
    },
    /// No volume holds a system, and one holds something that is not read.
    #[error("{volume} holds {filesystem}, which is not read")]
    UnsupportedFilesystem {
        /// Where it is.
        volume: String,
        /// What it holds.
        filesystem: &'static str,
    },
    /// No volume holds a system.
    #[error("no root filesystem found on the disk ({})", volumes.join("; "))]
    NoRoot {
        /// Each volume and what it holds.
        volumes: Vec<String>,
    },
}

impl DiskError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::DamagedImage { .. } => Some("`qemu-img check` tells more about the image"),
            Self::UnsupportedImage { .. } => {
                Some("`qemu-img convert -O qcow2 OLD NEW` writes a plain image")
            }
            Self::Backing { .. } => Some(
                "put the backing file beside the image and name it so with `qemu-img rebase -u -F FORMAT -b NAME IMAGE`, or flatten the image with `qemu-img convert -O qcow2`",
            ),
            Self::UnsupportedFilesystem { .. } => Some(
                "ext2, ext3 and ext4 are read from images; copy the root out with `virt-tar-out -a IMAGE / -`, or mount it read-only, and name the directory",
            ),
            Self::NoRoot { .. } => Some(
                "a root filesystem holds etc/os-release or usr/lib/os-release; where /usr lies on a volume of its own, mount the whole and name the directory",
            ),
            Self::PartitionTable { .. } | Self::DamagedFilesystem { .. } => {
                Some("a filesystem check inside the VM, or a fresh copy of the image, may help")
            }
            Self::Io { .. } | Self::NoDisk { .. } | Self::OutOfRange { .. } => None,
        }
    }
}
