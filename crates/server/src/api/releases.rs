//! `/releases` and `/orders`: how a change goes out over the fleet, and what agents were told.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::change::{Action as Planned, LayoutHash, PlanHash, Reason, Window};
use domain::cloud::{ChangeId, CiId, ReleaseId, TenantId};
use domain::release::{Command, Layout, Mode, Phase, Profile, Run, Tally};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Actor, OrderFilter, OrderRow, Release, ReleaseRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::changes::accepted;
use super::{Body, Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};
use crate::releases::{Asked, NoContent, Restart, draw, usual_caps};

/// How far ahead is planned where the caller says nothing.
const USUAL_SPAN: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long a step takes until it is verified, where the caller says nothing, in minutes.
const USUAL_TAKES: u32 = 20;

/// Longest that a step may be said to take, in minutes.
const LONGEST_TAKES: u32 = 24 * 60;

/// Most windows, canaries and items that are named.
const MOST_NAMED: usize = 10_000;

/// Turns that are listed of a release.
const MOST_TURNS: usize = 1000;

/// Orders listed where the caller names no number.
const USUAL: u16 = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read))
        .routes(routes!(command))
        .routes(routes!(orders))
}

/// A release that is to be. Rehearse it with `dry_run=true` to see exactly what will happen; send what
/// that answered as `release`, `from` and `layout` to have exactly this and nothing else.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseRequest {
    /// The change that it carries out.
    #[schema(value_type = String)]
    change: ChangeId,
    /// `default`, `accelerated`, `emergency`, or a whole wave profile in TOML.
    #[serde(default = "usual_profile")]
    profile: String,
    /// From when on items may be altered; now where it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Nothing is planned beyond this; two weeks later where it is left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// When items may be altered: `[{"from", "until"}]`; at any time where there are none.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    windows: Vec<Window>,
    /// Items that go first, beside those with the profile's labels.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    canaries: BTreeSet<CiId>,
    /// Only these items; all that lack a patch of the change where none are named.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    items: BTreeSet<CiId>,
    /// Most items that are out at a time.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_unavailable: Option<NonZeroU32>,
    /// Most steps that begin within an hour.
    #[schema(value_type = Option<u32>, minimum = 1)]
    per_hour: Option<NonZeroU32>,
    /// Whether items restart after the installation: `if_needed`, `always` or `never`.
    #[serde(default = "usual_restart")]
    #[schema(value_type = String)]
    restart: Restart,
    /// How long an installation takes until it is verified, in minutes.
    #[serde(default = "usual_takes")]
    #[schema(minimum = 1, maximum = 1440)]
    install_minutes: u32,
    /// The same for a restart.
    #[serde(default = "usual_takes")]
    #[schema(minimum = 1, maximum = 1440)]
    restart_minutes: u32,
    /// What a rehearsal called it.
    #[schema(value_type = Option<String>)]
    release: Option<ReleaseId>,
    /// The layout that a rehearsal gave: where it would be another one now, nothing is planned.
    #[schema(value_type = Option<String>)]
    layout: Option<LayoutHash>,
}

fn usual_profile() -> String {
    "default".to_owned()
}

const fn usual_restart() -> Restart {
    Restart::IfNeeded
}

const fn usual_takes() -> u32 {
    USUAL_TAKES
}

impl ReleaseRequest {
    /// One of a change, with everything else as it mostly is.
    pub(crate) fn of(change: ChangeId, profile: &str) -> Self {
        Self {
            change,
            profile: profile.to_owned(),
            from: None,
            until: None,
            windows: Vec::new(),
            canaries: BTreeSet::new(),
            items: BTreeSet::new(),
            max_unavailable: None,
            per_hour: None,
            restart: usual_restart(),
            install_minutes: usual_takes(),
            restart_minutes: usual_takes(),
            release: None,
            layout: None,
        }
    }

    fn asked(self, now: Timestamp, made: ReleaseId) -> Result<Asked, Problem> {
        let wrong = |detail: String| Problem::new(Kind::Invalid, detail);
        let named = [self.windows.len(), self.canaries.len(), self.items.len()];
        if named.into_iter().any(|count| count > MOST_NAMED) {
            return Err(Problem::new(Kind::TooLarge, "too many windows or items are named")
                .help("name 10000 at most; items that lack a patch need not be named"));
        }
        let is_sane = |minutes: u32| (1..=LONGEST_TAKES).contains(&minutes);
        if !is_sane(self.install_minutes) || !is_sane(self.restart_minutes) {
            return Err(wrong("a step takes from 1 to 1440 minutes".to_owned()));
        }
        let profile = if self.profile.contains('\n') {
            Profile::parse(&self.profile)
        } else {
            Profile::builtin(&self.profile)
        };
        let profile =
            profile.map_err(|error| wrong(format!("profile: {error}")).help(error.help()))?;
        // To the second, as people send it back.
        let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        let from = self.from.unwrap_or_else(|| second(now));
        let until = self.until.or_else(|| from.checked_add(USUAL_SPAN).ok());
        let until = until.ok_or_else(|| wrong("from: it is too late".to_owned()))?;
        let minutes = |minutes: u32| SignedDuration::from_mins(i64::from(minutes));
        let usual = usual_caps();
        let caps = domain::release::Caps {
            max_unavailable: self.max_unavailable.unwrap_or(usual.max_unavailable),
            per_hour: self.per_hour.unwrap_or(usual.per_hour),
            ..usual
        };
        Ok(Asked {
            release: self.release.unwrap_or(made),
            profile,
            from,
            until,
            windows: self.windows,
            canaries: self.canaries,
            only: self.items,
            caps,
            restart: self.restart,
            takes: (minutes(self.install_minutes), minutes(self.restart_minutes)),
        })
    }
}

/// A release in a line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReleaseLine {
    #[schema(value_type = String)]
    id: ReleaseId,
    #[schema(value_type = String)]
    change: ChangeId,
    /// `running`, `held`, `rolling_back` or `aborted`.
    mode: String,
    /// `released`, `aborted` or `rolled_back`, once it has ended.
    ended: Option<String>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<ReleaseRow> for ReleaseLine {
    fn from(row: ReleaseRow) -> Self {
        let ReleaseRow { id, change, mode, ended, created_by, created_at } = row;
        Self { id, change, mode, ended, created_by, created_at }
    }
}

/// A release: exactly what happens where and when, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReleaseView {
    #[schema(value_type = String)]
    id: ReleaseId,
    #[schema(value_type = String)]
    change: ChangeId,
    /// What names the layout: another fleet, other windows or another content make another one.
    #[schema(value_type = String)]
    layout: LayoutHash,
    /// From when on it was planned.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// `running`, `held`, `rolling_back` or `aborted`, with the reason.
    #[schema(value_type = Object)]
    mode: Mode,
    /// `released`, `aborted` or `rolled_back`, once it has ended.
    #[schema(value_type = Option<String>)]
    ended: Option<domain::release::End>,
    /// The number of the wave at work, 0 for the canaries.
    wave: Option<u16>,
    /// How many items stand how.
    #[schema(value_type = Object)]
    tally: Tally,
    waves: Vec<WaveView>,
    /// What each tenant is asked to agree to, by its hash.
    #[schema(value_type = Object)]
    plans: BTreeMap<TenantId, PlanHash>,
    /// Who, what and when, in the order of the waves; the first thousand.
    turns: Vec<TurnView>,
    /// How many there are.
    turns_total: usize,
    /// Who is in no plan, and why.
    unplaced: Vec<LeftOut>,
    /// What items wait for, the most frequent first.
    waits: Vec<WaitView>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A wave of a release.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaveView {
    /// 0 for the canaries.
    number: u16,
    /// How many items it has.
    items: u32,
    /// How long it is watched before the next one begins, in minutes.
    soak_minutes: i64,
}

/// One item's turn.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TurnView {
    #[schema(value_type = String)]
    ci: CiId,
    #[schema(value_type = String)]
    tenant: TenantId,
    wave: u16,
    /// `install` or `reboot`.
    #[schema(value_type = String)]
    step: domain::release::StepKind,
    /// When it begins if all goes as planned.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    takes_minutes: i64,
    #[schema(value_type = Object)]
    window: Window,
    /// What is done, as the plan says it.
    #[schema(value_type = Vec<Object>)]
    actions: Vec<Planned>,
    /// How the item stands.
    #[schema(value_type = Option<Object>)]
    phase: Option<Phase>,
    /// What it waits for, in words.
    waits_for: Option<String>,
}

/// An item that is in no plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftOut {
    #[schema(value_type = String)]
    ci: CiId,
    because: String,
    help: String,
}

/// What some items wait for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaitView {
    what: String,
    items: u32,
}

/// What somebody decides about a release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandRequest {
    /// `hold`, `resume`, `abort`, `roll_back` or `set_aside`.
    #[serde(rename = "do")]
    #[schema(pattern = "^(hold|resume|abort|roll_back|set_aside)$")]
    what: String,
    /// Why.
    reason: String,
    /// Which items, for `set_aside`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    items: Vec<CiId>,
}

impl CommandRequest {
    fn command(self) -> Result<Command, Problem> {
        let reason: Reason = given("reason", &self.reason)?;
        let Self { what, items, .. } = self;
        if items.len() > MOST_NAMED {
            return Err(Problem::new(Kind::TooLarge, "too many items are named"));
        }
        Ok(match &*what {
            "hold" => Command::Hold { reason },
            "resume" => Command::Resume { reason },
            "abort" => Command::Abort { reason },
            "roll_back" => Command::RollBack { reason },
            "set_aside" => Command::SetAside { items, reason },
            other => {
                return Err(Problem::new(Kind::Invalid, format!("nothing is called `{other}`"))
                    .help("use hold, resume, abort, roll_back or set_aside"));
            }
        })
    }
}

/// Which releases.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReleaseQuery {
    /// Of one change.
    #[param(value_type = Option<String>)]
    change: Option<String>,
}

/// Which orders.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrderQuery {
    /// Of one tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<String>,
    /// For one change.
    #[param(value_type = Option<String>)]
    change: Option<String>,
    /// On one item.
    #[param(value_type = Option<String>)]
    ci: Option<String>,
    /// For one release.
    #[param(value_type = Option<String>)]
    release: Option<String>,
    /// Orders at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// What an agent was told, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderView {
    /// Its nonce, which names it.
    #[schema(value_type = String)]
    order: domain::change::Nonce,
    #[schema(value_type = String)]
    release: ReleaseId,
    #[schema(value_type = String)]
    change: ChangeId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    #[schema(value_type = String)]
    plan: PlanHash,
    /// The stage of the plan, from 1.
    stage: u32,
    /// The agent that fetched it, once one has.
    #[schema(value_type = Option<String>)]
    agent: Option<domain::cloud::AgentId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    handed_at: Option<Timestamp>,
    /// `fetching`, `keeping_way_back`, `altering`, `rebooting` or `going_back`: what the agent says that it is at,
    /// or was at last.
    #[schema(value_type = Option<String>)]
    at_work: Option<domain::agent::AtWork>,
    #[schema(value_type = Option<String>, format = DateTime)]
    answered_at: Option<Timestamp>,
    /// `refused`, `done`, `rolled_back`, `stuck` or `called_off`, once it is over; `conflict` where somebody
    /// else saw that what the agent said is not so. What is done is not verified yet: see the change.
    outcome: Option<String>,
    /// Why, in words.
    reason: Option<String>,
    /// What the agent answered: the envelope that it signed, or its refusal.
    answer: Option<String>,
}

impl From<OrderRow> for OrderView {
    fn from(row: OrderRow) -> Self {
        Self {
            order: row.nonce,
            release: row.release,
            change: row.change,
            tenant: row.tenant,
            ci: row.ci,
            plan: row.plan,
            stage: row.stage + 1,
            agent: row.agent,
            created_at: row.created_at,
            handed_at: row.handed_at,
            at_work: row.at_work,
            answered_at: row.answered_at,
            outcome: row.outcome,
            reason: row.reason,
            answer: row.answer,
        }
    }
}

impl ReleaseView {
    fn of(release: &Release, without: &BTreeMap<CiId, NoContent>, now: Timestamp) -> Self {
        let run = &release.run;
        let layout = run.layout();
        let turns = turns(run, layout, now);
        let left_out = |(ci, because): (&CiId, &domain::release::Unplaced)| LeftOut {
            ci: *ci,
            because: because.to_string(),
            help: because.help().to_owned(),
        };
        let without_content = |(ci, because): (&CiId, &NoContent)| LeftOut {
            ci: *ci,
            because: because.to_string(),
            help: because.help().to_owned(),
        };
        let unplaced = layout.unplaced().iter().map(left_out);
        Self {
            id: release.id,
            change: release.change,
            layout: layout.hash(),
            from: None,
            mode: run.mode().clone(),
            ended: run.ended(),
            wave: run.wave(),
            tally: run.tally(),
            waves: layout
                .waves()
                .iter()
                .map(|wave| WaveView {
                    number: wave.number,
                    items: wave.size(),
                    soak_minutes: wave.soak.as_mins(),
                })
                .collect(),
            plans: layout.plans().iter().map(|(tenant, plan)| (*tenant, plan.hash())).collect(),
            turns_total: layout.turns().count(),
            turns,
            unplaced: unplaced.chain(without.iter().map(without_content)).collect(),
            waits: run
                .waits(now)
                .into_iter()
                .map(|(what, items)| WaitView { what: what.to_string(), items })
                .collect(),
            created_by: release.created_by.clone(),
            created_at: release.created_at,
        }
    }
}

fn turns(run: &Run, layout: &Layout, now: Timestamp) -> Vec<TurnView> {
    layout
        .turns()
        .take(MOST_TURNS)
        .map(|turn| TurnView {
            ci: turn.ci,
            tenant: turn.tenant,
            wave: turn.wave,
            step: turn.step,
            at: turn.at,
            takes_minutes: turn.takes.as_mins(),
            window: turn.window,
            actions: turn.actions.to_vec(),
            phase: run.phase(turn.ci),
            waits_for: run.why(turn.ci, now).map(|waiting| waiting.to_string()),
        })
        .collect()
}

/// List releases, the newest first. Only the provider's people see them: they tell of every tenant's items.
#[utoipa::path(get, path = "/releases", tag = "releases", params(ReleaseQuery, Paging),
    responses((status = 200, body = Listed<ReleaseLine>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(which): Query<ReleaseQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<ReleaseLine>>, Problem> {
    let change = which.change.map(|text| given("change", &text)).transpose()?;
    Ok(Json(Listed::of(app.store.releases(&by, change, &paging.request()?).await?)))
}

/// Plan a release: exactly what is done where and when. Each tenant is asked for its plan, and nothing
/// begins before it may.
#[utoipa::path(post, path = "/releases", tag = "releases", request_body = ReleaseRequest,
    responses((status = 201, body = ReleaseView), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::ChangePlan as usize }>,
    Body(request): Body<ReleaseRequest>,
) -> Result<impl IntoResponse, Problem> {
    Ok((StatusCode::CREATED, Json(planned(&app, &by, request).await?)))
}

/// Plans a release.
pub(crate) async fn planned(
    app: &App,
    by: &Actor,
    request: ReleaseRequest,
) -> Result<ReleaseView, Problem> {
    let environment = app.store.environment();
    let (now, mut random) = (environment.now(), [0; 10]);
    environment.fill(&mut random);
    let (change, expected) = (request.change, request.layout);
    let asked = request.asked(now, ReleaseId::new(now, random))?;
    let from = asked.from;
    let drawn = draw(app, by, change, asked).await?;
    let found = drawn.layout.hash();
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        let detail = format!("the layout would be {found} now, and {expected} was asked for");
        return Err(Problem::new(Kind::Conflict, detail)
            .help("the cloud is another than it was: rehearse it again, and look at it"));
    }
    let release = app.store.create_release(by, drawn.layout, app.two_persons_above).await?;
    let view = ReleaseView::of(&release, &drawn.without_content, now);
    Ok(ReleaseView { from: Some(from), ..view })
}

/// Read a release.
#[utoipa::path(get, path = "/releases/{id}", tag = "releases", params(("id" = String, Path)),
    responses((status = 200, body = ReleaseView), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    let release = app.store.release(&by, id).await?;
    Ok(Json(ReleaseView::of(&release, &BTreeMap::new(), app.store.environment().now())))
}

/// Decide about a release: hold it, let it go on, end it, take it back, or wait for some items no more.
#[utoipa::path(post, path = "/releases/{id}/commands", tag = "releases",
    params(("id" = String, Path)), request_body = CommandRequest,
    responses((status = 200, body = ReleaseView), Problems))]
async fn command(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    Path(id): Path<ReleaseId>,
    Body(request): Body<CommandRequest>,
) -> Result<Json<ReleaseView>, Problem> {
    let outcome = app.store.command_release(&by, id, request.command()?).await?;
    let release = accepted(outcome)?;
    Ok(Json(ReleaseView::of(&release, &BTreeMap::new(), app.store.environment().now())))
}

/// List what agents were told, the newest first, and what came of it.
#[utoipa::path(get, path = "/orders", tag = "releases", params(OrderQuery),
    responses((status = 200, body = Vec<OrderView>), Problems))]
async fn orders(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(query): Query<OrderQuery>,
) -> Result<Json<Vec<OrderView>>, Problem> {
    let OrderQuery { tenant, change, ci, release, limit } = query;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
    }
    let filter = OrderFilter {
        tenant: tenant.map(|text| given("tenant", &text)).transpose()?,
        change: change.map(|text| given("change", &text)).transpose()?,
        ci: ci.map(|text| given("ci", &text)).transpose()?,
        release: release.map(|text| given("release", &text)).transpose()?,
    };
    let orders = app.store.orders(&by, &filter, limit).await?;
    Ok(Json(orders.into_iter().map(OrderView::from).collect()))
}
