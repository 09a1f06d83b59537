//! `/order-keys`: the key with which the provider signs orders, and how it is handed over.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, hand_over))
}

/// The key with which the provider signs orders.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderKey {
    /// Which one it is; the first is 1.
    version: u64,
    /// SHA-256 over its `SubjectPublicKeyInfo`: what a host's owner compares, and pins.
    id: String,
    /// Ed25519, in PEM.
    public_key: String,
}

/// A handover to a new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderKeyHandover {
    /// The version that is in force: sent twice, it is handed over once.
    #[schema(minimum = 1)]
    after: u64,
}

async fn in_force(app: &App) -> Result<OrderKey, Problem> {
    let (version, key) = app.agents.order_key().await?;
    Ok(OrderKey { version, id: key.id(), public_key: key.to_string() })
}

/// Read the key with which orders are signed.
#[utoipa::path(get, path = "/order-keys", tag = "releases",
    responses((status = 200, body = OrderKey), Problems))]
async fn read(
    State(app): State<App>,
    By(_by): By<{ Action::AgentRead as usize }>,
) -> Result<Json<OrderKey>, Problem> {
    Ok(Json(in_force(&app).await?))
}

/// Hand the key of orders over to a new one, made here and signed by the one before it. Hosts take it with
/// their next order.
#[utoipa::path(post, path = "/order-keys", tag = "releases", request_body = OrderKeyHandover,
    responses((status = 201, body = OrderKey), Problems))]
async fn hand_over(
    State(app): State<App>,
    By(by): By<{ Action::OrderKeyRotate as usize }>,
    Body(OrderKeyHandover { after }): Body<OrderKeyHandover>,
) -> Result<impl IntoResponse, Problem> {
    app.agents.hand_orders_over(&by, after).await?;
    Ok((StatusCode::CREATED, Json(in_force(&app).await?)))
}
