//! `/changes/{id}/files`: what an alteration makes of files.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::FileHash;
use domain::cloud::{ChangeId, CiId, TenantId};
use domain::configuration::diff::diff;
use domain::configuration::secret::{FingerprintKey, redact};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, FilePath, FileVersion, IntendedFile, NewIntendedFile, Past};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configuration::FileOfItem;
use super::{Body, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, propose)).routes(routes!(differs))
}

/// What an alteration makes of a file. What it is to hold is told by `…/diff`, without what is secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IntendedFileView {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[serde(flatten)]
    of: FileOfItem,
    /// SHA-256 of what it held when that was proposed; null where it was not there.
    #[schema(value_type = Option<String>)]
    held: Option<FileHash>,
    /// SHA-256 of what it is to hold.
    #[schema(value_type = String)]
    after: FileHash,
    /// Size of that.
    bytes: u64,
    proposed_by: String,
    #[schema(value_type = String, format = DateTime)]
    proposed_at: Timestamp,
}

impl From<IntendedFile> for IntendedFileView {
    fn from(file: IntendedFile) -> Self {
        let IntendedFile { change: _, tenant, ci, ci_name, path, held, after, bytes, .. } = file;
        Self {
            tenant,
            of: FileOfItem::new(ci, ci_name, &path),
            held,
            after,
            bytes,
            proposed_by: file.proposed_by,
            proposed_at: file.proposed_at,
        }
    }
}

/// What an alteration is to make of a file.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposeRequest {
    /// The item.
    #[schema(value_type = String)]
    ci: CiId,
    /// Absolute path.
    path: String,
    /// All that it is to hold, in base64; 1 MiB at most.
    content: String,
}

/// Which file of a change.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhichFile {
    /// The item.
    // Looked at after the change: what is another tenant's is not there, whatever is asked of it.
    #[serde(default)]
    #[param(required = true)]
    ci: String,
    /// Absolute path.
    #[serde(default)]
    #[param(required = true)]
    path: String,
}

/// What an alteration makes of a file, held against what the file is now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IntendedDiff {
    file: IntendedFileView,
    /// What differs from now, as `diff -u` writes it, without what is secret; null where one of both is no text, is
    /// too large, or is not there any more.
    diff: Option<String>,
}

/// List what an alteration makes of files, by item and path.
#[utoipa::path(get, path = "/changes/{id}/files", tag = "changes", params(("id" = String, Path)),
    responses((status = 200, body = Vec<IntendedFileView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<ChangeId>,
) -> Result<Json<Vec<IntendedFileView>>, Problem> {
    app.store.change(&by, id).await?;
    let files = app.history.intended_files(&by, id).await?;
    Ok(Json(files.into_iter().map(IntendedFileView::from).collect()))
}

/// Say what an alteration makes of a file, in the place of what was said before. It can be said until the change is
/// proven; its plan has the SHA-256 of what the file holds now and of what it is to hold.
#[utoipa::path(put, path = "/changes/{id}/files", tag = "changes", params(("id" = String, Path)),
    request_body = ProposeRequest, responses((status = 200, body = IntendedFileView), Problems))]
async fn propose(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    Path(id): Path<ChangeId>,
    Body(ProposeRequest { ci, path, content }): Body<ProposeRequest>,
) -> Result<Json<IntendedFileView>, Problem> {
    let wrong = |detail: String| Problem::new(Kind::Invalid, detail);
    let path = FilePath::new(path).map_err(|error| wrong(format!("path: {error}")))?;
    let content = BASE64_STANDARD.decode(content);
    let content = content.map_err(|error| wrong(format!("content: {error}")))?;
    let file = app.history.propose_file(&by, id, NewIntendedFile { ci, path, content }).await?;
    Ok(Json(file.into()))
}

/// Tell what an alteration makes of a file, held against what the file is now. Where somebody of the provider reads a
/// tenant's, that is recorded first.
#[utoipa::path(get, path = "/changes/{id}/files/diff", tag = "changes",
    params(("id" = String, Path), WhichFile), responses((status = 200, body = IntendedDiff), Problems))]
async fn differs(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<ChangeId>,
    Query(WhichFile { ci, path }): Query<WhichFile>,
) -> Result<Json<IntendedDiff>, Problem> {
    app.store.change(&by, id).await?;
    let ci: CiId = given("ci", &ci)?;
    let mut files = app.history.intended_files(&by, id).await?;
    files.retain(|file| file.ci == ci && file.path.as_str() == path);
    let file = files.pop().ok_or_else(|| Problem::not_found("such file of this change"))?;
    let diff = both(&app, &by, &file).await?;
    let diff = diff.and_then(|(now, then)| Some(diff_of(&now, &then)?.unified(&now, &then)));
    Ok(Json(IntendedDiff { file: file.into(), diff }))
}

fn diff_of(now: &str, then: &str) -> Option<domain::configuration::diff::Diff> {
    diff(now, then).ok()
}

/// What a file holds now and what it is to hold, both without what is secret, once it stands in the record that
/// somebody reads it; `None` where one of them is not kept any more.
pub(crate) async fn both(
    app: &App,
    by: &Actor,
    file: &IntendedFile,
) -> Result<Option<(String, String)>, Problem> {
    app.store.tell_files_read(by, file.ci).await?;
    let now = app.store.environment().now();
    let Past::Kept(found) = app.history.file_at(by, file.ci, &file.path, now).await? else {
        return Ok(None);
    };
    let Some(intended) = app.history.intended_content(file).await? else { return Ok(None) };
    let found = found.filter(FileVersion::is_present).and_then(|version| version.content);
    let found = String::from_utf8_lossy(&found.unwrap_or_default()).into_owned();
    // Nobody learns by a fingerprint whether a secret is one that is known elsewhere.
    let key = FingerprintKey::from(app.random());
    Ok(Some((found, redact(file.path.as_str(), &intended, &key).into_text())))
}
