//! A tenant's answer to a plan, signed with a passkey.

use domain::change::{KeyId, Phase, Share};
use domain::cloud::TenantId;
use jiff::Timestamp;
use maud::{Markup, html};
use store::{Actor, Factors, Matter, Passkey};

use crate::App;
use crate::api::signing;
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// What somebody who looks may do about a plan.
enum May {
    /// Look.
    Read,
    /// Speak for the tenant, once a passkey of theirs is its key. Some may register the first one.
    Register { passkeys: Vec<Passkey>, is_first: bool },
    /// Sign.
    Sign(Vec<(Passkey, KeyId)>),
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

/// What one can answer now; nothing for who does not speak for the tenant. Pages with it need the
/// console's script.
pub(super) async fn section(
    app: &App,
    by: &Actor,
    speaks: Speaks,
    matter: &Matter,
) -> Result<Markup, Problem> {
    let tenant = matter.obligation.tenant();
    let (may, now) = (may(app, by, speaks, matter).await?, app.store.environment().now());
    let share = matter.obligation.share();
    Ok(html! {
        @if let Some(share) = share.filter(|share| is_answered_now(share)) {
            @match &may {
                May::Read => {},
                _ if !app.relying_party.has_passkeys() => {
                    h3 { "Answer" }
                    p.empty { "Passkeys are bound to a name: open the console by its name, which "
                        code { "up --url" } " tells. Or sign elsewhere: " (by_command()) }
                }
                May::Register { passkeys, is_first } => {
                    h3 { "Answer" }
                    (register(passkeys, *is_first, tenant))
                }
                May::Sign(signers) => {
                    h3 { "Answer" }
                    @if !share.heard().is_empty() {
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
                h4 { "Yes" }
                p.quiet { "The plan may be carried out in its windows." }
                (form("approve", "Approve with a passkey", &html! {}))
            }
            section.card {
                h4 { "Not before" }
                p.quiet { "You are asked again then." }
                (form("defer", "Defer with a passkey", &html! {
                    (time("until", "Not before (your own time)")) (risk)
                    (time("expiry", "The risk is borne until"))
                }))
            }
            section.card {
                h4 { "No" }
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
    html! { code { "patchwright consent approve|defer|refuse CHANGE --key KEY" } "." }
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
