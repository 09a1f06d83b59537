//! Requests to addresses that others named: guarded, without redirects, and bounded.

use std::io::Read as _;
use std::time::Duration;

use reach::{Guard, Reach, Unreachable};
use rustls::CertificateError;
use ureq::http::{HeaderMap, Response};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Url;

use crate::authority::Roots;
use crate::error::{SourceError, excerpt};

/// Largest head of an answer, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// How long is waited for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Asks one address.
pub(crate) struct Web {
    agent: Agent,
    host: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What is sent with a request: names and values.
pub(crate) type Headers<'a> = [(&'a str, &'a str)];

impl Web {
    /// For an address that was looked over ([`Reach::check`]); each request is done after so long.
    pub(crate) fn new(url: &Url, (reach, roots): (&Reach, &Roots), patience: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .max_response_header_size(LARGEST_HEAD)
            // A proxy would resolve the name again.
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(roots.0.clone()).build())
            .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(patience))
            .build();
        let guard = Guard(reach.clone());
        let agent = Agent::with_parts(config, DefaultConnector::default(), guard);
        Self { agent, host: url.host_str().unwrap_or_default().to_owned() }
    }

    /// Asks with GET, of whose answer at most so many bytes are taken. `what` is what an answer would be.
    pub(crate) fn get(
        &self,
        url: &Url,
        headers: &Headers<'_>,
        (what, most): (&'static str, u64),
    ) -> Result<Answer, SourceError> {
        let mut request = self.agent.get(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.read(request.call(), what, most)
    }

    /// The same with POST.
    pub(crate) fn post(
        &self,
        url: &Url,
        headers: &Headers<'_>,
        body: &[u8],
        (what, most): (&'static str, u64),
    ) -> Result<Answer, SourceError> {
        let mut request = self.agent.post(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.read(request.send(body), what, most)
    }

    fn read(
        &self,
        outcome: Result<Response<Body>, ureq::Error>,
        what: &'static str,
        most: u64,
    ) -> Result<Answer, SourceError> {
        let answer = outcome.map_err(|error| self.failed(error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        let reader = answer.into_body().into_reader();
        reader.take(most + 1).read_to_end(&mut body).map_err(|error| self.broken(&error))?;
        if body.len() as u64 > most {
            return Err(SourceError::TooLarge { what, most });
        }
        Ok(Answer { status, headers, body })
    }

    /// What an answer means that is not the one that was asked for.
    pub(crate) fn refused(&self, answer: &Answer) -> SourceError {
        let more = match answer.status {
            401 | 403 => ": what opens it is not taken, or is missing".to_owned(),
            301 | 302 | 303 | 307 | 308 => {
                let to = answer.headers.get("location").and_then(|it| it.to_str().ok());
                let to = to.and_then(|it| Url::parse(it).ok());
                let host = to.as_ref().and_then(Url::host_str).unwrap_or("another place of it");
                format!(": it is at {} now; redirects are not followed", excerpt(host))
            }
            _ => String::new(),
        };
        SourceError::Status { host: self.host.clone(), status: answer.status, more }
    }

    /// What TLS says, in words of ours where somebody can do something about it.
    fn untrusted(&self, error: &rustls::Error) -> SourceError {
        let host = self.host.clone();
        match error {
            // By another of the same name, its signature is a bad one.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => SourceError::UnknownAuthority { host },
            error => SourceError::Unreachable { host, reason: excerpt(&error.to_string()) },
        }
    }

    fn broken(&self, error: &std::io::Error) -> SourceError {
        let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        if let Some(error) = of_tls {
            return self.untrusted(error);
        }
        let reason = match error.kind() {
            std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => excerpt(&error.to_string()),
        };
        SourceError::Unreachable { host: self.host.clone(), reason }
    }

    /// Only what holds no part of the address but the host.
    fn failed(&self, error: ureq::Error) -> SourceError {
        let host = self.host.clone();
        let reason = match error {
            ureq::Error::Other(other) => match other.downcast::<Unreachable>() {
                Ok(refused) => return SourceError::Closed(*refused),
                Err(_) => "the connection failed".to_owned(),
            },
            ureq::Error::HostNotFound => return SourceError::Closed(Unreachable::Closed { host }),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(error) => return self.broken(&error),
            ureq::Error::Rustls(error) => return self.untrusted(&error),
            ureq::Error::Tls(reason) => excerpt(reason),
            _ => "what came is no answer".to_owned(),
        };
        SourceError::Unreachable { host, reason }
    }
}
