//! Logs of jobs: a file for each attempt, so that nobody writes into another's. Bytes are handed to
//! the system as they come, and no log grows beyond its bound.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use domain::cloud::JobId;
use store::MOST_ATTEMPTS;

/// Longest log of an attempt, in bytes; what we say of it ourselves aside.
pub(super) const LONGEST: u64 = 16 << 20;

const FULL: &str = "\n[the log is full: what follows is not kept]\n";

/// The logs of a control plane.
#[derive(Debug)]
pub(super) struct Logs {
    directory: PathBuf,
}

/// The log of an attempt at a job.
#[derive(Debug)]
pub(super) struct JobLog(Mutex<Writing>);

#[derive(Debug)]
struct Writing {
    file: File,
    size: u64,
    is_full: bool,
}

impl Logs {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Begins the log of an attempt, or goes on with it.
    pub(super) fn begin(&self, job: JobId, attempt: i64) -> io::Result<JobLog> {
        let path = self.path(job, attempt);
        DirBuilder::new().recursive(true).mode(0o700).create(self.of(job))?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(JobLog(Mutex::new(Writing { file, size, is_full: size >= LONGEST })))
    }

    /// The log of a job, all its attempts one after the other, from a byte on.
    pub(super) fn read(&self, job: JobId, from: u64, at_most: usize) -> io::Result<Vec<u8>> {
        let mut skipped = from;
        let mut bytes = Vec::new();
        for attempt in 1..=MOST_ATTEMPTS {
            let mut file = match File::open(self.path(job, attempt)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let size = file.metadata()?.len();
            if skipped >= size {
                skipped -= size;
                continue;
            }
            file.seek(SeekFrom::Start(skipped))?;
            skipped = 0;
            let left = at_most - bytes.len();
            file.take(left as u64).read_to_end(&mut bytes)?;
            if bytes.len() == at_most {
                break;
            }
        }
        Ok(bytes)
    }

    /// Removes the logs of jobs in which nothing was written since an instant.
    pub(super) fn tidy(&self, before: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let mut last = entry.metadata()?.modified()?;
            for log in fs::read_dir(entry.path())? {
                last = last.max(log?.metadata()?.modified()?);
            }
            if last < before {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn of(&self, job: JobId) -> PathBuf {
        self.directory.join(job.to_string())
    }

    fn path(&self, job: JobId, attempt: i64) -> PathBuf {
        self.of(job).join(attempt.to_string())
    }
}

impl JobLog {
    /// Adds what the lab says, as far as there is room.
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.is_full {
            return;
        }
        let room = usize::try_from(LONGEST.saturating_sub(writing.size)).unwrap_or(usize::MAX);
        writing.add(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            writing.is_full = true;
            writing.add(FULL.as_bytes());
        }
    }

    /// Adds a line of our own, for which there is always room.
    pub(super) fn say(&self, line: &str) {
        let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writing.add(format!("[{line}]\n").as_bytes());
    }
}

impl Writing {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if let Err(error) = self.file.write_all(bytes) {
            // The job is worth more than its log.
            tracing::warn!(%error, "a job's log is not whole");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(number: u8) -> JobId {
        JobId::new(jiff::Timestamp::UNIX_EPOCH, [number; 10])
    }

    #[test]
    fn attempts_follow_each_other_from_any_byte_on() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        logs.begin(job(1), 1).unwrap().add(b"first");
        logs.begin(job(1), 2).unwrap().add(b"sec");
        logs.begin(job(1), 2).unwrap().add(b"ond");
        logs.begin(job(2), 1).unwrap().add(b"another's");

        let read =
            |from, at_most| String::from_utf8(logs.read(job(1), from, at_most).unwrap()).unwrap();

        assert_eq!(read(0, 100), "firstsecond");
        assert_eq!(
            (read(3, 100), read(5, 3), read(7, 2)),
            ("stsecond".into(), "sec".into(), "co".into())
        );
        assert_eq!(read(11, 100), "");
        assert_eq!(logs.read(job(3), 0, 100).unwrap(), b"");
    }

    #[test]
    fn a_log_is_bounded_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        let log = logs.begin(job(1), 1).unwrap();
        let large = vec![b'x'; 9 << 20];
        for _ in 0..3 {
            log.add(&large);
        }
        log.say("it ended");
        drop(log);
        logs.begin(job(1), 1).unwrap().add(b"after a restart");

        let all = logs.read(job(1), 0, 100 << 20).unwrap();

        let text = String::from_utf8(all).unwrap();
        assert!(text.ends_with(&format!("x{FULL}[it ended]\n")), "{}", &text[text.len() - 100..]);
        assert_eq!(text.bytes().filter(|&byte| byte == b'x').count() as u64, LONGEST);
    }

    #[test]
    fn old_logs_go() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        logs.begin(job(1), 1).unwrap().add(b"x");

        logs.tidy(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert_eq!(logs.read(job(1), 0, 9).unwrap(), b"x");
        logs.tidy(SystemTime::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(logs.read(job(1), 0, 9).unwrap(), b"");
    }
}
