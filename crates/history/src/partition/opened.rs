//! Blocks that were opened: what is asked for often is not read, decrypted and decompressed again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Weighter};

use crate::error::Result;

use super::block::Pack;

/// Opened blocks of any number of partitions, within so many bytes. In memory they are plain: a partition's go with it.
pub struct Opened {
    pub(super) packs: Blocks<Pack>,
    pub(super) indexes: Blocks<Vec<u8>>,
    partitions: AtomicU64,
}

impl Opened {
    /// For so many bytes, an eighth of them of indexes.
    pub fn of(bytes: u64) -> Self {
        let indexes = bytes / 8;
        Self {
            packs: Blocks::of(bytes - indexes),
            indexes: Blocks::of(indexes),
            partitions: AtomicU64::new(0),
        }
    }

    /// A number for a partition.
    pub(super) fn partition(&self) -> u64 {
        self.partitions.fetch_add(1, Ordering::Relaxed)
    }

    /// Forgets a partition's.
    pub(super) fn forget(&self, partition: u64) {
        self.packs.0.retain(|(it, _), _| *it != partition);
        self.indexes.0.retain(|(it, _), _| *it != partition);
    }
}

/// 32 MiB.
impl Default for Opened {
    fn default() -> Self {
        Self::of(32 << 20)
    }
}

/// Blocks of one kind, by their partition and their number there.
pub(super) struct Blocks<T>(Cache<(u64, usize), Arc<T>, Bytes>);

impl<T> Blocks<T>
where
    Bytes: Weighter<(u64, usize), Arc<T>>,
{
    fn of(bytes: u64) -> Self {
        /// About so many has one, opened.
        const BLOCK: u64 = 40 << 10;
        let count = usize::try_from(bytes / BLOCK).unwrap_or(0).max(4);
        let (hash, life) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self(Cache::with(count, bytes, Bytes, hash, life))
    }

    pub(super) fn get(
        &self,
        place: (u64, usize),
        open: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        self.0.get_or_insert_with(&place, || open().map(Arc::new))
    }
}

/// Weighs blocks by what they take of memory.
#[derive(Clone)]
pub(super) struct Bytes;

/// What an entry takes besides.
const ENTRY: usize = 150;

impl Weighter<(u64, usize), Arc<Pack>> for Bytes {
    fn weight(&self, _: &(u64, usize), pack: &Arc<Pack>) -> u64 {
        (pack.bytes() + ENTRY) as u64
    }
}

impl Weighter<(u64, usize), Arc<Vec<u8>>> for Bytes {
    fn weight(&self, _: &(u64, usize), index: &Arc<Vec<u8>>) -> u64 {
        (index.capacity() + ENTRY) as u64
    }
}
