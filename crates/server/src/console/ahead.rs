//! What a tenant signs with, and what it agreed to ahead.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::change::{
    Disruption, Ended, Key, KeyEvent, KeyId, KeyRing, Kind, Nonce, Scope, StandingRule,
};
use domain::cloud::{CiId, TenantId};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, ConsentKey, KeptRule};

use super::clocks::{chosen, tenant_field};
use super::names::{self, Names};
use super::times::moment_away;
use super::{Refusal, elsewhere, page, pass, recovery};
use crate::App;
use crate::api::Query;
use crate::api::changes::accepted;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// Items of a rule that are named.
const ITEMS: usize = 20;

/// Whose keys and rules are shown.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    tenant: String,
}

/// Which rule is to count no more.
#[derive(Debug, Deserialize)]
pub(super) struct Taken {
    nonce: String,
}

/// Which key is to count no more.
#[derive(Debug, Deserialize)]
pub(super) struct Lost {
    key: String,
}

/// What the page is made of.
struct Sight {
    tenant: TenantId,
    name: String,
    ring: KeyRing,
    keys: Vec<ConsentKey>,
    rules: Vec<KeptRule>,
    people: Names<String>,
    items: Names<CiId>,
    /// To take a rule back.
    withdraws: bool,
    /// To revoke a key.
    revokes: bool,
    now: Timestamp,
}

pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConsentRead)?;
    let tenant = chosen(&app, &by, &wanted.tenant).await?.map_or(by.tenant(), |it| it.id);
    shown(&app, caller.as_ref(), &by, tenant, &wanted.tenant, None).await
}

/// Takes a rule of one's own tenant back.
pub(super) async fn withdraw(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(Taken { nonce }): axum::Form<Taken>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::ConsentGive)?;
    let nonce: Nonce = nonce.parse().map_err(|_| Problem::not_found("such rule"))?;
    app.store.withdraw_rule(&by, by.tenant(), nonce).await?;
    Ok(Redirect::to("/consent").into_response())
}

/// Revokes a key of one's own tenant.
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(Lost { key }): axum::Form<Lost>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConsentKeys)?;
    let key: KeyId = key.parse().map_err(|_| Problem::not_found("such key"))?;
    let Actor::Person { user, tenant, .. } = by else {
        return Err(Problem::not_found("such key").into());
    };
    let event = KeyEvent::Revoke { key, by: user };
    match accepted(app.store.alter_keys(&by, tenant, event, None).await?) {
        Ok(_) => Ok(Redirect::to("/consent").into_response()),
        Err(problem) => {
            let page = shown(&app, caller.as_ref(), &by, tenant, "", Some(&problem)).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn shown(
    app: &App,
    caller: Option<&Caller>,
    by: &Actor,
    tenant: TenantId,
    chosen: &str,
    refusal: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let name = app.store.tenant(by, tenant).await?.name.to_string();
    let warning = recovery::warning(app, caller, by).await?;
    let (ring, keys) = app.store.key_ring(by, tenant).await?;
    let rules = app.store.rules(by, tenant).await?;
    let holders: BTreeSet<String> = ring.keys().map(|it| it.key.holder.to_string()).collect();
    let people = names::people(app, by, holders.iter().map(String::as_str)).await?;
    let items = rules.iter().flat_map(|kept| match &kept.standing.rule().items {
        Scope::All => Vec::new(),
        Scope::These { items } => items.iter().take(ITEMS).copied().collect(),
    });
    let items = names::items(app, by, items).await?;
    // Of another tenant nobody may, whatever their role.
    let may = |action| {
        by.tenant() == tenant && caller.is_some_and(|caller| app.gate.permits(caller, action))
    };
    let sight = Sight {
        tenant,
        name,
        ring,
        keys,
        rules,
        people,
        items,
        withdraws: may(Action::ConsentGive),
        revokes: may(Action::ConsentKeys),
        now: app.store.environment().now(),
    };
    let chooser = if by.scope().is_none() {
        html! {
            form.filter method="get" action="/consent" {
                (tenant_field(app, by, chosen).await?)
                button { "Show" }
            }
        }
    } else {
        html! {}
    };
    Ok(page("/consent", "Consent", &sight.body(&warning, &chooser, refusal)))
}

/// How a rule stands.
enum Standing {
    Counts,
    NotYet,
    Over,
    Withdrawn(Timestamp),
    KeyRevoked(Timestamp),
}

impl Sight {
    fn body(&self, warning: &Markup, chooser: &Markup, refusal: Option<&Problem>) -> Markup {
        html! {
            (warning)
            h1 { (self.verdict()) }
            p.lead { "A consent is a signature over one plan. " (self.name) " makes it with these keys, or \
                agrees ahead by a rule that is itself signed." }
            (chooser)
            @if let Some(problem) = refusal {
                p.problem role="alert" { (problem.detail())
                    @if let Some(help) = problem.way_out() { ": " (help) } }
            }
            (self.rules())
            (self.keys())
            (elsewhere(&format!("/rules/{}", self.tenant)))
        }
    }

    fn verdict(&self) -> String {
        let counting = self.rules.iter().filter(|it| matches!(self.stands(it), Standing::Counts));
        let keys = self.ring.keys().filter(|it| it.ended.is_none()).count();
        match (keys, counting.count()) {
            (0, _) => format!("{} has no key to sign with.", self.name),
            (_, 0) => format!("{} agrees to each plan by itself.", self.name),
            (_, 1) => format!("{} agrees ahead by 1 rule.", self.name),
            (_, rules) => format!("{} agrees ahead by {rules} rules.", self.name),
        }
    }

    fn stands(&self, kept: &KeptRule) -> Standing {
        let (standing, rule) = (&kept.standing, kept.standing.rule());
        match (standing.withdrawn(), self.ring.revoked_at(standing.key())) {
            (Some(at), _) => Standing::Withdrawn(at),
            (_, Some(at)) => Standing::KeyRevoked(at),
            _ if rule.until <= self.now => Standing::Over,
            _ if self.now < rule.from => Standing::NotYet,
            _ => Standing::Counts,
        }
    }

    /// What people call a key.
    fn called(&self, id: KeyId) -> Markup {
        let label = self.keys.iter().find(|it| it.id == id).map_or("", |it| it.label.as_str());
        html! { @if !label.is_empty() { "“" (label) "” " } code title=(id) { (short(id)) } }
    }

    fn rules(&self) -> Markup {
        html! {
            h2 id="rules" { "Agreed ahead" }
            @if self.rules.is_empty() {
                p.empty { "No rule was given: each plan is asked about by itself. A rule says for example \
                    that low and medium patches may be installed on Tuesday nights: "
                    code { "patchwright consent rule make" } }
            }
            div.choices { @for kept in &self.rules { (self.rule(kept)) } }
        }
    }

    fn rule(&self, kept: &KeptRule) -> Markup {
        let (rule, now) = (kept.standing.rule(), self.now);
        let stands = self.stands(kept);
        html! {
            section.card {
                h3 { (covered(rule)) }
                p { @match stands {
                    Standing::Counts => span.latest { "✓ counts" },
                    Standing::NotYet => span.near { "○ counts later" },
                    Standing::Over => span.quiet { "– over" },
                    Standing::Withdrawn(at) => span.quiet { "– withdrawn " (moment_away(at, now)) },
                    Standing::KeyRevoked(at) => span.outdated { "✗ its key was revoked " (moment_away(at, now)) },
                } }
                dl.facts {
                    dt { "On" } dd { (self.scope(&rule.items)) }
                    dt { "Disturbing" } dd { (disturbing(rule.disruption)) }
                    dt { "In" } dd { @if rule.windows.is_empty() { "no window: it agrees to nothing" }
                        @for window in &rule.windows { div { (window) } } }
                    dt { "Counts" } dd { "from " (moment_away(rule.from, now)) " until " (moment_away(rule.until, now)) }
                    dt { "Signed" } dd { "with " (self.called(kept.standing.key())) ", received "
                        (moment_away(kept.created_at, now)) }
                }
                @if self.withdraws && matches!(stands, Standing::Counts | Standing::NotYet) {
                    details.inner {
                        summary { "Take it back…" }
                        form method="post" action="/consent/withdraw" {
                            input type="hidden" name="nonce" value=(rule.nonce);
                            p { "Plans that rest on it are asked about again. That needs no key, since it only \
                                makes less happen." }
                            p { button.quiet { "Take the rule back" } }
                        }
                    }
                }
            }
        }
    }

    fn scope(&self, scope: &Scope) -> Markup {
        html! { @match scope {
            Scope::All => "all systems, also those that come later",
            Scope::These { items } => {
                @for (at, item) in items.iter().take(ITEMS).enumerate() {
                    @if at > 0 { ", " }
                    a href={ "/cis/" (item) } { (names::of(&self.items, item)) }
                }
                @if items.len() > ITEMS { " and " (items.len() - ITEMS) " more" }
            }
        } }
    }

    fn keys(&self) -> Markup {
        let keys: Vec<&Key> = self.ring.keys().collect();
        html! {
            h2 id="keys" { "Keys" }
            @if keys.is_empty() {
                p.empty { "There is no key yet. An owner registers the first: a passkey on the page of a plan \
                    that is to be answered, or " code { "patchwright consent key register" } }
            } @else {
                div.wide { table.stack {
                    thead { tr { th { "Key" } th { "Kind" } th { "Held by" } th { "Since" } th { "State" }
                        @if self.revokes { th {} } } }
                    tbody { @for known in keys { (self.key(known)) } }
                } }
                p.quiet { "A further key is brought by an order that one of these signs: "
                    code { "patchwright consent key add" } }
            }
        }
    }

    fn key(&self, known: &Key) -> Markup {
        let id = known.key.id;
        html! { tr {
            td { (self.called(id)) }
            td data-label="Kind" { (known.key.kind) }
            td data-label="Held by" { (names::of(&self.people, &known.key.holder.to_string())) }
            td data-label="Since" { (moment_away(known.since, self.now)) }
            td data-label="State" { @match known.ended {
                None => span.latest { "✓ in force" },
                Some(Ended::Rotation { at, to }) => {
                    span.quiet { "– replaced by " code { (short(to)) } " " (moment_away(at, self.now)) } }
                Some(Ended::Revocation { at }) => span.outdated { "✗ revoked " (moment_away(at, self.now)) },
            } }
            @if self.revokes { td { @if known.ended.is_none() {
                details.inner {
                    summary { "Revoke…" }
                    form method="post" action="/consent/revoke" {
                        input type="hidden" name="key" value=(id);
                        p { "Nothing that it signed starts anything any more, for good." }
                        button.quiet { "Revoke it" }
                    }
                }
            } } }
        } }
    }
}

/// What a rule agrees to, in a line.
fn covered(rule: &StandingRule) -> String {
    let words = |words: Vec<String>| match words.split_last() {
        None => "no".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    };
    let priorities = words(rule.priorities.iter().map(ToString::to_string).collect());
    let plural = |kind: &Kind| match kind {
        Kind::Patch => "patches".to_owned(),
        Kind::Alteration => "alterations".to_owned(),
    };
    let kinds = words(rule.kinds.iter().map(plural).collect());
    format!("Agrees to {kinds} of {priorities} priority")
}

const fn disturbing(disruption: Disruption) -> &'static str {
    match disruption {
        Disruption::Harmless => "nothing that runs",
        Disruption::Restarts => "services, which may restart; the system does not",
        Disruption::Reboots => "the system, which may restart",
    }
}

fn short(id: KeyId) -> String {
    id.to_string().chars().take(12).collect()
}
