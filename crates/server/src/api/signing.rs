//! What passkeys sign: one's own as keys of a tenant, and the bytes that they are asked to sign.
//!
//! Nothing is remembered between the halves of a ceremony: what must hold stands in what is signed
//! (change, plan, tenant, time, a number used once), so that its other half is the same request as with
//! a key that signs elsewhere, and the evidence is the same to whoever verifies it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use domain::change::{
    Decision, KeyEvent, KeyId, KeyKind, KeyOrder, KeyRing, NewKey, Nonce, Order, Payload, PlanHash,
    Share, Statement,
};
use domain::cloud::{PasskeyId, TenantId, UserId};
use ledger::passkey::{self, Opened, PasskeyKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Actor, ConsentKey, Factors, NewConsentKey, Passkey};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::changes::accepted;
use super::consent::{Key, LONGEST_LABEL, holder, of_tenant, shown};
use super::obligations::Which;
use super::{Body, Path, Problems, checked_text, given};
use crate::App;
use crate::gate::{Action, By};
use crate::passkeys::public_key;
use crate::problem::{Kind, Problem};

/// How long a browser waits for its user, in milliseconds. What is signed counts for as long again.
const PATIENCE: u32 = 300_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register_passkey))
        .routes(routes!(begin_order))
        .routes(routes!(begin_answer))
}

/// Which of one's own passkeys is to sign for one's tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyNamed {
    #[schema(value_type = String, example = "pky_01h455vb4pex5vsknk084sn02q")]
    passkey: PasskeyId,
    /// What people call it as a key; its own name where it is left out.
    #[schema(max_length = 100)]
    label: Option<String>,
}

/// An order about a tenant's keys that a passkey is to sign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderMeant {
    /// `{"do": "add" | "rotate", "key": {"id", "kind", "holder"}}` or `{"do": "revoke", "key": id}`.
    #[schema(value_type = Object)]
    order: Order,
}

/// An answer to a plan that a passkey is to sign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerMeant {
    /// The hash of the plan that one read.
    plan: String,
    /// `{"is": "approve"}`, `{"is": "defer", "until", "acceptance"}` or `{"is": "refuse",
    /// "acceptance"}`, with `acceptance` `{"reason", "risk_owner", "expiry"}`.
    #[schema(value_type = Object)]
    decision: Decision,
}

/// What a passkey is to sign.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToSign {
    /// The statement, in base64: the very bytes. Read them before they are signed.
    payload: String,
    /// What they are.
    #[schema(example = "application/vnd.in-toto+json")]
    payload_type: &'static str,
    /// For `PublicKeyCredential.parseRequestOptionsFromJSON`. The challenge is SHA-256 of the DSSE
    /// pre-authentication encoding of the payload.
    #[schema(value_type = Object)]
    options: serde_json::Value,
    /// The passkeys that may sign, as keys of the tenant.
    keys: Vec<Signer>,
}

/// A passkey, and the tenant's key that it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Signer {
    /// The authenticator's name for it, in base64url.
    credential: String,
    /// `keyid` of the envelope.
    #[schema(value_type = String)]
    key: KeyId,
}

/// A passkey of somebody, as a key.
pub(crate) fn key_of(passkey: &Passkey) -> Option<(KeyId, PasskeyKey)> {
    let key = public_key(passkey).ok()?;
    Some((key.id_bytes().into(), key))
}

/// Those of somebody's passkeys that sign for a tenant now.
pub(crate) fn signers<'a>(
    factors: &'a Factors,
    ring: &KeyRing,
    user: UserId,
) -> Vec<(&'a Passkey, KeyId)> {
    let signs = |passkey: &'a Passkey| {
        let (id, _) = key_of(passkey)?;
        let known = ring.in_force(id).ok()?.key;
        (known.kind == KeyKind::Passkey && known.holder == user).then_some((passkey, id))
    };
    factors.passkeys.iter().filter_map(signs).collect()
}

/// What an envelope with an assertion holds, once a passkey of the caller's own is seen to have signed
/// it here. Somebody else's counts only in their own hands: it was signed in their session.
pub(super) fn asserted(
    app: &App,
    by: &Actor,
    ring: &KeyRing,
    keys: &[ConsentKey],
    envelope: &[u8],
) -> Result<Opened, Problem> {
    let read = |key: &ConsentKey| std::str::from_utf8(&key.public_key).ok()?.parse().ok();
    let trusted: Vec<PasskeyKey> =
        keys.iter().filter(|key| key.kind == KeyKind::Passkey).filter_map(read).collect();
    let opened = passkey::open(envelope, &trusted, &[app.relying_party.site()?])
        .map_err(|error| Problem::new(Kind::Refused, error.to_string()).help(error.help()))?;
    let (id, caller) = (KeyId::from(opened.key.id_bytes()), holder(by)?);
    let is_own = ring.keys().any(|known| known.key.id == id && known.key.holder == caller);
    if !is_own {
        return Err(Problem::new(Kind::Refused, format!("the passkey {id} is another person's"))
            .help("sign with a passkey of your own, or have them answer"));
    }
    Ok(opened)
}

/// The first half: the bytes, and what the browser is to ask its user's authenticator.
async fn begin<T: Payload>(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    said: &T,
) -> Result<Json<ToSign>, Problem> {
    let user = holder(by)?;
    let site = app.relying_party.site()?;
    let (ring, _) = app.store.key_ring(by, tenant).await?;
    let factors = app.store.factors(user).await?;
    let signer = |(passkey, key): (&Passkey, KeyId)| Signer {
        credential: BASE64_URL_SAFE_NO_PAD.encode(&passkey.credential),
        key,
    };
    let keys: Vec<_> = signers(&factors, &ring, user).into_iter().map(signer).collect();
    if keys.is_empty() {
        return Err(Problem::new(Kind::Refused, "none of your passkeys is a key of your tenant")
            .help(
                "the first key is registered with POST /keys/{tenant}/passkey; a later one is \
                 brought by an order that a key in force signs",
            ));
    }
    let payload = said.to_payload();
    let allowed: Vec<_> =
        keys.iter().map(|it| json!({ "type": "public-key", "id": it.credential })).collect();
    let options = json!({
        "challenge": BASE64_URL_SAFE_NO_PAD.encode(passkey::challenge(&payload)),
        "rpId": site.rp_id(), "allowCredentials": allowed, "userVerification": "required",
        "timeout": PATIENCE,
    });
    let payload_type = ledger::attestation::PAYLOAD_TYPE;
    Ok(Json(ToSign { payload: BASE64_STANDARD.encode(payload), payload_type, options, keys }))
}

/// Register one of one's own passkeys as one's tenant's first key. Each further one is brought by an
/// order that a key signed.
#[utoipa::path(post, path = "/keys/{id}/passkey", tag = "consent", params(("id" = String, Path)),
    request_body = PasskeyNamed, responses((status = 201, body = Vec<Key>), Problems))]
async fn register_passkey(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
    Body(PasskeyNamed { passkey, label }): Body<PasskeyNamed>,
) -> Result<impl IntoResponse, Problem> {
    of_tenant(&by, tenant)?;
    let holder = holder(&by)?;
    let factors = app.store.factors(holder).await?;
    let own = factors.passkeys.iter().find(|it| it.id == passkey);
    let own = own.ok_or_else(|| {
        Problem::not_found("such passkey of yours").help("add it on the page of your account")
    })?;
    let key = public_key(own)?;
    let label = checked_text("label", label.unwrap_or_else(|| named(own)), 0..=LONGEST_LABEL)?;
    let new = NewKey { id: key.id_bytes().into(), kind: KeyKind::Passkey, holder };
    let public_key = key.to_string().into_bytes();
    let kept = NewConsentKey { id: new.id, kind: new.kind, public_key, label };
    let event = KeyEvent::Register { key: new, by: holder };
    accepted(app.store.alter_keys(&by, tenant, event, Some(kept)).await?)?;
    Ok((StatusCode::CREATED, shown(&app, &by, tenant).await?))
}

/// A passkey's own name, as far as a label goes.
fn named(passkey: &Passkey) -> String {
    let mut label = passkey.name.to_string();
    while label.len() > LONGEST_LABEL {
        label.pop();
    }
    label
}

/// Begin an order about one's tenant's keys with a passkey; the envelope goes to `/keys/{id}/orders`.
#[utoipa::path(post, path = "/keys/{id}/orders/passkey", tag = "consent",
    params(("id" = String, Path)), request_body = OrderMeant,
    responses((status = 200, body = ToSign), Problems))]
async fn begin_order(
    State(app): State<App>,
    By(by): By<{ Action::ConsentKeys as usize }>,
    Path(tenant): Path<TenantId>,
    Body(OrderMeant { order }): Body<OrderMeant>,
) -> Result<Json<ToSign>, Problem> {
    of_tenant(&by, tenant)?;
    let order = KeyOrder { tenant, order, nonce: Nonce::from(app.random()) };
    begin(&app, &by, tenant, &order).await
}

/// Begin an answer to a plan with a passkey; the envelope goes to `…/answer`, within ten minutes.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/answer/passkey", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = AnswerMeant,
    responses((status = 200, body = ToSign), Problems))]
async fn begin_answer(
    State(app): State<App>,
    By(by): By<{ Action::ConsentGive as usize }>,
    Which { change, tenant }: Which,
    Body(AnswerMeant { plan, decision }): Body<AnswerMeant>,
) -> Result<Json<ToSign>, Problem> {
    let plan: PlanHash = given("plan", &plan)?;
    let matter = app.store.matter(&by, change, tenant).await?;
    let in_force = matter.obligation.share().map(Share::plan);
    if in_force.is_none_or(|in_force| in_force.hash() != plan) {
        return Err(Problem::new(
            Kind::Refused,
            format!("the plan {plan} is not the one in force"),
        )
        .help("read the plan in force, and answer that"));
    }
    let given_at = app.store.environment().now();
    decision
        .makes_sense(given_at)
        .map_err(|refusal| Problem::new(Kind::Refused, refusal.to_string()).help(refusal.help()))?;
    let nonce = Nonce::from(app.random());
    begin(&app, &by, tenant, &Statement { change, plan, tenant, decision, given_at, nonce }).await
}
