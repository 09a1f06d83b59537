//! The agent: tells its control plane what its host has installed and what runs there.
//!
//! ```text
//! join:  token ─► key made here ─► signing request ─► certificate
//! run:   look ─► report (digests) ─► what is asked for: difference or whole set, facts ─► sleep
//! order: bundle ─► opened with pinned keys ─► judged ─► carried out, or back ─► result
//! ```
//!
//! The key never leaves the host. Whom to believe came with the token, so no other authority can
//! speak for the control plane. A report's number is durable before it is sent: it rises for ever.

mod client;
mod command;
pub mod execute;
mod look;
pub mod orders;
mod state;

pub use client::{AgentError, join, run};
pub use command::{AgentArgs, main};
pub use state::{Identity, State};
