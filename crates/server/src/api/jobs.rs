//! `/jobs`: what the lab is asked to do, how far it is, and what came of it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use domain::cloud::{ImageId, JobId, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Actor, JobKind, JobState, NewJob};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, etag, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Largest request to the lab, in bytes of JSON.
const LARGEST_REQUEST: usize = 64 << 10;

/// How long a log is followed: whoever follows it comes back with `from`, and is asked again who they
/// are.
const FOLLOWED: Duration = Duration::from_secs(15 * 60);

/// How often is looked for more.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(cancel))
        .routes(routes!(log))
}

/// A job of the lab.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Job {
    #[schema(value_type = String, example = "job_01h455vb4pex5vsknk084sn02q")]
    id: JobId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// `prove`, `bake` or `test`.
    #[schema(value_type = String, example = "bake")]
    kind: JobKind,
    /// With which version.
    #[schema(value_type = String)]
    image: ImageId,
    /// What exactly.
    #[schema(value_type = Object)]
    request: Value,
    /// `queued`, `running`, `done`, `failed` or `cancelled`. One that is done came to a result, good or
    /// bad.
    #[schema(value_type = String)]
    state: JobState,
    /// How often it was begun, three times at most.
    attempts: i64,
    /// Where it is.
    stage: Option<String>,
    /// What came of it, in the lab's words; `passed` says whether it is good.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why nothing came of it; of one that is done, what of its result could not be heeded.
    error: Option<String>,
    /// The version that it made.
    #[schema(value_type = Option<String>)]
    made: Option<ImageId>,
    /// Who asked for it.
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was begun the last time.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    version: i64,
}

/// A job that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobRequest {
    /// `prove`, `bake` or `test`.
    #[schema(value_type = String, example = "prove")]
    kind: JobKind,
    /// What exactly, as the lab understands it; 64 KiB at most.
    #[serde(default)]
    #[schema(value_type = Object)]
    request: Map<String, Value>,
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// With one version of an image.
    image: Option<String>,
}

/// Which part of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// With `true`, what is added later as well, until the job ends; a quarter of an hour at most.
    #[serde(default)]
    follow: bool,
    /// From this byte on.
    #[serde(default)]
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    from: u64,
}

impl From<store::Job> for Job {
    fn from(job: store::Job) -> Self {
        Self {
            id: job.id,
            tenant: job.tenant,
            kind: job.kind,
            image: job.image,
            request: job.request,
            state: job.state,
            attempts: job.attempts,
            stage: job.stage,
            result: job.result,
            error: job.error,
            made: job.made,
            created_by: job.created_by,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            version: job.version,
        }
    }
}

/// Ask the lab to do something with a version of an image.
#[utoipa::path(post, path = "/images/{id}/jobs", tag = "images",
    params(("id" = String, Path), IdempotencyKey), request_body = JobRequest,
    responses((status = 201, body = Job), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::JobCreate as usize }>,
    Path(image): Path<ImageId>,
    sent: Sent<JobRequest>,
) -> Result<impl IntoResponse, Problem> {
    let JobRequest { kind, request } = sent.body;
    // What one may not see is not there, whether there is a lab or not.
    app.store.image(&by, image).await?;
    app.lab.laboratory()?;
    let request = Value::Object(request);
    if request.to_string().len() > LARGEST_REQUEST {
        return Err(Problem::new(Kind::Invalid, "the request is too large")
            .help(format!("use at most {LARGEST_REQUEST} bytes")));
    }
    let job = app.store.queue_job(&by, sent.once, NewJob { kind, image, request }).await?;
    app.lab.wake();
    Ok((StatusCode::CREATED, etag(job.version), Json(Job::from(job))))
}

/// List the jobs that one may see.
#[utoipa::path(get, path = "/jobs", tag = "images", params(Wanted, Paging),
    responses((status = 200, body = Listed<Job>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::JobRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Job>>, Problem> {
    let image = wanted.image.as_deref().map(|it| given("image", it)).transpose()?;
    Ok(Json(Listed::of(app.store.jobs(&by, image, &paging.request()?).await?)))
}

/// Read a job.
#[utoipa::path(get, path = "/jobs/{id}", tag = "images", params(("id" = String, Path)),
    responses((status = 200, body = Job), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::JobRead as usize }>,
    Path(id): Path<JobId>,
) -> Result<impl IntoResponse, Problem> {
    let job = app.store.job(&by, id).await?;
    Ok((etag(job.version), Json(Job::from(job))))
}

/// Call a job off. One that is under way ends when it notices; nothing of it counts any more.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "images", params(("id" = String, Path)),
    responses((status = 200, body = Job), Problems))]
async fn cancel(
    State(app): State<App>,
    By(by): By<{ Action::JobCancel as usize }>,
    Path(id): Path<JobId>,
) -> Result<impl IntoResponse, Problem> {
    let job = app.store.cancel_job(&by, id).await?;
    if !store::is_rehearsal() {
        app.lab.call_off(id);
    }
    Ok((etag(job.version), Json(Job::from(job))))
}

/// Read the log of a job, as far as it is, or follow it.
#[utoipa::path(get, path = "/jobs/{id}/log", tag = "images", params(("id" = String, Path), Part),
    responses((status = 200, body = String, content_type = "text/plain"), Problems))]
async fn log(
    State(app): State<App>,
    By(by): By<{ Action::JobRead as usize }>,
    Path(id): Path<JobId>,
    Query(part): Query<Part>,
) -> Result<impl IntoResponse, Problem> {
    app.store.job(&by, id).await?;
    if i64::try_from(part.from).is_err() {
        return Err(Problem::new(Kind::Invalid, format!("from {} is no byte of a log", part.from)));
    }
    let end = Instant::now() + FOLLOWED;
    let following = Following { app, by, id, from: part.from, follows: part.follow, end };
    let chunks = futures_util::stream::unfold(following, |mut following| async move {
        let chunk = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), following))
    });
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Stream::from_stream(chunks)))
}

/// Somebody who reads a log.
struct Following {
    app: App,
    by: Actor,
    id: JobId,
    from: u64,
    follows: bool,
    end: Instant,
}

impl Following {
    /// What comes next; `None` at the end. Where it cannot be told it ends as well: whoever follows comes
    /// back, and is told why.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Asked first: what is added before the end is read after it.
            let has_ended = match self.app.store.job(&self.by, self.id).await {
                Ok(job) => !matches!(job.state, JobState::Queued | JobState::Running),
                Err(_) => true,
            };
            let chunk = self.app.lab.log(self.id, self.from).await.ok()?;
            if !chunk.is_empty() {
                self.from += chunk.len() as u64;
                return Some(chunk);
            }
            if has_ended || !self.follows || Instant::now() >= self.end {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
