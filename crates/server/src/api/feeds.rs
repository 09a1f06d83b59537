//! `/tenants/{id}/feeds`, and what these fetch: a tenant's changes for calendars and readers, which
//! can send no header.
//!
//! The address is the secret. It opens the calendar and the feed of one tenant, for as long as its
//! maker may read that tenant's notices, and nothing else; neither our log nor the store has it.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use domain::cloud::{Name, TenantId, TokenId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, NewFeed, Secret};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::notices::{atom_of, calendar_of};
use super::tokens::{terms, whose};
use super::{Body, Path, Problems};
use crate::App;
use crate::caller::Caller;
use crate::gate::{Action, By};
use crate::problem::Problem;

/// Where addresses of feeds begin.
const PREFIX: &str = "/feeds/";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// What calendars and readers fetch.
pub(crate) fn subscribed() -> Router<App> {
    Router::new()
        .route("/feeds/{secret}/changes.ics", get(calendar))
        .route("/feeds/{secret}/changes.atom", get(atom))
}

/// A path as the log may have it.
pub(crate) fn logged(path: &str) -> &str {
    if path.starts_with(PREFIX) { "/feeds/…" } else { path }
}

/// A token with which a tenant's calendar and feed are fetched, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Feed {
    #[schema(value_type = String, example = "tok_01h455vb4pex5vsknk084sn02q")]
    id: TokenId,
    /// Whose changes it fetches.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// For whom it acts.
    #[schema(value_type = String)]
    user: UserId,
    #[schema(value_type = String, example = "calendar on my phone")]
    name: Name,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was last used, to the hour.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
}

/// All feeds of a tenant that are in use, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Feeds {
    items: Vec<Feed>,
}

/// A feed that is to be; it acts for whoever makes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedRequest {
    /// Which program will fetch it, and where.
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    /// How long it is good.
    #[schema(minimum = 1, maximum = 366)]
    days: u16,
}

/// A feed with its addresses, which are told this once: each is a secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewFeedAnswer {
    feed: Feed,
    /// To be subscribed by a calendar (RFC 5545).
    #[schema(example = "https://patch.example.org/feeds/pwf_…/changes.ics")]
    calendar: String,
    /// To be subscribed by a reader (Atom, RFC 4287).
    #[schema(example = "https://patch.example.org/feeds/pwf_…/changes.atom")]
    atom: String,
}

impl Feed {
    fn of(token: store::Token, tenant: TenantId) -> Self {
        let store::Token { id, user, name, created_at, expires_at, used_at, .. } = token;
        Self { id, tenant, user, name, created_at, expires_at, used_at }
    }
}

/// The addresses of a feed: for calendars, and for readers.
pub(crate) fn addresses(app: &App, secret: &Secret) -> [String; 2] {
    ["changes.ics", "changes.atom"]
        .map(|form| format!("{}{PREFIX}{}/{form}", app.url, secret.reveal()))
}

/// List the feeds of a tenant: one's own, or everybody's where one keeps the people.
#[utoipa::path(get, path = "/tenants/{id}/feeds", tag = "notices",
    params(("id" = String, Path)), responses((status = 200, body = Feeds), Problems))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    By(by): By<{ Action::TokenRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Feeds>, Problem> {
    app.store.tenant(&by, tenant).await?;
    let feeds = app.store.feeds(&by, whose(&app, &caller), tenant).await?;
    Ok(Json(Feeds { items: feeds.into_iter().map(|it| Feed::of(it, tenant)).collect() }))
}

/// Make addresses at which a calendar and a reader subscribe to a tenant's changes. Each is a secret;
/// `DELETE /tokens/{id}` ends both.
#[utoipa::path(post, path = "/tenants/{id}/feeds", tag = "notices",
    params(("id" = String, Path)), request_body = FeedRequest,
    responses((status = 201, body = NewFeedAnswer), Problems))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    By(by): By<{ Action::TokenCreate as usize }>,
    Path(tenant): Path<TenantId>,
    Body(FeedRequest { name, days }): Body<FeedRequest>,
) -> Result<impl IntoResponse, Problem> {
    let (token, secret) = made(&app, &caller, &by, tenant, name, days).await?;
    let [calendar, atom] = addresses(&app, &secret);
    let answer = NewFeedAnswer { feed: Feed::of(token, tenant), calendar, atom };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Makes a feed for somebody.
pub(crate) async fn made(
    app: &App,
    caller: &Caller,
    by: &Actor,
    tenant: TenantId,
    name: Name,
    days: u16,
) -> Result<(store::Token, Secret), Problem> {
    let (lifetime, is_strong) = terms(caller, days);
    Ok(app.store.create_feed(by, NewFeed { tenant, name, lifetime, is_strong }).await?)
}

async fn calendar(
    State(app): State<App>,
    axum::extract::Path(secret): axum::extract::Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let (by, tenant) = subscriber(&app, &secret).await?;
    Ok((private(), calendar_of(&app, &by, tenant).await?))
}

async fn atom(
    State(app): State<App>,
    axum::extract::Path(secret): axum::extract::Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let (by, tenant) = subscriber(&app, &secret).await?;
    Ok((private(), atom_of(&app, &by, tenant).await?))
}

/// Who fetches, and whose changes. An address that opens nothing is none.
async fn subscriber(app: &App, secret: &str) -> Result<(Actor, TenantId), Problem> {
    let found = app.store.identify_feed(&Secret::presented(secret)).await?;
    let (identity, tenant) = found.ok_or_else(|| {
        Problem::not_found("such feed").help("it may have run out: make another at /notices")
    })?;
    Ok((app.gate.pass(Caller { identity }, Action::NoticeRead)?, tenant))
}

/// What is behind a secret address is for no index and no cache on the way.
fn private() -> [(HeaderName, &'static str); 2] {
    [
        (header::CACHE_CONTROL, "private, no-store"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_address_of_a_feed() {
        assert_eq!(logged("/feeds/pwf_0123/changes.ics"), "/feeds/…");
        assert_eq!(logged("/feeds/pwf_0123"), "/feeds/…");
        assert_eq!(logged("/api/v1/notices"), "/api/v1/notices");
    }
}
