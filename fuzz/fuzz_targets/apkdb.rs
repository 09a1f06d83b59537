#![no_main]
//! apk's `installed` file.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = inspect::packages::apk::parse_installed(data);
    let _ = inspect::packages::apk::parse_files(data, "/");
});
