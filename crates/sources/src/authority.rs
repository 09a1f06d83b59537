//! Authorities of one's own: whose certificates count for one source, in place of those of the public ones.
//!
//! What somebody gives is read once, when it is set, so that it can be shown by name and by its end; what is not an
//! authority, or cannot be used by our TLS, is refused then and not at the first look.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use domain::source::{Authority, LONGEST_CERTIFICATE, MOST_AUTHORITIES};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use ureq::tls::{Certificate, RootCerts};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::{SourceError, excerpt};

/// Longest text that is read, in bytes.
const LONGEST: usize = 64 << 10;

/// Authorities that cannot count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthority {
    /// More than anybody needs.
    #[error("the certificates have {size} bytes, more than {LONGEST}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// There is none in it.
    #[error("there is no certificate in it")]
    None,
    /// There are too many.
    #[error("there are more than {MOST_AUTHORITIES} certificates in it")]
    TooMany,
    /// Something that belongs elsewhere, a private key before all.
    #[error("block {number} is a `{label}` and no certificate")]
    Other {
        /// Which block, from 1.
        number: usize,
        /// What it says that it is.
        label: String,
    },
    /// It cannot be read.
    #[error("certificate {number} cannot be read: {because}")]
    Unreadable {
        /// Which block, from 1.
        number: usize,
        /// Why not.
        because: String,
    },
    /// It is a server's, or somebody else's.
    #[error("`{subject}` is no authority: it may sign no certificates")]
    NoAuthority {
        /// Whose it is.
        subject: String,
    },
    /// Its time is over.
    #[error("`{subject}` counts no more since {until}")]
    Over {
        /// Whose it is.
        subject: String,
        /// Since when.
        until: Timestamp,
    },
    /// Its time is still to come.
    #[error("`{subject}` counts only from {from} on")]
    Early {
        /// Whose it is.
        subject: String,
        /// From when on.
        from: Timestamp,
    },
}

impl InvalidAuthority {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::TooMany => {
                "give the authority that signs this server's certificate alone"
            }
            Self::None | Self::Unreadable { .. } => {
                "give certificates as PEM: `-----BEGIN CERTIFICATE-----` …"
            }
            Self::Other { .. } => {
                "leave it out: only certificates belong here, and a key to nobody"
            }
            Self::NoAuthority { .. } => {
                "give the certificate of the authority that signed it, with `CA:TRUE`"
            }
            Self::Over { .. } | Self::Early { .. } => "give the one that counts now",
        }
    }
}

/// Reads authorities as somebody gives them (PEM), at a time. Text between the blocks is left out.
///
/// # Errors
/// If one of them could not count.
pub fn read(pem: &str, now: Timestamp) -> Result<Vec<Authority>, InvalidAuthority> {
    if pem.len() > LONGEST {
        return Err(InvalidAuthority::TooLong { size: pem.len() });
    }
    let mut found: Vec<Authority> = Vec::new();
    for (at, block) in Pem::iter_from_reader(Cursor::new(pem.as_bytes())).enumerate() {
        let number = at + 1;
        let block = block.map_err(|error| unreadable(number, &error))?;
        if block.label != "CERTIFICATE" {
            return Err(InvalidAuthority::Other { number, label: excerpt(&block.label) });
        }
        let authority = one(number, &block.contents, now)?;
        if found.iter().any(|it| it.sha256 == authority.sha256) {
            continue;
        }
        if found.len() >= MOST_AUTHORITIES {
            return Err(InvalidAuthority::TooMany);
        }
        found.push(authority);
    }
    if found.is_empty() { Err(InvalidAuthority::None) } else { Ok(found) }
}

fn unreadable(number: usize, error: &impl ToString) -> InvalidAuthority {
    InvalidAuthority::Unreadable { number, because: excerpt(&error.to_string()) }
}

fn one(number: usize, der: &[u8], now: Timestamp) -> Result<Authority, InvalidAuthority> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| unreadable(number, &error))?;
    if !rest.is_empty() {
        return Err(unreadable(number, &"something follows on it"));
    }
    let subject = excerpt(&certificate.subject().to_string());
    let constraints = certificate.basic_constraints().map_err(|it| unreadable(number, &it))?;
    let usage = certificate.key_usage().map_err(|it| unreadable(number, &it))?;
    let signs = constraints.is_some_and(|it| it.value.ca)
        && usage.is_none_or(|it| it.value.key_cert_sign());
    if !signs {
        return Err(InvalidAuthority::NoAuthority { subject });
    }
    let validity = certificate.validity();
    let time = |seconds| Timestamp::from_second(seconds).map_err(|it| unreadable(number, &it));
    let (from, until) =
        (time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?);
    if until <= now {
        return Err(InvalidAuthority::Over { subject, until });
    }
    if now < from {
        return Err(InvalidAuthority::Early { subject, from });
    }
    // What our TLS cannot use would be left out at each look, without a word.
    let usable = RootCertStore::empty().add(CertificateDer::from(der));
    usable.map_err(|error| unreadable(number, &error))?;
    let sha256 = Sha256::digest(der).iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let pem = encoded(der);
    if pem.len() > LONGEST_CERTIFICATE {
        return Err(InvalidAuthority::TooLong { size: pem.len() });
    }
    Ok(Authority { subject, sha256, until, pem })
}

/// A certificate in its one form (RFC 7468).
fn encoded(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// Whose certificates count at a look.
#[derive(Debug, Clone)]
pub struct Roots(pub(crate) RootCerts);

impl Roots {
    /// Those of the public authorities.
    pub const fn public() -> Self {
        Self(RootCerts::WebPki)
    }

    /// Those of these authorities alone, of which some must still count; of the public ones where none is given.
    ///
    /// # Errors
    /// [`SourceError::Over`] where the time of all of them is over.
    pub fn of(authorities: &[Authority], now: Timestamp) -> Result<Self, SourceError> {
        let Some(last) = authorities.iter().max_by_key(|it| it.until) else {
            return Ok(Self::public());
        };
        if last.until <= now {
            let (subject, until) = (last.subject.clone(), last.until);
            return Err(SourceError::Over { subject, until });
        }
        let counted = authorities.iter().filter(|it| now < it.until);
        let own = |error: ureq::Error| SourceError::Own {
            what: "reading the authorities",
            reason: excerpt(&error.to_string()),
        };
        let read = counted.map(|it| Certificate::from_pem(it.pem.as_bytes()).map_err(own));
        Ok(Self(RootCerts::Specific(Arc::new(read.collect::<Result<_, _>>()?))))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
    use time::OffsetDateTime;

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn at(days: i64) -> OffsetDateTime {
        let then = now() + SignedDuration::from_hours(24 * days);
        OffsetDateTime::from_unix_timestamp(then.as_second()).unwrap()
    }

    /// A certificate signed by itself, for some days from now, as PEM, with its key.
    fn made(
        name: &str,
        from: i64,
        until: i64,
        alter: fn(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (at(from), at(until));
        alter(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn authority(name: &str) -> String {
        made(name, -1, 10, |_| {}).0
    }

    #[test]
    fn an_authority_is_known_by_its_name_and_its_end() {
        let pem = authority("Acme root");
        let said = format!("# the root of Acme\r\n{}\n\n{pem}", pem.replace('\n', "\r\n"));

        let read = read(&said, now()).unwrap();

        assert_eq!(read.len(), 1, "the same twice is one");
        assert!(read[0].subject.contains("CN=Acme root"), "{}", read[0].subject);
        assert_eq!(read[0].until, now() + SignedDuration::from_hours(240));
        assert_eq!((read[0].sha256.len(), &read[0].pem), (64, &pem));
        let roots = Roots::of(&read, now()).unwrap();
        assert!(matches!(roots.0, RootCerts::Specific(all) if all.len() == 1));
    }

    #[test]
    fn what_could_not_count_is_refused_by_name() {
        let refused = |pem: &str| read(pem, now()).unwrap_err();
        assert_eq!(refused(""), InvalidAuthority::None);
        assert_eq!(refused("hello"), InvalidAuthority::None);
        let size = LONGEST + 1;
        assert_eq!(refused(&"x".repeat(size)), InvalidAuthority::TooLong { size });
        let (pem, key) = made("Acme root", -1, 10, |_| {});
        let other = InvalidAuthority::Other { number: 2, label: "PRIVATE KEY".to_owned() };
        assert_eq!(refused(&format!("{pem}{key}")), other);
        let broken = pem.replacen("MII", "MIX", 1);
        let broken = if broken == pem { pem.replacen("MIIB", "AAAA", 1) } else { broken };
        assert!(matches!(refused(&broken), InvalidAuthority::Unreadable { number: 1, .. }));
        assert!(matches!(
            refused("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"),
            InvalidAuthority::Unreadable { number: 1, .. }
        ));
        for alter in [
            (|it| it.is_ca = IsCa::NoCa) as fn(&mut CertificateParams),
            |it| it.is_ca = IsCa::ExplicitNoCa,
            |it| it.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        ] {
            let (server, _) = made("web-1", -1, 10, alter);
            let wrong = refused(&server);
            assert!(matches!(&wrong, InvalidAuthority::NoAuthority { .. }), "{wrong}");
        }
        let (over, _) = made("Acme old", -10, 0, |_| {});
        let text = refused(&over).to_string();
        assert!(
            text.contains("CN=Acme old") && text.ends_with("since 2026-06-01T00:00:00Z"),
            "{text}"
        );
        let (early, _) = made("Acme next", 1, 10, |_| {});
        assert!(matches!(refused(&early), InvalidAuthority::Early { .. }));
        let many: String = (0..=MOST_AUTHORITIES).map(|it| authority(&it.to_string())).collect();
        assert_eq!(refused(&many), InvalidAuthority::TooMany);
    }

    #[test]
    fn what_was_read_counts_until_its_end() {
        let (long, _) = made("long", -1, 20, |_| {});
        let both = read(&(authority("short") + &long), now()).unwrap();
        let counts = |days: i64| {
            let then = now() + SignedDuration::from_hours(24 * days);
            Roots::of(&both, then).map(|it| match it.0 {
                RootCerts::Specific(all) => all.len(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!((counts(9).unwrap(), counts(10).unwrap()), (2, 1));
        let over = counts(20).unwrap_err();
        assert!(matches!(&over, SourceError::Over { subject, .. } if subject.contains("long")));
        assert!(matches!(Roots::of(&[], now()).unwrap().0, RootCerts::WebPki));
    }
}
