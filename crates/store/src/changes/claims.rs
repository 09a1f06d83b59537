//! What the provider may say of its own time and of what it saw, and who said it.

use domain::change::{FileHash, Kind, Sight};
use domain::cloud::{ChangeId, EventKind, TenantId, UserId};
use domain::sla::{Cause, Interruption, Moment};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use super::load::{self, Loaded, corrupt, must_see};
use super::{InterruptionClaim, Matter, Move, Outcome, advance};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::value::{get, time, time_or_none};
use crate::writer::Tx;

/// How long ago something may have begun to stand in the way that is claimed only now.
const LATEST_CLAIM: SignedDuration = SignedDuration::from_hours(24);

/// Why something is not done, and the way out.
type Beyond = Option<(String, &'static str)>;

/// Records what stands in the way of both sides, with whose word it is.
pub(super) async fn interrupt(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    tenant: TenantId,
    claim: &Interruption,
) -> Result<Outcome<Matter>, StoreError> {
    must_see(by, tenant)?;
    let loaded = load::held(tx, change, tenant).await?;
    if let Some((reason, help)) = no_claim(&loaded, claim, tx.now) {
        let version = advance::signed(loaded.obligation.version());
        advance::refused(tx, by, tenant, change.to_string(), version, &reason);
        return Ok(Outcome::refused(&reason, help));
    }
    let outcome = advance::advance(tx, by, change, tenant, &Move::Interrupt(*claim)).await?;
    if let Outcome::Done(matter) = &outcome {
        keep(tx, by, matter, claim).await?;
    }
    Ok(outcome)
}

/// Why the provider may not say so: it is the provider's own time that is booked to nobody then.
fn no_claim(loaded: &Loaded, claim: &Interruption, now: Timestamp) -> Beyond {
    let Loaded { obligation, policy, .. } = loaded;
    let Interruption { cause, from, until } = *claim;
    let known = obligation.case(policy).interruptions;
    if let Some(old) = known
        .iter()
        .find(|old| old.cause == cause && old.from.as_microsecond() == from.as_microsecond())
    {
        return match (old.until, until) {
            (Some(ended), _) => Some((
                format!("what began at {from} ended at {ended}"),
                "say anew what stands in the way since",
            )),
            (None, None) => {
                Some((format!("it stands in the way since {from} already"), "say when it ended"))
            }
            (None, Some(_)) => None,
        };
    }
    match cause {
        Cause::ChangeFreeze => {
            return Some((
                "a freeze is agreed by both sides, not said by one".to_owned(),
                "agree on it in the policy's calendar, or have the tenant defer the plan",
            ));
        }
        Cause::Refusal => {
            return Some((
                "a refusal is the tenant's own answer".to_owned(),
                "use vendor or host_unreachable",
            ));
        }
        Cause::Vendor | Cause::HostUnreachable => {}
    }
    let collected = obligation.instants().at(Moment::Collected);
    if let Some(collected) = collected.filter(|collected| from < *collected) {
        return Some((
            format!("{from} is before the patch was collected, at {collected}"),
            "say since when it stands in the way of this patch",
        ));
    }
    let earliest = now.checked_sub(LATEST_CLAIM).unwrap_or(Timestamp::MIN);
    if from < earliest || from > now {
        return Some((
            format!("{from} is not within the 24 hours before now, {now}"),
            "say what stands in the way when it begins",
        ));
    }
    None
}

/// Records what somebody of the provider's people saw of an alteration, and with what evidence.
pub(super) async fn saw(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    tenant: TenantId,
    sight: Sight,
    evidence: FileHash,
) -> Result<Outcome<Matter>, StoreError> {
    must_see(by, tenant)?;
    let person = advance::person(by)?;
    let loaded = load::held(tx, change, tenant).await?;
    if let Some((reason, help)) = no_sight(&loaded, person) {
        let version = advance::signed(loaded.obligation.version());
        advance::refused(tx, by, tenant, change.to_string(), version, &reason);
        return Ok(Outcome::refused(&reason, help));
    }
    let action = Move::Saw { sight, evidence };
    let outcome = advance::advance(tx, by, change, tenant, &action).await?;
    if let Outcome::Done(matter) = &outcome {
        let payload = json!({
            "event": "sight_claimed", "sight": sight, "evidence": evidence, "claimed_by": by.id(),
        });
        record(tx, by, matter, payload);
    }
    Ok(outcome)
}

/// Why somebody's word on what they saw counts for nothing.
fn no_sight(loaded: &Loaded, person: UserId) -> Beyond {
    if loaded.change.kind == Kind::Patch {
        return Some((
            "whether a patch is in, checks tell, and nobody's word".to_owned(),
            "wait for the next reports; `describe ci` says when an item was heard of",
        ));
    }
    let share = loaded.obligation.share();
    if share.is_none_or(|share| share.phase().is_before_start()) {
        return Some((
            "it was not carried out yet".to_owned(),
            "carry the plan out, and say how that went",
        ));
    }
    share.filter(|share| share.author() == person).map(|_| {
        let reason = "whoever wrote a plan does not say that it worked".to_owned();
        (reason, "have somebody else look")
    })
}

fn record(tx: &mut Tx<'_>, by: &Actor, matter: &Matter, payload: serde_json::Value) {
    tx.record(NewEvent {
        tenant: matter.obligation.tenant(),
        kind: EventKind::ObligationAltered,
        by: by.clone(),
        object: matter.obligation.change().to_string(),
        version: advance::signed(matter.obligation.version()),
        payload,
    });
}

/// Keeps who said so, beside what was said.
async fn keep(
    tx: &mut Tx<'_>,
    by: &Actor,
    matter: &Matter,
    claim: &Interruption,
) -> Result<(), StoreError> {
    let (change, tenant) = (matter.obligation.change(), matter.obligation.tenant());
    sqlx::query(
        "INSERT INTO interruption_claims (change_id, tenant_id, cause, from_at, until_at,
                                          claimed_by, claimed_at, altered_by, altered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)
         ON CONFLICT (change_id, tenant_id, cause, from_at) DO UPDATE SET
             until_at = excluded.until_at, altered_by = excluded.claimed_by,
             altered_at = excluded.claimed_at",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(word(claim.cause)?)
    .bind(claim.from.as_microsecond())
    .bind(claim.until.map(Timestamp::as_microsecond))
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    let claimed = json!({ "event": "interruption_claimed", "claim": claim, "claimed_by": by.id() });
    record(tx, by, matter, claimed);
    Ok(())
}

/// The claims about an obligation, the oldest first.
pub(super) async fn claims(
    pool: &AnyPool,
    change: ChangeId,
    tenant: TenantId,
) -> Result<Vec<InterruptionClaim>, StoreError> {
    let rows = sqlx::query(
        "SELECT cause, from_at, until_at, claimed_by, claimed_at FROM interruption_claims
         WHERE change_id = $1 AND tenant_id = $2 ORDER BY from_at, cause",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

fn word(cause: Cause) -> Result<String, StoreError> {
    Ok(load::text(&cause)?.trim_matches('"').to_owned())
}

fn read(row: &AnyRow) -> Result<InterruptionClaim, StoreError> {
    let cause: String = get(row, "cause")?;
    Ok(InterruptionClaim {
        cause: serde_json::from_value(cause.into()).map_err(|error| corrupt("cause", &error))?,
        from: time(row, "from_at")?,
        until: time_or_none(row, "until_at")?,
        claimed_by: get(row, "claimed_by")?,
        claimed_at: time(row, "claimed_at")?,
    })
}
