//! The drift board: alterations of configuration that nobody agreed to, or nobody can explain.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::change::Reason;
use domain::cloud::DriftId;
use domain::configuration::diff::diff;
use domain::configuration::verdict::{
    Approval, Confidence, Irregularity, Judgement, Standing, Verdict,
};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{
    Actor, Drift, DriftFilter, DriftState, FileVersion, Happening, Past, State as FileState,
};

use super::break_glass::on_the_board;
use super::configuration::{encoded, hunks};
use super::fleet::part;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::drifts::may_adopt;
use crate::api::releases::{ReleaseRequest, planned};
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// How what is put back goes out: there is one item.
const PROFILE: &str = "emergency";

/// Which drifts are shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    state: String,
    #[serde(default)]
    after: String,
}

/// What adopts one.
#[derive(Debug, Deserialize)]
pub(super) struct Adopting {
    reason: String,
    recorded_at: String,
}

/// The board.
pub(super) async fn board(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let state = match wanted.state.as_str() {
        "" => DriftState::Open,
        word => word.parse().map_err(|error| Problem::new(Kind::Invalid, format!("{error}")))?,
    };
    let filter = DriftFilter { state: Some(state), ..DriftFilter::default() };
    let list = app.history.drifts(&by, filter, &part(&wanted.after, ROWS)?).await?;
    let counts = app.history.drift_counts(&by, None).await?;
    let break_glass = on_the_board(&app, &by).await?;
    let now = app.store.environment().now();
    let heading = match counts.unauthorised + counts.unknown {
        0 => "Nothing was altered without leave.".to_owned(),
        1 => "One file is not as agreed.".to_owned(),
        open => format!("{open} files are not as agreed."),
    };
    Ok(page(
        "/drifts",
        "Drift",
        &html! {
            h1 { (heading) }
            p.lead { "Each alteration of a file is judged by who made it, when, and what was agreed. What \
                nobody agreed to stays here until somebody adopts it, or the file is as it was." }
            @if counts.unauthorised + counts.unknown > 0 {
                dl.figures {
                    div { dd.outdated { (counts.unauthorised) } dt { "✗ unauthorised" } }
                    div { dd.unknown { (counts.unknown) } dt { "? cannot be explained" } }
                    div { dd { (counts.escalated) } dt { "escalated" } }
                }
            }
            (break_glass)
            nav.tabs aria-label="Which drifts" {
                @for &each in DriftState::ALL {
                    a href={ "/drifts?state=" (each) } aria-current=[(each == state).then_some("page")] { (each) }
                }
            }
            @if list.items.is_empty() {
                p.empty { "None is " (state) "." }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "File" } th { "On" } th { "Is held to be" } th { "By" } th { "Since" } } }
                    tbody { @for drift in &list.items { tr {
                        td.mono { a href={ "/drifts/" (drift.id) } { (drift.path) }
                            @if drift.count > 1 { span.quiet { " · " (drift.count) " times" } } }
                        td.whole data-label="On" { a href={ "/cis/" (drift.ci) } { (drift.ci_name) } }
                        td data-label="Is held to be" { (standing(&drift.judgement)) " " span.quiet { (drift.what) }
                            @if drift.escalated_at.is_some() { " " span.outdated { "escalated" } } }
                        td data-label="By" { (drift.by.as_deref().unwrap_or("nobody knows")) }
                        td.when data-label="Since" { (moment_away(drift.since, now)) }
                    } } }
                } }
                @if let Some(next) = &list.next {
                    p { a href={ "/drifts?state=" (state) "&after=" (next) } { "More" } }
                }
            }
            (elsewhere(&format!("/drifts?state={state}")))
        },
    ))
}

/// One drift, with what differs from what the file was before.
pub(super) async fn drift(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<DriftId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    shown(&app, caller, &by, id, None).await
}

async fn shown(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    id: DriftId,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let drift = app.history.drift(by, id).await?;
    app.store.tell_files_read(by, drift.ci).await?;
    let now = app.store.environment().now();
    let at = |time: Timestamp| app.history.file_at(by, drift.ci, &drift.path, time);
    let earlier = drift.since - jiff::SignedDuration::from_micros(1);
    let (before, after) = (at(earlier).await?, at(drift.recorded_at).await?);
    let given = access(&before).zip(access(&after)).filter(|(before, after)| before != after);
    let came =
        matches!(&before, Past::Kept(it) if !it.as_ref().is_some_and(FileVersion::is_present));
    let (before, after) = (text(before), text(after));
    let differs = before.zip(after).and_then(|(before, after)| diff(&before, &after).ok());
    let is_open = drift.state == DriftState::Open;
    let adopts = is_open
        && may_adopt(app, by, id).await.is_ok()
        && pass(app, caller.clone(), Action::DriftAdopt).is_ok();
    let puts_back = is_open
        && drift.change.is_none()
        && pass(app, caller.clone(), Action::ChangeDecide).is_ok()
        && pass(app, caller, Action::ChangePlan).is_ok();
    let file = format!("/cis/{}/file?path={}", drift.ci, encoded(drift.path.as_str()));
    let settled_by = drift.settlement.iter().map(|it| it.by.as_str());
    let people = names::people(app, by, settled_by).await?;
    Ok(page(
        "/drifts",
        drift.path.as_str(),
        &html! {
            h1.mono { (drift.path) }
            p.lead {
                (standing(&drift.judgement)) " · on " a href={ "/cis/" (drift.ci) } { (drift.ci_name) }
                " · " (happened(&drift)) " · since " (moment_away(drift.since, now))
            }
            @if let Some(problem) = problem {
                p.problem role="alert" { (problem.detail()) @if let Some(help) = problem.way_out() { " — " (help) } }
            }
            dl.facts {
                dt { "Stands" } dd { (state(&drift, &people, now)) }
                dt { "By" } dd { (drift.by.as_deref().unwrap_or("nobody knows: nothing on the host saw it")) }
                dt { "Held to be" } dd { (reading(&drift.judgement.verdict)) ", "
                    (sureness(drift.judgement.confidence)) }
                @if drift.count > 1 { dt { "Altered" } dd { (drift.count) " times since, the last "
                    (moment_away(drift.recorded_at, now)) } }
            }
            @if let Some((before, after)) = &given {
                p { "Owner and permissions: " span.mono.whole { (before) } " → " strong.mono.whole { (after) } }
            }
            @if let Some(differs) = differs.as_ref().filter(|it| given.is_none() || !it.is_empty()) {
                h2 { "What differs from before" }
                @match drift.what {
                    Happening::Came if differs.is_empty() =>
                        p.quiet { "It is new, and holds nothing that could be shown." },
                    Happening::Gone if differs.is_empty() =>
                        p.quiet { "It is gone, and held nothing that could be shown." },
                    _ => (hunks(differs)),
                }
            }
            p { a href=(file) { "The file, with all of its versions" } }
            h2 { "Why" }
            table.stack {
                thead { tr { th { "Rule" } th { "What it said" } } }
                tbody { @for step in &drift.judgement.trace { tr {
                    td { (step.rule) } td data-label="What it said" { (step.because) }
                } } }
            }
            @if is_open {
                h2 { "What to do" }
                p { "Have it as it was before, and that is seen. Or let it stay, if it is right." }
            }
            @if puts_back {
                form.card method="post" action={ "/drifts/" (id) "/put-back" } {
                    button { "Put it back" }
                    p.quiet {
                        @if came { "The file is taken away again" } @else { "The file becomes what it was before" }
                        " by an alteration, which is planned at once. It goes out when its tenant has agreed."
                    }
                }
            }
            @if adopts {
                form.card method="post" action={ "/drifts/" (id) "/adopt" } {
                    input type="hidden" name="recorded_at" value=(drift.recorded_at);
                    label { "Why it may stay" input name="reason" maxlength="2000" required; }
                    button { "Adopt it" }
                    p.quiet { "From then on this is what the file is to be. It is recorded, with your name." }
                }
            }
            (elsewhere(&format!("/drifts/{id}")))
        },
    ))
}

/// Adopts a drift.
pub(super) async fn adopt(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<DriftId>,
    axum::Form(form): axum::Form<Adopting>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::DriftAdopt)?;
    match adopted(&app, &by, id, &form).await {
        Ok(()) => Ok(Redirect::to(&format!("/drifts/{id}")).into_response()),
        Err(problem) => {
            let page = shown(&app, caller, &by, id, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}

/// Takes up an alteration that puts a file back, and plans it.
pub(super) async fn put_back(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<DriftId>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeDecide)?;
    pass(&app, caller.clone(), Action::ChangePlan)?;
    let done = async {
        let change = app.history.put_back(&by, id).await?.change;
        if let Some(change) = change {
            planned(&app, &by, ReleaseRequest::of(change, PROFILE)).await?;
        }
        Ok::<_, Problem>(change)
    };
    match done.await {
        Ok(change) => {
            let to = change.map_or_else(|| format!("/drifts/{id}"), |it| format!("/changes/{it}"));
            Ok(Redirect::to(&to).into_response())
        }
        Err(problem) => {
            let page = shown(&app, caller, &by, id, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}

async fn adopted(app: &App, by: &Actor, id: DriftId, form: &Adopting) -> Result<(), Problem> {
    may_adopt(app, by, id).await?;
    let wrong = |error: String| Problem::new(Kind::Invalid, error);
    let seen: Timestamp = form.recorded_at.parse().map_err(|error| wrong(format!("{error}")))?;
    let reason: Reason = form.reason.parse().map_err(|error| wrong(format!("reason: {error}")))?;
    app.history.adopt_drift(by, id, seen, reason).await?;
    Ok(())
}

/// What a file held; nothing where it was not there, `None` where nobody knows any more.
fn text(found: Past<Option<FileVersion>>) -> Option<String> {
    let Past::Kept(version) = found else { return None };
    let content = version.and_then(|version| version.content).unwrap_or_default();
    Some(String::from_utf8_lossy(&content).into_owned())
}

/// Whose a file was, where it was there.
fn access(found: &Past<Option<FileVersion>>) -> Option<String> {
    let Past::Kept(Some(version)) = found else { return None };
    let FileState::Present { metadata, .. } = &version.state else { return None };
    Some(format!("{:04o} {}", metadata.mode & 0o7777, metadata.owner))
}

fn happened(drift: &Drift) -> &'static str {
    match drift.what {
        Happening::Came => "the file is new",
        Happening::Altered => "the file was altered",
        Happening::Gone => "the file is gone",
    }
}

fn state(drift: &Drift, people: &Names<String>, now: Timestamp) -> Markup {
    html! {
        (drift.state)
        @if let Some(settled) = &drift.settlement {
            " by " (names::of(people, &settled.by)) ", " (moment_away(settled.at, now))
            @if let Some(reason) = &settled.reason { ": " (reason) }
        }
        @if let Some(at) = drift.escalated_at { ", " span.outdated { "escalated" } " " (moment_away(at, now)) }
        @if let Some(at) = drift.escalates_at { ", escalates " (moment_away(at, now)) }
        @if let Some(change) = drift.change {
            ", to be put back by " a href={ "/changes/" (change) } { (change) }
        }
    }
}

/// What an alteration is held to be, in one word with its colour.
pub(super) fn standing(judgement: &Judgement) -> Markup {
    let standing = judgement.verdict.standing();
    let (class, sign) = match standing {
        Standing::Authorised | Standing::Vendor => ("latest", "✓"),
        Standing::Unauthorised => ("outdated", "✗"),
        Standing::Unknown => ("unknown", "?"),
    };
    html! { span class=(class) { (sign) " " (standing) } }
}

/// What an alteration is held to be, in words.
fn reading(verdict: &Verdict) -> Markup {
    html! { @match verdict {
        Verdict::Authorised { change } => { "as " a href={ "/changes/" (change) } { (change) } " has it" },
        Verdict::AuthorisedIrregular { change, because } => {
            "what " a href={ "/changes/" (change) } { (change) } " has, but "
            (because.iter().copied().map(Irregularity::as_str).collect::<Vec<_>>().join(", "))
        },
        Verdict::Vendor { package, version, .. } => { "what " span.mono { (package) " " (version) } " brought" },
        Verdict::Emergency { break_glass, ticket, .. } => {
            "done under " a href={ "/break-glass/" (break_glass) } { (ticket) }
        },
        Verdict::Reverted { to } => { @match to {
            Approval::Change { change } => { "as " a href={ "/changes/" (change) } { (change) } " made it" },
            Approval::Adoption { drift } | Approval::Before { drift } => {
                "as it was, by " a href={ "/drifts/" (drift) } { (drift) }
            },
            Approval::Review { break_glass } | Approval::BeforeReview { break_glass } => {
                "as it was, by " a href={ "/break-glass/" (break_glass) } { (break_glass) }
            },
        } },
        Verdict::Noise => "nothing that anybody set",
        Verdict::Unauthorised => "something that nobody agreed to",
        Verdict::Unknown => "something that nobody can explain: reports are missing",
    } }
}

const fn sureness(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "not sure",
        Confidence::Medium => "fairly sure",
        Confidence::High => "sure",
    }
}

/// What a version was held to be; nothing where nobody judged it.
pub(super) fn verdict(judgement: Option<&Judgement>) -> Markup {
    html! { @match judgement {
        None => "",
        Some(it) => { (standing(it)) span.quiet { " · " (reading(&it.verdict)) } },
    } }
}
