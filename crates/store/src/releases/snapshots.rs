//! Machines' disks as they were before a step with a restart, and the way back to them.
//!
//! ```text
//! wanted ─► taken ─► returning ─► returned ─► removed
//!    └► failed └──────────────────────────────────┘
//! ```
//!
//! Wanted with the order, which nobody gets before it is taken. What is done at a machine's place is done
//! outside, by whoever holds the lease, and may be done twice.

use domain::change::Rollback;
use domain::cloud::{CiId, EventKind, ReleaseId, Side, SnapshotId, TenantId, words};
use domain::release::{Job, Report};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use super::orders::{self, small};
use super::{Release, checks, runs};
use crate::Store;
use crate::actor::Actor;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// How long a snapshot is kept after its item was verified or went back, or its release ended: until it was
/// looked at again.
const KEPT: SignedDuration = SignedDuration::from_hours(26);

/// How long one is left alone that could not be removed.
const POSTPONED: SignedDuration = SignedDuration::from_mins(10);

/// Longest name of a place or machine, in bytes.
const LONGEST_NAME: usize = 200;

/// Longest reason that is kept, in bytes; places tell what programs said.
const LONGEST_REASON: usize = 2000;

words! {
    /// How a snapshot stands.
    SnapshotState {
        /// It is to be taken; the order waits for it.
        Wanted = "wanted",
        /// It is there.
        Taken = "taken",
        /// Its machine is to go back to it.
        Returning = "returning",
        /// Its machine went back; it is still there.
        Returned = "returned",
        /// It is gone.
        Removed = "removed",
        /// It could not be taken.
        Failed = "failed",
    }
}

/// Where the machine of an item lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// One of the provider's places.
    pub place: String,
    /// What the machine is called there.
    pub machine: String,
}

/// A snapshot of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id; its place knows it by that.
    pub id: SnapshotId,
    /// Whose machine.
    pub tenant: TenantId,
    /// Which item.
    pub ci: CiId,
    /// For which release.
    pub release: ReleaseId,
    /// Where.
    pub placement: Placement,
    /// How it stands.
    pub state: SnapshotState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was there.
    pub taken_at: Option<Timestamp>,
    /// When its machine had gone back to it.
    pub returned_at: Option<Timestamp>,
    /// When it was gone.
    pub removed_at: Option<Timestamp>,
    /// What stood in the way last.
    pub reason: Option<String>,
}

/// What is to be done at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotAct {
    /// Keep the machine's disks.
    Take,
    /// Bring them back.
    Return,
    /// Give them up.
    Remove,
}

/// Which snapshots are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct SnapshotFilter {
    /// Of one item.
    pub ci: Option<CiId>,
    /// Of one release.
    pub release: Option<ReleaseId>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, ci_id, release_id, place, machine, state, created_at, taken_at,
                    returned_at, removed_at, reason
             FROM snapshots ",
            $rest
        )
    };
}

/// Where machines live, and what is kept of them.
impl Store {
    /// Says where the machine of an item lives, or that it is at none of the provider's places any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] to whoever is not of the provider; [`StoreError::Refused`] where it is another
    /// item's machine.
    pub async fn place_ci(
        &self,
        by: &Actor,
        id: CiId,
        placement: Option<Placement>,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), placement), move |tx, (by, placement)| {
            Box::pin(place(tx, by, id, placement.as_ref()))
        })
        .await
    }

    /// Where the machine of an item lives, for the provider's people.
    pub async fn placement_of(
        &self,
        by: &Actor,
        id: CiId,
    ) -> Result<Option<Placement>, StoreError> {
        must_be_provider(by, id)?;
        let row = sqlx::query("SELECT place, machine FROM ci_machines WHERE ci_id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(placement).transpose()
    }

    /// Snapshots of machines that the actor may see, the newest first.
    pub async fn snapshots(
        &self,
        by: &Actor,
        filter: SnapshotFilter,
        at_most: u16,
    ) -> Result<Vec<Snapshot>, StoreError> {
        list(&self.pool, by, filter, at_most).await
    }

    /// What is to be done at places now, the longest due first.
    pub async fn due_snapshots(
        &self,
        at_most: u16,
    ) -> Result<Vec<(Snapshot, SnapshotAct)>, StoreError> {
        due(&self.pool, self.environment.now(), at_most).await
    }

    /// Takes in what came of that.
    pub async fn snapshot_came(
        &self,
        id: SnapshotId,
        act: SnapshotAct,
        outcome: Result<(), String>,
    ) -> Result<(), StoreError> {
        self.write(outcome, move |tx, outcome| Box::pin(came(tx, id, act, outcome.as_ref().err())))
            .await
    }
}

/// Where machines live is the provider's to know: a tenant that named another's machine could have it go back.
fn must_be_provider(by: &Actor, id: CiId) -> Result<(), StoreError> {
    match by {
        Actor::System => Ok(()),
        Actor::Person { role, .. } if role.side() == Side::Provider => Ok(()),
        Actor::Person { .. } | Actor::Agent { .. } => {
            Err(StoreError::not_found("machine of a configuration item", &id))
        }
    }
}

async fn place(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    placement: Option<&Placement>,
) -> Result<(), StoreError> {
    must_be_provider(by, id)?;
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    let before = sqlx::query("DELETE FROM ci_machines WHERE ci_id = $1 RETURNING place, machine")
        .bind(id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let before = before.as_ref().map(self::placement).transpose()?;
    if let Some(Placement { place, machine }) = placement {
        for name in [place, machine] {
            if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                return Err(StoreError::Refused {
                    reason: format!("{name:?} names no place or machine"),
                    help: "use the names that the place itself uses, at most 200 bytes long",
                });
            }
        }
        let other = sqlx::query("SELECT ci_id FROM ci_machines WHERE place = $1 AND machine = $2")
            .bind(place.as_str())
            .bind(machine.as_str())
            .fetch_optional(&mut *tx.connection)
            .await?;
        if let Some(other) = other {
            let other: CiId = parsed(&other, "ci_id")?;
            return Err(StoreError::Refused {
                reason: format!("`{machine}` at `{place}` is the machine of {other}"),
                help: "take it from that item first",
            });
        }
        sqlx::query(
            "INSERT INTO ci_machines (ci_id, tenant_id, place, machine, created_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.to_string())
        .bind(ci.tenant.to_string())
        .bind(place.as_str())
        .bind(machine.as_str())
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    }
    if before.as_ref() != placement {
        tx.record(NewEvent {
            tenant: ci.tenant,
            kind: EventKind::CiPlaced,
            by: by.clone(),
            object: id.to_string(),
            version: ci.version,
            payload: json!({ "before": before, "placement": placement }),
        });
    }
    Ok(())
}

/// A step of a release begins: where its plan's way back is a snapshot, one is wanted, unless it is there.
pub(super) async fn want(tx: &mut Tx<'_>, release: &Release, job: &Job) -> Result<(), StoreError> {
    let plan = release.run.layout().plans().get(&job.warrant.tenant());
    let stages = plan.map(|plan| plan.draft().stages.as_slice()).unwrap_or_default();
    let stage = usize::try_from(job.stage).ok().and_then(|at| stages.get(at));
    let item = stage.and_then(|stage| stage.items.iter().find(|item| item.ci == job.item));
    if !item.is_some_and(|item| item.rollback == Rollback::Snapshot) {
        return Ok(());
    }
    let machine = sqlx::query("SELECT place, machine FROM ci_machines WHERE ci_id = $1")
        .bind(job.item.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    // Where it lives is not said any more: there the attempt to take one says so.
    let Placement { place, machine } = match &machine {
        Some(row) => placement(row)?,
        None => Placement { place: String::new(), machine: String::new() },
    };
    let agent = sqlx::query(
        "SELECT id, counter FROM agents WHERE ci_id = $1 AND state = 'active' ORDER BY id LIMIT 1",
    )
    .bind(job.item.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let (agent, counter) = match &agent {
        Some(row) => (Some(get::<String>(row, "id")?), Some(get::<i64>(row, "counter")?)),
        None => (None, None),
    };
    sqlx::query(
        "INSERT INTO snapshots (id, tenant_id, ci_id, release_id, place, machine, state, attempt,
                                stage, agent_id, counter, created_at, due_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
         ON CONFLICT (release_id, ci_id) DO UPDATE SET
             state = excluded.state, attempt = excluded.attempt, place = excluded.place,
             machine = excluded.machine, agent_id = excluded.agent_id, counter = excluded.counter,
             due_at = excluded.due_at, reason = NULL
         WHERE snapshots.state = 'failed'",
    )
    .bind(SnapshotId::new(tx.now, tx.random()).to_string())
    .bind(job.warrant.tenant().to_string())
    .bind(job.item.to_string())
    .bind(release.id.to_string())
    .bind(place)
    .bind(machine)
    .bind(SnapshotState::Wanted.as_str())
    .bind(i64::from(job.attempt))
    .bind(i64::from(job.stage))
    .bind(agent)
    .bind(counter)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A machine is to go back to what was kept of it; says whether something was.
pub(super) async fn go_back(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    job: &Job,
) -> Result<bool, StoreError> {
    let sent = sqlx::query(
        "UPDATE snapshots SET state = $1, attempt = $2, stage = $3, due_at = $4
         WHERE release_id = $5 AND ci_id = $6 AND state = 'taken'",
    )
    .bind(SnapshotState::Returning.as_str())
    .bind(i64::from(job.attempt))
    .bind(i64::from(job.stage))
    .bind(tx.now.as_microsecond())
    .bind(release.to_string())
    .bind(job.item.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if sent > 0 {
        orders::call_off(tx, release, job.item, "its machine goes back to a snapshot").await?;
    }
    Ok(sent > 0)
}

/// An item is verified, or a whole release at its end: what was kept is given up after a while.
pub(super) async fn let_go(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: Option<CiId>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE snapshots SET due_at = $1
         WHERE release_id = $2 AND ($3 = '' OR ci_id = $3) AND state = 'taken' AND due_at IS NULL",
    )
    .bind((tx.now + KEPT).as_microsecond())
    .bind(release.to_string())
    .bind(ci.map(|ci| ci.to_string()).unwrap_or_default())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn due(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<(Snapshot, SnapshotAct)>, StoreError> {
    let rows = sqlx::query(select!("WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2"))
        .bind(now.as_microsecond())
        .bind(i64::from(at_most))
        .fetch_all(pool)
        .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        let snapshot = read(row)?;
        let act = match snapshot.state {
            SnapshotState::Wanted => SnapshotAct::Take,
            SnapshotState::Returning => SnapshotAct::Return,
            SnapshotState::Taken | SnapshotState::Returned => SnapshotAct::Remove,
            SnapshotState::Removed | SnapshotState::Failed => continue,
        };
        due.push((snapshot, act));
    }
    Ok(due)
}

async fn came(
    tx: &mut Tx<'_>,
    id: SnapshotId,
    act: SnapshotAct,
    failure: Option<&String>,
) -> Result<(), StoreError> {
    tx.hold("snapshots", "id", &id.to_string()).await?;
    let row = sqlx::query(
        "SELECT id, tenant_id, ci_id, release_id, place, machine, state, created_at, taken_at,
                returned_at, removed_at, reason, attempt, stage, agent_id, counter
         FROM snapshots WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("snapshot", &id))?;
    let snapshot = read(&row)?;
    let reason = failure.map(|said| orders::shortened(said, LONGEST_REASON));
    let (release, ci) = (snapshot.release, snapshot.ci);
    let (attempt, stage) = (small(&row, "attempt")?, small(&row, "stage")?);
    let at = Some(tx.now);
    let has_ended = sqlx::query("SELECT 1 FROM releases WHERE id = $1 AND ended IS NOT NULL")
        .bind(release.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?
        .is_some();
    let (after, due_at) = match (act, snapshot.state, reason.is_some()) {
        (SnapshotAct::Take, SnapshotState::Wanted, false) => {
            // Nobody waits for it any more.
            let due_at = has_ended.then_some(tx.now);
            (Snapshot { state: SnapshotState::Taken, taken_at: at, ..snapshot }, due_at)
        }
        (SnapshotAct::Take, SnapshotState::Wanted, true) => {
            (Snapshot { state: SnapshotState::Failed, ..snapshot }, None)
        }
        (SnapshotAct::Return, SnapshotState::Returning, false) => {
            let after = Snapshot { state: SnapshotState::Returned, returned_at: at, ..snapshot };
            (after, Some(tx.now + KEPT))
        }
        // It is still there, and may be gone back to by hand.
        (SnapshotAct::Return, SnapshotState::Returning, true) => {
            let due_at = has_ended.then(|| tx.now + KEPT);
            (Snapshot { state: SnapshotState::Taken, ..snapshot }, due_at)
        }
        (SnapshotAct::Remove, SnapshotState::Taken | SnapshotState::Returned, false) => {
            (Snapshot { state: SnapshotState::Removed, removed_at: at, ..snapshot }, None)
        }
        (SnapshotAct::Remove, SnapshotState::Taken | SnapshotState::Returned, true) => {
            (snapshot, Some(tx.now + POSTPONED))
        }
        // Another process was ahead.
        _ => return Ok(()),
    };
    let was_told = after.reason == reason;
    let after = Snapshot { reason, ..after };
    keep(tx, &after, due_at).await?;
    // What fails again and again is recorded once.
    if after.reason.is_none() || !was_told {
        record(tx, &after, act);
    }
    match (act, after.reason) {
        (SnapshotAct::Take, Some(reason)) => {
            let reason = format!("no snapshot could be taken: {reason}");
            orders::call_off(tx, release, ci, &reason).await?;
            runs::report(tx, release, ci, attempt, Report::Failed).await
        }
        (SnapshotAct::Return, None) => {
            rewind(tx, &row).await?;
            checks::ask(tx, release, ci, attempt, checks::What::Back, stage).await
        }
        (SnapshotAct::Return, Some(_)) => {
            runs::report(tx, release, ci, attempt, Report::Failed).await
        }
        (SnapshotAct::Take, None) | (SnapshotAct::Remove, _) => Ok(()),
    }
}

/// The host has the count of reports that it had then: reports that follow on that are no copy's.
async fn rewind(tx: &mut Tx<'_>, row: &AnyRow) -> Result<(), StoreError> {
    let (agent, counter): (Option<String>, Option<i64>) =
        (get(row, "agent_id")?, get(row, "counter")?);
    let (Some(agent), Some(counter)) = (agent, counter) else { return Ok(()) };
    sqlx::query(
        "UPDATE agents SET counter = $1, last_report = NULL, returns = returns + 1, altered_at = $2,
             version = version + 1
         WHERE id = $3 AND state = 'active'",
    )
    .bind(counter)
    .bind(tx.now.as_microsecond())
    .bind(agent)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn keep(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    due_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
    sqlx::query(
        "UPDATE snapshots SET state = $1, taken_at = $2, returned_at = $3, removed_at = $4,
             due_at = $5, reason = $6
         WHERE id = $7",
    )
    .bind(snapshot.state.as_str())
    .bind(micros(snapshot.taken_at))
    .bind(micros(snapshot.returned_at))
    .bind(micros(snapshot.removed_at))
    .bind(micros(due_at))
    .bind(snapshot.reason.as_deref())
    .bind(snapshot.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

fn record(tx: &mut Tx<'_>, snapshot: &Snapshot, act: SnapshotAct) {
    let kind = match (act, &snapshot.reason) {
        (_, Some(_)) => EventKind::SnapshotFailed,
        (SnapshotAct::Take, None) => EventKind::SnapshotTaken,
        (SnapshotAct::Return, None) => EventKind::SnapshotReturned,
        (SnapshotAct::Remove, None) => EventKind::SnapshotRemoved,
    };
    tx.record(NewEvent {
        tenant: snapshot.tenant,
        kind,
        by: Actor::System,
        object: snapshot.id.to_string(),
        version: 1,
        payload: json!({
            "ci": snapshot.ci, "release": snapshot.release, "state": snapshot.state,
            "reason": snapshot.reason,
        }),
    });
}

async fn list(
    pool: &AnyPool,
    by: &Actor,
    filter: SnapshotFilter,
    at_most: u16,
) -> Result<Vec<Snapshot>, StoreError> {
    let (low, high) = range(by.scope());
    let rows = sqlx::query(select!(
        "WHERE tenant_id BETWEEN $1 AND $2 AND ($3 = '' OR ci_id = $3)
             AND ($4 = '' OR release_id = $4)
         ORDER BY created_at DESC, id DESC LIMIT $5"
    ))
    .bind(low)
    .bind(high)
    .bind(filter.ci.map(|ci| ci.to_string()).unwrap_or_default())
    .bind(filter.release.map(|release| release.to_string()).unwrap_or_default())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

fn placement(row: &AnyRow) -> Result<Placement, StoreError> {
    Ok(Placement { place: get(row, "place")?, machine: get(row, "machine")? })
}

fn read(row: &AnyRow) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        release: parsed(row, "release_id")?,
        placement: placement(row)?,
        state: parsed(row, "state")?,
        created_at: time(row, "created_at")?,
        taken_at: time_or_none(row, "taken_at")?,
        returned_at: time_or_none(row, "returned_at")?,
        removed_at: time_or_none(row, "removed_at")?,
        reason: get(row, "reason")?,
    })
}
