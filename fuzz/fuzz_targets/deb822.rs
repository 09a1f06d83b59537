//! Any text as deb822: every field found stands in the text, and lookups agree with the walk.
#![no_main]

use domain::deb822;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for paragraph in deb822::paragraphs(text) {
        for field in paragraph.fields() {
            assert!(text.contains(field.name) && text.contains(field.value));
            assert!(paragraph.get(field.name).is_some());
        }
    }
});
