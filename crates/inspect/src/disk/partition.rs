//! Partition tables: GPT (UEFI specification 2.10, chapter 5), MBR with logical partitions, none.
//!
//! Only where partitions begin and end matters; what is in them decides later.

use std::sync::Arc;

use super::{BlockRead, DiskError, Volume, read_structure};

/// Sector sizes in use: of almost all disks, and of those with 4 KiB sectors.
const SECTORS: [u64; 2] = [512, 4096];

/// GPT entries: 128 on real disks. A table is read whole, so it has a limit.
const MAX_GPT_ENTRIES: u32 = 1024;
const MAX_GPT_ENTRY_SIZE: u32 = 4096;

/// Logical partitions form a chain that could be endless.
const MAX_LOGICAL: u32 = 128;

/// MBR partition types.
pub(super) const EFI_SYSTEM_IN_MBR: u8 = 0xEF;
const EMPTY: u8 = 0x00;
const PROTECTIVE: u8 = 0xEE;
const EXTENDED: [u8; 3] = [0x05, 0x0F, 0x85];

/// The partitions of a disk in the order of their numbers; empty where there is no table.
pub(super) fn partitions(disk: &Arc<dyn BlockRead>) -> Result<Vec<Volume>, DiskError> {
    let Some(mbr) = read_structure::<512>(&**disk, 0)? else { return Ok(Vec::new()) };
    if mbr[510..] != [0x55, 0xAA] {
        return Ok(Vec::new());
    }
    let entries = mbr_entries(&mbr);
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        return gpt(disk);
    }
    // The first sector of a filesystem (FAT, NTFS) bears the same signature with code where a
    // table would be.
    if entries.iter().any(|entry| entry.flags & 0x7F != 0) {
        return Ok(Vec::new());
    }
    let mut volumes = Vec::new();
    for (number, entry) in (1..).zip(&entries) {
        if EXTENDED.contains(&entry.kind) {
            logical(disk, entry, &mut volumes)?;
        } else if let Some(volume) = entry.volume(disk, number, 0) {
            volumes.push(volume);
        }
    }
    Ok(volumes)
}

/// A partition as firmware sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The type and the attributes of a GPT's entry.
    Gpt { guid: [u8; 16], attributes: u64 },
    /// The type in an MBR.
    Mbr { kind: u8 },
}

/// What the partitions of a disk are said to be for; empty where there is no table.
pub(super) fn kinds(disk: &Arc<dyn BlockRead>) -> Result<Vec<Kind>, DiskError> {
    let Some(mbr) = read_structure::<512>(&**disk, 0)? else { return Ok(Vec::new()) };
    if mbr[510..] != [0x55, 0xAA] {
        return Ok(Vec::new());
    }
    let entries = mbr_entries(&mbr);
    if entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        let of = |entry: GptEntry| Kind::Gpt { guid: entry.guid, attributes: entry.attributes };
        return Ok(gpt_entries(disk)?.into_iter().map(of).collect());
    }
    // A filesystem's code, as in `partitions`.
    if entries.iter().any(|entry| entry.flags & 0x7F != 0) {
        return Ok(Vec::new());
    }
    let used = entries.iter().filter(|entry| entry.kind != EMPTY);
    Ok(used.map(|entry| Kind::Mbr { kind: entry.kind }).collect())
}

#[derive(Debug, Clone, Copy)]
struct MbrEntry {
    flags: u8,
    kind: u8,
    first_sector: u32,
    sectors: u32,
}

impl MbrEntry {
    fn volume(self, disk: &Arc<dyn BlockRead>, number: u32, base: u64) -> Option<Volume> {
        let start = (base + u64::from(self.first_sector)) * SECTORS[0];
        let size = u64::from(self.sectors) * SECTORS[0];
        let present = self.kind != EMPTY && size > 0 && start > 0 && start < disk.size();
        present.then(|| Volume::partition(disk, number, start, size))
    }
}

fn mbr_entries(sector: &[u8; 512]) -> [MbrEntry; 4] {
    std::array::from_fn(|index| {
        let entry: &[u8] = &sector[446 + index * 16..][..16];
        MbrEntry {
            flags: entry[0],
            kind: entry[4],
            first_sector: u32_le(entry, 8),
            sectors: u32_le(entry, 12),
        }
    })
}

/// Logical partitions: each link of the chain holds one, relative to itself, and the place of
/// the next link, relative to the extended partition.
fn logical(
    disk: &Arc<dyn BlockRead>,
    extended: &MbrEntry,
    volumes: &mut Vec<Volume>,
) -> Result<(), DiskError> {
    let base = u64::from(extended.first_sector);
    let mut link = base;
    for number in 5..5 + MAX_LOGICAL {
        let Some(sector) = read_structure::<512>(&**disk, link * SECTORS[0])? else {
            return Err(damaged_mbr(format!(
                "the chain of logical partitions leaves the disk at sector {link}"
            )));
        };
        if sector[510..] != [0x55, 0xAA] {
            return Ok(());
        }
        let [partition, next, ..] = mbr_entries(&sector);
        volumes.extend(partition.volume(disk, number, link));
        if !EXTENDED.contains(&next.kind) || next.first_sector == 0 {
            return Ok(());
        }
        let following = base + u64::from(next.first_sector);
        // Tools write the chain in any order, but a chain that returns never ends.
        if following == link || following == base {
            return Err(damaged_mbr("the chain of logical partitions is a loop".to_owned()));
        }
        link = following;
    }
    Err(damaged_mbr(format!("there are more than {MAX_LOGICAL} logical partitions, or a loop")))
}

fn damaged_mbr(reason: String) -> DiskError {
    DiskError::PartitionTable { table: "MBR", reason }
}

fn gpt(disk: &Arc<dyn BlockRead>) -> Result<Vec<Volume>, DiskError> {
    let entries = gpt_entries(disk)?.into_iter();
    Ok(entries.filter_map(|entry| entry.volume(disk)).collect())
}

/// An entry of a GPT that is in use.
#[derive(Debug, Clone, Copy)]
struct GptEntry {
    number: u32,
    guid: [u8; 16],
    attributes: u64,
    first: u64,
    last: u64,
    sector: u64,
}

impl GptEntry {
    fn read(number: u32, entry: &[u8], sector: u64) -> Self {
        let mut guid = [0; 16];
        guid.copy_from_slice(&entry[..16]);
        let (first, last) = (u64_le(entry, 32), u64_le(entry, 40));
        Self { number, guid, attributes: u64_le(entry, 48), first, last, sector }
    }

    fn volume(&self, disk: &Arc<dyn BlockRead>) -> Option<Volume> {
        let start = self.first.checked_mul(self.sector)?;
        let size = self.last.checked_sub(self.first)?.checked_add(1)?.checked_mul(self.sector)?;
        (start > 0 && start < disk.size())
            .then(|| Volume::partition(disk, self.number, start, size))
    }
}

/// Reads the table at the disk's beginning, or its copy at the end.
fn gpt_entries(disk: &Arc<dyn BlockRead>) -> Result<Vec<GptEntry>, DiskError> {
    let mut reason = "there is no header".to_owned();
    for sector in SECTORS {
        let last = (disk.size() / sector).saturating_sub(1);
        for place in [1, last] {
            match gpt_at(disk, sector, place)? {
                Ok(entries) => return Ok(entries),
                Err(Fault::Absent) => {}
                Err(Fault::Damaged(fault)) => reason = fault,
            }
        }
    }
    Err(DiskError::PartitionTable { table: "GPT", reason })
}

/// Why a place holds no usable table.
enum Fault {
    Absent,
    Damaged(String),
}

fn gpt_at(
    disk: &Arc<dyn BlockRead>,
    sector: u64,
    place: u64,
) -> Result<Result<Vec<GptEntry>, Fault>, DiskError> {
    let Some(header) = read_structure::<512>(&**disk, place.saturating_mul(sector))? else {
        return Ok(Err(Fault::Absent));
    };
    if !header.starts_with(b"EFI PART") {
        return Ok(Err(Fault::Absent));
    }
    let length = u32_le(&header, 12);
    let in_bounds = usize::try_from(length).ok().filter(|length| (92..=512).contains(length));
    let Some(length) = in_bounds else {
        return Ok(Err(Fault::Damaged(format!("the header claims {length} bytes"))));
    };
    let mut unsigned = header;
    unsigned[16..20].fill(0);
    if crc32(&unsigned[..length]) != u32_le(&header, 16) {
        return Ok(Err(Fault::Damaged("the header's checksum is wrong".to_owned())));
    }
    let (count, size) = (u32_le(&header, 80), u32_le(&header, 84));
    if count > MAX_GPT_ENTRIES || !(128..=MAX_GPT_ENTRY_SIZE).contains(&size) {
        return Ok(Err(Fault::Damaged(format!("it claims {count} entries of {size} bytes"))));
    }
    let start = u64_le(&header, 72).saturating_mul(sector);
    let mut table = vec![0; usize::try_from(u64::from(count) * u64::from(size)).unwrap_or(0)];
    if start.checked_add(table.len() as u64).is_none_or(|end| end > disk.size()) {
        return Ok(Err(Fault::Damaged(format!(
            "its entries lie at {start}, behind the disk's end"
        ))));
    }
    disk.read_at(start, &mut table)?;
    if crc32(&table) != u32_le(&header, 88) {
        return Ok(Err(Fault::Damaged("the checksum of its entries is wrong".to_owned())));
    }
    let entries = table.chunks_exact(usize::try_from(size).unwrap_or(128));
    let used = (1..)
        .zip(entries)
        .filter(|(_, entry)| entry[..16] != [0; 16])
        .map(|(number, entry)| GptEntry::read(number, entry, sector));
    Ok(Ok(used.collect()))
}

/// CRC-32 of IEEE 802.3, as GPT uses it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u32_le(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_le(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_le(bytes, at)) | u64::from(u32_le(bytes, at + 4)) << 32
}
