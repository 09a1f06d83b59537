//! `/images`: versions of images, which of them VMs are made from, and their bytes.

use axum::Json;
use axum::body::Body as Stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::cloud::{CiId, ImageId, Name, TenantId};
use domain::image::{Diagnosis, Health, NotAdmitted, Standing, Step};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Actor, ImageContent, ImageFilter, NewVersion};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Body, IdempotencyKey, IfMatch, Listed, Paging, Path, Problems, Query, Sent, etag,
    expected_version, given,
};
use crate::App;
use crate::fleet::FRESH;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// How long a version is admitted after another took its place, where nobody says: a day.
const USUAL_GRACE: u32 = 24 * 60;

/// Longest such time: 90 days, in minutes.
const LONGEST_GRACE: u32 = 90 * 24 * 60;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read))
        .routes(routes!(download, forget))
        .routes(routes!(attestations))
        .routes(routes!(publish))
        .routes(routes!(retire))
        .routes(routes!(admission))
}

/// What takes bodies larger than any other route does.
pub(super) fn uploads() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(upload))
}

/// A version of an image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Image {
    #[schema(value_type = String, example = "img_01h455vb4pex5vsknk084sn02q")]
    id: ImageId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The series that it belongs to.
    #[schema(value_type = String)]
    name: Name,
    /// Which version of the series, from 1.
    number: i64,
    /// Its configuration item, of which findings are told.
    #[schema(value_type = String)]
    ci: CiId,
    /// What it was made from.
    #[schema(value_type = Option<String>)]
    parent: Option<ImageId>,
    #[serde(flatten)]
    content: Content,
    /// `candidate`, `tested`, `current`, `superseded`, `retired` or `rejected`.
    state: &'static str,
    /// Since when; of a candidate `created_at` says it.
    #[schema(value_type = Option<String>, format = DateTime)]
    state_at: Option<Timestamp>,
    /// From when on no VM is made from a superseded version.
    #[schema(value_type = Option<String>, format = DateTime)]
    refused_from: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    version: i64,
}

/// The bytes of an image, and what is in them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Content {
    /// SHA-256, hexadecimal.
    #[schema(example = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    sha256: String,
    /// How many.
    size: i64,
    /// `raw` or `qcow2`.
    format: String,
    /// Distribution release.
    #[schema(example = "debian:12")]
    release: String,
    /// Architecture, as its packages name it.
    #[schema(example = "amd64")]
    architecture: String,
}

/// An image, byte by byte.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "describes a body that is never held as a whole")]
pub(crate) struct Raw(Vec<u8>);

/// A version that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRequest {
    #[schema(value_type = String)]
    tenant: TenantId,
    /// Its series; begun where there is none of this name.
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    /// Which bytes, of those that were brought for this tenant.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// What it was made from.
    #[schema(value_type = Option<String>)]
    parent: Option<ImageId>,
}

/// How a version becomes current.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publication {
    /// For how many minutes the version that was current is still admitted; a day where nothing is
    /// said, 90 days at most.
    #[serde(default = "usual_grace")]
    #[schema(minimum = 0, maximum = 129_600)]
    grace_minutes: u32,
}

const fn usual_grace() -> u32 {
    USUAL_GRACE
}

/// Something that was attested about a version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attestation {
    /// What kind of statement it is.
    predicate_type: String,
    /// The DSSE envelope with an in-toto statement in it.
    #[schema(value_type = Object)]
    envelope: Box<RawValue>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// All that was attested about a version, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attestations {
    items: Vec<Attestation>,
}

/// Whether a VM may be made from a version now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Admission {
    #[schema(value_type = String)]
    image: ImageId,
    /// Whether it may.
    admitted: bool,
    /// Why not: `not_published`, `cut_off`, `retired`, `rejected`, `exploited` or `unknown`.
    reason: Option<&'static str>,
    /// The same in words.
    detail: Option<String>,
    /// The way out.
    help: Option<&'static str>,
    /// What the latest check says: `usable`, `exploited` or `unknown`.
    health: &'static str,
    /// From what that follows, where it is not usable.
    because: Option<String>,
    /// When it was checked.
    #[schema(value_type = Option<String>, format = DateTime)]
    checked_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Which versions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant.
    tenant: Option<String>,
    /// Of one series, by its whole name.
    name: Option<String>,
}

/// For whom.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForWhom {
    /// Whose the image will be; one's own tenant's otherwise.
    tenant: Option<String>,
}

impl From<ImageContent> for Content {
    fn from(content: ImageContent) -> Self {
        let ImageContent { sha256, format, size, release, architecture } = content;
        Self { sha256, size, format, release, architecture }
    }
}

impl From<store::Image> for Image {
    fn from(image: store::Image) -> Self {
        let (state_at, refused_from) = match image.standing {
            Standing::Candidate => (None, None),
            Standing::Superseded { refused_from } => (None, Some(refused_from)),
            Standing::Current { since: at }
            | Standing::Tested { at }
            | Standing::Retired { at }
            | Standing::Rejected { at } => (Some(at), None),
        };
        Self {
            id: image.id,
            tenant: image.tenant,
            name: image.name,
            number: image.number,
            ci: image.ci,
            parent: image.parent,
            content: image.content.into(),
            state: image.standing.as_str(),
            state_at,
            refused_from,
            created_at: image.created_at,
            version: image.version,
        }
    }
}

impl TryFrom<store::Attestation> for Attestation {
    type Error = Problem;

    fn try_from(attestation: store::Attestation) -> Result<Self, Problem> {
        let store::Attestation { predicate_type, envelope, created_at, .. } = attestation;
        let envelope = RawValue::from_string(envelope)
            .map_err(|_| Problem::new(Kind::Internal, "an attestation is damaged"))?;
        Ok(Self { predicate_type, envelope, created_at })
    }
}

/// Bring an image: its bytes, raw or qcow2. Its packages are read from it, and nothing is kept of one
/// that cannot be read. It belongs to the tenant that it was brought for.
#[utoipa::path(post, path = "/images/content", tag = "images", params(ForWhom),
    request_body(content = Raw, content_type = "application/octet-stream"),
    responses((status = 201, body = Content), Problems))]
async fn upload(
    State(app): State<App>,
    By(by): By<{ Action::ImageCreate as usize }>,
    Query(whom): Query<ForWhom>,
    headers: HeaderMap,
    body: Stream,
) -> Result<impl IntoResponse, Problem> {
    let tenant = whom.tenant.as_deref().map(|it| given::<TenantId>("tenant", it)).transpose()?;
    let tenant = tenant.unwrap_or_else(|| by.tenant());
    app.store.tenant(&by, tenant).await?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_TYPE) != Some("application/octet-stream") {
        return Err(Problem::new(Kind::Invalid, "the body is not declared as bytes")
            .help("send `Content-Type: application/octet-stream`"));
    }
    let length = text(header::CONTENT_LENGTH).and_then(|it| it.parse::<u64>().ok());
    let content = app.lab.receive(&by, tenant, length, body).await?;
    Ok((StatusCode::CREATED, Json(Content::from(content))))
}

/// List the versions of images that one may see.
#[utoipa::path(get, path = "/images", tag = "images", params(Wanted, Paging),
    responses((status = 200, body = Listed<Image>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ImageRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Image>>, Problem> {
    let tenant = wanted.tenant.as_deref().map(|it| given("tenant", it)).transpose()?;
    let filter = ImageFilter { tenant, name: wanted.name };
    Ok(Json(Listed::of(app.store.images(&by, &filter, &paging.request()?).await?)))
}

/// Take up a version of an image, of bytes that were brought before.
#[utoipa::path(post, path = "/images", tag = "images", params(IdempotencyKey),
    request_body = ImageRequest, responses((status = 201, body = Image), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::ImageCreate as usize }>,
    sent: Sent<ImageRequest>,
) -> Result<impl IntoResponse, Problem> {
    let ImageRequest { tenant, name, sha256, parent } = sent.body;
    let is_hash = sha256.len() == 64
        && sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_hash {
        return Err(Problem::new(Kind::Invalid, "`sha256` is none")
            .help("send the 64 hexadecimal digits that POST /images/content answered"));
    }
    let new = NewVersion { tenant, name, parent, sha256 };
    let image = app.store.take_up_image(&by, sent.once, new).await?;
    // Its missing patches are to be told soon.
    app.fleet.wake();
    Ok((StatusCode::CREATED, etag(image.version), Json(Image::from(image))))
}

/// Read a version of an image.
#[utoipa::path(get, path = "/images/{id}", tag = "images", params(("id" = String, Path)),
    responses((status = 200, body = Image), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ImageRead as usize }>,
    Path(id): Path<ImageId>,
) -> Result<impl IntoResponse, Problem> {
    let image = app.store.image(&by, id).await?;
    Ok((etag(image.version), Json(Image::from(image))))
}

/// Fetch the bytes of a version. That somebody does is recorded before they leave.
#[utoipa::path(get, path = "/images/{id}/content", tag = "images", params(("id" = String, Path)),
    responses(
        (status = 200, description = "The bytes", body = Raw,
            content_type = "application/octet-stream"),
        Problems
    ))]
async fn download(
    State(app): State<App>,
    By(by): By<{ Action::ImageRead as usize }>,
    Path(id): Path<ImageId>,
) -> Result<impl IntoResponse, Problem> {
    let image = app.store.image(&by, id).await?;
    let body = app.lab.read(&image.content).await?;
    let image = app.store.retrieve_image(&by, id).await?;
    let ImageContent { sha256, format, size, .. } = image.content;
    let digest = digest_of(&sha256).map_or(String::new(), |it| format!("sha-256=:{it}:"));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.{format}\"")),
        // RFC 9530.
        (HeaderName::from_static("repr-digest"), digest),
    ];
    Ok((headers, body))
}

/// A hexadecimal hash in base64.
fn digest_of(hex: &str) -> Option<String> {
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect::<Option<_>>()?;
    Some(STANDARD.encode(bytes))
}

/// Remove the bytes of a version that is retired or was rejected, where no other version is of them.
/// The version itself stays as a record.
#[utoipa::path(delete, path = "/images/{id}/content", tag = "images",
    params(("id" = String, Path)),
    responses((status = 204, description = "Removed"), Problems))]
async fn forget(
    State(app): State<App>,
    By(by): By<{ Action::ImageRetire as usize }>,
    Path(id): Path<ImageId>,
) -> Result<StatusCode, Problem> {
    app.lab.forget(&by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read what was attested about a version.
#[utoipa::path(get, path = "/images/{id}/attestations", tag = "images",
    params(("id" = String, Path)), responses((status = 200, body = Attestations), Problems))]
async fn attestations(
    State(app): State<App>,
    By(by): By<{ Action::ImageRead as usize }>,
    Path(id): Path<ImageId>,
) -> Result<Json<Attestations>, Problem> {
    let attested = app.store.attestations(&by, id).await?;
    let items = attested.into_iter().map(Attestation::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Attestations { items }))
}

/// Make a version that stood its test the one that new VMs are made from.
#[utoipa::path(post, path = "/images/{id}/publish", tag = "images",
    params(("id" = String, Path), IfMatch), request_body = Publication,
    responses((status = 200, body = Image), Problems))]
async fn publish(
    State(app): State<App>,
    By(by): By<{ Action::ImagePublish as usize }>,
    Path(id): Path<ImageId>,
    headers: HeaderMap,
    Body(Publication { grace_minutes }): Body<Publication>,
) -> Result<impl IntoResponse, Problem> {
    let expected = expected_version(&headers)?;
    if grace_minutes > LONGEST_GRACE {
        return Err(Problem::new(
            Kind::Invalid,
            format!("grace_minutes {grace_minutes} is too long"),
        )
        .help(format!("use at most {LONGEST_GRACE}: 90 days")));
    }
    let grace = SignedDuration::from_mins(i64::from(grace_minutes));
    let image = app.store.step_image(&by, id, expected, Step::Publish, grace).await?;
    Ok((etag(image.version), Json(Image::from(image))))
}

/// Take a version out of use. It stays as a record, and its bytes until they are removed.
#[utoipa::path(post, path = "/images/{id}/retire", tag = "images",
    params(("id" = String, Path), IfMatch), responses((status = 200, body = Image), Problems))]
async fn retire(
    State(app): State<App>,
    By(by): By<{ Action::ImageRetire as usize }>,
    Path(id): Path<ImageId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let expected = expected_version(&headers)?;
    let image = app.store.step_image(&by, id, expected, Step::Retire, SignedDuration::ZERO).await?;
    Ok((etag(image.version), Json(Image::from(image))))
}

/// Tell whether a VM may be made from a version now. Where nobody can tell, it may not.
#[utoipa::path(get, path = "/images/{id}/admission", tag = "images",
    params(("id" = String, Path)), responses((status = 200, body = Admission), Problems))]
async fn admission(
    State(app): State<App>,
    By(by): By<{ Action::ImageRead as usize }>,
    Path(id): Path<ImageId>,
) -> Result<Json<Admission>, Problem> {
    let image = app.store.image(&by, id).await?;
    let check = app.store.check(&Actor::System, image.ci).await?;
    let at = app.store.environment().now();
    let report = check.as_ref().map(|check| &check.report);
    let Diagnosis { health, because } = Health::of(report, at - FRESH);
    let refused = image.standing.admits(health, at).err();
    Ok(Json(Admission {
        image: id,
        admitted: refused.is_none(),
        reason: refused.as_ref().map(NotAdmitted::as_str),
        detail: refused.as_ref().map(ToString::to_string),
        help: refused.as_ref().map(NotAdmitted::help),
        health: health_word(health),
        because: Some(because).filter(|it| !it.is_empty()),
        checked_at: check.map(|check| check.counts.checked_at),
        at,
    }))
}

const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Usable => "usable",
        Health::Exploited => "exploited",
        Health::Unknown => "unknown",
    }
}
