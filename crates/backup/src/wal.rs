//! SQLite's write-ahead log, read as its documentation has it (<https://sqlite.org/fileformat2.html#walformat>).
//!
//! A log is a header and frames, each a page with a checksum over all before it. What counts is up to the last
//! frame that ends a transaction. When everything in it is in the database's file, the next writer begins it anew from the
//! front, with other *salts*: a *generation*.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// How far a log was read: up to the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    salts: [u8; 8],
    /// Frames up to here; the first is 1.
    frame: u32,
    /// Over everything up to here.
    checksum: (u32, u32),
}

impl Position {
    /// Whether a log of these salts is the one that came next after this one's.
    fn is_followed_by(&self, salts: [u8; 8]) -> bool {
        let first = |salts: [u8; 8]| u32::from_be_bytes([salts[0], salts[1], salts[2], salts[3]]);
        first(salts) == first(self.salts).wrapping_add(1)
    }
}

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    header: [u8; HEADER],
    page_size: u32,
    /// Where it ends.
    pub(crate) end: Position,
    /// How many pages the database has after its last transaction; `None` where it has none.
    pub(crate) pages: Option<u32>,
    /// In which frame each page is as of the end.
    latest: BTreeMap<u32, u32>,
    /// How it continues what was read before.
    relation: Relation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The same log; what is new comes after that frame.
    Same(u32),
    /// It was begun anew once.
    Next,
    /// Whatever else.
    Unknown,
}

/// Adds to a checksum; what is checked comes in multiples of eight bytes.
fn add(is_big: bool, (mut one, mut two): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(word(&pair[..4])).wrapping_add(two);
        two = two.wrapping_add(word(&pair[4..])).wrapping_add(one);
    }
    (one, two)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What a header says: page size, byte order of checksums, checksum of itself.
fn read_header(header: &[u8; HEADER]) -> Option<(u32, bool, (u32, u32))> {
    let is_big = match number(header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return None,
    };
    let page_size = number(header, 8);
    let checksum = add(is_big, (0, 0), &header[..24]);
    let is_whole = number(header, 4) == 3_007_000
        && page_size.is_power_of_two()
        && (512..=65_536).contains(&page_size)
        && checksum == (number(header, 24), number(header, 28));
    is_whole.then_some((page_size, is_big, checksum))
}

impl Log {
    /// Reads a log; `None` where there is none, or nothing is in it.
    pub(crate) fn read(file: File, before: Option<&Position>) -> io::Result<Option<Self>> {
        // Up to where it reaches now: somebody may write faster than this reads.
        let reach = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, (&file).take(reach));
        let mut header = [0; HEADER];
        if !fills(&mut reader, &mut header)? {
            return Ok(None);
        }
        let Some((page_size, is_big, mut checksum)) = read_header(&header) else {
            return Ok(None);
        };
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let mut end = Position { salts, frame: 0, checksum };
        let mut relation = match before {
            Some(before) if *before == end => Relation::Same(0),
            Some(before) if before.is_followed_by(salts) => Relation::Next,
            _ => Relation::Unknown,
        };
        let (mut pages, mut latest, mut begun) = (None, BTreeMap::new(), Vec::new());
        let mut frame = vec![0; FRAME_HEADER + page_size as usize];
        for index in 1.. {
            if !fills(&mut reader, &mut frame)? || frame[8..16] != salts {
                break;
            }
            checksum = add(is_big, checksum, &frame[..8]);
            checksum = add(is_big, checksum, &frame[FRAME_HEADER..]);
            let page = number(&frame, 0);
            if checksum != (number(&frame, 16), number(&frame, 20)) || page == 0 {
                break;
            }
            begun.push((page, index));
            let size = number(&frame, 4);
            if size > 0 {
                latest.extend(begun.drain(..));
                pages = Some(size);
                end = Position { salts, frame: index, checksum };
                if before == Some(&end) {
                    relation = Relation::Same(index);
                }
            }
        }
        drop(reader);
        Ok(Some(Self { file, header, page_size, end, pages, latest, relation }))
    }

    /// Pages that are others than when it was read before, if all of them are known.
    pub(crate) fn altered(&self) -> Option<impl Iterator<Item = u32> + '_> {
        let since = match self.relation {
            Relation::Same(frame) => frame,
            Relation::Next => 0,
            Relation::Unknown => return None,
        };
        Some(self.latest.iter().filter(move |(_, frame)| **frame > since).map(|(page, _)| *page))
    }

    /// All pages in it.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.latest.keys().copied()
    }

    /// How many frames count.
    pub(crate) fn length(&self) -> u32 {
        self.end.frame
    }

    /// Reads a page as of the end; `false` where the database's file has it.
    pub(crate) fn page(&self, page: u32, into: &mut [u8]) -> io::Result<bool> {
        let Some(frame) = self.latest.get(&page) else { return Ok(false) };
        let each = FRAME_HEADER as u64 + u64::from(self.page_size);
        let at = HEADER as u64 + u64::from(frame - 1) * each + FRAME_HEADER as u64;
        self.file.read_exact_at(into, at)?;
        Ok(true)
    }

    /// The pages of a range that are in it.
    pub(crate) fn among(&self, pages: std::ops::RangeInclusive<u32>) -> Vec<u32> {
        self.latest.range(pages).map(|(page, _)| *page).collect()
    }

    /// Whether it was not begun anew since: what was read of it is what it was. A new header is written
    /// before any frame.
    pub(crate) fn is_still_there(&self) -> io::Result<bool> {
        let mut header = [0; HEADER];
        match self.file.read_exact_at(&mut header, 0) {
            Ok(()) => Ok(header == self.header),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether there was as much as the buffer takes.
fn fills(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
