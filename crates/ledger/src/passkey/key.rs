//! Public keys of passkeys.

use std::fmt;
use std::str::FromStr;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::attestation::{AttestorKey, Digest, from_pem, to_pem};

/// `SubjectPublicKeyInfo` of a key on P-256, up to its point, which is not compressed (RFC 5480 §2).
const SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The public key of a passkey: ES256 (P-256) or Ed25519, which is what authenticators have.
#[derive(Clone, PartialEq, Eq)]
pub struct PasskeyKey(Point);

#[derive(Clone, PartialEq, Eq)]
enum Point {
    P256(VerifyingKey),
    Ed25519(AttestorKey),
}

/// Why something is no key of a passkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 or Ed25519 public key in PEM, or not a safe one")]
pub struct PasskeyKeyError;

impl PasskeyKey {
    /// A key on P-256, from one coordinate of its point and the parity of the other.
    ///
    /// # Errors
    /// If there is no such point.
    pub fn p256(x: &[u8; 32], y_is_odd: bool) -> Result<Self, PasskeyKeyError> {
        // SEC 1, 2.3.4: a compressed point.
        let compressed = [&[2 + u8::from(y_is_odd)][..], x].concat();
        let point = VerifyingKey::from_sec1_bytes(&compressed).map_err(|_| PasskeyKeyError)?;
        Ok(Self(Point::P256(point)))
    }

    /// An Ed25519 key, from its compressed point.
    ///
    /// # Errors
    /// If it is none, or one for which anybody can sign.
    pub fn ed25519(point: &[u8; 32]) -> Result<Self, PasskeyKeyError> {
        let key = AttestorKey::from_point(point).ok_or(PasskeyKeyError)?;
        Ok(Self(Point::Ed25519(key)))
    }

    /// SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub fn id(&self) -> String {
        Digest::of(&self.spki()).to_string()
    }

    /// The same, as bytes.
    pub fn id_bytes(&self) -> [u8; 32] {
        Sha256::digest(self.spki()).into()
    }

    fn spki(&self) -> Vec<u8> {
        match &self.0 {
            Point::P256(point) => [&SPKI[..], point.to_sec1_point(false).as_bytes()].concat(),
            Point::Ed25519(key) => key.spki(),
        }
    }

    /// Whether it signed this: ECDSA with SHA-256 as ASN.1 in DER, or Ed25519 (W3C Web
    /// Authentication Level 3, 6.5.5).
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Point::P256(point) => Signature::from_der(signature)
                .is_ok_and(|signature| point.verify(message, &signature).is_ok()),
            Point::Ed25519(key) => key.signed(message, signature),
        }
    }
}

impl fmt::Debug for PasskeyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PasskeyKey").field(&self.id()).finish()
    }
}

/// As PEM.
impl fmt::Display for PasskeyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_pem(&self.spki()))
    }
}

impl FromStr for PasskeyKey {
    type Err = PasskeyKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let spki = from_pem(text).ok_or(PasskeyKeyError)?;
        if let Some(key) = AttestorKey::from_spki(&spki) {
            return Ok(Self(Point::Ed25519(key)));
        }
        // One spelling: a compressed point, or parameters written out, would be another id.
        let point = spki.strip_prefix(&SPKI).filter(|point| point.first() == Some(&4));
        let point = point.and_then(|point| VerifyingKey::from_sec1_bytes(point).ok());
        point.map(|point| Self(Point::P256(point))).ok_or(PasskeyKeyError)
    }
}
