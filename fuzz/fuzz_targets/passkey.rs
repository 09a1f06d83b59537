//! Any bytes as what an authenticator and a browser say, signed by a key that is trusted: only what
//! says that somebody was verified, here, for this statement, counts.
#![no_main]

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::passkey::{Assertion, PasskeyKey, Site, challenge, open};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "https://cloud.example.org";
const STATEMENT: &[u8] = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;

fuzz_target!(|said: (Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (authenticator_data, client_data, envelope) = said;
    let secret = SigningKey::from_bytes(&[7; 32]);
    let key = PasskeyKey::ed25519(&secret.verifying_key().to_bytes()).unwrap();
    let sites = [Site::at(ORIGIN).unwrap()];

    // The key is known to whoever fuzzes, and yet no envelope signs by itself.
    assert!(open(&envelope, std::slice::from_ref(&key), &sites).is_err());

    let message = [&authenticator_data[..], &Sha256::digest(&client_data)].concat();
    let signature = secret.sign(&message).to_bytes().to_vec();
    let assertion = Assertion { authenticator_data, client_data, signature };
    let Ok(origin) = assertion.verify(&challenge(STATEMENT), &key, &sites) else { return };
    assert_eq!(origin, ORIGIN);
    let Assertion { authenticator_data, client_data, .. } = assertion;
    assert_eq!(authenticator_data[..32], Sha256::digest("cloud.example.org")[..]);
    assert_eq!(authenticator_data[32] & 0b101, 0b101);
    let said: serde_json::Value = serde_json::from_slice(&client_data).unwrap();
    assert_eq!(said["type"], "webauthn.get");
    assert_eq!(said["origin"], ORIGIN);
    assert_ne!(said["crossOrigin"], true);
});
