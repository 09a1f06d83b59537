//! `/findings` and `/patches`: what items lack, since when, and who bears the risk.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use domain::cloud::{CiId, FindingId, PatchId, TenantId};
use domain::fleet::FindingState;
use domain::priority::{PolicyRef, Priority};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{FindingFilter, NewAcceptance};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, checked_text, etag, given,
};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest reason for accepting a risk, in bytes.
const LONGEST_REASON: usize = 2000;

/// Longest name of who bears a risk, in bytes.
const LONGEST_OWNER: usize = 200;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(accept, end_acceptance))
        .routes(routes!(patches))
        .routes(routes!(patch))
}

/// A patch that an item lacks or lacked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Finding {
    #[schema(value_type = String, example = "fnd_01h455vb4pex5vsknk084sn02q")]
    id: FindingId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    /// The patch, the same id for every item that lacks it.
    #[schema(value_type = String)]
    patch: PatchId,
    /// Of which distribution's release.
    #[schema(example = "debian:12")]
    release: String,
    /// Source package.
    source: String,
    /// The oldest source version installed.
    installed: String,
    /// Source version with the patch.
    candidate: String,
    /// `critical`, `high`, `medium` or `low`.
    #[schema(value_type = String)]
    priority: Priority,
    /// Why it ranks so.
    reason: String,
    /// Whether it closes a vulnerability.
    security: bool,
    /// Whether the item's administrator holds the package at its version.
    held: bool,
    cves: Vec<String>,
    advisories: Vec<String>,
    /// `open`, `fixed`, `withdrawn` or `retired`.
    #[schema(value_type = String)]
    state: FindingState,
    /// When it was first missing.
    #[schema(value_type = String, format = DateTime)]
    first_seen_at: Timestamp,
    /// Since when it is or was missing this time.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Timestamp>,
    /// How often it came back.
    reopened: i64,
    /// Whose risk it is, where somebody took it.
    acceptance: Option<Acceptance>,
    /// Why the tenant's SLA asks nothing of anybody about it, where it is excluded. It is missing all the
    /// same.
    excluded: Option<Exclusion>,
    version: i64,
}

/// That a tenant's SLA does not cover a finding.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Exclusion {
    /// Name and version of the policy.
    #[schema(value_type = Object)]
    policy: PolicyRef,
    /// What that excludes, in its words.
    what: String,
    reason: String,
    /// Until when; null for as long as the policy. Over after its time: a clock starts then.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Somebody bears the risk of a finding for a while.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acceptance {
    reason: String,
    risk_owner: String,
    /// Who said so.
    by: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// A risk that is to be accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptanceRequest {
    /// Why, in words.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
    /// Who bears it.
    #[schema(min_length = 1, max_length = 200)]
    risk_owner: String,
    /// Until when, at most 366 days from now.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// A patch that items lack now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Patch {
    #[schema(value_type = String, example = "pat_01h455vb4pex5vsknk084sn02q")]
    id: PatchId,
    /// Of which distribution's release.
    #[schema(example = "debian:12")]
    release: String,
    /// Source package.
    source: String,
    /// Source version with the patch.
    candidate: String,
    /// The highest that it has anywhere.
    #[schema(value_type = String)]
    priority: Priority,
    /// Whether it closes a vulnerability somewhere.
    security: bool,
    /// How many of the items that one may see lack it.
    items: u64,
    /// Of how many tenants.
    tenants: u64,
}

/// Which findings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant.
    tenant: Option<String>,
    /// Of one group of items.
    group: Option<String>,
    /// Of one item.
    ci: Option<String>,
    /// Of one patch.
    patch: Option<String>,
    /// `open`, `fixed`, `withdrawn` or `retired`.
    state: Option<String>,
    /// `critical`, `high`, `medium` or `low`.
    priority: Option<String>,
    /// Of one source package.
    source: Option<String>,
}

impl Wanted {
    fn filter(&self) -> Result<FindingFilter, Problem> {
        Ok(FindingFilter {
            tenant: self.tenant.as_deref().map(|it| given("tenant", it)).transpose()?,
            group: self.group.as_deref().map(|it| given("group", it)).transpose()?,
            ci: self.ci.as_deref().map(|it| given("ci", it)).transpose()?,
            patch: self.patch.as_deref().map(|it| given("patch", it)).transpose()?,
            state: self.state.as_deref().map(|it| given("state", it)).transpose()?,
            priority: self.priority.as_deref().map(priority).transpose()?,
            source: self.source.clone(),
        })
    }
}

fn priority(word: &str) -> Result<Priority, Problem> {
    [Priority::Critical, Priority::High, Priority::Medium, Priority::Low]
        .into_iter()
        .find(|priority| priority.to_string() == word)
        .ok_or_else(|| {
            Problem::new(Kind::Invalid, format!("priority: `{word}` is none"))
                .help("use critical, high, medium or low")
        })
}

impl From<store::Finding> for Finding {
    fn from(finding: store::Finding) -> Self {
        let patch = finding.patch;
        Self {
            id: finding.id,
            tenant: finding.tenant,
            ci: finding.ci,
            patch: finding.patch_id,
            release: finding.release,
            source: patch.source,
            installed: patch.installed,
            candidate: patch.candidate,
            priority: patch.priority,
            reason: patch.reason,
            security: patch.security,
            held: patch.held,
            cves: patch.cves,
            advisories: patch.advisories,
            state: finding.state,
            first_seen_at: finding.first_seen_at,
            opened_at: finding.opened_at,
            closed_at: finding.closed_at,
            reopened: finding.reopened,
            acceptance: finding.acceptance.map(|it| Acceptance {
                reason: it.reason,
                risk_owner: it.risk_owner,
                by: it.by,
                at: it.at,
                until: it.until,
            }),
            excluded: finding.excluded.map(|(excluded, until)| {
                let store::Excluded { policy, what, reason } = excluded;
                Exclusion { policy, what, reason, until }
            }),
            version: finding.version,
        }
    }
}

impl From<store::Patch> for Patch {
    fn from(patch: store::Patch) -> Self {
        let store::Patch { id, release, source, candidate, priority, security, items, tenants } =
            patch;
        Self { id, release, source, candidate, priority, security, items, tenants }
    }
}

/// List the findings that one may see.
#[utoipa::path(get, path = "/findings", tag = "findings", params(Wanted, Paging),
    responses((status = 200, body = Listed<Finding>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::FindingRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Finding>>, Problem> {
    let page = app.store.findings(&by, &wanted.filter()?, &paging.request()?).await?;
    Ok(Json(Listed::of(page)))
}

/// Read a finding.
#[utoipa::path(get, path = "/findings/{id}", tag = "findings", params(("id" = String, Path)),
    responses((status = 200, body = Finding), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::FindingRead as usize }>,
    Path(id): Path<FindingId>,
) -> Result<impl IntoResponse, Problem> {
    let finding = app.store.finding(&by, id).await?;
    Ok((etag(finding.version), Json(Finding::from(finding))))
}

/// Accept the risk of a finding for a while. The side that must patch the item bears its risk.
#[utoipa::path(put, path = "/findings/{id}/acceptance", tag = "findings",
    params(("id" = String, Path), IdempotencyKey), request_body = AcceptanceRequest,
    responses((status = 200, body = Finding), Problems))]
async fn accept(
    State(app): State<App>,
    By(by): By<{ Action::FindingAccept as usize }>,
    Path(id): Path<FindingId>,
    sent: Sent<AcceptanceRequest>,
) -> Result<impl IntoResponse, Problem> {
    let AcceptanceRequest { reason, risk_owner, until } = sent.body;
    let acceptance = NewAcceptance {
        reason: checked_text("reason", reason, 1..=LONGEST_REASON)?,
        risk_owner: checked_text("risk_owner", risk_owner, 1..=LONGEST_OWNER)?,
        until,
    };
    let finding = app.store.accept_finding(&by, sent.once, id, acceptance).await?;
    Ok((etag(finding.version), Json(Finding::from(finding))))
}

/// End the acceptance of a finding's risk.
#[utoipa::path(delete, path = "/findings/{id}/acceptance", tag = "findings",
    params(("id" = String, Path)), responses((status = 200, body = Finding), Problems))]
async fn end_acceptance(
    State(app): State<App>,
    By(by): By<{ Action::FindingAccept as usize }>,
    Path(id): Path<FindingId>,
    _: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let finding = app.store.end_acceptance(&by, id).await?;
    Ok((etag(finding.version), Json(Finding::from(finding))))
}

/// List the patches that items lack which one may see.
#[utoipa::path(get, path = "/patches", tag = "findings", params(Paging),
    responses((status = 200, body = Listed<Patch>), Problems))]
async fn patches(
    State(app): State<App>,
    By(by): By<{ Action::FindingRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Patch>>, Problem> {
    Ok(Json(Listed::of(app.store.patches(&by, &paging.request()?).await?)))
}

/// Read a patch; `/findings?patch=ID` lists the items that lack it.
#[utoipa::path(get, path = "/patches/{id}", tag = "findings", params(("id" = String, Path)),
    responses((status = 200, body = Patch), Problems))]
async fn patch(
    State(app): State<App>,
    By(by): By<{ Action::FindingRead as usize }>,
    Path(id): Path<PatchId>,
) -> Result<Json<Patch>, Problem> {
    Ok(Json(app.store.patch(&by, id).await?.into()))
}
