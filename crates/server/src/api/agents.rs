//! `/agent-tokens` and `/agents`: who may join, and who has.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::agent::Facts;
use domain::cloud::{AgentId, CiId, Class, JoinTokenId, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{AgentState, Labels, NewJoinToken};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Listed, Paging, Path, Problems, Query, check_labels, etag};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

/// Minutes for which a token is good where its maker names none.
const USUAL_LIFETIME: u32 = 60;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_token))
        .routes(routes!(list))
        .routes(routes!(read, revoke))
        .routes(routes!(facts))
}

/// A token for joining that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinTokenRequest {
    /// Whose agents it lets in.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The item that the agent will speak for; otherwise each use takes up a new one.
    #[schema(value_type = Option<String>)]
    ci: Option<CiId>,
    /// What new items are.
    #[serde(default = "vm")]
    #[schema(value_type = String, example = "vm")]
    class: Class,
    /// Labels of new items.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
    /// How often it may be used: once for a host; more for an image or a group that scales.
    #[serde(default = "once")]
    #[schema(minimum = 1, maximum = 100_000)]
    uses: u32,
    /// Minutes for which it is good, at most 7 days.
    #[serde(default = "usual_lifetime")]
    #[schema(minimum = 1, maximum = 10_080)]
    lifetime_minutes: u32,
}

const fn vm() -> Class {
    Class::Vm
}

const fn once() -> u32 {
    1
}

const fn usual_lifetime() -> u32 {
    USUAL_LIFETIME
}

/// A token for joining.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinToken {
    #[schema(value_type = String, example = "jnt_01h455vb4pex5vsknk084sn02q")]
    id: JoinTokenId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = Option<String>)]
    ci: Option<CiId>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    uses: u32,
    /// For `patchwright agent join`; told this once. It also says whom the agent is to believe.
    token: String,
}

/// An agent: one key on one host, which speaks for one configuration item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Agent {
    #[schema(value_type = String, example = "agt_01h455vb4pex5vsknk084sn02q")]
    id: AgentId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    /// SHA-256 over its key's `SubjectPublicKeyInfo`.
    key_sha256: String,
    /// `active`, `quarantined` (two hosts spoke as it), `revoked` or `replaced`.
    #[schema(value_type = String)]
    state: AgentState,
    #[schema(value_type = String, format = DateTime)]
    joined_at: Timestamp,
    /// When it was last heard of; up to five minutes behind.
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    /// Until when its certificate is good.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    version: i64,
}

/// What a configuration item runs, as its agent last said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CiFacts {
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// Host name, agent, running kernel, processes that map replaced files, a reboot asked for.
    #[schema(value_type = Object)]
    facts: Facts,
}

impl From<store::Agent> for Agent {
    fn from(agent: store::Agent) -> Self {
        Self {
            id: agent.id,
            tenant: agent.tenant,
            ci: agent.ci,
            key_sha256: agent.key.to_string(),
            state: agent.state,
            joined_at: agent.joined_at,
            seen_at: agent.seen_at,
            expires_at: agent.expires_at,
            version: agent.version,
        }
    }
}

/// Make a token with which a host joins.
#[utoipa::path(post, path = "/agent-tokens", tag = "agents", request_body = JoinTokenRequest,
    responses((status = 201, body = JoinToken), Problems))]
async fn create_token(
    State(app): State<App>,
    By(by): By<{ Action::AgentEnrol as usize }>,
    Body(request): Body<JoinTokenRequest>,
) -> Result<impl IntoResponse, Problem> {
    let JoinTokenRequest { tenant, ci, class, labels, uses, lifetime_minutes } = request;
    check_labels(&labels)?;
    let lifetime = SignedDuration::from_mins(lifetime_minutes.into());
    let new = NewJoinToken { tenant, ci, class, labels, uses, lifetime };
    let (token, secret) = app.store.create_join_token(&by, new).await?;
    let store::JoinToken { id, tenant, ci, expires_at, uses } = token;
    let token = app.agents.token_text(&secret);
    Ok((StatusCode::CREATED, Json(JoinToken { id, tenant, ci, expires_at, uses, token })))
}

/// List the agents that one may see.
#[utoipa::path(get, path = "/agents", tag = "agents", params(Paging),
    responses((status = 200, body = Listed<Agent>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::AgentRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Agent>>, Problem> {
    Ok(Json(Listed::of(app.store.agents(&by, &paging.request()?).await?)))
}

/// Read an agent.
#[utoipa::path(get, path = "/agents/{id}", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = Agent), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::AgentRead as usize }>,
    Path(id): Path<AgentId>,
) -> Result<impl IntoResponse, Problem> {
    let agent = app.store.agent(&by, id).await?;
    Ok((etag(agent.version), Json(Agent::from(agent))))
}

/// End an agent: it is not let in any more.
#[utoipa::path(delete, path = "/agents/{id}", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = Agent), Problems))]
async fn revoke(
    State(app): State<App>,
    By(by): By<{ Action::AgentRevoke as usize }>,
    Path(id): Path<AgentId>,
) -> Result<impl IntoResponse, Problem> {
    let agent = app.store.revoke_agent(&by, id).await?;
    if !store::is_rehearsal() {
        app.agents.learn(&agent);
    }
    Ok((etag(agent.version), Json(Agent::from(agent))))
}

/// Read what a configuration item runs.
#[utoipa::path(get, path = "/cis/{id}/facts", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = CiFacts), Problems))]
async fn facts(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<CiFacts>, Problem> {
    let found = app.store.facts(&by, id).await?;
    let (facts, recorded_at) = found.ok_or_else(|| {
        Problem::not_found("facts about this item").help("let an agent join for it")
    })?;
    Ok(Json(CiFacts { recorded_at, facts }))
}
