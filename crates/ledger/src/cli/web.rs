//! A log over HTTP.

use std::io;
use std::time::Duration;

use crate::errors::StorageError;
use crate::storage::ReadStorage;

/// Time to connect, to begin an answer, and for all of it.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(120);

/// A log at an address.
pub(super) struct Web {
    prefix: String,
    agent: ureq::Agent,
}

impl Web {
    pub(super) fn new(prefix: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A log's files do not move (tlog-tiles, "APIs").
            .max_redirects(0)
            .user_agent(concat!("patchwright-verify/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_global(Some(WHOLE))
            .build();
        Self { prefix: prefix.trim_end_matches('/').to_owned(), agent: agent.into() }
    }

    fn fetch(&self, address: &str, limit: u64) -> Result<Option<Vec<u8>>, ureq::Error> {
        let mut answer = self.agent.get(address).call()?;
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
                let source = io::Error::other(error);
                Err(StorageError { action: "read", path: address, source })
            }
        }
    }

    fn list(&self, _folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        Ok(None)
    }
}
