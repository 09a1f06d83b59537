//! What notices promise, read by the programs that their receivers use.
//!
//! One program for all of them: each would link the whole product again, for gigabytes of disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod events_are_for_programs;
mod feeds_are_read_elsewhere;
mod mail_reaches_a_real_server;
mod messages_say_what_matters;
mod support;
mod templates_are_tried_when_loaded;
mod webhooks_reach_a_real_receiver;
