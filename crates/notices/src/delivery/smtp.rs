//! Mail, by a provider's own server (RFC 5321, RFC 8314).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lettre::message::header::{ContentDisposition, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox as MailboxHeader, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials as Login;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport as _};
use sha2::{Digest as _, Sha256};
use url::Host;

use super::excerpt::excerpt;
use super::roots::certificates;
use super::{Deliver, DeliveryError, MailAddress, Parcel, Receipt, Secret};
use crate::content::Line;

/// How long the server may be silent in any step.
const PATIENCE: Duration = Duration::from_secs(20);

/// Replies that are about us, not about the recipient: who corrects our password wants the notices
/// to arrive that waited for it (RFC 4954 6).
const ABOUT_US: [&str; 5] = ["530", "534", "535", "538", "454"];

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte (RFC 8314 3.3), mostly on port 465.
    Implicit,
    /// STARTTLS (RFC 3207), and nothing is sent where the server does not offer it.
    StartTls,
    /// None; only to this machine.
    None,
}

/// Who we are to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Which server takes our mail, and how.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port: 465, 587.
    pub port: u16,
    /// How the connection is secured.
    pub tls: SmtpTls,
    /// Who we are, where it asks.
    pub credentials: Option<Credentials>,
    /// Certificates in PEM of which one must have signed the server's; `None` for the public ones.
    pub roots: Option<Vec<u8>>,
    /// Whom mails are from.
    pub from: MailAddress,
    /// The name beside that address.
    pub from_name: Line,
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSmtp {
    /// Others could read and alter what is sent.
    #[error("`{host}` is not this machine, and no TLS is wanted")]
    Open {
        /// The server.
        host: String,
    },
    /// The roots are no certificates, or the name is none.
    #[error("there can be no TLS with `{host}`: {reason}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        reason: String,
    },
}

impl InvalidSmtp {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Open { .. } => "use implicit TLS (port 465) or STARTTLS (port 587)",
            Self::Tls { .. } => "give the server's name, and certificates in PEM",
        }
    }
}

/// A mail server to send through.
#[derive(Clone)]
pub struct Smtp(Arc<Server>);

struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    from: MailAddress,
    from_name: Line,
    /// The host of our address, as names of messages have it.
    domain: String,
}

/// A person's or a team's mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox {
    smtp: Smtp,
    to: MailAddress,
}

impl Smtp {
    /// Looks the settings over; connects to nobody.
    ///
    /// # Errors
    /// As [`InvalidSmtp`].
    pub fn new(settings: SmtpSettings) -> Result<Self, InvalidSmtp> {
        let SmtpSettings { host, port, tls, credentials, roots, from, from_name } = settings;
        let tls = match tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters(&host, roots.as_deref())?),
            SmtpTls::StartTls => Tls::Required(parameters(&host, roots.as_deref())?),
            SmtpTls::None if is_here(&host) => Tls::None,
            SmtpTls::None => return Err(InvalidSmtp::Open { host }),
        };
        let domain = Host::parse(from.host()).map_or_else(|_| host.clone(), |it| it.to_string());
        Ok(Self(Arc::new(Server { host, port, tls, credentials, from, from_name, domain })))
    }

    /// A mailbox that is reached through it.
    pub fn mailbox(&self, to: MailAddress) -> Mailbox {
        Mailbox { smtp: self.clone(), to }
    }
}

impl Deliver for Mailbox {
    fn deliver(&self, parcel: &Parcel, _now: Timestamp) -> Result<Receipt, DeliveryError> {
        let server = &self.smtp.0;
        let mail = server.mail(parcel, &self.to).map_err(|error| {
            DeliveryError::never(format!(
                "the mail cannot be written: {}",
                excerpt(&error.to_string())
            ))
        })?;
        let transport = SmtpTransport::builder_dangerous(&server.host)
            .port(server.port)
            .tls(server.tls.clone())
            .timeout(Some(PATIENCE))
            .hello_name(ClientId::Domain(server.domain.clone()));
        let transport = match &server.credentials {
            Some(Credentials { user, password }) => {
                transport.credentials(Login::new(user.clone(), password.expose().to_owned()))
            }
            None => transport,
        };
        match transport.build().send(&mail) {
            Ok(reply) => {
                let said = reply.message().collect::<Vec<_>>().join(" ");
                Ok(Receipt { text: excerpt(&format!("{} {said}", reply.code())) })
            }
            Err(error) => Err(server.failed(&error)),
        }
    }
}

impl Server {
    /// The same bytes each time, so that a second copy is recognised.
    fn mail(
        &self,
        parcel: &Parcel,
        to: &MailAddress,
    ) -> Result<lettre::Message, lettre::error::Error> {
        let Parcel { id, at, message, calendar, thread, .. } = parcel;
        let mark = mark(&to.to_string());
        let seconds = u64::try_from(at.as_second()).unwrap_or(0);
        let from = self.from.inner().clone();
        let mut mail = lettre::Message::builder()
            .from(MailboxHeader::new(Some(self.from_name.to_string()), from))
            .to(MailboxHeader::new(None, to.inner().clone()))
            .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .message_id(Some(format!("<{id}.{mark}@{}>", self.domain)))
            .subject(message.subject.as_str())
            // RFC 3834 5: nobody's absence notice is to come back.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("Patchwright-Notice", &id.to_string()));
        if let Some((change, tenant)) = thread {
            mail = mail.references(format!("<{change}.{tenant}@{}>", self.domain));
        }
        let words = MultiPart::alternative()
            .boundary(format!("words-{mark}-{id}"))
            .singlepart(SinglePart::plain(message.text.clone()))
            .singlepart(SinglePart::html(message.html.clone()));
        let Some(calendar) = calendar else { return mail.multipart(words) };
        mail.multipart(
            MultiPart::mixed().boundary(format!("all-{mark}-{id}")).multipart(words).singlepart(
                SinglePart::builder()
                    .header(calendar_type())
                    .header(ContentDisposition::attachment("change.ics"))
                    .body(calendar.clone()),
            ),
        )
    }

    fn failed(&self, error: &lettre::transport::smtp::Error) -> DeliveryError {
        let host = &self.host;
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let said = self.without_password(&excerpt(&source));
        if let Some(code) = error.status() {
            let code = code.to_string();
            if ABOUT_US.contains(&code.as_str()) {
                // What it says of our password is not to be repeated.
                return DeliveryError::later(format!(
                    "`{host}` does not take our account ({code})"
                ));
            }
            let text = format!("`{host}` said: {code} {said}");
            return if error.is_permanent() {
                DeliveryError::Never { text }
            } else {
                DeliveryError::later(text)
            };
        }
        let what = if error.is_tls() {
            "no TLS with"
        } else if error.is_timeout() {
            "no answer in time from"
        } else if error.is_response() {
            "an answer that is none from"
        } else {
            "no way through to"
        };
        DeliveryError::later(format!("{what} `{host}`: {said}"))
    }

    /// A server that repeats what it got is not to bring the password into a record.
    fn without_password(&self, text: &str) -> String {
        match &self.credentials {
            Some(it) if !it.password.expose().is_empty() => text.replace(it.password.expose(), "…"),
            _ => text.to_owned(),
        }
    }
}

/// A short name for a recipient, which does not tell who it is.
fn mark(to: &str) -> String {
    use std::fmt::Write as _;

    let hash = Sha256::digest(to.to_lowercase());
    hash.iter().take(8).fold(String::new(), |mut mark, byte| {
        let _ = write!(mark, "{byte:02x}");
        mark
    })
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn calendar_type() -> ContentType {
    ContentType::parse("text/calendar; charset=utf-8; method=PUBLISH")
        .unwrap_or(ContentType::TEXT_PLAIN)
}

fn parameters(host: &str, roots: Option<&[u8]>) -> Result<TlsParameters, InvalidSmtp> {
    let invalid = |reason: String| InvalidSmtp::Tls { host: host.to_owned(), reason };
    let mut builder = TlsParameters::builder(host.to_owned());
    builder = match roots {
        None => builder.certificate_store(CertificateStore::WebpkiRoots),
        Some(pem) => {
            let roots = certificates(pem).map_err(|error| invalid(error.to_string()))?;
            let mut builder = builder.certificate_store(CertificateStore::None);
            for root in roots {
                let root = Certificate::from_der(root.der().to_vec())
                    .map_err(|error| invalid(error.to_string()))?;
                builder = builder.add_root_certificate(root);
            }
            builder
        }
    };
    builder.build_rustls().map_err(|error| invalid(error.to_string()))
}

fn is_here(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, from, .. } = &*self.0;
        f.debug_struct("Smtp")
            .field("host", host)
            .field("port", port)
            .field("from", from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, tls: SmtpTls) -> SmtpSettings {
        SmtpSettings {
            host: host.to_owned(),
            port: 587,
            tls,
            credentials: Some(Credentials {
                user: "u".to_owned(),
                password: Secret::new("hunter2".to_owned()),
            }),
            roots: None,
            from: "ops@cloud.example".parse().unwrap(),
            from_name: "Operations".parse().unwrap(),
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(Smtp::new(settings(host, SmtpTls::None)).is_ok());
        }
        for host in ["mail.example", "10.0.0.1", "127.0.0.1.example"] {
            let refused = Smtp::new(settings(host, SmtpTls::None)).unwrap_err();
            assert_eq!(refused, InvalidSmtp::Open { host: host.to_owned() });
        }
        assert!(Smtp::new(settings("mail.example", SmtpTls::StartTls)).is_ok());
        let roots = Some(b"nothing".to_vec());
        let empty = SmtpSettings { roots, ..settings("mail.example", SmtpTls::Implicit) };
        assert!(matches!(Smtp::new(empty), Err(InvalidSmtp::Tls { .. })));
    }

    #[test]
    fn the_password_is_nowhere_to_be_seen() {
        let settings = settings("localhost", SmtpTls::None);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let mailbox = Smtp::new(settings).unwrap().mailbox("a@b.example".parse().unwrap());
        assert!(!format!("{mailbox:?}").contains("hunter2"));
        assert_eq!(mailbox.smtp.0.without_password("no hunter2 here"), "no … here");
    }
}
