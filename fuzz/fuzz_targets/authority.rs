//! Certificates of authorities, as somebody gives them for a source.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| sources::fuzzing::authority(data));
