//! Kernels installed on disk: a release with modules can be booted.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use domain::files::{EntryKind, FileError, FileView};
use domain::version::VersionKind;

/// Module directories, and what a kernel image in `/boot` is called.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];
const IMAGE_PREFIX: &str = "vmlinuz-";

/// Kernel releases (`uname -r` spelling), sorted by name.
///
/// A kernel that was removed may leave modules behind (built by DKMS, for instance), so where
/// `/boot` holds kernel images, only modules with an image there count.
pub(crate) fn installed(files: &dyn FileView) -> Result<Vec<String>, FileError> {
    let mut releases = BTreeSet::new();
    for directory in MODULES {
        let entries = files.list(directory)?;
        releases.extend(
            entries
                .into_iter()
                .filter(|entry| entry.kind == EntryKind::Directory)
                .map(|entry| entry.name),
        );
    }
    let images: BTreeSet<String> = files
        .list("/boot")?
        .into_iter()
        .filter_map(|entry| entry.name.strip_prefix(IMAGE_PREFIX).map(str::to_owned))
        .collect();
    // Red Hat's kernels bring their image inside the module directory and copy it to /boot.
    if releases.intersection(&images).next().is_some() {
        releases.retain(|release| images.contains(release));
    }
    Ok(releases.into_iter().collect())
}

/// The newest of these releases by dpkg's order, which puts `6.1.0-9` before `6.1.0-32`.
pub fn newest(releases: &[String]) -> Option<String> {
    let order = |a: &&String, b: &&String| -> Ordering {
        VersionKind::Dpkg.compare(a, b).then_with(|| a.cmp(b))
    };
    releases.iter().max_by(order).cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files(paths: &[&str]) -> BTreeMap<String, Vec<u8>> {
        paths.iter().map(|path| ((*path).to_owned(), Vec::new())).collect()
    }

    #[test]
    fn a_kernel_is_a_release_with_modules() {
        let tree = files(&[
            "/lib/modules/6.1.0-9-amd64/modules.dep",
            "/lib/modules/6.1.0-32-amd64/modules.dep",
            "/lib/modules/README",
        ]);

        assert_eq!(installed(&tree).unwrap(), ["6.1.0-32-amd64", "6.1.0-9-amd64"]);
        assert_eq!(newest(&installed(&tree).unwrap()).as_deref(), Some("6.1.0-32-amd64"));
    }

    #[test]
    fn modules_left_behind_are_no_kernel() {
        let tree = files(&[
            "/usr/lib/modules/6.1.0-9-amd64/updates/dkms/zfs.ko",
            "/usr/lib/modules/6.1.0-32-amd64/modules.dep",
            "/boot/vmlinuz-6.1.0-32-amd64",
        ]);

        assert_eq!(installed(&tree).unwrap(), ["6.1.0-32-amd64"]);
    }

    #[test]
    fn a_container_has_none() {
        assert_eq!(installed(&files(&["/etc/os-release"])).unwrap(), Vec::<String>::new());
        assert_eq!(newest(&[]), None);
    }
}
