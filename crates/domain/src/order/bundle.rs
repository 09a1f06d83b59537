//! An order and all that an agent needs to judge it, as it travels.

use serde::{Deserialize, Serialize};

use crate::change::KeyId;

/// Largest content of a file that an order writes or replaces, in bytes.
pub const LARGEST_CONTENT: usize = 1 << 20;

/// What a control plane hands to an agent. Nothing in it is believed for having come: envelopes count by
/// the keys that are pinned, a public key by its hash, which is its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The envelope of an [`Order`](super::Order): DSSE in JSON.
    pub order: String,
    /// The plan's published bytes.
    pub plan: String,
    /// Envelopes of the tenant's statements: DSSE, or a passkey's.
    #[serde(default)]
    pub consents: Vec<String>,
    /// Envelopes of the tenant's standing rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Public keys in PEM that the envelopes are signed with.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// Envelopes of what the tenant ordered about its keys since the host joined, in their order.
    #[serde(default)]
    pub key_orders: Vec<String>,
    /// Keys that the tenant took back. That needs no signature: it only makes less happen.
    #[serde(default)]
    pub revoked: Vec<KeyId>,
    /// Envelopes of each [`Handover`](super::Handover) since the host joined, in their order.
    #[serde(default)]
    pub handovers: Vec<String>,
    /// Contents of the files that the order writes, in base64. Each counts by its SHA-256 alone, which the
    /// plan names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<String>,
}
