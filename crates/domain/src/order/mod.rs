//! Orders: what a provider may tell an agent to do, and what the agent asks before it does it.
//!
//! ```text
//!  provider: Order ─► payload ─► signed (DSSE) ─┐
//!  tenant:   Statement, StandingRule (signed) ──┼─► Carried ─► verify ─► Accepted, next Trusted
//!  plan:     its published bytes ───────────────┘                  │
//!  pinned at joining: Trusted        owner's file: Policy          └─► Refusal
//! ```
//!
//! An agent does not trust the control plane that it talks to. Whoever holds the provider's order key,
//! and the whole server with it, still cannot have done what no plan says, what the tenant did not
//! agree to where it has to, anything older than what is there, or the same thing twice: what decides
//! stands in [`Trusted`], which was pinned when the host joined, in the tenant's signature, and in the
//! [`Policy`] that the host's owner wrote. Whether a package is its vendor's is asked where archives are
//! known. An order names an [`Action`](crate::change::Action); there is no "run this command".
//!
//! [`verify`] is a pure function, as the rule that it asks
//! ([`permit`](crate::change::permit())) is; envelopes are opened outside, and come in as
//! [`Verified`](crate::change::Verified). State is kept by whoever calls, after everything held and
//! before anything is done.

mod bundle;
mod policy;
mod refusal;
mod result;
mod said;
mod trusted;
mod verify;
mod versions;

#[cfg(test)]
mod tests;

pub use bundle::{Bundle, LARGEST_CONTENT};
pub(crate) use policy::matches;
pub use policy::{
    ConfigurationRules, FileRules, Freeze, Hours, InvalidPolicy, PackageRules, PathPattern,
    Permission, Policy,
};
pub use refusal::{Forbidden, Refusal};
pub use result::{
    ActionOutcome, Downtime, Ended, ExecutionId, OrderResult, ProbeOutcome, WrittenFile,
};
pub use said::{Handover, LONGEST_LIFE, Order};
pub(crate) use trusted::MOST_ORDER_KEYS;
pub use trusted::{Demand, NoHandover, Pins, Ranking, Terms, Trusted};
pub use verify::{Accepted, Carried, Local, verify};
pub use versions::Versions;
