//! CISA's catalogue of Known Exploited Vulnerabilities.
//!
//! The catalogue is small and raises priorities, so it is taken whole or not at all: a catalogue
//! that holds fewer entries than it declares, or one damaged entry, is refused. A shortened
//! catalogue would quietly lower priorities.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use domain::advisory::KnownExploited;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::fetch::{FetchError, Fetched, Fetcher, Mark, hex};
use crate::osv::cve_in;

/// Largest file that is read. The catalogue of August 2025 has 1.5 MB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A whole, checked catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// Its version (`2025.08.25`).
    pub version: String,
    /// When CISA released it.
    pub released: Timestamp,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Entries by CVE id.
    pub entries: BTreeMap<String, KnownExploited>,
}

/// Why a catalogue was refused.
#[derive(Debug, thiserror::Error)]
pub enum KevError {
    /// The file cannot be read.
    #[error("cannot read the KEV catalogue `{name}`")]
    Unreadable {
        /// Path as given.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be fetched.
    #[error("cannot fetch the KEV catalogue")]
    Fetch(#[from] FetchError),
    /// The file is absurdly large.
    #[error("the KEV catalogue `{name}` is larger than {limit} bytes")]
    TooLarge {
        /// Path or URL as given.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// The file is no JSON of the catalogue's form.
    #[error("`{name}` is no KEV catalogue: {reason}")]
    Syntax {
        /// Path or URL as given.
        name: String,
        /// What is wrong and where.
        reason: String,
    },
    /// Fewer or more entries than declared: truncated or tampered with.
    #[error("the KEV catalogue `{name}` declares {declared} entries and holds {found}")]
    Count {
        /// Path or URL as given.
        name: String,
        /// `count` as declared.
        declared: u64,
        /// Entries there are.
        found: usize,
    },
    /// An entry is damaged.
    #[error("entry {number} of the KEV catalogue `{name}`: `{value}` is no {expected}")]
    Entry {
        /// Path or URL as given.
        name: String,
        /// Counted from 1.
        number: usize,
        /// What stands there.
        value: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// Two entries for one CVE.
    #[error("the KEV catalogue `{name}` lists {cve} twice")]
    Twice {
        /// Path or URL as given.
        name: String,
        /// The CVE id.
        cve: String,
    },
}

impl KevError {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Unreadable { .. } => "name a readable file",
            Self::Fetch(error) => return error.help(),
            Self::TooLarge { .. } | Self::Syntax { .. } => {
                "name the file known_exploited_vulnerabilities.json as CISA publishes it"
            }
            Self::Count { .. } | Self::Entry { .. } | Self::Twice { .. } => {
                "the file is damaged; fetch it again"
            }
        };
        Some(help.to_owned())
    }
}

/// Reads a catalogue from a file.
pub fn load(path: &Path) -> Result<Catalogue, KevError> {
    let name = path.display().to_string();
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| KevError::Unreadable { name: name.clone(), source })?;
    parse(&name, &bytes)
}

/// Fetches a catalogue and reads it.
pub fn fetch(uri: &str, fetcher: &Fetcher) -> Result<Catalogue, KevError> {
    match fetcher.small(uri, MAX_BYTES, &Mark::default())? {
        Fetched::Content { bytes, .. } => parse(uri, &bytes),
        Fetched::Unchanged | Fetched::Absent => {
            Err(FetchError::Absent { uri: uri.to_owned() }.into())
        }
    }
}

/// Reads a catalogue from bytes; `name` is for messages.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Catalogue, KevError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(KevError::TooLarge { name: name.to_owned(), limit: MAX_BYTES });
    }
    let written: WrittenCatalogue = serde_json::from_slice(bytes)
        .map_err(|error| KevError::Syntax { name: name.to_owned(), reason: error.to_string() })?;
    let found = written.vulnerabilities.len();
    if written.count != found as u64 || found == 0 {
        return Err(KevError::Count { name: name.to_owned(), declared: written.count, found });
    }
    let released = written.date_released.parse().map_err(|_| KevError::Syntax {
        name: name.to_owned(),
        reason: format!("dateReleased `{}` is no time", shortened(&written.date_released)),
    })?;

    let mut entries = BTreeMap::new();
    for (index, entry) in written.vulnerabilities.into_iter().enumerate() {
        let entry = entry.checked().map_err(|(value, expected)| KevError::Entry {
            name: name.to_owned(),
            number: index + 1,
            value: shortened(&value),
            expected,
        })?;
        if let Some(earlier) = entries.insert(entry.cve.clone(), entry) {
            return Err(KevError::Twice { name: name.to_owned(), cve: earlier.cve });
        }
    }
    Ok(Catalogue {
        version: written.catalog_version,
        released,
        sha256: hex(&Sha256::digest(bytes)),
        entries,
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenCatalogue {
    catalog_version: String,
    date_released: String,
    count: u64,
    vulnerabilities: Vec<WrittenEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEntry {
    #[serde(rename = "cveID")]
    cve: String,
    date_added: String,
    due_date: String,
    /// `Known` or `Unknown`; absent before October 2023.
    #[serde(default)]
    known_ransomware_campaign_use: Option<String>,
}

impl WrittenEntry {
    /// The entry, or the damaged value and what it should be.
    fn checked(self) -> Result<KnownExploited, (String, &'static str)> {
        if cve_in(&self.cve) != Some(self.cve.as_str()) {
            return Err((self.cve, "CVE id"));
        }
        for date in [&self.date_added, &self.due_date] {
            if date.parse::<Date>().is_err() || date.len() != "2025-08-25".len() {
                return Err((date.clone(), "date"));
            }
        }
        let ransomware = self
            .known_ransomware_campaign_use
            .is_some_and(|word| word.eq_ignore_ascii_case("known"));
        Ok(KnownExploited {
            cve: self.cve,
            date_added: self.date_added,
            due_date: self.due_date,
            ransomware,
        })
    }
}
