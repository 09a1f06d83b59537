#![no_main]
//! qcow2 images: header, tables, compressed clusters.
libfuzzer_sys::fuzz_target!(|data: &[u8]| inspect::fuzzing::qcow2(data));
