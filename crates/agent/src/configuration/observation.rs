//! What a look saw.

use std::collections::BTreeMap;
use std::fmt;

use domain::change::FileHash;
use domain::configuration::secret::Redaction;
use domain::configuration::verdict::FileState;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::execute::Access;

/// All configuration files of a host as one look saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// By their absolute paths inside of the root.
    pub files: BTreeMap<String, Seen>,
    /// What could not be seen, and why.
    pub unseen: Vec<Unseen>,
}

/// SHA-256 over all that a look saw, and all that it could not see.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObservationDigest([u8; 32]);

/// What has a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What it is, and what of it may leave the host.
    #[serde(flatten)]
    pub kind: Kind,
    /// Whose it is, and who may do what with it: access lists and labels of `SELinux` are among its attributes.
    pub access: Access,
    /// All of it, where there is something secret in it and its owner lets it be kept.
    #[serde(skip)]
    pub original: Option<Original>,
}

/// A file with its secrets; wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Original(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Original({} bytes)", self.0.len())
    }
}

/// What something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Kind {
    /// A file.
    File {
        /// Its content without its secrets.
        content: Redaction,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
    /// A directory.
    Directory,
    /// A device, a socket, a pipe.
    Other,
}

/// What could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unseen {
    /// Where; letters that are none are replaced.
    pub path: String,
    /// Why.
    pub because: String,
}

/// What differs between two looks at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The path.
    pub path: &'a str,
    /// `None` where nothing was there.
    pub before: Option<&'a Seen>,
    /// `None` where nothing is there.
    pub after: Option<&'a Seen>,
}

impl Seen {
    /// Something that has no content.
    pub(super) const fn new(kind: Kind, access: Access) -> Self {
        Self { kind, access, original: None }
    }

    /// What verdicts compare.
    pub fn state(&self) -> FileState {
        let (kind, content): (&str, FileHash) = match &self.kind {
            Kind::File { content: Redaction::Text(redacted) } => {
                ("file", hash(&[redacted.text.as_bytes()]))
            }
            Kind::File { content: Redaction::Withheld { because, size, fingerprint } } => {
                let (because, fingerprint) = (because.as_str(), fingerprint.to_string());
                let parts = [because.as_bytes(), &size.to_le_bytes(), fingerprint.as_bytes()];
                ("file", hash(&parts))
            }
            Kind::Link { target } => ("link", hash(&[target.as_bytes()])),
            Kind::Directory => ("directory", hash(&[])),
            Kind::Other => ("other", hash(&[])),
        };
        let Access { mode, uid, gid, attributes } = &self.access;
        let numbers = [mode.to_le_bytes(), uid.to_le_bytes(), gid.to_le_bytes()].concat();
        let mut parts = vec![kind.as_bytes(), &numbers];
        for (name, value) in attributes {
            parts.push(name.as_bytes());
            parts.push(value.as_bytes());
        }
        FileState { content, access: hash(&parts) }
    }
}

impl Observation {
    /// Names all of it: the same tree has the same one, and whatever differs another.
    pub fn digest(&self) -> ObservationDigest {
        let mut hasher = Sha256::new();
        for (path, seen) in &self.files {
            let FileState { content, access } = seen.state();
            add(&mut hasher, path.as_bytes());
            hasher.update(content.as_bytes());
            hasher.update(access.as_bytes());
        }
        for Unseen { path, because } in &self.unseen {
            add(&mut hasher, path.as_bytes());
            add(&mut hasher, because.as_bytes());
        }
        ObservationDigest(hasher.finalize().into())
    }

    /// What differs from an earlier look, in the order of paths.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<Difference<'a>> {
        let gone = before.files.iter().filter(|(path, _)| !self.files.contains_key(*path));
        let gone = gone.map(|(path, seen)| Difference { path, before: Some(seen), after: None });
        let come = self.files.iter().filter_map(|(path, seen)| {
            let old = before.files.get(path);
            (old != Some(seen)).then_some(Difference { path, before: old, after: Some(seen) })
        });
        let mut differences: Vec<_> = gone.chain(come).collect();
        differences.sort_by_key(|it| it.path);
        differences
    }
}

/// Parts with their lengths, so that each ends where it ends.
fn hash(parts: &[&[u8]]) -> FileHash {
    let mut hasher = Sha256::new();
    for part in parts {
        add(&mut hasher, part);
    }
    <[u8; 32]>::from(hasher.finalize()).into()
}

fn add(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u64).to_le_bytes());
    hasher.update(part);
}

impl fmt::Display for ObservationDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FileHash::from(self.0).fmt(f)
    }
}

impl fmt::Debug for ObservationDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
