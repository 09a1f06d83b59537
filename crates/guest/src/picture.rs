//! Taking a picture: what the system says of itself, as it says it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest::{PictureRequest, RawPicture, RawProcess};
use probes::command;
use sha2::{Digest as _, Sha256};

use crate::walk;

const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Properties that say what a unit is and how it fares.
const UNIT_PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Type,\
                               Result,NRestarts,TriggeredBy,ActiveEnterTimestampMonotonic,\
                               ActiveExitTimestampMonotonic,InvocationID";
/// Devices and slices are many, and say nothing about what works.
const UNIT_KINDS: [&str; 5] = ["*.service", "*.socket", "*.timer", "*.mount", "*.path"];
const MANAGER_PROPERTIES: &str = "--property=Version,SystemState,NFailedUnits,NJobs,\
                                  UserspaceTimestampMonotonic,FinishTimestampMonotonic";

/// systemd's message ids for units that start, are up, stop, are down, fail
/// (`man systemd.journal-fields`, `sd-messages.h`).
const UNIT_MESSAGES: [&str; 6] = [
    "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5",
    "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
    "MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f",
    "MESSAGE_ID=9d1aaa27d60140bd96365438aad20286",
    "MESSAGE_ID=be02cf6855d2428ba40df7e9d022f03d",
    "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c",
];

/// Configuration files are small; what is larger below `/etc` is told by its size.
const MAX_HASHED: u64 = 4 << 20;
const MAX_CONFIGURATION: usize = 20_000;

pub(crate) fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

pub(crate) fn uptime_ms() -> u64 {
    let uptime = text("/proc/uptime");
    let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or_default())
        .map_or(0, |uptime| u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX))
}

/// Gathers everything. What cannot be gathered is named in the picture's problems.
pub(crate) fn take(request: &PictureRequest) -> RawPicture {
    let began = Instant::now();
    let kernel = rustix::system::uname();
    let mut picture = RawPicture {
        boot_id: boot_id(),
        kernel_release: kernel.release().to_string_lossy().into_owned(),
        kernel_version: kernel.version().to_string_lossy().into_owned(),
        uptime_ms: uptime_ms(),
        // Probes go first: a service that is still starting gets its time, and what they wait
        // for is then in the rest of the picture.
        probes: request.probes.iter().map(probes::run).collect(),
        os_release: text("/etc/os-release"),
        dpkg_status: text("/var/lib/dpkg/status"),
        boot_files: names("/boot"),
        processes: processes(),
        ..RawPicture::default()
    };
    for name in ["tcp", "tcp6", "udp", "udp6"] {
        picture.sockets.insert(name.to_owned(), text(&format!("/proc/net/{name}")));
    }
    let mut units = vec!["systemctl", "show", UNIT_PROPERTIES];
    units.extend(UNIT_KINDS);
    picture.units = told(&mut picture.problems, &units);
    if Path::new("/run/reboot-required").exists() {
        picture.reboot_required = Some(text("/run/reboot-required.pkgs"));
    }
    picture.manager = told(&mut picture.problems, &["systemctl", "show", MANAGER_PROPERTIES]);
    picture.journal_errors = told(
        &mut picture.problems,
        &[
            "journalctl",
            "--quiet",
            "--boot",
            "--priority=err",
            "--lines=2000",
            "--output=json",
            "--output-fields=MESSAGE,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,PRIORITY",
        ],
    );
    let mut unit_journal = vec![
        "journalctl",
        "--quiet",
        "--boot",
        "--lines=20000",
        "--output=json",
        "--output-fields=MESSAGE_ID,UNIT",
        "_PID=1",
    ];
    unit_journal.extend(UNIT_MESSAGES);
    picture.unit_journal = told(&mut picture.problems, &unit_journal);
    picture.configuration = configuration(&mut picture.problems);
    for package in &request.packages {
        if let Some(files) = package_files(package) {
            picture.package_files.insert(package.clone(), files);
        }
    }
    let roots = walk::filesystems(&mut picture);
    walk::walk(&roots, request.touched_since, &mut picture);
    picture.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    picture
}

fn text(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn told(problems: &mut Vec<String>, argv: &[&str]) -> String {
    match command::run(argv, COMMAND_LIMIT) {
        Ok(output) if output.timed_out => {
            problems.push(format!("`{}` did not end in time", argv.join(" ")));
            output.text
        }
        Ok(output) => output.text,
        Err(reason) => {
            problems.push(reason);
            String::new()
        }
    }
}

/// Every process but this one and its children.
fn processes() -> Vec<RawProcess> {
    let own = std::process::id();
    let mut processes = Vec::new();
    for name in names("/proc") {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if pid == own {
            continue;
        }
        let path = |file: &str| format!("/proc/{pid}/{file}");
        let link = |file: &Path| {
            fs::read_link(file).map(|to| to.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let descriptors = names(&path("fd"));
        let sockets = descriptors.iter().filter_map(|number| {
            let target = link(&PathBuf::from(path("fd")).join(number));
            target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        });
        let deleted = |line: &&str| line.ends_with(" (deleted)") && is_executable(line);
        processes.push(RawProcess {
            pid,
            command: text(&path("comm")).trim_end().to_owned(),
            executable: link(&PathBuf::from(path("exe"))),
            cgroup: text(&path("cgroup")),
            sockets: sockets.collect(),
            deleted_maps: text(&path("maps")).lines().filter(deleted).map(str::to_owned).collect(),
        });
    }
    processes
}

/// SHA-256 of the regular files below `/etc`.
fn configuration(problems: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::from("/etc")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                if found.len() >= MAX_CONFIGURATION {
                    problems.push("there are too many files below /etc".to_owned());
                    return found;
                }
                let digest = digest(&entry.path());
                found.insert(entry.path().display().to_string(), digest);
            }
        }
    }
    found
}

fn digest(path: &Path) -> String {
    let mut content = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_HASHED).read_to_end(&mut content));
    match read {
        Ok(length) if (length as u64) < MAX_HASHED => hex(&Sha256::digest(&content)),
        Ok(_) => {
            let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
            format!("size:{size}")
        }
        Err(error) => format!("unreadable:{error}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Digests of a package's files: those that dpkg recorded where it did, our own otherwise.
/// `None` where the package is not installed.
fn package_files(package: &str) -> Option<BTreeMap<String, String>> {
    let name = package.split(':').next().unwrap_or(package);
    let places = [package, name].map(|stem| format!("/var/lib/dpkg/info/{stem}"));
    let place = places.iter().find(|place| Path::new(&format!("{place}.list")).exists())?;
    let sums = text(&format!("{place}.md5sums"));
    let mut files: BTreeMap<String, String> = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (format!("/{path}"), format!("md5:{digest}")))
        .collect();
    for path in text(&format!("{place}.list")).lines() {
        let metadata = fs::symlink_metadata(path);
        if !files.contains_key(path) && metadata.is_ok_and(|metadata| metadata.is_file()) {
            files.insert(path.to_owned(), digest(Path::new(path)));
        }
    }
    for suffix in ["preinst", "postinst", "prerm", "postrm", "triggers"] {
        let script = format!("{place}.{suffix}");
        if Path::new(&script).exists() {
            files.insert(script.clone(), digest(Path::new(&script)));
        }
    }
    Some(files)
}

/// Whether a line of `/proc/PID/maps` maps code: `7f… r-xp 0001 fe:01 42 /usr/lib/…`.
fn is_executable(line: &str) -> bool {
    line.split(' ').nth(1).is_some_and(|permissions| permissions.as_bytes().get(2) == Some(&b'x'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_code_counts() {
        assert!(is_executable("7f0-7f1 r-xp 0000 fe:01 42  /usr/lib/libssl.so.3 (deleted)"));
        assert!(!is_executable("7f0-7f1 r--p 0000 fe:01 42  /usr/lib/libssl.so.3 (deleted)"));
    }

    #[test]
    fn a_large_file_is_told_by_its_size() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(digest(file.path()).starts_with("e3b0c442"), "SHA-256 of nothing");

        file.as_file().set_len(MAX_HASHED).unwrap();

        assert_eq!(digest(file.path()), format!("size:{MAX_HASHED}"));
    }
}
