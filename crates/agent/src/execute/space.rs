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
    for (directory, bytes) in by_system(wants).into_values() {
        let needed = bytes.saturating_add(keep_free_mib.saturating_mul(MIB));
        let Ok(system) = rustix::fs::statvfs(directory) else { continue };
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        if free < needed {
            return Err(Refusal::NoSpace { path: directory.display().to_string(), needed, free });
        }
    }
    Ok(())
}

/// What each file system is to hold, with a directory on it.
fn by_system<'a>(wants: &[(&'a Path, u64)]) -> BTreeMap<u64, (&'a Path, u64)> {
    let mut systems = BTreeMap::new();
    for (directory, bytes) in wants {
        // One that is not there yet will be made in the nearest that is.
        let there = directory.ancestors().find_map(|it| Some((it, fs::metadata(it).ok()?.dev())));
        // One that cannot be asked fails where it is used.
        let Some((directory, system)) = there else { continue };
        let sum: &mut u64 = &mut systems.entry(system).or_insert((directory, 0)).1;
        *sum = sum.saturating_add(*bytes);
    }
    systems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_comes_onto_one_file_system_is_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let (there, not_yet) = (directory.path(), directory.path().join("work/archives"));
        let sums: Vec<_> = by_system(&[(there, 10), (&not_yet, 7)]).into_values().collect();

        assert_eq!(sums, [(there, 17)]);
    }

    #[test]
    fn two_copies_need_room_for_two() {
        let directory = tempfile::tempdir().unwrap();
        let free = {
            let system = rustix::fs::statvfs(directory.path()).unwrap();
            system.f_bavail * system.f_frsize
        };
        // One fits with much to spare, two do not.
        let most = free / 3 * 2;
        assert!(check(&[(directory.path(), most)], 0).is_ok());
        let refused = check(&[(directory.path(), most), (&directory.path().join("new"), most)], 0);
        assert!(matches!(refused, Err(Refusal::NoSpace { needed, .. }) if needed == 2 * most));
    }
}
