//! An entry of the log: who did what to which object, when, and what it commits to.
//!
//! Entries are canonical JSON (RFC 8785), so that the same event is the same bytes everywhere. We
//! keep to strings, integers below 2⁵³, arrays and objects, where canonical means: members in the
//! order of their names, no white space, the shortest escapes.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Hash;

/// The schema's name, in each entry.
pub(crate) const SCHEMA: &str = "patchwright.event/1";
/// Longest entry. tlog-tiles would allow 65,535 bytes; what is longer belongs into a payload.
pub(crate) const MAX_ENTRY: usize = 4096;
/// JSON numbers are exact up to here in every language (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// One event, as the log holds it.
///
/// What happened in detail (a patch's log, a scan, a notice's text) stays outside, encrypted and
/// erasable; the entry holds [`Commitment`]s to it. Nothing in it names a tenant in clear.
///
/// ```
/// use ledger::{Commitment, Envelope};
///
/// let envelope = Envelope {
///     sequence: 0,
///     at: "2026-03-01T08:00:00Z".parse()?,
///     clock: "clk_a1".into(),
///     actor: "usr_7".into(),
///     role: "operator".into(),
///     tenant: None,
///     kind: "ci.created".into(),
///     object: "ci_42".into(),
///     version: 1,
///     commitments: vec![Commitment::new("profile", &[7; 32], b"{\"memory\": 4096}")],
///     previous: None,
/// };
///
/// let bytes = envelope.to_canonical()?;
/// assert_eq!(Envelope::parse(&bytes)?, envelope);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Place in the log, without gaps: equal to the entry's index.
    pub sequence: u64,
    /// When it happened, by the clock named beside it.
    pub at: Timestamp,
    /// The process whose clock it is.
    pub clock: String,
    /// Who did it.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// Whom it concerns: a pseudonym (keyed hash) made by the caller, never a name.
    pub tenant: Option<String>,
    /// What happened, such as `ci.created`.
    pub kind: String,
    /// To which object, by its typed id.
    pub object: String,
    /// The object's version after it.
    pub version: u64,
    /// What it commits to outside the log.
    pub commitments: Vec<Commitment>,
    /// Hash of the object's state before, where there was one.
    pub previous: Option<Hash>,
}

/// The promise that one part of an event is exactly these bytes: SHA-256 of a salt and the payload.
///
/// The salt keeps a short payload from being guessed. Erasing salt and payload erases the content;
/// the log's proofs go on to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    /// Which part, such as `profile` or `notice`.
    pub part: String,
    /// `SHA-256(salt || payload)`.
    pub sha256: Hash,
}

impl Commitment {
    /// Commits to a payload. The salt is random, used once and kept with the payload.
    pub fn new(part: impl Into<String>, salt: &[u8; 32], payload: &[u8]) -> Self {
        Self { part: part.into(), sha256: salted(salt, payload) }
    }

    /// Whether this is what was committed to.
    pub fn verify(&self, salt: &[u8; 32], payload: &[u8]) -> bool {
        self.sha256 == salted(salt, payload)
    }
}

fn salted(salt: &[u8; 32], payload: &[u8]) -> Hash {
    Hash::new(Sha256::new().chain_update(salt).chain_update(payload).finalize().into())
}

/// Why bytes are not an entry, or an event cannot become one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Longer than an entry may be.
    #[error("the entry has {size} bytes, {MAX_ENTRY} are allowed")]
    TooLong {
        /// Its length.
        size: usize,
    },
    /// Not JSON, or not with exactly the schema's members.
    #[error("the entry is not of the schema `{SCHEMA}`")]
    Json(#[source] serde_json::Error),
    /// Another schema.
    #[error("the entry is of the schema `{found}`, not `{SCHEMA}`")]
    Schema {
        /// The schema it names.
        found: String,
    },
    /// The same meaning, spelt differently.
    #[error("the entry differs from its canonical form at byte {position}")]
    NotCanonical {
        /// The first byte that differs.
        position: usize,
    },
    /// A text that is empty or holds control characters.
    #[error("`{member}` is empty or holds control characters")]
    Text {
        /// The member.
        member: &'static str,
    },
    /// A number that JSON does not carry exactly.
    #[error("`{member}` is {value}, more than {MAX_INTEGER}")]
    Number {
        /// The member.
        member: &'static str,
        /// Its value.
        value: u64,
    },
}

impl EnvelopeError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::TooLong { .. } => "keep the content as a payload and commit to it",
            Self::Schema { .. } => "verify it with the release that wrote it, or a newer one",
            Self::Json(_) | Self::NotCanonical { .. } => {
                "entries are written by this library only; these bytes were not, or were altered"
            }
            Self::Text { .. } => "give a value on one line, or leave an optional member out",
            Self::Number { .. } => return None,
        };
        Some(help.to_owned())
    }
}

/// The members as written, in the order of their names (RFC 8785 §3.2.3).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    actor: Cow<'a, str>,
    at: Timestamp,
    #[serde(borrow)]
    clock: Cow<'a, str>,
    commitments: Cow<'a, [Commitment]>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Hash>,
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    schema: Cow<'a, str>,
    sequence: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Cow<'a, str>>,
    version: u64,
}

/// What verification needs of an entry.
pub(crate) struct Glance {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) commitments: Vec<Commitment>,
}

impl Envelope {
    /// The entry's bytes.
    pub fn to_canonical(&self) -> Result<Vec<u8>, EnvelopeError> {
        let written = Written {
            actor: self.actor.as_str().into(),
            at: self.at,
            clock: self.clock.as_str().into(),
            commitments: self.commitments.as_slice().into(),
            kind: self.kind.as_str().into(),
            object: self.object.as_str().into(),
            previous: self.previous,
            role: self.role.as_str().into(),
            schema: SCHEMA.into(),
            sequence: self.sequence,
            tenant: self.tenant.as_deref().map(Cow::Borrowed),
            version: self.version,
        };
        written.check()?;
        let mut bytes = Vec::with_capacity(512);
        written.write(&mut bytes)?;
        if bytes.len() > MAX_ENTRY {
            return Err(EnvelopeError::TooLong { size: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads an entry; only its one canonical spelling is accepted.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let written = Written::read(bytes, &mut Vec::new())?;
        Ok(Self {
            sequence: written.sequence,
            at: written.at,
            clock: written.clock.into_owned(),
            actor: written.actor.into_owned(),
            role: written.role.into_owned(),
            tenant: written.tenant.map(Cow::into_owned),
            kind: written.kind.into_owned(),
            object: written.object.into_owned(),
            version: written.version,
            commitments: written.commitments.into_owned(),
            previous: written.previous,
        })
    }

    /// As strict as [`parse`](Self::parse), without keeping the texts.
    pub(crate) fn glance(bytes: &[u8], scratch: &mut Vec<u8>) -> Result<Glance, EnvelopeError> {
        let written = Written::read(bytes, scratch)?;
        Ok(Glance {
            sequence: written.sequence,
            at: written.at,
            commitments: written.commitments.into_owned(),
        })
    }
}

impl<'a> Written<'a> {
    fn read(bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EnvelopeError::TooLong { size: bytes.len() });
        }
        let written: Self = serde_json::from_slice(bytes).map_err(EnvelopeError::Json)?;
        if written.schema != SCHEMA {
            return Err(EnvelopeError::Schema { found: written.schema.into_owned() });
        }
        written.check()?;
        // White space, order, escapes, repeated members, other spellings of a time or a number:
        // all of it is one comparison.
        scratch.clear();
        written.write(scratch)?;
        if scratch.as_slice() != bytes {
            let same = scratch.iter().zip(bytes).take_while(|(ours, theirs)| ours == theirs);
            return Err(EnvelopeError::NotCanonical { position: same.count() });
        }
        Ok(written)
    }

    /// `serde_json` escapes as RFC 8785 §3.2.2.2 demands: `\b \t \n \f \r \" \\`, `\u00xx`.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        serde_json::to_writer(out, self).map_err(EnvelopeError::Json)
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        let texts = [
            ("actor", Some(&self.actor)),
            ("clock", Some(&self.clock)),
            ("kind", Some(&self.kind)),
            ("object", Some(&self.object)),
            ("role", Some(&self.role)),
            ("tenant", self.tenant.as_ref()),
        ];
        let texts =
            texts.iter().filter_map(|(member, text)| text.map(|text| (*member, text.as_ref())));
        let parts = self.commitments.iter().map(|commitment| ("part", commitment.part.as_str()));
        for (member, text) in texts.chain(parts) {
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(EnvelopeError::Text { member });
            }
        }
        for (member, value) in [("sequence", self.sequence), ("version", self.version)] {
            if value > MAX_INTEGER {
                return Err(EnvelopeError::Number { member, value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Envelope {
        Envelope {
            sequence: 41,
            at: "2026-03-01T08:00:00.25Z".parse().unwrap(),
            clock: "clk_a1".into(),
            actor: "usr_7".into(),
            role: "operator".into(),
            tenant: Some("tnt_9f".into()),
            kind: "ci.created".into(),
            object: "ci_42".into(),
            version: 1,
            commitments: vec![Commitment::new("profile", &[7; 32], b"payload")],
            previous: Some(Hash::of(b"before")),
        }
    }

    fn written() -> String {
        String::from_utf8(event().to_canonical().unwrap()).unwrap()
    }

    #[test]
    fn members_stand_in_the_order_of_their_names_and_without_white_space() {
        let profile = Hash::of(&[&[7; 32][..], b"payload"].concat()).to_hex();
        let before = Hash::of(b"before").to_hex();

        let expected = [
            r#"{"actor":"usr_7","at":"2026-03-01T08:00:00.25Z","clock":"clk_a1","#,
            &format!(r#""commitments":[{{"part":"profile","sha256":"{profile}"}}],"#),
            r#""kind":"ci.created","object":"ci_42","#,
            &format!(r#""previous":"{before}","role":"operator","#),
            r#""schema":"patchwright.event/1","sequence":41,"tenant":"tnt_9f","version":1}"#,
        ];

        assert_eq!(written(), expected.concat());
        assert_eq!(Envelope::parse(written().as_bytes()).unwrap(), event());
    }

    #[test]
    fn any_other_spelling_of_the_same_event_is_refused() {
        let same = written();
        let (head, tail) = same.split_once(r#""kind":"ci.created","#).unwrap();

        for other in [
            format!(" {same}"),
            format!("{same}\n"),
            same.replace(r#"":41"#, r#"": 41"#),
            same.replace("usr_7", r"usr\u005f7"),
            same.replace("08:00:00.25Z", "08:00:00.250Z"),
            same.replace("08:00:00.25Z", "09:00:00.25+01:00"),
            format!(r#"{{"kind":"ci.created",{}{tail}"#, &head[1..]),
        ] {
            assert!(
                matches!(
                    Envelope::parse(other.as_bytes()),
                    Err(EnvelopeError::NotCanonical { .. })
                ),
                "{other}"
            );
        }
    }

    #[test]
    fn unknown_missing_and_repeated_members_are_refused() {
        let same = written();

        for other in [
            same.replace(r#","version":1"#, r#","version":1,"zone":"a""#),
            same.replace(r#","version":1"#, ""),
            same.replace(r#","version":1"#, r#","version":1,"version":1"#),
            same.replace(r#"{"part""#, r#"{"note":"x","part""#),
            same.replace(":41,", ":41.0,"),
            same.replace(":41,", ":4.1e1,"),
            same.replace(":41,", ":-1,"),
        ] {
            let refused = Envelope::parse(other.as_bytes());
            assert!(matches!(refused, Err(EnvelopeError::Json(_))), "{other}");
        }
        // `null` means absent to serde, and is not how absence is spelt.
        let null = same.replace(r#""tenant":"tnt_9f""#, r#""tenant":null"#);
        assert!(matches!(
            Envelope::parse(null.as_bytes()),
            Err(EnvelopeError::NotCanonical { .. })
        ));
    }

    #[test]
    fn another_schema_is_named_in_the_refusal() {
        let next = written().replace("event/1", "event/2");

        let refused = Envelope::parse(next.as_bytes()).unwrap_err();

        assert!(matches!(&refused, EnvelopeError::Schema { found } if found.ends_with("event/2")));
        assert!(refused.help().is_some());
    }

    #[test]
    fn an_event_that_could_not_be_read_back_is_not_written() {
        let empty = Envelope { actor: String::new(), ..event() };
        let escape = Envelope { object: "ci_\u{1b}[2J".into(), ..event() };
        let inexact = Envelope { version: 1 << 53, ..event() };
        let long = Envelope { actor: "a".repeat(MAX_ENTRY), ..event() };

        assert!(matches!(empty.to_canonical(), Err(EnvelopeError::Text { member: "actor" })));
        assert!(matches!(escape.to_canonical(), Err(EnvelopeError::Text { member: "object" })));
        assert!(matches!(
            inexact.to_canonical(),
            Err(EnvelopeError::Number { member: "version", .. })
        ));
        assert!(matches!(long.to_canonical(), Err(EnvelopeError::TooLong { .. })));
        assert!(matches!(
            Envelope::parse(&vec![b' '; MAX_ENTRY + 1]),
            Err(EnvelopeError::TooLong { .. })
        ));
    }

    #[test]
    fn quotes_and_letters_beyond_ascii_are_written_as_rfc_8785_writes_them() {
        let quoted = Envelope { actor: "O\"Brien\\ù€😀\u{2028}".into(), ..event() };

        let bytes = quoted.to_canonical().unwrap();

        assert!(
            String::from_utf8_lossy(&bytes).contains("\"actor\":\"O\\\"Brien\\\\ù€😀\u{2028}\"")
        );
        assert_eq!(Envelope::parse(&bytes).unwrap(), quoted);
    }

    #[test]
    fn a_commitment_holds_for_its_salt_and_payload_only() {
        let commitment = Commitment::new("notice", &[1; 32], b"reboot at nine");

        assert!(commitment.verify(&[1; 32], b"reboot at nine"));
        assert!(!commitment.verify(&[2; 32], b"reboot at nine"));
        assert!(!commitment.verify(&[1; 32], b"reboot at ten"));
    }
}
