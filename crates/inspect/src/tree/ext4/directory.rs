//! Directory entries.
//!
//! Hashed directories keep their index in entries that look empty, so walking all blocks in
//! order finds every name in them too.

use std::collections::HashMap;

use super::Damage;
use super::superblock::TypedEntries;

/// Names with the numbers of their inodes.
pub(super) type Names = HashMap<Vec<u8>, u32>;

/// The names in all blocks.
pub(super) fn names(
    content: &[u8],
    block_size: usize,
    typed: TypedEntries,
) -> Result<Names, Damage> {
    let mut names = Names::new();
    for block in content.chunks(block_size) {
        take_block(block, typed, &mut names)?;
    }
    Ok(names)
}

/// The names in a directory that lies in its inode: four bytes name the parent, then entries in
/// two pieces, the first up to the 60 bytes of `i_block`.
pub(super) fn inline_names(content: &[u8], typed: TypedEntries) -> Result<Names, Damage> {
    let mut names = Names::new();
    let (first, second) = content.split_at(content.len().min(60));
    take_block(first.get(4..).unwrap_or_default(), typed, &mut names)?;
    take_block(second, typed, &mut names)?;
    Ok(names)
}

fn take_block(block: &[u8], typed: TypedEntries, names: &mut Names) -> Result<(), Damage> {
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
        if inode != 0 && !name.is_empty() {
            names.entry(name.to_vec()).or_insert(inode);
        }
        rest = after;
    }
    Ok(())
}
