//! `/notices`: what tenants were told, how it fares, and the same for their calendars and readers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use domain::change::PlanHash;
use domain::cloud::{ChangeId, ChannelId, NoticeId, TenantId};
use jiff::Timestamp;
use notices::content::Tenant;
use notices::{Course, Feed, Notice as Content, Standing, TemplateError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Actor, ChannelKind, DeliveryState, NoticeFilter, NoticeRow, Page, PageRequest};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::notices::Letter;
use crate::problem::{Kind, Problem};

/// Notices of a calendar or feed, the newest; what is older has its place in the list.
const FED: u16 = 500;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(deliveries))
        .routes(routes!(acknowledge))
        .routes(routes!(retry))
        .routes(routes!(calendar))
        .routes(routes!(feed))
}

/// A notice, without what it says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Notice {
    #[schema(value_type = String, example = "ntc_01h455vb4pex5vsknk084sn02q")]
    id: NoticeId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// About which change; a notice of clocks or of drift is about none alone.
    #[schema(value_type = Option<String>)]
    change: Option<ChangeId>,
    /// About which plan.
    #[schema(value_type = Option<String>)]
    plan: Option<PlanHash>,
    /// `planned`, `reminder`, `emergency`, `lapsed`, `started`, `completed`, `delayed`, `cancelled`,
    /// `failed`, `disputed`; `clocks`, of what is late or about to be while one's own side holds the ball;
    /// `drift`, of files that were altered without anybody's agreement, or without explanation, and of break-glass.
    #[schema(example = "planned")]
    kind: String,
    /// The change in one line; of clocks and of drift, how many stand how.
    title: String,
    /// How many notices of this change came before it.
    sequence: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the first of the tenant's own channels had it; at once where it has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    given_at: Option<Timestamp>,
    /// Who says that they read it.
    acknowledged_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
}

/// A notice with all that it says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeNotice {
    #[serde(flatten)]
    notice: Notice,
    /// `patchwright.notice/1`, `patchwright.clocks/1` of clocks or `patchwright.drift/1` of drift, as it was
    /// published.
    #[schema(value_type = Object)]
    document: Box<RawValue>,
}

/// A notice on a channel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Delivery {
    #[schema(value_type = String)]
    channel: ChannelId,
    /// `mail` or `webhook`.
    #[schema(value_type = String)]
    kind: ChannelKind,
    /// The address of mail, or where a webhook's begins.
    address: String,
    /// `waiting`, `delivered` or `given_up`.
    #[schema(value_type = String)]
    state: DeliveryState,
    /// How often it was tried.
    attempts: i64,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// What was answered the last time.
    answer: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// How a notice fares on each channel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deliveries {
    items: Vec<Delivery>,
}

/// Which notices.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant.
    tenant: Option<String>,
    /// About one change.
    change: Option<String>,
    /// With `true`, only those that nobody says to have read.
    #[serde(default)]
    unread: bool,
}

impl From<NoticeRow> for Notice {
    fn from(row: NoticeRow) -> Self {
        let title = title(&row).unwrap_or_default();
        Self {
            id: row.id,
            tenant: row.tenant,
            change: row.change,
            plan: row.plan,
            kind: row.kind,
            title,
            sequence: row.sequence,
            created_at: row.created_at,
            given_at: row.given_at,
            acknowledged_by: row.acknowledged_by,
            acknowledged_at: row.acknowledged_at,
        }
    }
}

/// What a notice is about in one line; `None` where it cannot be read.
pub(crate) fn title(row: &NoticeRow) -> Option<String> {
    Some(match Letter::of(row).ok()? {
        Letter::Notice(notice) => notice.draft().title.to_string(),
        Letter::Clocks(notice) => {
            let counts = notice.draft().counts;
            let parts = [
                (counts.breached, "past the due date"),
                (counts.overdue, "overdue"),
                (counts.warned, "near the date"),
            ];
            format!("clocks: {}", tally(&parts))
        }
        Letter::Drift(notice) => {
            let counts = notice.draft().counts;
            let items = if counts.items == 1 { "item" } else { "items" };
            let parts = [(counts.escalated, "escalated"), (counts.opened, "opened")];
            let drifts = format!("drift: {} on {} {items}", tally(&parts), counts.items);
            match (notice.draft().break_glass.len(), counts.total()) {
                (0, _) => drifts,
                (some, 0) => format!("break-glass: {some}"),
                (some, _) => format!("break-glass: {some}; {drifts}"),
            }
        }
    })
}

/// How many there are of what, of which there are any.
fn tally(parts: &[(u64, &str)]) -> String {
    let some = parts.iter().filter(|(count, _)| *count > 0);
    let some: Vec<_> = some.map(|(count, what)| format!("{count} {what}")).collect();
    some.join(", ")
}

impl From<store::Delivery> for Delivery {
    fn from(delivery: store::Delivery) -> Self {
        Self {
            channel: delivery.channel,
            kind: delivery.kind,
            address: delivery.address,
            state: delivery.state,
            attempts: delivery.attempts,
            next_at: delivery.next_at,
            answer: delivery.answer,
            ended_at: delivery.ended_at,
        }
    }
}

fn whole(row: NoticeRow) -> Result<WholeNotice, Problem> {
    let document = RawValue::from_string(row.document.clone())
        .map_err(|_| Problem::new(Kind::Internal, "a kept notice is damaged"))?;
    Ok(WholeNotice { notice: row.into(), document })
}

/// List the notices that one may see, the newest first.
#[utoipa::path(get, path = "/notices", tag = "notices", params(Wanted, Paging),
    responses((status = 200, body = Listed<Notice>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Notice>>, Problem> {
    let tenant = wanted.tenant.as_deref().map(|it| given("tenant", it)).transpose()?;
    let change = wanted.change.as_deref().map(|it| given("change", it)).transpose()?;
    let filter = NoticeFilter { tenant, change, unread: wanted.unread };
    Ok(Json(Listed::of(app.store.notices(&by, &filter, &paging.request()?).await?)))
}

/// Read a notice.
#[utoipa::path(get, path = "/notices/{id}", tag = "notices", params(("id" = String, Path)),
    responses((status = 200, body = WholeNotice), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRead as usize }>,
    Path(id): Path<NoticeId>,
) -> Result<Json<WholeNotice>, Problem> {
    Ok(Json(whole(app.store.notice(&by, id).await?)?))
}

/// Read how a notice fares on each channel.
#[utoipa::path(get, path = "/notices/{id}/deliveries", tag = "notices",
    params(("id" = String, Path)), responses((status = 200, body = Deliveries), Problems))]
async fn deliveries(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRead as usize }>,
    Path(id): Path<NoticeId>,
) -> Result<Json<Deliveries>, Problem> {
    let deliveries = app.store.deliveries(&by, id).await?;
    Ok(Json(Deliveries { items: deliveries.into_iter().map(Delivery::from).collect() }))
}

/// Say that one read a notice of one's own tenant. It agrees to nothing.
#[utoipa::path(post, path = "/notices/{id}/acknowledge", tag = "notices",
    params(("id" = String, Path)), responses((status = 200, body = Notice), Problems))]
async fn acknowledge(
    State(app): State<App>,
    By(by): By<{ Action::NoticeAcknowledge as usize }>,
    Path(id): Path<NoticeId>,
) -> Result<Json<Notice>, Problem> {
    Ok(Json(app.store.acknowledge_notice(&by, id).await?.into()))
}

/// Try a delivery again that was given up: now, and where more than three days have passed since
/// the notice, this once.
#[utoipa::path(post, path = "/notices/{id}/deliveries/{channel}/retry", tag = "notices",
    params(("id" = String, Path), ("channel" = String, Path)),
    responses((status = 200, body = Delivery), Problems))]
async fn retry(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRetry as usize }>,
    axum::extract::Path((notice, channel)): axum::extract::Path<(String, String)>,
) -> Result<Json<Delivery>, Problem> {
    let missing = || Problem::not_found("such delivery");
    let notice: NoticeId = notice.parse().map_err(|_| missing())?;
    let channel: ChannelId = channel.parse().map_err(|_| missing())?;
    let delivery = app.store.retry_delivery(&by, notice, channel).await?;
    if !store::is_rehearsal() {
        app.notices.wake();
    }
    Ok(Json(delivery.into()))
}

/// Fetch a tenant's changes as a calendar (RFC 5545): an event for each, as its newest notice says
/// and as it stands since. `POST /tenants/{id}/feeds` makes an address that calendars subscribe to.
#[utoipa::path(get, path = "/tenants/{id}/notices.ics", tag = "notices",
    params(("id" = String, Path)),
    responses((status = 200, body = String, content_type = "text/calendar"), Problems))]
async fn calendar(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<impl IntoResponse, Problem> {
    calendar_of(&app, &by, tenant).await
}

/// Fetch a tenant's notices as an Atom feed (RFC 4287), the newest first. `POST /tenants/{id}/feeds`
/// makes an address that readers subscribe to.
#[utoipa::path(get, path = "/tenants/{id}/notices.atom", tag = "notices",
    params(("id" = String, Path)),
    responses((status = 200, body = String, content_type = "application/atom+xml"), Problems))]
async fn feed(
    State(app): State<App>,
    By(by): By<{ Action::NoticeRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<impl IntoResponse, Problem> {
    atom_of(&app, &by, tenant).await
}

/// A text with its kind.
pub(super) type Typed = ([(HeaderName, &'static str); 1], String);

/// A tenant's changes as a calendar.
pub(super) async fn calendar_of(app: &App, by: &Actor, tenant: TenantId) -> Result<Typed, Problem> {
    let text = fed(app, by, tenant, |feed, app| {
        let (templates, language) = app.notices.templates();
        feed.calendar(templates, language)
    });
    Ok((kind("text/calendar; charset=utf-8"), text.await?))
}

/// A tenant's notices as a feed.
pub(super) async fn atom_of(app: &App, by: &Actor, tenant: TenantId) -> Result<Typed, Problem> {
    let text = fed(app, by, tenant, |feed, app| {
        let (templates, language) = app.notices.templates();
        feed.atom(templates, language)
    });
    Ok((kind("application/atom+xml; charset=utf-8"), text.await?))
}

fn kind(media_type: &'static str) -> [(HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, media_type)]
}

/// A tenant's newest notices in one text.
async fn fed(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    form: impl Fn(&Feed<'_>, &App) -> Result<String, TemplateError> + Send + 'static,
) -> Result<String, Problem> {
    let row = app.store.tenant(by, tenant).await?;
    let policy = app.store.policy_in_force(by, tenant).await?;
    let request = PageRequest { after: None, limit: FED };
    let filter = NoticeFilter { tenant: Some(tenant), ..NoticeFilter::default() };
    let Page { items, .. } = app.store.notices(by, &filter, &request).await?;
    let standings = match items.iter().filter_map(|row| row.change).min() {
        Some(first) => app.store.courses(by, tenant, first).await?,
        None => BTreeMap::new(),
    };
    let standings: BTreeMap<ChangeId, Standing> = standings
        .into_iter()
        .map(|(id, (phase, version))| (id, standing(&phase, version)))
        .collect();
    let zone = policy.calendar().zone.clone();
    let app = app.clone();
    // Hundreds of templates are some work.
    let made = tokio::task::spawn_blocking(move || {
        let told = Tenant { id: row.id, name: row.name, zone };
        let notices: Vec<Content> =
            items.iter().filter_map(|row| Content::parse(&row.document).ok()).collect();
        let feed = Feed::new(&told, app.notices.base(), &notices).map_err(|it| it.to_string())?;
        form(&feed.standing(&standings), &app).map_err(|error| error.to_string())
    });
    made.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|error| {
        tracing::error!(error, %tenant, "a feed cannot be made");
        Problem::new(Kind::Internal, "the feed cannot be made; the server's log says why")
    })
}

/// How a change stands by its phase. What started, ended or begins anew is told by a notice of its own.
fn standing(phase: &str, version: u64) -> Standing {
    let course = match phase {
        "approved" | "scheduled" | "rolling_out" | "verifying" => Course::Agreed,
        "deferred" | "refused" | "withdrawn" => Course::Off,
        _ => Course::AsTold,
    };
    Standing { course, revision: u32::try_from(version).unwrap_or(u32::MAX) }
}
