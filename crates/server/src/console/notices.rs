//! What tenants are told: the inbox, one notice as it is read, and the channels.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{ChannelId, NoticeId, TenantId};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{
    Actor, CLOCKS, Channel, ChannelRecord, DRIFT, Delivery, DeliveryState, NoticeFilter, NoticeRow,
};

use super::clocks::{chosen, tenant_field};
use super::feeds;
use super::fleet::part;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::{away, moment, moment_away};
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::{self, Path, Query};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// Which notices are listed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    after: String,
}

/// From where somebody says that they read a notice, to be back there.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    unread: bool,
}

/// The inbox, the newest first.
pub(super) async fn notices(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::NoticeRead)?;
    let tenant = chosen(&app, &by, &wanted.tenant).await?;
    let filter = NoticeFilter {
        tenant: tenant.as_ref().map(|it| it.id),
        change: None,
        unread: wanted.unread,
    };
    let list = app.store.notices(&by, &filter, &part(&wanted.after, ROWS)?).await?;
    let ids: Vec<NoticeId> = list.items.iter().map(|row| row.id).collect();
    let inbox = Inbox {
        deliveries: app.store.deliveries_of(&by, &ids).await?,
        tenants: names::tenants(&app, &by, list.items.iter().map(|row| row.tenant)).await?,
        reads: reads(&app, caller.as_ref(), &by),
        of_all: by.scope().is_none(),
        unread: wanted.unread,
        now: app.store.environment().now(),
    };
    let unread = app.store.unread_notices(&by).await?;
    let whose = tenant.as_ref().map_or(by.tenant(), |it| it.id);
    let feeds = if let Some(caller) = &caller {
        feeds::section(&app, caller, &by, whose, inbox.now).await?
    } else {
        html! {}
    };
    let channels = channels(&app, caller, &by, whose, inbox.now).await?;
    Ok(page(
        "/notices",
        "Notices",
        &html! {
            h1 { (verdict(unread, inbox.of_all)) }
            p.lead { "What is told of each change: before it, at its start and at its end. Saying that one \
                read it agrees to nothing." }
            (wanted.choices())
            @if inbox.of_all {
                form.filter method="get" action="/notices" {
                    (tenant_field(&app, &by, &wanted.tenant).await?)
                    @if wanted.unread { input type="hidden" name="unread" value="true"; }
                    button { "Show" }
                }
            }
            @if list.items.is_empty() {
                p.empty { @if wanted.unread { "Everything was read." } @else { "Nothing was told yet. The \
                    first notice comes with the first plan." } }
            } @else {
                (inbox.table(&list.items))
            }
            @if let Some(next) = &list.next { p { a href=(wanted.link(wanted.unread, &next.to_string())) { "More" } } }
            (channels)
            (feeds)
            (elsewhere(&format!("/notices{}", request(&filter))))
        },
    ))
}

/// The same choice as a request's query.
fn request(filter: &NoticeFilter) -> String {
    let tenant = filter.tenant.map(|id| format!("tenant={id}"));
    let unread = filter.unread.then(|| "unread=true".to_owned());
    let parts: Vec<_> = tenant.into_iter().chain(unread).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// What is left to read of one's own; the provider's list shows everybody's.
fn verdict(unread: u64, of_all: bool) -> String {
    match unread {
        0 if of_all => "Notices".to_owned(),
        0 => "You have read all notices.".to_owned(),
        1 => "1 notice is to be read.".to_owned(),
        more => format!("{more} notices are to be read."),
    }
}

/// The tenant whose notices somebody may say to have read.
fn reads(app: &App, caller: Option<&Caller>, by: &Actor) -> Option<TenantId> {
    let may = caller.is_some_and(|it| app.gate.permits(it, Action::NoticeAcknowledge));
    may.then(|| by.tenant())
}

impl Wanted {
    /// The same list, all of it or what is unread, from a place on. Short names and cursors need no
    /// escapes.
    fn link(&self, unread: bool, after: &str) -> String {
        let tenant = (!self.tenant.is_empty()).then(|| format!("tenant={}", self.tenant));
        let unread = unread.then(|| "unread=true".to_owned());
        let after = (!after.is_empty()).then(|| format!("after={after}"));
        let parts: Vec<_> = tenant.into_iter().chain(unread).chain(after).collect();
        if parts.is_empty() {
            "/notices".to_owned()
        } else {
            format!("/notices?{}", parts.join("&"))
        }
    }

    fn choices(&self) -> Markup {
        html! {
            nav.tabs aria-label="Which notices" {
                a href=(self.link(false, "")) aria-current=[(!self.unread).then_some("true")] { "All" }
                a href=(self.link(true, "")) aria-current=[self.unread.then_some("true")] { "Unread" }
            }
        }
    }
}

/// What stands beside the notices of a list.
struct Inbox {
    deliveries: BTreeMap<NoticeId, Vec<Delivery>>,
    tenants: Names<TenantId>,
    reads: Option<TenantId>,
    of_all: bool,
    unread: bool,
    now: Timestamp,
}

impl Inbox {
    fn table(&self, rows: &[NoticeRow]) -> Markup {
        html! {
            div.wide { table.stack {
                thead { tr { th { "Notice" } @if self.of_all { th { "To" } } th { "Told" } th { "Reached" }
                    th { "Read" } } }
                tbody { @for row in rows { (self.row(row)) } }
            } }
        }
    }

    fn row(&self, row: &NoticeRow) -> Markup {
        let is_unread = row.acknowledged_at.is_none();
        let deliveries = self.deliveries.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        html! { tr class=[is_unread.then_some("unread")] {
            td { (kind(&row.kind)) " " br;
                a href={ "/notices/" (row.id) } { (title(row)) } }
            @if self.of_all { td data-label="To" { (names::of(&self.tenants, &row.tenant)) } }
            td data-label="Told" { (moment(row.created_at)) " " br; span.quiet { (away(row.created_at, self.now)) } }
            td data-label="Reached" { (reached(row, deliveries, self.now)) }
            td data-label="Read" { (read(row, self.reads, self.unread, self.now)) }
        } }
    }
}

/// What a notice is about; a notice that cannot be read says so.
fn title(row: &NoticeRow) -> String {
    api::notices::title(row).unwrap_or_else(|| "? a notice that cannot be read".to_owned())
}

/// What kind of notice it is, with its sign.
fn kind(word: &str) -> Markup {
    html! { @match word {
        "planned" => "○ Planned",
        "reminder" => "○ Reminder",
        "emergency" => span.critical { "! Emergency" },
        "lapsed" => span.outdated { "! Answer overdue" },
        "started" => "… Started",
        "completed" => span.latest { "✓ Completed" },
        "delayed" => span.near { "! Delayed" },
        "cancelled" => span.quiet { "– Cancelled" },
        "failed" => span.outdated { "✗ Failed" },
        "disputed" => span.critical { "! Disputed" },
        CLOCKS => span.near { "! Clocks" },
        DRIFT => span.critical { "! Drift" },
        other => (other),
    } }
}

/// Where a notice arrived, and when.
fn reached(row: &NoticeRow, deliveries: &[Delivery], now: Timestamp) -> Markup {
    html! {
        @if deliveries.is_empty() { span.latest { "✓ console" } }
        @for (place, it) in deliveries.iter().enumerate() {
            @if place > 0 { " " br; }
            @match (it.state, it.ended_at) {
                (DeliveryState::Delivered, Some(at)) => {
                    span.latest { "✓ " (it.kind) } " " span.quiet { (away(at, now)) }
                }
                (DeliveryState::Delivered, None) => span.latest { "✓ " (it.kind) },
                (DeliveryState::GivenUp, _) => span.outdated { "✗ " (it.kind) " given up" },
                (DeliveryState::Waiting, _) => span.near { "… " (it.kind) " waits" },
            }
        }
        @if row.given_at.is_none() { " " br; span.unknown { "? not given yet" } }
    }
}

/// Whether it was read; a button for who may say so.
fn read(row: &NoticeRow, reads: Option<TenantId>, unread: bool, now: Timestamp) -> Markup {
    html! {
        @match row.acknowledged_at {
            Some(at) => span class="quiet when" { "✓ " (away(at, now)) },
            None if reads == Some(row.tenant) => {
                form method="post" action={ "/notices/" (row.id) "/acknowledge" } {
                    @if unread { input type="hidden" name="unread" value="true"; }
                    button.quiet aria-label={ "I have read: " (title(row)) } { "I have read it" }
                }
            }
            None => span.near { "● unread" },
        }
    }
}

/// The notices of one obligation, the newest first.
pub(super) fn of_obligation(rows: &[NoticeRow], now: Timestamp) -> Markup {
    html! {
        h2 { "Notices of it" }
        @if rows.is_empty() { p.quiet { "The tenant was told nothing of it yet." } }
        ul { @for row in rows { li {
            a href={ "/notices/" (row.id) } { (kind(&row.kind)) } " " span.quiet { (moment_away(row.created_at, now)) }
            @match row.acknowledged_at {
                Some(_) => span.quiet { " · read" },
                None => { " · " span.near { "● unread" } },
            }
            @if row.given_at.is_none() { " · " span.unknown { "? not given yet" } }
        } } }
    }
}

/// One notice, as its tenant gets it.
pub(super) async fn notice(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<NoticeId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::NoticeRead)?;
    let row = app.store.notice(&by, id).await?;
    let unreadable = |error: String| {
        tracing::error!(error, notice = %id, "a kept notice cannot be read");
        Problem::new(Kind::Internal, "the notice cannot be read; the server's log says why")
    };
    let message = app.notices.message(&row).map_err(unreadable)?;
    let deliveries = app.store.deliveries(&by, id).await?;
    let tenants = names::tenants(&app, &by, std::iter::once(row.tenant)).await?;
    let reader = row.acknowledged_by.as_deref();
    let people = names::people(&app, &by, reader.into_iter()).await?;
    let now = app.store.environment().now();
    Ok(page(
        "/notices",
        message.subject.as_str(),
        &html! {
            h1 { (message.subject.as_str()) }
            p.lead { (kind(&row.kind)) " · to " (names::of(&tenants, &row.tenant)) " · "
                (moment_away(row.created_at, now)) " · "
                @match row.change {
                    Some(change) => a href={ "/obligations/" (change) "/" (row.tenant) } { "plan, dates and clock" },
                    None if row.kind == DRIFT => a href="/drifts" { "all drifts" },
                    None => a href="/clocks" { "all clocks" },
                } }
            @match (reader, row.acknowledged_at) {
                (Some(by), Some(at)) => p { span.latest { "✓ Read" } " by " (names::of(&people, &by.to_owned()))
                    " " span.quiet { (moment_away(at, now)) } },
                _ => (read(&row, reads(&app, caller.as_ref(), &by), false, now)),
            }
            pre.letter { (message.text) }
            h2 { "How it arrived" }
            (arrived(&row, &deliveries, now))
            (elsewhere(&format!("/notices/{id}")))
        },
    ))
}

fn arrived(row: &NoticeRow, deliveries: &[Delivery], now: Timestamp) -> Markup {
    html! {
        p { @match row.given_at {
            Some(at) => { "It counts as given since " (moment_away(at, now)) "."
                @if row.plan.is_some() { " Lead times begin then." } },
            None => { span.unknown { "? Not given yet" } ": no channel has taken it."
                @if row.plan.is_some() { " Its lead time has not begun." } },
        } }
        @if deliveries.is_empty() {
            p.quiet { "It is in the console alone; there was no channel." }
        } @else {
            div.wide { table.stack {
                thead { tr { th { "Channel" } th { "Stands" } th { "Tries" } th { "Last answer" } } }
                tbody { @for it in deliveries { tr {
                    td { (it.kind) " " span.mono { (it.address) } }
                    td data-label="Stands" { @match it.state {
                        DeliveryState::Delivered => span.latest { "✓ delivered" },
                        DeliveryState::GivenUp => span.outdated { "✗ given up" },
                        DeliveryState::Waiting => { span.near { "… waits" }
                            @if let Some(at) = it.next_at { span.quiet { " · tried " (away(at, now)) } } }
                    }
                    @if let Some(at) = it.ended_at { " " br; span.quiet { (moment_away(at, now)) } } }
                    td data-label="Tries" { (it.attempts) }
                    td.quiet data-label="Last answer" { (it.answer.as_deref().unwrap_or("–")) }
                } } }
            } }
        }
    }
}

/// Says for one's own tenant that a notice was read.
pub(super) async fn acknowledge(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<NoticeId>,
    axum::Form(back): axum::Form<Back>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::NoticeAcknowledge)?;
    app.store.acknowledge_notice(&by, id).await?;
    let list = Wanted::default().link(back.unread, "");
    Ok(Redirect::to(&list).into_response())
}

/// Where a tenant is told beside the console, and how that goes.
async fn channels(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Markup, Refusal> {
    if !caller.is_some_and(|it| app.gate.permits(&it, Action::ChannelRead)) {
        return Ok(html! {});
    }
    let channels = app.store.channels(by, tenant).await?;
    let records = app.store.channel_records(by, tenant).await?;
    let names = names::tenants(app, by, std::iter::once(tenant)).await?;
    Ok(html! {
        h2 { "Where " (names::of(&names, &tenant)) " is told" }
        @if channels.is_empty() {
            p.empty { "In the console alone: who does not look here is not told." }
        } @else {
            (listed(&channels, &records, now))
        }
        p.quiet { "Owners add one with " code { "patchwright channel add ADDRESS" } " or "
            code { "POST /api/v1/tenants/" (tenant) "/channels" } "." }
    })
}

fn listed(
    channels: &[Channel],
    records: &BTreeMap<ChannelId, ChannelRecord>,
    now: Timestamp,
) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th { "Channel" } th { "State" } th { "Last delivered" } th { "Dead letters" } } }
            tbody { @for channel in channels {
                @let record = records.get(&channel.id);
                tr {
                    td { (channel.kind) " " span.mono { (channel.kind.shown(&channel.address)) }
                        @if let Some(language) = &channel.language { " " span.quiet { "in " (language) } }
                        @if !channel.is_own { " " span.quiet { "copies, by the provider" } } }
                    td data-label="State" { (working(record)) }
                    td data-label="Last delivered" { @match record.and_then(|it| it.delivered_at) {
                        Some(at) => (moment_away(at, now)), None => span.quiet { "never" },
                    } }
                    td data-label="Dead letters" { @match record.map_or(0, |it| it.given_up) {
                        0 => span.quiet { "none" },
                        count => { span.outdated { (count) " given up" }
                            @if let Some(at) = record.and_then(|it| it.given_up_at) {
                                span.quiet { ", the last " (away(at, now)) }
                            } }
                    } }
                }
            } }
        } }
    }
}

/// Whether a channel takes what is sent to it; unknown before anything was.
fn working(record: Option<&ChannelRecord>) -> Markup {
    html! { @match record {
        Some(record) if record.retried > 0 => span.outdated { "✗ failing: " (record.retried) " tried again" },
        Some(record) if record.given_up_at > record.delivered_at => span.outdated { "✗ failing" },
        Some(record) if record.delivered_at.is_some() => span.latest { "✓ working" },
        _ => span.unknown { "? nothing was sent yet" },
    } }
}
