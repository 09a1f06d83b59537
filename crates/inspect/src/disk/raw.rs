//! A file of this machine, byte for byte: a raw disk image, a block device, a qcow2 container.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{BlockRead, DiskError, check_range};

/// An opened file with its size at the time it was opened.
#[derive(Debug)]
pub(crate) struct RawDisk {
    path: PathBuf,
    file: File,
    size: u64,
    identity: (u64, u64),
}

/// Which kinds of file are acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    /// Regular files, and block devices: the user named the path.
    FileOrDevice,
    /// Regular files only: an image named the path.
    File,
}

impl RawDisk {
    /// Opens the disk or image that the user named.
    pub(crate) fn named_by_user(path: &Path) -> Result<Self, DiskError> {
        Self::open(path, Accept::FileOrDevice)
    }

    /// Opens a file without ever blocking on it (a pipe in its place would).
    pub(crate) fn open(path: &Path, accept: Accept) -> Result<Self, DiskError> {
        let io = |error| DiskError::Io { path: path.to_owned(), error };
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let size = if metadata.is_file() {
            metadata.len()
        } else if metadata.file_type().is_block_device() && accept == Accept::FileOrDevice {
            file.seek(SeekFrom::End(0)).map_err(io)?
        } else {
            return Err(DiskError::NoDisk { path: path.to_owned() });
        };
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), file, size, identity })
    }

    /// Device and inode: the same file under another name has the same.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl BlockRead for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(offset, buffer.len(), self.size)?;
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| DiskError::Io { path: self.path.clone(), error })
    }
}
