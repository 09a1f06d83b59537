//! A cloud in virtual time, its record, and an oracle that judges the record.

mod oracle;
mod people;
mod record;
mod server;
mod world;

pub(crate) use oracle::judge;
pub(crate) use record::{Entry, Fact};
pub(crate) use world::run;
