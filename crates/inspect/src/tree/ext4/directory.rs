//! Directory entries.
//!
//! Hashed directories keep their index in entries that look empty, so walking all blocks in
//! order finds every name in them too.

use super::Damage;
use super::superblock::TypedEntries;

/// Whether to go on with the next entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    On,
    Stop,
}

/// Walks the entries of all blocks.
pub(super) fn walk(
    content: &[u8],
    block_size: usize,
    typed: TypedEntries,
    each: &mut dyn FnMut(&[u8], u32) -> Walk,
) -> Result<(), Damage> {
    for block in content.chunks(block_size) {
        if walk_block(block, typed, each)? == Walk::Stop {
            break;
        }
    }
    Ok(())
}

/// Walks a directory that lies in its inode: four bytes name the parent, then entries in two
/// pieces, the first up to the 60 bytes of `i_block`.
pub(super) fn walk_inline(
    content: &[u8],
    typed: TypedEntries,
    each: &mut dyn FnMut(&[u8], u32) -> Walk,
) -> Result<(), Damage> {
    let (first, second) = content.split_at(content.len().min(60));
    let first = first.get(4..).unwrap_or_default();
    if walk_block(first, typed, each)? == Walk::On {
        walk_block(second, typed, each)?;
    }
    Ok(())
}

fn walk_block(
    block: &[u8],
    typed: TypedEntries,
    each: &mut dyn FnMut(&[u8], u32) -> Walk,
) -> Result<Walk, Damage> {
    let mut rest = block;
    while let Some(head) = rest.first_chunk::<8>() {
        let inode = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let length = match u16::from_le_bytes([head[4], head[5]]) {
            // The whole of a 64 KiB block does not fit in 16 bits.
            0 | 0xFFFF if block.len() >= 0x1_0000 => rest.len(),
            length => usize::from(length),
        };
        let name_length = match typed {
            TypedEntries::Yes => usize::from(head[6]),
            TypedEntries::No => usize::from(u16::from_le_bytes([head[6], head[7]])),
        };
        if length < 8 + name_length || length > rest.len() {
            return Err(format!(
                "a directory entry of {length} bytes with a name of {name_length} does not fit"
            ));
        }
        let (entry, after) = rest.split_at(length);
        let name = &entry[8..8 + name_length];
        if inode != 0 && !name.is_empty() && each(name, inode) == Walk::Stop {
            return Ok(Walk::Stop);
        }
        rest = after;
    }
    Ok(Walk::On)
}
