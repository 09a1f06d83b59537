//! Rules for which somebody answers instead of an item that does not keep them.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{CiId, GroupId, WaiverId};
use domain::configuration::baseline::{Baseline, BaselineRef};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, BaselineContent, LONGEST_WAIVER, RuleWaiver, Target};

use super::audits::tabs;
use super::baselines::{ALL, side};
use super::bindings::Called;
use super::configuration::encoded;
use super::fleet::part;
use super::names::{self, Names};
use super::pages::ROWS;
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass, refused};
use crate::App;
use crate::api::baselines::{WaiverRequest, parsed, waived};
use crate::api::{Path, Query, given};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// How long somebody answers who says nothing else.
const USUAL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long before its end one is told to be near it.
const NEAR: SignedDuration = SignedDuration::from_hours(14 * 24);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Which are listed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    after: String,
}

/// For what somebody is to answer, as it is written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Draft {
    #[serde(default)]
    baseline: String,
    #[serde(default)]
    rule: String,
    #[serde(default)]
    ci: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    reason: String,
    /// The last day on which it counts.
    #[serde(default)]
    until: String,
}

/// Where somebody says that they answer for a rule.
pub(super) fn place(baseline: &BaselineRef, rule: &str, ci: Option<CiId>) -> String {
    let ci = ci.map(|ci| format!("&ci={ci}")).unwrap_or_default();
    format!("/waivers/new?baseline={baseline}&rule={}{ci}", encoded(rule))
}

/// Those in force.
pub(super) async fn list(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    listed(&app, caller, &by, &wanted, None).await
}

async fn listed(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    wanted: &Wanted,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let waives = pass(app, caller, Action::RuleWaive).is_ok();
    let found = app.store.rule_waivers(by, wanted.all, &part(&wanted.after, ROWS)?).await?;
    let targets = Called::of(app, by, found.items.iter().map(|it| (it.target, it.tenant))).await?;
    let people = found.items.iter().map(|it| it.given_by.as_str());
    let people = names::people(app, by, people).await?;
    let baselines = app.store.baselines(by, true, &ALL).await?.items;
    let baselines: Names<BaselineRef> =
        baselines.into_iter().map(|it| (BaselineRef::Own(it.id), it.name)).collect();
    let now = app.store.environment().now();
    let row = Row { by, waives, targets: &targets, people: &people, baselines: &baselines, now };
    Ok(page(
        "/audits",
        "Waivers",
        &html! {
            h1 { "Rules for which somebody answers" }
            (tabs("/waivers"))
            p.lead { "For a while, instead of an item that does not keep the rule. It never passes; after the end it \
                counts again, by itself." }
            (refused(problem))
            nav.tabs aria-label="Which" {
                a href="/waivers" aria-current=[(!wanted.all).then_some("page")] { "In force" }
                a href="/waivers?all=true" aria-current=[wanted.all.then_some("page")] { "With those that are over" }
            }
            @if found.items.is_empty() {
                p.empty { "None. An audit of an item tells which rules it does not keep; beside each is where somebody \
                    answers for it." }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "Rule" } th { "For" } th { "Until" } th { "Who answers, and why" } @if waives { th {} } } }
                    tbody { @for it in &found.items { (row.of(it)) } }
                } }
                @if let Some(next) = &found.next {
                    p { a href={ "/waivers?all=" (wanted.all) "&after=" (next) } { "More" } }
                }
            }
            (elsewhere(&format!("/rule-waivers?all={}", wanted.all)))
        },
    ))
}

/// What a row is made with.
struct Row<'a> {
    by: &'a Actor,
    waives: bool,
    targets: &'a Called,
    people: &'a Names<String>,
    baselines: &'a Names<BaselineRef>,
    now: Timestamp,
}

impl Row<'_> {
    fn of(&self, it: &RuleWaiver) -> Markup {
        let is_over = it.ended_at.is_some() || it.until <= self.now;
        html! { tr {
            td.roomy { span.mono { (it.rule) } br; (self.baseline(&it.baseline)) }
            td.whole data-label="For" { (self.targets.told(it.target, it.tenant)) }
            td data-label="Until" { (self.end(it)) }
            td data-label="Because" { (it.owner) ": " (it.reason)
                div.quiet { "given by " (names::of(self.people, &it.given_by)) " of the " (it.side) ", "
                    (moment_away(it.given_at, self.now)) } }
            @if self.waives { td {
                @if is_over {}
                @else if side(self.by) == Some(it.side) {
                    form method="post" action={ "/waivers/" (it.id) "/end" } { button.quiet { "End it" } }
                } @else { span.quiet { "only the " (it.side) " ends it" } }
            } }
        } }
    }

    fn baseline(&self, which: &BaselineRef) -> Markup {
        html! { @match (which, self.baselines.get(which)) {
            (BaselineRef::BuiltIn(name), _) => a.quiet href={ "/baselines/" (name) } { (name) },
            (_, Some(name)) => a.quiet href={ "/baselines/" (which) } { (name) },
            (_, None) => span.quiet { "a baseline of the provider" },
        } }
    }

    fn end(&self, it: &RuleWaiver) -> Markup {
        let end = moment_away(it.until, self.now);
        html! { @match it.ended_at {
            Some(at) => span.quiet { "ended " (moment_away(at, self.now)) },
            None if it.until <= self.now => span.quiet { "over: " (end) },
            None if it.until <= self.now + NEAR => { span.near { "! " } (end) },
            None => (end),
        } }
    }
}

/// Where somebody says that they answer for a rule.
pub(super) async fn new(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(draft): Query<Draft>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::RuleWaive)?;
    let own = by.id();
    let me = names::people(&app, &by, std::iter::once(own.as_str())).await?;
    let usual = day(app.store.environment().now() + USUAL);
    let draft = Draft {
        owner: me.get(&own).cloned().unwrap_or_default(),
        until: usual.to_string(),
        ..draft
    };
    form(&app, &by, &draft, None).await
}

fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

async fn form(
    app: &App,
    by: &Actor,
    draft: &Draft,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let baseline: BaselineRef = given("baseline", &draft.baseline)?;
    let item = match draft.ci.as_str() {
        "" => None,
        text => Some(app.store.ci(by, given("ci", text)?).await?),
    };
    let (name, rule) = told(app, by, &baseline, &draft.rule).await?;
    let mut groups = app.store.groups(by, &ALL).await?.items;
    groups.retain(|it| item.as_ref().is_none_or(|item| it.tenant == item.tenant));
    let now = app.store.environment().now();
    // The day's end is what counts.
    let (first, last) = (day(now), day(now + LONGEST_WAIVER - DAY));
    Ok(page(
        "/audits",
        "Answer for a rule",
        &html! {
            h1 { "Answer for a rule" }
            (tabs("/waivers"))
            p.lead { "The rule is told as waived, with what it came to, by whom and why. It never passes." }
            (refused(problem))
            dl.facts {
                dt { "Rule" } dd { @if let Some((title, _)) = &rule { (title) " · " } span.mono { (draft.rule) } }
                dt { "Of" } dd { a href={ "/baselines/" (baseline) } { (name) } }
                @if let Some((_, expected)) = &rule { dt { "Expected" } dd { (expected) } }
            }
            @if item.is_none() && groups.is_empty() {
                p.empty { "Of which item? Its audit has this form beside each rule that it does not keep. "
                    a href="/audits" { "Audits" } }
            } @else {
                form.card method="post" action="/waivers" {
                    input type="hidden" name="baseline" value=(draft.baseline);
                    input type="hidden" name="rule" value=(draft.rule);
                    input type="hidden" name="ci" value=(draft.ci);
                    label { "For" select name="group" {
                        @if let Some(item) = &item { option value="" { (item.name) " alone" } }
                        @for it in &groups {
                            option value=(it.id) selected[it.id.to_string() == draft.group] { "all of the group " (it.name) }
                        }
                    } }
                    label { "Who answers for it" input name="owner" value=(draft.owner) maxlength="200" required; }
                    label { "Why" input name="reason" value=(draft.reason) maxlength="2000" required; }
                    label { "Until the end of this day (UTC)"
                        input type="date" name="until" value=(draft.until) min=(first) max=(last) required; }
                    p { button { "Answer for it" } }
                    p.quiet { "It counts from the next audit on. It is recorded, with your name, and kept in clear: put \
                        nothing secret in." }
                }
            }
            @if let Some(item) = &item { p { a href={ "/cis/" (item.id) "/audit" } { "Back to the audit of " (item.name) } } }
        },
    ))
}

/// What a baseline is called, and what a rule of it is about and expects.
async fn told(
    app: &App,
    by: &Actor,
    baseline: &BaselineRef,
    rule: &str,
) -> Result<(String, Option<(String, String)>), Problem> {
    let of = |baseline: &Baseline| {
        let found = baseline.rules.iter().find(|it| it.id == rule);
        found.map(|it| (it.title.clone(), it.expected.clone()))
    };
    match baseline {
        BaselineRef::BuiltIn(name) => {
            Ok((name.clone(), Baseline::built_in().iter().find(|it| it.id == *name).and_then(of)))
        }
        BaselineRef::Own(id) => {
            let name = app.store.baseline(by, *id).await?.name;
            let found = match app.store.baseline_version(by, *id, None).await?.content {
                BaselineContent::Rules(text) => parsed(text).await?.ok().as_ref().and_then(of),
                BaselineContent::Golden(_) | BaselineContent::Release(_) => None,
            };
            Ok((name, found))
        }
    }
}

/// Lets somebody answer for a rule.
pub(super) async fn give(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(draft): axum::Form<Draft>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::RuleWaive)?;
    let given = async { waived(&app, &by, None, asked(&draft)?).await };
    match given.await {
        Ok(waiver) => {
            let place = match waiver.target {
                Target::Ci(ci) => format!("/cis/{ci}/audit"),
                Target::Group(_) | Target::Class(_) => "/waivers".to_owned(),
            };
            Ok(Redirect::to(&place).into_response())
        }
        Err(problem) => {
            let page = form(&app, &by, &draft, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}

fn asked(draft: &Draft) -> Result<WaiverRequest, Problem> {
    let until: Date = given("until", &draft.until)?;
    let wrong = |error: jiff::Error| Problem::new(Kind::Invalid, format!("until: {error}"));
    let end =
        until.tomorrow().and_then(|it| TimeZone::UTC.to_timestamp(it.into())).map_err(wrong)?;
    // Whoever chooses a group means it, whichever item they came from.
    let group: Option<GroupId> = match draft.group.as_str() {
        "" => None,
        text => Some(given("group", text)?),
    };
    let ci: Option<CiId> = match draft.ci.as_str() {
        text if !text.is_empty() && group.is_none() => Some(given("ci", text)?),
        _ => None,
    };
    Ok(WaiverRequest {
        baseline: draft.baseline.clone(),
        rule: draft.rule.clone(),
        group,
        ci,
        owner: draft.owner.trim().to_owned(),
        reason: draft.reason.clone(),
        until: end,
    })
}

/// Takes one back.
pub(super) async fn end(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<WaiverId>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::RuleWaive)?;
    match app.store.end_waiver(&by, id).await {
        Ok(_) => Ok(Redirect::to("/waivers").into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            let page = listed(&app, caller, &by, &Wanted::default(), Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}
