//! What a tenant's SLA does not cover: findings that ask nothing of anybody, and are no less missing.
//!
//! A finding is excluded as long as two versions of the policy say so: the one in force when its patch
//! was found missing, so that nothing that has a clock is excluded afterwards, and the one in force now,
//! so that what both sides take back ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::cloud::{CiId, Class, FindingId, PROVIDER, TenantId};
use domain::priority::PolicyRef;
use domain::sla::Policy;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use super::load::{json, text};
use super::{advance, policies};
use crate::cis::Labels;
use crate::error::StoreError;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// Why a finding asks nothing of anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// The version that says so.
    pub policy: PolicyRef,
    /// What it excludes, in its words.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Only findings that are not excluded, as of an instant.
macro_rules! asked {
    ($now:literal) => {
        concat!("(excluded_until IS NULL OR excluded_until <= ", $now, ")")
    };
}
pub(super) use asked;

/// Since when a finding asks something: since its patch is missing, or since it is excluded no more.
macro_rules! asked_since {
    () => {
        "CASE WHEN excluded_until > patch_since THEN excluded_until ELSE patch_since END"
    };
}
pub(super) use asked_since;

/// Until when a finding is excluded; `None` for as long as the policy.
pub(crate) fn end(row: &AnyRow) -> Result<Option<Timestamp>, StoreError> {
    Ok(time_or_none(row, "excluded_until")?.filter(|until| *until < forever()))
}

/// Whether a version that is or was in force for a tenant excludes anything.
pub(crate) async fn any(tx: &mut Tx<'_>, tenant: TenantId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM sla_policies
         WHERE excludes = 1 AND since IS NOT NULL AND tenant_id IN ($1, $2) LIMIT 1",
    )
    .bind(tenant.to_string())
    .bind(PROVIDER.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(row.is_some())
}

/// Whether nothing is asked about what an item lacks of a source package.
pub(crate) async fn is_excluded(
    tx: &mut Tx<'_>,
    ci: CiId,
    source: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM findings WHERE ci_id = $1 AND source = $2 AND excluded_until > $3",
    )
    .bind(ci.to_string())
    .bind(source)
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(row.is_some())
}

/// Looks anew which findings are excluded: of all tenants whose policy may be the provider's.
pub(super) async fn mark_everywhere(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let rows =
        sqlx::query("SELECT id FROM tenants ORDER BY id").fetch_all(&mut *tx.connection).await?;
    for row in &rows {
        mark(tx, parsed(row, "id")?, None).await?;
    }
    Ok(())
}

/// Looks anew which of a tenant's findings are excluded; only those of one item, where it is named.
pub(crate) async fn mark(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    only: Option<CiId>,
) -> Result<(), StoreError> {
    let (low, high) =
        only.map_or((String::new(), "zzzz".to_owned()), |ci| (ci.to_string(), ci.to_string()));
    let rows = sqlx::query(
        "SELECT findings.id AS id, ci_id, class, release, source, patch_since, excluded,
                excluded_until
         FROM findings JOIN cis ON cis.id = findings.ci_id
         WHERE findings.tenant_id = $1 AND state = 'open' AND ci_id BETWEEN $2 AND $3
         ORDER BY findings.id",
    )
    .bind(tenant.to_string())
    .bind(low)
    .bind(high)
    .fetch_all(&mut *tx.connection)
    .await?;
    let versions = policies::in_force(&mut *tx.connection, tenant).await?;
    let mut known: BTreeMap<CiId, Labels> = BTreeMap::new();
    for row in &rows {
        let ci = parsed(row, "ci_id")?;
        let labels = match known.entry(ci) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(labels(tx, ci).await?),
        };
        let next = excluded(row, &versions, labels, tx.now)?;
        let old_end = time_or_none(row, "excluded_until")?.filter(|end| tx.now < *end);
        let old = match old_end {
            Some(end) => Some((json(row, "excluded")?, end)),
            None => None,
        };
        if next != old {
            note(tx, row, next).await?;
            let (release, source): (String, String) = (get(row, "release")?, get(row, "source")?);
            advance::wake_source(tx, tenant, &release, &source).await?;
        }
    }
    Ok(())
}

/// Whether an exclusion is over by its date and somebody has to look what that means.
pub(super) async fn is_any_over(pool: &AnyPool, now: Timestamp) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS one FROM findings
         WHERE excluded IS NOT NULL AND excluded_until <= $1 LIMIT 1",
    )
    .bind(now.as_microsecond())
    .fetch_optional(pool)
    .await?;
    Ok(row.is_some())
}

/// Ends the exclusions that are over by their date, so many at most, and has looked at what is asked
/// again since then.
pub(super) async fn end_over(tx: &mut Tx<'_>, at_most: u16) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT id, tenant_id, release, source FROM findings
         WHERE excluded IS NOT NULL AND excluded_until <= $1 ORDER BY excluded_until LIMIT $2",
    )
    .bind(tx.now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let id: FindingId = parsed(row, "id")?;
        sqlx::query("UPDATE findings SET excluded = NULL WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *tx.connection)
            .await?;
        let (release, source): (String, String) = (get(row, "release")?, get(row, "source")?);
        advance::wake_source(tx, parsed(row, "tenant_id")?, &release, &source).await?;
    }
    Ok(())
}

/// By what a finding is excluded, and until when.
fn excluded(
    row: &AnyRow,
    versions: &policies::Versions,
    labels: &Labels,
    now: Timestamp,
) -> Result<Option<(Excluded, Timestamp)>, StoreError> {
    let (class, source): (Class, String) = (parsed(row, "class")?, get(row, "source")?);
    let says = |policy: &Policy| {
        let (exclusion, end) = policy.excludes(class, labels, &source, now)?;
        let (what, reason) = (exclusion.what.clone(), exclusion.reason.clone());
        let excluded = Excluded { policy: policy.reference(), what, reason };
        Some((excluded, end.unwrap_or_else(forever)))
    };
    let then = says(versions.at(time(row, "patch_since")?)?);
    let today = says(versions.at(now)?);
    Ok(then.zip(today).map(|((_, then), (excluded, today))| (excluded, then.min(today))))
}

/// The end of what ends with its policy, as exactly as instants are kept.
fn forever() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::MAX.as_microsecond()).unwrap_or(Timestamp::MAX)
}

async fn note(
    tx: &mut Tx<'_>,
    row: &AnyRow,
    excluded: Option<(Excluded, Timestamp)>,
) -> Result<(), StoreError> {
    let id: FindingId = parsed(row, "id")?;
    let (excluded, until) = match excluded {
        Some((excluded, until)) => (Some(text(&excluded)?), until),
        // It asks something from now on.
        None => (None, tx.now),
    };
    sqlx::query("UPDATE findings SET excluded = $1, excluded_until = $2 WHERE id = $3")
        .bind(excluded)
        .bind(until.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

async fn labels(tx: &mut Tx<'_>, ci: CiId) -> Result<Labels, StoreError> {
    let rows = sqlx::query("SELECT key, value FROM ci_labels WHERE ci_id = $1")
        .bind(ci.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    rows.iter().map(|row| Ok((parsed(row, "key")?, get(row, "value")?))).collect()
}
