//! What a guest says of its system.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = lab::fuzzing::guest(data);
});
