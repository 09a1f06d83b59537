//! Who read whose records: told in the ledger before the records leave.
//!
//! A record of access is an upper bound: *from this place on, for an hour, this person reads what this
//! tenant has in the ledger*. What is read within that is not told again, so that neither pages nor
//! somebody who follows the events fill the ledger; what lies before it is. Records of access
//! themselves may be read without a new one, so that the ledger never grows by being looked at alone.

use std::collections::BTreeMap;

use domain::cloud::{EventId, EventKind, Id, ImageId, PROVIDER, Side, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::{Event, NewEvent};
use crate::images::Image;
use crate::value::get;

/// For how long a record of access holds.
pub(crate) const TOLD_ONCE: SignedDuration = SignedDuration::from_hours(1);

/// In which form records are read, which says whom that must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retrieval {
    /// As a list, a stream or a page: told where the provider's people read a tenant's.
    Events,
    /// With the proof of one: always told.
    Proof,
    /// Record by record, as evidence to be kept: always told.
    Records,
}

impl Retrieval {
    const fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Proof => "proof",
            Self::Records => "records",
        }
    }

    fn must_be_told(self, by: &Actor, tenant: TenantId) -> bool {
        let Actor::Person { role, .. } = by else { return false };
        match self {
            Self::Events => role.side() == Side::Provider && tenant != PROVIDER,
            Self::Proof | Self::Records => true,
        }
    }
}

/// How far an access reaches.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    tenant: TenantId,
    /// The tenant's version, for the event: it is what is read of.
    version: i64,
    from: u64,
    /// The last of the tenant's places there is now.
    to: u64,
    /// How many of the tenant's there are between the two.
    count: u64,
}

/// To whom reading these events must be told, and from which place on each.
pub(crate) fn concerned(
    by: &Actor,
    retrieval: Retrieval,
    events: &[Event],
) -> BTreeMap<TenantId, u64> {
    let mut concerned = BTreeMap::new();
    for event in events {
        let Some(place) = event.sequence else { continue };
        if event.kind != EventKind::RecordsRetrieved && retrieval.must_be_told(by, event.tenant) {
            concerned.entry(event.tenant).or_insert(place);
        }
    }
    concerned
}

/// Whether a record of access since then covers it.
pub(crate) async fn is_told(
    pool: &AnyPool,
    by: &Actor,
    retrieval: Retrieval,
    tenant: TenantId,
    from: u64,
    since: Timestamp,
) -> Result<bool, StoreError> {
    // Ids of events sort by time, and this index has them by object.
    let first: EventId = Id::new(since, [0; 10]);
    let rows = sqlx::query(
        "SELECT payload FROM events
         WHERE object = $1 AND id >= $2 AND kind = $3 AND actor = $4 AND at > $5",
    )
    .bind(tenant.to_string())
    .bind(first.to_string())
    .bind(EventKind::RecordsRetrieved.as_str())
    .bind(by.id())
    .bind(since.as_microsecond())
    .fetch_all(pool)
    .await?;
    for row in &rows {
        let payload: Vec<u8> = get(row, "payload")?;
        let told: Value = serde_json::from_slice(&payload)
            .map_err(|error| StoreError::Corrupt { what: format!("record of access: {error}") })?;
        let covers = told["from"].as_u64().is_some_and(|told| told <= from);
        if covers && told["what"] == retrieval.word() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a record since then says that somebody has the bytes of an image.
pub(crate) async fn is_content_told(
    pool: &AnyPool,
    by: &Actor,
    image: ImageId,
    since: Timestamp,
) -> Result<bool, StoreError> {
    let first: EventId = Id::new(since, [0; 10]);
    let row = sqlx::query(
        "SELECT 1 FROM events
         WHERE object = $1 AND id >= $2 AND kind = $3 AND actor = $4 AND at > $5 LIMIT 1",
    )
    .bind(image.to_string())
    .bind(first.to_string())
    .bind(EventKind::RecordsRetrieved.as_str())
    .bind(by.id())
    .bind(since.as_microsecond())
    .fetch_optional(pool)
    .await?;
    Ok(row.is_some())
}

/// The record that somebody has the bytes of an image.
pub(crate) fn content_told(by: &Actor, image: &Image, now: Timestamp) -> NewEvent {
    NewEvent {
        tenant: image.tenant,
        kind: EventKind::RecordsRetrieved,
        by: by.clone(),
        object: image.id.to_string(),
        version: image.version,
        payload: json!({
            "what": "image", "sha256": image.content.sha256, "size": image.content.size,
            "until": now + TOLD_ONCE,
        }),
    }
}

/// How far reading a tenant's records from a place on reaches now.
pub(crate) async fn reach(
    pool: &AnyPool,
    tenant: TenantId,
    from: u64,
) -> Result<Reach, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS total, MAX(sequence) AS last,
             (SELECT version FROM tenants WHERE id = $1) AS version
         FROM events WHERE tenant_id = $1 AND sequence >= $2",
    )
    .bind(tenant.to_string())
    .bind(i64::try_from(from).unwrap_or(i64::MAX))
    .fetch_one(pool)
    .await?;
    let last: Option<i64> = get(&row, "last")?;
    let version: Option<i64> = get(&row, "version")?;
    Ok(Reach {
        tenant,
        version: version.unwrap_or(1),
        from,
        to: last.map_or(from, i64::unsigned_abs),
        count: get::<i64>(&row, "total")?.unsigned_abs(),
    })
}

/// The record of an access.
pub(crate) fn told(by: &Actor, retrieval: Retrieval, reach: &Reach, now: Timestamp) -> NewEvent {
    NewEvent {
        tenant: reach.tenant,
        kind: EventKind::RecordsRetrieved,
        by: by.clone(),
        object: reach.tenant.to_string(),
        version: reach.version,
        payload: json!({
            "what": retrieval.word(), "from": reach.from, "to": reach.to, "count": reach.count,
            "until": now + TOLD_ONCE,
        }),
    }
}
