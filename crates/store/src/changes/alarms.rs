//! Alarms: steps of escalation of which the side is told that holds the ball.
//!
//! ```text
//! step of a clock ─► alarm ─(waits for others)─► one notice of clocks to its side
//! ```
//!
//! They are [gathered](super::gathering): a thousand clocks that warn in one night are one message.

use domain::cloud::{ChangeId, PROVIDER, Side, TenantId};
use domain::obligation::Obligation;
use domain::sla::{Party, Rung};
use jiff::{SignedDuration, Timestamp};
use sqlx::AnyPool;

use super::gathering::{GATHERED, Gathering, Read};
use super::load;
use crate::error::StoreError;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// The kind of the notices that tell alarms.
pub const CLOCKS: &str = "clocks";

/// Where they wait.
pub(super) const GATHERING: Gathering = Gathering { table: "alarms", kind: CLOCKS };

/// How long a warning waits for others at most: a night.
const NIGHT: SignedDuration = SignedDuration::from_hours(8);

/// A step of a clock of which a side is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Of which change.
    pub change: ChangeId,
    /// Whose clock.
    pub tenant: TenantId,
    /// The step.
    pub step: Rung,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// What a side is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarms {
    /// Which side: a tenant, or [`PROVIDER`] for the provider's people.
    pub to: TenantId,
    /// How many there are.
    pub total: u64,
    /// The latest clocks' of them.
    pub first: Vec<Alarm>,
    /// How many clocks warn, are overdue, and passed a due date, each counted once.
    pub clocks: [u64; 3],
    /// When the newest was made.
    until: Timestamp,
}

impl Alarms {
    /// What was read.
    pub(super) const fn read(&self) -> Read {
        Read { to: self.to, rows: self.total, until: self.until }
    }
}

/// Notes that a side is to be told of a step of a clock whose ball somebody holds.
pub(super) async fn raise(
    tx: &mut Tx<'_>,
    obligation: &Obligation,
    place: i64,
    step: &Rung,
    holder: Party,
) -> Result<(), StoreError> {
    let (change, tenant) = (obligation.change(), obligation.tenant());
    let to = match holder.mover(obligation.duty()) {
        Side::Provider => PROVIDER,
        Side::Tenant => tenant,
    };
    let due = obligation.dues().binding().map(|date| date.due);
    sqlx::query(
        "INSERT INTO alarms (to_tenant, change_id, tenant_id, version, place, grade, step,
                             created_at, tell_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(to.to_string())
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(i64::try_from(obligation.version()).unwrap_or(i64::MAX))
    .bind(place)
    .bind(grade(step))
    .bind(load::text(step)?)
    .bind(tx.now.as_microsecond())
    .bind((tx.now + patience(step, due, tx.now)).as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

const fn grade(step: &Rung) -> i64 {
    match step {
        Rung::Share { .. } => 0,
        Rung::Stage { .. } | Rung::Errand { .. } => 1,
        Rung::Due { .. } => 2,
    }
}

/// How long a step may wait for others: what is only near, a night, and never more than a quarter of the
/// time that is left.
fn patience(step: &Rung, due: Option<Timestamp>, now: Timestamp) -> SignedDuration {
    match step {
        Rung::Stage { .. } | Rung::Errand { .. } | Rung::Due { .. } => GATHERED,
        Rung::Share { .. } => {
            let left = due.map_or(SignedDuration::ZERO, |due| due.duration_since(now));
            (left / 4).clamp(GATHERED, NIGHT)
        }
    }
}

/// All that a side is to be told, of which the latest clocks' are read; `None` where that is nothing.
pub(super) async fn of_side(
    pool: &AnyPool,
    to: TenantId,
    at_most: u16,
) -> Result<Option<Alarms>, StoreError> {
    let counted = sqlx::query(
        "SELECT CAST(COALESCE(SUM(steps), 0) AS BIGINT) AS total, MAX(newest) AS newest,
                COUNT(CASE WHEN worst = 0 THEN 1 END) AS warned,
                COUNT(CASE WHEN worst = 1 THEN 1 END) AS overdue,
                COUNT(CASE WHEN worst = 2 THEN 1 END) AS breached
         FROM (SELECT COUNT(*) AS steps, MAX(grade) AS worst, MAX(created_at) AS newest
               FROM alarms WHERE to_tenant = $1 GROUP BY change_id, tenant_id) AS clocks",
    )
    .bind(to.to_string())
    .fetch_one(pool)
    .await?;
    let Some(until) = time_or_none(&counted, "newest")? else { return Ok(None) };
    let count = |column| get::<i64>(&counted, column).map(i64::unsigned_abs);
    let rows = sqlx::query(
        "SELECT change_id, tenant_id, step, created_at FROM alarms
         WHERE to_tenant = $1 AND created_at <= $2
         ORDER BY grade DESC, tell_at, change_id, tenant_id, version, place LIMIT $3",
    )
    .bind(to.to_string())
    .bind(until.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    let first = rows.iter().map(|row| {
        Ok(Alarm {
            change: parsed(row, "change_id")?,
            tenant: parsed(row, "tenant_id")?,
            step: load::json(row, "step")?,
            created_at: time(row, "created_at")?,
        })
    });
    Ok(Some(Alarms {
        to,
        total: count("total")?,
        first: first.collect::<Result<_, StoreError>>()?,
        clocks: [count("warned")?, count("overdue")?, count("breached")?],
        until,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn a_warning_waits_a_night_and_never_a_quarter_of_what_is_left() {
        let now = Timestamp::UNIX_EPOCH;
        let share = Rung::Share { percent: 75, round: 0 };
        for (left, waits) in [
            (HOUR * 24 * 9, HOUR * 8),
            (HOUR * 18, HOUR * 18 / 4),
            (HOUR / 10, GATHERED),
            (-HOUR, GATHERED),
        ] {
            assert_eq!(patience(&share, Some(now + left), now), waits, "{left}");
        }
        let stage = Rung::Stage { stage: domain::sla::Stage::Test, round: 0 };
        assert_eq!(patience(&stage, Some(now + HOUR * 99), now), GATHERED);
        assert_eq!(patience(&share, None, now), GATHERED);
    }
}
