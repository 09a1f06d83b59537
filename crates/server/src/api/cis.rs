//! `/cis`: configuration items and relations.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::check::{Status, Unknown, UnknownAbout};
use domain::cloud::{CiId, Class, Duty, LabelKey, Name, RelationKind, TenantId};
use domain::priority::Exposure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{CiAlteration, CiFilter, Labels, NewCi};
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

/// Most items of one import.
const LARGEST_IMPORT: usize = 1000;

/// Most labels of an item, and longest value of one.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 255;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(import))
        .routes(routes!(read, alter, retire))
        .routes(routes!(check))
        .routes(routes!(relations, relate))
        .routes(routes!(unrelate))
        .routes(routes!(all_relations))
}

/// A configuration item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ci {
    #[schema(value_type = String, example = "ci_01h455vb4pex5vsknk084sn02q")]
    pub(crate) id: CiId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// `hypervisor`, `host`, `vm`, `image`, `network_device`, `security_device`, `database_server`,
    /// `management_terminal`, `application` or `service`.
    #[schema(value_type = String, example = "vm")]
    class: Class,
    /// Unique within its tenant.
    #[schema(value_type = String, example = "web-1")]
    name: Name,
    /// Who must patch it: `provider` or `tenant`.
    #[schema(value_type = String, example = "tenant")]
    duty: Duty,
    /// Why, where both sides agreed on something else than what follows from class and model.
    agreed_duty_reason: Option<String>,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    retired_at: Option<Timestamp>,
    version: i64,
}

/// A configuration item that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CiRequest {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String, example = "vm")]
    class: Class,
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    /// At most 64.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
}

/// Several configuration items that are to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    /// At most 1000.
    #[schema(max_items = 1000)]
    items: Vec<CiRequest>,
}

/// The items that an import took up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Imported {
    items: Vec<Ci>,
}

/// What to alter; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CiPatch {
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    name: Option<Name>,
    /// All its labels: what is missing here goes.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    labels: Option<Labels>,
}

/// How one configuration item hangs together with another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Relation {
    #[schema(value_type = String)]
    from: CiId,
    /// `runs_on`, `built_from`, `member_of`, `depends_on` or `connects_to`.
    #[schema(value_type = String, example = "runs_on")]
    kind: RelationKind,
    #[schema(value_type = String)]
    to: CiId,
}

/// The relations of an item, out of it and into it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Relations {
    items: Vec<Relation>,
}

/// A relation that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelationRequest {
    #[schema(value_type = String, example = "runs_on")]
    kind: RelationKind,
    #[schema(value_type = String)]
    to: CiId,
}

/// Which items.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one tenant.
    tenant: Option<String>,
    /// Of one class.
    class: Option<String>,
    /// With this in the name, capitals aside.
    name: Option<String>,
    /// With this label: `key=value`.
    label: Option<String>,
    /// Of one group.
    group: Option<String>,
    /// Also those that are gone.
    #[serde(default)]
    retired: bool,
}

impl Wanted {
    fn filter(&self) -> Result<CiFilter, Problem> {
        let label = match &self.label {
            Some(label) => {
                let (key, value) = label.split_once('=').ok_or_else(|| {
                    Problem::new(Kind::Invalid, format!("label: `{label}` is not `key=value`"))
                })?;
                Some((given::<LabelKey>("label", key)?, value.to_owned()))
            }
            None => None,
        };
        Ok(CiFilter {
            tenant: self.tenant.as_deref().map(|it| given("tenant", it)).transpose()?,
            class: self.class.as_deref().map(|it| given("class", it)).transpose()?,
            name: self.name.clone().filter(|name| !name.is_empty()),
            label,
            group: self.group.as_deref().map(|it| given("group", it)).transpose()?,
            retired: self.retired,
        })
    }
}

impl From<store::Ci> for Ci {
    fn from(ci: store::Ci) -> Self {
        Self {
            id: ci.id,
            tenant: ci.tenant,
            class: ci.class,
            name: ci.name,
            duty: ci.duty,
            agreed_duty_reason: ci.agreed.map(|agreed| agreed.reason),
            labels: ci.labels,
            created_at: ci.created_at,
            retired_at: ci.retired_at,
            version: ci.version,
        }
    }
}

impl From<store::Relation> for Relation {
    fn from(store::Relation { from, kind, to }: store::Relation) -> Self {
        Self { from, kind, to }
    }
}

impl CiRequest {
    fn checked(self) -> Result<NewCi, Problem> {
        check_labels(&self.labels)?;
        let Self { tenant, class, name, labels } = self;
        Ok(NewCi { tenant, class, name, labels })
    }
}

pub(super) fn check_labels(labels: &Labels) -> Result<(), Problem> {
    if labels.len() > MOST_LABELS {
        return Err(Problem::new(Kind::Invalid, format!("{} labels are too many", labels.len()))
            .help(format!("use at most {MOST_LABELS}")));
    }
    // A misspelt exposure would count as open, and nobody would know why.
    if let Some((_, value)) = labels.iter().find(|(key, _)| key.as_str() == Exposure::LABEL)
        && Exposure::of_label(value).is_none()
    {
        let detail = format!("label `{}` has a value that says nothing", Exposure::LABEL);
        return Err(Problem::new(Kind::Invalid, detail)
            .help("use open, controlled or small; without the label it counts as open"));
    }
    let is_odd = |value: &str| value.len() > LONGEST_LABEL || value.chars().any(char::is_control);
    match labels.iter().find(|(_, value)| is_odd(value)) {
        Some((key, _)) => {
            Err(Problem::new(Kind::Invalid, format!("label `{key}` has an odd value"))
                .help(format!("use at most {LONGEST_LABEL} bytes without control characters")))
        }
        None => Ok(()),
    }
}

/// List the configuration items that one may see.
#[utoipa::path(get, path = "/cis", tag = "configuration items", params(Wanted, Paging),
    responses((status = 200, body = Listed<Ci>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Ci>>, Problem> {
    let page = app.store.cis(&by, &wanted.filter()?, &paging.request()?).await?;
    Ok(Json(Listed::of(page)))
}

/// Take up a configuration item.
#[utoipa::path(post, path = "/cis", tag = "configuration items", params(IdempotencyKey),
    request_body = CiRequest, responses((status = 201, body = Ci), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::CiCreate as usize }>,
    sent: Sent<CiRequest>,
) -> Result<impl IntoResponse, Problem> {
    let ci = app.store.create_ci(&by, sent.once, sent.body.checked()?).await?;
    Ok((StatusCode::CREATED, etag(ci.version), Json(Ci::from(ci))))
}

/// Take up several configuration items, or none of them.
#[utoipa::path(post, path = "/cis/import", tag = "configuration items", params(IdempotencyKey),
    request_body = Import, responses((status = 201, body = Imported), Problems))]
async fn import(
    State(app): State<App>,
    By(by): By<{ Action::CiCreate as usize }>,
    sent: Sent<Import>,
) -> Result<impl IntoResponse, Problem> {
    let items = sent.body.items;
    if items.len() > LARGEST_IMPORT {
        return Err(Problem::new(Kind::Invalid, format!("{} items are too many", items.len()))
            .help(format!("send at most {LARGEST_IMPORT} at a time")));
    }
    let items = items.into_iter().map(CiRequest::checked).collect::<Result<_, _>>()?;
    let created = app.store.create_cis(&by, sent.once, items).await?;
    let items = created.into_iter().map(Ci::from).collect();
    Ok((StatusCode::CREATED, Json(Imported { items })))
}

/// Read a configuration item.
#[utoipa::path(get, path = "/cis/{id}", tag = "configuration items", params(("id" = String, Path)),
    responses((status = 200, body = Ci), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<impl IntoResponse, Problem> {
    let ci = app.store.ci(&by, id).await?;
    Ok((etag(ci.version), Json(Ci::from(ci))))
}

/// Alter a configuration item's description.
#[utoipa::path(patch, path = "/cis/{id}", tag = "configuration items",
    params(("id" = String, Path), IfMatch), request_body = CiPatch,
    responses((status = 200, body = Ci), Problems))]
async fn alter(
    State(app): State<App>,
    By(by): By<{ Action::CiAlter as usize }>,
    Path(id): Path<CiId>,
    headers: HeaderMap,
    Body(patch): Body<CiPatch>,
) -> Result<impl IntoResponse, Problem> {
    let expected = expected_version(&headers)?;
    let CiPatch { name, labels } = patch;
    labels.as_ref().map_or(Ok(()), check_labels)?;
    let alteration = CiAlteration { name, labels, agreed: None };
    let ci = app.store.alter_ci(&by, id, expected, alteration).await?;
    Ok((etag(ci.version), Json(Ci::from(ci))))
}

/// Take a configuration item out of the cloud; its history stays.
#[utoipa::path(delete, path = "/cis/{id}", tag = "configuration items",
    params(("id" = String, Path), IfMatch),
    responses((status = 200, body = Ci), Problems))]
async fn retire(
    State(app): State<App>,
    By(by): By<{ Action::CiRetire as usize }>,
    Path(id): Path<CiId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let ci = app.store.retire_ci(&by, id, expected_version(&headers)?).await?;
    Ok((etag(ci.version), Json(Ci::from(ci))))
}

/// Read what the last check of a configuration item found (`patchwright.check/1`).
#[utoipa::path(get, path = "/cis/{id}/check", tag = "configuration items",
    params(("id" = String, Path)), responses((status = 200, body = Object), Problems))]
async fn check(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<domain::check::Report>, Problem> {
    let check = app.store.check(&by, id).await?;
    let check = check.ok_or_else(|| {
        Problem::not_found("check of this item yet")
            .help("it is unknown whether it is at its latest until somebody checks it")
    })?;
    let mut report = check.report;
    let fresh_since = app.store.environment().now() - FRESH;
    if check.counts.seen_at < fresh_since || check.counts.checked_at < fresh_since {
        // What it was then says nothing of what it is: nobody heard of it since, or whoever was heard is not believed.
        report.status = Status::Unknown;
        report.unknown.push(Unknown {
            about: UnknownAbout::Inventory,
            subject: "item".to_owned(),
            reason: "nothing that is believed was heard of it lately".to_owned(),
            help: Some("see whether its agent runs, and is believed: `get agents`".to_owned()),
        });
    }
    Ok(Json(report))
}

/// List a configuration item's relations.
#[utoipa::path(get, path = "/cis/{id}/relations", tag = "configuration items",
    params(("id" = String, Path)), responses((status = 200, body = Relations), Problems))]
async fn relations(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Relations>, Problem> {
    let relations = app.store.relations(&by, id).await?;
    Ok(Json(Relations { items: relations.into_iter().map(Relation::from).collect() }))
}

/// List all relations that one may see.
#[utoipa::path(get, path = "/relations", tag = "configuration items", params(Paging),
    responses((status = 200, body = Listed<Relation>), Problems))]
async fn all_relations(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Relation>>, Problem> {
    Ok(Json(Listed::of(app.store.all_relations(&by, &paging.request()?).await?)))
}

/// Relate a configuration item to another.
#[utoipa::path(post, path = "/cis/{id}/relations", tag = "configuration items",
    params(("id" = String, Path)), request_body = RelationRequest,
    responses((status = 201, body = Relation), Problems))]
async fn relate(
    State(app): State<App>,
    By(by): By<{ Action::RelationAlter as usize }>,
    Path(from): Path<CiId>,
    Body(RelationRequest { kind, to }): Body<RelationRequest>,
) -> Result<impl IntoResponse, Problem> {
    app.store.relate(&by, store::Relation { from, kind, to }).await?;
    Ok((StatusCode::CREATED, Json(Relation { from, kind, to })))
}

/// End a relation.
#[utoipa::path(delete, path = "/cis/{id}/relations/{kind}/{to}", tag = "configuration items",
    params(("id" = String, Path), ("kind" = String, Path), ("to" = String, Path)),
    responses((status = 204, description = "Ended"), Problems))]
async fn unrelate(
    State(app): State<App>,
    By(by): By<{ Action::RelationAlter as usize }>,
    axum::extract::Path((from, kind, to)): axum::extract::Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let missing = || Problem::not_found("such relation");
    let relation = store::Relation {
        from: from.parse().map_err(|_| missing())?,
        kind: kind.parse().map_err(|_| missing())?,
        to: to.parse().map_err(|_| missing())?,
    };
    app.store.unrelate(&by, relation).await?;
    Ok(StatusCode::NO_CONTENT)
}
