//! What a live system runs, as opposed to what lies on its disk.
//!
//! A patch that is installed but whose old kernel or library is still in memory protects nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use domain::files::{EntryKind, FileError, FileView};
use domain::inventory::{Runtime, StaleProcess};

use crate::kernels;
use crate::tree::{DirectoryTree, Tree};

/// Debian and Ubuntu leave the request here; `/var/run` on systems before the move.
const REBOOT_REQUESTS: [&str; 2] = ["/run/reboot-required", "/var/run/reboot-required"];

/// Where package managers put code; deleted mappings elsewhere (`/tmp`, `/memfd:`, `/dev/shm`,
/// `/SYSV…`) are ordinary scratch files.
const CODE: [&str; 6] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/opt/"];

/// Browsers and databases map some thousand regions; a line has about 120 bytes.
const MAPS_LIMIT: u64 = 32 << 20;
const SMALL: u64 = 64 * 1024;

/// Looks at a live system. `proc` is the place of its process filesystem.
pub(crate) fn observe(
    files: &dyn FileView,
    proc: &Path,
    installed_kernels: &[String],
) -> Result<Runtime, std::io::Error> {
    let processes = Tree(DirectoryTree::open(proc)?);
    let (mut stale_processes, unreadable_processes) = stale_processes(&processes);
    name_packages(files, &mut stale_processes);
    Ok(Runtime {
        running_kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        newest_installed_kernel: kernels::newest(installed_kernels),
        reboot_required_by: reboot_required_by(files),
        stale_processes,
        unreadable_processes,
    })
}

fn reboot_required_by(files: &dyn FileView) -> Option<Vec<String>> {
    REBOOT_REQUESTS.iter().find_map(|request| {
        files.read(request, SMALL).ok().flatten()?;
        let packages = files.read(&format!("{request}.pkgs"), SMALL).ok().flatten();
        let packages = packages.unwrap_or_default();
        let names: BTreeSet<String> = String::from_utf8_lossy(&packages)
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        Some(names.into_iter().collect())
    })
}

/// The processes that map deleted code, by process id, and how many could not be looked into.
fn stale_processes(proc: &dyn FileView) -> (Vec<StaleProcess>, u32) {
    let mut stale = Vec::new();
    let mut unreadable = 0;
    let entries = proc.list("/").unwrap_or_default();
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
        let Ok(pid) = entry.name.parse::<u32>() else { continue };
        match proc.read(&format!("/{pid}/maps"), MAPS_LIMIT) {
            Ok(Some(maps)) => {
                let deleted_files = deleted_code(&String::from_utf8_lossy(&maps));
                if !deleted_files.is_empty() {
                    stale.push(describe(proc, pid, deleted_files));
                }
            }
            // It ended while we looked.
            Ok(None) => {}
            Err(FileError::Unreadable { reason, .. }) if is_gone(&reason) => {}
            Err(_) => unreadable += 1,
        }
    }
    stale.sort();
    (stale, unreadable)
}

/// Where dpkg lists each package's files.
const LISTS: &str = "/var/lib/dpkg/info";
const LIST_LIMIT: u64 = 8 << 20;

/// Says which packages have files of the same names as those that are mapped, as dpkg lists them. A file that
/// its package has no more is nobody's.
fn name_packages(files: &dyn FileView, stale: &mut [StaleProcess]) {
    // Systems before the merge of `/usr` list files as below `/`.
    let known = |path: &str| path.strip_prefix("/usr").unwrap_or(path).to_owned();
    let mut owners: BTreeMap<String, Option<String>> = BTreeMap::new();
    for process in stale.iter() {
        owners.extend(process.deleted_files.iter().map(|path| (known(path), None)));
    }
    if owners.is_empty() {
        return;
    }
    for entry in files.list(LISTS).unwrap_or_default() {
        let Some(name) = entry.name.strip_suffix(".list") else { continue };
        let name = name.split(':').next().unwrap_or(name);
        let Ok(Some(list)) = files.read(&format!("{LISTS}/{}", entry.name), LIST_LIMIT) else {
            continue;
        };
        for line in String::from_utf8_lossy(&list).lines() {
            if let Some(owner) = owners.get_mut(&known(line)) {
                *owner = Some(name.to_owned());
            }
        }
    }
    for process in stale {
        let owners: Option<BTreeSet<String>> =
            process.deleted_files.iter().map(|path| owners.get(&known(path))?.clone()).collect();
        // One that nobody can name is as if none could be.
        process.packages = owners.unwrap_or_default();
    }
}

fn is_gone(reason: &str) -> bool {
    reason.contains(rustix::io::Errno::SRCH.to_string().as_str())
}

fn describe(proc: &dyn FileView, pid: u32, deleted_files: Vec<String>) -> StaleProcess {
    let text = |name: &str| {
        let content = proc.read(&format!("/{pid}/{name}"), SMALL).ok().flatten();
        String::from_utf8_lossy(&content.unwrap_or_default()).into_owned()
    };
    StaleProcess {
        pid,
        command: text("comm").trim_end().to_owned(),
        unit: unit(&text("cgroup")),
        deleted_files,
        packages: BTreeSet::new(),
    }
}

/// Deleted files mapped executable, sorted: `proc_pid_maps(5)`.
pub fn deleted_code(maps: &str) -> Vec<String> {
    let mut deleted = BTreeSet::new();
    for line in maps.lines() {
        let Some(line) = line.strip_suffix(" (deleted)") else { continue };
        // address permissions offset device inode path
        let mut rest = line;
        let mut column = || {
            let trimmed = rest.trim_start();
            let (word, after) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
            rest = after;
            word
        };
        let permissions = (column(), column()).1;
        let device = (column(), column()).1;
        column();
        // What the initial RAM filesystem had started, and was not ended in time: its files are gone as a
        // whole, and no package's. Its filesystem is the kernel's first.
        if matches!(device, "00:01" | "00:02") {
            continue;
        }
        let path = rest.trim_start();
        let executable = permissions.as_bytes().get(2) == Some(&b'x');
        if executable && CODE.iter().any(|directory| path.starts_with(directory)) {
            deleted.insert(path.to_owned());
        }
    }
    deleted.into_iter().collect()
}

/// The systemd unit in a control group path: its innermost service, scope or the like.
pub fn unit(cgroup: &str) -> Option<String> {
    const KINDS: [&str; 4] = [".service", ".scope", ".socket", ".mount"];
    let path = cgroup
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            (controllers.is_empty() || controllers == "name=systemd").then_some(path)
        })
        .find(|path| path.len() > 1)?;
    path.rsplit('/')
        .find(|component| KINDS.iter().any(|kind| component.ends_with(kind)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0001000 r-xp 00000000 fe:00 12 /usr/sbin/nginx
7f0000000000-7f0000001000 r--p 00000000 fe:00 13 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f0000001000-7f0000002000 r-xp 00001000 fe:00 13 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f0000003000-7f0000004000 r--p 00001000 fe:00 14 /usr/share/only-read (deleted)
7f0000005000-7f0000006000 rwxp 00001000 00:01 15 /memfd:jit (deleted)
7f0000007000-7f0000008000 r-xp 00001000 00:01 16 /tmp/.ffi (deleted)
7f0000009000-7f000000a000 r-xp 00001000 fe:00 17 /opt/an app/lib.so (deleted)
7f000000b000-7f000000c000 r-xp 00001000 00:02 18 /usr/bin/udevadm (deleted)
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 [vdso]
";

    fn proc(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn only_executable_code_of_packages_counts() {
        assert_eq!(
            deleted_code(MAPS),
            ["/opt/an app/lib.so", "/usr/lib/x86_64-linux-gnu/libssl.so.3"]
        );
    }

    #[test]
    fn a_stale_process_is_named_with_its_unit() {
        let proc = proc(&[
            ("/41/maps", "7f-80 r-xp 0 fe:00 1 /usr/bin/fine\n"),
            ("/42/maps", MAPS),
            ("/42/comm", "nginx\n"),
            ("/42/cgroup", "0::/system.slice/nginx.service\n"),
            ("/version", "Linux"),
        ]);

        let (stale, unreadable) = stale_processes(&proc);

        assert_eq!(unreadable, 0);
        assert_eq!(stale.len(), 1);
        assert_eq!((stale[0].pid, stale[0].command.as_str()), (42, "nginx"));
        assert_eq!(stale[0].unit.as_deref(), Some("nginx.service"));
    }

    #[test]
    fn what_is_still_run_is_named_by_its_package_or_by_none() {
        let files = proc(&[
            ("/var/lib/dpkg/info/libssl3:amd64.list", "/.\n/usr/lib\n/usr/lib/x/libcrypto.so.3\n"),
            ("/var/lib/dpkg/info/libexpat1:amd64.list", "/.\n/lib/x/libexpat.so.1\n"),
        ]);
        let process = |deleted: &[&str]| StaleProcess {
            pid: 1,
            command: "systemd".to_owned(),
            unit: None,
            deleted_files: deleted.iter().map(|&path| path.to_owned()).collect(),
            packages: BTreeSet::new(),
        };
        let mut stale = [
            process(&["/usr/lib/x/libcrypto.so.3", "/usr/lib/x/libexpat.so.1"]),
            process(&["/usr/lib/x/libcrypto.so.3", "/usr/lib/x/libgone.so.2"]),
        ];

        name_packages(&files, &mut stale);

        assert_eq!(stale[0].packages, ["libexpat1", "libssl3"].map(str::to_owned).into());
        assert!(stale[1].packages.is_empty(), "one is nobody's: {:?}", stale[1].packages);
        assert!(stale[1].may_run(["anything"].iter()));
        assert!(!stale[0].may_run(["nginx"].iter()) && stale[0].may_run(["libssl3"].iter()));
    }

    #[test]
    fn units_are_found_in_both_hierarchies() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope\n";
        let old = "12:cpu:/\n1:name=systemd:/system.slice/ssh.service\n";

        assert_eq!(unit(user).as_deref(), Some("shell.scope"));
        assert_eq!(unit(old).as_deref(), Some("ssh.service"));
        assert_eq!(unit("0::/\n"), None);
    }

    #[test]
    fn a_request_for_a_reboot_names_its_packages() {
        let asked = proc(&[
            ("/run/reboot-required", "*** System restart required ***\n"),
            ("/run/reboot-required.pkgs", "linux-image-amd64\nlibc6\nlibc6\n"),
        ]);

        let packages = reboot_required_by(&asked);

        assert_eq!(packages, Some(vec!["libc6".to_owned(), "linux-image-amd64".to_owned()]));
        assert_eq!(reboot_required_by(&proc(&[("/var/run/reboot-required", "")])), Some(vec![]));
        assert_eq!(reboot_required_by(&proc(&[])), None);
    }

    #[test]
    fn this_very_system_can_be_observed() {
        let root = Tree(DirectoryTree::open(Path::new("/")).unwrap());

        let runtime = observe(&root, Path::new("/proc"), &[]).unwrap();

        assert!(!runtime.running_kernel.is_empty());
    }
}
