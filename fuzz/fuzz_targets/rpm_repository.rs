//! What an RPM repository says; the first byte says which of its files it is.
#![no_main]

use collect::rpm;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else { return };
    if form % 2 == 0 {
        if let Ok(primary) = rpm::parse_index(data) {
            assert_eq!(primary.sha256.len(), 64);
        }
    } else if let Ok(listed) = rpm::parse_list(data, &|_| true) {
        assert!(listed.iter().all(|it| it.sha256.len() == 64 && !it.name.is_empty()));
    }
});
