//! Packs (`gitformat-pack`): objects, whole or as deltas against others of the same pack, each by its hash.
//!
//! ```text
//! PACK 2 count │ header, zlib │ header, base, zlib │ …                │ SHA-1 of all of it
//!                 a whole one    what differs from the base's content
//! ```
//!
//! Nothing that a pack says of itself is believed before it was seen: sizes are bounds for what is inflated, and each
//! object is known by the hash of what came out. Memory and work are bounded for the whole of it.

use std::collections::HashMap;
use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use sha1_checked::{Digest as _, Sha1};

use crate::error::SourceError;

/// Most objects of a pack.
const MOST_OBJECTS: usize = 500_000;

/// Most bytes of one object.
const LARGEST_OBJECT: usize = 64 << 20;

/// Bytes that are held of objects on which others lean, at a time.
const MOST_HELD: usize = 256 << 20;

/// Bytes that come out of a pack, all together: what is small and swells has an end.
const MOST_WORK: usize = 2 << 30;

/// Most deltas that lean on each other. git itself makes 50, or 250 where it is told to.
const LONGEST_CHAIN: usize = 4096;

/// The name of an object: SHA-1 of what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectId([u8; 20]);

impl ObjectId {
    /// From forty hexadecimal digits.
    pub(crate) fn from_hex(digits: &[u8]) -> Option<Self> {
        let mut id = [0; 20];
        if digits.len() != 40 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 20]> for ObjectId {
    fn from(id: [u8; 20]) -> Self {
        Self(id)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// What an entry leans on, as it says.
#[derive(Debug, Clone, Copy)]
enum Said {
    Whole(Kind),
    /// On the entry that begins so far into the pack.
    At(usize),
    /// On the object with a name.
    Named(ObjectId),
}

/// An entry of a pack.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where what is deflated begins.
    at: usize,
    /// How much comes out of it.
    size: usize,
    said: Said,
}

/// A pack, all of whose objects were seen.
pub(crate) struct Pack {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// What each entry is, and on which other one it leans.
    known: Vec<(Kind, Option<u32>)>,
    by_name: HashMap<ObjectId, u32>,
}

fn odd(reason: &str) -> SourceError {
    SourceError::malformed(format!("its pack: {reason}"))
}

impl Pack {
    /// Reads all of a pack.
    pub(crate) fn read(bytes: Vec<u8>) -> Result<Self, SourceError> {
        let (entries, places) = entries(&bytes)?;
        let known = vec![(Kind::Blob, None); entries.len()];
        let mut pack = Self { bytes, entries, known, by_name: HashMap::new() };
        pack.resolve(&places)?;
        Ok(pack)
    }

    pub(crate) fn has(&self, id: ObjectId) -> bool {
        self.by_name.contains_key(&id)
    }

    /// An object; `None` where the pack does not have it.
    pub(crate) fn find(&self, id: ObjectId) -> Result<Option<(Kind, Vec<u8>)>, SourceError> {
        let Some(&at) = self.by_name.get(&id) else { return Ok(None) };
        let mut chain = vec![at];
        let (kind, mut leans_on) = self.known[at as usize];
        while let Some(base) = leans_on {
            chain.push(base);
            leans_on = self.known[base as usize].1;
        }
        let mut content = Vec::new();
        for (number, at) in chain.into_iter().rev().enumerate() {
            let came = self.inflate(at as usize)?;
            content = if number == 0 { came } else { apply(&content, &came)? };
        }
        Ok(Some((kind, content)))
    }

    fn inflate(&self, entry: usize) -> Result<Vec<u8>, SourceError> {
        let Entry { at, size, .. } = self.entries[entry];
        Ok(inflate(&self.bytes[at..], size)?.0)
    }

    /// Makes each object of what it leans on, and names it by what came out.
    fn resolve(&mut self, places: &HashMap<usize, u32>) -> Result<(), SourceError> {
        let mut at_place: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut by_name: HashMap<ObjectId, Vec<u32>> = HashMap::new();
        let mut whole = Vec::new();
        for (number, entry) in (0_u32..).zip(&self.entries) {
            match entry.said {
                Said::Whole(kind) => whole.push((number, kind)),
                Said::At(place) => {
                    let base = places.get(&place).ok_or_else(|| odd("a delta leans on nothing"))?;
                    at_place.entry(*base).or_default().push(number);
                }
                Said::Named(id) => by_name.entry(id).or_default().push(number),
            }
        }
        let (mut work, mut seen) = (0, 0);
        for (number, kind) in whole {
            let content = self.inflate(number as usize)?;
            let mut held = 0;
            let mut open: Vec<(u32, Vec<u8>, Vec<u32>)> = Vec::new();
            let mut next = Some((number, None, content));
            loop {
                if let Some((number, base, content)) = next.take() {
                    let id = name(kind, &content)?;
                    self.known[number as usize] = (kind, base);
                    self.by_name.insert(id, number);
                    let mut leaning = at_place.remove(&number).unwrap_or_default();
                    leaning.extend(by_name.remove(&id).unwrap_or_default());
                    (work, held, seen) = (work + content.len(), held + content.len(), seen + 1);
                    if work > MOST_WORK || held > MOST_HELD || open.len() > LONGEST_CHAIN {
                        return Err(odd("more comes out of it than is taken"));
                    }
                    open.push((number, content, leaning));
                }
                let Some((base, content, leaning)) = open.last_mut() else { break };
                if let Some(number) = leaning.pop() {
                    let delta = self.inflate(number as usize)?;
                    next = Some((number, Some(*base), apply(content, &delta)?));
                } else {
                    held -= content.len();
                    open.pop();
                }
            }
        }
        // What leans on itself, or on what is not here, was never reached.
        if seen == self.entries.len() { Ok(()) } else { Err(odd("a delta leans on nothing")) }
    }
}

/// The name of what something is.
fn name(kind: Kind, content: &[u8]) -> Result<ObjectId, SourceError> {
    let mut hash = Sha1::new();
    hash.update(format!("{} {}\0", kind.word(), content.len()));
    hash.update(content);
    let found = hash.try_finalize();
    if found.has_collision() {
        return Err(odd("an object was made to have another one's name"));
    }
    Ok(ObjectId((*found.hash()).into()))
}

/// The entries of a pack, and which one begins where.
fn entries(bytes: &[u8]) -> Result<(Vec<Entry>, HashMap<usize, u32>), SourceError> {
    let cut = || odd("it breaks off");
    let end = bytes.len().checked_sub(20).ok_or_else(cut)?;
    let number = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_be_bytes).ok_or_else(cut)
    };
    if !bytes.starts_with(b"PACK") || number(4)? != 2 {
        return Err(odd("it is none of version 2"));
    }
    let count = number(8)? as usize;
    if count > MOST_OBJECTS {
        return Err(SourceError::TooMany { most: MOST_OBJECTS, of: "objects" });
    }
    if Sha1::digest(&bytes[..end]).as_slice() != &bytes[end..] {
        return Err(odd("its hash is another one"));
    }
    let (mut entries, mut places) = (Vec::new(), HashMap::new());
    let (mut at, mut work) = (12, 0);
    for index in 0..count {
        let begin = at;
        let entry = header(&bytes[..end], &mut at)?;
        let (came, length) = inflate(&bytes[at..end], entry.size)?;
        work += came.len();
        if work > MOST_WORK {
            return Err(odd("more comes out of it than is taken"));
        }
        at += length;
        places.insert(begin, u32::try_from(index).unwrap_or(u32::MAX));
        entries.push(entry);
    }
    if at != end {
        return Err(odd("something follows on its objects"));
    }
    Ok((entries, places))
}

/// What an entry says of itself; `at` is then where what is deflated begins.
fn header(bytes: &[u8], at: &mut usize) -> Result<Entry, SourceError> {
    let begin = *at;
    let mut next = || {
        let byte = bytes.get(*at).copied().ok_or_else(|| odd("it breaks off"))?;
        *at += 1;
        Ok::<_, SourceError>(byte)
    };
    let first = next()?;
    let (mut size, mut shift, mut byte) = (usize::from(first & 15), 4, first);
    while byte & 0x80 != 0 {
        byte = next()?;
        size |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if shift > 32 || size > LARGEST_OBJECT {
            return Err(odd(&format!("an object has more than {LARGEST_OBJECT} bytes")));
        }
    }
    let said = match (first >> 4) & 7 {
        1 => Said::Whole(Kind::Commit),
        2 => Said::Whole(Kind::Tree),
        3 => Said::Whole(Kind::Blob),
        4 => Said::Whole(Kind::Tag),
        6 => {
            let mut byte = next()?;
            let mut back = usize::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = next()?;
                back = (back + 1) << 7 | usize::from(byte & 0x7f);
                if back > bytes.len() {
                    return Err(odd("a delta leans on nothing"));
                }
            }
            let place = begin.checked_sub(back).filter(|_| back > 0);
            Said::At(place.ok_or_else(|| odd("a delta leans on nothing"))?)
        }
        7 => {
            let mut id = [0; 20];
            for byte in &mut id {
                *byte = next()?;
            }
            Said::Named(ObjectId(id))
        }
        _ => return Err(odd("an object is of no kind")),
    };
    Ok(Entry { at: *at, size, said })
}

/// What comes out, which has to be `size` bytes, and how much it was made of.
fn inflate(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize), SourceError> {
    let mut out = Vec::with_capacity(size + 1);
    let mut stream = Decompress::new(true);
    loop {
        let (before_in, before_out) = (stream.total_in(), stream.total_out());
        let rest = usize::try_from(before_in).ok().and_then(|at| bytes.get(at..));
        let rest = rest.ok_or_else(|| odd("it breaks off"))?;
        let status = stream.decompress_vec(rest, &mut out, FlushDecompress::None);
        match status.map_err(|error| odd(&error.to_string()))? {
            Status::StreamEnd if out.len() == size => break,
            Status::Ok if (before_in, before_out) != (stream.total_in(), stream.total_out()) => {}
            _ => return Err(odd("an object does not have the size that it says")),
        }
        if out.len() > size {
            return Err(odd("an object does not have the size that it says"));
        }
    }
    let length = usize::try_from(stream.total_in()).map_err(|_| odd("it breaks off"))?;
    Ok((out, length))
}

/// What a delta makes of the content that it leans on.
fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, SourceError> {
    let wrong = || odd("a delta does not fit what it leans on");
    let mut rest = delta;
    if size(&mut rest)? != base.len() {
        return Err(wrong());
    }
    let length = size(&mut rest)?;
    if length > LARGEST_OBJECT {
        return Err(odd(&format!("an object has more than {LARGEST_OBJECT} bytes")));
    }
    let mut out = Vec::with_capacity(length);
    while let Some((&what, after)) = rest.split_first() {
        rest = after;
        let piece = if what & 0x80 == 0 {
            let piece = rest.get(..usize::from(what)).filter(|it| !it.is_empty());
            rest = &rest[usize::from(what).min(rest.len())..];
            piece
        } else {
            let mut number = |bits: std::ops::Range<u8>| {
                let mut number = 0;
                for (place, bit) in bits.enumerate() {
                    if what & (1 << bit) != 0 {
                        let (&byte, after) = rest.split_first().ok_or_else(wrong)?;
                        rest = after;
                        number |= usize::from(byte) << (8 * place);
                    }
                }
                Ok::<_, SourceError>(number)
            };
            let (from, length) = (number(0..4)?, number(4..7)?);
            let length = if length == 0 { 0x1_0000 } else { length };
            base.get(from..from + length)
        };
        out.extend_from_slice(piece.ok_or_else(wrong)?);
        if out.len() > length {
            return Err(wrong());
        }
    }
    if out.len() == length { Ok(out) } else { Err(wrong()) }
}

/// A size that a delta begins with.
fn size(rest: &mut &[u8]) -> Result<usize, SourceError> {
    let (mut size, mut shift) = (0, 0);
    while let Some((&byte, after)) = rest.split_first() {
        *rest = after;
        size |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Ok(size);
        }
        if shift > 35 {
            break;
        }
    }
    Err(odd("a delta has no size"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut stream = ZlibEncoder::new(Vec::new(), Compression::fast());
        stream.write_all(content).unwrap();
        stream.finish().unwrap()
    }

    /// An entry of less than 2048 bytes.
    fn entry(kind: u8, size: usize, base: &[u8], content: &[u8]) -> Vec<u8> {
        let first = kind << 4 | u8::try_from(size & 15).unwrap() | 0x80;
        let head = [first, u8::try_from(size >> 4).unwrap()];
        [&head[..], base, &deflated(content)].concat()
    }

    fn whole(kind: u8, content: &[u8]) -> Vec<u8> {
        entry(kind, content.len(), b"", content)
    }

    fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).unwrap().to_be_bytes();
        let mut bytes = [&b"PACK\0\0\0\x02"[..], &count, &entries.concat()].concat();
        let hash = Sha1::digest(&bytes);
        bytes.extend_from_slice(hash.as_slice());
        bytes
    }

    fn id(digits: &str) -> ObjectId {
        ObjectId::from_hex(digits.as_bytes()).unwrap()
    }

    #[test]
    fn objects_are_known_by_what_they_are() {
        // As `git hash-object` names them.
        let hello = id("ce013625030ba8dba906f756967f9e9ca394464a");
        // Copies four bytes, adds two.
        let delta = [6, 6, 0b1001_0000, 4, 2, b'!', b'\n'];
        let first = whole(3, b"hello\n");
        let back = u8::try_from(first.len()).unwrap();
        let by_place = entry(6, delta.len(), &[back], &delta);
        let delta = [6, 7, 0b1001_0000, 5, 2, b'?', b'\n'];
        let by_name = entry(7, delta.len(), hello.as_bytes(), &delta);
        let read = Pack::read(pack(&[first, by_place, by_name])).unwrap();
        assert_eq!(read.find(hello).unwrap(), Some((Kind::Blob, b"hello\n".to_vec())));
        let mut contents: Vec<_> =
            read.by_name.keys().map(|id| read.find(*id).unwrap().unwrap().1).collect();
        contents.sort();
        assert_eq!(contents, [&b"hell!\n"[..], b"hello\n", b"hello?\n"]);
        assert_eq!(read.find(id(&"7".repeat(40))).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let hello = || whole(3, b"hello\n");
        let other = [7; 20];
        let of_other_size = [7, 1, 1, b'x'];
        let beyond = [6, 255, 1, 0b1011_0000, 255, 1];
        let place = u8::try_from(hello().len()).unwrap();
        for entries in [
            vec![entry(3, 7, b"", b"hello\n")],
            vec![entry(3, 5, b"", b"hello\n")],
            vec![whole(5, b"x")],
            vec![whole(0, b"x")],
            vec![hello(), entry(7, 4, &other, &of_other_size)],
            vec![hello(), entry(6, 4, &[place], &of_other_size)],
            vec![hello(), entry(6, 6, &[place], &beyond)],
            vec![hello(), entry(6, 4, &[place - 1], &of_other_size)],
            vec![entry(6, 4, &[0], &of_other_size)],
            vec![entry(6, 4, &[100], &of_other_size)],
            vec![[0xb0 | 0x0f, 0xff, 0xff, 0xff, 0x7f].to_vec()],
        ] {
            assert!(Pack::read(pack(&entries)).is_err(), "{entries:?}");
        }
        let good = pack(&[hello()]);
        assert!(Pack::read(good.clone()).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Pack::read(bad).is_err(), "{at}");
            assert!(Pack::read(good[..at].to_vec()).is_err(), "{at}");
        }
    }
}
