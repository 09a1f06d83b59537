//! What the program promises, tried on real systems, disks and peers.
//!
//! One program for all of them: each would link the whole product again, for gigabytes of disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod a_compromised_server_gets_nowhere;
mod a_failing_disk_loses_nothing_acknowledged;
mod a_fleet_is_checked_like_its_hosts;
mod agents_join_and_report;
mod alterations_are_judged;
mod alterations_reach_real_hosts;
#[path = "support/attacker.rs"]
mod attacker;
#[path = "support/client.rs"]
mod client;
#[path = "support/cloud.rs"]
mod cloud;
mod configuration_is_kept;
mod consent_by_the_client;
mod consent_is_verified_elsewhere;
mod debsecan_agrees;
mod devices_are_observed;
mod evidence_is_taken_along;
mod findings_are_what_apt_offers;
mod images_are_brought_to_the_latest;
mod images_from_a_command_line;
mod images_of_stores_are_observed;
mod items_are_held_to_baselines;
mod json_is_stable;
#[path = "../../../store/tests/it/support/memory.rs"]
mod memory;
mod osv_agrees_with_a_plain_check;
#[path = "../../../s3/tests/it/peer.rs"]
mod peer;
mod pins_mean_what_they_mean_to_apt;
#[path = "../../../store/tests/it/support/postgres.rs"]
mod postgres;
mod releases_reach_real_hosts;
mod several_processes_share_a_database;
#[path = "../../../agent/tests/it/sockets.rs"]
mod sockets;
mod sources_are_followed;
#[path = "../../../sources/tests/it/support.rs"]
mod sources_support;
mod support;
mod the_api_withstands_schemathesis;
mod the_client_does_it_all;
#[path = "support/up.rs"]
mod up;
mod up_keeps_what_it_acknowledged;
mod up_speaks_tls;
mod verification_is_verified_elsewhere;
mod what_was_backed_up_comes_back;
mod witnesses_hold_the_ledger;
