//! One item on one axis: all that is recorded of it, of its agents and orders, of looks at it, of its drifts and of
//! notices of it; and what hangs on it.

use std::collections::BTreeSet;

use domain::cloud::{BreakGlassId, CiId, NoticeId, PROVIDER, RelationKind};
use jiff::Timestamp;
use sqlx::{AnyPool, AssertSqlSafe};

use crate::Store;
use crate::actor::Actor;
use crate::cis;
use crate::error::StoreError;
use crate::event::{self, Event};
use crate::page::range;
use crate::value::{get, parsed};

/// Most events of one timeline.
pub const LONGEST_TIMELINE: u16 = 1000;

/// Most items that are said to hang on another.
const MOST_AFFECTED: i64 = 10_000;

/// An item that fails where another fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// Which.
    pub ci: CiId,
    /// What people call it.
    pub name: String,
    /// Over how many others.
    pub distance: u32,
    /// The one nearer to it by which it does.
    pub through: CiId,
    /// How it hangs on that one.
    pub by: RelationKind,
}

impl Store {
    /// What is recorded of an item, the newest first; and of notices that concern it, which stands in the notices
    /// themselves.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the actor may not see it.
    pub async fn timeline(
        &self,
        by: &Actor,
        ci: CiId,
        notices: &[NoticeId],
        (from, until): (Timestamp, Timestamp),
        at_most: u16,
    ) -> Result<Vec<Event>, StoreError> {
        let found = cis::find(&mut *self.pool.acquire().await?, by.scope(), ci).await?;
        let (low, high) = range(by.scope());
        let places = (0..notices.len()).map(|notice| format!(", ${}", notice + 9));
        let places: String = places.collect();
        let mut query = sqlx::query(AssertSqlSafe(format!(
            "SELECT {} FROM events
             WHERE tenant_id BETWEEN $1 AND $2 AND tenant_id IN ($7, $8) AND at BETWEEN $3 AND $4
                 AND object IN (
                 SELECT $5
                 UNION SELECT id FROM agents WHERE ci_id = $5
                 UNION SELECT nonce FROM orders WHERE ci_id = $5
                 UNION SELECT change_id FROM orders WHERE ci_id = $5
                 UNION SELECT id FROM drifts WHERE ci_id = $5
                 UNION SELECT id FROM break_glass WHERE ci_id = $5
                 UNION SELECT break_glass_id FROM break_glass_files WHERE ci_id = $5
                 UNION SELECT id FROM verifications WHERE ci_id = $5
                 UNION SELECT id FROM findings WHERE ci_id = $5
                 UNION SELECT id FROM snapshots WHERE ci_id = $5
                 UNION SELECT id FROM notices WHERE id IN (''{places}))
             ORDER BY at DESC, id DESC LIMIT $6",
            event::COLUMN_NAMES
        )));
        query = query
            .bind(low)
            .bind(high)
            .bind(from.as_microsecond())
            .bind(until.as_microsecond())
            .bind(ci.to_string())
            .bind(i64::from(at_most.clamp(1, LONGEST_TIMELINE)))
            // A change is several tenants'.
            .bind(found.tenant.to_string())
            .bind(PROVIDER.to_string());
        for notice in notices {
            query = query.bind(notice.to_string());
        }
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(event::read).collect()
    }

    /// Break-glass that was opened for an item, or under which files of it were altered.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the actor may not see the item.
    pub async fn break_glass_of(
        &self,
        by: &Actor,
        ci: CiId,
    ) -> Result<BTreeSet<BreakGlassId>, StoreError> {
        cis::find(&mut *self.pool.acquire().await?, by.scope(), ci).await?;
        let rows = sqlx::query(
            "SELECT id FROM break_glass WHERE ci_id = $1
             UNION SELECT break_glass_id FROM break_glass_files WHERE ci_id = $1",
        )
        .bind(ci.to_string())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| parsed(row, "id")).collect()
    }

    /// What fails where an item fails, the nearest first: what runs on it, depends on it or was built from it, and
    /// that of which it is a part. At most 10,000.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the actor may not see the item. What it may not see of the others is left out.
    pub async fn affected(&self, by: &Actor, ci: CiId) -> Result<Vec<Affected>, StoreError> {
        cis::find(&mut *self.pool.acquire().await?, by.scope(), ci).await?;
        affected(&self.pool, by, ci).await
    }
}

/// Step by step, so that each is found over the shortest way; circles, which only talk, are not followed.
async fn affected(pool: &AnyPool, by: &Actor, ci: CiId) -> Result<Vec<Affected>, StoreError> {
    let (low, high) = range(by.scope());
    let rows = sqlx::query(
        "WITH RECURSIVE hanging (ci, through, kind, distance) AS (
             SELECT $1, '', '', 0
             UNION
             SELECT CASE WHEN r.kind = 'member_of' THEN r.to_ci ELSE r.from_ci END,
                    hanging.ci, r.kind, hanging.distance + 1
             FROM hanging JOIN relations r ON
                 (r.kind = 'member_of' AND r.from_ci = hanging.ci)
                 OR (r.kind IN ('runs_on', 'built_from', 'depends_on') AND r.to_ci = hanging.ci)
             WHERE hanging.distance < 16
         )
         SELECT hanging.ci AS ci, hanging.through AS through, hanging.kind AS kind,
                hanging.distance AS distance, c.name AS name
         FROM hanging JOIN cis c ON c.id = hanging.ci
         WHERE hanging.distance > 0 AND hanging.ci <> $1 AND c.tenant_id BETWEEN $2 AND $3
             AND c.retired_at IS NULL
         ORDER BY hanging.distance, c.name, hanging.ci, hanging.kind LIMIT $4",
    )
    .bind(ci.to_string())
    .bind(low)
    .bind(high)
    .bind(MOST_AFFECTED)
    .fetch_all(pool)
    .await?;
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for row in &rows {
        let ci: CiId = parsed(row, "ci")?;
        if known.insert(ci) {
            let distance: i64 = get(row, "distance")?;
            found.push(Affected {
                ci,
                name: get(row, "name")?,
                distance: u32::try_from(distance).unwrap_or(u32::MAX),
                through: parsed(row, "through")?,
                by: parsed(row, "kind")?,
            });
        }
    }
    Ok(found)
}
