//! Any text as an `InRelease` and any bytes as a keyring: nothing panics, and no text is believed
//! without a signer.
#![no_main]

use collect::apt::Keyring;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (&[u8], &str, &[u8])| {
    let (keys, file, signature) = parts;
    let mut keyring = Keyring::default();
    let _ = keyring.add(keys);
    let now = Timestamp::UNIX_EPOCH;
    if let Ok(signed) = keyring.verify_inline(file, now) {
        assert!(!signed.signers.is_empty());
    }
    if let Ok(signed) = keyring.verify_detached(file, signature, now) {
        assert!(!signed.signers.is_empty());
    }
});
