//! Keys and signatures of C2SP signed notes: Ed25519, verified strictly.
//!
//! Ed25519 leaves room for disagreement: points of low order, second spellings of a point or a
//! scalar. Two verifiers that disagree see two histories. Every check here goes through
//! [`VerifierKey`], which refuses all of that (RFC 8032 §5.1.7 with the canonical checks of
//! FIPS 186-5 §7.7.2 and no low order, "strict" in ed25519-dalek).

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;

/// What a key signs (signed-note, "Signature types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// A log's checkpoints: plain Ed25519 over the text.
    Log,
    /// A witness' cosignatures: `cosignature/v1`, with a time.
    Witness,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Witness => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Log, Self::Witness].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// A public key with its name: `name+id+base64`, the *vkey* of signed-note.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    kind: KeyKind,
    point: VerifyingKey,
}

/// A private key with its name: `PRIVATE+KEY+name+id+base64`.
///
/// Randomness comes from outside: the seed is 32 bytes from the system's generator.
///
/// ```
/// use ledger::{KeyKind, Signer, VerifierKey};
///
/// let signer = Signer::new(KeyKind::Log, "cloud.example/audit", &[7; 32])?;
/// let vkey = signer.verifier().to_string();
///
/// assert!(vkey.starts_with("cloud.example/audit+"));
/// let again = Signer::parse(&signer.to_secret())?;
/// assert_eq!(*again.verifier(), vkey.parse::<VerifierKey>()?);
/// # Ok::<(), ledger::errors::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    verifier: VerifierKey,
    secret: SigningKey,
}

/// Why a text is not a usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not three parts with eight hexadecimal digits and base64.
    #[error("the key is not of the form `{form}`")]
    Form {
        /// What was expected.
        form: &'static str,
    },
    /// A name that no signature line can carry.
    #[error("the key's name `{name}` is empty or holds white space, `+` or control characters")]
    Name {
        /// The name.
        name: String,
    },
    /// A kind of signature that is not spoken here.
    #[error("the key is of kind {kind:#04x}; known are 0x01 (log) and 0x04 (witness)")]
    Kind {
        /// The kind's byte.
        kind: u8,
    },
    /// A mistyped key: its id is derived from the rest.
    #[error("the key of `{name}` says its id is {written:08x}, but it is {computed:08x}")]
    Id {
        /// The key's name.
        name: String,
        /// The id written.
        written: u32,
        /// The id it has.
        computed: u32,
    },
    /// Not a point of the curve in its one spelling, or of low order: anyone could sign with it.
    #[error("the key of `{name}` is not a safe Ed25519 point")]
    Point {
        /// The key's name.
        name: String,
    },
}

impl KeyError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Form { .. } | Self::Id { .. } => {
                "copy the whole line, as the key's owner published it"
            }
            Self::Name { .. } => "use a name like `cloud.example/audit`",
            Self::Kind { .. } => "ask the owner for an Ed25519 key",
            Self::Point { .. } => "do not trust this key: no honest generator makes it",
        };
        Some(help.to_owned())
    }
}

impl VerifierKey {
    fn new(kind: KeyKind, name: &str, key: &[u8]) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) || name.chars().any(char::is_control) {
            return Err(KeyError::Name { name: name.to_owned() });
        }
        let unsafe_point = || KeyError::Point { name: name.to_owned() };
        let bytes: &[u8; 32] = key.try_into().map_err(|_| unsafe_point())?;
        let point = VerifyingKey::from_bytes(bytes).map_err(|_| unsafe_point())?;
        if !is_canonical(bytes) || point.is_weak() {
            return Err(unsafe_point());
        }
        let id = signed_note::key_id(name, &[&[kind.byte()], key].concat());
        Ok(Self { name: name.to_owned(), id, kind, point })
    }

    /// The name in signature lines; a log's is its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The 32-bit id in signature lines: a hint which key it is, no proof.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Whether both wrap the same key, whatever their names.
    pub(crate) fn same_point(&self, other: &Self) -> bool {
        self.point == other.point
    }

    /// Strict verification of a log's signature over a note's text.
    pub(crate) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.kind == KeyKind::Log && strictly_signed(&self.point, text, signature)
    }

    /// Strict verification of a witness' cosignature; tells its time.
    pub(crate) fn cosigned_at(&self, text: &[u8], signature: &[u8]) -> Option<Timestamp> {
        let (time, signature) = signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let at = Timestamp::from_second(i64::try_from(time).ok()?).ok()?;
        let message = cosigned_message(time, text);
        let valid = self.kind == KeyKind::Witness
            && time > 0
            && strictly_signed(&self.point, &message, signature);
        valid.then_some(at)
    }
}

/// tlog-cosignature, "Ed25519 signed message".
fn cosigned_message(time: u64, text: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {time}\n").as_bytes(), text].concat()
}

fn strictly_signed(point: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; 64]>::try_from(signature) else { return false };
    let Some(r) = bytes.first_chunk::<32>() else { return false };
    // `verify_strict` refuses a scalar that is not reduced and points of low order.
    is_canonical(r) && point.verify_strict(message, &Signature::from_bytes(bytes)).is_ok()
}

/// Whether an encoded point's y is below p = 2²⁵⁵ - 19 (RFC 8032 §5.1.3 step 1).
fn is_canonical(encoded: &[u8; 32]) -> bool {
    let top = encoded[31] & 0x7f;
    !(top == 0x7f && encoded[1..31].iter().all(|byte| *byte == 0xff) && encoded[0] >= 0xed)
}

/// The vkey.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], self.point.as_bytes().as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, written, kind, key) = parts(text, "NAME+ID+BASE64")?;
        let kind = KeyKind::from_byte(kind).ok_or(KeyError::Kind { kind })?;
        Self::new(kind, name, &key)?.with_id(written)
    }
}

impl VerifierKey {
    fn with_id(self, written: u32) -> Result<Self, KeyError> {
        if self.id != written {
            return Err(KeyError::Id { name: self.name, written, computed: self.id });
        }
        Ok(self)
    }
}

/// Splits `name+id+base64(kind || key)`.
fn parts<'a>(text: &'a str, form: &'static str) -> Result<(&'a str, u32, u8, Vec<u8>), KeyError> {
    let refused = || KeyError::Form { form };
    let (name, rest) = text.split_once('+').ok_or_else(refused)?;
    let (id, key) = rest.split_once('+').ok_or_else(refused)?;
    let hexadecimal = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != 8 || !id.bytes().all(hexadecimal) {
        return Err(refused());
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| refused())?;
    let key = BASE64_STANDARD.decode(key).map_err(|_| refused())?;
    let (kind, key) = key.split_first().ok_or_else(refused)?;
    Ok((name, id, *kind, key.to_vec()))
}

impl Signer {
    const PREFIX: &'static str = "PRIVATE+KEY+";
    const FORM: &'static str = "PRIVATE+KEY+NAME+ID+BASE64";

    /// A key made from 32 random bytes.
    pub fn new(kind: KeyKind, name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(kind, name, secret.verifying_key().as_bytes())?;
        Ok(Self { verifier, secret })
    }

    /// Reads the form that [`to_secret`](Self::to_secret) writes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let refused = || KeyError::Form { form: Self::FORM };
        let rest = text.strip_prefix(Self::PREFIX).ok_or_else(refused)?;
        let (name, written, kind, seed) = parts(rest, Self::FORM)?;
        let kind = KeyKind::from_byte(kind).ok_or(KeyError::Kind { kind })?;
        let seed = seed.as_slice().try_into().map_err(|_| refused())?;
        let mut signer = Self::new(kind, name, seed)?;
        signer.verifier = signer.verifier.with_id(written)?;
        Ok(signer)
    }

    /// The private key as a text; whoever has it signs as this key.
    pub fn to_secret(&self) -> String {
        let VerifierKey { name, id, kind, .. } = &self.verifier;
        let key = [&[kind.byte()], self.secret.as_bytes().as_slice()].concat();
        format!("{}{name}+{id:08x}+{}", Self::PREFIX, BASE64_STANDARD.encode(key))
    }

    /// Its public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A log's signature over a note's text.
    pub(crate) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.secret.sign(text).to_vec()
    }

    /// A witness' cosignature over a note's text.
    pub(crate) fn cosign(&self, text: &[u8], time: u64) -> Vec<u8> {
        let signature = self.secret.sign(&cosigned_message(time, text));
        [time.to_be_bytes().as_slice(), &signature.to_bytes()].concat()
    }
}

/// Without the secret.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.verifier).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        assert_eq!(hex.len(), 2 * N);
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    fn vkey(kind: u8, point: &[u8; 32]) -> String {
        let key = [&[kind], point.as_slice()].concat();
        let id = signed_note::key_id("log", &key);
        format!("log+{id:08x}+{}", BASE64_STANDARD.encode(key))
    }

    /// The points of order 1, 2, 4 and 8 with all their spellings: the curve's torsion subgroup
    /// (RFC 7748 §6, RFC 8032 §5.1), y and sign bit as encoded.
    const LOW_ORDER: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];

    #[test]
    fn keys_of_low_order_are_refused_in_every_spelling() {
        for point in LOW_ORDER {
            let refused = vkey(1, &bytes(point)).parse::<VerifierKey>();
            assert!(matches!(refused, Err(KeyError::Point { .. })), "{point}: {refused:?}");
        }
    }

    #[test]
    fn keys_in_a_second_spelling_are_refused() {
        // y = p + 3 .. p + 18: among them points of the curve that a lenient decoder reduces.
        for low in 0xf0..=0xff_u8 {
            for top in [0x7f, 0xff] {
                let mut point = [0xff; 32];
                point[0] = low;
                point[31] = top;
                assert!(vkey(1, &point).parse::<VerifierKey>().is_err(), "{low:x} {top:x}");
            }
        }
    }

    /// Order of the base point, little endian (RFC 8032 §5.1).
    const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

    fn add(a: &[u8], b: &[u8; 32]) -> [u8; 32] {
        let mut carry = 0;
        std::array::from_fn(|i| {
            let sum = u16::from(a[i]) + u16::from(b[i]) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        })
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let signer = Signer::new(KeyKind::Log, "log", &[3; 32]).unwrap();
        let signature = signer.sign(b"text\n");
        assert!(signer.verifier.verifies(b"text\n", &signature));

        // s + L signs the same text for whoever does not demand a reduced scalar.
        let malleated = [&signature[..32], &add(&signature[32..], &bytes(L))].concat();

        assert!(!signer.verifier.verifies(b"text\n", &malleated));
        assert!(!signer.verifier.verifies(b"text\n", &signature[..63]));
        assert!(!signer.verifier.verifies(b"text\n", &[&signature[..], &[0]].concat()));
    }

    #[test]
    fn a_signature_with_a_point_of_low_order_is_refused() {
        let signer = Signer::new(KeyKind::Log, "log", &[3; 32]).unwrap();
        let signature = signer.sign(b"text\n");

        for point in LOW_ORDER {
            for s in [&signature[32..], &[0; 32]] {
                let forged = [&bytes::<32>(point)[..], s].concat();
                assert!(!signer.verifier.verifies(b"text\n", &forged), "{point}");
            }
        }
    }

    #[test]
    fn the_holder_of_the_key_cannot_make_a_signature_that_only_lenient_verifiers_take() {
        let signer = Signer::new(KeyKind::Log, "log", &[3; 32]).unwrap();
        // R is the neutral element, s = SHA-512(R || A || text) · a mod L with the secret scalar a:
        // the equation of RFC 8032 §5.1.7 holds.
        let crafted = [
            bytes::<32>(LOW_ORDER[0]),
            bytes("f434559a81c73e875cf36e174d46591b115b8cb11b3be4c52d5c39f698e5b90f"),
        ]
        .concat();

        let lenient = signer.verifier.point;
        let signature = Signature::from_slice(&crafted).unwrap();
        assert!(ed25519_dalek::Verifier::verify(&lenient, b"text\n", &signature).is_ok());
        assert!(!signer.verifier.verifies(b"text\n", &crafted));
    }

    #[test]
    fn the_published_vectors_verify() {
        // RFC 8032 §7.1, TEST 2 and TEST 3.
        for (key, message, signature) in [
            (
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72][..],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82][..],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                 18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let key: VerifierKey = vkey(1, &bytes(key)).parse().unwrap();
            assert!(key.verifies(message, &bytes::<64>(signature)));
            assert!(!key.verifies(b"another", &bytes::<64>(signature)));
        }
    }

    #[test]
    fn the_specification_s_own_key_is_read() {
        // signed-note v1.0.0, "Example".
        let key: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
                .parse()
                .unwrap();
        let signature = BASE64_STANDARD
            .decode("Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=")
            .unwrap();

        assert!(key.verifies(b"This is an example message.\n", &signature[4..]));
    }

    #[test]
    fn a_mistyped_key_says_so() {
        let key = Signer::new(KeyKind::Log, "log", &[3; 32]).unwrap().verifier.to_string();
        let (head, _) = key.rsplit_once('+').unwrap();

        let wrong_id = key.replacen("log", "lag", 1).parse::<VerifierKey>();

        assert!(matches!(wrong_id, Err(KeyError::Id { .. })));
        assert!(matches!(head.parse::<VerifierKey>(), Err(KeyError::Form { .. })));
        let unknown = vkey(6, &bytes(L)).parse::<VerifierKey>();
        assert!(matches!(unknown, Err(KeyError::Kind { kind: 6 })));
    }

    #[test]
    fn a_cosignature_carries_its_time_and_is_no_log_s_signature() {
        let witness = Signer::new(KeyKind::Witness, "w", &[4; 32]).unwrap();

        let cosignature = witness.cosign(b"text\n", 1_679_315_147);

        let at = witness.verifier.cosigned_at(b"text\n", &cosignature).unwrap();
        assert_eq!(at.as_second(), 1_679_315_147);
        assert!(!witness.verifier.verifies(b"text\n", &cosignature[8..]));
        let mut later = cosignature;
        later[7] ^= 1;
        assert!(witness.verifier.cosigned_at(b"text\n", &later).is_none());
    }

    #[test]
    fn the_secret_is_never_shown() {
        let signer = Signer::new(KeyKind::Log, "log", &[3; 32]).unwrap();

        assert!(!format!("{signer:?}").contains("PRIVATE"));
    }
}
