//! OSV records (schema 1.7, <https://ossf.github.io/osv-schema/>) of the Linux distributions.
//!
//! Read from a directory, a single record, lines of records (`.jsonl`, `.jsonl.gz`) or the
//! archives that OSV publishes (`all.zip`). Records are foreign: each is bounded in size, depth
//! and number of parts, and one that is damaged is skipped *and reported*, because what only it
//! knew is unknown, not absent.

mod loose;
mod record;
mod source;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Cursor};
use std::path::Path;

use domain::advisory::Advisory;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use self::record::Reading;
use crate::fetch::{FetchError, Fetched, Fetcher, Mark, hex};

/// Largest record that is read, in bytes. Records of kernels reach about a megabyte.
pub const MAX_RECORD: usize = 8 * 1024 * 1024;

/// Largest file that is fetched into memory, in bytes; all of Ubuntu has about 200 MB zipped.
pub const MAX_FETCHED: u64 = 512 * 1024 * 1024;

/// How many skipped records are kept with their reasons; all are counted.
pub const MAX_SKIPPED: usize = 1_000;

/// Which ecosystems are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every distribution that can be matched at all.
    Everything,
    /// These only, in OSV's spelling (`Debian:12`). `Ubuntu:22.04` stands for
    /// `Ubuntu:22.04:LTS` as well; records without a release (`Debian`) speak of each.
    Ecosystems(BTreeSet<String>),
}

impl Wanted {
    /// Whether records about this ecosystem are asked for.
    pub fn wants(&self, ecosystem: &str) -> bool {
        let holds = |wide: &str, narrow: &str| {
            narrow.strip_prefix(wide).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        match self {
            Self::Everything => true,
            Self::Ecosystems(names) => {
                names.iter().any(|name| holds(name, ecosystem) || holds(ecosystem, name))
            }
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct OsvLoad {
    /// Records about wanted ecosystems, sorted by id; of several with one id the last changed.
    /// Statements about other ecosystems are left out of them.
    pub advisories: Vec<Advisory>,
    /// How many records were whole, wanted or not.
    pub records: usize,
    /// Damaged records, the first [`MAX_SKIPPED`] of them.
    pub skipped: Vec<Skipped>,
    /// How many records were damaged.
    pub skipped_count: usize,
    /// When the newest wanted record was last changed.
    pub newest: Option<Timestamp>,
    /// SHA-256 over the file read, lower-case hex; of a directory, over the names, lengths and
    /// contents of its files in order of their names.
    pub sha256: String,
}

/// A record that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// File, or file inside an archive.
    pub file: String,
    /// Line in the file, where one is known.
    pub line: Option<u64>,
    /// Why. Quotes foreign text: encode before showing.
    pub reason: String,
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OsvError {
    /// The file or directory cannot be read.
    #[error("cannot read OSV records from `{name}`")]
    Unreadable {
        /// Path as given.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be fetched.
    #[error("cannot fetch OSV records")]
    Fetch(#[from] FetchError),
    /// The archive is damaged.
    #[error("`{name}` is a damaged archive: {reason}")]
    DamagedArchive {
        /// Path or URL as given.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// More than any real database holds: a decompression bomb, or the wrong directory.
    #[error("`{name}` holds more than {limit} {what}")]
    TooLarge {
        /// Path or URL as given.
        name: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Not one record, or damaged ones only.
    #[error("`{name}` holds no usable OSV record{}", first_reason(.skipped))]
    NoRecord {
        /// Path or URL as given.
        name: String,
        /// What was found instead.
        skipped: Vec<Skipped>,
    },
}

fn first_reason(skipped: &[Skipped]) -> String {
    let reason = |first: &Skipped| format!(" (`{}`: {})", first.file, first.reason);
    skipped.first().map(reason).unwrap_or_default()
}

impl OsvError {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Unreadable { .. } => "name a readable file or directory",
            Self::Fetch(error) => return error.help(),
            Self::DamagedArchive { .. } => "fetch it again",
            Self::TooLarge { .. } => "name the records of one distribution only",
            Self::NoRecord { .. } => {
                "name a directory of OSV *.json files, a .json, .jsonl or .jsonl.gz file, \
                 or an all.zip as OSV publishes them"
            }
        };
        Some(help.to_owned())
    }
}

/// Reads records from a file or directory.
pub fn load(path: &Path, wanted: &Wanted) -> Result<OsvLoad, OsvError> {
    let name = path.display().to_string();
    let mut collected = Collected::new(&name, wanted);
    let unreadable = |source| OsvError::Unreadable { name: name.clone(), source };
    let sha256 = if path.is_dir() {
        source::read_directory(path, &mut collected)?
    } else {
        let mut file = File::open(path).map_err(unreadable)?;
        let mut hash = Hashing(Sha256::new());
        io::copy(&mut file, &mut hash).map_err(unreadable)?;
        source::read_file(&name, file, &mut collected)?;
        hex(&hash.0.finalize())
    };
    collected.finish(sha256)
}

/// Fetches a file of records and reads it.
pub fn fetch(uri: &str, fetcher: &Fetcher, wanted: &Wanted) -> Result<OsvLoad, OsvError> {
    match fetcher.small(uri, MAX_FETCHED, &Mark::default())? {
        Fetched::Content { bytes, .. } => load_bytes(uri, &bytes, wanted),
        Fetched::Unchanged | Fetched::Absent => {
            Err(FetchError::Absent { uri: uri.to_owned() }.into())
        }
    }
}

/// Reads records from bytes that were fetched elsewhere; `name` (a path or URL) is for messages
/// and for the file's kind, where the bytes do not tell it.
pub fn load_bytes(name: &str, bytes: &[u8], wanted: &Wanted) -> Result<OsvLoad, OsvError> {
    let mut collected = Collected::new(name, wanted);
    source::read_file(name, Cursor::new(bytes), &mut collected)?;
    collected.finish(hex(&Sha256::digest(bytes)))
}

/// Records on their way in.
struct Collected<'a> {
    name: &'a str,
    wanted: &'a Wanted,
    /// Of each id the record last changed.
    advisories: HashMap<String, (Timestamp, Advisory)>,
    records: usize,
    skipped: Vec<Skipped>,
    skipped_count: usize,
}

impl<'a> Collected<'a> {
    fn new(name: &'a str, wanted: &'a Wanted) -> Self {
        Self {
            name,
            wanted,
            advisories: HashMap::new(),
            records: 0,
            skipped: Vec::new(),
            skipped_count: 0,
        }
    }

    /// Takes one record; `first_line` is where it stands in its file, counted from 1.
    fn take(&mut self, file: &str, first_line: u64, json: &[u8]) {
        match record::read(json, self.wanted) {
            Ok(Reading::Elsewhere) => self.records += 1,
            Ok(Reading::Wanted { advisory, modified }) => {
                self.records += 1;
                let known = self.advisories.get(&advisory.id);
                if known.is_none_or(|(last_change, _)| *last_change < modified) {
                    self.advisories.insert(advisory.id.clone(), (modified, *advisory));
                }
            }
            Err(damage) => {
                let line = damage.line.map(|line| first_line.saturating_add(line) - 1);
                self.skip(file, line.or(Some(first_line)), damage.reason);
            }
        }
    }

    fn skip(&mut self, file: &str, line: Option<u64>, reason: String) {
        self.skipped_count += 1;
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(Skipped { file: file.to_owned(), line, reason });
        }
    }

    fn finish(self, sha256: String) -> Result<OsvLoad, OsvError> {
        if self.records == 0 {
            return Err(OsvError::NoRecord { name: self.name.to_owned(), skipped: self.skipped });
        }
        let newest = self.advisories.values().map(|(modified, _)| *modified).max();
        let mut advisories: Vec<Advisory> =
            self.advisories.into_values().map(|(_, advisory)| advisory).collect();
        advisories.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(OsvLoad {
            advisories,
            records: self.records,
            skipped: self.skipped,
            skipped_count: self.skipped_count,
            newest,
            sha256,
        })
    }
}

/// A hash that can be written to.
struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The CVE id that a record id is or ends with (`CVE-2024-1234`, `DEBIAN-CVE-2024-1234`).
pub(crate) fn cve_in(id: &str) -> Option<&str> {
    const PREFIXES: [&str; 4] = ["", "DEBIAN-", "UBUNTU-", "ALPINE-"];
    let cve = PREFIXES
        .iter()
        .find_map(|prefix| id.strip_prefix(prefix).filter(|rest| rest.starts_with("CVE-")))?;
    let (year, number) = cve.strip_prefix("CVE-")?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_cve =
        year.len() == 4 && digits(year) && (4..=19).contains(&number.len()) && digits(number);
    is_cve.then_some(cve)
}
