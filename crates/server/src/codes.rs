//! Codes: those that an authenticator app shows (RFC 6238), and those on paper for the day on which it
//! is lost.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use totp_rs::{Algorithm, Builder, Secret, Totp};

/// Recovery codes that somebody gets at a time.
pub(crate) const RECOVERY_CODES: usize = 10;

/// Seconds for which a code is shown; what every app takes for granted.
const STEP: u64 = 30;

/// Who asks for the code, in the app.
const ISSUER: &str = "Patchwright";

/// Letters of recovery codes, 32 of them; none looks like another.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";

/// What an app that shows codes is set up with.
pub(crate) struct Enrolment {
    /// The secret as people type it in.
    pub(crate) secret: String,
    /// The same as a link, which is what a QR code holds.
    pub(crate) uri: String,
}

/// SHA-1, six digits, one step of patience to either side: the only settings that all apps take.
fn totp(secret: &[u8]) -> Totp {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(STEP)
        .with_secret(secret.to_vec())
        .build_noncompliant()
}

/// What to set an app up with for a secret.
pub(crate) fn enrolment(secret: &[u8], login: &str) -> Enrolment {
    let secret = Secret::from(secret.to_vec()).to_base32();
    let account = login.replace('%', "%25").replace('@', "%40").replace('+', "%2B");
    let uri = format!("otpauth://totp/{ISSUER}:{account}?secret={secret}&issuer={ISSUER}");
    Enrolment { secret, uri }
}

/// The step of time whose code this is, if it is that of now or of a step before or after.
pub(crate) fn matching_step(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let second = u64::try_from(now.as_second()).ok()?;
    let step = totp(secret).check(&code, second)?;
    i64::try_from(step).ok()
}

/// A recovery code of 80 random bits: `abcd-efgh-jkmn-pqrs`.
pub(crate) fn recovery_code(random: [u8; 16]) -> String {
    let letters: Vec<u8> = random.iter().map(|byte| LETTERS[usize::from(byte & 31)]).collect();
    let groups: Vec<_> = letters.chunks(4).map(String::from_utf8_lossy).collect();
    groups.join("-")
}

/// What is kept of a recovery code; however it was typed, capitals and dashes aside.
pub(crate) fn recovery_hash(code: &str) -> Vec<u8> {
    let letters: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    Sha256::digest(letters.to_ascii_lowercase().as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// RFC 6238, appendix B, SHA-1, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(matching_step(secret, code, at(second)), Some(second / 30), "{code}");
            assert_eq!(matching_step(secret, code, at(second + 30)), Some(second / 30));
            assert_eq!(matching_step(secret, code, at(second + 60)), None);
            assert_eq!(matching_step(secret, code, at(second - 60)), None);
        }
        assert_eq!(matching_step(secret, "287 082", at(59)), Some(1));
        for odd in ["", "28708", "2870822", "+28708", "28708x", "٢٨٧٠٨٢"] {
            assert_eq!(matching_step(secret, odd, at(59)), None, "{odd}");
        }
    }

    #[test]
    fn an_app_learns_whose_secret_it_is() {
        let enrolment = enrolment(b"12345678901234567890", "anna+x@example.org");

        assert_eq!(enrolment.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            enrolment.uri,
            "otpauth://totp/Patchwright:anna%2Bx%40example.org?\
             secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Patchwright"
        );
    }

    #[test]
    fn a_recovery_code_is_known_however_it_is_typed() {
        let code = recovery_code([7; 16]);
        assert_eq!(code, "hhhh-hhhh-hhhh-hhhh");
        assert_eq!(recovery_hash(&code), recovery_hash(" HHHHhhhhHHHH hhhh\n"));
        assert_ne!(recovery_hash(&code), recovery_hash("hhhh-hhhh-hhhh-hhhj"));
    }
}
