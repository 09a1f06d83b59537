//! Matching: package sets × advisories → what is missing, incremental both ways.
//!
//! Whether an advisory concerns a package depends on the package's version alone, so all
//! knowledge about one package of one release lies in one *lane*: its advisories sorted by the
//! byte key of the fixed version. The advisories that a version lacks are then a suffix of the
//! lane, found by one binary search; the few with several ranges, an `introduced` bound or no fix
//! are judged one by one.
//!
//! The same lanes answer two questions:
//!
//! - [`Index`]: what does this one system lack? Each match names the installed package, the
//!   advisory and the version that fixes it.
//! - [`Fleet`]: how exposed are a million VMs, and whom does a new advisory concern? Systems with
//!   the same packages share one content-addressed [`PackageSet`], and sets share *cells* (one
//!   version in one lane), so that work grows with what differs and not with what exists.
//!
//! Rules that keep answers true, each with a test: source packages match by the source's version,
//! never by that of a binary built from it; a release never meets another release's advisories; a
//! withdrawn advisory matches nothing; a fix made for an rpm module stream says nothing about
//! packages outside streams; what has no fix is told apart from what lacks one.
//!
//! Names and versions come from foreign systems, hence maps with keyed hashing (no collisions can
//! be prepared) and no work that grows faster than *n* log *n* with one record's size.

mod advised;
mod ecosystem;
mod fleet;
mod index;
mod lane;
mod missing;
mod rows;
mod set;

pub use ecosystem::ecosystems_of;
pub use fleet::{AdvisoryId, Exposed, Fleet, TenantId, UnknownSet, VmId};
pub use index::{Index, Match};
pub use missing::Missing;
pub use set::{PackageSet, SetDigest};
