//! CISA's catalogue: whole or refused.
#![no_main]

use collect::kev;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(catalogue) = kev::parse("kev.json", data) {
        assert!(!catalogue.entries.is_empty());
    }
});
