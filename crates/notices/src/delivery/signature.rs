//! Signatures of webhooks, as the Standard Webhooks specification 1.0 has them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Stands before each secret of this kind.
const PREFIX: &str = "whsec_";

/// Shortest and longest key, in bytes (Standard Webhooks, "Signature scheme").
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a webhook's receiver and we know: `whsec_` and 24 to 64 bytes in base 64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

/// A text that is no secret of this kind. It is not repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a webhook's secret")]
pub struct InvalidSecret;

impl InvalidSecret {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "give `whsec_` and 24 to 64 bytes in base 64"
    }
}

impl WebhookSecret {
    /// A new one, of bytes that nobody can guess.
    pub fn of(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random.to_vec()))
    }

    /// Its text, to be shown to its owner once, or sealed.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(&*self.0)))
    }

    /// The signature of what is sent: `v1,` and an HMAC-SHA256 in base 64.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl FromStr for WebhookSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = Zeroizing::new(STANDARD.decode(digits).map_err(|_| InvalidSecret)?);
        if KEY_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(InvalidSecret) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and its libraries.
    #[test]
    fn the_official_vector() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();

        let signed =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);

        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_reads_back_and_is_never_shown() {
        let secret = WebhookSecret::of([7; 32]);

        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for wrong in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*"] {
            assert_eq!(wrong.parse::<WebhookSecret>(), Err(InvalidSecret));
        }
    }
}
