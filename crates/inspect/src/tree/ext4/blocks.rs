//! From a file's blocks to those of the disk: extent trees (ext4) and block maps (ext2, ext3).

use super::inode::Inode;
use super::{Damage, Ext4Tree};

const EXTENT_MAGIC: u16 = 0xF30A;

/// The kernel's own limit (`EXT4_MAX_EXTENT_DEPTH`).
const MAX_DEPTH: u16 = 5;

/// Longer extents are allocated but not written yet: they read as zero.
const MAX_WRITTEN: u16 = 32768;

/// Some blocks of a file that are alike: contiguous on the disk, or a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block on the disk; `None` reads as zero.
    pub(super) physical: Option<u64>,
    /// How many; at least one.
    pub(super) length: u64,
}

/// The whole content; the caller has checked that its size can be borne.
pub(super) fn content(tree: &Ext4Tree, inode: &Inode) -> Result<Vec<u8>, Damage> {
    let size = usize::try_from(inode.size).map_err(|_| "it is too large".to_owned())?;
    let mut content = vec![0; size];
    let mut rest = content.as_mut_slice();
    let mut logical = 0;
    while !rest.is_empty() {
        let run = run_at(tree, inode, logical)?;
        let bytes = run.length.saturating_mul(tree.superblock.block_size);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(rest.len());
        let (piece, after) = rest.split_at_mut(length);
        if let Some(physical) = run.physical {
            tree.read_blocks(physical, piece)?;
        }
        logical += run.length;
        rest = after;
    }
    Ok(content)
}

/// What a file has from its block `logical` on.
pub(super) fn run_at(tree: &Ext4Tree, inode: &Inode, logical: u64) -> Result<Run, Damage> {
    let logical = u32::try_from(logical)
        .map_err(|_| format!("inode {} has no block {logical}", inode.number))?;
    if inode.has_extents() {
        extent_at(tree, inode, logical)
    } else {
        mapped_at(tree, inode, logical)
    }
}

/// Descends the extent tree: in each node the last entry that begins at or before the block.
fn extent_at(tree: &Ext4Tree, inode: &Inode, logical: u32) -> Result<Run, Damage> {
    let damaged = |reason: &str| format!("the extents of inode {} {reason}", inode.number);
    let mut block;
    let mut node: &[u8] = &inode.block;
    let mut depth_above = None;
    // Where the next extent of this node, or of one above, begins: a hole ends there.
    let mut next = u64::from(u32::MAX) + 1;
    loop {
        let header = node.first_chunk::<12>().ok_or_else(|| damaged("are cut off"))?;
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (magic, count, depth) = (word(0), usize::from(word(2)), word(6));
        if magic != EXTENT_MAGIC || depth > MAX_DEPTH {
            return Err(damaged("are no extents"));
        }
        if depth_above.is_some_and(|above: u16| above.checked_sub(1) != Some(depth)) {
            return Err(damaged("do not get nearer to the ground"));
        }
        let (entries, _) = node[12..].as_chunks::<12>();
        let entries = entries.get(..count).ok_or_else(|| damaged("are more than there is room"))?;
        let at_or_before = entries.iter().rposition(|entry| first_block(entry) <= logical);
        let following = at_or_before.map_or(0, |at| at + 1);
        if let Some(entry) = entries.get(following) {
            next = next.min(u64::from(first_block(entry)));
        }
        let hole = Run { physical: None, length: next.saturating_sub(u64::from(logical)).max(1) };
        let Some(entry) = at_or_before.map(|at| &entries[at]) else { return Ok(hole) };
        if depth == 0 {
            return Ok(leaf(entry, logical).unwrap_or(hole));
        }
        let child = u64::from(u16::from_le_bytes([entry[8], entry[9]])) << 32
            | u64::from(u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]));
        depth_above = Some(depth);
        block = tree.block(child)?;
        node = &block;
    }
}

fn first_block(entry: &[u8; 12]) -> u32 {
    u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]])
}

/// The rest of an extent from a block on; `None` where it ends before.
fn leaf(entry: &[u8; 12], logical: u32) -> Option<Run> {
    let stated = u16::from_le_bytes([entry[4], entry[5]]);
    let (length, written) =
        if stated > MAX_WRITTEN { (stated - MAX_WRITTEN, false) } else { (stated, true) };
    let offset = logical - first_block(entry);
    let length = u64::from(length).checked_sub(u64::from(offset)).filter(|&left| left > 0)?;
    let start = u64::from(u16::from_le_bytes([entry[6], entry[7]])) << 32
        | u64::from(u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]));
    let physical = written.then(|| start + u64::from(offset));
    Some(Run { physical, length })
}

/// Follows the block map: twelve direct pointers, then one, two and three levels of tables.
fn mapped_at(tree: &Ext4Tree, inode: &Inode, logical: u32) -> Result<Run, Damage> {
    let pointer = |at: usize| -> u64 {
        let bytes = &inode.block[at * 4..at * 4 + 4];
        u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let per_table = tree.superblock.block_size / 4;
    let mut index = u64::from(logical);
    if let Some(direct) = usize::try_from(index).ok().filter(|&index| index < 12) {
        return Ok(single(pointer(direct)));
    }
    index -= 12;
    let mut reach = per_table;
    for level in 1..=3_u32 {
        if index < reach {
            return through_tables(tree, pointer(11 + level as usize), index, level, per_table);
        }
        index -= reach;
        reach = reach.saturating_mul(per_table);
    }
    Err(format!("inode {} has no block {logical}", inode.number))
}

fn through_tables(
    tree: &Ext4Tree,
    top: u64,
    index: u64,
    levels: u32,
    per_table: u64,
) -> Result<Run, Damage> {
    let mut table = top;
    for level in (0..levels).rev() {
        let span = per_table.pow(level);
        if table == 0 {
            // The whole table is missing: a hole to its end.
            let spanned = span * per_table;
            return Ok(Run { physical: None, length: spanned - index % spanned });
        }
        let block = tree.block(table)?;
        let at = usize::try_from(index / span % per_table).unwrap_or(usize::MAX).saturating_mul(4);
        let entry = block.get(at..).and_then(|rest| rest.first_chunk::<4>());
        table = entry.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    }
    Ok(single(table))
}

fn single(block: u64) -> Run {
    Run { physical: (block != 0).then_some(block), length: 1 }
}
