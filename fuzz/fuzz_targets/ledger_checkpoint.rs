//! Any bytes as a checkpoint, a receipt, a policy and a key: each has one spelling or is refused,
//! and nothing without a signature is believed.
#![no_main]

use ledger::{KeyKind, Policy, Receipt, SignedCheckpoint, Signer, VerifierKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = Signer::new(KeyKind::Log, "log.example", &[7; 32]).unwrap();
    let trust = Policy::of_logs([key.verifier().clone()]);
    if let Ok(checkpoint) = SignedCheckpoint::parse(data) {
        assert_eq!(checkpoint.to_bytes(), data);
        assert!(checkpoint.verify(&trust).is_err());
    }
    if let Ok(receipt) = Receipt::parse(data) {
        assert_eq!(receipt.to_text().as_bytes(), data);
        assert!(receipt.verify(data, &trust).is_err());
    }
    let _ = Policy::parse(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(key) = text.parse::<VerifierKey>()
    {
        assert_eq!(key.to_string(), text);
    }
});
