//! Looks again, a day and a week after an item was verified: whether it is still what was planned.
//!
//! Each has its due instant in a row of its own, and is worked when that passes or when a report comes in
//! after it: nothing is scanned that is not due.

use domain::change::{Action, Plan};
use domain::cloud::{ChangeId, CiId, ReleaseId, TenantId, VerificationId};
use domain::release::Report;
use domain::verification::{self, Files, Occasion, Record, Untold, Verdict};
use jiff::{SignedDuration, Timestamp};
use sqlx::AnyPool;

use super::orders;
use super::verifications::{self, Backdrop, Look, Verifier};
use super::{checks, runs};
use crate::actor::Actor;
use crate::changes::load;
use crate::error::StoreError;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// When is looked again, after it was verified.
const AFTER: [(Occasion, SignedDuration); 2] = [
    (Occasion::After24h, SignedDuration::from_hours(24)),
    (Occasion::After7d, SignedDuration::from_hours(7 * 24)),
];

/// How much older than the due instant a look may be that counts.
pub(super) const EARLY: SignedDuration = SignedDuration::from_hours(1);

/// How long an item may say nothing before that is what is recorded.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// How long one is left alone that could not be worked.
const POSTPONED: SignedDuration = SignedDuration::from_mins(1);

/// An item was verified: it is looked at again later. What was to be looked at of an earlier execution of the
/// same change is not any more.
pub(super) async fn schedule(
    tx: &mut Tx<'_>,
    verified: VerificationId,
    change: ChangeId,
    ci: CiId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM verifications_due WHERE change_id = $1 AND ci_id = $2")
        .bind(change.to_string())
        .bind(ci.to_string())
        .execute(&mut *tx.connection)
        .await?;
    for (occasion, after) in AFTER {
        sqlx::query(
            "INSERT INTO verifications_due (verification_id, occasion, change_id, ci_id, due_at,
                                            wakes_at)
             VALUES ($1, $2, $3, $4, $5, $5)",
        )
        .bind(verified.to_string())
        .bind(occasion.as_str())
        .bind(change.to_string())
        .bind(ci.to_string())
        .bind((tx.now + after).as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

/// What is to be worked now, the longest due first.
pub(super) async fn due(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<(VerificationId, Occasion)>, StoreError> {
    let rows = sqlx::query(
        "SELECT verification_id, occasion FROM verifications_due WHERE wakes_at <= $1
         ORDER BY wakes_at, verification_id LIMIT $2",
    )
    .bind(now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "verification_id")?, parsed(row, "occasion")?))).collect()
}

pub(super) async fn postpone(
    tx: &mut Tx<'_>,
    verified: VerificationId,
    occasion: Occasion,
) -> Result<(), StoreError> {
    wake_at(tx, verified, occasion, tx.now + POSTPONED).await
}

async fn wake_at(
    tx: &mut Tx<'_>,
    verified: VerificationId,
    occasion: Occasion,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE verifications_due SET wakes_at = $1 WHERE verification_id = $2 AND occasion = $3",
    )
    .bind(at.as_microsecond())
    .bind(verified.to_string())
    .bind(occasion.as_str())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Holds what is seen of an item now against what it was verified to be. Where nothing was seen since it is
/// due, it waits for that.
pub(super) async fn look(
    tx: &mut Tx<'_>,
    verifier: &dyn Verifier,
    files: Option<&Files>,
    earlier: VerificationId,
    occasion: Occasion,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT due_at FROM verifications_due WHERE verification_id = $1 AND occasion = $2",
    )
    .bind(earlier.to_string())
    .bind(occasion.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let due_at = time(&row, "due_at")?;
    let before = verifications::find(&mut *tx.connection, &Actor::System, earlier).await?.record;
    let row = sqlx::query(
        "SELECT s.digest, s.tenant_id, f.facts, f.digest AS facts_digest, a.id AS agent,
                a.complete_at
         FROM agents a JOIN systems s ON s.ci_id = a.ci_id
         LEFT JOIN ci_facts f ON f.ci_id = a.ci_id
         WHERE a.ci_id = $1 AND a.state = 'active' AND a.complete_at >= $2
         ORDER BY a.complete_at DESC LIMIT 1",
    )
    .bind(before.ci.to_string())
    .bind((due_at - EARLY).as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let seen = match &row {
        Some(row) => checks::sight(tx, row).await?,
        None => None,
    };
    let actions = planned(tx, &before).await?;
    // Of files that were not told since, nothing was seen.
    let is_told = files.is_some() || !verification::alters_files(&actions);
    let none = Files::new();
    let (seen, verdict) = match seen.filter(|_| is_told) {
        Some(seen) => {
            let files = files.unwrap_or(&none);
            let then = before.seen.as_ref().and_then(|seen| seen.kernel.as_deref());
            let (installed, runtime) = (seen.set.inventory(), seen.runtime.as_ref());
            let verdict = verification::verify_again(&actions, then, installed, runtime, files);
            (Some(checks::with_files(seen.sighting, files)?), verdict)
        }
        None if is_gone(tx, before.ci).await? => return forget(tx, earlier, occasion).await,
        None if tx.now < due_at + PATIENCE => {
            return wake_at(tx, earlier, occasion, due_at + PATIENCE).await;
        }
        None => (None, Verdict::Undecided { because: Untold::Silent }),
    };
    let because = match &verdict {
        Verdict::Conflict { .. } => Some(verdict.to_string()),
        Verdict::Verified { .. } | Verdict::Undecided { .. } => None,
    };
    let Record { release, change, tenant, ci, claim, .. } = before;
    let order = claim.order;
    let look = Look { release, change, tenant, ci, claim, occasion, seen, verdict };
    verifications::keep(tx, verifier, &mut Backdrop::default(), look).await?;
    forget(tx, earlier, occasion).await?;
    if let Some(because) = because {
        let attempt = orders::contradict_later(tx, order, &because).await?;
        alarm(tx, release, change, tenant, ci, attempt).await?;
    }
    Ok(())
}

/// All that the plan says for the item, in all of its stages.
async fn planned(tx: &mut Tx<'_>, verified: &Record) -> Result<Vec<Action>, StoreError> {
    let row = sqlx::query("SELECT body FROM plans WHERE hash = $1")
        .bind(verified.claim.plan.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?
        .ok_or_else(|| StoreError::not_found("plan", &verified.claim.plan))?;
    let plan: Plan = load::read_plan(&row)?;
    let items = plan.draft().stages.iter().flat_map(|stage| &stage.items);
    let of_item = items.filter(|item| item.ci == verified.ci);
    Ok(of_item.flat_map(|item| item.actions.clone()).collect())
}

/// Whether an item left the cloud: nothing is to be said of it any more.
async fn is_gone(tx: &mut Tx<'_>, ci: CiId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT retired_at FROM cis WHERE id = $1")
        .bind(ci.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    row.map_or(Ok(true), |row| Ok(time_or_none(&row, "retired_at")?.is_some()))
}

async fn forget(
    tx: &mut Tx<'_>,
    verified: VerificationId,
    occasion: Occasion,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM verifications_due WHERE verification_id = $1 AND occasion = $2")
        .bind(verified.to_string())
        .bind(occasion.as_str())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// What was verified is not so any more: a release that is under way holds itself, and the tenant's part of
/// the change is looked at anew.
async fn alarm(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    change: ChangeId,
    tenant: TenantId,
    ci: CiId,
    attempt: u32,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT ended FROM releases WHERE id = $1")
        .bind(release.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let is_under_way = match row {
        Some(row) => get::<Option<String>>(&row, "ended")?.is_none(),
        None => false,
    };
    if is_under_way {
        runs::report(tx, release, ci, attempt, Report::Conflict).await?;
    }
    sqlx::query(
        "UPDATE obligations SET wakes_at = $1
         WHERE change_id = $2 AND tenant_id = $3 AND phase <> 'withdrawn'",
    )
    .bind(tx.now.as_microsecond())
    .bind(change.to_string())
    .bind(tenant.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}
