//! What missing patches fix: changelogs from verified packages, kept as facts.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use domain::advisory::{Changelog, Provenance};
use domain::archive::OfferedPackage;
use domain::changelog;

use super::deb::{self, DebError};
use super::store::{UNFINISHED, remove_where, write_whole};
use super::{Collector, Progress, Suite, in_parallel};
use crate::fetch::FetchError;

/// Largest .deb that is fetched for its changelog alone.
const DEB_LIMIT: u64 = 64 << 20;
/// How many bytes of a source's packages are fetched before giving up: the smallest ones are
/// often empty and link to another package's documentation.
const SOURCE_BUDGET: u64 = 128 << 20;

/// How the names of directories begin that hold a .deb being fetched.
const FETCHING: &str = ".deb-";

/// A changelog that is wanted.
#[derive(Debug, Clone)]
pub struct ChangelogWant<'a> {
    /// Source package.
    pub source: String,
    /// Source version of the candidate.
    pub version: String,
    /// The suite that offers it.
    pub suite: &'a Suite,
    /// Packages of that suite built from this source and version.
    pub packages: Vec<OfferedPackage>,
}

/// Why a changelog could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ChangelogError {
    /// The suite offers no package of the source, or only too large ones.
    #[error("its archive offers no package below {limit_mb} MB to read the changelog from")]
    NoPackage {
        /// The limit.
        limit_mb: u64,
    },
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It was not fetched before, and we may not fetch now.
    #[error("its changelog was not fetched before")]
    NotCached,
    /// The packages tried hold none.
    #[error("no changelog in `{filename}`")]
    Deb {
        /// Pool path of the last package tried.
        filename: String,
        /// Why.
        source: DebError,
    },
    /// Our own disk failed.
    #[error("cannot keep `{path}`")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Collector {
    /// The wanted changelogs, several at once; one outcome each, in their order.
    pub fn changelogs(
        &self,
        wants: &[ChangelogWant<'_>],
        progress: &dyn Progress,
    ) -> Vec<Result<Changelog, ChangelogError>> {
        let outcome = self.lock_changelogs();
        // Held until all is done: see `lock_changelogs`.
        let _lock = match outcome {
            Ok(lock) => lock,
            Err(error) => {
                let path = self.data.join("changelogs");
                let failed = |_| {
                    let source = io::Error::new(error.kind(), error.to_string());
                    Err(ChangelogError::Disk { path: path.clone(), source })
                };
                return wants.iter().map(failed).collect();
            }
        };
        in_parallel(wants, |want| {
            progress.started(&want.source);
            let outcome = self.changelog(want);
            progress.finished(&want.source);
            outcome
        })
    }

    fn changelog(&self, want: &ChangelogWant<'_>) -> Result<Changelog, ChangelogError> {
        let mut packages: Vec<&OfferedPackage> =
            want.packages.iter().filter(|package| fetchable(package)).collect();
        // Signed copies carry a changelog of their own, without a word on what they fix.
        packages.sort_by_key(|package| (is_signed_copy(package), package.size, &package.filename));
        packages.dedup_by(|a, b| a.sha256 == b.sha256);
        for package in &packages {
            if let Some(kept) = self.kept_changelog(package)? {
                return Ok(kept);
            }
        }
        let mut last = ChangelogError::NoPackage { limit_mb: DEB_LIMIT >> 20 };
        let mut budget = SOURCE_BUDGET;
        for package in packages {
            let Some(rest) = budget.checked_sub(package.size) else { break };
            budget = rest;
            match self.fetch_changelog(want, package) {
                Err(
                    error @ (ChangelogError::Deb { .. }
                    | ChangelogError::Fetch(FetchError::Absent { .. })),
                ) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    /// Everyone who fetches holds the lock, shared. Who gets it alone sees nobody's unfinished
    /// fetches, but those of killed runs, and removes them.
    fn lock_changelogs(&self) -> io::Result<File> {
        let directory = self.data.join("changelogs");
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        if lock.try_lock().is_ok() {
            remove_where(&directory, |name| {
                name.starts_with(FETCHING) || name.starts_with(UNFINISHED)
            })?;
        }
        lock.lock_shared()?;
        Ok(lock)
    }

    fn changelog_path(&self, package: &OfferedPackage) -> PathBuf {
        self.data.join("changelogs").join(format!("{}.json", package.sha256))
    }

    fn kept_changelog(
        &self,
        package: &OfferedPackage,
    ) -> Result<Option<Changelog>, ChangelogError> {
        let path = self.changelog_path(package);
        match fs::read(&path) {
            // Damaged facts are read again from their source.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ChangelogError::Disk { path, source }),
        }
    }

    fn fetch_changelog(
        &self,
        want: &ChangelogWant<'_>,
        package: &OfferedPackage,
    ) -> Result<Changelog, ChangelogError> {
        let path = self.changelog_path(package);
        let directory = self.data.join("changelogs");
        let disk = |source: io::Error| ChangelogError::Disk { path: path.clone(), source };
        let Some(fetcher) = &self.fetcher else { return Err(ChangelogError::NotCached) };
        // A directory of its own: another run may fetch the same package at the same time.
        let place =
            tempfile::Builder::new().prefix(FETCHING).tempdir_in(&directory).map_err(disk)?;
        let deb = place.path().join("deb");
        let uri = want.suite.pool_uri(&package.filename);
        fetcher.verified(&uri, package.size, &package.sha256, &deb)?;
        let text = deb::changelog(File::open(&deb).map_err(disk)?, &package.name)
            .map_err(|source| ChangelogError::Deb { filename: package.filename.clone(), source })?;
        let changelog = Changelog {
            source: want.source.clone(),
            entries: changelog::parse(&text),
            provenance: Provenance::DerivedFromChangelog {
                filename: package.filename.clone(),
                sha256: package.sha256.clone(),
            },
        };
        let json = serde_json::to_vec(&changelog).map_err(io::Error::other).map_err(disk)?;
        write_whole(&path, &json).map_err(disk)?;
        Ok(changelog)
    }
}

/// Neither too large nor without a hash that vouches for it.
fn fetchable(package: &OfferedPackage) -> bool {
    package.size <= DEB_LIMIT && !package.sha256.is_empty()
}

fn is_signed_copy(package: &OfferedPackage) -> bool {
    package.filename.contains("-signed")
}
