//! What the SLA says of one change for one tenant, with all waits turned into instants.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::sla::Approval;

/// The SLA's dates for one change and one tenant (X.1642 8.7.2; R17, R21, R22).
///
/// They are resolved outside, from the tenant's policy, its calendars and the notice, and recorded
/// with the notice: nothing here knows of days or zones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dates {
    /// Whether the tenant has to agree, and what its silence means.
    pub approval: Approval,
    /// When the lead time of the notice is over. `None` where there is no notice before: nothing
    /// starts then, unless the approval is [`Approval::NotNeeded`].
    pub earliest_start: Option<Timestamp>,
    /// Until when the tenant is to answer. `None` where it is not asked, or is given no end.
    pub answer_by: Option<Timestamp>,
    /// The first instant that is too late for the change to be verified.
    pub due: Timestamp,
    /// How often the tenant may still defer.
    pub deferrals_left: u8,
    /// How far a deferral may reach, from when it is received.
    pub longest_deferral: SignedDuration,
}
