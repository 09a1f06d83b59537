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
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(end))
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
        let store::Channel { id, tenant, kind, address, created_by, created_at, ended_at, .. } =
            channel;
        let address = shown(kind, &address);
        Self { id, tenant, kind, address, created_by, created_at, ended_at }
    }
}

/// An address as everybody may see it who may see the channel.
pub(crate) fn shown(kind: ChannelKind, address: &str) -> String {
    if kind == ChannelKind::Mail {
        return address.to_owned();
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}/…")
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

/// Add a channel: from now on each notice goes there as well. Until a tenant has its first, it is
/// told in the console alone.
#[utoipa::path(post, path = "/tenants/{id}/channels", tag = "notices",
    params(("id" = String, Path)), request_body = ChannelRequest,
    responses((status = 201, body = NewChannelAnswer), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::ChannelCreate as usize }>,
    Path(tenant): Path<TenantId>,
    Body(ChannelRequest { kind, address }): Body<ChannelRequest>,
) -> Result<impl IntoResponse, Problem> {
    // What one may not see is not there, whatever is switched on.
    app.store.tenant(&by, tenant).await?;
    let id = ChannelId::new(app.store.environment().now(), app.random());
    let (secret, sealed) = match kind {
        ChannelKind::Mail => {
            app.notices.check_mail(&address)?;
            (None, None)
        }
        ChannelKind::Webhook => {
            app.notices.check_webhook(&address)?;
            let (secret, sealed) = app.notices.new_secret(id)?;
            (Some(secret), Some(sealed))
        }
    };
    let new = NewChannel { id, kind, address, sealed };
    let channel = app.store.create_channel(&by, tenant, new).await?;
    Ok((StatusCode::CREATED, Json(NewChannelAnswer { channel: channel.into(), secret })))
}

/// End a channel. What waits for it is given up; it stays as a record.
#[utoipa::path(delete, path = "/channels/{id}", tag = "notices", params(("id" = String, Path)),
    responses((status = 200, body = Channel), Problems))]
async fn end(
    State(app): State<App>,
    By(by): By<{ Action::ChannelEnd as usize }>,
    Path(id): Path<ChannelId>,
) -> Result<Json<Channel>, Problem> {
    Ok(Json(app.store.end_channel(&by, id).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_webhook_only_its_host_is_shown() {
        for (address, expected) in [
            ("https://acme.example/hook/s3cr3t?token=t", "https://acme.example/…"),
            ("https://acme.example:8443?token=t", "https://acme.example:8443/…"),
        ] {
            assert_eq!(shown(ChannelKind::Webhook, address), expected);
        }
        assert_eq!(shown(ChannelKind::Mail, "ops@acme.example"), "ops@acme.example");
    }
}
