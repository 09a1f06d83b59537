//! `/audits` and `/cis/{id}/audit`: whether what items are configured by is correct, consistent, complete, valid and
//! traceable.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::cloud::{AuditId, CiId, GroupId, TenantId};
use domain::configuration::audit::{Asked, AuditReport, Outcomes, Survey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, Audit, AuditFacts, Past};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configuration::kept;
use super::{IdempotencyKey, Path, Problems, Query, Sent, given};
use crate::App;
use crate::audits::EVERY;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};
use crate::surveys::Format;

/// Audits of one answer, where the caller names no number.
const USUAL: u16 = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, run))
        .routes(routes!(report))
        .routes(routes!(read))
        .routes(routes!(now))
}

/// What an audit came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    #[schema(value_type = String, example = "aud_01h455vb4pex5vsknk084sn02q")]
    id: AuditId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    /// The item as it was recorded at this time.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Alterations since then were looked at.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// SHA-256 of the report, as it is in the event `configuration.audited`.
    hash: String,
    /// Baselines with their versions; what attributes and rules came to: `pass`, `fail`, `unknown`, `not_applicable`.
    #[schema(value_type = Object)]
    outcomes: Outcomes,
}

/// An audit, with its report made again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditAgain {
    #[serde(flatten)]
    audit: AuditView,
    /// The report as the history makes it now; null where what it was about is not kept any more.
    #[schema(value_type = Option<Object>)]
    report: Option<AuditReport>,
    /// Whether it is the one that was made then. Other versions of baselines make another one.
    is_same: bool,
}

impl From<Audit> for AuditView {
    fn from(it: Audit) -> Self {
        Self {
            id: it.id,
            tenant: it.tenant,
            ci: it.ci,
            at: it.at,
            since: it.since,
            recorded_at: it.recorded_at,
            hash: it.hash,
            outcomes: it.outcomes,
        }
    }
}

/// Which audits.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one item.
    ci: Option<String>,
    /// Audits at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// What to audit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditRequest {
    /// The item.
    #[schema(value_type = String)]
    ci: CiId,
}

/// Of what a report tells, and in which form.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfWhat {
    /// Of one tenant's items.
    tenant: Option<String>,
    /// Of the items of a group.
    group: Option<String>,
    /// `json`, `csv`, or `html`: a page of its own, to be printed or sent.
    #[param(example = "json")]
    format: Option<String>,
}

/// When.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct At {
    /// As it was recorded until then (RFC 3339); now where it is left out.
    at: Option<String>,
}

/// List audits of items, the newest first.
#[utoipa::path(get, path = "/audits", tag = "configuration", params(Wanted),
    responses((status = 200, body = Vec<AuditView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(Wanted { ci, limit }): Query<Wanted>,
) -> Result<Json<Vec<AuditView>>, Problem> {
    let limit = limit.unwrap_or(USUAL);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
    }
    let ci = ci.map(|text| given("ci", &text)).transpose()?;
    let audits = app.store.audits(&by, ci, limit).await?;
    Ok(Json(audits.into_iter().map(AuditView::from).collect()))
}

/// Read an audit; its report is made again of the history, and held against the hash that was recorded.
#[utoipa::path(get, path = "/audits/{id}", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = AuditAgain), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<AuditId>,
) -> Result<Json<AuditAgain>, Problem> {
    let found = app.store.audit(&by, id).await?;
    let auditor = app.auditor(&by);
    let standards = auditor.standards_of(&found).await?;
    auditor.tell_read(found.ci, &standards).await?;
    let span = (found.since, found.at);
    let report = auditor.audit(found.ci, span, found.facts, standards).await?;
    let report = match report {
        Past::Kept(report) => Some(report),
        Past::Erased | Past::Forgotten { .. } => None,
    };
    let is_same = report.as_ref().is_some_and(|report| report.hash() == found.hash);
    Ok(Json(AuditAgain { audit: found.into(), report, is_same }))
}

/// Audit an item as it was recorded at a time. Nothing is kept of it.
#[utoipa::path(get, path = "/cis/{id}/audit", tag = "configuration", params(("id" = String, Path), At),
    responses((status = 200, body = Object), Problems))]
async fn now(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(At { at }): Query<At>,
) -> Result<Json<AuditReport>, Problem> {
    let now = app.store.environment().now();
    let (at, facts) = match at {
        None => (now, app.store.audit_facts(&by, id).await?),
        // What was known beside the history then is known of audits that were kept only.
        Some(at) => (given("at", &at)?, AuditFacts::default()),
    };
    let auditor = app.auditor(&by);
    let standards = auditor.standards(id, at).await?;
    auditor.tell_read(id, &standards).await?;
    let report = auditor.audit(id, (at - EVERY, at), facts, standards).await?;
    Ok(Json(kept(report)?))
}

/// Audit an item now, and keep what that came to, as is done of each once a day.
#[utoipa::path(post, path = "/audits", tag = "configuration", params(IdempotencyKey),
    request_body = AuditRequest, responses((status = 201, body = AuditView), Problems))]
async fn run(
    State(app): State<App>,
    By(by): By<{ Action::AuditRun as usize }>,
    sent: Sent<AuditRequest>,
) -> Result<(StatusCode, Json<AuditView>), Problem> {
    let ci = sent.body.ci;
    let last = app.store.audits(&by, Some(ci), 1).await?.first().map(|it| it.at);
    let kept = app.auditor(&by).run(ci, last, sent.once).await?;
    let gone = || Problem::new(Kind::Gone, "nothing of now is kept").help("try again in a moment");
    Ok((StatusCode::CREATED, Json(kept.ok_or_else(gone)?.into())))
}

/// Read what the last audits of a group's, a tenant's, or all items came to: each item by attribute, how far each baseline
/// is from being kept, the worst first, and what nobody can tell by its name.
#[utoipa::path(get, path = "/audits/report", tag = "configuration", params(OfWhat),
    responses((status = 200, content((Object = "application/json"), (String = "text/csv"),
        (String = "text/html"))), Problems))]
async fn report(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(of): Query<OfWhat>,
) -> Result<Response, Problem> {
    let format = of.format.as_deref().unwrap_or("json");
    let format: Format = format.parse().map_err(|error: domain::cloud::UnknownWord| {
        Problem::new(Kind::Invalid, format!("format: {error}")).help(error.help())
    })?;
    let survey = surveyed(&app, &by, of.tenant.as_deref(), of.group.as_deref()).await?;
    Ok(format.answer(&survey))
}

/// What audits of a group's, a tenant's or all items came to.
pub(crate) async fn surveyed(
    app: &App,
    by: &Actor,
    tenant: Option<&str>,
    group: Option<&str>,
) -> Result<Survey, Problem> {
    let tenant: Option<TenantId> = tenant.map(|text| given("tenant", text)).transpose()?;
    let group: Option<GroupId> = group.map(|text| given("group", text)).transpose()?;
    let about = match (tenant, group) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Kind::Invalid, "a tenant and a group are named")
                .help("a group is one tenant's: name the group alone"));
        }
        (Some(tenant), None) => format!("tenant {}", app.store.tenant(by, tenant).await?.name),
        (None, Some(group)) => format!("group {}", app.store.group(by, group).await?.name),
        (None, None) => "all items".to_owned(),
    };
    let items = app.store.surveyed(by, tenant, group).await?;
    let asked = Asked { about, at: app.store.environment().now() };
    Ok(Survey::of(asked, &items))
}
