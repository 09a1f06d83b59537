//! Every entry in its place, every tile what the entries give.

use std::ops::Range;
use std::thread;

use jiff::Timestamp;

use super::{Against, Grown, PayloadCount, Payloads, VerifyError};
use crate::checkpoint::TrustedCheckpoint;
use crate::layout::{self, Row, WIDTH};
use crate::storage::ReadStorage;
use crate::tree;
use crate::{Envelope, Hash};

/// Bundles that one thread takes at a time: 16,384 entries, a few megabytes.
const STRIDE: u64 = 64;

/// What was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) tiles: u64,
    pub(super) bytes: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) payloads: PayloadCount,
}

/// A stride's leaf hashes are gone by now; what they add up to is left.
struct Piece {
    /// Roots of full bundles.
    full: Vec<Hash>,
    /// Leaves of the last bundle, where it is partial.
    partial: Vec<Hash>,
    seen: Seen,
}

/// Reads all entries, in rounds of one stride for each thread, and compares the root at the end.
pub(super) fn entries<S: ReadStorage>(
    storage: &S,
    head: &TrustedCheckpoint,
    against: &Against<'_>,
) -> Result<Seen, VerifyError> {
    let size = head.size();
    let bundles = size.div_ceil(WIDTH);
    let mut grown = Grown::new(storage, size);
    let mut all = Seen::default();
    let mut next = 0;
    while next < bundles {
        let strides: Vec<_> = (0..against.threads.get() as u64)
            .map(|turn| next + turn * STRIDE..(next + (turn + 1) * STRIDE).min(bundles))
            .filter(|stride| !stride.is_empty())
            .collect();
        next = strides.last().map_or(bundles, |stride| stride.end);
        for piece in walk_side_by_side(storage, size, strides, against.payloads) {
            let piece = piece?;
            for root in piece.full {
                grown.push(root)?;
            }
            if !piece.partial.is_empty() {
                grown.finish_with(&piece.partial);
            }
            all.add(&piece.seen);
        }
    }
    let (computed, tiles) = grown.root()?;
    all.tiles += tiles;
    if computed != head.root() {
        return Err(VerifyError::Root { size, signed: head.root(), computed });
    }
    Ok(all)
}

/// In the strides' order, so that of several faults the first is told.
fn walk_side_by_side<S: ReadStorage>(
    storage: &S,
    size: u64,
    strides: Vec<Range<u64>>,
    payloads: Option<&dyn Payloads>,
) -> Vec<Result<Piece, VerifyError>> {
    thread::scope(|scope| {
        let walking: Vec<_> = strides
            .into_iter()
            .map(|stride| scope.spawn(move || walk(storage, size, stride, payloads)))
            .collect();
        let joined = walking.into_iter().map(|thread| match thread.join() {
            Ok(piece) => piece,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

fn walk<S: ReadStorage>(
    storage: &S,
    size: u64,
    bundles: Range<u64>,
    payloads: Option<&dyn Payloads>,
) -> Result<Piece, VerifyError> {
    let mut piece = Piece { full: Vec::new(), partial: Vec::new(), seen: Seen::default() };
    let mut scratch = Vec::new();
    for index in bundles {
        let leaves = bundle(storage, size, index, payloads, &mut scratch, &mut piece.seen)?;
        if leaves.len() as u64 == WIDTH {
            piece.full.push(Hash::of_perfect(&leaves));
        } else {
            piece.partial = leaves;
        }
    }
    Ok(piece)
}

/// One bundle and the tile of its entries' hashes.
fn bundle<S: ReadStorage>(
    storage: &S,
    size: u64,
    index: u64,
    payloads: Option<&dyn Payloads>,
    scratch: &mut Vec<u8>,
    seen: &mut Seen,
) -> Result<Vec<Hash>, VerifyError> {
    let tile = |row: Row| row.tile(index, size).expect("a tree has the tiles of its size");
    let (bundle, tile) = (tile(Row::Entries), tile(Row::Hashes(0)));
    let bytes = tree::fetch(storage, bundle, size)?;
    let leaves = tree::fetch_hashes(storage, tile, size)?;
    seen.tiles += 1;
    let mut held = 0;
    for (place, entry) in (index * WIDTH..).zip(layout::entries(&bytes)) {
        let Some(entry) = entry else { return Err(tree::malformed(bundle).into()) };
        let Some(in_tile) = leaves.get(held) else { return Err(tree::malformed(bundle).into()) };
        held += 1;
        let computed = Hash::of_entry(entry);
        if computed != *in_tile {
            return Err(VerifyError::Leaf { index: place, in_tile: *in_tile, computed });
        }
        let glance = Envelope::glance(entry, scratch)
            .map_err(|source| VerifyError::Entry { index: place, source })?;
        if glance.sequence != place {
            return Err(VerifyError::Sequence { index: place, found: glance.sequence });
        }
        if let Some(payloads) = payloads {
            for commitment in &glance.commitments {
                match payloads.digest(&commitment.sha256)? {
                    None => seen.payloads.absent += 1,
                    Some(found) if found == commitment.sha256 => seen.payloads.held += 1,
                    Some(found) => {
                        return Err(VerifyError::Payload {
                            index: place,
                            part: commitment.part.clone(),
                            committed: commitment.sha256,
                            found,
                        });
                    }
                }
            }
        }
        seen.bytes += entry.len() as u64;
        seen.first = seen.first.or(Some(glance.at));
        seen.last = Some(glance.at);
    }
    if held < leaves.len() {
        let missing = index * WIDTH + held as u64;
        return Err(VerifyError::MissingEntry { index: missing, path: bundle.to_string() });
    }
    Ok(leaves)
}

impl Seen {
    fn add(&mut self, later: &Self) {
        self.tiles += later.tiles;
        self.bytes += later.bytes;
        self.first = self.first.or(later.first);
        self.last = later.last.or(self.last);
        self.payloads.held += later.payloads.held;
        self.payloads.absent += later.payloads.absent;
    }
}
