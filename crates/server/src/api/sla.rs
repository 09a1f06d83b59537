//! `/policies`: what provider and tenant agreed to, version by version.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{ChangeId, TenantId};
use domain::priority::PolicyRef;
use domain::sla::{History, Policy, PolicyError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{HistoryFilter, PastObligation, PolicyState};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest document, in bytes.
const LONGEST: usize = 256 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, propose))
        .routes(routes!(agree))
        .routes(routes!(histories))
}

/// A version of an SLA policy.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyVersion {
    /// Whose: the provider's is every tenant's default.
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = Object)]
    policy: PolicyRef,
    /// The whole policy in TOML.
    document: String,
    /// `proposed`, or `agreed`.
    #[schema(value_type = String)]
    state: PolicyState,
    /// Which side, and who: `tenant:usr_…`.
    proposed_by: String,
    #[schema(value_type = String, format = DateTime)]
    proposed_at: Timestamp,
    agreed_by: Option<String>,
    /// It governs what is collected from then on, until the next.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl From<store::PolicyVersion> for PolicyVersion {
    fn from(version: store::PolicyVersion) -> Self {
        Self {
            tenant: version.tenant,
            policy: version.policy,
            document: version.document,
            state: version.state,
            proposed_by: version.proposed_by,
            proposed_at: version.proposed_at,
            agreed_by: version.agreed_by,
            since: version.since,
        }
    }
}

/// A version that is proposed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposalRequest {
    /// TOML: a whole policy, or what differs from the one in force with a `version` of its own.
    document: String,
}

/// A version that is agreed to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgreementRequest {
    version: String,
}

fn refused(error: &PolicyError) -> Problem {
    let problem = Problem::new(Kind::Invalid, error.to_string());
    match error.help() {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// Which past.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Of one tenant.
    tenant: Option<String>,
    /// Of changes taken up since an instant (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// What happened to a change on one tenant's items.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Past {
    #[schema(value_type = String)]
    change: ChangeId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The policy that governs it.
    #[schema(value_type = Object)]
    policy: PolicyRef,
    /// `name`, `facts`, `duty`, `instants`, `deferrals`, `interruptions`.
    #[schema(value_type = Object)]
    history: History,
}

impl From<PastObligation> for Past {
    fn from(past: PastObligation) -> Self {
        let PastObligation { change, tenant, policy, history } = past;
        Self { change, tenant, policy, history }
    }
}

/// Tell what happened to changes, tenant by tenant, for judging it under another policy:
/// `patchwright sla simulate` does.
#[utoipa::path(get, path = "/histories", tag = "SLA", params(HistoryQuery, Paging),
    responses((status = 200, body = Listed<Past>), Problems))]
async fn histories(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(HistoryQuery { tenant, since }): Query<HistoryQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Past>>, Problem> {
    let tenant = tenant.as_deref().map(|text| given("tenant", text)).transpose()?;
    let filter = HistoryFilter { tenant, since };
    Ok(Json(Listed::of(app.store.histories(&by, &filter, &paging.request()?).await?)))
}

/// List the versions of a tenant's policy, the newest first, then the provider's default.
#[utoipa::path(get, path = "/policies/{id}", tag = "SLA", params(("id" = String, Path)),
    responses((status = 200, body = Vec<PolicyVersion>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::SlaRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Vec<PolicyVersion>>, Problem> {
    app.store.tenant(&by, tenant).await?;
    let versions = app.store.policy_versions(&by, tenant).await?;
    Ok(Json(versions.into_iter().map(PolicyVersion::from).collect()))
}

/// Propose a version. The provider's default is in force at once; a tenant's, once the other side
/// agreed.
#[utoipa::path(post, path = "/policies/{id}", tag = "SLA", params(("id" = String, Path)),
    request_body = ProposalRequest, responses((status = 201, body = PolicyVersion), Problems))]
async fn propose(
    State(app): State<App>,
    By(by): By<{ Action::SlaAgree as usize }>,
    Path(tenant): Path<TenantId>,
    Body(ProposalRequest { document }): Body<ProposalRequest>,
) -> Result<impl IntoResponse, Problem> {
    app.store.tenant(&by, tenant).await?;
    if document.len() > LONGEST {
        return Err(Problem::new(Kind::TooLarge, "the policy has more than 256 KiB"));
    }
    let is_whole = document.lines().any(|line| line.trim_start().starts_with("schema"));
    let policy = if is_whole {
        Policy::from_toml(&document)
    } else {
        app.store.policy_in_force(&by, tenant).await?.negotiate(&document)
    };
    let policy = policy.map_err(|error| refused(&error))?;
    let version = app.store.propose_policy(&by, tenant, policy).await?;
    Ok((StatusCode::CREATED, Json(PolicyVersion::from(version))))
}

/// Agree to a version that the other side proposed.
#[utoipa::path(post, path = "/policies/{id}/agreement", tag = "SLA", params(("id" = String, Path)),
    request_body = AgreementRequest, responses((status = 200, body = PolicyVersion), Problems))]
async fn agree(
    State(app): State<App>,
    By(by): By<{ Action::SlaAgree as usize }>,
    Path(tenant): Path<TenantId>,
    Body(AgreementRequest { version }): Body<AgreementRequest>,
) -> Result<Json<PolicyVersion>, Problem> {
    Ok(Json(app.store.agree_to_policy(&by, tenant, version).await?.into()))
}
