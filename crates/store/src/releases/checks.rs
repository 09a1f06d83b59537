//! Looks at items after their agents said that something is done: by what is observed, not by what is
//! claimed.

use domain::change::{Action, FileHash};
use domain::cloud::{AgentId, CiId, EventKind, ReleaseId, TenantId, words};
use domain::fleet::PackageSet;
use domain::inventory::{Inventory, Runtime};
use domain::release::{Event, Report};
use domain::verification::{self, Files, Occasion, Sighting, Verdict};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::followups;
use super::orders::{self, small};
use super::runs::{corrupt, signed, text};
use super::verifications::{self, Backdrop, Look};
use super::{Release, Verifier, snapshots};
use crate::actor::Actor;
use crate::changes::{self, Dispute};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::systems;
use crate::history::Sights;
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;

words! {
    /// What is to be seen.
    What {
        /// What the plan says.
        Done = "done",
        /// What was there before.
        Back = "back",
    }
}

/// Somebody is to look at an item; what was seen before now does not count.
pub(super) async fn ask(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    attempt: u32,
    what: What,
    stage: u32,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO release_checks (release_id, ci_id, attempt, what, stage, since)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (release_id, ci_id) DO UPDATE SET
             attempt = excluded.attempt, what = excluded.what, stage = excluded.stage,
             since = excluded.since",
    )
    .bind(release.to_string())
    .bind(ci.to_string())
    .bind(i64::from(attempt))
    .bind(what.as_str())
    .bind(i64::from(stage))
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Whether somebody is to look at an item whether its step was done.
pub(super) async fn is_looked_at(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM release_checks WHERE release_id = $1 AND ci_id = $2 AND what = 'done'",
    )
    .bind(release.to_string())
    .bind(ci.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(row.is_some())
}

/// Nobody waits for anything of a release any more.
pub(super) async fn forget(tx: &mut Tx<'_>, release: ReleaseId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM release_checks WHERE release_id = $1")
        .bind(release.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// All that an agent saw of its host is known: whatever release waits for that looks at it.
pub(super) async fn complete(
    tx: &mut Tx<'_>,
    agent: AgentId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE agents SET complete_at = $1 WHERE id = $2 AND complete_at < $1")
        .bind(at.as_microsecond())
        .bind(agent.to_string())
        .execute(&mut *tx.connection)
        .await?;
    sqlx::query(
        "UPDATE systems SET seen_at = $1 WHERE seen_at < $1
             AND ci_id IN (SELECT ci_id FROM agents WHERE id = $2 AND state = 'active')",
    )
    .bind(at.as_microsecond())
    .bind(agent.to_string())
    .execute(&mut *tx.connection)
    .await?;
    // What waits to be verified by a look at this very item is looked at.
    sqlx::query(
        "UPDATE obligations SET wakes_at = $1 WHERE phase = 'verifying'
             AND (change_id, tenant_id) IN (
                 SELECT o.change_id, o.tenant_id FROM orders o JOIN agents a ON a.ci_id = o.ci_id
                 WHERE a.id = $2 AND o.outcome = 'done')",
    )
    .bind(tx.now.as_microsecond())
    .bind(agent.to_string())
    .execute(&mut *tx.connection)
    .await?;
    wake(tx, agent, at).await
}

/// Whoever waits to see something of an agent's host looks now.
async fn wake(tx: &mut Tx<'_>, agent: AgentId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE releases SET wakes_at = $1 WHERE ended IS NULL AND id IN (
             SELECT c.release_id FROM release_checks c JOIN agents a ON a.ci_id = c.ci_id
             WHERE a.id = $2 AND c.since < $3)",
    )
    .bind(tx.now.as_microsecond())
    .bind(agent.to_string())
    .bind(at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    sqlx::query(
        "UPDATE verifications_due SET wakes_at = $1 WHERE wakes_at > $1 AND due_at <= $3
             AND ci_id IN (SELECT ci_id FROM agents WHERE id = $2)",
    )
    .bind(tx.now.as_microsecond())
    .bind(agent.to_string())
    .bind(at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// What was seen since somebody was to look; each look after an order is signed and kept.
pub(super) async fn news(
    tx: &mut Tx<'_>,
    verifier: &dyn Verifier,
    sights: &Sights,
    release: &Release,
) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.ci_id, c.attempt, c.what, c.stage, s.digest, s.tenant_id, f.facts,
                f.digest AS facts_digest, a.id AS agent, a.complete_at
         FROM release_checks c
         JOIN agents a ON a.ci_id = c.ci_id AND a.state = 'active'
         JOIN systems s ON s.ci_id = c.ci_id
         LEFT JOIN ci_facts f ON f.ci_id = c.ci_id
         WHERE c.release_id = $1 AND a.complete_at > c.since",
    )
    .bind(release.id.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let (mut events, mut backdrop) = (Vec::new(), Backdrop::default());
    for row in &rows {
        let (item, attempt): (CiId, u32) = (parsed(row, "ci_id")?, small(row, "attempt")?);
        let Some(seen) = sight(tx, row).await? else { continue };
        let stage = small(row, "stage")?;
        let Some((actions, restarts_later)) = planned(release, seen.tenant, item, stage) else {
            continue;
        };
        // Files are told after packages; until all of them are, nothing is known of them.
        let files = match sights.get(&(item, attempt)) {
            Some(files) => files.clone(),
            None if verification::alters_files(&actions) => continue,
            None => Files::new(),
        };
        let installed = seen.set.inventory();
        let what: What = parsed(row, "what")?;
        let (report, because, record) = match what {
            What::Back if is_back(tx, release.id, item, (&actions, installed, &files)).await? => {
                (Report::RolledBack, None, None)
            }
            What::Back => {
                let because = "what the plan brought, or a part of it, is still there".to_owned();
                (Report::Failed, Some(because), None)
            }
            What::Done => {
                let runtime = seen.runtime.as_ref();
                let verdict =
                    verification::verify(&actions, restarts_later, installed, runtime, &files);
                let outcome = match &verdict {
                    Verdict::Verified { .. } => Some((Report::Verified, None)),
                    Verdict::Conflict { .. } => Some((Report::Conflict, Some(verdict.to_string()))),
                    // It is not known, and so it is not verified: patience runs out.
                    Verdict::Undecided { .. } => None,
                };
                let look = Look {
                    release: release.id,
                    change: release.change,
                    tenant: seen.tenant,
                    ci: item,
                    claim: verifications::claim(tx, release.id, item, attempt).await?,
                    occasion: Occasion::AfterOrder,
                    seen: Some(with_files(seen.sighting.clone(), &files)?),
                    verdict,
                };
                let record = verifications::keep(tx, verifier, &mut backdrop, look).await?;
                // Not before its restart: until then it is half of what was planned.
                if let (Some((Report::Verified, _)), Some(record), false) =
                    (&outcome, record, restarts_later)
                {
                    followups::schedule(tx, record, release.change, item).await?;
                    snapshots::let_go(tx, release.id, Some(item)).await?;
                }
                let Some((report, because)) = outcome else { continue };
                (report, because, record)
            }
        };
        sqlx::query("DELETE FROM release_checks WHERE release_id = $1 AND ci_id = $2")
            .bind(release.id.to_string())
            .bind(item.to_string())
            .execute(&mut *tx.connection)
            .await?;
        if let Some(because) = &because {
            orders::contradict(tx, release.id, item, because).await?;
            if let Some(plan) = release.run.layout().plans().get(&seen.tenant) {
                let because = format!("is not what its agent says: {because}");
                let dispute = Dispute { item, because };
                let of = (release.change, plan.hash());
                changes::dispute(tx, of, seen.tenant, &dispute).await?;
            }
        }
        let Sighting { agent, package_set, seen_at, .. } = seen.sighting;
        tx.record(NewEvent {
            tenant: seen.tenant,
            kind: EventKind::OrderVerified,
            by: Actor::System,
            object: item.to_string(),
            version: signed(u64::from(attempt)),
            payload: json!({
                "release": release.id, "change": release.change, "what": what, "report": report,
                "because": because, "package_set": package_set, "agent": agent,
                "seen_at": seen_at, "verification": record,
            }),
        });
        events.push(Event::Reported { item, attempt, report });
    }
    Ok(events)
}

/// Whether an item is what it was: where an order was carried out and taken back, in all of it; where it was refused, or
/// nobody fetched it, as far as it is the plan's.
async fn is_back(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    (actions, installed, files): (&[Action], &Inventory, &Files),
) -> Result<bool, StoreError> {
    let outcome = orders::last_outcome(tx, release, ci).await?;
    Ok(match outcome.as_deref() {
        Some("refused" | "called_off") => verification::has_none(actions, installed, files),
        _ => verification::is_back(actions, installed, files),
    })
}

/// A sighting, with what files were seen to hold.
pub(super) fn with_files(sighting: Sighting, files: &Files) -> Result<Sighting, StoreError> {
    if files.is_empty() {
        return Ok(sighting);
    }
    let digest = <[u8; 32]>::from(Sha256::digest(text(files)?));
    Ok(Sighting { files: Some(FileHash::from(digest)), ..sighting })
}

/// The history has all files that an agent saw by then: whatever release waits for that looks at it.
pub(super) async fn files_complete(
    tx: &mut Tx<'_>,
    agent: AgentId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE agents SET files_at = $1 WHERE id = $2 AND files_at < $1")
        .bind(at.as_microsecond())
        .bind(agent.to_string())
        .execute(&mut *tx.connection)
        .await?;
    wake(tx, agent, at).await
}

/// All that was seen of an item.
pub(super) struct Seen {
    pub(super) tenant: TenantId,
    pub(super) set: PackageSet,
    pub(super) runtime: Option<Runtime>,
    pub(super) sighting: Sighting,
}

/// What a row of systems, facts and agents says was seen; `None` where the packages are not here.
pub(super) async fn sight(tx: &mut Tx<'_>, row: &AnyRow) -> Result<Option<Seen>, StoreError> {
    let (tenant, package_set) = (parsed(row, "tenant_id")?, parsed(row, "digest")?);
    let set = systems::set(&mut *tx.connection, None, tenant, package_set).await?;
    let Some(set) = set else { return Ok(None) };
    let facts: Option<String> = get(row, "facts")?;
    let facts: Option<domain::agent::Facts> = facts
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| corrupt("facts", &error))?;
    let runtime = facts.and_then(|facts| facts.runtime);
    let sighting = Sighting {
        agent: parsed(row, "agent")?,
        package_set,
        facts: parsed_or_none(row, "facts_digest")?,
        kernel: runtime.as_ref().map(|runtime| runtime.running_kernel.clone()),
        files: None,
        seen_at: time(row, "complete_at")?,
    };
    Ok(Some(Seen { tenant, set, runtime, sighting }))
}

/// What the plan says for an item in a stage, and whether it restarts in a later one.
fn planned(
    release: &Release,
    tenant: TenantId,
    ci: CiId,
    stage: u32,
) -> Option<(Vec<Action>, bool)> {
    let plan = release.run.layout().plans().get(&tenant)?;
    let stages = &plan.draft().stages;
    let place = usize::try_from(stage).ok()?;
    let of = |at: usize| {
        let items = &stages.get(at)?.items;
        items.iter().find(|item| item.ci == ci).map(|item| &item.actions)
    };
    let actions = of(place)?.clone();
    let mut later = place + 1..stages.len();
    let restarts = |at| of(at).is_some_and(|actions| actions.contains(&Action::Reboot));
    Some((actions, later.any(restarts)))
}
