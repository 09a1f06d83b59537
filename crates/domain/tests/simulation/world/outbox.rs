//! What the control plane is told and what it does then: effects, the outbox, and the network that
//! loses, doubles, reorders and delays.

use std::cmp::Reverse;

use domain::change::{ChangeEffect, Effect, Event, Notice, Phase};
use domain::cloud::Side;
use domain::sla::Reading;
use jiff::SignedDuration;

use super::super::people::{DAY, HOUR, at, between, chance, short, since_begin};
use super::super::record::{Entry, Fact, Who};
use super::super::server::{Follows, Input};
use super::{Message, World, Written};

impl World {
    pub(super) fn tell_share(&mut self, who: Who, event: Event) {
        let taken = self.take(Input::Share(who, event));
        self.perform(who, taken);
    }

    pub(super) fn perform(&mut self, who: Who, taken: Option<Vec<Follows>>) {
        for follows in taken.into_iter().flatten() {
            match follows {
                Follows::Change(ChangeEffect::Record { version, from, to }) => {
                    self.write(Fact::ChangeMoved { version, from, to });
                }
                Follows::Share(effect) => self.perform_one(who, effect),
                Follows::Change(_) | Follows::Nothing => {}
            }
        }
        self.settle(who);
    }

    fn perform_one(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::Record { version, from, to, .. } => {
                self.write(Fact::Moved { who, version, from, to });
            }
            Effect::Breach { due, side } => {
                let by_tenant = side == Side::Tenant;
                self.write(Fact::Breached { who, due: since_begin(due), by_tenant });
            }
            Effect::Start(permit) => {
                self.write(Fact::Started { who, plan: short(permit.plan()) });
                self.order(who);
            }
            Effect::Notify { notice: Notice::Planned, plan } => {
                let written = self.written();
                self.send(2 * HOUR, &Message::Notice(who, plan, written));
                self.resend_later(who);
            }
            Effect::Notify { notice: Notice::Failed, .. } => {
                let when = self.now + between(&mut self.random, HOUR, 3 * DAY);
                self.post(when, Message::Plan(who));
            }
            Effect::Notify { notice: Notice::Completed, .. } => {
                if chance(&mut self.random, 20) {
                    let when = self.now + between(&mut self.random, HOUR, 10 * DAY);
                    self.post(when, Message::Look(who));
                    self.post(when + DAY, Message::Plan(who));
                }
            }
            Effect::Scan => self.send(2 * HOUR, &Message::Look(who)),
            Effect::Notify { .. }
            | Effect::AcceptFinding { .. }
            | Effect::EndAcceptance
            | Effect::Schedule { .. } => {}
        }
    }

    /// Sends what is not answered again: the outbox delivers at least once.
    pub(super) fn resend(&mut self, who: Who) {
        self.settle(who);
        let Some(share) = &self.server.tenants[who].share else { return };
        let plan = share.plan().hash();
        match share.phase() {
            Phase::Planned => {
                let written = self.written();
                self.send(HOUR, &Message::Notice(who, plan, written));
            }
            Phase::RollingOut => self.order(who),
            Phase::Verifying => self.send(HOUR, &Message::Look(who)),
            Phase::Verified | Phase::Withdrawn | Phase::Closed => return,
            _ => {}
        }
        self.resend_later(who);
    }

    fn written(&mut self) -> Written {
        Written { truly: self.now, by_server: self.server_now() }
    }

    fn resend_later(&mut self, who: Who) {
        if self.resends.insert(who) {
            let later = self.now + between(&mut self.random, 6 * HOUR, 3 * DAY);
            self.post(later, Message::Resend(who));
        }
    }

    fn order(&mut self, who: Who) {
        let Some(share) = &self.server.tenants[who].share else { return };
        let window = share.plan().span();
        let (from, until) = (since_begin(window.from), since_begin(window.until));
        let order = Message::Order(who, share.plan().hash(), from, until);
        self.send(HOUR / 2, &order);
    }

    /// Lets time do what it does, until nothing follows.
    pub(super) fn settle(&mut self, who: Who) {
        if self.server.tenants[who].share.is_none() {
            return;
        }
        for _ in 0..8 {
            match self.take(Input::Share(who, Event::Tick)) {
                Some(follows) if !follows.is_empty() => {
                    for follows in follows {
                        if let Follows::Share(effect) = follows {
                            self.perform_one(who, effect);
                        }
                    }
                }
                _ => {
                    let share = self.server.tenants[who].share.as_ref();
                    if let Some(wakes) = share.and_then(domain::change::Share::wakes_at) {
                        let wakes = since_begin(wakes);
                        // At times nobody looks, and it is seen late.
                        let is_to_come = wakes > self.now && !chance(&mut self.random, 5);
                        if is_to_come && self.wakes.insert((who, wakes)) {
                            self.post(wakes, Message::Wake(who));
                        }
                    }
                    return;
                }
            }
        }
        panic!("a share does not come to rest");
    }

    pub(super) fn take(&mut self, input: Input) -> Option<Vec<Follows>> {
        let now = self.server.now(reading(self.now + self.jump, self.now));
        match self.server.take(input, now) {
            Ok(follows) => Some(follows),
            Err(what) => {
                self.write(Fact::Refused { what });
                None
            }
        }
    }

    pub(super) fn server_now(&mut self) -> i64 {
        since_begin(self.server.now(reading(self.now + self.jump, self.now)))
    }

    /// Over a network that loses, doubles, reorders and delays.
    pub(super) fn send(&mut self, slow: i64, message: &Message) {
        let copies = match self.random.below(20) {
            0 => 0,
            1 | 2 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let slow = if chance(&mut self.random, 5) { 40 * slow } else { slow };
            let when = self.now + between(&mut self.random, 0, slow);
            self.post(when, message.clone());
        }
    }

    pub(super) fn post(&mut self, when: i64, message: Message) {
        self.sent += 1;
        self.queue.push(Reverse((when, self.sent)));
        self.messages.insert(self.sent, message);
    }

    pub(super) fn nonce(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn write(&mut self, fact: Fact) {
        self.record.push(Entry { at: self.now, fact });
    }
}

pub(super) fn reading(wall: i64, counted: i64) -> Reading {
    Reading { wall: at(wall), counted: SignedDuration::from_secs(counted) }
}
