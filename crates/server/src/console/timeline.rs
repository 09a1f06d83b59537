//! An item on one axis, and what hangs on it.

use axum::extract::State;
use domain::cloud::{CiId, EventKind};
use domain::configuration::verdict::Standing;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde_json::Value;

use super::configuration::encoded;
use super::names::{self, Names};
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::Path;
use crate::api::timeline::{FileThen, Moment, moments};
use crate::caller::Caller;
use crate::gate::Action;

/// How far back is told.
const LATELY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Moments of the page.
const MOST: u16 = 300;

/// Files that are named at once.
const NAMED: usize = 8;

/// The page.
pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let ci = app.store.ci(&by, id).await?;
    app.store.tell_files_read(&by, id).await?;
    let now = app.store.environment().now();
    let moments = moments(&app, &by, id, (now - LATELY, now), MOST).await?;
    let affected = app.store.affected(&by, id).await?;
    // That a batch was recorded is said where it is judged.
    let told = |it: &&Moment| it.what != Some(EventKind::HistoryRecorded) || is_first(&it.payload);
    let told: Vec<&Moment> = moments.iter().filter(told).collect();
    let people = names::people(&app, &by, told.iter().map(|it| it.by.as_str())).await?;
    Ok(page(
        "/cis",
        "Timeline",
        &html! {
            h1 { "What happened to " (ci.name) }
            p.lead {
                a href={ "/cis/" (id) } { "the item" } " · "
                a href={ "/cis/" (id) "/files" } { "configuration" } " · the last thirty days, the newest first"
            }
            @if told.is_empty() { p.empty { "Nothing is recorded of it in this time." } }
            @else {
                div.wide { table.stack {
                    thead { tr { th { "When" } th { "What" } th { "By" } } }
                    tbody { @for moment in &told { tr {
                        td.when { (moment_away(moment.at, now)) }
                        td data-label="What" { (words(moment)) (files(id, &moment.files, moment.at)) }
                        td data-label="By" { (who(moment, &people)) }
                    } } }
                } }
                @if moments.len() == usize::from(MOST) { p.quiet { "Older ones are in the ledger." } }
            }
            h2 { "What hangs on it" }
            @if affected.is_empty() { p.quiet { "Nothing that is known here fails where it fails." } }
            @else {
                div.wide { table.stack {
                    thead { tr { th { "Item" } th { "How" } th.number { "Over" } } }
                    tbody { @for it in affected.iter().take(usize::from(MOST)) { tr {
                        td { a href={ "/cis/" (it.ci) } { (it.name) } }
                        td data-label="How" { (it.by.as_str().replace('_', " ")) }
                        td.number data-label="Over" { (it.distance) }
                    } } }
                } }
                @if affected.len() > usize::from(MOST) {
                    p.quiet { (affected.len() - usize::from(MOST)) " more" }
                }
            }
            (elsewhere(&format!("/cis/{id}/timeline")))
        },
    ))
}

/// Whether a batch was never judged: what was there from the beginning.
fn is_first(payload: &Value) -> bool {
    payload["versions"].as_u64().is_some_and(|count| count > 50)
}

fn who(moment: &Moment, people: &Names<String>) -> Markup {
    html! { @match moment.by.as_str() {
        by if moment.what.is_none() => { "the account " span.mono { (by) } },
        "system" => span.quiet { "Patchwright" },
        by if by.starts_with("agt_") => span.quiet { "the item's agent" },
        by => @match people.get(by) { Some(name) => (name), None => span.mono { (by) } },
    } }
}

fn files(id: CiId, files: &[FileThen], at: Timestamp) -> Markup {
    let at = encoded(&at.to_string());
    html! {
        @for file in files.iter().take(NAMED) {
            div { span class=(class(file.standing)) { (sign(file.standing)) } " "
                a.mono href={ "/cis/" (id) "/file?path=" (encoded(&file.path)) "&at=" (at) } { (file.path) } }
        }
        @if files.len() > NAMED { div.quiet { "and " (files.len() - NAMED) " more" } }
    }
}

const fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Authorised | Standing::Vendor => "latest",
        Standing::Unauthorised => "outdated",
        Standing::Unknown => "unknown",
    }
}

const fn sign(standing: Standing) -> &'static str {
    match standing {
        Standing::Authorised | Standing::Vendor => "✓",
        Standing::Unauthorised => "✗",
        Standing::Unknown => "?",
    }
}

fn glass(moment: &Moment) -> Markup {
    html! { a href={ "/break-glass/" (moment.object) } { "break-glass" } }
}

/// What became of a notice, and what that one is about.
fn notice(moment: &Moment, what: &str) -> Markup {
    html! {
        a href={ "/notices/" (moment.object) } { "A notice" } " " (what)
        @if let Some(title) = moment.payload["title"].as_str() { span.quiet { " · " (title) } }
    }
}

/// What happened, in a few words; what has none here is told by its kind.
fn words(moment: &Moment) -> Markup {
    let payload = &moment.payload;
    let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
    let Some(kind) = moment.what else {
        return html! {
            "Somebody logged in on " span.mono { (text("line")) }
            @if payload["host"].is_string() { " from " span.mono { (text("host")) } }
        };
    };
    html! { @match kind {
        EventKind::CiCreated => "It was taken up",
        EventKind::CiAltered => "Its description was altered",
        EventKind::CiRetired => "It left the cloud",
        EventKind::CiObserved => "Its packages are others than before",
        EventKind::CiChecked => "It was checked for missing patches",
        EventKind::CiHealth => { "Its health: " (text("health")) },
        EventKind::CiPlaced => "It was said where its machine lives",
        EventKind::HistoryRecorded => { (payload["versions"]) " files were recorded" },
        EventKind::HistoryBackfilled => {
            "Its past was taken in: " (payload["versions"]) " versions of files, in " (payload["batches"]) " alterations"
        },
        EventKind::FilesJudged => "Files were altered:",
        EventKind::FilesRead => "Somebody of the provider reads what it is configured by",
        EventKind::ConfigurationAudited => { a href={ "/cis/" (moment.object) "/audit" } { "An audit" } " was made" },
        EventKind::OriginalRead => {
            "A file was read with its secrets: " span.mono { (text("path")) } span.quiet { " · " (text("reason")) }
        },
        EventKind::DriftOpened => { a href={ "/drifts/" (moment.object) } { "A drift" } " opened: " (text("standing")) },
        EventKind::DriftAltered => { a href={ "/drifts/" (moment.object) } { "A drift" } " was altered again" },
        EventKind::DriftEscalated => { a href={ "/drifts/" (moment.object) } { "A drift" } " escalated" },
        EventKind::DriftTakenUp => { a href={ "/drifts/" (moment.object) } { "A drift" } " is to be put back" },
        EventKind::DriftSettled => { a href={ "/drifts/" (moment.object) } { "A drift" } " is settled: " (text("state")) },
        EventKind::BreakGlassOpened => { (glass(moment)) " was opened" },
        EventKind::BreakGlassClosed => { (glass(moment)) " was closed" },
        EventKind::BreakGlassUsed => { "Files were altered under " (glass(moment)) },
        EventKind::BreakGlassEscalated => { (glass(moment)) " escalated: nobody reviewed it" },
        EventKind::BreakGlassReviewed => { (glass(moment)) " was reviewed: " (text("outcome")) },
        EventKind::NoticePublished => (notice(moment, &format!("was written: {}", text("kind")))),
        EventKind::NoticeGiven if payload["on"] == "console" => (notice(moment, "reached the tenant, in the console")),
        EventKind::NoticeGiven => (notice(moment, "reached the tenant")),
        EventKind::NoticeDelivered => (notice(moment, "was delivered")),
        EventKind::NoticeUndeliverable => {
            span.outdated { "✗ " } (notice(moment, "was given up on a channel")) span.quiet { " · " (text("answer")) }
        },
        EventKind::NoticeAcknowledged => (notice(moment, "was read")),
        EventKind::AgentJoined => "An agent joined",
        EventKind::AgentPinned => "Its agent pinned whose orders and consents count",
        EventKind::AgentRevoked => "Its agent is not let in any more",
        EventKind::AgentConflict => span.outdated { "Two hosts spoke as its agent" },
        EventKind::OrderIssued => "An order was given",
        EventKind::OrderAnswered => { "An order was answered: " (text("outcome")) },
        EventKind::OrderVerified => "An order's result was looked at",
        EventKind::VerificationRecorded => "What a look came to was signed",
        EventKind::SnapshotTaken => "Its disks were kept",
        EventKind::SnapshotReturned => "It went back to what was kept",
        EventKind::ChangeFileProposed => {
            "It was proposed what " a href={ "/changes/" (moment.object) } { "an alteration" } " makes of a file"
        },
        EventKind::ChangeFound => { a href={ "/changes/" (moment.object) } { "A change" } " was taken up" },
        EventKind::ObligationOpened | EventKind::ObligationAltered => {
            a href={ "/changes/" (moment.object) } { "A change" } " moved on"
        },
        EventKind::RolloutPermitted => { a href={ "/changes/" (moment.object) } { "A change" } " may start" },
        kind => span.mono { (kind) },
    } }
}
