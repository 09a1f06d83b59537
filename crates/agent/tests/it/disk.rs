//! A root on a disk of its own, whose power can be cut: what was not flushed is gone then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::run;

/// Room of the disk, in MiB; what is not used takes none.
const MIB: u64 = 900;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: the file system stops as it is on its disk, and
/// nothing more is written, not even its log. perl is there wherever dpkg is.
const GO_DOWN: &str = r#"open(my $f, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2);
ioctl($f, 0x8004587d, $flags) or die "cannot cut the power: $!";"#;

/// An ext4 file system with a root, from which disks are copied.
pub(crate) struct Image {
    file: PathBuf,
    directory: tempfile::TempDir,
}

/// A copy of an image, in use.
pub(crate) struct Disk {
    file: PathBuf,
    root: PathBuf,
}

/// Whether disks can be made and mounted here: that takes the machine's root, not a namespace's.
pub(crate) fn is_possible() -> bool {
    let Ok(directory) = memory() else { return false };
    let (file, root) = (directory.path().join("disk"), directory.path().join("root"));
    fs::create_dir(&root).unwrap();
    File::create(&file).and_then(|it| it.set_len(16 << 20)).unwrap();
    let succeeds = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
    succeeds(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&file))
        && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&root))
        && succeeds(Command::new("umount").arg(&root))
}

/// A directory in memory: copies of a disk are read and written many times.
fn memory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("patchwright-disk-").tempdir_in("/dev/shm")
}

impl Image {
    /// Of all that lies below a directory.
    pub(crate) fn of(root: &Path) -> Self {
        let directory = memory().unwrap();
        let file = directory.path().join("image");
        File::create(&file).and_then(|it| it.set_len(MIB << 20)).unwrap();
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-E", now, "-d"])
            .arg(root)
            .arg(&file));
        Self { file, directory }
    }

    /// A disk with the same content.
    pub(crate) fn copy(&self) -> Disk {
        let (file, root) = (self.directory.path().join("disk"), self.directory.path().join("root"));
        fs::create_dir_all(&root).unwrap();
        run(Command::new("cp").args(["--sparse=auto"]).arg(&self.file).arg(&file));
        let disk = Disk { file, root };
        disk.mount();
        disk
    }
}

impl Disk {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cuts the power and brings it back: what was not on the disk is lost. Nothing may run there any more.
    pub(crate) fn cut_power(&mut self) {
        run(Command::new("perl").args(["-e", GO_DOWN]).arg(&self.root));
        self.unmount();
        // A copy: the file system that went down lives on where a namespace still has it mounted.
        let next = self.file.with_extension("next");
        run(Command::new("cp").arg("--sparse=auto").arg(&self.file).arg(&next));
        fs::remove_file(&self.file).unwrap();
        fs::rename(&next, &self.file).unwrap();
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.file).arg(&self.root));
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(self.root.join("proc")));
    }

    fn unmount(&self) {
        let is_gone = |path: &Path| {
            (0..500).any(|_| {
                let ended = Command::new("umount").arg(path).output().unwrap();
                let is_gone = ended.status.success();
                if !is_gone {
                    // Of a namespace that ends, the mounts end a moment later.
                    thread::sleep(Duration::from_millis(10));
                }
                is_gone
            })
        };
        let proc = self.root.join("proc");
        assert!(is_gone(&proc) && is_gone(&self.root), "{} is in use", self.root.display());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if thread::panicking() {
            // What somebody may want to look at is in the message; the mounts must not stay.
            let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.root).output();
        } else {
            self.unmount();
        }
        let _ = fs::remove_file(&self.file);
    }
}
