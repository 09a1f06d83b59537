//! Talking to a cloud: Keystone v3 for who we are and where the services are, then requests to
//! these, with one new token where the old one expired and a bounded number of further tries
//! where a service failed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http;

use super::error::OpenStackError;
use super::secret::Secret;
use crate::clock::Clock;

/// Which cloud, and who we are there.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// Keystone's address with its version: `https://keystone.example.org/v3`.
    pub identity: String,
    /// Who we are.
    pub login: Login,
    /// The region, where the cloud has several.
    pub region: Option<String>,
    /// The id of the flavor that trial machines have.
    pub flavor: String,
}

/// Who we are in a cloud.
#[derive(Debug, Clone)]
pub enum Login {
    /// An application credential: bound to one project, revocable, the better choice.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Secret,
    },
    /// A user of a project.
    Password {
        /// The user's name.
        user: String,
        /// The name of the user's domain.
        user_domain: String,
        /// The password.
        password: Secret,
        /// The project's name.
        project: String,
        /// The name of the project's domain.
        project_domain: String,
    },
}

impl Login {
    /// Keystone's `auth` object, API reference v3, "Authentication and token management".
    fn body(&self) -> Value {
        match self {
            Self::ApplicationCredential { id, secret } => json!({ "auth": { "identity": {
                "methods": ["application_credential"],
                "application_credential": { "id": id, "secret": secret.expose() },
            }}}),
            Self::Password { user, user_domain, password, project, project_domain } => {
                json!({ "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": { "user": {
                            "name": user,
                            "domain": { "name": user_domain },
                            "password": password.expose(),
                        }},
                    },
                    "scope": { "project": {
                        "name": project, "domain": { "name": project_domain },
                    }},
                }})
            }
        }
    }
}

/// A service of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Glance.
    Image,
    /// Nova.
    Compute,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Compute => "compute",
        }
    }
}

/// A request to a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) service: Service,
    pub(super) method: &'static str,
    /// Behind the service's address, with a query.
    pub(super) path: &'a str,
    pub(super) body: Body<'a>,
    pub(super) repeat: Repeat,
    pub(super) limit: Duration,
}

/// What a request brings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    Nothing,
    Json(&'a Value),
    File(&'a Path),
}

/// Whether a request may be sent again after it failed on their side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It does the same once more.
    Safe,
    /// It might make a second one.
    Never,
}

/// For an ordinary request.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Pauses before further tries where a service fails.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10)];

/// A console's log has 100 KiB, a list of a hundred servers less than a MiB.
const MAX_ANSWER: u64 = 4 << 20;
const MAX_MESSAGE: usize = 300;

/// 2.37 has `networks: none`, 2.45 names a snapshot's image in the answer (Pike, 2017).
const MICROVERSION: &str = "compute 2.45";

/// Requests on behalf of one login.
#[derive(Debug)]
pub(super) struct Session {
    cloud: Cloud,
    agent: ureq::Agent,
    clock: Arc<dyn Clock>,
    token: Mutex<Option<Arc<Token>>>,
}

/// A token with the services that it is good for.
#[derive(Debug)]
struct Token {
    value: Secret,
    image: String,
    compute: String,
}

type Response = http::Response<ureq::Body>;

impl Session {
    pub(super) fn new(cloud: Cloud, clock: Arc<dyn Clock>) -> Result<Self, OpenStackError> {
        refuse_in_the_clear(&cloud.identity)?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirection would carry the token to wherever it says.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_LIMIT))
            .build()
            .into();
        Ok(Self { cloud, agent, clock, token: Mutex::default() })
    }

    pub(super) fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Gets a token, unless there is one.
    pub(super) fn enter(&self) -> Result<(), OpenStackError> {
        self.token().map(|_| ())
    }

    /// Sends a request and returns its answer's JSON, `null` where there is none.
    pub(super) fn ask(&self, request: Request<'_>) -> Result<Value, OpenStackError> {
        let (url, response) = self.send(request)?;
        let bytes = read(response, request.method, &url)?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| OpenStackError::NotUnderstood {
            method: request.method,
            url,
            what: "JSON",
        })
    }

    /// Sends a request and writes its answer into a file that is not there yet; how much it was.
    /// More than `wanted` bytes are not taken.
    pub(super) fn download(
        &self,
        request: Request<'_>,
        to: &Path,
        wanted: u64,
    ) -> Result<u64, OpenStackError> {
        let failed = |error| OpenStackError::Io { path: to.to_owned(), error };
        let mut file = File::create_new(to).map_err(failed)?;
        let mut got = 0;
        self.stream(request, wanted, |piece| {
            got += piece.len() as u64;
            std::io::Write::write_all(&mut file, piece).map_err(failed)
        })?;
        Ok(got)
    }

    /// Sends a request and hands its answer on in pieces, one byte more than `wanted` at most.
    pub(super) fn stream<E: From<OpenStackError>>(
        &self,
        request: Request<'_>,
        wanted: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (url, response) = self.send(request)?;
        let mut from = response.into_body().into_reader().take(wanted.saturating_add(1));
        let mut piece = vec![0; 1 << 17];
        loop {
            let read = from.read(&mut piece).map_err(|error| OpenStackError::Unreachable {
                method: request.method,
                url: url.clone(),
                reason: error.to_string(),
            })?;
            if read == 0 {
                return Ok(());
            }
            take(&piece[..read])?;
        }
    }

    /// An answer that is none of failure, after as many tries as are allowed.
    fn send(&self, request: Request<'_>) -> Result<(String, Response), OpenStackError> {
        let mut pauses = PAUSES.iter();
        let mut renewed = false;
        loop {
            let token = self.token()?;
            let url = token.url(request.service, request.path);
            let sent = self.send_once(&token, &url, request);
            let (error, may_pass) = match sent {
                Ok(response) if response.status() == 401 && !renewed => {
                    renewed = true;
                    self.forget(&token);
                    continue;
                }
                Ok(response) if response.status().is_success() => return Ok((url, response)),
                Ok(response) => {
                    // What is not implemented (501) will not be in a moment either.
                    let may_pass = matches!(response.status().as_u16(), 500 | 502..=504);
                    (refusal(request.method, url, response), may_pass)
                }
                Err(error @ OpenStackError::Unreachable { .. }) => (error, true),
                Err(error) => return Err(error),
            };
            match pauses.next() {
                Some(pause) if may_pass && request.repeat == Repeat::Safe => {
                    self.clock.wait(*pause);
                }
                _ => return Err(error),
            }
        }
    }

    fn send_once(
        &self,
        token: &Token,
        url: &str,
        request: Request<'_>,
    ) -> Result<Response, OpenStackError> {
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(url)
            .header("X-Auth-Token", token.value.expose())
            .header("Accept", "application/json");
        if request.service == Service::Compute {
            builder = builder.header("OpenStack-API-Version", MICROVERSION);
        }
        let unreachable = |reason: String| OpenStackError::Unreachable {
            method: request.method,
            url: url.to_owned(),
            reason,
        };
        let sent = match request.body {
            Body::Nothing => self.run(builder.body(()), request.limit),
            Body::Json(value) => {
                let builder = builder.header("Content-Type", "application/json");
                self.run(builder.body(value.to_string()), request.limit)
            }
            Body::File(path) => {
                let file = File::open(path)
                    .map_err(|error| OpenStackError::Io { path: path.to_owned(), error })?;
                let builder = builder.header("Content-Type", "application/octet-stream");
                self.run(builder.body(file), request.limit)
            }
        };
        sent.map_err(unreachable)
    }

    fn run(
        &self,
        request: http::Result<http::Request<impl ureq::AsSendBody>>,
        limit: Duration,
    ) -> Result<Response, String> {
        let request = request.map_err(|error| error.to_string())?;
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        self.agent.run(request).map_err(|error| error.to_string())
    }

    /// The token at hand, or a new one.
    fn token(&self) -> Result<Arc<Token>, OpenStackError> {
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*kept {
            return Ok(Arc::clone(token));
        }
        let token = Arc::new(self.log_in()?);
        *kept = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Unless somebody has got a new one meanwhile.
    fn forget(&self, expired: &Arc<Token>) {
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|token| Arc::ptr_eq(token, expired)) {
            *kept = None;
        }
    }

    fn log_in(&self) -> Result<Token, OpenStackError> {
        const METHOD: &str = "POST";
        let url = format!("{}/auth/tokens", self.cloud.identity.trim_end_matches('/'));
        let body = zeroize::Zeroizing::new(self.cloud.login.body().to_string());
        let mut pauses = PAUSES.iter();
        let response = loop {
            let request = http::Request::builder()
                .method(METHOD)
                .uri(&url)
                .header("Accept", "application/json")
                .header("Content-Type", "application/json")
                .body(body.as_bytes());
            let error = match self.run(request, PATIENCE) {
                Ok(response) if response.status() == 201 => break response,
                // Its words are not passed on: they may repeat ours.
                Ok(response) if response.status().is_client_error() => {
                    let status = response.status().as_u16();
                    return Err(OpenStackError::NotLetIn { url, status });
                }
                Ok(response) => OpenStackError::NotLetIn {
                    url: url.clone(),
                    status: response.status().as_u16(),
                },
                Err(reason) => {
                    OpenStackError::Unreachable { method: METHOD, url: url.clone(), reason }
                }
            };
            match pauses.next() {
                Some(pause) => self.clock.wait(*pause),
                None => return Err(error),
            }
        };
        let lacking =
            |what| OpenStackError::NotUnderstood { method: METHOD, url: url.clone(), what };
        let value = response
            .headers()
            .get("x-subject-token")
            .and_then(|value| value.to_str().ok())
            .map(|value| Secret::new(value.to_owned()))
            .ok_or_else(|| lacking("a token"))?;
        let answer: Value =
            serde_json::from_slice(&read(response, METHOD, &url)?).map_err(|_| lacking("JSON"))?;
        let catalogue =
            answer["token"]["catalog"].as_array().ok_or_else(|| lacking("a catalog"))?;
        Ok(Token {
            value,
            image: versioned(&self.endpoint(catalogue, Service::Image)?),
            compute: self.endpoint(catalogue, Service::Compute)?,
        })
    }

    fn endpoint(&self, catalogue: &[Value], service: Service) -> Result<String, OpenStackError> {
        let region = self.cloud.region.as_deref();
        let is_meant = |endpoint: &&Value| {
            endpoint["interface"] == "public"
                && region.is_none_or(|region| {
                    endpoint["region_id"] == region || endpoint["region"] == region
                })
        };
        let found = catalogue
            .iter()
            .filter(|entry| entry["type"] == service.name())
            .filter_map(|entry| entry["endpoints"].as_array())
            .flatten()
            .find(is_meant)
            .and_then(|endpoint| endpoint["url"].as_str());
        let url = found.ok_or_else(|| OpenStackError::NoService {
            service: service.name(),
            region: region.map(str::to_owned),
        })?;
        refuse_in_the_clear(url)?;
        Ok(url.trim_end_matches('/').to_owned())
    }
}

impl Token {
    fn url(&self, service: Service, path: &str) -> String {
        let base = match service {
            Service::Image => &self.image,
            Service::Compute => &self.compute,
        };
        format!("{base}{path}")
    }
}

/// Catalogues name Glance with or without its version.
fn versioned(url: &str) -> String {
    let last = url.rsplit('/').next().unwrap_or_default();
    if last.starts_with("v2") { url.to_owned() } else { format!("{url}/v2") }
}

/// Passwords and tokens go over TLS, or do not leave this machine.
fn refuse_in_the_clear(url: &str) -> Result<(), OpenStackError> {
    let refused = || OpenStackError::InTheClear { url: url.to_owned() };
    let uri: http::Uri = url.parse().map_err(|_| refused())?;
    let is_here = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_here => Ok(()),
        _ => Err(refused()),
    }
}

fn read(response: Response, method: &'static str, url: &str) -> Result<Vec<u8>, OpenStackError> {
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(MAX_ANSWER + 1).read_to_end(&mut bytes);
    read.map_err(|error| OpenStackError::Unreachable {
        method,
        url: url.to_owned(),
        reason: error.to_string(),
    })?;
    if bytes.len() as u64 > MAX_ANSWER {
        let what = "an end within 4 MiB";
        return Err(OpenStackError::NotUnderstood { method, url: url.to_owned(), what });
    }
    Ok(bytes)
}

fn refusal(method: &'static str, url: String, response: Response) -> OpenStackError {
    let status = response.status().as_u16();
    let message = message(&read(response, method, &url).unwrap_or_default());
    // Nova says 403 where a quota is exhausted, 413 where a rate is; Glance 413.
    if status == 413 || (status == 403 && message.to_ascii_lowercase().contains("quota")) {
        return OpenStackError::OverLimit { method, url, status, message };
    }
    OpenStackError::Refused { method, url, status, message }
}

/// `{"overLimit": {"code": 413, "message": "…"}}`; anything else as it is.
fn message(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = parsed
        .as_object()
        .and_then(|object| object.values().find_map(|fault| fault["message"].as_str()))
        .or_else(|| parsed["message"].as_str())
        .map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    said.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_leave_this_machine_in_the_clear() {
        assert!(refuse_in_the_clear("https://cloud.example.org/v3").is_ok());
        assert!(refuse_in_the_clear("http://127.0.0.1:5000/v3").is_ok());
        for url in ["http://cloud.example.org", "http://127.0.0.1.example.org", "ftp://x", "", "v3"]
        {
            assert!(refuse_in_the_clear(url).is_err(), "{url}");
        }
    }

    #[test]
    fn nobody_reads_a_secret_in_a_log() {
        let secret = Secret::new("s3cret".to_owned());
        let login = Login::ApplicationCredential { id: "1".to_owned(), secret };
        assert!(!format!("{login:?}").contains("s3cret"));
        assert!(login.body().to_string().contains("s3cret"));
    }

    #[test]
    fn a_fault_is_told_in_the_services_words() {
        let over = br#"{"overLimit": {"code": 413, "message": "This request was rate-limited."}}"#;
        assert_eq!(message(over), "This request was rate-limited.");
        assert_eq!(message(b"<html>no\x1b</html>"), "<html>no</html>");
        assert_eq!(message("x".repeat(1000).as_bytes()).len(), MAX_MESSAGE);
    }

    #[test]
    fn glances_version_is_added_where_it_is_missing() {
        assert_eq!(versioned("https://x/image"), "https://x/image/v2");
        assert_eq!(versioned("https://x:9292/v2"), "https://x:9292/v2");
    }
}
