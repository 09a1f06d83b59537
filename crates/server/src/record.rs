//! What an entry of the ledger commits to, and the names under which it does.

use ledger::Commitment;
use serde::Serialize;
use serde_json::value::RawValue;
use store::{Event, Key};

/// Names for the ledger, which everybody may read: the same for the same thing, and telling nothing
/// about it to whoever does not hold the key.
pub(crate) struct Pseudonyms(Key);

impl Pseudonyms {
    pub(crate) fn new(key: Key) -> Self {
        Self(key)
    }

    /// `usr_01h…` becomes `usr_5f1c…`; what is no id, as `system`, stays.
    pub(crate) fn of(&self, id: &str) -> String {
        match id.split_once('_') {
            Some((kind, _)) => {
                let hash = blake3::keyed_hash(&self.0, id.as_bytes()).to_hex();
                format!("{kind}_{}", &hash[..32])
            }
            None => id.to_owned(),
        }
    }
}

/// The record of an event: the bytes that its entry commits to.
#[derive(Serialize)]
struct Record<'a> {
    id: String,
    tenant: String,
    at: jiff::Timestamp,
    kind: &'a str,
    actor: &'a str,
    role: &'a str,
    object: &'a str,
    version: i64,
    payload: &'a RawValue,
}

/// An event as the bytes that its entry commits to.
///
/// # Errors
/// If its payload is not JSON.
pub(crate) fn record(event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Record {
        id: event.id.to_string(),
        tenant: event.tenant.to_string(),
        at: event.at,
        kind: event.kind.as_str(),
        actor: &event.actor,
        role: &event.role,
        object: &event.object,
        version: event.version,
        payload: serde_json::from_slice(&event.payload)?,
    })
}

/// The commitment to an event's record.
pub(crate) fn commitment(event: &Event) -> Result<Commitment, serde_json::Error> {
    Ok(Commitment::new("event", &event.salt, &record(event)?))
}
