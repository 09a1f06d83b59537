//! What tenants, the provider's people and agents do.

use domain::change::{
    Countersign, Event, KeyEvent, KeyKind, KeyOrder, NewKey, Order, Outcome, Payload as _,
    PlanHash, Share, Verified,
};

use super::super::people::{
    Contract, DAY, HOUR, RuleNumbers, absolute, at, between, chance, key_id, nonce_of, short,
    since_begin, statement, tenant_id, user_id, word,
};
use super::super::record::{Entry, Fact, KeyNo, Who};
use super::super::server::Input;
use super::{Message, TENANTS, World, Written};

impl World {
    /// A notice is in the tenant's mailbox.
    pub(super) fn read(&mut self, who: Who, plan: PlanHash, written: Written) {
        self.write(Fact::Mailed { who, plan: short(plan), written: written.truly });
        self.send(HOUR, &Message::Delivered(who, plan, written));
        if !self.people[who].mailbox.insert(plan) {
            return;
        }
        let answer = self.contracts[who].answer;
        for _ in 0..self.random.below(4) {
            let when = self.now + between(&mut self.random, 0, answer + DAY);
            self.post(when, Message::Speak(who, plan));
        }
        if chance(&mut self.random, 20) {
            let when = self.moment(who);
            self.post(when, Message::Speak(who, plan));
        }
    }

    pub(super) fn told(&mut self, who: Who, plan: PlanHash, written: Written) {
        let deferred = self.server.tenants[who].share.as_ref().map_or(0, Share::deferrals);
        let now = self.server_now();
        let dates = self.contracts[who].dates(Some(now), deferred);
        let number = self.record.len();
        let written_at = at(written.by_server);
        let taken = self.take(Input::Share(who, Event::Notified { plan, written_at, dates }));
        if taken.is_some() {
            let fact = Fact::Told { who, plan: short(plan) };
            self.record.insert(number, Entry { at: self.now, fact });
        }
        self.perform(who, taken);
    }

    /// The patch is judged anew: other terms follow, and never a lower priority.
    pub(super) fn reassess(&mut self, who: Who) {
        let Some(share) = &self.server.tenants[who].share else { return };
        let (told, deferred) = (share.notified_at().map(since_begin), share.deferrals());
        let old = self.contracts[who];
        let Contract { mode, lead, answer, urgency, .. } = Contract::draw(&mut self.random);
        let urgency = urgency.max(old.urgency);
        let new = Contract { mode, lead, answer, urgency, ..old };
        let (dates, priority) = (new.dates(told, deferred), new.priority());
        let reason = "It was judged anew".parse().expect("a reason");
        let number = self.record.len();
        let taken = self.take(Input::Share(who, Event::Redate { dates, priority, reason }));
        if taken.is_some() {
            self.contracts[who] = new;
            let fact = Fact::Reassessed { who, mode, lead, answer, urgency };
            self.record.insert(number, Entry { at: self.now, fact });
        }
        self.perform(who, taken);
    }

    /// Somebody of a tenant signs, or somebody else as if they were.
    pub(super) fn speak(&mut self, who: Who, plan: PlanHash) {
        let nonce = self.nonce();
        let word = word(&mut self.random, self.now);
        let other = (who + 1) % TENANTS;
        match self.random.below(12) {
            0 if !self.people[who].sent.is_empty() => {
                let place = self.random.below(self.people[who].sent.len());
                let (key, payload, nonce) = self.people[who].sent[place].clone();
                return self.send(DAY, &Message::Statement { to: who, key, payload, nonce });
            }
            1 => {
                // Another tenant's key: once as itself, once as if it were this tenant.
                let speaks_for = if chance(&mut self.random, 50) { who } else { other };
                let key = self.people[other].keys[0];
                let payload = statement(speaks_for, plan, word, self.now, nonce).to_payload();
                return self.send(HOUR, &Message::Statement { to: who, key, payload, nonce });
            }
            2 => {
                let payload = statement(who, plan, word, self.now, nonce).to_payload();
                return self.send(HOUR, &Message::Statement { to: who, key: 99, payload, nonce });
            }
            _ => {}
        }
        let skew = match self.random.below(10) {
            0 => between(&mut self.random, -1200, 1200),
            1 => [3650 * DAY, -3650 * DAY, HOUR, -HOUR][self.random.below(4)],
            _ => 0,
        };
        // Mostly its newest key, at times an older one, which may be revoked.
        let keys = &self.people[who].keys;
        let place = if chance(&mut self.random, 80) { keys.len() - 1 } else { 0 };
        let key = keys[place];
        let given_at = self.now + skew;
        let payload = statement(who, plan, word, given_at, nonce).to_payload();
        self.write(Fact::Signed { who, key, plan: short(plan), word, given_at, nonce });
        self.people[who].sent.push((key, payload.clone(), nonce));
        self.send(6 * HOUR, &Message::Statement { to: who, key, payload, nonce });
    }

    pub(super) fn sign_rule(&mut self, who: Who, when: i64) {
        let nonce = self.nonce();
        let numbers = RuleNumbers::draw(&mut self.random);
        let key = self.people[who].keys[0];
        let payload = numbers.rule(who, when, nonce).to_payload();
        let RuleNumbers { urgencies, disruption, begins, length } = numbers;
        // The oracle counts from when the simulation begins.
        let begins = begins - absolute(0);
        self.write(Fact::RuleSigned { who, key, urgencies, disruption, begins, length, nonce });
        self.post(when, Message::Rule { to: who, key, payload, nonce });
    }

    pub(super) fn rotate(&mut self, who: Who) {
        let old = *self.people[who].keys.last().expect("it has one");
        let new = old + 1;
        let nonce = nonce_of(self.nonce());
        let order =
            KeyOrder { tenant: tenant_id(who), order: Order::Rotate { key: new_key(new) }, nonce };
        let order = Verified::signed_by(key_id(old), &order.to_payload()).expect("canonical");
        if self.take(Input::Keys(who, KeyEvent::Ordered(order))).is_some() {
            self.write(Fact::KeyOut { who, key: old, revoked: false });
            self.write(Fact::KeyIn { who, key: new });
            self.people[who].keys.push(new);
            self.settle(who);
        }
    }

    pub(super) fn revoke(&mut self, who: Who) {
        let place = self.random.below(self.people[who].keys.len());
        let key = self.people[who].keys[place];
        let event = KeyEvent::Revoke { key: key_id(key), by: user_id(100) };
        if self.take(Input::Keys(who, event)).is_some() {
            self.write(Fact::KeyOut { who, key, revoked: true });
            self.settle(who);
        }
    }

    pub(super) fn countersign(&mut self, who: Who, by: u8) {
        let Some(share) = &self.server.tenants[who].share else { return };
        let plan = share.plan().hash();
        let countersign = Countersign { by: user_id(by), plan };
        let number = self.record.len();
        let taken = self.take(Input::Share(who, Event::Countersign(countersign)));
        if taken.is_some() {
            let fact = Fact::Countersigned { who, plan: short(plan), by };
            self.record.insert(number, Entry { at: self.now, fact });
        }
        self.perform(who, taken);
    }

    /// The agent has an order. It does each once, and none outside its window.
    pub(super) fn obey(&mut self, who: Who, plan: PlanHash, from: i64, until: i64) {
        let is_done = self.people[who].ran.contains(&plan);
        if !is_done && (self.now < from || until <= self.now) {
            return self.send(HOUR, &Message::Report(who, plan, Outcome::Failed));
        }
        let outcome = if chance(&mut self.random, 90) || is_done {
            Outcome::Done
        } else {
            Outcome::RolledBack
        };
        if self.people[who].ran.insert(plan) {
            self.write(Fact::Ran { who, plan: short(plan) });
        }
        self.send(HOUR, &Message::Report(who, plan, outcome));
    }
}

pub(super) fn new_key(key: KeyNo) -> NewKey {
    NewKey { id: key_id(key), kind: KeyKind::Ed25519, holder: user_id(100) }
}
