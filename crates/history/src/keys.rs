//! Keys: one for each partition, and one pool of hashes for each tenant.
//!
//! ```text
//! tenant's key ─┬─ Pool: keyed hashes of contents and paths, names of files
//!               └─ wraps ─ DataKey (one for each partition) ─┬─ rows of the hot tail
//!                                                            ├─ objects, by a salt
//!                                                            └─ commitments
//! ```
//! Whoever destroys a partition's data key destroys what it holds, and with it every way to find out by
//! guessing whether a commitment is that of a certain content.

use chacha20poly1305::aead::{Aead as _, AeadInPlace as _, Payload};
use chacha20poly1305::{Key as CipherKey, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::{HistoryError, Result};
use crate::version::{ContentDigest, ContentId, FilePath, PathKey};

/// Bytes that sealing adds to a row: nonce and tag.
pub const SEAL: usize = 24 + 16;

type Secret = Zeroizing<[u8; 32]>;

/// A key for one purpose out of another.
fn derive(purpose: &str, key: &[u8; 32], salt: &[u8]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    hasher.update(key);
    hasher.update(salt);
    Zeroizing::new(hasher.finalize().into())
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(CipherKey::from_slice(&**key))
}

/// A partition's key.
#[derive(Clone)]
pub struct DataKey(Secret);

impl DataKey {
    /// From 32 random bytes.
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// What seals rows of the hot tail.
    pub fn rows(&self) -> RowSeal {
        RowSeal(cipher(&derive("patchwright history 2026 rows", &self.0, &[])))
    }

    /// What seals one object: no two objects share a key, so that the numbers of their blocks serve as
    /// nonces, also where a sealing was broken off and is done again.
    pub(crate) fn object(&self, salt: &[u8; 32]) -> BlockSeal {
        BlockSeal(cipher(&derive("patchwright history 2026 object", &self.0, salt)))
    }

    /// What commitments are made with.
    pub(crate) fn commitments(&self) -> Secret {
        derive("patchwright history 2026 commitments", &self.0, &[])
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Seals rows of the hot tail, each bound to its place.
#[derive(Clone)]
pub struct RowSeal(XChaCha20Poly1305);

impl RowSeal {
    /// Nonce, then ciphertext.
    pub fn seal(&self, place: &[u8], plain: &[u8], nonce: [u8; 24]) -> Result<Vec<u8>> {
        let sealed = self
            .0
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: place })
            .map_err(|_| HistoryError::damaged("a row"))?;
        let mut row = Vec::with_capacity(SEAL + plain.len());
        row.extend_from_slice(&nonce);
        row.extend_from_slice(&sealed);
        Ok(row)
    }

    /// What was sealed for this place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(24).ok_or(HistoryError::damaged("a row"))?;
        self.0
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: place })
            .map_err(|_| HistoryError::damaged("a row"))
    }
}

impl std::fmt::Debug for RowSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowSeal(…)")
    }
}

/// Seals blocks of one object, each under its number.
#[derive(Clone)]
pub(crate) struct BlockSeal(XChaCha20Poly1305);

impl BlockSeal {
    fn nonce(number: u64) -> XNonce {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        XNonce::from(nonce)
    }

    /// Adds the sealed block to an object.
    pub(crate) fn seal_onto(
        &self,
        object: &mut Vec<u8>,
        number: u64,
        place: &[u8],
        plain: &[u8],
    ) -> Result<()> {
        let start = object.len();
        object.extend_from_slice(plain);
        let tag = self
            .0
            .encrypt_in_place_detached(&Self::nonce(number), place, &mut object[start..])
            .map_err(|_| HistoryError::damaged("a block"))?;
        object.extend_from_slice(&tag);
        Ok(())
    }

    pub(crate) fn open(
        &self,
        number: u64,
        place: &[u8],
        mut sealed: Vec<u8>,
        what: &'static str,
    ) -> Result<Vec<u8>> {
        let length = sealed.len().checked_sub(16).ok_or(HistoryError::damaged(what))?;
        let tag = Tag::clone_from_slice(&sealed[length..]);
        sealed.truncate(length);
        self.0
            .decrypt_in_place_detached(&Self::nonce(number), place, &mut sealed, &tag)
            .map_err(|_| HistoryError::damaged(what))?;
        Ok(sealed)
    }
}

impl std::fmt::Debug for BlockSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockSeal(…)")
    }
}

/// A tenant's pool: the same content has the same hash within it, and another in every other pool, so
/// that nobody learns from hashes what another tenant holds.
#[derive(Clone)]
pub struct Pool {
    contents: Secret,
    paths: Secret,
    names: XChaCha20Poly1305,
}

impl Pool {
    /// Of a tenant's key.
    pub fn new(tenant: &[u8; 32]) -> Self {
        Self {
            contents: derive("patchwright history 2026 contents", tenant, &[]),
            paths: derive("patchwright history 2026 paths", tenant, &[]),
            names: cipher(&derive("patchwright history 2026 names", tenant, &[])),
        }
    }

    /// The keyed hash of a content.
    pub fn digest(&self, content: &[u8]) -> ContentDigest {
        ContentDigest(blake3::keyed_hash(&self.contents, content).into())
    }

    /// Stands for a path where it must not be read.
    pub fn path_key(&self, path: &FilePath) -> PathKey {
        let hash = blake3::keyed_hash(&self.paths, path.as_str().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        PathKey(key)
    }

    /// The path, sealed. Its key is the nonce: one path is the only message under it.
    pub fn seal_path(&self, key: PathKey, path: &FilePath) -> Result<Vec<u8>> {
        self.names
            .encrypt(&Self::nonce(key), path.as_str().as_bytes())
            .map_err(|_| HistoryError::damaged("a path"))
    }

    /// The path that was sealed.
    pub fn open_path(&self, key: PathKey, sealed: &[u8]) -> Result<FilePath> {
        let path = self
            .names
            .decrypt(&Self::nonce(key), sealed)
            .map_err(|_| HistoryError::damaged("a path"))?;
        String::from_utf8(path)
            .ok()
            .and_then(|path| FilePath::new(path).ok())
            .ok_or(HistoryError::damaged("a path"))
    }

    fn nonce(key: PathKey) -> XNonce {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&key.0);
        XNonce::from(nonce)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool(…)")
    }
}

/// What is known of a content by its digest alone.
impl From<ContentDigest> for ContentId {
    fn from(digest: ContentDigest) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0[..16]);
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_opens_at_its_place_alone() {
        let rows = DataKey::new(Zeroizing::new([7; 32])).rows();
        let sealed = rows.seal(b"here", b"secret", [1; 24]).unwrap();

        assert_eq!(rows.open(b"here", &sealed).unwrap(), b"secret");
        assert!(rows.open(b"there", &sealed).is_err());
        assert!(rows.open(b"here", &sealed[..20]).is_err());
        let other = DataKey::new(Zeroizing::new([8; 32])).rows();
        assert!(other.open(b"here", &sealed).is_err());
    }

    #[test]
    fn pools_share_no_hash() {
        let (one, two) = (Pool::new(&[1; 32]), Pool::new(&[2; 32]));
        let path = FilePath::new("/etc/passwd".to_owned()).unwrap();

        assert_ne!(one.digest(b"root"), two.digest(b"root"));
        assert_ne!(one.path_key(&path), two.path_key(&path));
        let sealed = one.seal_path(one.path_key(&path), &path).unwrap();
        assert_eq!(one.open_path(one.path_key(&path), &sealed).unwrap(), path);
        assert!(two.open_path(one.path_key(&path), &sealed).is_err());
    }
}
