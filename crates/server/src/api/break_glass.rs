//! `/break-glass`: leave to alter files first and to explain it afterwards, and its review by somebody else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::change::Reason;
use domain::cloud::{BreakGlassId, CiId, Duty, GroupId, PROVIDER, Side, TenantId};
use domain::configuration::break_glass::{
    Outcome, Stage, Terms, USUAL_MINUTES, USUAL_REVIEW_HOURS,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{
    Actor, BreakGlass, BreakGlassFilter, BrokenFile, Cover, Happening, NewBreakGlass, Reviewed,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configuration::FileOfItem;
use super::{Body, Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, open))
        .routes(routes!(read))
        .routes(routes!(close))
        .routes(routes!(review))
}

/// Leave to alter files first and to explain it afterwards.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BreakGlassView {
    #[schema(value_type = String, example = "bgl_01h455vb4pex5vsknk084sn02q")]
    id: BreakGlassId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The item whose files may be altered.
    #[schema(value_type = Option<String>)]
    ci: Option<CiId>,
    /// The group of whose items they may be.
    #[schema(value_type = Option<String>)]
    group: Option<GroupId>,
    /// What people call the item or the group; null where the group was dissolved.
    name: Option<String>,
    /// `provider` or `tenant`: whose people opened it.
    #[schema(value_type = String)]
    side: Side,
    /// What it is called where people keep track of it.
    ticket: String,
    /// Why.
    reason: String,
    /// Accounts that may; anybody where none is named.
    logins: Vec<String>,
    /// Patterns of the files.
    files: Vec<String>,
    opened_by: String,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// Until before when it permits something.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// Who closed it before its time was over.
    closed_by: Option<String>,
    /// Before when somebody else has to review it.
    #[schema(value_type = String, format = DateTime)]
    review_by: Timestamp,
    /// `open`, `in_review`, `accepted` or `rejected`.
    #[schema(value_type = String)]
    state: Stage,
    /// When nobody had reviewed it in time.
    #[schema(value_type = Option<String>, format = DateTime)]
    escalated_at: Option<Timestamp>,
    reviewed_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    reviewed_at: Option<Timestamp>,
    /// What the reviewer says.
    review: Option<String>,
    /// How many files were altered under it.
    altered: u64,
    /// Raised by each step, and whenever files are altered under it: a review names it.
    version: i64,
}

impl From<BreakGlass> for BreakGlassView {
    fn from(it: BreakGlass) -> Self {
        let (ci, group) = match it.cover {
            Cover::Item(ci) => (Some(ci), None),
            Cover::Group(group) => (None, Some(group)),
        };
        let (reviewed_at, reviewed_by, review) = match it.review {
            Some(Reviewed { at, by, reason }) => (Some(at), Some(by), Some(reason)),
            None => (None, None, None),
        };
        Self {
            id: it.id,
            tenant: it.tenant,
            ci,
            group,
            name: it.cover_name,
            side: it.side,
            ticket: it.terms.ticket,
            reason: it.terms.reason.to_string(),
            logins: it.terms.logins,
            files: it.terms.files.into_iter().map(String::from).collect(),
            opened_by: it.opened_by,
            opened_at: it.span.from,
            until: it.span.until,
            closed_by: it.closed_by,
            review_by: it.span.review_by,
            state: it.stage,
            escalated_at: it.escalated_at,
            reviewed_by,
            reviewed_at,
            review,
            altered: it.files,
            version: it.version,
        }
    }
}

/// The same with the files that were altered under it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeBreakGlass {
    #[serde(flatten)]
    break_glass: BreakGlassView,
    /// The first thousand of them, by item.
    altered_files: Vec<AlteredFile>,
}

/// A file that was altered under break-glass.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlteredFile {
    #[serde(flatten)]
    of: FileOfItem,
    /// What the last alteration did: the file `came`, was `altered`, or is `gone`.
    #[schema(value_type = String)]
    what: Happening,
    /// By whom it was, as the host told it.
    by: Option<String>,
    /// When the first alteration was recorded.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When the last one was.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// How many there were.
    alterations: u32,
}

impl From<BrokenFile> for AlteredFile {
    fn from(it: BrokenFile) -> Self {
        Self {
            of: FileOfItem::new(it.ci, it.ci_name, &it.path),
            what: it.what,
            by: it.by,
            since: it.since,
            recorded_at: it.recorded_at,
            alterations: it.count,
        }
    }
}

/// Which are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant's items.
    tenant: Option<String>,
    /// Of one item alone.
    ci: Option<String>,
    /// `open`, `in_review`, `accepted` or `rejected`; all where it is left out.
    state: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// What is to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenRequest {
    /// The item whose files may be altered; or `group`.
    #[schema(value_type = Option<String>)]
    ci: Option<String>,
    /// The group of whose items they may be.
    #[schema(value_type = Option<String>)]
    group: Option<String>,
    /// What it is called where people keep track of it.
    #[schema(min_length = 1, max_length = 128, example = "INC-4711")]
    ticket: String,
    /// Why, in words.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
    /// Accounts that may; anybody where none is named.
    #[serde(default)]
    #[schema(max_items = 32)]
    logins: Vec<String>,
    /// Patterns of absolute paths.
    #[schema(min_items = 1, max_items = 32, example = json!(["/etc/nginx/**"]))]
    files: Vec<String>,
    /// For how long at most; an hour where it is left out.
    #[schema(minimum = 1, maximum = 1440)]
    minutes: Option<u16>,
    /// Within how many hours after its end somebody else has to review it; 24 where it is left out.
    #[schema(minimum = 1, maximum = 168)]
    review_hours: Option<u16>,
}

/// What somebody says of what was done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewRequest {
    /// `accepted`: it may stay, and is what the files are to be. `rejected`: it is drift.
    #[schema(value_type = String)]
    outcome: String,
    /// Why, in words.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
    /// `version` as it was looked at: what was done under it since is not reviewed.
    version: i64,
}

/// List break-glass, by tenant, the oldest first.
#[utoipa::path(get, path = "/break-glass", tag = "configuration", params(Wanted),
    responses((status = 200, body = Listed<BreakGlassView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(Wanted { tenant, ci, state, after, limit }): Query<Wanted>,
) -> Result<Json<Listed<BreakGlassView>>, Problem> {
    let filter = BreakGlassFilter {
        tenant: tenant.map(|text| given("tenant", &text)).transpose()?,
        ci: ci.map(|text| given("ci", &text)).transpose()?,
        stage: state.map(|text| given("state", &text)).transpose()?,
    };
    let page = Paging { after, limit }.request()?;
    Ok(Json(Listed::of(app.history.break_glasses(&by, filter, &page).await?)))
}

/// Open one: what is altered under it is not drift until somebody else has reviewed it.
#[utoipa::path(post, path = "/break-glass", tag = "configuration", request_body = OpenRequest,
    responses((status = 201, body = BreakGlassView), Problems))]
async fn open(
    State(app): State<App>,
    By(by): By<{ Action::BreakGlassOpen as usize }>,
    Body(asked): Body<OpenRequest>,
) -> Result<(StatusCode, Json<BreakGlassView>), Problem> {
    let cover = match (asked.ci, asked.group) {
        (Some(ci), None) => Cover::Item(given("ci", &ci)?),
        (None, Some(group)) => Cover::Group(given("group", &group)?),
        _ => {
            return Err(Problem::new(Kind::Invalid, "it names no item and no group, or both")
                .help("send either `ci` or `group`"));
        }
    };
    let reason: Reason = given("reason", &asked.reason)?;
    let terms = Terms::new(asked.ticket, reason, asked.logins, asked.files)
        .map_err(|error| Problem::new(Kind::Invalid, error.to_string()).help(error.help()))?;
    let new = NewBreakGlass {
        cover,
        terms,
        minutes: asked.minutes.unwrap_or(USUAL_MINUTES),
        review_hours: asked.review_hours.unwrap_or(USUAL_REVIEW_HOURS),
    };
    may_open(&app, &by, cover).await?;
    let opened = app.history.open_break_glass(&by, new).await?;
    Ok((StatusCode::CREATED, Json(opened.into())))
}

/// Read one, with the files that were altered under it.
#[utoipa::path(get, path = "/break-glass/{id}", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = WholeBreakGlass), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<BreakGlassId>,
) -> Result<Json<WholeBreakGlass>, Problem> {
    let break_glass = app.history.break_glass(&by, id).await?.into();
    let files = app.history.broken_files(&by, id).await?;
    let altered_files = files.into_iter().map(AlteredFile::from).collect();
    Ok(Json(WholeBreakGlass { break_glass, altered_files }))
}

/// Close one before its time is over: its review is due as much sooner.
#[utoipa::path(post, path = "/break-glass/{id}/close", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = BreakGlassView), Problems))]
async fn close(
    State(app): State<App>,
    By(by): By<{ Action::BreakGlassOpen as usize }>,
    Path(id): Path<BreakGlassId>,
) -> Result<Json<BreakGlassView>, Problem> {
    may_decide(&app, &by, id).await?;
    Ok(Json(app.history.close_break_glass(&by, id).await?.into()))
}

/// Say whether what was done under it may stay. Whoever opened it does not.
#[utoipa::path(post, path = "/break-glass/{id}/review", tag = "configuration",
    params(("id" = String, Path)), request_body = ReviewRequest,
    responses((status = 200, body = BreakGlassView), Problems))]
async fn review(
    State(app): State<App>,
    By(by): By<{ Action::BreakGlassReview as usize }>,
    Path(id): Path<BreakGlassId>,
    Body(ReviewRequest { outcome, reason, version }): Body<ReviewRequest>,
) -> Result<Json<BreakGlassView>, Problem> {
    Ok(Json(reviewed(&app, &by, id, (&outcome, &reason), version).await?.into()))
}

/// Reviews one, for whoever may.
pub(crate) async fn reviewed(
    app: &App,
    by: &Actor,
    id: BreakGlassId,
    (outcome, reason): (&str, &str),
    version: i64,
) -> Result<BreakGlass, Problem> {
    may_decide(app, by, id).await?;
    let outcome: Outcome = given("outcome", outcome)?;
    let reason: Reason = given("reason", reason)?;
    Ok(app.history.review_break_glass(by, id, version, outcome, reason).await?)
}

/// Whoever has to keep an item right says when it may be altered without being asked. Of a tenant's group, the
/// provider's people open it for what the provider keeps of it.
pub(crate) async fn may_open(app: &App, by: &Actor, cover: Cover) -> Result<(), Problem> {
    let Cover::Item(ci) = cover else { return Ok(()) };
    let item = app.store.ci(by, ci).await?;
    if by.tenant() != PROVIDER || item.tenant == PROVIDER || item.duty == Duty::Provider {
        return Ok(());
    }
    Err(Problem::new(Kind::Refused, "the tenant keeps this item, so the tenant decides")
        .help("tell the tenant; its owners open it"))
}

/// The same of one that is open, or to be reviewed: what the provider's people opened is also theirs.
pub(crate) async fn may_decide(app: &App, by: &Actor, id: BreakGlassId) -> Result<(), Problem> {
    let it = app.history.break_glass(by, id).await?;
    if by.tenant() != PROVIDER || it.tenant == PROVIDER || it.side == Side::Provider {
        return Ok(());
    }
    match it.cover {
        Cover::Item(_) => may_open(app, by, it.cover).await,
        Cover::Group(_) => {
            Err(Problem::new(Kind::Refused, "the tenant opened it, so the tenant decides")
                .help("tell the tenant; its owners and approvers review it"))
        }
    }
}
