//! Releases: how a change goes out over a fleet, wave by wave, without taking more of it away at a
//! time than anybody agreed to.
//!
//! ```text
//! Fleet, Order(profile, caps, windows, freezes) ─► plan ─► Layout ─► Plans, one for each tenant
//!                                                            │            │ consent
//!                                                            ▼            ▼
//!                       Report, Health, Command, Tick ─► Run::step ◄── Permit
//!                                                            │
//!                     Start, Drain, Reboot, Verify, RollBack, Hold, WaveDone, ReleaseDone
//! ```
//!
//! It is one engine for patches and alterations: what is done to an item is a [`Content`], which the
//! engine never looks into. [`plan`] decides who has its turn when, and freezes the content;
//! [`Run`] decides whether it is safe now. Both ask the same limits:
//!
//! - at most [`Caps::max_unavailable`] items out at a time, and [`DOMAIN_PERCENT`] of an update
//!   domain, though always one;
//! - never two zones together;
//! - each [`Service`] keeps its members; an item that failed or is silent is out until it works again;
//! - an item goes after what it depends on, and back before it;
//! - a hypervisor is empty before it restarts, and what runs on it is not altered meanwhile.
//!
//! Nothing starts without a [`Permit`](crate::change::Permit) for its tenant's plan: an effect that
//! starts something carries a [`Warrant`], which only a permit becomes.

mod budget;
mod fleet;
mod layout;
mod planner;
mod profile;
mod run;
mod schedule;
mod seats;
mod terrain;
mod waiting;

#[cfg(test)]
mod tests;

pub use budget::DOMAIN_PERCENT;
pub use fleet::{
    Amount, Caps, Condition, Content, Fleet, Freeze, Mobility, Order, Reboot, Service, Target,
    Windows, Work,
};
pub use layout::{InvalidLayout, Layout, NoLayout, StepKind, Turn, Unplaced, Wave};
pub use planner::plan;
pub use profile::{Canary, Gate, InvalidPercent, OnFailure, Percent, Profile, ProfileError, Step};
pub use run::{
    Command, Effect, End, Event, Fault, Health, Job, Kept, Mode, Phase, Refusal, Report, Run, Skip,
    Tally, Vacated, Warrant,
};
pub use terrain::InvalidFleet;
pub use waiting::{Hold, Waiting};
