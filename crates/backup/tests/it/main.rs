//! Backups of databases that are written meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backups_are_of_a_moment;
mod nothing_in_a_repository_is_believed;
mod support;
mod what_breaks_off_costs_nothing;
