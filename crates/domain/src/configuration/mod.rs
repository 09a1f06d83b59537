//! Configuration of systems: what of it may leave a host, what differs between two versions of a file, what
//! an alteration is held to be, and what files set.
//!
//! ```text
//! bytes on a host ─► secret::redact ─► text without secrets ─► history
//!                                            │
//!              before, after ─► mask, diff ──┼─► verdict::judge(alteration, knowledge, now) ─► Verdict
//!                                            └─► parameter::read ─► sshd.PermitRootLogin=no
//! ```
//!
//! What is in force is held against [`baseline`]s, [`audit`]ed, and [`search`]ed.
//!
//! Pure rules, as all of this crate: files come in as bytes, time as an argument. What is not understood is
//! said to be unknown.

pub mod audit;
pub mod baseline;
pub mod blame;
pub mod break_glass;
pub mod diff;
pub mod document;
pub mod flapping;
pub mod login;
pub mod mask;
pub mod parameter;
pub mod search;
pub mod secret;
pub mod verdict;
