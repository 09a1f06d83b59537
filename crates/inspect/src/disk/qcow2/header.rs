//! The header of a qcow2 image and its extensions.

use std::path::Path;

use super::damaged;
use crate::disk::raw::RawDisk;
use crate::disk::{BlockRead, DiskError};

/// `QFI\xfb`.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// QEMU's own limit: an L1 table of 32 MiB maps 2 PiB with 64 KiB clusters.
const MAX_L1_BYTES: u64 = 32 << 20;

/// Longest name of a backing file (`qcow2.rst`: `backing_file_size`).
const MAX_BACKING_NAME: u32 = 1023;

/// Header extension: format of the backing file.
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;

/// Incompatible features, by bit.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// How compressed clusters are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

/// Size of the pieces that an L2 entry speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granule {
    /// Whole clusters.
    Cluster,
    /// Thirty-second parts of a cluster (extended L2 entries).
    Subcluster,
}

/// The backing file as the image names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedBacking {
    pub(super) name: String,
    /// `raw`, `qcow2`…; older images do not say.
    pub(super) format: Option<String>,
}

/// What reading needs to know of the header; everything in it has been checked.
#[derive(Debug)]
pub(super) struct Header {
    /// Size of the guest's disk in bytes.
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    l1_entries: u64,
    pub(super) cluster_bits: u32,
    pub(super) granule: Granule,
    pub(super) compression: Compression,
    pub(super) backing: Option<NamedBacking>,
    pub(super) version: u32,
    incompatible: u64,
}

impl Header {
    pub(super) fn read(file: &RawDisk) -> Result<Self, DiskError> {
        let path = file.path();
        let mut fixed = [0; 112];
        let length = usize::try_from(file.size()).unwrap_or(usize::MAX).min(fixed.len());
        if length < 72 {
            return Err(damaged(path, format!("the file has only {} bytes", file.size())));
        }
        file.read_at(0, &mut fixed[..length])?;
        let u32_at = |at: usize| u32::from_be_bytes(array(&fixed, at));
        let u64_at = |at: usize| u64::from_be_bytes(array(&fixed, at));

        if fixed[..4] != MAGIC {
            return Err(damaged(path, "it does not begin with `QFI\\xfb`".to_owned()));
        }
        let version = u32_at(4);
        let unsupported =
            |feature: String| DiskError::UnsupportedImage { path: path.to_owned(), feature };
        if !(2..=3).contains(&version) {
            return Err(unsupported(format!("version {version}")));
        }
        if u32_at(32) != 0 {
            return Err(unsupported(format!("encryption (method {})", u32_at(32))));
        }
        let cluster_bits = u32_at(20);
        if !(9..=21).contains(&cluster_bits) {
            let reason =
                format!("clusters of 2^{cluster_bits} bytes are out of bounds (2^9 to 2^21)");
            return Err(damaged(path, reason));
        }
        let (incompatible, header_length) =
            if version == 2 { (0, 72) } else { (u64_at(72), u32_at(100)) };
        if incompatible & EXTERNAL_DATA != 0 {
            return Err(unsupported("an external data file".to_owned()));
        }
        let known = DIRTY | CORRUPT | COMPRESSION_TYPE | EXTENDED_L2;
        if incompatible & !known != 0 {
            return Err(unsupported(format!("unknown features ({:#x})", incompatible & !known)));
        }
        let compression = match (incompatible & COMPRESSION_TYPE != 0, fixed[104]) {
            (false, _) | (true, 0) => Compression::Deflate,
            (true, 1) => Compression::Zstd,
            (true, other) => return Err(unsupported(format!("compression type {other}"))),
        };
        let granule =
            if incompatible & EXTENDED_L2 == 0 { Granule::Cluster } else { Granule::Subcluster };
        if granule == Granule::Subcluster && cluster_bits < 14 {
            let reason =
                format!("extended L2 entries need clusters of 16 KiB, not 2^{cluster_bits}");
            return Err(damaged(path, reason));
        }
        if !(72..=1 << cluster_bits).contains(&header_length) {
            return Err(damaged(path, format!("the header claims {header_length} bytes")));
        }
        let mut header = Self {
            size: u64_at(24),
            l1_offset: u64_at(40),
            l1_entries: 0,
            cluster_bits,
            granule,
            compression,
            backing: None,
            version,
            incompatible,
        };
        header.l1_entries = header.check_l1(file, u64::from(u32_at(36)))?;
        header.backing = header.read_backing(file, u64_at(8), u32_at(16), header_length)?;
        Ok(header)
    }

    /// The entries that the disk needs; QEMU may have left room for more.
    fn check_l1(&self, file: &RawDisk, present: u64) -> Result<u64, DiskError> {
        let path = file.path();
        let per_entry = self.cluster_size() * self.l2_entries();
        let needed = self.size.div_ceil(per_entry);
        if needed > present {
            let reason = format!(
                "a disk of {} bytes needs {needed} entries in the L1 table, it has {present}",
                self.size
            );
            return Err(damaged(path, reason));
        }
        let bytes = needed * 8;
        if bytes > MAX_L1_BYTES {
            return Err(damaged(path, format!("a disk of {} bytes is beyond reason", self.size)));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_size())
            || (self.l1_offset == 0 && needed > 0)
        {
            let reason = format!("the L1 table lies at {}", self.l1_offset);
            return Err(damaged(path, reason));
        }
        if self.l1_offset.checked_add(bytes).is_none_or(|end| end > file.size()) {
            let reason = format!(
                "the L1 table of {bytes} bytes at {} reaches behind the file's end at {}",
                self.l1_offset,
                file.size()
            );
            return Err(damaged(path, reason));
        }
        Ok(needed)
    }

    fn read_backing(
        &self,
        file: &RawDisk,
        offset: u64,
        length: u32,
        header_length: u32,
    ) -> Result<Option<NamedBacking>, DiskError> {
        if offset == 0 {
            return Ok(None);
        }
        let path = file.path();
        let end = offset.checked_add(u64::from(length));
        let within = end.is_some_and(|end| end <= self.cluster_size().min(file.size()));
        if length == 0 || length > MAX_BACKING_NAME || !within {
            let reason = format!("the name of the backing file has {length} bytes at {offset}");
            return Err(damaged(path, reason));
        }
        let mut name = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_at(offset, &mut name)?;
        let name = String::from_utf8(name)
            .map_err(|_| damaged(path, "the name of the backing file is not UTF-8".to_owned()))?;
        let format = self.backing_format(file, u64::from(header_length), offset)?;
        Ok(Some(NamedBacking { name, format }))
    }

    /// Walks the header extensions: type, length, data padded to eight bytes.
    fn backing_format(
        &self,
        file: &RawDisk,
        start: u64,
        end: u64,
    ) -> Result<Option<String>, DiskError> {
        let end = end.min(self.cluster_size()).min(file.size());
        let mut at = start;
        while at + 8 <= end {
            let mut head = [0; 8];
            file.read_at(at, &mut head)?;
            let kind = u32::from_be_bytes(array(&head, 0));
            let length = u64::from(u32::from_be_bytes(array(&head, 4)));
            if kind == 0 || at + 8 + length > end {
                return Ok(None);
            }
            if kind == EXTENSION_BACKING_FORMAT {
                let mut format = vec![0; usize::try_from(length.min(64)).unwrap_or(0)];
                file.read_at(at + 8, &mut format)?;
                return Ok(Some(String::from_utf8_lossy(&format).into_owned()));
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(None)
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn l2_entry_size(&self) -> usize {
        match self.granule {
            Granule::Cluster => 8,
            Granule::Subcluster => 16,
        }
    }

    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_size() / self.l2_entry_size() as u64
    }

    pub(super) fn l1_bytes(&self) -> u64 {
        self.l1_entries * 8
    }

    /// What the image says of its own state.
    pub(super) fn notes(&self, path: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let path = path.display();
        if self.incompatible & CORRUPT != 0 {
            notes.push(format!("`{path}` is marked as corrupt by QEMU; what is read may be wrong"));
        }
        if self.incompatible & DIRTY != 0 {
            notes.push(format!("`{path}` was not closed cleanly; is a VM using it?"));
        }
        notes
    }
}

/// `N` bytes at a place that the caller's buffer has by its type.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
