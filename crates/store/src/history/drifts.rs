//! A stand-in for drifts until they are recorded: it keeps what tests open, and nothing else opens any.

use ::history::FilePath;
use domain::cloud::{CiId, DriftId, TenantId, words};
use domain::configuration::verdict::Judgement;
use jiff::Timestamp;
use serde_json::json;

use super::History;
use super::alarms::{self, Grade};
use crate::actor::Actor;
use crate::changes::load::json;
use crate::error::StoreError;
use crate::page::range;
use crate::value::{get, parsed, time, time_or_none};

words! {
    /// What happened to a file.
    Happening {
        /// It is there, and was not.
        Came = "came",
        /// It is another one than before.
        Altered = "altered",
        /// It is not there any more.
        Gone = "gone",
    }
}

words! {
    /// What became of a drift.
    DriftState {
        /// Nobody settled it.
        Open = "open",
        /// It may stay.
        Adopted = "adopted",
        /// It was put back.
        Reverted = "reverted",
        /// A change made something else of the file.
        Superseded = "superseded",
    }
}

/// A file that is not as it was agreed to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Its id.
    pub id: DriftId,
    /// Whose item.
    pub tenant: TenantId,
    /// On which item.
    pub ci: CiId,
    /// What the item is called.
    pub ci_name: String,
    /// Which file.
    pub path: FilePath,
    /// What happened to it the last time.
    pub what: Happening,
    /// What that is held to be.
    pub judgement: Judgement,
    /// Who, as the host told it.
    pub by: Option<String>,
    /// The first alteration, recorded.
    pub since: Timestamp,
    /// The last one.
    pub recorded_at: Timestamp,
    /// Alterations since.
    pub count: u32,
    /// What became of it.
    pub state: DriftState,
    /// When it was escalated.
    pub escalated_at: Option<Timestamp>,
}

impl History {
    /// A drift.
    pub async fn drift(&self, by: &Actor, id: DriftId) -> Result<Drift, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT tenant_id, ci_id, said, since, recorded_at, escalated_at, state FROM drift_stub
             WHERE id = $1 AND tenant_id BETWEEN $2 AND $3",
        )
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| StoreError::not_found("drift", &id))?;
        let (ci_name, path, what, judgement, by, count): (String, String, _, _, _, _) =
            json(&row, "said")?;
        Ok(Drift {
            id,
            tenant: parsed(&row, "tenant_id")?,
            ci: parsed(&row, "ci_id")?,
            ci_name,
            path: FilePath::new(path)?,
            what,
            judgement,
            by,
            since: time(&row, "since")?,
            recorded_at: time(&row, "recorded_at")?,
            count,
            state: get::<String>(&row, "state")?.parse().unwrap_or(DriftState::Open),
            escalated_at: time_or_none(&row, "escalated_at")?,
        })
    }

    /// For tests: a drift as it is now, and the alarm of it.
    #[doc(hidden)]
    pub async fn stub_drift(&self, to: TenantId, drift: Drift) -> Result<(), StoreError> {
        self.write(drift, move |tx, drift| {
            Box::pin(async move {
                sqlx::query(
                    "CREATE TABLE IF NOT EXISTS drift_stub (
                         id TEXT PRIMARY KEY, tenant_id TEXT, ci_id TEXT, said TEXT, since BIGINT,
                         recorded_at BIGINT, escalated_at BIGINT, state TEXT)",
                )
                .execute(&mut *tx.connection)
                .await?;
                let said = json!((
                    &drift.ci_name,
                    drift.path.as_str(),
                    drift.what,
                    &drift.judgement,
                    &drift.by,
                    drift.count
                ));
                sqlx::query(
                    "INSERT INTO drift_stub VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                     ON CONFLICT (id) DO UPDATE SET said = excluded.said, state = excluded.state,
                         recorded_at = excluded.recorded_at, escalated_at = excluded.escalated_at",
                )
                .bind(drift.id.to_string())
                .bind(drift.tenant.to_string())
                .bind(drift.ci.to_string())
                .bind(said.to_string())
                .bind(drift.since.as_microsecond())
                .bind(drift.recorded_at.as_microsecond())
                .bind(drift.escalated_at.map(Timestamp::as_microsecond))
                .bind(drift.state.as_str())
                .execute(&mut *tx.connection)
                .await?;
                if drift.state != DriftState::Open {
                    return alarms::withdraw(tx, drift.id).await;
                }
                let is_new = drift.escalated_at.is_none();
                let grade = if is_new { Grade::Opened } else { Grade::Escalated };
                alarms::raise(tx, to, (drift.id, drift.ci), grade).await
            })
        })
        .await
    }

    /// For tests: a drift settled by somebody who does not withdraw its alarm.
    #[doc(hidden)]
    pub async fn stub_settled(&self, id: DriftId) -> Result<(), StoreError> {
        self.write(id, |tx, id| {
            Box::pin(async move {
                sqlx::query("UPDATE drift_stub SET state = 'adopted' WHERE id = $1")
                    .bind(id.to_string())
                    .execute(&mut *tx.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
