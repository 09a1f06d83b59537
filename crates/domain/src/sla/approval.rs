//! Whether a tenant has to agree before its items are altered, and what its silence means.

use serde::{Deserialize, Serialize};

/// What a policy asks of the tenant before a change of one priority (X.1642 8.7.2, R22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Approval {
    /// The tenant has to say yes.
    Required {
        /// What it means when the tenant says nothing in the time it has.
        silence: Silence,
    },
    /// The tenant is told, and the change may start once the lead time of the notice is over.
    Notice,
    /// Nothing is asked; the tenant is told as it happens.
    NotNeeded,
}

/// What a tenant's silence means once the time to answer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Nothing: the change waits, and the tenant holds the ball.
    Waits,
    /// The change is deemed approved.
    Approves,
}
