//! The worst path: what a priority takes if everybody uses all the time they have.

use std::fmt;

use jiff::SignedDuration;

use super::Wait;
use super::calendar::Calendar;
use super::error::PolicyError;
use super::policy::{Document, PRIORITIES};
use super::terms::{Asked, Path, Terms};
use crate::priority::Priority;

/// Most years between the first holiday and the last.
const MAX_YEARS: i32 = 100;

/// One part of the way from collected to verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leg {
    /// Collected to evaluated.
    Evaluate,
    /// Evaluated to tested.
    Test,
    /// Tested to the notice.
    Notify,
    /// The notice until the tenant answered and the lead time is over.
    Answer,
    /// All deferrals.
    Defer,
    /// Until the patch is old enough, where that is longer than all before.
    Soak,
    /// Approved to installed.
    Install,
    /// Installed to verified.
    Verify,
}

impl fmt::Display for Leg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Evaluate => "evaluation",
            Self::Test => "the test",
            Self::Notify => "the notice",
            Self::Answer => "the tenant's answer or the lead time",
            Self::Defer => "deferrals",
            Self::Soak => "the least age",
            Self::Install => "installation",
            Self::Verify => "verification",
        })
    }
}

/// The longest way that a policy allows for a priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorstPath {
    /// Its parts in order, in real time.
    pub legs: Vec<(Leg, SignedDuration)>,
    /// What the policy promises.
    pub deadline: SignedDuration,
}

impl WorstPath {
    /// The worst path of some terms on a path.
    pub fn of(terms: &Terms, path: Path, calendar: &Calendar) -> Self {
        let terms = terms.on(path);
        let longest = |wait: Wait| calendar.longest(wait);
        let answer = match terms.approval {
            Asked::Required { answer, .. } => longest(answer).max(longest(terms.notice.lead)),
            Asked::Notice => longest(terms.notice.lead),
            Asked::NotNeeded => SignedDuration::ZERO,
        };
        let deferral =
            longest(terms.deferrals.longest).saturating_mul(terms.deferrals.count.into());
        let mut legs = vec![
            (Leg::Evaluate, longest(terms.evaluate)),
            (Leg::Test, longest(terms.test)),
            (Leg::Notify, longest(terms.notify)),
            (Leg::Answer, answer),
            (Leg::Defer, deferral),
        ];
        // The age counts from publication, which is collection at the latest.
        let soak = longest(terms.soak) - sum(&legs);
        if soak.is_positive() {
            legs.push((Leg::Soak, soak));
        }
        legs.extend([(Leg::Install, longest(terms.install)), (Leg::Verify, longest(terms.verify))]);
        // A deadline in business days promises no more than its shortest case; that is compared
        // with the longest of the rest.
        let deadline = match terms.deadline {
            Wait::Minutes(minutes) => SignedDuration::from_mins(minutes.into()),
            Wait::BusinessDays(days) => SignedDuration::from_hours(i64::from(days) * 24),
        };
        Self { legs, deadline }
    }

    /// How long all of it takes.
    pub fn total(&self) -> SignedDuration {
        sum(&self.legs)
    }

    /// The part in which a limit passes, if one does.
    pub fn exceeds(&self, limit: SignedDuration) -> Option<Leg> {
        let mut passed = SignedDuration::ZERO;
        self.legs.iter().find_map(|(leg, takes)| {
            passed += *takes;
            (passed > limit).then_some(*leg)
        })
    }

    pub(super) fn total_text(&self) -> String {
        in_words(self.total())
    }

    pub(super) fn deadline_text(&self) -> String {
        in_words(self.deadline)
    }

    /// `evaluation 4h + the test 12h`.
    pub(super) fn sum_text(&self) -> String {
        let parts: Vec<String> = self
            .legs
            .iter()
            .filter(|(_, takes)| !takes.is_zero())
            .map(|(leg, takes)| format!("{leg} {}", in_words(*takes)))
            .collect();
        parts.join(" + ")
    }
}

fn sum(legs: &[(Leg, SignedDuration)]) -> SignedDuration {
    legs.iter().fold(SignedDuration::ZERO, |sum, (_, takes)| sum.saturating_add(*takes))
}

/// A duration in the words of waits, to the minute.
pub(super) fn in_words(duration: SignedDuration) -> String {
    let minutes = u32::try_from(duration.as_mins().max(0)).unwrap_or(u32::MAX);
    Wait::Minutes(minutes).to_string()
}

/// Refuses a document that cannot be kept or contradicts itself.
pub(super) fn check(document: &Document) -> Result<(), PolicyError> {
    for (index, freeze) in document.calendar.freezes.iter().enumerate() {
        if freeze.from >= freeze.until {
            let reason = format!(
                "freeze {} begins at {} and would be over before, at {}",
                index + 1,
                freeze.from,
                freeze.until
            );
            return Err(refused("calendar.freezes", reason));
        }
    }
    if let (Some(first), Some(last)) =
        (document.calendar.holidays.first(), document.calendar.holidays.last())
        && i32::from(last.year()) - i32::from(first.year()) > MAX_YEARS
    {
        let reason =
            format!("holidays from {first} to {last}: more than {MAX_YEARS} years are a mistake");
        return Err(refused("calendar.holidays", reason));
    }
    for priority in PRIORITIES {
        let terms = document.terms(priority);
        check_terms(priority, terms, &document.calendar)?;
        for path in [Path::Ordinary, Path::Emergency] {
            let worst = WorstPath::of(terms, path, &document.calendar);
            if let Some(step) = worst.exceeds(worst.deadline) {
                return Err(PolicyError::TooLong {
                    key: format!("{priority}.{}", key(step)),
                    place: None,
                    priority,
                    step,
                    path: Box::new(worst),
                });
            }
        }
    }
    Ok(())
}

/// The key of the wait behind a part of the way.
fn key(leg: Leg) -> &'static str {
    match leg {
        Leg::Evaluate => "evaluate",
        Leg::Test => "test",
        Leg::Notify => "notify",
        Leg::Answer => "approval",
        Leg::Defer => "deferrals",
        Leg::Soak => "soak",
        Leg::Install => "install",
        Leg::Verify => "verify",
    }
}

fn refused(key: impl Into<String>, reason: impl Into<String>) -> PolicyError {
    PolicyError::Key { key: key.into(), place: None, reason: reason.into() }
}

fn check_terms(priority: Priority, terms: &Terms, calendar: &Calendar) -> Result<(), PolicyError> {
    if !terms.escalate.is_sorted_by(|a, b| a < b)
        || !terms.escalate.iter().all(|share| (1..=100).contains(share))
    {
        let reason = "shares of the time rise, from 1 to 100 percent";
        return Err(refused(format!("{priority}.escalate"), reason));
    }
    if terms.deferrals.count > 0 && terms.deferrals.longest.is_none() {
        let reason = "deferrals are allowed, and none may last";
        return Err(refused(format!("{priority}.deferrals"), reason));
    }
    if let Asked::Required { answer, .. } = terms.approval
        && answer.is_none()
    {
        let reason = "the tenant is asked and has no time to answer";
        return Err(refused(format!("{priority}.approval"), reason));
    }
    let Some(emergency) = &terms.emergency else { return Ok(()) };
    // A patch waits for the evidence, and has to be in time all the same.
    let rest = terms.on(Path::Emergency);
    let limit = match rest.deadline {
        Wait::Minutes(minutes) => SignedDuration::from_mins(minutes.into()),
        Wait::BusinessDays(days) => SignedDuration::from_hours(i64::from(days) * 24),
    };
    let waits = [emergency.evidence, rest.install, rest.verify].map(|wait| calendar.longest(wait));
    let takes = waits.into_iter().fold(SignedDuration::ZERO, SignedDuration::saturating_add);
    if takes > limit {
        let reason = format!(
            "the evidence has {} and the patch waits for it: with installation and verification that is \
             {}, longer than the deadline of {}",
            emergency.evidence,
            in_words(takes),
            rest.deadline
        );
        return Err(refused(format!("{priority}.emergency.evidence"), reason));
    }
    // An emergency shortens. What is longer than on the ordinary way is a mistake in writing.
    let shorter = |ordinary: Wait, then: Wait| match (ordinary.exact(), then.exact()) {
        (Some(ordinary), Some(then)) => then <= ordinary,
        _ => true,
    };
    let then = terms.on(Path::Emergency);
    let pairs = [
        ("deadline", terms.deadline, then.deadline),
        ("evaluate", terms.evaluate, then.evaluate),
        ("test", terms.test, then.test),
        ("lead", terms.notice.lead, emergency.lead),
        ("install", terms.install, then.install),
        ("verify", terms.verify, then.verify),
    ];
    for (name, ordinary, then) in pairs {
        if !shorter(ordinary, then) {
            let reason =
                format!("an emergency takes {then} where the ordinary way takes {ordinary}");
            return Err(refused(format!("{priority}.emergency.{name}"), reason));
        }
    }
    Ok(())
}
