//! `/cis/{id}/files`: what an item is and was configured by. `/configuration/search`: which items are configured so.
//! `/configuration/files` and `…/changes`: the same of all items of a group or a tenant.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::Reason;
use domain::cloud::{ChangeId, CiId, Duty, Name, PROVIDER, TenantId};
use domain::configuration::baseline::{Content, ObservedFile};
use domain::configuration::blame::blame;
use domain::configuration::search::{Found, InvalidQuery, Query as Search};
use domain::configuration::verdict::{
    Actor as Hand, Confidence, Judgement, Standing, Step, Verdict,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{
    Across, Actor, CiFilter, FilePath, FileVerdict, FileVersion, Page, PageRequest, Past, Placed,
    State as FileState,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// How far back is looked for what altered, where nobody says it.
const LATELY: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(content))
        .routes(routes!(versions))
        .routes(routes!(changes))
        .routes(routes!(original))
        .routes(routes!(blamed))
        .routes(routes!(search))
        .routes(routes!(files_across))
        .routes(routes!(changes_across))
}

/// What a file was from a moment on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileView {
    /// Absolute path, or the name of a policy, a profile or a database server: `policy:sshd`.
    path: String,
    /// Whether it was there.
    is_present: bool,
    /// Kind and permissions, as `st_mode` has them; 0 where it has none, null where it was not there.
    mode: Option<u32>,
    /// User and group: `root:shadow`.
    owner: Option<String>,
    /// Bytes of what is kept of it; what is secret is not.
    length: Option<u64>,
    /// When the control plane recorded it: what history is asked by.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// When it was seen, by the clock of who saw it.
    #[schema(value_type = String, format = DateTime)]
    observed_at: Timestamp,
    /// Who says so.
    source: String,
    /// Who altered it, where somebody saw that.
    by: Option<String>,
    /// How sure that is, in per cent.
    confidence: Option<u8>,
    /// The change that it belongs to.
    #[schema(value_type = Option<String>)]
    change: Option<ChangeId>,
    /// What it is held to be that it was made so. Null where nobody has judged it: what was there from the
    /// beginning, and what was recorded a moment ago.
    verdict: Option<VerdictView>,
}

/// What an alteration is held to be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerdictView {
    /// `authorised`, `vendor`, `unauthorised` or `unknown`.
    #[schema(value_type = String)]
    standing: Standing,
    /// More closely: `authorised`, `authorised_irregular`, `vendor`, `emergency`, `reverted`, `noise`,
    /// `unauthorised` or `unknown`, with what it rests on.
    #[schema(value_type = Object)]
    verdict: Verdict,
    /// How sure that is: `low`, `medium` or `high`.
    #[schema(value_type = String)]
    confidence: Confidence,
    /// By whom it was, as far as the host tells.
    #[schema(value_type = Object)]
    actor: Hand,
    /// What each rule said, up to the one that held.
    #[schema(value_type = Vec<Object>)]
    trace: Vec<Step>,
}

impl From<Judgement> for VerdictView {
    fn from(it: Judgement) -> Self {
        let Judgement { verdict, actor, confidence, trace } = it;
        Self { standing: verdict.standing(), verdict, confidence, actor, trace }
    }
}

/// A file with what it held.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileContent {
    #[serde(flatten)]
    file: FileView,
    /// What of it left its host: markers stand where secrets were. Null where it was not there.
    content: Option<String>,
}

/// All files of an item at a time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Files {
    items: Vec<FileView>,
    /// Those of which it was erased what they were.
    erased: Vec<String>,
}

/// The versions of a file, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileVersions {
    items: Vec<FileView>,
    /// Whether others were erased.
    is_erased: bool,
}

/// A file that was another at two times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileChange {
    /// Absolute path, or a name such as `policy:sshd`.
    path: String,
    /// What it was at the first; null where it was never there until then.
    before: Option<FileView>,
    /// What it was at the second.
    after: Option<FileView>,
}

/// Files that were others at two times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileChanges {
    items: Vec<FileChange>,
}

/// When.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct At {
    /// As it was recorded until then (RFC 3339); now where it is left out.
    at: Option<String>,
}

/// Which file, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Absolute path, or a name such as `policy:sshd`.
    // Looked at after the item: what is another tenant's is not there, whatever is asked of it.
    #[serde(default)]
    #[param(required = true)]
    path: String,
    /// As it was recorded until then (RFC 3339); now where it is left out.
    at: Option<String>,
}

/// Between which times.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Between {
    /// RFC 3339; a week ago where it is left out.
    from: Option<String>,
    /// RFC 3339; now where it is left out.
    until: Option<String>,
    /// Instead of an earlier time, another item of the same tenant at the time `until`: what this item has otherwise.
    #[param(value_type = Option<String>)]
    with: Option<CiId>,
}

/// What alterations of an item were held to be.
type Verdicts = BTreeMap<(Timestamp, String), FileVerdict>;

impl FileView {
    /// With what it was held to be that it was made so.
    fn judged(path: &FilePath, version: FileVersion, verdicts: &Verdicts) -> Self {
        let key = (version.recorded_at, path.to_string());
        let verdict = verdicts.get(&key).map(|it| it.judgement.clone().into());
        Self { verdict, ..Self::new(path, version) }
    }

    fn new(path: &FilePath, version: FileVersion) -> Self {
        let FileVersion { recorded_at, observed_at, state, source, by, change, content: _ } =
            version;
        let (is_present, mode, owner, length) = match state {
            FileState::Present { length, metadata, .. } => {
                (true, Some(metadata.mode), Some(metadata.owner), Some(length))
            }
            FileState::Gone => (false, None, None, None),
        };
        let confidence = by.as_ref().map(|by| by.confidence);
        Self {
            path: path.to_string(),
            is_present,
            mode,
            owner,
            length,
            recorded_at,
            observed_at,
            source,
            by: by.map(|by| by.actor),
            confidence,
            change,
            verdict: None,
        }
    }
}

/// What is asked for, once it stands in the record that somebody reads it.
async fn told(app: &App, by: &Actor, id: CiId) -> Result<(), Problem> {
    Ok(app.store.tell_files_read(by, id).await?)
}

fn at(app: &App, text: Option<&str>) -> Result<Timestamp, Problem> {
    text.map_or_else(|| Ok(app.store.environment().now()), |text| given("at", text))
}

fn path_of(text: &str) -> Result<FilePath, Problem> {
    FilePath::new(text).map_err(|error| {
        Problem::new(Kind::Invalid, format!("path: {error}"))
            .help("give the file's absolute path, or a name such as `policy:sshd`")
    })
}

/// Which original is read, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginalRequest {
    /// Absolute path.
    #[schema(min_length = 1, max_length = 4096)]
    path: String,
    /// Why it is read, in words: the item's owner sees that.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
    /// As it was recorded until then; now where it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// A file with its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginalContent {
    /// Absolute path.
    path: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// What it held, in base64.
    content: String,
}

/// What is kept of the past; a problem that says why it is not.
pub(crate) fn kept<T>(past: Past<T>) -> Result<T, Problem> {
    match past {
        Past::Kept(found) => Ok(found),
        Past::Erased => Err(Problem::new(Kind::Gone, "what was so at that time was erased")
            .help("the ledger tells when, and by whom: `history.erased`")),
        Past::Forgotten { kept_from } => {
            let detail = format!("history is kept from {kept_from} on");
            Err(Problem::new(Kind::Gone, detail).help("ask for a later time"))
        }
    }
}

/// List what an item was configured by at a time.
#[utoipa::path(get, path = "/cis/{id}/files", tag = "configuration", params(("id" = String, Path), At),
    responses((status = 200, body = Files), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(wanted): Query<At>,
) -> Result<Json<Files>, Problem> {
    told(&app, &by, id).await?;
    let at = at(&app, wanted.at.as_deref())?;
    let found = kept(app.history.manifest(&by, id, at).await?)?;
    let view = |(path, version)| FileView::new(&path, version);
    let erased = found.erased.iter().map(ToString::to_string).collect();
    Ok(Json(Files { items: found.files.into_iter().map(view).collect(), erased }))
}

/// Read what a file of an item held at a time.
#[utoipa::path(get, path = "/cis/{id}/files/content", tag = "configuration",
    params(("id" = String, Path), Which), responses((status = 200, body = FileContent), Problems))]
async fn content(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(wanted): Query<Which>,
) -> Result<Json<FileContent>, Problem> {
    told(&app, &by, id).await?;
    let (path, at) = (path_of(&wanted.path)?, at(&app, wanted.at.as_deref())?);
    let found = kept(app.history.file_at(&by, id, &path, at).await?)?;
    let mut found = found.ok_or_else(|| {
        Problem::not_found("file of this item at that time")
            .help("see which there were: `config list`")
    })?;
    let content = found.content.take().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Json(FileContent { file: FileView::new(&path, found), content }))
}

/// List the versions of a file of an item.
#[utoipa::path(get, path = "/cis/{id}/files/versions", tag = "configuration",
    params(("id" = String, Path), Which), responses((status = 200, body = FileVersions), Problems))]
async fn versions(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(wanted): Query<Which>,
) -> Result<Json<FileVersions>, Problem> {
    told(&app, &by, id).await?;
    let (path, until) = (path_of(&wanted.path)?, at(&app, wanted.at.as_deref())?);
    let found = app.history.versions(&by, id, &path).await?;
    if found.versions.is_empty() && !found.is_erased {
        return Err(Problem::not_found("file of this item, ever")
            .help("see which there are: `config list`"));
    }
    let known = found.versions.into_iter().filter(|it| it.recorded_at <= until);
    let verdicts = app.history.verdicts(&by, id, Some(&path)).await?;
    let items = known.map(|version| FileView::judged(&path, version, &verdicts)).collect();
    Ok(Json(FileVersions { items, is_erased: found.is_erased }))
}

/// List the files of an item that were others at two times.
#[utoipa::path(get, path = "/cis/{id}/files/changes", tag = "configuration",
    params(("id" = String, Path), Between), responses((status = 200, body = FileChanges), Problems))]
async fn changes(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(wanted): Query<Between>,
) -> Result<Json<FileChanges>, Problem> {
    told(&app, &by, id).await?;
    let until = at(&app, wanted.until.as_deref())?;
    let found = if let Some(other) = wanted.with {
        told(&app, &by, other).await?;
        kept(app.history.differences_between(&by, (other, id), until).await?)?
    } else {
        let from = match wanted.from.as_deref() {
            Some(from) => given("from", from)?,
            None => app.store.environment().now() - LATELY,
        };
        kept(app.history.differences(&by, id, from, until).await?)?
    };
    let verdicts = app.history.verdicts(&by, id, None).await?;
    let items = found.into_iter().map(|(path, difference)| {
        let judged = |it| FileView::judged(&path, it, &verdicts);
        let view = |version: Option<FileVersion>| version.map(judged);
        let (before, after) = (view(difference.before), view(difference.after));
        FileChange { path: path.to_string(), before, after }
    });
    Ok(Json(FileChanges { items: items.collect() }))
}

/// Read a file with its secrets, where its owner lets the original be kept. Who read it, and why, is recorded before
/// it is answered.
#[utoipa::path(post, path = "/cis/{id}/files/original", tag = "configuration",
    params(("id" = String, Path)), request_body = OriginalRequest,
    responses((status = 200, body = OriginalContent), Problems))]
async fn original(
    State(app): State<App>,
    By(by): By<{ Action::SecretDisclose as usize }>,
    Path(id): Path<CiId>,
    Body(OriginalRequest { path, reason, at }): Body<OriginalRequest>,
) -> Result<Json<OriginalContent>, Problem> {
    let ci = app.store.ci(&by, id).await?;
    if by.tenant() == PROVIDER && ci.tenant != PROVIDER && ci.duty != Duty::Provider {
        let detail = "the tenant keeps this item, so its secrets are the tenant's";
        return Err(Problem::new(Kind::Refused, detail).help("ask the tenant's owner"));
    }
    let path = path_of(&path)?;
    let why: Reason = given("reason", &reason)?;
    let at = at.unwrap_or_else(|| app.store.environment().now());
    let found = app.history.original(&by, id, &path, at, why).await?;
    let found = found.ok_or_else(|| {
        Problem::not_found("original of this file at that time").help(
            "it is kept where the host's owner says so, and where there is something secret in it",
        )
    })?;
    Ok(Json(OriginalContent {
        path: path.to_string(),
        recorded_at: found.recorded_at,
        content: BASE64_STANDARD.encode(found.content.unwrap_or_default()),
    }))
}

/// Versions that are looked at for lines, the newest first.
const BLAMED: usize = 200;

/// A line of a file, and since when it is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BlamedLine {
    /// From 1.
    line: usize,
    text: String,
    /// When the version was recorded that brought it.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// Whether it may be older: earlier versions are not kept, or were not looked at.
    is_older: bool,
    /// Who wrote that version, where somebody saw that.
    by: Option<String>,
    /// How sure that is, in per cent.
    confidence: Option<u8>,
    /// The change that it belongs to.
    #[schema(value_type = Option<String>)]
    change: Option<ChangeId>,
}

/// Tell of each line of a file of an item since when it is there, and by whom.
#[utoipa::path(get, path = "/cis/{id}/files/blame", tag = "configuration",
    params(("id" = String, Path), Which), responses((status = 200, body = Vec<BlamedLine>), Problems))]
async fn blamed(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(wanted): Query<Which>,
) -> Result<Json<Vec<BlamedLine>>, Problem> {
    told(&app, &by, id).await?;
    let (path, at) = (path_of(&wanted.path)?, at(&app, wanted.at.as_deref())?);
    let mut known = app.history.versions(&by, id, &path).await?;
    known.versions.retain(|it| it.recorded_at <= at);
    let is_there = |it: &FileVersion| matches!(it.state, FileState::Present { .. });
    if !known.versions.last().is_some_and(is_there) {
        return Err(Problem::not_found("file of this item at that time")
            .help("see which there were: `config list`"));
    }
    let left_out = known.versions.len().saturating_sub(BLAMED);
    let versions = known.versions.split_off(left_out);
    let is_cut = left_out > 0 || known.is_erased;
    let mut texts = Vec::with_capacity(versions.len());
    for version in &versions {
        let found = kept(app.history.file_at(&by, id, &path, version.recorded_at).await?)?;
        let content = found.and_then(|found| found.content).unwrap_or_default();
        texts.push(String::from_utf8_lossy(&content).into_owned());
    }
    let work = move || (blame(&texts), texts);
    let (since, texts) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        Problem::new(Kind::Internal, format!("a thread that compared versions ended: {error}"))
    })?;
    let since = since
        .map_err(|error| Problem::new(Kind::TooLarge, error.to_string()).help(error.help()))?;
    let text = texts.last().map(String::as_str).unwrap_or_default();
    let line = |((line, text), since): ((usize, &str), usize)| {
        let version = &versions[since];
        let by = version.by.as_ref();
        BlamedLine {
            line,
            text: text.trim_end_matches('\n').to_owned(),
            recorded_at: version.recorded_at,
            is_older: since == 0 && is_cut,
            by: by.map(|by| by.actor.clone()),
            confidence: by.map(|by| by.confidence),
            change: version.change,
        }
    };
    Ok(Json((1..).zip(text.split_inclusive('\n')).zip(since).map(line).collect()))
}

/// Whose files, and which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Everywhere {
    /// Of the items that belong to this group now; a group or a tenant is named.
    group: Option<String>,
    /// Of this tenant's items.
    tenant: Option<String>,
    /// Only those whose path or name begins with this.
    below: Option<String>,
    /// As it was recorded until then (RFC 3339); now where it is left out. Of changes, the second time.
    at: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Files that are looked at for one page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Since when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// RFC 3339; a week before the second time where it is left out.
    from: Option<String>,
}

/// Which file of which item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileOfItem {
    #[schema(value_type = String)]
    ci: CiId,
    /// What people call the item.
    ci_name: String,
    /// Absolute path; or what a document is called.
    path: String,
}

impl FileOfItem {
    pub(super) fn new(ci: CiId, ci_name: String, path: &FilePath) -> Self {
        Self { ci, ci_name, path: path.to_string() }
    }
}

/// A file of one of several items.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileSomewhere {
    #[serde(flatten)]
    of: FileOfItem,
    /// What it was then; null where that was erased.
    file: Option<FileView>,
}

/// Files of several items. A page may be shorter than asked for, and not be the last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilesEverywhere {
    items: Vec<FileSomewhere>,
    /// Send it as `after` for the next page, with the same time; null at the end.
    next: Option<String>,
    /// What was asked for: the time in the question, or now.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// A file of one of several items that was another at two times.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeSomewhere {
    #[serde(flatten)]
    of: FileOfItem,
    /// Whether it was erased what it was at one of both: nobody can say whether it is another one.
    is_erased: bool,
    /// What it was at the first; null where it was not there.
    before: Option<FileView>,
    /// What it was at the second; null where it was not there.
    after: Option<FileView>,
}

/// Files of several items that were others at two times. A page may be shorter than asked for, and not be the last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangesEverywhere {
    items: Vec<ChangeSomewhere>,
    /// Send it as `after` for the next page, with the same times; null at the end.
    next: Option<String>,
    /// The first time.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The second one.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl Everywhere {
    fn read(self, app: &App) -> Result<(Across, Timestamp, PageRequest), Problem> {
        let at = at(app, self.at.as_deref())?;
        let page = Paging { after: self.after, limit: self.limit }.request()?;
        let which = Across {
            tenant: self.tenant.map(|text| given("tenant", &text)).transpose()?,
            group: self.group.map(|text| given("group", &text)).transpose()?,
            below: self.below.unwrap_or_default(),
        };
        if which.tenant.is_none() && which.group.is_none() {
            return Err(Problem::new(Kind::Invalid, "it is not said whose files are meant")
                .help("send `group` or `tenant`"));
        }
        Ok((which, at, page))
    }
}

/// What is told of several items, once it stands in the record of each that somebody reads it.
async fn told_of<T>(app: &App, by: &Actor, page: &Page<Placed<T>>) -> Result<(), Problem> {
    let items: BTreeSet<CiId> = page.items.iter().map(|it| it.ci).collect();
    for ci in items {
        told(app, by, ci).await?;
    }
    Ok(())
}

/// List what all items of a group or a tenant were configured by at a time.
#[utoipa::path(get, path = "/configuration/files", tag = "configuration", params(Everywhere),
    responses((status = 200, body = FilesEverywhere), Problems))]
async fn files_across(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(wanted): Query<Everywhere>,
) -> Result<Json<FilesEverywhere>, Problem> {
    let (which, at, page) = wanted.read(&app)?;
    let found = kept(app.history.files_across(&by, &which, at, &page).await?)?;
    told_of(&app, &by, &found).await?;
    let items = found.items.into_iter().map(|it| FileSomewhere {
        of: FileOfItem::new(it.ci, it.ci_name, &it.path),
        file: it.told.map(|version| FileView::new(&it.path, version)),
    });
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(Json(FilesEverywhere { items: items.collect(), next, at }))
}

/// List the files of all items of a group or a tenant that were others at two times.
#[utoipa::path(get, path = "/configuration/changes", tag = "configuration", params(Since, Everywhere),
    responses((status = 200, body = ChangesEverywhere), Problems))]
async fn changes_across(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(since): Query<Since>,
    Query(wanted): Query<Everywhere>,
) -> Result<Json<ChangesEverywhere>, Problem> {
    let (which, at, page) = wanted.read(&app)?;
    let from = since.from.map_or(Ok(at - LATELY), |text| given("from", &text))?;
    let found = kept(app.history.differences_across(&by, &which, (from, at), &page).await?)?;
    told_of(&app, &by, &found).await?;
    let items = found.items.into_iter().map(|it| {
        let view =
            |version: Option<FileVersion>| version.map(|version| FileView::new(&it.path, version));
        let is_erased = it.told.is_none();
        let (before, after) = match it.told {
            Some(told) => (view(told.before), view(told.after)),
            None => (None, None),
        };
        let of = FileOfItem::new(it.ci, it.ci_name, &it.path);
        ChangeSomewhere { of, is_erased, before, after }
    });
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(Json(ChangesEverywhere { items: items.collect(), next, from, at }))
}

/// Items that one answer looks into.
const ITEMS: u16 = 20;

/// Places that one answer tells, and of one item.
const HITS: usize = 500;
const HITS_OF_ONE: usize = 50;

/// What is looked for: one of `words`, `regex` and `parameter`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Looked {
    /// Lines in which all these words are, in whatever case.
    pub(crate) words: Option<String>,
    /// Lines that match this pattern (docs.rs/regex).
    pub(crate) regex: Option<String>,
    /// What counts of a parameter: `sshd.PermitRootLogin=yes`, `nginx.*autoindex`.
    pub(crate) parameter: Option<String>,
    /// In items of one tenant.
    pub(crate) tenant: Option<String>,
    /// In items of one class.
    pub(crate) class: Option<String>,
    /// In items of one group.
    pub(crate) group: Option<String>,
    /// What the answer before said as `next`.
    pub(crate) after: Option<String>,
}

/// A place at which something was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hit {
    /// Absolute path.
    pub(crate) path: String,
    /// Its line, from 1.
    pub(crate) line: usize,
    /// What stands there, without what is secret.
    pub(crate) text: String,
}

/// An item in which something was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemHits {
    #[schema(value_type = String)]
    pub(crate) ci: CiId,
    #[schema(value_type = String)]
    pub(crate) tenant: TenantId,
    #[schema(value_type = String)]
    pub(crate) name: Name,
    pub(crate) hits: Vec<Hit>,
    /// Whether there is more in this item.
    pub(crate) has_more: bool,
}

/// Items in which something was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResult {
    pub(crate) items: Vec<ItemHits>,
    /// Send it as `after` to look into further items; null where all were looked into.
    pub(crate) next: Option<String>,
    /// How many items were looked into for this answer.
    pub(crate) searched: usize,
    /// Items of which a part cannot be looked into: it was withheld, could not be seen, or was erased.
    pub(crate) partly: usize,
}

/// Look for something in what items are configured by now.
#[utoipa::path(get, path = "/configuration/search", tag = "configuration", params(Looked),
    responses((status = 200, body = SearchResult), Problems))]
async fn search(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(looked): Query<Looked>,
) -> Result<Json<SearchResult>, Problem> {
    Ok(Json(searched(&app, &by, &looked).await?))
}

/// Looks into the items that the actor may see, a few of them for each answer.
pub(crate) async fn searched(
    app: &App,
    by: &Actor,
    looked: &Looked,
) -> Result<SearchResult, Problem> {
    let query = query_of(looked)?;
    let filter = CiFilter {
        tenant: looked.tenant.as_deref().map(|text| given("tenant", text)).transpose()?,
        class: looked.class.as_deref().map(|text| given("class", text)).transpose()?,
        group: looked.group.as_deref().map(|text| given("group", text)).transpose()?,
        ..CiFilter::default()
    };
    let mut after = looked.after.as_deref().map(|text| given("after", text)).transpose()?;
    let mut result = SearchResult { items: Vec::new(), next: None, searched: 0, partly: 0 };
    let mut told = 0;
    // One at a time: what is in memory is one item's, and where the answer ends is a place in the list.
    while result.searched < usize::from(ITEMS) && told < HITS {
        let page = app.store.cis(by, &filter, &PageRequest { after, limit: 1 }).await?;
        after = page.next;
        let Some(ci) = page.items.into_iter().next() else { break };
        result.searched += 1;
        let (found, is_part) = looked_into(app, by, ci.id, &query).await?;
        result.partly += usize::from(is_part);
        told += found.hits.len();
        if !found.hits.is_empty() {
            let hits = found.hits.into_iter().map(|it| Hit {
                path: it.path.unwrap_or_default(),
                line: it.line.unwrap_or_default(),
                text: it.text,
            });
            let (hits, has_more) = (hits.collect(), found.has_more);
            result.items.push(ItemHits {
                ci: ci.id,
                tenant: ci.tenant,
                name: ci.name,
                hits,
                has_more,
            });
        }
        if after.is_none() {
            break;
        }
    }
    result.next = after.map(|cursor| cursor.to_string());
    Ok(result)
}

async fn looked_into(
    app: &App,
    by: &Actor,
    id: CiId,
    query: &Search,
) -> Result<(Found, bool), Problem> {
    let now = app.store.environment().now();
    // Who looks into nothing need not be told of.
    if let Past::Kept(manifest) = app.history.manifest(by, id, now).await?
        && manifest.files.is_empty()
        && manifest.erased.is_empty()
    {
        return Ok((Found::default(), false));
    }
    told(app, by, id).await?;
    let (item, _) = kept(crate::audits::observed(&app.store, &app.history, by, id, now).await?)?;
    let query = query.clone();
    let work = move || {
        let is_kept = |file: &ObservedFile| matches!(file.content, Content::Kept { .. });
        (query.find(&item, HITS_OF_ONE), item.files().values().any(is_kept))
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Problem::new(Kind::Internal, format!("a thread that looked for it ended: {error}"))
    })
}

fn query_of(looked: &Looked) -> Result<Search, Problem> {
    let query = match (&looked.words, &looked.regex, &looked.parameter) {
        (Some(words), None, None) => Search::words(words),
        (None, Some(regex), None) => Search::regex(regex),
        (None, None, Some(parameter)) => Search::parameter(parameter),
        _ => {
            return Err(Problem::new(Kind::Invalid, "it is not said what to look for")
                .help("say one of `words`, `regex` and `parameter`"));
        }
    };
    query.map_err(|error: InvalidQuery| {
        Problem::new(Kind::Invalid, error.to_string()).help(error.help())
    })
}
