//! The installation's own keys, kept in the database sealed under a master key that is not there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key as CipherKey, KeyInit as _, XChaCha20Poly1305, XNonce};
use sqlx::{AnyConnection, Row as _};
use zeroize::Zeroizing;

use crate::environment::{Environment, random};
use crate::error::StoreError;
use crate::writer::Tx;

/// A secret of 32 bytes, wiped when it is dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// The key over all keys: a file that only its owner may read, apart from the database and its
/// backups.
pub struct MasterKey(Key);

/// Why a master key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or written.
    #[error("cannot use the master key `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("the master key `{}` can be read by others (mode {mode:o})", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not one.
    #[error("`{}` is not a master key", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

impl MasterKeyError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::File { .. } => "the directory must be there and writable for this user",
            Self::Open { .. } => "chmod 600 it; if others may have read it, replace the keys",
            Self::Malformed { .. } => "restore it from where you keep it: 64 hexadecimal digits",
        }
    }
}

impl MasterKey {
    /// Reads the key, or makes one where there is none.
    pub fn open(path: &Path, environment: &dyn Environment) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::File { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(MasterKeyError::Open { path: path.to_owned(), mode });
                }
                decode(text.trim())
                    .map(Self)
                    .ok_or_else(|| MasterKeyError::Malformed { path: path.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Zeroizing::new(random(environment));
                create(path, &key).map_err(failed)?;
                // Another process may have been first: what the file holds counts.
                Self::open(path, environment)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Where the key lies that is to come into force after the one of this file.
    pub fn next_path(path: &Path) -> PathBuf {
        let mut next = path.as_os_str().to_owned();
        next.push(".next");
        PathBuf::from(next)
    }

    /// Puts the next key into force: from now on the file holds it. The one before is gone.
    ///
    /// # Errors
    /// If the files cannot be altered.
    pub fn promote(path: &Path) -> Result<(), MasterKeyError> {
        let failed = |source| MasterKeyError::File { path: path.to_owned(), source };
        fs::rename(Self::next_path(path), path).map_err(failed)?;
        sync_folder(path).map_err(failed)
    }

    /// A key for one purpose, which tells nothing of this one.
    pub fn derive(&self, purpose: &'static str) -> Key {
        Zeroizing::new(blake3::derive_key(purpose, &*self.0))
    }

    /// What it is called in records.
    pub fn fingerprint(&self) -> String {
        let name = blake3::derive_key("patchwright 2026 name of a master key", &*self.0);
        blake3::Hash::from(name).to_hex()[..16].to_owned()
    }

    /// Bound to the key's name.
    pub(crate) fn seal(&self, name: &str, key: &[u8; 32], nonce: [u8; 24]) -> Option<Vec<u8>> {
        Vault::new(&self.0).seal(name, key, nonce)
    }

    pub(crate) fn unseal(&self, name: &str, sealed: &[u8]) -> Option<Key> {
        let opened = Vault::new(&self.0).open(name, sealed)?;
        opened.as_slice().try_into().ok().map(Zeroizing::new)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Seals small secrets in rows of the database: what it sealed for one place opens at no other.
#[derive(Clone)]
pub struct Vault(XChaCha20Poly1305);

impl Vault {
    /// A vault under a key of the installation.
    pub fn new(key: &Key) -> Self {
        Self(XChaCha20Poly1305::new(CipherKey::from_slice(&**key)))
    }

    /// Nonce, then ciphertext, bound to a place; `None` never happens for secrets of sane length.
    pub fn seal(&self, place: &str, secret: &[u8], nonce: [u8; 24]) -> Option<Vec<u8>> {
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// The secret; `None` where it was sealed elsewhere, for another place, or altered.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(24)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        self.0.decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// A key of the installation that is there.
pub(crate) async fn opened(
    connection: &mut AnyConnection,
    master: &MasterKey,
    name: &str,
) -> Result<Key, StoreError> {
    let sealed: Vec<u8> = sqlx::query("SELECT sealed FROM sealed_keys WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| StoreError::Corrupt { what: format!("the key `{name}` is gone") })?
        .try_get("sealed")?;
    master.unseal(name, &sealed).ok_or_else(|| locked(name))
}

/// Keeps a key of the installation that was made elsewhere.
pub(crate) async fn keep(
    tx: &mut Tx<'_>,
    master: &MasterKey,
    name: &str,
    key: &Key,
) -> Result<(), StoreError> {
    let sealed = master.seal(name, key, tx.random()).ok_or_else(|| locked(name))?;
    sqlx::query("INSERT INTO sealed_keys (name, sealed, created_at) VALUES ($1, $2, $3)")
        .bind(name)
        .bind(sealed)
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

pub(crate) fn locked(name: &str) -> StoreError {
    StoreError::Refused {
        reason: format!("the key `{name}` does not open with this master key"),
        help: "use the master key that this database was made with",
    }
}

/// The installation's key of this name, made at the first call.
pub(crate) async fn key(
    tx: &mut Tx<'_>,
    master: &MasterKey,
    name: &'static str,
) -> Result<Key, StoreError> {
    let made = Zeroizing::new(tx.random());
    let sealed = master.seal(name, &made, tx.random()).ok_or_else(|| locked(name))?;
    sqlx::query(
        "INSERT INTO sealed_keys (name, sealed, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(sealed)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    opened(&mut *tx.connection, master, name).await
}

/// Writes the key beside its place and links it there, so that nobody ever reads half of it and
/// nobody's key is overwritten.
fn create(path: &Path, key: &Key) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in **key {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
    }
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    fs::remove_file(&beside)?;
    linked?;
    sync_folder(path)
}

/// Makes durable what a file's folder says of it.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn decode(text: &str) -> Option<Key> {
    let mut key = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;

    #[test]
    fn a_key_opens_again_under_its_own_name_alone() {
        let directory = tempfile::tempdir().unwrap();
        let master = MasterKey::open(&directory.path().join("master.key"), &System).unwrap();
        let sealed = master.seal("ledger", &[7; 32], [1; 24]).unwrap();

        assert_eq!(*master.unseal("ledger", &sealed).unwrap(), [7; 32]);
        assert!(master.unseal("agents", &sealed).is_none());
        assert!(master.unseal("ledger", &sealed[..20]).is_none());
        assert!(!sealed.windows(32).any(|window| window == [7; 32]));
    }

    #[test]
    fn the_file_is_read_again_and_must_be_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let first = MasterKey::open(&path, &System).unwrap();
        let again = MasterKey::open(&path, &System).unwrap();
        assert_eq!(first.0, again.0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::open(&path, &System), Err(MasterKeyError::Open { .. })));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(MasterKey::open(&path, &System), Err(MasterKeyError::Malformed { .. })));
    }
}
