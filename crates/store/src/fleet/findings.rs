//! Findings: which item lacks which patch, since when, and who bears the risk.

use domain::change::LONGEST_RISK;
use domain::check::Report;
use domain::cloud::{CiId, Duty, EventKind, FindingId, GroupId, PatchId, Side, TenantId};
use domain::fleet::{
    FindingState, KnownFinding, MissingPatch, PackageSet, SetDigest, Step, reconcile,
};
use domain::inventory::PackageFamily;
use domain::priority::Priority;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::bakes;
use crate::changes::{Excluded, advance, exclusions, open};
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::groups::member;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

use super::checks::{number, status_word};

/// A patch that an item lacks or lacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its id.
    pub id: FindingId,
    /// Whose item.
    pub tenant: TenantId,
    /// Which item.
    pub ci: CiId,
    /// The patch, for all items alike.
    pub patch_id: PatchId,
    /// Of which distribution's release (`debian:12`).
    pub release: String,
    /// The patch as this item lacks it.
    pub patch: MissingPatch,
    /// Where it stands.
    pub state: FindingState,
    /// When it was first missing.
    pub first_seen_at: Timestamp,
    /// Since when it is or was missing this time.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// How often it came back.
    pub reopened: i64,
    /// Whose risk it is, where somebody took it; over after its time.
    pub acceptance: Option<Acceptance>,
    /// Why the tenant's SLA asks nothing about it, and until when (`None`: as long as the policy); over
    /// after its time. It is missing all the same.
    pub excluded: Option<(Excluded, Option<Timestamp>)>,
    /// Raised by each alteration.
    pub version: i64,
}

/// Somebody bears the risk of a finding for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Why.
    pub reason: String,
    /// Who bears it.
    pub risk_owner: String,
    /// Who said so: a user's id.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// A risk that is to be accepted.
#[derive(Debug, Clone)]
pub struct NewAcceptance {
    /// Why.
    pub reason: String,
    /// Who bears it.
    pub risk_owner: String,
    /// Until when.
    pub until: Timestamp,
}

/// Which findings are asked for.
#[derive(Debug, Clone, Default)]
pub struct FindingFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of one group of items.
    pub group: Option<GroupId>,
    /// Of one item.
    pub ci: Option<CiId>,
    /// Of one patch.
    pub patch: Option<PatchId>,
    /// In one state.
    pub state: Option<FindingState>,
    /// Of one priority.
    pub priority: Option<Priority>,
    /// Of one source package.
    pub source: Option<String>,
}

/// A patch that systems lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its id.
    pub id: PatchId,
    /// Of which distribution's release.
    pub release: String,
    /// Source package.
    pub source: String,
    /// Source version with the patch.
    pub candidate: String,
    /// The highest priority that it has anywhere.
    pub priority: Priority,
    /// Whether it closes a vulnerability somewhere.
    pub security: bool,
    /// How many items lack it.
    pub items: u64,
    /// Of how many tenants.
    pub tenants: u64,
}

/// A check of a set, ready to be carried over to the systems that have it.
pub(crate) struct Checked {
    pub(crate) tenant: TenantId,
    pub(crate) digest: SetDigest,
    pub(crate) set: PackageSet,
    pub(crate) report: Report,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, ci_id, patch_id, release, patch, state, first_seen_at, opened_at,
                    closed_at, reopened, accepted_reason, risk_owner, accepted_by, accepted_at,
                    accepted_until, excluded, excluded_until, version
             FROM findings ",
            $rest
        )
    };
}

/// What changed about an item's findings, for its record.
#[derive(Default, Serialize)]
struct Changed {
    opened: Vec<serde_json::Value>,
    reopened: Vec<serde_json::Value>,
    altered: Vec<serde_json::Value>,
    fixed: Vec<String>,
    withdrawn: Vec<String>,
}

pub(crate) async fn apply(
    tx: &mut Tx<'_>,
    ci: CiId,
    version: i64,
    checked: &Checked,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT state, patch FROM findings WHERE ci_id = $1")
        .bind(ci.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    let known = rows
        .iter()
        .map(|row| Ok(KnownFinding { state: parsed(row, "state")?, patch: read_patch(row)? }))
        .collect::<Result<Vec<_>, StoreError>>()?;
    let inventory = checked.set.inventory();
    let release = inventory.os.release();
    let mut changed = Changed::default();
    let steps = reconcile(&known, inventory, &checked.report);
    let excludes = !steps.is_empty() && exclusions::any(tx, checked.tenant).await?;
    for step in steps {
        let brief = |patch: &MissingPatch| {
            json!({
                "source": patch.source, "candidate": patch.candidate, "priority": patch.priority,
            })
        };
        match step {
            Step::Open(patch) => {
                changed.opened.push(brief(&patch));
                insert(tx, checked.tenant, ci, &release, inventory.family, &patch).await?;
                if excludes {
                    exclusions::mark(tx, checked.tenant, Some(ci)).await?;
                }
                if !excludes || !exclusions::is_excluded(tx, ci, &patch.source).await? {
                    open::reassess(tx, checked.tenant, &release, &patch).await?;
                }
                advance::wake_source(tx, checked.tenant, &release, &patch.source).await?;
            }
            Step::Reopen(patch) => {
                changed.reopened.push(brief(&patch));
                alter(tx, ci, &release, inventory.family, &patch, true).await?;
                if excludes {
                    exclusions::mark(tx, checked.tenant, Some(ci)).await?;
                }
                if !excludes || !exclusions::is_excluded(tx, ci, &patch.source).await? {
                    open::reassess(tx, checked.tenant, &release, &patch).await?;
                }
                advance::wake_source(tx, checked.tenant, &release, &patch.source).await?;
            }
            Step::Alter(patch) => {
                changed.altered.push(brief(&patch));
                alter(tx, ci, &release, inventory.family, &patch, false).await?;
                if excludes {
                    exclusions::mark(tx, checked.tenant, Some(ci)).await?;
                }
                if !excludes || !exclusions::is_excluded(tx, ci, &patch.source).await? {
                    open::reassess(tx, checked.tenant, &release, &patch).await?;
                }
                advance::wake_source(tx, checked.tenant, &release, &patch.source).await?;
            }
            Step::Fix { source } => {
                close(tx, ci, &source, FindingState::Fixed).await?;
                advance::wake_source(tx, checked.tenant, &release, &source).await?;
                changed.fixed.push(source);
            }
            Step::Withdraw { source } => {
                close(tx, ci, &source, FindingState::Withdrawn).await?;
                advance::wake_source(tx, checked.tenant, &release, &source).await?;
                changed.withdrawn.push(source);
            }
        }
    }
    if !changed.opened.is_empty() || !changed.reopened.is_empty() {
        bakes::begin_for(tx, ci).await?;
    }
    tx.record(NewEvent {
        tenant: checked.tenant,
        kind: EventKind::CiChecked,
        by: Actor::System,
        object: ci.to_string(),
        version,
        payload: json!({
            "package_set": checked.digest,
            "status": status_word(checked.report.status),
            "checked_at": checked.report.checked_at,
            "findings": changed,
        }),
    });
    Ok(())
}

async fn insert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    ci: CiId,
    release: &str,
    family: PackageFamily,
    patch: &MissingPatch,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO findings
         (id, tenant_id, ci_id, patch_id, release, source, installed, candidate, priority, security,
          state, patch, first_seen_at, opened_at, patch_since, family, reopened, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', $11, $12, $12, $12, $13, 0, 1)",
    )
    .bind(FindingId::new(tx.now, tx.random()).to_string())
    .bind(tenant.to_string())
    .bind(ci.to_string())
    .bind(patch.id(release).to_string())
    .bind(release)
    .bind(patch.source.as_str())
    .bind(patch.installed.as_str())
    .bind(patch.candidate.as_str())
    .bind(rank(patch.priority))
    .bind(i64::from(patch.security))
    .bind(written(patch)?)
    .bind(tx.now.as_microsecond())
    .bind(word(family))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A risk was accepted for what was known then: another patch, a higher priority, or coming back,
/// ends that.
async fn alter(
    tx: &mut Tx<'_>,
    ci: CiId,
    release: &str,
    family: PackageFamily,
    patch: &MissingPatch,
    is_back: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE findings SET
             accepted_until = CASE WHEN $10 = 1 OR $5 > priority OR patch_id <> $1 THEN NULL
                 ELSE accepted_until END,
             opened_at = CASE WHEN $10 = 1 THEN $9 ELSE opened_at END,
             patch_since = CASE WHEN $10 = 1 OR patch_id <> $1 THEN $9 ELSE patch_since END,
             reopened = reopened + $10, state = 'open', closed_at = NULL, family = $12,
             patch_id = $1, release = $2, installed = $3, candidate = $4, priority = $5,
             security = $6, patch = $7, version = version + 1
         WHERE ci_id = $8 AND source = $11",
    )
    .bind(patch.id(release).to_string())
    .bind(release)
    .bind(patch.installed.as_str())
    .bind(patch.candidate.as_str())
    .bind(rank(patch.priority))
    .bind(i64::from(patch.security))
    .bind(written(patch)?)
    .bind(ci.to_string())
    .bind(tx.now.as_microsecond())
    .bind(i64::from(is_back))
    .bind(patch.source.as_str())
    .bind(word(family))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn close(
    tx: &mut Tx<'_>,
    ci: CiId,
    source: &str,
    state: FindingState,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE findings SET state = $1, closed_at = $2, accepted_until = NULL,
             version = version + 1
         WHERE ci_id = $3 AND source = $4",
    )
    .bind(state.as_str())
    .bind(tx.now.as_microsecond())
    .bind(ci.to_string())
    .bind(source)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// The findings of an item that leaves the cloud go with it.
pub(crate) async fn retire(tx: &mut Tx<'_>, ci: CiId) -> Result<(), StoreError> {
    advance::wake_sources_of(tx, ci).await?;
    sqlx::query(
        "UPDATE findings SET state = 'retired', closed_at = $1, accepted_until = NULL,
             version = version + 1
         WHERE ci_id = $2 AND state = 'open'",
    )
    .bind(tx.now.as_microsecond())
    .bind(ci.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

pub(crate) async fn accept(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: FindingId,
    new: &NewAcceptance,
) -> Result<Finding, StoreError> {
    owned(tx, by, id).await?;
    accept_for(tx, by, id, new).await
}

/// The same where it was seen elsewhere whose risk it is: in what a tenant signed.
pub(crate) async fn accept_for(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: FindingId,
    new: &NewAcceptance,
) -> Result<Finding, StoreError> {
    let finding = find(&mut *tx.connection, None, id).await?;
    if finding.state != FindingState::Open {
        return Err(StoreError::Refused {
            reason: format!("the finding is {}", finding.state),
            help: "only the risk of an open finding can be accepted",
        });
    }
    if new.until <= tx.now || new.until > tx.now + LONGEST_RISK {
        return Err(StoreError::Refused {
            reason: format!("a risk cannot be accepted until {}", new.until),
            help: "give an instant between now and 366 days from now",
        });
    }
    let row = sqlx::query(
        "UPDATE findings SET accepted_reason = $1, risk_owner = $2, accepted_by = $3,
             accepted_at = $4, accepted_until = $5, version = version + 1
         WHERE id = $6
         RETURNING id, tenant_id, ci_id, patch_id, release, patch, state, first_seen_at, opened_at,
             closed_at, reopened, accepted_reason, risk_owner, accepted_by, accepted_at,
             accepted_until, excluded, excluded_until, version",
    )
    .bind(new.reason.as_str())
    .bind(new.risk_owner.as_str())
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .bind(new.until.as_microsecond())
    .bind(id.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    let finding = read(&row)?;
    record(tx, by, EventKind::FindingAccepted, &finding);
    Ok(finding)
}

pub(crate) async fn end_acceptance(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: FindingId,
) -> Result<Finding, StoreError> {
    let before = owned(tx, by, id).await?;
    if before.acceptance.is_none() {
        return Ok(before);
    }
    end(tx, by, &before).await?;
    find(&mut *tx.connection, by.scope(), id).await
}

/// Ends an acceptance that a tenant signed together with its later or no, which it took back.
pub(crate) async fn end_signed_acceptance(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: FindingId,
) -> Result<(), StoreError> {
    let finding = find(&mut *tx.connection, None, id).await?;
    if finding.acceptance.as_ref().is_some_and(|it| it.reason.contains(advance::SIGNED_BY)) {
        end(tx, by, &finding).await?;
    }
    Ok(())
}

async fn end(tx: &mut Tx<'_>, by: &Actor, finding: &Finding) -> Result<(), StoreError> {
    record(tx, by, EventKind::FindingAcceptanceEnded, finding);
    sqlx::query("UPDATE findings SET accepted_until = NULL, version = version + 1 WHERE id = $1")
        .bind(finding.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Ends acceptances whose time is over.
pub(crate) async fn expire(tx: &mut Tx<'_>, at_most: u16) -> Result<u64, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE accepted_until IS NOT NULL AND accepted_until <= $1
         ORDER BY accepted_until LIMIT $2"
    ))
    .bind(tx.now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let finding = read(row)?;
        end(tx, &Actor::System, &finding).await?;
    }
    Ok(rows.len() as u64)
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, finding: &Finding) {
    tx.record(NewEvent {
        tenant: finding.tenant,
        kind,
        by: by.clone(),
        object: finding.id.to_string(),
        version: finding.version,
        payload: json!({
            "ci": finding.ci, "source": finding.patch.source,
            "candidate": finding.patch.candidate, "acceptance": finding.acceptance,
        }),
    });
}

/// A finding whose risk is the actor's to bear: that of the side that must patch the item.
async fn owned(tx: &mut Tx<'_>, by: &Actor, id: FindingId) -> Result<Finding, StoreError> {
    let finding = find(&mut *tx.connection, by.scope(), id).await?;
    let ci = cis::find(&mut *tx.connection, by.scope(), finding.ci).await?;
    let is_theirs = match (ci.duty, by) {
        (_, Actor::System) => true,
        (Duty::Provider, Actor::Person { role, .. }) => role.side() == Side::Provider,
        (Duty::Tenant, Actor::Person { role, .. }) => role.side() == Side::Tenant,
        (_, Actor::Agent { .. }) => false,
    };
    if is_theirs {
        return Ok(finding);
    }
    Err(StoreError::Refused {
        reason: format!("patching `{}` is the duty of the {}", ci.name, ci.duty),
        help: "the side that must patch an item bears its risk: ask them",
    })
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: FindingId,
) -> Result<Finding, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("finding", &id)), read)
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &FindingFilter,
    request: &PageRequest,
) -> Result<Page<Finding>, StoreError> {
    let (low, high) = range(scope);
    let (asked_low, asked_high) = range(filter.tenant);
    let (tenant, id) = request.place();
    let text = |id: Option<String>| id.unwrap_or_default();
    let rows = sqlx::query(concat!(
        select!(
            "WHERE tenant_id BETWEEN $1 AND $2 AND tenant_id BETWEEN $3 AND $4
                 AND (tenant_id, id) > ($5, $6)
                 AND ($7 = '' OR ci_id = $7)
                 AND ($8 = '' OR patch_id = $8)
                 AND ($9 = '' OR state = $9)
                 AND ($10 < 0 OR priority = $10)
                 AND ($11 = '' OR source = $11)
                 AND ($13 = '' OR EXISTS (
                     SELECT 1 FROM cis c WHERE c.id = findings.ci_id AND "
        ),
        member!("$13"),
        ")) ORDER BY tenant_id, id LIMIT $12"
    ))
    .bind(low)
    .bind(high)
    .bind(asked_low)
    .bind(asked_high)
    .bind(tenant)
    .bind(id)
    .bind(text(filter.ci.map(|id| id.to_string())))
    .bind(text(filter.patch.map(|id| id.to_string())))
    .bind(filter.state.map_or("", FindingState::as_str))
    .bind(filter.priority.map_or(-1, rank))
    .bind(filter.source.as_deref().unwrap_or_default())
    .bind(request.fetched())
    .bind(text(filter.group.map(|id| id.to_string())))
    .fetch_all(pool)
    .await?;
    let findings = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(request.cut(findings, |finding: &Finding| Cursor::new(finding.tenant, finding.id)))
}

/// Open findings whose risk is accepted, by tenant and priority; of one group, where one is named.
pub(crate) async fn accepted(
    pool: &AnyPool,
    scope: Option<TenantId>,
    group: Option<GroupId>,
    now: Timestamp,
) -> Result<Vec<(TenantId, Priority, u64)>, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(concat!(
        "SELECT f.tenant_id, f.priority, COUNT(*) AS items
         FROM findings f JOIN cis c ON c.id = f.ci_id
         WHERE f.accepted_until > $3 AND f.state = 'open' AND f.tenant_id BETWEEN $1 AND $2 AND ",
        member!("$4"),
        " GROUP BY f.tenant_id, f.priority",
    ))
    .bind(low)
    .bind(high)
    .bind(now.as_microsecond())
    .bind(group.map(|id| id.to_string()).unwrap_or_default())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, "tenant_id")?, priority(row)?, number(row, "items")?)))
        .collect()
}

pub(crate) async fn patches(
    pool: &AnyPool,
    scope: Option<TenantId>,
    only: Option<PatchId>,
    request: &PageRequest,
) -> Result<Page<Patch>, StoreError> {
    let (low, high) = range(scope);
    let (_, id) = request.place();
    let rows = sqlx::query(
        "SELECT p.patch_id, MIN(p.release) AS release, MIN(p.source) AS source,
                MIN(p.candidate) AS candidate, MAX(p.priority) AS priority,
                MAX(p.security) AS security, CAST(SUM(n.items) AS BIGINT) AS items,
                COUNT(DISTINCT p.tenant_id) AS tenants
         FROM set_patches p
         JOIN (SELECT tenant_id, digest, COUNT(*) AS items FROM systems
               WHERE tenant_id BETWEEN $1 AND $2 GROUP BY tenant_id, digest) n
             ON n.tenant_id = p.tenant_id AND n.digest = p.digest
         WHERE p.patch_id > $3 AND ($4 = '' OR p.patch_id = $4)
         GROUP BY p.patch_id ORDER BY p.patch_id LIMIT $5",
    )
    .bind(low)
    .bind(high)
    .bind(id)
    .bind(only.map(|id| id.to_string()).unwrap_or_default())
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let patches = rows
        .iter()
        .map(|row| {
            Ok(Patch {
                id: parsed(row, "patch_id")?,
                release: get(row, "release")?,
                source: get(row, "source")?,
                candidate: get(row, "candidate")?,
                priority: priority(row)?,
                security: number(row, "security")? == 1,
                items: number(row, "items")?,
                tenants: number(row, "tenants")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(request.cut(patches, |patch: &Patch| Cursor::new(domain::cloud::PROVIDER, patch.id)))
}

/// A family as it is kept.
const fn word(family: PackageFamily) -> &'static str {
    match family {
        PackageFamily::Dpkg => "dpkg",
        PackageFamily::Rpm => "rpm",
        PackageFamily::Apk => "apk",
    }
}

/// The family that a row names; none for rows that no check has written since they name one.
pub(crate) fn family(row: &AnyRow) -> Result<Option<PackageFamily>, StoreError> {
    let kept: String = get(row, "family")?;
    let all = [PackageFamily::Dpkg, PackageFamily::Rpm, PackageFamily::Apk];
    Ok(all.into_iter().find(|it| word(*it) == kept))
}

/// A priority as the number that sorts like it.
pub(crate) const fn rank(priority: Priority) -> i64 {
    match priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

pub(crate) fn priority(row: &AnyRow) -> Result<Priority, StoreError> {
    let number: i64 = get(row, "priority")?;
    [Priority::Low, Priority::Medium, Priority::High, Priority::Critical]
        .into_iter()
        .find(|&priority| rank(priority) == number)
        .ok_or_else(|| StoreError::Corrupt { what: format!("{number} is not a priority") })
}

fn written(patch: &MissingPatch) -> Result<String, StoreError> {
    serde_json::to_string(patch)
        .map_err(|error| StoreError::Corrupt { what: format!("a patch: {error}") })
}

fn read_patch(row: &AnyRow) -> Result<MissingPatch, StoreError> {
    let text: String = get(row, "patch")?;
    serde_json::from_str(&text)
        .map_err(|error| StoreError::Corrupt { what: format!("a patch: {error}") })
}

fn read(row: &AnyRow) -> Result<Finding, StoreError> {
    let acceptance = match time_or_none(row, "accepted_until")? {
        Some(until) => {
            let text = |column| -> Result<String, StoreError> {
                Ok(get::<Option<String>>(row, column)?.unwrap_or_default())
            };
            Some(Acceptance {
                reason: text("accepted_reason")?,
                risk_owner: text("risk_owner")?,
                by: text("accepted_by")?,
                at: time(row, "accepted_at")?,
                until,
            })
        }
        None => None,
    };
    let excluded: Option<String> = get(row, "excluded")?;
    let excluded = match excluded {
        Some(text) => {
            let excluded = serde_json::from_str(&text)
                .map_err(|error| StoreError::Corrupt { what: format!("excluded: {error}") })?;
            Some((excluded, exclusions::end(row)?))
        }
        None => None,
    };
    Ok(Finding {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        patch_id: parsed(row, "patch_id")?,
        release: get(row, "release")?,
        patch: read_patch(row)?,
        state: parsed(row, "state")?,
        first_seen_at: time(row, "first_seen_at")?,
        opened_at: time(row, "opened_at")?,
        closed_at: time_or_none(row, "closed_at")?,
        reopened: get(row, "reopened")?,
        acceptance,
        excluded,
        version: get(row, "version")?,
    })
}
