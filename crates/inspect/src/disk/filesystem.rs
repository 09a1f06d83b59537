//! Recognising what a volume holds by its magic numbers.

use super::{BlockRead, DiskError, read_structure};

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// ext2, ext3 or ext4.
    Ext,
    /// Something that may hold a system and is not read, by its name.
    Unread(&'static str),
    /// Something that holds no system (swap, an EFI system partition).
    NoSystem(&'static str),
    /// Nothing known.
    Unknown,
}

/// A magic number at its place.
struct Magic {
    offset: u64,
    bytes: &'static [u8],
    content: Content,
}

const MAGICS: [Magic; 19] = [
    Magic { offset: 1024 + 56, bytes: &[0x53, 0xEF], content: Content::Ext },
    Magic { offset: 0, bytes: b"XFSB", content: Content::Unread("an XFS filesystem") },
    Magic { offset: 0x10040, bytes: b"_BHRfS_M", content: Content::Unread("a Btrfs filesystem") },
    Magic {
        offset: 512 + 24,
        bytes: b"LVM2 001",
        content: Content::Unread("an LVM physical volume"),
    },
    Magic { offset: 24, bytes: b"LVM2 001", content: Content::Unread("an LVM physical volume") },
    Magic {
        offset: 0,
        bytes: b"LUKS\xBA\xBE",
        content: Content::Unread("a LUKS encrypted volume"),
    },
    Magic { offset: 3, bytes: b"NTFS    ", content: Content::Unread("an NTFS filesystem") },
    Magic {
        offset: 3,
        bytes: b"-FVE-FS-",
        content: Content::Unread("a BitLocker encrypted volume"),
    },
    Magic { offset: 0, bytes: b"hsqs", content: Content::Unread("a SquashFS filesystem") },
    Magic {
        offset: 1024,
        bytes: &[0xE2, 0xE1, 0xF5, 0xE0],
        content: Content::Unread("an EROFS filesystem"),
    },
    Magic {
        offset: 1024,
        bytes: &[0x10, 0x20, 0xF5, 0xF2],
        content: Content::Unread("an F2FS filesystem"),
    },
    Magic {
        offset: 4096,
        bytes: &[0xFC, 0x4E, 0x2B, 0xA9],
        content: Content::Unread("a member of a Linux software RAID"),
    },
    Magic {
        offset: 4096 + 8,
        bytes: b"\x0C\xB1\xBA\0\0\0\0\0",
        content: Content::Unread("a ZFS pool"),
    },
    Magic { offset: 32769, bytes: b"CD001", content: Content::Unread("an ISO 9660 filesystem") },
    Magic { offset: 4086, bytes: b"SWAPSPACE2", content: Content::NoSystem("swap space") },
    Magic { offset: 65526, bytes: b"SWAPSPACE2", content: Content::NoSystem("swap space") },
    Magic { offset: 82, bytes: b"FAT32   ", content: Content::NoSystem("a FAT filesystem") },
    Magic { offset: 54, bytes: b"FAT16   ", content: Content::NoSystem("a FAT filesystem") },
    Magic { offset: 54, bytes: b"FAT12   ", content: Content::NoSystem("a FAT filesystem") },
];

/// Looks at the magic numbers; the first that fits decides.
pub(super) fn recognise(volume: &dyn BlockRead) -> Result<Content, DiskError> {
    for magic in &MAGICS {
        let Some(found) = read_structure::<10>(volume, magic.offset)? else { continue };
        if found.starts_with(magic.bytes) {
            return Ok(magic.content);
        }
    }
    Ok(Content::Unknown)
}

impl Content {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext => "an ext filesystem",
            Self::Unread(name) | Self::NoSystem(name) => name,
            Self::Unknown => "nothing known",
        }
    }
}
