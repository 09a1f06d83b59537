//! The levels above the entries' hashes, grown again and compared tile by tile.

use super::VerifyError;
use crate::layout::{LEVELS, Row, WIDTH};
use crate::storage::ReadStorage;
use crate::{Hash, tree};

/// The upper levels of a tree while its entries pass by. Holds one unfinished tile of each level.
pub(super) struct Grown<'a, S> {
    storage: &'a S,
    size: u64,
    /// Level 1 first.
    rows: [Vec<Hash>; LEVELS as usize - 1],
    /// Number of full tiles of each level, so far.
    done: [u64; LEVELS as usize - 1],
    /// The entries' own right edge.
    unfinished: Option<Hash>,
}

impl<'a, S: ReadStorage> Grown<'a, S> {
    pub(super) fn new(storage: &'a S, size: u64) -> Self {
        Self { storage, size, rows: Default::default(), done: Default::default(), unfinished: None }
    }

    /// Takes the root of the next full tile of level 0.
    pub(super) fn push(&mut self, root: Hash) -> Result<(), VerifyError> {
        let mut carried = root;
        for level in 0..self.rows.len() {
            self.rows[level].push(carried);
            if (self.rows[level].len() as u64) < WIDTH {
                break;
            }
            self.compare(level)?;
            carried = Hash::of_perfect(&self.rows[level]);
            self.rows[level].clear();
            self.done[level] += 1;
        }
        Ok(())
    }

    /// Takes the leaves of the last, partial bundle.
    pub(super) fn finish_with(&mut self, leaves: &[Hash]) {
        self.unfinished = Hash::of_row(leaves, None);
    }

    /// The root over all, after the unfinished tiles were compared too; and how many tiles that
    /// were.
    pub(super) fn root(self) -> Result<(Hash, u64), VerifyError> {
        let mut tiles = self.done.iter().sum();
        let mut root = self.unfinished;
        for (level, row) in self.rows.iter().enumerate() {
            if !row.is_empty() {
                self.compare(level)?;
                tiles += 1;
            }
            root = Hash::of_row(row, root);
        }
        Ok((root.unwrap_or(Hash::EMPTY_TREE), tiles))
    }

    /// The tile being grown at this level must be the published one.
    fn compare(&self, level: usize) -> Result<(), VerifyError> {
        let name = u8::try_from(level + 1).expect("levels are few");
        let tile = Row::Hashes(name).tile(self.done[level], self.size);
        let tile = tile.expect("a tree has the tiles of its size");
        let published = tree::fetch_hashes(self.storage, tile, self.size)?;
        let mut pairs = published.iter().zip(&self.rows[level]).enumerate();
        if let Some((place, (in_tile, computed))) = pairs.find(|(_, (a, b))| a != b) {
            return Err(VerifyError::Tile {
                path: tile.to_string(),
                place,
                in_tile: *in_tile,
                computed: *computed,
            });
        }
        Ok(())
    }
}
