//! Worlds for tests: small systems, and the tools that pack them.

// Each test file uses its own part; a world that cannot be made fails the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

/// Which Debian package brings a tool.
const PACKAGES: [(&str, &str); 10] = [
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("sfdisk", "fdisk"),
    ("rpm", "rpm"),
    ("rpmbuild", "rpm"),
    ("tar", "tar"),
    ("dpkg-query", "dpkg"),
];

/// Runs a tool to its end and gives what it printed.
pub fn run<S: AsRef<OsStr>>(tool: &str, arguments: &[S]) -> String {
    run_with(tool, arguments, |command| command)
}

/// The same with more set up: a directory, input.
pub fn run_with<S: AsRef<OsStr>>(
    tool: &str,
    arguments: &[S],
    set_up: impl FnOnce(&mut Command) -> &mut Command,
) -> String {
    let mut command = Command::new(tool);
    // sfdisk and the e2fsprogs are not on every user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    set_up(&mut command);
    let output = command.output().unwrap_or_else(|error| {
        let package = PACKAGES.iter().find(|(name, _)| *name == tool).map_or(tool, |(_, it)| it);
        panic!("`{tool}` cannot be run ({error}); install it with `apt-get install {package}`")
    });
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{command:?}` failed: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Unpacks a file beside the tests.
pub fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let mut content = Vec::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut content).unwrap();
    content
}

/// Writes a file and the directories above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A root directory of a Debian system with this status file: merged `/usr`, a kernel, links.
pub fn debian_root(place: &Path, status: &[u8]) -> PathBuf {
    let root = place.join("root");
    write(
        &root.join("usr/lib/os-release"),
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
    );
    write(&root.join("var/lib/dpkg/status"), status);
    write(&root.join("var/lib/dpkg/arch"), "amd64\ni386\n");
    write(
        &root.join("etc/apt/sources.list"),
        "deb http://mirror.example.org/debian bookworm main\n",
    );
    write(&root.join("usr/lib/modules/6.1.0-9-amd64/modules.dep"), "");
    write(&root.join("usr/lib/modules/6.1.0-50-amd64/modules.dep"), "");
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    root
}

/// Makes an ext filesystem with the content of `root`.
pub fn mke2fs(root: &Path, image: &Path, megabytes: u64, options: &[&str]) {
    std::fs::File::create(image).unwrap().set_len(megabytes << 20).unwrap();
    let mut arguments = vec!["-q", "-F", "-E", "root_owner=0:0"];
    arguments.extend(options);
    arguments.extend(["-d", text(root), text(image)]);
    run("mke2fs", &arguments);
}

/// A path as a tool's argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
