//! `/obligations/…/evidence` and `…/re-evaluation`: what an emergency asks for beside the patch.

use axum::Json;
use axum::extract::State;
use domain::change::{FileHash, Reason};
use domain::sla::Errand;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{ErrandRecord, Move};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::obligations::{Obligation, Which, advance};
use super::{Body, Problems, given};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(save_evidence)).routes(routes!(re_evaluate))
}

/// What one of the provider's people did of what is owed beside a patch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrandView {
    /// `evidence` or `re_evaluation`.
    #[schema(value_type = String)]
    pub(crate) errand: Errand,
    /// What was saved and where it is kept, or what came of the evaluation.
    #[schema(value_type = String)]
    pub(crate) said: Reason,
    /// SHA-256 of what was saved.
    #[schema(value_type = Option<String>)]
    pub(crate) sha256: Option<FileHash>,
    pub(crate) recorded_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) recorded_at: Timestamp,
}

impl From<ErrandRecord> for ErrandView {
    fn from(record: ErrandRecord) -> Self {
        let ErrandRecord { errand, said, sha256, recorded_by, recorded_at } = record;
        Self { errand, said, sha256, recorded_by, recorded_at }
    }
}

/// Evidence that was saved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvidenceRequest {
    /// What was saved, and where it is kept.
    #[schema(min_length = 1, max_length = 2000)]
    what: String,
    /// Its SHA-256.
    sha256: String,
}

/// What came of judging a patch again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReEvaluationRequest {
    /// In a paragraph.
    #[schema(min_length = 1, max_length = 2000)]
    conclusion: String,
}

/// Record that what a patch may wipe was saved, before it is installed. In an emergency the plan does not
/// start before that, until the policy's time for it is over.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/evidence", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = EvidenceRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn save_evidence(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(EvidenceRequest { what, sha256 }): Body<EvidenceRequest>,
) -> Result<Json<Obligation>, Problem> {
    let (what, sha256) = (given("what", &what)?, given("sha256", &sha256)?);
    advance(&app, &by, &which, Move::SaveEvidence { what, sha256 }).await
}

/// Record what came of judging a patch again after an emergency.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/re-evaluation", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = ReEvaluationRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn re_evaluate(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(ReEvaluationRequest { conclusion }): Body<ReEvaluationRequest>,
) -> Result<Json<Obligation>, Problem> {
    let conclusion = given("conclusion", &conclusion)?;
    advance(&app, &by, &which, Move::ReEvaluate { conclusion }).await
}
