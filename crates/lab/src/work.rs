//! Work directories: one for each job, gone when the job is, whatever ended it.
//!
//! A job holds a lock on a file beside its directory for as long as its process lives. Whoever
//! opens the lab next removes each directory whose lock is free: its process is dead. QEMU dies
//! with us by itself (`machine`); should it have escaped, it is found by the process id and the
//! start time that were noted.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Where jobs do their work.
#[derive(Debug, Clone)]
pub struct WorkArea {
    directory: PathBuf,
}

/// Why there is no place to work.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The system refused.
    #[error("cannot use the lab's directory `{}`: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl WorkError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => Some("the lab needs a directory of its own that it may write to"),
        }
    }
}

/// What a process that died had left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Job directories that were removed.
    pub directories: usize,
    /// Virtual machines that had not ended with their process, or not yet, and were ended.
    pub machines: usize,
}

impl WorkArea {
    /// Opens the area, making it where it is not there, and removes what dead processes left.
    pub fn open(directory: &Path) -> Result<(Self, Leftovers), WorkError> {
        fs::create_dir_all(directory).map_err(|error| io_error(directory, error))?;
        let directory = directory.canonicalize().map_err(|error| io_error(directory, error))?;
        let area = Self { directory };
        let leftovers = area.sweep()?;
        Ok((area, leftovers))
    }

    /// Where the jobs' directories are.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// A fresh directory for one job.
    pub fn job(&self) -> Result<JobDirectory, WorkError> {
        loop {
            let lock = tempfile::Builder::new()
                .prefix("job-")
                .suffix(LOCK_SUFFIX)
                .tempfile_in(&self.directory)
                .map_err(|error| io_error(&self.directory, error))?;
            let (file, path) =
                lock.keep().map_err(|error| io_error(&self.directory, error.error))?;
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|error| io_error(&path, error.into()))?;
            // A sweep may have taken the file for a dead one before it was locked.
            if !is_at(&file, &path) {
                continue;
            }
            let directory = path.with_extension("");
            fs::create_dir(&directory).map_err(|error| io_error(&directory, error))?;
            return Ok(JobDirectory { directory, lock: path, _held: file });
        }
    }

    fn sweep(&self) -> Result<Leftovers, WorkError> {
        let mut leftovers = Leftovers::default();
        let entries =
            fs::read_dir(&self.directory).map_err(|error| io_error(&self.directory, error))?;
        for entry in entries.flatten() {
            let lock = entry.path();
            if !lock.as_os_str().to_string_lossy().ends_with(LOCK_SUFFIX) {
                continue;
            }
            let Ok(file) = File::open(&lock) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            // Whoever ended just now has removed it: there may be another of its name.
            if !is_at(&file, &lock) {
                continue;
            }
            let directory = lock.with_extension("");
            leftovers.machines += usize::from(end_escaped(&directory));
            if directory.exists() {
                fs::remove_dir_all(&directory).map_err(|error| io_error(&directory, error))?;
                leftovers.directories += 1;
            }
            fs::remove_file(&lock).map_err(|error| io_error(&lock, error))?;
        }
        Ok(leftovers)
    }
}

const LOCK_SUFFIX: &str = ".lock";
/// How long a process that was killed may take to go.
const GOING: Duration = Duration::from_secs(5);

const PROCESS_NOTE: &str = "qemu.pid";

/// The directory of one job; removed with everything in it when dropped.
#[derive(Debug)]
pub struct JobDirectory {
    directory: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl JobDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// What it is called, of all jobs of the area.
    pub fn name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Notes the process that must not outlive this job.
    pub(crate) fn note_process(&self, pid: u32) -> io::Result<()> {
        let started = start_time(pid).unwrap_or_default();
        fs::write(self.directory.join(PROCESS_NOTE), format!("{pid} {started}"))
    }
}

impl Drop for JobDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(&self.lock);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => identity(held) == identity(there),
        _ => false,
    }
}

/// Ends the process that was noted, if it is still the same one.
fn end_escaped(directory: &Path) -> bool {
    let note = fs::read_to_string(directory.join(PROCESS_NOTE)).unwrap_or_default();
    let Some((pid, started)) = note.split_once(' ') else { return false };
    let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else { return false };
    // The descriptor keeps the process id from being given to another between look and signal.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let number = pid.as_raw_nonzero().get().cast_unsigned();
    let lives = || start_time(number).is_some_and(|found| found.to_string() == started);
    if !lives() || pidfd_send_signal(process, Signal::KILL).is_err() {
        return false;
    }
    // The kernel takes a moment to give back a machine's memory.
    let deadline = Instant::now() + GOING;
    while lives() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// When a process started, in clock ticks since boot: field 22 of `proc_pid_stat(5)`. `None` of
/// one that is gone and only waits to be reaped.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

fn io_error(path: &Path, error: io::Error) -> WorkError {
    WorkError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_job_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (area, _) = WorkArea::open(place.path()).unwrap();

        let job = area.job().unwrap();
        fs::write(job.path().join("overlay.qcow2"), "x").unwrap();
        drop(job);

        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_living_are_left_alone_and_the_dead_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let (area, _) = WorkArea::open(place.path()).unwrap();
        let living = area.job().unwrap();
        fs::create_dir(place.path().join("job-dead")).unwrap();
        fs::write(place.path().join("job-dead.lock"), "").unwrap();

        let (_, leftovers) = WorkArea::open(place.path()).unwrap();

        assert_eq!(leftovers, Leftovers { directories: 1, machines: 0 });
        assert!(living.path().exists());
        assert!(!place.path().join("job-dead").exists());
    }

    #[test]
    fn an_escaped_machine_is_ended_unless_its_number_is_anothers() {
        let place = tempfile::tempdir().unwrap();
        let mut escaped = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let dead = place.path().join("job-dead");
        let leave = |started: u64| {
            fs::create_dir(&dead).unwrap();
            fs::write(place.path().join("job-dead.lock"), "").unwrap();
            fs::write(dead.join(PROCESS_NOTE), format!("{} {started}", escaped.id())).unwrap();
        };
        let started = start_time(escaped.id()).unwrap();

        leave(started + 1);
        assert_eq!(WorkArea::open(place.path()).unwrap().1.machines, 0);
        leave(started);
        assert_eq!(WorkArea::open(place.path()).unwrap().1.machines, 1);

        assert!(!escaped.wait().unwrap().success());
    }
}
