//! A tenant's changes in somebody's own calendar or reader: who subscribes, and new addresses.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{Name, TenantId};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, Token};

use super::times::{away, moment, moment_away};
use super::{Refusal, page, pass};
use crate::App;
use crate::api::feeds::{addresses, made};
use crate::api::tokens::whose;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// How long an address made here is good.
const DAYS: u16 = 366;

/// What is to be subscribed, and by which program.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    tenant: String,
    name: String,
}

/// Which address is to open nothing any more.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    id: String,
}

/// The addresses of a tenant's changes that somebody may see, and a new one.
pub(super) async fn section(
    app: &App,
    caller: &Caller,
    by: &Actor,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Markup, Refusal> {
    if !app.gate.permits(caller, Action::TokenRead) {
        return Ok(html! {});
    }
    let feeds = app.store.feeds(by, whose(app, caller), tenant).await?;
    let ends = app.gate.permits(caller, Action::TokenRevoke);
    Ok(html! {
        h2 { "In your calendar" }
        p.quiet { "Calendars and readers subscribe to an address of your own. Whoever has it reads these \
            notices: give each program its own." }
        @if !feeds.is_empty() { (listed(&feeds, ends, now)) }
        @if app.gate.permits(caller, Action::TokenCreate) {
            form.filter method="post" action="/notices/feeds" {
                input type="hidden" name="tenant" value=(tenant);
                label { "For" input name="name" required maxlength="120" placeholder="calendar on my phone"; }
                button { "Make an address" }
            }
        }
    })
}

fn listed(feeds: &[Token], ends: bool, now: Timestamp) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th { "For" } th { "Made" } th { "Last fetched" } th { "Until" } th {} } }
            tbody { @for feed in feeds { tr {
                td { (feed.name) }
                td data-label="Made" { (moment(feed.created_at)) }
                td data-label="Last fetched" { @match feed.used_at {
                    Some(at) => (moment_away(at, now)), None => span.quiet { "never" },
                } }
                td data-label="Until" {
                    @if feed.expires_at <= now { span.outdated { "✗ ran out " (away(feed.expires_at, now)) } }
                    @else { (moment(feed.expires_at)) }
                }
                td { @if ends {
                    form method="post" action="/notices/feeds/end" {
                        input type="hidden" name="id" value=(feed.id);
                        button.quiet aria-label={ "End: " (feed.name) } { "End" }
                    }
                } }
            } } }
        } }
    }
}

/// Makes an address, and tells it this once.
pub(super) async fn make(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(wanted): axum::Form<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::TokenCreate)?;
    let caller = caller.ok_or_else(Problem::unauthenticated)?;
    let tenant = wanted.tenant.parse().map_err(|_| Problem::not_found("such tenant"))?;
    let name: Name = wanted
        .name
        .parse()
        .map_err(|error| Problem::new(Kind::Invalid, format!("the name: {error}")))?;
    let (feed, secret) = made(&app, &caller, &by, tenant, name, DAYS).await?;
    let [calendar, atom] = addresses(&app, &secret);
    Ok(page(
        "/notices",
        "Subscribe",
        &html! {
            h1 { "Subscribe with " (feed.name) }
            p.lead { "These addresses are told this once. Each opens the notices to whoever has it." }
            h2 { "For calendars" }
            p { code.mono { (calendar) } }
            h2 { "For readers" }
            p { code.mono { (atom) } }
            p { a href="/notices" { "Back to the notices" } }
        },
    ))
}

/// Ends an address.
pub(super) async fn end(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(which): axum::Form<Which>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::TokenRevoke)?;
    let caller = caller.ok_or_else(Problem::unauthenticated)?;
    let id = which.id.parse().map_err(|_| Problem::not_found("such address"))?;
    app.store.revoke_token(&by, whose(&app, &caller), id).await?;
    Ok(Redirect::to("/notices").into_response())
}
