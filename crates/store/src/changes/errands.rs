//! What an obligation owes beside the patch, and who did it.

use domain::change::Reason;
use domain::cloud::{ChangeId, EventKind, TenantId};
use domain::sla::Errand;
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use super::load::{corrupt, must_see};
use super::{ErrandRecord, Matter, Move, Outcome, advance};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::value::{get, parsed_or_none, time};
use crate::writer::Tx;

/// Records that somebody did what is owed, with what they say of it.
pub(super) async fn done(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    tenant: TenantId,
    action: &Move,
) -> Result<Outcome<Matter>, StoreError> {
    must_see(by, tenant)?;
    advance::person(by)?;
    let (errand, said, sha256) = match action {
        Move::SaveEvidence { what, sha256 } => (Errand::Evidence, what, Some(*sha256)),
        Move::ReEvaluate { conclusion } => (Errand::ReEvaluation, conclusion, None),
        _ => return Err(StoreError::Corrupt { what: "an errand".to_owned() }),
    };
    let outcome = advance::advance(tx, by, change, tenant, action).await?;
    if let Outcome::Done(matter) = &outcome {
        let version = advance::signed(matter.obligation.version());
        sqlx::query(
            "INSERT INTO errand_records (change_id, tenant_id, version, errand, said, sha256,
                                         recorded_by, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(change.to_string())
        .bind(tenant.to_string())
        .bind(version)
        .bind(errand.as_str())
        .bind(said.to_string())
        .bind(sha256.map(|hash| hash.to_string()))
        .bind(by.id())
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
        tx.record(NewEvent {
            tenant,
            kind: EventKind::ObligationAltered,
            by: by.clone(),
            object: change.to_string(),
            version,
            payload: json!({
                "event": "errand_recorded", "errand": errand, "said": said, "sha256": sha256,
                "recorded_by": by.id(),
            }),
        });
    }
    Ok(outcome)
}

/// What was recorded of an obligation's errands, the oldest first.
pub(super) async fn records(
    pool: &AnyPool,
    change: ChangeId,
    tenant: TenantId,
) -> Result<Vec<ErrandRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT errand, said, sha256, recorded_by, recorded_at FROM errand_records
         WHERE change_id = $1 AND tenant_id = $2 ORDER BY version",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// The errand of a word.
pub(super) fn of_word(word: String) -> Result<Errand, StoreError> {
    serde_json::from_value(word.into()).map_err(|error| corrupt("errand", &error))
}

fn read(row: &AnyRow) -> Result<ErrandRecord, StoreError> {
    let said: String = get(row, "said")?;
    let said: Reason = said.parse().map_err(|error| corrupt("what was said", &error))?;
    Ok(ErrandRecord {
        errand: of_word(get(row, "errand")?)?,
        said,
        sha256: parsed_or_none(row, "sha256")?,
        recorded_by: get(row, "recorded_by")?,
        recorded_at: time(row, "recorded_at")?,
    })
}
