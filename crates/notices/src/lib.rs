//! Draft.
pub mod content;
pub mod sample;
