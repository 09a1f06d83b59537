//! Backups of an installation while it runs, and the way back.
//!
//! ```text
//! SQLite's file and log ─┐                                    ┌─► restore: a data directory, each byte checked
//! history's objects      ├─► Backup::step ─► packs, manifest ─┤
//! images, sources        ┘    (what altered)                  └─► verify, retain
//! ```
//! - The database is read beside whoever writes it, at the end of a transaction, and after the first time only the
//!   pages that altered.
//! - Everything in a [`Repository`] is sealed under a key that the master key wraps; a manifest tells all of a
//!   backup and is put last. A bit that is another one is found.
//! - No clock and no network in here; randomness comes in from outside. A repository is [`history::Objects`]: a directory here,
//!   whatever has whole puts and ranged reads elsewhere.
//!
//! What is not here: PostgreSQL, which has base backups and archived logs of its own, and the master key, which is kept
//! apart from backups.

mod alone;
mod bytes;
mod error;
mod files;
mod keys;
mod live;
mod picture;
mod repository;
mod restore;
mod retain;
mod take;
mod wal;

pub use alone::{Alone, Clock};
pub use error::BackupError;
pub use keys::{Random, Secret};
pub use repository::{Manifest, Repository, Writing};
pub use restore::{Restored, Verified};
pub use retain::{Removed, Retention};
pub use take::{Backup, Source, Taken, wait};
