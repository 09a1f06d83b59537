//! What is kept on disk about one suite, safe under concurrent runs and kill -9.
//!
//! ```text
//! DATA/archives/KEY/lock            held while the suite is refreshed
//!                   state.json      newest state seen, written last
//!                   release         the signed file as it was fetched
//!                   release.gpg     its detached signature, where it has one
//!                   index/HASH.zst  package lists by the SHA-256 of their plain content
//! ```
//!
//! Files appear by rename only; what a killed run leaves behind is a `.partial` that the next one
//! resumes or a temporary file that it removes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::fetch::{Mark, hex};

/// How many earlier states are remembered for the record.
const HISTORY: usize = 64;

/// How the names of files begin that are not whole yet.
pub(super) const UNFINISHED: &str = ".new-";

/// The newest state seen of a suite. An older one is refused from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenState {
    /// Base URI, for people who look into the directory.
    pub uri: String,
    /// Suite as configured.
    pub suite: String,
    /// `Date` of the newest release.
    pub date: Timestamp,
    /// SHA-256 of its signed text.
    pub text_sha256: String,
    /// SHA-256 of the file that held it, to which `mark` belongs.
    #[serde(default)]
    pub file_sha256: String,
    /// Its `Codename`.
    pub codename: Option<String>,
    /// For conditional requests.
    pub mark: Mark,
    /// Earlier states, newest last: date and SHA-256 of the signed text.
    pub history: Vec<(Timestamp, String)>,
}

impl SeenState {
    /// This state's successor, which remembers it.
    #[must_use]
    pub(super) fn remembering(mut self, earlier: Option<&Self>) -> Self {
        if let Some(earlier) = earlier {
            self.history.clone_from(&earlier.history);
            if earlier.text_sha256 != self.text_sha256 {
                self.history.push((earlier.date, earlier.text_sha256.clone()));
            }
            let surplus = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..surplus);
        }
        self
    }
}

/// A release file and its detached signature, where it has one.
pub(super) struct KeptRelease {
    pub(super) release: Vec<u8>,
    pub(super) signature: Option<Vec<u8>>,
}

/// One suite's directory, locked for this process.
pub(super) struct SuiteStore {
    directory: PathBuf,
    _lock: File,
}

impl SuiteStore {
    /// Opens and locks a suite's directory, waiting for whoever holds it.
    pub(super) fn lock(data: &Path, uri: &str, suite: &str) -> io::Result<Self> {
        let key = hex(&Sha256::digest(format!("{uri}\n{suite}")))[..32].to_owned();
        let directory = data.join("archives").join(key);
        fs::create_dir_all(directory.join("index"))?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it lies.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The newest state seen; `None` where none was. A damaged state is an error: taking it for
    /// none would forget what must not be rolled back.
    pub(super) fn state(&self) -> io::Result<Option<SeenState>> {
        match fs::read(self.directory.join("state.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The release file and its detached signature as they were fetched.
    pub(super) fn release(&self) -> io::Result<Option<KeptRelease>> {
        let release = match fs::read(self.directory.join("release")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let signature = fs::read(self.directory.join("release.gpg")).ok();
        Ok(Some(KeptRelease { release, signature }))
    }

    /// Where a package list of this plain hash lies or belongs.
    pub(super) fn index_path(&self, sha256: &str) -> PathBuf {
        self.directory.join("index").join(format!("{sha256}.zst"))
    }

    /// Keeps a release whose indices are all in place, then its state, then forgets indices
    /// that are none of the `listed`.
    pub(super) fn commit(
        &self,
        release: &[u8],
        signature: Option<&[u8]>,
        state: &SeenState,
        listed: &BTreeSet<&str>,
    ) -> io::Result<()> {
        write_whole(&self.directory.join("release"), release)?;
        match signature {
            Some(bytes) => write_whole(&self.directory.join("release.gpg"), bytes)?,
            None => match fs::remove_file(self.directory.join("release.gpg")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
        }
        let json = serde_json::to_vec_pretty(state).map_err(io::Error::other)?;
        write_whole(&self.directory.join("state.json"), &json)?;
        remove_where(&self.directory, |name| name.starts_with(UNFINISHED))?;
        remove_where(&self.directory.join("index"), |name| {
            !listed.contains(name.split('.').next().unwrap_or_default())
        })
    }
}

/// Removes entries of a directory by their names.
pub(super) fn remove_where(directory: &Path, unwanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !unwanted(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file so that it is either whole or not there, also after a power loss.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
