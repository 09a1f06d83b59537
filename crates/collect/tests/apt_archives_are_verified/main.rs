//! What an archive says is believed only after everything about it held.
//!
//! The archives are made by `dpkg-deb`, `apt-ftparchive` and `gpg`, and served by a server that
//! can be told to misbehave. Every attack leaves the state on disk as it was.

#![allow(clippy::unwrap_used, reason = "a test stops at whatever it did not expect")]

mod archive;
mod attacks;
mod bounds;
mod changelogs;
mod good;
mod interruption;
mod packages;
mod server;
mod signatures;
mod sources;
mod world;
