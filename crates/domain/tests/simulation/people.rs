//! What people of the simulation agree to, plan and sign.

use std::collections::BTreeSet;

use domain::change::{
    Acceptance, Action, Decision, Disruption, Draft, ExactPackage, FileHash, Item, KeyId, Kind,
    Nonce, Plan, PlanHash, Rollback, Scope, Stage, StandingRule, Statement, WeeklyWindow, Window,
};
use domain::cloud::{ChangeId, Duty, Id, IdKind, TenantId, UserId};
use domain::priority::Priority;
use domain::sla::{Approval, Dates, Silence};
use jiff::{SignedDuration, Timestamp};

use super::record::{Hash, KeyNo, Mode, Who, Word};
use crate::random::Random;

/// A Friday morning.
const BEGIN: i64 = 1_800_000_000;
pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).expect("within the years of the simulation")
}

/// Seconds since the beginning, for the record.
pub(crate) fn since_begin(at: Timestamp) -> i64 {
    at.as_second() - BEGIN
}

/// The oracle counts weeks from the same Monday as we do.
pub(crate) const fn absolute(second: i64) -> i64 {
    BEGIN + second
}

fn id<K: IdKind>(group: u8, number: u8) -> Id<K> {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1]) = (group, number);
    Id::of_content(bytes)
}

pub(crate) fn change_id() -> ChangeId {
    id(1, 1)
}

pub(crate) fn tenant_id(who: Who) -> TenantId {
    id(2, small(who))
}

pub(crate) fn user_id(number: u8) -> UserId {
    id(3, number)
}

pub(crate) fn key_id(key: KeyNo) -> KeyId {
    KeyId::from([key; 32])
}

pub(crate) fn nonce_of(number: u64) -> Nonce {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Nonce::from(bytes)
}

pub(crate) fn short(hash: PlanHash) -> Hash {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

fn small(number: usize) -> u8 {
    u8::try_from(number).expect("few")
}

/// A number from `low` to below `high`.
pub(crate) fn between(random: &mut Random, low: i64, high: i64) -> i64 {
    let span = usize::try_from(high - low).expect("low is below high");
    low + i64::try_from(random.below(span)).expect("as long as the span")
}

pub(crate) fn chance(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

/// What is agreed with a tenant, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contract {
    pub(crate) mode: Mode,
    pub(crate) lead: i64,
    pub(crate) answer: i64,
    pub(crate) due: i64,
    pub(crate) above: usize,
    pub(crate) deferrals: u8,
    pub(crate) urgency: u8,
}

impl Contract {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mode = match random.below(10) {
            0 => Mode::Nothing,
            1 | 2 => Mode::Notice,
            3..=6 => Mode::Required,
            _ => Mode::RequiredOrSilence,
        };
        Self {
            mode,
            lead: between(random, 0, 8) * 12 * HOUR,
            answer: between(random, 1, 8) * DAY,
            due: between(random, 5, 40) * DAY + between(random, 0, DAY),
            above: random.below(3),
            deferrals: small(random.below(3)),
            urgency: small(random.below(4)),
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        [Priority::Low, Priority::Medium, Priority::High, Priority::Critical]
            [usize::from(self.urgency)]
    }

    /// The dates that follow from a notice at `told`.
    pub(crate) fn dates(&self, told: Option<i64>, deferred: usize) -> Dates {
        let approval = match self.mode {
            Mode::Nothing => Approval::NotNeeded,
            Mode::Notice => Approval::Notice,
            Mode::Required => Approval::Required { silence: Silence::Waits },
            Mode::RequiredOrSilence => Approval::Required { silence: Silence::Approves },
        };
        Dates {
            approval,
            earliest_start: told.map(|told| at(told + self.lead)),
            answer_by: told.map(|told| at(told + self.answer)),
            evidence_by: None,
            due: at(self.due),
            deferrals_left: self.deferrals.saturating_sub(small(deferred)),
            longest_deferral: SignedDuration::from_hours(10 * 24),
        }
    }
}

/// A plan with a window from `from` on.
pub(crate) fn plan(random: &mut Random, who: Who, parent: Option<&Plan>, from: i64) -> Plan {
    let until = from + between(random, 1, 24) * HOUR;
    let item = |number: usize, action: Action| Item {
        ci: id(4 + small(who), small(number)),
        duty: Duty::Provider,
        actions: vec![action],
        rollback: Rollback::Snapshot,
    };
    let package = ExactPackage {
        name: "openssl".to_owned(),
        architecture: "amd64".to_owned(),
        version: format!("3.0.{}", random.below(1000)),
        sha256: FileHash::from([7; 32]),
    };
    let action = match random.below(3) {
        0 => Action::Probe { probe: "http".to_owned() },
        1 => Action::Upgrade { packages: vec![package] },
        _ => Action::Reboot,
    };
    let items = (0..=random.below(3)).map(|number| item(number, action.clone())).collect();
    let draft = Draft {
        change: change_id(),
        tenant: tenant_id(who),
        generation: parent.map_or(0, |parent| parent.draft().generation + 1),
        parent: parent.map(Plan::hash),
        stages: vec![Stage { window: Window { from: at(from), until: at(until) }, items }],
    };
    Plan::new(draft).expect("it holds to the rules")
}

pub(crate) fn disruption(number: u8) -> Disruption {
    Disruption::ALL[usize::from(number)]
}

pub(crate) fn disruption_of(plan: &Plan) -> u8 {
    let place = Disruption::ALL.iter().position(|it| *it == plan.disruption());
    small(place.expect("all are listed"))
}

/// What a tenant means to say of a plan.
pub(crate) fn word(random: &mut Random, now: i64) -> Word {
    match random.below(10) {
        0 => Word::Later { until: now + between(random, 1, 15 * DAY) },
        1 => Word::No { until: now + between(random, 1, 30 * DAY) },
        _ => Word::Yes,
    }
}

pub(crate) fn statement(
    speaks_for: Who,
    plan: PlanHash,
    word: Word,
    given_at: i64,
    nonce: u64,
) -> Statement {
    let acceptance = |expiry: i64| Acceptance {
        reason: "Quarter-end close".parse().expect("a reason"),
        risk_owner: "Ada".parse().expect("a name"),
        expiry: at(expiry),
    };
    let decision = match word {
        Word::Yes => Decision::Approve,
        Word::Later { until } => {
            Decision::Defer { until: at(until), acceptance: acceptance(until) }
        }
        Word::No { until } => Decision::Refuse { acceptance: acceptance(until) },
    };
    Statement {
        change: change_id(),
        plan,
        tenant: tenant_id(speaks_for),
        decision,
        given_at: at(given_at),
        nonce: nonce_of(nonce),
    }
}

/// A rule in the numbers of the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleNumbers {
    pub(crate) urgencies: u8,
    pub(crate) disruption: u8,
    pub(crate) begins: i64,
    pub(crate) length: i64,
}

impl RuleNumbers {
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            urgencies: small(random.below(16)),
            disruption: small(random.below(3)),
            begins: between(random, 0, 7 * 24) * HOUR,
            length: between(random, 1, 7 * 24) * HOUR,
        }
    }

    pub(crate) fn rule(&self, who: Who, now: i64, nonce: u64) -> StandingRule {
        let minutes = |seconds: i64| u16::try_from(seconds / 60).expect("within a week");
        let all = [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];
        let chosen = all.iter().enumerate().filter(|(bit, _)| self.urgencies & (1 << bit) != 0);
        StandingRule {
            tenant: tenant_id(who),
            kinds: BTreeSet::from([Kind::Patch]),
            priorities: chosen.map(|(_, priority)| *priority).collect(),
            items: Scope::All,
            disruption: disruption(self.disruption),
            windows: vec![WeeklyWindow {
                begins: minutes(self.begins),
                minutes: minutes(self.length),
            }],
            from: at(0),
            until: at(400 * DAY),
            given_at: at(now),
            nonce: nonce_of(nonce),
        }
    }
}
