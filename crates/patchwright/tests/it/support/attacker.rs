//! Somebody who holds all of the control plane: its keys out of its store, and the door through which
//! agents come.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::agent::{HandedOrder, Need, OrderAnswer, ReportAnswer};
use domain::change::{Decision, Draft, FileHash, Nonce, Payload, Plan, Statement, Verified};
use domain::order::{Bundle, Order};
use jiff::{SignedDuration, Timestamp};
use ledger::attestation::{self, Attestor, AttestorKey};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use store::{Database, MasterKey, SteadySystem, Store, System};

use crate::sockets::{self, Request};

/// PKCS #8 before an Ed25519 seed (RFC 8410, section 7).
const ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The attacker, with the provider's order key.
pub(crate) struct Attacker {
    /// Where agents connect, and meet a certificate of the control plane's own authority.
    pub(crate) url: String,
    orders: Attestor,
    hand: Arc<Mutex<Hand>>,
}

/// What the attacker does with what passes.
#[derive(Default)]
struct Hand {
    /// The last order that the control plane really gave.
    honest: Option<HandedOrder>,
    next: Next,
    answers: Vec<OrderAnswer>,
}

/// What an agent gets that asks for orders.
#[derive(Default)]
enum Next {
    /// What the control plane gives.
    #[default]
    Honest,
    /// Nothing.
    Nothing,
    /// This, once.
    Forged(Vec<u8>),
}

impl Attacker {
    /// Takes the keys out of a control plane's data, as whoever has the machine can, and opens a door of
    /// their own before its proxy's. A token says which authority agents believe.
    pub(crate) fn rob(data: &Path, proxy: &str, token: &str) -> Self {
        let loot = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(data).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), loot.path().join(entry.file_name())).unwrap();
            }
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (orders, authority) = runtime.block_on(async {
            let master = MasterKey::open(&loot.path().join("master.key"), &System).unwrap();
            let database = Database::file(&loot.path().join("patchwright.db"));
            let store = Store::open(&database, Arc::new(SteadySystem::default())).await.unwrap();
            let master = Arc::new(master);
            let orders = store.key(&master, "orders").await.unwrap();
            (*orders, *store.key(&master, "agents.authority").await.unwrap())
        });
        let certificate = token.split_once('.').unwrap().1;
        let certificate = BASE64_URL_SAFE_NO_PAD.decode(certificate).unwrap();
        let hand = Arc::<Mutex<Hand>>::default();
        let (shared, proxy) = (Arc::clone(&hand), proxy.to_owned());
        let door = door(&authority, certificate.into());
        let address = sockets::serve(door, move |request| pass(&shared, &proxy, &request));
        Self { url: format!("https://{address}"), orders: Attestor::new(&orders), hand }
    }

    /// Agents get what the control plane gives.
    pub(crate) fn lets_pass(&self) {
        self.hand().next = Next::Honest;
    }

    /// Agents get nothing, and the attacker has what they would have got.
    pub(crate) fn keeps_back(&self) {
        self.hand().next = Next::Nothing;
    }

    /// The next agent gets this in place of an order.
    pub(crate) fn shows(&self, bytes: Vec<u8>) {
        self.hand().next = Next::Forged(bytes);
    }

    /// Whether somebody got it.
    pub(crate) fn has_shown(&self) -> bool {
        matches!(self.hand().next, Next::Nothing)
    }

    /// What agents answered since this was asked last.
    pub(crate) fn hears(&self) -> Vec<OrderAnswer> {
        std::mem::take(&mut self.hand().answers)
    }

    /// What can be made of the last order that the control plane really gave; `None` where it gave none.
    pub(crate) fn forger(&self) -> Option<Forger> {
        let honest = self.hand().honest.clone()?;
        let read = |key: &String| key.parse::<AttestorKey>().ok();
        let keys: Vec<_> = honest.bundle.public_keys.iter().filter_map(read).collect();
        let (order, consent) =
            (said(&honest.bundle.order, &keys), said(&honest.bundle.consents[0], &keys));
        let plan = Plan::parse(honest.bundle.plan.as_bytes()).unwrap();
        let key = Attestor::new(&[66; 32]);
        Some(Forger { orders: self.orders.clone(), own: key, honest, order, consent, plan })
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the provider's order key lets somebody make of an honest order.
pub(crate) struct Forger {
    orders: Attestor,
    /// A key of the attacker's own, that nobody registered.
    pub(crate) own: Attestor,
    pub(crate) honest: HandedOrder,
    /// What the honest order says.
    pub(crate) order: Order,
    /// What the tenant said.
    pub(crate) consent: Statement,
    pub(crate) plan: Plan,
}

impl Forger {
    /// The honest order under another nonce and a higher number, issued now.
    pub(crate) fn anew(&self, number: u64) -> Order {
        let mut nonce = [0x66; 16];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        Order {
            nonce: Nonce::from(nonce),
            sequence: self.order.sequence + number,
            issued_at: now,
            expires: now + SignedDuration::from_hours(1),
            ..self.order.clone()
        }
    }

    /// An order, signed with the stolen key; all else is honest.
    pub(crate) fn hand(&self, order: &Order) -> HandedOrder {
        let bundle = Bundle { order: envelope(&self.orders, order), ..self.honest.bundle.clone() };
        HandedOrder { order: order.nonce, bundle }
    }

    /// An order by another plan for the same host, with consents by whoever signs them.
    pub(crate) fn by_another_plan(
        &self,
        number: u64,
        signer: &Attestor,
        alter: impl FnOnce(&mut Draft),
    ) -> HandedOrder {
        let mut draft = self.plan.draft().clone();
        alter(&mut draft);
        let plan = Plan::new(draft).unwrap();
        let place = usize::try_from(self.order.stage).unwrap() - 1;
        let items = &plan.draft().stages[place].items;
        let item = items.iter().find(|item| item.ci == self.order.ci).unwrap();
        let mut order = self.anew(number);
        (order.plan, order.actions) = (plan.hash(), item.actions.clone());
        let consent = Statement {
            plan: plan.hash(),
            decision: Decision::Approve,
            nonce: order.nonce,
            given_at: order.issued_at,
            ..self.consent.clone()
        };
        let mut handed = self.hand(&order);
        handed.bundle.plan = String::from_utf8(plan.to_bytes()).unwrap();
        handed.bundle.consents = vec![envelope(signer, &consent)];
        handed
    }

    /// The honest order, plan and consent with some text in them replaced, as nothing that reads them would
    /// write them: signed anew, by the stolen key and by whoever signs consents.
    pub(crate) fn spelled(
        &self,
        number: u64,
        signer: &Attestor,
        from: &str,
        to: &str,
    ) -> HandedOrder {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let order = self.anew(number);
        let plan = text(self.plan.to_bytes());
        assert!(plan.contains(from), "{from} stands in no plan: {plan}");
        let plan = plan.replace(from, to);
        let hash = Sha256::digest(plan.as_bytes());
        let hash = FileHash::from(<[u8; 32]>::from(hash)).to_string();
        let ours = self.plan.hash().to_string();
        let replaced = |payload: Vec<u8>| text(payload).replace(&ours, &hash).replace(from, to);
        let consent = Statement { nonce: order.nonce, ..self.consent.clone() };
        let (ordered, agreed) = (replaced(order.to_payload()), replaced(consent.to_payload()));
        let mut handed = self.hand(&order);
        handed.bundle.order = sealed(&self.orders, ordered.as_bytes());
        handed.bundle.plan = plan;
        handed.bundle.consents = vec![sealed(signer, agreed.as_bytes())];
        handed
    }
}

pub(crate) fn envelope(by: &Attestor, said: &impl Payload) -> String {
    sealed(by, &said.to_payload())
}

fn sealed(by: &Attestor, payload: &[u8]) -> String {
    serde_json::to_string(&by.sign(payload).unwrap()).unwrap()
}

fn said<T: Payload + Clone>(envelope: &str, keys: &[AttestorKey]) -> T {
    let opened = attestation::open(envelope.as_bytes(), keys).unwrap();
    let key = opened.key.id_bytes().into();
    Verified::<T>::signed_by(key, &opened.payload).unwrap().said().clone()
}

/// TLS as the control plane's own listener speaks it.
fn door(seed: &[u8; 32], certificate: CertificateDer<'static>) -> ServerConfig {
    let key = [&ED25519[..], seed].concat();
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key)).unwrap();
    let issuer = Issuer::from_ca_cert_der(&certificate, key).unwrap();
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let chain = vec![params.signed_by(&own, &issuer).unwrap().der().clone(), certificate.clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(own.serialize_der().into()))
        .unwrap()
}

/// Passes a request on to the control plane, and looks at what comes back.
fn pass(hand: &Mutex<Hand>, proxy: &str, request: &Request) -> (u16, Vec<u8>) {
    let (status, body) = forward(proxy, request);
    let mut hand = hand.lock().unwrap_or_else(PoisonError::into_inner);
    match request.path.as_str() {
        "/agent/v1/report" if status == 200 && matches!(hand.next, Next::Forged(_)) => {
            let mut answer: ReportAnswer = serde_json::from_slice(&body).unwrap();
            if !answer.need.contains(&Need::Orders) {
                answer.need.push(Need::Orders);
            }
            (status, serde_json::to_vec(&answer).unwrap())
        }
        "/agent/v1/orders/next" => {
            if status == 200 {
                hand.honest = Some(serde_json::from_slice(&body).unwrap());
            }
            match std::mem::take(&mut hand.next) {
                Next::Honest => (status, body),
                Next::Nothing => {
                    hand.next = Next::Nothing;
                    (204, Vec::new())
                }
                Next::Forged(bytes) => {
                    hand.next = Next::Nothing;
                    (200, bytes)
                }
            }
        }
        "/agent/v1/orders/answer" => {
            hand.answers.push(serde_json::from_slice(&request.body).unwrap());
            (status, body)
        }
        _ => (status, body),
    }
}

fn forward(proxy: &str, request: &Request) -> (u16, Vec<u8>) {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let address = format!("{proxy}{}", request.path);
    let mut forwarded = match request.method.as_str() {
        "PUT" => agent.put(address),
        _ => agent.post(address),
    };
    if let Some(certificate) = &request.certificate {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        let key = Sha256::digest(parsed.tbs_certificate.subject_pki.raw);
        let key = FileHash::from(<[u8; 32]>::from(key)).to_string();
        forwarded = forwarded.header("x-patchwright-agent-key", key);
    }
    let mut answer =
        forwarded.header("content-type", "application/json").send(&request.body).unwrap();
    let body = answer.body_mut().with_config().limit(96 << 20).read_to_vec().unwrap();
    (answer.status().as_u16(), body)
}
