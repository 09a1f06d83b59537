//! Seed disks: what a machine is handed at its first start.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::{Result, at, tool};

/// The label of a seed disk's file system. What lies on it is laid over the root of a system that takes one up,
/// once, and `patchwright-agent.service`, which it should bring, is started.
pub const SEED_LABEL: &str = "pwseed";

/// Room for the file system itself, in bytes, beside a tenth of what lies on it.
const SPARE: u64 = 16 << 20;

/// Makes a seed disk of what lies below a directory, for its owner alone: a seed may hold secrets. Directories are
/// laid over the machine's own with their modes, so that they are opened to all first; all becomes root's there.
///
/// # Errors
/// Where the directory cannot be read, or `mke2fs` is missing or fails.
pub fn seed(root: &Path, disk: &Path) -> Result<()> {
    let size = prepare(root).map_err(at(root))?;
    match fs::remove_file(disk) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(disk)(error)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(disk).map_err(at(disk))?;
    let kibibytes = (size + size / 10 + SPARE).div_ceil(1024);
    tool(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-L", SEED_LABEL, "-O", "^has_journal"])
            .args(["-m", "0", "-E", "root_owner=0:0", "-d"])
            .arg(root)
            .arg(disk)
            .arg(format!("{kibibytes}k")),
    )
}

/// Opens directories to all; how many bytes their files have.
fn prepare(directory: &Path) -> io::Result<u64> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += prepare(&entry.path())?;
        } else if kind.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
