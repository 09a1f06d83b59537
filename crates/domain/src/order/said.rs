//! What the provider signs.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::change::{Action, KeyId, Nonce, Payload, PlanHash, Window};
use crate::cloud::{AgentId, CiId};
use crate::priority::Priority;

/// How long an order may count. A server that keeps one back has this long to show it.
pub const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What one agent is to do in one stage of a plan.
///
/// It repeats what the plan says, so that whoever reads the record of an agent needs nothing else;
/// where it says anything else than the plan, it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Who is to do it: one key on one host.
    pub agent: AgentId,
    /// On which item.
    pub ci: CiId,
    /// By which plan.
    pub plan: PlanHash,
    /// In which of its stages, counted from 1.
    pub stage: u32,
    /// The stage's window.
    pub window: Window,
    /// What, in this order.
    pub actions: Vec<Action>,
    /// How urgent the provider says it is; whether that is believed is pinned ([`Ranking`](super::Ranking)).
    pub priority: Priority,
    /// Rises with each order to this agent; below 2⁵³.
    pub sequence: u64,
    /// When it was signed, by the provider's clock.
    pub issued_at: Timestamp,
    /// The first instant at which it counts no more; at most [`LONGEST_LIFE`] later.
    pub expires: Timestamp,
    /// Different in each order.
    pub nonce: Nonce,
}

/// About the plan, as a consent is.
impl Payload for Order {
    const KIND: &'static str = "urn:patchwright:order:v1";

    fn subject(&self) -> (String, [u8; 32]) {
        (self.ci.to_string(), *self.plan.as_bytes())
    }
}

/// The provider's order keys are others from now on. One of those before them signs it, as the root
/// role of The Update Framework is handed over (TUF 1.0.34, 5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// One more than that of the keys before.
    pub version: u64,
    /// All keys that count from now on.
    pub keys: BTreeSet<KeyId>,
}

/// About the first of the keys.
impl Payload for Handover {
    const KIND: &'static str = "urn:patchwright:order-keys:v1";

    fn subject(&self) -> (String, [u8; 32]) {
        let first = self.keys.first().map_or([0; 32], |key| *key.as_bytes());
        ("order keys".to_owned(), first)
    }
}
