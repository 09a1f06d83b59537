//! The ledger's files, and the proof of one event.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use ledger::{ReadStorage as _, Receipt, SignedCheckpoint, Tree};
use serde::Serialize;
use store::Retrieval;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events::From;
use super::{Path, Problems, Query};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};
use crate::record;

/// Largest file of a log that is served: a bundle of 256 entries of 64 KiB.
const LARGEST_FILE: usize = 256 * (2 + (1 << 16));

/// Longest checkpoint with all its cosignatures.
const LONGEST_CHECKPOINT: usize = 1 << 16;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(head)).routes(routes!(records)).routes(routes!(proof))
}

/// The ledger as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Head {
    /// Public key of the log, for whoever verifies.
    #[schema(example = "patchwright/0f3a…+1f2e3d4c+AT…")]
    key: String,
    /// The signed checkpoint (C2SP tlog-checkpoint); null before the first.
    checkpoint: Option<String>,
}

/// What an entry of the ledger commits to.
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the names are the API's")]
pub(crate) struct Record {
    /// Place in the ledger.
    sequence: u64,
    /// The record, in exactly its bytes.
    record: String,
    /// Salt of the commitment, hexadecimal: SHA-256(salt, record) stands in the entry.
    salt: String,
}

/// Records of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Records {
    items: Vec<Record>,
    /// Send it as `from` for those that follow.
    next: u64,
}

/// Proof that an event is in the ledger as the server tells it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Proof {
    /// Place in the ledger.
    sequence: u64,
    /// The entry, in exactly its bytes.
    entry: String,
    /// The record that the entry commits to, in exactly its bytes.
    record: String,
    /// Salt of the commitment, hexadecimal: SHA-256(salt, record) stands in the entry.
    salt: String,
    /// Inclusion proof with the checkpoint (C2SP tlog-proof).
    receipt: String,
}

/// Read the ledger's key and checkpoint.
#[utoipa::path(get, path = "/ledger", tag = "ledger",
    responses((status = 200, body = Head), Problems))]
async fn head(
    State(app): State<App>,
    _by: By<{ Action::LedgerRead as usize }>,
) -> Result<Json<Head>, Problem> {
    let recorder = &app.recorder;
    let checkpoint =
        recorder.directory().get("checkpoint", LONGEST_CHECKPOINT).map_err(unreadable)?;
    let checkpoint = checkpoint.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Json(Head { key: recorder.key().to_string(), checkpoint }))
}

/// Read the records that one may see, to keep them with a copy of the ledger. That they are read is
/// recorded first.
#[utoipa::path(get, path = "/ledger/records", tag = "ledger", params(From),
    responses((status = 200, body = Records), Problems))]
async fn records(
    State(app): State<App>,
    By(by): By<{ Action::EventRead as usize }>,
    Query(asked): Query<From>,
) -> Result<Json<Records>, Problem> {
    let (from, limit) = asked.checked()?;
    let events = app.store.events(&by, Retrieval::Records, from, limit).await?;
    let items = events.iter().map(Record::of).collect::<Result<Vec<_>, _>>()?;
    let next = items.last().map_or(from, |record| record.sequence + 1);
    Ok(Json(Records { items, next }))
}

impl Record {
    fn of(event: &store::Event) -> Result<Self, Problem> {
        let sequence = event.sequence.ok_or_else(not_yet)?;
        let record = record::record(event).map_err(unreadable)?;
        let record = String::from_utf8(record).map_err(unreadable)?;
        Ok(Self { sequence, record, salt: blake3::Hash::from(event.salt).to_hex().to_string() })
    }
}

/// Prove an event: its record, its entry, and the entry's place under the checkpoint.
#[utoipa::path(get, path = "/events/{sequence}/proof", tag = "ledger",
    params(("sequence" = u64, Path)), responses((status = 200, body = Proof), Problems))]
async fn proof(
    State(app): State<App>,
    By(by): By<{ Action::EventRead as usize }>,
    Path(sequence): Path<u64>,
) -> Result<Json<Proof>, Problem> {
    let missing = || Problem::not_found("event at this place of the ledger");
    let event = app.store.event(&by, sequence).await?.ok_or_else(missing)?;
    let directory = app.recorder.directory();
    let (entry, receipt) = tokio::task::spawn_blocking(move || {
        let checkpoint = directory
            .get("checkpoint", LONGEST_CHECKPOINT)
            .map_err(unreadable)?
            .ok_or_else(not_yet)?;
        let checkpoint = SignedCheckpoint::parse(&checkpoint).map_err(unreadable)?;
        let head = checkpoint.claimed();
        if sequence >= head.size {
            return Err(not_yet());
        }
        let tree = Tree::new(directory, head.size, head.root);
        let entry = tree.entry(sequence).map_err(unreadable)?;
        let path = tree.inclusion(sequence).map_err(unreadable)?;
        Ok((entry, Receipt::new(sequence, path, checkpoint).to_text()))
    })
    .await
    .map_err(|_| Problem::new(Kind::Internal, "proving was cut off"))??;
    let Record { sequence, record, salt } = Record::of(&event)?;
    let entry = String::from_utf8(entry).map_err(unreadable)?;
    Ok(Json(Proof { sequence, entry, record, salt, receipt }))
}

/// A file of the log, as C2SP tlog-tiles lays it out, for verifiers that read it over HTTP.
pub(crate) async fn file(
    State(app): State<App>,
    _by: By<{ Action::LedgerRead as usize }>,
    axum::extract::Path(path): axum::extract::Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let missing = || Problem::not_found("such file in the ledger");
    if !is_of_log(&path) {
        return Err(missing());
    }
    let directory = app.recorder.directory();
    let kind = if path.starts_with("checkpoint") {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    };
    let bytes = tokio::task::spawn_blocking(move || directory.get(&path, LARGEST_FILE))
        .await
        .map_err(|_| Problem::new(Kind::Internal, "reading was cut off"))?
        .map_err(unreadable)?
        .ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, kind)], bytes))
}

/// `checkpoint`, the latest that witnesses cosigned, or `tile/` with levels, numbers and partial widths: nothing that leads elsewhere.
fn is_of_log(path: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |part: &str| {
        is_number(
            part.strip_prefix('x')
                .unwrap_or(part)
                .strip_suffix(".p")
                .unwrap_or_else(|| part.strip_prefix('x').unwrap_or(part)),
        )
    };
    if matches!(path, "checkpoint" | "checkpoint.witnessed") {
        return true;
    }
    path.strip_prefix("tile/").is_some_and(|rest| {
        let mut parts = rest.split('/');
        let level = parts.next().unwrap_or_default();
        let mut parts = parts.peekable();
        (level == "entries" || is_number(level)) && parts.peek().is_some() && parts.all(is_part)
    })
}

fn not_yet() -> Problem {
    Problem::new(Kind::Unavailable, "the ledger does not hold it yet").help("ask again in a second")
}

#[allow(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unreadable(error: impl std::error::Error + 'static) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "the ledger cannot be read");
    Problem::new(Kind::Internal, "the ledger cannot be read; the server's log says why")
}

#[cfg(test)]
mod tests {
    use super::is_of_log;

    #[test]
    fn only_files_of_a_log_are_served() {
        for path in ["checkpoint", "tile/0/000", "tile/0/x001/067.p/8", "tile/entries/000.p/3"] {
            assert!(is_of_log(path), "{path}");
        }
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/../checkpoint",
            "tile/0/..",
            "/etc/passwd",
            "tile/0/.new",
            "tile/x/000",
            "checkpoint/",
            "tile//000",
            "tile/0/xx1",
        ] {
            assert!(!is_of_log(path), "{path}");
        }
    }
}
