//! The pages about patches: which are missing, and where.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use domain::cloud::PatchId;
use domain::fleet::FindingState;
use maud::{Markup, html};
use serde::Deserialize;
use store::{FindingFilter, PageRequest};

use super::pages::{self, ROWS, age, cves};
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// CVE ids shown of a patch; kernels fix thousands.
const CVES: usize = 60;

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Part {
    #[serde(default)]
    after: String,
}

impl Part {
    pub(super) fn request(&self, limit: u16) -> Result<PageRequest, Problem> {
        part(&self.after, limit)
    }
}

/// The part of a list after a place; from its beginning where none is given.
pub(super) fn part(after: &str, limit: u16) -> Result<PageRequest, Problem> {
    let wrong = |error: store::InvalidCursor| Problem::new(Kind::Invalid, error.to_string());
    let after = match after {
        "" => None,
        text => Some(text.parse().map_err(wrong)?),
    };
    Ok(PageRequest { after, limit })
}

/// The patches that items lack, the most urgent first.
pub(super) async fn patches(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(part): Query<Part>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::FindingRead)?;
    let list = app.store.patches(&by, &part.request(store::LONGEST_PAGE)?).await?;
    let mut patches = list.items;
    patches.sort_by(|a, b| {
        let rank = |it: &store::Patch| (Reverse(it.priority), Reverse(it.items));
        rank(a).cmp(&rank(b)).then_with(|| a.source.cmp(&b.source))
    });
    Ok(page(
        "/patches",
        "Patches",
        &html! {
            h1 { "Missing patches" }
            p.lead { "Each patch once, with how many items lack it." }
            @if patches.is_empty() {
                p.empty { "No patch is known to be missing." }
            } @else {
                div.wide { table {
                    thead { tr {
                        th { "Priority" } th { "Source" } th { "Fixed in" } th { "Release" }
                        th.number { "Items" } th.number { "Tenants" }
                    } }
                    tbody { @for patch in &patches { tr {
                        td class=(patch.priority) { (patch.priority) }
                        td { a href={ "/patches/" (patch.id) } { (patch.source) }
                            @if !patch.security { span.quiet { " (no vulnerability)" } } }
                        td.mono { (patch.candidate) }
                        td { (patch.release) }
                        td.number { (patch.items) }
                        td.number { (patch.tenants) }
                    } } }
                } }
            }
            @if let Some(next) = &list.next { p { a href={ "/patches?after=" (next) } { "More" } } }
            (elsewhere("/patches"))
        },
    ))
}

/// One patch, and the items that lack it.
pub(super) async fn patch(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<PatchId>,
    Query(part): Query<Part>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::FindingRead)?;
    let patch = app.store.patch(&by, id).await?;
    let filter = FindingFilter {
        patch: Some(id),
        state: Some(FindingState::Open),
        ..FindingFilter::default()
    };
    let list = app.store.findings(&by, &filter, &part.request(ROWS)?).await?;
    let mut names = BTreeMap::new();
    for finding in &list.items {
        names.insert(finding.ci, app.store.ci(&by, finding.ci).await?.name);
    }
    let fixes: BTreeSet<&str> =
        list.items.iter().flat_map(|it| &it.patch.cves).map(String::as_str).collect();
    let now = app.store.environment().now();
    Ok(page(
        "/patches",
        &patch.source,
        &html! {
            h1 { (patch.source) " " span.mono { (patch.candidate) } }
            p.lead { span class=(patch.priority) { (patch.priority) } " · " (patch.release) " · missing on "
                (patch.items) @if patch.items == 1 { " item" } @else { " items" } }
            @if !fixes.is_empty() {
                h2 { "It fixes" }
                p { (cves(fixes.iter().copied(), CVES)) }
            }
            h2 { "Missing on" }
            div.wide { table {
                thead { tr { th { "Item" } th { "Priority there" } th { "Installed" } th { "Missing for" }
                    th { "Risk" } } }
                tbody { @for finding in &list.items { tr {
                    td { a href={ "/cis/" (finding.ci) } {
                        @match names.get(&finding.ci) { Some(name) => (name), None => (finding.ci) }
                    } }
                    td class=(finding.patch.priority) { (finding.patch.priority) }
                    td.mono { (finding.patch.installed) }
                    td.quiet { (age(finding.first_seen_at, now))
                        @if finding.reopened > 0 { " · came back " (finding.reopened) "×" } }
                    td.quiet { @match &finding.acceptance {
                        Some(it) => { "accepted by " (it.risk_owner) " until " (it.until.strftime("%-d %b %Y")) },
                        None => "–",
                    } (pages::excluded(finding, now)) }
                } } }
            } }
            @if let Some(next) = &list.next {
                p { a href={ "/patches/" (id) "?after=" (next) } { "More" } }
            }
            (elsewhere(&format!("/findings?patch={id}")))
        },
    ))
}
