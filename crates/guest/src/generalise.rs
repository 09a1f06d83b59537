//! Takes out of a system what only one machine may have, and what nobody needs in an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest::{GeneraliseRequest, Generalised};
use probes::command;

/// Emptied and left in place: whoever writes to it is not the one who may create it.
const LOGS: &str = "/var/log";

/// Logs that were rotated say nothing that the emptied ones do not.
const ROTATED: [&str; 6] = [".gz", ".xz", ".zst", ".old", ".0", ".1"];

/// Single files that are removed.
const FILES: [&str; 15] = [
    // Identity and randomness of one machine (machine-id(5), systemd-random-seed.service(8)).
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    // Caches that are made again, with inode numbers and times in them.
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
    "/var/cache/ldconfig/aux-cache",
    // What was before, kept by those who replaced it.
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/passwords.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/lib/dpkg/status-old",
    "/var/lib/dpkg/diversions-old",
    "/var/lib/dpkg/statoverride-old",
    "/root/.bash_history",
    "/root/.lesshst",
    "/root/.viminfo",
];

/// Directories whose content is removed; they stay themselves.
const DIRECTORIES: [&str; 13] = [
    "/tmp",
    "/var/tmp",
    "/var/log/journal",
    "/var/cache/apt/archives",
    "/var/cache/apt/archives/partial",
    "/var/lib/apt/lists",
    "/var/lib/apt/lists/partial",
    "/var/lib/dhcp",
    "/var/lib/NetworkManager",
    // As `cloud-init clean` does it.
    "/var/lib/cloud/instances",
    "/var/lib/cloud/data",
    "/var/lib/cloud/sem",
    "/var/crash",
];

/// What stays in those: directories that their owners expect, and their locks.
const KEPT: [&str; 4] = ["partial", "auxfiles", "lock", "lost+found"];

const MACHINE_ID: &str = "/etc/machine-id";
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";
const CLOUD_INSTANCE: &str = "/var/lib/cloud/instance";

pub(crate) fn generalise(request: &GeneraliseRequest) -> Generalised {
    let mut work = Work::default();
    // Empty, not absent: systemd then makes a new one at each first boot (machine-id(5)).
    work.empty(Path::new(MACHINE_ID));
    // Usually a link to the other.
    if is_file(Path::new(DBUS_MACHINE_ID)) {
        work.remove(Path::new(DBUS_MACHINE_ID));
    }
    for file in FILES {
        work.remove(Path::new(file));
    }
    if fs::symlink_metadata(CLOUD_INSTANCE).is_ok_and(|found| found.is_symlink()) {
        work.remove(Path::new(CLOUD_INSTANCE));
    }
    for directory in DIRECTORIES {
        for path in entries(Path::new(directory)) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !KEPT.contains(&name) {
                work.remove(&path);
            }
        }
    }
    for home in entries(Path::new("/home")) {
        for name in [".bash_history", ".lesshst", ".viminfo"] {
            work.remove(&home.join(name));
        }
    }
    if request.ssh_host_keys {
        for path in entries(Path::new("/etc/ssh")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("ssh_host_") {
                work.remove(&path);
            }
        }
    }
    work.logs(Path::new(LOGS));
    work.trim();
    work.done.emptied.sort();
    work.done.removed.sort();
    work.done
}

#[derive(Default)]
struct Work {
    done: Generalised,
}

impl Work {
    fn logs(&mut self, directory: &Path) {
        for path in entries(directory) {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if found.is_dir() {
                self.logs(&path);
            } else if found.is_file() && ROTATED.iter().any(|ending| name.ends_with(ending)) {
                self.remove(&path);
            } else if found.is_file() && found.len() > 0 {
                self.empty(&path);
            }
        }
    }

    fn empty(&mut self, path: &Path) {
        if !is_file(path) || fs::metadata(path).is_ok_and(|found| found.len() == 0) {
            return;
        }
        match fs::File::options().write(true).truncate(true).open(path) {
            Ok(_) => self.done.emptied.push(path.display().to_string()),
            Err(error) => self.done.problems.push(format!("`{}`: {error}", path.display())),
        }
    }

    fn remove(&mut self, path: &Path) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Ok(()) => self.done.removed.push(path.display().to_string()),
            Err(error) => self.done.problems.push(format!("`{}`: {error}", path.display())),
        }
    }

    /// Gives back what is free, so that it takes no place in the image and nobody reads from it
    /// what was deleted.
    fn trim(&mut self) {
        let limit = Duration::from_secs(600);
        match command::run(&["fstrim", "--all", "--verbose"], limit) {
            Ok(output) if output.exit == Some(0) => {
                output.text.trim().clone_into(&mut self.done.trimmed);
            }
            Ok(output) => self.done.problems.push(format!("fstrim: {}", output.text.trim())),
            Err(error) => self.done.problems.push(error),
        }
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Sorted, so that problems are told in the same order each time; none where there is no directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    entries.sort();
    entries
}
