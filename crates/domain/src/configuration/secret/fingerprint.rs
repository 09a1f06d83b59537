//! What shows that a secret is another one, and not which.

use serde::{Deserialize, Serialize};

use crate::change::hex;

/// Says what the keyed hash is for, so that it is no other use's.
const PURPOSE: &str = "patchwright 2026 configuration secret fingerprint";

/// Key of one item's fingerprints. No `Debug` shows it.
///
/// It belongs to one item and not to a tenant: the host that redacts has to hold it, and one host's key must not
/// serve to guess what another host's secrets are.
#[derive(Clone, PartialEq, Eq)]
pub struct FingerprintKey([u8; 32]);

/// Eight bytes of a keyed BLAKE3 hash over path and secret, in hexadecimal digits.
///
/// The path is in it, so that nobody who may write one file learns whether another one has the same secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

impl FingerprintKey {
    /// The key of one item, out of its tenant's. `item` is the item's id.
    pub fn for_item(tenant: &[u8; 32], item: &str) -> Self {
        Self(*blake3::keyed_hash(&blake3::derive_key(PURPOSE, tenant), item.as_bytes()).as_bytes())
    }

    /// The fingerprint of a secret in a file.
    pub fn of(&self, path: &str, secret: &[u8]) -> Fingerprint {
        let mut begun = self.begin(path);
        begun.add(secret);
        begun.end()
    }

    /// Begins the fingerprint of a file that comes piece by piece.
    pub fn begin(&self, path: &str) -> Fingerprinting {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // The length tells where the path ends.
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
        Fingerprinting(hasher)
    }
}

/// A fingerprint that is not complete yet.
#[derive(Clone)]
pub struct Fingerprinting(blake3::Hasher);

impl Fingerprinting {
    /// Adds a piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// That was the last one.
    pub fn end(self) -> Fingerprint {
        Fingerprint(hex(&self.0.finalize().as_bytes()[..Fingerprint::DIGITS / 2]))
    }
}

impl std::fmt::Debug for Fingerprinting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprinting(…)")
    }
}

impl From<[u8; 32]> for FingerprintKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

impl Fingerprint {
    /// How many digits it has.
    pub const DIGITS: usize = 16;
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == Self::DIGITS && text.bytes().all(is_digit) {
            return Ok(Self(text));
        }
        Err(format!("a fingerprint has {} hexadecimal digits in lower case", Self::DIGITS))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_follows_from_key_path_and_secret() {
        let key = FingerprintKey::from([1; 32]);
        let same = key.of("/etc/a", b"secret");

        assert_eq!(same, key.of("/etc/a", b"secret"));
        assert_ne!(same, key.of("/etc/a", b"Secret"), "another secret");
        assert_ne!(same, key.of("/etc/b", b"secret"), "another file");
        assert_ne!(same, key.of("/etc/as", b"ecret"), "the path ends where it ends");
        assert_ne!(same, FingerprintKey::from([2; 32]).of("/etc/a", b"secret"), "another key");
    }

    #[test]
    fn items_have_keys_of_their_own() {
        let key = |tenant, item| FingerprintKey::for_item(&[tenant; 32], item);

        assert_eq!(key(1, "ci_a"), key(1, "ci_a"));
        assert_ne!(key(1, "ci_a"), key(1, "ci_b"));
        assert_ne!(key(1, "ci_a"), key(2, "ci_a"));
        assert_eq!(format!("{:?}", key(1, "ci_a")), "FingerprintKey(…)");
    }
}
