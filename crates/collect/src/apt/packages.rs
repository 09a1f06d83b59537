//! Packages themselves, by the hashes of verified lists.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::archive::OfferedPackage;
use sha2::{Digest as _, Sha256};

use super::changelogs::{FETCHING, lock_fetching};
use super::{Collector, Progress, Suite, in_parallel};
use crate::fetch::{FetchError, hex};

/// Largest .deb that is fetched. Debian's largest has 1.3 GB.
const DEB_LIMIT: u64 = 4 << 30;

/// How long a package is kept that nobody wants again.
const KEPT: Duration = Duration::from_secs(60 * 24 * 3600);

/// A package that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PackageWant<'a> {
    /// The suite that offers it.
    pub suite: &'a Suite,
    /// The package in it.
    pub package: &'a OfferedPackage,
}

/// Why a package could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The list gives no hash or an absurd size.
    #[error("its package list does not vouch for `{filename}`")]
    NotVouched {
        /// Pool path.
        filename: String,
    },
    /// It could not be fetched, or is not what its list vouches for.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It was not fetched before, and we may not fetch now.
    #[error("`{filename}` was not fetched before")]
    NotCached {
        /// Pool path.
        filename: String,
    },
    /// Nobody wants it any more.
    #[error("fetching `{filename}` was called off")]
    CalledOff {
        /// Pool path.
        filename: String,
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

impl PackageError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Fetch(error) => return error.help(),
            Self::NotVouched { .. } => "use an archive with SHA-256 hashes in its package lists",
            Self::NotCached { .. } => "run once without --offline",
            Self::CalledOff { .. } => "ask again",
            Self::Disk { .. } => "check space and permissions there, or name another with --data",
        };
        Some(text.to_owned())
    }
}

impl Collector {
    /// The wanted packages as files, several at once; one outcome each, in their order.
    ///
    /// A file is named by its hash and stays for the next time, until it was not wanted for
    /// 60 days; it is fetched again where the disk has altered it since.
    pub fn packages(
        &self,
        wants: &[PackageWant<'_>],
        progress: &dyn Progress,
    ) -> Vec<Result<PathBuf, PackageError>> {
        let directory = self.data.join("packages");
        let locked = lock_fetching(&directory);
        let outcomes = in_parallel(wants, |want| {
            if progress.is_called_off() {
                let filename = want.package.filename.clone();
                return Err(PackageError::CalledOff { filename });
            }
            progress.started(&want.package.name);
            let outcome = match &locked {
                Ok(_held) => self.package(want, &directory),
                Err(error) => {
                    let source = io::Error::new(error.kind(), error.to_string());
                    Err(PackageError::Disk { path: directory.clone(), source })
                }
            };
            progress.finished(&want.package.name);
            outcome
        });
        if locked.is_ok() {
            // The more there is, the longer only; what cannot be removed now is the next time.
            let _ = remove_unwanted(&directory, SystemTime::now() - KEPT);
        }
        outcomes
    }

    fn package(&self, want: &PackageWant<'_>, directory: &Path) -> Result<PathBuf, PackageError> {
        let OfferedPackage { filename, size, sha256, .. } = want.package;
        if sha256.is_empty() || *size == 0 || *size > DEB_LIMIT {
            return Err(PackageError::NotVouched { filename: filename.clone() });
        }
        let path = directory.join(format!("{sha256}.deb"));
        let disk = |source: io::Error| PackageError::Disk { path: path.clone(), source };
        if is_kept(&path, *size, sha256).map_err(disk)? {
            // Else it is only fetched again one day.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(path);
        }
        let Some(fetcher) = &self.fetcher else {
            return Err(PackageError::NotCached { filename: filename.clone() });
        };
        // A directory of its own: another run may fetch the same package at the same time.
        let place =
            tempfile::Builder::new().prefix(FETCHING).tempdir_in(directory).map_err(disk)?;
        let deb = place.path().join("deb");
        fetcher.verified(&want.suite.pool_uri(filename), *size, sha256, &deb)?;
        fs::rename(&deb, &path).map_err(disk)?;
        Ok(path)
    }
}

/// Removes the packages that were last wanted before an instant.
fn remove_unwanted(directory: &Path, before: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_package = entry.path().extension().is_some_and(|it| it == "deb");
        if is_package && entry.metadata()?.modified()? < before {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file is there and still what it is called.
fn is_kept(path: &Path, size: u64, sha256: &str) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hash.finalize()) == sha256),
            length => hash.update(&piece[..length]),
        }
    }
}
