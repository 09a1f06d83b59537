//! The boot loader's configuration in an image.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let _ = lab::fuzzing::boot_loader(data);
});
