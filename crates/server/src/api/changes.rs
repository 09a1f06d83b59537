//! `/changes` and `/plans`: what alters the cloud, on its way from found to closed.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use domain::change::{ChangeStage, FileHash, Kind as ChangeKind, PlanHash};
use domain::cloud::{AdvisoryId, ChangeId, PatchId, TenantId};
use domain::priority::Priority;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Baking, ChangeStep, ClockFilter, NewChange, Outcome, PageRequest, TrackedChange};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::obligations::Clock;
use super::releases::ReleaseLine;
use super::{
    Body, IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, checked_text, given,
};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest title, in bytes.
const LONGEST_TITLE: usize = 200;

/// Most patches or tenants of a change that are named at once.
const MOST_NAMED: usize = 1000;

/// Releases of a change that are listed, the newest.
const RELEASES: u16 = 20;

/// Most obligations of a change that are listed.
const MOST_LISTED: u16 = 1000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read))
        .routes(routes!(step))
        .routes(routes!(obligations))
        .routes(routes!(sides))
        .routes(routes!(plan))
}

/// A patch or an alteration on its way into the cloud.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    #[schema(value_type = String, example = "chg_01h455vb4pex5vsknk084sn02q")]
    id: ChangeId,
    /// `patch` or `alteration`.
    #[schema(value_type = String)]
    kind: ChangeKind,
    #[schema(example = "openssl 3.0.15-1~deb12u1 for debian:12")]
    title: String,
    /// How it stands: `{"is": "proven", "evidence": …}`.
    #[schema(value_type = Object)]
    stage: ChangeStage,
    /// Who found it: the provider, or the tenant that brought the advisory.
    #[schema(value_type = String)]
    found_by: TenantId,
    /// The advisory that it came from, for who may see that.
    #[schema(value_type = Option<String>)]
    advisory: Option<AdvisoryId>,
    /// The patches that it installs.
    #[schema(value_type = Vec<String>)]
    patches: Vec<PatchId>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Raised by each alteration.
    version: u64,
}

impl From<TrackedChange> for Change {
    fn from(tracked: TrackedChange) -> Self {
        Self {
            id: tracked.change.id,
            kind: tracked.change.kind,
            stage: tracked.change.stage().clone(),
            version: tracked.change.version(),
            title: tracked.title,
            found_by: tracked.found_by,
            advisory: tracked.advisory,
            patches: tracked.patches,
            created_by: tracked.created_by,
            created_at: tracked.created_at,
        }
    }
}

/// Both sides of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sides {
    /// What runs.
    machines: Machines,
    /// What new VMs are made from: the bakes that it began or found on their way, the newest first, then
    /// the current versions that lack it and are not baked yet.
    images: Vec<ImageSide>,
}

/// How far a change is with what runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Machines {
    /// Items that lack one of its patches, of those that one may see.
    lacking: u64,
    /// Items that lacked one and have it.
    fixed: u64,
    /// The newest releases of it, for who may see them.
    releases: Vec<ReleaseLine>,
}

/// How far a change is with a series of images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageSide {
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The series.
    #[schema(value_type = String)]
    name: domain::cloud::Name,
    /// The version that lacks it, or lacked it when it was baked.
    image: ImageVersion,
    /// The bake of the next version, once one is asked for.
    #[schema(value_type = Option<String>)]
    job: Option<domain::cloud::JobId>,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    #[schema(value_type = Option<String>)]
    job_state: Option<store::JobState>,
    /// Why nothing came of it.
    error: Option<String>,
    /// The version that it made.
    made: Option<ImageVersion>,
}

/// A version of a series of images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageVersion {
    #[schema(value_type = String)]
    id: domain::cloud::ImageId,
    /// Which version of the series, from 1.
    number: i64,
    /// `candidate`, `tested`, `current`, `superseded`, `retired` or `rejected`.
    state: &'static str,
}

impl From<&store::Image> for ImageVersion {
    fn from(image: &store::Image) -> Self {
        Self { id: image.id, number: image.number, state: image.standing.as_str() }
    }
}

impl From<Baking> for ImageSide {
    fn from(baking: Baking) -> Self {
        let Baking { image, job, made } = baking;
        Self {
            tenant: image.tenant,
            image: ImageVersion::from(&image),
            name: image.name,
            job: job.as_ref().map(|job| job.id),
            job_state: job.as_ref().map(|job| job.state),
            error: job.and_then(|job| job.error),
            made: made.as_ref().map(ImageVersion::from),
        }
    }
}

/// A change that is to be taken up. Patches that are found missing get theirs by themselves.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRequest {
    /// `patch` or `alteration`.
    #[schema(value_type = String)]
    kind: ChangeKind,
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// Ids of patches that it installs.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    patches: Vec<PatchId>,
    /// Tenants that it concerns, beside those whose items lack one of the patches.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    tenants: Vec<TenantId>,
    /// How urgent for those tenants.
    #[serde(default = "usual")]
    #[schema(value_type = String)]
    priority: Priority,
}

const fn usual() -> Priority {
    Priority::Medium
}

/// What is done with a change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepRequest {
    /// `prove`, `pass`, `fail`, `lose`, `withdraw`, `close` or `reopen`.
    #[serde(rename = "do")]
    #[schema(pattern = "^(prove|pass|fail|lose|withdraw|close|reopen)$")]
    what: String,
    /// SHA-256 of the attestation that says so, for `pass` and `fail`.
    evidence: Option<String>,
    /// Why, for `withdraw` and `reopen`.
    reason: Option<String>,
}

impl StepRequest {
    fn step(self) -> Result<ChangeStep, Problem> {
        let Self { what, evidence, reason } = self;
        let needs = |what: &str, name: &str| {
            Problem::new(Kind::Invalid, format!("`{what}` needs `{name}`"))
        };
        let evidence = || {
            let text = evidence.as_deref().ok_or_else(|| needs(&what, "evidence"))?;
            given::<FileHash>("evidence", text)
        };
        let reason = || given("reason", reason.as_deref().ok_or_else(|| needs(&what, "reason"))?);
        Ok(match &*what {
            "prove" => ChangeStep::Prove,
            "pass" => ChangeStep::Pass(evidence()?),
            "fail" => ChangeStep::Fail(evidence()?),
            "lose" => ChangeStep::Lose,
            "withdraw" => ChangeStep::Withdraw(reason()?),
            "close" => ChangeStep::Close,
            "reopen" => ChangeStep::Reopen(reason()?),
            other => {
                return Err(Problem::new(Kind::Invalid, format!("nothing is called `{other}`"))
                    .help("use prove, pass, fail, lose, withdraw, close or reopen"));
            }
        })
    }
}

/// What the rules refuse is a problem like any other; it is recorded already.
pub(crate) fn accepted<T>(outcome: Outcome<T>) -> Result<T, Problem> {
    match outcome {
        Outcome::Done(value) => Ok(value),
        Outcome::Refused { reason, help } => Err(Problem::new(Kind::Refused, reason).help(help)),
    }
}

/// List changes, the newest first: for a tenant those that ask something of it.
#[utoipa::path(get, path = "/changes", tag = "changes", params(Paging),
    responses((status = 200, body = Listed<Change>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Change>>, Problem> {
    Ok(Json(Listed::of(app.store.changes(&by, &paging.request()?).await?)))
}

/// Take up a change.
#[utoipa::path(post, path = "/changes", tag = "changes", params(IdempotencyKey),
    request_body = ChangeRequest, responses((status = 201, body = Change), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    sent: Sent<ChangeRequest>,
) -> Result<impl IntoResponse, Problem> {
    let ChangeRequest { kind, title, patches, tenants, priority } = sent.body;
    if patches.len() > MOST_NAMED || tenants.len() > MOST_NAMED {
        return Err(Problem::new(Kind::TooLarge, "too many patches or tenants are named")
            .help("name 1000 at most; tenants whose items lack a patch need not be named"));
    }
    let title = checked_text("title", title, 1..=LONGEST_TITLE)?;
    let new = NewChange { kind, title, patches, tenants, priority };
    let change = app.store.create_change(&by, sent.once, new).await?;
    Ok((StatusCode::CREATED, Json(Change::from(change))))
}

/// Read a change.
#[utoipa::path(get, path = "/changes/{id}", tag = "changes", params(("id" = String, Path)),
    responses((status = 200, body = Change), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<ChangeId>,
) -> Result<Json<Change>, Problem> {
    Ok(Json(app.store.change(&by, id).await?.into()))
}

/// Take a step with a change, and all that follows from it for its tenants.
#[utoipa::path(post, path = "/changes/{id}/steps", tag = "changes", params(("id" = String, Path)),
    request_body = StepRequest, responses((status = 200, body = Change), Problems))]
async fn step(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    Path(id): Path<ChangeId>,
    Body(request): Body<StepRequest>,
) -> Result<Json<Change>, Problem> {
    let outcome = app.store.step_change(&by, id, request.step()?).await?;
    Ok(Json(accepted(outcome)?.into()))
}

/// List what a change asks of each tenant, settled parts too.
#[utoipa::path(get, path = "/changes/{id}/obligations", tag = "changes",
    params(("id" = String, Path)), responses((status = 200, body = Vec<Clock>), Problems))]
async fn obligations(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<ChangeId>,
) -> Result<Json<Vec<Clock>>, Problem> {
    app.store.change(&by, id).await?;
    let filter = ClockFilter { change: Some(id), settled: true, ..ClockFilter::default() };
    let clocks = app.store.clocks(&by, &filter, MOST_LISTED).await?;
    Ok(Json(clocks.into_iter().map(Clock::from).collect()))
}

/// Read both sides of a change: what runs, and the images that new VMs are made from.
#[utoipa::path(get, path = "/changes/{id}/sides", tag = "changes", params(("id" = String, Path)),
    responses((status = 200, body = Sides), Problems))]
async fn sides(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<ChangeId>,
) -> Result<Json<Sides>, Problem> {
    app.store.change(&by, id).await?;
    let store::Machines { lacking, fixed } = app.store.machines_of(&by, id).await?;
    let newest = PageRequest { after: None, limit: RELEASES };
    let releases = app.store.releases(&by, Some(id), &newest).await?.items;
    let images = app.store.bakes_of(&by, id).await?;
    Ok(Json(Sides {
        machines: Machines {
            lacking,
            fixed,
            releases: releases.into_iter().map(ReleaseLine::from).collect(),
        },
        images: images.into_iter().map(ImageSide::from).collect(),
    }))
}

/// Read a plan: the very bytes whose SHA-256 is its name, and which consent is bound to.
#[utoipa::path(get, path = "/plans/{id}", tag = "changes", params(("id" = String, Path)),
    responses((status = 200, body = Object, content_type = "application/json"), Problems))]
async fn plan(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(hash): Path<PlanHash>,
) -> Result<impl IntoResponse, Problem> {
    let plan = app.store.plan(&by, hash).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], plan.to_bytes()))
}
