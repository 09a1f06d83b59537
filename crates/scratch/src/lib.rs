//! Directories in which tests put what takes much room: copies of systems, images, disks of machines.
//!
//! Each is gone when its test holds, since all of them together would take more than a small disk has. What a test that
//! fails made stays to be looked at.

use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A directory, or what stands where one may be, that is gone when dropped by a thread that does not panic.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    is_mine: bool,
}

impl Scratch {
    /// An empty directory, whatever an earlier run left there. Its parents are made.
    ///
    /// # Panics
    ///
    /// Where it cannot be made.
    #[must_use]
    pub fn empty(path: PathBuf) -> Self {
        let scratch = Self::absent(path);
        let made = fs::create_dir_all(&scratch.path);
        made.unwrap_or_else(|error| panic!("cannot make `{}`: {error}", scratch.path.display()));
        scratch
    }

    /// Where a directory will be made.
    ///
    /// # Panics
    ///
    /// Where what an earlier run left there cannot be removed.
    #[must_use]
    pub fn absent(path: PathBuf) -> Self {
        assert!(removed(&path), "cannot remove `{}`", path.display());
        Self { path, is_mine: true }
    }

    /// The directory of another process or thread, which removes it.
    #[must_use]
    pub fn of_another(path: PathBuf) -> Self {
        Self { path, is_mine: false }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_mine && !thread::panicking() && !removed(&self.path) {
            eprintln!("warning: `{}` could not be removed", self.path.display());
        }
    }
}

/// Whether nothing is there any more. Filesystems that are mounted below are never entered.
fn removed(path: &Path) -> bool {
    let is_gone = || fs::symlink_metadata(path).is_err();
    let remove = |mut command: Command| {
        command.args(["-rf", "--one-file-system"]).arg(path).stderr(Stdio::null());
        // Whatever it says: what counts is whether something is there.
        let _ = command.status();
        is_gone()
    };
    if is_gone() || remove(Command::new("rm")) {
        return true;
    }
    // Files that belong to others in a namespace where their maker was root.
    let mut helper = Command::new("mmdebstrap");
    helper.args(["--unshare-helper", "rm"]);
    remove(helper)
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<OsStr> for Scratch {
    fn as_ref(&self) -> &OsStr {
        self.path.as_os_str()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_when_dropped_but_by_a_test_that_fails() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let make = || {
            let scratch = Scratch::empty(path.clone());
            fs::write(scratch.join("file"), "content").unwrap();
            scratch
        };

        drop(make());
        assert!(!path.exists());

        let fails = make();
        let ended = thread::spawn(move || {
            let _fails = fails;
            panic!("as tests do");
        });
        assert!(ended.join().is_err());
        assert!(path.join("file").exists());
        let again = Scratch::empty(path.clone());
        assert_eq!(fs::read_dir(&again).unwrap().count(), 0);
        drop(Scratch::of_another(path.clone()));
        assert!(path.exists());
        drop(again);
        assert!(!path.exists());
    }
}
