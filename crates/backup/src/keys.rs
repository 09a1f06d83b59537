//! Keys of a repository.
//!
//! ```text
//! master key ─ wraps ─ RepositoryKey ─┬─ blobs, each bound to its keyed hash
//!                                     └─ manifests, each bound to its name
//! ```
//! A repository holds its keys sealed under what is derived from the master key, and never that itself.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key as CipherKey, KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::{BackupError, Result};

/// 32 secret bytes, wiped when they are dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// Fills with randomness fit for keys.
pub type Random = fn(&mut [u8]);

fn derive(purpose: &str, key: &[u8; 32]) -> Secret {
    Zeroizing::new(blake3::derive_key(purpose, key))
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(CipherKey::from_slice(&**key))
}

fn seal(cipher: &XChaCha20Poly1305, place: &[u8], plain: &[u8], random: Random) -> Vec<u8> {
    let mut nonce = [0; 24];
    random(&mut nonce);
    let payload = Payload { msg: plain, aad: place };
    // Fails for messages of 256 GiB alone, and none has a hundredth of that.
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default();
    let mut whole = Vec::with_capacity(nonce.len() + sealed.len());
    whole.extend_from_slice(&nonce);
    whole.extend_from_slice(&sealed);
    whole
}

fn open(cipher: &XChaCha20Poly1305, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_at_checked(24)?;
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: place }).ok()
}

/// Names a piece of what is kept, by its keyed hash: the same piece has the same name under one key, and nobody can
/// find out by guessing what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlobId(pub(crate) [u8; 16]);

/// What everything in a repository is sealed under.
pub(crate) struct RepositoryKey {
    /// Its public name.
    pub(crate) id: String,
    secret: Secret,
    names: Secret,
    blobs: XChaCha20Poly1305,
    manifests: XChaCha20Poly1305,
}

impl RepositoryKey {
    pub(crate) fn new(secret: Secret) -> Self {
        let id = derive("patchwright backup 2026 name of the key", &secret);
        Self {
            id: blake3::Hash::from(*id).to_hex()[..16].to_owned(),
            names: derive("patchwright backup 2026 names of blobs", &secret),
            blobs: cipher(&derive("patchwright backup 2026 blobs", &secret)),
            manifests: cipher(&derive("patchwright backup 2026 manifests", &secret)),
            secret,
        }
    }

    pub(crate) fn name(&self, plain: &[u8]) -> BlobId {
        let hash = blake3::keyed_hash(&self.names, plain);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        BlobId(id)
    }

    pub(crate) fn seal_blob(&self, id: BlobId, plain: &[u8], random: Random) -> Vec<u8> {
        seal(&self.blobs, &id.0, plain, random)
    }

    pub(crate) fn open_blob(&self, id: BlobId, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.blobs, &id.0, sealed)
    }

    pub(crate) fn seal_manifest(&self, name: &str, plain: &[u8], random: Random) -> Vec<u8> {
        seal(&self.manifests, name.as_bytes(), plain, random)
    }

    pub(crate) fn open_manifest(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        open(&self.manifests, name.as_bytes(), sealed)
            .ok_or_else(|| BackupError::damaged(format!("the manifest `{name}`")))
    }

    /// The key itself, sealed for a repository.
    pub(crate) fn wrap(&self, master: &Secret, random: Random) -> Vec<u8> {
        seal(&wrapping(master), self.id.as_bytes(), &*self.secret, random)
    }

    /// A key that was sealed under what is derived from this master key.
    pub(crate) fn unwrap(id: &str, sealed: &[u8], master: &Secret) -> Option<Self> {
        let secret = Zeroizing::new(open(&wrapping(master), id.as_bytes(), sealed)?);
        let key = Self::new(Zeroizing::new(secret.as_slice().try_into().ok()?));
        (key.id == id).then_some(key)
    }
}

fn wrapping(master: &Secret) -> XChaCha20Poly1305 {
    cipher(&derive("patchwright backup 2026 wrapping", master))
}

impl std::fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepositoryKey").field("id", &self.id).finish_non_exhaustive()
    }
}
