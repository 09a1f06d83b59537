//! dpkg's database: `/var/lib/dpkg/status`, with what an interrupted dpkg left beside it, and
//! the one-file-per-package form (`status.d`) of distroless images.

use std::collections::{BTreeMap, BTreeSet};

use domain::deb822::{self, Paragraph};
use domain::files::{EntryKind, FileError, FileView};
use domain::inventory::{InstalledPackage, PackageState, SourcePackage};

use super::{Listing, is_word};

/// dpkg's administrative directory.
const ADMIN_DIRECTORY: &str = "/var/lib/dpkg";

/// A server with 3,000 packages has a status file of 3 MB.
const STATUS_LIMIT: u64 = 128 << 20;
const RECORD_LIMIT: u64 = 1 << 20;

/// dpkg's architecture word for packages that run anywhere.
const INDEPENDENT: &str = "all";

/// What dpkg's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// The packages.
    pub listing: Listing,
    /// Native architecture; empty where nothing tells it.
    pub architecture: String,
    /// Further architectures, sorted.
    pub foreign_architectures: Vec<String>,
}

/// Reads the database of a system, `None` where there is none.
pub(crate) fn read(files: &dyn FileView) -> Result<Option<Database>, FileError> {
    let status = files.read(&format!("{ADMIN_DIRECTORY}/status"), STATUS_LIMIT)?;
    let single_records = single_records(files)?;
    if status.is_none() && single_records.is_empty() {
        return Ok(None);
    }
    let mut records = Records::default();
    records.take(&status.unwrap_or_default());
    for record in &single_records {
        records.take(record);
    }
    for update in interrupted_updates(files)? {
        records.take(&update);
    }
    let listing = records.into_listing();
    let known = files.read(&format!("{ADMIN_DIRECTORY}/arch"), RECORD_LIMIT)?.unwrap_or_default();
    Ok(Some(with_architectures(listing, &String::from_utf8_lossy(&known))))
}

/// Reads a status file's text.
pub fn parse_status(status: &[u8]) -> Listing {
    let mut records = Records::default();
    records.take(status);
    records.into_listing()
}

/// Distroless images: one file per package, and lists of sums beside them.
fn single_records(files: &dyn FileView) -> Result<Vec<Vec<u8>>, FileError> {
    let directory = format!("{ADMIN_DIRECTORY}/status.d");
    let mut records = Vec::new();
    for entry in files.list(&directory)? {
        if entry.kind == EntryKind::File && !entry.name.ends_with(".md5sums") {
            records.extend(files.read(&format!("{directory}/{}", entry.name), RECORD_LIMIT)?);
        }
    }
    Ok(records)
}

/// What dpkg wrote down but did not merge into `status` yet: it was stopped in the middle.
/// It reads these itself before anything else, in the order of their numbers.
fn interrupted_updates(files: &dyn FileView) -> Result<Vec<Vec<u8>>, FileError> {
    let directory = format!("{ADMIN_DIRECTORY}/updates");
    let mut updates = Vec::new();
    for entry in files.list(&directory)? {
        if entry.kind == EntryKind::File && entry.name.bytes().all(|byte| byte.is_ascii_digit()) {
            updates.extend(files.read(&format!("{directory}/{}", entry.name), RECORD_LIMIT)?);
        }
    }
    Ok(updates)
}

fn with_architectures(listing: Listing, known: &str) -> Database {
    let known: Vec<&str> = known.lines().map(str::trim).filter(|line| is_word(line)).collect();
    let dpkg_itself = listing
        .packages
        .iter()
        .find(|package| package.name == "dpkg" && package.architecture != INDEPENDENT)
        .map(|package| package.architecture.clone());
    let architecture = dpkg_itself
        .or_else(|| known.first().map(|&first| first.to_owned()))
        .or_else(|| listing.most_frequent_architecture(INDEPENDENT))
        .unwrap_or_default();
    let foreign: BTreeSet<String> = known
        .into_iter()
        .filter(|&name| name != architecture && name != INDEPENDENT)
        .map(str::to_owned)
        .collect();
    Database { listing, architecture, foreign_architectures: foreign.into_iter().collect() }
}

/// Records by package and architecture; a later one replaces an earlier one, as dpkg does.
#[derive(Default)]
struct Records {
    installed: BTreeMap<(String, String), InstalledPackage>,
    problems: Vec<String>,
}

impl Records {
    fn take(&mut self, content: &[u8]) {
        for paragraph in deb822::paragraphs(&String::from_utf8_lossy(content)) {
            match record(paragraph) {
                Ok(Record { key, package: Some(package) }) => {
                    self.installed.insert(key, package);
                }
                Ok(Record { key, package: None }) => {
                    self.installed.remove(&key);
                }
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn into_listing(self) -> Listing {
        let packages = self.installed.into_values().collect();
        Listing { packages, problems: self.problems }.sorted()
    }
}

struct Record {
    key: (String, String),
    /// `None` where the package is not installed (any more).
    package: Option<InstalledPackage>,
}

/// The fields that matter, taken in one pass; there are some 30 to a paragraph.
#[derive(Default)]
struct Fields<'a> {
    package: Option<&'a str>,
    status: Option<&'a str>,
    architecture: Option<&'a str>,
    version: Option<&'a str>,
    source: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn of(paragraph: Paragraph<'a>) -> Self {
        let mut fields = Self::default();
        for field in paragraph.fields() {
            let slot = match field.name.len() {
                6 if field.name.eq_ignore_ascii_case("status") => &mut fields.status,
                6 if field.name.eq_ignore_ascii_case("source") => &mut fields.source,
                7 if field.name.eq_ignore_ascii_case("package") => &mut fields.package,
                7 if field.name.eq_ignore_ascii_case("version") => &mut fields.version,
                12 if field.name.eq_ignore_ascii_case("architecture") => &mut fields.architecture,
                _ => continue,
            };
            slot.get_or_insert(field.value);
        }
        fields
    }
}

fn record(paragraph: Paragraph<'_>) -> Result<Record, String> {
    let fields = Fields::of(paragraph);
    let name = fields.package.filter(|name| is_word(name)).ok_or_else(|| {
        format!("a record of dpkg's status names no package (it calls it {:?})", fields.package)
    })?;
    let architecture = fields.architecture.unwrap_or_default();
    let key = (name.to_owned(), architecture.to_owned());
    // Records of distroless images carry no status: what is there is installed.
    let (selection, state) = status(name, fields.status.unwrap_or("install ok installed"))?;
    let Some(state) = state else { return Ok(Record { key, package: None }) };
    let version = fields.version.filter(|version| is_word(version)).ok_or_else(|| {
        format!("`{name}` is installed, but dpkg's status gives the version {:?}", fields.version)
    })?;
    if !is_word(architecture) {
        return Err(format!("`{name}` is installed for the architecture {architecture:?}"));
    }
    let (source, source_version) = source(name, version, fields.source)?;
    let package = InstalledPackage {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        version: version.to_owned(),
        source: SourcePackage::resolve_signed(source, source_version),
        state,
        held: selection == "hold",
    };
    Ok(Record { key, package: Some(package) })
}

/// `want flag state` of `dpkg-query(1)`; no state where nothing of the package is unpacked.
fn status<'a>(package: &str, status: &'a str) -> Result<(&'a str, Option<PackageState>), String> {
    let mut words = status.split_whitespace();
    let (Some(want), Some(_flag), Some(state), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(format!("`{package}` has the status {status:?}, which is not one of dpkg's"));
    };
    let state = match state {
        "installed" => Some(PackageState::Installed),
        "half-installed" => Some(PackageState::HalfInstalled),
        "unpacked" => Some(PackageState::Unpacked),
        "half-configured" => Some(PackageState::HalfConfigured),
        "triggers-awaited" | "triggers-pending" => Some(PackageState::Triggers),
        "not-installed" | "config-files" => None,
        _ => {
            return Err(format!(
                "`{package}` has the status {status:?}, which is not one of dpkg's"
            ));
        }
    };
    Ok((want, state))
}

/// `Source: name (version)`, both parts taken from the binary where missing (Policy 5.6.1).
fn source<'a>(
    name: &'a str,
    version: &'a str,
    field: Option<&'a str>,
) -> Result<(&'a str, &'a str), String> {
    let Some(field) = field else { return Ok((name, version)) };
    let parsed = match field.split_once('(') {
        None => (field, version),
        Some((source, rest)) => (source.trim(), rest.trim_end().trim_end_matches(')').trim()),
    };
    if is_word(parsed.0) && is_word(parsed.1) {
        Ok(parsed)
    } else {
        Err(format!("`{name}` is installed, but names its source as {field:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, status: &str, more: &str) -> String {
        format!("Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: 1.0-1\n{more}\n")
    }

    fn source_of(listing: &Listing, name: &str) -> (String, String) {
        let package = listing.packages.iter().find(|package| package.name == name).unwrap();
        (package.source.name.clone(), package.source.version.clone())
    }

    #[test]
    fn states_and_holds_are_dpkgs() {
        let text = [
            stanza("held", "hold ok installed", ""),
            stanza("gone", "deinstall ok config-files", ""),
            stanza("never", "unknown ok not-installed", ""),
            stanza("broken", "install reinstreq half-installed", ""),
            stanza("late", "install ok half-configured", ""),
            stanza("waiting", "install ok triggers-pending", ""),
        ]
        .concat();

        let listing = parse_status(text.as_bytes());

        let seen: Vec<_> = listing
            .packages
            .iter()
            .map(|package| (package.name.as_str(), package.state, package.held))
            .collect();
        assert_eq!(
            seen,
            [
                ("broken", PackageState::HalfInstalled, false),
                ("held", PackageState::Installed, true),
                ("late", PackageState::HalfConfigured, false),
                ("waiting", PackageState::Triggers, false),
            ]
        );
        assert_eq!(listing.problems, Vec::<String>::new());
    }

    #[test]
    fn sources_are_those_that_advisories_name() {
        let text = [
            stanza("plain", "install ok installed", ""),
            stanza("library", "install ok installed", "Source: upstream\n"),
            stanza("rebuilt", "install ok installed", "Source: rebuilt (1.0-1~x)\n"),
            stanza(
                "linux-image-6.1.0-50-amd64",
                "install ok installed",
                "Source: linux-signed-amd64 (6.1.192+2)\n",
            ),
        ]
        .concat();

        let listing = parse_status(text.as_bytes());

        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(source_of(&listing, "plain"), pair("plain", "1.0-1"));
        assert_eq!(source_of(&listing, "library"), pair("upstream", "1.0-1"));
        assert_eq!(source_of(&listing, "rebuilt"), pair("rebuilt", "1.0-1~x"));
        assert_eq!(source_of(&listing, "linux-image-6.1.0-50-amd64"), pair("linux", "6.1.192-2"));
    }

    #[test]
    fn a_damaged_record_is_told_and_hides_no_other() {
        let text = [
            stanza("good", "install ok installed", ""),
            "Status: install ok installed\nVersion: 1\n\n".to_owned(),
            stanza("odd", "install ok pickled", ""),
            "Package: bare\nStatus: install ok installed\nArchitecture: all\n\n".to_owned(),
            stanza("evil", "install ok installed", "Source: a\n b (1)\n"),
        ]
        .concat();

        let listing = parse_status(text.as_bytes());

        assert_eq!(listing.packages.len(), 1);
        assert_eq!(listing.problems.len(), 4, "{:?}", listing.problems);
        assert!(listing.problems[1].contains("pickled"));
    }

    fn system(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_an_interrupted_dpkg_wrote_down_counts() {
        let status = stanza("a", "install ok installed", "");
        let update = "Package: a\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 2\n";
        let files = system(&[
            ("/var/lib/dpkg/status", &status),
            ("/var/lib/dpkg/updates/0000", update),
            ("/var/lib/dpkg/updates/tmp.i", "Package: a\nStatus: broken\n"),
        ]);

        let database = read(&files).unwrap().unwrap();

        let package = &database.listing.packages[0];
        assert_eq!((package.version.as_str(), package.state), ("2", PackageState::Unpacked));
        assert_eq!(database.listing.packages.len(), 1);
    }

    #[test]
    fn distroless_records_are_read() {
        let files = system(&[
            (
                "/var/lib/dpkg/status.d/base",
                "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
            ),
            ("/var/lib/dpkg/status.d/base.md5sums", "0123  usr/share/x\n"),
        ]);

        let database = read(&files).unwrap().unwrap();

        assert_eq!(database.listing.packages.len(), 1);
        assert_eq!(database.architecture, "amd64");
        assert_eq!(database.listing.problems, Vec::<String>::new());
    }

    #[test]
    fn architectures_are_native_first() {
        let dpkg = stanza("dpkg", "install ok installed", "");
        let files = system(&[
            ("/var/lib/dpkg/status", &dpkg),
            ("/var/lib/dpkg/arch", "amd64\ni386\narm64\n"),
        ]);

        let database = read(&files).unwrap().unwrap();

        assert_eq!(database.architecture, "amd64");
        assert_eq!(database.foreign_architectures, ["arm64", "i386"]);
        assert_eq!(read(&system(&[])).unwrap(), None);
    }
}
