//! An OpenID Connect provider of the tests' own, which says what it is told to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const CLIENT: &str = "patchwright";
pub(crate) const SECRET: &str = "a secret of the client";

/// How a token is spoilt before it is signed: its header, its claims.
pub(crate) type Spoil = Box<dyn Fn(&mut Value, &mut Value) + Send>;

/// An answer in place of a document: status, headers, body.
type Instead = (StatusCode, Vec<(String, String)>, String);

/// A provider that runs.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Number of the key that signs, and of those that are published.
    signs: u8,
    published: Vec<u8>,
    metadata: Value,
    /// What is answered in place of a document, by path.
    instead: HashMap<String, Instead>,
    codes: HashMap<String, (HashMap<String, String>, Value)>,
    spoil: Option<Spoil>,
    issued: u32,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA", "RS256"],
        });
        let inner = Inner {
            signs: 1,
            published: vec![1],
            metadata,
            instead: HashMap::new(),
            codes: HashMap::new(),
            spoil: None,
            issued: 0,
        };
        let provider = Self { issuer, inner: Arc::new(Mutex::new(inner)) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata_document))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Signs with another key from now on, and publishes these.
    pub(crate) fn rotate(&self, signs: u8, published: &[u8]) {
        let mut inner = self.inner();
        inner.signs = signs;
        inner.published = published.to_vec();
    }

    /// Tells something else in its discovery document.
    pub(crate) fn tell(&self, name: &str, value: impl Into<Value>) {
        self.inner().metadata[name] = value.into();
    }

    /// Answers so in place of a document.
    pub(crate) fn answer(&self, path: &str, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let answer = (StatusCode::from_u16(status).unwrap(), headers, body.to_owned());
        self.inner().instead.insert(path.to_owned(), answer);
    }

    /// Spoils the next tokens.
    pub(crate) fn spoil(&self, spoil: impl Fn(&mut Value, &mut Value) + Send + 'static) {
        self.inner().spoil = Some(Box::new(spoil));
    }

    /// Somebody signs in there, and the browser is sent back with this query.
    pub(crate) fn authorize(&self, address: &str, person: Value) -> String {
        let (place, query) = address.split_once('?').unwrap();
        assert_eq!(place, format!("{}/authorize", self.issuer));
        let asked: HashMap<String, String> = parse(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        assert!(asked["nonce"].len() >= 43 && asked["state"].len() >= 20);
        let mut inner = self.inner();
        inner.issued += 1;
        let code = format!("code-{}", inner.issued);
        let state = asked["state"].clone();
        inner.codes.insert(code.clone(), (asked, person));
        format!("code={code}&state={state}")
    }
}

fn parse(query: &str) -> HashMap<String, String> {
    let address = format!("http://localhost/?{query}").parse().unwrap();
    Query::<HashMap<String, String>>::try_from_uri(&address).unwrap().0
}

fn instead(provider: &Provider, path: &str) -> Option<Response> {
    let (status, headers, body) = provider.inner().instead.get(path)?.clone();
    let mut response = (status, body).into_response();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    Some(response)
}

async fn metadata_document(State(provider): State<Provider>) -> Response {
    instead(&provider, "/.well-known/openid-configuration")
        .unwrap_or_else(|| Json(provider.inner().metadata.clone()).into_response())
}

async fn keys(State(provider): State<Provider>) -> Response {
    instead(&provider, "/jwks").unwrap_or_else(|| {
        let published = provider.inner().published.clone();
        let keys = published.iter().map(|&number| {
            let x = BASE64URL.encode(key(number).verifying_key().as_bytes());
            json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": number.to_string(), "x": x })
        });
        Json(json!({ "keys": keys.collect::<Vec<_>>() })).into_response()
    })
}

/// RFC 6749, 4.1.3, and RFC 7636, 4.6: everything must be as it was asked for.
async fn token(
    State(provider): State<Provider>,
    headers: HeaderMap,
    Form(sent): Form<HashMap<String, String>>,
) -> Response {
    let refused =
        |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response();
    let basic = BASE64_STANDARD.encode(format!("{CLIENT}:{}", SECRET.replace(' ', "+")));
    if headers.get("authorization").is_none_or(|value| *value != *format!("Basic {basic}")) {
        return refused("invalid_client");
    }
    let mut inner = provider.inner();
    let Some((asked, person)) = inner.codes.remove(&sent["code"]) else {
        return refused("invalid_grant");
    };
    let challenge = BASE64URL.encode(Sha256::digest(&sent["code_verifier"]));
    if challenge != asked["code_challenge"] || sent["redirect_uri"] != asked["redirect_uri"] {
        return refused("invalid_grant");
    }
    let now = jiff::Timestamp::now().as_second();
    let access_token = "an access token";
    let half = &Sha512Half::of(access_token);
    let mut claims = json!({
        "iss": provider.issuer, "aud": CLIENT, "iat": now, "exp": now + 300,
        "nonce": asked["nonce"], "at_hash": half,
    });
    for (name, value) in person.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = json!({ "alg": "EdDSA", "kid": inner.signs.to_string() });
    if let Some(spoil) = &inner.spoil {
        spoil(&mut header, &mut claims);
    }
    let encode = |value: &Value| BASE64URL.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = match header["alg"].as_str().unwrap() {
        "none" => String::new(),
        "HS256" => BASE64URL.encode(hmac(SECRET.as_bytes(), signed.as_bytes())),
        _ => BASE64URL.encode(key(inner.signs).sign(signed.as_bytes()).to_bytes()),
    };
    Json(json!({
        "access_token": access_token, "token_type": "Bearer", "expires_in": 300,
        "id_token": format!("{signed}.{signature}"),
    }))
    .into_response()
}

/// `at_hash` of a token signed with Ed25519, whose hash is SHA-512.
struct Sha512Half;

impl Sha512Half {
    fn of(token: &str) -> String {
        BASE64URL.encode(&sha2::Sha512::digest(token)[..32])
    }
}

/// RFC 2104, with SHA-256 and a key shorter than its block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
