//! `/tenants`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{Name, ServiceModel, Slug, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::NewTenant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{IdempotencyKey, Listed, Paging, Path, Problems, Query, Sent, etag};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read))
}

/// A tenant of the cloud.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tenant {
    #[schema(value_type = String, example = "ten_01h455vb4pex5vsknk084sn02q")]
    id: TenantId,
    /// For commands and addresses.
    #[schema(value_type = String, example = "acme-prod")]
    slug: Slug,
    /// For people.
    #[schema(value_type = String, example = "ACME Ltd.")]
    name: Name,
    /// How it uses the cloud: `iaas`, `paas` or `saas`.
    #[schema(value_type = String, example = "iaas")]
    model: ServiceModel,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    version: i64,
}

/// A tenant that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantRequest {
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    slug: Slug,
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    #[schema(value_type = String, pattern = "^(iaas|paas|saas)$")]
    model: ServiceModel,
}

impl From<store::Tenant> for Tenant {
    fn from(tenant: store::Tenant) -> Self {
        let store::Tenant { id, slug, name, model, created_at, version } = tenant;
        Self { id, slug, name, model, created_at, version }
    }
}

/// List the tenants that one may see.
#[utoipa::path(get, path = "/tenants", tag = "tenants", params(Paging),
    responses((status = 200, body = Listed<Tenant>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::TenantRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Tenant>>, Problem> {
    Ok(Json(Listed::of(app.store.tenants(&by, &paging.request()?).await?)))
}

/// Take up a tenant.
#[utoipa::path(post, path = "/tenants", tag = "tenants", params(IdempotencyKey),
    request_body = TenantRequest, responses((status = 201, body = Tenant), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::TenantCreate as usize }>,
    sent: Sent<TenantRequest>,
) -> Result<impl IntoResponse, Problem> {
    let TenantRequest { slug, name, model } = sent.body;
    let new = NewTenant { slug, name, model };
    let tenant = app.store.create_tenant(&by, sent.once, new).await?;
    Ok((StatusCode::CREATED, etag(tenant.version), Json(Tenant::from(tenant))))
}

/// Read a tenant.
#[utoipa::path(get, path = "/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    responses((status = 200, body = Tenant), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::TenantRead as usize }>,
    Path(id): Path<TenantId>,
) -> Result<impl IntoResponse, Problem> {
    let tenant = app.store.tenant(&by, id).await?;
    Ok((etag(tenant.version), Json(Tenant::from(tenant))))
}
