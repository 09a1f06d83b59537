//! apt's own configuration: which archives a system trusts and uses.
//!
//! Both formats of `sources.list(5)` are read, the trust anchors beside them, and their
//! agreement about each suite.

mod belief;
mod deb822_sources;
mod one_line;

use std::collections::BTreeMap;

use domain::files::{EntryKind, FileError, FileView};

use super::verify::Keyring;
use belief::Belief;

/// Size limit of one configuration or keyring file. Real ones have some kilobytes.
const FILE_LIMIT: u64 = 4 << 20;

/// One suite of one archive, as configured.
#[derive(Debug, Clone)]
pub struct Source {
    /// Base URI, without a trailing slash.
    pub uri: String,
    /// Suite, for example `bookworm-security`; ends in `/` for flat archives.
    pub suite: String,
    /// Components; empty for flat archives.
    pub components: Vec<String>,
    /// Architectures to read it for.
    pub architectures: Architectures,
    /// Which keys may sign it.
    pub trust: Trust,
    /// Whether `Valid-Until` is honoured.
    pub expiry: Expiry,
    /// Where it was configured, for messages: file and line or stanza.
    pub place: String,
}

impl Source {
    /// Base URI without `user:password@`, fit for reports and messages.
    pub fn public_uri(&self) -> String {
        let Some((scheme, rest)) = self.uri.split_once("://") else { return self.uri.clone() };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}")
    }
}

/// Architectures that a source is read for (`arch=`, `arch+=`, `arch-=`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Architectures {
    /// In place of the system's, where there are any.
    only: Vec<String>,
    added: Vec<String>,
    removed: Vec<String>,
}

impl Architectures {
    /// The architectures to read on a system of these.
    pub fn of(&self, system: &[String]) -> Vec<String> {
        let base = if self.only.is_empty() { system } else { &self.only };
        let mut all: Vec<String> = Vec::new();
        for name in base.iter().chain(&self.added) {
            if !self.removed.contains(name) && !all.contains(name) {
                all.push(name.clone());
            }
        }
        all
    }
}

/// Which keys may sign a source.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Only these.
    Keys(Keyring),
    /// `trusted=yes`: the administrator demands no signature.
    Unsigned,
}

/// Whether a source's own expiry date counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It does.
    Honoured,
    /// `Check-Valid-Until: no`.
    Ignored,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the apt configuration")]
    File(#[from] FileError),
    /// A source is not understood.
    #[error("{place}: {reason}")]
    Source {
        /// File and line or stanza.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A keyring cannot be used.
    #[error("{place}: the keyring `{keyring}` cannot be used: {reason}")]
    Keyring {
        /// File and line or stanza of the source.
        place: String,
        /// The keyring's path.
        keyring: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::File(_) => "check that the target is whole and may be read".to_owned(),
            Self::Source { .. } => "correct it as described in sources.list(5)".to_owned(),
            Self::Keyring { .. } => "name a keyring that exists with Signed-By".to_owned(),
        })
    }
}

/// An entry before its keys are loaded; both formats end here.
#[derive(Debug, Default)]
struct Written {
    kind: Kind,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    architectures: Architectures,
    belief: Belief,
    place: String,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// `deb`: packages.
    #[default]
    Binary,
    /// `deb-src`: what they are built from. Not read, but it has a say in whom to believe.
    Source,
}

impl Written {
    /// Each URI with each suite.
    fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        self.uris.iter().flat_map(|uri| {
            self.suites.iter().map(|suite| (uri.trim_end_matches('/'), suite.as_str()))
        })
    }
}

/// Reads all enabled sources below `root` (`/etc/apt`), in apt's order.
pub fn read_sources(files: &dyn FileView, root: &str) -> Result<Vec<Source>, ConfigError> {
    let mut written = Vec::new();
    let main = format!("{root}/sources.list");
    read_file(files, &main, &mut written)?;
    let parts = format!("{root}/sources.list.d");
    for entry in files.list(&parts)? {
        if entry.kind == EntryKind::File && is_sources_name(&entry.name) {
            read_file(files, &format!("{parts}/{}", entry.name), &mut written)?;
        }
    }
    resolve(files, root, &written)
}

/// Reads the sources of one file; `root` holds the default trust anchors.
pub fn read_sources_file(
    files: &dyn FileView,
    path: &str,
    root: &str,
) -> Result<Vec<Source>, ConfigError> {
    let mut written = Vec::new();
    read_file(files, path, &mut written)?;
    resolve(files, root, &written)
}

fn is_sources_name(name: &str) -> bool {
    let stem = name.strip_suffix(".list").or_else(|| name.strip_suffix(".sources"));
    stem.is_some_and(|stem| {
        !stem.is_empty()
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    })
}

fn read_file(
    files: &dyn FileView,
    path: &str,
    written: &mut Vec<Written>,
) -> Result<(), ConfigError> {
    let Some(bytes) = files.read(path, FILE_LIMIT)? else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let is_deb822 = match ending(path) {
        "sources" => true,
        "list" => false,
        _ => looks_deb822(&text),
    };
    if is_deb822 {
        deb822_sources::parse(path, &text, written)
    } else {
        one_line::parse(path, &text, written)
    }
}

/// What follows the last dot of a name. apt regards its case.
fn ending(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, ending)| ending)
}

/// Whether the first line that says something is a field.
fn looks_deb822(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .is_some_and(|line| !line.starts_with("deb ") && !line.starts_with("deb-src "))
}

/// Loads the keys; what is said of one suite in several places becomes one source.
fn resolve(
    files: &dyn FileView,
    root: &str,
    written: &[Written],
) -> Result<Vec<Source>, ConfigError> {
    let beliefs = belief::agreed(written)?;
    let mut known_trust: BTreeMap<&Belief, Trust> = BTreeMap::new();
    let mut sources: Vec<Source> = Vec::new();
    for one in written.iter().filter(|one| one.kind == Kind::Binary) {
        for (uri, suite) in one.places() {
            let belief = &beliefs[&(uri, suite)];
            let same = sources.iter_mut().find(|known| {
                known.uri == uri && known.suite == suite && known.architectures == one.architectures
            });
            if let Some(known) = same {
                for component in &one.components {
                    if !known.components.contains(component) {
                        known.components.push(component.clone());
                    }
                }
                continue;
            }
            let trust = match known_trust.get(belief) {
                Some(trust) => trust.clone(),
                None => belief.trust(files, root, &one.place)?,
            };
            known_trust.insert(belief, trust.clone());
            sources.push(Source {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                components: one.components.clone(),
                architectures: one.architectures.clone(),
                trust,
                expiry: match belief.check_valid_until {
                    Some(false) => Expiry::Ignored,
                    _ => Expiry::Honoured,
                },
                place: one.place.clone(),
            });
        }
    }
    Ok(sources)
}
