//! What history promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod any_altered_bit_is_found;
mod any_time_is_as_it_was_recorded;
mod nothing_is_plain;
