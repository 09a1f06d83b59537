//! Which file holds what (C2SP tlog-tiles): tiles of 256 hashes, bundles of 256 entries.

use std::fmt;

use crate::Hash;

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = 256;
/// Trees of up to 2⁵³ entries have no level above this.
pub(crate) const LEVELS: u8 = 7;
/// Longest bundle: each entry with its two bytes of length.
pub(crate) const MAX_BUNDLE: usize = 256 * (2 + u16::MAX as usize);
/// Longest tile.
pub(crate) const MAX_TILE: usize = 256 * 32;
/// The log's head.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// The latest checkpoint that witnesses cosigned. They are asked after it was published, so that a busy
/// log is always ahead of them; who asks for them verifies this one.
pub(crate) const WITNESSED: &str = "checkpoint.witnessed";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Row {
    /// The entries themselves.
    Entries,
    /// Hashes of perfect subtrees over 256^level entries.
    Hashes(u8),
}

/// One tile or bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tile {
    pub(crate) row: Row,
    pub(crate) index: u64,
    /// 1 to 256; fewer than 256 is partial.
    pub(crate) width: u64,
}

impl Row {
    /// Number of items of this row in a tree of `size` entries.
    pub(crate) fn items(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes(level) => size >> (8 * u32::from(level)),
        }
    }

    /// The rows of a tree of `size` entries.
    pub(crate) fn all(size: u64) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Entries)
            .chain((0..LEVELS).map(Self::Hashes))
            .take_while(move |row| row.items(size) > 0)
    }

    /// The tile or bundle at `index` in a tree of `size` entries, if it is not empty there.
    pub(crate) fn tile(self, index: u64, size: u64) -> Option<Tile> {
        let width = self.items(size).saturating_sub(index * WIDTH).min(WIDTH);
        (width > 0).then_some(Tile { row: self, index, width })
    }

    /// The one at the right edge, where it is partial.
    pub(crate) fn partial(self, size: u64) -> Option<Tile> {
        self.tile(self.items(size) / WIDTH, size)
    }
}

/// An item's place in its tile or bundle.
pub(crate) fn place(index: u64) -> usize {
    usize::try_from(index % WIDTH).expect("a tile has 256 places")
}

impl Tile {
    pub(crate) fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The same, with all its places taken.
    pub(crate) fn filled(&self) -> Self {
        Self { width: WIDTH, ..*self }
    }

    /// The folder of its partial states.
    pub(crate) fn partials(&self) -> String {
        format!("{}.p", self.filled())
    }

    /// Longest file that this can be.
    pub(crate) fn limit(&self) -> usize {
        match self.row {
            Row::Entries => MAX_BUNDLE,
            Row::Hashes(_) => MAX_TILE,
        }
    }
}

/// Its path: `tile/0/x001/x234/067`, `tile/entries/000.p/12`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Row::Entries => f.write_str("tile/entries")?,
            Row::Hashes(level) => write!(f, "tile/{level}")?,
        }
        let mut thousands = 1;
        while self.index / thousands >= 1000 {
            thousands *= 1000;
        }
        while thousands > 1 {
            write!(f, "/x{:03}", self.index / thousands % 1000)?;
            thousands /= 1000;
        }
        write!(f, "/{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// Appends an entry to a bundle: its length in two bytes, then itself.
///
/// Entries are at most [`MAX_ENTRY`](crate::envelope::MAX_ENTRY) long, which two bytes hold.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len()).expect("an envelope is at most 4 KiB");
    bundle.extend(length.to_be_bytes());
    bundle.extend(entry);
}

/// The files of a log of `size` entries that one of `since` entries has not, or not as full ones.
pub(crate) fn files_since(since: u64, size: u64) -> impl Iterator<Item = Tile> {
    Row::all(size).flat_map(move |row| {
        let full = row.items(since) / WIDTH;
        (full..row.items(size).div_ceil(WIDTH)).filter_map(move |index| row.tile(index, size))
    })
}

/// The entries of a bundle. `None` stands for bytes that are no entry, and is the last item.
pub(crate) fn entries(mut bundle: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if bundle.is_empty() {
            return None;
        }
        let split = bundle
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
        bundle = split.map_or(&[][..], |(_, rest)| rest);
        Some(split.map(|(entry, _)| entry))
    })
}

/// The hashes of a tile; `None` where the bytes are not whole hashes.
pub(crate) fn hashes(tile: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = tile.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().copied().map(Hash::new).collect())
}

/// A tile's bytes.
pub(crate) fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(Hash::as_bytes).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |row, index, width| Tile { row, index, width }.to_string();

        assert_eq!(tile(Row::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile(Row::Hashes(2), 0, 1), "tile/2/000.p/1");
        assert_eq!(tile(Row::Entries, 1000, 12), "tile/entries/x001/000.p/12");
        assert_eq!(tile(Row::Entries, 999, 256), "tile/entries/999");
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_that_the_specification_counts() {
        let tiles = |level: u8| {
            let row = Row::Hashes(level);
            let full = row.items(70_000) / WIDTH;
            (full, row.partial(70_000).map(|tile| tile.width))
        };

        assert_eq!(tiles(0), (273, Some(112)));
        assert_eq!(tiles(1), (1, Some(17)));
        assert_eq!(tiles(2), (0, Some(1)));
        assert_eq!(Row::all(70_000).count(), 4);
        assert_eq!(Row::Hashes(1).partial(256).map(|tile| tile.width), Some(1));
        assert_eq!(Row::Hashes(0).partial(256), None);
        assert_eq!(Row::all(0).count(), 0);
    }

    #[test]
    fn a_log_that_grew_has_its_full_tiles_already() {
        let paths =
            |since, size| files_since(since, size).map(|tile| tile.to_string()).collect::<Vec<_>>();

        assert_eq!(paths(0, 3), ["tile/entries/000.p/3", "tile/0/000.p/3"]);
        assert_eq!(
            paths(300, 600),
            [
                "tile/entries/001",
                "tile/entries/002.p/88",
                "tile/0/001",
                "tile/0/002.p/88",
                "tile/1/000.p/2",
            ]
        );
        assert_eq!(paths(512, 512), ["tile/1/000.p/2"]);
        assert_eq!(files_since(0, 70_000).count(), 274 + 274 + 2 + 1);
    }

    #[test]
    fn a_bundle_comes_apart_as_it_was_put_together() {
        let mut bundle = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            push_entry(&mut bundle, entry);
        }

        let whole: Vec<_> = entries(&bundle).collect();
        let cut: Vec<_> = entries(&bundle[..bundle.len() - 1]).collect();

        assert_eq!(whole, [Some(&b"one"[..]), Some(b""), Some(b"three")]);
        assert_eq!(cut, [Some(&b"one"[..]), Some(b""), None]);
        assert_eq!(entries(b"\0").collect::<Vec<_>>(), [None]);
    }
}
