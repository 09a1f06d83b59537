//! The pages.

use std::cmp::Reverse;

use axum::extract::State;
use domain::agent::Facts;
use domain::check::{Report, Status};
use domain::cloud::{CiId, Class};
use domain::device::DeviceState;
use domain::fleet::FindingState;
use domain::source::{Authority, SourceSettings};
use jiff::{SignedDuration, Timestamp};
use ledger::{ReadStorage as _, SignedCheckpoint};
use maud::{Markup, html};
use serde::Deserialize;
use store::{CiFilter, Counts, Finding, FindingFilter, PageRequest, Retrieval, Source};

use super::fleet::part;
use super::times::{moment, moment_away};
use super::{Refusal, clocks, elsewhere, page, pass, recovery, releases};
use crate::App;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::fleet::FRESH;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// Items of a page of the console.
pub(super) const ROWS: u16 = 100;

/// How long before its end an authority is told to be near it.
const NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Findings shown of an item.
const FINDINGS: usize = 200;

const PRIORITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// Is the cloud at its latest? What is not known?
pub(super) async fn overview(
    State(app): State<App>,
    caller: Option<Caller>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::CiRead)?;
    let agreed = clocks::glance(&app, caller.as_ref(), &by).await?;
    let warning = recovery::warning(&app, caller.as_ref(), &by).await?;
    let fresh_since = app.store.environment().now() - FRESH;
    let totals = app.store.check_totals(&by, fresh_since).await?;
    let counts = app.store.ci_counts(&by).await?;
    let items: u64 = counts.iter().map(|(_, count)| count).sum();
    let not_known = totals.not_known();
    let verdict = match (items, totals.outdated, not_known) {
        (0, ..) => "There is nothing to look after yet.".to_owned(),
        (_, 0, 0) => "Everything is at its latest.".to_owned(),
        (_, 0, _) => {
            format!("Nothing is known to be missing; unknown: {not_known} of {items} items.")
        }
        (_, outdated, 0) => format!("Patches are missing on {outdated} of {items} items."),
        (_, outdated, _) => {
            format!("Patches are missing on {outdated} of {items} items; unknown: {not_known}.")
        }
    };
    Ok(page(
        "/",
        "Overview",
        &html! {
            (warning)
            h1 { (verdict) }
            p.lead { "An item is at its latest only if a check of its own says so." }
            dl.figures {
                div { dd.latest { (totals.latest) } dt { "✓ at the latest" } }
                div { dd.outdated { (totals.outdated) } dt { "✗ miss patches" } }
                div { dd.unknown { (not_known) } dt { "? unknown" } }
            }
            @if totals.silent > 0 {
                p { span.unknown { "? " (totals.silent) } " of the unknown were not heard of, or not \
                    checked, for a day." }
            }
            @if totals.findings.iter().any(|&count| count > 0) {
                h2 { "Missing patches by priority" }
                dl.figures {
                    @for (word, count) in PRIORITIES.iter().zip(totals.findings) {
                        div { dd class=(word) { (count) } dt { (word) } }
                    }
                }
                @let accepted: u64 = totals.accepted.iter().sum();
                @if accepted > 0 { p.quiet { "The risk of " (accepted) " of them is accepted." } }
                p { a href="/patches" { "Which patches" } }
            }
            (agreed)
            h2 { "What there is" }
            @if counts.is_empty() {
                p.empty { "Take up configuration items with " code { "POST /api/v1/cis" }
                    ", or many at once with " code { "POST /api/v1/cis/import" } "." }
            } @else {
                table {
                    thead { tr { th { "Class" } th.number { "Items" } } }
                    tbody {
                        @for (class, count) in &counts {
                            tr {
                                td { a href={ "/cis?class=" (class) } { (words(*class)) } }
                                td.number { (count) }
                            }
                        }
                    }
                }
            }
            (elsewhere("/cis"))
        },
    ))
}

/// Which items are listed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    class: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    after: String,
}

/// The configuration items.
pub(super) async fn cis(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::CiRead)?;
    let invalid = |error: String| Problem::new(Kind::Invalid, error);
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let filter = CiFilter {
        class: given(&wanted.class)
            .map(|word| word.parse::<Class>().map_err(|error| invalid(error.to_string())))
            .transpose()?,
        name: given(&wanted.name),
        ..CiFilter::default()
    };
    let list = app.store.cis(&by, &filter, &part(&wanted.after, ROWS)?).await?;
    let ids: Vec<CiId> = list.items.iter().map(|ci| ci.id).collect();
    let checks = app.store.check_counts(&by, &ids).await?;
    let now = app.store.environment().now();
    Ok(page(
        "/cis",
        "Configuration items",
        &html! {
            h1 { "Configuration items" }
            form.filter method="get" action="/cis" {
                label { "Name contains" input name="name" value=(wanted.name); }
                label { "Class" input name="class" value=(wanted.class) list="classes"; }
                datalist id="classes" { @for class in Class::ALL { option value=(class) {} } }
                button { "Show" }
            }
            @if list.items.is_empty() {
                p.empty { "No item is like this." }
            } @else {
                div.wide { table {
                    thead { tr {
                        th { "Name" } th { "Class" } th { "Duty" } th { "State" } th { "Missing" }
                        th { "Checked" }
                    } }
                    tbody {
                        @for ci in &list.items {
                            tr {
                                td { a href={ "/cis/" (ci.id) } { (ci.name) } }
                                td { (words(ci.class)) }
                                td { (ci.duty) }
                                @match checks.get(&ci.id) {
                                    Some(counts) => {
                                        td { (state(counts, now)) }
                                        td { (missing(counts)) }
                                        td.quiet { (age(counts.checked_at, now)) " ago" }
                                    }
                                    None => {
                                        td { span.unknown { "? unknown" } }
                                        td.quiet { "–" }
                                        td.quiet { "never" }
                                    }
                                }
                            }
                        }
                    }
                } }
            }
            @if let Some(next) = &list.next {
                p { a href={ "/cis?class=" (wanted.class) "&name=" (escaped(&wanted.name)) "&after=" (next) } {
                    "More"
                } }
            }
            (elsewhere("/cis"))
        },
    ))
}

/// One item, and what it misses.
pub(super) async fn ci(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::CiRead)?;
    let ci = app.store.ci(&by, id).await?;
    let check = app.store.check(&by, id).await?;
    let filter = FindingFilter { ci: Some(id), ..FindingFilter::default() };
    let request = PageRequest { after: None, limit: store::LONGEST_PAGE };
    let known = app.store.findings(&by, &filter, &request).await?.items;
    let now = app.store.environment().now();
    let verified = releases::of_item(&app, &by, id, now).await?;
    let facts = app.store.facts(&by, id).await?;
    let told_by = app.store.sources(&by, id).await?;
    Ok(page(
        "/cis",
        ci.name.as_str(),
        &html! {
            h1 { (ci.name) }
            p.lead {
                (words(ci.class)) " · patched by the " (ci.duty)
                @for (key, value) in &ci.labels { " · " (key) "=" (value) }
                " · " a href={ "/cis/" (id) "/files" } { "configuration" }
                " · " a href={ "/cis/" (id) "/audit" } { "audit" }
                " · " a href={ "/cis/" (id) "/timeline" } { "timeline" }
                " · " span.mono { (ci.id) }
            }
            @match &check {
                None => {
                    p.empty { "It was never checked: whether it is at its latest is unknown." }
                }
                Some(check) => {
                    p { (state(&check.counts, now)) span.quiet {
                        " · checked " (age(check.counts.checked_at, now)) " ago · heard of "
                        (age(check.counts.seen_at, now)) " ago · " (check.report.os.pretty_name) " · " (check.report.packages) " packages"
                    } }
                    (missing_patches(&known, now))
                    (unknown(&check.report))
                    (ended(&known, now))
                    (sources(&check.report))
                }
            }
            @if let Some((facts, at)) = &facts {
                (expected(facts, check.as_ref().map_or(*at, |check| check.counts.seen_at), now))
            }
            (verified)
            (configured_from(&told_by, now))
            (elsewhere(&format!("/cis/{id}/check")))
        },
    ))
}

/// Whether the item does what its owner expects of it; nothing where no probe is declared.
fn expected(facts: &Facts, seen_at: Timestamp, now: Timestamp) -> Markup {
    let failing = facts.probes.iter().filter(|probe| probe.failure.is_some()).count();
    let is_known = now.duration_since(seen_at) <= FRESH;
    html! {
        @if !facts.probes.is_empty() {
            h2 { "What its owner expects" }
            p {
                @match failing {
                    _ if !is_known => { span.unknown { "? unknown" } span.quiet { " · as it was seen last:" } }
                    0 => { span.latest { "✓ works" } }
                    _ => { span.outdated { "✗ " (failing) " of " (facts.probes.len()) " fail" } }
                }
            }
            ul { @for probe in &facts.probes {
                li {
                    @match &probe.failure {
                        None => { "✓ " (probe.name) }
                        Some(failure) => { span.outdated { "✗ " (probe.name) } span.quiet { ": " (failure) } }
                    }
                }
            } }
        }
    }
}

/// From where it is told what the item is configured by, and how that goes; nothing where there are no sources.
fn configured_from(sources: &[Source], now: Timestamp) -> Markup {
    html! {
        @if !sources.is_empty() {
            h2 { "Where its configuration comes from" }
            div.wide { table {
                thead { tr { th { "Source" } th { "Kind" } th { "Where" } th { "State" } th { "Last look" } } }
                tbody { @for source in sources {
                    tr {
                        td { (source.name) }
                        td { (source.settings.kind()) }
                        td { span.mono { (place_of(&source.settings)) }
                            @for it in source.settings.authorities() { (vouches(it, now)) } }
                        td {
                            @match source.state {
                                DeviceState::Seen => { span.latest { "✓ seen" } }
                                DeviceState::New => { span.unknown { "? not looked at yet" } }
                                DeviceState::Unreachable => { span.unknown { "? unknown: the last look came to nothing" } }
                                DeviceState::KeyDiffers => { span.outdated { "✗ it shows another host key" } }
                            }
                            @for line in source.reason.iter().flat_map(|reason| reason.lines()) {
                                br; span.quiet { (line) }
                            }
                        }
                        td.quiet {
                            @match (source.looked_at, source.seen_at) {
                                (None, _) => { "never" }
                                (Some(looked), Some(seen)) if seen < looked => {
                                    (age(looked, now)) " ago · seen " (age(seen, now)) " ago"
                                }
                                (Some(looked), _) => { (age(looked, now)) " ago" }
                            }
                        }
                    }
                } }
            } }
        }
    }
}

/// Where a source is.
fn place_of(settings: &SourceSettings) -> String {
    match settings {
        SourceSettings::ImageStore { store, image } => format!("{image} in the store {store}"),
        other => other.url().unwrap_or("the image itself").to_owned(),
    }
}

/// An authority whose certificates count for a source, and until when.
fn vouches(it: &Authority, now: Timestamp) -> Markup {
    html! {
        br; span.quiet title={ "SHA-256 " (it.sha256) } { "by certificates of " (it.subject) } " "
        @if it.until <= now { span.outdated { "✗ counts no more since " (moment(it.until)) } }
        @else if it.until <= now + NEAR { span.near { "! until " (moment_away(it.until, now)) } }
        @else { span.quiet { "until " (moment(it.until)) } }
    }
}

/// What the item lacks, the most urgent first.
fn missing_patches(known: &[Finding], now: Timestamp) -> Markup {
    let mut open: Vec<_> = known.iter().filter(|it| it.state == FindingState::Open).collect();
    open.sort_by_key(|it| (Reverse(it.patch.priority), it.first_seen_at, &it.patch.source));
    html! {
        @if !open.is_empty() {
            h2 { "Missing patches" }
            div.wide { table {
                thead { tr {
                    th { "Priority" } th { "Source" } th { "Installed → fixed" } th { "CVEs" }
                    th { "Why" } th { "Missing for" }
                } }
                tbody { @for finding in open.iter().take(FINDINGS) { (row(finding, now)) } }
            } }
            @if open.len() > FINDINGS {
                p.quiet { (open.len() - FINDINGS) " more: see the request below." }
            }
        }
    }
}

fn row(finding: &Finding, now: Timestamp) -> Markup {
    let patch = &finding.patch;
    let priority = patch.priority.to_string();
    html! {
        tr {
            td class=(priority) { (priority) }
            td {
                a href={ "/patches/" (finding.patch_id) } { (patch.source) }
                @if patch.held { span.quiet { " (held)" } }
            }
            td.mono { (patch.installed) " → " (patch.candidate) }
            td { (cves(patch.cves.iter().map(String::as_str), 3)) }
            td.quiet {
                (patch.reason)
                @if let Some(acceptance) = &finding.acceptance {
                    br; "risk of " (acceptance.risk_owner) " until "
                    (acceptance.until.strftime("%-d %b %Y")) ": " (acceptance.reason)
                }
                (excluded(finding, now))
            }
            td.quiet {
                (age(finding.first_seen_at, now))
                @if finding.reopened > 0 { " · came back " (finding.reopened) "×" }
            }
        }
    }
}

/// Why the SLA asks nothing about a finding that is missing all the same.
pub(super) fn excluded(finding: &Finding, now: Timestamp) -> Markup {
    let excluded = finding.excluded.as_ref();
    let excluded = excluded.filter(|(_, until)| until.is_none_or(|until| now < until));
    html! {
        @if let Some((excluded, until)) = excluded {
            br; span.near { "! excluded from the SLA" }
            @if let Some(until) = until { " until " (until.strftime("%-d %b %Y")) }
            " (" (excluded.policy.name) " " (excluded.policy.version) "): " (excluded.what) ", " (excluded.reason)
        }
    }
}

/// The first of some ids, and how many more there are.
pub(super) fn cves<'a>(all: impl ExactSizeIterator<Item = &'a str>, shown: usize) -> Markup {
    let more = all.len().saturating_sub(shown);
    html! {
        @for cve in all.take(shown) { span class="mono whole" { (cve) } " " }
        @if more > 0 { span.quiet { "and " (more) " more" } }
    }
}

/// What it lacked before.
fn ended(known: &[Finding], now: Timestamp) -> Markup {
    let mut ended: Vec<_> = known.iter().filter(|it| it.closed_at.is_some()).collect();
    ended.sort_by_key(|it| Reverse(it.closed_at));
    html! {
        @if !ended.is_empty() {
            h2 { "No longer missing" }
            ul { @for finding in ended.iter().take(20) { li {
                (finding.patch.source) " " span.mono { (finding.patch.candidate) } span.quiet {
                    " · " (finding.state) " " (age(finding.closed_at.unwrap_or(now), now))
                    " ago, after " (age(finding.opened_at, finding.closed_at.unwrap_or(now)))
                }
            } } }
        }
    }
}

fn unknown(report: &Report) -> Markup {
    html! {
        @if !report.unknown.is_empty() {
            h2 { "Unknown" }
            ul { @for unknown in report.unknown.iter().take(20) {
                li { strong { (unknown.subject) } ": " (unknown.reason)
                    @if let Some(help) = &unknown.help { span.quiet { " · " (help) } }
                }
            } }
            @if report.unknown.len() > 20 { p.quiet { (report.unknown.len() - 20) " more." } }
        }
    }
}

fn sources(report: &Report) -> Markup {
    html! {
        h2 { "Checked against" }
        div.wide { table {
            thead { tr { th { "Suite" } th { "Origin" } th { "Of" } th { "Signed by" } } }
            tbody { @for source in &report.sources { tr {
                td { (source.suite.as_deref().unwrap_or(&source.uri)) }
                td { (source.origin.as_deref().unwrap_or("–")) }
                td { @match source.date {
                    Some(date) => (date.strftime("%-d %b %Y")),
                    None => "–",
                } }
                td.quiet { @if source.signed_by.is_empty() { "–" }
                    @for signer in &source.signed_by { (signer.user_id) br; } }
            } } }
        } }
    }
}

/// The record of all that happened.
pub(super) async fn ledger(
    State(app): State<App>,
    caller: Option<Caller>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::LedgerRead)?;
    let directory = app.recorder.directory();
    let failed = |_| Problem::new(Kind::Internal, "the ledger cannot be read");
    let checkpoint = directory.get("checkpoint", 1 << 16).map_err(failed)?;
    let size = checkpoint
        .as_deref()
        .and_then(|bytes| SignedCheckpoint::parse(bytes).ok())
        .map_or(0, |checkpoint| checkpoint.claimed().size);
    let from = size.saturating_sub(u64::from(ROWS));
    let mut events = app.store.events(&by, Retrieval::Events, from, ROWS.into()).await?;
    events.reverse();
    let key = app.recorder.key().to_string();
    Ok(page(
        "/ledger",
        "Ledger",
        &html! {
            h1 { "Ledger" }
            p.lead { (size) " entries. Whoever keeps a checkpoint can tell later whether anything before it \
                was changed, removed or reordered." }
            div.wide { table {
                thead { tr {
                    th.number { "Place" } th { "When" } th { "What" } th { "Object" } th { "By" } th { "Proof" }
                } }
                tbody { @for event in &events {
                    tr {
                        td.number { (event.sequence.unwrap_or_default()) }
                        td.quiet.when { (event.at.strftime("%Y-%m-%d %H:%M:%S")) " UTC" }
                        td { (event.kind) }
                        td.mono { (event.object) }
                        td { (event.role) @if event.actor != event.role {
                        " " span class="mono quiet" { (event.actor) } } }
                        td { a href={ "/api/v1/events/" (event.sequence.unwrap_or_default()) "/proof" } { "proof" } }
                    }
                } }
            } }
            @if let Some(witnesses) = &app.witnesses {
                h2 { "Witnesses" }
                p.quiet { "Each cosigns only what continues all that it saw before." }
                table {
                    thead { tr { th { "Witness" } th.number { "Has cosigned" } th { "When" } th { "State" } } }
                    tbody { @for (name, standing) in witnesses.standing() { tr {
                        td { (name) }
                        td.number { (standing.size) }
                        td.quiet.when { @match standing.at {
                            Some(at) => (at.strftime("%Y-%m-%d %H:%M:%S UTC")), None => "–",
                        } }
                        td { @match &standing.problem {
                            Some(problem) => span.outdated { "✗ " (problem) },
                            None if standing.at.is_some() => span.latest { "✓ sees the same" },
                            None => span.unknown { "? not asked yet" },
                        } }
                    } } }
                }
            }
            h2 { "Verify it yourself" }
            p.quiet { "With our small program, or with other people's tools: the log is C2SP tlog-tiles." }
            pre { code { "patchwright ledger verify DATA/ledger --key '" (key) "' --keep checkpoint.kept" } }
            @if let Some(text) = checkpoint.as_deref().map(String::from_utf8_lossy) {
                h2 { "Checkpoint" }
                pre { code { (text) } }
            }
            (elsewhere("/events"))
        },
    ))
}

fn state(counts: &Counts, now: Timestamp) -> Markup {
    if now.duration_since(counts.seen_at) > FRESH {
        return html! { span.unknown { "? unknown: not heard of for " (age(counts.seen_at, now)) } };
    }
    if now.duration_since(counts.checked_at) > FRESH {
        return html! { span.unknown { "? unknown: the last check is too old" } };
    }
    html! {
        @match counts.status {
            Status::Latest => span.latest { "✓ latest" },
            Status::Outdated => span.outdated { "✗ outdated" },
            Status::Unknown => span.unknown { "? unknown" },
        }
    }
}

fn missing(counts: &Counts) -> Markup {
    html! {
        @if counts.findings == [0; 4] { span.quiet { "–" } }
        @for (word, count) in PRIORITIES.iter().zip(counts.findings) {
            @if count > 0 { span class=(word) { (count) " " (word) } " " }
        }
    }
}

/// `network_device` for people.
pub(super) fn words(class: Class) -> String {
    match class {
        Class::Vm => "VM".to_owned(),
        class => class.as_str().replace('_', " "),
    }
}

pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text as part of a query.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_unit_that_matters() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let ages: Vec<_> =
            [5, 119, 7200, 90_000, 200_000].iter().map(|&now| age(at(0), at(now))).collect();
        assert_eq!(ages, ["5 s", "1 min", "2 h", "25 h", "2 d"]);
        assert_eq!(age(at(9), at(0)), "0 s");
    }

    #[test]
    fn a_query_carries_any_text() {
        assert_eq!(escaped("a b&ü"), "a%20b%26%C3%BC");
    }
}
