//! Backing images: what an overlay is laid over.
//!
//! The name of the backing file stands in the image, and whoever made the image chose it. Only
//! regular files are opened, never QEMU's protocols (`nbd:`, `json:`), and where an image does
//! not say in which format its backing file is, a probed qcow2 may not name a further one: a
//! guest could have written that header into its own raw disk.

use std::path::Path;

use super::header::NamedBacking;
use super::{Qcow2Disk, is_qcow2};
use crate::disk::raw::{Accept, RawDisk};
use crate::disk::{BlockRead, DiskError};

/// Longest chain; hypervisors rebase long before.
const MAX_DEPTH: usize = 32;

/// The images opened so far, top first.
#[derive(Debug, Default)]
pub(super) struct Chain {
    seen: Vec<(u64, u64)>,
}

impl Chain {
    pub(super) fn enter(&mut self, file: &RawDisk) -> Result<(), DiskError> {
        let refused = |reason: String| DiskError::Backing {
            path: file.path().to_owned(),
            backing: file.path().display().to_string(),
            reason,
        };
        if self.seen.contains(&file.identity()) {
            return Err(refused("the chain of backing files leads back to it".to_owned()));
        }
        if self.seen.len() == MAX_DEPTH {
            return Err(refused(format!("the chain of backing files is longer than {MAX_DEPTH}")));
        }
        self.seen.push(file.identity());
        Ok(())
    }
}

/// Whether an image may name a further one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Further {
    Allowed,
    /// It was recognised as qcow2 by its content alone.
    Refused,
}

/// Opens the backing file that the image at `path` names.
pub(super) fn open(
    path: &Path,
    named: &NamedBacking,
    further: Further,
    chain: &mut Chain,
    notes: &mut Vec<String>,
) -> Result<Box<dyn BlockRead>, DiskError> {
    let refused = |reason: String| DiskError::Backing {
        path: path.to_owned(),
        backing: named.name.clone(),
        reason,
    };
    if further == Further::Refused {
        return Err(refused(
            "no image says that the one naming it is qcow2, so a guest may have written that name"
                .to_owned(),
        ));
    }
    if let Some(protocol) = protocol(&named.name) {
        return Err(refused(format!("`{protocol}:` is not a file of this machine")));
    }
    let place = path.parent().unwrap_or(Path::new("")).join(&named.name);
    let raw = RawDisk::open(&place, Accept::File).map_err(|error| refused(error.to_string()))?;
    let image = match named.format.as_deref() {
        Some("qcow2") => Format::Qcow2,
        Some("raw" | "file" | "host_device") => Format::Raw,
        Some(other) => return Err(refused(format!("its format is `{other}`"))),
        None => probe(&raw)?,
    };
    match image {
        Format::Raw => {
            chain.enter(&raw)?;
            Ok(Box::new(raw))
        }
        Format::Qcow2 => {
            let further = if named.format.is_some() { Further::Allowed } else { Further::Refused };
            let disk = Qcow2Disk::open_in_chain(raw, further, chain)?;
            notes.extend(disk.notes().iter().cloned());
            Ok(Box::new(disk))
        }
    }
}

enum Format {
    Raw,
    Qcow2,
}

fn probe(raw: &RawDisk) -> Result<Format, DiskError> {
    let mut start = [0; 4];
    if raw.size() >= 4 {
        raw.read_at(0, &mut start)?;
    }
    Ok(if is_qcow2(&start) { Format::Qcow2 } else { Format::Raw })
}

/// The `protocol` of `protocol:rest`, by QEMU's rule: a colon before any slash.
fn protocol(name: &str) -> Option<&str> {
    let (protocol, _) = name.split_once(':')?;
    (!protocol.contains('/')).then_some(protocol)
}
