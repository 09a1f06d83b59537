//! Inside of sealed blocks: frames of a pack, versions of an index block.

use std::collections::HashMap;
use std::ops::Range;

use crate::bytes::{Put as _, Reader};
use crate::error::{HistoryError, Result};
use crate::frame::{Base, By, Kind, decompress, encode};
use crate::version::{FilePath, Item, Micros, Version};

use super::layout::LARGEST_BLOCK;

/// A pack in the making: heads and edit scripts, which are compressed together, and what is compressed already.
#[derive(Debug, Default)]
pub(crate) struct PackBuilder {
    count: usize,
    heads: Vec<u8>,
    frames: Vec<u8>,
}

impl PackBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn length(&self) -> usize {
        self.heads.len() + self.frames.len()
    }

    /// Adds a frame, where the one numbered `next` would follow without a gap.
    pub(crate) fn add(&mut self, next: u64, frame: &Frame, stored: &[u8]) {
        let Self { count, heads, frames } = self;
        *count += 1;
        heads.put_number(frame.number - next);
        heads.push(match frame.kind {
            Kind::Key => KEY,
            Kind::Delta(Base::Frame(_), By::Prefix) => DELTA,
            Kind::Delta(Base::Lean(_), By::Prefix) => LEAN,
            Kind::Delta(Base::Frame(_), By::Edits) => DELTA_EDITS,
            Kind::Delta(Base::Lean(_), By::Edits) => LEAN_EDITS,
        });
        match frame.kind {
            Kind::Key => {}
            Kind::Delta(Base::Frame(base), _) => heads.put_number(frame.number - base),
            Kind::Delta(Base::Lean(which), _) => heads.put_number(which),
        }
        heads.put_length(frame.length);
        heads.put_length(stored.len());
        if frame.kind.is_edits() {
            heads.extend_from_slice(stored);
        } else {
            frames.extend_from_slice(stored);
        }
    }

    /// The pack as it is sealed: how many frames there are, the length of the heads, these compressed, the frames.
    pub(crate) fn finish(self, level: i32) -> Result<Vec<u8>> {
        let Self { count, heads, frames } = self;
        let compressed = encode(&heads, None, level)?;
        let mut pack = Vec::with_capacity(compressed.len() + frames.len() + 12);
        pack.put_length(count);
        pack.put_length(heads.len());
        pack.put_bytes(&compressed);
        pack.extend_from_slice(&frames);
        Ok(pack)
    }
}

const KEY: u8 = 0;
const DELTA: u8 = 1;
const LEAN: u8 = 2;
const DELTA_EDITS: u8 = 3;
const LEAN_EDITS: u8 = 4;

/// A frame of a pack.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// How long its content is.
    pub(crate) length: usize,
}

/// A pack, opened.
pub(crate) struct Pack {
    /// Heads, with the edit scripts between them.
    heads: Vec<u8>,
    /// The whole as it was sealed, which ends with all other frames.
    whole: Vec<u8>,
    /// In the order of their numbers, with the place of what is stored of each: among the heads where that is a script.
    frames: Vec<(Frame, Range<usize>)>,
}

impl Pack {
    /// Opens a pack whose first frame is numbered `first`.
    pub(crate) fn open(whole: Vec<u8>, first: u64) -> Result<Self> {
        let opened = |whole: &[u8]| {
            let mut reader = Reader::new(whole);
            let count = usize::try_from(reader.number()?).ok()?;
            let length =
                usize::try_from(reader.number()?).ok().filter(|&it| it <= LARGEST_BLOCK)?;
            let heads = decompress(reader.bytes()?, length)?;
            let mut at = whole.len() - reader.left();
            // What is said of their number is believed no further.
            let mut frames = Vec::with_capacity(count.min(1 << 16));
            let (mut reader, mut next) = (Reader::new(&heads), first);
            while !reader.is_empty() {
                let (frame, stored) = read_frame(&mut reader, next)?;
                next = frame.number + 1;
                let start = if frame.kind.is_edits() {
                    reader.take(stored)?;
                    length - reader.left() - stored
                } else {
                    at = at.checked_add(stored).filter(|&end| end <= whole.len())?;
                    at - stored
                };
                frames.push((frame, start..start + stored));
            }
            // Nothing lies in a pack that nobody looks at.
            (frames.len() == count && at == whole.len()).then_some((heads, frames))
        };
        let (heads, frames) = opened(&whole).ok_or(HistoryError::damaged("a pack"))?;
        Ok(Self { heads, whole, frames })
    }

    /// How many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let Self { heads, whole, frames } = self;
        heads.capacity() + whole.capacity() + frames.capacity() * size_of::<(Frame, Range<usize>)>()
    }

    /// Where a frame is among those of the pack.
    pub(crate) fn place(&self, number: u64) -> Option<usize> {
        self.frames.binary_search_by_key(&number, |(frame, _)| frame.number).ok()
    }

    /// The frame at a place.
    pub(crate) fn frame(&self, place: usize) -> &Frame {
        &self.frames[place].0
    }

    /// What is stored of the frame at a place.
    pub(crate) fn stored(&self, place: usize) -> &[u8] {
        let (frame, at) = &self.frames[place];
        let within = if frame.kind.is_edits() { &self.heads } else { &self.whole };
        &within[at.clone()]
    }

    /// All frames, in the order of their numbers, with what is stored of each.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (&Frame, &[u8])> {
        (0..self.frames.len()).map(|place| (self.frame(place), self.stored(place)))
    }
}

/// A frame's head, with how many bytes are stored of it.
fn read_frame(reader: &mut Reader<'_>, next: u64) -> Option<(Frame, usize)> {
    let number = next.checked_add(reader.number()?).filter(|&it| it < u64::MAX)?;
    let base = |reader: &mut Reader<'_>| number.checked_sub(reader.number()?.max(1));
    let kind = match reader.byte()? {
        KEY => Kind::Key,
        DELTA => Kind::Delta(Base::Frame(base(reader)?), By::Prefix),
        LEAN => Kind::Delta(Base::Lean(reader.number()?), By::Prefix),
        DELTA_EDITS => Kind::Delta(Base::Frame(base(reader)?), By::Edits),
        LEAN_EDITS => Kind::Delta(Base::Lean(reader.number()?), By::Edits),
        _ => return None,
    };
    let length = usize::try_from(reader.number()?).ok()?;
    let stored = usize::try_from(reader.number()?).ok()?;
    Some((Frame { number, kind, length }, stored))
}

/// A version as an index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The version.
    pub version: Version,
    /// Where its content is, if it has one.
    pub frame: Option<u64>,
}

/// All versions of one file that stand in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) item: Item,
    pub(crate) path: FilePath,
    pub(crate) versions: Vec<Found>,
}

/// Index block in the making: words once each, paths by what they do not share with the one before.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    words: HashMap<Vec<u8>, u64>,
    table: Vec<u8>,
    groups: Vec<u8>,
    open: Option<Open>,
    path: String,
    item: Option<Item>,
    frame: u64,
}

#[derive(Debug)]
struct Open {
    count: u64,
    versions: Vec<u8>,
    recorded: Micros,
    /// Its first frame and its last one.
    frames: Option<(u64, u64)>,
}

impl Builder {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    pub(crate) fn length(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.versions.len());
        self.table.len() + self.groups.len() + open
    }

    /// Adds a version, which comes after all others.
    pub(crate) fn add(&mut self, item: Item, path: &FilePath, found: &Found) {
        let is_same = self.item == Some(item) && self.path == path.as_str();
        if !is_same || self.open.is_none() {
            self.close();
            let shared =
                if self.item == Some(item) { shared(&self.path, path.as_str()) } else { 0 };
            if self.item == Some(item) {
                self.groups.push(0);
            } else {
                self.groups.push(1);
                self.groups.extend_from_slice(&item.0);
            }
            self.groups.put_length(shared);
            self.groups.put_bytes(&path.as_str().as_bytes()[shared..]);
            self.item = Some(item);
            path.as_str().clone_into(&mut self.path);
            self.open = Some(Open { count: 0, versions: Vec::new(), recorded: 0, frames: None });
        }
        let Some(open) = &mut self.open else { return };
        let version = moved(found.version.clone(), open.recorded.wrapping_neg());
        let (words, table) = (&mut self.words, &mut self.table);
        version.write(&mut open.versions, &mut |bytes, word| {
            let next = words.len() as u64;
            let number = *words.entry(word.to_vec()).or_insert_with(|| {
                table.put_bytes(word);
                next
            });
            bytes.put_number(number);
        });
        if let Some(frame) = found.frame {
            let (first, last) = open.frames.unwrap_or((frame, frame));
            open.versions.put_signed(frame.cast_signed().wrapping_sub(last.cast_signed()));
            open.frames = Some((first, frame));
        }
        open.recorded = found.version.recorded;
        open.count += 1;
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let first = open.frames.map_or(self.frame, |(first, _)| first);
        self.groups.put_signed(first.cast_signed().wrapping_sub(self.frame.cast_signed()));
        self.frame = first;
        self.groups.put_number(open.count);
        self.groups.put_bytes(&open.versions);
    }

    /// The block, as it is before compression.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.close();
        let mut block = Vec::with_capacity(self.table.len() + self.groups.len() + 8);
        block.put_length(self.words.len());
        block.extend_from_slice(&self.table);
        block.extend_from_slice(&self.groups);
        block
    }
}

/// The version with both of its instants moved.
fn moved(mut version: Version, by: Micros) -> Version {
    version.recorded = version.recorded.wrapping_add(by);
    version.origin.observed = version.origin.observed.wrapping_add(by);
    version
}

/// Bytes that two paths begin with, whole characters of them.
fn shared(a: &str, b: &str) -> usize {
    let mut shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !a.is_char_boundary(shared) || !b.is_char_boundary(shared) {
        shared -= 1;
    }
    shared
}

/// Walks the files of a block in their order. Only those that `wants` are read; the rest is passed over.
pub(crate) fn groups(
    block: &[u8],
    wants: &mut dyn FnMut(Item, &str) -> bool,
) -> Result<Vec<Group>> {
    read_groups(block, wants).ok_or(HistoryError::damaged("an index block"))
}

fn read_groups(block: &[u8], wants: &mut dyn FnMut(Item, &str) -> bool) -> Option<Vec<Group>> {
    let mut reader = Reader::new(block);
    let words = (0..reader.count()?).map(|_| reader.bytes()).collect::<Option<Vec<&[u8]>>>()?;
    let mut groups: Vec<Group> = Vec::new();
    let (mut item, mut path, mut first) = (None, String::new(), 0_u64);
    while !reader.is_empty() {
        match reader.byte()? {
            0 => {}
            1 => item = Some(Item(reader.array()?)),
            _ => return None,
        }
        let item = item?;
        let shared = usize::try_from(reader.number()?).ok()?;
        if !path.is_char_boundary(shared) {
            return None;
        }
        path.truncate(shared);
        path.push_str(reader.text()?);
        first = first.cast_signed().wrapping_add(reader.signed()?).cast_unsigned();
        let count = reader.number()?;
        let versions = reader.bytes()?;
        if wants(item, &path) {
            let versions = read_versions(versions, count, first, &words)?;
            groups.push(Group { item, path: FilePath::new(path.clone()).ok()?, versions });
        }
    }
    Some(groups)
}

/// The versions of a file, whose frames are counted from `first` on.
fn read_versions(versions: &[u8], count: u64, first: u64, words: &[&[u8]]) -> Option<Vec<Found>> {
    let mut reader = Reader::new(versions);
    // None is shorter than this.
    let count = usize::try_from(count).ok().filter(|&count| count <= versions.len())?;
    let mut found = Vec::with_capacity(count);
    let (mut recorded, mut frame) = (0, first);
    for _ in 0..count {
        let version = Version::read(&mut reader, &mut |reader| {
            Some(words.get(usize::try_from(reader.number()?).ok()?)?.to_vec())
        })?;
        let version = moved(version, recorded);
        recorded = version.recorded;
        let has_frame = version.state.content().is_some();
        if has_frame {
            frame = frame.cast_signed().wrapping_add(reader.signed()?).cast_unsigned();
        }
        found.push(Found { version, frame: has_frame.then_some(frame) });
    }
    reader.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::tests::any_version;

    proptest! {
        #[test]
        fn a_block_reads_back(
            files in proptest::collection::btree_map(
                (0_u8..3, "/[a-cä]{1,5}"),
                proptest::collection::vec((any_version(), 0_u64..1000), 1..5),
                0..8,
            ),
        ) {
            let mut builder = Builder::default();
            let mut expected = Vec::new();
            for ((item, path), versions) in files {
                let (item, path) = (Item([item; 16]), FilePath::new(path).unwrap());
                let versions: Vec<_> = versions.into_iter().map(|(version, frame)| {
                    let frame = version.state.content().map(|_| frame);
                    Found { version, frame }
                }).collect();
                for found in &versions {
                    builder.add(item, &path, found);
                }
                expected.push(Group { item, path, versions });
            }
            let block = builder.finish();
            prop_assert_eq!(&groups(&block, &mut |_, _| true).unwrap(), &expected);
            // What is passed over does not matter to what is read.
            for group in expected {
                let wants = &mut |item, path: &str| item == group.item && path == group.path.as_str();
                prop_assert_eq!(groups(&block, wants).unwrap(), [group]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(block: Vec<u8>) {
            let _ = groups(&block, &mut |_, _| true);
            if let Ok(pack) = Pack::open(block, 5) {
                prop_assert!(pack.frames().map(|(_, stored)| stored.len()).sum::<usize>() < 1 << 20);
            }
        }
    }
}
