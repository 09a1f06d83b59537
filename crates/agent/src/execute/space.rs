//! Whether there is room to go there and back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use domain::order::Refusal;

const MIB: u64 = 1 << 20;

/// Whether directories have room for so many bytes each, and the owner's reserve beside them. What lies
/// on one file system is added up.
pub(super) fn check(wants: &[(&Path, u64)], keep_free_mib: u64) -> Result<(), Refusal> {
    let mut systems: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (directory, bytes) in wants {
        // One that cannot be asked fails where it is used.
        let Ok(data) = fs::metadata(directory) else { continue };
        let sum = &mut systems.entry(data.dev()).or_insert((*directory, 0)).1;
        *sum = sum.saturating_add(*bytes);
    }
    for (directory, bytes) in systems.into_values() {
        let needed = bytes.saturating_add(keep_free_mib.saturating_mul(MIB));
        let Ok(system) = rustix::fs::statvfs(directory) else { continue };
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        if free < needed {
            return Err(Refusal::NoSpace { path: directory.display().to_string(), needed, free });
        }
    }
    Ok(())
}
