//! Edit scripts: a content as what it takes from another one, and what is new in it.
//!
//! A script is pairs of a piece that is inserted and one that is copied: `length bytes`, then `skip length`, where
//! `skip` counts from where the copy before ended. Whoever applies a whole chain of scripts need not make the
//! contents between: pieces of pieces are pieces (as in Burns and Long, "In-place reconstruction of delta compressed
//! files", 1998, and others before). So a chain costs what its first and its last content cost, however large these are.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::bytes::{Put as _, Reader};
use crate::lines::lines;

/// Copying fewer bytes costs as much as inserting them.
const WORTH_COPYING: usize = 8;

/// A line's hash, and where it is.
type Place = (u64, Range<usize>);

/// A piece of a content in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Of the base.
    Copy(Range<usize>),
    /// Of the content itself.
    Insert(Range<usize>),
}

/// How `content` follows from `base`: lines that stay are copied, wherever they were; of a line that became another one what
/// differs is inserted.
pub(crate) fn script(base: &[u8], content: &[u8]) -> Vec<u8> {
    // Whole lines; what is left of them is found where pieces are trimmed.
    let start = common(base, content);
    let start = memchr::memrchr(b'\n', &base[..start]).map_or(0, |line| line + 1);
    let end = common_end(&base[start..], &content[start..]);
    let end = match memchr::memchr(b'\n', &base[base.len() - end..]) {
        Some(line) => end - line - 1,
        None => 0,
    };
    let (base_end, content_end) = (base.len() - end, content.len() - end);
    let mut pieces = vec![Piece::Copy(0..start)];
    pieces.extend(middle(base, start..base_end, content, start..content_end));
    pieces.push(Piece::Copy(base_end..base.len()));
    trim(base, content, &mut pieces);
    write(content, &pieces)
}

/// Bytes that are compared at once.
const AT_ONCE: usize = 64;

/// How many of the first bytes are the same.
fn common(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(AT_ONCE).zip(b.chunks_exact(AT_ONCE));
    let same = blocks.take_while(|(a, b)| a == b).count() * AT_ONCE;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

/// How many of the last bytes are.
fn common_end(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.rchunks_exact(AT_ONCE).zip(b.rchunks_exact(AT_ONCE));
    let same = blocks.take_while(|(a, b)| a == b).count() * AT_ONCE;
    let (a, b) = (&a[..a.len() - same], &b[..b.len() - same]);
    same + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Where the lines of a part are, with their hashes.
fn places(of: &[u8], part: Range<usize>) -> Vec<Place> {
    let mut at = part.start;
    let place = |(hash, length): (u64, usize)| {
        at += length;
        (hash, at - length..at)
    };
    lines(&of[part]).map(place).collect()
}

/// Pieces of a part of the content, from a part of the base: each line that is there is copied with as many after it as follow.
fn middle(base: &[u8], old: Range<usize>, content: &[u8], new: Range<usize>) -> Vec<Piece> {
    if old.is_empty() || new.is_empty() {
        return vec![Piece::Insert(new)];
    }
    let (old, new) = (places(base, old), places(content, new));
    let mut known: HashMap<u64, Vec<usize>, RandomState> = HashMap::default();
    for (at, (hash, _)) in old.iter().enumerate() {
        known.entry(*hash).or_default().push(at);
    }
    let mut pieces = Vec::new();
    let (mut line, mut next) = (0, 0);
    while line < new.len() {
        let (hash, place) = &new[line];
        // What is nearest behind what was copied last, else wherever it is.
        let at = known.get(hash).and_then(|found| {
            let behind = found.partition_point(|&at| at < next);
            found.get(behind).or_else(|| found.last())
        });
        let same = at.map_or(0, |&at| {
            let pairs = old[at..].iter().zip(&new[line..]);
            let is_same = |(old, new): &(&Place, &Place)| {
                old.0 == new.0 && base[old.1.clone()] == content[new.1.clone()]
            };
            pairs.take_while(is_same).count()
        });
        if let (Some(&at), Some(last)) = (at, same.checked_sub(1)) {
            let piece = old[at].1.start..old[at + last].1.end;
            if piece.len() >= WORTH_COPYING {
                pieces.push(Piece::Copy(piece));
                (line, next) = (line + same, at + same);
                continue;
            }
        }
        match pieces.last_mut() {
            Some(Piece::Insert(inserted)) => inserted.end = place.end,
            _ => pieces.push(Piece::Insert(place.clone())),
        }
        line += 1;
    }
    pieces
}

/// Of what is inserted where something was, what both begin and end with is copied.
fn trim(base: &[u8], content: &[u8], pieces: &mut [Piece]) {
    for at in 1..pieces.len().saturating_sub(1) {
        let [Piece::Copy(before), Piece::Insert(insert), Piece::Copy(after)] =
            &mut pieces[at - 1..=at + 1]
        else {
            continue;
        };
        let Some(old) = base.get(before.end..after.start) else { continue };
        let start = common(old, &content[insert.clone()]);
        before.end += start;
        insert.start += start;
        let end = common_end(&old[start..], &content[insert.clone()]);
        insert.end -= end;
        after.start -= end;
    }
}

fn write(content: &[u8], pieces: &[Piece]) -> Vec<u8> {
    let mut script = Vec::new();
    let mut last = 0_u64;
    let mut insert = 0..0;
    let is_some = |piece: &&Piece| match piece {
        Piece::Copy(range) | Piece::Insert(range) => !range.is_empty(),
    };
    for piece in pieces.iter().filter(is_some) {
        match piece {
            Piece::Insert(range) if insert.is_empty() => insert = range.clone(),
            Piece::Insert(range) => insert.end = range.end,
            Piece::Copy(range) => {
                script.put_bytes(&content[std::mem::take(&mut insert)]);
                script.put_signed((range.start as u64).wrapping_sub(last).cast_signed());
                script.put_length(range.len());
                last = range.end as u64;
            }
        }
    }
    if !insert.is_empty() {
        script.put_bytes(&content[insert]);
    }
    script
}

/// A content in pieces of others, which scripts are applied to.
pub(crate) struct Edited<'a> {
    /// What it is made of.
    pieces: Vec<&'a [u8]>,
    length: usize,
}

impl<'a> Edited<'a> {
    /// A content as it is.
    pub(crate) fn of(content: &'a [u8]) -> Self {
        Self { pieces: vec![content], length: content.len() }
    }

    /// What becomes of it by a script; `None` where the script does not fit, or makes more than `length`.
    pub(crate) fn apply(&self, script: &'a [u8], length: usize) -> Option<Self> {
        let starts: Vec<usize> = self
            .pieces
            .iter()
            .scan(0, |at, piece| {
                *at += piece.len();
                Some(*at - piece.len())
            })
            .collect();
        let mut made = Self { pieces: Vec::with_capacity(self.pieces.len() + 2), length: 0 };
        let mut reader = Reader::new(script);
        let mut last: i64 = 0;
        while !reader.is_empty() {
            made.push(reader.bytes()?, length)?;
            if reader.is_empty() {
                break;
            }
            let start = usize::try_from(last.checked_add(reader.signed()?)?).ok()?;
            let end = start.checked_add(usize::try_from(reader.number()?).ok()?)?;
            if end > self.length || start == end {
                return None;
            }
            let mut piece = starts.partition_point(|&it| it <= start) - 1;
            let mut at = start;
            while at < end {
                let bytes = self.pieces.get(piece)?;
                let offset = at - starts[piece];
                let taken = &bytes[offset..bytes.len().min(end - starts[piece])];
                made.push(taken, length)?;
                at += taken.len();
                piece += 1;
            }
            last = i64::try_from(end).ok()?;
        }
        Some(made)
    }

    fn push(&mut self, piece: &'a [u8], most: usize) -> Option<()> {
        self.length = self.length.checked_add(piece.len()).filter(|&length| length <= most)?;
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
        Some(())
    }

    /// All of it, which must be as long as this.
    pub(crate) fn bytes(&self, length: usize) -> Option<Vec<u8>> {
        (self.length == length).then(|| self.pieces.concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(base: &[u8], script: &[u8], length: usize) -> Option<Vec<u8>> {
        Edited::of(base).apply(script, length)?.bytes(length)
    }

    #[test]
    fn what_differs_in_a_line_is_all_that_is_inserted() {
        let line = |number: usize| format!("a line of text with the number {number:04}\n");
        let base: String = (0..50).map(line).collect();
        let moved: String = (25..50).chain(0..25).map(line).collect();
        let altered = base.replace("0007\n", "0x07\n").replace("0031\n", "0031, and more\n");

        let script = script(base.as_bytes(), altered.as_bytes());
        assert_eq!(apply(base.as_bytes(), &script, altered.len()).unwrap(), altered.as_bytes());
        assert!(script.len() < 40, "{script:?}");
        let script = super::script(base.as_bytes(), moved.as_bytes());
        assert_eq!(apply(base.as_bytes(), &script, moved.len()).unwrap(), moved.as_bytes());
        assert!(script.len() < 16, "{script:?}");
    }

    #[test]
    fn a_script_that_does_not_fit_is_refused() {
        let copy = |skip: i64, length: u64| {
            let mut script = vec![0];
            script.put_signed(skip);
            script.put_number(length);
            script
        };
        assert_eq!(apply(b"abc", &copy(1, 2), 2).unwrap(), b"bc");
        for script in [copy(-1, 1), copy(0, 4), copy(3, 1), copy(0, 0), copy(1, u64::MAX)] {
            assert!(apply(b"abc", &script, 2).is_none(), "{script:?}");
        }
        assert!(apply(b"abc", &copy(0, 3), 2).is_none(), "more than it says");
        assert!(apply(b"abc", &copy(0, 1), 2).is_none(), "less than it says");
    }

    proptest! {
        #[test]
        fn chains_of_scripts_come_to_the_contents(
            contents in proptest::collection::vec("([a-c]{0,12}\n){0,12}[a-c]{0,3}", 2..6),
        ) {
            let scripts: Vec<_> = contents
                .windows(2)
                .map(|pair| script(pair[0].as_bytes(), pair[1].as_bytes()))
                .collect();
            let mut edited = Edited::of(contents[0].as_bytes());
            for (script, content) in scripts.iter().zip(&contents[1..]) {
                edited = edited.apply(script, content.len()).unwrap();
                prop_assert_eq!(edited.bytes(content.len()).unwrap(), content.as_bytes());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(base: Vec<u8>, scripts: [Vec<u8>; 2], length in 0_usize..1000) {
            if let Some(edited) = Edited::of(&base).apply(&scripts[0], length) {
                let _ = edited.apply(&scripts[1], length).and_then(|it| it.bytes(length));
            }
        }
    }
}
