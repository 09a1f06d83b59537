//! The superblock and where block groups keep their descriptors.

use super::Damage;
use crate::disk::BlockRead;

/// The superblock begins 1 KiB into the filesystem, whatever the block size.
const OFFSET: u64 = 1024;
const MAGIC: u16 = 0xEF53;

/// Features that must be understood to read at all (`s_feature_incompat`).
const TYPED_ENTRIES: u32 = 0x2;
const RECOVER: u32 = 0x4;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;
/// ... with those that change nothing for us: extents, multi-mount protection, flexible groups,
/// values in inodes, checksum seed, large directories, inline data, encryption, case folding.
const HARMLESS: u32 = 0x40 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;

const HAS_JOURNAL: u32 = 0x4;
const SPARSE_SUPERBLOCKS_2: u32 = 0x200;
const SPARSE_SUPERBLOCKS: u32 = 0x1;

/// What reading needs to know of the superblock; everything in it has been checked.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) block_size: u64,
    /// Number of blocks.
    pub(super) blocks: u64,
    /// Number of inodes.
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: usize,
    /// Whether a directory entry says what it names.
    pub(super) typed_entries: TypedEntries,
    /// The journal's inode, where there is something in it that was not written to its place.
    pub(super) journal_to_replay: Option<u32>,
    first_data_block: u64,
    blocks_per_group: u64,
    descriptor_size: u64,
    meta: Option<MetaGroups>,
}

/// How long a directory entry's name may be stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypedEntries {
    /// One byte of length, one of type.
    Yes,
    /// Two bytes of length (early ext2).
    No,
}

/// Descriptors spread over the disk (`meta_bg`).
#[derive(Debug)]
struct MetaGroups {
    first: u64,
    copies: SuperblockCopies,
}

/// Which groups begin with a copy of the superblock.
#[derive(Debug)]
enum SuperblockCopies {
    All,
    Sparse,
    Listed([u32; 2]),
}

impl Superblock {
    pub(super) fn read(disk: &dyn BlockRead) -> Result<Self, Damage> {
        let mut bytes = [0; 1024];
        disk.read_at(OFFSET, &mut bytes).map_err(|error| error.to_string())?;
        Self::parse(&bytes, disk.size())
    }

    fn parse(bytes: &[u8; 1024], disk_size: u64) -> Result<Self, Damage> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        if u16_at(0x38) != MAGIC {
            return Err(format!("the superblock's magic number is {:#06x}", u16_at(0x38)));
        }
        let (compatible, incompatible, read_only) = (u32_at(0x5C), u32_at(0x60), u32_at(0x64));
        let unknown = incompatible & !(TYPED_ENTRIES | RECOVER | META_GROUPS | WIDE | HARMLESS);
        if unknown != 0 {
            return Err(format!("it uses features that are not known ({unknown:#x})"));
        }
        let log_block_size = u32_at(0x18);
        if log_block_size > 6 {
            return Err(format!(
                "blocks of 2^{} bytes are out of bounds",
                log_block_size.saturating_add(10)
            ));
        }
        let block_size = 1024 << log_block_size;
        let high = if incompatible & WIDE == 0 { 0 } else { u32_at(0x150) };
        let blocks = u64::from(high) << 32 | u64::from(u32_at(0x4));
        if blocks.checked_mul(block_size).is_none_or(|size| size > disk_size) {
            return Err(format!(
                "it has {blocks} blocks of {block_size} bytes, but its volume {disk_size} bytes"
            ));
        }
        // Revision 0 has no fields beyond 0x4C.
        let inode_size = if u32_at(0x4C) == 0 { 128 } else { usize::from(u16_at(0x58)) };
        if !(128..=4096).contains(&inode_size)
            || !inode_size.is_power_of_two()
            || inode_size as u64 > block_size
        {
            return Err(format!("inodes of {inode_size} bytes are out of bounds"));
        }
        let descriptor_size = if incompatible & WIDE == 0 { 32 } else { u64::from(u16_at(0xFE)) };
        if !(32..=1024).contains(&descriptor_size) || !descriptor_size.is_power_of_two() {
            return Err(format!("group descriptors of {descriptor_size} bytes are out of bounds"));
        }
        let (blocks_per_group, inodes_per_group) = (u32_at(0x20), u32_at(0x28));
        if blocks_per_group == 0 || inodes_per_group == 0 {
            return Err(format!(
                "a group has {blocks_per_group} blocks and {inodes_per_group} inodes"
            ));
        }
        let copies = if compatible & SPARSE_SUPERBLOCKS_2 != 0 {
            SuperblockCopies::Listed([u32_at(0x24C), u32_at(0x250)])
        } else if read_only & SPARSE_SUPERBLOCKS != 0 {
            SuperblockCopies::Sparse
        } else {
            SuperblockCopies::All
        };
        let dirty = compatible & HAS_JOURNAL != 0 && incompatible & RECOVER != 0;
        Ok(Self {
            block_size,
            blocks,
            inodes: u32_at(0),
            inodes_per_group,
            inode_size,
            typed_entries: if incompatible & TYPED_ENTRIES == 0 {
                TypedEntries::No
            } else {
                TypedEntries::Yes
            },
            journal_to_replay: dirty.then(|| u32_at(0xE0)),
            first_data_block: u64::from(u32_at(0x14)),
            blocks_per_group: u64::from(blocks_per_group),
            descriptor_size,
            meta: (incompatible & META_GROUPS != 0)
                .then(|| MetaGroups { first: u64::from(u32_at(0x104)), copies }),
        })
    }

    pub(super) fn block_size_usize(&self) -> usize {
        usize::try_from(self.block_size).unwrap_or(usize::MAX)
    }

    /// The block with the descriptor of `group`, and the descriptor's offset in it.
    pub(super) fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let group = u64::from(group);
        let per_block = self.block_size / self.descriptor_size;
        let at = usize::try_from(group % per_block * self.descriptor_size).unwrap_or(usize::MAX);
        let descriptor_block = group / per_block;
        let block = match &self.meta {
            Some(meta) if descriptor_block >= meta.first => {
                let first_group = descriptor_block * per_block;
                first_group
                    .saturating_mul(self.blocks_per_group)
                    .saturating_add(self.first_data_block)
                    .saturating_add(u64::from(meta.copies.has_copy(first_group)))
            }
            _ => self.first_data_block + 1 + descriptor_block,
        };
        (block, at)
    }

    /// The inode table's block as the descriptor at `at` says; `None` where that is cut off.
    pub(super) fn inode_table(&self, block: &[u8], at: usize) -> Option<u64> {
        let word = |offset: usize| -> Option<u64> {
            let bytes = block.get(at.checked_add(offset)?..)?.first_chunk::<4>()?;
            Some(u64::from(u32::from_le_bytes(*bytes)))
        };
        let high = if self.descriptor_size >= 64 { word(0x28)? } else { 0 };
        Some(high << 32 | word(0x8)?)
    }
}

impl SuperblockCopies {
    fn has_copy(&self, group: u64) -> bool {
        let is_power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        match self {
            _ if group == 0 => true,
            Self::All => true,
            Self::Sparse => group == 1 || [3, 5, 7].into_iter().any(is_power_of),
            Self::Listed(groups) => groups.iter().any(|&listed| u64::from(listed) == group),
        }
    }
}
