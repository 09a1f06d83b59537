//! Replaying a journal in memory (jbd2, kernel documentation `filesystems/ext4/journal.rst`).
//!
//! A disk copied from a running or crashed VM has its newest metadata in the journal only. The
//! transactions that were committed are collected as "block X is newer at Y"; nothing is written.

use std::collections::{BTreeMap, HashMap};

use super::inode::Inode;
use super::{Damage, Ext4Tree, blocks};
use crate::disk::BlockRead;

const MAGIC: u32 = 0xC03B_3998;

/// Block types.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

/// Features of the journal (`s_feature_incompat`).
const WIDE: u32 = 0x2;
const CHECKSUM_2: u32 = 0x8;
const CHECKSUM_3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
const KNOWN: u32 = 0x1 | WIDE | 0x4 | CHECKSUM_2 | CHECKSUM_3 | FAST_COMMIT;

/// Flags of a tag.
const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST: u32 = 8;

/// Journals have at most 10 GiB in practice; this many blocks of 4 KiB are 16 GiB.
const MAX_BLOCKS: u32 = 4 << 20;

/// Where the newer content of a block lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newer {
    place: u64,
    /// The journal replaces a magic number at the beginning of data, to tell it from its own.
    escaped: bool,
}

impl Newer {
    pub(super) fn read(
        self,
        disk: &dyn BlockRead,
        block_size: u64,
        content: &mut [u8],
    ) -> Result<(), Damage> {
        disk.read_at(self.place.saturating_mul(block_size), content)
            .map_err(|error| error.to_string())?;
        if self.escaped
            && let Some(start) = content.first_chunk_mut::<4>()
        {
            *start = MAGIC.to_be_bytes();
        }
        Ok(())
    }
}

/// All blocks that the journal has newer.
#[derive(Debug, Default)]
pub(super) struct Replay {
    newer: BTreeMap<u64, Newer>,
}

impl Replay {
    pub(super) fn within(&self, first: u64, end: u64) -> impl Iterator<Item = (u64, Newer)> + '_ {
        self.newer.range(first..end).map(|(&block, &newer)| (block, newer))
    }
}

/// Reads the journal in `inode`; says with it what the reader should know.
pub(super) fn replay(tree: &Ext4Tree, inode: u32) -> Result<(Replay, Vec<String>), Damage> {
    let inode = tree.inode(inode)?;
    let Some(mut reader) = Reader::open(tree, &inode)? else {
        return Ok((Replay::default(), Vec::new()));
    };
    let mut notes = Vec::new();
    if reader.features & FAST_COMMIT != 0 {
        notes.push(
            "the filesystem was in use (fast commits): the last seconds before the copy may be missing"
                .to_owned(),
        );
    }
    Ok((reader.walk()?, notes))
}

struct Reader<'a> {
    tree: &'a Ext4Tree,
    inode: &'a Inode,
    features: u32,
    first: u32,
    end: u32,
    position: u32,
    sequence: u32,
}

/// What a transaction wants replaced.
struct Replacement {
    block: u64,
    sequence: u32,
    newer: Newer,
}

impl<'a> Reader<'a> {
    /// `None` where the journal is empty.
    fn open(tree: &'a Ext4Tree, inode: &'a Inode) -> Result<Option<Self>, Damage> {
        let place = journal_block(tree, inode, 0)?;
        let block = tree.block(place)?;
        let u32_at = |at: usize| be32(&block, at).ok_or("the journal's superblock is cut off");
        if u32_at(0)? != MAGIC || u64::from(u32_at(0xC)?) != tree.superblock.block_size {
            return Err("the journal has no superblock".to_owned());
        }
        // Version 1 (block type 3) has no features.
        let features = if u32_at(4)? == 4 { u32_at(0x28)? } else { 0 };
        if features & !KNOWN != 0 {
            return Err(format!("the journal uses features that are not known ({features:#x})"));
        }
        let (end, first, sequence, start) =
            (u32_at(0x10)?, u32_at(0x14)?, u32_at(0x18)?, u32_at(0x1C)?);
        if start == 0 {
            return Ok(None);
        }
        // Fast commits live at the journal's end, outside the ring.
        let fast = match (features & FAST_COMMIT, u32_at(0x54)?) {
            (0, _) => 0,
            (_, 0) => 256,
            (_, stated) => stated,
        };
        let end = end.min(MAX_BLOCKS).saturating_sub(fast);
        if first == 0 || first >= end || start < first || start >= end {
            return Err(format!("the journal spans {first} to {end} and starts at {start}"));
        }
        Ok(Some(Self { tree, inode, features, first, end, position: start, sequence }))
    }

    fn walk(&mut self) -> Result<Replay, Damage> {
        let mut committed: Vec<Replacement> = Vec::new();
        let mut revoked: HashMap<u64, u32> = HashMap::new();
        let mut pending: Vec<Replacement> = Vec::new();
        let mut pending_revokes: Vec<u64> = Vec::new();
        // The ring is walked once at most.
        let mut left = self.end - self.first;
        while left > 0 {
            left -= 1;
            let block = self.tree.block(self.advance()?)?;
            if be32(&block, 0) != Some(MAGIC) || be32(&block, 8) != Some(self.sequence) {
                break;
            }
            match be32(&block, 4) {
                Some(DESCRIPTOR) => {
                    let before = pending.len();
                    self.descriptor(&block, &mut pending, left)?;
                    left =
                        left.saturating_sub(u32::try_from(pending.len() - before).unwrap_or(left));
                }
                Some(REVOKE) => self.revocations(&block, &mut pending_revokes),
                Some(COMMIT) => {
                    committed.append(&mut pending);
                    // A block freed in this transaction must not come back from an earlier one.
                    for block in pending_revokes.drain(..) {
                        revoked.insert(block, self.sequence);
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        let newer = committed
            .into_iter()
            .filter(|wanted| {
                revoked.get(&wanted.block).is_none_or(|&revoked| is_later(wanted.sequence, revoked))
            })
            .map(|wanted| (wanted.block, wanted.newer))
            .collect();
        Ok(Replay { newer })
    }

    /// The present block's place on the disk; goes on to the next, around the ring.
    fn advance(&mut self) -> Result<u64, Damage> {
        let place = journal_block(self.tree, self.inode, self.position)?;
        self.position += 1;
        if self.position >= self.end {
            self.position = self.first;
        }
        Ok(place)
    }

    /// Tags, each for one of the blocks that follow.
    fn descriptor(
        &mut self,
        block: &[u8],
        pending: &mut Vec<Replacement>,
        most: u32,
    ) -> Result<(), Damage> {
        let wide = self.features & WIDE != 0;
        let tag_size = if self.features & CHECKSUM_3 != 0 {
            16
        } else {
            8 + if wide { 4 } else { 0 } + if self.features & CHECKSUM_2 != 0 { 2 } else { 0 }
        };
        let mut at = 12;
        for _ in 0..most {
            let Some(tag) = block.get(at..).and_then(|rest| rest.get(..tag_size)) else { break };
            let word = |at: usize| be32(tag, at).unwrap_or(0);
            let (flags, high) = if self.features & CHECKSUM_3 != 0 {
                (word(4), word(8))
            } else {
                (word(4) & 0xFFFF, if wide { word(8) } else { 0 })
            };
            let high = if wide { u64::from(high) } else { 0 };
            let newer = Newer { place: self.advance()?, escaped: flags & ESCAPED != 0 };
            pending.push(Replacement {
                block: high << 32 | u64::from(word(0)),
                sequence: self.sequence,
                newer,
            });
            at += tag_size + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(())
    }

    fn revocations(&self, block: &[u8], revoked: &mut Vec<u64>) {
        let used = be32(block, 12).and_then(|used| usize::try_from(used).ok()).unwrap_or(0);
        let listed = block.get(16..used.min(block.len())).unwrap_or_default();
        let wide = self.features & WIDE != 0;
        for entry in listed.chunks_exact(if wide { 8 } else { 4 }) {
            let first = u64::from(be32(entry, 0).unwrap_or(0));
            let second = be32(entry, 4).map(u64::from);
            revoked.push(second.map_or(first, |low| first << 32 | low));
        }
    }
}

/// Transaction numbers wrap around.
fn is_later(sequence: u32, than: u32) -> bool {
    let ahead = sequence.wrapping_sub(than);
    ahead != 0 && ahead < 1 << 31
}

fn journal_block(tree: &Ext4Tree, inode: &Inode, logical: u32) -> Result<u64, Damage> {
    blocks::run_at(tree, inode, u64::from(logical))?
        .physical
        .ok_or_else(|| format!("the journal has a hole at its block {logical}"))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_be_bytes(*word))
}
