//! Where people sign with passkeys.

/// The console's own address, and the name that passkeys are bound to, which is its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// As browsers write it: without a port where it is the scheme's own, without a path.
    origin: String,
    rp_id: String,
    has_any_port: bool,
}

/// Why an address is none where people can sign with passkeys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Not an origin.
    #[error("`{given}` is not an address like https://cloud.example.org")]
    Shape {
        /// What was given.
        given: String,
    },
    /// Browsers let only this machine be without TLS.
    #[error("`{given}`: only `localhost` may be without TLS")]
    WithoutTls {
        /// What was given.
        given: String,
    },
}

impl SiteError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "give scheme, name and port as the browser shows them: https://cloud.example.org"
    }
}

impl Site {
    /// The one at an origin: scheme, name, and port if it is not the scheme's own.
    ///
    /// # Errors
    /// If browsers let no passkey be bound to it.
    pub fn at(origin: &str) -> Result<Self, SiteError> {
        let given = || origin.chars().take(200).collect::<String>();
        let shape = || SiteError::Shape { given: given() };
        let (scheme, rest) = origin.split_once("://").ok_or_else(shape)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| shape())?)),
            None => (authority, None),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
        if host.is_empty() || !host.bytes().all(is_name) || is_address {
            return Err(shape());
        }
        let host = host.to_ascii_lowercase();
        let usual = match scheme {
            "https" => 443,
            "http" if host == "localhost" => 80,
            "http" => return Err(SiteError::WithoutTls { given: given() }),
            _ => return Err(shape()),
        };
        let port = port.filter(|port| *port != usual);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { origin: format!("{scheme}://{host}{port}"), rp_id: host, has_any_port: false })
    }

    /// The same at each port: what listens there on one's own machine is one's own.
    #[must_use]
    pub fn at_any_port(mut self) -> Self {
        self.has_any_port = true;
        self
    }

    /// Its origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The name that passkeys are bound to.
    pub fn rp_id(&self) -> &str {
        &self.rp_id
    }

    pub(super) fn has(&self, origin: &str) -> bool {
        let is_port = |rest: &str| {
            rest.strip_prefix(':').is_some_and(|port| {
                port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
            })
        };
        let rest = origin.strip_prefix(&self.origin);
        rest.is_some_and(|rest| rest.is_empty() || (self.has_any_port && is_port(rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_exactly_one_origin() {
        let site = Site::at("https://Cloud.example.org:443/").unwrap();
        assert_eq!(
            (site.origin(), site.rp_id()),
            ("https://cloud.example.org", "cloud.example.org")
        );

        assert!(site.has("https://cloud.example.org"));
        for other in [
            "http://cloud.example.org",
            "https://cloud.example.org:8443",
            "https://cloud.example.org.evil.example",
            "https://evil.cloud.example.org",
            "https://cloud.example.org/",
            "",
        ] {
            assert!(!site.has(other), "{other}");
        }
    }

    #[test]
    fn at_any_port_is_still_the_same_machine() {
        let site = Site::at("http://localhost").unwrap().at_any_port();

        assert!(site.has("http://localhost") && site.has("http://localhost:7878"));
        for other in
            ["http://localhost:x", "http://localhost:", "http://localhost:+1", "http://localhosts"]
        {
            assert!(!site.has(other), "{other}");
        }
    }

    #[test]
    fn passkeys_are_bound_to_names_over_tls() {
        for odd in [
            "",
            "cloud.example.org",
            "https://",
            "ftp://x",
            "https://x/y",
            "https://a@b",
            "https://x:0x",
            "https://127.0.0.1",
            "https://[::1]",
        ] {
            assert!(matches!(Site::at(odd), Err(SiteError::Shape { .. })), "{odd}");
        }
        assert!(matches!(Site::at("http://x.example"), Err(SiteError::WithoutTls { .. })));
        assert_eq!(Site::at("http://localhost:7878").unwrap().origin(), "http://localhost:7878");
    }
}
