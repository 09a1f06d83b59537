//! What happened to an obligation, and whose time it was.

use std::collections::BTreeMap;

use domain::sla::{Breach, Cause, Errand, Moment, Owed, Party, Record, Span, Stage, State};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use store::ErrandRecord;

use super::names::{self, Names};
use super::times::{length, moment, moment_away};
use crate::api::interruptions::InterruptionView;

/// Width of the bar, in units of its own.
const WIDTH: i64 = 100_000;

/// All that was recorded, the oldest first.
pub(super) fn timeline(records: &[Record], now: Timestamp) -> Markup {
    html! {
        h2 { "What happened" }
        ol.timeline { @for record in records {
            li { (happened(record.moment)) " " span.quiet { (moment_away(record.at, now)) } }
        } }
    }
}

const fn happened(moment: Moment) -> &'static str {
    match moment {
        Moment::VendorPublished => "The vendor published it.",
        Moment::Collected => "It was collected from the official source.",
        Moment::Evaluated => "Its priority was decided.",
        Moment::KevAdded => "It was listed as known to be exploited.",
        Moment::Tested => "It was proven in the lab.",
        Moment::EvidenceSaved => "What the patch may wipe was saved.",
        Moment::Notified => "The tenant was told.",
        Moment::Acknowledged => "The tenant said that it read the notice.",
        Moment::Approved => "The tenant's side agreed.",
        Moment::Scheduled => "The time of the change was fixed.",
        Moment::Installed => "It was installed on the last item.",
        Moment::Rebooted => "The last item that needed it restarted.",
        Moment::Verified => "An independent scan found it everywhere.",
        Moment::DoneTold => "The tenant was told how it ended.",
        Moment::ReEvaluated => "It was judged again after the emergency.",
        Moment::Regressed => "A later scan found it missing again.",
        Moment::AskedAgain => "The tenant is asked anew: what it was told before counts no more.",
        Moment::Withdrawn => "It was withdrawn.",
    }
}

/// What stood in the way of both sides, and on whose word that time is booked to nobody.
pub(super) fn interruptions(all: &[InterruptionView], people: &Names<String>) -> Markup {
    html! {
        @if !all.is_empty() {
            h3 { "What stood in the way" }
            ul { @for one in all { li {
                (stood_in_the_way(one.cause)) " from " (moment(one.from))
                @match one.until { Some(until) => { " until " (moment(until)) } None => " on", }
                @match (&one.claimed_by, one.claimed_at) {
                    (Some(by), Some(at)) => {
                        span.quiet { " · the provider's word: " (names::of(people, by)) " said so at "
                            (moment(at)) }
                    }
                    _ if one.cause == Cause::Refusal => span.quiet { " · as the tenant signed" },
                    _ => span.quiet { " · the provider's word" },
                }
            } } }
        }
    }
}

/// What is owed beside the patch and not done, and what was done of it.
pub(super) fn errands(
    owed: &[Owed],
    done: &[ErrandRecord],
    people: &Names<String>,
    now: Timestamp,
) -> Markup {
    let open: Vec<_> = owed.iter().filter(|owed| owed.is_open()).collect();
    html! {
        @if !open.is_empty() || !done.is_empty() {
            h2 id="owed" { "Beside the patch" }
            ul {
                @for one in open { li {
                    @if one.is_missed(now) { span.outdated { "✗ overdue" } " " }
                    "The provider is to " (errand(one.errand)) " until " (moment_away(one.by, now)) "."
                } }
                @for one in done { li {
                    (recorded(one.errand)) " " (one.said)
                    @if let Some(sha256) = &one.sha256 { " " br; span.quiet { "SHA-256 " code { (sha256) } } }
                    span.quiet { " · " (names::of(people, &one.recorded_by)) ", " (moment(one.recorded_at)) }
                } }
            }
        }
    }
}

/// What is to be done of an errand.
pub(super) const fn errand(errand: Errand) -> &'static str {
    match errand {
        Errand::Evidence => "save what the patch may wipe",
        Errand::DoneNotice => "tell the tenant that it is done",
        Errand::ReEvaluation => "judge it again",
    }
}

const fn recorded(errand: Errand) -> &'static str {
    match errand {
        Errand::Evidence => "Evidence was saved:",
        Errand::DoneNotice => "The tenant was told:",
        Errand::ReEvaluation => "It was judged again:",
    }
}

const fn stood_in_the_way(cause: Cause) -> &'static str {
    match cause {
        Cause::Vendor => "The vendor",
        Cause::HostUnreachable => "Systems that do not answer",
        Cause::ChangeFreeze => "A freeze",
        Cause::Refusal => "The tenant's no",
    }
}

/// Whose time it was, as one bar and in words.
pub(super) fn ledger(spans: &[Span], state: Option<&State>) -> Markup {
    let mut sums: BTreeMap<Party, SignedDuration> = BTreeMap::new();
    for span in spans {
        let sum = sums.entry(span.party).or_default();
        *sum = sum.saturating_add(span.length());
    }
    // What was over at once was nobody's time.
    sums.retain(|_, sum| sum.as_secs() > 0);
    let whole = sums.values().fold(SignedDuration::ZERO, |all, it| all.saturating_add(*it));
    html! {
        h2 { "Whose time it was" }
        @if whole.is_zero() {
            p.empty { "No time has passed yet." }
        } @else {
            (bar(spans, whole, &sums))
            ul.legend { @for (party, sum) in &sums {
                li { (swatch(*party)) (booked(*party)) " " strong { (length(*sum)) } " "
                    span.quiet { (percent(*sum, whole)) " %" } }
            } }
            details.inner {
                summary { "Span by span" }
                div.wide { table {
                    thead { tr { th { "From" } th { "Until" } th { "Whose" } th { "Waiting for" } } }
                    tbody { @for span in spans { tr {
                        td { (moment(span.from)) } td { (moment(span.until)) }
                        td { (booked(span.party)) } td { (awaited(span.stage)) }
                    } } }
                } }
            }
        }
        @if let Some(State::Breached(breach)) = state { (attributed(breach)) }
    }
}

/// The spans in their order; drawn with attributes, since the page allows no styles in it.
fn bar(spans: &[Span], whole: SignedDuration, sums: &BTreeMap<Party, SignedDuration>) -> Markup {
    let shares =
        sums.iter().map(|(party, sum)| format!("{} {} %", booked(*party), percent(*sum, whole)));
    let told = shares.collect::<Vec<_>>().join(", ");
    let mut at = 0;
    let pieces: Vec<_> = spans
        .iter()
        .map(|span| {
            let from = at;
            at += part(span.length(), whole, WIDTH);
            (from, at - from, span)
        })
        .collect();
    html! {
        svg.bar viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" role="img" aria-label=(told) {
            @for (from, width, span) in pieces {
                rect class=(class(span.party)) x=(from) y="0" width=(width) height="10" {
                    title { (booked(span.party)) ", " (awaited(span.stage)) ": " (length(span.length())) }
                }
            }
        }
    }
}

fn swatch(party: Party) -> Markup {
    html! {
        svg.swatch viewBox="0 0 10 10" aria-hidden="true" {
            rect class=(class(party)) width="10" height="10" rx="2" {}
        }
    }
}

/// So many of `parts` as a length is of the whole.
fn part(length: SignedDuration, whole: SignedDuration, parts: i64) -> i64 {
    let of = i128::from(parts) * length.as_millis() / whole.as_millis().max(1);
    i64::try_from(of).unwrap_or(parts)
}

fn percent(length: SignedDuration, whole: SignedDuration) -> i64 {
    // Rounded to the nearest.
    (part(length, whole, 200) + 1) / 2
}

fn attributed(breach: &Breach) -> Markup {
    html! {
        p { span.critical { "✗ The due date of " (breach.date.pack.name) " passed" } " at "
            (moment(breach.date.due)) ". It is attributed to the " (booked(breach.by).to_lowercase())
            @if let Some(beyond) = breach.overruns.get(&breach.by) {
                ", which took " (length(*beyond)) " beyond what it was given"
            }
            "; " @if breach.held_by == breach.by { "it" } @else { "the " (booked(breach.held_by).to_lowercase()) }
            " held the ball then." }
    }
}

const fn class(party: Party) -> &'static str {
    match party {
        Party::Provider => "of-provider",
        Party::Tenant => "of-tenant",
        Party::Vendor => "of-vendor",
        Party::HostUnreachable => "of-nobody",
        Party::ChangeFreeze => "of-freeze",
    }
}

const fn booked(party: Party) -> &'static str {
    match party {
        Party::Provider => "Provider",
        Party::Tenant => "Tenant",
        Party::Vendor => "Vendor",
        Party::HostUnreachable => "Systems that do not answer",
        Party::ChangeFreeze => "Agreed freeze",
    }
}

const fn awaited(stage: Stage) -> &'static str {
    match stage {
        Stage::Evaluate => "its evaluation",
        Stage::Test => "the test",
        Stage::Notify => "plan and notice",
        Stage::Answer => "the tenant's answer",
        Stage::Lead => "the end of the lead time",
        Stage::Install => "the installation",
        Stage::Verify => "the verification",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_whose_time_it_was_in_its_order() {
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        let span =
            |from, until, party, stage| Span { from: at(from), until: at(until), party, stage };
        let spans = [
            span(0, 30, Party::Provider, Stage::Evaluate),
            span(30, 90, Party::Tenant, Stage::Answer),
            span(90, 100, Party::Provider, Stage::Install),
        ];

        let told = ledger(&spans, None).into_string();

        assert!(told.contains("aria-label=\"Provider 40 %, Tenant 60 %\""), "{told}");
        assert!(
            told.contains("<rect class=\"of-tenant\" x=\"30000\" y=\"0\" width=\"60000\""),
            "{told}"
        );
        assert!(told.contains("Tenant <strong>2 days</strong>"), "{told}");
    }
}
