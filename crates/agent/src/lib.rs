//! The agent: tells its control plane what its host has installed and what runs there, and carries out
//! orders that hold.
//!
//! ```text
//! join:  token ─► key made here ─► signing request ─► certificate ─► pins
//! run:   look ─► report (digests) ─► what is asked for: difference or whole set, facts, files, orders ─► sleep
//! order: bundle ─► opened with pinned keys ─► judged ─► carried out, or back ─► result
//! ```
//!
//! The key never leaves the host. Whom to believe came with the token, so no other authority can
//! speak for the control plane. A report's number is durable before it is sent: it rises for ever.

mod client;
mod command;
pub mod configuration;
pub mod execute;
mod look;
mod names;
pub mod orders;
mod pin;
mod plane;
mod round;
mod show;
mod state;

pub use client::{AgentError, Settings, join, run};
pub use command::{AgentArgs, main};
pub use pin::{Pinned, pin};
pub use plane::ControlPlane;
pub use round::{Next, Round};
pub use state::{Identity, State};
