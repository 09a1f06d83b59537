//! Proving a patch: what its installation did to a real system, judged from pictures.
//!
//! ```text
//! picture before ─┐
//! picture after ──┼─► judge ─► Verdict: security, adaptability, way back, each with its reasons
//! after reboot ───┘       └──► Impact: what a tenant will notice, measured
//! ```
//!
//! X.1642 8.7.1(1) asks for tests of "security and adaptability". Each rule here finds reasons
//! *against* a patch; no reason found, in a proof that went all its way, is a pass. A picture that
//! is missing or incomplete is a reason of its own: what was not seen is never taken for good.

mod impact;
mod judge;
mod picture;
mod reason;

pub use impact::{Downtime, Impact, Reboot, RebootCause};
pub use judge::{Claim, Evidence, Expectation, Installation, Patched, WayBackEvidence, judge};
pub use picture::{
    Filesystem, Listener, Picture, ProbeOutcome, Protocol, SpecialPath, SpecialWhy, Unit,
    UnitEvent, UnitStep,
};
pub use reason::{Difference, Reason, Side, Verdict, WayBack};
