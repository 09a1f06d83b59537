//! Statements that somebody signed with a passkey, that anybody can verify who has its public key.
//!
//! An authenticator signs no bytes of ours: it signs what a browser says (type, challenge, origin) and
//! what it says itself (for whom, that its user was there and was verified). So the challenge is
//! SHA-256 of what a key would sign in a [DSSE] envelope, the *pre-authentication encoding* of the
//! statement ([`challenge`]), and the evidence is statement and assertion together:
//!
//! ```json
//! { "payload": "…", "payloadType": "application/vnd.in-toto+json",
//!   "assertion": { "keyid": "…", "authenticatorData": "…", "clientDataJSON": "…", "signature": "…" } }
//! ```
//!
//! in base64 (RFC 4648 §4). It cannot be taken for a DSSE envelope, which has `signatures` and no
//! `assertion`, nor the other way round; nor can one signature serve as the other, because an
//! authenticator's begins with the hash of a name. `keyid` is the SHA-256 of the key's
//! `SubjectPublicKeyInfo`; it must be that of the key that signed. Each envelope has one spelling: any
//! byte that is altered is noticed.
//!
//! What is checked of the assertion is what [W3C Web Authentication Level 3, 7.2] asks ([`Assertion`]).
//! What it proves: a person whom the authenticator verified had it sign this challenge on a page of this
//! origin. What that page showed is for whoever trusts the page; see `docs/consent.md`.
//!
//! ```
//! # use ledger::passkey::{PasskeyKey, Site, open};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (envelope, key) = (b"{}", "");
//! let sites = [Site::at("https://cloud.example.org")?];
//! if let Ok(key) = key.parse::<PasskeyKey>() {
//!     let opened = open(envelope, &[key], &sites)?;
//!     println!("{} bytes, signed at {}", opened.payload.len(), opened.origin);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [DSSE]: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
//! [W3C Web Authentication Level 3, 7.2]: https://www.w3.org/TR/webauthn-3/#sctn-verifying-assertion

mod assertion;
mod key;
mod site;

#[cfg(test)]
mod tests;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use assertion::{Assertion, AssertionError};
pub use key::{PasskeyKey, PasskeyKeyError};
pub use site::{Site, SiteError};

use crate::attestation::{
    AttestationError, LARGEST_ENVELOPE, PAYLOAD_TYPE, check_payload, pre_authentication,
};

/// A statement and the assertion that signs it, as they are carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    payload_type: String,
    assertion: Signed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signed {
    keyid: String,
    authenticator_data: String,
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    signature: String,
}

/// What an envelope holds, who signed it, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes that are signed: a Statement in JSON.
    pub payload: Vec<u8>,
    /// Which of the trusted keys signed them.
    pub key: PasskeyKey,
    /// On a page of which origin.
    pub origin: String,
}

/// Why an envelope does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasskeyError {
    /// Longer than any of ours.
    #[error("the envelope has {size} bytes; at most {limit} are read")]
    TooLong {
        /// Its length.
        size: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Not an envelope.
    #[error("this is no envelope with an assertion")]
    Envelope(#[source] serde_json::Error),
    /// A part is not base64, in its one spelling.
    #[error("the envelope's {part} is not base64")]
    Base64 {
        /// Which part.
        part: &'static str,
    },
    /// Something else than a statement is signed.
    #[error("the envelope holds `{found}`, not `{PAYLOAD_TYPE}`")]
    PayloadType {
        /// What it holds.
        found: String,
    },
    /// A strange key.
    #[error("the envelope names the key {named}, which is none of the {trusted} trusted ones")]
    Key {
        /// The key's id.
        named: String,
        /// How many keys are trusted.
        trusted: usize,
    },
    /// Its assertion does not hold.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// What is signed is not a statement.
    #[error(transparent)]
    Statement(#[from] AttestationError),
}

impl PasskeyError {
    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Envelope(_) | Self::Base64 { .. } => {
                "give the envelope as it was made"
            }
            Self::PayloadType { .. } => {
                "its signature may hold; what it says is not for this program"
            }
            Self::Key { .. } => "give the public key of the passkey that signed",
            Self::Assertion(error) => error.help(),
            Self::Statement(error) => error.help(),
        }
    }
}

impl Envelope {
    /// Of the bytes of a statement, and of what an authenticator answered to their [`challenge`].
    pub fn new(payload: &[u8], key: &PasskeyKey, assertion: &Assertion) -> Self {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        Self {
            payload: encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            assertion: Signed {
                keyid: key.id(),
                authenticator_data: encode(&assertion.authenticator_data),
                client_data: encode(&assertion.client_data),
                signature: encode(&assertion.signature),
            },
        }
    }
}

/// What an authenticator signs for the bytes of a statement: SHA-256 of what a key would sign in a DSSE
/// envelope, so that type and length are signed as well.
pub fn challenge(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(pre_authentication(PAYLOAD_TYPE, payload)).into()
}

/// Whether this is meant to be an envelope with an assertion, not a DSSE envelope.
pub fn is_envelope(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "assertion")]
        _assertion: IgnoredAny,
    }
    bytes.len() <= LARGEST_ENVELOPE && serde_json::from_slice::<Head>(bytes).is_ok()
}

/// The very bytes of a statement, once it is seen that one of the trusted keys signed them at one of the
/// sites.
///
/// # Errors
/// As [`PasskeyError`]: nothing of it may be believed then.
pub fn open(bytes: &[u8], trusted: &[PasskeyKey], sites: &[Site]) -> Result<Opened, PasskeyError> {
    if bytes.len() > LARGEST_ENVELOPE {
        return Err(PasskeyError::TooLong { size: bytes.len(), limit: LARGEST_ENVELOPE });
    }
    let Envelope { payload, payload_type, assertion } =
        serde_json::from_slice(bytes).map_err(PasskeyError::Envelope)?;
    if payload_type != PAYLOAD_TYPE {
        return Err(PasskeyError::PayloadType { found: payload_type });
    }
    let payload = decode(&payload, "payload")?;
    let Signed { keyid: named, authenticator_data, client_data, signature } = assertion;
    let Some(key) = trusted.iter().find(|key| key.id() == named) else {
        return Err(PasskeyError::Key { named, trusted: trusted.len() });
    };
    let assertion = Assertion {
        authenticator_data: decode(&authenticator_data, "authenticator data")?,
        client_data: decode(&client_data, "client data")?,
        signature: decode(&signature, "signature")?,
    };
    let origin = assertion.verify(&challenge(&payload), key, sites)?;
    check_payload(&payload)?;
    Ok(Opened { payload, key: key.clone(), origin })
}

fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, PasskeyError> {
    BASE64_STANDARD.decode(text).map_err(|_| PasskeyError::Base64 { part })
}
