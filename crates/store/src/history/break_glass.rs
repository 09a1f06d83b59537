//! Break-glass as it is kept: who opened it for which files, what was altered under it, and what its review came to.
//!
//! Ticket, reasons, accounts and paths are sealed under the tenant's key, as those of drifts are. What a review accepts
//! is in force from then on; what it rejects opens drifts, in the same commit.

use ::history::{FilePath, PathKey};
use domain::change::Reason;
use domain::cloud::{
    BreakGlassId, CiId, DriftId, Duty, EventKind, GroupId, PROVIDER, Side, TenantId,
};
use domain::configuration::break_glass::{self, Outcome, Span, Stage, Terms};
use domain::configuration::verdict::{self, Approval, Emergency, Judgement, Standing, Verdict};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::History;
use super::alarms::{self, Grade};
use super::drifts::{Happening, Told, narrowed};
use super::judge::{InForce, Judged, NewDrift, Open, keep_judged, open_drift, place};
use super::keys::{TenantKeys, held};
use super::rows::bytes;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::groups::member;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;
use crate::{Store, cis, groups};

/// Most files that are told of one.
const MOST_FILES: i64 = 1000;

/// Whose files may be altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// One item's.
    Item(CiId),
    /// Those of the items that belong to a group when they are altered.
    Group(GroupId),
}

/// One that is to be opened.
#[derive(Debug, Clone)]
pub struct NewBreakGlass {
    /// Whose files may be altered.
    pub cover: Cover,
    /// Which, by whom, and why.
    pub terms: Terms,
    /// For how long at most.
    pub minutes: u16,
    /// Within how many hours after its end it has to be reviewed.
    pub review_hours: u16,
}

/// Leave to alter files first and to explain it afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// Its id.
    pub id: BreakGlassId,
    /// Whose items.
    pub tenant: TenantId,
    /// Whose files may be altered.
    pub cover: Cover,
    /// What people call the item or the group; `None` where the group was dissolved.
    pub cover_name: Option<String>,
    /// Which side's people opened it.
    pub side: Side,
    /// Which files, by whom, and why.
    pub terms: Terms,
    /// Who opened it.
    pub opened_by: String,
    /// When it is open, and until when it has to be reviewed.
    pub span: Span,
    /// How it stands.
    pub stage: Stage,
    /// Who closed it before its time was over.
    pub closed_by: Option<String>,
    /// When nobody had reviewed it in time.
    pub escalated_at: Option<Timestamp>,
    /// How it was reviewed.
    pub review: Option<Reviewed>,
    /// How many files were altered under it.
    pub files: u64,
    /// Raised by each step, and whenever files are altered under it.
    pub version: i64,
}

/// How one was reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// What the reviewer says.
    pub reason: String,
}

/// A file that was altered under break-glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFile {
    /// On which item.
    pub ci: CiId,
    /// What people call it.
    pub ci_name: String,
    /// Which file.
    pub path: FilePath,
    /// What the last alteration did.
    pub what: Happening,
    /// By whom it was, as the host told it.
    pub by: Option<String>,
    /// When the first alteration was recorded.
    pub since: Timestamp,
    /// When the last one was.
    pub recorded_at: Timestamp,
    /// How many there were.
    pub count: u32,
}

/// Which are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct BreakGlassFilter {
    /// Of one tenant's items.
    pub tenant: Option<TenantId>,
    /// Of one item.
    pub ci: Option<CiId>,
    /// As they stand.
    pub stage: Option<Stage>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT b.id, b.tenant_id, b.ci_id, b.group_id, b.side, b.opened_at, b.opened_by, b.until,
                    b.closed_by, b.review_by, b.outcome, b.reviewed_at, b.reviewed_by,
                    b.escalated_at, b.version, b.sealed, b.sealed_review, c.name AS ci_name,
                    g.name AS group_name, h.sealed_key,
                    (SELECT COUNT(*) FROM break_glass_files f WHERE f.break_glass_id = b.id) AS files
             FROM break_glass b JOIN history_tenants h ON h.tenant_id = b.tenant_id
             LEFT JOIN cis c ON c.id = b.ci_id LEFT JOIN ci_groups g ON g.id = b.group_id ",
            $rest
        )
    };
}

fn terms_place(id: BreakGlassId) -> String {
    format!("break-glass/{id}")
}

fn review_place(id: BreakGlassId) -> String {
    format!("break-glass-review/{id}")
}

fn file_place(id: BreakGlassId, ci: CiId, key: PathKey) -> String {
    place(&terms_place(id), ci, key, 0)
}

impl History {
    /// Opens one; its side is told.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the item or group is not the actor's to see; [`StoreError::Refused`] where it
    /// would stay open or unreviewed for too long, or the item is retired.
    pub async fn open_break_glass(
        &self,
        by: &Actor,
        new: NewBreakGlass,
    ) -> Result<BreakGlass, StoreError> {
        let tenant = match new.cover {
            Cover::Item(ci) => {
                let ci = self.store.ci(by, ci).await?;
                if ci.retired_at.is_some() {
                    return Err(StoreError::Refused {
                        reason: format!("`{}` is retired", ci.name),
                        help: "name an item that is in use",
                    });
                }
                ci.tenant
            }
            Cover::Group(group) => self.store.group(by, group).await?.tenant,
        };
        self.write((self.clone(), by.clone(), new), move |tx, (history, by, new)| {
            Box::pin(async move {
                let keys = history.made_tenant_key(tx, tenant).await?;
                let id = open(tx, by, new, &keys).await?;
                history.find_break_glass(&mut *tx.connection, by, id).await
            })
        })
        .await
    }

    /// Closes one before its time is over. What is over stays as it is.
    pub async fn close_break_glass(
        &self,
        by: &Actor,
        id: BreakGlassId,
    ) -> Result<BreakGlass, StoreError> {
        let found = self.break_glass(by, id).await?;
        self.write((self.clone(), by.clone(), found), |tx, (history, by, found)| {
            Box::pin(async move {
                close(tx, by, found).await?;
                history.find_break_glass(&mut *tx.connection, by, found.id).await
            })
        })
        .await
    }

    /// Says whether what was done may stay: then it is in force; else it is drift.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it is open, was reviewed, was opened by the same person, or is another one than
    /// the version that was looked at.
    pub async fn review_break_glass(
        &self,
        by: &Actor,
        id: BreakGlassId,
        seen: i64,
        outcome: Outcome,
        reason: Reason,
    ) -> Result<BreakGlass, StoreError> {
        let found = self.break_glass(by, id).await?;
        let keys = self.keys_of(by, found.tenant).await?;
        let keys = keys.ok_or_else(|| StoreError::not_found("break-glass", &id))?;
        let policy = self.store.policy_in_force(&Actor::System, found.tenant).await?;
        let escalates = policy.drift_escalates_after();
        let review = Review { by: by.clone(), id, seen, outcome, reason, keys, escalates };
        self.write((self.clone(), review), |tx, (history, review)| {
            Box::pin(async move {
                pass(tx, review).await?;
                history.find_break_glass(&mut *tx.connection, &review.by, review.id).await
            })
        })
        .await
    }

    /// One.
    pub async fn break_glass(
        &self,
        by: &Actor,
        id: BreakGlassId,
    ) -> Result<BreakGlass, StoreError> {
        self.find_break_glass(&mut *self.pool().acquire().await?, by, id).await
    }

    async fn find_break_glass(
        &self,
        connection: &mut AnyConnection,
        by: &Actor,
        id: BreakGlassId,
    ) -> Result<BreakGlass, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(select!("WHERE b.id = $1 AND b.tenant_id BETWEEN $2 AND $3"))
            .bind(id.to_string())
            .bind(low)
            .bind(high)
            .fetch_optional(connection)
            .await?
            .ok_or_else(|| StoreError::not_found("break-glass", &id))?;
        self.read_break_glass(&row)?.ok_or_else(|| StoreError::not_found("break-glass", &id))
    }

    /// Those that the actor may see, by tenant, then the oldest first.
    pub async fn break_glasses(
        &self,
        by: &Actor,
        filter: BreakGlassFilter,
        page: &PageRequest,
    ) -> Result<Page<BreakGlass>, StoreError> {
        let (low, high) = narrowed(by, filter.tenant);
        let (tenant, id) = page.place();
        let now = self.store.environment().now();
        let rows = sqlx::query(select!(
            "WHERE b.tenant_id BETWEEN $1 AND $2 AND (b.tenant_id, b.id) > ($3, $4)
             AND ($5 = '' OR b.ci_id = $5)
             AND ($6 = '' OR $6 = CASE WHEN b.outcome IS NOT NULL THEN b.outcome
                                       WHEN b.until > $7 THEN 'open' ELSE 'in_review' END)
             ORDER BY b.tenant_id, b.id LIMIT $8"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant)
        .bind(id)
        .bind(filter.ci.map(|ci| ci.to_string()).unwrap_or_default())
        .bind(filter.stage.map_or("", Stage::as_str))
        .bind(now.as_microsecond())
        .bind(page.fetched())
        .fetch_all(self.pool())
        .await?;
        let read = |row| self.read_break_glass(row).transpose();
        let found = rows.iter().filter_map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(found, |it: &BreakGlass| Cursor::new(it.tenant, it.id)))
    }

    /// Files that were altered under one, the first thousand by item.
    pub async fn broken_files(
        &self,
        by: &Actor,
        id: BreakGlassId,
    ) -> Result<Vec<BrokenFile>, StoreError> {
        let found = self.break_glass(by, id).await?;
        let Some(keys) = self.keys_of(by, found.tenant).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query(
            "SELECT f.ci_id, f.path_key, f.since, f.recorded, f.alterations, f.sealed, c.name
             FROM break_glass_files f JOIN cis c ON c.id = f.ci_id
             WHERE f.break_glass_id = $1 ORDER BY c.name, f.ci_id, f.path_key LIMIT $2",
        )
        .bind(id.to_string())
        .bind(MOST_FILES)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let (ci, key) = (parsed(row, "ci_id")?, PathKey(bytes(row, "path_key")?));
                let sealed: Vec<u8> = get(row, "sealed")?;
                let told: Told = keys.open(&file_place(id, ci, key), &sealed)?;
                let count: i64 = get(row, "alterations")?;
                Ok(BrokenFile {
                    ci,
                    ci_name: get(row, "name")?,
                    path: FilePath::new(told.path)?,
                    what: told.what,
                    by: told.by,
                    since: time(row, "since")?,
                    recorded_at: time(row, "recorded")?,
                    count: u32::try_from(count).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }

    /// Those that may explain alterations of an item: open, or not reviewed yet, for what is told late.
    pub(super) async fn emergencies(
        &self,
        keys: &TenantKeys,
        ci: CiId,
    ) -> Result<Vec<Emergency>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT b.id, b.group_id, b.side, b.opened_at, b.until, b.review_by, b.sealed
             FROM break_glass b JOIN cis c ON c.tenant_id = b.tenant_id
             WHERE b.outcome IS NULL AND c.id = $1
                 AND (b.ci_id = c.id OR (b.group_id IS NOT NULL AND ",
            member!("b.group_id"),
            ")) ORDER BY b.id"
        ))
        .bind(ci.to_string())
        .fetch_all(self.pool())
        .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, side) = (parsed(row, "id")?, parsed::<Side>(row, "side")?);
            // Of a tenant's group the provider's people alter what the provider keeps, whatever else belongs to it.
            let is_group = get::<Option<String>>(row, "group_id")?.is_some();
            if is_group && side == Side::Provider && keys.id != PROVIDER {
                let item = self.store.ci(&Actor::System, ci).await?;
                if item.duty != Duty::Provider {
                    continue;
                }
            }
            let sealed: Vec<u8> = get(row, "sealed")?;
            let Terms { ticket, logins, files, .. } = keys.open(&terms_place(id), &sealed)?;
            let (from, until) = (time(row, "opened_at")?, time(row, "until")?);
            let review_by = time(row, "review_by")?;
            found.push(Emergency { id, ticket, logins, files, from, until, review_by });
        }
        Ok(found)
    }

    /// `None` where the tenant's key was destroyed since.
    fn read_break_glass(&self, row: &AnyRow) -> Result<Option<BreakGlass>, StoreError> {
        let tenant: TenantId = parsed(row, "tenant_id")?;
        let Some(sealed_key) = get::<Option<Vec<u8>>>(row, "sealed_key")? else { return Ok(None) };
        let keys = self.cache.tenant(&self.master, tenant, &sealed_key)?;
        let id: BreakGlassId = parsed(row, "id")?;
        let cover = match (parsed_or_none(row, "ci_id")?, parsed_or_none(row, "group_id")?) {
            (Some(ci), _) => Cover::Item(ci),
            (None, Some(group)) => Cover::Group(group),
            (None, None) => {
                return Err(StoreError::Corrupt { what: format!("{id} is for nothing") });
            }
        };
        let name = match cover {
            Cover::Item(_) => "ci_name",
            Cover::Group(_) => "group_name",
        };
        let review = match (time_or_none(row, "reviewed_at")?, get(row, "sealed_review")?) {
            (Some(at), Some(sealed)) => {
                let sealed: Vec<u8> = sealed;
                let by: Option<String> = get(row, "reviewed_by")?;
                let reason = keys.open(&review_place(id), &sealed)?;
                Some(Reviewed { at, by: by.unwrap_or_default(), reason })
            }
            _ => None,
        };
        let (span, outcome) = (span(row)?, parsed_or_none(row, "outcome")?);
        Ok(Some(BreakGlass {
            id,
            tenant,
            cover,
            cover_name: get(row, name)?,
            side: parsed(row, "side")?,
            terms: keys.open(&terms_place(id), &get::<Vec<u8>>(row, "sealed")?)?,
            opened_by: get(row, "opened_by")?,
            span,
            stage: span.stage(outcome, self.store.environment().now()),
            closed_by: get(row, "closed_by")?,
            escalated_at: time_or_none(row, "escalated_at")?,
            review,
            files: get::<i64>(row, "files")?.unsigned_abs(),
            version: get(row, "version")?,
        }))
    }
}

impl Store {
    /// Whether one was not reviewed in time and did not escalate.
    pub async fn has_break_glass_to_escalate(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 AS one FROM break_glass WHERE escalate_at <= $1 LIMIT 1")
            .bind(self.environment.now().as_microsecond())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Escalates those that nobody reviewed in time; says how many.
    pub async fn escalate_break_glass(&self, at_most: u16) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(escalate(tx, at_most))).await
    }
}

fn span(row: &AnyRow) -> Result<Span, StoreError> {
    let (from, until) = (time(row, "opened_at")?, time(row, "until")?);
    Ok(Span { from, until, review_by: time(row, "review_by")? })
}

async fn open(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewBreakGlass,
    keys: &TenantKeys,
) -> Result<BreakGlassId, StoreError> {
    // Seen once more: it may have been retired, or dissolved.
    let (ci, group) = match new.cover {
        Cover::Item(ci) => (Some(cis::find(&mut *tx.connection, by.scope(), ci).await?.id), None),
        Cover::Group(id) => {
            (None, Some(groups::find(&mut *tx.connection, by.scope(), id).await?.id))
        }
    };
    let span = Span::new(tx.now, new.minutes, new.review_hours)
        .map_err(|error| StoreError::Refused { reason: error.to_string(), help: error.help() })?;
    let id = BreakGlassId::new(tx.now, tx.random());
    let side = if by.tenant() == PROVIDER { Side::Provider } else { Side::Tenant };
    let sealed = keys.seal(&terms_place(id), &new.terms, tx.random())?;
    sqlx::query(
        "INSERT INTO break_glass (id, tenant_id, ci_id, group_id, side, opened_at, opened_by, until,
                                  review_by, escalate_at, version, sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1, $10)",
    )
    .bind(id.to_string())
    .bind(keys.id.to_string())
    .bind(ci.map(|ci| ci.to_string()))
    .bind(group.map(|group| group.to_string()))
    .bind(side.as_str())
    .bind(span.from.as_microsecond())
    .bind(by.id())
    .bind(span.until.as_microsecond())
    .bind(span.review_by.as_microsecond())
    .bind(sealed)
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: keys.id,
        kind: EventKind::BreakGlassOpened,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        // What it is for stays sealed, as paths do everywhere.
        payload: json!({
            "ci": ci, "group": group, "until": span.until, "review_by": span.review_by,
            "patterns": new.terms.files.len(), "accounts": new.terms.logins.len(),
        }),
    });
    alarms::raise_break_glass(tx, keys.id, id, Grade::Opened).await.map(|()| id)
}

async fn close(tx: &mut Tx<'_>, by: &Actor, found: &BreakGlass) -> Result<(), StoreError> {
    let span = found.span.closed(tx.now);
    if found.stage != Stage::Open || span == found.span {
        return Err(StoreError::Refused {
            reason: "it is not open any more".to_owned(),
            help: "somebody else may review it",
        });
    }
    let row = sqlx::query(
        "UPDATE break_glass SET until = $1, review_by = $2, closed_at = $3, closed_by = $4,
             escalate_at = CASE WHEN escalate_at IS NULL THEN NULL ELSE $2 END, version = version + 1
         WHERE id = $5 AND until = $6 AND outcome IS NULL RETURNING version",
    )
    .bind(span.until.as_microsecond())
    .bind(span.review_by.as_microsecond())
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .bind(found.id.to_string())
    .bind(found.span.until.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or(StoreError::Busy)?;
    tx.record(NewEvent {
        tenant: found.tenant,
        kind: EventKind::BreakGlassClosed,
        by: by.clone(),
        object: found.id.to_string(),
        version: get(&row, "version")?,
        payload: json!({ "until": span.until, "review_by": span.review_by }),
    });
    Ok(())
}

/// Whether one is not reviewed, so that something may still be done under it.
pub(super) async fn is_unreviewed(tx: &mut Tx<'_>, id: BreakGlassId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 AS one FROM break_glass WHERE id = $1 AND outcome IS NULL")
        .bind(id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    Ok(row.is_some())
}

/// Notes that a file was altered under one.
pub(super) async fn altered(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    id: BreakGlassId,
    (ci, key, recorded): (CiId, PathKey, i64),
    told: &Told,
) -> Result<(), StoreError> {
    let sealed = keys.seal(&file_place(id, ci, key), told, tx.random())?;
    sqlx::query(
        "INSERT INTO break_glass_files
         (break_glass_id, ci_id, path_key, since, recorded, alterations, sealed)
         VALUES ($1, $2, $3, $4, $4, 1, $5)
         ON CONFLICT (break_glass_id, ci_id, path_key) DO UPDATE SET recorded = excluded.recorded,
             alterations = break_glass_files.alterations + 1, sealed = excluded.sealed",
    )
    .bind(id.to_string())
    .bind(ci.to_string())
    .bind(key.0.to_vec())
    .bind(recorded)
    .bind(sealed)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Records that files of an item were altered under one.
pub(super) async fn used(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: BreakGlassId,
    (ci, recorded): (CiId, i64),
    files: u64,
) -> Result<(), StoreError> {
    let row =
        sqlx::query("UPDATE break_glass SET version = version + 1 WHERE id = $1 RETURNING version")
            .bind(id.to_string())
            .fetch_one(&mut *tx.connection)
            .await?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::BreakGlassUsed,
        by: Actor::System,
        object: id.to_string(),
        version: get(&row, "version")?,
        payload: json!({ "ci": ci, "recorded": recorded, "files": files }),
    });
    Ok(())
}

struct Review {
    by: Actor,
    id: BreakGlassId,
    seen: i64,
    outcome: Outcome,
    reason: Reason,
    keys: std::sync::Arc<TenantKeys>,
    escalates: SignedDuration,
}

/// Keeps what a review came to, with all that follows from it.
async fn pass(tx: &mut Tx<'_>, review: &Review) -> Result<(), StoreError> {
    let Review { by, id, seen, outcome, reason, keys, .. } = review;
    held(tx, keys).await?;
    let row = sqlx::query(
        "SELECT opened_at, opened_by, until, review_by, outcome, version FROM break_glass
         WHERE id = $1 AND tenant_id = $2",
    )
    .bind(id.to_string())
    .bind(keys.id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("break-glass", id))?;
    let stage = span(&row)?.stage(parsed_or_none(&row, "outcome")?, tx.now);
    break_glass::may_review(stage, &get::<String>(&row, "opened_by")?, &by.id())
        .map_err(|error| StoreError::Refused { reason: error.to_string(), help: error.help() })?;
    let version: i64 = get(&row, "version")?;
    if version != *seen {
        return Err(StoreError::Refused {
            reason: "more was done under it since".to_owned(),
            help: "read it again, and decide on that",
        });
    }
    let sealed = keys.seal(&review_place(*id), &reason.as_str(), tx.random())?;
    sqlx::query(
        "UPDATE break_glass SET outcome = $1, reviewed_at = $2, reviewed_by = $3, sealed_review = $4,
             escalate_at = NULL, version = $5 WHERE id = $6",
    )
    .bind(outcome.as_str())
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .bind(sealed)
    .bind(version + 1)
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let files = follow(tx, review).await?;
    tx.record(NewEvent {
        tenant: keys.id,
        kind: EventKind::BreakGlassReviewed,
        by: by.clone(),
        object: id.to_string(),
        version: version + 1,
        payload: json!({ "outcome": outcome, "files": files }),
    });
    alarms::withdraw(tx, &id.to_string()).await
}

/// What a review means for the files that still are as they were left; says how many these are.
async fn follow(tx: &mut Tx<'_>, review: &Review) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT ci_id, path_key, since, recorded, alterations, sealed FROM break_glass_files
         WHERE break_glass_id = $1 ORDER BY ci_id, path_key",
    )
    .bind(review.id.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut files = 0;
    for row in &rows {
        let file = File {
            ci: parsed(row, "ci_id")?,
            key: PathKey(bytes(row, "path_key")?),
            since: get(row, "since")?,
            recorded: get(row, "recorded")?,
            alterations: get(row, "alterations")?,
        };
        let Some(judged) = judged(tx, &review.keys, &file).await? else { continue };
        if judged.review.is_none_or(|it| it.break_glass != review.id) {
            continue;
        }
        files += 1;
        match review.outcome {
            Outcome::Accepted => accept(tx, review, &file, judged).await?,
            Outcome::Rejected => {
                let place = file_place(review.id, file.ci, file.key);
                let told = review.keys.open(&place, &get::<Vec<u8>>(row, "sealed")?)?;
                reject(tx, review, &file, judged, told).await?;
            }
        }
    }
    Ok(files)
}

/// A file that was altered under the reviewed one.
struct File {
    ci: CiId,
    key: PathKey,
    since: i64,
    recorded: i64,
    alterations: i64,
}

async fn judged(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    file: &File,
) -> Result<Option<Judged>, StoreError> {
    let row = sqlx::query(
        "SELECT sealed FROM judged_files WHERE tenant = $1 AND ci = $2 AND path_key = $3",
    )
    .bind(keys.tenant.to_vec())
    .bind(file.ci.as_bytes().to_vec())
    .bind(file.key.0.to_vec())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let place = place("judged", file.ci, file.key, 0);
    row.map(|row| keys.open(&place, &get::<Vec<u8>>(&row, "sealed")?)).transpose()
}

async fn accept(
    tx: &mut Tx<'_>,
    review: &Review,
    file: &File,
    judged: Judged,
) -> Result<(), StoreError> {
    let state = judged.review.and_then(|it| it.now);
    let by = Approval::Review { break_glass: review.id };
    let judged = Judged { in_force: Some(InForce { state, by }), review: None, ..judged };
    keep_judged(tx, &review.keys, file.ci, file.key, &judged).await
}

async fn reject(
    tx: &mut Tx<'_>,
    review: &Review,
    file: &File,
    mut judged: Judged,
    told: Told,
) -> Result<(), StoreError> {
    let Some(under) = judged.review.take() else { return Ok(()) };
    let keys = &*review.keys;
    reject_verdicts(tx, review, file).await?;
    if let Some(open) = &mut judged.open {
        // It was altered again since: what may come back is what was there before all of it.
        open.before = under.before;
    } else if under.now != under.before {
        let drift = DriftId::new(tx.now, tx.random());
        judged.open = Some(Open { drift, before: under.before, now: under.now });
        let what = match (under.before, under.now) {
            (None, _) => Happening::Came,
            (Some(_), None) => Happening::Gone,
            (Some(_), Some(_)) => Happening::Altered,
        };
        let told = Told { what, judgement: verdict::rejected(&told.judgement), ..told };
        let new = NewDrift {
            drift,
            ci: file.ci,
            key: file.key,
            since: file.since,
            recorded: file.recorded,
            alterations: file.alterations,
            escalates: review.escalates,
        };
        open_drift(tx, keys, &new, &told).await?;
    }
    keep_judged(tx, keys, file.ci, file.key, &judged).await
}

/// What was held to be done with leave was not, as its review has it.
async fn reject_verdicts(tx: &mut Tx<'_>, review: &Review, file: &File) -> Result<(), StoreError> {
    let keys = &*review.keys;
    let rows = sqlx::query(
        "SELECT recorded, sealed FROM verdicts
         WHERE tenant = $1 AND ci = $2 AND path_key = $3 AND recorded BETWEEN $4 AND $5",
    )
    .bind(keys.tenant.to_vec())
    .bind(file.ci.as_bytes().to_vec())
    .bind(file.key.0.to_vec())
    .bind(file.since)
    .bind(file.recorded)
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let recorded: i64 = get(row, "recorded")?;
        let place = place("verdict", file.ci, file.key, recorded);
        let mut kept: super::FileVerdict = keys.open(&place, &get::<Vec<u8>>(row, "sealed")?)?;
        if !is_of(&kept.judgement, review.id) {
            continue;
        }
        kept.judgement = verdict::rejected(&kept.judgement);
        sqlx::query(
            "UPDATE verdicts SET standing = $1, sealed = $2
             WHERE tenant = $3 AND ci = $4 AND path_key = $5 AND recorded = $6",
        )
        .bind(Standing::Unauthorised.as_str())
        .bind(keys.seal(&place, &kept, tx.random())?)
        .bind(keys.tenant.to_vec())
        .bind(file.ci.as_bytes().to_vec())
        .bind(file.key.0.to_vec())
        .bind(recorded)
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

fn is_of(judgement: &Judgement, id: BreakGlassId) -> bool {
    matches!(judgement.verdict, Verdict::Emergency { break_glass, .. } if break_glass == id)
}

async fn escalate(tx: &mut Tx<'_>, at_most: u16) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT id, tenant_id FROM break_glass WHERE escalate_at <= $1 ORDER BY escalate_at LIMIT $2",
    )
    .bind(tx.now.as_microsecond())
    .bind(i64::from(at_most))
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let (id, tenant) = (parsed::<BreakGlassId>(row, "id")?, parsed(row, "tenant_id")?);
        let escalated = sqlx::query(
            "UPDATE break_glass SET escalated_at = $1, escalate_at = NULL, version = version + 1
             WHERE id = $2 AND escalate_at IS NOT NULL RETURNING version",
        )
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
        let Some(escalated) = escalated else { continue };
        alarms::raise_break_glass(tx, tenant, id, Grade::Escalated).await?;
        tx.record(NewEvent {
            tenant,
            kind: EventKind::BreakGlassEscalated,
            by: Actor::System,
            object: id.to_string(),
            version: get(&escalated, "version")?,
            payload: json!({}),
        });
    }
    Ok(rows.len() as u64)
}
