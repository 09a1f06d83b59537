//! `/drifts`: alterations that nobody agreed to, or nobody can explain, and what is decided about them.

use axum::Json;
use axum::extract::State;
use domain::change::Reason;
use domain::cloud::{ChangeId, DriftId, Duty, PROVIDER, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, Drift, DriftFilter, DriftState, Happening, Settlement};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configuration::{FileOfItem, VerdictView};
use super::{Body, Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(adopt))
        .routes(routes!(put_back))
}

/// An alteration that nobody agreed to, or nobody can explain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DriftView {
    #[schema(value_type = String, example = "drf_01h455vb4pex5vsknk084sn02q")]
    id: DriftId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[serde(flatten)]
    of: FileOfItem,
    /// What the last alteration did: the file `came`, was `altered`, or is `gone`.
    #[schema(value_type = String)]
    what: Happening,
    /// By whom it was, as the host told it.
    by: Option<String>,
    /// What the last alteration was held to be.
    verdict: VerdictView,
    /// When the first alteration was recorded.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When the last one was: what is decided names it.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// How many there were.
    alterations: u32,
    /// `open`, `adopted`, `reverted` or `superseded`.
    #[schema(value_type = String)]
    state: DriftState,
    /// When it escalates, where it is still to.
    #[schema(value_type = Option<String>, format = DateTime)]
    escalates_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    escalated_at: Option<Timestamp>,
    /// The alteration that is to put it back.
    #[schema(value_type = Option<String>)]
    change: Option<ChangeId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    settled_at: Option<Timestamp>,
    /// Who says so; `system` where it was seen.
    settled_by: Option<String>,
    /// Why it may stay.
    reason: Option<String>,
}

impl From<Drift> for DriftView {
    fn from(it: Drift) -> Self {
        let (settled_at, settled_by, reason) = match it.settlement {
            Some(Settlement { at, by, reason }) => (Some(at), Some(by), reason),
            None => (None, None, None),
        };
        Self {
            id: it.id,
            tenant: it.tenant,
            of: FileOfItem::new(it.ci, it.ci_name, &it.path),
            what: it.what,
            by: it.by,
            verdict: it.judgement.into(),
            since: it.since,
            recorded_at: it.recorded_at,
            alterations: it.count,
            state: it.state,
            escalates_at: it.escalates_at,
            escalated_at: it.escalated_at,
            change: it.change,
            settled_at,
            settled_by,
            reason,
        }
    }
}

/// Which drifts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant's items.
    tenant: Option<String>,
    /// Of one item.
    ci: Option<String>,
    /// `open`, `adopted`, `reverted` or `superseded`; all where it is left out.
    state: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// That a drift may stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdoptRequest {
    /// Why, in words.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
    /// `recorded_at` of the drift as it was looked at: what was altered again since is not adopted.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
}

/// List alterations that nobody agreed to, or nobody can explain, by tenant, the oldest first.
#[utoipa::path(get, path = "/drifts", tag = "configuration", params(Wanted),
    responses((status = 200, body = Listed<DriftView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(Wanted { tenant, ci, state, after, limit }): Query<Wanted>,
) -> Result<Json<Listed<DriftView>>, Problem> {
    let filter = DriftFilter {
        tenant: tenant.map(|text| given("tenant", &text)).transpose()?,
        ci: ci.map(|text| given("ci", &text)).transpose()?,
        state: state.map(|text| given("state", &text)).transpose()?,
    };
    let page = Paging { after, limit }.request()?;
    Ok(Json(Listed::of(app.history.drifts(&by, filter, &page).await?)))
}

/// Read one.
#[utoipa::path(get, path = "/drifts/{id}", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = DriftView), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<DriftId>,
) -> Result<Json<DriftView>, Problem> {
    Ok(Json(app.history.drift(&by, id).await?.into()))
}

/// Say that it may stay: from then on it is what the file is to be.
#[utoipa::path(post, path = "/drifts/{id}/adopt", tag = "configuration",
    params(("id" = String, Path)), request_body = AdoptRequest,
    responses((status = 200, body = DriftView), Problems))]
async fn adopt(
    State(app): State<App>,
    By(by): By<{ Action::DriftAdopt as usize }>,
    Path(id): Path<DriftId>,
    Body(AdoptRequest { reason, recorded_at }): Body<AdoptRequest>,
) -> Result<Json<DriftView>, Problem> {
    may_adopt(&app, &by, id).await?;
    let reason: Reason = given("reason", &reason)?;
    Ok(Json(app.history.adopt_drift(&by, id, recorded_at, reason).await?.into()))
}

/// Whoever has to keep an item right says what is right.
pub(crate) async fn may_adopt(app: &App, by: &Actor, id: DriftId) -> Result<(), Problem> {
    let drift = app.history.drift(by, id).await?;
    let is_tenants = by.tenant() != PROVIDER;
    let duty = app.store.ci(by, drift.ci).await?.duty;
    if is_tenants || drift.tenant == PROVIDER || duty == Duty::Provider {
        return Ok(());
    }
    Err(Problem::new(Kind::Refused, "the tenant keeps this item, so the tenant decides")
        .help("tell the tenant; its owners and approvers adopt it"))
}

/// Take up an alteration that puts the file back: to the content, owner and permissions that it had before, or to not
/// being there, and proven by that. It is planned as a release, agreed to and recorded as any other.
#[utoipa::path(post, path = "/drifts/{id}/put-back", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = DriftView), Problems))]
async fn put_back(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    Path(id): Path<DriftId>,
) -> Result<Json<DriftView>, Problem> {
    Ok(Json(app.history.put_back(&by, id).await?.into()))
}
