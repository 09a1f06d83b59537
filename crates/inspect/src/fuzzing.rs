//! Ways in for fuzzers: whole parsers, fed with bytes. No part of the public face.

use std::io::Write;
use std::path::Path;

use domain::files::FileView;

use crate::disk::{BlockRead, DiskError, Qcow2Disk};
use crate::tree::{Ext4Tree, Tree};
use crate::{TargetKind, open};

/// Images may claim any size; what is read of them is bounded here as by real callers.
const READ: u64 = 4 << 20;

/// A disk of bytes in memory.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl BlockRead for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let piece = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..)?.get(..buffer.len()))
            .ok_or(DiskError::OutOfRange {
                offset,
                length: buffer.len() as u64,
                size: self.size(),
            })?;
        buffer.copy_from_slice(piece);
        Ok(())
    }
}

/// Reads a qcow2 image's beginning, middle and end, and tells which firmware boots it.
pub fn qcow2(image: &[u8]) {
    with_file(image, |path| {
        let _ = crate::firmware_of(path);
        let Ok(disk) = Qcow2Disk::open(path) else { return };
        let size = disk.size();
        for start in [0, size / 2, size.saturating_sub(READ)] {
            let length = usize::try_from(READ.min(size - start)).unwrap_or(0);
            let _ = disk.read_at(start, &mut vec![0; length]);
        }
    });
}

/// Lists and reads the files of an ext filesystem.
pub fn ext4(image: &[u8]) {
    let Ok(tree) = Ext4Tree::open(Box::new(Memory(image.to_vec()))) else { return };
    let tree = Tree(tree);
    for directory in ["/", "/etc", "/usr/lib/modules"] {
        let _ = tree.list(directory);
    }
    for file in ["/etc/os-release", "/var/lib/dpkg/status", "/etc/link", "/../etc/apt/sources.list"]
    {
        let _ = tree.read(file, READ);
    }
}

/// Opens a container image's archive and reads its inventory.
pub fn container(archive: &[u8]) {
    with_file(archive, |path| {
        for kind in [TargetKind::OciArchive, TargetKind::DockerArchive] {
            if let Ok(target) = open(path, Some(kind)) {
                let _ = target.inventory();
            }
        }
    });
}

/// A layer's tar archive alone: digests would stop a fuzzer before it gets there.
pub fn layer(archive: &[u8]) {
    crate::image::merge_unchecked(archive);
}

fn with_file(content: &[u8], read: impl FnOnce(&Path)) {
    if let Ok(mut file) = tempfile::NamedTempFile::new()
        && file.write_all(content).is_ok()
    {
        read(file.path());
    }
}
