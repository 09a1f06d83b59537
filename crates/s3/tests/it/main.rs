//! What a store promises, at a real server's and at one that breaks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod peer;

mod a_broken_server_costs_nothing;
mod a_store_is_as_a_directory;
