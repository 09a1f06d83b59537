//! `/snapshots` and `/cis/{id}/machine`: where machines live, and what is kept of them before a step with a restart.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::cloud::{CiId, ReleaseId, SnapshotId, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Placement, SnapshotFilter, SnapshotState};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Snapshots of one answer, where the caller names no number.
const USUAL: u16 = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(machine, place, unplace))
}

/// Where the machine of an item lives.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// One of the provider's places: the file of `up --places` names them.
    #[schema(example = "rack-1", min_length = 1, max_length = 200)]
    place: String,
    /// What the machine is called there.
    #[schema(example = "acme-web-1", min_length = 1, max_length = 200)]
    machine: String,
}

/// A machine's disks as they were before a step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotView {
    #[schema(value_type = String, example = "snp_01h455vb4pex5vsknk084sn02q")]
    id: SnapshotId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    #[schema(value_type = String)]
    release: ReleaseId,
    /// `wanted` (the order waits for it), `taken`, `returning`, `returned`, `removed` or `failed`.
    #[schema(value_type = String)]
    state: SnapshotState,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    taken_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    returned_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    removed_at: Option<Timestamp>,
    /// What stood in the way last, in the place's words.
    reason: Option<String>,
}

impl From<store::Snapshot> for SnapshotView {
    fn from(it: store::Snapshot) -> Self {
        Self {
            id: it.id,
            tenant: it.tenant,
            ci: it.ci,
            release: it.release,
            state: it.state,
            created_at: it.created_at,
            taken_at: it.taken_at,
            returned_at: it.returned_at,
            removed_at: it.removed_at,
            reason: it.reason,
        }
    }
}

/// Which snapshots.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one item.
    ci: Option<String>,
    /// Of one release.
    release: Option<String>,
    /// Snapshots at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// List snapshots of machines, the newest first.
#[utoipa::path(get, path = "/snapshots", tag = "releases", params(Wanted),
    responses((status = 200, body = Vec<SnapshotView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(Wanted { ci, release, limit }): Query<Wanted>,
) -> Result<Json<Vec<SnapshotView>>, Problem> {
    let limit = limit.unwrap_or(USUAL);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
    }
    let filter = SnapshotFilter {
        ci: ci.map(|text| given("ci", &text)).transpose()?,
        release: release.map(|text| given("release", &text)).transpose()?,
    };
    let snapshots = app.store.snapshots(&by, filter, limit).await?;
    Ok(Json(snapshots.into_iter().map(SnapshotView::from).collect()))
}

/// Read where the machine of an item lives. The provider's people only.
#[utoipa::path(get, path = "/cis/{id}/machine", tag = "configuration items",
    params(("id" = String, Path)), responses((status = 200, body = Machine), Problems))]
async fn machine(
    State(app): State<App>,
    By(by): By<{ Action::CiPlace as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Machine>, Problem> {
    let found = app.store.placement_of(&by, id).await?;
    let Placement { place, machine } =
        found.ok_or_else(|| Problem::not_found("machine of this item"))?;
    Ok(Json(Machine { place, machine }))
}

/// Say where the machine of an item lives, so that snapshots can be taken of it. The provider's people only.
#[utoipa::path(put, path = "/cis/{id}/machine", tag = "configuration items",
    params(("id" = String, Path)), request_body = Machine,
    responses((status = 200, body = Machine), Problems))]
async fn place(
    State(app): State<App>,
    By(by): By<{ Action::CiPlace as usize }>,
    Path(id): Path<CiId>,
    Body(Machine { place, machine }): Body<Machine>,
) -> Result<Json<Machine>, Problem> {
    let placement = Placement { place: place.clone(), machine: machine.clone() };
    app.store.place_ci(&by, id, Some(placement)).await?;
    Ok(Json(Machine { place, machine }))
}

/// Say that the machine of an item lives at none of the provider's places any more.
#[utoipa::path(delete, path = "/cis/{id}/machine", tag = "configuration items",
    params(("id" = String, Path)), responses((status = 204, description = "Forgotten"), Problems))]
async fn unplace(
    State(app): State<App>,
    By(by): By<{ Action::CiPlace as usize }>,
    Path(id): Path<CiId>,
) -> Result<StatusCode, Problem> {
    app.store.place_ci(&by, id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
