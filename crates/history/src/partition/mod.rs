//! A partition: all that one tenant's items had recorded in a span of time, sealed into one object.

pub(crate) mod block;
mod builder;
mod encoder;
pub(crate) mod layout;
mod opened;
mod reader;
mod verify;
mod writer;

pub use block::Found;
pub use builder::{Contents, Sealed, SealedFile, Unsealed, seal};
pub use encoder::Anchor;
pub use layout::Lean;
pub use opened::Opened;
pub use reader::{Leaning, Partition, roll};
pub use verify::{Keep, Leaned, Verified};
pub use writer::Object;
