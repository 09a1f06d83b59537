//! A pack of a repository.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: ([u8; 20], Option<[u8; 20]>, &[u8])| {
    let (tip, known, pack) = data;
    sources::fuzzing::pack(pack, tip, known);
});
