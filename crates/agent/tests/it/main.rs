//! What an agent does when it is told to, tried on real Debian roots.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod a_compromised_server_gets_nowhere;
mod archives_of_the_host_vouch;
mod killed_at_any_point;
mod orders_are_carried_out;
mod orders_come_and_are_answered;
mod support;
mod what_is_asked_again;
