//! Matching says what a plain reading of advisories says, of one system and of a fleet, whatever
//! happened to it before.

mod fleet;
mod host;
mod plain_check;
mod worlds;
