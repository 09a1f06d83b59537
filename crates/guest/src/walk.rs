//! One walk over the filesystems on disks: what is told for its mode, and what was touched.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use guest::{FilesystemUse, HOME, MAX_TOUCHED, RawPicture, Special, SpecialFile};

/// Directories whose files are not of the system's making (`/tmp`), or not on a disk.
const LEFT_OUT: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// A disk of files that all bear a strange mode must not fill the memory.
const MAX_SPECIAL: usize = 100_000;

/// What is left beside a configuration file that both sides have changed.
const LEFTOVERS: [&str; 5] = [".dpkg-dist", ".dpkg-new", ".dpkg-old", ".ucf-dist", ".ucf-new"];

pub(crate) fn filesystems(picture: &mut RawPicture) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut roots = Vec::new();
    for line in mounts.lines() {
        // mountinfo: id parent major:minor root mount-point options optional… - type source …
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let columns: Vec<&str> = before.split(' ').collect();
        let on_disk = after.split(' ').nth(1).is_some_and(|source| source.starts_with("/dev/"));
        let [_, _, _, "/", mount_point, options, ..] = columns[..] else { continue };
        let mount_point = mount_point.replace("\\040", " ");
        if !on_disk || Path::new(&mount_point).starts_with(HOME) {
            continue;
        }
        match rustix::fs::statvfs(&mount_point) {
            Ok(usage) => picture.filesystems.push(FilesystemUse {
                mount_point: mount_point.clone(),
                total: usage.f_blocks * usage.f_frsize,
                available: usage.f_bavail * usage.f_frsize,
                free_inodes: usage.f_ffree,
                read_only: options.split(',').any(|option| option == "ro"),
            }),
            Err(error) => picture.problems.push(format!("`{mount_point}`: {error}")),
        }
        roots.push(PathBuf::from(mount_point));
    }
    roots
}

/// Walks each root without leaving its filesystem and without following a link.
pub(crate) fn walk(roots: &[PathBuf], touched_since: Option<i64>, picture: &mut RawPicture) {
    let mut surplus = 0_usize;
    for root in roots {
        let Ok(device) = fs::symlink_metadata(root).map(|metadata| metadata.dev()) else {
            continue;
        };
        let mut waiting = vec![root.clone()];
        while let Some(directory) = waiting.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if metadata.dev() != device {
                    continue;
                }
                if metadata.is_dir() && !LEFT_OUT.iter().any(|left_out| path == Path::new(left_out))
                {
                    waiting.push(path.clone());
                }
                let full = picture.special_files.len() >= MAX_SPECIAL;
                match special(&path, &metadata) {
                    Some(_) if full => surplus += 1,
                    Some(why) => picture.special_files.push(SpecialFile {
                        path: path.display().to_string(),
                        why,
                        mode: metadata.mode() & 0o7777,
                        uid: metadata.uid(),
                        gid: metadata.gid(),
                    }),
                    None => {}
                }
                let changed = metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec();
                if touched_since.is_some_and(|since| changed >= since) && !metadata.is_dir() {
                    if picture.touched.len() >= MAX_TOUCHED {
                        surplus += 1;
                    } else {
                        picture.touched.push(path.display().to_string());
                    }
                }
            }
        }
    }
    if surplus > 0 {
        picture.problems.push(format!("{surplus} further files were too many to be told"));
    }
    picture.special_files.sort();
    picture.touched.sort();
}

fn special(path: &Path, metadata: &fs::Metadata) -> Option<Special> {
    let (kind, mode) = (metadata.file_type(), metadata.mode());
    if kind.is_symlink() {
        return None;
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if kind.is_file() && LEFTOVERS.iter().any(|suffix| name.ends_with(suffix)) {
        // dpkg's own working files elsewhere bear the same suffixes for a moment.
        return path.starts_with("/etc").then_some(Special::ConffileLeftover);
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Some(Special::Device);
    }
    if kind.is_file() && mode & 0o6000 != 0 {
        return Some(Special::SetId);
    }
    let sticky = kind.is_dir() && mode & 0o1000 != 0;
    (mode & 0o002 != 0 && !sticky && (kind.is_file() || kind.is_dir()))
        .then_some(Special::WorldWritable)
}
