//! The API: what programs, the CLI and the console's pages ask for.

pub(crate) mod account;
mod advisories;
mod agents;
pub(crate) mod alterations;
pub(crate) mod audits;
pub(crate) mod baselines;
pub(crate) mod break_glass;
pub(crate) mod changes;
pub(crate) mod channels;
mod cis;
pub(crate) mod configuration;
pub(crate) mod consent;
mod devices;
pub(crate) mod drifts;
pub(crate) mod errands;
mod events;
pub(crate) mod feeds;
mod findings;
mod groups;
mod image_stores;
mod images;
pub(crate) mod interruptions;
mod jobs;
mod ledger;
pub(crate) mod notices;
pub(crate) mod obligations;
mod order_keys;
mod people;
pub(crate) mod releases;
pub(crate) mod session;
pub(crate) mod signing;
mod sla;
mod snapshots;
mod sources;
mod status;
mod tenants;
pub(crate) mod timeline;
pub(crate) mod tokens;
mod verifications;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response as Answer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{Cursor, Once, Page, PageRequest};
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Required, Response};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use cis::check_labels;
pub(crate) use ledger::file as ledger_file;

use crate::App;
use crate::problem::{Kind, Problem};

/// Longest idempotency key (as Stripe's).
const LONGEST_KEY: usize = 255;

/// Items of a page where the caller names no number.
const USUAL_PAGE: u16 = 100;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Patchwright",
        description = "Keeps a whole cloud patched and its configuration under control, with \
            evidence that provider and tenants can both check.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Access),
    security(("token" = [])),
    components(schemas(Problem)),
)]
struct Base;

struct Access;

impl Modify for Access {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API token (`pwt_…`) or a session (`pws_…`)."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Says of every request that alters something that it can be rehearsed.
fn describe_rehearsal(document: &mut Document) {
    let parameter = ParameterBuilder::new()
        .name("dry_run")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "With `true`, everything is checked and answered as if it were done, and nothing is: \
             the answer has the header `Patchwright-Dry-Run: true`. A secret in it opens nothing.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::Boolean)))
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.parameters.get_or_insert_default().push(RefOr::T(parameter.clone()));
        }
    }
}

#[derive(Deserialize)]
struct Rehearsed {
    #[serde(default)]
    dry_run: bool,
}

/// Makes a request a rehearsal where it asks for that.
async fn rehearsed(request: Request, next: Next) -> Result<Answer, Problem> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let asked = axum::extract::Query::<Rehearsed>::try_from_uri(request.uri())
        .map_err(|rejection| Problem::new(Kind::Invalid, rejection.body_text()))?;
    if !asked.dry_run {
        return Ok(next.run(request).await);
    }
    let mut answer = store::rehearse(next.run(request)).await;
    let header = HeaderName::from_static("patchwright-dry-run");
    answer.headers_mut().insert(header, HeaderValue::from_static("true"));
    Ok(answer)
}

/// The routes below `/api/v1`, those that take uploads, and the document that describes them all.
pub(crate) fn routes() -> (Router<App>, Router<App>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Base::openapi())
        .nest("/api/v1", session::routes())
        .nest("/api/v1", account::routes())
        .nest("/api/v1", tenants::routes())
        .nest("/api/v1", people::routes())
        .nest("/api/v1", tokens::routes())
        .nest("/api/v1", cis::routes())
        .nest("/api/v1", groups::routes())
        .nest("/api/v1", status::routes())
        .nest("/api/v1", findings::routes())
        .nest("/api/v1", advisories::routes())
        .nest("/api/v1", agents::routes())
        .nest("/api/v1", image_stores::routes())
        .nest("/api/v1", images::routes())
        .nest("/api/v1", jobs::routes())
        .nest("/api/v1", changes::routes())
        .nest("/api/v1", alterations::routes())
        .nest("/api/v1", obligations::routes())
        .nest("/api/v1", interruptions::routes())
        .nest("/api/v1", releases::routes())
        .nest("/api/v1", order_keys::routes())
        .nest("/api/v1", verifications::routes())
        .nest("/api/v1", snapshots::routes())
        .nest("/api/v1", configuration::routes())
        .nest("/api/v1", devices::routes())
        .nest("/api/v1", sources::routes())
        .nest("/api/v1", drifts::routes())
        .nest("/api/v1", break_glass::routes())
        .nest("/api/v1", timeline::routes())
        .nest("/api/v1", audits::routes())
        .nest("/api/v1", baselines::routes())
        .nest("/api/v1", errands::routes())
        .nest("/api/v1", consent::routes())
        .nest("/api/v1", signing::routes())
        .nest("/api/v1", sla::routes())
        .nest("/api/v1", notices::routes())
        .nest("/api/v1", channels::routes())
        .nest("/api/v1", feeds::routes())
        .nest("/api/v1", events::routes())
        .nest("/api/v1", ledger::routes())
        .split_for_parts();
    let (uploads, of_uploads) =
        OpenApiRouter::new().nest("/api/v1", images::uploads()).split_for_parts();
    document.merge(of_uploads);
    describe_rehearsal(&mut document);
    let rehearsed = axum::middleware::from_fn(rehearsed);
    (router.layer(rehearsed.clone()), uploads.layer(rehearsed), document)
}

/// The refusals that any route may answer with.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
        Kind::ALL
            .iter()
            .map(|kind| {
                let content =
                    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                let response = ResponseBuilder::new()
                    .description(kind.title())
                    .content("application/problem+json", content)
                    .build();
                (kind.status_word().to_owned(), RefOr::T(response))
            })
            .collect()
    }
}

/// A JSON body, or a problem that says what is wrong with it.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let axum::Json(value) =
            axum::Json::from_request(request, app).await.map_err(|rejection| {
                let kind = match rejection.status().as_u16() {
                    413 => Kind::TooLarge,
                    _ => Kind::Invalid,
                };
                Problem::new(kind, rejection.body_text())
            })?;
        Ok(Self(value))
    }
}

/// Query parameters, or a problem that says what is wrong with them.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, app)
            .await
            .map_err(|rejection| Problem::new(Kind::Invalid, rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// An identifier in the path. What is none names nothing that exists.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: std::str::FromStr> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let missing = || Problem::not_found("such object");
        let axum::extract::Path(text) =
            axum::extract::Path::<String>::from_request_parts(parts, app)
                .await
                .map_err(|_| missing())?;
        text.parse().map(Self).map_err(|_| missing())
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

impl Paging {
    pub(crate) fn request(&self) -> Result<PageRequest, Problem> {
        let limit = self.limit.unwrap_or(USUAL_PAGE);
        if !(1..=store::LONGEST_PAGE).contains(&limit) {
            return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
        }
        let after = match &self.after {
            Some(text) => Some(text.parse::<Cursor>().map_err(|error| {
                Problem::new(Kind::Invalid, error.to_string())
                    .help("leave `after` out for the first page, then send `next` as it came")
            })?),
            None => None,
        };
        Ok(PageRequest { after, limit })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    /// The items.
    items: Vec<T>,
    /// Send it as `after` for the next page; null at the end.
    next: Option<String>,
}

impl<T> Listed<T> {
    pub(crate) fn of<U: Into<T>>(page: Page<U>) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next: page.next.map(|cursor| cursor.to_string()),
        }
    }

    /// The same of what may be damaged.
    ///
    /// # Errors
    /// If one of them is.
    pub(crate) fn tried<U: TryInto<T>>(page: Page<U>) -> Result<Self, U::Error> {
        let items = page.items.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { items, next: page.next.map(|cursor| cursor.to_string()) })
    }
}

/// The header that makes a request sent twice have its effect once.
#[derive(Debug, Clone, Default, IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes a header; `Sent` reads it")]
pub(crate) struct IdempotencyKey {
    /// Up to 255 visible ASCII characters of your choice, for each request its own. The same
    /// request with the same key has its effect once, for at least 24 hours.
    #[param(rename = "Idempotency-Key", max_length = 255, pattern = "^[!-~]+$", required = false)]
    key: Option<String>,
}

/// The header that names the version which an alteration is meant for.
#[derive(Debug, Clone, Default, IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "describes a header; `expected_version` reads it")]
pub(crate) struct IfMatch {
    /// The `ETag` of the version that was read, or `*` for any.
    #[param(rename = "If-Match")]
    version: String,
}

/// A body together with what makes it the same request when it is sent again.
pub(crate) struct Sent<T> {
    pub(crate) body: T,
    pub(crate) once: Option<Once>,
}

impl<T: DeserializeOwned> FromRequest<App> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        static KEY: HeaderName = HeaderName::from_static("idempotency-key");
        let key = match request.headers().get(&KEY) {
            Some(value) => {
                let text = value.to_str().unwrap_or_default();
                if text.is_empty()
                    || text.len() > LONGEST_KEY
                    || !text.bytes().all(|byte| byte.is_ascii_graphic())
                {
                    return Err(Problem::new(Kind::Invalid, "the Idempotency-Key cannot be used")
                        .help("use 1 to 255 visible ASCII characters"));
                }
                Some(text.to_owned())
            }
            None => None,
        };
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| {
                kind.split(';').next().unwrap_or_default().trim() == "application/json"
            });
        if !is_json {
            return Err(Problem::new(Kind::Invalid, "the body is not declared as JSON")
                .help("send `Content-Type: application/json`"));
        }
        let bytes = axum::body::Bytes::from_request(request, app)
            .await
            .map_err(|rejection| Problem::new(Kind::TooLarge, rejection.body_text()))?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(Kind::Invalid, format!("the body: {error}")))?;
        let once = key.map(|key| Once::new(&key, &[method.as_bytes(), path.as_bytes(), &bytes]));
        Ok(Self { body, once })
    }
}

/// The version that `If-Match` names; `None` for any.
pub(crate) fn expected_version(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(Kind::NoVersion, "If-Match is missing")
            .help("read the object, then send its ETag as If-Match"));
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .and_then(|version| version.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(Kind::Invalid, "If-Match names no version of ours")
                .help("send the ETag as it came, quotes included")
        })
}

/// A version as an entity tag.
pub(crate) fn etag(version: i64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

/// A value that a caller sent as text.
pub(crate) fn given<T>(name: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| Problem::new(Kind::Invalid, format!("{name}: {error}")))
}

/// A text of a length in bytes, without control characters other than line breaks.
pub(crate) fn checked_text(
    name: &str,
    text: String,
    length: std::ops::RangeInclusive<usize>,
) -> Result<String, Problem> {
    let is_odd = text.chars().any(|c| c.is_control() && c != '\n');
    if length.contains(&text.trim().len()) && text.len() <= *length.end() && !is_odd {
        return Ok(text);
    }
    Err(Problem::new(Kind::Invalid, format!("`{name}` cannot be used")).help(format!(
        "use {} to {} bytes, without control characters",
        length.start(),
        length.end()
    )))
}
