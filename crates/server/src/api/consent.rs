//! `/keys` and `/rules`: what a tenant signs with, and what it agreed to ahead.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::change::{
    Ended, KeyEvent, KeyId, KeyKind, KeyOrder, KeyRing, NewKey, Nonce, Payload, Recovery,
    StandingRule, Verified,
};
use domain::cloud::{TenantId, UserId};
use jiff::Timestamp;
use ledger::attestation::{self, AttestorKey};
use ledger::passkey::{self, PasskeyKey};
use serde::{Deserialize, Serialize};
use store::{Actor, ConsentKey, KeptRule, NewConsentKey};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::changes::accepted;
use super::{Body, Path, Problems, checked_text, given, signing};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest label of a key, in bytes.
pub(super) const LONGEST_LABEL: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(keys, register))
        .routes(routes!(order))
        .routes(routes!(revoke))
        .routes(routes!(recovery, recover, object))
        .routes(routes!(complete))
        .routes(routes!(rules, agree_ahead))
        .routes(routes!(withdraw))
}

/// A key that a tenant signs with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    /// SHA-256 of the public key as OpenSSL writes it in DER.
    #[schema(value_type = String)]
    id: KeyId,
    #[schema(value_type = String)]
    kind: KeyKind,
    label: String,
    /// Who holds it.
    #[schema(value_type = String)]
    holder: UserId,
    /// The public key in PEM.
    pem: Option<String>,
    /// Since when it counts.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Why it counts no more.
    #[schema(value_type = Option<Object>)]
    ended: Option<Ended>,
}

/// A key that is to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRequest {
    /// A public key in PEM, as `patchwright consent key show` and `openssl pkey -pubout` write it.
    public_key: String,
    /// `ed25519`, which signs DSSE envelopes, or `passkey`.
    #[serde(default = "usual_kind")]
    #[schema(value_type = Option<String>)]
    kind: KeyKind,
    /// What people call it.
    #[schema(max_length = 100)]
    label: String,
}

const fn usual_kind() -> KeyKind {
    KeyKind::Ed25519
}

/// A key that owners ask for without a signature.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecoveryView {
    #[schema(value_type = String)]
    key: KeyId,
    #[schema(value_type = String)]
    kind: KeyKind,
    /// Who will hold it.
    #[schema(value_type = String)]
    holder: UserId,
    #[schema(value_type = String)]
    asked_by: UserId,
    #[schema(value_type = Option<String>, format = DateTime)]
    asked_at: Option<Timestamp>,
    /// The second owner, once there is one.
    #[schema(value_type = Option<String>)]
    agreed_by: Option<UserId>,
    /// When it can come into force, once two owners asked.
    #[schema(value_type = Option<String>, format = DateTime)]
    completes_at: Option<Timestamp>,
}

impl From<&Recovery> for RecoveryView {
    fn from(recovery: &Recovery) -> Self {
        let Recovery { key, asked_by, asked_at, agreed_by, completes_at } = *recovery;
        let NewKey { id, kind, holder } = key;
        Self { key: id, kind, holder, asked_by, asked_at, agreed_by, completes_at }
    }
}

/// An order about a tenant's keys, signed with one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    /// The DSSE envelope, or the one with a passkey's assertion.
    #[schema(value_type = Object)]
    envelope: serde_json::Value,
    /// The public key in PEM that the order brings, if it brings one.
    public_key: Option<String>,
    /// What people call it.
    #[serde(default)]
    #[schema(max_length = 100)]
    label: String,
}

/// A rule by which a tenant agreed ahead.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rule {
    /// What it says.
    #[schema(value_type = Object)]
    says: StandingRule,
    #[schema(value_type = String)]
    key: KeyId,
    #[schema(value_type = Option<String>, format = DateTime)]
    withdrawn_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// As it was signed.
    #[schema(value_type = Object)]
    envelope: serde_json::Value,
}

impl Rule {
    fn of(kept: &KeptRule) -> Result<Self, Problem> {
        let envelope = serde_json::from_str(&kept.envelope)
            .map_err(|_| Problem::new(Kind::Internal, "a kept envelope is damaged"))?;
        Ok(Self {
            says: kept.standing.rule().clone(),
            key: kept.standing.key(),
            withdrawn_at: kept.standing.withdrawn(),
            created_at: kept.created_at,
            envelope,
        })
    }
}

/// What an envelope says, once one of the tenant's keys is seen to have signed it; whether that key
/// still counts is the domain's to say. With the envelope as it came.
pub(super) async fn signed<T: Payload>(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    envelope: &[u8],
) -> Result<(Verified<T>, String), Problem> {
    // A payload in Base64, a signature beside it, and room for how somebody spaces it.
    let longest = 2 * T::LONGEST + (8 << 10);
    if envelope.len() > longest {
        let told = format!("the envelope has {} bytes, more than {longest}", envelope.len());
        return Err(Problem::new(Kind::TooLarge, told)
            .help("sign less at once: several rules may name more items than one"));
    }
    let (ring, keys) = app.store.key_ring(by, tenant).await?;
    let (key, payload) = if passkey::is_envelope(envelope) {
        let opened = signing::asserted(app, by, &ring, &keys, envelope)?;
        (opened.key.id_bytes(), opened.payload)
    } else {
        let trusted: Vec<_> = keys.iter().filter_map(public).collect();
        let opened = attestation::open(envelope, &trusted).map_err(|error| {
            Problem::new(Kind::Refused, error.to_string())
                .help("sign with a key that is registered at /keys: `patchwright consent` does")
        })?;
        (opened.key.id_bytes(), opened.payload)
    };
    let said = Verified::<T>::signed_by(key.into(), &payload)
        .map_err(|error| Problem::new(Kind::Invalid, error.to_string()).help(error.help()))?;
    let text = String::from_utf8(envelope.to_vec())
        .map_err(|_| Problem::new(Kind::Invalid, "the envelope is not UTF-8"))?;
    Ok((said, text))
}

fn public(key: &ConsentKey) -> Option<AttestorKey> {
    (key.kind == KeyKind::Ed25519)
        .then(|| std::str::from_utf8(&key.public_key).ok()?.parse().ok())
        .flatten()
}

/// A key as it was sent, and its id.
fn brought(public_key: &str, kind: KeyKind, label: String) -> Result<NewConsentKey, Problem> {
    let (id, pem) = match kind {
        KeyKind::Ed25519 => {
            let key: AttestorKey = public_key.parse().map_err(|error| {
                odd(
                    &error,
                    "an Ed25519 public key in PEM: `openssl pkey -in KEY -pubout` writes it",
                )
            })?;
            (key.id_bytes(), key.to_string())
        }
        KeyKind::Passkey => {
            let key: PasskeyKey = public_key.parse().map_err(|error| {
                odd(
                    &error,
                    "the passkey's public key in PEM: its person finds it at /session/factors",
                )
            })?;
            (key.id_bytes(), key.to_string())
        }
    };
    let label = checked_text("label", label, 0..=LONGEST_LABEL)?;
    Ok(NewConsentKey { id: id.into(), kind, public_key: pem.into_bytes(), label })
}

fn odd(error: &dyn std::fmt::Display, wanted: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("public_key: {error}")).help(format!("send {wanted}"))
}

pub(super) fn holder(by: &Actor) -> Result<UserId, Problem> {
    match by {
        Actor::Person { user, .. } => Ok(*user),
        Actor::System | Actor::Agent { .. } => {
            Err(Problem::new(Kind::Forbidden, "a person holds a key"))
        }
    }
}

/// Only people of the tenant itself: whoever could add keys could consent.
pub(super) fn of_tenant(by: &Actor, tenant: TenantId) -> Result<(), Problem> {
    if by.tenant() == tenant { Ok(()) } else { Err(Problem::not_found("tenant of yours")) }
}

pub(super) async fn shown(
    app: &App,
    by: &Actor,
    tenant: TenantId,
) -> Result<Json<Vec<Key>>, Problem> {
    let (ring, keys) = app.store.key_ring(by, tenant).await?;
    Ok(Json(list(&ring, &keys)))
}

fn list(ring: &KeyRing, keys: &[ConsentKey]) -> Vec<Key> {
    let of = |known: &domain::change::Key| {
        let kept = keys.iter().find(|key| key.id == known.key.id);
        Key {
            id: known.key.id,
            kind: known.key.kind,
            label: kept.map(|key| key.label.clone()).unwrap_or_default(),
            holder: known.key.holder,
            pem: kept.and_then(|key| String::from_utf8(key.public_key.clone()).ok()),
            since: known.since,
            ended: known.ended,
        }
    };
    ring.keys().map(of).collect()
}

/// List a tenant's keys, those that count no more too.
#[utoipa::path(get, path = "/keys/{id}", tag = "consent", params(("id" = String, Path)),
    responses((status = 200, body = Vec<Key>), Problems))]
async fn keys(
    State(app): State<App>,
    By(by): By<{ Action::ConsentRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Vec<Key>>, Problem> {
    app.store.tenant(&by, tenant).await?;
    shown(&app, &by, tenant).await
}

/// Register one's tenant's first key. Each further one is brought by an order that a key signed.
#[utoipa::path(post, path = "/keys/{id}", tag = "consent", params(("id" = String, Path)),
    request_body = KeyRequest, responses((status = 201, body = Vec<Key>), Problems))]
async fn register(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
    Body(KeyRequest { public_key, kind, label }): Body<KeyRequest>,
) -> Result<impl IntoResponse, Problem> {
    of_tenant(&by, tenant)?;
    let (key, holder) = (brought(&public_key, kind, label)?, holder(&by)?);
    let new = NewKey { id: key.id, kind: key.kind, holder };
    let event = KeyEvent::Register { key: new, by: holder };
    accepted(app.store.alter_keys(&by, tenant, event, Some(key)).await?)?;
    Ok((StatusCode::CREATED, shown(&app, &by, tenant).await?))
}

/// Add, rotate or revoke a key by a signed order.
#[utoipa::path(post, path = "/keys/{id}/orders", tag = "consent", params(("id" = String, Path)),
    request_body = OrderRequest, responses((status = 200, body = Vec<Key>), Problems))]
async fn order(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
    Body(OrderRequest { envelope, public_key, label }): Body<OrderRequest>,
) -> Result<Json<Vec<Key>>, Problem> {
    use domain::change::Order;
    of_tenant(&by, tenant)?;
    let envelope = envelope.to_string();
    let (order, _) = signed::<KeyOrder>(&app, &by, tenant, envelope.as_bytes()).await?;
    let wanted = match order.said().order {
        Order::Add { key } | Order::Rotate { key } => Some(key),
        Order::Revoke { .. } => None,
    };
    let kind = wanted.map_or(KeyKind::Ed25519, |key| key.kind);
    let key = public_key.map(|text| brought(&text, kind, label)).transpose()?;
    if wanted.map(|key| key.id) != key.as_ref().map(|key| key.id) {
        return Err(Problem::new(Kind::Invalid, "`public_key` is not the key of the order").help(
            "send the public key that the order adds or rotates to, and none with a revocation",
        ));
    }
    accepted(app.store.order_keys(&by, tenant, order, key, envelope).await?)?;
    shown(&app, &by, tenant).await
}

/// Revoke a key. That needs no signature: it only makes less happen.
#[utoipa::path(delete, path = "/keys/{id}/{key}", tag = "consent",
    params(("id" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Vec<Key>), Problems))]
async fn revoke(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    axum::extract::Path((tenant, key)): axum::extract::Path<(String, String)>,
) -> Result<Json<Vec<Key>>, Problem> {
    let tenant: TenantId = tenant.parse().map_err(|_| Problem::not_found("tenant of yours"))?;
    of_tenant(&by, tenant)?;
    let key = key.parse().map_err(|_| Problem::not_found("such key"))?;
    let event = KeyEvent::Revoke { key, by: holder(&by)? };
    accepted(app.store.alter_keys(&by, tenant, event, None).await?)?;
    shown(&app, &by, tenant).await
}

/// Ask for a key without a signature, or be the second owner to ask for the same: it counts 72 hours
/// later, unless somebody objects, and ends all others. Both have been owners for 72 hours before the
/// first asked, and nobody reset them since.
#[utoipa::path(post, path = "/keys/{id}/recovery", tag = "consent", params(("id" = String, Path)),
    request_body = KeyRequest, responses((status = 200, body = Vec<Key>), Problems))]
async fn recover(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
    Body(KeyRequest { public_key, kind, label }): Body<KeyRequest>,
) -> Result<Json<Vec<Key>>, Problem> {
    of_tenant(&by, tenant)?;
    let key = brought(&public_key, kind, label)?;
    accepted(app.store.ask_recovery(&by, tenant, key).await?)?;
    shown(&app, &by, tenant).await
}

/// Tell of a recovery that is under way: whoever did not ask for it objects.
#[utoipa::path(get, path = "/keys/{id}/recovery", tag = "consent", params(("id" = String, Path)),
    responses((status = 200, body = RecoveryView), Problems))]
async fn recovery(
    State(app): State<App>,
    By(by): By<{ Action::ConsentRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<RecoveryView>, Problem> {
    app.store.tenant(&by, tenant).await?;
    let (ring, _) = app.store.key_ring(&by, tenant).await?;
    let under_way = ring.recovery().map(RecoveryView::from);
    under_way.map(Json).ok_or_else(|| {
        Problem::not_found("recovery under way").help("two owners ask for one where keys are lost")
    })
}

/// Object to a recovery that is under way.
#[utoipa::path(delete, path = "/keys/{id}/recovery", tag = "consent", params(("id" = String, Path)),
    responses((status = 200, body = Vec<Key>), Problems))]
async fn object(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Vec<Key>>, Problem> {
    of_tenant(&by, tenant)?;
    let event = KeyEvent::Object { by: holder(&by)? };
    accepted(app.store.alter_keys(&by, tenant, event, None).await?)?;
    shown(&app, &by, tenant).await
}

/// Bring a recovery to its end, once its time is over.
#[utoipa::path(post, path = "/keys/{id}/recovery/completion", tag = "consent",
    params(("id" = String, Path)), responses((status = 200, body = Vec<Key>), Problems))]
async fn complete(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Vec<Key>>, Problem> {
    of_tenant(&by, tenant)?;
    accepted(app.store.alter_keys(&by, tenant, KeyEvent::CompleteRecovery, None).await?)?;
    shown(&app, &by, tenant).await
}

/// List the rules by which a tenant agreed ahead.
#[utoipa::path(get, path = "/rules/{id}", tag = "consent", params(("id" = String, Path)),
    responses((status = 200, body = Vec<Rule>), Problems))]
async fn rules(
    State(app): State<App>,
    By(by): By<{ Action::ConsentRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Vec<Rule>>, Problem> {
    app.store.tenant(&by, tenant).await?;
    let rules = app.store.rules(&by, tenant).await?;
    Ok(Json(rules.iter().map(Rule::of).collect::<Result<_, _>>()?))
}

/// Agree ahead for one's tenant: an envelope with the rule, signed by one of its keys.
#[utoipa::path(post, path = "/rules/{id}", tag = "consent", params(("id" = String, Path)),
    request_body = Object, responses((status = 201, body = Rule), Problems))]
async fn agree_ahead(
    State(app): State<App>,
    By(by): By<{ Action::ConsentGive as usize }>,
    Path(tenant): Path<TenantId>,
    bytes: Bytes,
) -> Result<impl IntoResponse, Problem> {
    of_tenant(&by, tenant)?;
    let (rule, envelope) = signed::<StandingRule>(&app, &by, tenant, &bytes).await?;
    let kept = accepted(app.store.add_rule(&by, tenant, rule, envelope).await?)?;
    Ok((StatusCode::CREATED, Json(Rule::of(&kept)?)))
}

/// Take a rule back. That needs no signature: it only makes less happen.
#[utoipa::path(delete, path = "/rules/{id}/{nonce}", tag = "consent",
    params(("id" = String, Path), ("nonce" = String, Path)),
    responses((status = 200, body = Rule), Problems))]
async fn withdraw(
    State(app): State<App>,
    By(by): By<{ Action::ConsentGive as usize }>,
    axum::extract::Path((tenant, nonce)): axum::extract::Path<(String, String)>,
) -> Result<Json<Rule>, Problem> {
    let tenant: TenantId = tenant.parse().map_err(|_| Problem::not_found("tenant of yours"))?;
    of_tenant(&by, tenant)?;
    let nonce: Nonce = given("nonce", &nonce)?;
    Ok(Json(Rule::of(&app.store.withdraw_rule(&by, tenant, nonce).await?)?))
}
