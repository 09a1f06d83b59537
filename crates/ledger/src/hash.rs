//! The 32 bytes everything here is made of.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash: of an entry, of a node of the tree, or of a payload.
///
/// Hashes of any other length do not exist here: a verifier that compares slices accepts an empty
/// one against an empty one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// A text that is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 hash")]
pub struct NotAHash(pub(crate) String);

impl Hash {
    /// The root of the empty tree: SHA-256 of nothing (RFC 6962 §2.1).
    pub const EMPTY_TREE: Self = Self(tlog_tiles::EMPTY_HASH.0);

    /// The hash with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Plain SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of an entry as a leaf of the tree (RFC 6962 §2.1).
    pub fn of_entry(entry: &[u8]) -> Self {
        Self(tlog_tiles::record_hash(entry).0)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hexadecimal, as in entries and `sha256sum`.
    pub fn to_hex(&self) -> String {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
    }

    /// Reads lower-case hexadecimal.
    pub fn from_hex(text: &str) -> Result<Self, NotAHash> {
        let refused = || NotAHash(text.chars().take(80).collect());
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| refused())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(refused());
            };
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// The hash of an inner node (RFC 6962 §2.1).
    pub(crate) fn of_node(left: Self, right: Self) -> Self {
        Self(tlog_tiles::node_hash(left.into(), right.into()).0)
    }

    /// The root of a perfect subtree over these hashes, whose number is a power of two.
    pub(crate) fn of_perfect(hashes: &[Self]) -> Self {
        debug_assert!(hashes.len().is_power_of_two(), "a perfect subtree");
        match hashes {
            [one] => *one,
            more => {
                let (left, right) = more.split_at(more.len() / 2);
                Self::of_node(Self::of_perfect(left), Self::of_perfect(right))
            }
        }
    }

    /// The root over a row of perfect subtrees of one size, larger ones made of them first, and
    /// the unfinished rest to their right (RFC 6962 §2.1).
    pub(crate) fn of_row(row: &[Self], unfinished: Option<Self>) -> Option<Self> {
        if row.is_empty() {
            return unfinished;
        }
        let (left, rest) = row.split_at(1 << row.len().ilog2());
        let left = Self::of_perfect(left);
        let right = Self::of_row(rest, unfinished);
        Some(right.map_or(left, |right| Self::of_node(left, right)))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl From<Hash> for tlog_tiles::Hash {
    fn from(hash: Hash) -> Self {
        Self(hash.0)
    }
}

impl From<tlog_tiles::Hash> for Hash {
    fn from(hash: tlog_tiles::Hash) -> Self {
        Self(hash.0)
    }
}

/// Base64, as in checkpoints and proofs.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Base64 with padding and no stray bits (RFC 4648 §4).
impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let refused = || NotAHash(text.chars().take(80).collect());
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| refused())?;
        Ok(Self(bytes.try_into().map_err(|_| refused())?))
    }
}

/// Hexadecimal: entries are for people and `sha256sum` too.
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hexadecimal;

        impl de::Visitor<'_> for Hexadecimal {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                Hash::from_hex(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Hexadecimal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_come_back() {
        let hash = Hash::of(b"patchwright");

        assert_eq!(Hash::from_hex(&hash.to_hex()).unwrap(), hash);
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
    }

    #[test]
    fn only_32_bytes_in_their_one_spelling_are_a_hash() {
        assert!(Hash::from_hex("").is_err());
        assert!(Hash::from_hex(&"A".repeat(64)).is_err(), "upper case");
        assert!(Hash::from_hex(&"0".repeat(63)).is_err());
        assert!("".parse::<Hash>().is_err());
        assert!("AAAA".parse::<Hash>().is_err());
        let text = Hash::new([0; 32]).to_string();
        assert!(text.trim_end_matches('=').parse::<Hash>().is_err(), "no padding");
        assert!(text.replace("A=", "B=").parse::<Hash>().is_err(), "stray bits");
    }
}
