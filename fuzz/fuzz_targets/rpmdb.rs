#![no_main]
//! rpm databases and the headers in them; the first byte says which.
use inspect::packages::rpm::{self, header, ndb, sqlite};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((form, data)) = data.split_first() else { return };
    match form % 3 {
        0 => {
            let _ = header::parse(data);
            let _ = header::files(data, |_| true);
            let _ = rpm::listing(&[data]);
        }
        1 => {
            if let Ok(headers) = ndb::headers(data) {
                let _ = rpm::listing(&headers);
            }
        }
        _ => {
            if let Ok(headers) = sqlite::headers(data.to_vec(), &[]) {
                let _ = rpm::listing(&headers);
            }
        }
    }
});
