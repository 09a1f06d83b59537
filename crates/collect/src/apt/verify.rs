//! `OpenPGP` verification of release files (RFC 9580), against the keys of one source only.
//!
//! As with apt one good signature suffices; every good signer is named in the result. Signatures
//! by SHA-1 or MD5, by keys that were expired or revoked, by subkeys that are not bound for
//! signing, and from the future do not count.

use domain::archive::Signer;
use jiff::Timestamp;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

use super::cleartext::unframe;

/// Tolerated difference between the signer's clock and ours, in seconds.
const CLOCK_SKEW: i64 = 24 * 3600;
/// Longest signature block that is read. Those of Debian have 3 kB.
const SIGNATURE_LIMIT: usize = 64 << 10;
/// Most signatures that are checked, each of which costs time. Debian makes two or three.
const SIGNATURES_LIMIT: usize = 16;

/// Public keys that may vouch for a source.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// Why a release file is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The file is not a message in the cleartext signature framework, or has text around it.
    #[error("it is not one clear-signed message: {reason}")]
    Malformed {
        /// What the parser says.
        reason: String,
    },
    /// There is no signature at all.
    #[error("it is not signed")]
    Missing,
    /// The source's keyring holds no key.
    #[error("the source has no key that could verify it")]
    NoKeys,
    /// No signature is by a key of the keyring.
    #[error("it is signed by {}, none of which is a key of this source", .issuers.join(", "))]
    UnknownSigner {
        /// Key ids or fingerprints that the signatures name.
        issuers: Vec<String>,
    },
    /// There are signatures by known keys, but none holds.
    #[error("no signature by {key} holds: {reason}")]
    Bad {
        /// Fingerprint of the key.
        key: String,
        /// Why.
        reason: String,
    },
}

/// A text whose signature has been verified.
#[derive(Debug, Clone)]
pub struct SignedText {
    /// Exactly the text that was signed, with plain newlines.
    pub text: String,
    /// Who signed it; never empty.
    pub signers: Vec<Signer>,
}

impl Keyring {
    /// Adds the keys of a keyring file, armored or binary; returns how many it held.
    pub fn add(&mut self, bytes: &[u8]) -> Result<usize, SignatureError> {
        let malformed =
            |error: pgp::errors::Error| SignatureError::Malformed { reason: error.to_string() };
        let (keys, _) = SignedPublicKey::from_reader_many(bytes).map_err(malformed)?;
        let before = self.keys.len();
        // A key that this library cannot read must not take its neighbours with it.
        self.keys.extend(keys.flatten());
        Ok(self.keys.len() - before)
    }

    /// Keeps only the keys with one of these fingerprints (`Signed-By: FINGERPRINT`).
    pub fn retain(&mut self, fingerprints: &[String]) {
        self.keys.retain(|key| {
            let of_primary = hex(&key.primary_key);
            fingerprints.iter().any(|wanted| {
                let wanted = wanted.trim_end_matches('!');
                wanted.eq_ignore_ascii_case(&of_primary)
                    || key
                        .public_subkeys
                        .iter()
                        .any(|sub| wanted.eq_ignore_ascii_case(&hex(&sub.key)))
            })
        });
    }

    /// Adds all keys of another keyring.
    pub fn extend(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies an `InRelease` file.
    pub fn verify_inline(&self, file: &str, now: Timestamp) -> Result<SignedText, SignatureError> {
        let framed = unframe(file)
            .map_err(|reason| SignatureError::Malformed { reason: reason.to_owned() })?;
        // RFC 9580 §7.2: what is signed has the line ends of the network.
        let canonical = framed.text.replace('\n', "\r\n");
        let signers =
            self.verify(&signatures(framed.signature.as_bytes())?, canonical.as_bytes(), now)?;
        Ok(SignedText { text: framed.text, signers })
    }

    /// Verifies a `Release` file by its `Release.gpg`.
    pub fn verify_detached(
        &self,
        file: &str,
        signature: &[u8],
        now: Timestamp,
    ) -> Result<SignedText, SignatureError> {
        let signers = self.verify(&signatures(signature)?, file.as_bytes(), now)?;
        Ok(SignedText { text: file.to_owned(), signers })
    }

    fn verify(
        &self,
        signatures: &[DetachedSignature],
        text: &[u8],
        now: Timestamp,
    ) -> Result<Vec<Signer>, SignatureError> {
        if self.keys.is_empty() {
            return Err(SignatureError::NoKeys);
        }
        let mut signers = Vec::new();
        let mut issuers = Vec::new();
        let mut bad = None;
        for DetachedSignature { signature } in signatures {
            issuers.push(issuer_of(signature));
            for key in &self.keys {
                match verify_by(key, signature, text, now) {
                    None => {}
                    Some(Ok(())) => signers.push(signer_of(key)),
                    Some(Err(reason)) => {
                        bad = Some(SignatureError::Bad { key: hex(&key.primary_key), reason });
                    }
                }
            }
        }
        signers.sort();
        signers.dedup();
        if issuers.is_empty() {
            return Err(SignatureError::Missing);
        }
        if signers.is_empty() {
            return Err(bad.unwrap_or(SignatureError::UnknownSigner { issuers }));
        }
        Ok(signers)
    }
}

/// The signatures of a block, armored or binary; those that are not understood do not count.
fn signatures(block: &[u8]) -> Result<Vec<DetachedSignature>, SignatureError> {
    if block.is_empty() {
        return Err(SignatureError::Missing);
    }
    let malformed = |reason: String| SignatureError::Malformed { reason };
    if block.len() > SIGNATURE_LIMIT {
        return Err(malformed(format!("its signature has more than {SIGNATURE_LIMIT} bytes")));
    }
    let (signatures, _) =
        DetachedSignature::from_reader_many(block).map_err(|error| malformed(error.to_string()))?;
    let signatures: Vec<DetachedSignature> =
        signatures.flatten().take(SIGNATURES_LIMIT + 1).collect();
    if signatures.len() > SIGNATURES_LIMIT {
        return Err(malformed(format!("it has more than {SIGNATURES_LIMIT} signatures")));
    }
    Ok(signatures)
}

/// Checks a signature against one certificate; `None` where another key made it.
fn verify_by(
    certificate: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    now: Timestamp,
) -> Option<Result<(), String>> {
    let made_by = |key: &dyn KeyDetails| {
        signature.issuer_fingerprint().iter().any(|issuer| **issuer == key.fingerprint())
            || signature.issuer_key_id().iter().any(|issuer| **issuer == key.legacy_key_id())
    };
    if made_by(&certificate.primary_key) {
        return Some(
            acceptable(signature, now)
                .and_then(|()| primary_valid(certificate, now))
                .and_then(|()| holds(signature, &certificate.primary_key, text)),
        );
    }
    let subkey = certificate.public_subkeys.iter().find(|subkey| made_by(&subkey.key))?;
    Some(
        acceptable(signature, now)
            .and_then(|()| primary_valid(certificate, now))
            .and_then(|()| subkey_valid(certificate, subkey, now))
            .and_then(|()| holds(signature, &subkey.key, text)),
    )
}

fn holds(signature: &Signature, key: &impl VerifyingKey, text: &[u8]) -> Result<(), String> {
    signature.verify(key, text).map_err(|_| "the text or the signature was altered".to_owned())
}

/// Rules about the signature itself.
fn acceptable(signature: &Signature, now: Timestamp) -> Result<(), String> {
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err("it is not a signature over a document".to_owned());
    }
    strong(signature)?;
    let created = signature.created().ok_or("it does not say when it was made")?;
    let created = i64::from(created.as_secs());
    if created > now.as_second() + CLOCK_SKEW {
        return Err("it was made in the future".to_owned());
    }
    expired(created, signature.signature_expiration_time(), now)
        .map_or(Ok(()), |_| Err("the signature has expired".to_owned()))
}

fn strong(signature: &Signature) -> Result<(), String> {
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => Ok(()),
        other => Err(format!("its hash algorithm {other:?} is too weak")),
    }
}

/// When something that lives for `lifetime` from `from` has expired; `None` while it lives.
fn expired(from: i64, lifetime: Option<pgp::types::Duration>, now: Timestamp) -> Option<i64> {
    let lifetime = i64::from(lifetime?.as_secs());
    let end = from.saturating_add(lifetime);
    (lifetime != 0 && end <= now.as_second()).then_some(end)
}

/// The primary key is self-signed, not revoked and not expired.
fn primary_valid(certificate: &SignedPublicKey, now: Timestamp) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok())
    {
        return Err("the key is revoked".to_owned());
    }
    let direct = details.direct_signatures.iter().filter(|it| it.verify_key(primary).is_ok());
    let of_users = details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            signature.is_certification()
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    let newest = direct
        .chain(of_users)
        .max_by_key(|signature| signature.created())
        .ok_or("the key vouches for no identity of its own")?;
    let created = i64::from(primary.created_at().as_secs());
    match expired(created, newest.key_expiration_time(), now) {
        Some(end) => Err(format!("the key expired on {}", day(end))),
        None => Ok(()),
    }
}

/// The subkey is bound for signing by the primary key, agrees to it, is not revoked or expired.
fn subkey_valid(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: Timestamp,
) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let holds =
        |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of_type = |wanted: SignatureType| {
        subkey.signatures.iter().filter(move |signature| signature.typ() == Some(wanted))
    };
    if of_type(SignatureType::SubkeyRevocation).any(|signature| holds(&signature)) {
        return Err("the subkey is revoked".to_owned());
    }
    let binding = of_type(SignatureType::SubkeyBinding)
        .filter(holds)
        .max_by_key(|signature| signature.created())
        .ok_or("the subkey is not bound to its primary key")?;
    if !binding.key_flags().sign() {
        return Err("the subkey is not meant for signing".to_owned());
    }
    // RFC 9580 §5.2.1.8: a signing subkey must sign back, or it could be adopted by a stranger.
    binding
        .embedded_signature()
        .filter(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok())
        .ok_or("the subkey does not confirm that it belongs to its primary key")?;
    let created = i64::from(subkey.key.created_at().as_secs());
    match expired(created, binding.key_expiration_time(), now) {
        Some(end) => Err(format!("the subkey expired on {}", day(end))),
        None => Ok(()),
    }
}

fn signer_of(certificate: &SignedPublicKey) -> Signer {
    let user = certificate
        .details
        .users
        .iter()
        .map(|user| String::from_utf8_lossy(user.id.id()).into_owned())
        .next()
        .unwrap_or_default();
    Signer { fingerprint: hex(&certificate.primary_key), user_id: user }
}

fn issuer_of(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|issuer| format!("{issuer:X}"));
    let key_id =
        || signature.issuer_key_id().first().map(|issuer| issuer.to_string().to_uppercase());
    fingerprint.or_else(key_id).unwrap_or_else(|| "an unnamed key".to_owned())
}

fn hex(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

fn day(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an impossible date".to_owned(), |at| at.strftime("%-d %b %Y").to_string())
}

/// The text of a file that needs no signature: the armor of an `InRelease` is taken off unread.
pub(super) fn strip_armor(file: &str) -> String {
    unframe(file).map_or_else(|_| file.to_owned(), |framed| framed.text)
}
