//! `/baselines`, `/baseline-bindings`, `/rule-waivers`: what items are held against beside what comes with the program.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::change::Reason;
use domain::cloud::{
    BaselineId, BindingId, CiId, Class, GroupId, PROVIDER, ReleaseId, Side, TenantId, WaiverId,
};
use domain::configuration::baseline::{
    self, Baseline, BaselineRef, Golden, GoldenSource, Hold, InvalidBaseline, Measure,
    ReleasedSource, is_name,
};
use domain::order::PathPattern;
use domain::priority::Priority;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{
    Actor, BaselineContent, BaselineKind, BaselineVersion, Binding, BindingFilter, Ci,
    KeptBaseline, ListedVersion, NewBaseline, NewBinding, NewWaiver, Once, RuleWaiver, Target,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configuration::kept;
use super::{IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, checked_text, given};
use crate::App;
use crate::audits::observed;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Patterns that files are named by, at most.
const MOST_PATHS: usize = 50;

/// Files that one golden item has, at most.
const MOST_FILES: usize = 2000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, put))
        .routes(routes!(read, withdraw))
        .routes(routes!(version))
        .routes(routes!(bindings, bind))
        .routes(routes!(unbind))
        .routes(routes!(waivers, waive))
        .routes(routes!(end))
}

/// A baseline that somebody put in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BaselineView {
    #[schema(value_type = String, example = "bsl_01h455vb4pex5vsknk084sn02q")]
    id: BaselineId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// Unique within its tenant, of those in use.
    name: String,
    /// `rules`, `golden` or `release`.
    #[schema(value_type = String)]
    kind: BaselineKind,
    title: String,
    /// The newest version, as its author calls it.
    version: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when it is held against nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    withdrawn_at: Option<Timestamp>,
}

/// A baseline with its versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BaselineHistory {
    #[serde(flatten)]
    baseline: BaselineView,
    /// The newest first; none is ever altered. What one says is read by itself.
    versions: Vec<ListedVersionView>,
}

/// A version of a baseline, as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedVersionView {
    /// As its author calls it.
    version: String,
    #[schema(value_type = String, format = DateTime)]
    put_at: Timestamp,
    /// By whom.
    put_by: String,
}

/// A version of a baseline: one of `rules`, `golden` and `release`, and the others null.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionView {
    #[serde(flatten)]
    listed: ListedVersionView,
    /// The file of rules (TOML).
    rules: Option<String>,
    /// Of which item, when, and which files: what they held is in its history.
    #[schema(value_type = Option<Object>)]
    golden: Option<GoldenSource>,
    /// Which release wrote them, by which plan, for which change; and of each file its SHA-256, and the item and the
    /// time at which its history has it.
    #[schema(value_type = Option<Object>)]
    release: Option<ReleasedSource>,
}

/// A baseline that is to be: rules, a golden item, or what a release wrote.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaselineRequest {
    /// Whose.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// A file of rules (TOML), as docs/baselines.md describes it. Its `id` is the baseline's name.
    rules: Option<String>,
    golden: Option<GoldenRequest>,
    release: Option<ReleaseRequest>,
}

/// Files of an item that are as all of its kind should be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoldenRequest {
    /// What the baseline is called: lower-case letters, digits and `-`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$")]
    pub(crate) name: String,
    /// In words.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) title: String,
    /// The item.
    #[schema(value_type = String)]
    pub(crate) ci: CiId,
    /// As it was recorded until then; now where it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) at: Option<Timestamp>,
    /// Which files: `*` stands for any letters of one name, `**` for any directories.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 50, example = json!(["/etc/nginx/**"]))]
    pub(crate) paths: Vec<PathPattern>,
    /// How bad it is where one differs: `critical`, `high`, `medium` or `low`.
    #[serde(default = "usual")]
    #[schema(value_type = String, default = "medium")]
    pub(crate) severity: Priority,
}

/// Files that a release of an alteration wrote, as looks bore them out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRequest {
    /// What the baseline is called: lower-case letters, digits and `-`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$")]
    pub(crate) name: String,
    /// In words.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) title: String,
    /// The release. It went through.
    #[schema(value_type = String)]
    pub(crate) release: ReleaseId,
    /// What it wrote on this item alone: where it wrote a file otherwise on others.
    #[schema(value_type = Option<String>)]
    pub(crate) ci: Option<CiId>,
    /// Which of its files, as patterns; all of them where none is named.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 50, example = json!(["/etc/nginx/**"]))]
    pub(crate) paths: Vec<PathPattern>,
    /// How bad it is where one differs: `critical`, `high`, `medium` or `low`.
    #[serde(default = "usual")]
    #[schema(value_type = String, default = "medium")]
    pub(crate) severity: Priority,
}

const fn usual() -> Priority {
    Priority::Medium
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// With `true`, those too that are over.
    #[serde(default)]
    all: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Which bindings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WantedBindings {
    /// Of one baseline: an id `bsl_…`, or the name of one that comes with the program.
    baseline: Option<String>,
    /// With `true`, those too that ended.
    #[serde(default)]
    all: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// That items are held to a baseline, or are not.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BindingView {
    #[schema(value_type = String, example = "bnd_01h455vb4pex5vsknk084sn02q")]
    id: BindingId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// An id, or the name of one that comes with the program.
    #[schema(value_type = String)]
    baseline: BaselineRef,
    /// Whose people said so: `provider` or `tenant`.
    #[schema(value_type = String)]
    side: Side,
    /// Which items: `{"class": "vm"}`, `{"group": "grp_…"}` or `{"ci": "ci_…"}`.
    #[schema(value_type = Object)]
    target: Target,
    /// Whether they are held to it.
    holds: bool,
    #[schema(value_type = String, format = DateTime)]
    bound_at: Timestamp,
    bound_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// What is to be said: of one class, one group or one item.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingRequest {
    /// An id `bsl_…`, or the name of one that comes with the program: `sshd`.
    baseline: String,
    /// Whose items of the class; one's own tenant's where it is left out. The provider's own means everybody's.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    #[schema(value_type = Option<String>, example = "vm")]
    class: Option<Class>,
    #[schema(value_type = Option<String>)]
    group: Option<GroupId>,
    #[schema(value_type = Option<String>)]
    ci: Option<CiId>,
    /// With `false` they are not held to it, though more is said of more items.
    #[serde(default = "yes")]
    #[schema(default = true)]
    holds: bool,
}

const fn yes() -> bool {
    true
}

/// That somebody answers for a rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaiverView {
    #[schema(value_type = String, example = "wvr_01h455vb4pex5vsknk084sn02q")]
    id: WaiverId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    baseline: BaselineRef,
    /// Of golden items the path of a file.
    rule: String,
    /// Whose people gave it: `provider` or `tenant`.
    #[schema(value_type = String)]
    side: Side,
    /// Which items: `{"group": "grp_…"}` or `{"ci": "ci_…"}`.
    #[schema(value_type = Object)]
    target: Target,
    owner: String,
    reason: String,
    #[schema(value_type = String, format = DateTime)]
    given_at: Timestamp,
    given_by: String,
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// A waiver that is to be: for one group or one item.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaiverRequest {
    /// An id `bsl_…`, or the name of one that comes with the program: `sshd`.
    pub(crate) baseline: String,
    /// The rule as the audit tells it; of a golden item, the path of a file.
    #[schema(min_length = 1, max_length = 4096)]
    pub(crate) rule: String,
    #[schema(value_type = Option<String>)]
    pub(crate) group: Option<GroupId>,
    #[schema(value_type = Option<String>)]
    pub(crate) ci: Option<CiId>,
    /// Who answers for it, in words.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) owner: String,
    /// Why, in words.
    #[schema(min_length = 1, max_length = 2000)]
    pub(crate) reason: String,
    /// Until when it counts, at most 366 days from now.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) until: Timestamp,
}

impl From<KeptBaseline> for BaselineView {
    fn from(it: KeptBaseline) -> Self {
        let KeptBaseline {
            id, tenant, name, kind, title, created_at, withdrawn_at, version, ..
        } = it;
        Self { id, tenant, name, kind, title, version, created_at, withdrawn_at }
    }
}

impl From<ListedVersion> for ListedVersionView {
    fn from(it: ListedVersion) -> Self {
        let ListedVersion { number: _, version, put_at, put_by } = it;
        Self { version, put_at, put_by }
    }
}

impl From<BaselineVersion> for VersionView {
    fn from(it: BaselineVersion) -> Self {
        let BaselineVersion { number: _, version, put_at, put_by, content } = it;
        let listed = ListedVersionView { version, put_at, put_by };
        let (rules, golden, release) = match content {
            BaselineContent::Rules(text) => (Some(text), None, None),
            BaselineContent::Golden(source) => (None, Some(source), None),
            BaselineContent::Release(source) => (None, None, Some(source)),
        };
        Self { listed, rules, golden, release }
    }
}

impl From<Binding> for BindingView {
    fn from(it: Binding) -> Self {
        let Binding { id, tenant, baseline, side, target, holds, bound_at, bound_by, ended_at } =
            it;
        Self { id, tenant, baseline, side, target, holds, bound_at, bound_by, ended_at }
    }
}

impl From<RuleWaiver> for WaiverView {
    fn from(it: RuleWaiver) -> Self {
        Self {
            id: it.id,
            tenant: it.tenant,
            baseline: it.baseline,
            rule: it.rule,
            side: it.side,
            target: it.target,
            owner: it.owner,
            reason: it.reason,
            given_at: it.given_at,
            given_by: it.given_by,
            until: it.until,
            ended_at: it.ended_at,
        }
    }
}

impl Wanted {
    fn page(self) -> Result<store::PageRequest, Problem> {
        Paging { after: self.after, limit: self.limit }.request()
    }
}

/// List the baselines that people put in.
#[utoipa::path(get, path = "/baselines", tag = "configuration", params(Wanted),
    responses((status = 200, body = Listed<BaselineView>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Listed<BaselineView>>, Problem> {
    let all = wanted.all;
    Ok(Json(Listed::of(app.store.baselines(&by, all, &wanted.page()?).await?)))
}

/// Put a baseline in, or another version of it. It is held against nothing before it is bound.
#[utoipa::path(post, path = "/baselines", tag = "configuration", params(IdempotencyKey),
    request_body = BaselineRequest, responses((status = 201, body = BaselineView), Problems))]
async fn put(
    State(app): State<App>,
    By(by): By<{ Action::BaselineKeep as usize }>,
    sent: Sent<BaselineRequest>,
) -> Result<(StatusCode, Json<BaselineView>), Problem> {
    let BaselineRequest { tenant, rules: text, golden, release } = sent.body;
    let new = match (text, golden, release) {
        (Some(text), None, None) => rules(tenant, text).await?,
        (None, Some(golden), None) => golden_of(&app, &by, tenant, golden).await?,
        (None, None, Some(release)) => released_of(&app, &by, tenant, release).await?,
        _ => {
            let detail = "it is not one of rules, a golden item and what a release wrote";
            return Err(Problem::new(Kind::Invalid, detail)
                .help("send one of `rules`, `golden` and `release`"));
        }
    };
    let baseline = app.store.put_baseline(&by, sent.once, new).await?;
    Ok((StatusCode::CREATED, Json(baseline.into())))
}

/// The baseline that a file of rules makes.
pub(crate) async fn rules(tenant: TenantId, text: String) -> Result<NewBaseline, Problem> {
    let wrong = |error: InvalidBaseline| {
        Problem::new(Kind::Invalid, format!("rules: {error}")).help(error.help())
    };
    let Baseline { id: name, version, title, .. } = parsed(text.clone()).await?.map_err(wrong)?;
    let title = checked_text("title", title, 1..=200)?;
    let (version, content) = (Some(version), BaselineContent::Rules(text));
    Ok(NewBaseline { tenant, name, title, version, content })
}

/// Reads rules: many of them, so not on a thread that answers requests.
pub(crate) async fn parsed(text: String) -> Result<Result<Baseline, InvalidBaseline>, Problem> {
    let ended = |_| Problem::new(Kind::Internal, "reading the rules ended");
    tokio::task::spawn_blocking(move || Baseline::parse(&text)).await.map_err(ended)
}

/// The baseline that files of an item make.
pub(crate) async fn golden_of(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    golden: GoldenRequest,
) -> Result<NewBaseline, Problem> {
    let GoldenRequest { name, title, ci, at, paths, severity } = golden;
    let title = called(&name, title)?;
    counted(&paths, 1)?;
    let now = app.store.environment().now();
    let at = at.unwrap_or(now);
    if at > now {
        return Err(Problem::new(Kind::Invalid, format!("{at} is still to come"))
            .help("name a time at which the item was as it should be"));
    }
    let (item, _) = kept(observed(&app.store, &app.history, by, ci, at).await?)?;
    let files = Golden::of(&item, paths.clone()).files.len();
    if files == 0 || files > MOST_FILES {
        let detail = format!("{files} files were recorded that these paths stand for");
        return Err(Problem::new(Kind::Refused, detail)
            .help(format!("name paths of 1 to {MOST_FILES} files; `config list` tells them")));
    }
    let source = GoldenSource { ci, at, paths, severity, files };
    let content = BaselineContent::Golden(source);
    Ok(NewBaseline { tenant, name, title, version: None, content })
}

/// The baseline that the files make that a release wrote.
pub(crate) async fn released_of(
    app: &App,
    by: &Actor,
    tenant: TenantId,
    asked: ReleaseRequest,
) -> Result<NewBaseline, Problem> {
    let ReleaseRequest { name, title, release, ci, paths, severity } = asked;
    let title = called(&name, title)?;
    counted(&paths, 0)?;
    let wanted = baseline::Wanted { ci, paths };
    let source = app.history.released_files(by, (release, tenant), &wanted, severity).await?;
    let content = BaselineContent::Release(source);
    Ok(NewBaseline { tenant, name, title, version: None, content })
}

/// The title, where both it and the name can be used.
fn called(name: &str, title: String) -> Result<String, Problem> {
    if !is_name(name) {
        return Err(Problem::new(Kind::Invalid, format!("`{name}` is no name of a baseline"))
            .help("use lower-case letters, digits and `-`, at most 64 of them"));
    }
    checked_text("title", title, 1..=200)
}

fn counted(paths: &[PathPattern], least: usize) -> Result<(), Problem> {
    if (least..=MOST_PATHS).contains(&paths.len()) {
        return Ok(());
    }
    let detail = format!("{} paths are named; it may be {least} to {MOST_PATHS}", paths.len());
    Err(Problem::new(Kind::Invalid, detail).help("`**` stands for any directories"))
}

/// Read a baseline, and which versions it has.
#[utoipa::path(get, path = "/baselines/{id}", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = BaselineHistory), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<BaselineId>,
) -> Result<Json<BaselineHistory>, Problem> {
    let baseline = app.store.baseline(&by, id).await?.into();
    let versions = app.store.baseline_versions(&by, id).await?;
    let versions = versions.into_iter().map(ListedVersionView::from).collect();
    Ok(Json(BaselineHistory { baseline, versions }))
}

/// Read what a version of a baseline says.
#[utoipa::path(get, path = "/baselines/{id}/versions/{version}", tag = "configuration",
    params(("id" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = VersionView), Problems))]
async fn version(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    axum::extract::Path((id, version)): axum::extract::Path<(String, String)>,
) -> Result<Json<VersionView>, Problem> {
    let id: BaselineId = id.parse().map_err(|_| Problem::not_found("such baseline"))?;
    Ok(Json(app.store.baseline_version(&by, id, Some(&version)).await?.into()))
}

/// Withdraw a baseline: it is held against nothing any more, and what bound it ends. Its versions stay.
#[utoipa::path(delete, path = "/baselines/{id}", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = BaselineView), Problems))]
async fn withdraw(
    State(app): State<App>,
    By(by): By<{ Action::BaselineKeep as usize }>,
    Path(id): Path<BaselineId>,
) -> Result<Json<BaselineView>, Problem> {
    Ok(Json(app.store.withdraw_baseline(&by, id).await?.into()))
}

/// List to which items baselines apply, beside those that come with the program for their class.
#[utoipa::path(get, path = "/baseline-bindings", tag = "configuration", params(WantedBindings),
    responses((status = 200, body = Listed<BindingView>), Problems))]
async fn bindings(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(wanted): Query<WantedBindings>,
) -> Result<Json<Listed<BindingView>>, Problem> {
    let WantedBindings { baseline, all, after, limit } = wanted;
    let baseline = baseline.map(|it| given("baseline", &it)).transpose()?;
    let (filter, page) = (BindingFilter { baseline, all }, Paging { after, limit }.request()?);
    Ok(Json(Listed::of(app.store.baseline_bindings(&by, &filter, &page).await?)))
}

/// Say that items are held to a baseline, or are not, from their next audit on. What is said of an item counts before what
/// is said of its groups, and that before its class. What the provider holds items to, their tenant does not unbind.
#[utoipa::path(post, path = "/baseline-bindings", tag = "configuration", params(IdempotencyKey),
    request_body = BindingRequest, responses((status = 201, body = BindingView), Problems))]
async fn bind(
    State(app): State<App>,
    By(by): By<{ Action::BaselineKeep as usize }>,
    sent: Sent<BindingRequest>,
) -> Result<(StatusCode, Json<BindingView>), Problem> {
    let BindingRequest { baseline, tenant, class, group, ci, holds } = sent.body;
    let new = NewBinding {
        tenant: tenant.unwrap_or(by.tenant()),
        baseline: given("baseline", &baseline)?,
        target: target(class, group, ci)?,
        holds,
    };
    let binding = app.store.bind_baseline(&by, sent.once, new).await?;
    Ok((StatusCode::CREATED, Json(binding.into())))
}

/// The one thing that is named.
pub(crate) fn target(
    class: Option<Class>,
    group: Option<GroupId>,
    ci: Option<CiId>,
) -> Result<Target, Problem> {
    match (class, group, ci) {
        (Some(class), None, None) => Ok(Target::Class(class)),
        (None, Some(group), None) => Ok(Target::Group(group)),
        (None, None, Some(ci)) => Ok(Target::Ci(ci)),
        _ => Err(Problem::new(Kind::Invalid, "it is not said which items are meant")
            .help("name one of a class, a group and an item")),
    }
}

/// Say it no more, from the next audit on. Only the side that says it takes it back.
#[utoipa::path(delete, path = "/baseline-bindings/{id}", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = BindingView), Problems))]
async fn unbind(
    State(app): State<App>,
    By(by): By<{ Action::BaselineKeep as usize }>,
    Path(id): Path<BindingId>,
) -> Result<Json<BindingView>, Problem> {
    Ok(Json(app.store.unbind_baseline(&by, id).await?.into()))
}

/// List the rules for which somebody answers.
#[utoipa::path(get, path = "/rule-waivers", tag = "configuration", params(Wanted),
    responses((status = 200, body = Listed<WaiverView>), Problems))]
async fn waivers(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Listed<WaiverView>>, Problem> {
    let all = wanted.all;
    Ok(Json(Listed::of(app.store.rule_waivers(&by, all, &wanted.page()?).await?)))
}

/// Answer for a rule, for one item or a group, until a day. Whoever holds an item to a rule waives it: what the provider
/// bound, the provider; else its tenant, and the provider where it is the provider's to keep.
#[utoipa::path(post, path = "/rule-waivers", tag = "configuration", params(IdempotencyKey),
    request_body = WaiverRequest, responses((status = 201, body = WaiverView), Problems))]
async fn waive(
    State(app): State<App>,
    By(by): By<{ Action::RuleWaive as usize }>,
    sent: Sent<WaiverRequest>,
) -> Result<(StatusCode, Json<WaiverView>), Problem> {
    let waiver = waived(&app, &by, sent.once, sent.body).await?;
    Ok((StatusCode::CREATED, Json(waiver.into())))
}

/// Lets somebody answer for a rule.
pub(crate) async fn waived(
    app: &App,
    by: &Actor,
    once: Option<Once>,
    asked: WaiverRequest,
) -> Result<RuleWaiver, Problem> {
    let WaiverRequest { baseline, rule, group, ci, owner, reason, until } = asked;
    let reason: Reason = given("reason", &reason)?;
    let new = NewWaiver {
        baseline: given("baseline", &baseline)?,
        rule: checked_text("rule", rule, 1..=4096)?,
        target: target(None, group, ci)?,
        owner: checked_text("owner", owner, 1..=200)?,
        reason: reason.as_str().to_owned(),
        until,
    };
    if let Some(ci) = ci {
        must_count(app, by, ci, &new.baseline).await?;
    }
    Ok(app.store.waive_rule(by, once, new).await?)
}

/// Of one item it can be told at once that a waiver would not count.
async fn must_count(
    app: &App,
    by: &Actor,
    ci: CiId,
    baseline: &BaselineRef,
) -> Result<(), Problem> {
    let now = app.store.environment().now();
    let found = app.store.ci(by, ci).await?;
    if let BaselineRef::Own(id) = baseline {
        app.store.baseline(by, *id).await?;
    }
    let standards = app.auditor(by).standards(ci, now).await?;
    let Some(held) = standards.held.iter().find(|it| it.judged_by.baseline() == *baseline) else {
        return Err(Problem::new(Kind::Refused, format!("the item is not held to {baseline}"))
            .help("an audit of it tells to what it is held"));
    };
    may_waive(by, &found, held.judged_by.hold)?;
    match &held.measure {
        Measure::Unusable(because) => Err(Problem::new(Kind::Refused, because.clone())
            .help("put in another version of the baseline")),
        Measure::Rules(_) | Measure::Files(_) => Ok(()),
    }
}

/// Whoever holds an item to a rule waives it; the provider, too, what is the provider's to keep.
pub(crate) fn may_waive(by: &Actor, ci: &Ci, hold: Hold) -> Result<(), Problem> {
    let is_providers_own = ci.tenant == PROVIDER || ci.duty == domain::cloud::Duty::Provider;
    match (hold, by.scope()) {
        (Hold::Provider, Some(_)) => {
            Err(Problem::new(Kind::Refused, "the provider holds the item to this rule")
                .help("ask the provider to waive it"))
        }
        (Hold::Class | Hold::Tenant, None) if !is_providers_own => {
            Err(Problem::new(Kind::Refused, "the tenant keeps this item, so the tenant decides")
                .help("tell the tenant; its owners and approvers waive it"))
        }
        _ => Ok(()),
    }
}

/// Take a waiver back: from the next audit on the rule counts again. Only the side that gave it takes it back.
#[utoipa::path(delete, path = "/rule-waivers/{id}", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = WaiverView), Problems))]
async fn end(
    State(app): State<App>,
    By(by): By<{ Action::RuleWaive as usize }>,
    Path(id): Path<WaiverId>,
) -> Result<Json<WaiverView>, Problem> {
    Ok(Json(app.store.end_waiver(&by, id).await?.into()))
}
