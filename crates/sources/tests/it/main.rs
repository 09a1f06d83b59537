//! Sources as they are looked at: real repositories behind git's own servers, real HTTP, real disks.

#![allow(clippy::unwrap_used, reason = "tests")]

mod documents_are_read_over_http;
mod images_are_read_without_mounting;
mod repositories_are_followed;
mod support;
