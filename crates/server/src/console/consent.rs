//! A tenant's answer to a plan, signed with a passkey.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use domain::change::{Action as Step, KeyId, Phase, Plan, Share};
use domain::cloud::{CiId, TenantId};
use jiff::Timestamp;
use maud::{Markup, html};
use store::{Actor, Consent, Factors, Matter, Passkey};

use super::{Refusal, elsewhere, page};
use crate::App;
use crate::api::obligations::Which;
use crate::api::signing;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// Steps of a stage that are told one by one.
const TOLD: usize = 20;

/// Items whose names are looked up.
const NAMED: usize = 100;

/// What somebody who looks may do about a plan.
enum May {
    /// Look.
    Read,
    /// Speak for the tenant, once a passkey of theirs is its key. Some may register the first one.
    Register { passkeys: Vec<Passkey>, is_first: bool },
    /// Sign.
    Sign(Vec<(Passkey, KeyId)>),
}

/// The page on which a tenant answers a plan.
pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Which { change, tenant }: Which,
) -> Result<Markup, Refusal> {
    let caller = caller.ok_or_else(Problem::unauthenticated)?;
    let speaks = Speaks::of(&app, &caller);
    let by = app.gate.pass(caller, Action::ChangeRead)?;
    let matter = app.store.matter(&by, change, tenant).await?;
    let section = section(&app, &by, speaks, &matter).await?;
    let names = match matter.obligation.share() {
        Some(share) => names(&app, &by, share.plan()).await,
        None => BTreeMap::new(),
    };
    Ok(page(
        "/changes",
        &matter.change.title,
        &html! {
            h1 { (matter.change.title) }
            p.lead { (matter.obligation.facts().priority) " · " (words(matter.obligation.phase())) }
            @match matter.obligation.share() {
                Some(share) => (plan(share.plan(), &names)),
                None => p.empty { "There is no plan yet. Once there is one, it is answered here." },
            }
            (section)
            (elsewhere(&format!("/obligations/{change}/{tenant}")))
            script src="/console.js" {}
        },
    ))
}

/// What the items are called that are told one by one. One that is gone by now is told by its id.
async fn names(app: &App, by: &Actor, plan: &Plan) -> BTreeMap<CiId, String> {
    let mut names = BTreeMap::new();
    let told = plan.draft().stages.iter().flat_map(|stage| stage.items.iter().take(TOLD));
    for item in told.take(NAMED) {
        if let Ok(ci) = app.store.ci(by, item.ci).await {
            names.insert(item.ci, ci.name.to_string());
        }
    }
    names
}

/// What the policies let somebody do about consent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaks {
    may_consent: bool,
    may_keep_keys: bool,
}

impl Speaks {
    pub(super) fn of(app: &App, caller: &Caller) -> Self {
        Self {
            may_consent: app.gate.permits(caller, Action::ConsentGive),
            may_keep_keys: app.gate.permits(caller, Action::ConsentKeys),
        }
    }
}

/// What was answered, and what one can answer now. Pages with it need the console's script.
pub(super) async fn section(
    app: &App,
    by: &Actor,
    speaks: Speaks,
    matter: &Matter,
) -> Result<Markup, Problem> {
    let (change, tenant) = (matter.obligation.change(), matter.obligation.tenant());
    let consents = app.store.consents(by, change, tenant).await?;
    let (may, now) = (may(app, by, speaks, matter).await?, app.store.environment().now());
    let share = matter.obligation.share();
    Ok(html! {
        @if !consents.is_empty() { (answers(&consents, share)) }
        @if let Some(share) = share.filter(|share| is_answered_now(share)) {
            @match &may {
                May::Read => {},
                _ if !app.relying_party.has_passkeys() => {
                    h2 { "Answer" }
                    p.empty { "Passkeys are bound to a name: open the console by its name, which "
                        code { "up --url" } " tells. Or sign elsewhere: " (by_command()) }
                }
                May::Register { passkeys, is_first } => {
                    h2 { "Answer" }
                    (register(passkeys, *is_first, tenant))
                }
                May::Sign(signers) => {
                    h2 { "Answer" }
                    @if !consents.is_empty() {
                        p { "Of several answers the one given last counts." }
                    }
                    (what_is_signed(share, signers))
                    (choices(matter, share, now))
                }
            }
        }
    })
}

async fn may(app: &App, by: &Actor, speaks: Speaks, matter: &Matter) -> Result<May, Problem> {
    let Actor::Person { user, tenant, .. } = *by else { return Ok(May::Read) };
    if !speaks.may_consent || tenant != matter.obligation.tenant() {
        return Ok(May::Read);
    }
    let factors: Factors = app.store.factors(user).await?;
    let signers = signing::signers(&factors, &matter.keys, user);
    if signers.is_empty() {
        let is_first = speaks.may_keep_keys && matter.keys.keys().next().is_none();
        return Ok(May::Register { passkeys: factors.passkeys, is_first });
    }
    Ok(May::Sign(signers.into_iter().map(|(passkey, key)| (passkey.clone(), key)).collect()))
}

/// Whether a tenant can say something to it: it was told, and nothing started.
const fn is_answered_now(share: &Share) -> bool {
    matches!(
        share.phase(),
        Phase::Notified
            | Phase::Lapsed
            | Phase::Approved { .. }
            | Phase::Scheduled { .. }
            | Phase::Deferred { .. }
            | Phase::Refused { .. }
    )
}

fn words(phase: &str) -> String {
    phase.replace('_', " ")
}

fn when(at: Timestamp) -> Markup {
    html! { time.when datetime=(at) { (at.strftime("%-d %b %Y, %H:%M UTC")) } }
}

/// What a plan does, and its hash.
fn plan(plan: &Plan, names: &BTreeMap<CiId, String>) -> Markup {
    let items: BTreeSet<_> = plan.items().map(|item| item.ci).collect();
    html! {
        h2 { "The plan" }
        p { "Touches " (items.len()) @if items.len() == 1 { " item" } @else { " items" }
            ". Disturbance: " (plan.disruption()) "." }
        @for (place, stage) in (1_usize..).zip(&plan.draft().stages) {
            h3 { "Stage " (place) span.quiet { " · " (when(stage.window.from)) " until "
                (when(stage.window.until)) } }
            ul { @for item in stage.items.iter().take(TOLD) {
                li { a href={ "/cis/" (item.ci) } {
                        @match names.get(&item.ci) { Some(name) => (name), None => (item.ci) }
                    }
                    ": " @for (at, action) in item.actions.iter().enumerate() {
                        @if at > 0 { ", " } (step(action))
                    } }
            } }
            @if let Some(more) = stage.items.len().checked_sub(TOLD).filter(|more| *more > 0) {
                p.quiet { "and " (more) " more" }
            }
        }
        p { "Its SHA-256, to which an answer is bound: " a href={ "/api/v1/plans/" (plan.hash()) } {
            code { (plan.hash()) } } }
    }
}

fn step(action: &Step) -> Markup {
    html! {
        @match action {
            Step::Upgrade { packages } => {
                "install " @for (at, package) in packages.iter().take(TOLD).enumerate() {
                    @if at > 0 { ", " } (package.name) " " span.mono { (package.version) }
                }
                @if packages.len() > TOLD { " and " (packages.len() - TOLD) " more" }
            },
            Step::WriteFile { path, before: None, .. } => { "create " code { (path) } },
            Step::WriteFile { path, .. } => { "write " code { (path) } },
            Step::RestartUnit { unit } => { "restart " code { (unit) } },
            Step::Reboot => strong { "reboot" },
            Step::Probe { probe } => { "probe " (probe) },
        }
    }
}

/// What was said before, the latest first.
fn answers(consents: &[Consent], share: Option<&Share>) -> Markup {
    let in_force = share.map(|share| share.plan().hash());
    html! {
        h2 { "What was answered" }
        div.wide { table {
            thead { tr { th { "Answer" } th { "To" } th { "Signed by the key" } th { "Received" } } }
            tbody { @for consent in consents.iter().rev() { tr {
                td { (consent.decision) }
                td { @if Some(consent.plan) == in_force { "this plan" } @else {
                    span.quiet { "an earlier plan " code { (short(&consent.plan.to_string())) } } } }
                td { code { (short(&consent.key.to_string())) } }
                td { (when(consent.received_at)) }
            } } }
        } }
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Plainly what a passkey is asked to sign.
fn what_is_signed(share: &Share, signers: &[(Passkey, KeyId)]) -> Markup {
    html! {
        p { "Your passkey signs one statement: your tenant, this change, the SHA-256 of this plan, your \
            answer, the time, and a number that counts once. It holds for this plan alone; a plan that \
            is altered is asked about again." }
        p.quiet { "Anybody who has its public key can verify it without this server. Your device cannot \
            show you the plan: whoever does not want to rely on this page for that reads and signs the \
            plan with " code { "patchwright consent" } " on a machine of their own." }
        p.quiet { "Signs: " @for (at, (passkey, key)) in signers.iter().enumerate() {
            @if at > 0 { ", " } (passkey.name) " (key " code { (short(&key.to_string())) } ")"
        } ". The plan: " code { (share.plan().hash()) } }
    }
}

/// Yes, later, no.
fn choices(matter: &Matter, share: &Share, now: Timestamp) -> Markup {
    let obligation = &matter.obligation;
    let form = |is: &str, title: &str, fields: &Markup| {
        html! {
            form.narrow data-passkey="consent" data-change=(obligation.change())
                data-tenant=(obligation.tenant()) hidden {
                input type="hidden" name="plan" value=(share.plan().hash());
                input type="hidden" name="is" value=(is);
                (fields)
                button class=[(is != "approve").then_some("quiet")] { (title) }
                p.problem role="alert" {}
            }
        }
    };
    // What the browser sends is in its own zone; a day ahead is where people begin to choose.
    let earliest = now.strftime("%Y-%m-%dT%H:%M").to_string();
    let time = |name: &str, label: &str| {
        html! { label { (label)
        input type="datetime-local" name=(name) min=(earliest) required; } }
    };
    let risk = html! {
        label { "Why" input name="reason" maxlength="500" required; }
        label { "Who bears the risk meanwhile" input name="risk_owner" maxlength="120" required; }
    };
    html! {
        div.choices {
            section.card {
                h3 { "Yes" }
                p.quiet { "The plan may be carried out in its windows." }
                (form("approve", "Approve with a passkey", &html! {}))
            }
            section.card {
                h3 { "Not before" }
                p.quiet { "You are asked again then." }
                (form("defer", "Defer with a passkey", &html! {
                    (time("until", "Not before (your own time)")) (risk)
                    (time("expiry", "The risk is borne until"))
                }))
            }
            section.card {
                h3 { "No" }
                p.quiet { "You are asked again when nobody bears the risk any more." }
                (form("refuse", "Refuse with a passkey", &html! {
                    (risk) (time("expiry", "The risk is borne until (your own time)"))
                }))
            }
        }
        noscript { p.quiet { "Signing with a passkey needs the browser's help, and thus scripts. \
            Without: " (by_command()) } }
    }
}

fn by_command() -> Markup {
    html! { code { "patchwright consent approve|defer|refuse" } ", then "
    code { "POST /api/v1/obligations/CHANGE/TENANT/answer" } "." }
}

/// The way to a passkey that signs.
fn register(passkeys: &[Passkey], is_first: bool, tenant: TenantId) -> Markup {
    html! {
        @if passkeys.is_empty() {
            p.empty { "You have no passkey yet. Add one on the page of your " a href="/account" { "account" }
                ", then come back. Or sign elsewhere: " (by_command()) }
        } @else if is_first {
            p { "Your tenant has no key yet. Register one of your passkeys: from then on it signs for your \
                tenant, and each further key needs its signature." }
            @for passkey in passkeys.iter().filter(|passkey| signing::key_of(passkey).is_some()) {
                form data-passkey="key" data-tenant=(tenant) hidden {
                    input type="hidden" name="passkey" value=(passkey.id);
                    button { "Register “" (passkey.name) "”" }
                    p.problem role="alert" {}
                }
            }
        } @else {
            p.empty { "None of your passkeys is a key of your tenant. Whoever holds one of its keys adds \
                yours by an order that this key signs ("
                code { "POST /api/v1/keys/" (tenant) "/orders" } "); compare the key's id in person: "
                @for (at, (id, _)) in passkeys.iter().filter_map(signing::key_of).enumerate() {
                    @if at > 0 { ", " } code { (id) }
                } }
        }
    }
}
