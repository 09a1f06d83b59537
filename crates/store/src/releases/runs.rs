//! Releases as they are kept, stepped, and followed by what their steps bring about.

use std::sync::Arc;

use domain::change::alteration;
use domain::change::{Outcome as Rollout, Permit, Phase, PlanHash, Rollback};
use domain::cloud::{ChangeId, CiId, EventId, EventKind, ReleaseId, Side, TenantId};
use domain::release::{
    Command, Effect, End, Event, Health, Job, Kept, Layout, Report, Run, Vacated,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::{Release, ReleaseRow, Verifier, checks, orders, snapshots};
use crate::actor::Actor;
use crate::changes::{Move, Outcome, advance, load};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::history::{self, Sights};
use crate::page::{Cursor, Page, PageRequest};
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;
use domain::cloud::PROVIDER;

/// How long a release that could not be looked at is left alone.
const POSTPONED: SignedDuration = SignedDuration::from_mins(1);

/// Time alone brings nothing about more often than this.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);

/// Rounds of what follows from what follows: an item that fails and is back at once takes two.
const ROUNDS: usize = 16;

pub(super) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    layout: &Arc<Layout>,
    two_persons_above: usize,
) -> Result<Release, StoreError> {
    let (id, change) = (layout.release(), layout.change());
    tx.hold("changes", "id", &change.to_string()).await?;
    give_way(tx, by, change).await?;
    let run = Run::new(Arc::clone(layout), tx.now);
    sqlx::query(
        "INSERT INTO releases (id, change_id, layout, run, mode, wakes_at, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $6)",
    )
    .bind(id.to_string())
    .bind(change.to_string())
    .bind(text(&**layout)?)
    .bind(text(&run.to_kept())?)
    .bind(run.mode().as_str())
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("release", &id))?;
    for (tenant, plan) in layout.plans() {
        sqlx::query(
            "INSERT INTO release_plans (plan_hash, release_id, tenant_id) VALUES ($1, $2, $3)",
        )
        .bind(plan.hash().to_string())
        .bind(id.to_string())
        .bind(tenant.to_string())
        .execute(&mut *tx.connection)
        .await
        .map_err(StoreError::exists("plan of a release", &plan.hash()))?;
        let action = Move::Plan { plan: plan.clone(), two_persons_above };
        if let Outcome::Refused { reason, help: _ } =
            advance::advance(tx, by, change, *tenant, &action).await?
        {
            // All of it or nothing: half a release would be out of step with its waves.
            return Err(StoreError::Refused {
                reason: format!("the plan for {tenant} is refused: {reason}"),
                help: "plan for later windows, or leave the tenant's items out",
            });
        }
    }
    let (created_by, created_at) = (by.id(), tx.now);
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::ReleasePlanned,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        payload: json!({
            "change": change, "layout": layout.hash(),
            "plans": layout.plans().iter().map(|(tenant, plan)| (tenant.to_string(), plan.hash()))
                .collect::<std::collections::BTreeMap<_, _>>(),
        }),
    });
    Ok(Release { id, change, created_by, created_at, run })
}

/// An earlier release of the change of which nothing has begun gives way to a new one; one that is under
/// way does not.
async fn give_way(tx: &mut Tx<'_>, by: &Actor, change: ChangeId) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT id FROM releases WHERE change_id = $1 AND ended IS NULL")
        .bind(change.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        let id: ReleaseId = parsed(row, "id")?;
        let mut release = held(tx, id).await?;
        let tally = release.run.tally();
        if tally.waiting + tally.skipped < tally.total() {
            return Err(StoreError::Refused {
                reason: format!("{id} carries this change out already"),
                help: "wait for its end, or abort it first",
            });
        }
        let reason = "another release takes its place".parse();
        let reason = reason.map_err(|error| corrupt("a reason", &error))?;
        let event = commanded(tx, by, Command::Abort { reason })?;
        if let Err(refusal) = step(tx, by, &mut release, vec![event, Event::Tick]).await? {
            return Err(StoreError::Refused {
                reason: format!("{id} does not give way: {refusal}"),
                help: "look at it, and abort it first",
            });
        }
        save(tx, &release).await?;
    }
    Ok(())
}

/// Somebody of the provider decides.
pub(super) async fn command(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ReleaseId,
    command: &Command,
) -> Result<Outcome<Release>, StoreError> {
    must_be_provider(by, id)?;
    let mut release = held(tx, id).await?;
    let event = commanded(tx, by, command.clone())?;
    match step(tx, by, &mut release, vec![event, Event::Tick]).await? {
        Ok(()) => {}
        Err(refusal) => {
            refused(tx, by, &release, &refusal.to_string());
            return Ok(Outcome::Refused {
                reason: refusal.to_string(),
                help: refusal.help().to_owned(),
            });
        }
    }
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::ReleaseAltered,
        by: by.clone(),
        object: id.to_string(),
        version: signed(release.run.version()),
        payload: json!({ "command": command }),
    });
    save(tx, &release).await?;
    Ok(Outcome::Done(release))
}

fn commanded(tx: &Tx<'_>, by: &Actor, command: Command) -> Result<Event, StoreError> {
    let id = EventId::new(tx.now, tx.random());
    Ok(Event::Commanded { id, by: advance::person(by)?, command })
}

/// A tenant was asked for its plan: if it is a release's, the release knows when silence is a yes.
pub(crate) async fn asked(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    plan: PlanHash,
    deemed_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let Some(mut release) = of_plan(tx, plan).await? else { return Ok(()) };
    happen(tx, &mut release, vec![Event::Asked { tenant, plan, deemed_at }]).await
}

/// A tenant's plan may be carried out: if it is a release's, the release learns of it.
pub(crate) async fn permitted(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    permit: Permit,
) -> Result<(), StoreError> {
    let Some(mut release) = of_plan(tx, permit.plan()).await? else { return Ok(()) };
    happen(tx, &mut release, vec![Event::Permitted { tenant, permit }]).await?;
    // Also one that has ended: then it says so to whoever waits for it.
    wake_now(tx, release.id).await
}

async fn of_plan(tx: &mut Tx<'_>, plan: PlanHash) -> Result<Option<Release>, StoreError> {
    let row = sqlx::query("SELECT release_id FROM release_plans WHERE plan_hash = $1")
        .bind(plan.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let id = parsed(&row, "release_id")?;
    held(tx, id).await.map(Some)
}

/// What came of an order, or of a look after it.
pub(super) async fn report(
    tx: &mut Tx<'_>,
    id: ReleaseId,
    item: CiId,
    attempt: u32,
    report: Report,
) -> Result<(), StoreError> {
    let mut release = held(tx, id).await?;
    happen(tx, &mut release, vec![Event::Reported { item, attempt, report }]).await?;
    wake_now(tx, id).await
}

/// Where something runs has altered: the releases that reckon with it learn of it. What runs nowhere is off.
pub(crate) async fn settled(tx: &mut Tx<'_>, vm: CiId, runs_on: &[CiId]) -> Result<(), StoreError> {
    let how = runs_on.first().map_or(Vacated::Off, |&to| Vacated::Moved { to });
    told(tx, vm, |run| {
        let from = run.host_of(vm).filter(|from| !runs_on.contains(from))?;
        Some(Event::Vacated { vm, from, how })
    })
    .await
}

/// Whether an item does what its owner expects of it has altered, as its agent saw just now: the releases that
/// reckon with it learn of it.
pub(crate) async fn looked(tx: &mut Tx<'_>, item: CiId, health: Health) -> Result<(), StoreError> {
    let taken_at = tx.now;
    told(tx, item, |run| run.reckons_with(item).then_some(Event::Looked { item, taken_at, health }))
        .await
}

/// Lets something happen to each open release that reckons with an item.
async fn told(
    tx: &mut Tx<'_>,
    item: CiId,
    event: impl Fn(&Run) -> Option<Event>,
) -> Result<(), StoreError> {
    // Layouts name their items by id: most releases need not be read for that.
    let rows = sqlx::query("SELECT id FROM releases WHERE ended IS NULL AND layout LIKE $1")
        .bind(format!("%{item}%"))
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        let id: ReleaseId = parsed(row, "id")?;
        let mut release = held(tx, id).await?;
        let Some(event) = event(&release.run) else { continue };
        happen(tx, &mut release, vec![event]).await?;
        wake_now(tx, id).await?;
    }
    Ok(())
}

/// Steps and keeps a release by what must be possible; what is not is recorded, and nothing happens.
async fn happen(
    tx: &mut Tx<'_>,
    release: &mut Release,
    events: Vec<Event>,
) -> Result<(), StoreError> {
    if let Err(refusal) = step(tx, &Actor::System, release, events).await? {
        refused(tx, &Actor::System, release, &refusal.to_string());
        return Ok(());
    }
    save(tx, release).await
}

/// What time brings about, and what was seen since.
pub(super) async fn wake(
    tx: &mut Tx<'_>,
    verifier: &dyn Verifier,
    sights: &Sights,
    id: ReleaseId,
) -> Result<(), StoreError> {
    let mut release = held(tx, id).await?;
    if release.run.ended().is_some() {
        let plans = release.run.layout().plans().clone();
        for (tenant, plan) in plans {
            give_up(tx, release.change, tenant, plan.hash()).await?;
        }
        return save(tx, &release).await;
    }
    let mut events = checks::news(tx, verifier, sights, &release).await?;
    events.push(Event::Tick);
    if let Err(refusal) = step(tx, &Actor::System, &mut release, events).await? {
        return Err(StoreError::Refused {
            reason: refusal.to_string(),
            help: "set the clock, or look at the release",
        });
    }
    save(tx, &release).await
}

/// Lets events happen, with all that follows; says the first refusal, at which it stops.
async fn step(
    tx: &mut Tx<'_>,
    by: &Actor,
    release: &mut Release,
    events: Vec<Event>,
) -> Result<Result<(), domain::release::Refusal>, StoreError> {
    let mut events = events;
    for _ in 0..ROUNDS {
        let mut next = Vec::new();
        for event in events {
            match release.run.step(event, tx.now) {
                Ok(effects) => {
                    for effect in effects {
                        next.extend(follow(tx, by, release, effect).await?);
                    }
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        if next.is_empty() {
            return Ok(Ok(()));
        }
        events = next;
    }
    Ok(Ok(()))
}

/// Performs an effect, and says what happens to the run by it.
async fn follow(
    tx: &mut Tx<'_>,
    by: &Actor,
    release: &Release,
    effect: Effect,
) -> Result<Option<Event>, StoreError> {
    let told = |tx: &mut Tx<'_>, payload| {
        tx.record(NewEvent {
            tenant: PROVIDER,
            kind: EventKind::ReleaseAltered,
            by: by.clone(),
            object: release.id.to_string(),
            version: signed(release.run.version()),
            payload,
        });
    };
    match effect {
        Effect::Start(job) | Effect::Reboot(job) => {
            orders::make(tx, release, &job, false).await?;
            snapshots::want(tx, release, &job).await?;
            Ok(None)
        }
        Effect::Drain { job, residents } => {
            // Whoever moves or stops them says so by their `runs_on`: see [`settled`].
            told(tx, json!({ "drain": job.item, "residents": residents }));
            Ok(None)
        }
        Effect::Refill { item, stopped } => {
            told(tx, json!({ "refill": item, "stopped": stopped }));
            Ok(None)
        }
        Effect::Verify { item, attempt, step: _ } => {
            let made = orders::stage_of(tx, release.id, item, attempt).await?;
            checks::ask(tx, release.id, item, attempt, checks::What::Done, made).await?;
            Ok(None)
        }
        Effect::RollBack(job) => send_back(tx, release, &job).await,
        Effect::Hold(hold) => {
            told(tx, json!({ "held": hold.to_string() }));
            Ok(None)
        }
        Effect::WaveDone { wave, tally } => {
            told(tx, json!({ "wave": wave, "tally": tally }));
            Ok(None)
        }
        Effect::TenantDone { tenant, plan, outcome } => {
            finish(tx, release.change, tenant, plan, outcome).await?;
            Ok(None)
        }
        Effect::ReleaseDone { end, tally } => {
            told(tx, json!({ "ended": end, "tally": tally }));
            orders::call_all_off(tx, release.id).await?;
            checks::forget(tx, release.id).await?;
            snapshots::let_go(tx, release.id, None).await?;
            Ok(None)
        }
    }
}

/// Where the agent says that the item is what it was, somebody looks whether it is. Files that were altered become what
/// they were before, by another order. Otherwise its machine goes back to what was kept of it, unless its step is
/// verified: since then people may have worked with it. No order makes a package older again: what was done stays until
/// somebody repairs it.
async fn send_back(
    tx: &mut Tx<'_>,
    release: &Release,
    job: &Job,
) -> Result<Option<Event>, StoreError> {
    let before = orders::last_outcome(tx, release.id, job.item).await?;
    if matches!(before.as_deref(), Some("rolled_back" | "refused" | "called_off")) {
        let Job { item, attempt, stage, .. } = *job;
        checks::ask(tx, release.id, item, attempt, checks::What::Back, stage).await?;
        return Ok(None);
    }
    if before.as_deref() == Some("done") && files_back(tx, release, job).await? {
        return Ok(None);
    }
    let is_verified = before.as_deref() == Some("done")
        && !checks::is_looked_at(tx, release.id, job.item).await?;
    if !is_verified && snapshots::go_back(tx, release.id, job).await? {
        return Ok(None);
    }
    let Job { item, attempt, .. } = *job;
    Ok(Some(Event::Reported { item, attempt, report: Report::Failed }))
}

/// Orders that files get what they held before, where that is the way back of an item; says whether it is.
async fn files_back(tx: &mut Tx<'_>, release: &Release, job: &Job) -> Result<bool, StoreError> {
    let Job { item, stage, ref warrant, .. } = *job;
    let plan = release.run.layout().plans().get(&warrant.tenant());
    let place = usize::try_from(stage).ok();
    let stage = plan.zip(place).and_then(|(plan, place)| plan.draft().stages.get(place));
    let planned = stage.and_then(|stage| stage.items.iter().find(|it| it.ci == item));
    let Some(planned) = planned.filter(|it| it.rollback == Rollback::Files) else {
        return Ok(false);
    };
    let Some(actions) = alteration::back(&planned.actions) else { return Ok(false) };
    orders::make(tx, release, job, true).await?;
    history::expect_back(tx, item, release.change, warrant.plan(), &actions).await?;
    // Nobody looks any more whether it is as it was planned.
    sqlx::query("DELETE FROM verifications_due WHERE change_id = $1 AND ci_id = $2")
        .bind(release.change.to_string())
        .bind(item.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(true)
}

/// A tenant's part of the change is at its end.
async fn finish(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
    plan: PlanHash,
    outcome: Rollout,
) -> Result<(), StoreError> {
    let action = Move::Finish { plan, outcome };
    // What is refused there is recorded there: the tenant's part has another plan by now.
    advance::advance(tx, &Actor::System, change, tenant, &action).await?;
    // Whether files are as they were to be, is known by now.
    sqlx::query(
        "UPDATE obligations SET wakes_at = $1
         WHERE change_id = $2 AND tenant_id = $3 AND phase = 'verifying' AND EXISTS (
             SELECT 1 FROM alteration_files f WHERE f.change_id = obligations.change_id)",
    )
    .bind(tx.now.as_microsecond())
    .bind(change.to_string())
    .bind(tenant.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A tenant's part began with a release that had ended: nothing of it is carried out.
async fn give_up(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
    plan: PlanHash,
) -> Result<(), StoreError> {
    let loaded = load::held(tx, change, tenant).await?;
    let share = loaded.obligation.share();
    let is_it = share
        .is_some_and(|share| share.phase() == Phase::RollingOut && share.plan().hash() == plan);
    if is_it {
        finish(tx, change, tenant, plan, Rollout::Failed).await?;
    }
    Ok(())
}

async fn save(tx: &mut Tx<'_>, release: &Release) -> Result<(), StoreError> {
    let run = &release.run;
    let wakes_at = match run.ended() {
        Some(_) => None,
        None => run.wakes_at(tx.now).map(|at| at.max(tx.now + SOONEST)),
    };
    sqlx::query("UPDATE releases SET run = $1, mode = $2, ended = $3, wakes_at = $4 WHERE id = $5")
        .bind(text(&run.to_kept())?)
        .bind(run.mode().as_str())
        .bind(run.ended().map(End::as_str))
        .bind(wakes_at.map(Timestamp::as_microsecond))
        .bind(release.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Has a release looked at with the next look.
pub(super) async fn wake_now(tx: &mut Tx<'_>, id: ReleaseId) -> Result<(), StoreError> {
    sqlx::query("UPDATE releases SET wakes_at = $1 WHERE id = $2")
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

pub(super) async fn postpone(tx: &mut Tx<'_>, id: ReleaseId) -> Result<(), StoreError> {
    sqlx::query("UPDATE releases SET wakes_at = $1 WHERE id = $2 AND ended IS NULL")
        .bind((tx.now + POSTPONED).as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

pub(super) async fn due(
    pool: &AnyPool,
    now: Timestamp,
    at_most: u16,
) -> Result<Vec<ReleaseId>, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM releases WHERE wakes_at <= $1 AND wakes_at IS NOT NULL
         ORDER BY wakes_at LIMIT $2",
    )
    .bind(now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

async fn held(tx: &mut Tx<'_>, id: ReleaseId) -> Result<Release, StoreError> {
    tx.hold("releases", "id", &id.to_string()).await?;
    tx.look_at_clock();
    find(&mut *tx.connection, &Actor::System, id).await
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    by: &Actor,
    id: ReleaseId,
) -> Result<Release, StoreError> {
    must_be_provider(by, id)?;
    let row = sqlx::query(
        "SELECT id, change_id, layout, run, created_by, created_at FROM releases WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| StoreError::not_found("release", &id))?;
    let layout: String = get(&row, "layout")?;
    let layout = Layout::parse(layout.as_bytes()).map_err(|error| corrupt("a layout", &error))?;
    let kept: String = get(&row, "run")?;
    let kept: Kept = serde_json::from_str(&kept).map_err(|error| corrupt("a run", &error))?;
    let run = Run::from_kept(kept, Arc::new(layout)).map_err(|error| corrupt("a run", &error))?;
    Ok(Release {
        id,
        change: parsed(&row, "change_id")?,
        created_by: get(&row, "created_by")?,
        created_at: time(&row, "created_at")?,
        run,
    })
}

pub(super) async fn list(
    pool: &AnyPool,
    by: &Actor,
    change: Option<ChangeId>,
    page: &PageRequest,
) -> Result<Page<ReleaseRow>, StoreError> {
    if by.scope().is_some() {
        return Ok(Page { items: Vec::new(), next: None });
    }
    let (_, after) = page.place();
    let rows = sqlx::query(
        "SELECT id, change_id, mode, ended, created_by, created_at FROM releases
         WHERE ($1 = '' OR id < $1) AND ($2 = '' OR change_id = $2)
         ORDER BY id DESC LIMIT $3",
    )
    .bind(after)
    .bind(change.map(|change| change.to_string()).unwrap_or_default())
    .bind(page.fetched())
    .fetch_all(pool)
    .await?;
    let rows = rows.iter().map(read_row).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut(rows, |row| Cursor::new(PROVIDER, row.id)))
}

fn read_row(row: &AnyRow) -> Result<ReleaseRow, StoreError> {
    Ok(ReleaseRow {
        id: parsed(row, "id")?,
        change: parsed(row, "change_id")?,
        mode: get(row, "mode")?,
        ended: parsed_or_none(row, "ended")?,
        created_by: get(row, "created_by")?,
        created_at: time(row, "created_at")?,
    })
}

/// Whole releases are the provider's: they tell of every tenant's items.
fn must_be_provider(by: &Actor, id: ReleaseId) -> Result<(), StoreError> {
    let is_provider = match by {
        Actor::System => true,
        Actor::Person { role, .. } => role.side() == Side::Provider,
        Actor::Agent { .. } => false,
    };
    if is_provider { Ok(()) } else { Err(StoreError::not_found("release", &id)) }
}

fn refused(tx: &mut Tx<'_>, by: &Actor, release: &Release, reason: &str) {
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::ReleaseRefused,
        by: by.clone(),
        object: release.id.to_string(),
        version: signed(release.run.version()),
        payload: json!({ "reason": reason }),
    });
}

pub(super) fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

pub(super) fn text<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt("a record", &error))
}

pub(super) fn corrupt(what: &str, error: &impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("{what}: {error}") }
}
