//! Sources of what items are configured by, which are looked at from outside: git repositories, documents behind an
//! address, and files in images that do not run. Nothing leaves this crate with its secrets ([`Document`]).
//!
//! ```text
//! git:   advertisement ─► has it moved? ─► a pack, bounded ─► commits from the last one on ─► Step, Step, …
//! http:  GET, unless it is as it was (ETag) ─► JSON in one order, or text ───────────────► Document
//! image: inspect, below /etc ────────────────────────────────────────────────────────────► Document, …
//!                                                                               redacted ──┘
//! ```
//!
//! Whoever answers is hostile, and so may be whoever named the address: names lead only where [`reach::Reach`]
//! lets them, no redirect is followed, everything is bounded in bytes and time, and of a repository nothing is
//! executed, checked out or fetched that its own tree does not hold: no hooks, no submodules, no other transports
//! than HTTP and SSH.

pub mod authority;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod git;
pub mod http;
pub mod image;
mod web;

pub use authority::{InvalidAuthority, Roots};
pub use document::Document;
pub use error::SourceError;

/// Runs what blocks, or computes for long, where it may.
///
/// # Errors
/// As the work, or [`SourceError::Own`] where it was cut off.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let own = |error: tokio::task::JoinError| SourceError::Own {
        what: "reading what came",
        reason: error.to_string(),
    };
    tokio::task::spawn_blocking(work).await.map_err(own)?
}
