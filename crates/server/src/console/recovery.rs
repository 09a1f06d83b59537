//! A warning of a key that owners ask for without a signature.

use maud::{Markup, html};
use store::{Actor, StoreError};

use super::names;
use super::times::moment_away;
use crate::App;
use crate::caller::Caller;
use crate::gate::Action;

/// A line for the people of a tenant whose key is being recovered: whoever did not ask for it has to
/// object, and nobody can who does not know.
pub(super) async fn warning(
    app: &App,
    caller: Option<&Caller>,
    by: &Actor,
) -> Result<Markup, StoreError> {
    let may_see = caller.is_some_and(|it| app.gate.permits(it, Action::ConsentRead));
    let Some(tenant) = by.scope().filter(|_| may_see) else { return Ok(html! {}) };
    let (ring, _) = app.store.key_ring(by, tenant).await?;
    let Some(recovery) = ring.recovery() else { return Ok(html! {}) };
    let owners = [Some(recovery.asked_by), recovery.agreed_by].into_iter().flatten();
    let owners: Vec<_> = owners.map(|owner| owner.to_string()).collect();
    let people = names::people(app, by, owners.iter().map(String::as_str)).await?;
    let now = app.store.environment().now();
    Ok(html! {
        p.problem role="alert" {
            strong { "A key for your tenant is asked for without a signature" } ", by "
            @for (at, owner) in owners.iter().enumerate() {
                @if at > 0 { " and " } (names::of(&people, owner))
            }
            @match recovery.completes_at {
                Some(at) => { ". It can come into force at " (moment_away(at, now))
                    ", and ends all keys before it" }
                None => ". Once another owner asks for it as well, it comes into force 72 hours later",
            }
            ". Whoever did not want that objects: "
            code { "patchwright consent key recover object" } ". The key: "
            code { (recovery.key.id) }
        }
    })
}
