//! Advisories that people bring: the provider's finds and the tenants' (X.1642, 8.7.1(2)).

use domain::cloud::{AdvisoryId, EventKind, PROVIDER, TenantId, words};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::changes::open;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

words! {
    /// What became of an advisory that somebody brought.
    AdvisoryState {
        /// It concerns its submitter's own systems.
        Submitted = "submitted",
        /// It concerns everybody's.
        Accepted = "accepted",
        /// It concerns nobody's: the provider says why.
        Rejected = "rejected",
        /// Its submitter took it back.
        Withdrawn = "withdrawn",
    }
}

/// An advisory that somebody brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// Its id.
    pub id: AdvisoryId,
    /// Who brought it.
    pub tenant: TenantId,
    /// Its publisher's name for it (`DSA-5555-1`, `CVE-2026-1`).
    pub name: String,
    /// The OSV record, as it was brought.
    pub document: String,
    /// What became of it.
    pub state: AdvisoryState,
    /// What its submitter says.
    pub note: String,
    /// Which person brought it.
    pub submitted_by: String,
    /// When.
    pub submitted_at: Timestamp,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// Why.
    pub decision: Option<String>,
    /// Raised by each alteration.
    pub version: i64,
}

/// An advisory that is to be taken in.
#[derive(Debug, Clone)]
pub struct NewAdvisory {
    /// Its publisher's name for it.
    pub name: String,
    /// A valid OSV record in JSON.
    pub document: String,
    /// What its submitter says.
    pub note: String,
    /// When its publisher published it, by the record.
    pub published: Option<Timestamp>,
}

/// A decision about an advisory.
#[derive(Debug, Clone)]
pub struct AdvisoryDecision {
    /// What becomes of it.
    pub state: AdvisoryState,
    /// Why.
    pub reason: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, name, document, state, note, submitted_by, submitted_at,
                    decided_by, decided_at, decision, version
             FROM advisories ",
            $rest
        )
    };
}

pub(crate) async fn submit(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewAdvisory,
) -> Result<Advisory, StoreError> {
    // The provider's own finds need no second word.
    let state = match by.scope() {
        None => AdvisoryState::Accepted,
        Some(_) => AdvisoryState::Submitted,
    };
    let advisory = Advisory {
        id: AdvisoryId::new(tx.now, tx.random()),
        tenant: by.tenant(),
        name: new.name.clone(),
        document: new.document.clone(),
        state,
        note: new.note.clone(),
        submitted_by: by.id(),
        submitted_at: tx.now,
        decided_by: None,
        decided_at: None,
        decision: None,
        version: 1,
    };
    sqlx::query(
        "INSERT INTO advisories
         (id, tenant_id, name, document, state, note, submitted_by, submitted_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1)",
    )
    .bind(advisory.id.to_string())
    .bind(advisory.tenant.to_string())
    .bind(advisory.name.as_str())
    .bind(advisory.document.as_str())
    .bind(advisory.state.as_str())
    .bind(advisory.note.as_str())
    .bind(advisory.submitted_by.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("advisory", &new.name))?;
    invalidate(tx, &advisory).await?;
    record(tx, by, EventKind::AdvisorySubmitted, &advisory);
    open::brought_by(tx, by, &advisory, new.published).await?;
    Ok(advisory)
}

pub(crate) async fn decide(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: AdvisoryId,
    expected: Option<i64>,
    decision: &AdvisoryDecision,
) -> Result<Advisory, StoreError> {
    let before = find(&mut *tx.connection, by.scope(), id).await?;
    let is_own = before.tenant == by.tenant();
    let may = match decision.state {
        AdvisoryState::Withdrawn => is_own,
        _ => by.scope().is_none(),
    };
    if !may {
        return Err(StoreError::Refused {
            reason: format!("`{}` is not yours to decide so", before.name),
            help: "whoever brought it may withdraw it; the provider accepts or rejects it",
        });
    }
    if let Some(expected) = expected.filter(|&expected| expected != before.version) {
        let id = id.to_string();
        return Err(StoreError::Stale { what: "advisory", id, expected, found: before.version });
    }
    let row = sqlx::query(
        "UPDATE advisories SET state = $1, decision = $2, decided_by = $3, decided_at = $4,
             version = version + 1
         WHERE id = $5 AND version = $6
         RETURNING id, tenant_id, name, document, state, note, submitted_by, submitted_at,
             decided_by, decided_at, decision, version",
    )
    .bind(decision.state.as_str())
    .bind(decision.reason.as_str())
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .bind(before.version)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let after = match row {
        Some(row) => read(&row)?,
        None => return Err(StoreError::Busy),
    };
    // Accepted before or now: it concerns, or concerned, everybody.
    invalidate(tx, &before).await?;
    invalidate(tx, &after).await?;
    record(tx, by, EventKind::AdvisoryDecided, &after);
    open::decided(tx, by, &after).await?;
    Ok(after)
}

/// The checks of sets that it may concern are not true any more: they are due again.
async fn invalidate(tx: &mut Tx<'_>, advisory: &Advisory) -> Result<(), StoreError> {
    let (low, high) = match advisory.state {
        AdvisoryState::Accepted => range(None),
        _ => range(Some(advisory.tenant)),
    };
    sqlx::query("UPDATE set_checks SET is_due = 1 WHERE tenant_id BETWEEN $1 AND $2")
        .bind(low)
        .bind(high)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, advisory: &Advisory) {
    tx.record(NewEvent {
        tenant: advisory.tenant,
        kind,
        by: by.clone(),
        object: advisory.id.to_string(),
        version: advisory.version,
        payload: json!({
            "name": advisory.name, "state": advisory.state, "note": advisory.note,
            "reason": advisory.decision,
        }),
    });
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: AdvisoryId,
) -> Result<Advisory, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!(
        "WHERE id = $1 AND (tenant_id BETWEEN $2 AND $3 OR state = 'accepted')"
    ))
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(connection)
    .await?;
    let advisory =
        row.as_ref().map_or_else(|| Err(StoreError::not_found("advisory", &id)), read)?;
    Ok(for_reader(advisory, scope))
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<Advisory>, StoreError> {
    let (low, high) = range(scope);
    // In the order of ids alone: a place among tenants would tell who brought what.
    let (_, id) = request.place();
    let rows = sqlx::query(select!(
        "WHERE (tenant_id BETWEEN $1 AND $2 OR state = 'accepted') AND id > $3
         ORDER BY id LIMIT $4"
    ))
    .bind(low)
    .bind(high)
    .bind(id)
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let advisories = rows
        .iter()
        .map(|row| Ok(for_reader(read(row)?, scope)))
        .collect::<Result<Vec<_>, StoreError>>()?;
    Ok(request.cut(advisories, |it: &Advisory| Cursor::new(PROVIDER, it.id)))
}

/// Who brought what concerns everybody, and what they said, is for them and the provider to know.
fn for_reader(advisory: Advisory, scope: Option<TenantId>) -> Advisory {
    if scope.is_none_or(|reader| reader == advisory.tenant) {
        return advisory;
    }
    Advisory {
        tenant: PROVIDER,
        note: String::new(),
        submitted_by: String::new(),
        decided_by: None,
        ..advisory
    }
}

fn read(row: &AnyRow) -> Result<Advisory, StoreError> {
    Ok(Advisory {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: get(row, "name")?,
        document: get(row, "document")?,
        state: parsed(row, "state")?,
        note: get(row, "note")?,
        submitted_by: get(row, "submitted_by")?,
        submitted_at: time(row, "submitted_at")?,
        decided_by: get(row, "decided_by")?,
        decided_at: time_or_none(row, "decided_at")?,
        decision: get(row, "decision")?,
        version: get(row, "version")?,
    })
}
