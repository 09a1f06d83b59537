//! Any bytes as an entry: what is accepted is its own canonical form.
#![no_main]

use ledger::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = Envelope::parse(data) {
        assert_eq!(envelope.to_canonical().unwrap(), data);
    }
});
