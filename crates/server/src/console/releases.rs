//! The pages about releases: where a change goes out, in which order, and what waits for what.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::agent::AtWork;
use domain::cloud::{ChangeId, CiId, ReleaseId, TenantId};
use domain::release::{End, Hold, Mode, Phase, Tally, Turn};
use domain::verification::{Occasion, Verdict};
use jiff::Timestamp;
use maud::{Markup, html};
use store::{
    OrderFilter, OrderRow, PageRequest, Release, ReleaseRow, Snapshot, SnapshotFilter,
    SnapshotState, Verification, VerificationFilter,
};

use super::fleet::Part;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::{away, length, moment, moment_away};
use super::{Refusal, elsewhere, goes_on, page, pass};
use crate::App;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;

/// Turns that are shown of a release; the rest is in the API.
const TURNS: usize = 200;

/// Orders that are shown of a release or a change, the newest.
const ORDERS: u16 = 50;

/// Verifications of an item that are shown, the newest.
const VERIFICATIONS: u16 = 20;

/// Releases of a change that are shown, the newest.
const OF_CHANGE: u16 = 5;

/// All releases, the newest first.
pub(super) async fn releases(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(part): Query<Part>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ChangeRead)?;
    let list = app.store.releases(&by, None, &part.request(ROWS)?).await?;
    let now = app.store.environment().now();
    Ok(page(
        "/changes",
        "Releases",
        &html! {
            h1 { "Releases" }
            p.lead { "How changes go out over the fleet, wave by wave, the newest first." }
            @if list.items.is_empty() {
                p.empty { "There is no release that you may see. Plan one with " code {
                    "patchwright release plan CHANGE" } "." }
            } @else { (table(&list.items, now)) }
            @if let Some(next) = &list.next { p { a href={ "/releases?after=" (next) } { "More" } } }
            (elsewhere("/releases"))
        },
    ))
}

fn table(rows: &[ReleaseRow], now: Timestamp) -> Markup {
    html! { div.wide { table.stack {
        thead { tr { th { "Release" } th { "Stands" } th { "Change" } th { "Planned" } } }
        tbody { @for row in rows { tr {
            td { a.mono href={ "/releases/" (row.id) } { (row.id) } }
            td data-label="Stands" { (word(&row.mode, row.ended.as_deref())) }
            td data-label="Change" { a.mono href={ "/changes/" (row.change) } { (row.change) } }
            td class="quiet when" data-label="Planned" { (away(row.created_at, now)) }
        } } }
    } } }
}

/// The newest releases of a change, for who may see them.
pub(super) async fn of_change(
    app: &App,
    by: &store::Actor,
    change: ChangeId,
    now: Timestamp,
) -> Result<Markup, Refusal> {
    let request = PageRequest { after: None, limit: OF_CHANGE };
    let rows = app.store.releases(by, Some(change), &request).await?.items;
    Ok(html! { @if !rows.is_empty() { h2 { "Releases" } (table(&rows, now)) } })
}

/// How a release stands, in a word with its sign.
fn word(mode: &str, ended: Option<&str>) -> Markup {
    html! { @match (ended, mode) {
        (Some("released"), _) => span.latest { "✓ released" },
        (Some(end), _) => span.quiet { "– " (end.replace('_', " ")) },
        (None, "running") => { "… under way" },
        (None, "held") => span.outdated { "✗ held" },
        (None, other) => span.unknown { (other.replace('_', " ")) },
    } }
}

/// One release.
pub(super) async fn release(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<ReleaseId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ChangeRead)?;
    let release = app.store.release(&by, id).await?;
    let change = app.store.change(&by, release.change).await?;
    let layout = release.run.layout();
    let now = app.store.environment().now();
    let filter = OrderFilter { release: Some(id), ..OrderFilter::default() };
    let orders = app.store.orders(&by, &filter, ORDERS).await?;
    let filter = SnapshotFilter { release: Some(id), ci: None };
    let snapshots = app.store.snapshots(&by, filter, ORDERS).await?;
    let shown = layout.turns().take(TURNS).map(|turn| turn.ci);
    let shown = shown.chain(layout.unplaced().keys().copied().take(TURNS));
    let shown = shown.chain(orders.iter().map(|order| order.ci));
    let shown = shown.chain(snapshots.iter().map(|snapshot| snapshot.ci));
    let items = names::items(&app, &by, shown).await?;
    let tenants = names::tenants(&app, &by, layout.plans().keys().copied()).await?;
    let ended = release.run.ended().map(End::as_str);
    Ok(page(
        "/changes",
        "Release",
        &html! {
            h1 { "Release of " (change.title) }
            p.lead { (word(release.run.mode().as_str(), ended)) " · planned "
                (away(release.created_at, now)) " · "
                a href={ "/changes/" (release.change) } { "the change" } " · " span.mono { (id) } }
            (held(release.run.mode(), &tenants, &items))
            (tally(release.run.tally()))
            (waits(&release, &tenants, &items, now))
            h2 { "Waves" }
            (waves(&release))
            h2 { "Who, what and when" }
            (turns(&release, &tenants, &items, now))
            (left_out(&release, &items))
            h2 { "What tenants are asked" }
            ul { @for (tenant, plan) in layout.plans() { li {
                a href={ "/obligations/" (release.change) "/" (tenant) } { (names::of(&tenants, tenant)) }
                span.quiet { " · plan " } span.mono { (plan.hash()) }
            } } }
            (told(&orders, &items, now))
            (kept(&snapshots, &items, now))
            (elsewhere(&format!("/releases/{id}")))
            @if ended.is_none() { (goes_on()) }
        },
    ))
}

/// Why nothing more begins.
fn held(mode: &Mode, tenants: &Names<TenantId>, items: &Names<CiId>) -> Markup {
    let because = |hold: &Hold| {
        let why = names::in_words(&hold.to_string(), tenants, items);
        html! { p.outdated role="status" { (why) } }
    };
    html! { @match mode {
        Mode::Running => {},
        Mode::Held(hold) => {
            (because(hold))
            p { "Look at what failed, then " code { "patchwright release resume" } ", "
                code { "roll-back" } " or " code { "abort" } " it." }
        },
        Mode::RollingBack(hold) | Mode::Aborted(hold) => (because(hold)),
    } }
}

fn tally(tally: Tally) -> Markup {
    let parts = [
        (tally.done, "done and verified", "latest"),
        (tally.at_work, "at work", ""),
        (tally.waiting, "waiting", "quiet"),
        (tally.failed, "failed", "outdated"),
        (tally.silent, "silent", "unknown"),
        (tally.rolled_back, "back as before", "quiet"),
        (tally.skipped, "left out", "quiet"),
    ];
    html! { p { "Of " (tally.total()) @if tally.total() == 1 { " item: " } @else { " items: " }
        @for (place, (count, what, style)) in
            parts.into_iter().filter(|(count, ..)| *count > 0).enumerate() {
            @if place > 0 { " · " }
            span class=(style) { (count) " " (what) }
        }
    } }
}

/// What items wait for, the most frequent first.
fn waits(
    release: &Release,
    tenants: &Names<TenantId>,
    items: &Names<CiId>,
    now: Timestamp,
) -> Markup {
    let waits = release.run.waits(now);
    html! { @if release.run.ended().is_none() && !waits.is_empty() { ul {
        @for (waiting, count) in waits.iter().take(10) { li {
            (names::in_words(&waiting.to_string(), tenants, items))
            span.quiet { " · " (count) @if *count == 1 { " item" } @else { " items" } }
        } }
    } } }
}

fn waves(release: &Release) -> Markup {
    let at_work = release.run.wave();
    html! { div.wide { table.stack {
        thead { tr { th { "Wave" } th { "Items" } th { "Watched for" } th { "Holds at" } } }
        tbody { @for wave in release.run.layout().waves() { tr {
            td { @if wave.number == 0 { "canaries" } @else { (wave.number) }
                @if at_work == Some(wave.number) { " " span.quiet { "(at work)" } } }
            td data-label="Items" { (wave.size()) }
            td data-label="Watched for" {
                @if wave.soak.is_zero() { span.quiet { "–" } } @else { (length(wave.soak)) } }
            td.quiet data-label="Holds at" { "more than " (wave.gate.max_failed) " failed or "
                (wave.gate.max_silent) " silent" }
        } } }
    } } }
}

fn turns(
    release: &Release,
    tenants: &Names<TenantId>,
    items: &Names<CiId>,
    now: Timestamp,
) -> Markup {
    let layout = release.run.layout();
    let total = layout.turns().count();
    html! {
        div.wide { table.stack {
            thead { tr { th { "Item" } th { "Wave" } th { "Step" } th { "Planned for" } th { "Stands" } } }
            tbody { @for turn in layout.turns().take(TURNS) { tr {
                td { a href={ "/cis/" (turn.ci) } { (names::of(items, &turn.ci)) } }
                td data-label="Wave" { @if turn.wave == 0 { "canaries" } @else { (turn.wave) } }
                td data-label="Step" { (step(&turn)) }
                td.when data-label="Planned for" { (moment(turn.at)) }
                td data-label="Stands" { (stands(release, turn.ci))
                    @if let Some(waiting) = release.run.why(turn.ci, now) {
                        br; span.quiet { (names::in_words(&waiting.to_string(), tenants, items)) }
                    } }
            } } }
        } }
        @if total > TURNS { p.quiet { "The first " (TURNS) " of " (total) ": see the request below for more." } }
    }
}

fn step(turn: &Turn<'_>) -> Markup {
    html! { @match turn.step {
        domain::release::StepKind::Install => "installation",
        domain::release::StepKind::Reboot => "restart",
    } }
}

fn stands(release: &Release, ci: CiId) -> Markup {
    let Some(phase) = release.run.phase(ci) else { return html! {} };
    let name = phase.as_str().replace('_', " ");
    html! {
        @match phase {
            Phase::Done => span.latest { "✓ " (name) },
            Phase::Failed { fault } => span.outdated { "✗ " (fault.as_str().replace('_', " ")) },
            Phase::Skipped { why } => span.quiet { "– left out: " (why.as_str().replace('_', " ")) },
            Phase::RolledBack | Phase::Mended => span.quiet { (name) },
            _ => (name),
        }
    }
}

fn left_out(release: &Release, items: &Names<CiId>) -> Markup {
    let unplaced: BTreeMap<_, _> = release.run.layout().unplaced().iter().take(TURNS).collect();
    html! { @if !unplaced.is_empty() {
        h2 { "Not in it" }
        ul { @for (ci, because) in unplaced { li {
            a href={ "/cis/" (ci) } { (names::of(items, ci)) } ": " (because)
            span.quiet { " · " (because.help()) }
        } } }
    } }
}

/// What looks at an item came to after orders: its compliance history, the newest first.
pub(super) async fn of_item(
    app: &App,
    by: &store::Actor,
    ci: CiId,
    now: Timestamp,
) -> Result<Markup, Refusal> {
    let request = PageRequest { after: None, limit: VERIFICATIONS };
    let kept = app.store.verifications(by, VerificationFilter::Item(ci), &request).await?;
    Ok(html! { @if !kept.items.is_empty() {
        h2 { "Verified after orders" }
        div.wide { table.stack {
            thead { tr { th { "When" } th { "Occasion" } th { "Verdict" } th { "Change" } th { "Record" } } }
            tbody { @for Verification { record, .. } in &kept.items { tr {
                td.when { (moment_away(record.verified_at, now)) }
                td data-label="Occasion" { (occasion(record.occasion)) }
                td data-label="Verdict" { (verdict(&record.verdict)) }
                td data-label="Change" { a.mono href={ "/changes/" (record.change) } { (record.change) } }
                td data-label="Record" { span.mono { (record.id) } }
            } } }
        } }
        p.quiet { @if kept.next.is_some() { "The newest " (VERIFICATIONS) ". " }
            "Each is signed by the verifier and kept for ever: " code {
                "patchwright release verifications --ci " (ci) } "." }
    } })
}

fn occasion(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::AfterOrder => "after the order",
        Occasion::After24h => "a day later",
        Occasion::After7d => "a week later",
    }
}

/// What a look came to, in a word with its sign, and why.
fn verdict(verdict: &Verdict) -> Markup {
    let why = verdict.to_string();
    html! {
        @match verdict {
            Verdict::Verified { .. } => span.latest { "✓ verified" },
            Verdict::Conflict { .. } => span.outdated { "✗ conflict" },
            Verdict::Undecided { .. } => span.unknown { "? undecided" },
        }
        @if !why.is_empty() { br; span.quiet { (why) } }
    }
}

/// What agents were told, and what came of it.
pub(super) fn told(orders: &[OrderRow], items: &Names<CiId>, now: Timestamp) -> Markup {
    html! { @if !orders.is_empty() {
        h2 { "Orders" }
        div.wide { table.stack {
            thead { tr { th { "Item" } th { "Stage" } th { "Came to" } th { "When" } } }
            tbody { @for order in orders { tr {
                td { a href={ "/cis/" (order.ci) } { (names::of(items, &order.ci)) } }
                td data-label="Stage" { (order.stage + 1) }
                td data-label="Came to" { (came(order))
                    @if let Some(reason) = &order.reason { br; span.quiet { (reason) } } }
                td.when data-label="When" {
                    (moment_away(order.answered_at.or(order.handed_at).unwrap_or(order.created_at), now)) }
            } } }
        } }
        p.quiet { "An agent's word is not the proof: what is done counts when another look has seen it." }
    } }
}

/// What is kept of machines before they restart, and what became of it.
fn kept(snapshots: &[Snapshot], items: &Names<CiId>, now: Timestamp) -> Markup {
    let state = |snapshot: &Snapshot| match snapshot.state {
        SnapshotState::Wanted => html! { "is taken; the order waits for it" },
        SnapshotState::Taken => html! { span.latest { "✓ taken" } },
        SnapshotState::Returning => html! { "the machine goes back to it" },
        SnapshotState::Returned => html! { "the machine went back to it" },
        SnapshotState::Removed => html! { span.quiet { "given up" } },
        SnapshotState::Failed => html! { span.outdated { "✗ could not be taken" } },
    };
    let last =
        |it: &Snapshot| it.removed_at.or(it.returned_at).or(it.taken_at).unwrap_or(it.created_at);
    html! { @if !snapshots.is_empty() {
        h2 { "Snapshots before restarts" }
        div.wide { table.stack {
            thead { tr { th { "Item" } th { "Snapshot" } th { "When" } } }
            tbody { @for snapshot in snapshots { tr {
                td { a href={ "/cis/" (snapshot.ci) } { (names::of(items, &snapshot.ci)) } }
                td data-label="Snapshot" { (state(snapshot))
                    @if let Some(reason) = &snapshot.reason { br; span.quiet { (reason) } } }
                td.when data-label="When" { (moment_away(last(snapshot), now)) }
            } } }
        } }
        p.quiet { "They are given up a day after their items were verified." }
    } }
}

/// What an agent is at, in words.
const fn at_work(at: Option<AtWork>) -> &'static str {
    match at {
        None => "at work",
        Some(AtWork::Fetching) => "brings the packages",
        Some(AtWork::KeepingWayBack) => "keeps what is replaced",
        Some(AtWork::Altering) => "installs",
        Some(AtWork::Rebooting) => "restarts the host",
        Some(AtWork::GoingBack) => "makes it what it was",
    }
}

fn came(order: &OrderRow) -> Markup {
    html! { @match (order.outcome.as_deref(), order.handed_at) {
        (Some("done"), _) => span.latest { "✓ done" },
        (Some("called_off"), _) => span.quiet { "– called off" },
        (Some("rolled_back"), _) => span.unknown { "back as before" },
        (Some(other), _) => span.outdated { "✗ " (other) },
        (None, Some(_)) => { "… " (at_work(order.at_work)) },
        (None, None) => span.quiet { "waits for its agent" },
    } }
}
