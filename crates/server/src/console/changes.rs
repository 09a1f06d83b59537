//! The pages about changes: what alters the cloud, and what each asks of whom.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::change::ChangeStage;
use domain::cloud::{ChangeId, PROVIDER, PatchId, TenantId};
use domain::image::Standing;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{
    Actor, Advisory, Baking, ChangeCounts, ClockFilter, ClockRow, Image, Job, JobState, Machines,
    Patch, StoreError, TrackedChange,
};

use super::clocks::{due, obligation, party, spaced, standing};
use super::fleet::Part;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::{away, moment, moment_away};
use super::{Refusal, alterations, elsewhere, page, pass, released, releases};
use crate::App;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;

/// Patches of a change that are named.
const PATCHES: usize = 100;

/// Obligations of a change that are listed.
const OBLIGATIONS: u16 = 500;

/// All changes, the newest first.
pub(super) async fn changes(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(part): Query<Part>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ChangeRead)?;
    let list = app.store.changes(&by, &part.request(ROWS)?).await?;
    let ids: Vec<ChangeId> = list.items.iter().map(|it| it.change.id).collect();
    let counts = app.store.change_counts(&by, &ids).await?;
    let names = names::tenants(&app, &by, finders(&list.items)).await?;
    let of_all = by.scope().is_none();
    let now = app.store.environment().now();
    Ok(page(
        "/changes",
        "Changes",
        &html! {
            h1 { "Changes" }
            p.lead { "What alters the cloud, the newest first: each is proven, told, agreed to, carried out \
                and verified." }
            @if list.items.is_empty() {
                p.empty { "There is no change yet. One begins by itself where a patch is found missing, or \
                    with an advisory that somebody brings." }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "Change" } th { "Stands" } th { "Found by" } th { "Found" }
                        th { "Open" } th { "First due" } } }
                    tbody { @for tracked in &list.items {
                        (row(tracked, counts.get(&tracked.change.id), &names, of_all, now))
                    } }
                } }
            }
            @if let Some(next) = &list.next { p { a href={ "/changes?after=" (next) } { "More" } } }
            (elsewhere("/changes"))
        },
    ))
}

fn row(
    tracked: &TrackedChange,
    counts: Option<&ChangeCounts>,
    names: &Names<TenantId>,
    of_all: bool,
    now: Timestamp,
) -> Markup {
    let counts = counts.copied().unwrap_or_default();
    html! { tr {
        td { a href={ "/changes/" (tracked.change.id) } { (tracked.title) }
            @if tracked.change.kind != domain::change::Kind::Patch {
                " " span.quiet { "(" (tracked.change.kind) ")" }
            } }
        td.whole data-label="Stands" { (stage(tracked.change.stage())) }
        td data-label="Found by" { (finder(tracked.found_by, names)) }
        td class="quiet when" data-label="Found" { (away(tracked.created_at, now)) }
        td.whole data-label="Open" { (open(counts, of_all)) }
        td data-label="First due" {
            @if counts.open > 0 { (due(counts.due, now)) } @else { span.quiet { "–" } }
        }
    } }
}

/// For how many tenants something is left to do; for a tenant, whether it is for itself.
fn open(counts: ChangeCounts, of_all: bool) -> Markup {
    html! {
        @match (counts.tenants, counts.open) {
            (0, _) => span.quiet { "asks nothing" },
            (_, 0) => span.quiet { "settled" },
            (tenants, open) if of_all => {
                (open) " of " (tenants) @if tenants == 1 { " tenant" } @else { " tenants" }
            },
            _ => "open",
        }
        @if counts.overdue > 0 {
            " " br; span.outdated { "✗ " @if of_all { (counts.overdue) " " } "overdue" }
        }
    }
}

fn finders(changes: &[TrackedChange]) -> impl Iterator<Item = TenantId> {
    changes.iter().map(|it| it.found_by).filter(|id| *id != PROVIDER)
}

fn finder(found_by: TenantId, names: &Names<TenantId>) -> String {
    if found_by == PROVIDER { "provider".to_owned() } else { names::of(names, &found_by) }
}

/// How a change stands, in a word with its sign.
fn stage(stage: &ChangeStage) -> Markup {
    let word = stage.as_str();
    html! { @match stage {
        ChangeStage::Found | ChangeStage::Reopened { .. } => { "○ " (word) },
        ChangeStage::Proving => { "… " (word) },
        ChangeStage::Proven { .. } | ChangeStage::Closed => span.latest { "✓ " (word) },
        ChangeStage::Rejected { .. } => span.outdated { "✗ " (word) },
        ChangeStage::Withdrawn { .. } => span.quiet { "– " (word) },
    } }
}

/// What a stage means, and on what it rests.
fn standing_of(stage: &ChangeStage) -> Markup {
    html! { @match stage {
        ChangeStage::Found => "It is known, and nothing is proven yet.",
        ChangeStage::Proving => "The lab, or the reviewers, are at it.",
        ChangeStage::Proven { evidence } => { "Nothing speaks against it. " (attested(evidence)) },
        ChangeStage::Rejected { evidence } => { "Something speaks against it. " (attested(evidence)) },
        ChangeStage::Withdrawn { by: _, reason } => {
            "It was taken back, and starts nowhere any more: " (reason.as_str())
        },
        ChangeStage::Closed => "It is settled for every tenant.",
        ChangeStage::Reopened { reason } => { "It is needed again: " (reason.as_str()) },
    } }
}

fn attested(evidence: &domain::change::FileHash) -> Markup {
    html! { "The evidence is the attestation with the SHA-256 " code { (evidence) } "." }
}

/// One change.
pub(super) async fn change(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<ChangeId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeRead)?;
    let tracked = app.store.change(&by, id).await?;
    let filter = ClockFilter { change: Some(id), settled: true, ..ClockFilter::default() };
    let rows = app.store.clocks(&by, &filter, OBLIGATIONS).await?;
    let concerned =
        rows.iter().map(|row| row.tenant).chain(finders(std::slice::from_ref(&tracked)));
    let names = names::tenants(&app, &by, concerned).await?;
    let patches = patches(&app, &by, &tracked.patches).await?;
    let advisory = match tracked.advisory {
        Some(id) => known(app.store.advisory(&by, id).await)?,
        None => None,
    };
    let now = app.store.environment().now();
    let releases = releases::of_change(&app, &by, id, now).await?;
    let files = alterations::section(&app, &by, id).await?;
    let written = released::offer(&app, &by, caller, id).await?;
    let machines = app.store.machines_of(&by, id).await?;
    let bakes = app.store.bakes_of(&by, id).await?;
    let owners = names::tenants(&app, &by, bakes.iter().map(|it| it.image.tenant)).await?;
    Ok(page(
        "/changes",
        &tracked.title,
        &html! {
            h1 { (tracked.title) }
            p.lead { (stage(tracked.change.stage())) " · " (tracked.change.kind) " · found by "
                (finder(tracked.found_by, &names)) " " (away(tracked.created_at, now)) " · "
                span.mono { (id) } }
            p { (standing_of(tracked.change.stage())) }
            (installs(&tracked.patches, &patches))
            @if let Some(advisory) = &advisory { (source(advisory)) }
            (files)
            (written)
            h2 { "What it asks" }
            @if rows.is_empty() {
                p.empty { "Nothing of anybody whom you may see: nobody's items are known to lack it." }
            } @else {
                (asked(&rows, by.scope().is_none().then_some(&names), now))
            }
            @if !rows.is_empty() {
                p.quiet { "How long each side has is in the " a href="/sla" { "SLA" }
                    "; what is agreed to ahead, under " a href="/consent" { "consent" } "." }
            }
            @if rows.len() == usize::from(OBLIGATIONS) {
                p.quiet { "The first " (OBLIGATIONS) " of them: see the request below for more." }
            }
            (running(machines))
            (releases)
            (baked(&bakes, by.scope().is_none().then_some(&owners)))
            (elsewhere(&format!("/changes/{id}")))
        },
    ))
}

/// How far it is with what runs.
fn running(machines: Machines) -> Markup {
    let Machines { lacking, fixed } = machines;
    html! { @if lacking + fixed > 0 {
        h2 { "What runs" }
        p { @if lacking == 0 { span.latest { "✓ all " (fixed) " have it" } }
            @else { (fixed) " of " (lacking + fixed) " have it" } }
    } }
}

/// How far it is with what new VMs are made from.
fn baked(bakes: &[Baking], owners: Option<&Names<TenantId>>) -> Markup {
    html! { @if !bakes.is_empty() {
        h2 { "What new VMs are made from" }
        div.wide { table.stack {
            thead { tr { th { "Image" } @if owners.is_some() { th { "Tenant" } } th { "Bake" }
                th { "New version" } } }
            tbody { @for Baking { image, job, made } in bakes { tr {
                td { (image.name) " v" (image.number) }
                @if let Some(owners) = owners {
                    td data-label="Tenant" { (finder(image.tenant, owners)) }
                }
                td data-label="Bake" { (bake(job.as_ref())) }
                td data-label="New version" { (version(made.as_ref())) }
            } } }
        } }
        p.quiet { "A bake begins by itself when the change is proven, and takes all that is open along. A \
            version is tested, then published by somebody." }
    } }
}

fn bake(job: Option<&Job>) -> Markup {
    html! { @match job {
        None => span.quiet { "none yet: it begins when the change is proven" },
        Some(job) => {
            @match job.state {
                JobState::Queued => "○ waits for the lab",
                JobState::Running => "… under way",
                JobState::Done => span.latest { "✓ done" },
                JobState::Failed => span.outdated { "✗ failed" },
                JobState::Cancelled => span.quiet { "– called off" },
            }
            @if let Some(error) = &job.error { br; span.quiet { (error) } }
            br; span class="mono quiet" { (job.id) }
        }
    } }
}

fn version(made: Option<&Image>) -> Markup {
    html! { @match made {
        None => span.quiet { "–" },
        Some(made) => {
            "v" (made.number) " · "
            @match made.standing {
                Standing::Current { .. } => span.latest { "✓ published" },
                Standing::Tested { .. } => { "tested" },
                Standing::Rejected { .. } => span.outdated { "✗ rejected" },
                Standing::Candidate => { "not tested yet" },
                Standing::Superseded { .. } | Standing::Retired { .. } => {
                    span.quiet { (made.standing.as_str()) }
                }
            }
        }
    } }
}

/// What the reader may see of some patches.
async fn patches(
    app: &App,
    by: &Actor,
    ids: &[PatchId],
) -> Result<BTreeMap<PatchId, Patch>, StoreError> {
    let mut found = BTreeMap::new();
    for &id in ids.iter().take(PATCHES) {
        if let Some(patch) = known(app.store.patch(by, id).await)? {
            found.insert(id, patch);
        }
    }
    Ok(found)
}

fn known<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn installs(ids: &[PatchId], patches: &BTreeMap<PatchId, Patch>) -> Markup {
    html! {
        @if !ids.is_empty() {
            h2 { "Patches" }
            ul { @for id in ids.iter().take(PATCHES) { li {
                @match patches.get(id) {
                    Some(patch) => {
                        a href={ "/patches/" (id) } { (patch.source) } " " span.mono { (patch.candidate) }
                        span.quiet { " · " (patch.release) " · " span class=(patch.priority) { (patch.priority) }
                            " · missing on " (patch.items)
                            @if patch.items == 1 { " item" } @else { " items" } }
                    }
                    None => { span.mono { (id) } span.quiet { " · missing on no item that you may see" } }
                }
            } } }
            @if ids.len() > PATCHES { p.quiet { (ids.len() - PATCHES) " more: see the request below." } }
        }
    }
}

/// The advisory that a change came from, and whose find it was.
fn source(advisory: &Advisory) -> Markup {
    let credits = credits(&advisory.document);
    html! {
        h2 { "Advisory" }
        p { strong { (advisory.name) } span.quiet { " · " (advisory.state) " · brought "
            (moment(advisory.submitted_at)) } }
        @if !advisory.note.is_empty() { p { (advisory.note) } }
        @if !credits.is_empty() { p { "Credit: " (credits.join(", ")) } }
    }
}

/// Whom an OSV record names as those who found it.
fn credits(document: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(default)]
        credits: Vec<Credit>,
    }
    #[derive(Deserialize)]
    struct Credit {
        name: String,
    }
    // What was brought is valid OSV; where it says nothing that we read, nobody is named.
    let record = serde_json::from_str::<Record>(document);
    record.map(|it| it.credits.into_iter().map(|credit| credit.name).collect()).unwrap_or_default()
}

fn asked(rows: &[ClockRow], names: Option<&Names<TenantId>>, now: Timestamp) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr {
                th { @if names.is_some() { "Tenant" } @else { "Phase" } }
                @if names.is_some() { th { "Phase" } }
                th { "Priority" } th { "Holds the ball" } th { "Stands" } th { "Due" }
            } }
            tbody { @for row in rows { tr {
                @match names {
                    Some(names) => {
                        td { a href=(obligation(row)) { (names::of(names, &row.tenant)) } }
                        td data-label="Phase" { (spaced(&row.phase)) }
                    }
                    None => td { a href=(obligation(row)) { (spaced(&row.phase)) } },
                }
                td class=(row.priority) data-label="Priority" { (row.priority) }
                td data-label="Holds the ball" {
                    @match row.holder {
                        Some(holder) => (party(holder)),
                        None if row.is_settled => span.quiet { "–" },
                        None => span.unknown { "? nobody knows" },
                    }
                    @if let Some(until) = row.stage_deadline {
                        " " br; span.quiet { "until " (moment_away(until, now)) }
                    }
                }
                td data-label="Stands" { (standing(row, now)) }
                td data-label="Due" {
                    @if row.is_settled { span.quiet { "–" } } @else { (due(row.due, now)) }
                }
            } } }
        } }
    }
}
