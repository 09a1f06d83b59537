#![no_main]
//! Container images: archives with their descriptions, and layers by themselves.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else { return };
    if form % 2 == 0 {
        inspect::fuzzing::layer(data);
    } else {
        inspect::fuzzing::container(data);
    }
});
