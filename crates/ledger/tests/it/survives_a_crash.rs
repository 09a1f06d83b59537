//! Whatever is cut off in the middle, what was published verifies and the log goes on.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use crate::world::{self, Memory, entries, open};
use ledger::verify::{Against, verify};

/// Grows a log over the edges of tiles, publishing as it goes; until the storage dies.
fn run(storage: &Memory) -> Result<(), ledger::errors::LogError> {
    let mut log = open(storage)?;
    for (until, publish) in [(3, true), (200, false), (255, true), (256, true), (600, true)] {
        let from = log.size();
        if from < until {
            log.integrate(from, &entries(from..until))?;
        }
        if publish && log.published_size() < until {
            log.publish()?;
        }
    }
    Ok(())
}

#[test]
fn every_single_interruption_is_survived() {
    let whole = Memory::new();
    run(&whole).unwrap();

    let mut interruptions = 0;
    loop {
        let dying = Memory::dying_after(BTreeMap::new(), interruptions);
        let finished = run(&dying).is_ok();

        // What was published before the power went verifies.
        let after = Memory::of(dying.files());
        if after.files().contains_key("checkpoint") {
            verify(&after, &Against::policy(&world::trust())).unwrap();
        }
        // And it goes on to the same end.
        run(&after).unwrap();
        let verified = verify(&after, &Against::policy(&world::trust())).unwrap();
        assert_eq!(verified.size, 600);
        let ours = after.files();
        for (path, bytes) in whole.files() {
            assert_eq!(ours[&path], bytes, "{path} after {interruptions} alterations");
        }
        if finished {
            break;
        }
        interruptions += 1;
    }
    assert!(interruptions > 20, "{interruptions}");
}
