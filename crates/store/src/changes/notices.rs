//! Notices: what is to be written, what was written, and when the tenant had it.
//!
//! ```text
//! tidings ─(written)─► notice ─► a delivery on each channel
//!                         └─► given: with the first delivery on a channel of the tenant's own, or in
//!                             the console, at once, where it has none
//! ```
//!
//! A notice of a plan is given when the first of the tenant's own channels has it: then, not before,
//! its lead time begins. What none of these takes stays with the provider, loudly.

use std::collections::BTreeMap;

use domain::change::{Notice, PlanHash};
use domain::cloud::{ChangeId, CiId, EventKind, NoticeId, TenantId};
use domain::obligation::Event;
use domain::sla::{Errand, Moment};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::load::Loaded;
use super::{Outcome, advance, channels, deliveries, load};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, parsed_unless_empty, time, time_or_none};
use crate::writer::Tx;

/// Where a notice is given that goes to no channel.
const CONSOLE: &str = "console";

/// The word for a reminder among tidings, beside those of the domain's notices.
const REMINDER: &str = "\"reminder\"";

/// A reminder's place among what one step told: behind all of it.
const BEHIND: i64 = 1 << 20;

/// The kind of the notices that tell disputes.
const DISPUTED: &str = "disputed";

/// How long a tenant is left alone after a notice of a dispute about the same change.
const APART: SignedDuration = SignedDuration::from_hours(1);

/// What a tenant is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What a step of its part of a change brings with it.
    Step(Notice),
    /// That what it was told is near, if it still is by then.
    Reminder,
    /// That one of its systems contradicts what was ordered there, or what is said of it.
    Dispute(Dispute),
}

/// A system that contradicts what was ordered there, or of which something is said that is not so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispute {
    /// Which.
    pub item: CiId,
    /// What contradicts what, as a sentence about it: `refused an order: …`.
    pub because: String,
}

/// Something that a tenant is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// About which change.
    pub change: ChangeId,
    /// Which tenant.
    pub tenant: TenantId,
    /// What.
    pub what: Subject,
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
    /// When it is looked whether the tenant is to be reminded.
    pub remind_at: Option<Timestamp>,
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRow {
    /// Its id.
    pub id: NoticeId,
    /// For whom.
    pub tenant: TenantId,
    /// About which change; one of clocks is about none alone.
    pub change: Option<ChangeId>,
    /// About which plan.
    pub plan: Option<PlanHash>,
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
pub(super) use notice_columns;

/// What is to be written, the oldest first. Where something of a change is left alone for a while,
/// what the same tenant is to be told of it later waits behind it; a reminder's time is its own.
pub(super) async fn tidings(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<Tidings>, StoreError> {
    let rows = sqlx::query(
        "SELECT change_id, tenant_id, version, place, what, plan_hash, created_at FROM tidings
         WHERE NOT EXISTS (
             SELECT 1 FROM tidings AS held
             WHERE held.change_id = tidings.change_id AND held.tenant_id = tidings.tenant_id
                 AND held.held_until > $1 AND held.what <> $3)
             AND held_until <= $1 AND created_at <= $1
         ORDER BY created_at, change_id, tenant_id, version, place LIMIT $2",
    )
    .bind(now.as_microsecond())
    .bind(i64::from(at_most))
    .bind(REMINDER)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let what: String = get(row, "what")?;
            Ok(Tidings {
                change: parsed(row, "change_id")?,
                tenant: parsed(row, "tenant_id")?,
                what: match &*what {
                    REMINDER => Subject::Reminder,
                    json if json.starts_with('{') => Subject::Dispute(load::json(row, "what")?),
                    _ => Subject::Step(load::json(row, "what")?),
                },
                plan: parsed(row, "plan_hash")?,
                created_at: time(row, "created_at")?,
                version: get(row, "version")?,
                place: get(row, "place")?,
            })
        })
        .collect()
}

/// Leaves what cannot be written alone until then.
pub(super) async fn postpone(
    tx: &mut Tx<'_>,
    tidings: &Tidings,
    until: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE tidings SET held_until = $1
         WHERE change_id = $2 AND tenant_id = $3 AND version = $4 AND place = $5",
    )
    .bind(until.as_microsecond())
    .bind(tidings.change.to_string())
    .bind(tidings.tenant.to_string())
    .bind(tidings.version)
    .bind(tidings.place)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

pub(super) async fn publish(
    tx: &mut Tx<'_>,
    tidings: &Tidings,
    written: &Written,
) -> Result<bool, StoreError> {
    if !take(tx, tidings).await? {
        return Ok(false);
    }
    let about = Some((tidings.change, tidings.plan));
    keep(tx, tidings.tenant, about, written).await?;
    if let Some(at) = written.remind_at {
        remind(tx, tidings, at).await?;
    }
    Ok(true)
}

/// Keeps what was written and puts it on its reader's channels. Where none is the reader's own, it is
/// given now. One that is about a plan of a change says which.
pub(super) async fn keep(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    about: Option<(ChangeId, PlanHash)>,
    written: &Written,
) -> Result<(), StoreError> {
    let (change, plan) = about.unzip();
    let or_none = |text: Option<String>| text.unwrap_or_default();
    sqlx::query(
        "INSERT INTO notices (id, tenant_id, change_id, plan_hash, kind, sequence, document,
                              created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(written.id.to_string())
    .bind(tenant.to_string())
    .bind(or_none(change.map(|it| it.to_string())))
    .bind(or_none(plan.map(|it| it.to_string())))
    .bind(written.kind.as_str())
    .bind(i64::from(written.sequence))
    .bind(written.document.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    let payload = json!({
        "change": change, "plan": plan, "kind": written.kind,
        "sequence": written.sequence, "document": written.document,
    });
    record(tx, EventKind::NoticePublished, tenant, written.id, payload);
    let mut reaches_them = false;
    for channel in channels::of_tenant(&mut *tx.connection, tenant).await? {
        let is_put = deliveries::put(tx, written.id, tenant, channel.id).await?;
        reaches_them |= is_put && channel.is_own;
    }
    if !reaches_them {
        let row = notice(&mut *tx.connection, None, written.id).await?;
        given(tx, &row, CONSOLE).await?;
    }
    Ok(())
}

/// Has it looked at a time whether the tenant is to be reminded of what it is told now.
async fn remind(tx: &mut Tx<'_>, tidings: &Tidings, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tidings (change_id, tenant_id, version, place, what, plan_hash, created_at,
                              held_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING",
    )
    .bind(tidings.change.to_string())
    .bind(tidings.tenant.to_string())
    .bind(tidings.version)
    .bind(tidings.place.saturating_add(BEHIND))
    .bind(REMINDER)
    .bind(tidings.plan.to_string())
    .bind(at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Has a tenant told of a dispute. One of a change waits at a time, and an hour lies between two: a fleet
/// that refuses is one message, and each refusal is in the record.
pub(crate) async fn dispute(
    tx: &mut Tx<'_>,
    (change, plan): (ChangeId, PlanHash),
    tenant: TenantId,
    dispute: &Dispute,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT MAX(created_at) AS last FROM notices
         WHERE change_id = $1 AND tenant_id = $2 AND kind = $3",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(DISPUTED)
    .fetch_one(&mut *tx.connection)
    .await?;
    let last = time_or_none(&row, "last")?;
    let at = last.map_or(tx.now, |last| tx.now.max(last + APART));
    // No step of a tenant's part is its version 0.
    sqlx::query(
        "INSERT INTO tidings (change_id, tenant_id, version, place, what, plan_hash, created_at,
                              held_until)
         VALUES ($1, $2, 0, $3, $4, $5, $6, 0) ON CONFLICT DO NOTHING",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(BEHIND)
    .bind(load::text(dispute)?)
    .bind(plan.to_string())
    .bind(at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Takes tidings out; false where another process was faster.
pub(super) async fn take(tx: &mut Tx<'_>, tidings: &Tidings) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "DELETE FROM tidings
         WHERE change_id = $1 AND tenant_id = $2 AND version = $3 AND place = $4",
    )
    .bind(tidings.change.to_string())
    .bind(tidings.tenant.to_string())
    .bind(tidings.version)
    .bind(tidings.place)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    Ok(taken > 0)
}

/// Gives in the console what is on no channel of a tenant's own any more. What such a channel refused
/// and that is still there waits for somebody to try it again.
pub(super) async fn give_on_console(tx: &mut Tx<'_>, tenant: TenantId) -> Result<(), StoreError> {
    let rows = sqlx::query(notice_columns!(
        "FROM notices WHERE tenant_id = $1 AND given_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM deliveries JOIN channels ON channels.id = deliveries.channel_id
             WHERE deliveries.notice_id = notices.id AND channels.is_own = 1
                 AND channels.ended_at IS NULL)
         ORDER BY notices.id"
    ))
    .bind(tenant.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in rows.iter().map(read).collect::<Result<Vec<_>, _>>()? {
        given(tx, &row, CONSOLE).await?;
    }
    Ok(())
}

/// The tenant has a notice: of a plan, its lead time begins.
pub(super) async fn given(tx: &mut Tx<'_>, notice: &NoticeRow, on: &str) -> Result<(), StoreError> {
    // Held first: both know the same instant.
    let loaded = match notice.change {
        Some(change) if notice.plan.is_some() => Some(load::held(tx, change, notice.tenant).await?),
        _ => None,
    };
    sqlx::query("UPDATE notices SET given_at = $1 WHERE id = $2 AND given_at IS NULL")
        .bind(tx.now.as_microsecond())
        .bind(notice.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    record(tx, EventKind::NoticeGiven, notice.tenant, notice.id, json!({ "on": on }));
    let (Some(loaded), Some(plan)) = (loaded, notice.plan) else { return Ok(()) };
    let awaits = loaded.obligation.share().is_some_and(|share| {
        share.plan().hash() == plan && share.phase() == domain::change::Phase::Planned
    });
    if awaits && matches!(&*notice.kind, "planned" | "emergency") {
        let event = Event::Notified { plan, written_at: notice.created_at };
        // Refused where another plan took its place meanwhile; that is recorded.
        let _: Outcome<_> = advance::take(tx, &Actor::System, &loaded, event).await?;
    } else if let Some(at) = done_told(tx, &loaded).await? {
        advance::take(tx, &Actor::System, &loaded, Event::DoneTold { at }).await?;
    }
    Ok(())
}

/// When the tenant had the notice of how it ended, where its obligation does not know that yet.
pub(super) async fn done_told(
    tx: &mut Tx<'_>,
    loaded: &Loaded,
) -> Result<Option<Timestamp>, StoreError> {
    let Loaded { obligation, policy, .. } = loaded;
    let owed = obligation.case(policy).owed();
    if !owed.iter().any(|owed| owed.errand == Errand::DoneNotice && owed.is_open()) {
        return Ok(None);
    }
    let instants = obligation.instants();
    let since = instants.at(Moment::Installed).or(instants.at(Moment::Verified));
    let row = sqlx::query(
        "SELECT MIN(given_at) AS given_at FROM notices
         WHERE change_id = $1 AND tenant_id = $2 AND kind IN ('completed', 'failed')
             AND given_at IS NOT NULL AND created_at >= $3",
    )
    .bind(obligation.change().to_string())
    .bind(obligation.tenant().to_string())
    .bind(since.unwrap_or(tx.now).as_microsecond())
    .fetch_one(&mut *tx.connection)
    .await?;
    time_or_none(&row, "given_at")
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
    read(&row.ok_or_else(|| StoreError::not_found("notice", &id))?)
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
    let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
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

/// How the changes from an id on stand for a tenant.
pub(super) async fn courses(
    pool: &AnyPool,
    tenant: TenantId,
    from: ChangeId,
) -> Result<BTreeMap<ChangeId, (String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT change_id, phase, version FROM obligations
         WHERE tenant_id = $1 AND change_id >= $2",
    )
    .bind(tenant.to_string())
    .bind(from.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let version = get::<i64>(row, "version")?.unsigned_abs();
            Ok((parsed(row, "change_id")?, (get(row, "phase")?, version)))
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
    if let (Some(change), Some(plan)) = (before.change, before.plan) {
        let loaded = load::held(tx, change, before.tenant).await?;
        let is_current = |share: &domain::change::Share| {
            share.plan().hash() == plan && share.notified_at().is_some()
        };
        if loaded.obligation.share().is_some_and(is_current) {
            let _: Outcome<_> = advance::take(tx, by, &loaded, Event::Acknowledged).await?;
        }
    }
    notice(&mut *tx.connection, by.scope(), id).await
}

pub(super) fn record(
    tx: &mut Tx<'_>,
    kind: EventKind,
    tenant: TenantId,
    notice: NoticeId,
    payload: serde_json::Value,
) {
    let (by, object) = (Actor::System, notice.to_string());
    tx.record(NewEvent { tenant, kind, by, object, version: 1, payload });
}

pub(super) fn read(row: &AnyRow) -> Result<NoticeRow, StoreError> {
    Ok(NoticeRow {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        change: parsed_unless_empty(row, "change_id")?,
        plan: parsed_unless_empty(row, "plan_hash")?,
        kind: get(row, "kind")?,
        sequence: get(row, "sequence")?,
        document: get(row, "document")?,
        created_at: time(row, "created_at")?,
        given_at: time_or_none(row, "given_at")?,
        acknowledged_by: get(row, "acknowledged_by")?,
        acknowledged_at: time_or_none(row, "acknowledged_at")?,
    })
}
