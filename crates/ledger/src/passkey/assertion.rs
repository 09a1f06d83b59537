//! One assertion of an authenticator, checked as W3C Web Authentication Level 3, 7.2 asks.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::key::PasskeyKey;
use super::site::Site;
use crate::attestation::Digest;

/// `type` of what a browser says of an assertion.
const TYPE: &str = "webauthn.get";

/// Length of authenticator data in which nothing stands behind the counter (6.1).
const SHORTEST: usize = 37;

/// The flags of authenticator data (6.1).
mod flag {
    /// Somebody was there.
    pub(super) const PRESENT: u8 = 1;
    /// It asked for a PIN or a finger.
    pub(super) const VERIFIED: u8 = 1 << 2;
    /// The passkey may be copied to another device,
    pub(super) const BACKUP_ELIGIBLE: u8 = 1 << 3;
    /// and was.
    pub(super) const BACKED_UP: u8 = 1 << 4;
    /// A new credential's key follows, which no assertion has.
    pub(super) const ATTESTED: u8 = 1 << 6;
    /// Extensions follow.
    pub(super) const EXTENSIONS: u8 = 1 << 7;
}

/// What an authenticator answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Where, whether somebody was there and was verified, and a counter.
    pub authenticator_data: Vec<u8>,
    /// What the browser says: for which challenge, on which page.
    pub client_data: Vec<u8>,
    /// The signature over both.
    pub signature: Vec<u8>,
}

/// Why an assertion does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssertionError {
    /// Not what a browser says.
    #[error("the client data is not what a browser says of an assertion")]
    ClientData(#[source] serde_json::Error),
    /// Something else than an assertion.
    #[error("the browser speaks of `{found}`, not of `{TYPE}`")]
    Type {
        /// Of what.
        found: String,
    },
    /// Something else was signed.
    #[error("the challenge is `{found}`, and the payload's is `{expected}`")]
    Challenge {
        /// The one that was signed.
        found: String,
        /// The one that follows from the payload.
        expected: String,
    },
    /// Signed elsewhere.
    #[error("it was signed at {found}, not at {allowed}")]
    Origin {
        /// Where.
        found: String,
        /// Where it may be.
        allowed: String,
    },
    /// Signed in a frame of a strange page.
    #[error("it was signed in a page within another one's page")]
    CrossOrigin,
    /// Not as long as its flags say.
    #[error("the authenticator data has {size} bytes, which its flags do not explain")]
    AuthenticatorData {
        /// Its length.
        size: usize,
    },
    /// The passkey belongs elsewhere.
    #[error("the passkey is bound to {found}, not to {expected}, the SHA-256 of `{rp_id}`")]
    RelyingParty {
        /// SHA-256 of where.
        found: Digest,
        /// SHA-256 of where it should.
        expected: Digest,
        /// Where it should.
        rp_id: String,
    },
    /// Nobody touched it.
    #[error("the authenticator does not say that somebody was present")]
    NotPresent,
    /// It asked for no PIN and no finger.
    #[error("the authenticator does not say that it verified its user")]
    NotVerified,
    /// Copied, though that cannot be.
    #[error("the authenticator says that a passkey was copied that cannot be")]
    Backup,
    /// Another key's, or nobody's.
    #[error("the key {key} did not sign this")]
    Signature {
        /// The key's id.
        key: String,
    },
}

impl AssertionError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Origin { .. } | Self::RelyingParty { .. } => {
                "open the console at its own address; to verify, name the one where it was signed"
            }
            Self::NotPresent | Self::NotVerified => {
                "use an authenticator that asks for a PIN or a finger"
            }
            Self::Challenge { .. } => {
                "sign the payload as it is, and send these very bytes with it"
            }
            _ => "sign again, with the passkey, in the console",
        }
    }
}

/// What a browser says (5.8.1). Members that are not known may stand beside these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    #[serde(default)]
    top_origin: Option<String>,
}

impl Assertion {
    /// Where it was made, once it is seen that this key signed this challenge there, in the hands of
    /// somebody whom the authenticator verified. The numbers are the steps of 7.2.
    ///
    /// The counter (step 22) is not looked at: it tells copies of an authenticator, for which one must
    /// remember it. What must count once has a number of its own in what is signed.
    ///
    /// # Errors
    /// As [`AssertionError`]: nothing of it may be believed then.
    pub fn verify(
        &self,
        challenge: &[u8; 32],
        key: &PasskeyKey,
        sites: &[Site],
    ) -> Result<String, AssertionError> {
        let said: ClientData =
            serde_json::from_slice(&self.client_data).map_err(AssertionError::ClientData)?;
        // 10, 11.
        if said.kind != TYPE {
            return Err(AssertionError::Type { found: said.kind });
        }
        let expected = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        if said.challenge != expected {
            return Err(AssertionError::Challenge { found: said.challenge, expected });
        }
        // 12 to 14.
        let Some(site) = sites.iter().find(|site| site.has(&said.origin)) else {
            let allowed: Vec<_> = sites.iter().map(Site::origin).collect();
            let allowed = allowed.join(", ");
            return Err(AssertionError::Origin { found: said.origin, allowed });
        };
        if said.cross_origin || said.top_origin.is_some() {
            return Err(AssertionError::CrossOrigin);
        }
        self.is_verified_at(site)?;
        // 20, 21.
        let message = [&self.authenticator_data[..], &Sha256::digest(&self.client_data)].concat();
        if !key.signed(&message, &self.signature) {
            return Err(AssertionError::Signature { key: key.id() });
        }
        Ok(said.origin)
    }

    /// What the authenticator itself says: steps 15 to 19.
    fn is_verified_at(&self, site: &Site) -> Result<(), AssertionError> {
        let length = self.authenticator_data.len();
        let shape = || AssertionError::AuthenticatorData { size: length };
        let (found, rest) = self.authenticator_data.split_first_chunk::<32>().ok_or_else(shape)?;
        let flags = *rest.first().ok_or_else(shape)?;
        let has = |flag: u8| flags & flag != 0;
        let is_whole = if has(flag::EXTENSIONS) { length > SHORTEST } else { length == SHORTEST };
        if !is_whole || has(flag::ATTESTED) {
            return Err(shape());
        }
        let expected = Digest::of(site.rp_id().as_bytes());
        let found = Digest::from(*found);
        if found != expected {
            let rp_id = site.rp_id().to_owned();
            return Err(AssertionError::RelyingParty { found, expected, rp_id });
        }
        if !has(flag::PRESENT) {
            return Err(AssertionError::NotPresent);
        }
        if !has(flag::VERIFIED) {
            return Err(AssertionError::NotVerified);
        }
        if has(flag::BACKED_UP) && !has(flag::BACKUP_ELIGIBLE) {
            return Err(AssertionError::Backup);
        }
        Ok(())
    }
}
