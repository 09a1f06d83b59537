//! `/users`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{Login, Name, Role, TenantId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, ExternalName, NewUser};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, etag};
use crate::App;
use crate::gate::{Action, By};
use crate::passwords;
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, disable))
}

/// A person with access.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    #[schema(value_type = String, example = "usr_01h455vb4pex5vsknk084sn02q")]
    id: UserId,
    /// Whose person it is.
    #[schema(value_type = String, example = "ten_01h455vb4pex5vsknk084sn02q")]
    tenant: TenantId,
    #[schema(value_type = String, example = "anna@example.org")]
    login: Login,
    #[schema(value_type = String, example = "Anna Example")]
    name: Name,
    /// `operator`, `approver`, `auditor`, `admin` (provider); `tenant_owner`, `tenant_approver`,
    /// `tenant_viewer` (tenant).
    #[schema(value_type = String, example = "tenant_owner")]
    role: Role,
    /// Since when it may do nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    version: i64,
}

/// A person who is to have access.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserRequest {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    login: Login,
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    #[schema(value_type = String,
        pattern = "^(operator|approver|auditor|admin|tenant_owner|tenant_approver|tenant_viewer)$")]
    role: Role,
    /// At least 15 characters. May be left out where there is an identity.
    #[serde(default)]
    #[schema(min_length = 15, max_length = 1024, format = Password)]
    password: Option<String>,
    /// Who that is at a place where people may sign in (`GET /session/providers`).
    #[serde(default)]
    identity: Option<IdentityRequest>,
}

/// Who somebody is elsewhere.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityRequest {
    #[schema(example = "https://login.example.org")]
    issuer: String,
    /// The issuer's name for the person, which it gives to nobody else (`sub`).
    #[schema(min_length = 1, max_length = 255, example = "248289761001")]
    subject: String,
}

impl From<store::User> for User {
    fn from(user: store::User) -> Self {
        let store::User { id, tenant, login, name, role, disabled_at, created_at, version } = user;
        Self { id, tenant, login, name, role, disabled_at, created_at, version }
    }
}

/// List the people whom one may see.
#[utoipa::path(get, path = "/users", tag = "people", params(Paging),
    responses((status = 200, body = Listed<User>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::UserRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<User>>, Problem> {
    Ok(Json(Listed::of(app.store.users(&by, &paging.request()?).await?)))
}

/// Give a person access.
#[utoipa::path(post, path = "/users", tag = "people", params(IdempotencyKey),
    request_body = UserRequest, responses((status = 201, body = User), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::UserCreate as usize }>,
    sent: Sent<UserRequest>,
) -> Result<impl IntoResponse, Problem> {
    let UserRequest { tenant, login, name, role, password, identity } = sent.body;
    let (once, random) = (sent.once, app.random());
    let password = match password {
        Some(password) => Some(
            tokio::task::spawn_blocking(move || passwords::hash_new(&password, &random))
                .await
                .map_err(|_| Problem::new(Kind::Internal, "hashing failed"))??,
        ),
        None if identity.is_some() => None,
        None => {
            return Err(Problem::new(Kind::Invalid, "this person could not sign in")
                .help("give a password, or who that is elsewhere"));
        }
    };
    let new = NewUser { tenant, login, name, role, password };
    let user = match identity {
        Some(identity) => {
            let identity = vouched_for(&app, &by, tenant, identity).await?;
            app.store.create_external_user(&by, once, new, identity).await?
        }
        None => app.store.create_user(&by, once, new).await?,
    };
    Ok((StatusCode::CREATED, etag(user.version), Json(User::from(user))))
}

/// An identity at a provider of ours, which is for that tenant's people. A tenant names people of its
/// own provider alone: with another's it could take somebody's place before they first come.
async fn vouched_for(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    identity: IdentityRequest,
) -> Result<ExternalName, Problem> {
    let IdentityRequest { issuer, subject } = identity;
    // Not there is said first of what the actor may not see.
    app.store.tenant(by, tenant).await?;
    let refused = |reason: &str| {
        Err(Problem::new(Kind::Refused, reason).help("GET /api/v1/session/providers lists them"))
    };
    let Some(provider) = app.providers.by_issuer(&issuer) else {
        return refused("people cannot sign in at this issuer");
    };
    let whose = provider.tenant(app).await?;
    if whose.map_or(by.scope().is_some(), |whose| whose != tenant) {
        return refused("this issuer is not for the people of that tenant");
    }
    if subject.is_empty() || subject.len() > 255 || !subject.is_ascii() {
        return Err(Problem::new(Kind::Invalid, "no issuer has such a subject")
            .help("use 1 to 255 ASCII characters, as the issuer's `sub` has them"));
    }
    Ok(ExternalName { issuer, subject })
}

/// Read a person.
#[utoipa::path(get, path = "/users/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = User), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::UserRead as usize }>,
    Path(id): Path<UserId>,
) -> Result<impl IntoResponse, Problem> {
    let user = app.store.user(&by, id).await?;
    Ok((etag(user.version), Json(User::from(user))))
}

/// Take a person's access away, sessions and tokens included.
#[utoipa::path(delete, path = "/users/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = User), Problems))]
async fn disable(
    State(app): State<App>,
    By(by): By<{ Action::UserDisable as usize }>,
    Path(id): Path<UserId>,
) -> Result<Json<User>, Problem> {
    Ok(Json(app.store.disable_user(&by, id).await?.into()))
}
