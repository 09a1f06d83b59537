//! apk-tools' database: `lib/apk/db/installed`, one letter per field.

use domain::files::{FileError, FileView};
use domain::inventory::{InstalledPackage, PackageState, SourcePackage};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Checksum, Listing, PackageFiles, PackagedFile, is_word};

/// apk-tools 3 moved it below `/usr`.
pub(crate) const PATHS: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// It lists every file of every package: 1 MB for 300 packages.
const LIMIT: u64 = 256 << 20;

/// apk's architecture word for packages that run anywhere.
pub(crate) const INDEPENDENT: &str = "noarch";

/// What apk's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// The packages.
    pub listing: Listing,
    /// Architecture; empty where nothing tells it.
    pub architecture: String,
}

/// Reads the database of a system, `None` where there is none.
pub(crate) fn read(files: &dyn FileView) -> Result<Option<Database>, FileError> {
    for path in PATHS {
        let Some(content) = files.read(path, LIMIT)? else { continue };
        let listing = parse_installed(&content);
        let stated = files.read("/etc/apk/arch", 1024)?.unwrap_or_default();
        let stated =
            String::from_utf8_lossy(&stated).lines().next().unwrap_or("").trim().to_owned();
        let architecture = if is_word(&stated) {
            stated
        } else {
            listing.most_frequent_architecture(INDEPENDENT).unwrap_or_default()
        };
        return Ok(Some(Database { listing, architecture }));
    }
    Ok(None)
}

/// Files below a directory as installed packages have them.
pub(crate) fn packaged(files: &dyn FileView, below: &str) -> Result<Vec<PackageFiles>, FileError> {
    for path in PATHS {
        if let Some(content) = files.read(path, LIMIT)? {
            return Ok(parse_files(&content, below));
        }
    }
    Ok(Vec::new())
}

/// Reads the files that an `installed` file lists: `F` directory, `R` name in it, `Z` checksum of the name before it.
/// Packages that are damaged, or have no such files, are left out.
///
/// apk protects what lies below `/etc`: it lays its own beside what was altered (`.apk-new`).
pub fn parse_files(content: &[u8], below: &str) -> Vec<PackageFiles> {
    let text = String::from_utf8_lossy(content);
    let (mut found, mut files, mut directory) = (Vec::new(), Vec::<PackagedFile>::new(), "");
    let mut is_meant = false;
    for said in read_records(&text) {
        match said {
            Said::Field("F", value) => directory = value,
            Said::Field("R", value) => {
                let slash = if directory.is_empty() { "" } else { "/" };
                let path = format!("/{directory}{slash}{value}");
                is_meant = path.starts_with(below);
                if is_meant {
                    let is_configuration = path.starts_with("/etc/");
                    files.push(PackagedFile { path, checksum: None, is_configuration });
                }
            }
            Said::Field("Z", value) => {
                if let Some(file) = files.last_mut().filter(|_| is_meant) {
                    file.checksum = checksum(value);
                }
            }
            Said::Field(..) => {}
            Said::Record(package) => {
                let files = std::mem::take(&mut files);
                (directory, is_meant) = ("", false);
                if let Ok(InstalledPackage { name: package, version, .. }) = package
                    && !files.is_empty()
                {
                    found.push(PackageFiles { package, version, installed_at: None, files });
                }
            }
        }
    }
    found
}

/// `Q1` and SHA-1 in base64.
fn checksum(text: &str) -> Option<Checksum> {
    let bytes = BASE64_STANDARD.decode(text.strip_prefix("Q1")?).ok()?;
    bytes.try_into().ok().map(Checksum::Sha1)
}

/// Reads the text of an `installed` file.
pub fn parse_installed(content: &[u8]) -> Listing {
    let text = String::from_utf8_lossy(content);
    let mut listing = Listing::default();
    for said in read_records(&text) {
        match said {
            Said::Record(Ok(package)) => listing.packages.push(package),
            Said::Record(Err(problem)) => listing.problems.push(problem),
            Said::Field(..) => {}
        }
    }
    listing.sorted()
}

/// What an `installed` file says, one thing after another.
enum Said<'t> {
    /// A field that is none of the package's own: its letter, and what it says.
    Field(&'t str, &'t str),
    /// Here the package ends to which the fields before belong; or what is wrong with it.
    Record(Result<InstalledPackage, String>),
}

/// Reads records, each of which ends at a blank line. Besides its own fields (`P` name, `V` version, `A` architecture,
/// `o` origin) a package lists its files with further letters (`F`, `R`, `Z`…).
fn read_records(text: &str) -> impl Iterator<Item = Said<'_>> {
    let mut fields = Fields::default();
    text.lines().chain([""]).filter_map(move |line| {
        if line.is_empty() {
            return std::mem::take(&mut fields).into_package().map(Said::Record);
        }
        fields.any = true;
        let (letter, value) = line.split_once(':')?;
        let own = match letter {
            "P" => &mut fields.name,
            "V" => &mut fields.version,
            "A" => &mut fields.architecture,
            "o" => &mut fields.origin,
            _ => return Some(Said::Field(letter, value)),
        };
        *own = Some(value);
        None
    })
}

#[derive(Default)]
struct Fields<'a> {
    any: bool,
    name: Option<&'a str>,
    version: Option<&'a str>,
    architecture: Option<&'a str>,
    origin: Option<&'a str>,
}

impl Fields<'_> {
    /// `None` between paragraphs.
    fn into_package(self) -> Option<Result<InstalledPackage, String>> {
        if !self.any {
            return None;
        }
        let (Some(name), Some(version)) =
            (self.name.filter(|name| is_word(name)), self.version.filter(|word| is_word(word)))
        else {
            return Some(Err(format!(
                "a record of apk's database names the package {:?} and the version {:?}",
                self.name, self.version
            )));
        };
        let architecture =
            self.architecture.filter(|word| is_word(word)).unwrap_or(INDEPENDENT).to_owned();
        let origin = self.origin.filter(|word| is_word(word)).unwrap_or(name);
        Some(Ok(InstalledPackage {
            name: name.to_owned(),
            architecture,
            version: version.to_owned(),
            // Alpine builds all packages of an origin together, with one version.
            source: SourcePackage { name: origin.to_owned(), version: version.to_owned() },
            state: PackageState::Installed,
            held: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const INSTALLED: &str = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:1\nL:MIT\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\nC:Q1def=\nP:libcrypto3\nV:3.3.2-r0\nA:x86_64\no:openssl\nF:P\nR:o\n\n";

    #[test]
    fn packages_come_with_their_origin() {
        let files = BTreeMap::from([
            ("/lib/apk/db/installed".to_owned(), INSTALLED.as_bytes().to_vec()),
            ("/etc/apk/arch".to_owned(), b"x86_64\n".to_vec()),
        ]);

        let database = read(&files).unwrap().unwrap();

        let seen: Vec<_> = database
            .listing
            .packages
            .iter()
            .map(|package| {
                (package.name.as_str(), package.source.name.as_str(), package.version.as_str())
            })
            .collect();
        assert_eq!(seen, [("libcrypto3", "openssl", "3.3.2-r0"), ("musl", "musl", "1.2.5-r0")]);
        assert_eq!(database.architecture, "x86_64");
        assert_eq!(database.listing.problems, Vec::<String>::new());
    }

    #[test]
    fn files_come_with_their_checksums() {
        let text = "P:nginx\nV:1.26.2-r0\nF:etc\nF:etc/nginx\nM:0:0:755\nR:nginx.conf\na:0:0:644\n\
            Z:Q1qvTGHdzF6KLavt4PO0gs2a6pQ00=\nR:mime.types\nZ:Q1qvTGHdz\nF:usr/sbin\nR:nginx\n\
            Z:Q1qvTGHdzF6KLavt4PO0gs2a6pQ00=\n\nP:root\nV:1-r0\nF:\nR:x\n\nV:1\nF:etc\nR:y\n";

        let found = parse_files(text.as_bytes(), "/etc/");

        assert_eq!(found.len(), 1);
        assert_eq!((found[0].package.as_str(), found[0].version.as_str()), ("nginx", "1.26.2-r0"));
        let files: Vec<_> =
            found[0].files.iter().map(|it| (it.path.as_str(), it.checksum)).collect();
        // SHA-1 of `hello`.
        let hello = Checksum::Sha1([
            0xaa, 0xf4, 0xc6, 0x1d, 0xdc, 0xc5, 0xe8, 0xa2, 0xda, 0xbe, 0xde, 0x0f, 0x3b, 0x48,
            0x2c, 0xd9, 0xae, 0xa9, 0x43, 0x4d,
        ]);
        assert_eq!(
            files,
            [("/etc/nginx/nginx.conf", Some(hello)), ("/etc/nginx/mime.types", None)]
        );
        let root = parse_files(text.as_bytes(), "/x");
        assert_eq!((root.len(), root[0].files[0].path.as_str()), (1, "/x"));
    }

    #[test]
    fn a_nameless_record_is_told() {
        let listing = parse_installed(b"V:1-r0\nA:x86_64\n\nP:ok\nV:2-r0\n");

        assert_eq!(listing.packages.len(), 1);
        assert_eq!(listing.packages[0].architecture, "noarch");
        assert_eq!(listing.problems.len(), 1);
    }
}
