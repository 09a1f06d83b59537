//! What the ledger promises, to those who trust it and those who do not.
//!
//! One program for all of them: each would link the whole product again, for gigabytes of disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod a_copy_holds_the_log_to_its_word;
mod attestations_open_elsewhere;
mod command;
mod detects_a_dishonest_operator;
mod detects_every_alteration;
mod grows;
mod merkle_vectors;
mod other_verifiers_agree;
mod receipts;
mod refuses_to_rewrite;
mod survives_a_crash;
mod witnesses;
mod world;
