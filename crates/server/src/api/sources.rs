//! `/cis/{id}/sources`: from where an item is told what it is configured by, and how that goes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use devices::{Credential, Secret};
use domain::cloud::{CiId, Slug};
use domain::device::{DeviceState, HostKeyFingerprint};
use domain::order::PathPattern;
use domain::source::{Authority, Form, Pointer, SourceKind, SourceSettings};
use jiff::{SignedDuration, Timestamp};
use reach::{Reach, Unreachable};
use serde::{Deserialize, Serialize};
use sources::{SourceError, authority};
use store::{Actor, HostKeyWish, NewSource};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Body, Listed, Path, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::observers::SourceOpening;
use crate::problem::{Kind, Problem};

/// How often a source is looked at where nobody says otherwise, in seconds.
const USUAL: u32 = 900;

/// Longest value of a header, in bytes.
const LONGEST_VALUE: usize = 16 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read, set, remove))
        .routes(routes!(look))
}

/// A source of what an item is configured by. What opens it is shown to nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Source {
    #[schema(value_type = String)]
    ci: CiId,
    #[schema(value_type = String, example = "app")]
    name: Slug,
    /// `git`, `http`, `image_store`, or `image`: an image that was brought or baked is told by itself.
    #[schema(value_type = String, example = "git")]
    kind: SourceKind,
    /// Its address.
    #[schema(example = "https://git.acme.example/app.git")]
    url: Option<String>,
    /// Of an image of the cloud's, the store that it lies in.
    #[schema(example = "rack-1")]
    store: Option<String>,
    /// Of an image of the cloud's, by what it is known there.
    #[schema(example = "images/web.qcow2")]
    image: Option<String>,
    /// Of a repository, the branch or tag.
    #[schema(example = "refs/heads/main")]
    reference: Option<String>,
    /// Of a repository, as whom somebody signs in.
    user: Option<String>,
    /// Of a repository, which files; all where none are given.
    #[schema(value_type = Vec<String>)]
    files: Vec<PathPattern>,
    /// Of a repository, how many commits before the first one that is seen are taken in with it.
    past: Option<u16>,
    /// Of a document, `json` or `text`.
    #[schema(value_type = Option<String>)]
    form: Option<Form>,
    /// Of a document, what alters by itself.
    #[schema(value_type = Vec<String>)]
    volatile: Vec<Pointer>,
    /// Of a document, the names of the headers that are sent.
    headers: Vec<String>,
    /// Whose certificates count; those of public authorities where none are named.
    authorities: Vec<AuthorityView>,
    /// What the names begin with under which it is kept in the item's history.
    #[schema(example = "git:app/")]
    place: String,
    /// Whether something is kept that opens it.
    has_credential: bool,
    /// Whether the provider's people set it, who reach networks that tenants do not.
    is_providers: bool,
    every_seconds: i64,
    /// Over SSH, the fingerprint of the one host key that counts; null where the next one that is shown is taken.
    #[schema(value_type = Option<String>)]
    host_key: Option<HostKeyFingerprint>,
    /// Another one that it showed.
    #[schema(value_type = Option<String>)]
    offered_key: Option<HostKeyFingerprint>,
    /// `new`, `seen`, `unreachable`, or `key_differs`: nobody looks before the source is set with the right key.
    #[schema(value_type = String, example = "seen")]
    state: DeviceState,
    /// How many looks in a row came to nothing.
    failures: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    looked_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
    /// When it is looked at next; null where nothing alters any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// What stood in the way last; of a source that is seen, what it does not tell.
    reason: Option<String>,
    /// Up to where it was recorded: a commit, or the tag of a version.
    progress: Option<String>,
    version: i64,
}

/// An authority whose certificates count for a source.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthorityView {
    /// Whose it is, as its certificate says.
    #[schema(example = "CN=Acme root")]
    subject: String,
    /// SHA-256 of its certificate.
    #[schema(min_length = 64, max_length = 64)]
    sha256: String,
    /// Until when it counts.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// How a source is to be looked at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceRequest {
    /// `git`, `http` or `image_store`.
    #[schema(value_type = String, example = "git")]
    kind: SourceKind,
    /// `https://HOST/PATH`; of a repository also `ssh://[USER@]HOST[:PORT]/PATH`. No secret belongs into it. Left out of
    /// an image of the cloud's.
    #[serde(default)]
    #[schema(example = "https://git.acme.example/app.git", min_length = 1, max_length = 1000)]
    url: Option<String>,
    /// Of an image of the cloud's, the store that it lies in: `GET /image-stores` names them. For the provider's people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 1000)]
    store: Option<String>,
    /// Of an image of the cloud's, by what it is known there.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 600)]
    image: Option<String>,
    /// Of a repository, the whole name of a branch or tag; `HEAD` where it is left out.
    #[serde(default)]
    #[schema(example = "refs/heads/main")]
    reference: Option<String>,
    /// Of a repository, which files, from its root: `/conf/**`. All where none are given.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    files: Vec<PathPattern>,
    /// Of a repository, how many commits before the first one that is seen are taken in with it; none where it is left
    /// out. What they made of the files is history, and judged by nobody.
    #[serde(default)]
    #[schema(maximum = 10_000)]
    past: Option<u16>,
    /// Of a repository, as whom somebody signs in; `git` where it is left out.
    #[serde(default)]
    user: Option<String>,
    /// Of a repository, the password or token that lets us in. Left out, as is `key`, it stays what it is, for the
    /// same address, account and host key.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    password: Option<Secret>,
    /// Of a repository over SSH, the private key that lets us in, Ed25519 or ECDSA, as OpenSSH writes it, without a
    /// passphrase.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    key: Option<Secret>,
    /// Over SSH, the fingerprint of the one host key that counts. Left out, it stays what it is.
    #[serde(default)]
    host_key: Option<String>,
    /// Over SSH, take the host key that is shown next, whoever answers there. Not with `host_key`.
    #[serde(default)]
    trust_first_key: bool,
    /// Of a document, `json` or `text`; `json` where it is left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    form: Option<Form>,
    /// Of a JSON document, what alters by itself: pointers (RFC 6901), with `*` for any member.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    volatile: Vec<Pointer>,
    /// Of a document, headers that open it. Left out, they stay what they are, for the same address.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>, write_only)]
    headers: Option<BTreeMap<String, Secret>>,
    /// Over https, the authorities whose certificates count in place of the public ones: up to 8 certificates (PEM).
    /// Left out, those of the public authorities count.
    #[serde(default)]
    #[schema(max_length = 65536)]
    authority: Option<String>,
    /// How often it is looked at, 60 to 604800; 900 where it is left out.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 604_800)]
    every_seconds: Option<u32>,
}

impl From<store::Source> for Source {
    fn from(it: store::Source) -> Self {
        let kind = it.settings.kind();
        let place = kind.place(it.name.as_str());
        let (mut reference, mut user, mut files, mut past) = (None, None, Vec::new(), None);
        let (mut form, mut volatile, mut headers) = (None, Vec::new(), Vec::new());
        let (mut store, mut image) = (None, None);
        let authorities = it.settings.authorities().iter().map(AuthorityView::of).collect();
        let url = match it.settings {
            SourceSettings::Git {
                url,
                reference: name,
                user: account,
                files: wanted,
                past: before,
                ..
            } => {
                (reference, user, files, past) = (Some(name), account, wanted, Some(before));
                Some(url)
            }
            SourceSettings::Http { url, form: taken, volatile: masked, headers: sent, .. } => {
                (form, volatile, headers) = (Some(taken), masked, sent);
                Some(url)
            }
            SourceSettings::ImageStore { store: of, image: name } => {
                (store, image) = (Some(of), Some(name));
                None
            }
            SourceSettings::Image => None,
        };
        Self {
            ci: it.ci,
            name: it.name,
            kind,
            url,
            store,
            image,
            reference,
            user,
            files,
            past,
            form,
            volatile,
            headers,
            authorities,
            place,
            has_credential: it.has_credential,
            is_providers: it.is_providers,
            every_seconds: it.every.as_secs(),
            host_key: it.host_key,
            offered_key: it.offered_key,
            state: it.state,
            failures: it.failures,
            looked_at: it.looked_at,
            seen_at: it.seen_at,
            due_at: it.due_at,
            reason: it.reason,
            progress: it.progress,
            version: it.version,
        }
    }
}

impl AuthorityView {
    fn of(it: &Authority) -> Self {
        Self { subject: it.subject.clone(), sha256: it.sha256.clone(), until: it.until }
    }
}

/// A source as the path names it. What is none names nothing that exists.
struct Which {
    id: CiId,
    name: Slug,
}

impl FromRequestParts<App> for Which {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let missing = || Problem::not_found("such source");
        let found = UrlPath::<(String, String)>::from_request_parts(parts, app).await;
        let UrlPath((id, name)) = found.map_err(|_| missing())?;
        let (id, name) = (id.parse().ok(), name.parse().ok());
        id.zip(name).map(|(id, name)| Self { id, name }).ok_or_else(missing)
    }
}

fn invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::Invalid, format!("{name}: {detail}"))
}

/// List the sources of what an item is configured by.
#[utoipa::path(get, path = "/cis/{id}/sources", tag = "configuration", params(("id" = String, Path)),
    responses((status = 200, body = Listed<Source>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Listed<Source>>, Problem> {
    let items = app.store.sources(&by, id).await?.into_iter().map(Source::from).collect();
    Ok(Json(Listed { items, next: None }))
}

/// Read how a source is looked at, and how that goes.
#[utoipa::path(get, path = "/cis/{id}/sources/{name}", tag = "configuration",
    params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Source), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Which { id, name }: Which,
) -> Result<Json<Source>, Problem> {
    Ok(Json(app.store.source(&by, id, &name).await?.into()))
}

/// Say from where an item is told what it is configured by; it is looked at soon. A tenant's sources are on the public
/// Internet; those of the provider also in the networks that the operator opens.
#[utoipa::path(put, path = "/cis/{id}/sources/{name}", tag = "configuration",
    params(("id" = String, Path), ("name" = String, Path)), request_body = SourceRequest,
    responses((status = 200, body = Source), Problems))]
async fn set(
    State(app): State<App>,
    By(by): By<{ Action::SourceKeep as usize }>,
    Which { id, name }: Which,
    Body(wanted): Body<SourceRequest>,
) -> Result<Json<Source>, Problem> {
    // What is not there is not there, whatever is asked of it.
    app.store.ci(&by, id).await?;
    if wanted.kind == SourceKind::ImageStore && by.scope().is_some() {
        let detail = "images of the cloud's stores are named by the provider's people";
        return Err(Problem::new(Kind::Forbidden, detail).help("ask them to"));
    }
    let before = app.store.source(&by, id, &name).await.ok();
    let host_key = host_key(&wanted)?;
    let opening = opening(&wanted)?;
    let sealed = opening
        .map(|opening| {
            opening
                .seal(&app.vault, (id, &name), app.random())
                .ok_or_else(|| Problem::new(Kind::Internal, "what opens it cannot be sealed"))
        })
        .transpose()?;
    let every = SignedDuration::from_secs(wanted.every_seconds.unwrap_or(USUAL).into());
    let authorities = match &wanted.authority {
        None => Vec::new(),
        Some(pem) => authority::read(pem, app.store.environment().now())
            .map_err(|error| invalid("authority", &error).help(error.help()))?,
    };
    let settings = settings(wanted, before.as_ref(), authorities)?;
    settings.check().map_err(|error| Problem::new(Kind::Invalid, error.to_string()))?;
    may_be_there(&app, &by, &settings)?;
    let new = NewSource { settings, every, credential: sealed, host_key };
    Ok(Json(app.store.set_source(&by, id, name, new).await?.into()))
}

fn settings(
    wanted: SourceRequest,
    before: Option<&store::Source>,
    authorities: Vec<Authority>,
) -> Result<SourceSettings, Problem> {
    let is_http = wanted.form.is_some() || !wanted.volatile.is_empty() || wanted.headers.is_some();
    let is_git = wanted.reference.is_some()
        || !wanted.files.is_empty()
        || wanted.past.is_some()
        || wanted.user.is_some()
        || wanted.password.is_some()
        || wanted.key.is_some();
    let is_elsewhere =
        wanted.host_key.is_some() || wanted.trust_first_key || !authorities.is_empty();
    let is_stored = wanted.store.is_some() || wanted.image.is_some();
    let SourceRequest { url, reference, files, past, user, form, volatile, headers, .. } = wanted;
    if wanted.kind == SourceKind::ImageStore {
        let (Some(store), Some(image), false) =
            (wanted.store, wanted.image, is_http || is_git || is_elsewhere || url.is_some())
        else {
            return Err(invalid("kind", "an image of the cloud's has a store and its name there")
                .help("give `store` and `image`, and nothing but `every_seconds` beside them"));
        };
        return Ok(SourceSettings::ImageStore { store, image });
    }
    let Some(url) = url.filter(|_| !is_stored) else {
        return Err(invalid("url", "a repository or a document has an address, and no store")
            .help("give `url`, and leave `store` and `image` out"));
    };
    match wanted.kind {
        SourceKind::Git if is_http => Err(invalid("kind", "a repository has no form and headers")
            .help("leave `form`, `volatile` and `headers` out")),
        SourceKind::Git => {
            let reference = reference.unwrap_or_else(|| "HEAD".to_owned());
            let past = past.unwrap_or(0);
            Ok(SourceSettings::Git { url, reference, user, files, past, authorities })
        }
        SourceKind::Http if is_git => Err(invalid("kind", "a document has no branch and account")
            .help("leave `reference`, `files`, `past`, `user`, `password` and `key` out; what opens it is a header")),
        SourceKind::Http => {
            let known = match before.map(|before| &before.settings) {
                Some(SourceSettings::Http { headers, .. }) => headers.clone(),
                _ => Vec::new(),
            };
            let headers = headers.map_or(known, |headers| headers.into_keys().collect());
            let form = form.unwrap_or(Form::Json);
            Ok(SourceSettings::Http { url, form, volatile, headers, authorities })
        }
        SourceKind::Image | SourceKind::ImageStore => {
            Err(invalid("kind", "an image is told by itself")
                .help("bring the image, and take up a version of it"))
        }
    }
}

/// Whether the actor may have us look there.
fn may_be_there(app: &App, by: &Actor, settings: &SourceSettings) -> Result<(), Problem> {
    let reach = if by.scope().is_none() { app.reach.clone() } else { Reach::public() };
    let closed = |error: &Unreachable| invalid("url", error).help(error.help());
    match settings {
        SourceSettings::Git { url, .. } => {
            sources::git::check(url, &reach).map_err(|error| match &error {
                SourceError::Closed(error) => closed(error),
                error => invalid("url", error),
            })
        }
        SourceSettings::Http { url, .. } => {
            reach.check(url).map(|_| ()).map_err(|error| closed(&error))
        }
        SourceSettings::ImageStore { store, .. } => {
            if app.image_stores.names().iter().any(|(name, _)| name == store) {
                return Ok(());
            }
            Err(invalid("store", format!("this control plane knows no store `{store}`"))
                .help("its operator names them with `up --image-stores`; `patchwright source stores` tells which"))
        }
        SourceSettings::Image => Ok(()),
    }
}

fn host_key(wanted: &SourceRequest) -> Result<HostKeyWish, Problem> {
    match (&wanted.host_key, wanted.trust_first_key) {
        (Some(_), true) => {
            Err(invalid("trust_first_key", "a host key is given as well")
                .help("leave one of them out"))
        }
        (Some(text), false) => {
            Ok(HostKeyWish::Pinned(text.parse().map_err(|error| invalid("host_key", error))?))
        }
        (None, true) => Ok(HostKeyWish::First),
        (None, false) => Ok(HostKeyWish::Keep),
    }
}

/// What opens the source, where it is given.
fn opening(wanted: &SourceRequest) -> Result<Option<SourceOpening>, Problem> {
    let SourceRequest { password, key, headers, .. } = wanted;
    if password.is_some() && key.is_some() {
        return Err(invalid("password", "a key is given as well").help("leave one of them out"));
    }
    let password_given = password.clone().map(|it| ("password", Credential::Password(it)));
    let key_given = key.clone().map(|it| ("key", Credential::Key(it)));
    for (name, credential) in [password_given, key_given].into_iter().flatten() {
        credential.check().map_err(|error| invalid(name, &error).help(error.help()))?;
    }
    for (name, value) in headers.iter().flatten() {
        let value = value.reveal();
        if value.len() > LONGEST_VALUE || value.chars().any(|it| it.is_control() || !it.is_ascii())
        {
            let name = name.escape_default();
            return Err(invalid("headers", format!("what `{name}` says cannot be sent"))
                .help("give at most 16 KiB of ASCII in one line"));
        }
    }
    let is_any = password.is_some() || key.is_some() || headers.is_some();
    let headers = headers.clone().unwrap_or_default();
    Ok(is_any.then(|| SourceOpening { password: password.clone(), key: key.clone(), headers }))
}

/// Have a source looked at soon.
#[utoipa::path(post, path = "/cis/{id}/sources/{name}/look", tag = "configuration",
    params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Source), Problems))]
async fn look(
    State(app): State<App>,
    By(by): By<{ Action::SourceKeep as usize }>,
    Which { id, name }: Which,
) -> Result<Json<Source>, Problem> {
    Ok(Json(app.store.wake_source(&by, id, name).await?.into()))
}

/// Look at a source no more. What was recorded stays.
#[utoipa::path(delete, path = "/cis/{id}/sources/{name}", tag = "configuration",
    params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "Forgotten"), Problems))]
async fn remove(
    State(app): State<App>,
    By(by): By<{ Action::SourceKeep as usize }>,
    Which { id, name }: Which,
) -> Result<StatusCode, Problem> {
    app.store.remove_source(&by, id, name).await?;
    Ok(StatusCode::NO_CONTENT)
}
