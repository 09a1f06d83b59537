//! Who takes part: one change, one tenant with two keys and a rule, two plans.

use std::collections::BTreeSet;

use domain::change::{
    Acceptance, Action, Change, ChangeEvent, Decision, Disruption, Draft, FileHash, Item, KeyEvent,
    KeyId, KeyKind, KeyOrder, KeyRing, Kind, NewKey, Nonce, Order, Payload, Plan, PlanHash,
    Rollback, Scope, Share, Stage, StandingRule, Statement, Terms, Verified, WeeklyWindow, Window,
};
use domain::cloud::{Duty, Id, IdKind, UserId};
use domain::priority::Priority;
use domain::sla::{Approval, Dates, Silence};
use jiff::{SignedDuration, Timestamp};

pub(crate) const HOUR: i64 = 3600;

/// What both sides agreed to, in seconds since the notice, and when somebody looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) approval: Approval,
    pub(crate) lead: i64,
    pub(crate) answer: i64,
    pub(crate) window: (i64, i64),
    pub(crate) deferred_until: i64,
    pub(crate) refused_until: i64,
    /// The times to which the clock goes on, one after the other.
    pub(crate) clock: [i64; 4],
}

pub(crate) const WAITS: Approval = Approval::Required { silence: Silence::Waits };
pub(crate) const APPROVES: Approval = Approval::Required { silence: Silence::Approves };

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("within the years of time")
}

fn id<K: IdKind>(number: u8) -> Id<K> {
    Id::of_content([number; 16])
}

pub(crate) fn owner() -> UserId {
    id(9)
}

pub(crate) fn key(number: u8) -> KeyId {
    KeyId::from([number; 32])
}

pub(crate) fn nonce(number: u8) -> Nonce {
    Nonce::from([number; 16])
}

/// A change that is proven.
pub(crate) fn change() -> Change {
    let found = Change::found(id(1), Kind::Patch, at(0));
    let (proving, _) = found.step(ChangeEvent::Prove, at(0)).expect("it was found");
    let pass = ChangeEvent::Pass { evidence: FileHash::from([1; 32]) };
    proving.step(pass, at(0)).expect("it was being proven").0
}

/// A ring with the keys 1 and 2.
pub(crate) fn keys() -> KeyRing {
    let new = |number| NewKey { id: key(number), kind: KeyKind::Ed25519, holder: owner() };
    let register = KeyEvent::Register { key: new(1), by: owner() };
    let (ring, _) = KeyRing::new(id(2)).step(register, at(0)).expect("it is the first");
    let order = KeyOrder { tenant: id(2), order: Order::Add { key: new(2) }, nonce: nonce(99) };
    ring.step(KeyEvent::Ordered(signed(1, &order)), at(0)).expect("it is signed").0
}

pub(crate) fn signed<T: Payload>(by: u8, said: &T) -> Verified<T> {
    Verified::signed_by(key(by), &said.to_payload()).expect("canonical")
}

fn draft(generation: u32, parent: Option<PlanHash>, (from, until): (i64, i64)) -> Draft {
    let item = Item {
        ci: id(3),
        duty: Duty::Provider,
        actions: vec![Action::Reboot],
        rollback: Rollback::Snapshot,
    };
    let window = Window { from: at(from), until: at(until) };
    let stages = vec![Stage { window, items: vec![item] }];
    Draft { change: id(1), tenant: id(2), generation, parent, stages }
}

/// The first plan and the one in its place.
pub(crate) fn plans(story: &Story) -> [Plan; 2] {
    let first = Plan::new(draft(0, None, story.window)).expect("a plan");
    let second = Plan::new(draft(1, Some(first.hash()), story.window)).expect("a plan");
    [first, second]
}

pub(crate) fn dates(story: &Story, told: i64, deferred: usize) -> Dates {
    let is_asked = matches!(story.approval, Approval::Required { .. });
    Dates {
        approval: story.approval,
        earliest_start: Some(at(told + story.lead)),
        answer_by: is_asked.then(|| at(told + story.answer)),
        evidence_by: None,
        due: at(400 * 24 * HOUR),
        deferrals_left: u8::try_from(1_usize.saturating_sub(deferred)).expect("at most one"),
        longest_deferral: SignedDuration::from_hours(240),
    }
}

/// The tenant's share, not told of yet.
pub(crate) fn share(story: &Story, change: &Change, plan: Plan) -> Share {
    let terms = Terms {
        kind: Kind::Patch,
        priority: Priority::Medium,
        dates: dates(story, 0, 0),
        two_persons_above: 5,
    };
    let proven = change.proven().expect("it is proven");
    Share::open(proven, plan, id(8), &terms, at(0)).expect("the first plan").0
}

/// What the tenant says of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Yes,
    Later,
    No,
}

/// A statement as the oracle sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) word: Word,
    pub(crate) plan: usize,
    pub(crate) key: u8,
    pub(crate) given: i64,
    pub(crate) nonce: u8,
}

pub(crate) fn statement(story: &Story, plan: PlanHash, said: Said) -> Verified<Statement> {
    let acceptance = |expiry| Acceptance {
        reason: "Quarter-end close".parse().expect("a reason"),
        risk_owner: "Ada".parse().expect("a name"),
        expiry: at(expiry),
    };
    let decision = match said.word {
        Word::Yes => Decision::Approve,
        Word::Later => Decision::Defer {
            until: at(story.deferred_until),
            acceptance: acceptance(story.deferred_until),
        },
        Word::No => Decision::Refuse { acceptance: acceptance(story.refused_until) },
    };
    let given_at = at(said.given);
    let (change, tenant, nonce) = (id(1), id(2), nonce(said.nonce));
    signed(said.key, &Statement { change, plan, tenant, decision, given_at, nonce })
}

/// A rule by which the tenant agrees to both plans, signed with its first key.
pub(crate) fn rule() -> Verified<StandingRule> {
    let rule = StandingRule {
        tenant: id(2),
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Medium]),
        items: Scope::All,
        disruption: Disruption::Reboots,
        // A week from the notice on, which is at 08:00 on a Friday.
        windows: vec![WeeklyWindow { begins: (4 * 24 + 8) * 60, minutes: 7 * 24 * 60 }],
        from: at(0),
        until: at(400 * 24 * HOUR),
        given_at: at(0),
        nonce: nonce(50),
    };
    signed(1, &rule)
}
