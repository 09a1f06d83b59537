//! Certificates that an operator believes instead of the public ones.

use ureq::tls::{Certificate, PemItem, parse_pem};

/// Certificates that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no certificate in PEM")]
pub struct InvalidRoots;

impl InvalidRoots {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "give the certificate of the other side's authority, in PEM"
    }
}

/// All of a text in PEM; at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, InvalidRoots> {
    let mut roots = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(root) = item.map_err(|_| InvalidRoots)? {
            roots.push(root);
        }
    }
    if roots.is_empty() { Err(InvalidRoots) } else { Ok(roots) }
}
