//! How changes and obligations begin: with a patch that is missing, an advisory that somebody
//! brought, or a person's decision.

use std::collections::BTreeSet;

use domain::change::{Change, Kind};
use domain::cloud::{AdvisoryId, ChangeId, CiId, Duty, EventKind, PROVIDER, PatchId, TenantId};
use domain::fleet::MissingPatch;
use domain::obligation::{Draft, Event, Obligation};
use domain::priority::{AssetFacts, Exposure, KevListing, Priority, PriorityInputs, Sourced};
use domain::sla::{Facts, Moment};
use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyPool;

use super::exclusions::{asked, asked_since};
use super::load::text;
use super::{ChangeStep, NewChange, TrackedChange, advance, lists, load, policies};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::advisories::{Advisory, AdvisoryState};
use crate::fleet::findings;
use crate::value::{get, parsed, time};
use crate::writer::Tx;
use crate::{cis, tenants};

/// Most items of a tenant that are asked whose duty they are; the rest is alike.
const MOST_ASKED: i64 = 200;

/// A change is for everybody, unless it came of an advisory that a tenant brought and the provider has
/// not accepted: that one is for its tenant alone.
macro_rules! for_everybody {
    ($provider:literal) => {
        concat!(
            "(changes.advisory_id IS NULL OR EXISTS (
                 SELECT 1 FROM advisories WHERE advisories.id = changes.advisory_id
                     AND (advisories.state = 'accepted' OR advisories.tenant_id = ",
            $provider,
            ")))"
        )
    };
}

pub(crate) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewChange,
) -> Result<TrackedChange, StoreError> {
    advance::person(by)?;
    let tracked = insert(tx, by, new, PROVIDER, None).await?;
    let id = tracked.change.id;
    for (tenant, since, priority) in concerned(tx, id).await? {
        open(tx, by, id, tenant, priority, since, None).await?;
    }
    for &tenant in &new.tenants {
        tenants::must_exist(tx, by, tenant).await?;
        if !exists(tx, id, tenant).await? {
            let now = tx.now;
            open(tx, by, id, tenant, new.priority, now, None).await?;
        }
    }
    Ok(tracked)
}

/// Patches that are missing somewhere and have no change that is for everybody.
pub(super) async fn patches_without(
    pool: &AnyPool,
    at_most: i64,
    now: Timestamp,
) -> Result<Vec<PatchId>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT DISTINCT patch_id
         FROM (SELECT DISTINCT patch_id, tenant_id FROM findings WHERE state = 'open' AND ",
        asked!("$3"),
        ") AS lacking
         WHERE NOT EXISTS (
             SELECT 1 FROM change_patches JOIN obligations
                 ON obligations.change_id = change_patches.change_id
             WHERE change_patches.patch_id = lacking.patch_id
                 AND obligations.tenant_id = lacking.tenant_id)
             AND NOT EXISTS (
             SELECT 1 FROM change_patches JOIN changes ON changes.id = change_patches.change_id
             WHERE change_patches.patch_id = lacking.patch_id AND ",
        for_everybody!("$2"),
        ") ORDER BY patch_id LIMIT $1"
    ))
    .bind(at_most)
    .bind(PROVIDER.to_string())
    .bind(now.as_microsecond())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| parsed(row, "patch_id")).collect()
}

/// A change for a patch that has none; says whether there is a new one.
pub(super) async fn open_change(tx: &mut Tx<'_>, patch: PatchId) -> Result<bool, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT release, source, candidate, patch FROM findings
         WHERE patch_id = $1 AND state = 'open' AND NOT EXISTS (
             SELECT 1 FROM change_patches JOIN changes ON changes.id = change_patches.change_id
             WHERE change_patches.patch_id = findings.patch_id AND ",
        for_everybody!("$2"),
        ") LIMIT 1"
    ))
    .bind(patch.to_string())
    .bind(PROVIDER.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let (release, source): (String, String) = (get(&row, "release")?, get(&row, "source")?);
    let candidate: String = get(&row, "candidate")?;
    let missing: MissingPatch = load::json(&row, "patch")?;
    let rows = sqlx::query(concat!(
        "SELECT DISTINCT tenant_id FROM findings WHERE patch_id = $1 AND state = 'open' AND ",
        asked!("$2")
    ))
    .bind(patch.to_string())
    .bind(tx.now.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut others = rows
        .iter()
        .map(|row| parsed(row, "tenant_id"))
        .collect::<Result<BTreeSet<TenantId>, _>>()?;
    // What somebody brought before it was found missing goes on as the same change.
    let mut is_new = false;
    for (change, only_for) in brought(tx, &missing).await? {
        if let Some(tenant) = only_for {
            others.remove(&tenant);
        } else {
            others.clear();
        }
        is_new |= link(tx, change, patch).await?;
    }
    if others.is_empty() {
        if is_new {
            reassess_all(tx, patch, &release).await?;
        }
        return Ok(is_new);
    }
    let new = NewChange {
        kind: Kind::Patch,
        title: format!("{source} {candidate} for {release}"),
        patches: vec![patch],
        tenants: Vec::new(),
        priority: Priority::Medium,
    };
    insert(tx, &Actor::System, &new, PROVIDER, None).await?;
    reassess_all(tx, patch, &release).await?;
    Ok(true)
}

/// Tenants that lack a patch of a change that is theirs too, and have no clock for that patch.
pub(super) async fn tenants_without(
    pool: &AnyPool,
    at_most: i64,
    now: Timestamp,
) -> Result<Vec<(ChangeId, TenantId)>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT DISTINCT change_patches.change_id AS change_id, lacking.tenant_id AS tenant_id
         FROM (SELECT patch_id, tenant_id, MAX(",
        asked_since!(),
        ") AS since FROM findings WHERE state = 'open' AND ",
        asked!("$3"),
        " GROUP BY patch_id, tenant_id) AS lacking
             JOIN change_patches ON change_patches.patch_id = lacking.patch_id
             JOIN changes ON changes.id = change_patches.change_id
         WHERE changes.stage <> 'withdrawn' AND (changes.tenant_id = lacking.tenant_id OR ",
        for_everybody!("$2"),
        ") AND NOT EXISTS (
             SELECT 1 FROM obligations JOIN change_patches AS others
                 ON others.change_id = obligations.change_id
             WHERE others.patch_id = lacking.patch_id
                 AND obligations.tenant_id = lacking.tenant_id
                 AND (obligations.phase <> 'withdrawn' OR obligations.withdrawn_at >= lacking.since))
         ORDER BY change_id, tenant_id LIMIT $1"
    ))
    .bind(at_most)
    .bind(PROVIDER.to_string())
    .bind(now.as_microsecond())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "change_id")?, parsed(row, "tenant_id")?))).collect()
}

/// A tenant's clock for a change; says whether there is a new one.
pub(super) async fn open_obligation(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
) -> Result<bool, StoreError> {
    let (change_text, tenant_text) = (change.to_string(), tenant.to_string());
    let row = sqlx::query(
        "SELECT phase, withdrawn_at FROM obligations WHERE change_id = $1 AND tenant_id = $2",
    )
    .bind(change_text.as_str())
    .bind(tenant_text.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    // Nobody lacked it any more, and somebody does again: that is another clock.
    let ended = match &row {
        Some(row) if get::<String>(row, "phase")? == "withdrawn" => {
            Some(get::<Option<i64>>(row, "withdrawn_at")?.unwrap_or(i64::MIN))
        }
        Some(_) => return Ok(false),
        None => None,
    };
    let lacked = sqlx::query(concat!(
        "SELECT MIN(since) AS since, MAX(priority) AS priority, COUNT(*) AS items
         FROM (SELECT priority, ",
        asked_since!(),
        " AS since FROM findings
               JOIN change_patches ON change_patches.patch_id = findings.patch_id
               WHERE change_id = $1 AND tenant_id = $2 AND state = 'open' AND ",
        asked!("$4"),
        ") AS asked WHERE since > $3"
    ))
    .bind(change_text.as_str())
    .bind(tenant_text.as_str())
    .bind(ended.unwrap_or(i64::MIN))
    .bind(tx.now.as_microsecond())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&lacked, "items")? == 0 {
        return Ok(false);
    }
    let (since, priority) = (time(&lacked, "since")?, findings::priority(&lacked)?);
    if row.is_some() {
        // What was still to be told of it is told by the new one's own clock.
        for gone in [
            "DELETE FROM alarms WHERE change_id = $1 AND tenant_id = $2",
            "DELETE FROM obligations WHERE change_id = $1 AND tenant_id = $2",
        ] {
            sqlx::query(gone)
                .bind(change_text.as_str())
                .bind(tenant_text.as_str())
                .execute(&mut *tx.connection)
                .await?;
        }
    }
    open(tx, &Actor::System, change, tenant, priority, since, None).await?;
    Ok(true)
}

/// What a tenant brings starts the clocks that the provider's own finds start (X.1642 8.7.1(2)).
pub(crate) async fn brought_by(
    tx: &mut Tx<'_>,
    by: &Actor,
    advisory: &Advisory,
    published: Option<Timestamp>,
) -> Result<(), StoreError> {
    let new = NewChange {
        kind: Kind::Patch,
        title: advisory.name.clone(),
        patches: Vec::new(),
        tenants: Vec::new(),
        priority: Priority::Medium,
    };
    let tracked = insert(tx, by, &new, advisory.tenant, Some(advisory.id)).await?;
    for patch in missing_by(tx, advisory).await? {
        link(tx, tracked.change.id, patch).await?;
    }
    if advisory.tenant != PROVIDER {
        let at = advisory.submitted_at;
        // Where no check has found it yet, nothing is known of it: medium, until somebody has looked.
        let found = concerned(tx, tracked.change.id).await?.into_iter();
        let priority = found.filter(|it| it.0 == advisory.tenant).map(|it| it.2).max();
        let priority = priority.unwrap_or(Priority::Medium);
        open(tx, by, tracked.change.id, advisory.tenant, priority, at, published).await?;
    }
    Ok(())
}

/// The patches that a tenant's items lack, and of which an advisory speaks.
async fn missing_by(tx: &mut Tx<'_>, advisory: &Advisory) -> Result<Vec<PatchId>, StoreError> {
    let rows = sqlx::query(
        "SELECT patch_id, MAX(patch) AS patch FROM findings
         WHERE tenant_id = $1 AND state = 'open' GROUP BY patch_id ORDER BY patch_id",
    )
    .bind(advisory.tenant.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut patches = Vec::new();
    for row in &rows {
        let missing: MissingPatch = load::json(row, "patch")?;
        if missing.advisories.contains(&advisory.name) {
            patches.push(parsed(row, "patch_id")?);
        }
    }
    Ok(patches)
}

/// What was rejected or taken back asks nothing of anybody any more, unless a patch of it was found
/// missing meanwhile: that is true whoever said it first.
pub(crate) async fn decided(
    tx: &mut Tx<'_>,
    by: &Actor,
    advisory: &Advisory,
) -> Result<(), StoreError> {
    if !matches!(advisory.state, AdvisoryState::Rejected | AdvisoryState::Withdrawn) {
        return Ok(());
    }
    let row = sqlx::query(
        "SELECT id FROM changes WHERE advisory_id = $1 AND NOT EXISTS (
             SELECT 1 FROM change_patches WHERE change_patches.change_id = changes.id)",
    )
    .bind(advisory.id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let said = advisory.decision.clone().unwrap_or_default();
    let reason = said.parse().or_else(|_| "the advisory was decided so".parse());
    let reason = reason.map_err(|error| load::corrupt("a reason", &error))?;
    // Refused where it is over already; that is recorded, and nothing else is to be done.
    advance::step_change(tx, by, parsed(&row, "id")?, &ChangeStep::Withdraw(reason)).await?;
    Ok(())
}

/// The changes of advisories that speak of a patch: for everybody, or for the tenant that is named.
/// Whose advisory is not accepted speaks for itself alone, whatever it calls it.
async fn brought(
    tx: &mut Tx<'_>,
    missing: &MissingPatch,
) -> Result<Vec<(ChangeId, Option<TenantId>)>, StoreError> {
    let mut changes = Vec::new();
    for name in &missing.advisories {
        let rows = sqlx::query(
            "SELECT changes.id AS id, advisories.tenant_id AS tenant_id, advisories.state AS state
             FROM changes JOIN advisories ON advisories.id = advisory_id
             WHERE advisories.name = $1 AND stage NOT IN ('withdrawn', 'closed')
             ORDER BY changes.id",
        )
        .bind(name.as_str())
        .fetch_all(&mut *tx.connection)
        .await?;
        for row in &rows {
            let tenant: TenantId = parsed(row, "tenant_id")?;
            let is_accepted = get::<String>(row, "state")? == AdvisoryState::Accepted.as_str();
            let of = (tenant != PROVIDER && !is_accepted).then_some(tenant);
            // The first that is for everybody is enough.
            if of.is_some() || changes.iter().all(|(_, of): &(_, Option<_>)| of.is_some()) {
                changes.push((parsed(row, "id")?, of));
            }
        }
    }
    Ok(changes)
}

async fn insert(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewChange,
    found_by: TenantId,
    advisory: Option<AdvisoryId>,
) -> Result<TrackedChange, StoreError> {
    let change = Change::found(ChangeId::new(tx.now, tx.random()), new.kind, tx.now);
    let id = change.id;
    sqlx::query(
        "INSERT INTO changes (id, title, tenant_id, advisory_id, record, stage, created_by,
                              created_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
    )
    .bind(id.to_string())
    .bind(new.title.as_str())
    .bind(found_by.to_string())
    .bind(advisory.map(|advisory| advisory.to_string()))
    .bind(text(&change)?)
    .bind(change.stage().as_str())
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    for &patch in &new.patches {
        link(tx, id, patch).await?;
    }
    tx.record(NewEvent {
        tenant: found_by,
        kind: EventKind::ChangeFound,
        by: by.clone(),
        object: id.to_string(),
        version: 0,
        payload: json!({
            "kind": new.kind, "title": new.title, "patches": new.patches, "advisory": advisory,
        }),
    });
    lists::change(&mut *tx.connection, None, id).await
}

/// Says whether it was not there yet.
async fn link(tx: &mut Tx<'_>, change: ChangeId, patch: PatchId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT release, source, candidate FROM findings WHERE patch_id = $1
         UNION SELECT release, source, candidate FROM set_patches WHERE patch_id = $1 LIMIT 1",
    )
    .bind(patch.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let row = row.ok_or_else(|| StoreError::not_found("patch", &patch))?;
    let text = |column| get::<String>(&row, column);
    let done = sqlx::query(
        "INSERT INTO change_patches (change_id, patch_id, release, source, candidate)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(change.to_string())
    .bind(patch.to_string())
    .bind(text("release")?)
    .bind(text("source")?)
    .bind(text("candidate")?)
    .execute(&mut *tx.connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The tenants that lack one of a change's patches, since when, and how urgent.
async fn concerned(
    tx: &mut Tx<'_>,
    change: ChangeId,
) -> Result<Vec<(TenantId, Timestamp, Priority)>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT tenant_id, MIN(",
        asked_since!(),
        ") AS since, MAX(priority) AS priority
             FROM findings JOIN change_patches ON change_patches.patch_id = findings.patch_id
             WHERE change_id = $1 AND state = 'open' AND ",
        asked!("$2"),
        " GROUP BY tenant_id ORDER BY tenant_id"
    ))
    .bind(change.to_string())
    .bind(tx.now.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, "tenant_id")?, time(row, "since")?, findings::priority(row)?)))
        .collect()
}

async fn exists(tx: &mut Tx<'_>, change: ChangeId, tenant: TenantId) -> Result<bool, StoreError> {
    let row =
        sqlx::query("SELECT 1 AS one FROM obligations WHERE change_id = $1 AND tenant_id = $2")
            .bind(change.to_string())
            .bind(tenant.to_string())
            .fetch_optional(&mut *tx.connection)
            .await?;
    Ok(row.is_some())
}

/// Opens an obligation, and evaluates it with what is known now. `published` is what an advisory says
/// where no check found its patch missing yet.
async fn open(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    tenant: TenantId,
    priority: Priority,
    collected: Timestamp,
    published: Option<Timestamp>,
) -> Result<(), StoreError> {
    let policy = policies::governing(&mut *tx.connection, tenant, collected).await?;
    let mut facts = Facts {
        priority,
        patch: PriorityInputs::default(),
        cves: Vec::new(),
        asset: AssetFacts::default(),
    };
    let known = known(tx, change, tenant).await?;
    facts.patch.known_exploited = listed(&known.exploited);
    let published = known.published.or(published);
    facts.asset.exposure = exposure(tx, change, tenant, collected).await?;
    let duty = duty_of(tx, change, tenant).await?;
    let draft = Draft { change, tenant, facts: facts.clone(), duty, published, collected };
    let (obligation, effects) = Obligation::open(draft, &policy, tx.now);
    advance::save(tx, &obligation, &policy, true).await?;
    advance::follow(tx, by, &obligation, effects).await?;
    // A check that found it missing has decided its priority; an advisory that somebody brought
    // waits for the provider's word.
    if !lacking(tx, change, tenant, 1).await?.is_empty() {
        let loaded = load::held(tx, change, tenant).await?;
        advance::take(tx, by, &loaded, Event::Assess { facts: Box::new(facts) }).await?;
    }
    Ok(())
}

/// What a check says anew of a patch that a tenant lacks: it may be more urgent than it was, or be
/// exploited now. Dates only become earlier by it.
pub(crate) async fn reassess(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    release: &str,
    patch: &MissingPatch,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT obligations.change_id AS change_id FROM obligations
         JOIN change_patches ON change_patches.change_id = obligations.change_id
         WHERE patch_id = $1 AND tenant_id = $2 AND is_settled = 0",
    )
    .bind(patch.id(release).to_string())
    .bind(tenant.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let loaded = load::held(tx, parsed(row, "change_id")?, tenant).await?;
        let known = loaded.obligation.facts();
        let mut facts = known.clone();
        facts.priority = facts.priority.max(patch.priority);
        facts.expose(exposure_for(tx, &loaded.obligation).await?);
        if !facts.is_exploited() {
            facts.patch.known_exploited = listed(&patch.exploited).or(facts.patch.known_exploited);
        }
        // What was brought before it was found missing is evaluated by that.
        let is_new = loaded.obligation.instants().at(Moment::Evaluated).is_none();
        if is_new || facts != *known {
            let event = Event::Assess { facts: Box::new(facts) };
            advance::take(tx, &Actor::System, &loaded, event).await?;
        }
    }
    Ok(())
}

/// The same for every tenant that lacks a patch.
async fn reassess_all(tx: &mut Tx<'_>, patch: PatchId, release: &str) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT tenant_id, MAX(patch) AS patch FROM findings
         WHERE patch_id = $1 AND state = 'open' GROUP BY tenant_id",
    )
    .bind(patch.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let missing: MissingPatch = load::json(row, "patch")?;
        reassess(tx, parsed(row, "tenant_id")?, release, &missing).await?;
    }
    Ok(())
}

/// What another label of an item means for what its tenant is asked.
pub(crate) async fn expose(tx: &mut Tx<'_>, ci: CiId) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT obligations.change_id AS change_id, obligations.tenant_id AS tenant_id
         FROM findings JOIN change_patches ON change_patches.patch_id = findings.patch_id
             JOIN obligations ON obligations.change_id = change_patches.change_id
                 AND obligations.tenant_id = findings.tenant_id
         WHERE ci_id = $1 AND is_settled = 0 ORDER BY change_id, tenant_id",
    )
    .bind(ci.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let loaded = load::held(tx, parsed(row, "change_id")?, parsed(row, "tenant_id")?).await?;
        let mut facts = loaded.obligation.facts().clone();
        facts.expose(exposure_for(tx, &loaded.obligation).await?);
        // Nobody has said yet how urgent it is, and a label does not.
        let is_evaluated = loaded.obligation.instants().at(Moment::Evaluated).is_some();
        if is_evaluated && facts != *loaded.obligation.facts() {
            let event = Event::Assess { facts: Box::new(facts) };
            advance::take(tx, &Actor::System, &loaded, event).await?;
        }
    }
    Ok(())
}

/// The worst exposure of the items that an obligation is about.
pub(super) async fn exposure_for(
    tx: &mut Tx<'_>,
    obligation: &Obligation,
) -> Result<Option<Sourced<Exposure>>, StoreError> {
    let since = obligation.instants().start().unwrap_or(tx.now);
    exposure(tx, obligation.change(), obligation.tenant(), since).await
}

/// The worst exposure of the items that lack one of a change's patches, or lacked it since an instant;
/// `None` where one of them does not say, unless another says that it is open.
async fn exposure(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
    since: Timestamp,
) -> Result<Option<Sourced<Exposure>>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT DISTINCT ci_labels.value AS said FROM findings
             JOIN change_patches ON change_patches.patch_id = findings.patch_id
             LEFT JOIN ci_labels ON ci_labels.ci_id = findings.ci_id AND ci_labels.key = $4
         WHERE change_id = $1 AND findings.tenant_id = $2
             AND (state = 'open' OR state = 'fixed' AND closed_at >= $3) AND ",
        asked!("$5")
    ))
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(since.as_microsecond())
    .bind(Exposure::LABEL)
    .bind(tx.now.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut said = BTreeSet::new();
    for row in &rows {
        let value: Option<String> = get(row, "said")?;
        said.insert(value.as_deref().and_then(Exposure::of_label));
    }
    let worst = said.last().copied().flatten();
    let is_known = worst == Some(Exposure::Open) || !said.contains(&None);
    let by = format!("the items' label `{}`", Exposure::LABEL);
    Ok(worst.filter(|_| is_known).map(|worst| Sourced::new(worst, by)))
}

/// That something is known to be exploited, and what.
fn listed(exploited: &[String]) -> Option<Sourced<KevListing>> {
    let said = || format!("the check: {}", exploited.join(", "));
    (!exploited.is_empty()).then(|| Sourced::new(KevListing::Listed, said()))
}

/// What checks know of all that a change fixes on a tenant's items.
#[derive(Default)]
struct Known {
    /// What of it is exploited, sorted.
    exploited: Vec<String>,
    /// When the vendor published it: of several patches, the first.
    published: Option<Timestamp>,
}

async fn known(tx: &mut Tx<'_>, change: ChangeId, tenant: TenantId) -> Result<Known, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT patch FROM findings
         JOIN change_patches ON change_patches.patch_id = findings.patch_id
         WHERE change_id = $1 AND tenant_id = $2 AND state = 'open' AND ",
        asked!("$4"),
        " LIMIT $3"
    ))
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(MOST_ASKED)
    .bind(tx.now.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut known = Known::default();
    let mut exploited = BTreeSet::new();
    for row in &rows {
        let patch: MissingPatch = load::json(row, "patch")?;
        exploited.extend(patch.exploited);
        known.published = known.published.into_iter().chain(patch.published).min();
    }
    known.exploited = exploited.into_iter().collect();
    Ok(known)
}

/// Who installs: the provider, unless all items are the tenant's to patch.
async fn duty_of(tx: &mut Tx<'_>, change: ChangeId, tenant: TenantId) -> Result<Duty, StoreError> {
    let mut duties = BTreeSet::new();
    for ci in lacking(tx, change, tenant, MOST_ASKED).await? {
        let ci = cis::find(&mut *tx.connection, None, ci).await?;
        duties.insert(ci.duty);
    }
    let all_tenants = !duties.is_empty() && !duties.contains(&Duty::Provider);
    Ok(if all_tenants { Duty::Tenant } else { Duty::Provider })
}

async fn lacking(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
    at_most: i64,
) -> Result<Vec<CiId>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT DISTINCT ci_id FROM findings
         JOIN change_patches ON change_patches.patch_id = findings.patch_id
         WHERE change_id = $1 AND tenant_id = $2 AND state = 'open' AND ",
        asked!("$4"),
        " LIMIT $3"
    ))
    .bind(change.to_string())
    .bind(tenant.to_string())
    .bind(at_most)
    .bind(tx.now.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    rows.iter().map(|row| parsed(row, "ci_id")).collect()
}
