//! What package sets lack, and how the systems that have them stand.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::change::FileHash;
use domain::check::{Report, Status};
use domain::cloud::{CiId, EventKind, GroupId, TenantId};
use domain::fleet::{MissingPatch, PackageSet, SetDigest, missing_patches};
use domain::inventory::PackageFamily;
use domain::priority::Priority;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, Row as _};

use crate::actor::Actor;
use crate::cis::Ci;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::groups::member;
use crate::page::range;
use crate::value::{get, hex, parsed, time};
use crate::writer::Tx;

use super::pack::{pack, unpack};
use super::{findings, systems};

/// The last check of a configuration item.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Its counts.
    pub counts: Counts,
    /// All that it found.
    pub report: Report,
}

/// A check in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// When the package set was checked.
    pub checked_at: Timestamp,
    /// When the item was last heard of.
    pub seen_at: Timestamp,
    /// The verdict.
    pub status: Status,
    /// Missing patches by priority, the most urgent first.
    pub findings: [u64; 4],
    /// What could not be told.
    pub unknown: u64,
}

/// How the configuration items of a scope stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckTotals {
    /// At their latest.
    pub latest: u64,
    /// With a patch missing.
    pub outdated: u64,
    /// Checked, but something could not be told.
    pub unknown: u64,
    /// Checked or heard of too long ago to say anything about now, which is unknown too.
    pub silent: u64,
    /// Never checked, which is unknown too.
    pub unchecked: u64,
    /// Missing patches by priority, the most urgent first, wherever they were last seen missing.
    pub findings: [u64; 4],
    /// Of these, those whose risk is accepted.
    pub accepted: [u64; 4],
}

impl CheckTotals {
    /// How many items there are.
    pub const fn items(&self) -> u64 {
        self.latest + self.outdated + self.not_known()
    }

    /// Those of which it cannot be said whether they are at their latest.
    pub const fn not_known(&self) -> u64 {
        self.unknown + self.silent + self.unchecked
    }
}

impl std::iter::Sum for CheckTotals {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::default(), |mut all, one| {
            all.latest += one.latest;
            all.outdated += one.outdated;
            all.unknown += one.unknown;
            all.silent += one.silent;
            all.unchecked += one.unchecked;
            for at in 0..ORDER.len() {
                all.findings[at] += one.findings[at];
                all.accepted[at] += one.accepted[at];
            }
            all
        })
    }
}

/// A package set whose turn it is.
#[derive(Debug, Clone, PartialEq)]
pub struct SetToCheck {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub digest: SetDigest,
    /// The set.
    pub set: PackageSet,
}

/// The order in which counts by priority stand.
const ORDER: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

pub(crate) async fn to_check(
    pool: &AnyPool,
    before: Timestamp,
    unknown_before: Timestamp,
    at_most: u16,
) -> Result<Vec<SetToCheck>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.tenant_id, p.digest, p.body FROM package_sets p
         LEFT JOIN set_checks k ON k.tenant_id = p.tenant_id AND k.digest = p.digest
         WHERE (COALESCE(k.checked_at, 0) < $1 OR k.is_due = 1
                OR (k.unknown > 0 AND k.checked_at < $2))
             AND EXISTS (
                 SELECT 1 FROM systems s WHERE s.tenant_id = p.tenant_id AND s.digest = p.digest)
         ORDER BY COALESCE(k.checked_at, 0), p.tenant_id, p.digest LIMIT $3",
    )
    .bind(before.as_microsecond())
    .bind(unknown_before.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let body: Vec<u8> = get(row, "body")?;
            Ok(SetToCheck {
                tenant: parsed(row, "tenant_id")?,
                digest: parsed(row, "digest")?,
                set: unpack("package set", &body)?,
            })
        })
        .collect()
}

pub(crate) async fn record(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    digest: SetDigest,
    report: &Report,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT p.family, p.release, k.status, k.report FROM package_sets p
         LEFT JOIN set_checks k ON k.tenant_id = p.tenant_id AND k.digest = p.digest
         WHERE p.tenant_id = $1 AND p.digest = $2",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let row = row.ok_or_else(|| StoreError::not_found("package set", &digest))?;
    let family = read_family(&row)?;
    let release: String = get(&row, "release")?;
    let packed: Option<Vec<u8>> = get(&row, "report")?;
    let before: Option<Report> = packed.map(|packed| unpack("report", &packed)).transpose()?;
    let patches = missing_patches(report, family);
    upsert(tx, tenant, digest, report, &patches).await?;
    let is_new = before.is_none_or(|before| {
        before.status != report.status || missing_patches(&before, family) != patches
    });
    if is_new {
        replace_patches(tx, tenant, digest, &release, &patches).await?;
        sqlx::query(
            "UPDATE systems SET pending = pending + 1 WHERE tenant_id = $1 AND digest = $2",
        )
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

async fn upsert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    digest: SetDigest,
    report: &Report,
    patches: &[MissingPatch],
) -> Result<(), StoreError> {
    let count = |priority: Priority| {
        let of_priority = patches.iter().filter(|patch| patch.priority == priority).count();
        i64::try_from(of_priority).unwrap_or(i64::MAX)
    };
    let [critical, high, medium, low] = ORDER.map(count);
    let unknown = i64::try_from(report.unknown.len()).unwrap_or(i64::MAX);
    let word = status_word(report.status);
    sqlx::query(
        "INSERT INTO set_checks
         (tenant_id, digest, checked_at, status, critical, high, medium, low, unknown, report,
          is_due)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)
         ON CONFLICT (tenant_id, digest) DO UPDATE SET
             checked_at = excluded.checked_at, status = excluded.status,
             critical = excluded.critical, high = excluded.high, medium = excluded.medium,
             low = excluded.low, unknown = excluded.unknown, report = excluded.report,
             is_due = 0",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(report.checked_at.as_microsecond())
    .bind(word)
    .bind(critical)
    .bind(high)
    .bind(medium)
    .bind(low)
    .bind(unknown)
    .bind(pack("report", report)?)
    .execute(&mut *tx.connection)
    .await?;
    let text = text_of(report)?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::PackageSetChecked,
        by: Actor::System,
        object: digest.to_string(),
        version: 1,
        payload: json!({
            "status": word,
            "checked_at": report.checked_at,
            "critical": critical, "high": high, "medium": medium, "low": low,
            "unknown": unknown,
            "report_sha256": hex(&Sha256::digest(&text)),
        }),
    });
    Ok(())
}

async fn replace_patches(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    digest: SetDigest,
    release: &str,
    patches: &[MissingPatch],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM set_patches WHERE tenant_id = $1 AND digest = $2")
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .execute(&mut *tx.connection)
        .await?;
    for patch in patches {
        sqlx::query(
            "INSERT INTO set_patches
             (tenant_id, digest, patch_id, release, source, candidate, priority, security)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .bind(patch.id(release).to_string())
        .bind(release)
        .bind(patch.source.as_str())
        .bind(patch.candidate.as_str())
        .bind(findings::rank(patch.priority))
        .bind(i64::from(patch.security))
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

/// Carries checks over to the findings of systems.
pub(crate) async fn apply(tx: &mut Tx<'_>, at_most: u16) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT s.ci_id, s.tenant_id, s.digest, s.pending, c.version
         FROM systems s JOIN cis c ON c.id = s.ci_id
         WHERE s.pending > 0 ORDER BY s.ci_id LIMIT $1",
    )
    .bind(i64::from(at_most))
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut checks: BTreeMap<(TenantId, SetDigest), findings::Checked> = BTreeMap::new();
    for row in &rows {
        let ci: CiId = parsed(row, "ci_id")?;
        let key = (parsed(row, "tenant_id")?, parsed(row, "digest")?);
        let checked = match checks.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(load(tx, key.0, key.1).await?),
        };
        findings::apply(tx, ci, get(row, "version")?, checked).await?;
        // Raised again since: then it stays, and is looked at again.
        let pending: i64 = get(row, "pending")?;
        sqlx::query("UPDATE systems SET pending = pending - $1 WHERE ci_id = $2")
            .bind(pending)
            .bind(ci.to_string())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(rows.len() as u64)
}

async fn load(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    digest: SetDigest,
) -> Result<findings::Checked, StoreError> {
    let set = systems::set(&mut *tx.connection, Some(tenant), tenant, digest).await?;
    let set = set.ok_or_else(|| StoreError::not_found("package set", &digest))?;
    let row = sqlx::query("SELECT report FROM set_checks WHERE tenant_id = $1 AND digest = $2")
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let row = row.ok_or_else(|| StoreError::not_found("check", &digest))?;
    let packed: Vec<u8> = get(&row, "report")?;
    Ok(findings::Checked { tenant, digest, set, report: unpack("report", &packed)? })
}

/// What the last check of a package set found, with the SHA-256 under which it was recorded; `None` where
/// it was never checked.
pub(crate) async fn last_report(
    connection: &mut AnyConnection,
    tenant: TenantId,
    digest: SetDigest,
) -> Result<Option<(Report, FileHash)>, StoreError> {
    let row = sqlx::query("SELECT report FROM set_checks WHERE tenant_id = $1 AND digest = $2")
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let packed: Vec<u8> = get(&row, "report")?;
    let report: Report = unpack("report", &packed)?;
    let sha256 = FileHash::from(<[u8; 32]>::from(Sha256::digest(text_of(&report)?)));
    Ok(Some((report, sha256)))
}

/// The bytes of a report that its hash is over.
fn text_of(report: &Report) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(report)
        .map_err(|error| StoreError::Corrupt { what: format!("report: {error}") })
}

macro_rules! counted {
    ($rest:literal) => {
        concat!(
            "SELECT s.ci_id, s.seen_at, k.checked_at, k.status, k.critical, k.high, k.medium, k.low,
                    k.unknown, k.report
             FROM systems s
             JOIN set_checks k ON k.tenant_id = s.tenant_id AND k.digest = s.digest ",
            $rest
        )
    };
}

/// The statement that counts systems by what their set's check says.
macro_rules! standing {
    ($($systems:expr),+) => {
        concat!(
            "SELECT n.tenant_id, n.items, n.silent, k.status, k.critical, k.high, k.medium, k.low,
                    CASE WHEN k.checked_at < $3 THEN 1 ELSE 0 END AS is_old
             FROM (SELECT s.tenant_id, s.digest, COUNT(*) AS items,
                          CAST(SUM(CASE WHEN s.seen_at < $3 THEN 1 ELSE 0 END) AS BIGINT) AS silent ",
            $($systems,)+
            " GROUP BY s.tenant_id, s.digest) n
             JOIN set_checks k ON k.tenant_id = n.tenant_id AND k.digest = n.digest"
        )
    };
}

/// The last check of an item that the caller was let see.
pub(crate) async fn of(pool: &AnyPool, ci: &Ci) -> Result<Option<Check>, StoreError> {
    let row = sqlx::query(counted!("WHERE s.ci_id = $1"))
        .bind(ci.id.to_string())
        .fetch_optional(pool)
        .await?;
    row.map(|row| {
        let packed: Vec<u8> = get(&row, "report")?;
        let mut report: Report = unpack("report", &packed)?;
        report.target = ci.name.to_string();
        Ok(Check { counts: read_counts(&row)?, report })
    })
    .transpose()
}

pub(crate) async fn counts(
    pool: &AnyPool,
    scope: Option<TenantId>,
    ids: &[CiId],
) -> Result<BTreeMap<CiId, Counts>, StoreError> {
    let (low, high) = range(scope);
    let mut counts = BTreeMap::new();
    let mut connection = pool.acquire().await?;
    for id in ids {
        let row = sqlx::query(counted!("WHERE s.ci_id = $1 AND s.tenant_id BETWEEN $2 AND $3"))
            .bind(id.to_string())
            .bind(low.as_str())
            .bind(high.as_str())
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = row {
            counts.insert(*id, read_counts(&row)?);
        }
    }
    Ok(counts)
}

/// How the items of each tenant in the scope stand; of one group, where one is named. Work grows
/// with the sets, not with the systems: these are counted in one index, unless a group asks for each.
pub(crate) async fn totals(
    pool: &AnyPool,
    scope: Option<TenantId>,
    group: Option<GroupId>,
    fresh_since: Timestamp,
    now: Timestamp,
) -> Result<Vec<(TenantId, CheckTotals)>, StoreError> {
    let (low, high) = range(scope);
    let of_group = group.map(|id| id.to_string()).unwrap_or_default();
    let mut totals: BTreeMap<TenantId, CheckTotals> = BTreeMap::new();
    let alive = sqlx::query(concat!(
        "SELECT c.tenant_id, COUNT(*) AS items FROM cis c
         WHERE c.tenant_id BETWEEN $1 AND $2 AND c.retired_at IS NULL AND ",
        member!("$3"),
        " GROUP BY c.tenant_id",
    ))
    .bind(low.as_str())
    .bind(high.as_str())
    .bind(of_group.as_str())
    .fetch_all(pool)
    .await?;
    for row in &alive {
        totals.entry(parsed(row, "tenant_id")?).or_default().unchecked = number(row, "items")?;
    }
    let statement = if group.is_some() {
        standing!(
            "FROM systems s JOIN cis c ON c.id = s.ci_id
             WHERE s.tenant_id BETWEEN $1 AND $2 AND ",
            member!("$4")
        )
    } else {
        standing!("FROM systems s WHERE s.tenant_id BETWEEN $1 AND $2 AND $4 = ''")
    };
    let rows = sqlx::query(statement)
        .bind(low.as_str())
        .bind(high.as_str())
        .bind(fresh_since.as_microsecond())
        .bind(of_group)
        .fetch_all(pool)
        .await?;
    for row in &rows {
        let of_tenant = totals.entry(parsed(row, "tenant_id")?).or_default();
        let (items, silent) = (number(row, "items")?, number(row, "silent")?);
        let is_old = number(row, "is_old")? == 1;
        let silent = if is_old { items } else { silent };
        let status: StatusWord = parsed(row, "status")?;
        of_tenant.silent += silent;
        *match status.0 {
            Status::Latest => &mut of_tenant.latest,
            Status::Outdated => &mut of_tenant.outdated,
            Status::Unknown => &mut of_tenant.unknown,
        } += items - silent;
        of_tenant.unchecked = of_tenant.unchecked.saturating_sub(items);
        for (total, found) in of_tenant.findings.iter_mut().zip(read_findings(row)?) {
            *total += found * items;
        }
    }
    for (tenant, priority, items) in findings::accepted(pool, scope, group, now).await? {
        if let Some(at) = ORDER.iter().position(|&it| it == priority) {
            totals.entry(tenant).or_default().accepted[at] += items;
        }
    }
    Ok(totals.into_iter().collect())
}

fn read_counts(row: &AnyRow) -> Result<Counts, StoreError> {
    let status: StatusWord = parsed(row, "status")?;
    Ok(Counts {
        checked_at: time(row, "checked_at")?,
        seen_at: time(row, "seen_at")?,
        status: status.0,
        findings: read_findings(row)?,
        unknown: number(row, "unknown")?,
    })
}

fn read_findings(row: &AnyRow) -> Result<[u64; 4], StoreError> {
    Ok([
        number(row, "critical")?,
        number(row, "high")?,
        number(row, "medium")?,
        number(row, "low")?,
    ])
}

fn read_family(row: &AnyRow) -> Result<PackageFamily, StoreError> {
    let family: String = get(row, "family")?;
    serde_json::from_value(serde_json::Value::String(family))
        .map_err(|error| StoreError::Corrupt { what: format!("family: {error}") })
}

pub(super) fn number(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    Ok(number.unsigned_abs())
}

pub(super) const fn status_word(status: Status) -> &'static str {
    match status {
        Status::Latest => "latest",
        Status::Outdated => "outdated",
        Status::Unknown => "unknown",
    }
}

struct StatusWord(Status);

impl std::str::FromStr for StatusWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Status::Latest, Status::Outdated, Status::Unknown]
            .into_iter()
            .find(|&status| status_word(status) == word)
            .map(Self)
            .ok_or_else(|| format!("`{word}` is not a status"))
    }
}
