//! A user without privileges with a libvirt of its own: where root runs the tests, they run
//! themselves again as nobody.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PLACE: &str = "DRIVERS_TEST_PLACE";
const NOBODY: u32 = 65534;

/// A user's home with a session's directories, short enough for the names of sockets. The
/// session's libvirt ends with it.
pub struct Session {
    home: tempfile::TempDir,
    is_roots: bool,
}

impl Session {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("pw-").tempdir_in("/tmp").unwrap();
        let is_roots = fs::metadata(home.path()).unwrap().uid() == 0;
        let session = Self { home, is_roots };
        fs::set_permissions(session.path(), fs::Permissions::from_mode(0o700)).unwrap();
        // Neither a home nor a checkout is every user's to read.
        fs::copy(std::env::current_exe().unwrap(), session.path().join("tests")).unwrap();
        session
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// One of the tests that are ignored, as a user without privileges. What is in `bin` at the
    /// session's place is found before other programs.
    pub fn command(&self, test: &str) -> Command {
        let mut command = if self.is_roots {
            for entry in fs::read_dir(self.path()).unwrap() {
                chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            chown(self.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            let mut command = Command::new("setpriv");
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&user, &group, "--clear-groups", "--"]);
            command.arg(self.path().join("tests"));
            command
        } else {
            Command::new(self.path().join("tests"))
        };
        let path = std::env::var("PATH").unwrap();
        command
            .args(["--exact", test, "--ignored", "--nocapture"])
            .current_dir(self.path())
            .env(PLACE, self.path())
            .env("PATH", format!("{}:{path}", self.path().join("bin").display()))
            .envs(["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| {
                let directory = self.path();
                (name, directory)
            }))
            .stdin(Stdio::null());
        command
    }

    pub fn passes(&self, test: &str) {
        let output = super::support::run(&mut self.command(test));
        assert!(output.contains("1 passed"), "{output}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for daemon in ["libvirtd", "virtlogd"] {
            let note = self.path().join("libvirt").join(daemon).with_extension("pid");
            let id = fs::read_to_string(note).unwrap_or_default();
            if !id.trim().is_empty() {
                let _ = Command::new("kill").arg(id.trim()).status();
            }
        }
    }
}

/// Where the session of this process is.
pub fn place() -> PathBuf {
    PathBuf::from(std::env::var(PLACE).expect("a test names a place"))
}
