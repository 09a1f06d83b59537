//! Devices that are looked at from outside, over SSH: what is known of one beside what it is configured by.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::cloud::words;

/// How often at most, and how seldom at most, a device is looked at.
pub const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// See [`SHORTEST_INTERVAL`].
pub const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A device that does not answer is looked at again after its interval, and each time after twice as long, up to
/// so many times of it: who signs in wrongly again and again is locked out by many.
const MOST_INTERVALS: i32 = 16;

/// Digits of SHA-256 in base64 without padding.
const DIGITS: usize = 43;

words! {
    /// How looking at a device stands.
    DeviceState {
        /// Nobody has looked yet.
        New = "new",
        /// The last look saw it.
        Seen = "seen",
        /// The last look came to nothing.
        Unreachable = "unreachable",
        /// It showed another host key than the one that is known. Nobody looks before somebody says what is so.
        KeyDiffers = "key_differs",
    }
}

/// The fingerprint of an SSH host key, as `ssh-keygen -l` prints it: `SHA256:` and 43 digits of base64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKeyFingerprint(String);

/// What is no fingerprint of a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host key's fingerprint is `SHA256:` and {DIGITS} letters and digits, as `ssh-keygen -l` prints it"
)]
pub struct InvalidFingerprint;

impl FromStr for HostKeyFingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("SHA256:").ok_or(InvalidFingerprint)?;
        let digits = digits.strip_suffix('=').unwrap_or(digits);
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        // Of the last digit two bits are left over, which are 0.
        let is_end = |byte: &u8| b"AEIMQUYcgkosw048".contains(byte);
        let is_one = digits.len() == DIGITS
            && digits.bytes().all(is_digit)
            && digits.as_bytes().last().is_some_and(is_end);
        if is_one { Ok(Self(format!("SHA256:{digits}"))) } else { Err(InvalidFingerprint) }
    }
}

impl TryFrom<String> for HostKeyFingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostKeyFingerprint> for String {
    fn from(fingerprint: HostKeyFingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for HostKeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long until the next look at a device that did not answer so many times in a row.
pub fn until_next(every: SignedDuration, failures: u32) -> SignedDuration {
    let times = 2_i32.checked_pow(failures.saturating_sub(1)).unwrap_or(MOST_INTERVALS);
    every.saturating_mul(times.clamp(1, MOST_INTERVALS)).min(LONGEST_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_as_ssh_keygen_prints_them() {
        let printed = "SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8";
        assert_eq!(printed.parse::<HostKeyFingerprint>().unwrap().to_string(), printed);
        let padded = format!("{printed}=");
        assert_eq!(padded.parse::<HostKeyFingerprint>().unwrap().to_string(), printed);
        for wrong in [
            "",
            "SHA256:",
            "MD5:aa:bb",
            &printed[..printed.len() - 1],
            &printed.replace('b', "-"),
            &printed.replace("EG8", "EG9"),
            &printed.replace("SHA256", "sha256"),
            &format!("{printed}8"),
        ] {
            assert_eq!(wrong.parse::<HostKeyFingerprint>(), Err(InvalidFingerprint), "{wrong}");
        }
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_less_often_and_never_not_at_all() {
        let every = SignedDuration::from_mins(15);
        let pauses: Vec<_> = (0..8).map(|failures| until_next(every, failures).as_mins()).collect();
        assert_eq!(pauses, [15, 15, 30, 60, 120, 240, 240, 240]);
        assert_eq!(until_next(every, u32::MAX).as_mins(), 240);
        assert_eq!(until_next(SignedDuration::from_hours(24), 20), LONGEST_INTERVAL);
    }
}
