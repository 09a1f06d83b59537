//! What a machine's console prints, in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: Vec<&[u8]>| {
    drivers::fuzzing::console(&data);
});
