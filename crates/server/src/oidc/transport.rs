//! What is asked of a provider over HTTP: only addresses that may be asked, without redirects, bounded
//! in size and time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use openidconnect::http::Method;
use openidconnect::url::{Host, Url};
use openidconnect::{HttpRequest, HttpResponse, SyncHttpClient};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer read; documents with many keys have some ten thousand bytes.
const LARGEST_ANSWER: u64 = 1 << 20;

/// Why an address may not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// Others could listen.
    #[error("`{0}` is neither https nor on this machine")]
    Open(String),
    /// It holds what no address of a provider does.
    #[error("`{0}` holds a user or a fragment")]
    Odd(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("`{0}` is no address")]
    Malformed(String),
    #[error("{0}")]
    Away(#[from] ureq::Error),
}

/// Asks one provider.
#[derive(Debug)]
pub(crate) struct Transport {
    agent: ureq::Agent,
    is_here: bool,
}

impl Transport {
    /// For the provider at an address; with `roots` nobody else's certificates are believed.
    pub(crate) fn new(issuer: &Url, roots: Option<Vec<Certificate<'static>>>) -> Self {
        let roots = match roots {
            Some(roots) => RootCerts::Specific(Arc::new(roots)),
            None => RootCerts::WebPki,
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(PATIENCE))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        // What stays on this machine goes through nobody's proxy.
        let is_here = is_here(issuer);
        let config = if is_here { config.proxy(None) } else { config };
        Self { agent: ureq::Agent::new_with_config(config.build()), is_here }
    }

    /// Whether this provider may send us, or a browser, there.
    pub(crate) fn check(&self, url: &Url) -> Result<(), AddressError> {
        check(url, self.is_here)
    }
}

impl SyncHttpClient for Transport {
    type Error = TransportError;

    /// Discovery names further addresses: each is checked before it is asked, whoever named it.
    fn call(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let text = request.uri().to_string();
        let url = Url::parse(&text).map_err(|_| TransportError::Malformed(text))?;
        self.check(&url)?;
        let answer = if request.method() == Method::GET {
            self.agent.run(request.map(|_| ()))?
        } else {
            self.agent.run(request)?
        };
        let (parts, mut body) = answer.into_parts();
        let bytes = body.with_config().limit(LARGEST_ANSWER).read_to_vec()?;
        Ok(HttpResponse::from_parts(parts, bytes))
    }
}

/// Whether an address is https; or http on this machine, where the provider itself is there.
pub(crate) fn check(url: &Url, may_be_here: bool) -> Result<(), AddressError> {
    let is_odd = !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
    match url.scheme() {
        _ if is_odd => Err(AddressError::Odd(url.to_string())),
        "https" if url.has_host() => Ok(()),
        "http" if may_be_here && is_here(url) => Ok(()),
        _ => Err(AddressError::Open(url.to_string())),
    }
}

/// Whether an address is this machine's own.
pub(crate) fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_this_machine() {
        let may = |url: &str, is_here| check(&Url::parse(url).unwrap(), is_here).is_ok();

        assert!(may("https://login.example.org/token", false));
        assert!(may("http://127.0.0.1:9000/token", true));
        assert!(may("http://localhost/token", true));
        assert!(may("http://[::1]:9000/token", true));
        // A provider elsewhere must not make this machine ask itself in the clear.
        assert!(!may("http://127.0.0.1:9000/token", false));
        for url in [
            "http://login.example.org/token",
            "http://127.0.0.1.example.org/token",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "file:///etc/passwd",
            "gopher://localhost/",
            "https://user@login.example.org/",
            "https://login.example.org/#x",
        ] {
            assert!(!may(url, true), "{url}");
        }
    }
}
