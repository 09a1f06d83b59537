//! What a device says in a terminal, in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u8, Vec<&[u8]>)| {
    let (model, pieces) = data;
    devices::fuzzing::session(usize::from(model), &pieces);
});
