//! One entry of an L2 table, and unpacking compressed clusters.

use std::collections::VecDeque;
use std::sync::Arc;

use super::header::{Compression, Granule, Header};

/// Bits 9 to 55 of an entry of L1 or L2: an offset in the file.
pub(super) const OFFSET_MASK: u64 = 0x00FF_FFFF_FFFF_FE00;

const COMPRESSED: u64 = 1 << 62;
const ALL_ZERO: u64 = 1;
const SUBCLUSTERS: u64 = 32;

/// Unpacked clusters kept: reading a file touches the same few clusters again and again.
const KEPT: usize = 16;

/// Where a piece of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// All zero.
    Zero,
    /// Not in this image: the one below answers.
    Backing,
    /// In the file, from here on.
    Data {
        /// Offset in the file of the byte asked for.
        host: u64,
    },
    /// In a compressed cluster.
    Compressed(Compressed),
}

/// Where a compressed cluster lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compressed {
    pub(super) host: u64,
    /// At most so many bytes: the length is stated in sectors.
    pub(super) length: u64,
}

/// Reads an entry for the byte `within` its cluster; says how many bytes from there are alike.
pub(super) fn decode(entry: &[u8], header: &Header, within: u64) -> Result<(Mapping, u64), String> {
    let (words, _) = entry.as_chunks::<8>();
    let [word, bitmap @ ..] = words else { return Err("an L2 entry is cut off".to_owned()) };
    let word = u64::from_be_bytes(*word);
    let cluster_size = header.cluster_size();
    let rest = cluster_size - within;
    if word & COMPRESSED != 0 {
        return Ok((Mapping::Compressed(compressed_place(word, header.cluster_bits)), rest));
    }
    let offset = word & OFFSET_MASK;
    if !offset.is_multiple_of(cluster_size) {
        return Err(format!("a data cluster lies at {offset}, which is not on a cluster boundary"));
    }
    match header.granule {
        Granule::Cluster => {
            // Version 2 knows no zero clusters; its bit is reserved.
            let zero = header.version >= 3 && word & ALL_ZERO != 0;
            let mapping = match offset {
                _ if zero => Mapping::Zero,
                0 => Mapping::Backing,
                offset => Mapping::Data { host: offset + within },
            };
            Ok((mapping, rest))
        }
        Granule::Subcluster => {
            let bitmap = bitmap.first().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let size = cluster_size / SUBCLUSTERS;
            let index = within / size;
            let allocated = bitmap >> index & 1 == 1;
            let zero = bitmap >> (index + SUBCLUSTERS) & 1 == 1;
            let mapping = match (allocated, zero) {
                (true, true) => return Err("a subcluster is both data and zero".to_owned()),
                (true, false) if offset == 0 => {
                    return Err("a subcluster is data without a place".to_owned());
                }
                (true, false) => Mapping::Data { host: offset + within },
                (false, true) => Mapping::Zero,
                (false, false) => Mapping::Backing,
            };
            Ok((mapping, size - within % size))
        }
    }
}

/// `qcow2.rst`, "Compressed Clusters Descriptor".
fn compressed_place(word: u64, cluster_bits: u32) -> Compressed {
    let shift = 62 - (cluster_bits - 8);
    let host = word & ((1 << shift) - 1);
    let further_sectors = (word & (COMPRESSED - 1)) >> shift;
    Compressed { host, length: (further_sectors + 1) * 512 - host % 512 }
}

/// Unpacks one cluster; whatever is packed, no more than a cluster comes out.
pub(super) fn decompress(packed: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let mut plain = vec![0; usize::try_from(header.cluster_size()).unwrap_or(0)];
    let written = match header.compression {
        Compression::Deflate => inflate(packed, &mut plain)?,
        Compression::Zstd => unzstd(packed, &mut plain)?,
    };
    if written == plain.len() {
        Ok(plain)
    } else {
        Err(format!("a compressed cluster holds {written} of {} bytes", plain.len()))
    }
}

fn inflate(packed: &[u8], plain: &mut [u8]) -> Result<usize, String> {
    let mut stream = flate2::Decompress::new(false);
    stream
        .decompress(packed, plain, flate2::FlushDecompress::Finish)
        .map_err(|error| format!("a compressed cluster cannot be unpacked: {error}"))?;
    Ok(usize::try_from(stream.total_out()).unwrap_or(usize::MAX))
}

fn unzstd(packed: &[u8], plain: &mut [u8]) -> Result<usize, String> {
    use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
    let failed =
        |error: std::io::Error| format!("a compressed cluster cannot be unpacked: {error}");
    let mut decoder = Decoder::new().map_err(failed)?;
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(plain);
    // The sectors behind the frame's end belong to the next cluster: stop at a full cluster.
    loop {
        let before = (input.pos(), output.pos());
        let hint = decoder.run(&mut input, &mut output).map_err(failed)?;
        let stuck = before == (input.pos(), output.pos());
        if hint == 0 || stuck || output.pos() == output.capacity() {
            return Ok(output.pos());
        }
    }
}

/// The clusters unpacked last.
#[derive(Debug, Default)]
pub(super) struct Decompressed {
    kept: VecDeque<(u64, Arc<[u8]>)>,
}

impl Decompressed {
    pub(super) fn get(&self, host: u64) -> Option<Arc<[u8]>> {
        self.kept.iter().find(|(at, _)| *at == host).map(|(_, cluster)| Arc::clone(cluster))
    }

    pub(super) fn put(&mut self, host: u64, plain: Vec<u8>) -> Arc<[u8]> {
        let plain: Arc<[u8]> = plain.into();
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((host, Arc::clone(&plain)));
        plain
    }
}
