//! A tenant's SLA: the version in force in words, all versions, and what waits for somebody's word.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{PROVIDER, TenantId};
use domain::priority::Priority;
use domain::sla::{DRIFT_HOURS, Difference, Emergency, PRIORITIES, Policy, Terms, Wait, diff};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, PolicyState, PolicyVersion};

use super::clocks::{chosen, tenant_field};
use super::names::{self, Names};
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass};
use crate::App;
use crate::api::{Path, Query};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// Differences of a proposal that are told.
const TOLD: usize = 50;

/// Whose policy is shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    tenant: String,
}

/// Which version somebody agrees to.
#[derive(Debug, Deserialize)]
pub(super) struct Agreed {
    version: String,
}

/// What the page is made of.
struct Sight {
    tenant: TenantId,
    name: String,
    in_force: Policy,
    /// The tenant's own, the newest first, then the provider's default.
    versions: Vec<PolicyVersion>,
    people: Names<String>,
    /// Whether the reader may speak for its side.
    may_agree: bool,
    side: &'static str,
    now: Timestamp,
}

pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::SlaRead)?;
    let tenant = chosen(&app, &by, &wanted.tenant).await?.map_or(by.tenant(), |it| it.id);
    shown(&app, caller, &by, tenant, &wanted.tenant, None).await
}

/// Agrees to a version that the other side proposed.
pub(super) async fn agree(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(tenant): Path<TenantId>,
    axum::Form(Agreed { version }): axum::Form<Agreed>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::SlaAgree)?;
    match app.store.agree_to_policy(&by, tenant, version).await {
        Ok(_) => Ok(Redirect::to(&format!("/sla?tenant={tenant}")).into_response()),
        Err(error @ store::StoreError::Refused { .. }) => {
            let (problem, chosen) = (Problem::from(error), tenant.to_string());
            let page = shown(&app, caller, &by, tenant, &chosen, Some(&problem)).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn shown(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    tenant: TenantId,
    chosen: &str,
    refusal: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let name = app.store.tenant(by, tenant).await?.name.to_string();
    let versions = app.store.policy_versions(by, tenant).await?;
    let people: Vec<_> = versions.iter().flat_map(said_by).collect();
    let people = names::people(app, by, people.iter().map(String::as_str)).await?;
    let sight = Sight {
        tenant,
        name,
        in_force: app.store.policy_in_force(by, tenant).await?,
        versions,
        people,
        may_agree: caller.is_some_and(|it| app.gate.permits(&it, Action::SlaAgree)),
        side: if by.tenant() == PROVIDER { "provider" } else { "tenant" },
        now: app.store.environment().now(),
    };
    let chooser = if by.scope().is_none() {
        html! {
            form.filter method="get" action="/sla" {
                (tenant_field(app, by, chosen).await?)
                button { "Show" }
            }
        }
    } else {
        html! {}
    };
    Ok(page("/sla", "SLA", &sight.body(&chooser, refusal)))
}

/// Whose words a version rests on.
fn said_by(version: &PolicyVersion) -> Vec<String> {
    let proposer = who(&version.proposed_by).1.to_owned();
    std::iter::once(proposer).chain(version.agreed_by.clone()).collect()
}

/// A side and its person, out of `tenant:usr_…`.
fn who(proposed_by: &str) -> (&str, &str) {
    proposed_by.split_once(':').unwrap_or(("", proposed_by))
}

impl Sight {
    fn body(&self, chooser: &Markup, refusal: Option<&Problem>) -> Markup {
        let (document, reference) = (self.in_force.document(), self.in_force.reference());
        let open: Vec<_> = self.versions.iter().filter(|it| self.is_open(it)).collect();
        html! {
            h1 { (self.verdict(&open)) }
            p.lead { (document.title) " · " span.mono { (reference.name) " " (reference.version) } " · "
                (self.origin()) }
            (chooser)
            @if let Some(problem) = refusal {
                p.problem role="alert" { (problem.detail())
                    @if let Some(help) = problem.way_out() { ": " (help) } }
            }
            @for version in open { (self.proposal(version)) }
            h2 { "The waits" }
            p.quiet { "Each wait begins where the one before it ends. The version that was in force when a \
                patch was collected governs it to its end." }
            (waits(&self.in_force))
            (beside(&self.in_force))
            (self.history())
            (elsewhere(&format!("/policies/{}", self.tenant)))
        }
    }

    /// A proposal for this tenant that nobody agreed to yet.
    fn is_open(&self, version: &PolicyVersion) -> bool {
        version.tenant == self.tenant
            && version.state == PolicyState::Proposed
            && version.since.is_none()
    }

    fn is_ours_to_agree(&self, version: &PolicyVersion) -> bool {
        who(&version.proposed_by).0 != self.side
    }

    fn verdict(&self, open: &[&PolicyVersion]) -> String {
        let waits = open.iter().filter(|it| self.is_ours_to_agree(it)).count();
        match (self.tenant == PROVIDER, waits, open.len()) {
            (true, ..) => "The default SLA of all tenants".to_owned(),
            (_, 0, 0) => format!("The SLA of {}", self.name),
            (_, 0, _) => format!("The SLA of {}: a proposal waits for the other side", self.name),
            (_, 1, _) => format!("The SLA of {}: a proposal waits for your side", self.name),
            (_, more, _) => {
                format!("The SLA of {}: {more} proposals wait for your side", self.name)
            }
        }
    }

    /// Where the version in force comes from, and since when it is.
    fn origin(&self) -> Markup {
        let reference = self.in_force.reference();
        let is_it = |it: &&PolicyVersion| it.policy == reference && it.since.is_some();
        html! {
            @match self.versions.iter().find(is_it) {
                Some(version) => {
                    @if version.tenant == PROVIDER { "the provider's default" } @else { "agreed by both sides" }
                    @if let Some(since) = version.since { ", in force since " (moment_away(since, self.now)) }
                }
                None => "the default that Patchwright ships, as nothing else was agreed",
            }
        }
    }

    fn proposal(&self, version: &PolicyVersion) -> Markup {
        let (side, person) = who(&version.proposed_by);
        let differences = Policy::from_toml(&version.document)
            .map(|policy| diff(&self.in_force, &policy))
            .unwrap_or_default();
        let is_ours = self.is_ours_to_agree(version);
        html! {
            h2 { "Proposed: " span.mono { (version.policy.version) } }
            p { "By the " (side) " (" (names::of(&self.people, &person.to_owned())) "), "
                (moment_away(version.proposed_at, self.now)) ". It governs nothing until the other side agrees." }
            (differing(&differences))
            @if is_ours && self.may_agree {
                form method="post" action={ "/sla/" (self.tenant) "/agree" } {
                    input type="hidden" name="version" value=(version.policy.version);
                    p { button { "Agree for the " (self.side) } }
                    p.quiet { "It is in force from then on, for patches that are collected later." }
                }
            } @else if is_ours {
                p.quiet { "Your side is to agree: " (agreers(self.side)) "." }
            } @else {
                p.quiet { "The other side is to agree: " (agreers(side_other_than(side))) "." }
            }
            p.quiet { "On the command line: " code { "patchwright sla policy agree " (version.policy.version)
                @if self.side == "provider" { " --tenant " (self.tenant) } } }
        }
    }

    fn history(&self) -> Markup {
        let reference = self.in_force.reference();
        html! {
            h2 { "Versions" }
            @if self.versions.is_empty() {
                p.quiet { "None was proposed yet: what is shipped governs." }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "Version" } th { "Whose" } th { "State" } th { "Proposed" } th { "Agreed" } } }
                    tbody { @for version in &self.versions {
                        @let (side, person) = who(&version.proposed_by);
                        tr {
                            td { span.mono { (version.policy.version) } " " span.quiet { (version.policy.name) } }
                            td data-label="Whose" {
                                @if version.tenant == PROVIDER { "provider's default" } @else { (self.name) } }
                            td.whole data-label="State" { @match (version.since, version.policy == reference) {
                                (Some(_), true) => span.latest { "✓ in force" },
                                (Some(_), false) => span.quiet { "– agreed, another is in force" },
                                (None, _) => span.near { "○ proposed" },
                            } }
                            td data-label="Proposed" { "by the " (side) ", "
                                (names::of(&self.people, &person.to_owned())) " " br;
                                span.quiet { (moment_away(version.proposed_at, self.now)) } }
                            td data-label="Agreed" { @match (&version.agreed_by, version.since) {
                                (Some(by), Some(at)) => { (names::of(&self.people, by)) " " br;
                                    span.quiet { (moment_away(at, self.now)) } }
                                (None, Some(_)) => span.quiet { "needs nobody's word" },
                                _ => span.quiet { "not yet" },
                            } }
                        }
                    } }
                } }
            }
            p.quiet { "Propose one with " code { "patchwright sla policy propose FILE" }
                "; " code { "patchwright sla check FILE" } " tells first whether it can be kept." }
        }
    }
}

fn agreers(side: &str) -> &'static str {
    if side == "provider" { "one of the provider's admins" } else { "one of the tenant's owners" }
}

fn side_other_than(side: &str) -> &'static str {
    if side == "provider" { "tenant" } else { "provider" }
}

fn differing(differences: &[Difference]) -> Markup {
    html! {
        @if differences.is_empty() {
            p.quiet { "It says the same as the version in force." }
        } @else {
            ul { @for difference in differences.iter().take(TOLD) { li { (told(difference)) } } }
            @if differences.len() > TOLD { p.quiet { (differences.len() - TOLD) " more: see the request below." } }
        }
    }
}

/// A key's place, and what becomes of it.
fn told(difference: &Difference) -> Markup {
    let told = difference.to_string();
    let key = format!("`{}`", difference.key);
    html! { @match told.strip_prefix(&key) {
        Some(rest) => { code { (difference.key) } (rest) },
        None => (told),
    } }
}

/// A row of waits: what it is, and how it stands in the terms of a priority.
type Row = (&'static str, fn(&Terms) -> String);

const ROWS: [Row; 12] = [
    ("Collected until verified, in all", |terms| terms.deadline.to_string()),
    ("Collected until evaluated", |terms| or_with(terms.evaluate)),
    ("Evaluated until tested", |terms| or_with(terms.test)),
    ("Tested until the notice", |terms| or_with(terms.notify)),
    ("Notice until the earliest start", |terms| or_none(terms.notice.lead)),
    ("Reminder before the start", |terms| or_none(terms.notice.reminder)),
    ("What the tenant is asked", |terms| terms.approval.to_string()),
    ("Approved until installed", |terms| or_with(terms.install)),
    ("Installed until verified", |terms| or_with(terms.verify)),
    ("What may be put off", |terms| match terms.deferrals.count {
        0 => "nothing".to_owned(),
        count => format!("{count} × {}", terms.deferrals.longest),
    }),
    ("Least age since publication", |terms| or_none(terms.soak)),
    ("Its side is told at", |terms| {
        let shares: Vec<_> = terms.escalate.iter().map(|share| format!("{share} %")).collect();
        if shares.is_empty() { "the due date".to_owned() } else { shares.join(", ") }
    }),
];

fn or_none(wait: Wait) -> String {
    if wait == Wait::NONE { "none".to_owned() } else { wait.to_string() }
}

/// A wait of nothing shares the deadline of the one before.
fn or_with(wait: Wait) -> String {
    if wait == Wait::NONE { "with the one before".to_owned() } else { wait.to_string() }
}

fn waits(policy: &Policy) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th { "Wait" } @for priority in PRIORITIES { th class=(priority) { (priority) } } } }
            tbody {
                @for (what, cell) in ROWS { tr {
                    td { (what) }
                    @for priority in PRIORITIES {
                        td data-label=(priority) { (cell(policy.terms(priority))) }
                    }
                } }
                @if PRIORITIES.iter().any(|it| policy.terms(*it).emergency.is_some()) { tr {
                    td { "In an emergency" }
                    @for priority in PRIORITIES {
                        td data-label=(priority) { (emergency(policy.terms(priority).emergency.as_ref())) }
                    }
                } }
            }
        } }
        p.quiet { "d: 24 hours; bd: business days of the calendar. An emergency is what is known to be \
            exploited, on systems that are exposed." }
    }
}

/// What is otherwise in an emergency.
fn emergency(terms: Option<&Emergency>) -> String {
    let Some(Emergency { deadline, evaluate, test, lead, install, verify, approval, .. }) = terms
    else {
        return "as ever".to_owned();
    };
    let waits = [
        ("in all", deadline),
        ("evaluated", evaluate),
        ("tested", test),
        ("installed", install),
        ("verified", verify),
    ];
    let waits =
        waits.into_iter().filter_map(|(what, wait)| wait.map(|wait| format!("{what} {wait}")));
    let lead = if *lead == Wait::NONE {
        "told as it happens".to_owned()
    } else {
        format!("notice {lead}")
    };
    let approval = approval.map(|asked| asked.to_string());
    std::iter::once(lead).chain(waits).chain(approval).collect::<Vec<_>>().join("; ")
}

/// Calendar, regulations and what is left out.
fn beside(policy: &Policy) -> Markup {
    let (document, calendar) = (policy.document(), policy.calendar());
    html! {
        h2 { "Beside the waits" }
        dl.facts {
            dt { "Time zone" } dd { (calendar.zone.name()) }
            dt { "Holidays" } dd { @if calendar.holidays.is_empty() { "none" } @else {
                (calendar.holidays.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")) } }
            dt { "Freezes" } dd { @if calendar.freezes.is_empty() { "none" } @else {
                @for freeze in &calendar.freezes { div { (freeze.from) " until " (freeze.until) ": " (freeze.reason)
                    @if !freeze.except.is_empty() { span.quiet { ", except "
                        (freeze.except.iter().map(Priority::to_string).collect::<Vec<_>>().join(", ")) } } } } } }
            dt { "Regulations that bind as well" } dd { @if document.regulations.is_empty() { "none" } @else {
                (document.regulations.join(", ")) } }
            dt { "Snapshots before restarts" } dd { @if document.snapshots {
                "machines' disks are kept, and may be gone back to" } @else { "none" } }
            dt { "Drift escalates after" } dd { (document.drift_hours.unwrap_or(DRIFT_HOURS)) " hours" }
            dt { "Left out" } dd { @if document.exclusions.is_empty() { "nothing" } @else {
                @for left_out in &document.exclusions { div { (left_out.what) ": " (left_out.reason)
                    @if let Some(until) = left_out.until { span.quiet { ", until " (until) } } } } } }
        }
    }
}
