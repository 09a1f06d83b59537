//! A log over HTTP.

use std::io;
use std::time::Duration;

use crate::errors::StorageError;
use crate::storage::ReadStorage;

/// Time to connect, to begin an answer, and for all of it.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(120);

/// Where a token for a log that is not for everybody is read from.
const TOKEN: &str = "PATCHWRIGHT_TOKEN";

/// A log at an address.
pub(super) struct Web {
    prefix: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

impl Web {
    /// The token in the environment goes along, but never over a network in the clear.
    pub(super) fn new(prefix: &str) -> Self {
        let token = std::env::var(TOKEN).ok().filter(|_| keeps_secrets(prefix));
        Self::with_token(prefix, token.as_deref())
    }

    fn with_token(prefix: &str, token: Option<&str>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A log's files do not move (tlog-tiles, "APIs").
            .max_redirects(0)
            .user_agent(concat!("patchwright-verify/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_global(Some(WHOLE))
            .build();
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            authorization: token.map(|token| format!("Bearer {}", token.trim())),
            agent: agent.into(),
        }
    }

    fn fetch(&self, address: &str, limit: u64) -> Result<Option<Vec<u8>>, ureq::Error> {
        let mut request = self.agent.get(address);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call()?;
        match answer.status().as_u16() {
            200 => answer.body_mut().with_config().limit(limit).read_to_vec().map(Some),
            404 | 410 => Ok(None),
            status => Err(ureq::Error::StatusCode(status)),
        }
    }
}

impl ReadStorage for Web {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let address = format!("{}/{path}", self.prefix);
        // The library counts a body of exactly its limit as too long.
        match self.fetch(&address, limit as u64 + 1) {
            Ok(Some(bytes)) if bytes.len() > limit => Err(StorageError::too_long(&address, limit)),
            Ok(bytes) => Ok(bytes),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(StorageError::too_long(&address, limit)),
            Err(error) => {
                let source = match error {
                    ureq::Error::StatusCode(401 | 403) => io::Error::other(format!(
                        "this log is not for everybody: put an API token into {TOKEN}, and use https"
                    )),
                    error => io::Error::other(error),
                };
                Err(StorageError { action: "read", path: address, source })
            }
        }
    }

    fn list(&self, _folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        Ok(None)
    }
}

/// Whether nobody can listen on the way: TLS, or this machine itself.
fn keeps_secrets(address: &str) -> bool {
    let Ok(uri) = address.parse::<ureq::http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    uri.scheme_str() == Some("https") || matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

#[cfg(test)]
mod tests {
    use super::keeps_secrets;

    #[test]
    fn a_token_never_crosses_a_network_in_the_clear() {
        for address in ["https://cloud.example/ledger", "http://127.0.0.1:7878/ledger"] {
            assert!(keeps_secrets(address), "{address}");
        }
        for address in [
            "http://cloud.example/ledger",
            "http://127.0.0.1.evil.example/",
            "http://localhost@evil.example/",
            "no address",
        ] {
            assert!(!keeps_secrets(address), "{address}");
        }
    }
}
