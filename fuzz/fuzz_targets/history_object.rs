#![no_main]
//! Everything that lies behind the seals of an object of content history.
libfuzzer_sys::fuzz_target!(|data: &[u8]| history::fuzzing::object(data));
