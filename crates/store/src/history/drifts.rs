//! Drifts: alterations that nobody agreed to, or nobody can explain, until somebody adopts them or they are gone.
//!
//! ```text
//! open ─┬─► adopted      somebody says that it may stay: it is in force from then on
//!       ├─► reverted     the file is as it was before
//!       └─► superseded   something that was agreed took its place
//! ```
//!
//! A file has one open drift at most; further alterations are counted with it. What stands open longer than the
//! tenant's policy says escalates once.

use ::history::{FilePath, PathKey};
use domain::change::Reason;
use domain::cloud::{ChangeId, CiId, DriftId, EventKind, TenantId, words};
use domain::configuration::verdict::{Approval, Judgement};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::History;
use super::alarms::{self, Grade};
use super::judge::{InForce, Judged, keep_judged, place};
use super::keys::TenantKeys;
use super::rows::bytes;
use crate::Store;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;

words! {
    /// What became of a file.
    Happening {
        /// It is new.
        Came = "came",
        /// It is another one.
        Altered = "altered",
        /// It is not there any more.
        Gone = "gone",
    }
}

words! {
    /// How a drift stands.
    DriftState {
        /// Nobody decided, and it is still so.
        Open = "open",
        /// It may stay.
        Adopted = "adopted",
        /// The file is as it was before.
        Reverted = "reverted",
        /// What was agreed took its place.
        Superseded = "superseded",
    }
}

/// An alteration that nobody agreed to, or nobody can explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Its id.
    pub id: DriftId,
    /// Whose item.
    pub tenant: TenantId,
    /// Which item.
    pub ci: CiId,
    /// What people call it.
    pub ci_name: String,
    /// Which file.
    pub path: FilePath,
    /// What the last alteration did.
    pub what: Happening,
    /// What it was held to be.
    pub judgement: Judgement,
    /// By whom it was, as the host told it.
    pub by: Option<String>,
    /// When the first alteration was recorded.
    pub since: Timestamp,
    /// When the last one was.
    pub recorded_at: Timestamp,
    /// How many there were.
    pub count: u32,
    /// How it stands.
    pub state: DriftState,
    /// When it escalates, where it is still to.
    pub escalates_at: Option<Timestamp>,
    /// When it did.
    pub escalated_at: Option<Timestamp>,
    /// The alteration that is to put it back.
    pub change: Option<ChangeId>,
    /// How it ended.
    pub settlement: Option<Settlement>,
}

/// How a drift ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// When.
    pub at: Timestamp,
    /// Who says so: a person, or `system` where it was seen.
    pub by: String,
    /// Why it may stay.
    pub reason: Option<String>,
}

/// What is kept sealed of a drift.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) path: String,
    pub(super) what: Happening,
    pub(super) judgement: Judgement,
    pub(super) by: Option<String>,
}

/// Which drifts are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DriftFilter {
    /// Of one tenant's items.
    pub tenant: Option<TenantId>,
    /// Of one item.
    pub ci: Option<CiId>,
    /// In one state.
    pub state: Option<DriftState>,
}

/// How many drifts stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriftCounts {
    /// Those that nobody agreed to.
    pub unauthorised: u64,
    /// Those that nobody can explain.
    pub unknown: u64,
    /// Those of both that escalated.
    pub escalated: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.tenant_id, d.ci_id, c.name AS ci_name, d.path_key, d.state, d.since,
                    d.recorded, d.alterations, d.escalate_at, d.escalated_at, d.settled_at,
                    d.settled_by, d.change_id, d.reason, d.sealed, h.sealed_key
             FROM drifts d JOIN cis c ON c.id = d.ci_id
             JOIN history_tenants h ON h.tenant_id = d.tenant_id ",
            $rest
        )
    };
}

impl History {
    /// A drift.
    pub async fn drift(&self, by: &Actor, id: DriftId) -> Result<Drift, StoreError> {
        self.find_drift(&mut *self.pool().acquire().await?, by, id).await
    }

    async fn find_drift(
        &self,
        connection: &mut AnyConnection,
        by: &Actor,
        id: DriftId,
    ) -> Result<Drift, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(select!("WHERE d.id = $1 AND d.tenant_id BETWEEN $2 AND $3"))
            .bind(id.to_string())
            .bind(low)
            .bind(high)
            .fetch_optional(connection)
            .await?
            .ok_or_else(|| StoreError::not_found("drift", &id))?;
        self.read_drift(&row)?.ok_or_else(|| StoreError::not_found("drift", &id))
    }

    /// Drifts, by tenant, then the oldest first.
    pub async fn drifts(
        &self,
        by: &Actor,
        filter: DriftFilter,
        page: &PageRequest,
    ) -> Result<Page<Drift>, StoreError> {
        let (low, high) = narrowed(by, filter.tenant);
        let (tenant, id) = page.place();
        let rows = sqlx::query(select!(
            "WHERE d.tenant_id BETWEEN $1 AND $2 AND (d.tenant_id, d.id) > ($3, $4)
             AND ($5 = '' OR d.ci_id = $5) AND ($6 = '' OR d.state = $6)
             ORDER BY d.tenant_id, d.id LIMIT $7"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant)
        .bind(id)
        .bind(filter.ci.map(|ci| ci.to_string()).unwrap_or_default())
        .bind(filter.state.map_or("", DriftState::as_str))
        .bind(page.fetched())
        .fetch_all(self.pool())
        .await?;
        let read = |row| self.read_drift(row).transpose();
        let drifts = rows.iter().filter_map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(drifts, |drift: &Drift| Cursor::new(drift.tenant, drift.id)))
    }

    /// How many are open, of those that the actor may see.
    pub async fn drift_counts(
        &self,
        by: &Actor,
        tenant: Option<TenantId>,
    ) -> Result<DriftCounts, StoreError> {
        let (low, high) = narrowed(by, tenant);
        let row = sqlx::query(
            "SELECT COUNT(CASE WHEN standing = 'unauthorised' THEN 1 END) AS unauthorised,
                    COUNT(CASE WHEN standing <> 'unauthorised' THEN 1 END) AS unknown,
                    COUNT(escalated_at) AS escalated
             FROM drifts WHERE state = 'open' AND tenant_id BETWEEN $1 AND $2",
        )
        .bind(low)
        .bind(high)
        .fetch_one(self.pool())
        .await?;
        let count = |column| get::<i64>(&row, column).map(i64::unsigned_abs);
        Ok(DriftCounts {
            unauthorised: count("unauthorised")?,
            unknown: count("unknown")?,
            escalated: count("escalated")?,
        })
    }

    /// `None` where the tenant's key was destroyed since.
    fn read_drift(&self, row: &AnyRow) -> Result<Option<Drift>, StoreError> {
        let tenant: TenantId = parsed(row, "tenant_id")?;
        let Some(sealed_key) = get::<Option<Vec<u8>>>(row, "sealed_key")? else { return Ok(None) };
        let keys = self.cache.tenant(&self.master, tenant, &sealed_key)?;
        let (ci, key) = (parsed(row, "ci_id")?, PathKey(bytes(row, "path_key")?));
        let sealed: Vec<u8> = get(row, "sealed")?;
        let Told { path, what, judgement, by } = keys.open(&place("drift", ci, key, 0), &sealed)?;
        let settlement = match time_or_none(row, "settled_at")? {
            None => None,
            Some(at) => {
                let by: Option<String> = get(row, "settled_by")?;
                let reason: Option<Vec<u8>> = get(row, "reason")?;
                let reason = reason
                    .map(|sealed| keys.open(&place("reason", ci, key, 0), &sealed))
                    .transpose()?;
                Some(Settlement { at, by: by.unwrap_or_default(), reason })
            }
        };
        let count: i64 = get(row, "alterations")?;
        Ok(Some(Drift {
            id: parsed(row, "id")?,
            tenant,
            ci,
            ci_name: get(row, "ci_name")?,
            path: FilePath::new(path)?,
            what,
            judgement,
            by,
            since: time(row, "since")?,
            recorded_at: time(row, "recorded")?,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            state: parsed(row, "state")?,
            escalates_at: time_or_none(row, "escalate_at")?,
            escalated_at: time_or_none(row, "escalated_at")?,
            change: parsed_or_none(row, "change_id")?,
            settlement,
        }))
    }

    /// Says that what a drift made of a file may stay: it is in force from then on.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it is not open, or the file was altered again since it was looked at.
    pub async fn adopt_drift(
        &self,
        by: &Actor,
        id: DriftId,
        seen: Timestamp,
        reason: Reason,
    ) -> Result<Drift, StoreError> {
        let drift = self.drift(by, id).await?;
        let asked = self.asked(by, drift.ci).await?;
        let keys = asked.keys.ok_or_else(|| StoreError::not_found("drift", &id))?;
        let key = keys.pool.path_key(&drift.path);
        let judged = self.judged(&keys, drift.ci, key).await?;
        let adoption = Adoption { by: by.clone(), drift, seen, reason, keys, key, judged };
        self.write((self.clone(), adoption), |tx, (history, adoption)| {
            Box::pin(async move {
                adopt(tx, adoption).await?;
                history.find_drift(&mut *tx.connection, &adoption.by, adoption.drift.id).await
            })
        })
        .await
    }
}

impl Store {
    /// How many drifts of an item were open at a time, of those that were recorded a minute before it or earlier: what
    /// came later may not have been judged by then.
    pub async fn drifts_open_at(
        &self,
        by: &Actor,
        ci: CiId,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT COUNT(*) AS drifts FROM drifts WHERE ci_id = $1 AND tenant_id BETWEEN $2 AND $3
             AND since <= $4 AND (settled_at IS NULL OR settled_at > $5)",
        )
        .bind(ci.to_string())
        .bind(low)
        .bind(high)
        .bind((at - SignedDuration::from_mins(1)).as_microsecond())
        .bind(at.as_microsecond())
        .fetch_one(&self.pool)
        .await?;
        Ok(get::<i64>(&row, "drifts")?.unsigned_abs())
    }

    /// Whether a drift stands open for longer than agreed and did not escalate.
    pub async fn has_drifts_to_escalate(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 AS one FROM drifts WHERE escalate_at <= $1 LIMIT 1")
            .bind(self.environment.now().as_microsecond())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Escalates drifts that stand open for longer than agreed; says how many.
    pub async fn escalate_drifts(&self, at_most: u16) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(escalate(tx, at_most))).await
    }
}

pub(super) fn narrowed(by: &Actor, tenant: Option<TenantId>) -> (String, String) {
    let (low, high) = range(by.scope());
    match tenant {
        None => (low, high),
        Some(tenant) => {
            let tenant = tenant.to_string();
            // Another's than the actor may see is an empty range.
            (low.max(tenant.clone()), high.min(tenant))
        }
    }
}

fn not_open() -> StoreError {
    StoreError::Refused {
        reason: "the drift is not open any more".to_owned(),
        help: "read it again: somebody decided, or the file is as it was",
    }
}

struct Adoption {
    by: Actor,
    drift: Drift,
    seen: Timestamp,
    reason: Reason,
    keys: std::sync::Arc<TenantKeys>,
    key: PathKey,
    judged: Option<Judged>,
}

async fn adopt(tx: &mut Tx<'_>, adoption: &Adoption) -> Result<(), StoreError> {
    let Adoption { by, drift, seen, reason, keys, key, judged } = adoption;
    // Whoever judges holds it too: nothing is altered between.
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    let row = sqlx::query("SELECT recorded FROM drifts WHERE id = $1 AND state = 'open'")
        .bind(drift.id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?
        .ok_or_else(not_open)?;
    let open = judged.as_ref().and_then(|judged| judged.open).filter(|it| it.drift == drift.id);
    let (Some(open), true) = (open, time(&row, "recorded")? == *seen) else {
        return Err(StoreError::Refused {
            reason: "the file was altered again since".to_owned(),
            help: "look at what it is now, and decide on that",
        });
    };
    let in_force = InForce { state: open.now, by: Approval::Adoption { drift: drift.id } };
    let agreed = |it| Judged { in_force: Some(in_force), open: None, review: None, ..it };
    let judged = judged.clone().map(agreed);
    if let Some(judged) = &judged {
        keep_judged(tx, keys, drift.ci, *key, judged).await?;
    }
    let reason = keys.seal(&place("reason", drift.ci, *key, 0), &reason.as_str(), tx.random())?;
    settle(tx, by, drift.id, DriftState::Adopted, Some(reason)).await
}

/// Ends a drift.
pub(super) async fn settle(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: DriftId,
    state: DriftState,
    reason: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "UPDATE drifts SET state = $1, settled_at = $2, settled_by = $3, reason = $4,
             escalate_at = NULL
         WHERE id = $5 AND state = 'open' RETURNING tenant_id, alterations",
    )
    .bind(state.as_str())
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .bind(reason)
    .bind(id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    // Somebody decided meanwhile.
    let Some(row) = row else { return Ok(()) };
    tx.record(NewEvent {
        tenant: parsed(&row, "tenant_id")?,
        kind: EventKind::DriftSettled,
        by: by.clone(),
        object: id.to_string(),
        version: get(&row, "alterations")?,
        payload: json!({ "state": state }),
    });
    alarms::withdraw(tx, &id.to_string()).await
}

async fn escalate(tx: &mut Tx<'_>, at_most: u16) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT id, tenant_id, ci_id, alterations FROM drifts WHERE escalate_at <= $1
         ORDER BY escalate_at LIMIT $2",
    )
    .bind(tx.now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let id: DriftId = parsed(row, "id")?;
        let escalated = sqlx::query(
            "UPDATE drifts SET escalated_at = $1, escalate_at = NULL
             WHERE id = $2 AND escalate_at IS NOT NULL",
        )
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
        if escalated.rows_affected() == 0 {
            continue;
        }
        let (tenant, ci) = (parsed(row, "tenant_id")?, parsed(row, "ci_id")?);
        alarms::raise(tx, tenant, (id, ci), Grade::Escalated).await?;
        tx.record(NewEvent {
            tenant,
            kind: EventKind::DriftEscalated,
            by: Actor::System,
            object: id.to_string(),
            version: get(row, "alterations")?,
            payload: json!({}),
        });
    }
    Ok(rows.len() as u64)
}
