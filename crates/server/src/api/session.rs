//! `/session`: signing in and out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{Access, Role, TenantId, UserId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Actor, Secret};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Problems, account};
use crate::App;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};
use crate::refusals::{self, Refused};

/// How long a session lives.
pub(crate) const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open, read, close)).routes(routes!(providers))
}

/// What a person signs in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    #[schema(example = "anna@example.org")]
    login: String,
    #[schema(format = Password)]
    password: String,
    /// The code that an app shows, or a recovery code; for those who have set that up.
    #[serde(default)]
    code: Option<String>,
}

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// Send it as `Authorization: Bearer …`.
    #[schema(example = "pws_…")]
    secret: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl Session {
    pub(crate) fn new(secret: &Secret, expires_at: Timestamp) -> Self {
        Self { secret: secret.reveal().to_owned(), expires_at }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    #[schema(value_type = String)]
    user: UserId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String, example = "operator")]
    role: Role,
    /// `read` or `write`.
    #[schema(value_type = String, example = "write")]
    access: Access,
    /// Whether more than a password stands behind it.
    mfa: bool,
}

/// Sign in.
#[utoipa::path(post, path = "/session", tag = "session", request_body = SignIn, security(()),
    responses((status = 201, body = Session), Problems))]
async fn open(
    State(app): State<App>,
    Body(SignIn { login, password, code }): Body<SignIn>,
) -> Result<impl IntoResponse, Problem> {
    let session = sign_in(&app, &login, password, code.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(session)))
}

/// Who one is.
#[utoipa::path(get, path = "/session", tag = "session",
    responses((status = 200, body = Account), Problems))]
async fn read(State(app): State<App>, caller: Caller) -> Result<Json<Account>, Problem> {
    let (access, mfa) = (caller.identity.access, caller.identity.is_strong);
    match app.gate.pass(caller, Action::AccountRead)? {
        Actor::Person { user, tenant, role } => {
            Ok(Json(Account { user, tenant, role, access, mfa }))
        }
        Actor::System | Actor::Agent { .. } => Err(Problem::unauthenticated()),
    }
}

/// Sign out.
#[utoipa::path(delete, path = "/session", tag = "session",
    responses((status = 204, description = "Signed out"), Problems))]
async fn close(State(app): State<App>, caller: Caller) -> Result<StatusCode, Problem> {
    let session = caller.identity.session;
    let by = app.gate.pass(caller, Action::SessionClose)?;
    let session = session.ok_or_else(|| {
        Problem::new(Kind::Refused, "a token is no session")
            .help("take a token back with DELETE /api/v1/tokens/{id}")
    })?;
    app.store.close_session(&by, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Somewhere else where people may sign in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Provider {
    /// In addresses.
    #[schema(example = "corp")]
    name: String,
    /// For people.
    #[schema(example = "Example Corp")]
    title: String,
    #[schema(example = "https://login.example.org")]
    issuer: String,
}

/// List where else people may sign in, with a browser (OpenID Connect).
#[utoipa::path(get, path = "/session/providers", tag = "session", security(()),
    responses((status = 200, body = Vec<Provider>), Problems))]
async fn providers(State(app): State<App>) -> Json<Vec<Provider>> {
    let told = app.providers.all().map(|provider| Provider {
        name: provider.name().to_owned(),
        title: provider.title().to_owned(),
        issuer: provider.issuer().to_owned(),
    });
    Json(told.collect())
}

/// Opens a session for whoever knows the password, and shows a code where one is asked for. Without
/// the password, nothing tells apart why not.
pub(crate) async fn sign_in(
    app: &App,
    login: &str,
    password: String,
    code: Option<&str>,
) -> Result<Session, Problem> {
    let wrong = || {
        Problem::new(Kind::Unauthenticated, "login or password is wrong")
            .help("an admin can give you access anew")
    };
    let found = match login.parse() {
        Ok(login) => app.store.user_by_login(&login).await?,
        Err(_) => None,
    };
    let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
    let now = app.store.environment().now();
    let is_right = match app.passwords.verify(login, password, hash, now).await {
        Ok(is_right) => is_right,
        Err(problem) => {
            if problem.status() == StatusCode::TOO_MANY_REQUESTS {
                refusals::tell(app, user.as_ref(), Refused::Stopped);
            }
            return Err(problem);
        }
    };
    if !is_right {
        refusals::tell(app, user.as_ref(), Refused::Password);
    }
    let user = user.filter(|_| is_right).ok_or_else(wrong)?;
    let proof = account::proof(app, &user, code).await.inspect_err(|problem| {
        let has_code = code.is_some_and(|code| !code.trim().is_empty());
        match problem.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                refusals::tell(app, Some(&user), Refused::Stopped);
            }
            // Who is only asked for the code has not failed.
            StatusCode::UNAUTHORIZED if has_code => {
                refusals::tell(app, Some(&user), Refused::Code);
            }
            _ => {}
        }
    })?;
    match app.store.open_session(user.clone(), proof, LIFETIME).await {
        Ok((_, secret)) => {
            app.passwords.remember(login, true, now);
            Ok(Session::new(&secret, now + LIFETIME))
        }
        Err(store::StoreError::Refused { reason, help }) => {
            app.passwords.remember(login, false, now);
            refusals::tell(app, Some(&user), Refused::Code);
            Err(Problem::new(Kind::SecondFactor, reason).help(help))
        }
        Err(error) => Err(error.into()),
    }
}
