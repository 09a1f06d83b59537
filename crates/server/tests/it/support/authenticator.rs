//! An authenticator, with the browser before it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::World;

/// Where the console is.
pub(crate) const ORIGIN: &str = "http://localhost:7878";

/// A passkey as an authenticator keeps it (attestation "none").
pub(crate) struct Authenticator {
    pub(crate) key: Key,
    pub(crate) credential: [u8; 32],
    pub(crate) counter: u32,
    /// User present and verified.
    pub(crate) flags: u8,
    pub(crate) origin: &'static str,
}

pub(crate) enum Key {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

impl Authenticator {
    /// One with an Ed25519 key.
    pub(crate) fn new(seed: u8) -> Self {
        let key = Key::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]));
        Self { key, credential: [seed; 32], counter: 1, flags: 0b101, origin: ORIGIN }
    }

    /// One with a key on P-256, as most are.
    pub(crate) fn p256(seed: u8) -> Self {
        let key = Key::P256(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap());
        Self { key, ..Self::new(seed) }
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let data = json!({
            "type": kind, "challenge": options["challenge"], "origin": self.origin,
            "crossOrigin": false,
        });
        data.to_string().into_bytes()
    }

    fn data(&self, flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest("localhost").to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// `COSE_Key` (RFC 9053, 7).
    fn cose(&self) -> Vec<u8> {
        match &self.key {
            // OKP, EdDSA, Ed25519.
            Key::Ed25519(key) => {
                let head = [0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 32];
                [&head[..], &key.verifying_key().to_bytes()].concat()
            }
            // EC2, ES256, P-256.
            Key::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let head = [0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32];
                let (x, y) = (point.x().unwrap(), point.y().unwrap());
                [&head[..], x, &[0x22, 0x58, 32], y].concat()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Ed25519(key) => ed25519_dalek::Signer::sign(key, message).to_bytes().to_vec(),
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }

    /// `navigator.credentials.create`.
    pub(crate) fn create(&self, options: &Value) -> Value {
        let mut data = self.data(self.flags | 0b100_0000);
        data.extend([0; 16]);
        data.extend([0, 32]);
        data.extend(self.credential);
        data.extend(self.cose());
        let mut object = vec![0xa3];
        object.extend(b"\x63fmt\x64none\x67attStmt\xa0\x68authData\x58");
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(&data);
        let client_data = self.client_data("webauthn.create", options);
        let algorithm = if matches!(self.key, Key::Ed25519(_)) { -8 } else { -7 };
        json!({
            "id": BASE64URL.encode(self.credential), "rawId": BASE64URL.encode(self.credential),
            "type": "public-key", "authenticatorAttachment": "cross-platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": BASE64URL.encode(client_data),
                "attestationObject": BASE64URL.encode(object),
                "authenticatorData": BASE64URL.encode(data),
                "transports": ["usb"], "publicKeyAlgorithm": algorithm,
            },
        })
    }

    fn assert(&mut self, options: &Value) -> [Vec<u8>; 3] {
        self.counter += 1;
        let data = self.data(self.flags);
        let client_data = self.client_data("webauthn.get", options);
        let signed = [&data[..], &Sha256::digest(&client_data)].concat();
        let signature = self.sign(&signed);
        [data, client_data, signature]
    }

    /// `navigator.credentials.get`.
    pub(crate) fn get(&mut self, options: &Value, handle: &[u8]) -> Value {
        let [data, client_data, signature] = self.assert(options);
        json!({
            "id": BASE64URL.encode(self.credential), "rawId": BASE64URL.encode(self.credential),
            "type": "public-key", "authenticatorAttachment": "cross-platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": BASE64URL.encode(client_data),
                "authenticatorData": BASE64URL.encode(data),
                "signature": BASE64URL.encode(signature),
                "userHandle": BASE64URL.encode(handle),
            },
        })
    }

    /// The envelope that the console's script makes of what it was asked to have signed.
    pub(crate) fn sign_statement(&mut self, asked: &Value) -> Value {
        let credential = BASE64URL.encode(self.credential);
        let is_own = |key: &&Value| key["credential"] == *credential;
        let signer = asked["keys"].as_array().unwrap().iter().find(is_own);
        let keyid = signer.map_or(Value::Null, |signer| signer["key"].clone());
        let parts = self.assert(&asked["options"]);
        let [data, client_data, signature] = parts.map(|part| BASE64_STANDARD.encode(part));
        json!({
            "payload": asked["payload"], "payloadType": asked["payload_type"],
            "assertion": {
                "keyid": keyid, "authenticatorData": data, "clientDataJSON": client_data,
                "signature": signature,
            },
        })
    }

    /// Adds it to the account of whoever has the session.
    pub(crate) async fn add_to(&self, world: &World, session: &str) -> Value {
        let path = "/api/v1/session/passkey-registration";
        let begun = world.ask(session, "POST", path, None).await.json();
        let answer = self.create(&begun["options"]);
        let body = json!({ "ceremony": begun["ceremony"], "name": "key ring", "answer": answer });
        let added = world.ask(session, "POST", "/api/v1/session/passkeys", Some(body)).await;
        assert_eq!(added.status, 201, "{}", added.text);
        added.json()
    }
}
