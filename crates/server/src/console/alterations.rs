//! What an alteration makes of files, as people look it over before they agree.

use axum::extract::State;
use domain::change::{FileHash, Intended};
use domain::cloud::ChangeId;
use domain::configuration::diff::diff;
use maud::{Markup, html};
use store::{Actor, IntendedFile};

use super::configuration::hunks;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::Path;
use crate::api::alterations::both;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// Files whose differences are shown on one page; the API tells those of each.
const FILES: usize = 50;

/// Which files a change alters; nothing where it alters none.
pub(super) async fn section(app: &App, by: &Actor, change: ChangeId) -> Result<Markup, Problem> {
    let files = app.history.intended_files(by, change).await?;
    Ok(html! { @if !files.is_empty() {
        h2 { "What it makes of files" }
        div.wide { table.stack {
            thead { tr { th { "File" } th { "On" } th { "Now" } th { "Then" } } }
            tbody { @for file in files.iter().take(FILES) { tr {
                td.mono { (file.path) }
                td.whole data-label="On" { a href={ "/cis/" (file.ci) } { (file.ci_name) } }
                td data-label="Now" { (state(&file.held, "it is not there")) }
                td data-label="Then" { (state(&file.after, "it is taken away")) }
            } } }
        } }
        @if files.len() > FILES { p.quiet { "and " (files.len() - FILES) " more" } }
        p { a href={ "/changes/" (change) "/files" } { "What differs" } }
    } })
}

/// What a file is: its content by its SHA-256, of which the plan has all, and whose it is where that is said.
fn state(what: &Intended, absent: &str) -> Markup {
    html! { @match what {
        Intended::Absent => span.quiet { (absent) },
        Intended::Content { sha256, access } => {
            (in_short(sha256))
            @if let Some(access) = access { " · " span.quiet.whole { (access) } }
        },
    } }
}

/// What a change makes of a file beside its content.
fn made(file: &IntendedFile) -> Markup {
    html! { @match (&file.held, &file.after) {
        (_, Intended::Absent) => { "It is " strong { "taken away" } ". " },
        (Intended::Absent, Intended::Content { access: Some(access), .. }) => {
            "It is new: " span.mono.whole { (access) } ". "
        },
        (Intended::Content { access: Some(was), .. }, Intended::Content { access: Some(access), .. })
            if was != access => {
            "Owner and permissions: " span.mono.whole { (was) } " → " strong.mono.whole { (access) } ". "
        },
        _ => "",
    } }
}

/// The beginning of a hash, which tells two apart; the API, and whoever points at it, has all of it.
pub(super) fn in_short(hash: &FileHash) -> Markup {
    let all = hash.to_string();
    html! { code title={ "SHA-256 " (all) } { (all.get(..12).unwrap_or_default()) "…" } }
}

/// What differs between what files are now and what a change makes of them.
pub(super) async fn files(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<ChangeId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let tracked = app.store.change(&by, id).await?;
    let files = app.history.intended_files(&by, id).await?;
    let mut shown = Vec::new();
    for file in files.iter().take(FILES) {
        shown.push((file, differs(&app, &by, file).await?));
    }
    Ok(page(
        "/changes",
        &tracked.title,
        &html! {
            h1 { (tracked.title) }
            p.lead { "What its files are now, and what it makes of them, without what is secret." }
            @if shown.is_empty() { p.empty { "It makes nothing of any file that you may see." } }
            @for (file, differs) in &shown {
                h2.mono { (file.path) }
                p.quiet { "on " a href={ "/cis/" (file.ci) } { (file.ci_name) }
                    @if file.after != Intended::Absent {
                        " · " (file.bytes) @if file.bytes == 1 { " byte" } @else { " bytes" }
                    } }
                p { (made(file)) }
                (differs)
            }
            @if files.len() > FILES { p.quiet { "and " (files.len() - FILES) " more: see the request below." } }
            p { a href={ "/changes/" (id) } { "The change" } }
            (elsewhere(&format!("/changes/{id}/files")))
        },
    ))
}

async fn differs(app: &App, by: &Actor, file: &IntendedFile) -> Result<Markup, Problem> {
    let both = both(app, by, file).await?;
    let found = both.and_then(|(now, then)| diff(&now, &then).ok());
    Ok(match found {
        Some(found) if found.is_empty() => {
            html! { p.quiet { "Nothing of its content differs but what is secret, if anything." } }
        }
        Some(found) => hunks(&found),
        None => html! { p.quiet { "It cannot be told any more." } },
    })
}
