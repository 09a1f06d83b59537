//! Versions: what a file held from one moment on, and how that is known.

use crate::bytes::{Put as _, Reader};
use crate::error::{HistoryError, Result};

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Longest path that is kept, as Linux has it.
pub const LONGEST_PATH: usize = 4096;

/// Longest word of a version: an owner, a source, an actor.
pub(crate) const LONGEST_WORD: usize = 256;

/// A configuration item, by the 128 bits of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(pub [u8; 16]);

/// Keyed hash of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

/// Its first half, which names the content within its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 16]);

/// Keyed hash of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey(pub [u8; 16]);

/// The path of a file, or whatever a configuration item calls what it is configured by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// A path of 1 to 4096 bytes without control characters.
    pub fn new(path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        if path.is_empty() || path.len() > LONGEST_PATH || path.contains(char::is_control) {
            let given = path.chars().filter(|it| !it.is_control()).take(64).collect();
            return Err(HistoryError::NotAPath { given });
        }
        Ok(Self(path))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for FilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What a file is, beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission bits.
    pub mode: u32,
    /// User and group, as the item calls them.
    pub owner: String,
    /// Hash of security labels and further attributes; empty where there are none.
    pub label: Vec<u8>,
}

/// What a file is at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// It is there.
    Present {
        /// Which content it has.
        content: ContentId,
        /// Of how many bytes.
        length: u64,
        /// The rest.
        metadata: Metadata,
    },
    /// It is not there any more.
    Gone,
}

impl State {
    /// The content, where there is one.
    pub const fn content(&self) -> Option<ContentId> {
        match self {
            Self::Present { content, .. } => Some(*content),
            Self::Gone => None,
        }
    }
}

/// Who altered a file, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribution {
    /// Who, as the source calls them.
    pub actor: String,
    /// In per cent.
    pub confidence: u8,
}

/// How a version came to be known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Origin {
    /// When it was seen, by the clock of who saw it.
    pub observed: Micros,
    /// Who says so.
    pub source: String,
    /// Who did it, where that is known.
    pub by: Option<Attribution>,
    /// The change that it belongs to, where there is one.
    pub change: Option<[u8; 16]>,
}

/// What a file is from one moment on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// When it was recorded: rises within a tenant, and is what history is asked by.
    pub recorded: Micros,
    /// What the file is.
    pub state: State,
    /// How that is known.
    pub origin: Origin,
}

const PRESENT: u8 = 1;
const ATTRIBUTED: u8 = 2;
const CHANGED: u8 = 4;

impl Version {
    /// Whether all words are of a length that is kept.
    pub fn check(&self) -> Result<()> {
        let mut lengths = vec![("a source", self.origin.source.len())];
        if let Some(by) = &self.origin.by {
            lengths.push(("an actor", by.actor.len()));
        }
        if let State::Present { metadata, .. } = &self.state {
            lengths.push(("an owner", metadata.owner.len()));
            lengths.push(("a label", metadata.label.len()));
        }
        match lengths.into_iter().find(|(_, length)| *length > LONGEST_WORD) {
            None => Ok(()),
            Some((what, length)) => Err(HistoryError::TooLarge {
                what,
                given: length as u64,
                largest: LONGEST_WORD as u64,
            }),
        }
    }

    /// The one encoding of a version of a file.
    pub fn to_bytes(&self, path: &FilePath) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(path.as_str().len() + 96);
        self.write(&mut bytes, &mut |bytes, word| bytes.put_bytes(word));
        bytes.put_bytes(path.as_str().as_bytes());
        bytes
    }

    /// A version from its encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<(FilePath, Self)> {
        let mut reader = Reader::new(bytes);
        Self::read_with_path(&mut reader)
            .filter(|_| reader.is_empty())
            .ok_or(HistoryError::damaged("a version"))
    }

    fn read_with_path(reader: &mut Reader<'_>) -> Option<(FilePath, Self)> {
        let version = Self::read(reader, &mut |reader| Some(reader.bytes()?.to_vec()))?;
        let path = FilePath::new(reader.text()?).ok()?;
        Some((path, version))
    }

    /// Writes all of it; how words are written is the caller's, who may keep each once.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, word: &mut dyn FnMut(&mut Vec<u8>, &[u8])) {
        let Origin { observed, source, by, change } = &self.origin;
        let mut flags = 0;
        if matches!(self.state, State::Present { .. }) {
            flags |= PRESENT;
        }
        if by.is_some() {
            flags |= ATTRIBUTED;
        }
        if change.is_some() {
            flags |= CHANGED;
        }
        bytes.push(flags);
        bytes.put_signed(self.recorded);
        bytes.put_signed(self.recorded.wrapping_sub(*observed));
        word(bytes, source.as_bytes());
        if let Some(by) = by {
            word(bytes, by.actor.as_bytes());
            bytes.push(by.confidence);
        }
        if let Some(change) = change {
            word(bytes, change);
        }
        if let State::Present { content, length, metadata } = &self.state {
            bytes.extend_from_slice(&content.0);
            bytes.put_number(*length);
            bytes.put_number(u64::from(metadata.mode));
            word(bytes, metadata.owner.as_bytes());
            word(bytes, &metadata.label);
        }
    }

    pub(crate) fn read<'a>(
        reader: &mut Reader<'a>,
        word: &mut dyn FnMut(&mut Reader<'a>) -> Option<Vec<u8>>,
    ) -> Option<Self> {
        let flags = reader.byte()?;
        if flags & !(PRESENT | ATTRIBUTED | CHANGED) != 0 {
            return None;
        }
        let recorded = reader.signed()?;
        let observed = recorded.wrapping_sub(reader.signed()?);
        let text = |reader: &mut Reader<'a>,
                    word: &mut dyn FnMut(&mut Reader<'a>) -> Option<Vec<u8>>| {
            String::from_utf8(word(reader)?).ok().filter(|it| it.len() <= LONGEST_WORD)
        };
        let source = text(reader, word)?;
        let by = if flags & ATTRIBUTED == 0 {
            None
        } else {
            Some(Attribution { actor: text(reader, word)?, confidence: reader.byte()? })
        };
        let change = if flags & CHANGED == 0 { None } else { Some(word(reader)?.try_into().ok()?) };
        let state = if flags & PRESENT == 0 {
            State::Gone
        } else {
            let content = ContentId(reader.array()?);
            let length = reader.number()?;
            let mode = reader.number()?.try_into().ok()?;
            let owner = text(reader, word)?;
            let label = word(reader)?;
            State::Present { content, length, metadata: Metadata { mode, owner, label } }
        };
        Some(Self { recorded, state, origin: Origin { observed, source, by, change } })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_version() -> impl Strategy<Value = Version> {
        let state = prop_oneof![
            Just(State::Gone),
            (any::<[u8; 16]>(), any::<u64>(), any::<u32>(), "[a-z:]{0,9}", any::<[u8; 4]>())
                .prop_map(|(content, length, mode, owner, label)| State::Present {
                    content: ContentId(content),
                    length,
                    metadata: Metadata { mode, owner, label: label.to_vec() },
                }),
        ];
        let by = proptest::option::of(("[a-z]{0,9}", 0_u8..=100));
        (any::<i64>(), state, any::<i64>(), "[a-z]{0,9}", by, any::<Option<[u8; 16]>>()).prop_map(
            |(recorded, state, observed, source, by, change)| {
                let by = by.map(|(actor, confidence)| Attribution { actor, confidence });
                Version { recorded, state, origin: Origin { observed, source, by, change } }
            },
        )
    }

    proptest! {
        #[test]
        fn a_version_reads_back(version in any_version(), path in "/[a-zäß/]{1,40}") {
            let path = FilePath::new(path).unwrap();
            let bytes = version.to_bytes(&path);
            prop_assert_eq!(Version::from_bytes(&bytes).unwrap(), (path, version));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok((path, version)) = Version::from_bytes(&bytes) {
                prop_assert_eq!(version.to_bytes(&path), bytes);
            }
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a\nb", "a\0", &"x".repeat(LONGEST_PATH + 1)] {
            assert!(FilePath::new(path).is_err(), "{path:?}");
        }
    }
}
