//! Notices: what is to be written, what was written, and how it fares on each channel.
//!
//! ```text
//! tidings ─(written)─► notice ─► delivery on each channel ─► waiting ─► delivered
//!                         │                                      └────► given up (dead letter)
//!                         └─► given: with the first delivery, or at once where no channel is
//! ```
//!
//! A notice of a plan is given when the first of the tenant's channels has it: then, not before, its
//! lead time begins. What no channel takes stays with the provider, loudly.

use std::collections::BTreeMap;

use domain::change::{Notice, PlanHash};
use domain::cloud::{ChangeId, ChannelId, EventKind, NoticeId, TenantId, words};
use domain::obligation::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::load::{self, must_see};
use super::{Outcome, advance};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::tenants;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// Most channels of a tenant.
const MOST_CHANNELS: i64 = 20;

words! {
    /// What a channel is.
    ChannelKind {
        /// Mail to an address.
        Mail = "mail",
        /// A request to a URL.
        Webhook = "webhook",
    }
}

words! {
    /// How a delivery stands.
    DeliveryState {
        /// It is tried, or tried again.
        Waiting = "waiting",
        /// The receiver has it.
        Delivered = "delivered",
        /// It was given up.
        GivenUp = "given_up",
    }
}

/// Where a tenant is told beside the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Whose.
    pub tenant: TenantId,
    /// What it is.
    pub kind: ChannelKind,
    /// An address of mail, or a URL.
    pub address: String,
    /// Its secret, sealed for its id; never for readers.
    #[serde(skip)]
    pub sealed: Option<Vec<u8>>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

/// A channel that is to be.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// Its id, for which its secret is sealed.
    pub id: ChannelId,
    /// What it is.
    pub kind: ChannelKind,
    /// An address of mail, or a URL.
    pub address: String,
    /// Its secret, sealed.
    pub sealed: Option<Vec<u8>>,
}

/// Something that a tenant is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// About which change.
    pub change: ChangeId,
    /// Which tenant.
    pub tenant: TenantId,
    /// What.
    pub what: Notice,
    /// About which plan.
    pub plan: PlanHash,
    /// Since when.
    pub created_at: Timestamp,
    version: i64,
    place: i64,
}

/// A notice as it was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its id, which stands in it.
    pub id: NoticeId,
    /// What kind it is: `planned`, `emergency`, `started`, …
    pub kind: String,
    /// How many notices of this change came before it.
    pub sequence: u32,
    /// `patchwright.notice/1` in JSON.
    pub document: String,
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// Its id.
    pub id: NoticeId,
    /// For whom.
    pub tenant: TenantId,
    /// About which change.
    pub change: ChangeId,
    /// About which plan.
    pub plan: PlanHash,
    /// What kind it is.
    pub kind: String,
    /// How many notices of this change came before it.
    pub sequence: i64,
    /// `patchwright.notice/1` in JSON.
    pub document: String,
    /// When it was published.
    pub created_at: Timestamp,
    /// When the tenant had it.
    pub given_at: Option<Timestamp>,
    /// Who says that they read it.
    pub acknowledged_by: Option<String>,
    /// When.
    pub acknowledged_at: Option<Timestamp>,
}

/// Which notices are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoticeFilter {
    /// For one tenant.
    pub tenant: Option<TenantId>,
    /// About one change.
    pub change: Option<ChangeId>,
    /// Only those that nobody says to have read.
    pub unread: bool,
}

/// How a channel fared so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// When it last took a notice.
    pub delivered_at: Option<Timestamp>,
    /// When a notice for it was last given up.
    pub given_up_at: Option<Timestamp>,
    /// How many notices for it were given up.
    pub given_up: u64,
    /// How many are tried again.
    pub retried: u64,
}

/// That a tenant was told something of a change before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What kind of notice it was.
    pub kind: String,
    /// About which plan.
    pub plan: PlanHash,
    /// When.
    pub at: Timestamp,
}

/// A notice on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The notice.
    pub notice: NoticeId,
    /// The channel.
    pub channel: ChannelId,
    /// What the channel is.
    pub kind: ChannelKind,
    /// Its address.
    pub address: String,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// What was answered the last time.
    pub answer: Option<String>,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
}

/// A delivery to be tried now.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// The notice.
    pub notice: NoticeRow,
    /// The channel, with its sealed secret.
    pub channel: Channel,
    /// How often it was tried.
    pub attempts: u32,
}

/// How a try went.
#[derive(Debug, Clone)]
pub enum Tried {
    /// The receiver has it.
    Delivered {
        /// What it said.
        answer: String,
    },
    /// Not yet.
    Failed {
        /// Why.
        answer: String,
        /// When it is tried again.
        again: Timestamp,
    },
    /// It is of no use to try again.
    GivenUp {
        /// Why.
        answer: String,
    },
}

macro_rules! notice_columns {
    ($rest:literal) => {
        concat!(
            "SELECT notices.id AS id, notices.tenant_id AS tenant_id, change_id, plan_hash,
                    notices.kind AS kind, sequence, document, notices.created_at AS created_at,
                    given_at, acknowledged_by, acknowledged_at ",
            $rest
        )
    };
}

macro_rules! channel_columns {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, kind, address, secret, created_by, created_at, ended_at
             FROM channels ",
            $rest
        )
    };
}

pub(super) async fn tidings(pool: &AnyPool, at_most: u16) -> Result<Vec<Tidings>, StoreError> {
    let rows = sqlx::query(
        "SELECT change_id, tenant_id, version, place, what, plan_hash, created_at FROM tidings
         ORDER BY created_at, change_id, tenant_id, version, place LIMIT $1",
    )
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Tidings {
                change: parsed(row, "change_id")?,
                tenant: parsed(row, "tenant_id")?,
                what: load::json(row, "what")?,
                plan: parsed(row, "plan_hash")?,
                created_at: time(row, "created_at")?,
                version: get(row, "version")?,
                place: get(row, "place")?,
            })
        })
        .collect()
}

pub(super) async fn publish(
    tx: &mut Tx<'_>,
    tidings: &Tidings,
    written: &Written,
) -> Result<bool, StoreError> {
    let Tidings { change, tenant, .. } = *tidings;
    let taken = sqlx::query(
        "DELETE FROM tidings
         WHERE change_id = $1 AND tenant_id = $2 AND version = $3 AND place = $4",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(tidings.version)
    .bind(tidings.place)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if taken == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO notices (id, tenant_id, change_id, plan_hash, kind, sequence, document,
                              created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(written.id.to_string())
    .bind(tenant.to_string())
    .bind(change.to_string())
    .bind(tidings.plan.to_string())
    .bind(written.kind.as_str())
    .bind(i64::from(written.sequence))
    .bind(written.document.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    let payload = json!({
        "change": change, "plan": tidings.plan, "kind": written.kind,
        "sequence": written.sequence, "document": written.document,
    });
    record_of(tx, EventKind::NoticePublished, tenant, written.id, payload);
    let channels = of_tenant(&mut *tx.connection, tenant).await?;
    for channel in &channels {
        sqlx::query(
            "INSERT INTO deliveries (notice_id, channel_id, tenant_id, state, attempts, next_at)
             VALUES ($1, $2, $3, 'waiting', 0, $4)",
        )
        .bind(written.id.to_string())
        .bind(channel.id.to_string())
        .bind(tenant.to_string())
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    }
    if channels.is_empty() {
        let row = notice(&mut *tx.connection, None, written.id).await?;
        given(tx, &row, "console").await?;
    }
    Ok(true)
}

/// The tenant has a notice: of a plan, its lead time begins.
async fn given(tx: &mut Tx<'_>, notice: &NoticeRow, on: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE notices SET given_at = $1 WHERE id = $2 AND given_at IS NULL")
        .bind(tx.now.as_microsecond())
        .bind(notice.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    record_of(tx, EventKind::NoticeGiven, notice.tenant, notice.id, json!({ "on": on }));
    let loaded = load::held(tx, notice.change, notice.tenant).await?;
    let awaits = loaded.obligation.share().is_some_and(|share| {
        share.plan().hash() == notice.plan && share.phase() == domain::change::Phase::Planned
    });
    if awaits && matches!(&*notice.kind, "planned" | "emergency") {
        let event = Event::Notified { plan: notice.plan, written_at: notice.created_at };
        // Refused where another plan took its place meanwhile; that is recorded.
        let _: Outcome<_> = advance::take(tx, &Actor::System, &loaded, event).await?;
    }
    Ok(())
}

pub(super) async fn due(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<DueDelivery>, StoreError> {
    let rows = sqlx::query(notice_columns!(
        ", channel_id, attempts FROM deliveries JOIN notices ON notices.id = notice_id
         WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at LIMIT $2"
    ))
    .bind(now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    let mut connection = pool.acquire().await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        let channel = channel(&mut connection, parsed(row, "channel_id")?).await?;
        let attempts = u32::try_from(get::<i64>(row, "attempts")?).unwrap_or(u32::MAX);
        due.push(DueDelivery { notice: read_notice(row)?, channel, attempts });
    }
    Ok(due)
}

pub(super) async fn next(pool: &AnyPool) -> Result<Option<Timestamp>, StoreError> {
    let row = sqlx::query(
        "SELECT next_at FROM deliveries WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1",
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| time(&row, "next_at")).transpose()
}

pub(super) async fn record(
    tx: &mut Tx<'_>,
    notice_id: NoticeId,
    channel_id: ChannelId,
    tried: &Tried,
) -> Result<(), StoreError> {
    let (state, answer, next_at, kind) = match tried {
        Tried::Delivered { answer } => {
            (DeliveryState::Delivered, answer, None, Some(EventKind::NoticeDelivered))
        }
        Tried::Failed { answer, again } => (DeliveryState::Waiting, answer, Some(*again), None),
        Tried::GivenUp { answer } => {
            (DeliveryState::GivenUp, answer, None, Some(EventKind::NoticeUndeliverable))
        }
    };
    let altered = sqlx::query(
        "UPDATE deliveries SET state = $1, attempts = attempts + 1, next_at = $2, answer = $3,
             ended_at = $4
         WHERE notice_id = $5 AND channel_id = $6 AND state = 'waiting'",
    )
    .bind(state.as_str())
    .bind(next_at.map(Timestamp::as_microsecond))
    .bind(answer.as_str())
    .bind(kind.map(|_| tx.now.as_microsecond()))
    .bind(notice_id.to_string())
    .bind(channel_id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    // Another process was faster, or the channel was ended.
    if altered == 0 {
        return Ok(());
    }
    let row = notice(&mut *tx.connection, None, notice_id).await?;
    if let Some(kind) = kind {
        let payload = json!({ "channel": channel_id, "answer": answer });
        record_of(tx, kind, row.tenant, notice_id, payload);
    }
    if state == DeliveryState::Delivered && row.given_at.is_none() {
        given(tx, &row, &channel_id.to_string()).await?;
    }
    Ok(())
}

pub(super) async fn retry(
    tx: &mut Tx<'_>,
    by: &Actor,
    notice_id: NoticeId,
    channel_id: ChannelId,
) -> Result<Delivery, StoreError> {
    notice(&mut *tx.connection, by.scope(), notice_id).await?;
    if channel(&mut *tx.connection, channel_id).await?.ended_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the channel was ended".to_owned(),
            help: "add a channel; later notices go there",
        });
    }
    sqlx::query(
        "UPDATE deliveries SET state = 'waiting', next_at = $1, ended_at = NULL
         WHERE notice_id = $2 AND channel_id = $3 AND state = 'given_up'",
    )
    .bind(tx.now.as_microsecond())
    .bind(notice_id.to_string())
    .bind(channel_id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let all = deliveries_of(&mut *tx.connection, notice_id).await?;
    let found = all.into_iter().find(|delivery| delivery.channel == channel_id);
    found.ok_or_else(|| StoreError::not_found("delivery", &channel_id))
}

pub(super) async fn notice(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: NoticeId,
) -> Result<NoticeRow, StoreError> {
    let (low, high) = range(scope);
    let row =
        sqlx::query(notice_columns!("FROM notices WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
            .bind(id.to_string())
            .bind(low)
            .bind(high)
            .fetch_optional(connection)
            .await?;
    read_notice(&row.ok_or_else(|| StoreError::not_found("notice", &id))?)
}

pub(super) async fn notices(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &NoticeFilter,
    page: &PageRequest,
) -> Result<Page<NoticeRow>, StoreError> {
    let ((low, high), (own_low, own_high)) = (range(scope), range(filter.tenant));
    let (from, until) = filter
        .change
        .map_or((String::new(), "zzzz".to_owned()), |id| (id.to_string(), id.to_string()));
    let (_, after) = page.place();
    let before = if after.is_empty() { "zzzz" } else { after };
    let rows = sqlx::query(notice_columns!(
        "FROM notices WHERE id < $1 AND tenant_id BETWEEN $2 AND $3
             AND tenant_id BETWEEN $4 AND $5 AND change_id BETWEEN $6 AND $7
             AND (CASE WHEN acknowledged_at IS NULL THEN 0 ELSE 1 END) <= $8
         ORDER BY id DESC LIMIT $9"
    ))
    .bind(before)
    .bind(low)
    .bind(high)
    .bind(own_low)
    .bind(own_high)
    .bind(from)
    .bind(until)
    .bind(i64::from(!filter.unread))
    .bind(page.fetched())
    .fetch_all(pool)
    .await?;
    let items = rows.iter().map(read_notice).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut(items, |notice| Cursor::new(notice.tenant, notice.id)))
}

pub(super) async fn count_unread(pool: &AnyPool, tenant: TenantId) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM notices WHERE tenant_id = $1 AND acknowledged_at IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_one(pool)
    .await?;
    Ok(get::<i64>(&row, "total")?.unsigned_abs())
}

/// In the order in which it was told.
pub(super) async fn told(
    pool: &AnyPool,
    change: ChangeId,
    tenant: TenantId,
) -> Result<Vec<Told>, StoreError> {
    let rows = sqlx::query(
        "SELECT kind, plan_hash, created_at FROM notices
         WHERE change_id = $1 AND tenant_id = $2 ORDER BY created_at, sequence",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Told {
                kind: get(row, "kind")?,
                plan: parsed(row, "plan_hash")?,
                at: time(row, "created_at")?,
            })
        })
        .collect()
}

pub(super) async fn deliveries(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: NoticeId,
) -> Result<Vec<Delivery>, StoreError> {
    let mut connection = pool.acquire().await?;
    notice(&mut connection, scope, id).await?;
    deliveries_of(&mut connection, id).await
}

pub(super) async fn deliveries_of_all(
    pool: &AnyPool,
    scope: Option<TenantId>,
    ids: &[NoticeId],
) -> Result<BTreeMap<NoticeId, Vec<Delivery>>, StoreError> {
    let mut connection = pool.acquire().await?;
    let mut all = BTreeMap::new();
    for &id in ids {
        notice(&mut connection, scope, id).await?;
        all.insert(id, deliveries_of(&mut connection, id).await?);
    }
    Ok(all)
}

async fn deliveries_of(
    connection: &mut AnyConnection,
    id: NoticeId,
) -> Result<Vec<Delivery>, StoreError> {
    let rows = sqlx::query(
        "SELECT notice_id, channel_id, kind, address, state, attempts, next_at, answer,
                deliveries.ended_at AS ended_at
         FROM deliveries JOIN channels ON channels.id = channel_id
         WHERE notice_id = $1 ORDER BY channel_id",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Delivery {
                notice: parsed(row, "notice_id")?,
                channel: parsed(row, "channel_id")?,
                kind: parsed(row, "kind")?,
                address: get(row, "address")?,
                state: parsed(row, "state")?,
                attempts: get(row, "attempts")?,
                next_at: time_or_none(row, "next_at")?,
                answer: get(row, "answer")?,
                ended_at: time_or_none(row, "ended_at")?,
            })
        })
        .collect()
}

pub(super) async fn acknowledge(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: NoticeId,
) -> Result<NoticeRow, StoreError> {
    let before = notice(&mut *tx.connection, by.scope(), id).await?;
    if by.tenant() != before.tenant {
        return Err(StoreError::Refused {
            reason: "the notice is for somebody else".to_owned(),
            help: "somebody of the tenant says that they read it",
        });
    }
    if before.acknowledged_at.is_some() {
        return Ok(before);
    }
    sqlx::query("UPDATE notices SET acknowledged_by = $1, acknowledged_at = $2 WHERE id = $3")
        .bind(by.id())
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    tx.record(NewEvent {
        tenant: before.tenant,
        kind: EventKind::NoticeAcknowledged,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        payload: json!({ "change": before.change }),
    });
    let loaded = load::held(tx, before.change, before.tenant).await?;
    let is_current = |share: &domain::change::Share| {
        share.plan().hash() == before.plan && share.notified_at().is_some()
    };
    if loaded.obligation.share().is_some_and(is_current) {
        let _: Outcome<_> = advance::take(tx, by, &loaded, Event::Acknowledged).await?;
    }
    notice(&mut *tx.connection, by.scope(), id).await
}

pub(super) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    new: &NewChannel,
) -> Result<Channel, StoreError> {
    must_see(by, tenant)?;
    tenants::must_exist(tx, by, tenant).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM channels WHERE tenant_id = $1 AND ended_at IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "total")? >= MOST_CHANNELS {
        return Err(StoreError::Refused {
            reason: format!("there are {MOST_CHANNELS} channels already"),
            help: "end one that nobody needs",
        });
    }
    sqlx::query(
        "INSERT INTO channels (id, tenant_id, kind, address, secret, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(new.id.to_string())
    .bind(tenant.to_string())
    .bind(new.kind.as_str())
    .bind(new.address.as_str())
    .bind(new.sealed.clone())
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("channel", &new.id))?;
    let created = channel(&mut *tx.connection, new.id).await?;
    record_channel(tx, by, EventKind::ChannelCreated, &created);
    Ok(created)
}

pub(super) async fn end(tx: &mut Tx<'_>, by: &Actor, id: ChannelId) -> Result<Channel, StoreError> {
    let before = channel(&mut *tx.connection, id).await?;
    if must_see(by, before.tenant).is_err() {
        return Err(StoreError::not_found("channel", &id));
    }
    if before.ended_at.is_some() {
        return Ok(before);
    }
    sqlx::query("UPDATE channels SET ended_at = $1, secret = NULL WHERE id = $2")
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let rows =
        sqlx::query("SELECT notice_id FROM deliveries WHERE channel_id = $1 AND state = 'waiting'")
            .bind(id.to_string())
            .fetch_all(&mut *tx.connection)
            .await?;
    for row in &rows {
        let tried = Tried::GivenUp { answer: "the channel was ended".to_owned() };
        record(tx, parsed(row, "notice_id")?, id, &tried).await?;
    }
    let ended = channel(&mut *tx.connection, id).await?;
    record_channel(tx, by, EventKind::ChannelEnded, &ended);
    Ok(ended)
}

pub(super) async fn of_tenant(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<Vec<Channel>, StoreError> {
    let rows =
        sqlx::query(channel_columns!("WHERE tenant_id = $1 AND ended_at IS NULL ORDER BY id"))
            .bind(tenant.to_string())
            .fetch_all(connection)
            .await?;
    rows.iter().map(read_channel).collect()
}

pub(super) async fn records(
    pool: &AnyPool,
    tenant: TenantId,
) -> Result<BTreeMap<ChannelId, ChannelRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT channel_id, MAX(CASE WHEN state = 'delivered' THEN ended_at END) AS delivered_at,
                MAX(CASE WHEN state = 'given_up' THEN ended_at END) AS given_up_at,
                COUNT(CASE WHEN state = 'given_up' THEN 1 END) AS given_up,
                COUNT(CASE WHEN state = 'waiting' AND attempts > 0 THEN 1 END) AS retried
         FROM notices JOIN deliveries ON notice_id = notices.id
         WHERE notices.tenant_id = $1 GROUP BY channel_id",
    )
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let record = ChannelRecord {
                delivered_at: time_or_none(row, "delivered_at")?,
                given_up_at: time_or_none(row, "given_up_at")?,
                given_up: get::<i64>(row, "given_up")?.unsigned_abs(),
                retried: get::<i64>(row, "retried")?.unsigned_abs(),
            };
            Ok((parsed(row, "channel_id")?, record))
        })
        .collect()
}

async fn channel(connection: &mut AnyConnection, id: ChannelId) -> Result<Channel, StoreError> {
    let row = sqlx::query(channel_columns!("WHERE id = $1"))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    read_channel(&row.ok_or_else(|| StoreError::not_found("channel", &id))?)
}

fn record_of(
    tx: &mut Tx<'_>,
    kind: EventKind,
    tenant: TenantId,
    notice: NoticeId,
    payload: serde_json::Value,
) {
    let (by, object) = (Actor::System, notice.to_string());
    tx.record(NewEvent { tenant, kind, by, object, version: 1, payload });
}

fn record_channel(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, channel: &Channel) {
    tx.record(NewEvent {
        tenant: channel.tenant,
        kind,
        by: by.clone(),
        object: channel.id.to_string(),
        version: 1,
        payload: json!({ "kind": channel.kind, "address": channel.address }),
    });
}

fn read_notice(row: &AnyRow) -> Result<NoticeRow, StoreError> {
    Ok(NoticeRow {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        change: parsed(row, "change_id")?,
        plan: parsed(row, "plan_hash")?,
        kind: get(row, "kind")?,
        sequence: get(row, "sequence")?,
        document: get(row, "document")?,
        created_at: time(row, "created_at")?,
        given_at: time_or_none(row, "given_at")?,
        acknowledged_by: get(row, "acknowledged_by")?,
        acknowledged_at: time_or_none(row, "acknowledged_at")?,
    })
}

fn read_channel(row: &AnyRow) -> Result<Channel, StoreError> {
    Ok(Channel {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        kind: parsed(row, "kind")?,
        address: get(row, "address")?,
        sealed: get(row, "secret")?,
        created_by: get(row, "created_by")?,
        created_at: time(row, "created_at")?,
        ended_at: time_or_none(row, "ended_at")?,
    })
}
