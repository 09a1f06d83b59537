#![no_main]
//! dpkg's `status` file.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = inspect::packages::dpkg::parse_status(data);
});
