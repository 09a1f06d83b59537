//! QEMU's qcow2 images, read-only (`docs/interop/qcow2.rst` of QEMU; the names here are its).
//!
//! A guest's disk is cut into clusters. The L1 table points to L2 tables, an L2 entry points to
//! one cluster in the file, plain or compressed, or says that it is zero, or nothing: then the
//! backing image answers. Two lookups, no recursion; what a hostile table could do is point
//! somewhere wrong, so each pointer is checked to lie in the file, on a cluster boundary, and
//! not on the tables themselves.

mod backing;
mod cluster;
mod header;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::raw::{Accept, RawDisk};
use super::{BlockRead, DiskError, check_range};
use backing::{Chain, Further};
use cluster::{Decompressed, Mapping};
use header::Header;

/// Bytes of L2 tables kept; a table of 64 KiB maps 512 MiB of the disk.
const L2_CACHE_BYTES: usize = 16 << 20;

/// Whether a file begins like a qcow2 image.
pub(crate) fn is_qcow2(start: &[u8]) -> bool {
    start.starts_with(&header::MAGIC)
}

/// An opened image with its chain of backing images.
#[derive(Debug)]
pub(crate) struct Qcow2Disk {
    file: RawDisk,
    header: Header,
    /// Offsets of the L2 tables, in the order of the disk; 0 where there is none.
    l1: Vec<u64>,
    /// The same, sorted and without zeros: no cluster of data may lie on one.
    l2_places: Vec<u64>,
    l2_cache: Mutex<HashMap<u64, Arc<[u8]>>>,
    decompressed: Mutex<Decompressed>,
    backing: Option<Box<dyn BlockRead>>,
    notes: Vec<String>,
}

impl Qcow2Disk {
    /// Opens the image that the user named, and the images below it.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = RawDisk::open(path, Accept::FileOrDevice)?;
        Self::open_in_chain(file, Further::Allowed, &mut Chain::default())
    }

    fn open_in_chain(
        file: RawDisk,
        further: Further,
        chain: &mut Chain,
    ) -> Result<Self, DiskError> {
        let path = file.path();
        chain.enter(&file)?;
        let header = Header::read(&file)?;
        let l1 = read_l1(&file, &header)?;
        let mut l2_places: Vec<u64> = l1.iter().copied().filter(|&offset| offset != 0).collect();
        l2_places.sort_unstable();
        let twice = l2_places.iter().zip(l2_places.iter().skip(1)).find(|(a, b)| a == b);
        if let Some((twice, _)) = twice {
            let reason = format!("two entries of the L1 table share the L2 table at {twice}");
            return Err(damaged(path, reason));
        }
        let mut notes = header.notes(path);
        let backing = match &header.backing {
            None => None,
            Some(named) => Some(backing::open(path, named, further, chain, &mut notes)?),
        };
        Ok(Self {
            file,
            header,
            l1,
            l2_places,
            l2_cache: Mutex::default(),
            decompressed: Mutex::default(),
            backing,
            notes,
        })
    }

    /// What is worth telling about the image: not closed cleanly, marked as corrupt.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn damaged(&self, reason: String) -> DiskError {
        damaged(self.file.path(), reason)
    }

    /// Where the piece of the disk at `offset` is, and how many bytes from there are alike.
    fn map(&self, offset: u64) -> Result<(Mapping, u64), DiskError> {
        let cluster_size = self.header.cluster_size();
        let within = offset % cluster_size;
        let index = offset / cluster_size;
        let per_table = self.header.l2_entries();
        let l2_offset = usize::try_from(index / per_table)
            .ok()
            .and_then(|at| self.l1.get(at).copied())
            .ok_or_else(|| {
                self.damaged(format!("the L1 table has no entry for offset {offset}"))
            })?;
        if l2_offset == 0 {
            return Ok((Mapping::Backing, cluster_size - within));
        }
        let table = self.l2_table(l2_offset)?;
        let entry_size = self.header.l2_entry_size();
        let at = usize::try_from(index % per_table).map_or(usize::MAX, |at| at * entry_size);
        let entry = table
            .get(at..)
            .and_then(|rest| rest.get(..entry_size))
            .ok_or_else(|| self.damaged(format!("the L2 table at {l2_offset} is too short")))?;
        let (mapping, alike) = cluster::decode(entry, &self.header, within)
            .map_err(|reason| self.damaged(format!("{reason} (offset {offset} of the disk)")))?;
        if let Mapping::Data { host } = mapping {
            self.check_data_place(host - within)?;
        }
        Ok((mapping, alike))
    }

    /// A cluster of data lies in the file and on none of the tables.
    fn check_data_place(&self, cluster: u64) -> Result<(), DiskError> {
        let l1_end = self.header.l1_offset + self.header.l1_bytes();
        let on_l1 =
            cluster < l1_end && cluster + self.header.cluster_size() > self.header.l1_offset;
        if cluster == 0 || on_l1 || self.l2_places.binary_search(&cluster).is_ok() {
            let reason = format!("a data cluster lies on the image's own tables at {cluster}");
            return Err(self.damaged(reason));
        }
        if cluster >= self.file.size() {
            let reason = format!(
                "a data cluster lies at {cluster}, but the file ends at {}",
                self.file.size()
            );
            return Err(self.damaged(reason));
        }
        Ok(())
    }

    fn l2_table(&self, offset: u64) -> Result<Arc<[u8]>, DiskError> {
        let mut cache = self.l2_cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = cache.get(&offset) {
            return Ok(Arc::clone(table));
        }
        let size = usize::try_from(self.header.cluster_size()).unwrap_or(usize::MAX);
        let mut table = vec![0; size];
        self.file.read_at(offset, &mut table)?;
        let table: Arc<[u8]> = table.into();
        if (cache.len() + 1).saturating_mul(size) > L2_CACHE_BYTES {
            cache.clear();
        }
        cache.insert(offset, Arc::clone(&table));
        Ok(table)
    }

    /// Reads from the file; what a last, incomplete cluster lacks is zero, as QEMU has it.
    fn read_host(&self, host: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let there = self.file.size().saturating_sub(host);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let (inside, outside) = buffer.split_at_mut(there);
        outside.fill(0);
        self.file.read_at(host, inside)
    }

    fn read_backing(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let Some(backing) = &self.backing else {
            buffer.fill(0);
            return Ok(());
        };
        // A backing image may be smaller than the overlay; what lies behind its end is zero.
        let there = backing.size().saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let (inside, outside) = buffer.split_at_mut(there);
        outside.fill(0);
        if inside.is_empty() { Ok(()) } else { backing.read_at(offset, inside) }
    }

    fn read_compressed(
        &self,
        place: cluster::Compressed,
        within: u64,
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        let mut cache = self.decompressed.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = if let Some(cluster) = cache.get(place.host) {
            cluster
        } else {
            cache.put(place.host, self.unpack(place)?)
        };
        let at = usize::try_from(within).unwrap_or(usize::MAX);
        let piece = cluster.get(at..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(piece.ok_or_else(|| {
            self.damaged(format!("the compressed cluster at {} is too short", place.host))
        })?);
        Ok(())
    }
}

impl Qcow2Disk {
    fn unpack(&self, place: cluster::Compressed) -> Result<Vec<u8>, DiskError> {
        let (host, end) = (place.host, self.file.size());
        let there = end.saturating_sub(host).min(place.length);
        if there == 0 {
            let reason = format!("a compressed cluster lies at {host}, but the file ends at {end}");
            return Err(self.damaged(reason));
        }
        let mut packed = vec![0; usize::try_from(there).unwrap_or(usize::MAX)];
        self.file.read_at(host, &mut packed)?;
        cluster::decompress(&packed, &self.header)
            .map_err(|reason| self.damaged(format!("{reason} (at {host} in the file)")))
    }
}

impl BlockRead for Qcow2Disk {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check_range(offset, buffer.len(), self.header.size)?;
        let mut offset = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (mapping, alike) = self.map(offset)?;
            let length = usize::try_from(alike).unwrap_or(usize::MAX).min(rest.len());
            let (piece, after) = rest.split_at_mut(length);
            match mapping {
                Mapping::Zero => piece.fill(0),
                Mapping::Backing => self.read_backing(offset, piece)?,
                Mapping::Data { host } => self.read_host(host, piece)?,
                Mapping::Compressed(place) => {
                    self.read_compressed(place, offset % self.header.cluster_size(), piece)?;
                }
            }
            offset += length as u64;
            rest = after;
        }
        Ok(())
    }
}

/// Reads the L1 table; the header has checked that it lies in the file and is not absurd.
fn read_l1(file: &RawDisk, header: &Header) -> Result<Vec<u64>, DiskError> {
    let length = usize::try_from(header.l1_bytes()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_at(header.l1_offset, &mut bytes)?;
    let (entries, _) = bytes.as_chunks::<8>();
    entries
        .iter()
        .map(|entry| {
            let offset = u64::from_be_bytes(*entry) & cluster::OFFSET_MASK;
            check_table_place(file, header, offset).map(|()| offset)
        })
        .collect()
}

fn check_table_place(file: &RawDisk, header: &Header, offset: u64) -> Result<(), DiskError> {
    if offset == 0 {
        return Ok(());
    }
    let cluster_size = header.cluster_size();
    let reason = if !offset.is_multiple_of(cluster_size) {
        format!("an L2 table lies at {offset}, which is not on a cluster boundary")
    } else if check_range(offset, usize::try_from(cluster_size).unwrap_or(0), file.size()).is_err()
    {
        format!("an L2 table lies at {offset}, but the file ends at {}", file.size())
    } else if offset < header.l1_offset + header.l1_bytes()
        && offset + cluster_size > header.l1_offset
    {
        format!("an L2 table lies on the L1 table at {offset}")
    } else {
        return Ok(());
    };
    Err(damaged(file.path(), reason))
}

fn damaged(path: &Path, reason: String) -> DiskError {
    DiskError::DamagedImage { path: PathBuf::from(path), reason }
}
