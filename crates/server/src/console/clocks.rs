//! The clocks of the SLA: what is overdue or about to be, and who holds the ball.

use axum::extract::State;
use domain::cloud::{Slug, TenantId};
use domain::sla::Party;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, ClockFilter, ClockRow, ClockStanding, ClockTotals, PageRequest, StoreError};

use super::course::errand;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::{away, moment, moment_away};
use super::{Refusal, elsewhere, page, pass, recovery};
use crate::App;
use crate::api::Query;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// Which clocks are listed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    overdue: bool,
}

/// What is open, the earliest due first.
pub(super) async fn clocks(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeRead)?;
    let warning = recovery::warning(&app, caller.as_ref(), &by).await?;
    let tenant = chosen(&app, &by, &wanted.tenant).await?;
    let filter = ClockFilter {
        tenant: tenant.as_ref().map(|it| it.id),
        overdue: wanted.overdue,
        ..ClockFilter::default()
    };
    let rows = app.store.clocks(&by, &filter, ROWS).await?;
    let totals = app.store.clock_totals(&by).await?;
    let of_all = by.scope().is_none();
    let names = names::tenants(&app, &by, rows.iter().map(|row| row.tenant)).await?;
    let now = app.store.environment().now();
    let query = request(&filter);
    Ok(page(
        "/clocks",
        "Clocks",
        &html! {
            (warning)
            h1 { (verdict(&totals)) }
            p.lead { "What is open, the earliest due first, and who holds the ball." }
            (figures(&totals))
            form.filter method="get" action="/clocks" {
                @if of_all { (tenant_field(&app, &by, &wanted.tenant).await?) }
                label.check { input type="checkbox" name="overdue" value="true" checked[wanted.overdue];
                    "Overdue only" }
                button { "Show" }
            }
            @if rows.is_empty() {
                p.empty { @if wanted.overdue { "No clock that is shown here is overdue." }
                    @else { "Nothing is open here. A clock starts when a patch is found missing." } }
            } @else {
                (table(&rows, of_all.then_some(&names), now))
            }
            @if rows.len() == usize::from(ROWS) {
                p.quiet { "The first " (ROWS) " of them; choose a tenant, or see the request below." }
            }
            (elsewhere(&format!("/clocks{query}")))
        },
    ))
}

/// Clocks and notices at a glance, for the overview.
pub(super) async fn glance(
    app: &App,
    caller: Option<&Caller>,
    by: &Actor,
) -> Result<Markup, StoreError> {
    let may = |action| caller.is_some_and(|it| app.gate.permits(it, action));
    let totals =
        if may(Action::ChangeRead) { Some(app.store.clock_totals(by).await?) } else { None };
    let unread = if may(Action::NoticeRead) { app.store.unread_notices(by).await? } else { 0 };
    Ok(html! {
        h2 { "Clocks and notices" }
        p.glance {
            @match totals {
                Some(totals) => (told(&totals)),
                None => span.unknown { "? You may not see the clocks" },
            }
            @if unread > 0 {
                a href="/notices?unread=true" { span.near { "● " (unread) @if unread == 1 { " notice" } @else { " notices" } " to read" } }
            }
        }
    })
}

fn told(totals: &ClockTotals) -> Markup {
    let ClockTotals { overdue, near, in_time, unknown } = *totals;
    html! {
        @if overdue > 0 { a href="/clocks?overdue=true" { span.outdated { "✗ " (overdue) " overdue" } } }
        @if unknown > 0 { a href="/clocks" { span.unknown { "? " (unknown) " unknown" } } }
        @if near > 0 { a href="/clocks" { span.near { "! " (near) " near" @if near == 1 { " its date" } @else { " their dates" } } } }
        @if in_time > 0 { a href="/clocks" { span.latest { "✓ " (in_time) " in time" } } }
        @if overdue + unknown + near + in_time == 0 { span.quiet { "No clock is running" } }
    }
}

/// The same choice as a request's query.
fn request(filter: &ClockFilter) -> String {
    let tenant = filter.tenant.map(|id| format!("tenant={id}"));
    let overdue = filter.overdue.then(|| "overdue=true".to_owned());
    let parts: Vec<_> = tenant.into_iter().chain(overdue).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// The tenant that somebody chose by its short name, or that a link names by its id.
pub(super) async fn chosen(
    app: &App,
    by: &Actor,
    slug: &str,
) -> Result<Option<store::Tenant>, Problem> {
    if slug.is_empty() {
        return Ok(None);
    }
    if let Ok(id) = slug.parse::<TenantId>() {
        return Ok(Some(app.store.tenant(by, id).await?));
    }
    let slug: Slug = slug.parse().map_err(|_| Problem::not_found("such tenant"))?;
    Ok(Some(app.store.tenant_by_slug(by, &slug).await?))
}

/// Where somebody of the provider chooses a tenant.
pub(super) async fn tenant_field(app: &App, by: &Actor, chosen: &str) -> Result<Markup, Problem> {
    let request = PageRequest { after: None, limit: store::LONGEST_PAGE };
    let tenants = app.store.tenants(by, &request).await?.items;
    Ok(html! {
        label { "Tenant" input name="tenant" value=(chosen) list="tenants"; }
        datalist id="tenants" {
            @for tenant in &tenants { option value=(tenant.slug) { (tenant.name) } }
        }
    })
}

fn verdict(totals: &ClockTotals) -> String {
    let ClockTotals { overdue, near, in_time, unknown } = *totals;
    match (overdue, unknown, near, in_time) {
        (0, 0, 0, 0) => "No clock is running.".to_owned(),
        (0, 0, 0, _) => "Every clock is in time.".to_owned(),
        (0, 0, 1, _) => "Nothing is overdue; 1 clock is near its date.".to_owned(),
        (0, 0, near, _) => format!("Nothing is overdue; {near} clocks are near their dates."),
        (0, unknown, ..) => format!("Nothing is known to be overdue; unknown: {unknown}."),
        (1, 0, ..) => "1 clock is overdue.".to_owned(),
        (overdue, 0, ..) => format!("{overdue} clocks are overdue."),
        (overdue, unknown, ..) => format!("{overdue} overdue; unknown: {unknown}."),
    }
}

/// How many clocks stand how.
pub(super) fn figures(totals: &ClockTotals) -> Markup {
    html! {
        dl.figures {
            div { dd class=[(totals.overdue > 0).then_some("outdated")] { (totals.overdue) } dt { "✗ overdue" } }
            div { dd class=[(totals.near > 0).then_some("near")] { (totals.near) } dt { "! near their dates" } }
            div { dd { (totals.in_time) } dt { "✓ in time" } }
            @if totals.unknown > 0 { div { dd.unknown { (totals.unknown) } dt { "? unknown" } } }
        }
    }
}

fn table(rows: &[ClockRow], names: Option<&Names<TenantId>>, now: Timestamp) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr {
                th { "Change" }
                @if names.is_some() { th { "Tenant" } }
                th { "Priority" } th { "Stands" } th { "Due" } th { "Waits for" }
            } }
            tbody { @for row in rows { tr {
                td { a href=(obligation(row)) { (row.title) } }
                @if let Some(names) = names { td data-label="Tenant" { (names::of(names, &row.tenant)) } }
                td class=(row.priority) data-label="Priority" { (row.priority) }
                td data-label="Stands" { (standing(row, now)) }
                td data-label="Due" { (due(row.due, now)) }
                td data-label="Waits for" { (awaited(row, now)) }
            } } }
        } }
    }
}

/// Where an obligation has its page.
pub(super) fn obligation(row: &ClockRow) -> String {
    format!("/obligations/{}/{}", row.change, row.tenant)
}

pub(super) fn due(due: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @match due {
        Some(due) => { (moment(due)) " " br; span class={ "when " @if due <= now { "outdated" } @else { "quiet" } } { (away(due, now)) } }
        None => span.unknown { "? unknown" },
    } }
}

/// Who holds the ball, at which phase, and until when.
fn awaited(row: &ClockRow, now: Timestamp) -> Markup {
    html! {
        @match row.holder {
            Some(holder) => (party(holder)),
            None if row.is_settled => "nothing",
            None => span.unknown { "? nobody knows" },
        }
        span.quiet { " · " (spaced(&row.phase)) }
        @if let Some(until) = row.stage_deadline { " " br; span.quiet { "until " (moment_away(until, now)) } }
        @if let (Some(owed), Some(by)) = (row.owed, row.owed_by) {
            " " br; span class=(if by <= now { "outdated" } else { "quiet" }) {
                "the provider is to " (errand(owed)) " until " (moment_away(by, now))
            }
        }
    }
}

/// How a clock stands, in a word with its sign.
pub(super) fn standing(row: &ClockRow, now: Timestamp) -> Markup {
    let is_broken =
        !row.is_settled && (row.state == "breached" || row.due.is_some_and(|due| due <= now));
    html! { @match row.standing {
        ClockStanding::Overdue if is_broken => span.critical { "✗ due date passed" },
        ClockStanding::Overdue => span.outdated { "✗ overdue" },
        ClockStanding::Near => span.near { "! near" },
        ClockStanding::InTime => span.latest { "✓ in time" },
        ClockStanding::Unknown => span.unknown { "? unknown: not looked at in time" },
        ClockStanding::Settled => (settled(&row.state)),
    } }
}

fn settled(state: &str) -> Markup {
    html! { @match state {
        "met" => span.latest { "✓ done in time" },
        "breached" => span.outdated { "✗ due date missed" },
        _ => span.quiet { "– nothing left to do" },
    } }
}

pub(super) const fn party(party: Party) -> &'static str {
    match party {
        Party::Provider => "provider",
        Party::Tenant => "tenant",
        Party::Vendor => "vendor",
        Party::HostUnreachable => "systems that do not answer",
        Party::ChangeFreeze => "an agreed freeze",
    }
}

/// `rolling_out` for people.
pub(super) fn spaced(word: &str) -> String {
    word.replace('_', " ")
}
