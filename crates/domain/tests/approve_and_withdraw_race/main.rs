//! Every order of what races in practice over one tenant's share of a change: the tenant agrees,
//! defers, refuses, revokes its key, gives a rule and takes it back; the provider plans again,
//! tells of it, takes the change or the share back; four times pass. After each step a small oracle
//! judges with rules of its own.
//!
//! All sequences of up to three acts of people among the four times are tried, once with the ticks
//! after each step, once with ticks only when time passed, once with none before the end; of four
//! acts with the ticks after each step alone. An act that is refused alters nothing, so what
//! follows it is tried without it.

mod cast;
mod oracle;

use cast::{APPROVES, HOUR, Said, Story, WAITS, Word, at};
use domain::change::{
    Change, ChangeEvent, Context, Effect, Event, KeyEvent, KeyRing, Plan, Share, Standing,
};
use domain::sla::Approval;
use oracle::{Oracle, Rule};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// The yes to the first plan, signed as soon as it was told of.
    Yes,
    /// The same message again.
    YesAgain,
    /// A yes to the first plan, signed now and with another key.
    YesOfOther,
    Later,
    No,
    /// A yes to the second plan.
    YesToSecond,
    Revoke,
    GiveRule,
    EndRule,
    Replan,
    Notify,
    WithdrawChange,
    WithdrawShare,
}

const ALL: [Act; 13] = [
    Act::Yes,
    Act::YesAgain,
    Act::YesOfOther,
    Act::Later,
    Act::No,
    Act::YesToSecond,
    Act::Revoke,
    Act::GiveRule,
    Act::EndRule,
    Act::Replan,
    Act::Notify,
    Act::WithdrawChange,
    Act::WithdrawShare,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ticks {
    Always,
    WithTime,
    AtTheEnd,
}

#[derive(Clone)]
struct World<'a> {
    story: &'a Story,
    plans: &'a [Plan; 2],
    now: i64,
    passed: usize,
    change: Change,
    keys: KeyRing,
    standing: Vec<Standing>,
    share: Share,
    oracle: Oracle,
}

/// How many schedules ended how.
#[derive(Debug, Default)]
struct Seen {
    schedules: u64,
    started: u64,
    withdrawn: u64,
    neither: u64,
}

impl<'a> World<'a> {
    /// The tenant was told of the first plan.
    fn new(story: &'a Story, plans: &'a [Plan; 2]) -> Result<Self, String> {
        let change = cast::change();
        let share = cast::share(story, &change, plans[0].clone());
        let (keys, oracle) = (cast::keys(), Oracle::new(*story));
        let mut world = Self {
            story,
            plans,
            now: 0,
            passed: 0,
            change,
            keys,
            standing: Vec::new(),
            share,
            oracle,
        };
        if world.happen(Act::Notify)? { Ok(world) } else { Err("it cannot be told of".to_owned()) }
    }

    /// Whether an act was taken; what is wrong with how it was answered.
    fn happen(&mut self, act: Act) -> Result<bool, String> {
        let now = self.now;
        let said = |word, plan, key, given, nonce| Said { word, plan, key, given, nonce };
        match act {
            Act::Yes | Act::YesAgain => self.speak(said(Word::Yes, 0, 1, 0, 1)),
            Act::YesOfOther => self.speak(said(Word::Yes, 0, 2, now, 2)),
            Act::Later => self.speak(said(Word::Later, self.oracle.plan, 1, now, 3)),
            Act::No => self.speak(said(Word::No, self.oracle.plan, 1, now, 4)),
            Act::YesToSecond => self.speak(said(Word::Yes, 1, 1, now, 5)),
            Act::Revoke => {
                let event = KeyEvent::Revoke { key: cast::key(1), by: cast::owner() };
                self.keys = self.keys.step(event, at(now)).map_err(|it| it.to_string())?.0;
                self.oracle.first_key_revoked = true;
                Ok(true)
            }
            Act::GiveRule => {
                let taken = Standing::admit(cast::rule(), &self.keys, at(now));
                if taken.is_ok() != self.oracle.is_good(1) {
                    return Err("a rule was heard wrongly".to_owned());
                }
                let Ok(rule) = taken else { return Ok(false) };
                self.oracle.rule = Rule::Given;
                self.standing.push(rule);
                Ok(true)
            }
            Act::EndRule => {
                let rules = std::mem::take(&mut self.standing);
                let is_there = !rules.is_empty();
                self.standing = rules.into_iter().map(|rule| rule.withdraw(at(now))).collect();
                if is_there {
                    self.oracle.rule = Rule::Ended;
                }
                Ok(is_there)
            }
            Act::Replan => {
                let expected = self.oracle.plan == 0 && self.oracle.can_replan();
                if expected {
                    self.oracle.plan = 1;
                    self.oracle.told = None;
                }
                let plan = self.plans[1].clone();
                self.step(Event::Replan { plan, author: cast::owner() }, expected)
            }
            Act::Notify => {
                let expected = self.oracle.can_notify();
                if expected {
                    self.oracle.told = Some(now);
                }
                let dates = cast::dates(self.story, now, self.share.deferrals());
                let plan = self.plans[self.oracle.plan].hash();
                self.step(Event::Notified { plan, written_at: cast::at(now), dates }, expected)
            }
            Act::WithdrawChange => {
                let reason = "The vendor took it back".parse().expect("a reason");
                let event = ChangeEvent::Withdraw { by: cast::owner(), reason };
                self.change = self.change.step(event, at(now)).map_err(|it| it.to_string())?.0;
                self.oracle.change_withdrawn = true;
                Ok(true)
            }
            Act::WithdrawShare => {
                let expected = self.oracle.is_before_start();
                self.step(Event::Withdraw, expected)
            }
        }
    }

    fn speak(&mut self, said: Said) -> Result<bool, String> {
        let expected = self.oracle.hears(said, self.now);
        if expected {
            self.oracle.words.push(said);
        }
        let statement = cast::statement(self.story, self.plans[said.plan].hash(), said);
        self.step(Event::Answer(statement), expected)
    }

    fn take(&mut self, event: Event) -> Option<Vec<Effect>> {
        let before = self.share.clone();
        let Self { change, keys, standing, .. } = &*self;
        let stepped = before.step(event, &Context { change, keys, standing }, at(self.now));
        let (next, effects) = stepped.ok()?;
        self.share = next;
        Some(effects)
    }

    fn step(&mut self, event: Event, expected: bool) -> Result<bool, String> {
        let before = self.share.clone();
        match self.take(event) {
            Some(effects) if expected => {
                self.oracle.see(&self.share, self.plans, &effects, self.now)?;
                Ok(true)
            }
            None if !expected && self.share == before => Ok(false),
            Some(_) => Err("it was taken, and should be refused".to_owned()),
            None => Err("it was refused, or altered something all the same".to_owned()),
        }
    }

    /// Ticks until nothing follows.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            let before = self.share.clone();
            let effects = self.take(Event::Tick).ok_or("a tick was refused")?;
            if effects.is_empty() {
                if self.share != before {
                    return Err("a tick altered something without a word".to_owned());
                }
                return self.oracle.is_at_rest(self.now);
            }
            self.oracle.see(&self.share, self.plans, &effects, self.now)?;
        }
        Err("it does not come to rest".to_owned())
    }
}

/// All that can follow from here.
fn explore(
    world: &World<'_>,
    (ticks, most): (Ticks, usize),
    trail: &mut Vec<(i64, Option<Act>)>,
    seen: &mut Seen,
) -> Result<(), String> {
    let acts = trail.iter().filter(|(_, act)| act.is_some()).count();
    if world.passed == world.story.clock.len() && acts <= most {
        let mut end = world.clone();
        end.settle()?;
        seen.schedules += 1;
        match (end.oracle.started, end.oracle.is_withdrawn()) {
            (true, true) => return Err("both started and withdrawn".to_owned()),
            (true, false) => seen.started += 1,
            (false, true) => seen.withdrawn += 1,
            (false, false) => seen.neither += 1,
        }
    }
    if let Some(now) = world.story.clock.get(world.passed).copied() {
        let mut next = world.clone();
        (next.now, next.passed) = (now, world.passed + 1);
        trail.push((now, None));
        if ticks != Ticks::AtTheEnd {
            next.settle()?;
        }
        explore(&next, (ticks, most), trail, seen)?;
        trail.pop();
    }
    let is_left = |act: &&Act| trail.iter().all(|(_, done)| *done != Some(**act));
    let left: Vec<_> = ALL.iter().filter(is_left).copied().collect();
    for act in left.into_iter().filter(|_| acts < most) {
        let mut next = world.clone();
        trail.push((world.now, Some(act)));
        if next.happen(act)? {
            if ticks == Ticks::Always {
                next.settle()?;
            }
            explore(&next, (ticks, most), trail, seen)?;
        }
        trail.pop();
    }
    Ok(())
}

fn run(story: &Story, ways: &[(Ticks, usize)]) {
    let plans = cast::plans(story);
    for &(ticks, most) in ways {
        let (mut trail, mut seen) = (Vec::new(), Seen::default());
        let all = World::new(story, &plans)
            .and_then(|world| explore(&world, (ticks, most), &mut trail, &mut seen));
        if let Err(wrong) = all {
            panic!("{}, ticks {ticks:?}: {wrong}, after {trail:?}", story.name);
        }
        println!("{}, ticks {ticks:?}: {seen:?}", story.name);
        assert!(seen.schedules > 1000, "{}: hardly anything was tried: {seen:?}", story.name);
        assert!(seen.withdrawn > 100 && seen.neither > 100, "{}: {seen:?}", story.name);
        // At the end the window is over, so that nothing starts without ticks before it.
        let starts = seen.started > 100;
        assert_eq!(starts, ticks != Ticks::AtTheEnd, "{}: {seen:?}", story.name);
    }
}

/// The lead time is over, the window opens, the answer is late, the window closes.
const IN_TURN: Story = Story {
    name: "in turn",
    approval: WAITS,
    lead: 24 * HOUR,
    answer: 72 * HOUR,
    window: (48 * HOUR, 96 * HOUR),
    deferred_until: 48 * HOUR,
    refused_until: 72 * HOUR,
    clock: [24 * HOUR, 48 * HOUR, 72 * HOUR, 96 * HOUR],
};

/// The window is open from the beginning; a second before the lead time is over, and then.
const AT_THE_LEAD: Story = Story {
    name: "at the end of the lead time",
    lead: 24 * HOUR,
    answer: 30 * HOUR,
    window: (0, 36 * HOUR),
    deferred_until: 24 * HOUR,
    refused_until: 24 * HOUR,
    clock: [24 * HOUR - 1, 24 * HOUR, 30 * HOUR, 36 * HOUR],
    ..IN_TURN
};

/// A second before the window opens and closes, and then.
const AT_THE_WINDOW: Story = Story {
    name: "at the window",
    lead: 0,
    answer: 30 * HOUR,
    window: (24 * HOUR, 30 * HOUR),
    deferred_until: 24 * HOUR + 1,
    refused_until: 24 * HOUR,
    clock: [24 * HOUR - 1, 24 * HOUR, 30 * HOUR - 1, 30 * HOUR],
    ..IN_TURN
};

/// A second before the time to answer is over, and then.
const AT_THE_ANSWER: Story = Story {
    name: "at the end of the time to answer",
    lead: 12 * HOUR,
    answer: 24 * HOUR,
    window: (12 * HOUR, 96 * HOUR),
    deferred_until: 30 * HOUR,
    refused_until: 24 * HOUR,
    clock: [24 * HOUR - 1, 24 * HOUR, 30 * HOUR, 96 * HOUR],
    ..IN_TURN
};

fn run_all(approval: Approval) {
    let ways = [(Ticks::Always, 3), (Ticks::WithTime, 3), (Ticks::AtTheEnd, 3)];
    for story in [IN_TURN, AT_THE_LEAD, AT_THE_WINDOW, AT_THE_ANSWER] {
        run(&Story { approval, ..story }, &ways);
    }
}

#[test]
fn no_order_of_events_starts_what_was_withdrawn_where_silence_waits() {
    run_all(WAITS);
}

#[test]
fn no_order_of_events_starts_what_was_withdrawn_where_silence_approves() {
    run_all(APPROVES);
}

#[test]
fn no_order_of_events_starts_what_was_withdrawn_where_a_notice_is_enough() {
    run_all(Approval::Notice);
}

#[test]
fn no_order_of_a_longer_schedule_starts_what_was_withdrawn() {
    run(&IN_TURN, &[(Ticks::Always, 4)]);
}
