//! rpm's databases: sqlite and ndb. The older Berkeley DB form is recognised and refused.

pub mod header;
pub mod ndb;
pub mod sqlite;

use domain::files::{FileError, FileView};
use domain::inventory::{InstalledPackage, PackageState, SourcePackage};

use super::{Listing, PackageFiles, PackagedFile, is_word};
use header::{Header, HeaderFile};
use jiff::Timestamp;

/// Where rpm keeps it; the second is SUSE's and Fedora's newer place.
const DIRECTORIES: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// Files of it, whichever form it has.
pub(crate) const DATABASES: [&str; 6] = [
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
];

/// A server with 1,500 packages has a database of 150 MB.
const LIMIT: u64 = 512 << 20;

/// Signing keys are stored as packages of this name; nothing is installed.
const SIGNING_KEY: &str = "gpg-pubkey";

/// rpm's architecture word for packages that run anywhere.
const INDEPENDENT: &str = "noarch";

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RpmError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database breaks its format's rules.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The database.
        path: String,
        /// Which rule, with the values.
        reason: String,
    },
    /// It is in a format that is not read.
    #[error("`{path}` is in the Berkeley DB format of rpm before 4.16, which is not read")]
    BerkeleyDb {
        /// The database.
        path: String,
    },
}

/// What rpm's database says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// The packages.
    pub listing: Listing,
    /// Architecture; empty where nothing tells it.
    pub architecture: String,
}

/// Reads the database of a system, `None` where there is none.
pub(crate) fn read(files: &dyn FileView) -> Result<Option<Database>, RpmError> {
    for directory in DIRECTORIES {
        if let Some(headers) = read_headers(files, directory)? {
            let listing = listing(&headers);
            let architecture = listing.most_frequent_architecture(INDEPENDENT).unwrap_or_default();
            return Ok(Some(Database { listing, architecture }));
        }
    }
    Ok(None)
}

/// Files below a directory as packages have them that were installed since a time.
pub(crate) fn packaged(
    files: &dyn FileView,
    below: &str,
    since: Timestamp,
) -> Result<Vec<PackageFiles>, RpmError> {
    for directory in DIRECTORIES {
        if let Some(headers) = read_headers(files, directory)? {
            let read = |header: &Vec<u8>| packaged_of(header, below, since);
            return Ok(headers.iter().filter_map(read).collect());
        }
    }
    Ok(Vec::new())
}

/// The same of one header; `None` of one that is damaged, that was installed before, or has no such files.
pub fn packaged_of(header: &[u8], below: &str, since: Timestamp) -> Option<PackageFiles> {
    let found = header::files(header, |path| path.starts_with(below)).ok()?;
    let installed_at = Timestamp::from_second(i64::from(found.installed_at?)).ok()?;
    if found.files.is_empty() || installed_at < since {
        return None;
    }
    let package = package(&header::parse(header).ok()?).ok()??;
    let file = |HeaderFile { path, checksum, is_configuration }| PackagedFile {
        path,
        checksum,
        is_configuration,
    };
    Some(PackageFiles {
        package: package.name,
        version: package.version,
        installed_at: Some(installed_at),
        files: found.files.into_iter().map(file).collect(),
    })
}

/// The raw headers of one directory's database.
fn read_headers(files: &dyn FileView, directory: &str) -> Result<Option<Vec<Vec<u8>>>, RpmError> {
    let path = format!("{directory}/rpmdb.sqlite");
    if let Some(database) = files.read(&path, LIMIT)? {
        let log = files.read(&format!("{path}-wal"), LIMIT)?.unwrap_or_default();
        let headers =
            sqlite::headers(database, &log).map_err(|reason| RpmError::Damaged { path, reason })?;
        return Ok(Some(headers));
    }
    let path = format!("{directory}/Packages.db");
    if let Some(database) = files.read(&path, LIMIT)? {
        let headers =
            ndb::headers(&database).map_err(|reason| RpmError::Damaged { path, reason })?;
        return Ok(Some(headers.into_iter().map(<[u8]>::to_vec).collect()));
    }
    let path = format!("{directory}/Packages");
    match files.read(&path, 0) {
        Ok(None) => Ok(None),
        Ok(Some(_)) | Err(FileError::TooLarge { .. }) => Err(RpmError::BerkeleyDb { path }),
        Err(error) => Err(error.into()),
    }
}

/// The packages in raw headers.
pub fn listing<H: AsRef<[u8]>>(headers: &[H]) -> Listing {
    let mut listing = Listing::default();
    for header in headers {
        match header::parse(header.as_ref()).and_then(|header| package(&header)) {
            Ok(Some(package)) => listing.packages.push(package),
            Ok(None) => {}
            Err(problem) => listing.problems.push(format!("a record of rpm's database: {problem}")),
        }
    }
    listing.sorted()
}

/// `None` for signing keys.
fn package(header: &Header<'_>) -> Result<Option<InstalledPackage>, String> {
    let name = word("name", header.name)?;
    if name == SIGNING_KEY {
        return Ok(None);
    }
    let version = word("version", header.version)?;
    let release = word("release", header.release)?;
    let plain = format!("{version}-{release}");
    let full = with_epoch(header.epoch, &plain);
    Ok(Some(InstalledPackage {
        name: name.to_owned(),
        architecture: word("architecture", header.architecture.or(Some(INDEPENDENT)))?.to_owned(),
        source: source(name, &plain, &full, header),
        version: full,
        state: PackageState::Installed,
        held: false,
    }))
}

fn word<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    value.filter(|value| is_word(value)).ok_or_else(|| format!("its {field} is {value:?}"))
}

/// Epoch 0 and no epoch are the same to rpm.
fn with_epoch(epoch: Option<u32>, version: &str) -> String {
    match epoch {
        None | Some(0) => version.to_owned(),
        Some(epoch) => format!("{epoch}:{version}"),
    }
}

/// `SOURCERPM` is a file name, `name-version-release.src.rpm`, and lacks the epoch: that of the
/// binary is taken where the versions agree.
fn source(name: &str, plain: &str, full: &str, header: &Header<'_>) -> SourcePackage {
    let parsed = header.source_rpm.filter(|file| is_word(file)).and_then(|file| {
        let stem = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
        let (rest, release) = stem.rsplit_once('-')?;
        let (source, version) = rest.rsplit_once('-')?;
        Some((source.to_owned(), format!("{version}-{release}")))
    });
    match parsed {
        Some((source, version)) if version == plain => {
            SourcePackage { name: source, version: full.to_owned() }
        }
        Some((source, version)) => SourcePackage { name: source, version },
        None => SourcePackage { name: name.to_owned(), version: full.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn packaged(epoch: Option<u32>, source_rpm: Option<&'static str>) -> InstalledPackage {
        let header = Header {
            name: Some("bind-libs"),
            version: Some("9.11.26"),
            release: Some("3.el8"),
            epoch,
            architecture: Some("x86_64"),
            source_rpm,
        };
        package(&header).unwrap().unwrap()
    }

    #[test]
    fn sources_and_epochs_are_put_together() {
        let cases = [
            (Some(32), Some("bind-9.11.26-3.el8.src.rpm"), "bind", "32:9.11.26-3.el8"),
            (Some(32), Some("bind-extra-1.0-1.el8.src.rpm"), "bind-extra", "1.0-1.el8"),
            (Some(0), Some("bind-9.11.26-3.el8.src.rpm"), "bind", "9.11.26-3.el8"),
            (None, None, "bind-libs", "9.11.26-3.el8"),
            (None, Some("(none)"), "bind-libs", "9.11.26-3.el8"),
        ];
        for (epoch, file, name, version) in cases {
            let expected = SourcePackage { name: name.to_owned(), version: version.to_owned() };
            assert_eq!(packaged(epoch, file).source, expected);
        }
        assert_eq!(packaged(Some(32), None).version, "32:9.11.26-3.el8");
    }

    #[test]
    fn berkeley_db_is_refused_by_name() {
        let files =
            BTreeMap::from([("/var/lib/rpm/Packages".to_owned(), vec![0, 5, 0x16, 0x61, 0])]);

        let error = read(&files).unwrap_err();

        assert!(error.to_string().contains("Berkeley DB"), "{error}");
    }

    #[test]
    fn signing_keys_are_no_packages() {
        let header = Header { name: Some("gpg-pubkey"), ..Header::default() };

        assert_eq!(package(&header), Ok(None));
    }
}
