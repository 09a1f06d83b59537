//! `/groups`: groups of configuration items.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::cloud::{Class, GroupId, Name, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{GroupAlteration, Labels, NewGroup, Selector};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Body, IdempotencyKey, IfMatch, Listed, Paging, Path, Problems, Query, Sent, check_labels,
    checked_text, etag, expected_version,
};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

/// Longest description, in bytes.
const LONGEST_DESCRIPTION: usize = 2000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, alter, dissolve))
}

/// A group of configuration items: those of a tenant that have the class and all the labels, whichever
/// they are at the moment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Group {
    #[schema(value_type = String, example = "grp_01h455vb4pex5vsknk084sn02q")]
    id: GroupId,
    #[schema(value_type = String)]
    tenant: TenantId,
    /// Unique within its tenant.
    #[schema(value_type = String, example = "front ends")]
    name: Name,
    description: String,
    selector: SelectorBody,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    version: i64,
}

/// Which items belong to a group.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Selector)]
pub(crate) struct SelectorBody {
    /// Those of one class; of any, where it is null.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "vm")]
    class: Option<Class>,
    /// Those with all of these labels.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
}

/// A group that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupRequest {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Name,
    #[serde(default)]
    #[schema(max_length = 2000)]
    description: String,
    /// Left out, all of the tenant's items belong to it.
    #[serde(default)]
    selector: SelectorBody,
}

/// What to alter; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupPatch {
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    name: Option<Name>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// The whole selector.
    selector: Option<SelectorBody>,
}

impl From<store::Group> for Group {
    fn from(group: store::Group) -> Self {
        let store::Group { id, tenant, name, description, selector, created_at, version } = group;
        let selector = SelectorBody { class: selector.class, labels: selector.labels };
        Self { id, tenant, name, description, selector, created_at, version }
    }
}

impl SelectorBody {
    fn checked(self) -> Result<Selector, Problem> {
        check_labels(&self.labels)?;
        Ok(Selector { class: self.class, labels: self.labels })
    }
}

fn described(text: String) -> Result<String, Problem> {
    checked_text("description", text, 0..=LONGEST_DESCRIPTION)
}

/// List the groups that one may see.
#[utoipa::path(get, path = "/groups", tag = "groups", params(Paging),
    responses((status = 200, body = Listed<Group>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Group>>, Problem> {
    Ok(Json(Listed::of(app.store.groups(&by, &paging.request()?).await?)))
}

/// Make a group.
#[utoipa::path(post, path = "/groups", tag = "groups", params(IdempotencyKey),
    request_body = GroupRequest, responses((status = 201, body = Group), Problems))]
async fn create(
    State(app): State<App>,
    By(by): By<{ Action::GroupAlter as usize }>,
    sent: Sent<GroupRequest>,
) -> Result<impl IntoResponse, Problem> {
    let GroupRequest { tenant, name, description, selector } = sent.body;
    let (description, selector) = (described(description)?, selector.checked()?);
    let new = NewGroup { tenant, name, description, selector };
    let group = app.store.create_group(&by, sent.once, new).await?;
    Ok((StatusCode::CREATED, etag(group.version), Json(Group::from(group))))
}

/// Read a group; `/cis?group=ID` lists who belongs to it, `/status?group=ID` how they stand.
#[utoipa::path(get, path = "/groups/{id}", tag = "groups", params(("id" = String, Path)),
    responses((status = 200, body = Group), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<GroupId>,
) -> Result<impl IntoResponse, Problem> {
    let group = app.store.group(&by, id).await?;
    Ok((etag(group.version), Json(Group::from(group))))
}

/// Alter a group.
#[utoipa::path(patch, path = "/groups/{id}", tag = "groups",
    params(("id" = String, Path), IfMatch), request_body = GroupPatch,
    responses((status = 200, body = Group), Problems))]
async fn alter(
    State(app): State<App>,
    By(by): By<{ Action::GroupAlter as usize }>,
    Path(id): Path<GroupId>,
    headers: HeaderMap,
    Body(patch): Body<GroupPatch>,
) -> Result<impl IntoResponse, Problem> {
    let expected = expected_version(&headers)?;
    let GroupPatch { name, description, selector } = patch;
    let alteration = GroupAlteration {
        name,
        description: description.map(described).transpose()?,
        selector: selector.map(SelectorBody::checked).transpose()?,
    };
    let group = app.store.alter_group(&by, id, expected, alteration).await?;
    Ok((etag(group.version), Json(Group::from(group))))
}

/// Dissolve a group; its items stay as they are.
#[utoipa::path(delete, path = "/groups/{id}", tag = "groups",
    params(("id" = String, Path), IfMatch),
    responses((status = 204, description = "Dissolved"), Problems))]
async fn dissolve(
    State(app): State<App>,
    By(by): By<{ Action::GroupAlter as usize }>,
    Path(id): Path<GroupId>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    app.store.dissolve_group(&by, id, expected_version(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
