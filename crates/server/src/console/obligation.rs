//! What a change asks of one tenant: what is waited for, by whom and until when, and why.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::change::{Lack, Phase, PlanHash, Share};
use domain::cloud::CiId;
use domain::sla::{ClockView, DueDate, Facts, Goal, State as ClockState};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{
    Actor, Consent, ErrandRecord, Matter, Move, NoticeFilter, NoticeRow, OrderFilter, OrderRow,
    PageRequest,
};

use super::names::{self, Names};
use super::times::{moment, moment_away};
use super::{
    Refusal, answers, clocks, consent, course, elsewhere, headline, notices, page, pass, plan,
    releases,
};
use crate::App;
use crate::api::changes::accepted;
use crate::api::interruptions::{InterruptionView, interruptions};
use crate::api::obligations::Which;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// Notices of an obligation that are shown, the newest.
const NOTICES: u16 = 50;

/// Orders of an obligation that are shown, the newest.
const ORDERS: u16 = 50;

/// Which plan somebody means: the one that they saw.
#[derive(Deserialize)]
pub(super) struct Seen {
    plan: String,
}

/// What the page is made of.
struct Sight {
    matter: Matter,
    consents: Vec<Consent>,
    notices: Vec<NoticeRow>,
    interruptions: Vec<InterruptionView>,
    errands: Vec<ErrandRecord>,
    orders: Vec<OrderRow>,
    tenant: String,
    items: Names<CiId>,
    people: Names<String>,
    now: Timestamp,
}

/// What the reader may do here.
struct Deeds {
    /// To answer for the tenant.
    consent: Markup,
    countersign: bool,
    withdraw: bool,
    close: bool,
}

pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    which: Which,
) -> Result<Markup, Refusal> {
    shown(&app, caller, &which, None).await
}

/// Agrees to the plan that was seen as one of the provider's people.
pub(super) async fn countersign(
    State(app): State<App>,
    caller: Option<Caller>,
    which: Which,
    axum::Form(Seen { plan }): axum::Form<Seen>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeCountersign)?;
    let plan: PlanHash =
        plan.parse().map_err(|_| Problem::new(Kind::Invalid, "this is no hash of a plan"))?;
    done(&app, caller, &by, &which, Move::Countersign(plan)).await
}

/// Takes the change back for this tenant.
pub(super) async fn withdraw(
    State(app): State<App>,
    caller: Option<Caller>,
    which: Which,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeDecide)?;
    done(&app, caller, &by, &which, Move::Withdraw).await
}

/// Closes what is verified or refused.
pub(super) async fn close(
    State(app): State<App>,
    caller: Option<Caller>,
    which: Which,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::ChangeDecide)?;
    done(&app, caller, &by, &which, Move::Close).await
}

/// The page anew; with the refusal on it, where the rules do not allow what was asked.
async fn done(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    which: &Which,
    action: Move,
) -> Result<Response, Refusal> {
    let outcome = app.store.advance(by, which.change, which.tenant, action).await?;
    match accepted(outcome) {
        Ok(_) => {
            let path = format!("/obligations/{}/{}", which.change, which.tenant);
            Ok(Redirect::to(&path).into_response())
        }
        Err(problem) => {
            let page = shown(app, caller, which, Some(&problem)).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn shown(
    app: &App,
    caller: Option<Caller>,
    which: &Which,
    refusal: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let by = pass(app, caller.clone(), Action::ChangeRead)?;
    let caller = caller.ok_or_else(Problem::unauthenticated)?;
    let sight = Sight::of(app, &caller, &by, which).await?;
    let deeds = Deeds::of(app, &caller, &by, &sight.matter).await?;
    Ok(page("/clocks", &sight.matter.change.title, &sight.body(which, &deeds, refusal)))
}

impl Sight {
    async fn of(app: &App, caller: &Caller, by: &Actor, which: &Which) -> Result<Self, Refusal> {
        let Which { change, tenant } = *which;
        let matter = app.store.matter(by, change, tenant).await?;
        let consents = if app.gate.permits(caller, Action::ConsentRead) {
            app.store.consents(by, change, tenant).await?
        } else {
            Vec::new()
        };
        let notices = if app.gate.permits(caller, Action::NoticeRead) {
            let filter = NoticeFilter { tenant: Some(tenant), change: Some(change), unread: false };
            let request = PageRequest { after: None, limit: NOTICES };
            app.store.notices(by, &filter, &request).await?.items
        } else {
            Vec::new()
        };
        let claims = app.store.interruption_claims(by, change, tenant).await?;
        let interruptions = interruptions(&matter, &claims);
        let filter =
            OrderFilter { tenant: Some(tenant), change: Some(change), ..OrderFilter::default() };
        let orders = app.store.orders(by, &filter, ORDERS).await?;
        let tenants = names::tenants(app, by, std::iter::once(tenant)).await?;
        let share = matter.obligation.share();
        let items = share.into_iter().flat_map(|share| share.plan().items());
        let items = items.map(|it| it.ci).take(plan::ITEMS);
        let items = items.chain(orders.iter().map(|order| order.ci));
        let items = names::items(app, by, items).await?;
        let signers = share.into_iter().flat_map(Share::approvals).map(|it| it.by);
        let people = signers.chain(share.map(Share::author)).map(|it| it.to_string());
        let people: Vec<_> =
            people.chain(consents.iter().map(|it| it.received_by.clone())).collect();
        let errands = app.store.errand_records(by, change, tenant).await?;
        let said = claims.into_iter().map(|it| it.claimed_by);
        let said = said.chain(errands.iter().map(|it| it.recorded_by.clone()));
        let people = [people, said.collect()].concat();
        let people = names::people(app, by, people.iter().map(String::as_str)).await?;
        let now = app.store.environment().now();
        let tenant = names::of(&tenants, &tenant);
        Ok(Self {
            matter,
            consents,
            notices,
            interruptions,
            errands,
            orders,
            tenant,
            items,
            people,
            now,
        })
    }

    fn body(&self, which: &Which, deeds: &Deeds, refusal: Option<&Problem>) -> Markup {
        let Self { matter, now, .. } = self;
        let obligation = &matter.obligation;
        let clock = obligation.clock(&matter.policy, *now);
        let spans = obligation.case(&matter.policy).attribution(*now);
        html! {
            h1 { (headline::headline(obligation, clock.as_ref(), &self.tenant, *now)) }
            p.lead {
                a href={ "/changes/" (which.change) } { (matter.change.title) } " · " (self.tenant) " · "
                span class=(obligation.facts().priority) { (obligation.facts().priority) } " · "
                (clocks::spaced(obligation.phase())) " · installed by the " (obligation.duty()) " · "
                (exposed(obligation.facts())) " · "
                (stands(clock.as_ref(), *now))
            }
            @if let Some(problem) = refusal {
                p.problem role="alert" { (problem.detail())
                    @if let Some(help) = problem.way_out() { ": " (help) } }
            }
            (dates(obligation.dues().all(), *now))
            p.quiet { "The waits in between are those of the " a href={ "/sla?tenant=" (which.tenant) } { "SLA" }
                ", in its version " span.mono { (obligation.policy().version) } "." }
            (self.lacks())
            @match obligation.share() {
                None => { h2 id="plan" { "Plan" } p.empty { "There is no plan yet. It is made once the \
                    change is proven." } }
                Some(share) => {
                    (plan::section(share, &self.items, &self.people, *now))
                    h2 id="consent" { "Consent" }
                    p { (answers::asked(&share.terms().dates, *now)) }
                    (answers::given(share, &self.consents, &self.people))
                    (deeds.consent)
                    p.quiet { a href={ "/consent?tenant=" (which.tenant) } { "Keys, and what is agreed ahead" } }
                }
            }
            (course::errands(
                clock.as_ref().map_or(&[][..], |clock| &clock.owed), &self.errands, &self.people, *now,
            ))
            (deeds.forms(which, obligation.share().map(|share| share.plan().hash())))
            (releases::told(&self.orders, &self.items, *now))
            (course::timeline(obligation.instants().records(), *now))
            (course::ledger(&spans, clock.as_ref().map(|clock| &clock.state)))
            (course::interruptions(&self.interruptions, &self.people))
            (notices::of_obligation(&self.notices, *now))
            (elsewhere(&format!("/obligations/{}/{}", which.change, which.tenant)))
            script src="/console.js" {}
        }
    }

    /// What it lacks to start, as long as it may.
    fn lacks(&self) -> Markup {
        let may_start = |share: &Share| share.phase().is_before_start();
        let Some(_) = self.matter.obligation.share().filter(|share| may_start(share)) else {
            return html! {};
        };
        let lacks = self.matter.lacks(self.now).unwrap_or_default();
        html! {
            h2 { "What it lacks to start" }
            @if lacks.is_empty() {
                p { span.latest { "✓ Nothing" } ": it may start now." }
            } @else {
                ul { @for lack in &lacks { li { (missing(lack, self.now)) } } }
            }
        }
    }
}

fn missing(lack: &Lack, now: Timestamp) -> Markup {
    let what = match lack {
        Lack::LeadTime { until } => {
            html! { "The lead time of the notice runs until " (moment_away(*until, now)) "." }
        }
        Lack::WindowAhead { opens } => {
            html! { "The window opens at " (moment_away(*opens, now)) "." }
        }
        Lack::WindowOver { closed } => {
            html! { "The window was over at " (moment_away(*closed, now)) "." }
        }
        Lack::Evidence { until } => {
            html! { "It is known to be exploited, and what the patch may wipe is not saved: it waits for that until "
            (moment_away(*until, now)) "." }
        }
        Lack::Deferred { until } => {
            html! { "The tenant put it off until " (moment_away(*until, now)) "." }
        }
        Lack::Refused { until } => {
            html! { "The tenant refused it, and bears the risk until " (moment_away(*until, now)) "." }
        }
        Lack::Consent { .. } => html! { "The tenant has not agreed to this plan." },
        Lack::OtherPlan { .. } => html! { "The tenant agreed to another plan, not to this one." },
        other => html! { (sentence(&other.to_string())) },
    };
    html! {
        (what) " "
        @if lack.passes_at().is_some() { span.quiet { "It passes by itself." } }
        @else { strong { (sentence(lack.help())) } }
    }
}

/// A clause as a sentence of its own.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// Whether it is known to be exploited, and how exposed the items are.
fn exposed(facts: &Facts) -> Markup {
    html! {
        @if let Some(by) = facts.exploited_by() { span.critical { "exploited" } span.quiet { " (" (by) ")" } " · " }
        @match &facts.asset.exposure {
            Some(said) => { "exposure " (said.value) span.quiet { " (" (said.by) ")" } }
            None => span.unknown { "? exposure unknown: counts as open" },
        }
    }
}

/// How the clock stands, in a word with its sign.
fn stands(clock: Option<&ClockView>, now: Timestamp) -> Markup {
    html! { @match clock.map(|clock| &clock.state) {
        None => span.unknown { "? unknown: no clock runs" },
        Some(ClockState::Ok) => span.latest { "✓ in time" },
        Some(ClockState::Warn { share }) => span.near { "! " (share) " % of the time is used" },
        Some(ClockState::Overdue { since }) => {
            span.outdated { "✗ overdue" } " since " (moment_away(*since, now))
        }
        Some(ClockState::Breached(_)) => span.critical { "✗ due date passed" },
        Some(ClockState::Met) => span.latest { "✓ done in time" },
        Some(ClockState::Withdrawn) => span.quiet { "– withdrawn in time" },
    } }
}

fn dates(dates: &[DueDate], now: Timestamp) -> Markup {
    html! {
        h2 { "Dates that bind" }
        div.wide { table.stack {
            thead { tr { th { "Before" } th { "Is to be" } th { "By" } th { "In its words" }
                th { "Counted from" } } }
            tbody { @for date in dates { tr {
                td { (moment_away(date.due, now)) }
                td data-label="Is to be" { (reached(date.goal)) }
                td data-label="By" { (date.pack.name) " " span.quiet { (date.pack.version) } }
                td data-label="In its words" { (date.clause) }
                td data-label="Counted from" { (moment(date.started)) }
            } } }
        } }
    }
}

const fn reached(goal: Goal) -> &'static str {
    match goal {
        Goal::Evaluated => "evaluated",
        Goal::Verified => "installed and verified",
    }
}

impl Deeds {
    async fn of(app: &App, caller: &Caller, by: &Actor, matter: &Matter) -> Result<Self, Problem> {
        let decides = app.gate.permits(caller, Action::ChangeDecide);
        let share = matter.obligation.share();
        let phase = share.map(Share::phase);
        let countersigns = app.gate.permits(caller, Action::ChangeCountersign);
        let speaks = consent::Speaks::of(app, caller);
        Ok(Self {
            consent: consent::section(app, by, speaks, matter).await?,
            countersign: countersigns && share.is_some_and(|share| awaits_word_of(share, by)),
            withdraw: decides
                && phase.map_or(!matter.obligation.is_settled(), Phase::is_before_start),
            close: decides && matches!(phase, Some(Phase::Verified | Phase::Refused { .. })),
        })
    }

    fn forms(&self, which: &Which, plan: Option<PlanHash>) -> Markup {
        let path = format!("/obligations/{}/{}", which.change, which.tenant);
        html! {
            @if self.countersign || self.withdraw || self.close {
                h2 { "What you can do" }
                div.deeds {
                    @if let Some(plan) = plan.filter(|_| self.countersign) {
                        form method="post" action={ (path) "/countersign" } {
                            input type="hidden" name="plan" value=(plan);
                            button { "Agree to this plan" }
                            p.quiet { "As one of the provider's people, beside its author." }
                        }
                    }
                    @if self.close {
                        form method="post" action={ (path) "/close" } {
                            button.quiet { "Close it" }
                            p.quiet { "Nothing is left to do. It opens again where a scan finds it missing." }
                        }
                    }
                    @if self.withdraw {
                        details.inner {
                            summary { "Withdraw it for this tenant…" }
                            form method="post" action={ (path) "/withdraw" } {
                                p { "It starts here no more, for good, and the tenant is told so." }
                                button { "Withdraw it" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether somebody can still agree to a plan: it has not started, and they neither wrote it nor
/// agreed before.
fn awaits_word_of(share: &Share, by: &Actor) -> bool {
    let plan = share.plan().hash();
    let Actor::Person { user, .. } = by else { return false };
    let agreed = share.approvals().iter().any(|it| it.plan == plan && it.by == *user);
    share.phase().is_before_start() && share.author() != *user && !agreed
}
