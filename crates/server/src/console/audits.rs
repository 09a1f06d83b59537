//! The pages about what items are configured by that ask more than one file: an audit, and a search.

use axum::extract::State;
use domain::cloud::CiId;
use domain::configuration::audit::{AttributeResult, AuditReport};
use domain::configuration::baseline::{Evidence, Outcome, RuleResult};
use maud::{Markup, html};
use serde::Deserialize;

use super::configuration::encoded;
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::configuration::{Looked, kept, searched};
use crate::api::{Path, Query};
use crate::audits::{EVERY, audit};
use crate::caller::Caller;
use crate::gate::Action;

/// Audits of an item that are listed.
const ROWS: u16 = 30;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    how: String,
    #[serde(default)]
    what: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    after: String,
}

/// An item as it is held against baselines now, and what came of that before.
pub(super) async fn of_item(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let ci = app.store.ci(&by, id).await?;
    let now = app.store.environment().now();
    app.store.tell_files_read(&by, id).await?;
    let facts = app.store.audit_facts(&by, id).await?;
    let report = audit(&app.store, &app.history, &by, id, (now - EVERY, now), facts).await?;
    let report = kept(report)?;
    let before = app.store.audits(&by, Some(id), ROWS).await?;
    Ok(page(
        "/cis",
        "Audit",
        &html! {
            h1 { "Audit of " (ci.name) }
            p.lead {
                a href={ "/cis/" (id) } { "the item" } " · " a href={ "/cis/" (id) "/files" } { "its files" }
                " · as it is recorded now"
            }
            (of_report(&report))
            h2 { "Before" }
            @if before.is_empty() {
                p.empty { "It was not audited yet: each item that an agent tells of is, once a day." }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "When" } @for it in &report.attributes { th { (it.attribute) } } th { "Report" } } }
                    tbody { @for audit in &before { tr {
                        td.when { (moment_away(audit.at, now)) }
                        @for it in &report.attributes {
                            td data-label=(it.attribute) {
                                @let then = audit.outcomes.attributes.get(&it.attribute);
                                (outcome(then.copied().unwrap_or(Outcome::Unknown)))
                            }
                        }
                        td.mono data-label="Report" title=(audit.hash) { (audit.id) }
                    } } }
                } }
            }
            (elsewhere(&format!("/cis/{id}/audit")))
        },
    ))
}

fn of_report(report: &AuditReport) -> Markup {
    let wanted = |outcomes: &'static [Outcome]| {
        report.rules.iter().filter(move |it| outcomes.contains(&it.outcome))
    };
    let open: Vec<&RuleResult> = wanted(&[Outcome::Fail, Outcome::Unknown]).collect();
    let passed = wanted(&[Outcome::Pass]).count();
    html! {
        div.wide { table.stack {
            thead { tr { th { "It is" } th { "Comes to" } th { "Because" } } }
            tbody { @for AttributeResult { attribute, outcome: came, evidence } in &report.attributes { tr {
                td { (attribute) }
                td data-label="Comes to" { (outcome(*came)) }
                td data-label="Because" { (places(evidence)) }
            } } }
        } }
        h2 { "Rules that do not hold, or of which nobody can tell" }
        @if open.is_empty() { p.empty { "None." } } @else {
            div.wide { table.stack {
                thead { tr { th { "Rule" } th { "Severity" } th { "Comes to" } th { "Found" } th { "Expected" } } }
                tbody { @for rule in open { tr {
                    td { (rule.title) br; span.quiet { (rule.rule) } }
                    td data-label="Severity" { (rule.severity) }
                    td data-label="Comes to" { (outcome(rule.outcome)) }
                    td data-label="Found" { (places(&rule.evidence)) }
                    td data-label="Expected" { (rule.expected) }
                } } }
            } }
        }
        p.quiet {
            (passed) " rules hold. By "
            @for (index, it) in report.baselines.iter().enumerate() {
                @if index > 0 { ", " } (it.id) " " (it.version)
            } "."
        }
    }
}

fn places(evidence: &[Evidence]) -> Markup {
    html! {
        @for it in evidence.iter().take(5) { div { @if it.path.is_some() { code { (it) } } @else { (it) } } }
        @if evidence.len() > 5 { div.quiet { "and " (evidence.len() - 5) " more" } }
    }
}

fn outcome(outcome: Outcome) -> Markup {
    html! { @match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => span.outdated { "fail" },
        Outcome::Unknown => span.unknown { "unknown" },
        Outcome::NotApplicable => span.quiet { "not applicable" },
    } }
}

/// Looks for something in what all items are configured by.
pub(super) async fn search(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let what = some(&asked.what);
    let mut looked =
        Looked { class: some(&asked.class), after: some(&asked.after), ..Looked::default() };
    let slot = match asked.how.as_str() {
        "regex" => &mut looked.regex,
        "parameter" => &mut looked.parameter,
        _ => &mut looked.words,
    };
    slot.clone_from(&what);
    let found = match what {
        Some(_) => Some(searched(&app, &by, &looked).await?),
        None => None,
    };
    let query = format!(
        "how={}&what={}&class={}",
        encoded(&asked.how),
        encoded(&asked.what),
        encoded(&asked.class)
    );
    Ok(page(
        "/cis",
        "Search",
        &html! {
            h1 { "What items are configured by" }
            form.filter method="get" {
                label { "Look for" input name="what" value=(asked.what) placeholder="sshd.PermitRootLogin=yes"; }
                label { "as" select name="how" {
                    @for (word, text) in [("words", "words"), ("parameter", "a parameter"), ("regex", "a pattern")] {
                        option value=(word) selected[asked.how == word] { (text) }
                    }
                } }
                button { "Search" }
            }
            @if let Some(found) = &found {
                @if found.items.is_empty() {
                    p.empty { "Nothing in " (found.searched) " items" @if found.next.is_some() { " so far" } "." }
                }
                @for item in &found.items {
                    h2 { a href={ "/cis/" (item.ci) "/files" } { (item.name) } }
                    div.wide { table.stack { tbody { @for hit in &item.hits { tr {
                        td.mono {
                            a href={ "/cis/" (item.ci) "/file?path=" (encoded(&hit.path)) } { (hit.path) ":" (hit.line) }
                        }
                        td.mono { (hit.text) }
                    } } } } }
                    @if item.has_more { p.quiet { "There is more in this item." } }
                }
                p.quiet { (found.searched) " items were looked into; of " (found.partly) " not all is told." }
                @if let Some(next) = &found.next {
                    p { a href={ "/configuration?" (query) "&after=" (encoded(next)) } { "Look into further items" } }
                }
            }
            (elsewhere("/configuration/search?words=…"))
        },
    ))
}
