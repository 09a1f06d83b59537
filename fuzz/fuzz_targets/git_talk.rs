//! What a repository's server says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&[u8], &[u8])| sources::fuzzing::talk(data.0, data.1));
