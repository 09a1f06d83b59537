//! The SLA's promises, each with its table or law.

mod calendars;
mod clocks;
mod dates;
mod laws;
mod policies;
mod regulations;
mod simulations;

use jiff::Timestamp;

use super::*;
use crate::cloud::Duty;
use crate::priority::{AssetFacts, Exposure, KevListing, Priority, PriorityInputs, Sourced};

/// An instant, from RFC 3339.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn default_policy() -> &'static Policy {
    Policy::builtin("x1642-default").unwrap()
}

fn negotiated(text: &str) -> Policy {
    default_policy().negotiate(&format!("version = \"t\"\n{text}")).unwrap()
}

fn facts(priority: Priority) -> Facts {
    Facts {
        priority,
        patch: PriorityInputs::default(),
        cves: Vec::new(),
        asset: AssetFacts::default(),
    }
}

fn exploited(priority: Priority) -> Facts {
    let mut facts = facts(priority);
    facts.patch.known_exploited = Some(Sourced::new(KevListing::Listed, "test"));
    facts.asset.exposure = Some(Sourced::new(Exposure::Open, "test"));
    facts
}

fn instants(records: &[(Moment, &str)]) -> Instants {
    let mut instants = Instants::new();
    for (moment, time) in records {
        instants.record(*moment, at(time)).unwrap();
    }
    instants
}

/// Everything that a [`Case`] borrows.
struct World {
    policy: Policy,
    facts: Facts,
    duty: Duty,
    instants: Instants,
    deferrals: Vec<Deferral>,
    interruptions: Vec<Interruption>,
    dues: DueDates,
}

impl World {
    fn new(policy: &Policy, facts: Facts, instants: Instants) -> Self {
        let dues = DueDates::new(policy.due_dates(&facts, &instants));
        Self {
            policy: policy.clone(),
            facts,
            duty: Duty::Provider,
            instants,
            deferrals: Vec::new(),
            interruptions: Vec::new(),
            dues,
        }
    }

    fn case(&self) -> Case<'_> {
        Case {
            policy: &self.policy,
            facts: &self.facts,
            duty: self.duty,
            instants: &self.instants,
            deferrals: &self.deferrals,
            interruptions: &self.interruptions,
            dues: &self.dues,
        }
    }

    fn view(&self, now: &str) -> ClockView {
        self.case().clock(at(now)).expect("collected")
    }
}
