//! A control plane of nothing but sockets: hands an order out until it is answered, and keeps the answers.

#![allow(dead_code, reason = "each of those who use it use their part")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::agent::{AtWork, Facts, HandedOrder, Need, OrderAnswer, OrderProgress, ReportAnswer};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use agent::{Identity, State};

use crate::sockets::{self, Request};
use crate::support::id;

/// A control plane that gives one order at a time. It ends with the test.
pub(crate) struct Plane {
    url: String,
    authority: Vec<u8>,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    order: Option<HandedOrder>,
    answers: Vec<OrderAnswer>,
    began: Vec<(AtWork, Instant)>,
    facts: Option<Facts>,
}

impl Plane {
    /// One that agents of this machine reach.
    pub(crate) fn start() -> Self {
        Self::seen_at(Ipv4Addr::LOCALHOST)
    }

    /// One on this machine's loopback, which agents reach at this address.
    pub(crate) fn seen_at(address: Ipv4Addr) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
        let certificate = params.signed_by(&own, &issuer).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(own.serialize_der().into()))
            .unwrap();
        let said = Arc::<Mutex<Said>>::default();
        let known = Arc::clone(&said);
        let listens = sockets::serve(tls, move |request| {
            let mut said = known.lock().unwrap_or_else(PoisonError::into_inner);
            match said.answer(&request) {
                Some(json) => (200, json),
                None => (204, Vec::new()),
            }
        });
        let url = format!("https://{address}:{}", listens.port());
        Self { url, authority, said }
    }

    /// Makes an agent's state that of one which joined here.
    pub(crate) fn join(&self, state: &State) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
        let identity = Identity {
            url: self.url.clone(),
            agent: id(5),
            ci: id(3),
            authority: BASE64_URL_SAFE_NO_PAD.encode(&self.authority),
            certificate,
            expires_at: Timestamp::now() + SignedDuration::from_hours(24 * 300),
        };
        let file = |name: &str| state.directory().join(name);
        std::fs::write(file("identity.json"), serde_json::to_vec(&identity).unwrap()).unwrap();
        std::fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    }

    /// Hands this order out from now on, until it is answered.
    pub(crate) fn hand(&self, order: HandedOrder) {
        *self.said() = Said { order: Some(order), ..Said::default() };
    }

    /// What came of it so far.
    pub(crate) fn answers(&self) -> Vec<OrderAnswer> {
        self.said().answers.clone()
    }

    /// What began when, of this order.
    pub(crate) fn began(&self) -> Vec<(AtWork, Instant)> {
        self.said().began.clone()
    }

    /// What an agent said last that runs there.
    pub(crate) fn facts(&self) -> Option<Facts> {
        self.said().facts.clone()
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let json = match request.path.as_str() {
            "/agent/v1/report" => {
                let orders = self.order.is_some().then_some(Need::Orders);
                let need = [Need::Facts].into_iter().chain(orders).collect();
                let answer = ReportAnswer { need, interval: 60, now: Timestamp::now() };
                serde_json::to_vec(&answer)
            }
            "/agent/v1/facts" => {
                self.facts = Some(serde_json::from_slice(&request.body).unwrap());
                return None;
            }
            "/agent/v1/orders/next" => serde_json::to_vec(self.order.as_ref()?),
            "/agent/v1/orders/progress" => {
                let OrderProgress { at, .. } = serde_json::from_slice(&request.body).unwrap();
                self.began.push((at, Instant::now()));
                return None;
            }
            "/agent/v1/orders/answer" => {
                self.answers.push(serde_json::from_slice(&request.body).unwrap());
                self.order = None;
                return None;
            }
            other => panic!("nobody asks for {other}"),
        };
        Some(json.unwrap())
    }
}
