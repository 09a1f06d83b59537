//! What a path holds, by its looks.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::disk::is_qcow2;
use crate::target::TargetKind;

/// The looks of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recognised {
    /// It can be opened as this.
    Kind(TargetKind),
    /// An archive; which image is in it shows when its members are known.
    Archive,
    /// Known, and not read.
    Unread {
        /// What it is, with its article.
        what: &'static str,
        /// What to do.
        help: &'static str,
    },
}

const CONVERT: &str = "`qemu-img convert -O qcow2 IMAGE NEW.qcow2` makes an image that is read";
const UNPACK: &str = "unpack it first";
const NAME_A_SYSTEM: &str =
    "name a root directory, a disk image (raw, qcow2) or a container image (OCI, docker save)";

/// Magic numbers of what is not read.
const UNREAD: [(usize, &[u8], &str, &str); 9] = [
    (0, b"KDMV", "a VMDK disk image", CONVERT),
    (0, b"# Disk DescriptorFile", "a VMDK disk image", CONVERT),
    (0, b"vhdxfile", "a VHDX disk image", CONVERT),
    (0, b"conectix", "a VHD disk image", CONVERT),
    (0x40, b"\x7F\x10\xDA\xBE", "a VirtualBox disk image", CONVERT),
    (0, b"\xFD7zXZ\0", "a file compressed with xz", UNPACK),
    (0, b"BZh", "a file compressed with bzip2", UNPACK),
    (0, b"PK\x03\x04", "a ZIP archive", UNPACK),
    (0, b"!<arch>\n", "a Debian package or another ar archive", NAME_A_SYSTEM),
];

/// Looks at a path; nothing but the first bytes of a file is read.
pub(crate) fn recognise(path: &Path) -> Result<Recognised, io::Error> {
    let canonical = path.canonicalize()?;
    if canonical == Path::new("/") {
        return Ok(Recognised::Kind(TargetKind::LiveRoot));
    }
    if canonical.is_dir() {
        let is_layout =
            canonical.join("oci-layout").is_file() && canonical.join("index.json").is_file();
        let kind = if is_layout { TargetKind::OciLayout } else { TargetKind::Directory };
        return Ok(Recognised::Kind(kind));
    }
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&canonical)?;
    let kind = file.metadata()?.file_type();
    if kind.is_block_device() {
        return Ok(Recognised::Kind(TargetKind::RawDisk));
    }
    if !kind.is_file() {
        return Ok(Recognised::Unread { what: "no file and no directory", help: NAME_A_SYSTEM });
    }
    let mut start = [0; 512];
    let length = file.read_at(&mut start, 0)?;
    Ok(by_content(&start[..length]))
}

fn by_content(start: &[u8]) -> Recognised {
    if is_qcow2(start) {
        return Recognised::Kind(TargetKind::Qcow2Disk);
    }
    for (offset, magic, what, help) in UNREAD {
        if start.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Recognised::Unread { what, help };
        }
    }
    let is_tar = start.get(257..).is_some_and(|rest| rest.starts_with(b"ustar"));
    match start {
        [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD, ..] => Recognised::Archive,
        _ if is_tar => Recognised::Archive,
        [] => Recognised::Unread { what: "an empty file", help: NAME_A_SYSTEM },
        _ => Recognised::Kind(TargetKind::RawDisk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_decide() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");

        assert_eq!(by_content(b"QFI\xFB\0\0\0\x03"), Recognised::Kind(TargetKind::Qcow2Disk));
        assert_eq!(by_content(&tar), Recognised::Archive);
        assert_eq!(by_content(b"\x1F\x8B\x08"), Recognised::Archive);
        assert_eq!(by_content(&[0; 512]), Recognised::Kind(TargetKind::RawDisk));
        let Recognised::Unread { what, help } = by_content(b"KDMV....") else { panic!() };
        assert!(what.contains("VMDK") && help.contains("qemu-img convert"));
    }
}
