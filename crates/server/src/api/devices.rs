//! `/cis/{id}/device`: how an item is looked at from outside, and how that goes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use devices::{Credential, InvalidCredential, Model, Secret};
use domain::cloud::CiId;
use domain::device::{DeviceState, HostKeyFingerprint};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::{DeviceSettings, HostKeyWish, NewDevice};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Path, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::observers::Opening;
use crate::problem::{Kind, Problem};

/// How often a device is looked at where nobody says otherwise, in seconds.
const USUAL: u32 = 900;

/// Where SSH is spoken where nobody says otherwise.
const PORT: u16 = 22;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, set, remove)).routes(routes!(look))
}

/// How an item is looked at over SSH. What opens it is shown to nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Device {
    #[schema(value_type = String)]
    ci: CiId,
    /// The name of its model: docs/devices.md.
    #[schema(example = "ios")]
    model: String,
    /// Its name or address.
    #[schema(example = "192.0.2.7")]
    address: String,
    port: u16,
    /// As whom it is looked at.
    user: String,
    /// With what somebody signs in: `password` or `key`.
    #[schema(example = "key")]
    method: String,
    /// How often it is looked at.
    every_seconds: i64,
    /// The fingerprint of the one host key that counts; null where the next one that it shows is taken.
    #[schema(value_type = Option<String>, example = "SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8")]
    host_key: Option<HostKeyFingerprint>,
    /// Another one that it showed.
    #[schema(value_type = Option<String>)]
    offered_key: Option<HostKeyFingerprint>,
    /// `new`, `seen`, `unreachable`, or `key_differs`: nobody looks before the device is set with the right key.
    #[schema(value_type = String, example = "seen")]
    state: DeviceState,
    /// How many looks in a row came to nothing.
    failures: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    looked_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
    /// When it is looked at next.
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// What stood in the way last; of a device that is seen, what it does not tell.
    reason: Option<String>,
    version: i64,
}

/// How an item is to be looked at over SSH.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRequest {
    /// The name of its model: docs/devices.md.
    #[schema(example = "ios")]
    model: String,
    /// Its name or address.
    #[schema(example = "192.0.2.7", min_length = 1, max_length = 255)]
    address: String,
    /// 22 where it is left out.
    #[serde(default)]
    #[schema(minimum = 1)]
    port: Option<u16>,
    /// As whom.
    #[schema(example = "observer", min_length = 1, max_length = 255)]
    user: String,
    /// The password that lets us in. This or a key; neither keeps what there is, for the same address, account and
    /// host key.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    password: Option<Secret>,
    /// The private key that lets us in, Ed25519 or ECDSA, as OpenSSH writes it, without a passphrase.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    key: Option<Secret>,
    /// The password that the device asks of whoever wants to see everything. Given with `password` or `key`.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    enable: Option<Secret>,
    /// The fingerprint of the one host key that counts. Left out, it stays what it is.
    #[serde(default)]
    #[schema(example = "SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8")]
    host_key: Option<String>,
    /// Take the host key that the device shows next, whoever answers there. Not with `host_key`.
    #[serde(default)]
    trust_first_key: bool,
    /// How often it is looked at, 60 to 604800; 900 where it is left out.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 604_800)]
    every_seconds: Option<u32>,
}

impl From<store::Device> for Device {
    fn from(it: store::Device) -> Self {
        let DeviceSettings { model, address, port, user, method, every } = it.settings;
        Self {
            ci: it.ci,
            model,
            address,
            port,
            user,
            method,
            every_seconds: every.as_secs(),
            host_key: it.host_key,
            offered_key: it.offered_key,
            state: it.state,
            failures: it.failures,
            looked_at: it.looked_at,
            seen_at: it.seen_at,
            due_at: it.due_at,
            reason: it.reason,
            version: it.version,
        }
    }
}

fn invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::Invalid, format!("{name}: {detail}"))
}

/// Read how an item is looked at over SSH.
#[utoipa::path(get, path = "/cis/{id}/device", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = Device), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Device>, Problem> {
    Ok(Json(app.store.device(&by, id).await?.into()))
}

/// Say how an item is looked at over SSH; it is looked at soon. The provider's people only.
#[utoipa::path(put, path = "/cis/{id}/device", tag = "configuration", params(("id" = String, Path)),
    request_body = DeviceRequest, responses((status = 200, body = Device), Problems))]
async fn set(
    State(app): State<App>,
    By(by): By<{ Action::DeviceKeep as usize }>,
    Path(id): Path<CiId>,
    Body(wanted): Body<DeviceRequest>,
) -> Result<Json<Device>, Problem> {
    // What is not there is not there, whatever is asked of it.
    app.store.ci(&by, id).await?;
    if Model::named(&wanted.model).is_none() {
        let known: Vec<_> = Model::all().iter().map(Model::name).collect();
        return Err(invalid("model", format!("there is no `{}`", wanted.model.escape_default()))
            .help(format!("use one of {}", known.join(", "))));
    }
    let host_key = match (&wanted.host_key, wanted.trust_first_key) {
        (Some(_), true) => {
            return Err(invalid("trust_first_key", "a host key is given as well")
                .help("leave one of them out"));
        }
        (Some(text), false) => {
            HostKeyWish::Pinned(text.parse().map_err(|error| invalid("host_key", error))?)
        }
        (None, true) => HostKeyWish::First,
        (None, false) => HostKeyWish::Keep,
    };
    let opening = opening(&wanted)?;
    let method = match &opening {
        Some(Opening { credential: Credential::Password(_), .. }) => "password".to_owned(),
        Some(Opening { credential: Credential::Key(_), .. }) => "key".to_owned(),
        None => app.store.device(&by, id).await.map_or_else(
            // The store says that something has to be given.
            |_| "password".to_owned(),
            |device| device.settings.method,
        ),
    };
    let sealed = opening
        .map(|opening| {
            opening
                .seal(&app.vault, id, app.random())
                .ok_or_else(|| Problem::new(Kind::Internal, "what opens it cannot be sealed"))
        })
        .transpose()?;
    let settings = DeviceSettings {
        model: wanted.model,
        address: wanted.address,
        port: wanted.port.unwrap_or(PORT),
        user: wanted.user,
        method,
        every: SignedDuration::from_secs(wanted.every_seconds.unwrap_or(USUAL).into()),
    };
    let new = NewDevice { settings, credential: sealed, host_key };
    Ok(Json(app.store.set_device(&by, id, new).await?.into()))
}

/// What opens the device, where it is given.
fn opening(wanted: &DeviceRequest) -> Result<Option<Opening>, Problem> {
    let refused = |name: &str, error: InvalidCredential| invalid(name, &error).help(error.help());
    let (name, credential) = match (&wanted.password, &wanted.key) {
        (Some(_), Some(_)) => {
            return Err(invalid("password", "a key is given as well").help("leave one of them out"));
        }
        (None, None) if wanted.enable.is_some() => {
            return Err(invalid("enable", "neither password nor key is given with it")
                .help("give all that opens the device"));
        }
        (None, None) => return Ok(None),
        (Some(password), None) => ("password", Credential::Password(password.clone())),
        (None, Some(key)) => ("key", Credential::Key(key.clone())),
    };
    credential.check().map_err(|error| refused(name, error))?;
    if let Some(enable) = &wanted.enable {
        enable.check().map_err(|error| refused("enable", error))?;
    }
    Ok(Some(Opening { credential, enable: wanted.enable.clone() }))
}

/// Have a device looked at soon. The provider's people only.
#[utoipa::path(post, path = "/cis/{id}/device/look", tag = "configuration",
    params(("id" = String, Path)), responses((status = 200, body = Device), Problems))]
async fn look(
    State(app): State<App>,
    By(by): By<{ Action::DeviceKeep as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Device>, Problem> {
    Ok(Json(app.store.wake_device(&by, id).await?.into()))
}

/// Look at an item no more. What was recorded stays. The provider's people only.
#[utoipa::path(delete, path = "/cis/{id}/device", tag = "configuration",
    params(("id" = String, Path)), responses((status = 204, description = "Forgotten"), Problems))]
async fn remove(
    State(app): State<App>,
    By(by): By<{ Action::DeviceKeep as usize }>,
    Path(id): Path<CiId>,
) -> Result<StatusCode, Problem> {
    app.store.remove_device(&by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
