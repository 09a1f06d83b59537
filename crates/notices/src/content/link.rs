//! Where the links in notices lead.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url, form_urlencoded};

use super::text::FileName;

/// Longest address, in bytes.
const LONGEST: usize = 500;

/// The control plane's address, from which all links begin: `https://patch.example.org/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkBase(Url);

/// An address from which no links can begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLinkBase {
    /// It is none.
    #[error("`{given}` is not an address: {reason}")]
    Malformed {
        /// Its beginning.
        given: String,
        /// Why.
        reason: String,
    },
    /// Others could answer in its place.
    #[error("`{given}` is neither https nor on this machine")]
    Open {
        /// Its beginning.
        given: String,
    },
    /// It holds what would be lost, or told to everybody.
    #[error("the address holds a user, a question or a fragment, or is longer than {LONGEST}")]
    Odd,
}

impl InvalidLinkBase {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "give the address at which tenants reach the control plane: `https://patch.example.org/`"
    }
}

impl LinkBase {
    /// The address with a path behind it, whose steps are words without special characters.
    pub fn to(&self, steps: &[&str]) -> String {
        format!("{}{}", self.0, steps.join("/"))
    }

    /// The same, asking for a file there, by its path.
    pub fn to_file(&self, steps: &[&str], path: &FileName) -> String {
        let encoded: String = form_urlencoded::byte_serialize(path.as_str().as_bytes()).collect();
        // A slash may stand in a query (RFC 3986 §3.4), and people read these.
        format!("{}?path={}", self.to(steps), encoded.replace("%2F", "/"))
    }

    /// The host by its name or number, for the names of entries in feeds.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or("localhost")
    }
}

impl FromStr for LinkBase {
    type Err = InvalidLinkBase;

    fn from_str(text: &str) -> Result<Self, InvalidLinkBase> {
        let given = || text.chars().take(64).collect();
        let mut url = Url::parse(text).map_err(|error| InvalidLinkBase::Malformed {
            given: given(),
            reason: error.to_string(),
        })?;
        let is_odd = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        if is_odd || url.as_str().len() > LONGEST {
            return Err(InvalidLinkBase::Odd);
        }
        let is_here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if !(url.scheme() == "https" && url.has_host() || url.scheme() == "http" && is_here) {
            return Err(InvalidLinkBase::Open { given: given() });
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for LinkBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_str())
    }
}

impl Serialize for LinkBase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for LinkBase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_file_stays_one_value_of_one_question() {
        let base = "https://patch.example.org/".parse::<LinkBase>().unwrap();
        let link = |path: &str| base.to_file(&["cis", "ci_1", "file"], &path.parse().unwrap());
        assert_eq!(
            link("/etc/ssh/sshd_config"),
            "https://patch.example.org/cis/ci_1/file?path=/etc/ssh/sshd_config"
        );
        for path in
            ["/a b+c", "/%2F", "/a&at=1#x", "/\"><script>", "/ä\u{202e}\u{200b}", "a=b;c\\d"]
        {
            let link = link(path);
            let read = Url::parse(&link).unwrap();
            let pairs: Vec<_> = read.query_pairs().into_owned().collect();
            assert_eq!(pairs, [("path".to_owned(), path.to_owned())], "{link}");
            assert!(
                link.bytes().all(|it| it.is_ascii_graphic() && !b"\"'<>".contains(&it)),
                "{link}"
            );
        }
    }

    #[test]
    fn links_begin_at_an_address_that_nobody_else_answers() {
        let base = "https://patch.example.org/cloud".parse::<LinkBase>().unwrap();
        assert_eq!(base.to(&["notices", "ntc_1"]), "https://patch.example.org/cloud/notices/ntc_1");
        assert_eq!(base.host(), "patch.example.org");
        assert!("http://127.0.0.1:8080".parse::<LinkBase>().is_ok());

        for text in [
            "",
            "patch.example.org",
            "http://patch.example.org/",
            "javascript:alert(1)",
            "https://a@patch.example.org/",
            "https://patch.example.org/?x",
            "https://patch.example.org/#x",
        ] {
            assert!(text.parse::<LinkBase>().is_err(), "{text}");
        }
    }
}
