//! `/policies`: what provider and tenant agreed to, version by version.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::TenantId;
use domain::priority::PolicyRef;
use domain::sla::{Policy, PolicyError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::PolicyState;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Path, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest document, in bytes.
const LONGEST: usize = 256 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, propose)).routes(routes!(agree))
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
