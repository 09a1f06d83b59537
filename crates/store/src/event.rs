//! Events: what happened, kept in the commit in which it happened, then given a place in the
//! ledger.

use std::sync::{Mutex, PoisonError};

use domain::cloud::{EventId, EventKind, Id, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row};

use crate::actor::Actor;
use crate::database::values;
use crate::error::StoreError;
use crate::page::range;
use crate::several::Several;
use crate::value::{get, parsed, time};
use crate::writer::Tx;

/// An event in the making; its id, time and salt come with the commit.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) tenant: TenantId,
    pub(crate) kind: EventKind,
    pub(crate) by: Actor,
    pub(crate) object: String,
    pub(crate) version: i64,
    pub(crate) payload: serde_json::Value,
}

/// A recorded event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it was committed, to the microsecond.
    pub at: Timestamp,
    /// By which process's clock.
    pub clock: String,
    /// What happened.
    pub kind: EventKind,
    /// Who did it: a user's, token's or agent's id, or `system`.
    pub actor: String,
    /// As what.
    pub role: String,
    /// To what: an id.
    pub object: String,
    /// The object's version after it.
    pub version: i64,
    /// What exactly, as canonical bytes of JSON.
    pub payload: Vec<u8>,
    /// Salt of the commitment to the payload.
    pub salt: [u8; 32],
    /// Its place in the ledger, where it has one already.
    pub sequence: Option<u64>,
}

/// What [`read`] reads.
pub(crate) const COLUMN_NAMES: &str =
    "id, tenant_id, at, clock, kind, actor, role, object, object_version,
    payload, salt, sequence";

/// Rows of one statement, the most first: few different statements serve any number of events.
const ROWS: [usize; 3] = [64, 8, 1];

/// Columns of a row.
const COLUMNS: usize = 11;

/// Adds statements that keep events in their order.
pub(crate) fn insert(
    several: &mut Several,
    tx: &Tx<'_>,
    events: &[NewEvent],
) -> Result<(), StoreError> {
    let mut left = events;
    while let Some(rows) = ROWS.into_iter().find(|&rows| rows <= left.len()) {
        let (now, later) = left.split_at(rows);
        insert_rows(several, tx, now)?;
        left = later;
    }
    Ok(())
}

fn insert_rows(several: &mut Several, tx: &Tx<'_>, events: &[NewEvent]) -> Result<(), StoreError> {
    several.add(format!(
        "INSERT INTO events
         (id, tenant_id, at, clock, kind, actor, role, object, object_version, payload, salt)
         VALUES {}",
        values(events.len(), COLUMNS)
    ));
    for event in events {
        let id = tx.event_ids.next(tx.now, tx.random());
        let salt: [u8; 32] = tx.random();
        let payload = serde_json::to_vec(&event.payload)
            .map_err(|error| StoreError::Corrupt { what: format!("payload of {id}: {error}") })?;
        several.bind(id.to_string()).bind(event.tenant.to_string());
        several.bind(tx.now.as_microsecond()).bind(tx.event_ids.clock.as_str());
        several.bind(event.kind.as_str()).bind(event.by.id()).bind(event.by.role_word());
        several.bind(event.object.as_str()).bind(event.version);
        several.bind(payload.as_slice()).bind(salt);
    }
    Ok(())
}

/// Ids of events, in the order in which one process makes them, also within a millisecond and when
/// its clock steps back: an event never stands before its cause.
#[derive(Debug)]
pub(crate) struct EventIds {
    /// Names this process's clock in records.
    clock: String,
    /// The last millisecond, and how many ids it had.
    last: Mutex<(i64, u32)>,
}

impl EventIds {
    pub(crate) fn new(process: [u8; 4]) -> Self {
        Self { clock: format!("clk_{:08x}", u32::from_be_bytes(process)), last: Mutex::default() }
    }

    fn next(&self, now: Timestamp, mut random: [u8; 10]) -> EventId {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (millisecond, count) = *last;
        *last = if now.as_millisecond() > millisecond {
            (now.as_millisecond(), 0)
        } else {
            (millisecond, count + 1)
        };
        // RFC 9562 6.2, method 1: a counter ahead of the randomness. Of these bytes the UUID takes
        // 4, 8, 6 and 8 bits, the most significant first.
        let (millisecond, count) = *last;
        random[0] = (count >> 22 & 0x0f) as u8;
        random[1] = (count >> 14 & 0xff) as u8;
        random[2] = (count >> 8 & 0x3f) as u8;
        random[3] = (count & 0xff) as u8;
        Id::new(Timestamp::from_millisecond(millisecond).unwrap_or(now), random)
    }
}

/// Gives the events that wait their places, in the order of their ids, without a gap.
pub(crate) async fn sequence(tx: &mut Tx<'_>, at_most: i64) -> Result<u64, StoreError> {
    // Whoever sequences at the same time waits here, and then sees what was sequenced.
    sqlx::query("UPDATE ledger SET sequenced = sequenced").execute(&mut *tx.connection).await?;
    let given = sqlx::query(
        "UPDATE events SET sequence = place.sequence FROM (
             SELECT waiting.id, ledger.sequenced + ROW_NUMBER() OVER (ORDER BY waiting.id) - 1
                 AS sequence
             FROM (SELECT id FROM events WHERE sequence IS NULL ORDER BY id LIMIT $1) AS waiting,
                 ledger
         ) AS place
         WHERE events.id = place.id",
    )
    .bind(at_most)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    sqlx::query("UPDATE ledger SET sequenced = sequenced + $1")
        .bind(i64::try_from(given).unwrap_or(i64::MAX))
        .execute(&mut *tx.connection)
        .await?;
    Ok(given)
}

/// Whether an event waits for its place.
pub(crate) async fn is_waiting(pool: &AnyPool) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT id FROM events WHERE sequence IS NULL LIMIT 1")
        .fetch_optional(pool)
        .await?;
    Ok(row.is_some())
}

/// The events of a scope from a place in the ledger on, at most so many.
pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    from: u64,
    at_most: i64,
) -> Result<Vec<Event>, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(
        "SELECT id, tenant_id, at, clock, kind, actor, role, object, object_version, payload, salt, sequence
         FROM events WHERE sequence >= $1 AND tenant_id BETWEEN $2 AND $3
         ORDER BY sequence LIMIT $4",
    )
    .bind(i64::try_from(from).unwrap_or(i64::MAX))
    .bind(low)
    .bind(high)
    .bind(at_most)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// How many events there are, by tenant and kind.
pub(crate) async fn counts(pool: &AnyPool) -> Result<Vec<(TenantId, EventKind, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT tenant_id, kind, COUNT(*) AS total FROM events
         WHERE sequence IS NOT NULL GROUP BY tenant_id, kind ORDER BY tenant_id, kind",
    )
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let total: i64 = get(row, "total")?;
            Ok((parsed(row, "tenant_id")?, parsed(row, "kind")?, total.unsigned_abs()))
        })
        .collect()
}

pub(crate) fn read(row: &AnyRow) -> Result<Event, StoreError> {
    let id: EventId = parsed(row, "id")?;
    let salt: Vec<u8> = get(row, "salt")?;
    let salt =
        salt.try_into().map_err(|_| StoreError::Corrupt { what: format!("salt of {id}") })?;
    let sequence: Option<i64> = row.try_get("sequence")?;
    Ok(Event {
        id,
        tenant: parsed(row, "tenant_id")?,
        at: time(row, "at")?,
        clock: get(row, "clock")?,
        kind: parsed(row, "kind")?,
        actor: get(row, "actor")?,
        role: get(row, "role")?,
        object: get(row, "object")?,
        version: get(row, "object_version")?,
        payload: get(row, "payload")?,
        salt,
        sequence: sequence.map(i64::unsigned_abs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_process_never_go_back() {
        let ids = EventIds::new([0; 4]);
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        let instants = [1_000, 1_000, 999, 1_001, 5, 1_002];

        // Randomness that falls must not matter.
        let made: Vec<_> = (0_u8..)
            .zip(instants)
            .map(|(number, instant)| ids.next(at(instant), [255 - number; 10]))
            .collect();

        assert!(made.is_sorted(), "{made:?}");
    }

    #[test]
    fn a_millisecond_holds_millions() {
        let ids = EventIds::new([0; 4]);
        let made: Vec<_> = (0..70_000).map(|_| ids.next(Timestamp::UNIX_EPOCH, [7; 10])).collect();

        assert!(made.is_sorted_by(|a, b| a < b));
    }
}
