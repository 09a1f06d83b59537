//! Frames: one content, compressed alone (a key frame) or against an earlier one (a delta).
//!
//! A delta is an edit script, or where that says more, zstd with the earlier content as its prefix: everything both have in
//! common is a match. On histories of real configuration that needs less than a fully repacked git pack, without a
//! repack (`docs/decisions/0025-content-history.md`).

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound};

use crate::error::{HistoryError, Result};

/// Largest content that is kept.
pub const LARGEST_CONTENT: usize = 16 << 20;

/// Most frames that are decoded for one content.
pub(crate) const DEEPEST: u32 = 10;

/// Most bytes that are decoded for one content, unless it is large itself: bounds the slowest read.
const CHAIN_BYTES: u64 = 384 << 10;

/// Frames of a chain whose contents are large, at most.
const DEEPEST_OF_LARGE: u32 = 4;

/// Below this exponent of two zstd's own choice of window reaches over content and prefix.
const OWN_WINDOW: u32 = 20;

/// How a frame's content is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By itself.
    Key,
    /// From another one.
    Delta(Base, By),
}

impl Kind {
    /// Whether what is stored is an edit script.
    pub(crate) const fn is_edits(self) -> bool {
        matches!(self, Self::Delta(_, By::Edits))
    }
}

/// Which content a delta is against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// That frame of the same partition.
    Frame(u64),
    /// That one of the other frames, of other partitions, that this one leans on.
    Lean(u64),
}

/// How a delta says what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// As zstd with the base for its prefix.
    Prefix,
    /// By an edit script.
    Edits,
}

/// How far a content is from a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain {
    /// Frames before this one.
    pub(crate) depth: u32,
    /// Bytes that are decoded for it, its own included.
    pub(crate) bytes: u64,
}

impl Chain {
    pub(crate) const fn key(length: usize) -> Self {
        Self { depth: 0, bytes: length as u64 }
    }

    /// Whether no more is decoded for it than for another one.
    pub(crate) const fn is_within(self, other: Self) -> bool {
        self.depth <= other.depth && self.bytes <= other.bytes
    }

    /// How many deltas that each decode so many bytes may follow one on the other.
    pub(crate) fn left(self, decoded: usize) -> u32 {
        let left = |deepest: u32| deepest.saturating_sub(self.depth + 1);
        let bytes = CHAIN_BYTES.saturating_sub(self.bytes) / (decoded.max(1) as u64);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        bytes.max(left(DEEPEST_OF_LARGE)).min(left(DEEPEST))
    }

    /// The chain of a delta against this one, for which so many bytes are decoded: the content's, or the script's. `None` where
    /// it would be too long.
    pub(crate) const fn grown(self, decoded: usize) -> Option<Self> {
        let grown = Self { depth: self.depth + 1, bytes: self.bytes + decoded as u64 };
        let is_short = grown.bytes <= CHAIN_BYTES || grown.depth < DEEPEST_OF_LARGE;
        if grown.depth < DEEPEST && is_short { Some(grown) } else { None }
    }
}

/// A content as a frame; with `base`, as a delta against it.
pub(crate) fn encode(content: &[u8], base: Option<&[u8]>, level: i32) -> Result<Vec<u8>> {
    if content.len() > LARGEST_CONTENT {
        return Err(HistoryError::TooLarge {
            what: "a content",
            given: content.len() as u64,
            largest: LARGEST_CONTENT as u64,
        });
    }
    let mut frame = Vec::with_capacity(compress_bound(content.len()));
    let reach =
        base.map_or(0, |base| u64::BITS - ((content.len() + base.len()) as u64).leading_zeros());
    match base {
        None => KEY_FRAMES.with_borrow_mut(|zstd| compress(zstd, &mut frame, content, level))?,
        Some(base) if reach <= OWN_WINDOW && !base.starts_with(&DICTIONARY) => {
            let made = |zstd: &mut CCtx<'_>| {
                zstd.compress_using_dict(&mut frame, content, base, level).map_err(unmade)
            };
            DELTAS.with_borrow_mut(made)?;
        }
        Some(base) => {
            // Bound to the prefix, and so of one use.
            let mut zstd = CCtx::create();
            if reach > OWN_WINDOW {
                zstd.set_parameter(CParameter::WindowLog(reach)).map_err(unmade)?;
                // The usual tables hold only the end of a large prefix.
                zstd.set_parameter(CParameter::EnableLongDistanceMatching(true)).map_err(unmade)?;
            }
            zstd.ref_prefix(base).map_err(unmade)?;
            compress(&mut zstd, &mut frame, content, level)?;
        }
    }
    Ok(frame)
}

thread_local! {
    /// Making one anew costs as much as compressing a small file.
    static KEY_FRAMES: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());

    /// Likewise: what is set for key frames does not hold for these.
    static DELTAS: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());

    /// Likewise: a content at the end of a chain takes thirty of them.
    static FRAMES: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// What a dictionary of zstd begins with (RFC 8878 §5). What begins otherwise is a prefix by itself.
const DICTIONARY: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

fn compress(zstd: &mut CCtx<'_>, frame: &mut Vec<u8>, content: &[u8], level: i32) -> Result<()> {
    zstd.set_parameter(CParameter::CompressionLevel(level)).map_err(unmade)?;
    zstd.compress2(frame, content).map_err(unmade)?;
    Ok(())
}

/// Only a lack of memory leads here.
const fn unmade(_: usize) -> HistoryError {
    HistoryError::damaged("a frame in the making")
}

/// What was compressed by itself, which must be as long as this.
pub(crate) fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(length);
    FRAMES.with_borrow_mut(|zstd| zstd.decompress(&mut raw, compressed)).ok()?;
    (raw.len() == length).then_some(raw)
}

/// The content of a frame, which must be as long as it says.
pub(crate) fn decode(frame: &[u8], base: Option<&[u8]>, length: usize) -> Result<Vec<u8>> {
    if length > LARGEST_CONTENT {
        return Err(HistoryError::damaged("a frame's length"));
    }
    let mut content = Vec::with_capacity(length);
    let read = match base {
        None => FRAMES.with_borrow_mut(|zstd| zstd.decompress(&mut content, frame)),
        Some(base) if !base.starts_with(&DICTIONARY) => {
            FRAMES.with_borrow_mut(|zstd| zstd.decompress_using_dict(&mut content, frame, base))
        }
        // Bound to the prefix, and so of one use; a dictionary would be read as one.
        Some(base) => {
            let mut zstd = DCtx::create();
            zstd.ref_prefix(base).and_then(|_| zstd.decompress(&mut content, frame))
        }
    };
    read.map_err(|_| HistoryError::damaged("a frame"))?;
    if content.len() == length { Ok(content) } else { Err(HistoryError::damaged("a frame")) }
}

/// A content by itself, behind its length: as rows of the hot tail keep it.
pub fn pack(content: &[u8], level: i32) -> Result<Vec<u8>> {
    let frame = encode(content, None, level)?;
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    Ok([&length.to_le_bytes()[..], &frame].concat())
}

/// The content that was packed.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let (length, frame) =
        packed.split_first_chunk::<4>().ok_or(HistoryError::damaged("a content"))?;
    decode(frame, None, u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: u32) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| format!("option_{line} = {}\n", line * 7919).into_bytes())
            .collect()
    }

    #[test]
    fn a_delta_of_a_line_is_small_also_far_beyond_the_default_window() {
        for lines in [300, 300_000] {
            let before = text(lines);
            let mut after = before.clone();
            after.splice(100..100, *b"inserted = 1\n");

            let key = encode(&after, None, 3).unwrap();
            let delta = encode(&after, Some(&before), 3).unwrap();

            assert!(delta.len() < 100 + key.len() / 100, "{} of {}", delta.len(), key.len());
            assert_eq!(decode(&delta, Some(&before), after.len()).unwrap(), after);
            assert_eq!(decode(&key, None, after.len()).unwrap(), after);
        }
    }

    #[test]
    fn a_content_may_begin_like_a_dictionary_of_zstd() {
        let mut before = vec![0x37, 0xa4, 0x30, 0xec];
        before.extend(text(20));
        let mut after = before.clone();
        after.push(b'!');

        let delta = encode(&after, Some(&before), 3).unwrap();

        assert_eq!(decode(&delta, Some(&before), after.len()).unwrap(), after);
    }

    #[test]
    fn a_frame_gives_no_more_than_it_says() {
        let bomb = encode(&vec![0; LARGEST_CONTENT], None, 3).unwrap();

        assert!(bomb.len() < 10_000);
        assert!(decode(&bomb, None, 100).is_err());
        assert!(decode(&bomb, None, LARGEST_CONTENT + 1).is_err());
        assert!(encode(&vec![0; LARGEST_CONTENT + 1], None, 3).is_err());
    }

    #[test]
    fn chains_end() {
        let mut chain = Chain::key(1000);
        let small = std::iter::from_fn(|| {
            chain = chain.grown(1000)?;
            Some(())
        });
        assert_eq!(small.count() + 1, DEEPEST as usize);
        let mut chain = Chain::key(300_000);
        let large = std::iter::from_fn(|| {
            chain = chain.grown(300_000)?;
            Some(())
        });
        assert_eq!(large.count(), 3);
    }

    proptest::proptest! {
        #[test]
        fn contents_come_back(content: Vec<u8>, base: Vec<u8>) {
            let packed = pack(&content, 1).unwrap();
            proptest::prop_assert_eq!(unpack(&packed).unwrap(), &content[..]);
            let delta = encode(&content, Some(&base), 3).unwrap();
            proptest::prop_assert_eq!(decode(&delta, Some(&base), content.len()).unwrap(), content);
        }

        #[test]
        fn no_bytes_make_it_panic(frame: Vec<u8>, base: Vec<u8>, length in 0_usize..100_000) {
            let _ = decode(&frame, Some(&base), length);
            let _ = unpack(&frame);
        }
    }
}
