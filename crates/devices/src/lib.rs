//! Network and security devices, looked at over SSH: what each is configured by, without its secrets.
//!
//! ```text
//! Target ─► sign in, its host key pinned ─► Session (pure) ─► lines ─► redact ─► Document
//!               │                             ▲    │
//!             bytes ──────────────────────────┘    └─► what to send: commands, spaces for pagers
//! ```
//!
//! What differs between vendors is data: a [`Model`] says how a prompt looks, how paging is turned off, which
//! commands yield which documents, how an answer that is none begins and how a whole one ends. [`look`] asks
//! only what stands in the model; nothing that a device or a person says ever becomes a part of a command.
//!
//! Devices are hostile: all they send is bounded in bytes and in time, of control sequences only those that
//! move within a line have an effect, and a document leaves this crate without its secrets or not at all
//! ([`Document`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use devices::{Credential, HostKey, Limits, Model, Secret, Target};
//! use domain::configuration::secret::FingerprintKey;
//!
//! let target = Target {
//!     address: "192.0.2.7".to_owned(),
//!     port: 22,
//!     user: "observer".to_owned(),
//!     credential: Credential::Password(Secret::from("…".to_owned())),
//!     enable: None,
//!     host_key: HostKey::Pinned("SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8".parse()?),
//! };
//! let model = Model::named("ios").ok_or("there is no such model")?;
//! let seen = devices::look(model, &target, &Limits::default(), &FingerprintKey::from([7; 32])).await?;
//! for document in seen.documents {
//!     println!("{}:\n{}", document.path(), document.text());
//! }
//! # Ok(())
//! # }
//! ```

mod conversation;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod look;
mod model;
mod session;
mod target;
mod terminal;
#[cfg(test)]
mod tests;

pub use conversation::{Conversation, Heard};
pub use document::Document;
pub use error::LookError;
pub use look::{Limits, Look, Refused, look};
pub use model::Model;
pub use target::{Credential, HostKey, InvalidCredential, Secret, Target};
