//! What an agent keeps: its key, its certificate, its count of reports. For its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use domain::cloud::{AgentId, CiId};
use domain::fleet::PackageSet;
use domain::order::{ExecutionId, OrderResult, Trusted};
use jiff::Timestamp;
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
        for entry in fs::read_dir(&self.directory)? {
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

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Beside its place, flushed and renamed: the old file or the new one, never a piece.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
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
}
