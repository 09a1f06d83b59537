//! A witness as a service (C2SP tlog-witness): for whoever wants to hold another's log to its word.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger::errors::StorageError;
use ledger::witness::{Advance, Memory, Reply, Witness};
use ledger::{Directory, ReadStorage as _, SignedCheckpoint, Storage as _, VerifierKey};
use store::Environment;
use tower_http::limit::RequestBodyLimitLayer;

/// Largest request taken: a proof has at most 63 lines.
const LARGEST_REQUEST: usize = 1 << 18;

/// Largest checkpoint kept.
const LARGEST_NOTE: usize = 1 << 16;

/// What a witness remembers, in a directory: for each log the last checkpoint that it cosigned.
#[derive(Debug)]
pub struct WitnessMemory {
    directory: Directory,
}

/// Why a witness cannot remember.
#[derive(Debug, thiserror::Error)]
pub enum WitnessMemoryError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The directory cannot be kept for ourselves.
    #[error("the witness' directory cannot be locked")]
    Lock(#[source] io::Error),
    /// What is kept is damaged. A witness that forgot would cosign anything.
    #[error("what is kept of the log `{origin}` is damaged")]
    Damaged {
        /// Which log.
        origin: String,
    },
}

impl WitnessMemory {
    /// One in a directory, which may be empty.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Directory::new(directory) }
    }

    /// A log's name may hold anything; a file's name is made of its hash.
    fn path(origin: &str) -> String {
        format!("logs/{}", ledger::Hash::of(origin.as_bytes()).to_hex())
    }
}

impl Memory for WitnessMemory {
    type Error = WitnessMemoryError;

    fn latest(&self, origin: &str) -> Result<Option<SignedCheckpoint>, Self::Error> {
        let damaged = || WitnessMemoryError::Damaged { origin: origin.to_owned() };
        let Some(bytes) = self.directory.get(&Self::path(origin), LARGEST_NOTE)? else {
            return Ok(None);
        };
        let kept = SignedCheckpoint::parse(&bytes).map_err(|_| damaged())?;
        if kept.claimed().origin == origin { Ok(Some(kept)) } else { Err(damaged()) }
    }

    fn advance(&mut self, from: u64, next: &SignedCheckpoint) -> Result<Advance, Self::Error> {
        // Another process may serve the same directory.
        let _alone = self.directory.lock().map_err(WitnessMemoryError::Lock)?;
        let origin = &next.claimed().origin;
        let size = self.latest(origin)?.map_or(0, |kept| kept.claimed().size);
        if size != from {
            return Ok(Advance::Raced);
        }
        self.directory.put(&Self::path(origin), &next.to_bytes())?;
        Ok(Advance::Kept)
    }
}

#[derive(Clone)]
struct Service(Arc<Parts>);

struct Parts {
    witness: Witness,
    key: VerifierKey,
    memory: Mutex<WitnessMemory>,
    environment: Arc<dyn Environment>,
}

/// The routes of a witness.
pub fn witness_router(
    witness: Witness,
    key: VerifierKey,
    memory: WitnessMemory,
    environment: Arc<dyn Environment>,
) -> Router {
    let memory = Mutex::new(memory);
    let service = Service(Arc::new(Parts { witness, key, memory, environment }));
    Router::new()
        .route("/", get(about))
        .route("/healthz", get(async || "ok\n"))
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(RequestBodyLimitLayer::new(LARGEST_REQUEST))
        .with_state(service)
}

async fn about(State(Service(service)): State<Service>) -> String {
    format!("A witness of transparency logs (C2SP tlog-witness).\n\n{}\n", service.key)
}

async fn add_checkpoint(State(Service(service)): State<Service>, body: Bytes) -> Response {
    let answer = tokio::task::spawn_blocking(move || {
        let mut memory = service.memory.lock().unwrap_or_else(PoisonError::into_inner);
        service.witness.add_checkpoint(&mut *memory, &body, service.environment.now())
    })
    .await;
    match answer {
        Ok(Ok(Reply { status, content_type, body })) => {
            if status == 422 {
                // Either the log forgot, or it shows different histories to different people.
                tracing::error!(
                    answer = %String::from_utf8_lossy(&body).trim_end(),
                    "a log does not continue what it showed before"
                );
            }
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "nothing is cosigned");
            (StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot remember\n").into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "cut off\n").into_response(),
    }
}
