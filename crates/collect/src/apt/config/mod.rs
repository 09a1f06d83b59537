//! apt's own configuration: which archives a system trusts and uses.
//!
//! Both formats of `sources.list(5)` are read, the trust anchors beside them, and those settings
//! of `apt.conf(5)` that decide which versions apt would install or how it reaches archives.

mod conf;
mod deb822_sources;
mod one_line;

pub use conf::AptConf;

use domain::files::{EntryKind, FileError, FileView};

use super::verify::{Keyring, SignatureError};

/// Size limit of one configuration or keyring file. Real ones have some kilobytes.
const FILE_LIMIT: u64 = 4 << 20;

/// Where apt keeps its configuration inside a system.
pub const ETC_APT: &str = "/etc/apt";

/// One suite of one archive, as configured.
#[derive(Debug, Clone)]
pub struct Source {
    /// Base URI, without a trailing slash.
    pub uri: String,
    /// Suite, for example `bookworm-security`; ends in `/` for flat archives.
    pub suite: String,
    /// Components; empty for flat archives.
    pub components: Vec<String>,
    /// Architectures to read instead of the system's; empty means the system's.
    pub architectures: Vec<String>,
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

/// Options of a source before its keys are loaded; both formats end here.
#[derive(Debug, Default)]
struct Written {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    architectures: Vec<String>,
    signed_by: Option<String>,
    trusted: Option<bool>,
    check_valid_until: Option<bool>,
    place: String,
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
    resolve(files, root, written)
}

/// Reads the sources of one file; `root` holds the default trust anchors.
pub fn read_sources_file(
    files: &dyn FileView,
    path: &str,
    root: &str,
) -> Result<Vec<Source>, ConfigError> {
    let mut written = Vec::new();
    read_file(files, path, &mut written)?;
    resolve(files, root, written)
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

fn resolve(
    files: &dyn FileView,
    root: &str,
    written: Vec<Written>,
) -> Result<Vec<Source>, ConfigError> {
    let mut default_keys = None;
    let mut sources = Vec::new();
    for one in written {
        let trust = match (one.trusted, &one.signed_by) {
            (Some(true), _) => Trust::Unsigned,
            (_, Some(signed_by)) => Trust::Keys(signed_by_keys(files, root, &one, signed_by)?),
            (_, None) => {
                if default_keys.is_none() {
                    default_keys = Some(default_keyring(files, root)?);
                }
                Trust::Keys(default_keys.clone().unwrap_or_default())
            }
        };
        let expiry = match one.check_valid_until {
            Some(false) => Expiry::Ignored,
            _ => Expiry::Honoured,
        };
        for uri in &one.uris {
            for suite in &one.suites {
                sources.push(Source {
                    uri: uri.trim_end_matches('/').to_owned(),
                    suite: suite.clone(),
                    components: one.components.clone(),
                    architectures: one.architectures.clone(),
                    trust: trust.clone(),
                    expiry,
                    place: one.place.clone(),
                });
            }
        }
    }
    Ok(merge(sources))
}

/// The same suite named twice with other components is one source.
fn merge(sources: Vec<Source>) -> Vec<Source> {
    let mut merged: Vec<Source> = Vec::new();
    for source in sources {
        let same = merged.iter_mut().find(|known| {
            known.uri == source.uri
                && known.suite == source.suite
                && known.architectures == source.architectures
        });
        let Some(known) = same else {
            merged.push(source);
            continue;
        };
        for component in source.components {
            if !known.components.contains(&component) {
                known.components.push(component);
            }
        }
    }
    merged
}

/// Keys of `trusted.gpg` and `trusted.gpg.d`, which may sign sources without `Signed-By`.
fn default_keyring(files: &dyn FileView, root: &str) -> Result<Keyring, ConfigError> {
    let mut keyring = Keyring::default();
    let parts = format!("{root}/trusted.gpg.d");
    let mut paths = vec![format!("{root}/trusted.gpg")];
    paths.extend(
        files
            .list(&parts)?
            .into_iter()
            .filter(|entry| matches!(ending(&entry.name), "gpg" | "asc"))
            .map(|entry| format!("{parts}/{}", entry.name)),
    );
    for path in paths {
        if let Some(bytes) = files.read(&path, FILE_LIMIT)? {
            // apt skips keyrings that it cannot read: the others may suffice, and a source that
            // nothing vouches for is refused later.
            let _ = keyring.add(&bytes);
        }
    }
    Ok(keyring)
}

/// Keys named by `Signed-By`: paths, fingerprints, or an armored block.
fn signed_by_keys(
    files: &dyn FileView,
    root: &str,
    source: &Written,
    signed_by: &str,
) -> Result<Keyring, ConfigError> {
    let refuse = |keyring: &str, reason: String| ConfigError::Keyring {
        place: source.place.clone(),
        keyring: keyring.to_owned(),
        reason,
    };
    let mut keyring = Keyring::default();
    if signed_by.contains("-----BEGIN PGP") {
        let block = unfold_block(signed_by);
        keyring
            .add(block.as_bytes())
            .map_err(|error: SignatureError| refuse("inline key", error.to_string()))?;
        return Ok(keyring);
    }
    let mut fingerprints = Vec::new();
    for word in signed_by.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        if !word.starts_with('/') {
            fingerprints.push(word.to_owned());
            continue;
        }
        let bytes = files
            .read(word, FILE_LIMIT)?
            .ok_or_else(|| refuse(word, "there is no such file".to_owned()))?;
        keyring.add(&bytes).map_err(|error| refuse(word, error.to_string()))?;
    }
    if !fingerprints.is_empty() {
        keyring.extend(&default_keyring(files, root)?);
        keyring.retain(&fingerprints);
    }
    Ok(keyring)
}

/// An armored block inside a deb822 field: one leading space a line, `.` for an empty line.
fn unfold_block(folded: &str) -> String {
    let mut block = String::new();
    for line in folded.lines() {
        let line = line.trim();
        block.push_str(if line == "." { "" } else { line });
        block.push('\n');
    }
    block
}
