//! What agents pin, the orders that they fetch, and what came of them.
//!
//! An order is signed at the moment in which an agent first fetches it, with the provider's order key,
//! which is sealed in the store. The agent does not trust us for it: with the order go the plan's bytes
//! and all that the tenant signed (`docs/orders.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::agent::{HandedOrder, OrderAnswer, OrderProgress, PinsOffered, PinsRequest};
use domain::change::alteration::back;
use domain::change::{CLOCK_TOLERANCE, FileHash, KeyId, Payload as _, Verified, Window};
use domain::cloud::Duty;
use domain::order::{Bundle, Demand, Handover, LONGEST_LIFE, Order, OrderResult, Ranking, Terms};
use domain::priority::Priority;
use domain::sla::{Asked, Policy, Silence};
use jiff::Timestamp;
use ledger::attestation::{self, Attestor, AttestorKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use store::{Actor, Answered, Fetched, Issued, NewOrderKey, OrderHandover, OrderKeys};
use zeroize::Zeroizing;

use super::{Agents, Believed, Body, Said};
use crate::problem::{Kind, Problem};

/// Largest public key taken, in bytes of PEM.
const LARGEST_KEY: usize = 4 << 10;

/// Asks for the next order; there is nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {}

/// Notes the key with which an agent signs, and says what it might pin.
pub(super) async fn pins(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(PinsRequest { attestor }): Body<PinsRequest>,
) -> Result<Json<PinsOffered>, Problem> {
    let wrong = |detail: &str| {
        Problem::new(Kind::Invalid, detail).help("send an Ed25519 public key in PEM (RFC 8410)")
    };
    if attestor.len() > LARGEST_KEY {
        return Err(wrong("attestor: it is too long for a key"));
    }
    let key: AttestorKey = attestor.parse().map_err(|_| wrong("attestor: it is no public key"))?;
    let actor = by.actor();
    agents.store.pin_attestor(&actor, by.agent.id, key.to_string()).await?;
    let (ring, _) = agents.store.key_ring(&actor, by.agent.tenant).await?;
    let policy = agents.store.policy_in_force(&actor, by.agent.tenant).await?;
    let ci = agents.store.ci(&actor, by.agent.ci).await?;
    let signer = agents.signer().await?;
    Ok(Json(PinsOffered {
        order_keys: BTreeSet::from([key_id(&signer.attestor.key())]),
        order_key_version: signer.version,
        consent_keys: ring,
        origins: agents.origins.clone(),
        terms: terms(ci.duty, &policy),
    }))
}

/// What has to be signed before an item is altered, as far as the SLA says it without anybody's word on
/// how urgent something is: where one priority goes on without a signature, whoever ranks patches could
/// have any of them go on without.
fn terms(duty: Duty, policy: &Policy) -> Terms {
    let waits = |asked: Asked| matches!(asked, Asked::Required { silence: Silence::Waits, .. });
    let priorities = [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];
    let always_signed = priorities.into_iter().all(|priority| {
        let terms = policy.terms(priority);
        let in_emergency = terms.emergency.and_then(|it| it.approval);
        waits(terms.approval) && in_emergency.is_none_or(waits)
    });
    let demand = |is_signed| if is_signed { Demand::Signature } else { Demand::Nothing };
    let is_tenants = duty == Duty::Tenant;
    Terms {
        patches: demand(is_tenants && always_signed),
        alterations: demand(is_tenants),
        ranking: Ranking::Unproven,
    }
}

/// The order that waits for an agent.
pub(super) async fn next(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(Next {}): Body<Next>,
) -> Result<Response, Problem> {
    let actor = by.actor();
    let Some(fetched) = agents.store.order_for(&actor).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let signer = agents.signer().await?;
    let envelope = if let Some(envelope) = fetched.envelope.clone() {
        envelope
    } else {
        let envelope = signer.sign(&by, &fetched, agents.store.environment().now())?;
        let (nonce, sequence, key_version) = (fetched.nonce, fetched.sequence, signer.version);
        let issued = Issued { nonce, sequence, key_version, envelope };
        agents.store.issue_order(&actor, issued).await?
    };
    let contents = agents.history.order_contents(&actor, &fetched).await?;
    let mut public_keys = fetched.public_keys;
    public_keys.extend(signer.public_keys);
    let bundle = Bundle {
        order: envelope,
        plan: String::from_utf8_lossy(&fetched.plan.to_bytes()).into_owned(),
        consents: fetched.consents,
        rules: fetched.rules,
        public_keys,
        key_orders: fetched.key_orders,
        revoked: fetched.revoked,
        handovers: signer.handovers,
        contents: contents.iter().map(|content| BASE64_STANDARD.encode(content)).collect(),
    };
    Ok(Json(HandedOrder { order: fetched.nonce, bundle }).into_response())
}

/// How far an agent is with an order.
pub(super) async fn progress(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(progress): Body<OrderProgress>,
) -> Result<StatusCode, Problem> {
    if agents.says_too_often(by.agent.id, Said::Progress) {
        return Err(Problem::new(Kind::TooMany, "too much was said of orders in a short time")
            .help("see `patchwright agent orders` on the host"));
    }
    agents.store.note_progress(&by.actor(), progress).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of an order.
pub(super) async fn answer(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(answer): Body<OrderAnswer>,
) -> Result<StatusCode, Problem> {
    if agents.says_too_often(by.agent.id, Said::Answer) {
        return Err(Problem::new(Kind::TooMany, "too many orders were answered in a short time")
            .help("see `patchwright agent orders` on the host: somebody floods it with orders"));
    }
    let (result, digest) = match &answer {
        OrderAnswer::Refused { .. } => (None, None),
        OrderAnswer::Ended { order, envelope } => {
            let result = agents.open_result(&by, envelope).await?;
            if result.order != *order || result.agent != by.agent.id || result.ci != by.agent.ci {
                return Err(Problem::new(Kind::Invalid, "the result is of another order or agent")
                    .help("answer each order with its own result"));
            }
            let digest = <[u8; 32]>::from(Sha256::digest(envelope.as_bytes()));
            (Some(result), Some(FileHash::from(digest)))
        }
    };
    agents.store.answer_order(&by.actor(), Answered { answer, result, digest }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who signs orders at the moment, and how it came to that.
struct Signer {
    attestor: Attestor,
    version: u64,
    handovers: Vec<String>,
    /// All keys that sign the handovers, and the one in force.
    public_keys: Vec<String>,
}

impl Signer {
    /// Signs an order for an agent.
    fn sign(&self, by: &Believed, fetched: &Fetched, now: Timestamp) -> Result<String, Problem> {
        let gone = || Problem::not_found("such order");
        let place = usize::try_from(fetched.stage).map_err(|_| gone())?;
        let stage = fetched.plan.draft().stages.get(place).ok_or_else(gone)?;
        let item = stage.items.iter().find(|item| item.ci == by.agent.ci).ok_or_else(gone)?;
        let latest = now.checked_add(LONGEST_LIFE).unwrap_or(stage.window.until);
        let (window, actions) = if fetched.is_back {
            // Windows do not bound the way back.
            let from = now.checked_sub(CLOCK_TOLERANCE).unwrap_or(now);
            (Window { from, until: latest }, back(&item.actions).ok_or_else(gone)?)
        } else {
            (stage.window, item.actions.clone())
        };
        let order = Order {
            agent: by.agent.id,
            ci: by.agent.ci,
            plan: fetched.plan.hash(),
            // People count stages from 1.
            stage: fetched.stage + 1,
            window,
            actions,
            priority: fetched.priority,
            sequence: fetched.sequence,
            issued_at: now,
            expires: window.until.min(latest),
            nonce: fetched.nonce,
        };
        envelope(&self.attestor, &order.to_payload())
    }
}

impl Agents {
    /// Whoever has the key of orders; another process may have handed it over.
    async fn signer(&self) -> Result<Signer, Problem> {
        let OrderKeys { version, secret, handovers, before } =
            self.store.signing_keys(&self.master).await?;
        let first = Attestor::new(&before).key().to_string();
        let named = handovers.iter().map(|it| it.public_key.clone());
        Ok(Signer {
            attestor: Attestor::new(&secret),
            version,
            public_keys: [first].into_iter().chain(named).collect(),
            handovers: handovers.into_iter().map(|it| it.envelope).collect(),
        })
    }

    /// The key that signs orders, and which version that is.
    pub(crate) async fn order_key(&self) -> Result<(u64, AttestorKey), Problem> {
        let signer = self.signer().await?;
        Ok((signer.version, signer.attestor.key()))
    }

    /// Hands the key of orders over to a new one, which counts from now on. `after` is the version that is
    /// in force.
    pub(crate) async fn hand_orders_over(&self, by: &Actor, after: u64) -> Result<(), Problem> {
        let signer = self.signer().await?;
        let secret = Zeroizing::new(self.random::<32>());
        let new = Attestor::new(&secret).key();
        let (id, version) = (key_id(&new), after.saturating_add(1));
        let said = Handover { version, keys: BTreeSet::from([id]) };
        let envelope = envelope(&signer.attestor, &said.to_payload())?;
        let handover = OrderHandover { version, public_key: new.to_string(), envelope };
        let new = NewOrderKey { secret, id, handover };
        self.store.hand_orders_over(by, &self.master, new).await?;
        Ok(())
    }

    /// What an agent signed, with the key that it pinned here.
    async fn open_result(&self, by: &Believed, envelope: &str) -> Result<OrderResult, Problem> {
        let wrong = |detail: String| {
            Problem::new(Kind::Invalid, detail)
                .help("sign the result with the key that was sent with `patchwright agent pin`")
        };
        let key = self.store.attestor_of(by.agent.id).await?;
        let key = key.ok_or_else(|| wrong("this agent named no key to sign with".to_owned()))?;
        let key: AttestorKey =
            key.parse().map_err(|_| wrong("the agent's key cannot be read".to_owned()))?;
        let opened = attestation::open(envelope.as_bytes(), &[key])
            .map_err(|error| wrong(format!("envelope: {error}")))?;
        let said = Verified::<OrderResult>::signed_by(key_id(&opened.key), &opened.payload)
            .map_err(|error| wrong(format!("envelope: {error}")))?;
        Ok(said.said().clone())
    }
}

fn envelope(by: &Attestor, payload: &[u8]) -> Result<String, Problem> {
    let envelope = by.sign(payload).map_err(|error| broken(&error))?;
    serde_json::to_string(&envelope).map_err(|error| broken(&error))
}

fn key_id(key: &AttestorKey) -> KeyId {
    KeyId::from(key.id_bytes())
}

fn broken(error: &impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "an order cannot be signed");
    Problem::new(Kind::Internal, "the order cannot be signed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_offered_where_nothing_goes_on_without_one() {
        let usual = Policy::builtin("x1642-default").unwrap();
        assert_eq!(terms(Duty::Tenant, usual).patches, Demand::Nothing);
        assert_eq!(terms(Duty::Tenant, usual).alterations, Demand::Signature);
        assert_eq!(terms(Duty::Provider, usual).alterations, Demand::Nothing);

        // Each priority by itself decides: where one goes on without, whoever ranks could have all do so.
        let strict = |weak: Option<&str>| {
            let rule = |priority: &str| {
                let silence = if weak == Some(priority) { "approves" } else { "waits" };
                format!(
                    "[{priority}]\nsoak = \"0h\"\nnotice = {{ lead = \"1d\" }}\n\
                     approval = {{ mode = \"required\", answer = \"1d\", silence = \"{silence}\" }}\n"
                )
            };
            let rules = ["critical", "high", "medium", "low"].map(rule).concat();
            usual.negotiate(&format!("version = \"strict\"\n\n{rules}")).unwrap()
        };
        assert_eq!(terms(Duty::Tenant, &strict(None)).patches, Demand::Signature);
        assert_eq!(terms(Duty::Tenant, &strict(None)).alterations, Demand::Signature);
        assert_eq!(terms(Duty::Provider, &strict(None)).patches, Demand::Nothing);
        for weak in ["critical", "high", "medium", "low"] {
            assert_eq!(terms(Duty::Tenant, &strict(Some(weak))).patches, Demand::Nothing, "{weak}");
        }
    }
}
