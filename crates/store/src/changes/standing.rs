//! How clocks stand now, one by one and summed up.

use std::collections::BTreeMap;

use domain::cloud::{ChangeId, TenantId, words};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::AnyPool;

use crate::error::StoreError;
use crate::page::range;
use crate::value::{get, parsed, time_or_none};

/// How long before a date it is said to be near, where the policy does not say so earlier.
const NEAR: SignedDuration = SignedDuration::from_hours(24);

/// How long after its time an obligation may be looked at: longer, and nobody knows how it stands.
const LATE: SignedDuration = SignedDuration::from_mins(10);

words! {
    /// How an obligation's clock stands now.
    ClockStanding {
        /// Nothing is left to do.
        Settled = "settled",
        /// A date passed, of the stage or of the whole.
        Overdue = "overdue",
        /// Nobody looked at it when its time came.
        Unknown = "unknown",
        /// In time, and a date is near, or as much of the time is used as the policy warns at.
        Near = "near",
        /// In time.
        InTime = "in_time",
    }
}

/// How many clocks stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockTotals {
    /// A date passed.
    pub overdue: u64,
    /// A date is near.
    pub near: u64,
    /// In time.
    pub in_time: u64,
    /// Nobody knows.
    pub unknown: u64,
}

/// What of a change is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Of how many tenants it asks something, or did.
    pub tenants: u64,
    /// For how many something is left to do.
    pub open: u64,
    /// For how many of those a date passed.
    pub overdue: u64,
    /// The earliest date of what is open.
    pub due: Option<Timestamp>,
}

/// The instants that a standing depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instants {
    pub(super) now: i64,
    pub(super) near: i64,
    pub(super) late: i64,
}

impl Instants {
    pub(super) fn at(now: Timestamp) -> Self {
        let later = now.saturating_add(NEAR).unwrap_or(Timestamp::MAX);
        let earlier = now.saturating_sub(LATE).unwrap_or(Timestamp::MIN);
        Self {
            now: now.as_microsecond(),
            near: later.as_microsecond(),
            late: earlier.as_microsecond(),
        }
    }
}

/// [`ClockStanding`] of a row. What is kept of a clock is as old as the last look at it: a due date
/// that passed since is missed whoever looked, and what a stage's deadline brought about (silence may
/// approve then) is not known before somebody looks. Of what is settled, that which is owed counts; a
/// notice that it is done only once that is late, as it comes by itself.
macro_rules! standing {
    ($now:literal, $near:literal, $late:literal) => {
        concat!(
            "CASE WHEN owed_by <= ",
            $now,
            " THEN 'overdue' WHEN is_settled = 1 AND (owed IS NULL OR owed = 'done_notice')
                  THEN 'settled' WHEN is_settled = 1 AND owed_by <= ",
            $near,
            " THEN 'near' WHEN is_settled = 1 THEN 'in_time'
                  WHEN state IN ('overdue', 'breached') OR due <= ",
            $now,
            " THEN 'overdue' WHEN wakes_at <= ",
            $late,
            " OR stage_deadline <= ",
            $now,
            " OR state NOT IN ('ok', 'warn') THEN 'unknown'
                  WHEN state = 'warn' OR due <= ",
            $near,
            " OR stage_deadline <= ",
            $near,
            " OR owed_by <= ",
            $near,
            " THEN 'near' ELSE 'in_time' END"
        )
    };
}
pub(super) use standing;

pub(super) async fn totals(
    pool: &AnyPool,
    scope: Option<TenantId>,
    now: Timestamp,
) -> Result<ClockTotals, StoreError> {
    let (low, high) = range(scope);
    let Instants { now, near, late } = Instants::at(now);
    let rows = sqlx::query(concat!(
        "SELECT standing, COUNT(*) AS total FROM (SELECT ",
        standing!("$1", "$2", "$3"),
        " AS standing FROM obligations
         WHERE (is_settled = 0 OR owed_by IS NOT NULL) AND tenant_id BETWEEN $4 AND $5) AS clocks GROUP BY standing"
    ))
    .bind(now)
    .bind(near)
    .bind(late)
    .bind(low)
    .bind(high)
    .fetch_all(pool)
    .await?;
    let mut totals = ClockTotals::default();
    for row in &rows {
        let total = get::<i64>(row, "total")?.unsigned_abs();
        match parsed(row, "standing")? {
            ClockStanding::Overdue => totals.overdue = total,
            ClockStanding::Near => totals.near = total,
            ClockStanding::InTime => totals.in_time = total,
            ClockStanding::Unknown => totals.unknown = total,
            ClockStanding::Settled => {}
        }
    }
    Ok(totals)
}

pub(super) async fn counts(
    pool: &AnyPool,
    scope: Option<TenantId>,
    ids: &[ChangeId],
    now: Timestamp,
) -> Result<BTreeMap<ChangeId, ChangeCounts>, StoreError> {
    let (low, high) = range(scope);
    let Instants { now, near, late } = Instants::at(now);
    let mut connection = pool.acquire().await?;
    let mut counts = BTreeMap::new();
    for id in ids {
        let row = sqlx::query(concat!(
            "SELECT COUNT(*) AS tenants, COUNT(CASE WHEN is_settled = 0 THEN 1 END) AS open,
                    COUNT(CASE WHEN standing = 'overdue' THEN 1 END) AS overdue,
                    MIN(CASE WHEN is_settled = 0 THEN due END) AS due
             FROM (SELECT is_settled, due, ",
            standing!("$1", "$2", "$3"),
            " AS standing FROM obligations
             WHERE change_id = $4 AND tenant_id BETWEEN $5 AND $6) AS clocks"
        ))
        .bind(now)
        .bind(near)
        .bind(late)
        .bind(id.to_string())
        .bind(low.as_str())
        .bind(high.as_str())
        .fetch_one(&mut *connection)
        .await?;
        let count = |column| Ok::<_, StoreError>(get::<i64>(&row, column)?.unsigned_abs());
        let (tenants, open, overdue) = (count("tenants")?, count("open")?, count("overdue")?);
        let due = time_or_none(&row, "due")?;
        counts.insert(*id, ChangeCounts { tenants, open, overdue, due });
    }
    Ok(counts)
}
