//! Alarms of drift: what the owner of an item is to be told of files that were altered without anybody's
//! agreement, or without explanation; and of break-glass, under which they are altered without being asked.
//!
//! Told as the alarms of clocks are ([`Gathering`]): what happens in one night is one message.

use domain::cloud::{BreakGlassId, CiId, DriftId, TenantId, words};
use jiff::Timestamp;
use sqlx::AnyPool;

use crate::Store;
use crate::changes::Written;
use crate::changes::gathering::{GATHERED, Gathering, Read};
use crate::error::StoreError;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// The kind of the notices that tell alarms of drift.
pub const DRIFT: &str = "drift";

const GATHERING: Gathering = Gathering { table: "drift_alarms", kind: DRIFT };

words! {
    /// Of what of a drift somebody is told, the least first.
    Grade {
        /// It was opened.
        Opened = "opened",
        /// Nobody settled it in time.
        Escalated = "escalated",
    }
}

/// A drift of which a side is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftAlarm {
    /// Which.
    pub drift: DriftId,
    /// On which item.
    pub ci: CiId,
    /// The most urgent of what there is to tell of it.
    pub grade: Grade,
    /// When the first of it was raised.
    pub created_at: Timestamp,
}

/// A break-glass of which a side is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlassAlarm {
    /// Which.
    pub id: BreakGlassId,
    /// The most urgent of what there is to tell of it.
    pub grade: Grade,
}

/// What a side is to be told of drifts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftAlarms {
    /// Which side: a tenant, or [`PROVIDER`](domain::cloud::PROVIDER) for the provider's people.
    pub to: TenantId,
    /// The most urgent drifts.
    pub first: Vec<DriftAlarm>,
    /// How many drifts were opened, and how many are escalated, each counted once.
    pub drifts: [u64; 2],
    /// On how many items they are.
    pub items: u64,
    /// The most urgent of what is to be told of break-glass, as many as of drifts.
    pub break_glass: Vec<BreakGlassAlarm>,
    /// How many alarms there are, of both, of which a drift may have one of each grade.
    alarms: u64,
    /// When the newest was raised.
    until: Timestamp,
}

/// Notes that a side is to be told of a drift. What waits already waits on.
pub(crate) async fn raise(
    tx: &mut Tx<'_>,
    to: TenantId,
    (drift, ci): (DriftId, CiId),
    grade: Grade,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO drift_alarms (to_tenant, drift_id, ci_id, grade, created_at, tell_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(to.to_string())
    .bind(drift.to_string())
    .bind(ci.to_string())
    .bind(grade.rank())
    .bind(tx.now.as_microsecond())
    .bind((tx.now + GATHERED).as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Notes that a side is to be told of break-glass, at once: it is told together with the drifts that wait.
pub(crate) async fn raise_break_glass(
    tx: &mut Tx<'_>,
    to: TenantId,
    id: BreakGlassId,
    grade: Grade,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO drift_alarms (to_tenant, drift_id, ci_id, grade, created_at, tell_at)
         VALUES ($1, $2, '', $3, $4, $4) ON CONFLICT DO NOTHING",
    )
    .bind(to.to_string())
    .bind(id.to_string())
    .bind(grade.rank())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Nobody need be told any more of a drift, or of break-glass: it is settled, or reviewed.
pub(crate) async fn withdraw(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM drift_alarms WHERE drift_id = $1")
        .bind(id)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

impl Grade {
    const fn rank(self) -> i64 {
        match self {
            Self::Opened => 0,
            Self::Escalated => 1,
        }
    }

    const fn of_rank(rank: i64) -> Self {
        if rank == Self::Opened.rank() { Self::Opened } else { Self::Escalated }
    }
}

impl Store {
    /// The sides that are to be told now of drifts, at most so many: tenants, and
    /// [`PROVIDER`](domain::cloud::PROVIDER) for the provider's people.
    pub async fn drift_alarmed(&self, at_most: u16) -> Result<Vec<TenantId>, StoreError> {
        GATHERING.due(&self.pool, self.environment.now(), at_most).await
    }

    /// All that a side is to be told of drifts, of which at most so many are read; `None` where that is
    /// nothing.
    pub async fn drift_alarms(
        &self,
        to: TenantId,
        at_most: u16,
    ) -> Result<Option<DriftAlarms>, StoreError> {
        of_side(&self.pool, to, at_most).await
    }

    /// Publishes what was written of a side's alarms, as [`publish_notice`](Self::publish_notice) does;
    /// where nothing was, they are dropped. False where another process was faster.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another alarm came in beside, or one was withdrawn; then all of them
    /// stay.
    pub async fn tell_drift_alarms(
        &self,
        alarms: DriftAlarms,
        written: Option<Written>,
    ) -> Result<bool, StoreError> {
        let read = Read { to: alarms.to, rows: alarms.alarms, until: alarms.until };
        self.write(written, move |tx, written| Box::pin(GATHERING.tell(tx, read, written.as_ref())))
            .await
    }

    /// Leaves a side's alarms that cannot be written alone until then.
    pub async fn postpone_drift_alarms(
        &self,
        to: TenantId,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.write((), move |tx, ()| Box::pin(GATHERING.postpone(tx, to, until))).await
    }
}

async fn of_side(
    pool: &AnyPool,
    to: TenantId,
    at_most: u16,
) -> Result<Option<DriftAlarms>, StoreError> {
    let counted = sqlx::query(
        "SELECT CAST(COALESCE(SUM(steps), 0) AS BIGINT) AS alarms, MAX(newest) AS newest,
                COUNT(CASE WHEN worst = 0 AND ci_id <> '' THEN 1 END) AS opened,
                COUNT(CASE WHEN worst = 1 AND ci_id <> '' THEN 1 END) AS escalated,
                COUNT(DISTINCT CASE WHEN ci_id <> '' THEN ci_id END) AS items
         FROM (SELECT ci_id, COUNT(*) AS steps, MAX(grade) AS worst, MAX(created_at) AS newest
               FROM drift_alarms WHERE to_tenant = $1 GROUP BY drift_id, ci_id) AS drifts",
    )
    .bind(to.to_string())
    .fetch_one(pool)
    .await?;
    let Some(until) = time_or_none(&counted, "newest")? else { return Ok(None) };
    let count = |column| get::<i64>(&counted, column).map(i64::unsigned_abs);
    let rows = sqlx::query(
        "SELECT drift_id, ci_id, MAX(grade) AS worst, MIN(created_at) AS since
         FROM drift_alarms WHERE to_tenant = $1 AND created_at <= $2 AND ci_id <> ''
         GROUP BY drift_id, ci_id
         ORDER BY worst DESC, since, drift_id LIMIT $3",
    )
    .bind(to.to_string())
    .bind(until.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    let first = rows.iter().map(|row| {
        Ok(DriftAlarm {
            drift: parsed(row, "drift_id")?,
            ci: parsed(row, "ci_id")?,
            grade: Grade::of_rank(get(row, "worst")?),
            created_at: time(row, "since")?,
        })
    });
    Ok(Some(DriftAlarms {
        to,
        first: first.collect::<Result<_, StoreError>>()?,
        drifts: [count("opened")?, count("escalated")?],
        items: count("items")?,
        break_glass: break_glass(pool, to, until, at_most).await?,
        alarms: count("alarms")?,
        until,
    }))
}

/// What a side is to be told of break-glass: an alarm of no item.
async fn break_glass(
    pool: &AnyPool,
    to: TenantId,
    until: Timestamp,
    at_most: u16,
) -> Result<Vec<BreakGlassAlarm>, StoreError> {
    let rows = sqlx::query(
        "SELECT drift_id, MAX(grade) AS worst FROM drift_alarms
         WHERE to_tenant = $1 AND created_at <= $2 AND ci_id = ''
         GROUP BY drift_id ORDER BY worst DESC, drift_id LIMIT $3",
    )
    .bind(to.to_string())
    .bind(until.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let grade = Grade::of_rank(get(row, "worst")?);
            Ok(BreakGlassAlarm { id: parsed(row, "drift_id")?, grade })
        })
        .collect()
}
