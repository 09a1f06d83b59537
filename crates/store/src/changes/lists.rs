//! What is there, for those who may see it.

use domain::change::{Plan, PlanHash};
use domain::cloud::{ChangeId, PROVIDER, TenantId};
use domain::obligation::KeptObligation;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::errands;
use super::load::{corrupt, json, read_plan};
use super::standing::{Instants, standing};
use super::{ClockFilter, ClockRow, Consent, HistoryFilter, PastObligation, TrackedChange};
use crate::error::StoreError;
use crate::fleet::findings;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};

macro_rules! changes {
    ($rest:literal) => {
        concat!(
            "SELECT id, title, tenant_id, advisory_id, record, created_by, created_at
             FROM changes ",
            $rest
        )
    };
}

/// One change: a tenant sees those that ask something of it.
pub(crate) async fn change(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: ChangeId,
) -> Result<TrackedChange, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(changes!(
        "WHERE id = $1 AND (tenant_id BETWEEN $2 AND $3 OR EXISTS (
             SELECT 1 FROM obligations WHERE change_id = changes.id
                 AND obligations.tenant_id BETWEEN $2 AND $3))"
    ))
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| StoreError::not_found("change", &id))?;
    let mut change = read_change(&row)?;
    for_reader(connection, &mut change, scope).await?;
    change.patches = patches(connection, id).await?;
    Ok(change)
}

pub(super) async fn changes(
    pool: &AnyPool,
    scope: Option<TenantId>,
    page: &PageRequest,
) -> Result<Page<TrackedChange>, StoreError> {
    let (low, high) = range(scope);
    let (_, after) = page.place();
    // The newest first: ids begin with their time.
    let before = if after.is_empty() { "zzzz" } else { after };
    let rows = sqlx::query(changes!(
        "WHERE id < $1 AND (tenant_id BETWEEN $2 AND $3 OR EXISTS (
             SELECT 1 FROM obligations WHERE change_id = changes.id
                 AND obligations.tenant_id BETWEEN $2 AND $3))
         ORDER BY id DESC LIMIT $4"
    ))
    .bind(before)
    .bind(low)
    .bind(high)
    .bind(page.fetched())
    .fetch_all(pool)
    .await?;
    let items = rows.iter().map(read_change).collect::<Result<Vec<_>, _>>()?;
    // Ids alone are in order; whose a change is, a cursor tells nobody.
    let mut page = page.cut(items, |change| Cursor::new(PROVIDER, change.change.id));
    let mut connection = pool.acquire().await?;
    for change in &mut page.items {
        for_reader(&mut connection, change, scope).await?;
        change.patches = patches(&mut connection, change.change.id).await?;
    }
    Ok(page)
}

/// A tenant does not learn which other one found it, or who, nor what those said about it.
pub(super) async fn for_reader(
    connection: &mut AnyConnection,
    change: &mut TrackedChange,
    scope: Option<TenantId>,
) -> Result<(), StoreError> {
    let Some(own) = scope.filter(|own| *own != change.found_by) else { return Ok(()) };
    if change.found_by != PROVIDER {
        change.title = title_for(connection, change.change.id, own).await?;
        change.change = change.change.without_words();
    }
    change.advisory = None;
    change.created_by = String::new();
    change.found_by = PROVIDER;
    Ok(())
}

/// What a change that another tenant found is called for a tenant: by what it fixes there. The name of an
/// advisory is the other's own word.
async fn title_for(
    connection: &mut AnyConnection,
    change: ChangeId,
    tenant: TenantId,
) -> Result<String, StoreError> {
    let row = sqlx::query(
        "SELECT findings.source AS source, findings.candidate AS candidate,
                findings.release AS release FROM findings
         JOIN change_patches ON change_patches.patch_id = findings.patch_id
         WHERE change_id = $1 AND tenant_id = $2 ORDER BY findings.id LIMIT 1",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok("a patch".to_owned()) };
    let [source, candidate, release]: [String; 3] =
        [get(&row, "source")?, get(&row, "candidate")?, get(&row, "release")?];
    Ok(format!("{source} {candidate} for {release}"))
}

/// The title of a change as a reader sees it beside what it asks of a tenant.
async fn titled(
    connection: &mut AnyConnection,
    row: &AnyRow,
    scope: Option<TenantId>,
) -> Result<String, StoreError> {
    let found_by: TenantId = parsed(row, "found_by")?;
    match scope {
        Some(own) if found_by != PROVIDER && found_by != own => {
            title_for(connection, parsed(row, "change_id")?, own).await
        }
        _ => get(row, "title"),
    }
}

async fn patches(
    connection: &mut AnyConnection,
    change: ChangeId,
) -> Result<Vec<domain::cloud::PatchId>, StoreError> {
    let rows =
        sqlx::query("SELECT patch_id FROM change_patches WHERE change_id = $1 ORDER BY patch_id")
            .bind(change.to_string())
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| parsed(row, "patch_id")).collect()
}

pub(super) async fn clocks(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &ClockFilter,
    at_most: u16,
    now: Timestamp,
) -> Result<Vec<ClockRow>, StoreError> {
    let (low, high) = range(scope);
    let (own_low, own_high) = range(filter.tenant);
    let (from, until) = filter
        .change
        .map_or((String::new(), "zzzz".to_owned()), |id| (id.to_string(), id.to_string()));
    let before = filter.due_before.map_or(i64::MAX, Timestamp::as_microsecond);
    let overdue = if filter.overdue { "overdue" } else { "" };
    let unknown = if filter.unknown { "unknown" } else { "" };
    let Instants { now, near, late } = Instants::at(now);
    let rows = sqlx::query(concat!(
        "SELECT * FROM (
             SELECT change_id, title, changes.tenant_id AS found_by,
                    obligations.tenant_id AS tenant_id, priority, phase, holder, state, due, stage_deadline, wakes_at, is_settled, owed, owed_by, ",
        standing!("$10", "$11", "$12"),
        " AS standing
             FROM obligations JOIN changes ON changes.id = change_id
             WHERE obligations.tenant_id BETWEEN $1 AND $2
                 AND obligations.tenant_id BETWEEN $3 AND $4
                 AND change_id BETWEEN $5 AND $6 AND due <= $7
                 AND (is_settled <= $8 OR owed_by IS NOT NULL)) AS clocks
         WHERE (is_settled <= $8 OR standing <> 'settled')
             AND ($13 = '' AND $14 = '' OR standing = $13 OR standing = $14
                 OR $13 = 'overdue' AND is_settled = 1 AND $8 = 1 AND state = 'breached')
         ORDER BY due, change_id, tenant_id LIMIT $9"
    ))
    .bind(low)
    .bind(high)
    .bind(own_low)
    .bind(own_high)
    .bind(from)
    .bind(until)
    .bind(before)
    .bind(i64::from(filter.settled))
    .bind(i64::from(at_most))
    .bind(now)
    .bind(near)
    .bind(late)
    .bind(overdue)
    .bind(unknown)
    .fetch_all(pool)
    .await?;
    let mut connection = pool.acquire().await?;
    let mut clocks = Vec::with_capacity(rows.len());
    for row in &rows {
        let title = titled(&mut connection, row, scope).await?;
        clocks.push(read_clock(row, title)?);
    }
    Ok(clocks)
}

pub(super) async fn histories(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &HistoryFilter,
    page: &PageRequest,
) -> Result<Page<PastObligation>, StoreError> {
    let (low, high) = range(scope);
    let (own_low, own_high) = range(filter.tenant);
    let (after_tenant, after) = page.place();
    let since = filter.since.map_or(i64::MIN, Timestamp::as_microsecond);
    let rows = sqlx::query(
        "SELECT change_id, title, changes.tenant_id AS found_by,
                obligations.tenant_id AS tenant_id, obligations.record AS record
         FROM obligations JOIN changes ON changes.id = change_id
         WHERE obligations.tenant_id BETWEEN $1 AND $2
             AND obligations.tenant_id BETWEEN $3 AND $4
             AND (obligations.tenant_id > $5 OR obligations.tenant_id = $5 AND change_id > $6)
             AND changes.created_at >= $7
         ORDER BY obligations.tenant_id, change_id LIMIT $8",
    )
    .bind(low)
    .bind(high)
    .bind(own_low)
    .bind(own_high)
    .bind(after_tenant)
    .bind(after)
    .bind(since)
    .bind(page.fetched())
    .fetch_all(pool)
    .await?;
    let mut connection = pool.acquire().await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let kept: KeptObligation = json(row, "record")?;
        let title = titled(&mut connection, row, scope).await?;
        items.push(PastObligation {
            change: parsed(row, "change_id")?,
            tenant: parsed(row, "tenant_id")?,
            policy: kept.policy().clone(),
            history: kept.into_history(title),
        });
    }
    Ok(page.cut(items, |past| Cursor::new(past.tenant, past.change)))
}

pub(super) async fn plan(
    pool: &AnyPool,
    scope: Option<TenantId>,
    hash: PlanHash,
) -> Result<Plan, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query("SELECT body FROM plans WHERE hash = $1 AND tenant_id BETWEEN $2 AND $3")
        .bind(hash.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(pool)
        .await?;
    read_plan(&row.ok_or_else(|| StoreError::not_found("plan", &hash))?)
}

pub(super) async fn consents(
    pool: &AnyPool,
    change: ChangeId,
    tenant: TenantId,
) -> Result<Vec<Consent>, StoreError> {
    let rows = sqlx::query(
        "SELECT nonce, change_id, plan_hash, decision, key_id, envelope, received_by, received_at
         FROM consents WHERE change_id = $1 AND tenant_id = $2 ORDER BY received_at, nonce",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Consent {
                change: parsed(row, "change_id")?,
                plan: parsed(row, "plan_hash")?,
                decision: get(row, "decision")?,
                key: parsed(row, "key_id")?,
                nonce: parsed(row, "nonce")?,
                envelope: get(row, "envelope")?,
                received_by: get(row, "received_by")?,
                received_at: time(row, "received_at")?,
            })
        })
        .collect()
}

/// The obligations whose time has come, the longest due first.
pub(super) async fn due(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<(ChangeId, TenantId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT change_id, tenant_id FROM obligations
         WHERE wakes_at IS NOT NULL AND wakes_at <= $1 ORDER BY wakes_at LIMIT $2",
    )
    .bind(now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "change_id")?, parsed(row, "tenant_id")?))).collect()
}

pub(super) async fn next_wake(pool: &AnyPool) -> Result<Option<Timestamp>, StoreError> {
    let row = sqlx::query(
        "SELECT wakes_at FROM obligations WHERE wakes_at IS NOT NULL ORDER BY wakes_at LIMIT 1",
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| time(&row, "wakes_at")).transpose()
}

pub(super) async fn count_open(pool: &AnyPool) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM obligations WHERE is_settled = 0")
        .fetch_one(pool)
        .await?;
    Ok(get::<i64>(&row, "total")?.unsigned_abs())
}

fn read_change(row: &AnyRow) -> Result<TrackedChange, StoreError> {
    Ok(TrackedChange {
        change: json(row, "record")?,
        title: get(row, "title")?,
        found_by: parsed(row, "tenant_id")?,
        advisory: parsed_or_none(row, "advisory_id")?,
        patches: Vec::new(),
        created_by: get(row, "created_by")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_clock(row: &AnyRow, title: String) -> Result<ClockRow, StoreError> {
    let holder: Option<String> = get(row, "holder")?;
    let holder = holder
        .map(|word| serde_json::from_value(word.into()))
        .transpose()
        .map_err(|error| corrupt("holder", &error))?;
    Ok(ClockRow {
        change: parsed(row, "change_id")?,
        title,
        tenant: parsed(row, "tenant_id")?,
        priority: findings::priority(row)?,
        phase: get(row, "phase")?,
        holder,
        state: get(row, "state")?,
        due: time_or_none(row, "due")?,
        stage_deadline: time_or_none(row, "stage_deadline")?,
        wakes_at: time_or_none(row, "wakes_at")?,
        is_settled: get::<i64>(row, "is_settled")? != 0,
        owed: get::<Option<String>>(row, "owed")?.map(errands::of_word).transpose()?,
        owed_by: time_or_none(row, "owed_by")?,
        standing: parsed(row, "standing")?,
    })
}
