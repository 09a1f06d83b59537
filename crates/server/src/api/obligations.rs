//! `/obligations` and `/clocks`: what a change asks of one tenant, and by when of whom.

use std::str::FromStr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use domain::change::{
    Draft, Lack, Nonce, Outcome as Rollout, Plan, PlanHash, Share, Sight, Stage, Statement,
};
use domain::cloud::{ChangeId, Duty, TenantId};
use domain::priority::{
    AssetFacts, Exposure, KevListing, PolicyRef, Priority, PriorityInputs, Sourced,
};
use domain::sla::{ClockView, Dates, Errand, Facts, Party, Path as SlaPath, Record, Span};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{ClockFilter, ClockRow, ClockStanding, ErrandRecord, InterruptionClaim, Matter, Move};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::changes::accepted;
use super::consent::signed;
use super::errands::ErrandView;
use super::interruptions::{InterruptionView, interruptions};
use super::{Body, Problems, Query, checked_text, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Clocks listed where the caller names no number.
const USUAL: u16 = 200;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(clocks))
        .routes(routes!(read))
        .routes(routes!(plan))
        .routes(routes!(answer))
        .routes(routes!(consents))
        .routes(routes!(countersign))
        .routes(routes!(assess))
        .routes(routes!(finish))
        .routes(routes!(scan))
        .routes(routes!(saw))
        .routes(routes!(withdraw))
        .routes(routes!(close))
}

/// Which change and which tenant.
pub(crate) struct Which {
    pub(crate) change: ChangeId,
    pub(crate) tenant: TenantId,
}

impl axum::extract::FromRequestParts<App> for Which {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, Problem> {
        let missing = || Problem::not_found("such obligation");
        let axum::extract::Path((change, tenant)) =
            axum::extract::Path::<(String, String)>::from_request_parts(parts, app)
                .await
                .map_err(|_| missing())?;
        Ok(Self {
            change: ChangeId::from_str(&change).map_err(|_| missing())?,
            tenant: TenantId::from_str(&tenant).map_err(|_| missing())?,
        })
    }
}

/// What a change asks of one tenant, in a line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Clock {
    #[schema(value_type = String)]
    change: ChangeId,
    title: String,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    priority: Priority,
    /// Where it stands: `collected`, `evaluated`, `tested`, `planned`, `notified`, `approved`,
    /// `deferred`, `refused`, `lapsed`, `scheduled`, `rolling_out`, `verifying`, `verified`,
    /// `non_compliant`, `withdrawn`, `closed`, `reopened`.
    phase: String,
    /// Who holds the ball: `provider`, `tenant`, `vendor`, `host_unreachable`, `change_freeze`.
    #[schema(value_type = Option<String>)]
    holder: Option<Party>,
    /// How it stood when it was last looked at: `ok`, `warn`, `overdue`, `breached`, `met` or
    /// `withdrawn`.
    state: String,
    /// How it stands now, whether anybody looked or not: `overdue`, `unknown`, `near`, `in_time` or
    /// `settled`.
    #[schema(value_type = String)]
    standing: ClockStanding,
    /// The first instant that is too late.
    #[schema(value_type = Option<String>, format = DateTime)]
    due: Option<Timestamp>,
    /// The first instant that is too late for what it waits for.
    #[schema(value_type = Option<String>, format = DateTime)]
    stage_deadline: Option<Timestamp>,
    /// Whether nothing is left to do, but for what is owed beside the patch.
    settled: bool,
    /// What is owed beside the patch, the first of it: `evidence`, `done_notice` or `re_evaluation`; also of
    /// what is settled.
    #[schema(value_type = Option<String>)]
    owed: Option<Errand>,
    /// The first instant that is too late for that.
    #[schema(value_type = Option<String>, format = DateTime)]
    owed_by: Option<Timestamp>,
}

impl From<ClockRow> for Clock {
    fn from(row: ClockRow) -> Self {
        Self {
            change: row.change,
            title: row.title,
            tenant: row.tenant,
            priority: row.priority,
            phase: row.phase,
            holder: row.holder,
            state: row.state,
            standing: row.standing,
            due: row.due,
            stage_deadline: row.stage_deadline,
            settled: row.is_settled,
            owed: row.owed,
            owed_by: row.owed_by,
        }
    }
}

/// Which clocks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClockQuery {
    /// Of one tenant.
    #[param(value_type = Option<String>)]
    tenant: Option<String>,
    /// Due before an instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    due_before: Option<Timestamp>,
    /// With `true`, also those where nothing is left to do.
    #[serde(default)]
    settled: bool,
    /// With `true`, only those of which a date passed, of a stage or of the whole.
    #[serde(default)]
    overdue: bool,
    /// With `true`, only those of which nobody knows how they stand, because nobody looked at them in
    /// time; with `overdue`, both.
    #[serde(default)]
    unknown: bool,
    /// Clocks at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// What a change asks of one tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Obligation {
    #[schema(value_type = String)]
    change: ChangeId,
    title: String,
    #[schema(value_type = String)]
    tenant: TenantId,
    phase: &'static str,
    #[schema(value_type = String)]
    priority: Priority,
    /// Who lists it as known to be exploited, where somebody does.
    exploited_by: Option<String>,
    /// How exposed the items are, the worst of them: `open`, `controlled` or `small`; null is unknown,
    /// which counts as open.
    #[schema(value_type = Option<String>)]
    exposure: Option<Exposure>,
    /// Who says so.
    exposure_by: Option<String>,
    /// Whether the terms of an emergency hold: it is known to be exploited, and exposed.
    is_emergency: bool,
    /// Who installs.
    #[schema(value_type = String)]
    duty: Duty,
    /// The policy that governs: the tenant's version in force when the patch was collected.
    #[schema(value_type = Object)]
    policy: PolicyRef,
    /// What happened, and when; records are only ever added.
    #[schema(value_type = Vec<Object>)]
    instants: Vec<Record>,
    /// The clock now: what it waits for, who holds the ball, the dates that bind, what is owed beside the
    /// patch (`owed`), how it stands.
    #[schema(value_type = Object)]
    clock: Option<ClockView>,
    /// Whose time it was, from its beginning until now, without a gap.
    #[schema(value_type = Vec<Object>)]
    attribution: Vec<Span>,
    /// What stood in the way of both sides, and who said so.
    interruptions: Vec<InterruptionView>,
    /// What was done of what is owed beside the patch: evidence, another evaluation.
    errands: Vec<ErrandView>,
    /// The tenant's share, once there is a plan.
    share: Option<ShareView>,
    /// When time alone may alter it next.
    #[schema(value_type = Option<String>, format = DateTime)]
    wakes_at: Option<Timestamp>,
    version: u64,
}

/// A tenant's share of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShareView {
    /// The plan in force: read its bytes at `/plans/{plan}`, consent is to this hash.
    #[schema(value_type = String)]
    plan: PlanHash,
    /// Which plan of this share it is, from 0.
    generation: u32,
    /// Where it stands, with what belongs to it.
    #[schema(value_type = Object)]
    phase: domain::change::Phase,
    /// The SLA's dates.
    #[schema(value_type = Object)]
    dates: Dates,
    #[schema(value_type = Option<String>, format = DateTime)]
    notified_at: Option<Timestamp>,
    /// Who of the provider's people agreed to this plan.
    countersigned_by: Vec<String>,
    /// What it lacks to start now.
    lacks: Vec<LackView>,
}

/// One thing that is missing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LackView {
    what: String,
    help: &'static str,
    /// When it passes by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    passes_at: Option<Timestamp>,
}

impl From<&Lack> for LackView {
    fn from(lack: &Lack) -> Self {
        Self { what: lack.to_string(), help: lack.help(), passes_at: lack.passes_at() }
    }
}

impl Obligation {
    fn of(
        matter: &Matter,
        claims: &[InterruptionClaim],
        errands: Vec<ErrandRecord>,
        now: Timestamp,
    ) -> Self {
        let Matter { obligation, change, policy, .. } = matter;
        let lacks = matter.lacks(now).unwrap_or_default();
        let facts = obligation.facts();
        let exposure = facts.asset.exposure.as_ref();
        Self {
            change: obligation.change(),
            title: change.title.clone(),
            tenant: obligation.tenant(),
            phase: obligation.phase(),
            priority: facts.priority,
            exploited_by: facts.exploited_by().map(str::to_owned),
            exposure: exposure.map(|it| it.value),
            exposure_by: exposure.map(|it| it.by.clone()),
            is_emergency: facts.path() == SlaPath::Emergency,
            duty: obligation.duty(),
            policy: obligation.policy().clone(),
            instants: obligation.instants().records().to_vec(),
            clock: obligation.clock(policy, now),
            attribution: obligation.case(policy).attribution(now),
            interruptions: interruptions(matter, claims),
            errands: errands.into_iter().map(ErrandView::from).collect(),
            share: obligation.share().map(|share| ShareView::of(share, &lacks)),
            wakes_at: obligation.wakes_at(policy, now),
            version: obligation.version(),
        }
    }
}

impl ShareView {
    fn of(share: &Share, lacks: &[Lack]) -> Self {
        let plan = share.plan().hash();
        let agreed = share.approvals().iter().filter(|it| it.plan == plan);
        Self {
            plan,
            generation: share.plan().draft().generation,
            phase: share.phase(),
            dates: share.terms().dates.clone(),
            notified_at: share.notified_at(),
            countersigned_by: agreed.map(|it| it.by.to_string()).collect(),
            lacks: lacks.iter().map(LackView::from).collect(),
        }
    }
}

/// The stages of a plan; the rest of it follows from the obligation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanRequest {
    /// In this order: `[{"window": {"from", "until"}, "items": [{"ci", "duty", "actions",
    /// "rollback"}]}]`.
    #[schema(value_type = Vec<Object>)]
    stages: Vec<Stage>,
}

/// A plan that somebody means.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanNamed {
    /// Its hash.
    plan: String,
}

/// How urgent something is, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssessRequest {
    #[schema(value_type = String)]
    priority: Priority,
    /// Who lists it as known to be exploited (`CISA KEV 2026.11.26`), if anybody does.
    exploited_by: Option<String>,
    /// Whether the items can be reached from outside: `open`, `controlled` or `small`. Left out: as their
    /// labels say, else unknown, which counts as open.
    #[schema(value_type = Option<String>)]
    exposure: Option<Exposure>,
}

/// How a rollout ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinishRequest {
    /// The plan that was carried out.
    plan: String,
    /// `done`, `failed` or `rolled_back`.
    #[schema(value_type = String)]
    outcome: Rollout,
}

/// What a tenant said, as it was signed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consent {
    #[schema(value_type = String)]
    plan: PlanHash,
    /// `approve`, `defer` or `refuse`.
    decision: String,
    #[schema(value_type = String)]
    key: domain::change::KeyId,
    #[schema(value_type = String)]
    nonce: Nonce,
    /// The envelope; verify it with the tenant's public key.
    #[schema(value_type = Object)]
    envelope: serde_json::Value,
    received_by: String,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
}

/// List what is open, the earliest due first: what is overdue or about to be, and who holds the ball.
#[utoipa::path(get, path = "/clocks", tag = "changes", params(ClockQuery),
    responses((status = 200, body = Vec<Clock>), Problems))]
async fn clocks(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(query): Query<ClockQuery>,
) -> Result<Json<Vec<Clock>>, Problem> {
    let limit = query.limit.unwrap_or(USUAL);
    if !(1..=store::LONGEST_PAGE).contains(&limit) {
        return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
    }
    let tenant = query.tenant.as_deref().map(|text| given("tenant", text)).transpose()?;
    let ClockQuery { due_before, settled, overdue, unknown, .. } = query;
    let filter = ClockFilter { tenant, change: None, due_before, settled, overdue, unknown };
    let rows = app.store.clocks(&by, &filter, limit).await?;
    Ok(Json(rows.into_iter().map(Clock::from).collect()))
}

/// Read what a change asks of a tenant: plan, dates, clock, whose time it was.
#[utoipa::path(get, path = "/obligations/{id}/{tenant}", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)),
    responses((status = 200, body = Obligation), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Which { change, tenant }: Which,
) -> Result<Json<Obligation>, Problem> {
    let matter = app.store.matter(&by, change, tenant).await?;
    shown(&app, &by, &matter).await
}

async fn shown(app: &App, by: &store::Actor, matter: &Matter) -> Result<Json<Obligation>, Problem> {
    let (change, tenant) = (matter.obligation.change(), matter.obligation.tenant());
    let claims = app.store.interruption_claims(by, change, tenant).await?;
    let errands = app.store.errand_records(by, change, tenant).await?;
    Ok(Json(Obligation::of(matter, &claims, errands, app.store.environment().now())))
}

pub(super) async fn advance(
    app: &App,
    by: &store::Actor,
    which: &Which,
    action: Move,
) -> Result<Json<Obligation>, Problem> {
    let outcome = app.store.advance(by, which.change, which.tenant, action).await?;
    shown(app, by, &accepted(outcome)?).await
}

/// Give a tenant's share a plan, or another in the place of the one in force: consent to the old one
/// is none to it.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/plan", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = PlanRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn plan(
    State(app): State<App>,
    By(by): By<{ Action::ChangePlan as usize }>,
    which: Which,
    Body(PlanRequest { stages }): Body<PlanRequest>,
) -> Result<Json<Obligation>, Problem> {
    let matter = app.store.matter(&by, which.change, which.tenant).await?;
    let parent = matter.obligation.share().map(Share::plan);
    let draft = Draft {
        change: which.change,
        tenant: which.tenant,
        generation: parent.map_or(0, |plan| plan.draft().generation.saturating_add(1)),
        parent: parent.map(Plan::hash),
        stages,
    };
    let plan = Plan::new(draft)
        .map_err(|error| Problem::new(Kind::Invalid, error.to_string()).help(error.help()))?;
    let action = Move::Plan { plan, two_persons_above: app.two_persons_above };
    advance(&app, &by, &which, action).await
}

/// Answer a plan for one's tenant: an envelope with the consent, signed by one of its keys. `patchwright
/// consent approve|defer|refuse` makes a DSSE envelope; what a passkey is to sign is told by
/// `…/answer/passkey`.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/answer", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = Object,
    responses((status = 200, body = Obligation), Problems))]
async fn answer(
    State(app): State<App>,
    By(by): By<{ Action::ConsentGive as usize }>,
    which: Which,
    bytes: Bytes,
) -> Result<Json<Obligation>, Problem> {
    let (statement, envelope) = signed::<Statement>(&app, &by, which.tenant, &bytes).await?;
    advance(&app, &by, &which, Move::Answer { statement, envelope }).await
}

/// List what a tenant said to the plans of a change, as it was signed.
#[utoipa::path(get, path = "/obligations/{id}/{tenant}/consents", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)),
    responses((status = 200, body = Vec<Consent>), Problems))]
async fn consents(
    State(app): State<App>,
    By(by): By<{ Action::ConsentRead as usize }>,
    Which { change, tenant }: Which,
) -> Result<Json<Vec<Consent>>, Problem> {
    app.store.matter(&by, change, tenant).await?;
    let consents = app.store.consents(&by, change, tenant).await?;
    let shown = consents.into_iter().map(|consent| {
        let envelope = serde_json::from_str(&consent.envelope)
            .map_err(|_| Problem::new(Kind::Internal, "a kept envelope is damaged"))?;
        Ok(Consent {
            plan: consent.plan,
            decision: consent.decision,
            key: consent.key,
            nonce: consent.nonce,
            envelope,
            received_by: consent.received_by,
            received_at: consent.received_at,
        })
    });
    Ok(Json(shown.collect::<Result<_, Problem>>()?))
}

/// Agree to a plan as one of the provider's people; nobody agrees to their own.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/countersign", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = PlanNamed,
    responses((status = 200, body = Obligation), Problems))]
async fn countersign(
    State(app): State<App>,
    By(by): By<{ Action::ChangeCountersign as usize }>,
    which: Which,
    Body(PlanNamed { plan }): Body<PlanNamed>,
) -> Result<Json<Obligation>, Problem> {
    let plan: PlanHash = given("plan", &plan)?;
    advance(&app, &by, &which, Move::Countersign(plan)).await
}

/// Say how urgent it is: dates only become earlier by it.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/assess", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = AssessRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn assess(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(request): Body<AssessRequest>,
) -> Result<Json<Obligation>, Problem> {
    let AssessRequest { priority, exploited_by, exposure } = request;
    let exploited_by = exploited_by
        .map(|text| checked_text("exploited_by", text, 1..=200))
        .transpose()?
        .map(|source| Sourced::new(KevListing::Listed, source));
    let asset = AssetFacts {
        exposure: exposure.map(|exposure| Sourced::new(exposure, Facts::ASSESSED)),
        ..AssetFacts::default()
    };
    let patch = PriorityInputs { known_exploited: exploited_by, ..PriorityInputs::default() };
    let facts = Box::new(Facts { priority, patch, cves: Vec::new(), asset });
    advance(&app, &by, &which, Move::Assess(facts)).await
}

/// Say how a rollout ended; a scan has to show it.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/finish", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = FinishRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn finish(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(FinishRequest { plan, outcome }): Body<FinishRequest>,
) -> Result<Json<Obligation>, Problem> {
    let plan: PlanHash = given("plan", &plan)?;
    advance(&app, &by, &which, Move::Finish { plan, outcome }).await
}

/// What somebody saw of an alteration.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SightRequest {
    /// `clean` (everything is as it was to be) or `missing`.
    #[schema(value_type = String)]
    sight: Sight,
    /// SHA-256 of what was kept of it.
    evidence: String,
}

/// Say what you saw of an alteration, which no scan sees yet: it is verified by that, or falls short. It
/// is your own word, kept with its evidence; nobody says it of their own plan, nor of a patch.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/sight", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = SightRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn saw(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(SightRequest { sight, evidence }): Body<SightRequest>,
) -> Result<Json<Obligation>, Problem> {
    if sight == Sight::Unknown {
        return Err(Problem::new(Kind::Invalid, "`unknown` is nothing that was seen")
            .help("use clean or missing, once somebody has looked"));
    }
    let evidence = given("evidence", &evidence)?;
    advance(&app, &by, &which, Move::Saw { sight, evidence }).await
}

/// Look whether the findings are gone from all items, as the fleet check saw them since.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/scan", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)),
    responses((status = 200, body = Obligation), Problems))]
async fn scan(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
) -> Result<Json<Obligation>, Problem> {
    advance(&app, &by, &which, Move::Scan).await
}

/// Take a change back for one tenant, before it starts there.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/withdraw", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)),
    responses((status = 200, body = Obligation), Problems))]
async fn withdraw(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    which: Which,
) -> Result<Json<Obligation>, Problem> {
    advance(&app, &by, &which, Move::Withdraw).await
}

/// Close what is verified or refused.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/close", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)),
    responses((status = 200, body = Obligation), Problems))]
async fn close(
    State(app): State<App>,
    By(by): By<{ Action::ChangeDecide as usize }>,
    which: Which,
) -> Result<Json<Obligation>, Problem> {
    advance(&app, &by, &which, Move::Close).await
}
