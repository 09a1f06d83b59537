//! A contiguous part of a disk: a partition, or the whole.

use std::sync::Arc;

use super::{BlockRead, DiskError, check_range};

/// A part of a disk, with a name for messages.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    disk: Arc<dyn BlockRead>,
    start: u64,
    size: u64,
    name: String,
}

impl Volume {
    /// The disk itself, where it has no partitions.
    pub(crate) fn whole(disk: Arc<dyn BlockRead>) -> Self {
        let size = disk.size();
        Self { disk, start: 0, size, name: "the disk (no partition table)".to_owned() }
    }

    /// Partition `number` of a disk; what would lie behind the disk's end is cut off.
    pub(crate) fn partition(disk: &Arc<dyn BlockRead>, number: u32, start: u64, size: u64) -> Self {
        let size = size.min(disk.size().saturating_sub(start));
        Self { disk: Arc::clone(disk), start, size, name: format!("partition {number}") }
    }

    /// `partition 1`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl BlockRead for Volume {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(offset, buffer.len(), self.size)?;
        self.disk.read_at(self.start.saturating_add(offset), buffer)
    }
}
