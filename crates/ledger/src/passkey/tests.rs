//! An authenticator in a few lines, and everything that can be wrong about what it answers.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::attestation::{self, Attestor, Digest, Statement};

const ORIGIN: &str = "https://cloud.example.org";

/// User present and verified.
const VERIFIED: u8 = 0b101;

enum Secret {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

/// An authenticator, and the browser before it.
struct Authenticator {
    secret: Secret,
    rp_id: &'static str,
    flags: u8,
    /// Behind the counter.
    more: Vec<u8>,
    client_data: Value,
}

impl Authenticator {
    fn of(secret: Secret) -> Self {
        let client_data =
            json!({ "type": "webauthn.get", "origin": ORIGIN, "crossOrigin": false, "x": [1] });
        let (flags, more) = (VERIFIED, Vec::new());
        Self { secret, rp_id: "cloud.example.org", flags, more, client_data }
    }

    fn p256() -> Self {
        Self::of(Secret::P256(p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap()))
    }

    fn ed25519() -> Self {
        Self::of(Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[7; 32])))
    }

    fn both() -> [Self; 2] {
        [Self::p256(), Self::ed25519()]
    }

    fn key(&self) -> PasskeyKey {
        match &self.secret {
            Secret::P256(secret) => {
                let point = secret.verifying_key().to_sec1_point(true);
                let (parity, x) = point.as_bytes().split_first().unwrap();
                PasskeyKey::p256(x.try_into().unwrap(), *parity == 3).unwrap()
            }
            Secret::Ed25519(secret) => {
                PasskeyKey::ed25519(&secret.verifying_key().to_bytes()).unwrap()
            }
        }
    }

    /// Answers a challenge; one that the client data holds already stays.
    fn assert(&self, challenge: &[u8; 32]) -> Assertion {
        let mut client_data = self.client_data.clone();
        if client_data.get("challenge").is_none() {
            client_data["challenge"] = BASE64_URL_SAFE_NO_PAD.encode(challenge).into();
        }
        let client_data = client_data.to_string().into_bytes();
        let mut data = Sha256::digest(self.rp_id).to_vec();
        data.push(self.flags);
        data.extend([0, 0, 0, 9]);
        data.extend(&self.more);
        let message = [&data[..], &Sha256::digest(&client_data)].concat();
        let signature = match &self.secret {
            Secret::P256(secret) => {
                let signature: p256::ecdsa::Signature = secret.sign(&message);
                signature.to_der().as_bytes().to_vec()
            }
            Secret::Ed25519(secret) => secret.sign(&message).to_bytes().to_vec(),
        };
        Assertion { authenticator_data: data, client_data, signature }
    }

    fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let envelope = Envelope::new(payload, &self.key(), &self.assert(&challenge(payload)));
        serde_json::to_vec(&envelope).unwrap()
    }

    fn verify(&self) -> Result<String, AssertionError> {
        let challenge = [3; 32];
        self.assert(&challenge).verify(&challenge, &self.key(), &sites())
    }
}

fn sites() -> [Site; 2] {
    [Site::at("https://other.example.org").unwrap(), Site::at(ORIGIN).unwrap()]
}

fn payload(plan: &[u8]) -> Vec<u8> {
    let statement = Statement::new("https://example.com/consent/v1")
        .about("plan", Digest::of(plan))
        .saying(&json!({ "decision": "approve" }))
        .unwrap();
    serde_json::to_vec(&statement).unwrap()
}

#[test]
fn a_statement_is_signed_with_a_passkey_and_verified_by_its_public_key() {
    for authenticator in Authenticator::both() {
        let (payload, key) = (payload(b"plan"), authenticator.key());
        let other = Authenticator { rp_id: "x", ..Authenticator::p256() }.key();
        let envelope = authenticator.sign(&payload);

        let opened = open(&envelope, &[other, key.clone()], &sites()).unwrap();

        assert_eq!(opened, Opened { payload, key, origin: ORIGIN.to_owned() });
    }
}

/// W3C Web Authentication Level 3, 16.2: "ES256 Credential with No Attestation", whose authenticator did
/// not verify its user.
#[test]
fn the_standards_own_example_is_signed_but_not_by_a_verified_user() {
    let hex = |text: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    };
    let data = "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b51900000000";
    let assertion = Assertion {
        authenticator_data: hex(data),
        client_data: br#"{"type":"webauthn.get","challenge":"OcDnUhQXulTUPo3JUXT0I97pvzzYBP9tZchXyav01Ag","origin":"https://example.org","crossOrigin":false}"#.to_vec(),
        signature: hex("3046022100f50a4e2e4409249c4a853ba361282f09841df4dd4547a13a87780218deffcd380221008480ac0f0b93538174f575bf11a1dd5d78c6e486013f937295ea13653e331e87"),
    };
    let x = hex("afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df61");
    let key = PasskeyKey::p256(&x.try_into().unwrap(), false).unwrap();
    let challenge = hex("39c0e7521417ba54d43e8dc95174f423dee9bf3cd804ff6d65c857c9abf4d408");
    let site = [Site::at("https://example.org").unwrap()];

    let message =
        [&assertion.authenticator_data[..], &Sha256::digest(&assertion.client_data)].concat();
    assert!(key.signed(&message, &assertion.signature));
    let challenge = challenge.try_into().unwrap();
    let verified = assertion.verify(&challenge, &key, &site);
    assert!(matches!(verified, Err(AssertionError::NotVerified)), "{verified:?}");
}

#[test]
fn what_the_browser_says_is_checked() {
    for good in Authenticator::both() {
        assert_eq!(good.verify().unwrap(), ORIGIN);
    }
    let saying = |member: &str, value: Value| {
        let mut authenticator = Authenticator::p256();
        authenticator.client_data[member] = value;
        authenticator.verify().unwrap_err()
    };

    assert!(matches!(saying("type", "webauthn.create".into()), AssertionError::Type { .. }));
    let other = BASE64_URL_SAFE_NO_PAD.encode([4; 32]);
    assert!(matches!(saying("challenge", other.into()), AssertionError::Challenge { .. }));
    let padded = BASE64_STANDARD.encode([3; 32]);
    assert!(matches!(saying("challenge", padded.into()), AssertionError::Challenge { .. }));
    for origin in
        ["https://evil.example", "http://cloud.example.org", "https://cloud.example.org:8"]
    {
        assert!(matches!(saying("origin", origin.into()), AssertionError::Origin { .. }));
    }
    assert!(matches!(saying("crossOrigin", true.into()), AssertionError::CrossOrigin));
    assert!(matches!(saying("topOrigin", ORIGIN.into()), AssertionError::CrossOrigin));
    assert!(matches!(saying("crossOrigin", "no".into()), AssertionError::ClientData(_)));
    let twice = br#"{"type":"webauthn.get","type":"webauthn.get","challenge":"","origin":""}"#;
    let assertion =
        Assertion { client_data: twice.to_vec(), ..Authenticator::p256().assert(&[3; 32]) };
    let error = assertion.verify(&[3; 32], &Authenticator::p256().key(), &sites()).unwrap_err();
    assert!(matches!(error, AssertionError::ClientData(_)), "{error}");
}

#[test]
fn what_the_authenticator_says_is_checked() {
    let with = |flags: u8| Authenticator { flags, ..Authenticator::p256() }.verify();

    assert!(matches!(with(0b100), Err(AssertionError::NotPresent)));
    assert!(matches!(with(0b001), Err(AssertionError::NotVerified)));
    assert!(matches!(with(VERIFIED | 0b1_0000), Err(AssertionError::Backup)));
    assert!(with(VERIFIED | 0b1_1000).is_ok(), "a passkey may be copied where it says so");
    assert!(matches!(with(VERIFIED | 0b0100_0000), Err(AssertionError::AuthenticatorData { .. })));
    assert!(matches!(with(VERIFIED | 0b1000_0000), Err(AssertionError::AuthenticatorData { .. })));
    let more = Authenticator { more: vec![0xa0], ..Authenticator::p256() };
    assert!(matches!(more.verify(), Err(AssertionError::AuthenticatorData { size: 38 })));
    let extended = Authenticator { flags: VERIFIED | 0b1000_0000, ..more };
    assert!(extended.verify().is_ok());
    let elsewhere = Authenticator { rp_id: "other.example.org", ..Authenticator::p256() };
    assert!(matches!(elsewhere.verify(), Err(AssertionError::RelyingParty { .. })));

    let mut short = Authenticator::p256().assert(&[3; 32]);
    for length in 0..37 {
        short.authenticator_data.truncate(36 - length);
        let error = short.verify(&[3; 32], &Authenticator::p256().key(), &sites()).unwrap_err();
        assert!(matches!(error, AssertionError::AuthenticatorData { .. }), "{error}");
    }
}

#[test]
fn any_altered_byte_of_an_envelope_is_noticed() {
    for authenticator in Authenticator::both() {
        let (envelope, key) = (authenticator.sign(&payload(b"plan")), [authenticator.key()]);
        assert!(open(&envelope, &key, &sites()).is_ok());
        for at in 0..envelope.len() {
            for bit in 0..8 {
                let mut altered = envelope.clone();
                altered[at] ^= 1 << bit;
                let opened = open(&altered, &key, &sites());
                assert!(opened.is_err(), "{at} {bit}: {}", String::from_utf8_lossy(&altered));
            }
        }
    }
}

#[test]
fn an_assertion_is_for_its_payload_and_its_key_alone() {
    for authenticator in Authenticator::both() {
        let (key, assertion) = (authenticator.key(), authenticator.assert(&challenge(b"{}")));
        let carried = |payload: &[u8], key: &PasskeyKey| {
            let envelope = Envelope::new(payload, key, &assertion);
            open(&serde_json::to_vec(&envelope).unwrap(), std::slice::from_ref(key), &sites())
        };

        // The very payload, which says nothing; another plan's; another key, which is trusted too.
        assert!(matches!(carried(b"{}", &key), Err(PasskeyError::Statement(_))));
        let other = carried(&payload(b"other"), &key);
        let wrong = |error: &_| matches!(error, AssertionError::Challenge { .. });
        assert!(matches!(&other, Err(PasskeyError::Assertion(error)) if wrong(error)));
        let stranger = PasskeyKey::p256(&[5; 32], false).unwrap();
        let signed = carried(b"{}", &stranger);
        let wrong = |error: &_| matches!(error, AssertionError::Signature { .. });
        assert!(matches!(&signed, Err(PasskeyError::Assertion(error)) if wrong(error)));

        let envelope = authenticator.sign(&payload(b"plan"));
        let unknown = open(&envelope, &[stranger], &sites()).unwrap_err();
        assert!(matches!(unknown, PasskeyError::Key { trusted: 1, .. }), "{unknown}");
    }
}

/// The same Ed25519 key, and the same statement, in both kinds of envelopes.
#[test]
fn neither_kind_of_envelope_can_be_taken_for_the_other() {
    let (authenticator, attestor) = (Authenticator::ed25519(), Attestor::new(&[7; 32]));
    assert_eq!(authenticator.key().id(), attestor.key().id(), "a key has one name");
    let payload = payload(b"plan");
    let assertion = authenticator.sign(&payload);
    let dsse = serde_json::to_vec(&attestor.sign(&payload).unwrap()).unwrap();
    assert!(is_envelope(&assertion) && !is_envelope(&dsse) && !is_envelope(b"[]"));

    assert!(attestation::open(&assertion, &[attestor.key()]).is_err());
    assert!(open(&dsse, &[authenticator.key()], &sites()).is_err());

    // Both in one; and each one's signature in the place of the other's.
    let (mut both, dsse): (Value, Value) =
        (serde_json::from_slice(&assertion).unwrap(), serde_json::from_slice(&dsse).unwrap());
    both["signatures"] = dsse["signatures"].clone();
    assert!(open(both.to_string().as_bytes(), &[authenticator.key()], &sites()).is_err());
    let signature = dsse["signatures"][0]["sig"].clone();
    let mut swapped: Value = serde_json::from_slice(&assertion).unwrap();
    swapped["assertion"]["signature"] = signature;
    assert!(open(swapped.to_string().as_bytes(), &[authenticator.key()], &sites()).is_err());
    both["signatures"][0]["sig"] = both["assertion"]["signature"].clone();
    assert!(attestation::open(both.to_string().as_bytes(), &[attestor.key()]).is_err());
}

#[test]
fn something_else_than_a_statement_is_not_taken() {
    let authenticator = Authenticator::p256();
    let mut envelope: Value = serde_json::from_slice(&authenticator.sign(&payload(b"x"))).unwrap();
    envelope["payloadType"] = "text/plain".into();
    let other = open(envelope.to_string().as_bytes(), &[authenticator.key()], &sites());
    assert!(matches!(other, Err(PasskeyError::PayloadType { .. })));

    let long = vec![b' '; LARGEST_ENVELOPE + 1];
    assert!(matches!(open(&long, &[], &[]), Err(PasskeyError::TooLong { .. })));
    assert!(!is_envelope(&long));
}

#[test]
fn a_key_is_read_as_it_was_written_and_has_one_spelling() {
    for authenticator in Authenticator::both() {
        let key = authenticator.key();
        assert_eq!(key.to_string().parse::<PasskeyKey>().unwrap(), key);
        assert_eq!(Digest::from(key.id_bytes()).as_str(), key.id());
    }
    let pem = Authenticator::p256().key().to_string();
    assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
    let spki = attestation::from_pem(&pem).unwrap();
    // A point in its second spelling, one that is on no curve, another curve's name.
    let mut compressed = spki[..spki.len() - 64].to_vec();
    *compressed.last_mut().unwrap() = 2;
    compressed.extend(&spki[27..59]);
    let mut off = spki.clone();
    *off.last_mut().unwrap() ^= 1;
    let mut curve = spki;
    curve[22] ^= 1;
    for odd in [compressed, off, curve, Vec::new()] {
        assert_eq!(attestation::to_pem(&odd).parse::<PasskeyKey>(), Err(PasskeyKeyError));
    }
    assert_eq!(PasskeyKey::ed25519(&[0; 32]), Err(PasskeyKeyError), "anybody can sign for it");
}
