//! Addresses of mail.

use std::fmt;
use std::str::FromStr;

use domain::cloud::is_invisible;
use lettre::Address;

/// An address that mail can be sent to: `ops@acme.example`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailAddress(Address);

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a mail address")]
pub struct InvalidMailAddress {
    given: String,
}

impl InvalidMailAddress {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "give one address and nothing else: `ops@acme.example`"
    }
}

impl MailAddress {
    pub(super) const fn inner(&self) -> &Address {
        &self.0
    }

    /// What is behind the `@`.
    pub fn host(&self) -> &str {
        self.0.domain()
    }
}

impl FromStr for MailAddress {
    type Err = InvalidMailAddress;

    fn from_str(text: &str) -> Result<Self, InvalidMailAddress> {
        let invalid = || InvalidMailAddress { given: text.chars().take(64).collect() };
        // RFC 5321 4.5.3.1.3 counts two brackets with it.
        if text.len() > 254 || text.chars().any(|c| is_invisible(c) || c.is_whitespace()) {
            return Err(invalid());
        }
        text.parse().map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_and_nothing_else() {
        for text in ["ops@acme.example", "a.b+c@süd.example"] {
            assert_eq!(text.parse::<MailAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "ops",
            "Ops <ops@acme.example>",
            "ops@acme.example, x@acme.example",
            "ops@acme.example\r\nBcc: x@acme.example",
            "o ps@acme.example",
            "o\u{200b}ps@acme.example",
            "ops\u{202e}@acme.example",
            &format!("{}@acme.example", "x".repeat(300)),
        ] {
            assert!(text.parse::<MailAddress>().is_err(), "{text}");
        }
    }
}
