//! `/session/…`: what one proves oneself with, and `/users/{id}/reset` for whoever lost it all.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use domain::change::KeyId;
use domain::cloud::{CeremonyId, ExternalIdentityId, Name, PasskeyId, SessionId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, Ceremony, Proof, User};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::session::{LIFETIME, Session};
use super::{Body, Path, Problems};
use crate::App;
use crate::caller::Caller;
use crate::codes::{self, RECOVERY_CODES};
use crate::gate::{Action, By};
use crate::passkeys::{Assertion, Holder};
use crate::passwords;
use crate::problem::{Kind, Problem};
use crate::refusals::{self, Refused};

/// Kinds of ceremonies; the halves of one do not fit the other.
const REGISTRATION: &str = "passkey.registration";
const SIGN_IN: &str = "passkey.sign_in";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read_factors))
        .routes(routes!(set_password))
        .routes(routes!(begin_totp, confirm_totp, remove_totp))
        .routes(routes!(begin_passkey))
        .routes(routes!(add_passkey))
        .routes(routes!(remove_passkey))
        .routes(routes!(unlink))
        .routes(routes!(begin_sign_in))
        .routes(routes!(sign_in_with_passkey))
        .routes(routes!(reset))
}

/// What one can prove oneself with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Factors {
    /// Since when codes are asked for at sign-in; null where they are not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) codes_since: Option<Timestamp>,
    /// Recovery codes that are left.
    pub(crate) recovery_codes: u64,
    pub(crate) passkeys: Vec<Passkey>,
    /// Who one is at other places where people may sign in.
    pub(crate) identities: Vec<ExternalIdentity>,
}

/// Who somebody is elsewhere.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExternalIdentity {
    #[schema(value_type = String, example = "xid_01h455vb4pex5vsknk084sn02q")]
    pub(crate) id: ExternalIdentityId,
    #[schema(example = "https://login.example.org")]
    pub(crate) issuer: String,
    /// The issuer's name for the person.
    #[schema(example = "248289761001")]
    pub(crate) subject: String,
    /// Whether the account came from there: then its role does, and there is no other way in.
    pub(crate) is_managed: bool,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) used_at: Option<Timestamp>,
}

/// A passkey.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Passkey {
    #[schema(value_type = String, example = "pky_01h455vb4pex5vsknk084sn02q")]
    pub(crate) id: PasskeyId,
    #[schema(value_type = String)]
    pub(crate) name: Name,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) used_at: Option<Timestamp>,
    /// Its id as a key that signs for a tenant; none of a kind that cannot.
    #[schema(value_type = Option<String>)]
    pub(crate) key: Option<KeyId>,
    /// Its public key in PEM, for whoever signs an order that adds it.
    pub(crate) public_key: Option<String>,
}

/// Another password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    /// The one until now.
    #[schema(format = Password)]
    pub(crate) old: String,
    /// The one from now on, 15 characters or more.
    #[schema(format = Password, min_length = 15, max_length = 1024)]
    pub(crate) new: String,
}

/// What to set an app up with that shows codes.
#[derive(Serialize, ToSchema)]
pub(crate) struct CodeSetup {
    /// As people type it in.
    pub(crate) secret: String,
    /// The same as a link, for a QR code.
    pub(crate) uri: String,
}

/// A code that an app shows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    #[schema(example = "123456")]
    pub(crate) code: String,
}

/// Codes for the day on which the app is lost, told this once; each is good once.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    pub(crate) recovery_codes: Vec<String>,
}

/// The half of a ceremony that begins it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CeremonyBegun {
    /// Send it back with the authenticator's answer, within five minutes.
    #[schema(value_type = String, example = "cer_01h455vb4pex5vsknk084sn02q")]
    ceremony: CeremonyId,
    /// For `PublicKeyCredential.parseCreationOptionsFromJSON` or `…RequestOptionsFromJSON`.
    #[schema(value_type = Object)]
    options: serde_json::Value,
}

/// A passkey that is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyRequest {
    #[schema(value_type = String)]
    ceremony: CeremonyId,
    /// What you call it.
    #[schema(value_type = String, min_length = 1, max_length = 120, example = "key ring")]
    name: Name,
    /// `PublicKeyCredential.toJSON()`.
    #[schema(value_type = Object)]
    answer: serde_json::Value,
}

/// What somebody signs in with who has a passkey.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeySignIn {
    #[schema(value_type = String)]
    ceremony: CeremonyId,
    /// `PublicKeyCredential.toJSON()`.
    #[schema(value_type = Object)]
    answer: serde_json::Value,
}

/// A password for whoever lost theirs, told this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct ResetAnswer {
    #[schema(value_type = String)]
    user: UserId,
    /// Hand it over in person; it is to be changed at the first sign-in.
    #[schema(format = Password)]
    password: String,
}

impl Factors {
    /// What a person can prove with.
    pub(crate) async fn of(app: &App, user: UserId) -> Result<Self, Problem> {
        let factors = app.store.factors(user).await?;
        let identities = app.store.identities(user).await?;
        Ok(Self {
            codes_since: factors.totp.and_then(|totp| totp.confirmed_at),
            recovery_codes: factors.recovery_codes,
            passkeys: factors.passkeys.into_iter().map(Passkey::from).collect(),
            identities: identities.into_iter().map(ExternalIdentity::from).collect(),
        })
    }
}

impl From<store::ExternalIdentity> for ExternalIdentity {
    fn from(identity: store::ExternalIdentity) -> Self {
        let store::ExternalIdentity { id, name, is_managed, created_at, used_at, .. } = identity;
        let store::ExternalName { issuer, subject } = name;
        Self { id, issuer, subject, is_managed, created_at, used_at }
    }
}

impl From<store::Passkey> for Passkey {
    fn from(passkey: store::Passkey) -> Self {
        let (key, public_key) = super::signing::key_of(&passkey).unzip();
        let public_key = public_key.map(|key| key.to_string());
        let store::Passkey { id, name, created_at, used_at, .. } = passkey;
        Self { id, name, created_at, used_at, key, public_key }
    }
}

/// Somebody in a session of their own, who may see to what they prove themselves with.
pub(crate) struct Own {
    pub(crate) by: Actor,
    pub(crate) session: SessionId,
    pub(crate) user: User,
    is_strong: bool,
}

impl FromRequestParts<App> for Own {
    type Rejection = Problem;

    /// # Errors
    /// 422 with a token: whoever stole one must not be able to make themselves at home.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = <Caller as FromRequestParts<App>>::from_request_parts(parts, app).await?;
        let (session, is_strong) = (caller.identity.session, caller.identity.is_strong);
        let by = app.gate.pass(caller, Action::AccountSecure)?;
        let session = session.ok_or_else(|| {
            Problem::new(Kind::Refused, "a token cannot see to what a person signs in with")
                .help("sign in, and use the session")
        })?;
        let Actor::Person { user, .. } = by else { return Err(Problem::unauthenticated()) };
        let user = app.store.user(&by, user).await?;
        Ok(Self { by, session, user, is_strong })
    }
}

impl Own {
    /// Where there is a second factor, changing what one has asks for it.
    pub(crate) async fn strong(self, app: &App) -> Result<Self, Problem> {
        let factors = app.store.factors(self.user.id).await?;
        let has_factors = factors.totp.is_some_and(|totp| totp.confirmed_at.is_some())
            || !factors.passkeys.is_empty();
        if has_factors && !self.is_strong {
            return Err(Problem::new(Kind::Forbidden, "this asks for a second factor")
                .help("sign in again with a code or a passkey"));
        }
        Ok(self)
    }

    fn place(&self) -> String {
        format!("totp {}", self.user.id)
    }
}

/// Begins with codes: a new secret, and nothing is asked for before one was shown.
pub(crate) async fn begin_codes(app: &App, own: &Own) -> Result<CodeSetup, Problem> {
    let secret: [u8; 20] = app.random();
    let sealed = app
        .vault
        .seal(&own.place(), &secret, app.random())
        .ok_or_else(|| Problem::new(Kind::Internal, "the secret could not be sealed"))?;
    app.store.begin_totp(&own.by, sealed).await?;
    let codes::Enrolment { secret, uri } = codes::enrolment(&secret, own.user.login.as_str());
    Ok(CodeSetup { secret, uri })
}

/// Takes the first code; from now on they are asked for.
pub(crate) async fn confirm_codes(
    app: &App,
    own: &Own,
    code: &str,
) -> Result<RecoveryCodes, Problem> {
    let step = step_of(app, &own.user, code).await?;
    let recovery_codes: Vec<String> =
        (0..RECOVERY_CODES).map(|_| codes::recovery_code(app.random())).collect();
    let hashes = recovery_codes.iter().map(|code| codes::recovery_hash(code)).collect();
    app.store.confirm_totp(&own.by, own.session, step, hashes).await?;
    Ok(RecoveryCodes { recovery_codes })
}

/// The step of time that a code is of.
async fn step_of(app: &App, user: &User, code: &str) -> Result<i64, Problem> {
    let now = app.store.environment().now();
    app.passwords.check_attempts(user.login.as_str(), now)?;
    let factors = app.store.factors(user.id).await?;
    let secret =
        factors.totp.and_then(|totp| app.vault.open(&format!("totp {}", user.id), &totp.sealed));
    let secret = secret.ok_or_else(|| {
        Problem::new(Kind::Refused, "no codes are set up").help("begin with POST /session/codes")
    })?;
    codes::matching_step(&secret, code, now).ok_or_else(|| {
        app.passwords.remember(user.login.as_str(), false, now);
        Problem::new(Kind::Refused, "the code is wrong, or too old")
            .help("give the code that the app shows now; its clock must be right")
    })
}

/// What a code at sign-in proves.
///
/// # Errors
/// 401 where a code is asked for and missing or wrong.
pub(crate) async fn proof(app: &App, user: &User, code: Option<&str>) -> Result<Proof, Problem> {
    let factors = app.store.factors(user.id).await?;
    let has_codes = factors.totp.is_some_and(|totp| totp.confirmed_at.is_some());
    match code.map(str::trim).filter(|code| !code.is_empty()) {
        None if has_codes => Err(Problem::new(Kind::SecondFactor, "a code is asked for as well")
            .help("send the code that your app shows, or a recovery code")),
        Some(code) if has_codes && code.len() > 8 => {
            Ok(Proof::Recovery { hash: codes::recovery_hash(code) })
        }
        Some(code) if has_codes => match step_of(app, user, code).await {
            Ok(step) => Ok(Proof::Totp { step }),
            Err(problem) if problem.status().as_u16() == 422 => {
                Err(Problem::new(Kind::SecondFactor, problem.detail())
                    .help("give the code that the app shows now; its clock must be right"))
            }
            Err(problem) => Err(problem),
        },
        _ => Ok(Proof::Password),
    }
}

/// Read what one can prove oneself with.
#[utoipa::path(get, path = "/session/factors", tag = "session",
    responses((status = 200, body = Factors), Problems))]
async fn read_factors(
    State(app): State<App>,
    By(by): By<{ Action::AccountRead as usize }>,
) -> Result<Json<Factors>, Problem> {
    let Actor::Person { user, .. } = by else { return Err(Problem::unauthenticated()) };
    Ok(Json(Factors::of(&app, user).await?))
}

/// Change one's own password; all other sessions end.
#[utoipa::path(put, path = "/session/password", tag = "session", request_body = NewPassword,
    responses((status = 204, description = "Changed"), Problems))]
async fn set_password(
    State(app): State<App>,
    own: Own,
    Body(NewPassword { old, new }): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    change_password(&app, &own, old, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn change_password(
    app: &App,
    own: &Own,
    old: String,
    new: &str,
) -> Result<(), Problem> {
    let login = &own.user.login;
    let now = app.store.environment().now();
    let hash = app.store.user_by_login(login).await?.and_then(|(_, hash)| hash);
    if !app.passwords.verify(login.as_str(), old, hash, now).await? {
        return Err(Problem::new(Kind::Refused, "the old password is wrong")
            .help("an admin can give you access anew"));
    }
    app.passwords.remember(login.as_str(), true, now);
    let hash = passwords::hash_new(new, &app.random())?;
    Ok(app.store.set_own_password(&own.by, own.session, hash).await?)
}

/// Begin with codes that change with the time (RFC 6238).
#[utoipa::path(post, path = "/session/codes", tag = "session",
    responses((status = 201, body = CodeSetup), Problems))]
async fn begin_totp(State(app): State<App>, own: Own) -> Result<impl IntoResponse, Problem> {
    let own = own.strong(&app).await?;
    Ok((StatusCode::CREATED, Json(begin_codes(&app, &own).await?)))
}

/// Show the first code: from now on they are asked for, and all other sessions end.
#[utoipa::path(put, path = "/session/codes", tag = "session", request_body = Code,
    responses((status = 200, body = RecoveryCodes), Problems))]
async fn confirm_totp(
    State(app): State<App>,
    own: Own,
    Body(Code { code }): Body<Code>,
) -> Result<Json<RecoveryCodes>, Problem> {
    let own = own.strong(&app).await?;
    Ok(Json(confirm_codes(&app, &own, &code).await?))
}

/// Give up one's codes, recovery codes too.
#[utoipa::path(delete, path = "/session/codes", tag = "session",
    responses((status = 204, description = "Given up"), Problems))]
async fn remove_totp(State(app): State<App>, own: Own) -> Result<StatusCode, Problem> {
    let own = own.strong(&app).await?;
    app.store.remove_totp(&own.by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin the registration of a passkey.
#[utoipa::path(post, path = "/session/passkey-registration", tag = "session",
    responses((status = 201, body = CeremonyBegun), Problems))]
async fn begin_passkey(State(app): State<App>, own: Own) -> Result<impl IntoResponse, Problem> {
    let own = own.strong(&app).await?;
    let factors = app.store.factors(own.user.id).await?;
    let holder = Holder {
        handle: own.user.id.as_bytes(),
        login: own.user.login.as_str(),
        name: own.user.name.as_str(),
    };
    let begun = app.relying_party.begin_registration(&holder, &factors.passkeys)?;
    let ceremony = Ceremony { kind: REGISTRATION, user: Some(own.user.id), state: begun.state };
    let ceremony = app.store.begin_ceremony(ceremony).await?;
    Ok((StatusCode::CREATED, Json(CeremonyBegun { ceremony, options: begun.options })))
}

/// Add a passkey; all other sessions end.
#[utoipa::path(post, path = "/session/passkeys", tag = "session", request_body = PasskeyRequest,
    responses((status = 201, body = Passkey), Problems))]
async fn add_passkey(
    State(app): State<App>,
    own: Own,
    Body(PasskeyRequest { ceremony, name, answer }): Body<PasskeyRequest>,
) -> Result<impl IntoResponse, Problem> {
    let own = own.strong(&app).await?;
    let state = app.store.take_ceremony(ceremony, REGISTRATION, Some(own.user.id)).await?;
    let new = app.relying_party.end_registration(&state, &answer, name)?;
    let passkey = app.store.add_passkey(&own.by, own.session, new).await?;
    Ok((StatusCode::CREATED, Json(Passkey::from(passkey))))
}

/// Give up a passkey.
#[utoipa::path(delete, path = "/session/passkeys/{id}", tag = "session",
    params(("id" = String, Path)),
    responses((status = 204, description = "Given up"), Problems))]
async fn remove_passkey(
    State(app): State<App>,
    own: Own,
    Path(id): Path<PasskeyId>,
) -> Result<StatusCode, Problem> {
    let own = own.strong(&app).await?;
    app.store.remove_passkey(&own.by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unlink who one is elsewhere.
#[utoipa::path(delete, path = "/session/identities/{id}", tag = "session",
    params(("id" = String, Path)),
    responses((status = 204, description = "Unlinked"), Problems))]
async fn unlink(
    State(app): State<App>,
    own: Own,
    Path(id): Path<ExternalIdentityId>,
) -> Result<StatusCode, Problem> {
    let own = own.strong(&app).await?;
    app.store.unlink_identity(&own.by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin a sign-in with a passkey.
#[utoipa::path(post, path = "/session/passkey-challenge", tag = "session", security(()),
    responses((status = 201, body = CeremonyBegun), Problems))]
async fn begin_sign_in(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let begun = app.relying_party.begin_sign_in()?;
    let ceremony = Ceremony { kind: SIGN_IN, user: None, state: begun.state };
    let ceremony = app.store.begin_ceremony(ceremony).await?;
    Ok((StatusCode::CREATED, Json(CeremonyBegun { ceremony, options: begun.options })))
}

/// Sign in with a passkey.
#[utoipa::path(post, path = "/session/passkey", tag = "session", request_body = PasskeySignIn,
    security(()), responses((status = 201, body = Session), Problems))]
async fn sign_in_with_passkey(
    State(app): State<App>,
    Body(sent): Body<PasskeySignIn>,
) -> Result<impl IntoResponse, Problem> {
    let session = passkey_session(&app, sent).await?;
    Ok((StatusCode::CREATED, Json(session)))
}

pub(crate) async fn passkey_session(app: &App, sent: PasskeySignIn) -> Result<Session, Problem> {
    let PasskeySignIn { ceremony, answer } = sent;
    let assertion = Assertion::read(&answer)?;
    let state = app.store.take_ceremony(ceremony, SIGN_IN, None).await?;
    let found = app.store.passkey(&assertion.credential()).await?;
    let (passkey, user) = found.ok_or_else(|| {
        refusals::tell(app, None, Refused::Passkey);
        Problem::new(Kind::Unauthenticated, "this passkey is not known here")
            .help("sign in another way, then add it on the page of your account")
    })?;
    let dynamic_state = app
        .relying_party
        .end_sign_in(&state, &assertion, &passkey, user.id.as_bytes())
        .map_err(|problem| {
            tracing::warn!(passkey = %passkey.id, reason = problem.detail(), "passkey refused");
            refusals::tell(app, Some(&user), Refused::Passkey);
            Problem::new(Kind::Unauthenticated, problem.detail())
        })?;
    let proof = Proof::Passkey { id: passkey.id, dynamic_state };
    let (_, secret) = app.store.open_session(user, proof, LIFETIME).await?;
    let expires_at = app.store.environment().now() + LIFETIME;
    Ok(Session::new(&secret, expires_at))
}

/// Give somebody who lost theirs another password; their factors, sessions and tokens end.
#[utoipa::path(post, path = "/users/{id}/reset", tag = "people", params(("id" = String, Path)),
    responses((status = 200, body = ResetAnswer), Problems))]
async fn reset(
    State(app): State<App>,
    By(by): By<{ Action::UserReset as usize }>,
    Path(id): Path<UserId>,
) -> Result<Json<ResetAnswer>, Problem> {
    let password = codes::recovery_code(app.random());
    let hash = passwords::hash_new(&password, &app.random())?;
    let user = app.store.reset_user(&by, id, hash).await?.id;
    Ok(Json(ResetAnswer { user, password }))
}
