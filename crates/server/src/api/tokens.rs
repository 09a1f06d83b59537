//! `/tokens`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{Access, Name, TenantId, TokenId, UserId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{NewToken, Whose};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Listed, Paging, Path, Problems, Query};
use crate::App;
use crate::caller::Caller;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// An API token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token {
    #[schema(value_type = String, example = "tok_01h455vb4pex5vsknk084sn02q")]
    id: TokenId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// For whom it acts.
    #[schema(value_type = String)]
    user: UserId,
    #[schema(value_type = String, example = "nightly report")]
    name: Name,
    /// `read` or `write`.
    #[schema(value_type = String, example = "read")]
    access: Access,
    /// Of which tenant it fetches the calendar and the feed, where that is all that it does.
    #[schema(value_type = Option<String>)]
    feed_of: Option<TenantId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

/// A token that is to be; it acts for whoever makes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    #[schema(value_type = String, pattern = "^(read|write)$")]
    access: Access,
    /// How long it is good.
    #[schema(minimum = 1, maximum = 366)]
    days: u16,
}

/// A token with its secret, which is told this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewTokenAnswer {
    token: Token,
    /// Send it as `Authorization: Bearer …`. It cannot be read again.
    #[schema(example = "pwt_…")]
    secret: String,
}

impl From<store::Token> for Token {
    fn from(token: store::Token) -> Self {
        Self {
            id: token.id,
            tenant: token.tenant,
            user: token.user,
            name: token.name,
            access: token.access,
            feed_of: token.feed_of,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// List one's own tokens, or everybody's where one keeps the people.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(Paging),
    responses((status = 200, body = Listed<Token>), Problems))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    By(by): By<{ Action::TokenRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Token>>, Problem> {
    let whose = whose(&app, &caller);
    Ok(Json(Listed::of(app.store.tokens(&by, whose, &paging.request()?).await?)))
}

/// Whose tokens somebody may see and take back.
pub(crate) fn whose(app: &App, caller: &Caller) -> Whose {
    let may_all = app.gate.permits(caller, Action::TokenRevokeAny);
    if may_all { Whose::Anybodys } else { Whose::Own }
}

/// How long a token is good that somebody makes now, and whether it proves as much as they did.
pub(super) fn terms(caller: &Caller, days: u16) -> (SignedDuration, bool) {
    (SignedDuration::from_hours(i64::from(days) * 24), caller.identity.is_strong)
}

/// Make a token for oneself.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, body = NewTokenAnswer), Problems))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    By(by): By<{ Action::TokenCreate as usize }>,
    Body(asked): Body<TokenRequest>,
) -> Result<impl IntoResponse, Problem> {
    let (lifetime, is_strong) = terms(&caller, asked.days);
    let new = NewToken { name: asked.name, access: asked.access, lifetime, is_strong };
    let (token, secret) = app.store.create_token(&by, new).await?;
    let answer = NewTokenAnswer { token: token.into(), secret: secret.reveal().to_owned() };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Take a token back: one's own, or anybody's where one keeps the people.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = Token), Problems))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    By(by): By<{ Action::TokenRevoke as usize }>,
    Path(id): Path<TokenId>,
) -> Result<Json<Token>, Problem> {
    let whose = whose(&app, &caller);
    Ok(Json(app.store.revoke_token(&by, whose, id).await?.into()))
}
