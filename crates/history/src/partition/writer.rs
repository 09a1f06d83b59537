//! Writes one object: frames first, then what is known of them.

use std::collections::HashMap;

use crate::commitment::{Commitment, write_roll};
use crate::error::{HistoryError, Result};
use crate::frame::encode;
use crate::keys::{BlockSeal, DataKey};
use crate::version::{FilePath, Item};

use super::block::{Builder, Found, Frame, PackBuilder};
use super::layout::{FOOTER, Footer, HEADER, INDEX, Index, Lean, PACK, Pack, Trailer, header};

/// Effort at which heads of packs, index blocks and footers are compressed.
const LEVEL: i32 = 6;

/// An object in the making.
pub(super) struct Writer {
    header: [u8; HEADER],
    seal: BlockSeal,
    object: Vec<u8>,
    pack: PackBuilder,
    /// First frame of the pack, and the one that would follow.
    numbers: (u64, u64),
    leans: HashMap<Lean, u64>,
    builder: Builder,
    last: Option<(Item, FilePath, i64)>,
    blocks: Vec<(Index, Vec<u8>)>,
    footer: Footer,
    blocks_sealed: u64,
}

/// A finished object.
#[derive(Debug)]
pub struct Object {
    /// All of it.
    pub bytes: Vec<u8>,
    /// BLAKE3 of these bytes: who has no key can tell by it that they are these.
    pub digest: [u8; 32],
    /// Other partitions without which this one cannot be read whole.
    pub leans: Vec<u64>,
    /// When its first version was recorded.
    pub first: i64,
    /// When its last version was.
    pub last: i64,
    /// How many versions it holds.
    pub versions: u64,
}

impl Writer {
    pub(super) fn new(number: u64, key: &DataKey, salt: &[u8; 32]) -> Self {
        let header = header(number, salt);
        Self {
            header,
            seal: key.object(salt),
            object: header.to_vec(),
            pack: PackBuilder::default(),
            numbers: (0, 0),
            leans: HashMap::new(),
            builder: Builder::default(),
            last: None,
            blocks: Vec::new(),
            footer: Footer { first: i64::MAX, last: i64::MIN, ..Footer::default() },
            blocks_sealed: 0,
        }
    }

    /// The number under which a frame is known that this one may lean on.
    pub(super) fn lean(&mut self, lean: Lean) -> u64 {
        let next = self.leans.len() as u64;
        let leans = &mut self.footer.leans;
        *self.leans.entry(lean).or_insert_with(|| {
            leans.push(lean);
            next
        })
    }

    /// Adds a frame; numbers rise.
    pub(super) fn frame(&mut self, frame: &Frame, stored: &[u8]) -> Result<()> {
        if self.pack.is_empty() {
            self.numbers = (frame.number, frame.number);
        }
        self.pack.add(self.numbers.1, frame, stored);
        self.numbers.1 = frame.number + 1;
        self.footer.frames += 1;
        if self.pack.length() >= PACK { self.seal_pack() } else { Ok(()) }
    }

    fn seal_pack(&mut self) -> Result<()> {
        let start = self.object.len();
        let pack = std::mem::take(&mut self.pack).finish(LEVEL)?;
        self.seal.seal_onto(&mut self.object, self.blocks_sealed, &self.header, &pack)?;
        self.blocks_sealed += 1;
        let length = self.object.len() - start;
        self.footer.packs.push(Pack { offset: start as u64, length, first: self.numbers.0 });
        Ok(())
    }

    /// Adds a version; they come by item, path and time.
    pub(super) fn version(&mut self, item: Item, path: &FilePath, found: &Found) -> Result<()> {
        let recorded = found.version.recorded;
        let is_after = |(i, p, r): &(Item, FilePath, i64)| (*i, p, *r) < (item, path, recorded);
        if !self.last.as_ref().is_none_or(is_after) {
            return Err(HistoryError::Unordered { what: "a version" });
        }
        found.version.check()?;
        if self.builder.is_empty() {
            let path = path.as_str().to_owned();
            let index = Index { offset: 0, length: 0, raw: 0, item, path, recorded };
            self.blocks.push((index, Vec::new()));
        }
        self.builder.add(item, path, found);
        self.last = Some((item, path.clone(), recorded));
        self.footer.first = self.footer.first.min(recorded);
        self.footer.last = self.footer.last.max(recorded);
        self.footer.versions += 1;
        if self.builder.length() >= INDEX {
            self.close_index();
        }
        Ok(())
    }

    fn close_index(&mut self) {
        let builder = std::mem::take(&mut self.builder);
        if let (false, Some((_, block))) = (builder.is_empty(), self.blocks.last_mut()) {
            *block = builder.finish();
        }
    }

    /// Seals what is left. `span` is that of the partition, where versions were taken out of it.
    pub(super) fn finish(
        mut self,
        roll: &[Commitment],
        span: Option<(i64, i64)>,
    ) -> Result<Object> {
        if !self.pack.is_empty() {
            self.seal_pack()?;
        }
        self.close_index();
        for (mut index, block) in std::mem::take(&mut self.blocks) {
            let compressed = encode(&block, None, LEVEL)?;
            let start = self.object.len();
            self.seal.seal_onto(&mut self.object, self.blocks_sealed, &self.header, &compressed)?;
            self.blocks_sealed += 1;
            index.offset = start as u64;
            index.length = self.object.len() - start;
            index.raw = block.len();
            self.footer.indexes.push(index);
        }
        if let Some((first, last)) = span {
            (self.footer.first, self.footer.last) = (first, last);
            self.footer.is_thinned = true;
        }
        let roll = write_roll(roll);
        self.footer.roll = blake3::hash(&roll).into();
        let footer = self.footer.to_bytes();
        let compressed = encode(&footer, None, LEVEL)?;
        let too_large = |_| HistoryError::damaged("a footer in the making");
        let trailer = Trailer {
            roll: roll.len() as u64,
            footer: u32::try_from(compressed.len() + 16).map_err(too_large)?,
            footer_raw: u32::try_from(footer.len()).map_err(too_large)?,
        }
        .to_bytes();
        self.object.extend_from_slice(&roll);
        let place = [&self.header[..], &trailer].concat();
        self.seal.seal_onto(&mut self.object, FOOTER, &place, &compressed)?;
        self.object.extend_from_slice(&trailer);
        let mut leans: Vec<u64> = self.footer.leans.iter().map(|lean| lean.partition).collect();
        leans.sort_unstable();
        leans.dedup();
        Ok(Object {
            digest: blake3::hash(&self.object).into(),
            bytes: self.object,
            leans,
            first: self.footer.first,
            last: self.footer.last,
            versions: self.footer.versions,
        })
    }
}
