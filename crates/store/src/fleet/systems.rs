//! Which package set each configuration item has, and had.

use domain::cloud::{CiId, EventKind, TenantId};
use domain::fleet::{PackageSet, SetDigest};
use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::tenants;
use crate::value::{get, parsed, time};
use crate::writer::Tx;

use super::alive;
use super::pack::{pack, unpack};

/// What was installed on a configuration item, from when on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The package set.
    pub digest: SetDigest,
    /// When the item says that it looked.
    pub observed_at: Timestamp,
    /// When we were told.
    pub recorded_at: Timestamp,
}

/// A configuration item with the package set that it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The item.
    pub ci: CiId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it has installed.
    pub digest: SetDigest,
}

pub(crate) async fn add_set(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    set: &PackageSet,
) -> Result<SetDigest, StoreError> {
    tenants::must_exist(tx, by, tenant).await?;
    let digest = set.digest();
    let inventory = set.inventory();
    let family = serde_json::to_value(inventory.family).unwrap_or_default();
    sqlx::query(
        "INSERT INTO package_sets (tenant_id, digest, release, family, packages, body, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, digest) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(inventory.os.release())
    .bind(family.as_str().unwrap_or_default())
    .bind(i64::try_from(inventory.packages.len()).unwrap_or(i64::MAX))
    .bind(pack("package set", set)?)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(digest)
}

pub(crate) async fn set(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    tenant: TenantId,
    digest: SetDigest,
) -> Result<Option<PackageSet>, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(
        "SELECT body FROM package_sets
         WHERE tenant_id = $1 AND digest = $2 AND tenant_id BETWEEN $3 AND $4",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(connection)
    .await?;
    let body: Option<Vec<u8>> = row.map(|row| get(&row, "body")).transpose()?;
    body.map(|body| unpack("package set", &body)).transpose()
}

pub(crate) async fn observe(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    digest: SetDigest,
    observed_at: Timestamp,
) -> Result<bool, StoreError> {
    let ci = alive(tx, by, id).await?;
    let known = sqlx::query(
        "SELECT p.packages, k.checked_at, s.digest AS now
         FROM package_sets p
         LEFT JOIN set_checks k ON k.tenant_id = p.tenant_id AND k.digest = p.digest
         LEFT JOIN systems s ON s.ci_id = $3
         WHERE p.tenant_id = $1 AND p.digest = $2",
    )
    .bind(ci.tenant.to_string())
    .bind(digest.to_string())
    .bind(id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(known) = known else { return Ok(false) };
    let before: Option<String> = get(&known, "now")?;
    if before.as_deref() == Some(digest.to_string().as_str()) {
        note_seen(tx, &[(id, tx.now)]).await?;
        return Ok(true);
    }
    let checked_at: Option<i64> = get(&known, "checked_at")?;
    sqlx::query(
        "INSERT INTO systems (ci_id, tenant_id, digest, observed_at, seen_at, pending)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (ci_id) DO UPDATE SET
             digest = excluded.digest, observed_at = excluded.observed_at,
             seen_at = excluded.seen_at, pending = systems.pending + excluded.pending",
    )
    .bind(id.to_string())
    .bind(ci.tenant.to_string())
    .bind(digest.to_string())
    .bind(observed_at.as_microsecond())
    .bind(tx.now.as_microsecond())
    .bind(i64::from(checked_at.is_some()))
    .execute(&mut *tx.connection)
    .await?;
    sqlx::query(
        "INSERT INTO observations (ci_id, recorded_at, tenant_id, digest, observed_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (ci_id, recorded_at) DO UPDATE SET
             digest = excluded.digest, observed_at = excluded.observed_at",
    )
    .bind(id.to_string())
    .bind(tx.now.as_microsecond())
    .bind(ci.tenant.to_string())
    .bind(digest.to_string())
    .bind(observed_at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    let packages: i64 = get(&known, "packages")?;
    tx.record(NewEvent {
        tenant: ci.tenant,
        kind: EventKind::CiObserved,
        by: by.clone(),
        object: id.to_string(),
        version: ci.version,
        payload: json!({
            "package_set": digest, "before": before, "packages": packages,
            "observed_at": observed_at,
        }),
    });
    Ok(true)
}

pub(crate) async fn note_seen(
    tx: &mut Tx<'_>,
    seen: &[(CiId, Timestamp)],
) -> Result<(), StoreError> {
    for (ci, at) in seen {
        sqlx::query("UPDATE systems SET seen_at = $1 WHERE ci_id = $2 AND seen_at < $1")
            .bind(at.as_microsecond())
            .bind(ci.to_string())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

/// An item that left the cloud has no set any more; which ones it had stays.
pub(crate) async fn forget(tx: &mut Tx<'_>, id: CiId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM systems WHERE ci_id = $1")
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

pub(crate) async fn history(
    pool: &AnyPool,
    id: CiId,
    at_most: u16,
) -> Result<Vec<Observation>, StoreError> {
    let rows = sqlx::query(
        "SELECT digest, observed_at, recorded_at FROM observations
         WHERE ci_id = $1 ORDER BY recorded_at DESC LIMIT $2",
    )
    .bind(id.to_string())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Observation {
                digest: parsed(row, "digest")?,
                observed_at: time(row, "observed_at")?,
                recorded_at: time(row, "recorded_at")?,
            })
        })
        .collect()
}

pub(crate) async fn list(
    pool: &AnyPool,
    after: Option<CiId>,
    at_most: u32,
) -> Result<Vec<System>, StoreError> {
    let rows = sqlx::query(
        "SELECT ci_id, tenant_id, digest FROM systems WHERE ci_id > $1 ORDER BY ci_id LIMIT $2",
    )
    .bind(after.map(|id| id.to_string()).unwrap_or_default())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn since(pool: &AnyPool, since: Timestamp) -> Result<Vec<System>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.ci_id, s.tenant_id, s.digest FROM systems s
         WHERE s.ci_id IN (SELECT ci_id FROM observations WHERE recorded_at >= $1)
         ORDER BY s.ci_id",
    )
    .bind(since.as_microsecond())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn retired_since(
    pool: &AnyPool,
    since: Timestamp,
) -> Result<Vec<CiId>, StoreError> {
    let rows = sqlx::query("SELECT id FROM cis WHERE retired_at >= $1 ORDER BY id")
        .bind(since.as_microsecond())
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

fn read(row: &AnyRow) -> Result<System, StoreError> {
    Ok(System {
        ci: parsed(row, "ci_id")?,
        tenant: parsed(row, "tenant_id")?,
        digest: parsed(row, "digest")?,
    })
}
