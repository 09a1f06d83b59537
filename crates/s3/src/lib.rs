//! Objects in an S3-compatible store, as [`history::Objects`].
//!
//! ```text
//! s3://BUCKET/PREFIX?endpoint=… ─► Address ─► S3: put, read, size, delete, list ─► signed requests over HTTPS
//!                      environment or file ─► Credentials ┘
//! ```
//! - An object is never replaced: each put holds only where there is none of its name, and carries its SHA-256.
//! - What breaks off is tried again, a bounded number of times with growing waits; all that is asked here may be asked twice.
//! - A server is not believed: answers are bounded in size and time, redirects are not followed, and a range is what was
//!   asked for or an error.
//! - Credentials stand in no address, error or log.
//!
//! What is not here: uploads in parts, so an object has 5 GiB at most; versions, tags, and rights, which are the bucket
//! owner's.

mod address;
mod answer;
mod credentials;
mod error;
mod objects;

pub use address::Address;
pub use credentials::Credentials;
pub use error::S3Error;
pub use objects::{Clock, Patience, S3};
