//! Directories in memory, for tests that take no power away.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

const MEMORY: &str = "/dev/shm";

/// MiB that must be free there.
const ROOM: u64 = 2048;

/// A directory that is gone when dropped: in memory where there is enough, since each of thousands of transactions would
/// wait for a disk to which nothing happens.
pub(crate) fn directory() -> TempDir {
    static IS_USED: OnceLock<bool> = OnceLock::new();
    let in_memory =
        IS_USED.get_or_init(has_room).then(|| tempfile::tempdir_in(Path::new(MEMORY)).ok());
    in_memory.flatten().unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn has_room() -> bool {
    let asked =
        Command::new("df").args(["--output=fstype,avail", "--block-size=1M", MEMORY]).output();
    let told = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).into_owned());
    let told = told.unwrap_or_default();
    let mut words = told.lines().nth(1).unwrap_or_default().split_whitespace();
    let is_memory = words.next() == Some("tmpfs");
    let free = words.next().and_then(|free| free.parse::<u64>().ok());
    is_memory && free.is_some_and(|free| free >= ROOM)
}
