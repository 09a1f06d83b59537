//! A fleet's systems over time: what each has installed, what it lacks, and since when.
//!
//! ```text
//! system ─► PackageSet ─► (check) ─► Report ─► missing ─┐
//!                             findings known so far ────┴─► reconcile ─► Step (opened, fixed …)
//! ```
//!
//! Systems with the same packages and the same preferences share one [`PackageSet`] and so one
//! check: work grows with what differs, not with what exists.

mod delta;
mod finding;
mod set;

pub use delta::{BrokenDelta, SetDelta};
pub use finding::{
    FindingState, KnownFinding, MissingPatch, Step, has_patch, missing_patches, reconcile,
};
pub use set::{InvalidDigest, PackageSet, SetDigest, VersionChoice};
