//! Verdicts on what was recorded: how each alteration came about is kept with it, and judged afterwards, in the
//! order in which it was recorded.
//!
//! ```text
//! record_told ─► unjudged ─► judge: before, after ─┐
//!                 plans that may start (expect) ───┼─► verdict::judge ─► verdict ─┬─► nothing more
//!                 what is in force, open drifts ───┘                              └─► drift: open, altered, settled
//! ```
//!
//! A verdict is made of what history holds, so it can be made after a crash, and late. Whoever judges holds a
//! lease; a batch that another one judged meanwhile is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::history::{FilePath, PathKey, State};
use domain::agent::{Installed, Trace};
use domain::change::{Access, Action, FileHash, Intended, Permit, PlanHash};
use domain::cloud::{BreakGlassId, ChangeId, CiId, Class, DriftId, EventKind, TenantId};
use domain::configuration::document::{Aspect, aspect, original_of};
use domain::configuration::flapping::{Flapping, Signal};
use domain::configuration::mask::{Masks, Subject};
use domain::configuration::secret;
use domain::configuration::verdict::{
    self, Actor as Hand, Alteration, Approval, Approved, Emergency, Evidence, Expectation, Extent,
    FileState, Happened, Judgement, Knowledge, Shipped, Standing, Verdict,
};
use domain::order::LONGEST_LIFE;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::alarms::{self, Grade};
use super::break_glass;
use super::drifts::{DriftState, Happening, Told};
use super::keys::TenantKeys;
use super::rows::{add_rows, bytes};
use super::{FileVersion, History, Past, timestamp};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::several::Several;
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;

/// How alterations of one batch came about.
#[derive(Debug, Clone)]
pub struct Telling {
    /// When was looked before; `None` where nobody can say.
    pub looked_before: Option<Timestamp>,
    /// Whether all is known that came before.
    pub evidence: Evidence,
    /// What is known of some of the files.
    pub traces: BTreeMap<String, Trace>,
}

/// The same as it waits to be judged: of each file that was recorded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Queued {
    looked_before: Option<Timestamp>,
    evidence: Evidence,
    files: BTreeMap<String, Option<Trace>>,
}

impl Telling {
    pub(super) fn of<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Queued {
        // What a host has and runs follows from what is done to it: that is not agreed to by itself.
        // And an original alters with its file.
        let is_judged =
            |path: &&str| aspect(path) != Some(Aspect::Profile) && original_of(path).is_none();
        let judged = paths.filter(is_judged);
        let files = judged.map(|path| (path.to_owned(), self.traces.get(path).cloned())).collect();
        Queued { looked_before: self.looked_before, evidence: self.evidence, files }
    }
}

/// What an alteration was held to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVerdict {
    /// Of which file.
    pub path: String,
    /// What, why, and how sure that is.
    pub judgement: Judgement,
}

/// What the next alteration of a file is judged by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Judged {
    /// What was approved of it and is in force.
    pub(super) in_force: Option<InForce>,
    pub(super) flapping: Flapping,
    /// The drift that is open.
    pub(super) open: Option<Open>,
    /// What was done to it under break-glass, until that is reviewed.
    #[serde(default)]
    pub(super) review: Option<UnderReview>,
}

/// A state that a file was approved to have.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct InForce {
    pub(super) state: Option<FileState>,
    pub(super) by: Approval,
}

/// A drift that is open.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) drift: DriftId,
    /// What the file was before it.
    pub(super) before: Option<FileState>,
    /// What it is now.
    pub(super) now: Option<FileState>,
}

/// What was done to a file under break-glass.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct UnderReview {
    pub(super) break_glass: BreakGlassId,
    /// What the file was before it.
    pub(super) before: Option<FileState>,
    /// As what it was left.
    pub(super) now: Option<FileState>,
}

/// A batch that waits to be judged.
struct Waiting {
    tenant: TenantId,
    keys: Arc<TenantKeys>,
    ci: CiId,
    class: Class,
    recorded: i64,
    queued: Queued,
}

/// A file of a batch with its verdict.
struct Ruled {
    path: FilePath,
    key: PathKey,
    what: Happening,
    /// Who, as the source calls them.
    by: Option<String>,
    judgement: Judgement,
    judged: Judged,
    step: Step,
    is_told: bool,
}

/// What becomes of a file's drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Open(DriftId),
    Again(DriftId),
    Settle(DriftId, DriftState),
}

/// A judged batch.
struct Sentence {
    waiting: Waiting,
    ruled: Vec<Ruled>,
    escalates: SignedDuration,
}

/// Where something of a file stands, for its seal.
pub(super) fn place(kind: &str, ci: CiId, key: PathKey, recorded: i64) -> String {
    format!("{kind}/{ci}/{}/{recorded}", crate::value::hex(&key.0))
}

fn queue_place(ci: CiId, recorded: i64) -> String {
    format!("unjudged/{ci}/{recorded}")
}

/// How a batch came about, as it is kept until it is judged.
pub(super) struct QueuedRow {
    tenant: [u8; 16],
    ci: CiId,
    recorded: i64,
    told: Vec<u8>,
}

/// The same, sealed.
pub(super) fn queued(
    tx: &Tx<'_>,
    keys: &TenantKeys,
    ci: CiId,
    recorded: i64,
    queued: &Queued,
) -> Result<QueuedRow, StoreError> {
    let told = keys.seal(&queue_place(ci, recorded), queued, tx.random())?;
    Ok(QueuedRow { tenant: keys.tenant, ci, recorded, told })
}

/// Keeps batches until they are judged.
pub(super) fn queue(several: &mut Several, rows: &[QueuedRow]) {
    let text = |values: &str| {
        format!("INSERT INTO history_unjudged (tenant, ci, recorded, told) VALUES {values}")
    };
    add_rows(several, rows, 4, text, |several, QueuedRow { tenant, ci, recorded, told }| {
        several.bind(*tenant).bind(ci.as_bytes()).bind(*recorded).bind(told.as_slice());
    });
}

/// Notes what a plan that may start makes of files: whoever does so in its windows does as was agreed.
pub(crate) async fn expect(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    permit: &Permit,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT body, change_id FROM plans WHERE hash = $1 AND tenant_id = $2")
        .bind(permit.plan().to_string())
        .bind(tenant.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let Some(row) = row else { return Ok(()) };
    let change: ChangeId = parsed(&row, "change_id")?;
    let plan = domain::change::Plan::parse(&get::<Vec<u8>>(&row, "body")?)
        .map_err(|error| StoreError::Corrupt { what: format!("a plan: {error}") })?;
    for stage in &plan.draft().stages {
        for item in &stage.items {
            for action in &item.actions {
                let Action::AlterFile { path, change: of_file } = action else { continue };
                sqlx::query(
                    "INSERT INTO expected_files
                     (ci_id, change_id, plan_hash, path, after, not_before, not_after)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (ci_id, path, plan_hash) DO UPDATE SET after = excluded.after,
                         not_before = excluded.not_before, not_after = excluded.not_after",
                )
                .bind(item.ci.to_string())
                .bind(change.to_string())
                .bind(permit.plan().to_string())
                .bind(path.as_str())
                .bind(of_file.after().to_string())
                .bind(stage.window.from.as_microsecond())
                .bind(stage.window.until.as_microsecond())
                .execute(&mut *tx.connection)
                .await?;
            }
        }
    }
    Ok(())
}

/// Notes that a plan's files are to be what they were before, from now on for as long as an order may live.
pub(crate) async fn expect_back(
    tx: &mut Tx<'_>,
    ci: CiId,
    change: ChangeId,
    plan: PlanHash,
    back: &[Action],
) -> Result<(), StoreError> {
    for action in back {
        let Action::AlterFile { path, change: of_file } = action else { continue };
        sqlx::query(
            "UPDATE expected_files SET after = $1, not_before = $2, not_after = $3
             WHERE ci_id = $4 AND change_id = $5 AND plan_hash = $6 AND path = $7",
        )
        .bind(of_file.after().to_string())
        .bind(tx.now.as_microsecond())
        .bind((tx.now + LONGEST_LIFE).as_microsecond())
        .bind(ci.to_string())
        .bind(change.to_string())
        .bind(plan.to_string())
        .bind(path.as_str())
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

/// What is known of an item where its files are judged.
struct Known {
    planned: Vec<Planned>,
    emergencies: Vec<Emergency>,
}

/// What plans make of one file.
struct Planned {
    change: ChangeId,
    path: String,
    after: Intended,
    window: (Timestamp, Timestamp),
}

impl History {
    /// Whether something waits to be judged.
    pub async fn has_unjudged(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 AS one FROM history_unjudged LIMIT 1");
        Ok(row.fetch_optional(self.pool()).await?.is_some())
    }

    /// Judges what was recorded and is not judged yet, the oldest first. Says how many batches that were.
    pub async fn judge(&self, at_most: u16) -> Result<usize, StoreError> {
        let rows = sqlx::query(
            "SELECT u.tenant, u.ci, u.recorded, u.told, h.tenant_id, h.sealed_key
             FROM history_unjudged u JOIN history_tenants h ON h.tenant = u.tenant
             ORDER BY u.tenant, u.recorded LIMIT $1",
        )
        .bind(i64::from(at_most))
        .fetch_all(self.pool())
        .await?;
        for row in &rows {
            match self.waiting(row).await? {
                Some(waiting) => self.judge_batch(waiting).await?,
                None => self.forget_unjudged(row).await?,
            }
        }
        Ok(rows.len())
    }

    /// A batch as it waits; `None` where what it was made of was erased.
    async fn waiting(&self, row: &AnyRow) -> Result<Option<Waiting>, StoreError> {
        let tenant: TenantId = parsed(row, "tenant_id")?;
        let Some(sealed) = get::<Option<Vec<u8>>>(row, "sealed_key")? else { return Ok(None) };
        let keys = self.cache.tenant(&self.master, tenant, &sealed)?;
        let ci = CiId::from_bytes(bytes(row, "ci")?);
        let recorded: i64 = get(row, "recorded")?;
        let told: Vec<u8> = get(row, "told")?;
        // Under a key that the tenant has no more.
        let Ok(queued) = keys.open(&queue_place(ci, recorded), &told) else { return Ok(None) };
        let class = sqlx::query("SELECT class FROM cis WHERE id = $1")
            .bind(ci.to_string())
            .fetch_optional(self.pool())
            .await?
            .ok_or_else(|| StoreError::Corrupt { what: format!("{ci} is gone") })?;
        let class = parsed(&class, "class")?;
        Ok(Some(Waiting { tenant, keys, ci, class, recorded, queued }))
    }

    async fn forget_unjudged(&self, row: &AnyRow) -> Result<(), StoreError> {
        let (tenant, recorded): (Vec<u8>, i64) = (get(row, "tenant")?, get(row, "recorded")?);
        self.write((tenant, recorded), |tx, (tenant, recorded)| {
            Box::pin(async move {
                sqlx::query("DELETE FROM history_unjudged WHERE tenant = $1 AND recorded = $2")
                    .bind(tenant.clone())
                    .bind(*recorded)
                    .execute(&mut *tx.connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn judge_batch(&self, waiting: Waiting) -> Result<(), StoreError> {
        let known = Known {
            planned: self.planned(waiting.ci).await?,
            emergencies: self.emergencies(&waiting.keys, waiting.ci).await?,
        };
        let mut ruled = Vec::with_capacity(waiting.queued.files.len());
        for (path, trace) in &waiting.queued.files {
            let path = FilePath::new(path.as_str())?;
            if let Some(it) = self.rule(&waiting, path, trace.as_ref(), &known).await? {
                ruled.push(it);
            }
        }
        derive(&mut ruled);
        let policy = self.store.policy_in_force(&Actor::System, waiting.tenant).await?;
        let escalates = policy.drift_escalates_after();
        let sentence = Sentence { waiting, ruled, escalates };
        self.write(sentence, |tx, sentence| Box::pin(pass(tx, sentence))).await
    }

    async fn planned(&self, ci: CiId) -> Result<Vec<Planned>, StoreError> {
        let rows = sqlx::query(
            "SELECT change_id, path, after, not_before, not_after FROM expected_files
             WHERE ci_id = $1",
        )
        .bind(ci.to_string())
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Planned {
                    change: parsed(row, "change_id")?,
                    path: get(row, "path")?,
                    after: parsed(row, "after")?,
                    window: (time(row, "not_before")?, time(row, "not_after")?),
                })
            })
            .collect()
    }

    /// One file of a batch; `None` where history cannot say any more what it was.
    async fn rule(
        &self,
        waiting: &Waiting,
        path: FilePath,
        trace: Option<&Trace>,
        known: &Known,
    ) -> Result<Option<Ruled>, StoreError> {
        let (ci, at) = (waiting.ci, waiting.recorded);
        let found = self.file_at(&Actor::System, ci, &path, timestamp(at)).await?;
        let Past::Kept(Some(after)) = found else { return Ok(None) };
        let before = match self.file_at(&Actor::System, ci, &path, timestamp(at - 1)).await? {
            Past::Kept(before) => before.filter(FileVersion::is_present),
            // What it was is not known any more: then it counts as new.
            Past::Erased | Past::Forgotten { .. } => None,
        };
        let was_at = before.as_ref().map(|before| before.observed_at);
        let states = (before.as_ref().and_then(state), state(&after));
        // That more is told of a host is no alteration of it.
        if states.0.is_none() && aspect(path.as_str()).is_some() {
            return Ok(None);
        }
        let key = waiting.keys.pool.path_key(&path);
        let judged = self.judged(&waiting.keys, ci, key).await?;
        let shipped = trace.and_then(|trace| trace.shipped.as_ref());
        let shipped = match shipped {
            Some(it) => {
                Some(shipped_as(it, &path, states.1, self.ordered(ci, it.from, it.until).await?))
            }
            None => None,
        };
        // Plans have the checksum of the whole file.
        let whole = match &after.content {
            Some(content) if str::from_utf8(content).is_ok_and(secret::is_partial) => {
                self.original_hash(ci, &path, timestamp(at)).await?
            }
            _ => None,
        };
        let who = trace.map_or(Hand::Unknown, |trace| trace.who.clone());
        let queued = &waiting.queued;
        let alteration = Alteration {
            path: path.to_string(),
            before: states.0,
            after: states.1,
            when: happened(queued, trace, was_at, after.observed_at),
            actor: who,
            extent: extent(waiting.class, &path, before.as_ref(), &after),
            evidence: queued.evidence,
        };
        let knowledge = Knowledge {
            expectations: expectations(
                &known.planned,
                &alteration,
                (before.as_ref(), &after),
                whole,
            ),
            shipped: shipped.into_iter().collect(),
            emergencies: known.emergencies.clone(),
            approved: approved(judged.as_ref(), &alteration.path),
        };
        let now = self.store.environment().now();
        let judgement = verdict::judge(&alteration, &knowledge, now);
        let mut random = [0; 10];
        self.store.environment().fill(&mut random);
        let new = DriftId::new(now, random);
        let (judged, step, is_told) = next(judged, &alteration, &judgement, new, now);
        let what = match states {
            (None, _) => Happening::Came,
            (Some(_), None) => Happening::Gone,
            (Some(_), Some(_)) => Happening::Altered,
        };
        let by = after.by.map(|by| by.actor);
        Ok(Some(Ruled { path, key, what, by, judgement, judged, step, is_told }))
    }

    pub(super) async fn judged(
        &self,
        keys: &TenantKeys,
        ci: CiId,
        key: PathKey,
    ) -> Result<Option<Judged>, StoreError> {
        let row = sqlx::query(
            "SELECT sealed FROM judged_files WHERE tenant = $1 AND ci = $2 AND path_key = $3",
        )
        .bind(keys.tenant.to_vec())
        .bind(ci.as_bytes().to_vec())
        .bind(key.0.to_vec())
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| keys.open(&place("judged", ci, key, 0), &get::<Vec<u8>>(&row, "sealed")?))
            .transpose()
    }

    /// The change by whose order the item's agent was at work in a span of time.
    async fn ordered(
        &self,
        ci: CiId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Option<ChangeId>, StoreError> {
        let row = sqlx::query(
            "SELECT MAX(change_id) AS change_id FROM orders WHERE ci_id = $1 AND handed_at <= $2
             AND (answered_at IS NULL OR answered_at >= $3)",
        )
        .bind(ci.to_string())
        .bind(until.as_microsecond())
        .bind(from.as_microsecond())
        .fetch_one(self.pool())
        .await?;
        parsed_or_none(&row, "change_id")
    }

    /// What the alterations of an item, or of one of its files, were held to be, by when they were recorded.
    pub async fn verdicts(
        &self,
        by: &Actor,
        ci: CiId,
        path: Option<&FilePath>,
    ) -> Result<BTreeMap<(Timestamp, String), FileVerdict>, StoreError> {
        let asked = self.asked(by, ci).await?;
        let Some(keys) = &asked.keys else { return Ok(BTreeMap::new()) };
        let key = path.map(|path| keys.pool.path_key(path));
        let (low, high) = key.map_or(([0; 16], [0xff; 16]), |key| (key.0, key.0));
        let rows = sqlx::query(
            "SELECT path_key, recorded, sealed FROM verdicts
             WHERE tenant = $1 AND ci = $2 AND path_key BETWEEN $3 AND $4",
        )
        .bind(keys.tenant.to_vec())
        .bind(ci.as_bytes().to_vec())
        .bind(low.to_vec())
        .bind(high.to_vec())
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let (key, recorded) = (PathKey(bytes(row, "path_key")?), get(row, "recorded")?);
                let sealed: Vec<u8> = get(row, "sealed")?;
                let verdict: FileVerdict =
                    keys.open(&place("verdict", ci, key, recorded), &sealed)?;
                Ok(((timestamp(recorded), verdict.path.clone()), verdict))
            })
            .collect()
    }
}

/// What a version is, as verdicts compare it: content as it left the host, and who may do what with it.
fn state(version: &FileVersion) -> Option<FileState> {
    let State::Present { metadata, .. } = &version.state else { return None };
    let content = version.content.as_deref().unwrap_or_default();
    let access = access_hash(metadata.mode, &metadata.owner, &metadata.label);
    Some(FileState { content: hash_of(Sha256::new_with_prefix(content)), access })
}

fn access_hash(mode: u32, owner: &str, label: &[u8]) -> FileHash {
    let mut access = Sha256::new();
    access.update(mode.to_be_bytes());
    for part in [owner.as_bytes(), label] {
        access.update((part.len() as u64).to_be_bytes());
        access.update(part);
    }
    hash_of(access)
}

fn hash_of(hash: Sha256) -> FileHash {
    FileHash::from(<[u8; 32]>::from(hash.finalize()))
}

/// When it was, as closely as is known: a time that the file system gives counts where it lies between two looks.
fn happened(
    queued: &Queued,
    trace: Option<&Trace>,
    was_at: Option<Timestamp>,
    seen_at: Timestamp,
) -> Happened {
    let after = queued.looked_before.or(was_at).unwrap_or(seen_at).min(seen_at);
    let changed = trace.and_then(|trace| trace.changed_at);
    match changed.filter(|at| after <= *at && *at <= seen_at) {
        Some(at) => Happened::at(at),
        None => Happened { after, by: seen_at },
    }
}

fn extent(
    class: Class,
    path: &FilePath,
    before: Option<&FileVersion>,
    after: &FileVersion,
) -> Extent {
    let text = |version: &FileVersion| {
        version.content.as_deref().and_then(|bytes| str::from_utf8(bytes).ok().map(str::to_owned))
    };
    let texts = before.and_then(text).zip(text(after));
    let subject = Subject::of_class(class, path.as_str());
    let is_noise = texts
        .is_some_and(|(before, after)| Masks::built_in().only_volatile(&subject, &before, &after));
    if is_noise { Extent::OnlyVolatile } else { Extent::Matters }
}

fn shipped_as(
    it: &Installed,
    path: &FilePath,
    after: Option<FileState>,
    change: Option<ChangeId>,
) -> Shipped {
    let Installed { package, version, from, until } = it.clone();
    Shipped { package, version, path: path.to_string(), after, from, until, change }
}

/// What plans say of a file. Where they say its content alone, whose it is stays as it was. `whole` is the checksum of its
/// original, where what is recorded of it is not the whole.
fn expectations(
    planned: &[Planned],
    alteration: &Alteration,
    (before, after): (Option<&FileVersion>, &FileVersion),
    whole: Option<FileHash>,
) -> Vec<Expectation> {
    let recorded = |planned: FileHash| {
        let told = alteration.after.filter(|_| whole == Some(planned));
        told.map_or(planned, |state| state.content)
    };
    let state = |sha256: FileHash, named: Option<&Access>| {
        let access = match named {
            None => alteration.before.or(alteration.after)?.access,
            Some(named) => access_as_told(named, before, after),
        };
        Some(FileState { content: recorded(sha256), access })
    };
    let of_file = planned.iter().filter(|it| it.path == alteration.path);
    let expected = |it: &Planned| {
        let after = match &it.after {
            Intended::Absent => None,
            Intended::Content { sha256, access } => Some(state(*sha256, access.as_ref())?),
        };
        Some(Expectation {
            change: it.change,
            path: it.path.clone(),
            after,
            not_before: it.window.0,
            not_after: it.window.1,
            executor: None,
        })
    };
    of_file.filter_map(expected).collect()
}

/// What is told of a file that is as a plan says. Its labels stay; a new one has those that its host gives it.
fn access_as_told(named: &Access, before: Option<&FileVersion>, after: &FileVersion) -> FileHash {
    let metadata = |version: &FileVersion| match &version.state {
        State::Present { metadata, .. } => Some(metadata.clone()),
        State::Gone => None,
    };
    let told = metadata(after);
    let label = before.and_then(metadata).or_else(|| told.clone()).map(|it| it.label);
    // Number 0 is root, whichever of both is told.
    let is_theirs = told.filter(|it| Access::recorded(it.mode, &it.owner).as_ref() == Some(named));
    let owner = is_theirs.map_or_else(|| format!("{}:{}", named.owner, named.group), |it| it.owner);
    access_hash(0o100_000 | named.mode.bits(), &owner, &label.unwrap_or_default())
}

fn approved(judged: Option<&Judged>, path: &str) -> Vec<Approved> {
    let Some(judged) = judged else { return Vec::new() };
    let in_force = judged.in_force.map(|it| (it.state, it.by));
    let before = judged.open.map(|it| (it.before, Approval::Before { drift: it.drift }));
    let before_review = judged.review.map(|it| {
        let break_glass = it.break_glass;
        (it.before, Approval::BeforeReview { break_glass })
    });
    let all = in_force.into_iter().chain(before).chain(before_review);
    all.map(|(state, by)| Approved { path: path.to_owned(), state, by, superseded_by: None })
        .collect()
}

/// What is remembered of a file after a verdict, what becomes of its drift, and whether anybody is told.
fn next(
    judged: Option<Judged>,
    alteration: &Alteration,
    judgement: &Judgement,
    new: DriftId,
    now: Timestamp,
) -> (Judged, Step, bool) {
    let mut judged = judged.unwrap_or_else(|| Judged {
        in_force: None,
        flapping: Flapping::new(whole(alteration.before)),
        open: None,
        review: None,
    });
    judged.flapping.rested(now);
    let signal = judged.flapping.altered(whole(alteration.after), now);
    let settle = |judged: &mut Judged, state| match judged.open.take() {
        Some(open) => Step::Settle(open.drift, state),
        None => Step::Nothing,
    };
    let after = alteration.after;
    let step = match (&judgement.verdict, judgement.verdict.standing()) {
        // What was open stays so: only what alters by itself is another one.
        (Verdict::Noise, _) => {
            if let Some(open) = &mut judged.open {
                open.now = after;
            } else if let Some(review) = &mut judged.review {
                review.now = after;
            }
            Step::Nothing
        }
        (Verdict::Reverted { to }, _) => {
            // Back to what was there before a drift is back to what was done under break-glass, where that came first.
            judged.review.take_if(|_| !matches!(to, Approval::Before { .. }));
            settle(&mut judged, DriftState::Reverted)
        }
        (Verdict::Emergency { break_glass, .. }, _) => {
            let same = judged.review.filter(|it| it.break_glass == *break_glass);
            let before = match (same, judged.open) {
                (Some(review), _) => review.before,
                (None, Some(open)) => open.before,
                (None, None) => alteration.before,
            };
            judged.review = Some(UnderReview { break_glass: *break_glass, before, now: after });
            settle(&mut judged, DriftState::Superseded)
        }
        (Verdict::Authorised { change } | Verdict::AuthorisedIrregular { change, .. }, _) => {
            let by = Approval::Change { change: *change };
            (judged.in_force, judged.review) = (Some(InForce { state: after, by }), None);
            settle(&mut judged, DriftState::Superseded)
        }
        // What was approved is not in force any more.
        (_, Standing::Vendor | Standing::Authorised) => {
            (judged.in_force, judged.review) = (None, None);
            settle(&mut judged, DriftState::Superseded)
        }
        (_, Standing::Unauthorised | Standing::Unknown) => {
            if let Some(open) = &mut judged.open {
                open.now = after;
                Step::Again(open.drift)
            } else {
                let before = alteration.before;
                judged.open = Some(Open { drift: new, before, now: after });
                Step::Open(new)
            }
        }
    };
    (judged, step, signal != Signal::Hold)
}

/// Documents are derived of files: where some of them altered at the same time, these say what it is, and what is to
/// be done is done with them.
fn derive(ruled: &mut [Ruled]) {
    let is_file = |it: &&Ruled| aspect(it.path.as_str()).is_none();
    let matters = |it: &&Ruled| it.judgement.verdict != Verdict::Noise;
    let files = ruled.iter().filter(is_file).filter(matters);
    let worst = files.max_by_key(|it| match it.judgement.verdict.standing() {
        Standing::Authorised => 0,
        Standing::Vendor => 1,
        Standing::Unknown => 2,
        Standing::Unauthorised => 3,
    });
    let Some(worst) = worst.map(|it| (it.path.clone(), it.judgement.clone())) else { return };
    for it in ruled.iter_mut().filter(|it| aspect(it.path.as_str()).is_some()) {
        it.judgement = verdict::follow(worst.0.as_str(), &worst.1);
        if matches!(it.step, Step::Open(_)) {
            (it.step, it.judged.open) = (Step::Nothing, None);
        }
    }
}

/// A state as one hash; nothing there is one too.
fn whole(state: Option<FileState>) -> FileHash {
    let mut hash = Sha256::new();
    if let Some(FileState { content, access }) = state {
        hash.update(content.as_bytes());
        hash.update(access.as_bytes());
    }
    <[u8; 32]>::from(hash.finalize()).into()
}

/// Keeps the verdicts of a batch, with all that follows from them.
async fn pass(tx: &mut Tx<'_>, sentence: &Sentence) -> Result<(), StoreError> {
    let Sentence { waiting, ruled, escalates } = sentence;
    let (keys, ci, recorded) = (&*waiting.keys, waiting.ci, waiting.recorded);
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    let under = under_break_glass(ruled);
    for &id in under.keys() {
        // Reviewed meanwhile: it explains nothing any more, and the batch is judged again.
        if !break_glass::is_unreviewed(tx, id).await? {
            return Ok(());
        }
    }
    let deleted = sqlx::query("DELETE FROM history_unjudged WHERE tenant = $1 AND recorded = $2")
        .bind(keys.tenant.to_vec())
        .bind(recorded)
        .execute(&mut *tx.connection)
        .await?;
    if deleted.rows_affected() == 0 {
        return Ok(());
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for it in ruled {
        *counts.entry(it.judgement.verdict.standing().as_str()).or_default() += 1;
        keep(tx, waiting, it).await?;
        if let Some(id) = is_under(it) {
            break_glass::altered(tx, keys, id, (ci, it.key, recorded), &told(it)).await?;
        }
        match it.step {
            Step::Nothing => {}
            Step::Open(drift) => open(tx, waiting, it, drift, *escalates).await?,
            Step::Again(drift) => again(tx, waiting, it, drift).await?,
            Step::Settle(drift, state) => {
                super::drifts::settle(tx, &Actor::System, drift, state, None).await?;
            }
        }
    }
    for (id, files) in under {
        break_glass::used(tx, keys.id, id, (ci, recorded), files).await?;
    }
    let row = sqlx::query("SELECT version FROM cis WHERE id = $1")
        .bind(ci.to_string())
        .fetch_one(&mut *tx.connection)
        .await?;
    tx.record(NewEvent {
        tenant: keys.id,
        kind: EventKind::FilesJudged,
        by: Actor::System,
        object: ci.to_string(),
        version: get(&row, "version")?,
        payload: json!({ "recorded": recorded, "verdicts": counts }),
    });
    Ok(())
}

/// Under which break-glass a file was altered. What is derived of files is reviewed with these.
fn is_under(it: &Ruled) -> Option<BreakGlassId> {
    match it.judgement.verdict {
        Verdict::Emergency { break_glass, .. } if aspect(it.path.as_str()).is_none() => {
            Some(break_glass)
        }
        _ => None,
    }
}

/// How many files were altered under which.
fn under_break_glass(ruled: &[Ruled]) -> BTreeMap<BreakGlassId, u64> {
    let mut under = BTreeMap::new();
    for id in ruled.iter().filter_map(is_under) {
        *under.entry(id).or_default() += 1;
    }
    under
}

async fn keep(tx: &mut Tx<'_>, waiting: &Waiting, it: &Ruled) -> Result<(), StoreError> {
    let (keys, ci, recorded) = (&*waiting.keys, waiting.ci, waiting.recorded);
    let verdict = FileVerdict { path: it.path.to_string(), judgement: it.judgement.clone() };
    let sealed = keys.seal(&place("verdict", ci, it.key, recorded), &verdict, tx.random())?;
    sqlx::query(
        "INSERT INTO verdicts (tenant, ci, path_key, recorded, standing, sealed)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(keys.tenant.to_vec())
    .bind(ci.as_bytes().to_vec())
    .bind(it.key.0.to_vec())
    .bind(recorded)
    .bind(it.judgement.verdict.standing().as_str())
    .bind(sealed)
    .execute(&mut *tx.connection)
    .await?;
    keep_judged(tx, keys, ci, it.key, &it.judged).await
}

pub(super) async fn keep_judged(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    ci: CiId,
    key: PathKey,
    judged: &Judged,
) -> Result<(), StoreError> {
    let sealed = keys.seal(&place("judged", ci, key, 0), judged, tx.random())?;
    sqlx::query(
        "INSERT INTO judged_files (tenant, ci, path_key, sealed) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, ci, path_key) DO UPDATE SET sealed = excluded.sealed",
    )
    .bind(keys.tenant.to_vec())
    .bind(ci.as_bytes().to_vec())
    .bind(key.0.to_vec())
    .bind(sealed)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

fn told(it: &Ruled) -> Told {
    let (path, judgement) = (it.path.to_string(), it.judgement.clone());
    Told { path, what: it.what, judgement, by: it.by.clone() }
}

async fn open(
    tx: &mut Tx<'_>,
    waiting: &Waiting,
    it: &Ruled,
    drift: DriftId,
    escalates: SignedDuration,
) -> Result<(), StoreError> {
    let (ci, key, recorded) = (waiting.ci, it.key, waiting.recorded);
    let (since, alterations) = (recorded, 1);
    let new = NewDrift { drift, ci, key, since, recorded, alterations, escalates };
    open_drift(tx, &waiting.keys, &new, &told(it)).await
}

/// A drift that is to be opened.
pub(super) struct NewDrift {
    pub(super) drift: DriftId,
    pub(super) ci: CiId,
    pub(super) key: PathKey,
    /// When the first and the last of its alterations were recorded, and how many there were.
    pub(super) since: i64,
    pub(super) recorded: i64,
    pub(super) alterations: i64,
    /// After how long it escalates.
    pub(super) escalates: SignedDuration,
}

/// Opens a drift; its owner is told.
pub(super) async fn open_drift(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    new: &NewDrift,
    told: &Told,
) -> Result<(), StoreError> {
    let NewDrift { drift, ci, key, since, recorded, alterations, escalates } = *new;
    let sealed = keys.seal(&place("drift", ci, key, 0), told, tx.random())?;
    let standing = told.judgement.verdict.standing();
    sqlx::query(
        "INSERT INTO drifts (id, tenant_id, ci_id, path_key, state, standing, since, recorded,
                             alterations, escalate_at, sealed)
         VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10)",
    )
    .bind(drift.to_string())
    .bind(keys.id.to_string())
    .bind(ci.to_string())
    .bind(key.0.to_vec())
    .bind(standing.as_str())
    .bind(since)
    .bind(recorded)
    .bind(alterations)
    .bind((tx.now + escalates).as_microsecond())
    .bind(sealed)
    .execute(&mut *tx.connection)
    .await?;
    happened_to(tx, keys.id, (drift, ci, recorded), told, (EventKind::DriftOpened, alterations));
    alarms::raise(tx, keys.id, (drift, ci), Grade::Opened).await
}

async fn again(
    tx: &mut Tx<'_>,
    waiting: &Waiting,
    it: &Ruled,
    drift: DriftId,
) -> Result<(), StoreError> {
    let (keys, ci, recorded) = (&*waiting.keys, waiting.ci, waiting.recorded);
    let told = told(it);
    let sealed = keys.seal(&place("drift", ci, it.key, 0), &told, tx.random())?;
    let row = sqlx::query(
        "UPDATE drifts SET recorded = $1, alterations = alterations + 1, standing = $2, sealed = $3
         WHERE id = $4 RETURNING alterations",
    )
    .bind(recorded)
    .bind(it.judgement.verdict.standing().as_str())
    .bind(sealed)
    .bind(drift.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    // A file that goes back and forth is counted, not told each time.
    if it.is_told {
        let count = get(&row, "alterations")?;
        let happened = (EventKind::DriftAltered, count);
        happened_to(tx, keys.id, (drift, ci, recorded), &told, happened);
    }
    Ok(())
}

fn happened_to(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (drift, ci, recorded): (DriftId, CiId, i64),
    told: &Told,
    (kind, count): (EventKind, i64),
) {
    tx.record(NewEvent {
        tenant,
        kind,
        by: Actor::System,
        object: drift.to_string(),
        version: count,
        payload: json!({
            "ci": ci, "recorded": recorded, "what": told.what,
            "standing": told.judgement.verdict.standing(), "confidence": told.judgement.confidence,
        }),
    });
}
