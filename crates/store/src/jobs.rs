//! Jobs of the lab: asked for by people, done by whichever process has room, one at a time each.
//!
//! A job that was begun is held by a lease. Where its process died, another takes it up again when
//! the lease is over; what such a job leaves behind must be harmless, and is: nothing counts before
//! it is finished here.

use domain::cloud::{EventKind, ImageId, JobId, TenantId, words};
use domain::fleet::PackageSet;
use domain::image::{Standing, Step};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::images::{self, ImageContent};
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, hex, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;
use crate::{Once, Store};

/// How often a job is begun before it is given up: a process that dies of it must not take all
/// others along.
pub const MOST_ATTEMPTS: i64 = 3;

/// Most jobs of one tenant that wait.
const MOST_WAITING: i64 = 50;

words! {
    /// What a job does.
    JobKind {
        /// Proves patches on a copy of an image.
        Prove = "prove",
        /// Makes the next version of an image.
        Bake = "bake",
        /// Makes a VM from an image and scans it.
        Test = "test",
    }
}

words! {
    /// How a job stands.
    JobState {
        /// It waits for room.
        Queued = "queued",
        /// It is under way.
        Running = "running",
        /// It came to a result, good or bad.
        Done = "done",
        /// It came to none.
        Failed = "failed",
        /// Somebody called it off.
        Cancelled = "cancelled",
    }
}

/// A job of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose image it is about.
    pub tenant: TenantId,
    /// What it does.
    pub kind: JobKind,
    /// With which image.
    pub image: ImageId,
    /// What exactly, as the lab understands it.
    pub request: serde_json::Value,
    /// How it stands.
    pub state: JobState,
    /// How often it was begun.
    pub attempts: i64,
    /// Where it is, in the lab's word.
    pub stage: Option<String>,
    /// What came of it.
    pub result: Option<serde_json::Value>,
    /// Why nothing came of it; of one that is done, what of its result could not be heeded.
    pub error: Option<String>,
    /// The version that it made.
    pub made: Option<ImageId>,
    /// Who asked for it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was begun the last time.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Raised by each alteration.
    pub version: i64,
}

/// A job that is to be.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// With which image.
    pub image: ImageId,
    /// What exactly.
    pub request: serde_json::Value,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum JobEnd {
    /// With a result, good or bad.
    Done {
        /// What came of it.
        result: serde_json::Value,
        /// The version that it made.
        made: Option<ImageId>,
    },
    /// With none.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What came of a job, and what follows from it for images: all of that, or nothing of it.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// What came of it.
    pub result: serde_json::Value,
    /// What it means for the version that it was about. Where that step may not be taken any more,
    /// the version stands as before, and the job says so.
    pub step: Option<Step>,
    /// The version that it made, of these bytes with these packages.
    pub made: Option<(ImageContent, PackageSet)>,
    /// What it attested, by predicate type: about the version that it made, or else the one that it
    /// was about.
    pub attestations: Vec<(String, String)>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, kind, image_id, request, state, attempts, stage, result, error,
                    made_id, created_by, created_at, started_at, ended_at, version
             FROM jobs ",
            $rest
        )
    };
}

/// The lab's jobs.
impl Store {
    /// Asks for a job.
    pub async fn queue_job(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewJob,
    ) -> Result<Job, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(queue(tx, by, new))).await
    }

    /// Takes a job that waits, or whose holder is gone: the oldest of the tenant whose last turn is
    /// longest ago, so that nobody waits for all that another asked for.
    pub async fn claim_job(
        &self,
        holder: &str,
        lifetime: SignedDuration,
    ) -> Result<Option<Job>, StoreError> {
        self.write(holder.to_owned(), move |tx, holder| Box::pin(claim(tx, holder, lifetime))).await
    }

    /// Says where a job is, and holds it on; false where it is its holder's no more.
    pub async fn renew_job(
        &self,
        id: JobId,
        holder: &str,
        stage: &str,
        lifetime: SignedDuration,
    ) -> Result<bool, StoreError> {
        self.write((id, holder.to_owned(), stage.to_owned()), move |tx, (id, holder, stage)| {
            Box::pin(renew(tx, *id, holder, stage, lifetime))
        })
        .await
    }

    /// Ends a job, if it is still its holder's; says whether it was.
    pub async fn finish_job(
        &self,
        id: JobId,
        holder: &str,
        how: JobEnd,
    ) -> Result<bool, StoreError> {
        self.write((id, holder.to_owned(), how), |tx, (id, holder, how)| {
            Box::pin(finish(tx, *id, holder, how))
        })
        .await
    }

    /// Ends a job with a result and what follows from it, in one commit, if it is still its
    /// holder's: so that what follows never happens twice, nor without the end. `None` where the job
    /// is its holder's no more; then nothing happened.
    pub async fn conclude_job(
        &self,
        id: JobId,
        holder: &str,
        conclusion: Conclusion,
    ) -> Result<Option<Job>, StoreError> {
        self.write((id, holder.to_owned(), conclusion), |tx, (id, holder, conclusion)| {
            Box::pin(conclude(tx, *id, holder, conclusion))
        })
        .await
    }

    /// Lets a job wait again, as if it had not been begun; says whether it was still its holder's.
    pub async fn give_job_back(&self, id: JobId, holder: &str) -> Result<bool, StoreError> {
        self.write((id, holder.to_owned()), |tx, (id, holder)| Box::pin(give_back(tx, *id, holder)))
            .await
    }

    /// Calls a job off.
    pub async fn cancel_job(&self, by: &Actor, id: JobId) -> Result<Job, StoreError> {
        self.write((by.clone(), id), |tx, (by, id)| Box::pin(cancel(tx, by, *id))).await
    }

    /// One job.
    pub async fn job(&self, by: &Actor, id: JobId) -> Result<Job, StoreError> {
        find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// The jobs that the actor may see, of one image where asked for.
    pub async fn jobs(
        &self,
        by: &Actor,
        image: Option<ImageId>,
        page: &PageRequest,
    ) -> Result<Page<Job>, StoreError> {
        list(&self.pool, by.scope(), image, page).await
    }
}

/// Asks for a job.
async fn queue(tx: &mut Tx<'_>, by: &Actor, new: &NewJob) -> Result<Job, StoreError> {
    let image = images::find(&mut *tx.connection, by.scope(), new.image).await?;
    if matches!(image.standing, Standing::Retired { .. } | Standing::Rejected { .. }) {
        return Err(StoreError::Refused {
            reason: format!("the version is {}: nothing is done with it", image.standing.as_str()),
            help: "ask for the job on another version",
        });
    }
    let row = sqlx::query(
        "SELECT COUNT(*) AS waiting FROM jobs WHERE tenant_id = $1 AND state = 'queued'",
    )
    .bind(image.tenant.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "waiting")? >= MOST_WAITING {
        return Err(StoreError::Refused {
            reason: format!("{MOST_WAITING} jobs wait already"),
            help: "wait for them, or cancel some",
        });
    }
    insert(tx, by, new, image.tenant).await
}

/// The same for what Patchwright asks for itself: it waits behind whatever of the tenant waits already.
pub(crate) async fn begin(tx: &mut Tx<'_>, by: &Actor, new: &NewJob) -> Result<Job, StoreError> {
    let image = images::find(&mut *tx.connection, by.scope(), new.image).await?;
    insert(tx, by, new, image.tenant).await
}

async fn insert(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewJob,
    tenant: TenantId,
) -> Result<Job, StoreError> {
    let job = Job {
        id: JobId::new(tx.now, tx.random()),
        tenant,
        kind: new.kind,
        image: new.image,
        request: new.request.clone(),
        state: JobState::Queued,
        attempts: 0,
        stage: None,
        result: None,
        error: None,
        made: None,
        created_by: by.id(),
        created_at: tx.now,
        started_at: None,
        ended_at: None,
        version: 1,
    };
    sqlx::query(
        "INSERT INTO jobs (id, tenant_id, kind, image_id, request, state, attempts, created_by,
                           created_at, holder, held_until, version)
         VALUES ($1, $2, $3, $4, $5, 'queued', 0, $6, $7, '', 0, 1)",
    )
    .bind(job.id.to_string())
    .bind(job.tenant.to_string())
    .bind(job.kind.as_str())
    .bind(job.image.to_string())
    .bind(job.request.to_string())
    .bind(job.created_by.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    record(tx, by, EventKind::JobQueued, &job);
    Ok(job)
}

/// Takes a job, in turns of tenants. One that was begun too often fails here.
async fn claim(
    tx: &mut Tx<'_>,
    holder: &str,
    lifetime: SignedDuration,
) -> Result<Option<Job>, StoreError> {
    loop {
        let row = sqlx::query(select!(
            "WHERE state = 'queued' OR (state = 'running' AND held_until <= $1)
             ORDER BY COALESCE((SELECT MAX(begun.started_at) FROM jobs begun
                                WHERE begun.tenant_id = jobs.tenant_id), 0),
                      created_at, id LIMIT 1"
        ))
        .bind(tx.now.as_microsecond())
        .fetch_optional(&mut *tx.connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut job = read(&row)?;
        if job.attempts >= MOST_ATTEMPTS {
            let reason = format!("it was begun {MOST_ATTEMPTS} times and never came to an end");
            end(tx, &mut job, JobEnd::Failed { reason }).await?;
            continue;
        }
        let before = job.version;
        job.state = JobState::Running;
        job.attempts += 1;
        job.started_at = Some(tx.now);
        job.stage = None;
        job.version += 1;
        let taken = sqlx::query(
            "UPDATE jobs SET state = 'running', attempts = $1, started_at = $2, stage = NULL,
                             holder = $3, held_until = $4, version = $5
             WHERE id = $6 AND version = $7",
        )
        .bind(job.attempts)
        .bind(tx.now.as_microsecond())
        .bind(holder)
        .bind((tx.now + lifetime).as_microsecond())
        .bind(job.version)
        .bind(job.id.to_string())
        .bind(before)
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
        // Another process was faster; there may be more.
        if taken == 0 {
            continue;
        }
        record(tx, &Actor::System, EventKind::JobStarted, &job);
        return Ok(Some(job));
    }
}

/// Says where a job is, and holds it on; false where it is its holder's no more: called off, or
/// another's. No event: a stage is not a change of anything.
async fn renew(
    tx: &mut Tx<'_>,
    id: JobId,
    holder: &str,
    stage: &str,
    lifetime: SignedDuration,
) -> Result<bool, StoreError> {
    let renewed = sqlx::query(
        "UPDATE jobs SET stage = $1, held_until = $2
         WHERE id = $3 AND holder = $4 AND state = 'running'",
    )
    .bind(stage)
    .bind((tx.now + lifetime).as_microsecond())
    .bind(id.to_string())
    .bind(holder)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    Ok(renewed > 0)
}

/// Ends a job, if it is still its holder's; says whether it was.
async fn finish(
    tx: &mut Tx<'_>,
    id: JobId,
    holder: &str,
    how: &JobEnd,
) -> Result<bool, StoreError> {
    let Some(mut job) = held(tx, id, holder).await? else { return Ok(false) };
    end(tx, &mut job, how.clone()).await?;
    Ok(true)
}

/// A job, where it is still its holder's.
async fn held(tx: &mut Tx<'_>, id: JobId, holder: &str) -> Result<Option<Job>, StoreError> {
    let row = sqlx::query(select!("WHERE id = $1 AND holder = $2 AND state = 'running'"))
        .bind(id.to_string())
        .bind(holder)
        .fetch_optional(&mut *tx.connection)
        .await?;
    row.as_ref().map(read).transpose()
}

async fn conclude(
    tx: &mut Tx<'_>,
    id: JobId,
    holder: &str,
    conclusion: &Conclusion,
) -> Result<Option<Job>, StoreError> {
    let Some(mut job) = held(tx, id, holder).await? else { return Ok(None) };
    let by = &Actor::System;
    let image = images::find(&mut *tx.connection, None, job.image).await?;
    let made = match &conclusion.made {
        Some((content, packages)) => {
            Some(Box::pin(images::succeed(tx, by, &image, content, packages)).await?.id)
        }
        None => None,
    };
    for (predicate_type, envelope) in &conclusion.attestations {
        images::attest(tx, by, made.unwrap_or(image.id), predicate_type, envelope).await?;
    }
    if let Some(step) = conclusion.step {
        match images::step(tx, by, image.id, None, step, SignedDuration::ZERO).await {
            Ok(_) => {}
            // Somebody retired or published it meanwhile; the result is true all the same.
            Err(StoreError::Refused { reason, .. }) => job.error = Some(reason),
            Err(error) => return Err(error),
        }
    }
    let result = conclusion.result.clone();
    end(tx, &mut job, JobEnd::Done { result, made }).await?;
    Ok(Some(job))
}

/// Lets a job wait again. Its holder ends in an orderly way: that is not one of its attempts.
async fn give_back(tx: &mut Tx<'_>, id: JobId, holder: &str) -> Result<bool, StoreError> {
    let Some(mut job) = held(tx, id, holder).await? else { return Ok(false) };
    let before = job.version;
    job.version += 1;
    job.attempts -= 1;
    (job.state, job.stage) = (JobState::Queued, None);
    let given = sqlx::query(
        "UPDATE jobs SET state = 'queued', stage = NULL, attempts = $1, holder = '',
                         held_until = 0, version = $2
         WHERE id = $3 AND version = $4",
    )
    .bind(job.attempts)
    .bind(job.version)
    .bind(id.to_string())
    .bind(before)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if given == 0 {
        return Err(overtaken(&job, before));
    }
    record(tx, &Actor::System, EventKind::JobQueued, &job);
    Ok(true)
}

async fn end(tx: &mut Tx<'_>, job: &mut Job, how: JobEnd) -> Result<(), StoreError> {
    match how {
        JobEnd::Done { result, made } => {
            (job.state, job.result, job.made) = (JobState::Done, Some(result), made);
        }
        JobEnd::Failed { reason } => (job.state, job.error) = (JobState::Failed, Some(reason)),
    }
    close(tx, &Actor::System, job, EventKind::JobEnded).await
}

/// Calls a job off; one that is under way ends when it notices.
async fn cancel(tx: &mut Tx<'_>, by: &Actor, id: JobId) -> Result<Job, StoreError> {
    let mut job = find(&mut *tx.connection, by.scope(), id).await?;
    if !matches!(job.state, JobState::Queued | JobState::Running) {
        return Err(StoreError::Refused {
            reason: format!("the job has ended: {}", job.state),
            help: "ask for another one",
        });
    }
    job.state = JobState::Cancelled;
    close(tx, by, &mut job, EventKind::JobCancelled).await?;
    Ok(job)
}

async fn close(
    tx: &mut Tx<'_>,
    by: &Actor,
    job: &mut Job,
    kind: EventKind,
) -> Result<(), StoreError> {
    let before = job.version;
    job.version += 1;
    job.ended_at = Some(tx.now);
    let closed = sqlx::query(
        "UPDATE jobs SET state = $1, result = $2, error = $3, made_id = $4, ended_at = $5,
                         holder = '', held_until = 0, version = $6
         WHERE id = $7 AND version = $8",
    )
    .bind(job.state.as_str())
    .bind(job.result.as_ref().map(ToString::to_string))
    .bind(job.error.as_deref())
    .bind(job.made.map(|made| made.to_string()))
    .bind(tx.now.as_microsecond())
    .bind(job.version)
    .bind(job.id.to_string())
    .bind(before)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if closed == 0 {
        return Err(overtaken(job, before));
    }
    record(tx, by, kind, job);
    Ok(())
}

/// Jobs, of one image where asked for.
async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    image: Option<ImageId>,
    request: &PageRequest,
) -> Result<Page<Job>, StoreError> {
    let (low, high) = range(scope);
    let (tenant, id) = request.place();
    let rows = sqlx::query(select!(
        "WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
           AND ($5 = '' OR image_id = $5)
         ORDER BY tenant_id, id LIMIT $6"
    ))
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(id)
    .bind(image.map_or(String::new(), |image| image.to_string()))
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let jobs = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(request.cut(jobs, |job: &Job| Cursor::new(job.tenant, job.id)))
}

/// Another process altered it since it was read.
fn overtaken(job: &Job, expected: i64) -> StoreError {
    StoreError::Stale { what: "job", id: job.id.to_string(), expected, found: expected + 1 }
}

/// The jobs of a kind with a version, the newest first.
pub(crate) async fn of_image(
    connection: &mut AnyConnection,
    image: ImageId,
    kind: JobKind,
) -> Result<Vec<Job>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE image_id = $1 AND kind = $2 ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(image.to_string())
    .bind(kind.as_str())
    .bind(MOST_WAITING)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: JobId,
) -> Result<Job, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or_else(|| StoreError::not_found("job", &id))?)
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, job: &Job) {
    tx.record(NewEvent {
        tenant: job.tenant,
        kind,
        by: by.clone(),
        object: job.id.to_string(),
        version: job.version,
        payload: json!({
            "kind": job.kind, "image": job.image, "request": job.request, "state": job.state,
            "attempts": job.attempts, "made": job.made, "error": job.error,
            // Results may be large; what they were is bound all the same.
            "result_sha256": job.result.as_ref().map(|result| {
                hex(&Sha256::digest(result.to_string().as_bytes()))
            }),
        }),
    });
}

fn read(row: &AnyRow) -> Result<Job, StoreError> {
    let value = |column: &'static str| {
        let text: Option<String> = get(row, column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::Corrupt { what: format!("{column} of a job: {error}") })
    };
    Ok(Job {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        kind: parsed(row, "kind")?,
        image: parsed(row, "image_id")?,
        request: value("request")?.unwrap_or_default(),
        state: parsed(row, "state")?,
        attempts: get(row, "attempts")?,
        stage: get(row, "stage")?,
        result: value("result")?,
        error: get(row, "error")?,
        made: parsed_or_none(row, "made_id")?,
        created_by: get(row, "created_by")?,
        created_at: time(row, "created_at")?,
        started_at: time_or_none(row, "started_at")?,
        ended_at: time_or_none(row, "ended_at")?,
        version: get(row, "version")?,
    })
}
