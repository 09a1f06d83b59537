//! `/obligations/…/interruptions`: what stands in the way of both sides, on whose word.

use axum::Json;
use axum::extract::State;
use domain::sla::{Cause, Interruption};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{InterruptionClaim, Matter, Move};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::obligations::{Obligation, Which, advance};
use super::{Body, Problems};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(interrupt))
}

/// Something that stood in the way: that time is booked to nobody, on somebody's word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InterruptionView {
    /// `vendor`, `host_unreachable`, `change_freeze`, or `refusal`: the tenant's own answer.
    #[schema(value_type = String)]
    pub(crate) cause: Cause,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    /// Who of the provider's people said so; nobody where it follows from what the tenant signed.
    pub(crate) claimed_by: Option<String>,
    /// When they did.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) claimed_at: Option<Timestamp>,
}

/// What stood in the way of an obligation, each with who said so.
pub(crate) fn interruptions(
    matter: &Matter,
    claims: &[InterruptionClaim],
) -> Vec<InterruptionView> {
    let case = matter.obligation.case(&matter.policy);
    let view = |it: &Interruption| {
        let is_it = |claim: &&InterruptionClaim| {
            claim.cause == it.cause && claim.from.as_microsecond() == it.from.as_microsecond()
        };
        let claim = claims.iter().find(is_it);
        InterruptionView {
            cause: it.cause,
            from: it.from,
            until: it.until,
            claimed_by: claim.map(|claim| claim.claimed_by.clone()),
            claimed_at: claim.map(|claim| claim.claimed_at),
        }
    };
    case.interruptions.iter().map(view).collect()
}

/// Something that stands in the way of both sides.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InterruptRequest {
    /// `vendor` or `host_unreachable`; a freeze is agreed in the policy's calendar.
    #[schema(value_type = String)]
    cause: Cause,
    /// Within the 24 hours before now, and after the patch was collected.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Left out while it lasts; sent later with the same `from` to end it.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Say what stands in the way of both sides: that time is nobody's. It is the provider's own word, and
/// kept as that, with who said so and when.
#[utoipa::path(post, path = "/obligations/{id}/{tenant}/interruptions", tag = "changes",
    params(("id" = String, Path), ("tenant" = String, Path)), request_body = InterruptRequest,
    responses((status = 200, body = Obligation), Problems))]
async fn interrupt(
    State(app): State<App>,
    By(by): By<{ Action::ChangeReport as usize }>,
    which: Which,
    Body(InterruptRequest { cause, from, until }): Body<InterruptRequest>,
) -> Result<Json<Obligation>, Problem> {
    // As exactly as instants are kept.
    let kept = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    let (from, until) = (kept(from), until.map(kept));
    if until.is_some_and(|until| until <= from) {
        return Err(Problem::new(Kind::Invalid, "`until` is not after `from`"));
    }
    advance(&app, &by, &which, Move::Interrupt(Interruption { cause, from, until })).await
}
