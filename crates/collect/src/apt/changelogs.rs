//! What missing patches fix: changelogs from verified packages, kept as facts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use domain::advisory::{Changelog, ChangelogEntry, Provenance};
use domain::archive::OfferedPackage;
use domain::changelog;
use serde::{Deserialize, Serialize};

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
pub(super) const FETCHING: &str = ".deb-";

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
    /// Nobody wants it any more.
    #[error("reading its changelog was called off")]
    CalledOff,
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
        let outcome = lock_fetching(&self.data.join("changelogs"));
        // Held until all is done.
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
            if progress.is_called_off() {
                return Err(ChangelogError::CalledOff);
            }
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
        let mut last = ChangelogError::NoPackage { limit_mb: DEB_LIMIT >> 20 };
        let mut unread = Vec::new();
        for package in packages {
            match self.kept(package)? {
                Some(Kept::Changelog(kept)) => return Ok(kept),
                Some(Kept::None { reason }) => {
                    let source = DebError::Known { reason };
                    last = ChangelogError::Deb { filename: package.filename.clone(), source };
                }
                None => unread.push(package),
            }
        }
        let mut budget = SOURCE_BUDGET;
        for package in unread {
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

    fn changelog_path(&self, package: &OfferedPackage) -> PathBuf {
        self.data.join("changelogs").join(format!("{}.json", package.sha256))
    }

    fn kept(&self, package: &OfferedPackage) -> Result<Option<Kept>, ChangelogError> {
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
        let read = deb::changelog(File::open(&deb).map_err(disk)?, &package.name)
            .and_then(|text| entries(&text, &want.version));
        let (kept, outcome) = match read {
            Ok(entries) => {
                let changelog = Changelog {
                    source: want.source.clone(),
                    entries,
                    provenance: Provenance::DerivedFromChangelog {
                        filename: package.filename.clone(),
                        sha256: package.sha256.clone(),
                    },
                };
                (Kept::Changelog(changelog.clone()), Ok(changelog))
            }
            Err(source) => {
                let reason = source.to_string();
                let filename = package.filename.clone();
                (Kept::None { reason }, Err(ChangelogError::Deb { filename, source }))
            }
        };
        let json = serde_json::to_vec(&kept).map_err(io::Error::other).map_err(disk)?;
        write_whole(&path, &json).map_err(disk)?;
        outcome
    }
}

/// Everyone who fetches into a directory holds its lock, shared. Who gets it alone sees nobody's
/// unfinished fetches, but those of killed runs, and removes them.
pub(super) fn lock_fetching(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let lock = File::create(directory.join("lock"))?;
    if lock.try_lock().is_ok() {
        remove_where(directory, |name| name.starts_with(FETCHING) || name.starts_with(UNFINISHED))?;
    }
    lock.lock_shared()?;
    Ok(lock)
}

/// What is known of a package that was fetched once.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    /// Its changelog's facts.
    Changelog(Changelog),
    /// It has none, so that it need not be fetched again.
    None {
        /// Why not.
        reason: String,
    },
}

/// The entries of a changelog, if it is that of the version wanted: signed copies have one of
/// their own, and a package may carry another's.
fn entries(text: &str, version: &str) -> Result<Vec<ChangelogEntry>, DebError> {
    let entries = changelog::parse(text);
    if entries.iter().any(|entry| entry.version == version) {
        return Ok(entries);
    }
    let newest = entries.into_iter().next().map_or_else(|| "none".to_owned(), |it| it.version);
    Err(DebError::OtherVersion { wanted: version.to_owned(), newest })
}

/// Neither too large nor without a hash that vouches for it.
fn fetchable(package: &OfferedPackage) -> bool {
    package.size <= DEB_LIMIT && !package.sha256.is_empty()
}

fn is_signed_copy(package: &OfferedPackage) -> bool {
    package.filename.contains("-signed")
}
