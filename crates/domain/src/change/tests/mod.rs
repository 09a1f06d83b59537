//! What holds of changes, one rule at a time, at its very edge. All rules together are tried by
//! `tests/no_update_without_consent.rs` and `tests/approve_and_withdraw_race`.

mod answers;
mod changes;
mod keys;
mod permits;
mod plans;
mod rules;
mod statements;
mod steps;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::cloud::{Duty, Id, IdKind};
use crate::priority::Priority;
use crate::sla::{Approval, Dates, Silence};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Hours since a Friday, 08:00 UTC.
fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
}

fn id<K: IdKind>(number: u8) -> Id<K> {
    Id::of_content([number; 16])
}

fn key(number: u8) -> KeyId {
    KeyId::from([number; 32])
}

fn nonce(number: u8) -> Nonce {
    Nonce::from([number; 16])
}

fn new_key(number: u8) -> NewKey {
    NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(1) }
}

fn signed<T: Payload>(by: u8, said: &T) -> Verified<T> {
    Verified::signed_by(key(by), &said.to_payload()).unwrap()
}

/// The tenant 2 with the key 1.
fn ring() -> KeyRing {
    ring_of(2)
}

fn ring_of(tenant: u8) -> KeyRing {
    let register = KeyEvent::Register { key: new_key(1), by: id(1) };
    KeyRing::new(id(tenant)).step(register, at(-100)).unwrap().0
}

fn revoked(ring: &KeyRing, number: u8, now: Timestamp) -> KeyRing {
    ring.step(KeyEvent::Revoke { key: key(number), by: id(1) }, now).unwrap().0
}

fn item(number: u8) -> Item {
    Item {
        ci: id(number),
        duty: Duty::Provider,
        actions: vec![Action::Reboot],
        rollback: Rollback::Snapshot,
    }
}

fn stage(from: i64, until: i64, items: &[u8]) -> Stage {
    Stage {
        window: Window { from: at(from), until: at(until) },
        items: items.iter().copied().map(item).collect(),
    }
}

/// One restart on a weekend.
fn draft() -> Draft {
    Draft {
        change: id(1),
        tenant: id(2),
        generation: 0,
        parent: None,
        stages: vec![stage(48, 60, &[3])],
    }
}

fn plan() -> Plan {
    Plan::new(draft()).unwrap()
}

fn successor(parent: &Plan) -> Plan {
    let draft = parent.draft().clone();
    let generation = draft.generation + 1;
    Plan::new(Draft { generation, parent: Some(parent.hash()), ..draft }).unwrap()
}

const WAITS: Approval = Approval::Required { silence: Silence::Waits };
const APPROVES: Approval = Approval::Required { silence: Silence::Approves };

/// The tenant has to agree.
fn dates(told: i64) -> Dates {
    Dates {
        approval: WAITS,
        earliest_start: Some(at(told + 24)),
        answer_by: Some(at(told + 40)),
        evidence_by: None,
        due: at(240),
        deferrals_left: 1,
        longest_deferral: SignedDuration::from_hours(72),
    }
}

fn terms(dates: Dates) -> Terms {
    Terms { kind: Kind::Patch, priority: Priority::Medium, dates, two_persons_above: 1 }
}

fn found() -> Change {
    Change::found(id(1), Kind::Patch, at(0))
}

fn proven() -> Change {
    let pass = ChangeEvent::Pass { evidence: FileHash::from([1; 32]) };
    found().step(ChangeEvent::Prove, at(0)).unwrap().0.step(pass, at(0)).unwrap().0
}

fn withdrawal() -> ChangeEvent {
    ChangeEvent::Withdraw { by: id(1), reason: "The vendor took it back".parse().unwrap() }
}

fn acceptance(expiry: i64) -> Acceptance {
    Acceptance {
        reason: "Quarter-end close".parse().unwrap(),
        risk_owner: "Ada".parse().unwrap(),
        expiry: at(expiry),
    }
}

fn later(until: i64) -> Decision {
    Decision::Defer { until: at(until), acceptance: acceptance(until) }
}

fn no(until: i64) -> Decision {
    Decision::Refuse { acceptance: acceptance(until) }
}

fn statement(plan: &Plan, decision: Decision, given_at: Timestamp, number: u8) -> Statement {
    let plan = plan.hash();
    Statement { change: id(1), plan, tenant: id(2), decision, given_at, nonce: nonce(number) }
}

/// A rule that covers the plan.
fn rule() -> StandingRule {
    StandingRule {
        tenant: id(2),
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Medium, Priority::Low]),
        items: Scope::These { items: BTreeSet::from([id(3), id(4)]) },
        disruption: Disruption::Reboots,
        // Sundays from 08:00 to 20:00.
        windows: vec![WeeklyWindow { begins: (6 * 24 + 8) * 60, minutes: 12 * 60 }],
        from: at(48),
        until: at(60),
        given_at: at(0),
        nonce: nonce(50),
    }
}

fn standing(rule: &StandingRule) -> Standing {
    Standing::admit(signed(1, rule), &ring(), at(0)).unwrap()
}

/// A share and what stands beside it.
struct World {
    change: Change,
    keys: KeyRing,
    standing: Vec<Standing>,
    share: Share,
}

impl World {
    fn new(plan: Plan, dates: Dates) -> Self {
        let change = proven();
        let terms = terms(dates);
        let proven = change.proven().unwrap();
        let (share, _) = Share::open(proven, plan, id(8), &terms, at(0)).unwrap();
        Self { change, keys: ring(), standing: Vec::new(), share }
    }

    /// Told of its plan, at the beginning.
    fn told() -> Self {
        Self::told_of(dates(0))
    }

    fn told_of(dates: Dates) -> Self {
        let mut world = Self::new(plan(), dates.clone());
        let plan = world.share.plan().hash();
        world.step(Event::Notified { plan, written_at: at(0), dates }, at(0)).unwrap();
        world
    }

    fn tell(&mut self, hour: i64) {
        let plan = self.share.plan().hash();
        let event = Event::Notified { plan, written_at: at(hour), dates: dates(hour) };
        self.step(event, at(hour)).unwrap();
    }

    fn step(&mut self, event: Event, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let Self { change, keys, standing, .. } = &*self;
        let (next, effects) = self.share.step(event, &Context { change, keys, standing }, now)?;
        self.share = next;
        Ok(effects)
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        self.step(Event::Tick, now).unwrap()
    }

    /// Ticks until nothing follows; where it stands then.
    fn settle(&mut self, now: Timestamp) -> Phase {
        while !self.tick(now).is_empty() {}
        self.share.phase()
    }

    fn say(
        &mut self,
        decision: Decision,
        now: Timestamp,
        number: u8,
    ) -> Result<Vec<Effect>, Refusal> {
        let said = statement(self.share.plan(), decision, now, number);
        self.step(Event::Answer(signed(1, &said)), now)
    }

    fn countersign(&mut self, by: u8, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let countersign = Countersign { by: id(by), plan: self.share.plan().hash() };
        self.step(Event::Countersign(countersign), now)
    }

    fn replan(&mut self, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let plan = successor(self.share.plan());
        self.step(Event::Replan { plan, author: id(9) }, now)
    }

    fn finish(&mut self, outcome: Outcome, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let plan = self.share.plan().hash();
        self.step(Event::Finished { plan, outcome }, now)
    }

    fn scan(&mut self, hour: i64, sight: Sight) -> Result<Vec<Effect>, Refusal> {
        self.step(Event::Scanned { taken_at: at(hour), sight }, at(hour))
    }

    /// Agreed to, and started when its window opens.
    fn started() -> Self {
        let mut world = Self::told();
        world.say(Decision::Approve, at(1), 1).unwrap();
        assert_eq!(world.settle(at(48)), Phase::RollingOut);
        world
    }
}
