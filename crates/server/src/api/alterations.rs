//! `/changes/{id}/files`: what an alteration makes of files.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::alteration::Named;
use domain::change::{Access, Account, FileHash, Intended, Mode};
use domain::cloud::{ChangeId, CiId, TenantId};
use domain::configuration::diff::diff;
use domain::configuration::secret::{FingerprintKey, redact};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Actor, FilePath, FileVersion, IntendedFile, NewIntended, NewIntendedFile, Past};
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
    /// Whose it was then; null where it was not there, or nothing is told of that.
    held_access: Option<AccessView>,
    /// SHA-256 of what it is to hold; null where it is to be taken away.
    #[schema(value_type = Option<String>)]
    after: Option<FileHash>,
    /// Whose it is to be; null where that stays as it is, or it is to be taken away.
    access: Option<AccessView>,
    /// Size of what it is to hold.
    bytes: u64,
    proposed_by: String,
    #[schema(value_type = String, format = DateTime)]
    proposed_at: Timestamp,
}

/// Whose a file is, and who may do what with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccessView {
    /// Permissions, as `chmod` takes them.
    #[schema(value_type = String, example = "0644")]
    mode: Mode,
    /// The account, by its name, or by its number where its host has no name for it.
    #[schema(value_type = String, example = "root")]
    owner: Account,
    /// The group, in the same way.
    #[schema(value_type = String, example = "root")]
    group: Account,
}

impl AccessView {
    fn of(what: &Intended) -> Option<Self> {
        let Access { mode, owner, group } = what.access()?.clone();
        Some(Self { mode, owner, group })
    }
}

impl From<IntendedFile> for IntendedFileView {
    fn from(file: IntendedFile) -> Self {
        let IntendedFile { change: _, tenant, ci, ci_name, path, held, after, bytes, .. } = file;
        Self {
            tenant,
            of: FileOfItem::new(ci, ci_name, &path),
            held: held.sha256(),
            held_access: AccessView::of(&held),
            after: after.sha256(),
            access: AccessView::of(&after),
            bytes,
            proposed_by: file.proposed_by,
            proposed_at: file.proposed_at,
        }
    }
}

/// What an alteration is to make of a file: that it has a content, that it is somebody's, both, or that it is not there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposeRequest {
    /// The item.
    #[schema(value_type = String)]
    ci: CiId,
    /// Absolute path.
    path: String,
    /// That it is to be taken away; nothing else is said of it then.
    #[serde(default)]
    absent: bool,
    /// All that it is to hold, in base64; 1 MiB at most. What it holds stays where this is left out.
    content: Option<String>,
    /// Its permissions, as `chmod` takes them; those that it has where this is left out, 0644 of a new file.
    #[schema(example = "0640")]
    mode: Option<String>,
    /// Its owner, by the name that its host has, or by a number without one; who has it where this is left out, root of a
    /// new file.
    #[schema(example = "www-data")]
    owner: Option<String>,
    /// Its group, in the same way.
    #[schema(example = "adm")]
    group: Option<String>,
}

impl ProposeRequest {
    fn intended(self) -> Result<NewIntended, Problem> {
        let wrong = |detail: String| Problem::new(Kind::Invalid, detail);
        let Self { absent, content, mode, owner, group, .. } = self;
        let access = Named {
            mode: mode.map(|it| given("mode", &it)).transpose()?,
            owner: owner.map(|it| given("owner", &it)).transpose()?,
            group: group.map(|it| given("group", &it)).transpose()?,
        };
        match (content, absent) {
            (None, true) if access.is_silent() => Ok(NewIntended::Absent),
            (_, true) => Err(wrong("absent: what is to be taken away is nothing else".to_owned())
                .help("leave `content`, `mode`, `owner` and `group` out, or `absent`")),
            (Some(content), false) => {
                let content = BASE64_STANDARD.decode(content);
                let content = content.map_err(|error| wrong(format!("content: {error}")))?;
                Ok(NewIntended::Content { content, access })
            }
            (None, false) if access.is_silent() => Err(wrong(
                "nothing is said of what the file is to be".to_owned(),
            )
            .help("say its `content`, its `mode`, `owner` or `group`, or that it is `absent`")),
            (None, false) => Ok(NewIntended::Access(access)),
        }
    }
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

/// Say what an alteration makes of a file, in the place of what was said before: its content, whose it is, or that it is
/// taken away. It can be said until the change is proven; its plan has the SHA-256 of what the file holds now and of what
/// it is to hold, and whose it is where that is altered.
#[utoipa::path(put, path = "/changes/{id}/files", tag = "changes", params(("id" = String, Path)),
    request_body = ProposeRequest, responses((status = 200, body = IntendedFileView), Problems))]
async fn propose(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    Path(id): Path<ChangeId>,
    Body(request): Body<ProposeRequest>,
) -> Result<Json<IntendedFileView>, Problem> {
    let path = FilePath::new(request.path.as_str())
        .map_err(|error| Problem::new(Kind::Invalid, format!("path: {error}")))?;
    let (ci, intended) = (request.ci, request.intended()?);
    let file = app.history.propose_file(&by, id, NewIntendedFile { ci, path, intended }).await?;
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
    let both = both(&app, &by, &file).await?;
    let name =
        |what: &Intended| if *what == Intended::Absent { "/dev/null" } else { path.as_str() };
    let (from, to) = (name(&file.held), name(&file.after));
    let diff = both.and_then(|(now, then)| Some(diff(&now, &then).ok()?.unified(from, to)));
    Ok(Json(IntendedDiff { file: file.into(), diff }))
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
    let intended = match file.after {
        Intended::Absent => String::new(),
        Intended::Content { .. } => redact(file.path.as_str(), &intended, &key).into_text(),
    };
    Ok(Some((found, intended)))
}
