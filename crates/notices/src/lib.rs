//! Draft.
pub mod content;
mod message;
pub mod sample;
pub use content::Notice;
pub use message::{DigestError, ENGLISH, Message, TemplateError, Templates};
