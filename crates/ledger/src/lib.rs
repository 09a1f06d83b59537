//! The transparency log: what happened, in an order that nobody can change unnoticed.
//!
//! Provider and tenants keep a cloud patched together, and both want to prove later who did what,
//! when. So each event becomes an entry of a Merkle tree, published as plain files (C2SP
//! tlog-tiles) under a signed checkpoint. Whoever kept one checkpoint can tell whether anything
//! before it was changed, removed or reordered since, with this room or with other people's tools.
//!
//! The data's way through it:
//!
//! ```text
//! event ─► Envelope ─► Log::integrate ─► tiles, bundles ─► Log::publish ─► checkpoint
//!            (database's order)             (Storage)                          │
//!                                                     witness::Witness ◄───────┤ cosignatures
//!                                                     Receipt          ◄───────┤ offline proof
//!                                                     verify::verify   ◄───────┘ all of it, again
//! ```
//!
//! - [`Envelope`] is one event as canonical JSON; what is private or erasable stays outside, bound
//!   by a [`Commitment`].
//! - [`Log`] grows a log in a [`Storage`] such as a [`Directory`], and never signs a tree that does
//!   not continue the one published before.
//! - [`SignedCheckpoint`] becomes a [`TrustedCheckpoint`] only by a [`Policy`]: the log's keys and,
//!   where asked for, a quorum of witnesses.
//! - [`mirror`] copies a log and lets the copy grow with it, for whoever does not want to take anybody's
//!   word later.
//! - [`witness`] cosigns what continues all it saw, [`Tree`] reads entries and proofs, [`Receipt`]
//!   proves one entry offline, [`verify`] proves everything.
//!
//! No clock, no random number, no database and no network in here but for the command's (`cli`).
//!
//! ```
//! use ledger::verify::{Against, verify};
//! use ledger::{Directory, Envelope, KeyKind, Log, Policy, Signer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let key = Signer::new(KeyKind::Log, "cloud.example/audit", &[7; 32])?;
//! let trust = Policy::of_logs([key.verifier().clone()]);
//!
//! let event = |sequence, kind: &str| Envelope {
//!     sequence,
//!     at: "2026-03-01T08:00:00Z".parse().unwrap(),
//!     clock: "clk_a1".into(),
//!     actor: "usr_7".into(),
//!     role: "operator".into(),
//!     tenant: None,
//!     kind: kind.into(),
//!     object: "ci_42".into(),
//!     version: sequence + 1,
//!     commitments: Vec::new(),
//!     previous: None,
//! };
//! let entries = [event(0, "ci.created").to_canonical()?, event(1, "ci.patched").to_canonical()?];
//!
//! let mut log = Log::open(Directory::new(folder), "cloud.example/audit", vec![key])?;
//! log.integrate(0, &entries)?;
//! log.publish()?;
//! let receipt = log.receipt(1)?;
//!
//! // Anyone with the public key: the whole log, or one entry without the log.
//! let verified = verify(&Directory::new(folder), &Against::policy(&trust))?;
//! assert_eq!(verified.size, 2);
//! assert_eq!(receipt.verify(&entries[1], &trust)?.root(), verified.root);
//! # Ok(())
//! # }
//! ```

pub mod attestation;
mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
mod envelope;
mod hash;
mod keys;
mod layout;
mod log;
pub mod mirror;
pub mod passkey;
mod payloads;
mod policy;
mod receipt;
mod storage;
mod tree;
pub mod verify;
pub mod witness;

pub use checkpoint::{Checkpoint, SignedCheckpoint, TrustedCheckpoint};
pub use envelope::{Commitment, Envelope};
pub use hash::Hash;
pub use keys::{KeyKind, Signer, VerifierKey};
pub use log::{Log, keep_answers};
pub use mirror::Mirror;
pub use payloads::PayloadDirectory;
pub use policy::Policy;
pub use receipt::Receipt;
pub use storage::{Directory, DirectoryLock, ReadStorage, Storage};
pub use tree::Tree;

/// Each refusal by its name.
pub mod errors {
    pub use crate::checkpoint::CheckpointError;
    pub use crate::envelope::EnvelopeError;
    pub use crate::hash::NotAHash;
    pub use crate::keys::KeyError;
    pub use crate::log::LogError;
    pub use crate::mirror::MirrorError;
    pub use crate::policy::{PolicyError, PolicyProblem, Shortfall};
    pub use crate::receipt::ReceiptError;
    pub use crate::storage::StorageError;
    pub use crate::tree::TreeError;
    pub use crate::verify::VerifyError;
    pub use crate::witness::Refusal;
}
