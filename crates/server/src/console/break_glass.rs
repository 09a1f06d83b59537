//! Break-glass: what may be altered first and explained afterwards, and its review.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::change::Reason;
use domain::cloud::BreakGlassId;
use domain::configuration::break_glass::{
    MINUTES, Outcome, Stage, Terms, USUAL_MINUTES, USUAL_REVIEW_HOURS,
};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, BreakGlass, BreakGlassFilter, BrokenFile, Cover, NewBreakGlass};

use super::configuration::encoded;
use super::fleet::part;
use super::pages::ROWS;
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass, refused};
use crate::App;
use crate::api::break_glass::{may_decide, may_open, reviewed};
use crate::api::{Path, Query, given};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// Which are shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    state: String,
    #[serde(default)]
    after: String,
    /// The item for which one is to be opened.
    #[serde(default)]
    ci: String,
}

/// What opens one.
#[derive(Debug, Deserialize)]
pub(super) struct Opening {
    ci: String,
    ticket: String,
    reason: String,
    logins: String,
    files: String,
    minutes: u16,
}

/// What reviews one.
#[derive(Debug, Deserialize)]
pub(super) struct Reviewing {
    outcome: String,
    reason: String,
    version: i64,
}

/// All of them.
pub(super) async fn list(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    shown_list(&app, caller, &wanted, None).await
}

async fn shown_list(
    app: &App,
    caller: Option<Caller>,
    wanted: &Wanted,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let by = pass(app, caller.clone(), Action::ConfigurationRead)?;
    let stage = match wanted.state.as_str() {
        "" => Stage::Open,
        word => word.parse().map_err(|error| Problem::new(Kind::Invalid, format!("{error}")))?,
    };
    let filter = BreakGlassFilter { stage: Some(stage), ..BreakGlassFilter::default() };
    let list = app.history.break_glasses(&by, filter, &part(&wanted.after, ROWS)?).await?;
    let opens = !wanted.ci.is_empty() && pass(app, caller, Action::BreakGlassOpen).is_ok();
    let now = app.store.environment().now();
    Ok(page(
        "/drifts",
        "Break-glass",
        &html! {
            h1 { "Break-glass" }
            p.lead { "In an emergency files are altered first, and explained afterwards: what is done under an open \
                break-glass is not drift until somebody else has reviewed it. "
                a href="/drifts" { "Back to drift" } }
            (refused(problem))
            nav.tabs aria-label="Which" {
                @for &each in Stage::ALL {
                    a href={ "/break-glass?state=" (each) } aria-current=[(each == stage).then_some("page")] {
                        (words(each))
                    }
                }
            }
            @if list.items.is_empty() { p.empty { "None is " (words(stage)) "." } }
            @else {
                (table(&list.items, now))
                @if let Some(next) = &list.next {
                    p { a href={ "/break-glass?state=" (stage) "&after=" (next) } { "More" } }
                }
            }
            @if opens { (form(&wanted.ci)) }
            (elsewhere(&format!("/break-glass?state={stage}")))
        },
    ))
}

fn table(found: &[BreakGlass], now: Timestamp) -> Markup {
    html! { div.wide { table.stack {
        thead { tr { th { "Ticket" } th { "On" } th { "Opened" } th { "Until" } th { "Review by" } th.number { "Files" } } }
        tbody { @for it in found { tr {
            td { a href={ "/break-glass/" (it.id) } { (it.terms.ticket) } }
            td data-label="On" { (cover(it)) }
            td.when data-label="Opened" { (moment_away(it.span.from, now)) }
            td.when data-label="Until" { (moment_away(it.span.until, now)) }
            td.when data-label="Review by" { (moment_away(it.span.review_by, now))
                @if it.escalated_at.is_some() { " " span.outdated { "escalated" } } }
            td.number data-label="Files" { (it.files) }
        } } }
    } } }
}

fn form(ci: &str) -> Markup {
    html! {
        h2 { "Open one" }
        form.card method="post" action="/break-glass" {
            input type="hidden" name="ci" value=(ci);
            label { "Ticket" input name="ticket" maxlength="128" required; }
            label { "Why" input name="reason" maxlength="2000" required; }
            label { "Files, as patterns, one on a line" textarea name="files" rows="3" required {} }
            label { "Accounts, one on a line; anybody where there is none" textarea name="logins" rows="2" {} }
            label { "For how many minutes"
                input type="number" name="minutes" min=(MINUTES.start()) max=(MINUTES.end())
                    value=(USUAL_MINUTES) required; }
            button { "Open it" }
            p.quiet { "The item's owner is told. Somebody else reviews what was done within "
                (USUAL_REVIEW_HOURS) " hours after its end." }
        }
    }
}

/// One, with what was altered under it.
pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<BreakGlassId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    shown(&app, caller, &by, id, None).await
}

async fn shown(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    id: BreakGlassId,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let it = app.history.break_glass(by, id).await?;
    let files = app.history.broken_files(by, id).await?;
    let now = app.store.environment().now();
    let decides = may_decide(app, by, id).await.is_ok();
    let may = |action| decides && pass(app, caller.clone(), action).is_ok();
    let closes = it.stage == Stage::Open && may(Action::BreakGlassOpen);
    let in_review = it.stage == Stage::InReview;
    let reviews = in_review && it.opened_by != by.id() && may(Action::BreakGlassReview);
    let patterns: Vec<_> = it.terms.files.iter().cloned().map(String::from).collect();
    Ok(page(
        "/drifts",
        &it.terms.ticket,
        &html! {
            h1 { "Break-glass: " (it.terms.ticket) }
            p.lead { (words(it.stage)) " · on " (cover(&it)) " · " (it.terms.reason) }
            (refused(problem))
            dl.facts {
                dt { "Files" } dd.mono { (patterns.join(" ")) }
                dt { "Accounts" } dd { @if it.terms.logins.is_empty() { "anybody" }
                    @else { (it.terms.logins.join(", ")) } }
                dt { "Opened" } dd { (moment_away(it.span.from, now)) " by " span.mono { (it.opened_by) } }
                dt { "Until" } dd { (moment_away(it.span.until, now))
                    @if let Some(by) = &it.closed_by { ", closed by " span.mono { (by) } } }
                dt { "Review" } dd { (review(&it, now)) }
            }
            h2 { "What was altered under it" }
            @if files.is_empty() { p.empty { "Nothing." } }
            @else {
                (altered(&files, now))
                @if it.files > files.len() as u64 { p.quiet { (it.files - files.len() as u64) " more" } }
            }
            @if closes {
                form.card method="post" action={ "/break-glass/" (id) "/close" } {
                    button { "Close it" }
                    p.quiet { "From now on it permits nothing more; its review is due as much sooner." }
                }
            }
            @if reviews { (review_form(&it)) }
            @else if in_review { p.quiet { "Somebody else than who opened it reviews it." } }
            (elsewhere(&format!("/break-glass/{id}")))
        },
    ))
}

fn review_form(it: &BreakGlass) -> Markup {
    html! {
        h2 { "Review it" }
        form.card method="post" action={ "/break-glass/" (it.id) "/review" } {
            input type="hidden" name="version" value=(it.version);
            label { "Why" input name="reason" maxlength="2000" required; }
            button name="outcome" value=(Outcome::Accepted) { "It may stay" }
            button name="outcome" value=(Outcome::Rejected) { "It may not" }
            p.quiet { "What may stay is what the files are to be from then on; else each is drift that nobody agreed \
                to. It is recorded, with your name." }
        }
    }
}

fn altered(files: &[BrokenFile], now: Timestamp) -> Markup {
    html! { div.wide { table.stack {
        thead { tr { th { "File" } th { "On" } th { "Is" } th { "By" } th { "When" } } }
        tbody { @for file in files { tr {
            td.mono { a href={ "/cis/" (file.ci) "/file?path=" (encoded(file.path.as_str())) } { (file.path) }
                @if file.count > 1 { span.quiet { " · " (file.count) " times" } } }
            td data-label="On" { a href={ "/cis/" (file.ci) } { (file.ci_name) } }
            td data-label="Is" { (file.what) }
            td data-label="By" { (file.by.as_deref().unwrap_or("nobody knows")) }
            td.when data-label="When" { (moment_away(file.recorded_at, now)) }
        } } }
    } } }
}

fn review(it: &BreakGlass, now: Timestamp) -> Markup {
    html! {
        @if let Some(review) = &it.review {
            (words(it.stage)) " by " span.mono { (review.by) } ", " (moment_away(review.at, now)) ": " (review.reason)
        } @else { "due " (moment_away(it.span.review_by, now)) }
        @if let Some(at) = it.escalated_at { ", " span.outdated { "escalated" } " " (moment_away(at, now)) }
    }
}

fn cover(it: &BreakGlass) -> Markup {
    let name = it.cover_name.as_deref();
    html! { @match it.cover {
        Cover::Item(ci) => a href={ "/cis/" (ci) } { (name.unwrap_or("an item")) },
        Cover::Group(_) => { "the group " (name.unwrap_or("that was dissolved")) },
    } }
}

const fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Open => "open",
        Stage::InReview => "in review",
        Stage::Accepted => "accepted",
        Stage::Rejected => "rejected",
    }
}

/// What the drift board says of it: nothing where there is none.
pub(super) async fn on_the_board(app: &App, by: &Actor) -> Result<Markup, Problem> {
    let first = part("", 10)?;
    let mut found = Vec::new();
    for stage in [Stage::Open, Stage::InReview] {
        let filter = BreakGlassFilter { stage: Some(stage), ..BreakGlassFilter::default() };
        found.extend(app.history.break_glasses(by, filter, &first).await?.items);
    }
    Ok(html! {
        p { a href="/break-glass" { "Break-glass" } @if found.is_empty() { span.quiet { ": none is open" } }
            @for it in &found {
                " · " a href={ "/break-glass/" (it.id) } { (it.terms.ticket) } " " span.unknown { (words(it.stage)) }
            }
        }
    })
}

/// Opens one.
pub(super) async fn open(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(form): axum::Form<Opening>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BreakGlassOpen)?;
    match opened(&app, &by, &form).await {
        Ok(it) => Ok(Redirect::to(&format!("/break-glass/{}", it.id)).into_response()),
        Err(problem) => {
            let wanted = Wanted { ci: form.ci, ..Wanted::default() };
            let page = shown_list(&app, caller, &wanted, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}

async fn opened(app: &App, by: &Actor, form: &Opening) -> Result<BreakGlass, Problem> {
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let cover = Cover::Item(given("ci", &form.ci)?);
    let reason: Reason = given("reason", &form.reason)?;
    let ticket = form.ticket.trim().to_owned();
    let terms = Terms::new(ticket, reason, lines(&form.logins), lines(&form.files))
        .map_err(|error| Problem::new(Kind::Invalid, error.to_string()).help(error.help()))?;
    may_open(app, by, cover).await?;
    let (minutes, review_hours) = (form.minutes, USUAL_REVIEW_HOURS);
    let new = NewBreakGlass { cover, terms, minutes, review_hours };
    Ok(app.history.open_break_glass(by, new).await?)
}

/// Closes one.
pub(super) async fn close(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<BreakGlassId>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BreakGlassOpen)?;
    let closed = async {
        may_decide(&app, &by, id).await?;
        Ok::<_, Problem>(app.history.close_break_glass(&by, id).await?)
    };
    answered(&app, caller, &by, id, closed.await.err()).await
}

/// Reviews one.
pub(super) async fn decide(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<BreakGlassId>,
    axum::Form(form): axum::Form<Reviewing>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BreakGlassReview)?;
    let done = reviewed(&app, &by, id, (&form.outcome, &form.reason), form.version).await;
    answered(&app, caller, &by, id, done.err()).await
}

async fn answered(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    id: BreakGlassId,
    problem: Option<Problem>,
) -> Result<Response, Refusal> {
    match problem {
        None => Ok(Redirect::to(&format!("/break-glass/{id}")).into_response()),
        Some(problem) => {
            let page = shown(app, caller, by, id, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}
