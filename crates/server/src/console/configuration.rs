//! The pages about what items are and were configured by: files, versions, what differs.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::cloud::CiId;
use domain::configuration::diff::{Diff, Line, Part, diff};
use domain::configuration::document::aspect;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, FilePath, FileVersion, Past, State as FileState};

use super::drifts::verdict;
use super::pages::age;
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::configuration::kept;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// Files and versions of one page.
const ROWS: usize = 2000;

/// How far back is told what altered.
const LATELY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Which files.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    below: String,
}

/// Which file, and which of its versions.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    path: String,
    #[serde(default)]
    at: String,
}

/// All files of an item, and those that altered lately.
pub(super) async fn files(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let ci = app.store.ci(&by, id).await?;
    let now = app.store.environment().now();
    app.store.tell_files_read(&by, id).await?;
    let found = kept(app.history.manifest(&by, id, now).await?)?;
    let altered = match app.history.differences(&by, id, now - LATELY, now).await? {
        Past::Kept(altered) => altered,
        // Then the list says as much as can be said.
        Past::Erased | Past::Forgotten { .. } => BTreeMap::default(),
    };
    let mut altered: Vec<_> = altered.into_iter().collect();
    altered.sort_by_key(|(_, it)| std::cmp::Reverse(it.after.as_ref().map(|it| it.recorded_at)));
    let verdicts = app.history.verdicts(&by, id, None).await?;
    // An item whose first look was lately has only new files: that is no news.
    let is_news = altered.len() < found.files.len();
    let meant = |path: &FilePath| path.as_str().starts_with(&wanted.below);
    let is_document = |path: &FilePath| aspect(path.as_str()).is_some();
    let shown = found.files.iter().filter(|(path, _)| meant(path));
    let (documents, shown): (Vec<_>, Vec<_>) = shown.partition(|(path, _)| is_document(path));
    let documents_of_all = found.files.keys().filter(|path| is_document(path)).count();
    Ok(page(
        "/cis",
        "Configuration",
        &html! {
            h1 { "What " (ci.name) " is configured by" }
            p.lead {
                a href={ "/cis/" (id) } { "the item" } " · " a href={ "/cis/" (id) "/audit" } { "audit" } " · "
                a href="/configuration" { "search" } " · " a href={ "/break-glass?ci=" (id) } { "break-glass" } " · "
                (found.files.len() - documents_of_all) " files"
                @if documents_of_all > 0 { ", " (documents_of_all) " policies and profiles" }
                " · what is secret in them stays on the host"
            }
            @if found.files.is_empty() {
                p.empty { "Nothing is recorded of it yet: an agent tells what it is configured by." }
            } @else {
                @if is_news && !altered.is_empty() {
                    h2 { "Altered within a week" }
                    div.wide { table.stack {
                        thead { tr { th { "File" } th { "By" } th { "Held to be" } th { "When" } } }
                        tbody { @for (path, difference) in altered.iter().take(50) {
                            @if let Some(after) = &difference.after { tr {
                                td.mono { (link(id, path, Some(after.recorded_at)))
                                    @if !after.is_present() { " " span.outdated { "gone" } } }
                                td data-label="By" { (who(after)) }
                                td data-label="Held to be" {
                                    (verdict(verdicts.get(&(after.recorded_at, path.to_string())).map(|it| &it.judgement)))
                                }
                                td.when data-label="When" { (moment_away(after.recorded_at, now)) }
                            } }
                        } }
                    } }
                }
                form.filter method="get" {
                    label { "Path begins with" input name="below" value=(wanted.below) placeholder="/etc/ssh"; }
                    button { "Show" }
                }
                @if !documents.is_empty() { (policies_and_profiles(id, &documents, now)) }
                h2 { "Files" }
                div.wide { table.stack {
                    thead { tr { th { "File" } th { "Mode" } th { "Owner" } th.number { "Bytes" } th { "Since" } } }
                    tbody { @for (path, version) in shown.iter().take(ROWS) { tr {
                        td.mono { (link(id, path, None)) }
                        td.mono data-label="Mode" { (mode(version)) }
                        td data-label="Owner" { (owner(version)) }
                        td.number data-label="Bytes" { (length(version)) }
                        td.when data-label="Since" { (age(version.recorded_at, now)) }
                    } } }
                } }
                @if shown.len() > ROWS { p.quiet { (shown.len() - ROWS) " more: say how their path begins." } }
                @if !found.erased.is_empty() {
                    p.quiet { "Of " (found.erased.len()) " more it was erased what they were." }
                }
            }
            (elsewhere(&format!("/cis/{id}/files")))
        },
    ))
}

/// What hosts are configured by beside files.
fn policies_and_profiles(
    id: CiId,
    documents: &[(&FilePath, &FileVersion)],
    now: Timestamp,
) -> Markup {
    html! {
        h2 { "Policies and profiles" }
        div.wide { table.stack {
            thead { tr { th { "Name" } th.number { "Bytes" } th { "Since" } } }
            tbody { @for (name, version) in documents.iter().take(ROWS) { tr {
                td.mono { (link(id, name, None)) }
                td.number data-label="Bytes" { (length(version)) }
                td.when data-label="Since" { (age(version.recorded_at, now)) }
            } } }
        } }
    }
}

/// One file: its versions, what it held, and what differs from the version before.
pub(super) async fn file(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
    Query(which): Query<Which>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let ci = app.store.ci(&by, id).await?;
    let now = app.store.environment().now();
    let wrong = |detail: String| Problem::new(Kind::Invalid, detail);
    let path = FilePath::new(which.path).map_err(|error| wrong(error.to_string()))?;
    app.store.tell_files_read(&by, id).await?;
    let known = app.history.versions(&by, id, &path).await?;
    let verdicts = app.history.verdicts(&by, id, Some(&path)).await?;
    let held_to_be = |version: &FileVersion| {
        verdicts.get(&(version.recorded_at, path.to_string())).map(|it| &it.judgement)
    };
    let at = match which.at.as_str() {
        "" => now,
        text => text.parse().map_err(|error| wrong(format!("at: {error}")))?,
    };
    let place = known.versions.iter().rposition(|it| it.recorded_at <= at);
    let Some(place) = place else {
        return Err(Problem::not_found("such file of this item at that time").into());
    };
    let shown = &known.versions[place];
    let before = place.checked_sub(1).map(|place| &known.versions[place]);
    let held = held(&app, &by, id, &path, shown).await?;
    let differs = match before {
        Some(before) => {
            let earlier = self::held(&app, &by, id, &path, before).await?;
            diff(&earlier, &held).ok()
        }
        None => None,
    };
    Ok(page(
        "/cis",
        path.as_str(),
        &html! {
            h1.mono { (path) }
            p.lead {
                a href={ "/cis/" (id) "/files" } { "files of " (ci.name) } " · "
                @if !shown.is_present() { span.outdated { "gone" } }
                @else if mode(shown).is_empty() { (length(shown)) " bytes" }
                @else { span.mono { (mode(shown)) } " · " (owner(shown)) " · " (length(shown)) " bytes" }
                " · since " (moment_away(shown.recorded_at, now))
            }
            @if let Some(differs) = &differs {
                h2 { "What differs from the version before" }
                (hunks(differs))
            }
            @if shown.is_present() {
                h2 { "What it held" }
                pre { code { (held) } }
            }
            h2 { "Versions" }
            div.wide { table.stack {
                thead { tr { th { "Recorded" } th { "Seen" } th { "Was" } th { "By" } th { "Held to be" } } }
                tbody { @for version in known.versions.iter().rev().take(ROWS) { tr {
                    td.when { a href={ "/cis/" (id) "/file?path=" (encoded(path.as_str())) "&at=" (encoded(&version.recorded_at.to_string())) }
                        { (moment_away(version.recorded_at, now)) }
                        @if version.recorded_at == shown.recorded_at { span.quiet { " · shown" } } }
                    td.when data-label="Seen" { (moment_away(version.observed_at, now)) }
                    td data-label="Was" { @if version.is_present() { (length(version)) " bytes" } @else { span.outdated { "gone" } } }
                    td data-label="By" { (who(version)) }
                    td data-label="Held to be" { (verdict(held_to_be(version))) }
                } } }
            } }
            @if known.is_erased { p.quiet { "Older versions were erased." } }
            (elsewhere(&format!("/cis/{id}/files/content?path={}", encoded(path.as_str()))))
        },
    ))
}

/// What a version held, as text.
async fn held(
    app: &App,
    by: &Actor,
    id: CiId,
    path: &FilePath,
    version: &FileVersion,
) -> Result<String, Refusal> {
    let found = kept(app.history.file_at(by, id, path, version.recorded_at).await?)?;
    let content = found.and_then(|found| found.content).unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).into_owned())
}

pub(super) fn hunks(differs: &Diff) -> Markup {
    let parts = |parts: &[Part], sign: &str| {
        // Where all of a line is other, there is nothing within it to point at.
        let points = parts.iter().any(|part| matches!(part, Part::Same(_)));
        html! { (sign) @for part in parts { @match part {
            Part::Changed(text) if points => b { (text.trim_end_matches('\n')) },
            Part::Same(text) | Part::Changed(text) => (text.trim_end_matches('\n')),
        } } "\n" }
    };
    html! {
        @if differs.hunks.is_empty() { p.quiet { "Nothing of what it held: owner or permissions." } }
        @else {
            p.quiet { (differs.added) @if differs.added == 1 { " line new, " } @else { " lines new, " } (differs.removed) " gone" }
            @for hunk in &differs.hunks {
                pre.diff { code { @for line in &hunk.lines { @match line {
                    Line::Same { text } => span { " " (text.trim_end_matches('\n')) "\n" },
                    Line::Removed { parts: of } => span.removed { (parts(of, "-")) },
                    Line::Added { parts: of } => span.added { (parts(of, "+")) },
                } } } }
            }
        }
    }
}

fn link(id: CiId, path: &FilePath, at: Option<Timestamp>) -> Markup {
    let at = at.map(|at| format!("&at={}", encoded(&at.to_string()))).unwrap_or_default();
    let to = format!("/cis/{id}/file?path={}{at}", encoded(path.as_str()));
    html! { a href=(to) { (path) } }
}

/// Text as a part of a query (RFC 3986 §2.3).
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn mode(version: &FileVersion) -> String {
    match &version.state {
        // Where it is 0, there is none to show.
        FileState::Present { metadata, .. } if metadata.mode != 0 => {
            let kind = match metadata.mode & 0o170_000 {
                0o120_000 => "link ",
                0o040_000 => "dir ",
                _ => "",
            };
            format!("{kind}{:04o}", metadata.mode & 0o7777)
        }
        FileState::Present { .. } | FileState::Gone => String::new(),
    }
}

fn owner(version: &FileVersion) -> &str {
    match &version.state {
        FileState::Present { metadata, .. } => &metadata.owner,
        FileState::Gone => "",
    }
}

const fn length(version: &FileVersion) -> u64 {
    match &version.state {
        FileState::Present { length, .. } => *length,
        FileState::Gone => 0,
    }
}

fn who(version: &FileVersion) -> Markup {
    html! { @match &version.by {
        None => span.quiet { "not known" },
        Some(by) if by.confidence < 100 => { (by.actor) span.quiet { " (" (by.confidence) " %)" } },
        Some(by) => (by.actor),
    } }
}
