//! Reads one object, in a few ranges for each question.

use std::borrow::Cow;
use std::sync::Arc;

use crate::commitment::{Commitment, read_roll};
use crate::edits::Edited;
use crate::error::{HistoryError, Result};
use crate::frame::{Base, Chain, DEEPEST, Kind, decode, decompress};
use crate::keys::{BlockSeal, DataKey};
use crate::objects::Objects;
use crate::version::{FilePath, Item, Micros};

use super::block::{Found, Frame, Group, Pack, groups};
use super::layout::{FOOTER, Footer, HEADER, LARGEST_BLOCK, Lean, TRAILER, Trailer, read_header};
use super::opened::Opened;

/// Read at once from the end of an object: most footers are shorter.
const END: u64 = 32 << 10;

/// Bytes of opened blocks of a partition that shares them with no other.
const OWN: u64 = 512 << 10;

/// A sealed partition, opened.
pub struct Partition {
    objects: Arc<dyn Objects>,
    name: String,
    header: [u8; HEADER],
    number: u64,
    seal: BlockSeal,
    pub(super) footer: Footer,
    roll: (u64, usize),
    opened: Arc<Opened>,
    /// Its number there.
    id: u64,
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.opened.forget(self.id);
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partition").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads from an object by name; errors say which.
fn read(objects: &dyn Objects, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
    objects
        .read(name, offset, length)
        .map_err(|source| HistoryError::Object { name: name.to_owned(), source })
}

fn size(objects: &dyn Objects, name: &str) -> Result<u64> {
    objects.size(name).map_err(|source| HistoryError::Object { name: name.to_owned(), source })
}

/// The end of an object: where it begins, its bytes, and the trailer that they end with.
fn end(objects: &dyn Objects, name: &str, size: u64) -> Result<(u64, Vec<u8>, Trailer)> {
    let damaged = HistoryError::damaged("the trailer");
    let start = size.saturating_sub(END);
    let length = usize::try_from(size - start).map_err(|_| HistoryError::damaged("the trailer"))?;
    let end = read(objects, name, start, length)?;
    let trailer = end.last_chunk::<TRAILER>().ok_or(damaged)?;
    let trailer = Trailer::read(trailer)?;
    Ok((start, end, trailer))
}

/// The commitments of an object, for whoever has no key, and BLAKE3 of the whole object. What they are worth
/// is what that hash is worth.
pub fn roll(objects: &dyn Objects, name: &str) -> Result<(Vec<Commitment>, [u8; 32])> {
    let size = size(objects, name)?;
    let (_, _, trailer) = end(objects, name, size)?;
    let damaged = || HistoryError::damaged("the roll");
    let start = size
        .checked_sub(TRAILER as u64 + u64::from(trailer.footer))
        .and_then(|at| at.checked_sub(trailer.roll))
        .ok_or_else(damaged)?;
    let length = usize::try_from(trailer.roll).map_err(|_| damaged())?;
    let commitments = read_roll(&read(objects, name, start, length)?).ok_or_else(damaged)?;
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(1 << 20);
        hasher.update(&read(objects, name, offset, usize::try_from(length).unwrap_or(0))?);
        offset += length;
    }
    Ok((commitments, hasher.finalize().into()))
}

/// A frame of a chain: its pack, and its place there.
struct Link {
    pack: Arc<Pack>,
    place: usize,
}

impl Link {
    fn frame(&self) -> &Frame {
        self.pack.frame(self.place)
    }

    fn stored(&self) -> &[u8] {
        self.pack.stored(self.place)
    }

    fn is_edits(&self) -> bool {
        self.frame().kind.is_edits()
    }
}

/// What is there of a content that leans on a frame of another partition.
pub struct Leaning {
    on: Lean,
    chain: Vec<Link>,
}

impl Leaning {
    /// On which frame.
    pub const fn on(&self) -> Lean {
        self.on
    }

    /// The content, by that of the frame that it leans on.
    pub fn content(&self, leaned: &[u8]) -> Result<Vec<u8>> {
        decoded(&self.chain, Some(leaned))
    }
}

impl Partition {
    /// Opens an object with its partition's key; two or three reads.
    pub fn open(objects: Arc<dyn Objects>, name: &str, key: &DataKey) -> Result<Self> {
        Self::open_among(objects, name, key, &Arc::new(Opened::of(OWN)))
    }

    /// The same; its opened blocks are kept among those of others.
    pub fn open_among(
        objects: Arc<dyn Objects>,
        name: &str,
        key: &DataKey,
        opened: &Arc<Opened>,
    ) -> Result<Self> {
        let size = size(&*objects, name)?;
        let header: [u8; HEADER] = read(&*objects, name, 0, HEADER)?
            .try_into()
            .map_err(|_| HistoryError::damaged("the header"))?;
        let (number, salt) = read_header(&header)?;
        let seal = key.object(&salt);
        let (start, end, trailer) = end(&*objects, name, size)?;
        let damaged = || HistoryError::damaged("the footer");
        let at =
            size.checked_sub(TRAILER as u64 + u64::from(trailer.footer)).ok_or_else(damaged)?;
        let length = trailer.footer as usize;
        if length > LARGEST_BLOCK || trailer.footer_raw as usize > LARGEST_BLOCK {
            return Err(damaged());
        }
        let sealed = match at.checked_sub(start) {
            Some(at) => {
                let at = usize::try_from(at).map_err(|_| damaged())?;
                end.get(at..at + length).ok_or_else(damaged)?.to_vec()
            }
            None => read(&*objects, name, at, length)?,
        };
        let place = [&header[..], &trailer.to_bytes()].concat();
        let compressed = seal.open(FOOTER, &place, sealed, "the footer")?;
        let raw = decode_block(&compressed, trailer.footer_raw as usize)?;
        let (footer, blocks_end) = Footer::read(&raw).ok_or_else(damaged)?;
        // Without a gap: nothing lies in an object that nobody looks at.
        if blocks_end.checked_add(trailer.roll) != Some(at) {
            return Err(damaged());
        }
        let roll = (blocks_end, usize::try_from(trailer.roll).map_err(|_| damaged())?);
        Ok(Self {
            objects,
            name: name.to_owned(),
            header,
            number,
            seal,
            footer,
            roll,
            id: opened.partition(),
            opened: Arc::clone(opened),
        })
    }

    /// Its number among the tenant's partitions.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// When its first and its last version were recorded.
    pub const fn span(&self) -> (Micros, Micros) {
        (self.footer.first, self.footer.last)
    }

    /// Frames of other partitions that this one leans on.
    pub fn leans(&self) -> &[Lean] {
        &self.footer.leans
    }

    /// What was committed to when it was sealed.
    pub fn commitments(&self) -> Result<Vec<Commitment>> {
        let roll = read(&*self.objects, &self.name, self.roll.0, self.roll.1)?;
        if blake3::hash(&roll) != blake3::Hash::from(self.footer.roll) {
            return Err(HistoryError::damaged("the roll"));
        }
        read_roll(&roll).ok_or(HistoryError::damaged("the roll"))
    }

    /// The last version of a file that was recorded at this time or before.
    pub fn at(&self, item: Item, path: &FilePath, time: Micros) -> Result<Option<Found>> {
        let key = (item, path.as_str(), time);
        let Some(block) = self.footer.indexes.partition_point(|it| it.key() <= key).checked_sub(1)
        else {
            return Ok(None);
        };
        let groups = groups(&self.index(block)?, &mut |it, at| it == item && at == path.as_str())?;
        let versions = groups.into_iter().flat_map(|group| group.versions);
        Ok(versions.take_while(|found| found.version.recorded <= time).last())
    }

    /// All versions of a file, the oldest first.
    pub fn versions(&self, item: Item, path: &FilePath) -> Result<Vec<Found>> {
        let wants = &mut |it, at: &str| it == item && at == path.as_str();
        let groups = self.walk((item, path.as_str()), (item, path.as_str()), wants)?;
        Ok(groups.into_iter().flat_map(|group| group.versions).collect())
    }

    /// All versions of all files of an item, by path and time.
    pub fn item(&self, item: Item) -> Result<Vec<(FilePath, Vec<Found>)>> {
        // No path begins with a character beyond all others.
        let groups = self.walk((item, ""), (item, "\u{10ffff}"), &mut |it, _| it == item)?;
        let mut files: Vec<(FilePath, Vec<Found>)> = Vec::new();
        for group in groups {
            match files.last_mut() {
                Some((path, versions)) if *path == group.path => versions.extend(group.versions),
                _ => files.push((group.path, group.versions)),
            }
        }
        Ok(files)
    }

    /// The groups of a range of files.
    fn walk(
        &self,
        from: (Item, &str),
        to: (Item, &str),
        wants: &mut dyn FnMut(Item, &str) -> bool,
    ) -> Result<Vec<Group>> {
        let indexes = &self.footer.indexes;
        let from = (from.0, from.1, Micros::MIN);
        let first = indexes.partition_point(|it| it.key() <= from).saturating_sub(1);
        let end = indexes.partition_point(|it| (it.item, it.path.as_str()) <= to);
        let mut found = Vec::new();
        for block in first..end.max(first) {
            found.extend(groups(&self.index(block)?, wants)?);
        }
        Ok(found)
    }

    /// The groups of one index block, all of them.
    pub(super) fn groups(&self, block: usize) -> Result<Vec<Group>> {
        groups(&self.index(block)?, &mut |_, _| true)
    }

    /// How far a frame is from its key frame; `None` where that is in another partition.
    pub fn chain(&self, frame: u64) -> Result<Option<Chain>> {
        let (frames, lean) = self.chain_of(frame)?;
        let depth = u32::try_from(frames.len() - 1).unwrap_or(u32::MAX);
        let decoded = |link: &Link| {
            if link.is_edits() { link.stored().len() as u64 } else { link.frame().length as u64 }
        };
        let bytes = frames.iter().map(decoded).sum();
        Ok(lean.is_none().then_some(Chain { depth, bytes }))
    }

    /// The content of a frame that needs no other partition.
    pub fn content(&self, frame: u64) -> Result<Vec<u8>> {
        self.content_or_leaning(frame)?.map_err(|_| HistoryError::damaged("a chain"))
    }

    /// The content of a frame, or what is there of one that leans on another partition's.
    pub fn content_or_leaning(&self, frame: u64) -> Result<std::result::Result<Vec<u8>, Leaning>> {
        match self.chain_of(frame)? {
            (chain, None) => decoded(&chain, None).map(Ok),
            (chain, Some(on)) => Ok(Err(Leaning { on, chain })),
        }
    }

    /// The frame, that which it is a delta against, and so on.
    fn chain_of(&self, number: u64) -> Result<(Vec<Link>, Option<Lean>)> {
        let mut chain: Vec<Link> = Vec::new();
        let mut next = number;
        while chain.len() < DEEPEST as usize {
            let link = self.frame(next)?;
            let kind = link.frame().kind;
            chain.push(link);
            match kind {
                Kind::Key => return Ok((chain, None)),
                Kind::Delta(Base::Frame(base), _) => next = base,
                Kind::Delta(Base::Lean(which), _) => {
                    return Ok((chain, Some(self.leaned(which)?)));
                }
            }
        }
        Err(HistoryError::damaged("a chain"))
    }

    pub(super) fn leaned(&self, which: u64) -> Result<Lean> {
        let lean = usize::try_from(which).ok().and_then(|which| self.footer.leans.get(which));
        lean.copied().ok_or(HistoryError::damaged("a chain"))
    }

    fn frame(&self, number: u64) -> Result<Link> {
        let none = || HistoryError::NoFrame { number };
        let pack = self.footer.packs.partition_point(|pack| pack.first <= number);
        let pack = pack.checked_sub(1).ok_or_else(none)?;
        let pack = self.pack(pack)?;
        Ok(Link { place: pack.place(number).ok_or_else(none)?, pack })
    }

    /// A pack, opened.
    pub(super) fn pack(&self, pack: usize) -> Result<Arc<Pack>> {
        let place = self.footer.packs[pack];
        self.opened.packs.get((self.id, pack), || {
            let sealed = read(&*self.objects, &self.name, place.offset, place.length)?;
            let opened = self.seal.open(pack as u64, &self.header, sealed, "a pack")?;
            Pack::open(opened, place.first)
        })
    }

    fn index(&self, index: usize) -> Result<Arc<Vec<u8>>> {
        let place = &self.footer.indexes[index];
        self.opened.indexes.get((self.id, index), || {
            let number = (self.footer.packs.len() + index) as u64;
            let sealed = read(&*self.objects, &self.name, place.offset, place.length)?;
            let compressed = self.seal.open(number, &self.header, sealed, "an index block")?;
            decode_block(&compressed, place.raw)
        })
    }
}

/// The content at the end of a chain, whose last frame is found by itself, or by what it leans on.
fn decoded(chain: &[Link], leaned: Option<&[u8]>) -> Result<Vec<u8>> {
    let mut content = leaned.map(Cow::Borrowed);
    // The last link is the first to be decoded; edits that follow one on the other are applied at once.
    for links in chain.chunk_by(|a, b| a.is_edits() && b.is_edits()).rev() {
        let link = &links[0];
        let made = if link.is_edits() {
            let base = content.as_deref().ok_or(HistoryError::damaged("a chain"))?;
            edited(base, links.iter().rev().map(|it| (it.stored(), it.frame().length)))
                .ok_or(HistoryError::damaged("a frame"))?
        } else {
            decode(link.stored(), content.as_deref(), link.frame().length)?
        };
        content = Some(Cow::Owned(made));
    }
    content.map(Cow::into_owned).ok_or(HistoryError::damaged("a chain"))
}

/// What becomes of a content by scripts, each with the length of what it makes.
fn edited<'a>(base: &'a [u8], scripts: impl Iterator<Item = (&'a [u8], usize)>) -> Option<Vec<u8>> {
    let (mut edited, mut made) = (Edited::of(base), base.len());
    for (script, length) in scripts {
        (edited, made) = (edited.apply(script, length)?, length);
    }
    edited.bytes(made)
}

/// A compressed block; beyond the length of contents, footers may be large.
fn decode_block(compressed: &[u8], length: usize) -> Result<Vec<u8>> {
    decompress(compressed, length).ok_or(HistoryError::damaged("a block"))
}
