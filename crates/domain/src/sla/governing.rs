//! Which version of a policy governs: the one in force when the patch was collected.

use jiff::Timestamp;

use super::Policy;

/// A version of a tenant's policy, and since when it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// From then on, until the next.
    pub since: Timestamp,
    /// The version.
    pub policy: Policy,
}

/// The version that governs a patch, whatever is agreed later. `None` where it was collected
/// before any was in force.
pub fn governing(versions: &[InForce], collected: Timestamp) -> Option<&Policy> {
    versions
        .iter()
        .filter(|version| version.since <= collected)
        // Of two from one instant, the one that was recorded later.
        .max_by_key(|version| version.since)
        .map(|version| &version.policy)
}
