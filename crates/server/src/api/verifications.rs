//! `/verifications`: what looks at items came to after orders, signed and kept for ever.

use axum::Json;
use axum::extract::State;
use domain::change::KeyId;
use domain::cloud::{ChangeId, CiId, ReleaseId, TenantId, VerificationId};
use domain::priority::PolicyRef;
use domain::verification::{Claim, Knowledge, Occasion, Record, Sighting, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::VerificationFilter;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Listed, Paging, Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(key)).routes(routes!(read))
}

/// What a look at an item came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verification {
    #[schema(value_type = String, example = "vrf_01h455vb4pex5vsknk084sn02q")]
    id: VerificationId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    ci: CiId,
    #[schema(value_type = String)]
    change: ChangeId,
    #[schema(value_type = String)]
    release: ReleaseId,
    /// `after_order`, `after_24h` or `after_7d`.
    #[schema(value_type = String)]
    occasion: Occasion,
    /// `{"is": "verified", "newer": …}`, `{"is": "conflict", "contradictions": …}` or
    /// `{"is": "undecided", "because": …}`.
    #[schema(value_type = Object)]
    verdict: Verdict,
    /// What there is to say beside it, in words.
    because: Option<String>,
    /// What was said to be done, by which order, execution and signed result.
    #[schema(value_type = Object)]
    claim: Claim,
    /// What it was held against: the digests of packages and facts, and when they were known. Null where
    /// nobody looked.
    #[schema(value_type = Option<Object>)]
    seen: Option<Sighting>,
    /// The version of the SLA that governs.
    #[schema(value_type = Object)]
    policy: PolicyRef,
    /// What was known about patches when what was seen was last checked.
    #[schema(value_type = Option<Object>)]
    knowledge: Option<Knowledge>,
    #[schema(value_type = String, format = DateTime)]
    verified_at: Timestamp,
    /// The id of the verifier's key: SHA-256 over its `SubjectPublicKeyInfo`.
    #[schema(value_type = String)]
    key: KeyId,
    /// All of it, signed: an in-toto Statement in a DSSE envelope.
    #[schema(value_type = Object)]
    envelope: Box<RawValue>,
}

/// The key with which the verifier signs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerifierKey {
    /// SHA-256 over its `SubjectPublicKeyInfo`.
    id: String,
    /// Ed25519, in PEM. Compare its id over another way before you rely on it.
    public_key: String,
}

/// Which verifications; of an item or of a change.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Of one item: its compliance history.
    ci: Option<String>,
    /// Of one change.
    change: Option<String>,
}

impl TryFrom<store::Verification> for Verification {
    type Error = Problem;

    fn try_from(kept: store::Verification) -> Result<Self, Problem> {
        let store::Verification { record, key, envelope } = kept;
        let envelope = RawValue::from_string(envelope)
            .map_err(|_| Problem::new(Kind::Internal, "a verification is damaged"))?;
        let Record { id, release, change, tenant, ci, claim, occasion, seen, verdict, .. } = record;
        let told = verdict.to_string();
        Ok(Self {
            id,
            tenant,
            ci,
            change,
            release,
            occasion,
            because: (!told.is_empty()).then_some(told),
            verdict,
            claim,
            seen,
            policy: record.policy,
            knowledge: record.knowledge,
            verified_at: record.verified_at,
            key,
            envelope,
        })
    }
}

/// List what looks at items came to after orders, the newest first. With `ci`, an item's compliance history.
#[utoipa::path(get, path = "/verifications", tag = "releases", params(Wanted, Paging),
    responses((status = 200, body = Listed<Verification>), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Query(wanted): Query<Wanted>,
    Query(paging): Query<Paging>,
) -> Result<Json<Listed<Verification>>, Problem> {
    let filter = match (wanted.ci, wanted.change) {
        (None, None) => VerificationFilter::All,
        (Some(ci), None) => VerificationFilter::Item(given("ci", &ci)?),
        (None, Some(change)) => VerificationFilter::Change(given("change", &change)?),
        (Some(_), Some(_)) => {
            return Err(Problem::new(Kind::Invalid, "both an item and a change are asked for")
                .help("ask for one of them; an item's list names the change of each"));
        }
    };
    let page = app.store.verifications(&by, filter, &paging.request()?).await?;
    Ok(Json(Listed::tried(page)?))
}

/// Read what a look at an item came to.
#[utoipa::path(get, path = "/verifications/{id}", tag = "releases", params(("id" = String, Path)),
    responses((status = 200, body = Verification), Problems))]
async fn read(
    State(app): State<App>,
    By(by): By<{ Action::ChangeRead as usize }>,
    Path(id): Path<VerificationId>,
) -> Result<Json<Verification>, Problem> {
    Ok(Json(app.store.verification(&by, id).await?.try_into()?))
}

/// Read the key with which the verifier signs.
#[utoipa::path(get, path = "/verifications/key", tag = "releases",
    responses((status = 200, body = VerifierKey), Problems))]
async fn key(
    State(app): State<App>,
    _by: By<{ Action::ChangeRead as usize }>,
) -> Json<VerifierKey> {
    Json(VerifierKey { id: app.verifier.id(), public_key: app.verifier.to_string() })
}
