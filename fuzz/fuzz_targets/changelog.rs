//! Any text as a Debian changelog: what is found is well formed, and CVE ids come sorted and once.
#![no_main]

use domain::changelog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let upper = text.to_ascii_uppercase();
    for entry in changelog::parse(text) {
        assert!(!entry.version.is_empty());
        assert!(entry.cves.is_sorted_by(|a, b| a < b));
        assert!(entry.cves.iter().all(|cve| upper.contains(cve.as_str())));
    }
});
