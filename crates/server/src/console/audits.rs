//! The pages about what items are configured by that ask more than one file: audits of all items and of one, and a
//! search.

use axum::extract::State;
use domain::cloud::CiId;
use domain::configuration::audit::{Attribute, AttributeResult, AuditReport, Survey, SurveyRow};
use domain::configuration::baseline::{Evidence, Hold, JudgedBy, Outcome, RuleResult};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, Ci, PageRequest};

use super::configuration::encoded;
use super::names::{self, Names};
use super::times::{away, moment_away};
use super::{Refusal, elsewhere, page, pass, waivers};
use crate::App;
use crate::api::audits::surveyed;
use crate::api::baselines::may_waive;
use crate::api::configuration::{Looked, kept, searched};
use crate::api::{Path, Query};
use crate::audits::EVERY;
use crate::caller::Caller;
use crate::gate::Action;
use crate::surveys::{because, drift, of, outcome, scores, verdict};

/// Audits of an item that are listed.
const ROWS: u16 = 30;

/// Rules of one baseline that are named one by one.
const NAMED: usize = 4;

/// Items of a survey that are listed.
const ITEMS: u16 = 200;

/// How the provider's own baselines are called in reports about tenants' items.
const PROVIDERS: &str = "provider/";

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

/// Of what a survey is to tell.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OfWhat {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    group: String,
}

/// What there is about audits, and where one is.
pub(super) fn tabs(place: &str) -> Markup {
    let places =
        [("/audits", "What audits came to"), ("/baselines", "Baselines"), ("/waivers", "Waivers")];
    html! { nav.tabs aria-label="Audits" { @for (path, name) in places {
        a href=(path) aria-current=[(path == place).then_some("page")] { (name) }
    } } }
}

/// What the last audits came to: of all items, a tenant's, or a group's.
pub(super) async fn survey(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(of): Query<OfWhat>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::ConfigurationRead)?;
    let given = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    let (tenant, group) = (given(&of.tenant), given(&of.group));
    // A group is one tenant's.
    let tenant = if group.is_some() { None } else { tenant };
    let survey = surveyed(&app, &by, tenant.as_deref(), group.as_deref()).await?;
    let all = PageRequest { after: None, limit: store::LONGEST_PAGE };
    let groups = app.store.groups(&by, &all).await?.items;
    let tenants = match by.scope() {
        None => app.store.tenants(&by, &all).await?.items,
        Some(_) => Vec::new(),
    };
    let now = app.store.environment().now();
    let query = match (&tenant, &group) {
        (_, Some(group)) => format!("group={}", encoded(group)),
        (Some(tenant), None) => format!("tenant={}", encoded(tenant)),
        (None, None) => String::new(),
    };
    let download = |format: &str| format!("/api/v1/audits/report?format={format}&{query}");
    let failing = survey.items_with(Outcome::Fail);
    let unknown = survey.items_with(Outcome::Unknown);
    Ok(page(
        "/audits",
        "Audits",
        &html! {
            h1 { (verdict(&survey)) }
            (tabs("/audits"))
            p.lead { "What the last audit of each item came to; each is audited once a day. Of " (survey.asked.about) "." }
            @if !groups.is_empty() || tenants.len() > 1 {
                form.filter method="get" {
                    @if tenants.len() > 1 { label { "Tenant" select name="tenant" {
                        option value="" { "all" }
                        @for it in &tenants {
                            option value=(it.id) selected[it.id.to_string() == of.tenant && tenant.is_some()] { (it.name) }
                        }
                    } } }
                    @if !groups.is_empty() { label { "Group" select name="group" {
                        option value="" { "all items" }
                        @for it in &groups { option value=(it.id) selected[it.id.to_string() == of.group] { (it.name) } }
                    } } }
                    button { "Show" }
                }
            }
            @if survey.items.is_empty() {
                p.empty { "No item belongs here." }
            } @else {
                dl.figures {
                    div { dd.latest { (survey.items_that_pass()) } dt { "✓ pass in all five" } }
                    div { dd.outdated { (failing) } dt { "✗ fail in some" } }
                    div { dd.unknown { (unknown) } dt { "? not all is known" } }
                }
                p { "To keep or to send: " a href=(download("html")) { "report" } " · "
                    a href=(download("csv")) { "CSV" } " · " a href=(download("json")) { "JSON" } }
                @if !survey.baselines.is_empty() {
                    h2 { "Baselines, the worst first" }
                    (scores(&survey.baselines))
                }
                h2 { "Items, the worst first" }
                (surveyed_items(&survey, now))
                p.quiet { "Drift: the weight of rules that do not hold or are unknown, of all that apply. What is waived \
                    counts on neither side." }
            }
            (elsewhere(&format!("/audits/report?{query}")))
        },
    ))
}

fn surveyed_items(survey: &Survey, now: Timestamp) -> Markup {
    let (shown, more) = survey.items.split_at(survey.items.len().min(usize::from(ITEMS)));
    html! {
        div.wide { table.stack {
            thead { tr {
                th { "Item" } @for it in Attribute::ALL { th { (it) } } th.number { "Drift" } th { "Audited" }
            } }
            tbody { @for row in shown { tr {
                td { a href={ "/cis/" (row.ci) "/audit" } { (row.name) } div.quiet { (because(&in_short(row), Some(row.ci))) } }
                @for it in Attribute::ALL { td.whole data-label=(it) { (outcome(of(row, *it))) } }
                td.number data-label="Drift" { (drift(row.drift)) }
                td data-label="Audited" { @match row.audited_at {
                    Some(at) => span.when { (away(at, now)) },
                    None => span.unknown { "never" },
                } }
            } } }
        } }
        @if !more.is_empty() { p.quiet { (more.len()) " more: see the report." } }
    }
}

/// The same with many rules of one baseline told by their number: all of them are a click away.
fn in_short(row: &SurveyRow) -> SurveyRow {
    let short = |names: &[String]| {
        let mut told: Vec<String> = Vec::new();
        let of = |name: &str| name.rsplit_once('/').map(|(baseline, _)| baseline.to_owned());
        for name in names {
            let Some(baseline) = of(name) else {
                told.push(name.clone());
                continue;
            };
            let count = names.iter().filter(|it| of(it).as_ref() == Some(&baseline)).count();
            let name =
                if count > NAMED { format!("{count} rules of {baseline}") } else { name.clone() };
            if !told.contains(&name) {
                told.push(name);
            }
        }
        told
    };
    let (failing, unknown) = (short(&row.failing), short(&row.unknown));
    SurveyRow { failing, unknown, waived: short(&row.waived), ..row.clone() }
}

/// An item as it is held against baselines now, and what came of that before.
pub(super) async fn of_item(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<CiId>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    let ci = app.store.ci(&by, id).await?;
    let now = app.store.environment().now();
    let facts = app.store.audit_facts(&by, id).await?;
    let auditor = app.auditor(&by);
    let standards = auditor.standards(id, now).await?;
    auditor.tell_read(id, &standards).await?;
    let items = names::items(&app, &by, standards.items().into_iter()).await?;
    let report = auditor.audit(id, (now - EVERY, now), facts, standards).await?;
    let report = kept(report)?;
    let waives = pass(&app, caller, Action::RuleWaive).is_ok();
    let reader = Reader { by: &by, ci: &ci, waives, items };
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
            (of_report(&report, &reader))
            p { a href={ "/baselines?item=" (reader.item()) } { "Hold it to another baseline" } " · "
                a href={ "/baselines/golden?item=" (reader.item()) } { "Hold others to its files" } " · "
                a href="/waivers" { "Waivers" } }
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

/// Who reads a report of which item.
struct Reader<'a> {
    by: &'a Actor,
    ci: &'a Ci,
    /// Whether they may answer for rules at all.
    waives: bool,
    /// Those whose files it is held against.
    items: Names<CiId>,
}

impl Reader<'_> {
    /// Where they answer for a rule, where it is theirs to waive.
    fn answers_for(&self, report: &AuditReport, rule: &RuleResult) -> Option<String> {
        let judged_by = report.baselines.iter().find(|it| it.id == rule.baseline)?;
        if !self.waives || may_waive(self.by, self.ci, judged_by.hold).is_err() {
            return None;
        }
        Some(waivers::place(&judged_by.baseline(), &rule.rule, Some(self.ci.id)))
    }

    /// The page of a baseline; none for a tenant's people where it is the provider's own.
    fn page_of(&self, it: &JudgedBy) -> Option<String> {
        let is_seen =
            it.own.is_none() || self.by.scope().is_none() || !it.id.starts_with(PROVIDERS);
        is_seen.then(|| format!("/baselines/{}?item={}", it.baseline(), self.item()))
    }

    /// The item, as a query names it: its name is unique within its tenant alone.
    fn item(&self) -> String {
        match self.by.scope() {
            Some(_) => encoded(self.ci.name.as_str()),
            None => self.ci.id.to_string(),
        }
    }
}

fn of_report(report: &AuditReport, reader: &Reader<'_>) -> Markup {
    let wanted = |outcomes: &'static [Outcome]| {
        report.rules.iter().filter(move |it| outcomes.contains(&it.outcome))
    };
    let open: Vec<&RuleResult> = wanted(&[Outcome::Fail, Outcome::Unknown]).collect();
    let waived: Vec<&RuleResult> = wanted(&[Outcome::Waived]).collect();
    let passed = wanted(&[Outcome::Pass]).count();
    html! {
        div.wide { table.stack {
            thead { tr { th { "It is" } th { "Comes to" } th { "Because" } } }
            tbody { @for AttributeResult { attribute, outcome: came, evidence } in &report.attributes { tr {
                td { (attribute) }
                td.whole data-label="Comes to" { (outcome(*came)) }
                td data-label="Because" { (places(evidence)) }
            } } }
        } }
        h2 { "Rules that do not hold, or of which nobody can tell" }
        @if open.is_empty() { p.empty { "None." } } @else {
            div.wide { table.stack {
                thead { tr { th { "Rule" } th { "Severity" } th { "Comes to" } th { "Found" } th { "Expected" } } }
                tbody { @for rule in open { tr id={ (rule.baseline) "/" (rule.rule) } {
                    td { (rule.title) br; span.quiet { (rule.baseline) " · " (rule.rule) }
                        @if let Some(place) = reader.answers_for(report, rule) {
                            br; a href=(place) { "answer for it" }
                        } }
                    td data-label="Severity" { (rule.severity) }
                    td.whole data-label="Comes to" { (outcome(rule.outcome)) }
                    td data-label="Found" { @if rule.evidence.is_empty() { span.quiet { "–" } } (places(&rule.evidence)) }
                    td data-label="Expected" { (names::in_words(&rule.expected, &Names::new(), &reader.items)) }
                } } }
            } }
        }
        @if !waived.is_empty() {
            h2 { "Rules for which somebody answers" }
            div.wide { table.stack {
                thead { tr { th { "Rule" } th { "Severity" } th { "Because" } } }
                tbody { @for rule in waived { tr id={ (rule.baseline) "/" (rule.rule) } {
                    td { (rule.title) br; span.quiet { (rule.baseline) " · " (rule.rule) } }
                    td data-label="Severity" { (rule.severity) }
                    td data-label="Because" { (places(&rule.evidence)) }
                } } }
            } }
        }
        p.quiet {
            (passed) " rules hold. By "
            @for (index, it) in report.baselines.iter().enumerate() {
                @if index > 0 { ", " } (judged_by(it, reader))
            } "."
            @if !report.left_out.is_empty() { " Not held to, because somebody unbound it: " (report.left_out.join(", ")) "." }
        }
    }
}

fn judged_by(it: &JudgedBy, reader: &Reader<'_>) -> Markup {
    html! {
        @match reader.page_of(it) { Some(place) => a href=(place) { (it.id) }, None => (it.id) }
        " " (it.version) @match it.hold {
        Hold::Class => {},
        Hold::Tenant => " (bound by its owner)",
        Hold::Provider => " (bound by the provider)",
        }
    }
}

fn places(evidence: &[Evidence]) -> Markup {
    html! {
        @for it in evidence.iter().take(5) { div { @if it.path.is_some() { code { (it) } } @else { (it) } } }
        @if evidence.len() > 5 { div.quiet { "and " (evidence.len() - 5) " more" } }
    }
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
