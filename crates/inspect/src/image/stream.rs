//! Streams of foreign bytes: hashed, unpacked, and stopped before they drown us.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::tar::Forward;

/// An image may unpack to this much in any case: some systems are that large, and a large file
/// of zeros in one packs a thousandfold.
const FREE: u64 = 4 << 30;

/// Beyond that, packed bytes may grow by this factor: real systems grow three- to fivefold.
const RATIO: u64 = 50;

/// Nothing unpacks to more.
const MOST: u64 = 256 << 30;

/// Windows of zstd beyond 128 MiB are only made on request.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Compression, by the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// Recognised, not read.
    Other(&'static str),
}

impl Packing {
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Self::Zstd,
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Self::Other("compressed with xz"),
            [b'B', b'Z', b'h', ..] => Self::Other("compressed with bzip2"),
            _ => Self::Plain,
        }
    }
}

/// What was counted on the way, shared by the ends of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Rc<Cell<u64>>);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counts and hashes what passes.
pub(super) struct Hashed<R> {
    inner: R,
    hash: Sha256,
    count: Count,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), count: Count::default() }
    }

    pub(super) fn count(&self) -> Count {
        self.count.clone()
    }

    /// Reads to the end and gives the SHA-256 of everything, lower-case hex.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count.0.set(self.count.0.get() + count as u64);
        Ok(count)
    }
}

impl<R: Read> Forward for Hashed<R> {}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Unpacks a stream; an error of kind [`io::ErrorKind::QuotaExceeded`] when it grows beyond reason.
pub(super) struct Unpacked<'a> {
    inner: Box<dyn Read + 'a>,
    packed: Count,
    produced: u64,
}

impl<'a> Unpacked<'a> {
    /// `packed` counts what `stream` has given so far.
    pub(super) fn new(stream: impl Read + 'a, packing: Packing, packed: Count) -> io::Result<Self> {
        let stream = BufReader::with_capacity(1 << 16, stream);
        let inner: Box<dyn Read + 'a> = match packing {
            Packing::Plain => Box::new(stream),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(stream)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Packing::Other(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { inner, packed, produced: 0 })
    }
}

/// Most bytes that `packed` bytes may unpack to.
pub(super) fn allowance(packed: u64) -> u64 {
    packed.saturating_mul(RATIO).clamp(FREE, MOST)
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        if self.produced > allowance(self.packed.get()) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(count)
    }
}

impl Forward for Unpacked<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_stopped_and_a_large_system_is_not() {
        assert_eq!(allowance(1_000), FREE);
        assert_eq!(allowance(1 << 30), 50 << 30);
        assert_eq!(allowance(u64::MAX), MOST);
    }

    #[test]
    fn what_passes_is_hashed_to_its_end() {
        let mut hashed = Hashed::new(&b"abc"[..]);
        let mut first = [0; 1];
        hashed.read_exact(&mut first).unwrap();

        assert_eq!(
            hashed.finish().unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
