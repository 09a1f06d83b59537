//! What tenants sign: in-toto Statements whose bytes have one spelling.
//!
//! The signature is checked where keys and envelopes are known (DSSE, or a passkey's assertion over
//! the payload's hash); what comes in here is the payload that was verified and the key that it was
//! verified with.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::canonical::{NotCanonical, from_canonical, to_canonical};
use super::digest::{KeyId, hex};

/// `_type` of an in-toto Statement v1.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Longest payload read where its kind does not say less, in bytes: ids, and a reason of two thousand
/// characters.
pub const LONGEST_PAYLOAD: usize = 32 << 10;

/// Something that a tenant says with its signature.
pub trait Payload: Serialize + DeserializeOwned {
    /// `predicateType` of its Statement. The signature covers it, so that what was signed as one
    /// kind cannot be shown as another.
    const KIND: &'static str;

    /// Longest one that is read, in bytes; all that is signed is kept for ever.
    const LONGEST: usize = LONGEST_PAYLOAD;

    /// What the Statement is about: a name for people, and a SHA-256.
    fn subject(&self) -> (String, [u8; 32]);

    /// The bytes to sign, as the payload of a DSSE envelope.
    fn to_payload(&self) -> Vec<u8> {
        let (name, sha256) = self.subject();
        to_canonical(&InToto {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name,
                digest: BTreeMap::from([("sha256".to_owned(), hex(&sha256))]),
            }],
            predicate_type: Self::KIND.to_owned(),
            predicate: self,
        })
    }
}

/// Something said, of which it is certain which key signed it. Whether that key counts is another
/// question, for the tenant's [key ring](super::KeyRing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    said: T,
    key: KeyId,
}

/// A payload that says nothing to us, although its signature may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// Its bytes are not the canonical ones.
    #[error(transparent)]
    Spelling(#[from] NotCanonical),
    /// It is of another kind.
    #[error("the statement is a `{found}`, not a `{expected}`")]
    Kind {
        /// Its `predicateType`.
        found: String,
        /// The one that was asked for.
        expected: &'static str,
    },
    /// Its subject is not what its predicate speaks of.
    #[error("the statement's subject is not what its predicate speaks of")]
    Subject,
}

impl InvalidPayload {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Spelling(error) => error.help(),
            Self::Kind { .. } => "sign the statement that is asked for, with its own type",
            Self::Subject => "sign the bytes as the control plane offers them",
        }
    }
}

impl<T: Payload> Verified<T> {
    /// What a payload says. The caller vouches that `key` signed exactly these bytes.
    ///
    /// # Errors
    /// If they are not the one spelling of such a statement.
    pub fn signed_by(key: KeyId, payload: &[u8]) -> Result<Self, InvalidPayload> {
        // Then the kind: of another kind, the rest would only be called unreadable.
        let (size, limit) = (payload.len(), T::LONGEST);
        if size > limit {
            return Err(NotCanonical::TooLong { size, limit }.into());
        }
        let head: Head = serde_json::from_slice(payload)
            .map_err(|error| NotCanonical::Unreadable(error.to_string()))?;
        if head.predicate_type != T::KIND {
            let found = head.predicate_type.chars().take(64).collect();
            return Err(InvalidPayload::Kind { found, expected: T::KIND });
        }
        let statement: InToto<T> = from_canonical(payload, T::LONGEST)?;
        let said = statement.predicate;
        if said.to_payload() != payload {
            return Err(InvalidPayload::Subject);
        }
        Ok(Self { said, key })
    }
}

impl<T> Verified<T> {
    /// What was said.
    pub const fn said(&self) -> &T {
        &self.said
    }

    /// The key that signed it.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    pub(super) fn into_said(self) -> T {
        self.said
    }
}

#[derive(Serialize, Deserialize)]
struct InToto<P> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: P,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "predicateType")]
    predicate_type: String,
}
