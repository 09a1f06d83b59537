//! OSV records in every packing: whatever arrives is read, skipped with a reason, or refused.
#![no_main]

use collect::osv::{self, Wanted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Zip and gzip are told by their first bytes; lines only by the name.
    for name in ["record.json", "lines.jsonl", "lines.jsonl.gz"] {
        if let Ok(load) = osv::load_bytes(name, data, &Wanted::Everything) {
            assert!(load.advisories.len() <= load.records);
            assert!(load.skipped.len() <= load.skipped_count);
            assert!(load.advisories.iter().all(|advisory| !advisory.affected.is_empty()));
        }
    }
});
