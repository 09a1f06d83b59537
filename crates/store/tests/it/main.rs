//! What the store promises, on both of its engines.
//!
//! One program for all of them: each would link the whole product again, for gigabytes of disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// Its macro is known to what comes after it.
#[macro_use]
mod support;

#[path = "../../../s3/tests/it/peer.rs"]
mod peer;

mod a_change_and_its_record_are_one;
mod a_proven_patch_is_baked;
mod agents_are_who_they_are;
mod alarms_are_told_once;
mod alterations_are_judged;
mod alterations_go_out;
mod audits_are_kept;
mod baselines_are_kept;
mod break_glass_is_reviewed;
mod changes_and_their_clocks;
mod devices_are_looked_at;
mod drifts_are_told_once;
mod each_side_is_held_to_its_word;
mod findings_last;
mod fleets_are_answered_as_recorded;
mod history_is_answered_as_recorded;
mod history_is_kept_safe;
mod history_lies_in_a_store;
mod images_and_their_jobs;
mod keys_are_sealed_anew;
mod machines_go_back_to_snapshots;
mod notices_on_their_way;
mod old_checks_prove_nothing;
mod people_are_known_elsewhere;
mod releases_become_baselines;
mod releases_on_their_way;
mod sources_are_looked_at;
mod transactions_that_wait_for_each_other;
mod what_hangs_on_an_item;
mod who_reads_is_recorded;
mod whoever_asks_sees_their_own;
