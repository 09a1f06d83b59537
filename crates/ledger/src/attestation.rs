//! Attestations: in-toto Statements in DSSE envelopes, that anybody can verify with other people's
//! tools.
//!
//! A log proves that something was recorded; an attestation proves who claims it, of exactly which
//! bytes, wherever it is carried. The formats are the [in-toto Statement v1], and [DSSE v1.0] with
//! Ed25519 signatures over its pre-authentication encoding, verified strictly.
//!
//! ```
//! use ledger::attestation::{Attestor, Digest, Statement};
//!
//! let attestor = Attestor::new(&[7; 32]);
//! let statement = Statement::new("https://in-toto.io/attestation/test-result/v0.1")
//!     .about("web.qcow2", Digest::of(b"the image"))
//!     .saying(&serde_json::json!({ "result": "PASSED" }))?;
//! let envelope = attestor.attest(&statement)?;
//!
//! let carried = serde_json::to_vec(&envelope)?;
//! let opened = ledger::attestation::verify(&carried, &[attestor.key()])?;
//! assert_eq!(opened.predicate_type(), statement.predicate_type());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [in-toto Statement v1]: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
//! [DSSE v1.0]: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine as _};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// `payloadType` of an in-toto Statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// `_type` of an in-toto Statement v1.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Largest envelope read, in bytes: an attestation names its evidence, it does not hold it.
pub const LARGEST_ENVELOPE: usize = 8 << 20;

/// Most signatures of one envelope that are looked at.
const MOST_SIGNATURES: usize = 32;

/// `SubjectPublicKeyInfo` of an Ed25519 key, up to the key itself (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 of bytes, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Something attested about certain bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What its maker calls it; only the digest counts.
    #[serde(default)]
    pub name: String,
    /// Digests by algorithm; `sha256` is there in all of ours.
    pub digest: BTreeMap<String, String>,
}

/// A signed statement, as it is carried (DSSE's JSON form).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Who attests: an Ed25519 private key.
#[derive(Clone)]
pub struct Attestor {
    secret: SigningKey,
}

/// Who attested: an Ed25519 public key, written as PEM (`SubjectPublicKeyInfo`).
#[derive(Clone, PartialEq, Eq)]
pub struct AttestorKey {
    point: VerifyingKey,
}

/// Why an attestation does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// Longer than any of ours.
    #[error("the attestation has {size} bytes; at most {limit} are read")]
    TooLong {
        /// Its length.
        size: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Not an envelope.
    #[error("the attestation is not a DSSE envelope")]
    Envelope(#[source] serde_json::Error),
    /// Its payload or a signature is not base64.
    #[error("the attestation's {part} is not base64")]
    Base64 {
        /// Which part.
        part: &'static str,
    },
    /// Something else than a statement is signed.
    #[error("the attestation holds `{found}`, not `{PAYLOAD_TYPE}`")]
    PayloadType {
        /// What it holds.
        found: String,
    },
    /// No trusted key signed it.
    #[error("none of the {trusted} trusted keys signed the attestation; it names {named}")]
    Signature {
        /// How many keys were tried.
        trusted: usize,
        /// The key ids that it names.
        named: String,
    },
    /// What is signed is not a statement.
    #[error("what is signed is not an in-toto Statement v1")]
    Statement(#[source] serde_json::Error),
    /// It is of another kind or version.
    #[error("what is signed is a `{found}`, not a `{STATEMENT_TYPE}`")]
    StatementType {
        /// What it is.
        found: String,
    },
    /// It says something about nothing.
    #[error("the statement has no subject with a SHA-256 digest")]
    Subject,
}

/// Why a text is no key of an attestor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 public key in PEM, or not a safe one")]
pub struct AttestorKeyError;

/// Why a text is no private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key in PEM (PKCS#8, not encrypted)")]
pub struct AttestorSecretError;

/// What an envelope holds, and who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes that are signed: a Statement in JSON.
    pub payload: Vec<u8>,
    /// Which of the trusted keys signed them.
    pub key: AttestorKey,
}

impl AttestationError {
    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Signature { .. } => "ask its maker for their public key over a way you trust",
            Self::TooLong { .. } | Self::Envelope(_) | Self::Base64 { .. } => {
                "give the file as it was made: DSSE in JSON"
            }
            Self::PayloadType { .. }
            | Self::Statement(_)
            | Self::StatementType { .. }
            | Self::Subject => "its signature may hold; what it says is not for this program",
        }
    }
}

impl Digest {
    /// Of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(<[u8; 32]>::from(Sha256::digest(bytes)))
    }

    /// In hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Of 32 bytes that are a digest already.
impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text))
        } else {
            Err("not a SHA-256 digest in lower-case hexadecimal")
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Statement {
    /// One of a kind, named by its predicate's address, about nothing yet.
    pub fn new(predicate_type: &str) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: Vec::new(),
            predicate_type: predicate_type.to_owned(),
            predicate: Value::Null,
        }
    }

    /// Also about these bytes.
    #[must_use]
    pub fn about(mut self, name: &str, digest: Digest) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), digest.0)]);
        self.subject.push(Subject { name: name.to_owned(), digest });
        self
    }

    /// Says this.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn saying(mut self, predicate: &impl Serialize) -> Result<Self, serde_json::Error> {
        self.predicate = serde_json::to_value(predicate)?;
        Ok(self)
    }

    /// What kind of statement it is.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// What it says.
    pub fn predicate(&self) -> &Value {
        &self.predicate
    }

    /// What it is about.
    pub fn subjects(&self) -> &[Subject] {
        &self.subject
    }

    /// Whether it is about these bytes.
    pub fn is_about(&self, digest: &Digest) -> bool {
        self.subject.iter().any(|subject| subject.digest.get("sha256") == Some(&digest.0))
    }
}

impl Attestor {
    /// From 32 random bytes.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self { secret: SigningKey::from_bytes(seed) }
    }

    /// Its public half.
    pub fn key(&self) -> AttestorKey {
        AttestorKey { point: self.secret.verifying_key() }
    }

    /// Reads a private key, as `openssl genpkey -algorithm ed25519` writes it (PKCS#8 in PEM).
    ///
    /// # Errors
    /// If it is none, or is encrypted.
    pub fn from_pem(text: &str) -> Result<Self, AttestorSecretError> {
        let secret = SigningKey::from_pkcs8_pem(text).map_err(|_| AttestorSecretError)?;
        Ok(Self { secret })
    }

    /// The private key, as OpenSSL reads it (PKCS#8 in PEM, its first version: OpenSSL 3.0 reads no key
    /// that has its public half beside it, RFC 5958); forgotten when it is dropped.
    ///
    /// # Panics
    /// Never: every Ed25519 key has this form.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let secret = KeypairBytes { secret_key: self.secret.to_bytes(), public_key: None };
        secret.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key has a form in PKCS#8")
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// If it is about nothing.
    pub fn attest(&self, statement: &Statement) -> Result<Envelope, AttestationError> {
        let payload = serde_json::to_vec(statement).map_err(AttestationError::Statement)?;
        self.sign(&payload)
    }

    /// Signs the bytes of a statement exactly as they are, for where others compare these bytes.
    ///
    /// # Errors
    /// If they are no statement, or one about nothing.
    pub fn sign(&self, payload: &[u8]) -> Result<Envelope, AttestationError> {
        check_payload(payload)?;
        let signature = self.secret.sign(&pre_authentication(PAYLOAD_TYPE, payload));
        Ok(Envelope {
            payload: BASE64_STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signed {
                keyid: self.key().id(),
                sig: BASE64_STANDARD.encode(signature.to_bytes()),
            }],
        })
    }
}

/// Without the secret.
impl fmt::Debug for Attestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attestor").field(&self.key().id()).finish()
    }
}

impl AttestorKey {
    /// SHA-256 of its `SubjectPublicKeyInfo`: a hint for finding it, nothing to trust.
    pub fn id(&self) -> String {
        Digest::of(&self.spki()).0
    }

    /// The same, as bytes.
    pub fn id_bytes(&self) -> [u8; 32] {
        Sha256::digest(self.spki()).into()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        [SPKI.as_slice(), self.point.as_bytes()].concat()
    }

    /// From a `SubjectPublicKeyInfo` in its one spelling; none that anybody can sign for.
    pub(crate) fn from_spki(bytes: &[u8]) -> Option<Self> {
        Self::from_point(bytes.strip_prefix(&SPKI)?.try_into().ok()?)
    }

    /// From a compressed point in its one spelling (RFC 8032 §5.1.2).
    pub(crate) fn from_point(bytes: &[u8; 32]) -> Option<Self> {
        let point = VerifyingKey::from_bytes(bytes).ok()?;
        (point.to_bytes() == *bytes && !point.is_weak()).then_some(Self { point })
    }

    /// Whether it signed this; strictly, so that a message has one signature.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.point.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for AttestorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttestorKey").field(&self.id()).finish()
    }
}

/// As PEM.
impl fmt::Display for AttestorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_pem(&self.spki()))
    }
}

impl FromStr for AttestorKey {
    type Err = AttestorKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_pem(text).and_then(|spki| Self::from_spki(&spki)).ok_or(AttestorKeyError)
    }
}

/// A `SubjectPublicKeyInfo` in PEM, its text in lines of 64 (RFC 7468 §2), as OpenSSL writes it.
pub(crate) fn to_pem(spki: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(spki);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END PUBLIC KEY-----\n");
    pem
}

/// What a `PUBLIC KEY` in PEM holds.
pub(crate) fn from_pem(text: &str) -> Option<Vec<u8>> {
    let text: String = text
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?
        .split_whitespace()
        .collect();
    BASE64_STANDARD.decode(text).ok()
}

/// What an attestation says, once one of the trusted keys is seen to have signed it.
///
/// # Errors
/// As [`AttestationError`]: nothing of it may be believed then.
pub fn verify(bytes: &[u8], trusted: &[AttestorKey]) -> Result<Statement, AttestationError> {
    let Opened { payload, key: _ } = open(bytes, trusted)?;
    serde_json::from_slice(&payload).map_err(AttestationError::Statement)
}

/// The very bytes of a statement, once one of the trusted keys is seen to have signed them, and which.
///
/// # Errors
/// As [`AttestationError`]: nothing of it may be believed then.
pub fn open(bytes: &[u8], trusted: &[AttestorKey]) -> Result<Opened, AttestationError> {
    if bytes.len() > LARGEST_ENVELOPE {
        return Err(AttestationError::TooLong { size: bytes.len(), limit: LARGEST_ENVELOPE });
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(AttestationError::Envelope)?;
    let payload = decode(&envelope.payload, "payload")?;
    let message = pre_authentication(&envelope.payload_type, &payload);
    // Key ids are not authenticated (DSSE, "keyid"): each key is tried.
    let mut signer = None;
    for signed in envelope.signatures.iter().take(MOST_SIGNATURES) {
        let signature = decode(&signed.sig, "signature")?;
        let signs = |key: &&AttestorKey| key.signed(&message, &signature);
        signer = signer.or_else(|| trusted.iter().find(signs).cloned());
    }
    let Some(key) = signer else {
        let named: Vec<_> =
            envelope.signatures.iter().take(MOST_SIGNATURES).map(|it| it.keyid.as_str()).collect();
        let named = if named.is_empty() { "nobody".to_owned() } else { named.join(", ") };
        return Err(AttestationError::Signature { trusted: trusted.len(), named });
    };
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(AttestationError::PayloadType { found: envelope.payload_type });
    }
    check_payload(&payload)?;
    Ok(Opened { payload, key })
}

/// Whether bytes are a Statement about something.
pub(crate) fn check_payload(payload: &[u8]) -> Result<(), AttestationError> {
    check(&serde_json::from_slice(payload).map_err(AttestationError::Statement)?)
}

fn check(statement: &Statement) -> Result<(), AttestationError> {
    if statement.kind != STATEMENT_TYPE {
        return Err(AttestationError::StatementType { found: statement.kind.clone() });
    }
    let names_bytes = |subject: &Subject| {
        subject.digest.get("sha256").is_some_and(|text| Digest::try_from(text.clone()).is_ok())
    };
    if statement.subject.is_empty() || !statement.subject.iter().all(names_bytes) {
        return Err(AttestationError::Subject);
    }
    Ok(())
}

/// Either alphabet, as DSSE asks of whoever reads.
fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, AttestationError> {
    BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_URL_SAFE.decode(text))
        .map_err(|_| AttestationError::Base64 { part })
}

/// What is signed: type and payload with their lengths, so that nothing can be taken for anything
/// else (DSSE, "PAE").
pub(crate) fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement::new("https://example.com/proof/v1")
            .about("web.qcow2", Digest::of(b"image"))
            .saying(&serde_json::json!({ "verdict": "proven" }))
            .unwrap()
    }

    fn carried(attestor: &Attestor) -> Vec<u8> {
        serde_json::to_vec(&attestor.attest(&statement()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_signed_is_what_the_protocol_says() {
        // The example of DSSE's protocol.md.
        assert_eq!(
            pre_authentication("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn bytes_are_signed_as_they_are_and_come_back_so_with_their_signer() {
        let (ours, other) = (Attestor::new(&[1; 32]), Attestor::new(&[2; 32]));
        // Members in another order, and a blank: not as we would write it.
        let payload = br#"{"predicateType":"urn:x", "_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}]}"#;
        let carried = serde_json::to_vec(&ours.sign(payload).unwrap()).unwrap();

        let opened = open(&carried, &[other.key(), ours.key()]).unwrap();

        assert_eq!(opened, Opened { payload: payload.to_vec(), key: ours.key() });
        assert!(open(&carried, &[other.key()]).is_err());
        assert!(ours.sign(b"{}").is_err(), "nothing else than statements is signed");
    }

    #[test]
    fn a_private_key_is_read_as_it_was_written() {
        let ours = Attestor::new(&[3; 32]);
        let pem = ours.to_pem();

        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(Attestor::from_pem(&pem).unwrap().key(), ours.key());
        assert!(Attestor::from_pem(&ours.key().to_string()).is_err());
    }

    #[test]
    fn an_attestation_says_who_claims_what_of_which_bytes() {
        let attestor = Attestor::new(&[1; 32]);

        let opened = verify(&carried(&attestor), &[attestor.key()]).unwrap();

        assert_eq!(opened, statement());
        assert!(opened.is_about(&Digest::of(b"image")));
        assert!(!opened.is_about(&Digest::of(b"another image")));
    }

    #[test]
    fn another_key_does_not_count() {
        let key = Attestor::new(&[2; 32]).key();

        let error = verify(&carried(&Attestor::new(&[1; 32])), &[key]).unwrap_err();

        assert!(matches!(error, AttestationError::Signature { trusted: 1, .. }), "{error}");
    }

    #[test]
    fn any_altered_byte_is_noticed() {
        let attestor = Attestor::new(&[1; 32]);
        let envelope = attestor.attest(&statement()).unwrap();
        let payload = BASE64_STANDARD.decode(&envelope.payload).unwrap();
        for at in 0..payload.len() {
            let mut altered = payload.clone();
            altered[at] ^= 1;
            let altered = Envelope { payload: BASE64_STANDARD.encode(altered), ..envelope.clone() };
            let bytes = serde_json::to_vec(&altered).unwrap();
            assert!(matches!(
                verify(&bytes, &[attestor.key()]),
                Err(AttestationError::Signature { .. })
            ));
        }
        let other = Envelope { payload_type: "text/plain".to_owned(), ..envelope };
        let bytes = serde_json::to_vec(&other).unwrap();
        assert!(matches!(
            verify(&bytes, &[attestor.key()]),
            Err(AttestationError::Signature { .. })
        ));
    }

    #[test]
    fn a_statement_about_nothing_is_not_signed() {
        let nothing = Statement::new("https://example.com/proof/v1");

        assert!(matches!(Attestor::new(&[1; 32]).attest(&nothing), Err(AttestationError::Subject)));
    }

    #[test]
    fn signatures_of_others_may_stand_beside() {
        let (ours, theirs) = (Attestor::new(&[1; 32]), Attestor::new(&[2; 32]));
        let mut envelope = theirs.attest(&statement()).unwrap();
        envelope.signatures.extend(ours.attest(&statement()).unwrap().signatures);
        let bytes = serde_json::to_vec(&envelope).unwrap();

        assert!(verify(&bytes, &[ours.key()]).is_ok());
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = Attestor::new(&[3; 32]).key();

        assert_eq!(key.to_string().parse::<AttestorKey>().unwrap(), key);
        // A point of low order: every signature would hold.
        let weak = AttestorKey { point: VerifyingKey::from_bytes(&[0; 32]).unwrap() };
        assert_eq!(weak.to_string().parse::<AttestorKey>(), Err(AttestorKeyError));
        for text in ["", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", "MCowBQ"] {
            assert_eq!(text.parse::<AttestorKey>(), Err(AttestorKeyError));
        }
    }

    #[test]
    fn what_is_no_envelope_is_told_apart() {
        let trusted = [Attestor::new(&[1; 32]).key()];

        assert!(matches!(verify(b"{}", &trusted), Err(AttestationError::Envelope(_))));
        assert!(matches!(
            verify(&vec![b' '; LARGEST_ENVELOPE + 1], &trusted),
            Err(AttestationError::TooLong { .. })
        ));
        let bytes = br#"{"payload":"?","payloadType":"","signatures":[]}"#;
        assert!(matches!(verify(bytes, &trusted), Err(AttestationError::Base64 { .. })));
    }
}
