//! `/advisories`: what people bring, the provider's finds and the tenants' (X.1642, 8.7.1(2)).

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use domain::cloud::{AdvisoryId, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Actor, AdvisoryDecision, AdvisoryState, NewAdvisory};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Body, IdempotencyKey, IfMatch, Listed, Paging, Path, Problems, Query, Sent, checked_text, etag,
    expected_version,
};
use crate::App;
use crate::fleet::read_osv;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Longest note or reason, in bytes.
const LONGEST_NOTE: usize = 2000;

/// Largest record, in bytes.
const LARGEST: usize = 256 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, submit)).routes(routes!(read)).routes(routes!(decide))
}

/// An advisory that somebody brought.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Advisory {
    #[schema(value_type = String, example = "adv_01h455vb4pex5vsknk084sn02q")]
    id: AdvisoryId,
    /// Who brought it; the provider, for others, once it concerns everybody.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// Its publisher's name for it.
    #[schema(example = "DSA-5555-1")]
    name: String,
    /// `submitted` (it concerns its submitter's systems), `accepted` (everybody's), `rejected` or
    /// `withdrawn` (nobody's).
    #[schema(value_type = String)]
    state: AdvisoryState,
    /// What its submitter says.
    note: String,
    submitted_by: String,
    #[schema(value_type = String, format = DateTime)]
    submitted_at: Timestamp,
    decided_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    decided_at: Option<Timestamp>,
    /// Why it was decided so.
    decision: Option<String>,
    /// Which of the systems that one may see it concerns, from the fleet in memory.
    concerns: Vec<Concerned>,
    /// The OSV record as it was brought.
    #[schema(value_type = Object)]
    osv: Box<RawValue>,
    version: i64,
}

/// How many systems of a tenant an advisory concerns.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Concerned {
    #[schema(value_type = String)]
    tenant: TenantId,
    items: u32,
}

/// An advisory that is to be taken in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvisoryRequest {
    /// A record in the OSV format, 1.7 or earlier (<https://ossf.github.io/osv-schema/>).
    #[schema(value_type = Object)]
    osv: Box<RawValue>,
    /// What the provider should know about it: where it was found, how urgent it seems.
    #[serde(default)]
    #[schema(max_length = 2000)]
    note: String,
}

/// A decision about an advisory.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionRequest {
    /// `accepted` or `rejected` by the provider, `withdrawn` by whoever brought it.
    #[schema(value_type = String, pattern = "^(accepted|rejected|withdrawn)$")]
    state: AdvisoryState,
    /// Why.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
}

/// As its reader may see it.
fn shown(app: &App, by: &Actor, advisory: store::Advisory) -> Result<Advisory, Problem> {
    let is_live = match advisory.state {
        AdvisoryState::Submitted | AdvisoryState::Accepted => true,
        AdvisoryState::Rejected | AdvisoryState::Withdrawn => false,
    };
    let concerned = if is_live {
        app.fleet.exposure().of(advisory.id, &advisory.document)
    } else {
        std::collections::BTreeMap::new()
    };
    let everybodys = advisory.state == AdvisoryState::Accepted;
    let concerns = concerned
        .into_iter()
        .filter(|(tenant, _)| by.scope().is_none_or(|own| own == *tenant))
        .filter(|(tenant, _)| everybodys || *tenant == advisory.tenant)
        .map(|(tenant, items)| Concerned { tenant, items })
        .collect();
    let osv = RawValue::from_string(advisory.document)
        .map_err(|_| Problem::new(Kind::Internal, "a kept record is damaged"))?;
    Ok(Advisory {
        id: advisory.id,
        tenant: advisory.tenant,
        name: advisory.name,
        state: advisory.state,
        note: advisory.note,
        submitted_by: advisory.submitted_by,
        submitted_at: advisory.submitted_at,
        decided_by: advisory.decided_by,
        decided_at: advisory.decided_at,
        decision: advisory.decision,
        concerns,
        osv,
        version: advisory.version,
    })
}

/// List the advisories that people brought: one's own side's, and those accepted for everybody.
#[utoipa::path(get, path = "/advisories", tag = "findings", params(Paging),
    responses((status = 200, body = Listed<Advisory>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::AdvisoryRead as usize }>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Advisory>>, Problem> {
    let page = app.store.advisories(&by, &paging.request()?).await?;
    let next = page.next;
    let items = page
        .items
        .into_iter()
        .map(|advisory| shown(&app, &by, advisory))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Json(Listed::of(store::Page { items, next })))
}

/// Bring an advisory or patch that was found elsewhere. It goes the same way as the provider's own:
/// at once for one's own systems, for everybody's once the provider accepts it.
#[utoipa::path(post, path = "/advisories", tag = "findings", params(IdempotencyKey),
    request_body = AdvisoryRequest, responses((status = 201, body = Advisory), Problems))]
async fn submit(
    State(app): State<App>,
    By(by): By<{ Action::AdvisorySubmit as usize }>,
    sent: Sent<AdvisoryRequest>,
) -> Result<impl IntoResponse, Problem> {
    let AdvisoryRequest { osv, note } = sent.body;
    if osv.get().len() > LARGEST {
        return Err(Problem::new(Kind::TooLarge, "the record is too large")
            .help("a record may have 256 KiB: bring the packages that matter"));
    }
    let advisory = read_osv(osv.get()).ok_or_else(|| {
        Problem::new(Kind::Invalid, "`osv` is no OSV record about a distribution's packages").help(
            "it needs `id`, `modified` and `affected` with an ecosystem such as `Debian:12`: \
             https://ossf.github.io/osv-schema/",
        )
    })?;
    let new = NewAdvisory {
        name: checked_text("osv.id", advisory.id, 1..=128)?,
        document: osv.get().to_owned(),
        note: checked_text("note", note, 0..=LONGEST_NOTE)?,
        published: advisory.published,
    };
    let advisory = app.store.submit_advisory(&by, sent.once, new).await?;
    app.fleet.wake();
    let version = advisory.version;
    Ok((StatusCode::CREATED, etag(version), Json(shown(&app, &by, advisory)?)))
}

/// Read an advisory, and whom it concerns.
#[utoipa::path(get, path = "/advisories/{id}", tag = "findings", params(("id" = String, Path)),
    responses((status = 200, body = Advisory), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::AdvisoryRead as usize }>,
    Path(id): Path<AdvisoryId>,
) -> Result<impl IntoResponse, Problem> {
    let advisory = app.store.advisory(&by, id).await?;
    let version = advisory.version;
    Ok((etag(version), Json(shown(&app, &by, advisory)?)))
}

/// Decide about an advisory.
#[utoipa::path(put, path = "/advisories/{id}/decision", tag = "findings",
    params(("id" = String, Path), IfMatch), request_body = DecisionRequest,
    responses((status = 200, body = Advisory), Problems))]
async fn decide(
    State(app): State<App>,
    By(by): By<{ Action::AdvisoryDecide as usize }>,
    Path(id): Path<AdvisoryId>,
    headers: HeaderMap,
    Body(DecisionRequest { state, reason }): Body<DecisionRequest>,
) -> Result<impl IntoResponse, Problem> {
    let expected = expected_version(&headers)?;
    if state == AdvisoryState::Submitted {
        return Err(Problem::new(Kind::Invalid, "`submitted` is no decision")
            .help("use accepted, rejected or withdrawn"));
    }
    let reason = checked_text("reason", reason, 1..=LONGEST_NOTE)?;
    let decision = AdvisoryDecision { state, reason };
    let advisory = app.store.decide_advisory(&by, id, expected, decision).await?;
    app.fleet.wake();
    let version = advisory.version;
    Ok((etag(version), Json(shown(&app, &by, advisory)?)))
}
