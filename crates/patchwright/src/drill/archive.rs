//! The archives for the drill's virtual machines: what this machine's own apt uses, passed on byte for byte.
//!
//! The machines verify signatures themselves, against the keys that their image brings. What was fetched once
//! stays as it is for as long as the drill takes: nothing new comes in between.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use collect::fetch::{Fetched, Fetcher, Mark};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Largest file passed on: a package list of `main` has 50 MB.
const LARGEST: u64 = 512 << 20;

/// Archives on this machine's loopback, until dropped.
pub(super) struct Archives {
    address: SocketAddr,
    behind: Arc<Behind>,
    _runtime: Runtime,
}

/// The archives themselves, each by its number.
struct Behind {
    uris: Vec<String>,
    fetcher: Fetcher,
    known: Mutex<HashMap<String, Option<Arc<Vec<u8>>>>>,
}

impl Archives {
    /// Opens a door to the archives that a deb822 text names; `sources` then says it for a virtual machine.
    pub(super) fn open(sources: &str, fetcher: Fetcher) -> Result<Self> {
        let uris: Vec<String> = sources
            .lines()
            .filter_map(|line| line.strip_prefix("URIs: "))
            .map(str::to_owned)
            .collect();
        let behind = Arc::new(Behind { uris, fetcher, known: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start threads")?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("cannot listen on this machine's loopback")?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass_on).with_state(Arc::clone(&behind));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, behind, _runtime: runtime })
    }

    /// The same sources as a virtual machine reaches them, through its gateway.
    pub(super) fn sources(&self, sources: &str) -> String {
        let mut text = sources.to_owned();
        for (number, uri) in self.behind.uris.iter().enumerate() {
            let door = format!("http://10.0.2.2:{}/{number}", self.address.port());
            text = text.replace(&format!("URIs: {uri}"), &format!("URIs: {door}"));
        }
        text
    }
}

async fn pass_on(State(behind): State<Arc<Behind>>, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    let fetched = tokio::task::spawn_blocking(move || behind.fetch(&path)).await;
    match fetched {
        Ok(Ok(Some(bytes))) => bytes.to_vec().into_response(),
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Behind {
    fn fetch(&self, path: &str) -> Result<Option<Arc<Vec<u8>>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let (number, rest) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let base = number.parse().ok().and_then(|number: usize| self.uris.get(number));
        let Some(base) = base else { return Ok(None) };
        let uri = format!("{}/{rest}", base.trim_end_matches('/'));
        let found = match self.fetcher.small(&uri, LARGEST, &Mark::default())? {
            Fetched::Content { bytes, .. } => Some(Arc::new(bytes)),
            Fetched::Unchanged | Fetched::Absent => None,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(path.to_owned()).or_insert(found).clone())
    }
}
