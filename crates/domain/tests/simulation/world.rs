//! One schedule: a provider, two tenants, their agents and all that goes wrong between them, in
//! virtual time and from one seed.

mod acts;
mod outbox;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use domain::change::{
    Change, ChangeEvent, Event, FileHash, KeyEvent, KeyRing, Kind, Outcome, Phase, PlanHash, Sight,
    Terms, Verified,
};

use acts::new_key;
use outbox::reading;

use super::people::{
    Contract, DAY, HOUR, at, between, chance, change_id, disruption_of, key_id, plan, short,
    since_begin, tenant_id, user_id,
};
use super::record::{Entry, Fact, KeyNo, Who};
use super::server::{Input, Server};
use crate::random::Random;

const TENANTS: usize = 2;
/// Of the provider's people; the first writes the plans.
const AUTHOR: u8 = 0;

/// Something on its way.
#[derive(Debug, Clone)]
enum Message {
    Change(ChangeEvent),
    Plan(Who),
    Notice(Who, PlanHash, Written),
    Delivered(Who, PlanHash, Written),
    Speak(Who, PlanHash),
    Statement {
        to: Who,
        key: KeyNo,
        payload: Vec<u8>,
        nonce: u64,
    },
    Rule {
        to: Who,
        key: KeyNo,
        payload: Vec<u8>,
        nonce: u64,
    },
    EndRule(Who),
    Rotate(Who),
    Revoke(Who),
    Countersign(Who, u8),
    Order(Who, PlanHash, i64, i64),
    Report(Who, PlanHash, Outcome),
    Look(Who),
    Scan(Who, i64, Sight),
    WithdrawShare(Who),
    Reassess(Who),
    /// Somebody looks, because something changes by itself then.
    Wake(Who),
    /// The outbox sends again what is not answered.
    Resend(Who),
    Restart,
    Jump(i64),
}

/// When a notice was written, in truth and by the server's clock.
#[derive(Debug, Clone, Copy)]
struct Written {
    truly: i64,
    by_server: i64,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Its keys, the last of which it believes to be in force.
    keys: Vec<KeyNo>,
    /// What it signed once, to be shown again.
    sent: Vec<(KeyNo, Vec<u8>, u64)>,
    mailbox: BTreeSet<PlanHash>,
    /// What its agent has done.
    ran: BTreeSet<PlanHash>,
    /// How many rules the control plane has of it, by their nonces.
    rules: Vec<u64>,
}

pub(crate) struct World {
    random: Random,
    now: i64,
    jump: i64,
    queue: std::collections::BinaryHeap<Reverse<(i64, u64)>>,
    messages: BTreeMap<u64, Message>,
    /// When somebody will look.
    wakes: BTreeSet<(Who, i64)>,
    /// Whose outbox is going to send again.
    resends: BTreeSet<Who>,
    sent: u64,
    next: u64,
    contracts: Vec<Contract>,
    people: Vec<Tenant>,
    server: Server,
    record: Vec<Entry>,
}

/// All that happened under a seed.
pub(crate) fn run(seed: u64) -> Vec<Entry> {
    let mut world = World::new(seed);
    world.begin();
    world.go_on();
    world.end();
    world.record
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let contracts: Vec<_> = (0..TENANTS).map(|_| Contract::draw(&mut random)).collect();
        let rings = (0..TENANTS).map(|who| KeyRing::new(tenant_id(who))).collect();
        let change = Change::found(change_id(), Kind::Patch, at(0));
        Self {
            random,
            now: 0,
            jump: 0,
            queue: std::collections::BinaryHeap::new(),
            messages: BTreeMap::new(),
            wakes: BTreeSet::new(),
            resends: BTreeSet::new(),
            sent: 0,
            next: 1,
            contracts,
            people: (0..TENANTS).map(|_| Tenant::default()).collect(),
            server: Server::new(change, rings, reading(0, 0)),
            record: Vec::new(),
        }
    }

    fn begin(&mut self) {
        for who in 0..TENANTS {
            let Contract { mode, lead, answer, due, above, urgency, .. } = self.contracts[who];
            self.write(Fact::Contract { who, mode, lead, answer, due, above, urgency });
            let key = KeyNo::try_from(10 * (who + 1)).expect("few");
            let event = KeyEvent::Register { key: new_key(key), by: user_id(100) };
            if self.take(Input::Keys(who, event)).is_some() {
                self.write(Fact::KeyIn { who, key });
                self.people[who].keys.push(key);
            }
            let first = between(&mut self.random, 0, 3 * DAY);
            if chance(&mut self.random, 30) {
                self.sign_rule(who, first);
            }
            self.trouble(who);
        }
        let proof = between(&mut self.random, 1, DAY);
        self.post(0, Message::Change(ChangeEvent::Prove));
        let evidence = FileHash::from([1; 32]);
        self.post(proof, Message::Change(ChangeEvent::Pass { evidence }));
        if chance(&mut self.random, 15) {
            let reason = "The vendor took it back".parse().expect("a reason");
            let withdraw = ChangeEvent::Withdraw { by: user_id(1), reason };
            let when = self.moment(0);
            self.post(when, Message::Change(withdraw));
        }
        for _ in 0..self.random.below(3) {
            let when = self.moment(0);
            self.post(when, Message::Restart);
        }
        for _ in 0..self.random.below(3) {
            let by = [HOUR, -HOUR, 3650 * DAY, -3650 * DAY][self.random.below(4)];
            let when = self.moment(0);
            self.post(when, Message::Jump(by));
        }
    }

    /// What people do without being asked.
    fn trouble(&mut self, who: Who) {
        let likely = [
            (20, Message::Plan(who)),
            (8, Message::WithdrawShare(who)),
            (10, Message::Rotate(who)),
            (15, Message::Revoke(who)),
            (10, Message::EndRule(who)),
            (50, Message::Countersign(who, AUTHOR)),
            (70, Message::Countersign(who, 1)),
            (70, Message::Countersign(who, 2)),
            (40, Message::Countersign(who, 2)),
            (30, Message::Countersign(who, 1)),
            (10, Message::Look(who)),
            (15, Message::Reassess(who)),
            (15, Message::Reassess(who)),
        ];
        for (percent, message) in likely {
            if chance(&mut self.random, percent) {
                let when = self.moment(who);
                self.post(when, message);
            }
        }
    }

    /// Some time, often close to when something else happens.
    fn moment(&mut self, who: Who) -> i64 {
        let share = self.server.tenants[who].share.as_ref();
        let window = share.map(|share| since_begin(share.plan().span().from));
        match window {
            Some(from) if chance(&mut self.random, 50) => {
                (from + between(&mut self.random, -120, 120)).max(self.now)
            }
            _ => self.now + between(&mut self.random, 0, 20 * DAY),
        }
    }

    fn go_on(&mut self) {
        let end = self.contracts.iter().map(|it| it.due).max().unwrap_or(0) + 20 * DAY;
        // A schedule has some dozens of messages; one that does not end is a mistake of ours.
        for _ in 0..2000 {
            let next = self.queue.pop().filter(|Reverse((when, _))| *when <= end);
            let Some(Reverse((when, number))) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(when);
            let message = self.messages.remove(&number).expect("it was posted");
            self.happen(message);
        }
        panic!("a schedule has no end");
    }

    fn end(&mut self) {
        for who in 0..TENANTS {
            self.settle(who);
            if let Some(share) = &self.server.tenants[who].share {
                let phase = share.phase().as_str();
                self.write(Fact::Ended { who, phase });
            }
        }
    }

    fn happen(&mut self, message: Message) {
        match message {
            Message::Change(event) => self.change(event),
            Message::Plan(who) => self.plan(who),
            Message::Notice(who, plan, written) => self.read(who, plan, written),
            Message::Delivered(who, plan, written) => self.told(who, plan, written),
            Message::Speak(who, plan) => self.speak(who, plan),
            Message::Statement { to, key, payload, nonce } => {
                let said = Verified::signed_by(key_id(key), &payload).expect("as it was signed");
                let number = self.record.len();
                let taken = self.take(Input::Share(to, Event::Answer(said)));
                let fact = Fact::Arrived { who: to, nonce, taken: taken.is_some() };
                self.record.insert(number, Entry { at: self.now, fact });
                self.perform(to, taken);
            }
            Message::Rule { to, key, payload, nonce } => {
                let rule = Verified::signed_by(key_id(key), &payload).expect("as it was signed");
                let taken = self.take(Input::Rule(to, rule)).is_some();
                self.write(Fact::RuleArrived { who: to, nonce, taken });
                if taken {
                    self.people[to].rules.push(nonce);
                }
                self.settle(to);
            }
            Message::EndRule(who) => {
                let last = self.people[who].rules.len().wrapping_sub(1);
                if self.take(Input::EndRule(who, last)).is_some() {
                    let nonce = self.people[who].rules[last];
                    self.write(Fact::RuleEnded { who, nonce });
                    self.settle(who);
                }
            }
            Message::Rotate(who) => self.rotate(who),
            Message::Revoke(who) => self.revoke(who),
            Message::Countersign(who, by) => self.countersign(who, by),
            Message::Order(who, plan, from, until) => self.obey(who, plan, from, until),
            Message::Report(who, plan, outcome) => {
                self.tell_share(who, Event::Finished { plan, outcome });
            }
            Message::Look(who) => {
                let sight = match self.random.below(10) {
                    0 => Sight::Missing,
                    1 => Sight::Unknown,
                    _ => Sight::Clean,
                };
                let taken = self.now;
                self.send(HOUR, &Message::Scan(who, taken, sight));
            }
            Message::Scan(who, taken, sight) => {
                let is_known = self.server.tenants[who].share.as_ref();
                let is_seen = is_known.is_some_and(|it| it.phase() == Phase::Verifying);
                self.tell_share(who, Event::Scanned { taken_at: at(taken), sight });
                let still = self.server.tenants[who].share.as_ref();
                if is_seen && still.is_some_and(|it| it.phase() == Phase::Verifying) {
                    self.post(self.now + HOUR, Message::Look(who));
                }
            }
            Message::Reassess(who) => self.reassess(who),
            Message::WithdrawShare(who) => self.tell_share(who, Event::Withdraw),
            Message::Wake(who) => {
                self.wakes.remove(&(who, self.now));
                self.settle(who);
            }
            Message::Resend(who) => {
                self.resends.remove(&who);
                self.resend(who);
            }
            Message::Restart => {
                self.write(Fact::Restarted);
                self.server.restart();
                (0..TENANTS).for_each(|who| self.resend(who));
            }
            Message::Jump(by) => {
                self.write(Fact::Jumped { by });
                self.jump += by;
                (0..TENANTS).for_each(|who| self.resend(who));
            }
        }
    }

    fn change(&mut self, event: ChangeEvent) {
        let passes = matches!(event, ChangeEvent::Pass { .. });
        let taken = self.take(Input::Change(event));
        self.perform(0, taken);
        for who in 0..TENANTS {
            if passes {
                self.plan(who);
            }
            self.settle(who);
        }
    }

    fn plan(&mut self, who: Who) {
        let lead = self.contracts[who].lead;
        // Some windows open before anybody can have answered.
        let from = self.now + between(&mut self.random, 0, lead + 6 * DAY);
        let share = self.server.tenants[who].share.as_ref();
        let parent = share.map(|share| share.plan().clone());
        let plan = plan(&mut self.random, who, parent.as_ref(), from);
        let window = plan.span();
        let fact = Fact::Planned {
            who,
            plan: short(plan.hash()),
            author: AUTHOR,
            from: since_begin(window.from),
            until: since_begin(window.until),
            items: plan.provider_items(),
            disruption: disruption_of(&plan),
        };
        let contract = self.contracts[who];
        let author = user_id(AUTHOR);
        let input = if parent.is_none() {
            let terms = Terms {
                kind: Kind::Patch,
                priority: contract.priority(),
                dates: contract.dates(None, 0),
                two_persons_above: contract.above,
            };
            Input::Open(who, plan, author, terms)
        } else {
            Input::Share(who, Event::Replan { plan, author })
        };
        let number = self.record.len();
        let taken = self.take(input);
        if taken.is_some() {
            self.record.insert(number, Entry { at: self.now, fact });
            for by in [1, 2] {
                if chance(&mut self.random, 70) {
                    self.send(2 * DAY, &Message::Countersign(who, by));
                }
            }
        }
        self.perform(who, taken);
    }
}
