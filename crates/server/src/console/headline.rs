//! An obligation in one sentence: what is waited for, by whom, and until when.

use domain::change::{Phase, Share, Shortfall};
use domain::obligation::Obligation;
use domain::sla::{ClockView, Errand, Party, Stage};
use jiff::Timestamp;
use maud::{Markup, html};

use super::course::errand;
use super::times::{away, moment};

/// The sentence; `tenant` is the tenant's name.
pub(super) fn headline(
    obligation: &Obligation,
    clock: Option<&ClockView>,
    tenant: &str,
    now: Timestamp,
) -> Markup {
    let phase = obligation.share().map(Share::phase);
    let owed = clock.iter().flat_map(|clock| &clock.owed).filter(|owed| owed.is_open());
    // A notice that it is done comes by itself, unless it is late.
    let owed = owed.filter(|owed| owed.errand != Errand::DoneNotice || owed.is_missed(now));
    let first = owed.min_by_key(|owed| owed.by).filter(|owed| {
        obligation.is_settled() || owed.errand == Errand::Evidence && owed.is_missed(now)
    });
    html! {
        (sentence(obligation, phase, clock, tenant, now))
        @if let Some(owed) = first {
            " The provider " @if owed.is_missed(now) { "was" } @else { "is" } " to "
            (errand(owed.errand)) " until " (till(owed.by, now)) "."
        }
    }
}

fn sentence(
    obligation: &Obligation,
    phase: Option<Phase>,
    clock: Option<&ClockView>,
    tenant: &str,
    now: Timestamp,
) -> Markup {
    match phase {
        Some(Phase::Verified) => html! { "It is done, and an independent scan has verified it." },
        Some(Phase::Closed) => html! { "It is closed: nothing is waited for." },
        Some(Phase::Withdrawn) => html! { "It is withdrawn: nothing is waited for." },
        None if obligation.phase() == "verified" => {
            html! { "It was done before there was a plan, and an independent scan has verified it." }
        }
        None if obligation.is_settled() => html! { "It is withdrawn: nothing is waited for." },
        Some(Phase::Refused { until }) => {
            html! { (tenant) " refused it, and bears the risk until " (till(until, now)) "." }
        }
        Some(Phase::Deferred { until }) => {
            html! { (tenant) " put it off until " (till(until, now)) "." }
        }
        _ => clock.and_then(|clock| Wait::of(obligation, clock)).map_or_else(
            || html! { "Unknown: nobody can tell what it waits for." },
            |wait| waiting(&wait, tenant, now),
        ),
    }
}

/// What is waited for.
struct Wait {
    phase: Option<Phase>,
    stage: Stage,
    holder: Party,
    /// The first instant that is too late.
    deadline: Option<Timestamp>,
    /// When the lead time is over.
    start: Option<Timestamp>,
}

impl Wait {
    fn of(obligation: &Obligation, clock: &ClockView) -> Option<Self> {
        let share = obligation.share();
        Some(Self {
            phase: share.map(Share::phase),
            stage: clock.stage?,
            holder: clock.holder?,
            deadline: clock.stage_deadline,
            start: share.and_then(|share| share.terms().dates.earliest_start),
        })
    }
}

fn waiting(wait: &Wait, tenant: &str, now: Timestamp) -> Markup {
    let Wait { phase, stage, holder, deadline, start: ends } = *wait;
    let what = deed(phase, stage, tenant);
    let before = match phase {
        Some(Phase::NonCompliant { shortfall }) => Some(short(shortfall)),
        Some(Phase::Reopened) => Some("It was verified, and is missing again."),
        Some(Phase::Lapsed) => Some("The answer is overdue, and the change waits for it."),
        _ => None,
    };
    let sentence = match (holder, phase) {
        (Party::Vendor, _) => html! { "It waits for the vendor; then somebody is to " (what) "." },
        (Party::HostUnreachable, _) => {
            html! { "It waits for systems that do not answer; then somebody is to " (what) "." }
        }
        (Party::ChangeFreeze, _) => html! { "It waits for the end of an agreed freeze." },
        (_, Some(Phase::Scheduled { at })) if now < at => {
            html! { "It starts by itself at " (till(at, now)) "." }
        }
        _ if stage == Stage::Lead => html! {
            "It waits for the end of the lead time"
            @if let Some(ends) = ends.filter(|ends| now < *ends) { ", until " (till(ends, now)) } "."
        },
        (holder, _) => {
            let who = if holder == Party::Tenant { tenant } else { "The provider" };
            match deadline {
                None => html! { (who) " is to " (what) "." },
                Some(until) if now < until => {
                    html! { (who) " is to " (what) " until " (till(until, now)) "." }
                }
                Some(until) => html! {
                    (who) " was to " (what) " until " (moment(until)) ", " (away(until, now)) "."
                },
            }
        }
    };
    html! { @if let Some(before) = before { (before) " " } (sentence) }
}

/// What is to be done at a stage.
fn deed(phase: Option<Phase>, stage: Stage, tenant: &str) -> String {
    match (stage, phase) {
        (Stage::Evaluate, _) => "say how urgent it is".to_owned(),
        (Stage::Test, _) => "prove it in the lab".to_owned(),
        (Stage::Notify, Some(Phase::Planned)) => format!("tell {tenant} of the plan"),
        (Stage::Notify, _) => format!("plan it and tell {tenant}"),
        (Stage::Answer, _) => "answer the plan".to_owned(),
        (Stage::Install, Some(Phase::RollingOut)) => "bring the installation to its end".to_owned(),
        (Stage::Lead | Stage::Install, _) => "install it".to_owned(),
        (Stage::Verify, _) => "have it verified by an independent scan".to_owned(),
    }
}

const fn short(shortfall: Shortfall) -> &'static str {
    match shortfall {
        Shortfall::WindowMissed => "Its window passed before it could start.",
        Shortfall::Failed => "It failed on the way.",
        Shortfall::RolledBack => "It failed, and what was before is back.",
        Shortfall::StillMissing => "It is said to be done, and a scan sees that it is not.",
        Shortfall::Unknown => "It is said to be done, and the scan could not tell.",
    }
}

fn till(at: Timestamp, now: Timestamp) -> Markup {
    html! { (moment(at)) ", " (away(at, now)) }
}
