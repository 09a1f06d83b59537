//! What the last check of each configuration item found.

use std::collections::{BTreeMap, BTreeSet};

use domain::check::{Report, Status};
use domain::cloud::{CiId, EventKind, TenantId};
use domain::priority::Priority;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row as _};

use crate::actor::Actor;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::value::{get, parsed, time};
use crate::writer::Tx;

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
    /// When.
    pub checked_at: Timestamp,
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
    /// Checked, but not known, or too long ago to say anything about now.
    pub unknown: u64,
    /// Never checked, which is unknown too.
    pub unchecked: u64,
    /// Missing patches by priority, the most urgent first.
    pub findings: [u64; 4],
}

/// The order in which counts by priority stand.
const ORDER: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

pub(crate) async fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    report: &Report,
) -> Result<(), StoreError> {
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    let text = serde_json::to_vec(report)
        .map_err(|error| StoreError::Corrupt { what: format!("report of {id}: {error}") })?;
    // A patch is for a source package: its binaries are installed together.
    let count = |priority: Priority| {
        let of_priority = report.findings.iter().filter(|it| it.decision.priority == priority);
        let patches: BTreeSet<_> =
            of_priority.map(|it| (&it.source, &it.candidate_source)).collect();
        i64::try_from(patches.len()).unwrap_or(i64::MAX)
    };
    let [critical, high, medium, low] = ORDER.map(count);
    let unknown = i64::try_from(report.unknown.len()).unwrap_or(i64::MAX);
    let word = status_word(report.status);
    sqlx::query(
        "INSERT INTO checks
         (ci_id, tenant_id, checked_at, status, critical, high, medium, low, unknown, report)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (ci_id) DO UPDATE SET
             checked_at = excluded.checked_at, status = excluded.status,
             critical = excluded.critical, high = excluded.high, medium = excluded.medium,
             low = excluded.low, unknown = excluded.unknown, report = excluded.report",
    )
    .bind(id.to_string())
    .bind(ci.tenant.to_string())
    .bind(report.checked_at.as_microsecond())
    .bind(word)
    .bind(critical)
    .bind(high)
    .bind(medium)
    .bind(low)
    .bind(unknown)
    .bind(text.clone())
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: ci.tenant,
        kind: EventKind::CiChecked,
        by: by.clone(),
        object: id.to_string(),
        version: ci.version,
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

pub(crate) async fn of(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: CiId,
) -> Result<Option<Check>, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(
        "SELECT checked_at, status, critical, high, medium, low, unknown, report FROM checks
         WHERE ci_id = $1 AND tenant_id BETWEEN $2 AND $3",
    )
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        let text: Vec<u8> = get(&row, "report")?;
        let report = serde_json::from_slice(&text)
            .map_err(|error| StoreError::Corrupt { what: format!("report of {id}: {error}") })?;
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
        let row = sqlx::query(
            "SELECT checked_at, status, critical, high, medium, low, unknown FROM checks
             WHERE ci_id = $1 AND tenant_id BETWEEN $2 AND $3",
        )
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

pub(crate) async fn totals(
    pool: &AnyPool,
    scope: Option<TenantId>,
    fresh_since: Timestamp,
) -> Result<CheckTotals, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(
        "SELECT CASE WHEN k.status IS NULL THEN 'unchecked'
                     WHEN k.status = 'latest' AND k.checked_at < $3 THEN 'unknown'
                     ELSE k.status END AS state,
                COUNT(*) AS items,
                CAST(COALESCE(SUM(k.critical), 0) AS BIGINT) AS critical,
                CAST(COALESCE(SUM(k.high), 0) AS BIGINT) AS high,
                CAST(COALESCE(SUM(k.medium), 0) AS BIGINT) AS medium,
                CAST(COALESCE(SUM(k.low), 0) AS BIGINT) AS low
         FROM cis c LEFT JOIN checks k ON k.ci_id = c.id
         WHERE c.tenant_id BETWEEN $1 AND $2 AND c.retired_at IS NULL
         GROUP BY 1",
    )
    .bind(low)
    .bind(high)
    .bind(fresh_since.as_microsecond())
    .fetch_all(pool)
    .await?;
    let mut totals = CheckTotals::default();
    for row in &rows {
        let items = number(row, "items")?;
        let state: String = get(row, "state")?;
        match state.as_str() {
            "latest" => totals.latest += items,
            "outdated" => totals.outdated += items,
            "unknown" => totals.unknown += items,
            _ => totals.unchecked += items,
        }
        for (total, found) in totals.findings.iter_mut().zip(read_findings(row)?) {
            *total += found;
        }
    }
    Ok(totals)
}

fn read_counts(row: &AnyRow) -> Result<Counts, StoreError> {
    let status: StatusWord = parsed(row, "status")?;
    Ok(Counts {
        checked_at: time(row, "checked_at")?,
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

fn number(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    Ok(number.unsigned_abs())
}

const fn status_word(status: Status) -> &'static str {
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

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
