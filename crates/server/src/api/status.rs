//! `/status`: how the cloud stands.

use axum::Json;
use axum::extract::State;
use domain::cloud::{GroupId, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::CheckTotals;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Problems, Query, given};
use crate::App;
use crate::fleet::FRESH;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read))
}

/// How configuration items stand, in numbers. Those that are gone aside, each item counts once among
/// `latest`, `outdated`, `unknown`, `silent` and `unchecked`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    /// How many there are.
    items: u64,
    /// At their latest.
    latest: u64,
    /// With a patch missing.
    outdated: u64,
    /// Checked, but something could not be told.
    unknown: u64,
    /// Checked or heard of too long ago to say anything about now: unknown.
    silent: u64,
    /// Never checked: unknown.
    unchecked: u64,
    /// Patches missing, item by item.
    missing: ByPriority,
    /// Of these, those whose risk is accepted.
    accepted: ByPriority,
}

/// Counts by priority.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ByPriority {
    critical: u64,
    high: u64,
    medium: u64,
    low: u64,
}

/// How a tenant's items stand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantStanding {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[serde(flatten)]
    standing: Standing,
}

/// How the cloud stands, as far as one may see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CloudStatus {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What was checked or heard of before counts as silent.
    #[schema(value_type = String, format = DateTime)]
    fresh_since: Timestamp,
    #[serde(flatten)]
    all: Standing,
    /// The same for each tenant that has items.
    tenants: Vec<TenantStanding>,
}

/// Whose items.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant.
    tenant: Option<String>,
    /// Of one group of items.
    group: Option<String>,
}

impl From<CheckTotals> for Standing {
    fn from(totals: CheckTotals) -> Self {
        let by_priority =
            |[critical, high, medium, low]: [u64; 4]| ByPriority { critical, high, medium, low };
        Self {
            items: totals.items(),
            latest: totals.latest,
            outdated: totals.outdated,
            unknown: totals.unknown,
            silent: totals.silent,
            unchecked: totals.unchecked,
            missing: by_priority(totals.findings),
            accepted: by_priority(totals.accepted),
        }
    }
}

/// Tell how the cloud stands: what is at its latest, what is not, and what is unknown.
#[utoipa::path(get, path = "/status", tag = "status", params(Wanted),
    responses((status = 200, body = CloudStatus), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::FindingRead as usize }>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<CloudStatus>, Problem> {
    let tenant = wanted.tenant.as_deref().map(|it| given::<TenantId>("tenant", it)).transpose()?;
    let group = wanted.group.as_deref().map(|it| given::<GroupId>("group", it)).transpose()?;
    // Neither is guessed: what one may not see is not there.
    if let Some(tenant) = tenant {
        app.store.tenant(&by, tenant).await?;
    }
    if let Some(group) = group {
        app.store.group(&by, group).await?;
    }
    let at = app.store.environment().now();
    let fresh_since = at - FRESH;
    let mut totals = app.store.check_totals_by_tenant(&by, group, fresh_since).await?;
    totals.retain(|(of, totals)| tenant.is_none_or(|tenant| tenant == *of) && totals.items() > 0);
    let all = totals.iter().map(|(_, totals)| totals.clone()).sum::<CheckTotals>().into();
    let tenants = totals
        .into_iter()
        .map(|(tenant, totals)| TenantStanding { tenant, standing: totals.into() })
        .collect();
    Ok(Json(CloudStatus { at, fresh_since, all, tenants }))
}
