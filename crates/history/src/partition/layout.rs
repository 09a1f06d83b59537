//! The format of an object, version 3. Numbers are little-endian, or LEB128 inside of sealed blocks.
//!
//! ```text
//! header   56 B  clear    magic, format, number of the partition, salt
//! packs          sealed   heads and edit scripts (zstd), frames one after another, about 16 KiB each
//! indexes        sealed   versions by item, path and time; zstd, about 16 KiB each before it
//! roll           clear    commitments of all batches; its hash is in the footer
//! footer         sealed   zstd: lengths and first keys of all blocks, what the partition leans on, totals
//! trailer  24 B  clear    lengths of roll and footer, magic
//! ```
//! Each sealed block is `XChaCha20-Poly1305` under a key of this object alone, its number for a nonce and the
//! header for associated data; the footer's is the trailer as well. Blocks lie without gaps. So every bit of
//! an object is either inside of a sealed block, or in what one is bound to, or hashed in one.

use crate::bytes::{Put as _, Reader};
use crate::error::{HistoryError, Result};
use crate::version::{Item, LONGEST_PATH, Micros};

/// The format that is written.
pub(crate) const FORMAT: u16 = 3;

const MAGIC: &[u8; 8] = b"PWHISTRY";
const END: &[u8; 8] = b"PWHISEND";

pub(crate) const HEADER: usize = 56;
pub(crate) const TRAILER: usize = 24;

/// About so many bytes of frames are sealed together: a whole chain is mostly in one read.
pub(crate) const PACK: usize = 16 << 10;

/// About so many bytes of index, before compression.
pub(crate) const INDEX: usize = 16 << 10;

/// Most bytes of one index block or footer that are believed.
pub(crate) const LARGEST_BLOCK: usize = 64 << 20;

/// Number of the footer among the blocks.
pub(crate) const FOOTER: u64 = u64::MAX;

/// Where in time the versions of a file stand.
pub(crate) type Key<'a> = (Item, &'a str, Micros);

/// A frame of another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lean {
    /// Of which partition.
    pub partition: u64,
    /// Which frame.
    pub frame: u64,
}

pub(crate) fn header(number: u64, salt: &[u8; 32]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    header[24..].copy_from_slice(salt);
    header
}

/// Number of the partition and salt.
pub(crate) fn read_header(header: &[u8; HEADER]) -> Result<(u64, [u8; 32])> {
    let damaged = HistoryError::damaged("the header");
    let mut reader = Reader::new(header);
    if reader.array() != Some(*MAGIC) {
        return Err(damaged);
    }
    let format = reader.array().map(u16::from_le_bytes);
    if let Some(found) = format.filter(|&it| it != FORMAT) {
        return Err(HistoryError::Format { found, known: FORMAT });
    }
    let read = || {
        reader.take(6)?;
        Some((u64::from_le_bytes(reader.array()?), reader.array()?))
    };
    let mut read = read;
    read().ok_or(damaged)
}

/// The end of an object, by which it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) roll: u64,
    pub(crate) footer: u32,
    /// The footer's length before compression.
    pub(crate) footer_raw: u32,
}

impl Trailer {
    pub(crate) fn to_bytes(self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..8].copy_from_slice(&self.roll.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.footer_raw.to_le_bytes());
        bytes[16..].copy_from_slice(END);
        bytes
    }

    pub(crate) fn read(bytes: &[u8; TRAILER]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut read = || {
            let trailer = Self {
                roll: u64::from_le_bytes(reader.array()?),
                footer: u32::from_le_bytes(reader.array()?),
                footer_raw: u32::from_le_bytes(reader.array()?),
            };
            (reader.array() == Some(*END)).then_some(trailer)
        };
        read().ok_or(HistoryError::damaged("the trailer"))
    }
}

/// A pack of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pack {
    pub(crate) offset: u64,
    pub(crate) length: usize,
    /// Number of its first frame.
    pub(crate) first: u64,
}

/// A block of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) raw: usize,
    pub(crate) item: Item,
    pub(crate) path: String,
    pub(crate) recorded: Micros,
}

impl Index {
    pub(crate) fn key(&self) -> Key<'_> {
        (self.item, &self.path, self.recorded)
    }
}

/// What an object holds, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    pub(crate) first: Micros,
    pub(crate) last: Micros,
    pub(crate) versions: u64,
    pub(crate) frames: u64,
    /// Versions were taken out of it since it was sealed.
    pub(crate) is_thinned: bool,
    pub(crate) roll: [u8; 32],
    pub(crate) packs: Vec<Pack>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) leans: Vec<Lean>,
}

impl Footer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_signed(self.first);
        bytes.put_signed(self.last);
        bytes.put_number(self.versions);
        bytes.put_number(self.frames);
        bytes.push(u8::from(self.is_thinned));
        bytes.extend_from_slice(&self.roll);
        bytes.put_length(self.packs.len());
        for pack in &self.packs {
            bytes.put_length(pack.length);
            bytes.put_number(pack.first);
        }
        bytes.put_length(self.indexes.len());
        for index in &self.indexes {
            bytes.put_length(index.length);
            bytes.put_length(index.raw);
            bytes.extend_from_slice(&index.item.0);
            bytes.put_bytes(index.path.as_bytes());
            bytes.put_signed(index.recorded);
        }
        bytes.put_length(self.leans.len());
        for lean in &self.leans {
            bytes.put_number(lean.partition);
            bytes.put_number(lean.frame);
        }
        bytes
    }

    /// The footer and the offset at which its blocks end.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, u64)> {
        let mut reader = Reader::new(bytes);
        let mut footer = Self {
            first: reader.signed()?,
            last: reader.signed()?,
            versions: reader.number()?,
            frames: reader.number()?,
            is_thinned: match reader.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            roll: reader.array()?,
            ..Self::default()
        };
        let mut offset = HEADER as u64;
        let mut next = |length: u64| {
            let start = offset;
            let fits = length <= LARGEST_BLOCK as u64;
            offset = offset.checked_add(length).filter(|_| fits)?;
            Some((start, usize::try_from(length).ok()?))
        };
        for _ in 0..reader.count()? {
            let (offset, length) = next(reader.number()?)?;
            let first = reader.number()?;
            if footer.packs.last().is_some_and(|last| last.first >= first) {
                return None;
            }
            footer.packs.push(Pack { offset, length, first });
        }
        for _ in 0..reader.count()? {
            let (offset, length) = next(reader.number()?)?;
            let raw = usize::try_from(reader.number()?).ok().filter(|&it| it <= LARGEST_BLOCK)?;
            let item = Item(reader.array()?);
            let path = reader.text().filter(|path| path.len() <= LONGEST_PATH)?.to_owned();
            let recorded = reader.signed()?;
            let index = Index { offset, length, raw, item, path, recorded };
            if footer.indexes.last().is_some_and(|last| last.key() >= index.key()) {
                return None;
            }
            footer.indexes.push(index);
        }
        for _ in 0..reader.count()? {
            footer.leans.push(Lean { partition: reader.number()?, frame: reader.number()? });
        }
        reader.is_empty().then_some((footer, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_footer_makes_it_panic(bytes: Vec<u8>) {
            let _ = Footer::read(&bytes);
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let mut later = header(1, &[0; 32]);
        later[8] = 9;

        let refused = read_header(&later).unwrap_err();

        assert!(matches!(refused, HistoryError::Format { found: 9, known: FORMAT }), "{refused}");
    }
}
