//! Secrets in configuration files: found and taken out before a file leaves its host.
//!
//! Each secret gives way to a marker with its kind and a fingerprint under a key of the item
//! ([`FingerprintKey`]), so that a new password is seen as one and none can be guessed without the key. All
//! other bytes stay. Rules are data (`data/secret/rules.toml`), each with the description of the format that it
//! reads.
//!
//! ```
//! use domain::configuration::secret::{FingerprintKey, Redaction, redact};
//!
//! let key = FingerprintKey::from([7; 32]);
//! let Redaction::Text(found) = redact("/etc/app.ini", b"user = app\npassword = Tr0ub4dor\n", &key) else {
//!     panic!("this is text");
//! };
//! assert!(found.text.starts_with("user = app\npassword = <redacted:password:"));
//! assert_eq!(found.secrets[0].line, 2);
//! ```
//!
//! Only UTF-8 text up to [`LARGEST`] is looked into. Of everything else nothing leaves but its size and a
//! fingerprint ([`Redaction::Withheld`]).

mod block;
mod find;
mod fingerprint;
mod rules;
mod value;

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cloud::words;

pub use fingerprint::{Fingerprint, FingerprintKey, Fingerprinting};

/// Largest file that is looked into, in bytes; more is withheld. The largest file below `/etc` of a stock Debian
/// 12 server has some 200 KiB.
pub const LARGEST: usize = 1 << 20;

/// Most secrets of one file; a file with more of them is one large secret.
pub const MOST_SECRETS: usize = 10_000;

/// How often what is left is looked through again. Two are enough unless somebody built the file for it.
const MOST_ROUNDS: usize = 8;

/// A marker begins so.
const OPENING: &str = "<redacted:";

words! {
    /// What a secret is.
    SecretKind {
        /// A key whose public half is known.
        PrivateKey = "private-key",
        /// A password that anybody who reads it may use.
        Password = "password",
        /// What a password was made into; whoever has it may guess.
        PasswordHash = "password-hash",
        /// What proves to a service who asks.
        ApiToken = "api-token",
        /// A key to a cloud provider's account.
        CloudKey = "cloud-key",
        /// A signed JSON token.
        Jwt = "jwt",
        /// What two sides share.
        PreSharedKey = "pre-shared-key",
        /// An SNMP community.
        Community = "community",
        /// A password within a URL.
        UrlCredential = "url-credential",
        /// A text that is encrypted under a password.
        Vault = "vault",
        /// A file that is a key as a whole.
        KeyFile = "key-file",
        /// Something secret of no kind that is known.
        Secret = "secret",
    }
}

/// A secret that was found. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// What it is.
    pub kind: SecretKind,
    /// The rule that found it, as `data/secret/rules.toml` names it.
    pub detector: String,
    /// Where it stood in the file, in bytes.
    pub original: Range<usize>,
    /// Where its marker stands in the text, in bytes.
    pub marker: Range<usize>,
    /// On which line it began, from 1.
    pub line: usize,
    /// What stays the same as long as it does.
    pub fingerprint: Fingerprint,
}

/// A text without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redacted {
    /// The file with markers in it.
    pub text: String,
    /// What was taken out, in its order.
    pub secrets: Vec<Secret>,
}

/// What of a file may leave its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "content", rename_all = "snake_case")]
pub enum Redaction {
    /// Its text.
    Text(Redacted),
    /// Nothing but this.
    Withheld {
        /// Why.
        because: Withheld,
        /// Its size in bytes.
        size: u64,
        /// Of all its bytes.
        fingerprint: Fingerprint,
    },
}

impl Redaction {
    /// What is kept: the text, or one line that says why there is none, how much it was, and its fingerprint.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(redacted) => redacted.text,
            Self::Withheld { because, size, fingerprint } => {
                format!("<withheld:{because}:{size}:{fingerprint}>\n")
            }
        }
    }
}

words! {
    /// Why nothing of a file leaves its host.
    Withheld {
        /// It has more than [`LARGEST`] bytes.
        TooLarge = "too_large",
        /// It has a NUL byte: databases, keytabs, key stores.
        Binary = "binary",
        /// It is not UTF-8, so the rules cannot be held against it.
        Undecodable = "undecodable",
        /// It is known to be a secret as a whole.
        KeyFile = "key_file",
        /// The host's owner says so.
        Owner = "owner",
        /// It has more than [`MOST_SECRETS`], or they do not come to an end.
        TooManySecrets = "too_many_secrets",
    }
}

/// What was found before it has a place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: SecretKind,
    pub(crate) detector: &'static str,
    pub(crate) span: Range<usize>,
}

/// Whether a text is what is left of a file: nobody knows the whole of it by the text.
pub fn is_partial(text: &str) -> bool {
    text.contains(OPENING) || ["<withheld:", "<unseen:"].iter().any(|it| text.starts_with(it))
}

/// Takes the secrets out of a file. `path` is the file's, absolute, as the rules for known files name it.
///
/// Doing it again to what came out alters nothing. What comes out has been looked through by the same rules
/// once more.
pub fn redact(path: &str, bytes: &[u8], key: &FingerprintKey) -> Redaction {
    let withheld = |because| Redaction::Withheld {
        because,
        size: bytes.len() as u64,
        fingerprint: key.of(path, bytes),
    };
    let rules = rules::built_in();
    if rules.is_whole(path) {
        return withheld(Withheld::KeyFile);
    }
    if bytes.len() > LARGEST {
        return withheld(Withheld::TooLarge);
    }
    if bytes.contains(&0) {
        return withheld(Withheld::Binary);
    }
    let Ok(text) = str::from_utf8(bytes) else { return withheld(Withheld::Undecodable) };
    let mut found: Vec<Found> = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let (redacted, secrets) = render(path, text, &found, key);
        let left = find::all(rules, path, &redacted);
        if left.is_empty() {
            return Redaction::Text(Redacted { text: redacted, secrets });
        }
        let back = left.into_iter().map(|it| Found { span: origin(&it.span, &secrets), ..it });
        found = find::merged(found.into_iter().chain(back).collect());
        if found.len() > MOST_SECRETS {
            break;
        }
    }
    withheld(Withheld::TooManySecrets)
}

/// Lets go of what was made ready to look through texts, which takes far more memory than most texts. It is made ready
/// again when one may concern it: for whoever looks rarely.
pub fn put_away() {
    rules::built_in().put_away();
}

/// The text with a marker for each secret.
fn render(path: &str, text: &str, found: &[Found], key: &FingerprintKey) -> (String, Vec<Secret>) {
    let mut redacted = String::with_capacity(text.len() + 16 * found.len());
    let mut secrets = Vec::with_capacity(found.len());
    let (mut at, mut line) = (0, 1);
    for Found { kind, detector, span } in found {
        let between = &text[at..span.start];
        line += newlines(between);
        redacted.push_str(between);
        let secret = &text[span.clone()];
        let fingerprint = key.of(path, secret.as_bytes());
        let start = redacted.len();
        let _ = write!(redacted, "{OPENING}{kind}:{fingerprint}>");
        secrets.push(Secret {
            kind: *kind,
            detector: (*detector).to_owned(),
            original: span.clone(),
            marker: start..redacted.len(),
            line,
            fingerprint,
        });
        line += newlines(secret);
        at = span.end;
    }
    redacted.push_str(&text[at..]);
    (redacted, secrets)
}

fn newlines(text: &str) -> usize {
    text.matches('\n').count()
}

/// What of the file a part of the redacted text stands for. A part that meets a marker stands for all of that
/// secret.
fn origin(span: &Range<usize>, secrets: &[Secret]) -> Range<usize> {
    let beyond = |at: usize, next: usize| {
        let last = next.checked_sub(1).map(|last| &secrets[last]);
        last.map_or(at, |last| last.original.end + (at - last.marker.end))
    };
    let next = secrets.partition_point(|it| it.marker.end <= span.start);
    let start = match secrets.get(next) {
        Some(it) if it.marker.start <= span.start => it.original.start,
        _ => beyond(span.start, next),
    };
    let next = secrets.partition_point(|it| it.marker.end < span.end);
    let end = match secrets.get(next) {
        Some(it) if it.marker.start < span.end => it.original.end,
        _ => beyond(span.end, next),
    };
    start..end
}

/// The marker that a text begins with, if it does: how long it is.
pub(crate) fn marker(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(OPENING.as_bytes())?;
    let kind = rest.iter().take(32).position(|byte| *byte == b':')?;
    let word = str::from_utf8(&rest[..kind]).ok()?;
    word.parse::<SecretKind>().ok()?;
    let rest = &rest[kind + 1..];
    let digits = rest.get(..Fingerprint::DIGITS)?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.iter().all(is_digit) && rest.get(Fingerprint::DIGITS) == Some(&b'>'))
        .then_some(OPENING.len() + kind + 1 + Fingerprint::DIGITS + 1)
}

#[cfg(test)]
mod tests;
