//! Reading a published tree: entries, proofs, earlier roots.
//!
//! What comes from storage is not believed: each answer is checked against the root that was asked
//! for before it is given.

use std::cell::RefCell;
use std::collections::HashMap;

use tlog_tiles::{HashReader, split_stored_hash_index};

use crate::Hash;
use crate::layout::{self, Row, Tile, WIDTH, place};
use crate::storage::{ReadStorage, StorageError};

/// A tree of a certain size and root in a storage.
#[derive(Debug, Clone, Copy)]
pub struct Tree<S> {
    storage: S,
    size: u64,
    root: Hash,
    /// The size that the storage's files are of; partial tiles of earlier ones may be gone.
    held: u64,
}

/// Why a tree gives no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file that a tree of this size has is not there.
    #[error("`{path}` is missing from a log of {size} entries")]
    Missing {
        /// The file.
        path: String,
        /// The tree's size.
        size: u64,
    },
    /// A file that does not hold what its place says.
    #[error("`{path}` is malformed: it should hold {width} {items}")]
    Malformed {
        /// The file.
        path: String,
        /// How many items belong into it.
        width: u64,
        /// What it holds: `hashes` or `entries`.
        items: &'static str,
    },
    /// More was asked for than there is.
    #[error("{wanted} is beyond the log's {size} entries")]
    Beyond {
        /// The index or size asked for.
        wanted: u64,
        /// The tree's size.
        size: u64,
    },
    /// The files do not lead to the root.
    #[error("the log's files do not lead to the root {root} of its {size} entries")]
    Inconsistent {
        /// The tree's size.
        size: u64,
        /// The root that was asked for.
        root: Hash,
    },
}

impl TreeError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Storage(error) => return error.help(),
            Self::Missing { .. } | Self::Malformed { .. } | Self::Inconsistent { .. } => {
                "verify the whole log to see what is damaged, and compare with another copy"
            }
            Self::Beyond { .. } => "wait for the next checkpoint, or ask for an earlier entry",
        };
        Some(help.to_owned())
    }
}

impl<S: ReadStorage> Tree<S> {
    /// The tree that a checkpoint names.
    pub fn new(storage: S, size: u64, root: Hash) -> Self {
        Self { storage, size, root, held: size }
    }

    /// The same tree when it had `size` entries: proofs for an earlier checkpoint come from it.
    pub fn earlier(self, size: u64) -> Result<Self, TreeError> {
        let root = self.root_at(size)?;
        let earlier = Self { size, root, ..self };
        Ok(earlier)
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over them.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The entry at `index`, as it was proven to be in the tree.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, TreeError> {
        let tile = self.tile_of(Row::Entries, index)?;
        let bundle = fetch(&self.storage, tile, self.held)?;
        let entry = layout::entries(&bundle).nth(place(index)).flatten();
        let Some(entry) = entry else { return Err(malformed(tile)) };
        // The proof is checked against this entry's own hash, so it binds these bytes.
        self.prove(index, Hash::of_entry(entry))?;
        Ok(entry.to_vec())
    }

    /// Proof that the tree holds its entry `index` (RFC 6962 §2.1.1).
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, TreeError> {
        let tile = self.tile_of(Row::Hashes(0), index)?;
        let leaves = fetch_hashes(&self.storage, tile, self.held)?;
        self.prove(index, leaves[place(index)])
    }

    /// Proof that the tree continues the one of `size` entries (RFC 6962 §2.1.2).
    ///
    /// Whether it continues a certain one is for [`verify::consistency`](crate::verify::consistency) to say.
    pub fn consistency(&self, size: u64) -> Result<Vec<Hash>, TreeError> {
        let earlier = self.root_at(size)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let reader = Reader::new(&self.storage, self.size, self.held);
        let proof = reader.run(tlog_tiles::prove_tree(self.size, size, &reader))?;
        let proof: Vec<Hash> = proof.into_iter().map(Hash::from).collect();
        if !verify_consistency(size, earlier, self.size, self.root, &proof) {
            return Err(self.inconsistent());
        }
        Ok(proof)
    }

    /// The root over the first `size` entries.
    pub(crate) fn root_at(&self, size: u64) -> Result<Hash, TreeError> {
        if size > self.size {
            return Err(TreeError::Beyond { wanted: size, size: self.size });
        }
        let reader = Reader::new(&self.storage, self.size, self.held);
        Ok(reader.run(tlog_tiles::tree_hash(size, &reader))?.into())
    }

    fn prove(&self, index: u64, leaf: Hash) -> Result<Vec<Hash>, TreeError> {
        let reader = Reader::new(&self.storage, self.size, self.held);
        let proof = reader.run(tlog_tiles::prove_record(self.size, index, &reader))?;
        let proof: Vec<Hash> = proof.into_iter().map(Hash::from).collect();
        if !verify_inclusion(index, leaf, self.size, self.root, &proof) {
            return Err(self.inconsistent());
        }
        Ok(proof)
    }

    fn tile_of(&self, row: Row, index: u64) -> Result<Tile, TreeError> {
        if index >= self.size {
            return Err(TreeError::Beyond { wanted: index, size: self.size });
        }
        row.tile(index / WIDTH, self.size)
            .ok_or(TreeError::Beyond { wanted: index, size: self.size })
    }

    fn inconsistent(&self) -> TreeError {
        TreeError::Inconsistent { size: self.size, root: self.root }
    }
}

/// Whether `proof` shows that the tree of `size` and `root` holds `leaf` at `index`
/// (RFC 6962 §2.1.1).
pub fn verify_inclusion(index: u64, leaf: Hash, size: u64, root: Hash, proof: &[Hash]) -> bool {
    // Deeper than any tree; also bounds the work that a hostile proof makes.
    if proof.len() > 64 {
        return false;
    }
    let proof = proof.iter().copied().map(Into::into).collect();
    tlog_tiles::check_record(&proof, size, root.into(), index, leaf.into()).is_ok()
}

/// Whether `proof` shows that the tree of `new_size` and `new_root` continues the one of
/// `old_size` and `old_root` (RFC 6962 §2.1.2).
pub fn verify_consistency(
    old_size: u64,
    old_root: Hash,
    new_size: u64,
    new_root: Hash,
    proof: &[Hash],
) -> bool {
    if proof.len() > 64 || old_size > new_size {
        return false;
    }
    // Every tree continues the empty one (tlog-witness, "add-checkpoint").
    if old_size == 0 {
        let whole = new_size > 0 || new_root == Hash::EMPTY_TREE;
        return proof.is_empty() && old_root == Hash::EMPTY_TREE && whole;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let proof = proof.iter().copied().map(Into::into).collect();
    tlog_tiles::check_tree(&proof, new_size, new_root.into(), old_size, old_root.into()).is_ok()
}

/// A tile's or bundle's bytes from a storage that holds a tree of `held` entries. A partial one may
/// have been replaced by a wider one since; then its beginning is what is asked for (tlog-tiles,
/// "Partial Tiles").
pub(crate) fn fetch<S: ReadStorage>(
    storage: &S,
    tile: Tile,
    held: u64,
) -> Result<Vec<u8>, TreeError> {
    let limit = tile.limit();
    if let Some(bytes) = storage.get(&tile.to_string(), limit)? {
        return Ok(bytes);
    }
    let wider = [Some(tile.filled()), tile.row.tile(tile.index, held)];
    for wider in wider.into_iter().flatten().filter(|wider| wider.width > tile.width) {
        if let Some(bytes) = storage.get(&wider.to_string(), limit)? {
            let part = beginning(&bytes, tile.width, tile.row).map(<[u8]>::to_vec);
            return part.ok_or_else(|| malformed(tile));
        }
    }
    Err(TreeError::Missing { path: tile.to_string(), size: held })
}

/// The first `width` items of a wider tile or bundle.
pub(crate) fn beginning(bytes: &[u8], width: u64, row: Row) -> Option<&[u8]> {
    let width = usize::try_from(width).ok()?;
    let length = match row {
        Row::Hashes(_) => width * 32,
        Row::Entries => {
            let mut length = 0;
            for entry in layout::entries(bytes).take(width) {
                length += 2 + entry?.len();
            }
            length
        }
    };
    bytes.get(..length)
}

/// A tile's hashes, exactly as many as belong into it.
pub(crate) fn fetch_hashes<S: ReadStorage>(
    storage: &S,
    tile: Tile,
    held: u64,
) -> Result<Vec<Hash>, TreeError> {
    let bytes = fetch(storage, tile, held)?;
    let whole = |hashes: &Vec<Hash>| hashes.len() as u64 == tile.width;
    layout::hashes(&bytes).filter(whole).ok_or_else(|| malformed(tile))
}

pub(crate) fn malformed(tile: Tile) -> TreeError {
    let items = if tile.row == Row::Entries { "entries" } else { "hashes" };
    TreeError::Malformed { path: tile.to_string(), width: tile.width, items }
}

/// Gives `tlog_tiles` the hashes that it asks for.
struct Reader<'a, S> {
    storage: &'a S,
    size: u64,
    held: u64,
    tiles: RefCell<HashMap<Tile, Vec<Hash>>>,
    /// Why reading failed; the library's errors cannot carry it.
    failure: RefCell<Option<TreeError>>,
}

impl<'a, S: ReadStorage> Reader<'a, S> {
    fn new(storage: &'a S, size: u64, held: u64) -> Self {
        Self { storage, size, held, tiles: RefCell::default(), failure: RefCell::default() }
    }

    /// The library's answer with the true cause of its failure.
    fn run<T>(&self, answer: Result<T, tlog_tiles::Error>) -> Result<T, TreeError> {
        answer.map_err(|_| {
            let cause = self.failure.borrow_mut().take();
            cause.unwrap_or(TreeError::Beyond { wanted: self.size, size: self.size })
        })
    }

    /// The root of the perfect subtree of 2^level entries, the `index`th of its kind.
    fn node(&self, level: u8, index: u64) -> Result<Hash, TreeError> {
        let row = Row::Hashes(level / 8);
        let inside = u32::from(level % 8);
        let first = index << inside;
        let tile = row.tile(first / WIDTH, self.size).ok_or(TreeError::Beyond {
            wanted: (index + 1).saturating_mul(1_u64.checked_shl(level.into()).unwrap_or(u64::MAX)),
            size: self.size,
        })?;
        let mut tiles = self.tiles.borrow_mut();
        let hashes = match tiles.entry(tile) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(fetch_hashes(self.storage, tile, self.held)?)
            }
        };
        let start = place(first);
        let subtree = hashes.get(start..start + (1 << inside)).ok_or_else(|| malformed(tile))?;
        Ok(Hash::of_perfect(subtree))
    }
}

impl<S: ReadStorage> HashReader for Reader<'_, S> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let node = |stored: &u64| {
            let (level, index) = split_stored_hash_index(*stored);
            self.node(level, index).map(Into::into).map_err(|cause| {
                *self.failure.borrow_mut() = Some(cause);
                tlog_tiles::Error::InvalidTile
            })
        };
        indexes.iter().map(node).collect()
    }
}
