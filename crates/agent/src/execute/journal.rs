//! What an execution has done so far, durable before the next step begins.
//!
//! One line for each step, flushed to the disk before anything follows it. After a crash the lines say
//! which steps were begun; a last line that a loss of power tore was never acted upon, and is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use domain::agent::AtWork;
use domain::change::ExactPackage;
use domain::cloud::ChangeId;
use domain::order::{Downtime, Ended, ExecutionId, Order, ProbeOutcome};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::files::KeptFile;
use super::interruption::may_end_here;
use super::packages::KeptPackage;
use super::system::UnitTimes;

/// Largest journal that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// A step, as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The order was accepted.
    Accepted {
        /// The execution's id.
        execution: ExecutionId,
        /// The order.
        order: Box<Order>,
        /// Of which change.
        change: ChangeId,
        /// When.
        at: Timestamp,
    },
    /// All packages lie in the execution's directory, each with the hash of the order.
    Fetched,
    /// So does the way back.
    WayBackKept {
        /// What is replaced.
        packages: Vec<KeptPackage>,
        /// What is not there yet, and is taken away again on the way back.
        added: Vec<ExactPackage>,
        /// Files that the order writes, as they are.
        #[serde(default)]
        files: Vec<KeptFile>,
        /// When which unit went up and down last.
        units: UnitTimes,
    },
    /// An action begins.
    Started {
        /// Its place in the order, counted from 0.
        action: usize,
    },
    /// Packages are installed whole.
    Finished {
        /// Which.
        packages: Vec<ExactPackage>,
    },
    /// A unit was restarted.
    Restarted {
        /// Which.
        unit: String,
    },
    /// The system is about to restart.
    Rebooting {
        /// Which boot ends.
        boot: String,
    },
    /// A probe was tried.
    Probed {
        /// How it ended.
        outcome: ProbeOutcome,
    },
    /// An action ended well.
    ActionDone {
        /// Its place.
        action: usize,
    },
    /// It goes back from here.
    TurnedBack {
        /// Why.
        because: String,
        /// Which action failed.
        action: usize,
    },
    /// Somebody or something interrupted it, and it was taken up again.
    Resumed {
        /// When.
        at: Timestamp,
    },
    /// It is over.
    Ended {
        /// How.
        ended: Ended,
        /// What was down how long.
        downtime: Vec<Downtime>,
        /// When.
        at: Timestamp,
    },
}

impl Step {
    /// What begins with it, for whoever watches.
    pub(super) const fn begins(&self) -> Option<AtWork> {
        match self {
            Self::Accepted { .. } => Some(AtWork::Fetching),
            Self::Fetched => Some(AtWork::KeepingWayBack),
            Self::WayBackKept { .. } => Some(AtWork::Altering),
            Self::Rebooting { .. } => Some(AtWork::Rebooting),
            Self::TurnedBack { .. } => Some(AtWork::GoingBack),
            Self::Started { .. }
            | Self::Finished { .. }
            | Self::Restarted { .. }
            | Self::Probed { .. }
            | Self::ActionDone { .. }
            | Self::Resumed { .. }
            | Self::Ended { .. } => None,
        }
    }
}

/// The journal of one execution.
#[derive(Debug)]
pub struct Journal {
    file: File,
    steps: Vec<Step>,
}

impl Journal {
    /// Begins a journal with its first step, which is there whole or not at all.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn begin(directory: &Path, first: Step) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = path(directory);
        let beside = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&line(&first)?)?;
        file.sync_all()?;
        may_end_here();
        fs::rename(&beside, &path)?;
        sync_up(directory)?;
        may_end_here();
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self { file, steps: vec![first] })
    }

    /// Reads the journal in a directory; `None` where nothing was begun.
    ///
    /// # Errors
    /// If the disk fails, or a line before the last one is damaged.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        let path = path(directory);
        let bytes = match fs::metadata(&path) {
            Ok(data) if data.len() > LARGEST => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the journal is too long"));
            }
            Ok(_) => fs::read(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let whole = whole(&bytes);
        if whole == 0 && !bytes.is_empty() {
            let why = "the journal's first line is damaged";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let steps = bytes[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| Ok(serde_json::from_slice(line)?))
            .collect::<io::Result<Vec<Step>>>()?;
        let file = OpenOptions::new().append(true).open(&path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        Ok(Some(Self { file, steps }))
    }

    /// Adds a step; it is durable afterwards.
    ///
    /// # Errors
    /// If the disk fails: then nothing may follow.
    pub fn add(&mut self, step: Step) -> io::Result<()> {
        may_end_here();
        self.file.write_all(&line(&step)?)?;
        self.file.sync_data()?;
        may_end_here();
        self.steps.push(step);
        Ok(())
    }

    /// All steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// Up to where lines were written whole. After a loss of power the last one may lack its end, or have it
/// and lack something before: then it is no JSON. What is JSON and no step is damage, or another version's.
fn whole(bytes: &[u8]) -> usize {
    let after = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let ended = after(bytes);
    let last = after(&bytes[..ended.saturating_sub(1)]);
    match serde_json::from_slice::<IgnoredAny>(&bytes[last..ended]) {
        Err(_) => last,
        Ok(IgnoredAny) => ended,
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("journal")
}

fn line(step: &Step) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(step)?;
    line.push(b'\n');
    Ok(line)
}

/// Makes the names in a directory, and its own name, durable.
pub(super) fn sync_up(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resumed(second: i64) -> Step {
        Step::Resumed { at: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn a_torn_line_was_never_there() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Journal::read(directory.path()).unwrap().is_none());
        let mut journal = Journal::begin(directory.path(), resumed(1)).unwrap();
        journal.add(resumed(2)).unwrap();
        let whole = fs::read(directory.path().join("journal")).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;

        for cut in first..whole.len() {
            fs::write(directory.path().join("journal"), &whole[..cut]).unwrap();
            let mut journal = Journal::read(directory.path()).unwrap().unwrap();
            assert_eq!(journal.steps(), [resumed(1)], "cut at {cut}");
            journal.add(resumed(3)).unwrap();
            let journal = Journal::read(directory.path()).unwrap().unwrap();
            assert_eq!(journal.steps(), [resumed(1), resumed(3)]);
        }
    }

    #[test]
    fn a_last_line_that_lost_its_middle_was_never_there_either() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(directory.path(), resumed(1)).unwrap();
        journal.add(resumed(2)).unwrap();
        let path = directory.path().join("journal");
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;

        // Blocks come onto the disk in any order: nothing but zeros, zeros with the end, only zeros in front.
        for torn in second..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[second..=torn].fill(0);
            fs::write(&path, &bytes).unwrap();
            let journal = Journal::read(directory.path()).unwrap().unwrap();
            assert_eq!(journal.steps(), [resumed(1)], "zeros up to {torn}");
            assert_eq!(fs::read(&path).unwrap(), whole[..second]);
        }

        // In front of a line that is whole, the same is damage, and so it is in the first one: that was
        // there whole before anything followed.
        let mut first = whole[..second].to_vec();
        first[3] = 0;
        fs::write(&path, first).unwrap();
        assert!(Journal::read(directory.path()).is_err());
        for damaged in 0..second - 1 {
            let mut bytes = whole.clone();
            bytes[damaged] = 0;
            fs::write(&path, &bytes).unwrap();
            assert!(Journal::read(directory.path()).is_err(), "a zero at {damaged}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "and nothing is cut off");
        }
    }

    #[test]
    fn a_line_that_says_nothing_is_no_step() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("journal"), "{\"step\":\"dance\"}\n").unwrap();
        assert!(Journal::read(directory.path()).is_err());
    }
}
