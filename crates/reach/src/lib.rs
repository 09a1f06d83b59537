//! Where webhooks, and looks at sources, may go: the public Internet, and what the operator opens.
//!
//! Tenants name the addresses, and our host stands where they do not: nobody may use it to reach its
//! neighbours (server-side request forgery). The name is resolved here, every address that it has
//! must be allowed, and the connection goes to one of exactly these: by [`Guard`] for whoever asks
//! with `ureq`, by [`Reach::find`] for others.

mod network;

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;

pub use ipnet::IpNet;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

use crate::network::{is_public, plain};

/// Longest address, in bytes.
const LONGEST: usize = 2000;

/// Names that are of no use, or another's, outside of the networks that they are made for
/// (RFC 6761, RFC 6762, RFC 9476).
const LOCAL_NAMES: [&str; 6] = ["localhost", "local", "internal", "home.arpa", "invalid", "onion"];

/// Where connections may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    networks: Vec<IpNet>,
}

/// Why a connection may not go there. Says nothing of what a name resolves to: who may register
/// addresses is not to learn of our neighbours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is no address of the web.
    #[error("this is not an address of the web: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Others could read and alter what is sent.
    #[error("the address is not https")]
    Open,
    /// It holds what no receiver's address does.
    #[error("the address holds a user or a fragment, or is longer than {LONGEST}")]
    Odd,
    /// A name of one network only.
    #[error("`{host}` is not a name that is the same everywhere")]
    Local {
        /// The name.
        host: String,
    },
    /// There is nothing, or nothing that may be reached.
    #[error("`{host}` has no address that may be reached")]
    Closed {
        /// The name or number.
        host: String,
    },
}

impl Unreachable {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Malformed { .. } | Self::Odd => {
                "give an address such as `https://acme.example/hook`"
            }
            Self::Open => "give an https address",
            Self::Local { .. } | Self::Closed { .. } => {
                "give an address on the public Internet; the operator can open others"
            }
        }
    }
}

impl Reach {
    /// The public Internet, over https.
    pub fn public() -> Self {
        Self::default()
    }

    /// The public Internet, and these networks, also over http. Whoever may name addresses can then
    /// make our host ask these networks' hosts.
    pub const fn also(networks: Vec<IpNet>) -> Self {
        Self { networks }
    }

    /// Whether somebody may register this address. Connects to nobody and resolves nothing: what the
    /// name stands for is looked at with every delivery.
    ///
    /// # Errors
    /// As [`Unreachable`].
    pub fn check(&self, address: &str) -> Result<Url, Unreachable> {
        if address.len() > LONGEST {
            return Err(Unreachable::Odd);
        }
        let malformed = |reason: String| Unreachable::Malformed { reason };
        let url = Url::parse(address).map_err(|error| malformed(error.to_string()))?;
        let is_odd =
            !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
        if is_odd || url.as_str().len() > LONGEST {
            return Err(Unreachable::Odd);
        }
        let is_open = match url.scheme() {
            "https" => false,
            "http" if !self.networks.is_empty() => true,
            _ => return Err(Unreachable::Open),
        };
        // What is asked is what was looked at, whoever reads it.
        let asked: Uri =
            url.as_str().parse().map_err(|_| malformed("it has odd characters".to_owned()))?;
        if asked.host() != url.host_str() || url.port() == Some(0) {
            return Err(malformed("its host or port is odd".to_owned()));
        }
        let number = match url.host() {
            Some(Host::Domain(name)) => {
                self.check_name(name)?;
                None
            }
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            None => return Err(malformed("it has no host".to_owned())),
        };
        if number.is_some_and(|number| !self.admits(number, is_open)) {
            return Err(Unreachable::Closed { host: url.host_str().unwrap_or("").to_owned() });
        }
        Ok(url)
    }

    /// Whether somebody may register this host for what is always encrypted, such as SSH. As
    /// [`check`](Self::check), connects to nobody and resolves nothing.
    ///
    /// # Errors
    /// As [`Unreachable`].
    pub fn check_host(&self, host: &str) -> Result<(), Unreachable> {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = self.check(&format!("https://{bracketed}/"))?;
        if url.host_str() != Some(bracketed.to_lowercase().as_str()) {
            return Err(Unreachable::Malformed { reason: "its host is odd".to_owned() });
        }
        Ok(())
    }

    /// What a host stands for now, for a connection that is always encrypted; all of it may be reached, or it is
    /// none. Blocks as long as the system's resolver does.
    ///
    /// # Errors
    /// As [`Unreachable`].
    pub fn find(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let found = found.unwrap_or_default();
        if found.is_empty() || !found.iter().all(|it| self.admits(it.ip(), false)) {
            return Err(Unreachable::Closed { host: host.to_owned() });
        }
        Ok(found)
    }

    fn check_name(&self, name: &str) -> Result<(), Unreachable> {
        let plain = name.strip_suffix('.').unwrap_or(name).to_lowercase();
        let is_local = !plain.contains('.')
            || LOCAL_NAMES.iter().any(|local| {
                plain.strip_suffix(local).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            });
        if is_local && self.networks.is_empty() {
            return Err(Unreachable::Local { host: name.to_owned() });
        }
        Ok(())
    }

    /// Whether a connection may go there; in the clear only where the operator opened it.
    fn admits(&self, address: IpAddr, is_open: bool) -> bool {
        let plain = plain(address);
        let is_opened =
            self.networks.iter().any(|net| net.contains(&plain) || net.contains(&address));
        is_opened || !is_open && is_public(address)
    }

    /// All of what a name stands for, or nothing.
    fn admitted(
        &self,
        uri: &Uri,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Unreachable> {
        let is_open = uri.scheme_str() != Some("https");
        let found: Vec<SocketAddr> = found.collect();
        if found.is_empty() || !found.iter().all(|it| self.admits(it.ip(), is_open)) {
            return Err(Unreachable::Closed { host: uri.host().unwrap_or("").to_owned() });
        }
        Ok(found)
    }
}

/// Resolves names for `ureq`, under a reach.
pub struct Guard(pub Reach);

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?.to_owned();
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        // The system's resolver cannot be stopped; its thread ends when it answers.
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = format!("{host}:{port}");
        thread::spawn(move || {
            let found = asked.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            let _ = answer.send(found.unwrap_or_default());
        });
        let found = answered
            .recv_timeout(*timeout.after)
            .map_err(|_| ureq::Error::Timeout(timeout.reason))?;
        let admitted = self
            .0
            .admitted(uri, found.into_iter())
            .map_err(|refused| ureq::Error::Other(Box::new(refused)))?;
        let mut resolved = self.empty();
        for address in admitted.into_iter().take(16) {
            resolved.push(address);
        }
        Ok(resolved)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Reach {
        Reach::also(vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()])
    }

    #[test]
    fn what_may_be_registered() {
        for address in [
            "https://acme.example/hook?token=x",
            "https://acme.example:8443/",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "https://süd.example/",
        ] {
            assert!(Reach::public().check(address).is_ok(), "{address}");
            assert!(opened().check(address).is_ok(), "{address}");
        }
        for address in [
            "",
            "acme.example",
            "http://acme.example/",
            "ftp://acme.example/",
            "file:///etc/passwd",
            "gopher://acme.example/",
            "https://user@acme.example/",
            "https://:pass@acme.example/",
            "https://acme.example/#x",
            "https://acme.example:0/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://router/",
            "https://db.internal/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://１２７.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[fd00:1::1]/",
            &format!("https://acme.example/{}", "x".repeat(2000)),
        ] {
            assert!(Reach::public().check(address).is_err(), "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_registered_by_its_number_is_public(
            address in "(https://)?[0-9a-fx.:\\[\\]@/#?%１-９。]{0,30}"
        ) {
            let Ok(url) = Reach::public().check(&address) else { return Ok(()) };
            let host = url.host_str().unwrap().trim_matches(['[', ']']);
            if let Ok(number) = host.parse::<IpAddr>() {
                proptest::prop_assert!(is_public(number), "{}", url);
            }
        }

        #[test]
        fn no_address_makes_it_panic(address in "(https?://)?\\PC{0,60}") {
            let _ = Reach::public().check(&address);
            let _ = opened().check(&address);
        }
    }

    #[test]
    fn hosts_are_named_as_in_addresses() {
        for host in ["git.acme.example", "1.1.1.1", "2606:4700::1111"] {
            assert_eq!(Reach::public().check_host(host), Ok(()), "{host}");
        }
        for host in [
            "",
            "localhost",
            "router",
            "10.1.2.3",
            "::1",
            "a.example/x",
            "a@b.example",
            "a.example:1",
            "a.example?x",
            "127.1",
            "-oProxyCommand=x",
        ] {
            assert!(Reach::public().check_host(host).is_err(), "{host}");
        }
        assert_eq!(opened().check_host("10.1.2.3"), Ok(()));
        let loopback = Reach::public().find("127.0.0.1", 22);
        assert_eq!(loopback, Err(Unreachable::Closed { host: "127.0.0.1".to_owned() }));
        let loopback = Reach::also(vec!["127.0.0.0/8".parse().unwrap()]).find("127.0.0.1", 22);
        assert_eq!(loopback, Ok(vec!["127.0.0.1:22".parse().unwrap()]));
    }

    #[test]
    fn the_operator_opens_networks_and_nothing_else() {
        for address in
            ["https://10.1.2.3/", "http://10.1.2.3/", "http://[fd00:1::1]/", "http://router/"]
        {
            assert!(opened().check(address).is_ok(), "{address}");
        }
        for address in
            ["https://10.2.0.1/", "http://1.1.1.1/", "http://127.0.0.1/", "https://[fd00:2::1]/"]
        {
            assert!(opened().check(address).is_err(), "{address}");
        }
    }

    #[test]
    fn one_private_address_closes_a_name() {
        let admitted = |uri: &str, reach: &Reach, found: &[&str]| {
            let found = found.iter().map(|it| SocketAddr::new(it.parse().unwrap(), 443));
            reach.admitted(&uri.parse().unwrap(), found).map(|it| it.len())
        };
        let closed = Err(Unreachable::Closed { host: "a.example".to_owned() });

        assert_eq!(
            admitted("https://a.example/", &Reach::public(), &["1.1.1.1", "1.0.0.1"]),
            Ok(2)
        );
        assert_eq!(
            admitted("https://a.example/", &Reach::public(), &["1.1.1.1", "10.1.0.1"]),
            closed
        );
        assert_eq!(admitted("https://a.example/", &Reach::public(), &[]), closed);
        assert_eq!(admitted("https://a.example/", &opened(), &["1.1.1.1", "10.1.0.1"]), Ok(2));
        // In the clear only where it was opened.
        assert_eq!(admitted("http://a.example/", &opened(), &["10.1.0.1"]), Ok(1));
        assert_eq!(admitted("http://a.example/", &opened(), &["1.1.1.1", "10.1.0.1"]), closed);
    }
}
