//! What files held at any time, in few bytes, sealed: the content history of a cloud's configuration items.
//!
//! What is recorded of a tenant's items in a span of time becomes one immutable object, a *partition*: its
//! contents as chains of deltas, an index by item, path and time, and commitments of what was recorded.
//!
//! ```text
//!   versions, contents ─► seal ─► Object ─► Objects::put
//!     by item, path, time     ▲                  │
//!                        Anchor (an earlier   Partition::open ─► at, versions, item, content
//!                        partition's content)    ├─► verify: everything, again
//!                                                └─► rewrite: the same with less in it
//! ```
//!
//! - A content is mostly kept once in a partition, however many items have it. Its frame is a delta against the
//!   file's content before; a file's first one may be one against another file's that is much alike, or *lean* on a
//!   frame of one earlier partition that needs no other. So a content is in at most two objects.
//! - Everything is sealed with the partition's [`DataKey`]; whoever destroys the key erases the partition. Hashes
//!   of contents and paths are keyed by the tenant's [`Pool`].
//! - An altered bit anywhere in an object is found by [`Partition::verify`], and never read as something else.
//! - No clock, no random number and no database in here; where objects lie is behind [`Objects`].
//!
//! ```
//! use std::sync::Arc;
//! use history::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder.path())?);
//! let (pool, key) = (Pool::new(&[1; 32]), DataKey::new([2; 32].into()));
//! let (item, path) = (Item([7; 16]), FilePath::new("/etc/motd")?);
//!
//! struct Texts(Pool, [&'static str; 2]);
//!
//! impl Contents for Texts {
//!     fn content(&self, _: usize, version: usize) -> Result<(Arc<[u8]>, ContentDigest), HistoryError> {
//!         let content = self.1[version].as_bytes();
//!         Ok((content.into(), self.0.digest(content)))
//!     }
//!
//!     fn anchor(&self, _: Lean) -> Result<Option<Anchor>, HistoryError> {
//!         Ok(None)
//!     }
//! }
//!
//! let texts = Texts(pool, ["hello", "hello again"]);
//! let version = |recorded: usize| {
//!     let content = texts.1[recorded].as_bytes();
//!     let state = State::Present {
//!         content: texts.0.digest(content).into(),
//!         length: content.len() as u64,
//!         metadata: Metadata::default(),
//!     };
//!     Version { recorded: recorded as i64, state, origin: Origin::default() }
//! };
//! let versions = vec![version(0), version(1)];
//! let file = Unsealed { item, path: path.clone(), versions, anchor: None };
//! objects.put("one", &seal(1, &key, &[3; 32], 3, vec![file], &texts)?.object.bytes)?;
//!
//! let partition = Partition::open(objects, "one", &key)?;
//! let found = partition.at(item, &path, 0)?.ok_or("it was there")?;
//! let frame = found.frame.ok_or("with a content")?;
//! assert_eq!(partition.content(frame)?, b"hello");
//! # Ok(())
//! # }
//! ```

mod bases;
mod bytes;
mod commitment;
mod edits;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod likeness;
mod lines;
mod objects;
mod partition;
mod version;

pub use commitment::{Commitment, Committer, Leaf};
pub use error::HistoryError;
pub use frame::{Chain, LARGEST_CONTENT, pack, unpack};
pub use keys::{DataKey, Pool, RowSeal, SEAL};
pub use objects::{Directory, Objects};
pub use partition::{
    Anchor, Contents, Found, Keep, Lean, Leaned, Leaning, Object, Opened, Partition, Sealed,
    SealedFile, Unsealed, Verified, roll, seal,
};
pub use version::{
    Attribution, ContentDigest, ContentId, FilePath, Item, LONGEST_PATH, Metadata, Micros, Origin,
    PathKey, State, Version,
};
