//! Disks: anything that can be read at an offset, and how to find a system's volume on it.
//!
//! ```text
//! raw file ─┐
//! qcow2 ────┴─► BlockRead ─► partitions ─► volume ─► filesystem recognised ─► tree
//! ```

mod error;
mod filesystem;
mod firmware;
mod partition;
mod qcow2;
mod raw;
mod root;
mod volume;

use std::fmt;

pub use error::DiskError;
pub use firmware::{Firmware, firmware_of};
pub(crate) use qcow2::{Qcow2Disk, is_qcow2};
pub(crate) use raw::RawDisk;
pub(crate) use root::find_root;
pub(crate) use volume::Volume;

/// Something that holds bytes at offsets: a disk, an image, a partition of one.
pub(crate) trait BlockRead: Send + Sync + fmt::Debug {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`] when the range does not lie within [`size`](Self::size).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;
}

/// Refuses a range that does not lie within `size`.
fn check_range(offset: u64, length: usize, size: u64) -> Result<(), DiskError> {
    let end = offset.checked_add(length as u64);
    if end.is_some_and(|end| end <= size) {
        Ok(())
    } else {
        Err(DiskError::OutOfRange { offset, length: length as u64, size })
    }
}

/// Reads a small structure whose end may lie behind the end of the disk: `None` then.
fn read_structure<const LENGTH: usize>(
    disk: &dyn BlockRead,
    offset: u64,
) -> Result<Option<[u8; LENGTH]>, DiskError> {
    if check_range(offset, LENGTH, disk.size()).is_err() {
        return Ok(None);
    }
    let mut bytes = [0; LENGTH];
    disk.read_at(offset, &mut bytes)?;
    Ok(Some(bytes))
}
