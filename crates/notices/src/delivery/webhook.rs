//! Webhooks: a `CloudEvent`, signed as Standard Webhooks 1.0 has it.

use std::fmt;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reach::Guard;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Url;

use super::excerpt::excerpt;
use super::roots::certificates;
use super::{
    Deliver, DeliveryError, InvalidRoots, Parcel, Reach, Receipt, Unreachable, WebhookSecret,
};
use crate::event::MEDIA_TYPE;

/// How long an attempt may take, from the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of an answer, in bytes: nothing more of it is of use.
const LARGEST_ANSWER: u64 = 1 << 10;

/// Largest head of an answer, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// The longest that a receiver may put us off.
const LONGEST_AFTER: Duration = Duration::from_secs(86_400);

/// A receiver of events.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    /// The newest first.
    secrets: Vec<WebhookSecret>,
    reach: Reach,
    agent: Agent,
}

impl Webhook {
    /// A receiver at an address, which shares a secret with us.
    ///
    /// # Errors
    /// If nothing may be sent there; what its name stands for is looked at with each delivery.
    pub fn new(address: &str, secret: WebhookSecret, reach: Reach) -> Result<Self, Unreachable> {
        let url = reach.check(address)?;
        let agent = agent(&reach, RootCerts::WebPki);
        Ok(Self { url, secrets: vec![secret], reach, agent })
    }

    /// Signs with an older secret as well, while it is replaced.
    #[must_use]
    pub fn and_with(mut self, older: WebhookSecret) -> Self {
        self.secrets.push(older);
        self
    }

    /// Believes only certificates that lead to one of these, in PEM.
    ///
    /// # Errors
    /// If there is none.
    pub fn believing(mut self, pem: &[u8]) -> Result<Self, InvalidRoots> {
        let roots = Arc::new(certificates(pem)?);
        self.agent = agent(&self.reach, RootCerts::Specific(roots));
        Ok(self)
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or("")
    }
}

impl Deliver for Webhook {
    fn deliver(&self, parcel: &Parcel, now: Timestamp) -> Result<Receipt, DeliveryError> {
        let (id, seconds) = (parcel.id.to_string(), now.as_second());
        let signatures: Vec<String> =
            self.secrets.iter().map(|secret| secret.sign(&id, seconds, &parcel.event)).collect();
        let answer = self
            .agent
            .post(self.url.as_str())
            .header("content-type", MEDIA_TYPE)
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signatures.join(" "))
            .send(&parcel.event);
        match answer {
            Ok(answer) => judge(answer, self.host(), now),
            Err(error) => Err(failed(error, self.host())),
        }
    }
}

fn agent(reach: &Reach, roots: RootCerts) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .max_response_header_size(LARGEST_HEAD)
        // A proxy would resolve the name again.
        .proxy(None)
        .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(PATIENCE))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Guard(reach.clone()))
}

/// What an answer means (Standard Webhooks 1.0, "Webhook Responses").
fn judge(answer: Response<Body>, host: &str, now: Timestamp) -> Result<Receipt, DeliveryError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(Receipt { text: format!("HTTP {}", status.as_u16()) });
    }
    let after = retry_after(&answer, now);
    let mut beginning = Vec::new();
    // Only a help for people: that it breaks off alters nothing.
    let _ = answer.into_body().into_reader().take(LARGEST_ANSWER).read_to_end(&mut beginning);
    let said = excerpt(&String::from_utf8_lossy(&beginning));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let text = format!("`{host}` answered HTTP {}{said}", status.as_u16());
    match status {
        StatusCode::GONE => Err(DeliveryError::Gone { text }),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(DeliveryError::Later { text, after })
        }
        status if status.is_server_error() => Err(DeliveryError::Later { text, after }),
        status if status.is_redirection() => {
            Err(DeliveryError::Never { text: format!("{text} (redirects are not followed)") })
        }
        _ => Err(DeliveryError::Never { text }),
    }
}

/// Seconds or a date (RFC 9110 10.2.3).
fn retry_after(answer: &Response<Body>, now: Timestamp) -> Option<Duration> {
    let text = answer.headers().get("retry-after")?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::from_secs(u64::try_from(at.as_second() - now.as_second()).unwrap_or(0))
    };
    Some(wait.min(LONGEST_AFTER))
}

/// Only what holds no part of the address: that may be a secret in itself.
fn failed(error: ureq::Error, host: &str) -> DeliveryError {
    let text = match error {
        ureq::Error::Other(other) => match other.downcast::<Unreachable>() {
            Ok(refused) => refused.to_string(),
            Err(_) => format!("no way through to `{host}`"),
        },
        ureq::Error::HostNotFound => Unreachable::Closed { host: host.to_owned() }.to_string(),
        ureq::Error::Timeout(_) => format!("no answer in time from `{host}`"),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            format!("no answer in time from `{host}`")
        }
        // What a certificate lacks comes wrapped like this.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            format!("no TLS with `{host}`: {}", excerpt(&error.to_string()))
        }
        ureq::Error::Io(error) => {
            format!("no way through to `{host}`: {}", excerpt(&error.to_string()))
        }
        ureq::Error::Rustls(error) => {
            format!("no TLS with `{host}`: {}", excerpt(&error.to_string()))
        }
        ureq::Error::Tls(reason) => format!("no TLS with `{host}`: {}", excerpt(reason)),
        _ => format!("an answer that is none from `{host}`"),
    };
    DeliveryError::later(text)
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<Duration> {
        let answer = Response::builder().header("retry-after", text).body(Body::builder().data(""));
        retry_after(&answer.unwrap(), "2026-03-10T22:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_receiver_says_how_long_to_wait() {
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Tue, 10 Mar 2026 22:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Tue, 10 Mar 2026 21:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("999999999999"), Some(LONGEST_AFTER));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-5"), None);
    }

    #[test]
    fn neither_secret_nor_path_is_shown() {
        let secret = WebhookSecret::of([7; 32]);
        let address = "https://acme.example/hook/s3cr3t?token=t0k3n";
        let webhook = Webhook::new(address, secret, Reach::public()).unwrap();

        let shown = format!("{webhook:?}");

        assert!(shown.contains("acme.example"));
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0k3n") && !shown.contains("BwcH"));
    }
}
