//! Changes: everything that alters the cloud, from when it is found until it is verified.
//!
//! ```text
//! Change:  found ─► proving ─► proven ──────────────────────────────────────────► closed
//!                                 │ for each tenant
//! Share:                          └► planned ─► notified ─► approved ─► … ─► verified
//!                                       ▲           ▲           ▲
//!                                   Plan (hash)   Dates     permit(plan, consents, keys, now)
//! ```
//!
//! Each is a pure function of a state, an event and the time, and answers with the next state and
//! with effects as data. Nothing here starts anything: [`Effect::Start`] carries a [`Permit`], and
//! [`permit`] alone makes one, from a [`Plan`] and from what was signed over exactly this plan's
//! hash ([`Statement`], [`StandingRule`]) by keys of the tenant's [`KeyRing`].
//!
//! What is verified outside comes in as [`Verified`]: signatures are checked where envelopes are
//! known. What is resolved outside comes in as [`Dates`](crate::sla::Dates): waits and calendars are the SLA's. The time
//! is that of a clock which does not jump: a wall clock set ten years ahead must end no lead time.

pub mod alteration;
mod canonical;
mod consent;
mod digest;
mod file;
mod keyring;
mod lifecycle;
mod permit;
mod plan;
mod share;
mod signed;
mod standing;
mod text;

#[cfg(test)]
mod tests;

pub use canonical::NotCanonical;
pub use consent::{
    Acceptance, CLOCK_TOLERANCE, Decision, Heard, LONGEST_RISK, NotHeard, PASSKEY_TOLERANCE,
    Statement,
};
pub(crate) use digest::hex;
pub use digest::{FileHash, InvalidDigest, KeyId, LayoutHash, Nonce, PlanHash};
pub use file::{Access, Account, FileChange, FileState, Intended, InvalidFile, Mode};
pub use keyring::{
    Ended, Key, KeyEffect, KeyEvent, KeyKind, KeyOrder, KeyRefusal, KeyRing, MOST_KEYS, NewKey,
    NotInForce, Order, RECOVERY_WAIT, Recovery,
};
pub use lifecycle::{
    Change, ChangeEffect, ChangeEvent, ChangeRefusal, Kind, Proven, Stage as ChangeStage,
};
pub(crate) use permit::consented;
pub use permit::{
    Basis, Case, Countersign, Lack, Lacks, PROVIDER_APPROVERS, Permit, Terms, permit,
};
pub use plan::{
    Action, Disruption, Draft, ExactPackage, InvalidPlan, Item, LARGEST_PLAN, NoSuccessor, Plan,
    Rollback, Stage, Window, is_restartable,
};
pub use share::{
    Context, Effect, Event, Kept, Notice, Outcome, Phase, Refusal, Share, Shortfall, Sight,
};
pub use signed::{InvalidPayload, LONGEST_PAYLOAD, Payload, Verified};
pub use standing::{NotCovered, Scope, Standing, StandingRule, WeeklyWindow};
pub use text::{InvalidReason, Reason};
