//! Draft.
pub mod content;
mod event;
mod feed;
mod message;
pub mod sample;
pub use content::Notice;
pub use event::{CloudEvent, LARGEST_EVENT};
pub use feed::{Feed, Stranger};
pub use message::{DigestError, ENGLISH, Message, TemplateError, Templates};
