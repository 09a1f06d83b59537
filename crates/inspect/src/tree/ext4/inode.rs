//! Inodes: what a name stands for.

use super::Damage;

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE: u32 = 0x1000_0000;

/// Longest link target that lies in the inode itself.
const SHORT_TARGET: u64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
    Other,
}

/// An inode with what leads to its content.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(super) number: u32,
    pub(super) kind: Kind,
    /// Permission bits, in full.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Size in bytes as stated.
    pub(super) size: u64,
    flags: u32,
    /// `i_block`: pointers, the root of an extent tree, or content.
    pub(super) block: [u8; 60],
    /// What lies behind the fixed fields: attributes, one of which may hold content.
    pub(super) attributes: Vec<u8>,
}

impl Inode {
    pub(super) fn parse(number: u32, bytes: &[u8]) -> Result<Self, Damage> {
        let Some(fixed) = bytes.first_chunk::<128>() else {
            return Err(format!("inode {number} has only {} bytes", bytes.len()));
        };
        let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let kind = match u16_at(0) & 0xF000 {
            0x4000 => Kind::Directory,
            0x8000 => Kind::File,
            0xA000 => Kind::Link,
            _ => Kind::Other,
        };
        let mut block = [0; 60];
        block.copy_from_slice(&fixed[0x28..0x28 + 60]);
        let flags = u32_at(0x20);
        let attributes = if flags & FLAG_INLINE == 0 { Vec::new() } else { extra(bytes) };
        let size = u64::from(u32_at(0x6C)) << 32 | u64::from(u32_at(0x4));
        let mode = u32::from(u16_at(0) & 0x0FFF);
        // The high halves lie in the part that is the operating system's (`osd2`).
        let uid = u32::from(u16_at(0x2)) | u32::from(u16_at(0x78)) << 16;
        let gid = u32::from(u16_at(0x18)) | u32::from(u16_at(0x7A)) << 16;
        Ok(Self { number, kind, mode, uid, gid, size, flags, block, attributes })
    }

    /// Stands for the root until the real one was read.
    pub(super) fn empty_directory() -> Self {
        Self {
            number: 0,
            kind: Kind::Directory,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            flags: 0,
            block: [0; 60],
            attributes: Vec::new(),
        }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.flags & FLAG_ENCRYPTED != 0
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags & FLAG_INLINE != 0
    }

    pub(super) fn has_extents(&self) -> bool {
        self.flags & FLAG_EXTENTS != 0
    }

    /// The target of a short link, which lies where others have pointers.
    pub(super) fn short_target(&self) -> Option<&[u8]> {
        let short = self.size < SHORT_TARGET && self.flags & (FLAG_EXTENTS | FLAG_INLINE) == 0;
        let length = usize::try_from(self.size).ok()?;
        if short { self.block.get(..length) } else { None }
    }
}

/// The part of a large inode behind its extra fixed fields.
fn extra(bytes: &[u8]) -> Vec<u8> {
    let Some(size) = bytes.get(0x80..).and_then(|rest| rest.first_chunk::<2>()) else {
        return Vec::new();
    };
    let start = 128 + usize::from(u16::from_le_bytes(*size));
    bytes.get(start..).unwrap_or_default().to_vec()
}
