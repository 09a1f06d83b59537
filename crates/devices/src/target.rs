//! Where a device is, as whom it is looked at, and how it is known again.

use std::fmt;
use std::sync::Arc;

use domain::device::HostKeyFingerprint;
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Longest password or key, in bytes.
const LONGEST: usize = 16 << 10;

/// A password or a key; wiped when it is dropped, and shown by nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What somebody signs in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A password, by the method of that name or as the answer to a question.
    Password(Secret),
    /// A private key as OpenSSH writes it, Ed25519 or ECDSA, without a passphrase.
    Key(Secret),
}

/// Why nobody can sign in with that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// Nothing, more than anybody has, or with line breaks.
    #[error("a password has 1 to {LONGEST} bytes in one line")]
    Password,
    /// It is none, or none without its passphrase.
    #[error("the private key cannot be read")]
    Key,
    /// Signing with it would tell of it.
    #[error("RSA keys are not signed with: no maintained library does so in constant time")]
    Rsa,
}

impl InvalidCredential {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Password => "give the password alone",
            Self::Key => "give the file of `ssh-keygen -t ed25519 -N ''` as it is",
            Self::Rsa => "make a key with `ssh-keygen -t ed25519 -N ''`, or -t ecdsa",
        }
    }
}

impl Credential {
    /// Whether somebody can sign in with it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), InvalidCredential> {
        match self {
            Self::Password(secret) => check_line(secret),
            Self::Key(_) => self.key().map(|_| ()),
        }
    }

    /// The private key, where it is one.
    pub(crate) fn key(&self) -> Result<Option<Arc<PrivateKey>>, InvalidCredential> {
        let Self::Key(secret) = self else { return Ok(None) };
        if secret.reveal().len() > LONGEST {
            return Err(InvalidCredential::Key);
        }
        let key = decode_secret_key(secret.reveal(), None).map_err(|_| InvalidCredential::Key)?;
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(Some(Arc::new(key))),
            Algorithm::Rsa { .. } => Err(InvalidCredential::Rsa),
            _ => Err(InvalidCredential::Key),
        }
    }
}

/// Whether a secret can be typed as one line.
pub(crate) fn check_line(secret: &Secret) -> Result<(), InvalidCredential> {
    let text = secret.reveal();
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(InvalidCredential::Password);
    }
    Ok(())
}

impl Secret {
    /// Whether it can be typed: the password that a device asks of whoever wants to see everything.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), InvalidCredential> {
        check_line(self)
    }
}

/// By what a device is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// This one, and no other.
    Pinned(HostKeyFingerprint),
    /// Whichever it shows, this once.
    FirstUse,
}

/// A device, and as whom it is looked at.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name or address.
    pub address: String,
    /// Where it speaks SSH.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// With what.
    pub credential: Credential,
    /// The password that it asks of whoever wants to see everything, where it does.
    pub enable: Option<Secret>,
    /// By what it is known again.
    pub host_key: HostKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_secret() {
        let credential = Credential::Password(Secret::from("hunter2hunter2".to_owned()));
        assert!(!format!("{credential:?}").contains("hunter2"));
    }

    #[test]
    fn only_what_can_be_signed_in_with_is_taken() {
        let password = |text: &str| Credential::Password(Secret::from(text.to_owned())).check();
        assert_eq!(password("Tr0ub4dor & 3"), Ok(()));
        for wrong in ["", "two\nlines", "bell\u{7}", &"x".repeat(LONGEST + 1)] {
            assert_eq!(password(wrong), Err(InvalidCredential::Password));
        }
        let key = |text: &str| Credential::Key(Secret::from(text.to_owned())).check();
        for wrong in ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", &"x".repeat(LONGEST + 1)] {
            assert_eq!(key(wrong), Err(InvalidCredential::Key));
        }
    }
}
