//! The packages of a patch, verified and put on a disk that the guest can only read.
//!
//! Nothing is mounted: mke2fs copies a directory into a filesystem of its own making. ext4,
//! because an image that boots from ext4 can read it whatever else its kernel knows.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use guest::Downgrades;
use sha2::{Digest as _, Sha256};

use crate::work::JobDirectory;

/// A package file, and what the caller's verified sources say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Where the .deb is.
    pub path: PathBuf,
    /// Its SHA-256 in lowercase hexadecimal, from a signed index.
    pub sha256: String,
    /// Binary package.
    pub package: String,
    /// Architecture, as in its control file.
    pub architecture: String,
    /// Version.
    pub version: String,
    /// The source that it was built from.
    pub source: String,
}

/// Why packages do not get into the lab.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file could not be read or copied.
    #[error("cannot use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file is not the one that was verified.
    #[error("`{}` has SHA-256 {found}, not {expected}", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// From the signed index.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A name is no package's.
    #[error("`{name}` is no package name")]
    Name {
        /// The name.
        name: String,
    },
    /// mke2fs could not make the disk.
    #[error("cannot make the package disk: {reason}")]
    Disk {
        /// What it said.
        reason: String,
    },
}

impl PackageError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Altered { .. } => Some("fetch it again from the archive that signed its hash"),
            Self::Disk { .. } => Some("the lab needs mke2fs (package e2fsprogs)"),
            Self::Io { .. } | Self::Name { .. } => None,
        }
    }
}

/// Which of the attached packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageSet {
    /// Those of the patch.
    Patches,
    /// Those that they replaced.
    Previous,
}

impl PackageSet {
    /// Its directory on the disk.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Patches => "patches",
            Self::Previous => "previous",
        }
    }

    /// Patches only go forward; the way back may go back.
    pub(crate) const fn downgrades(self) -> Downgrades {
        match self {
            Self::Patches => Downgrades::Refused,
            Self::Previous => Downgrades::Allowed,
        }
    }
}

/// Copies the packages while verifying them, and makes a disk of the copies.
pub(crate) fn disk(
    job: &JobDirectory,
    patches: &[PackageFile],
    previous: &[PackageFile],
) -> Result<PathBuf, PackageError> {
    let staging = job.path().join("packages");
    // Of packages that were attached before.
    let _ = fs::remove_dir_all(&staging);
    let mut bytes = 0;
    for (set, packages) in [(PackageSet::Patches, patches), (PackageSet::Previous, previous)] {
        let directory = staging.join(set.directory());
        fs::create_dir_all(&directory).map_err(|error| io_error(&directory, error))?;
        for (number, package) in packages.iter().enumerate() {
            bytes += copy(package, number, &directory)?;
        }
    }
    let file = job.path().join("packages.ext4");
    let _ = fs::remove_file(&file);
    // Tables of inodes and blocks: a few per cent, and something for an empty disk.
    let kibibytes = bytes / 1024 * 21 / 20 + 4096;
    let output = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"])
        .arg(&staging)
        .arg(&file)
        .arg(format!("{kibibytes}k"))
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| PackageError::Disk { reason: error.to_string() })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(PackageError::Disk { reason });
    }
    fs::remove_dir_all(&staging).map_err(|error| io_error(&staging, error))?;
    Ok(file)
}

/// Copies and hashes in one go, so that what was hashed is what the guest gets.
fn copy(package: &PackageFile, number: usize, directory: &Path) -> Result<u64, PackageError> {
    if !is_name(&package.package) {
        return Err(PackageError::Name { name: package.package.clone() });
    }
    let place = directory.join(format!("{number:04}_{}.deb", package.package));
    let mut from = File::open(&package.path).map_err(|error| io_error(&package.path, error))?;
    let mut to = File::create(&place).map_err(|error| io_error(&place, error))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let length = from.read(&mut piece).map_err(|error| io_error(&package.path, error))?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
        to.write_all(&piece[..length]).map_err(|error| io_error(&place, error))?;
        bytes += length as u64;
    }
    let found = crate::evidence::hex(&hash.finalize());
    if found != package.sha256 {
        let (path, expected) = (package.path.clone(), package.sha256.clone());
        return Err(PackageError::Altered { path, expected, found });
    }
    Ok(bytes)
}

/// Debian Policy 5.6.1.
fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(allowed)
}

fn io_error(path: &Path, error: io::Error) -> PackageError {
    PackageError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::WorkArea;

    fn package(path: PathBuf, sha256: &str, name: &str) -> PackageFile {
        PackageFile {
            path,
            sha256: sha256.into(),
            package: name.into(),
            architecture: "all".into(),
            version: "1".into(),
            source: name.into(),
        }
    }

    #[test]
    fn only_what_was_verified_gets_in() {
        let place = tempfile::tempdir().unwrap();
        let (area, _) = WorkArea::open(&place.path().join("lab")).unwrap();
        let job = area.job().unwrap();
        let file = place.path().join("a.deb");
        fs::write(&file, "").unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

        let disk_of = |package| disk(&job, &[package], &[]);

        assert!(disk_of(package(file.clone(), empty, "web")).unwrap().exists());
        let altered = disk_of(package(file.clone(), &"0".repeat(64), "web"));
        assert!(matches!(altered, Err(PackageError::Altered { .. })));
        let traversal = disk_of(package(file, empty, "../web"));
        assert!(matches!(traversal, Err(PackageError::Name { .. })));
    }
}
