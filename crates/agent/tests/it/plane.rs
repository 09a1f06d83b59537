//! A control plane of nothing but sockets: hands an order out until it is answered, and keeps the answers.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::agent::{HandedOrder, Need, OrderAnswer, ReportAnswer};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use agent::{Identity, State};

use crate::support::id;

/// Longest request that is read, in bytes.
const LARGEST: usize = 64 << 20;

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
}

impl Plane {
    pub(crate) fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&key).unwrap().der().to_vec();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let certificate = params.signed_by(&own, &issuer).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(own.serialize_der().into()))
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let said = Arc::<Mutex<Said>>::default();
        let (tls, known) = (Arc::new(tls), Arc::clone(&said));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, known) = (Arc::clone(&tls), Arc::clone(&known));
                // Whoever is killed in the middle breaks the connection: that is what happens here.
                thread::spawn(move || converse(stream, tls, &known));
            }
        });
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
        *self.said() = Said { order: Some(order), answers: Vec::new() };
    }

    /// What came of it so far.
    pub(crate) fn answers(&self) -> Vec<OrderAnswer> {
        self.said().answers.clone()
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn converse(stream: TcpStream, tls: Arc<ServerConfig>, said: &Mutex<Said>) {
    let Ok(connection) = ServerConnection::new(tls) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    while let Some((path, body)) = request(&mut stream) {
        let answer = said.lock().unwrap_or_else(PoisonError::into_inner).answer(&path, &body);
        let (status, body) = match answer {
            Some(body) => ("200 OK", body),
            None => ("204 No Content", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = [head.into_bytes(), body].concat();
        if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// Path and body of a request; `None` where the connection ends.
fn request(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
        assert!(head.len() < LARGEST);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|(_, value)| value.trim().parse::<usize>().unwrap()).next();
    let mut body = vec![0; length.unwrap_or(0).min(LARGEST)];
    stream.read_exact(&mut body).ok()?;
    Some((path, body))
}

impl Said {
    fn answer(&mut self, path: &str, body: &[u8]) -> Option<Vec<u8>> {
        let json = match path {
            "/agent/v1/report" => {
                let need = if self.order.is_some() { vec![Need::Orders] } else { Vec::new() };
                let answer = ReportAnswer { need, interval: 60, now: Timestamp::now() };
                serde_json::to_vec(&answer)
            }
            "/agent/v1/orders/next" => serde_json::to_vec(self.order.as_ref()?),
            "/agent/v1/orders/answer" => {
                self.answers.push(serde_json::from_slice(body).unwrap());
                self.order = None;
                return None;
            }
            other => panic!("nobody asks for {other}"),
        };
        Some(json.unwrap())
    }
}
