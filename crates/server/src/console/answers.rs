//! What a tenant is asked about a plan, and what it said so far.

use domain::change::{Decision, Heard, Share};
use domain::sla::{Approval, Dates, Silence};
use jiff::Timestamp;
use maud::{Markup, html};
use store::Consent;

use super::names::{self, Names};
use super::times::{moment, moment_away};

/// What the SLA asks of the tenant, in a sentence.
pub(super) fn asked(dates: &Dates, now: Timestamp) -> Markup {
    html! { @match (dates.approval, dates.answer_by) {
        (Approval::Required { silence: Silence::Approves }, Some(by)) => {
            "The tenant is asked. Without an answer it counts as agreed from " (moment_away(by, now)) " on."
        }
        (Approval::Required { silence: Silence::Waits }, Some(by)) => {
            "The tenant is asked, until " (moment_away(by, now)) ". Without an answer nothing happens."
        }
        (Approval::Required { .. }, None) => "The tenant is asked as soon as it was told of the plan.",
        (Approval::Notice, _) => "The tenant is told and not asked; it can put it off or refuse it.",
        (Approval::NotNeeded, _) => "The tenant is neither asked nor told ahead, as it agreed.",
    } }
}

/// What was said, as it was signed.
pub(super) fn given(share: &Share, consents: &[Consent], people: &Names<String>) -> Markup {
    let plan = share.plan();
    let (change, tenant, hash) = (plan.draft().change, plan.draft().tenant, plan.hash());
    html! {
        @if consents.is_empty() {
            p.quiet { "Nothing was said to it yet." }
        } @else {
            div.wide { table.stack {
                thead { tr { th { "Said" } th { "To" } th { "Through" } th { "Signed by" } th { "When" } } }
                tbody { @for consent in consents { tr {
                    td { (said(share, consent)) }
                    td data-label="To" {
                        @if consent.plan == hash { "this plan" } @else { span.quiet { "an earlier plan" } }
                        " " br; code { (beginning(&consent.plan.to_string())) }
                    }
                    td data-label="Through" { (names::of(people, &consent.received_by)) }
                    td data-label="Signed by" { "key " code { (beginning(&consent.key.to_string())) } }
                    td data-label="When" { (moment(consent.received_at)) }
                } } }
            } }
            p { a href={ "/api/v1/obligations/" (change) "/" (tenant) "/consents" } {
                "The signed envelopes" } span.quiet { ", to be verified with other people's tools" } }
        }
    }
}

/// Yes, later or no, with what belongs to it.
fn said(share: &Share, consent: &Consent) -> Markup {
    let statement = share.heard().iter().map(Heard::statement).find(|it| it.nonce == consent.nonce);
    html! { @match statement.map(|it| &it.decision) {
        Some(Decision::Approve) => span.latest { "✓ approved" },
        Some(Decision::Defer { until, acceptance }) => {
            span.near { "! put off" } " until " (moment(*until)) (risk(acceptance))
        }
        Some(Decision::Refuse { acceptance }) => {
            span.outdated { "✗ refused" } (risk(acceptance))
        }
        None => (consent.decision),
    } }
}

fn risk(acceptance: &domain::change::Acceptance) -> Markup {
    html! {
        " " br; span.quiet { (acceptance.reason.as_str()) " · risk of " (acceptance.risk_owner) " until "
            (moment(acceptance.expiry)) }
    }
}

/// The first digits of a digest.
fn beginning(digest: &str) -> String {
    let digits: String = digest.chars().take(16).collect();
    format!("{digits}…")
}
