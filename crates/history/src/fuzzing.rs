//! Ways in for fuzzers: what is behind the seals, fed with bytes. No part of the public face.

use crate::edits::Edited;
use crate::partition::block::{Pack, groups};
use crate::partition::layout::{Footer, Trailer, read_header};
use crate::version::Version;

/// Reads bytes as everything that an object is made of.
pub fn object(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk() {
        let _ = read_header(header);
    }
    if let Some(trailer) = bytes.last_chunk() {
        let _ = Trailer::read(trailer);
    }
    let _ = Footer::read(bytes);
    let _ = groups(bytes, &mut |_, _| true);
    let _ = crate::commitment::read_roll(bytes);
    if let Ok(pack) = Pack::open(bytes.to_vec(), 7) {
        for (frame, stored) in pack.frames() {
            let _ = crate::frame::decode(stored, None, frame.length);
        }
    }
    if let Ok((path, version)) = Version::from_bytes(bytes) {
        assert_eq!(version.to_bytes(&path), bytes);
    }
    let (base, frame) = bytes.split_at(bytes.len() / 2);
    let _ = crate::frame::decode(frame, Some(base), 1 << 16);
    let _ = Edited::of(base).apply(frame, 1 << 16);
    let _ = crate::frame::unpack(bytes);
}
