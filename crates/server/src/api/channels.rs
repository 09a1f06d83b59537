//! `/tenants/{id}/channels`: where a tenant is told beside the console.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use domain::cloud::{ChannelId, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{ChannelKind, NewChannel};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Path, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(alter, end))
}

/// Where a tenant is told beside the console.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Channel {
    #[schema(value_type = String, example = "chn_01h455vb4pex5vsknk084sn02q")]
    id: ChannelId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// `mail` or `webhook`.
    #[schema(value_type = String, example = "webhook")]
    kind: ChannelKind,
    /// The address of mail, or where a webhook's begins: the rest of it may be a secret.
    #[schema(example = "https://acme.example/…")]
    address: String,
    /// Whether the tenant's own people added it. What others receive is a copy: with it nothing
    /// counts as given, and no lead time begins.
    is_own: bool,
    /// The language in which it is written to; the provider's where none is said.
    #[schema(example = "de")]
    language: Option<String>,
    created_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// All channels of a tenant, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Channels {
    items: Vec<Channel>,
}

/// A channel that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelRequest {
    /// `mail` or `webhook`.
    #[schema(value_type = String, pattern = "^(mail|webhook)$")]
    kind: ChannelKind,
    /// An address of mail; of a webhook a public https address.
    #[schema(max_length = 2000, example = "https://acme.example/hook")]
    address: String,
    /// The language in which it is written to, of those that the provider has; by default the
    /// provider's.
    #[schema(max_length = 35, example = "de")]
    language: Option<String>,
}

/// What is to be otherwise with a channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelAlteration {
    /// The language in which it is written to; with `null`, the provider's.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true, max_length = 35, example = "de")]
    language: Option<String>,
}

/// A channel with its secret, which is told this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewChannelAnswer {
    channel: Channel,
    /// What a webhook's receiver verifies signatures with (Standard Webhooks). It cannot be read
    /// again. Mail has none.
    #[schema(example = "whsec_…")]
    secret: Option<String>,
}

impl From<store::Channel> for Channel {
    fn from(channel: store::Channel) -> Self {
        Self {
            id: channel.id,
            tenant: channel.tenant,
            kind: channel.kind,
            address: channel.kind.shown(&channel.address),
            is_own: channel.is_own,
            language: channel.language,
            created_by: channel.created_by,
            created_at: channel.created_at,
            ended_at: channel.ended_at,
        }
    }
}

/// List the channels of a tenant that are in use.
#[utoipa::path(get, path = "/tenants/{id}/channels", tag = "notices",
    params(("id" = String, Path)), responses((status = 200, body = Channels), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChannelRead as usize }>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Channels>, Problem> {
    app.store.tenant(&by, tenant).await?;
    let channels = app.store.channels(&by, tenant).await?;
    Ok(Json(Channels { items: channels.into_iter().map(Channel::from).collect() }))
}

/// Add a channel: from now on each notice goes there as well. Until a tenant's own people added the
/// first, it is told in the console; one that the provider's people add for it gets copies.
#[utoipa::path(post, path = "/tenants/{id}/channels", tag = "notices",
    params(("id" = String, Path)), request_body = ChannelRequest,
    responses((status = 201, body = NewChannelAnswer), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::ChannelCreate as usize }>,
    Path(tenant): Path<TenantId>,
    Body(ChannelRequest { kind, address, language }): Body<ChannelRequest>,
) -> Result<impl IntoResponse, Problem> {
    // What one may not see is not there, whatever is switched on.
    app.store.tenant(&by, tenant).await?;
    app.notices.check_language(language.as_deref())?;
    let id = ChannelId::new(app.store.environment().now(), app.random());
    let (secret, sealed, sealed_address) = match kind {
        ChannelKind::Mail => {
            app.notices.check_mail(&address)?;
            (None, None, None)
        }
        ChannelKind::Webhook => {
            app.notices.check_webhook(&address)?;
            let (secret, sealed) = app.notices.new_secret(id)?;
            (Some(secret), Some(sealed), Some(app.notices.sealed_address(id, &address)?))
        }
    };
    let new = NewChannel { id, kind, address, sealed_address, sealed, language };
    let channel = app.store.create_channel(&by, tenant, new).await?;
    Ok((StatusCode::CREATED, Json(NewChannelAnswer { channel: channel.into(), secret })))
}

/// Have a channel written to in another language, from what is sent next on.
#[utoipa::path(patch, path = "/channels/{id}", tag = "notices", params(("id" = String, Path)),
    request_body = ChannelAlteration, responses((status = 200, body = Channel), Problems))]
async fn alter(
    State(app): State<App>,
    By(by): By<{ Action::ChannelAlter as usize }>,
    Path(id): Path<ChannelId>,
    Body(ChannelAlteration { language }): Body<ChannelAlteration>,
) -> Result<Json<Channel>, Problem> {
    app.notices.check_language(language.as_deref())?;
    Ok(Json(app.store.set_channel_language(&by, id, language).await?.into()))
}

/// End a channel. What waits for it is given up; it stays as a record. With the last of a tenant's
/// own, what none has taken yet is given in the console.
#[utoipa::path(delete, path = "/channels/{id}", tag = "notices", params(("id" = String, Path)),
    responses((status = 200, body = Channel), Problems))]
async fn end(
    State(app): State<App>,
    By(by): By<{ Action::ChannelEnd as usize }>,
    Path(id): Path<ChannelId>,
) -> Result<Json<Channel>, Problem> {
    Ok(Json(app.store.end_channel(&by, id).await?.into()))
}
