//! The right edge of a growing tree: all that appending needs.

use crate::Hash;
use crate::layout::{self, LEVELS, Row, Tile, WIDTH};
use crate::storage::ReadStorage;
use crate::tree::{self, TreeError};

/// The unfinished tile of each level and the unfinished bundle.
#[derive(Debug, Clone, Default)]
pub(super) struct Edge {
    size: u64,
    /// Fewer than 256 hashes each, level 0 first.
    rows: [Vec<Hash>; LEVELS as usize],
    bundle: Vec<u8>,
}

impl Edge {
    /// The edge of a published tree. Whether it leads to the published root is for the caller.
    pub(super) fn read<S: ReadStorage>(storage: &S, size: u64) -> Result<Self, TreeError> {
        let mut edge = Self { size, ..Self::default() };
        for row in Row::all(size) {
            let Some(tile) = row.partial(size) else { continue };
            match row {
                Row::Entries => edge.bundle = tree::fetch(storage, tile, size)?,
                Row::Hashes(level) => {
                    edge.rows[usize::from(level)] = tree::fetch_hashes(storage, tile, size)?;
                }
            }
        }
        Ok(edge)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the unfinished bundle holds the entries whose hashes stand in the unfinished tile.
    pub(super) fn bundle_is_whole(&self) -> bool {
        let leaves = layout::entries(&self.bundle).map(|entry| entry.map(Hash::of_entry));
        leaves.eq(self.rows[0].iter().copied().map(Some))
    }

    /// Appends an entry; full tiles and bundles go to `put`.
    pub(super) fn append<E>(
        &mut self,
        entry: &[u8],
        mut put: impl FnMut(Tile, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        layout::push_entry(&mut self.bundle, entry);
        self.rows[0].push(Hash::of_entry(entry));
        self.size += 1;
        if !self.size.is_multiple_of(WIDTH) {
            return Ok(());
        }
        put(self.full(Row::Entries), &self.bundle)?;
        self.bundle.clear();
        let mut level = 0;
        while self.rows[level].len() as u64 == WIDTH {
            let row = std::mem::take(&mut self.rows[level]);
            let name = u8::try_from(level).expect("levels are few");
            put(self.full(Row::Hashes(name)), &layout::tile_bytes(&row))?;
            level += 1;
            self.rows[level].push(Hash::of_perfect(&row));
        }
        Ok(())
    }

    /// Puts the unfinished tiles and the unfinished bundle.
    pub(super) fn put_partials<E>(
        &self,
        mut put: impl FnMut(Tile, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in Row::all(self.size) {
            let Some(tile) = row.partial(self.size) else { continue };
            match row {
                Row::Entries => put(tile, &self.bundle)?,
                Row::Hashes(level) => {
                    put(tile, &layout::tile_bytes(&self.rows[usize::from(level)]))?;
                }
            }
        }
        Ok(())
    }

    /// The root of the whole tree (RFC 6962 §2.1): what is unfinished hangs to the right of each
    /// level's perfect subtrees, smaller to the right of larger.
    pub(super) fn root(&self) -> Hash {
        let rows = self.rows.iter();
        let root = rows.fold(None, |unfinished, row| Hash::of_row(row, unfinished));
        root.unwrap_or(Hash::EMPTY_TREE)
    }

    /// The tile of this row that the last entry filled.
    fn full(&self, row: Row) -> Tile {
        Tile { row, index: row.items(self.size) / WIDTH - 1, width: WIDTH }
    }
}
