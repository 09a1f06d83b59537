//! What an agent keeps: its keys, its certificate, its count of reports, what it goes by, what came of
//! orders. For its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use domain::agent::FileManifest;
use domain::cloud::{AgentId, CiId};
use domain::configuration::secret::FingerprintKey;
use domain::fleet::PackageSet;
use domain::order::{ExecutionId, OrderResult, Trusted};
use jiff::Timestamp;
use ledger::attestation::Attestor;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Who this agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Where its control plane is.
    pub url: String,
    /// Who it is there.
    pub agent: AgentId,
    /// Which item it speaks for.
    pub ci: CiId,
    /// Whom it believes: the authority's certificate, DER in base64 (URL alphabet).
    pub authority: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Until when that is good.
    pub expires_at: Timestamp,
}

/// A directory with an agent's state.
#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
}

/// What one process at a time does with an agent's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Reports, and asks for orders.
    Run,
    /// Judges orders and carries them out, or alters what it goes by.
    Desk,
}

impl Lock {
    const fn file(self) -> &'static str {
        match self {
            Self::Run => "run.lock",
            Self::Desk => "desk.lock",
        }
    }
}

impl State {
    /// The state in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Who this agent is; `None` before it joined.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        self.read("identity.json")
    }

    pub(crate) fn keep_identity(&self, identity: &Identity) -> io::Result<()> {
        self.write("identity.json", &serde_json::to_vec_pretty(identity)?)
    }

    /// What this agent goes by when it is told to do something; `None` before anything was pinned.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn trusted(&self) -> io::Result<Option<Trusted>> {
        self.read("trusted.json")
    }

    /// Keeps what it goes by from now on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn keep_trusted(&self, trusted: &Trusted) -> io::Result<()> {
        self.write("trusted.json", &serde_json::to_vec(trusted)?)
    }

    /// Keeps what came of an order until the control plane has it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn keep_result(&self, result: &OrderResult) -> io::Result<()> {
        self.write(&format!("result-{}.json", result.execution), &serde_json::to_vec(result)?)
    }

    /// Results that the control plane does not have yet, the oldest first.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn results(&self) -> io::Result<Vec<OrderResult>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_whole = Path::new(&name).extension().is_some_and(|it| it == "json");
            if name.starts_with("result-") && is_whole {
                names.push(name);
            }
        }
        names.sort();
        let read = |name: &String| self.read(name).transpose();
        names.iter().filter_map(read).collect()
    }

    /// Drops a result that the control plane has.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn drop_result(&self, execution: ExecutionId) -> io::Result<()> {
        fs::remove_file(self.directory.join(format!("result-{execution}.json")))?;
        File::open(&self.directory)?.sync_all()
    }

    /// The key with which this agent signs what came of orders; made where there is none yet.
    ///
    /// # Errors
    /// If the file cannot be read or written, is no key, or there is no randomness.
    pub fn attestor(&self) -> io::Result<Attestor> {
        const NAME: &str = "attestor.pem";
        match fs::read_to_string(self.directory.join(NAME)) {
            Ok(pem) => Attestor::from_pem(&pem).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(io::Error::other)?;
                let attestor = Attestor::new(&seed);
                self.write(NAME, attestor.to_pem().as_bytes())?;
                Ok(attestor)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes one of the agent's locks for this process; `None` where another process has it and keeps it
    /// for as long as we are patient. It ends with the process, however that ends.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn lock(&self, lock: Lock, patience: Duration) -> io::Result<Option<File>> {
        self.make()?;
        let path = self.directory.join(lock.file());
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let deadline = Instant::now() + patience;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(file))
    }

    /// The private key, PKCS #8 PEM.
    pub(crate) fn key(&self) -> io::Result<String> {
        fs::read_to_string(self.directory.join("key.pem"))
    }

    pub(crate) fn keep_key(&self, pem: &str) -> io::Result<()> {
        self.write("key.pem", pem.as_bytes())
    }

    /// The number of the next report, durable before it is used.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let next = self.read::<u64>("counter")?.unwrap_or(0) + 1;
        self.write("counter", next.to_string().as_bytes())?;
        Ok(next)
    }

    pub(crate) fn forget_count(&self) -> io::Result<()> {
        self.write("counter", b"0")
    }

    /// The package set that the control plane has, as far as we know.
    pub(crate) fn acknowledged(&self) -> Option<PackageSet> {
        // Without it the whole set is sent.
        self.read("acknowledged.json").ok().flatten()
    }

    pub(crate) fn acknowledge(&self, set: &PackageSet) -> io::Result<()> {
        self.write("acknowledged.json", &serde_json::to_vec(set)?)
    }

    /// The key under which secrets of this host are told apart; made once, and told nobody.
    pub(crate) fn fingerprint_key(&self) -> io::Result<FingerprintKey> {
        const NAME: &str = "fingerprint.key";
        let bytes = match fs::read(self.directory.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = vec![0; 32];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                self.write(NAME, &key)?;
                key
            }
            Err(error) => return Err(error),
        };
        let bytes: [u8; 32] =
            bytes.try_into().map_err(|_| io::Error::other(format!("`{NAME}` is damaged")))?;
        Ok(FingerprintKey::from(bytes))
    }

    /// The files that the control plane has, as far as we know; without it all are told.
    pub(crate) fn told_files(&self) -> Option<FileManifest> {
        self.read("told-files.json").ok().flatten()
    }

    pub(crate) fn keep_told_files(&self, told: &FileManifest) -> io::Result<()> {
        self.write("told-files.json", &serde_json::to_vec(told)?)
    }

    /// The lines of a file, as far as they can be read; none where there is no such file.
    pub(crate) fn lines<T: DeserializeOwned>(&self, name: &str) -> io::Result<Vec<T>> {
        let bytes = match fs::read(self.directory.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Puts a line behind those of a file; it is durable afterwards.
    pub(crate) fn append(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.make()?;
        let path = self.directory.join(name);
        let is_torn =
            fs::read(&path).is_ok_and(|bytes| bytes.last().is_some_and(|it| *it != b'\n'));
        let mut line = if is_torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, value)?;
        line.push(b'\n');
        let is_new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(&line)?;
        file.sync_data()?;
        if is_new { File::open(&self.directory)?.sync_all() } else { Ok(()) }
    }

    /// Puts lines in the place of those of a file.
    pub(crate) fn replace<T: Serialize>(&self, name: &str, values: &[T]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for value in values {
            serde_json::to_writer(&mut bytes, value)?;
            bytes.push(b'\n');
        }
        self.write(name, &bytes)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)
    }

    /// Beside its place, flushed and renamed: the old file or the new one, never a piece.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.make()?;
        let beside = self.directory.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, self.directory.join(name))?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_count_rises_for_ever_and_files_are_for_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));

        assert_eq!(state.identity().unwrap(), None);
        assert_eq!([state.count().unwrap(), state.count().unwrap()], [1, 2]);
        assert_eq!(State::new(state.directory()).count().unwrap(), 3);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(state.directory()), 0o700);
        assert_eq!(mode(&state.directory().join("counter")), 0o600);
    }

    #[test]
    fn the_key_for_results_is_made_once_and_is_the_owners() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());

        let key = state.attestor().unwrap().key();
        assert_eq!(state.attestor().unwrap().key(), key);
        let data = directory.path().join("attestor.pem").metadata().unwrap();
        assert_eq!(data.permissions().mode() & 0o777, 0o600);
        fs::write(directory.path().join("attestor.pem"), "no key").unwrap();
        assert!(state.attestor().is_err(), "none is made over one that cannot be read");
    }

    #[test]
    fn a_lock_is_one_holders() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());

        let held = state.lock(Lock::Run, Duration::ZERO).unwrap();
        assert!(held.is_some());
        assert!(state.lock(Lock::Run, Duration::from_millis(50)).unwrap().is_none());
        assert!(state.lock(Lock::Desk, Duration::ZERO).unwrap().is_some(), "another one");
        drop(held);
        assert!(state.lock(Lock::Run, Duration::ZERO).unwrap().is_some());
    }
}
