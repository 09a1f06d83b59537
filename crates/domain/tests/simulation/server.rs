//! The control plane of the simulation: it keeps states, a journal of what altered them, and
//! performs effects. All that it knows it can lose and rebuild from the journal.

use domain::change::{
    Change, ChangeEffect, ChangeEvent, Context, Effect, Event, KeyEvent, KeyRing, Plan, Share,
    Standing, StandingRule, Terms, Verified,
};
use domain::cloud::UserId;
use domain::sla::{Reading, Steady};
use jiff::Timestamp;

use super::record::Who;

/// What comes in, once it is read.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Change(ChangeEvent),
    Keys(Who, KeyEvent),
    Rule(Who, Verified<StandingRule>),
    EndRule(Who, usize),
    Open(Who, Plan, UserId, Terms),
    Share(Who, Event),
}

/// What follows.
#[derive(Debug)]
pub(crate) enum Follows {
    Change(ChangeEffect),
    Share(Effect),
    Nothing,
}

pub(crate) struct Tenant {
    pub(crate) keys: KeyRing,
    pub(crate) standing: Vec<Standing>,
    pub(crate) share: Option<Share>,
}

pub(crate) struct Server {
    pub(crate) change: Change,
    pub(crate) tenants: Vec<Tenant>,
    first: (Change, Vec<KeyRing>),
    journal: Vec<(Timestamp, Input)>,
    /// What the wall clock says after a jump is not believed.
    clock: Steady,
}

impl Server {
    pub(crate) fn new(change: Change, keys: Vec<KeyRing>, reading: Reading) -> Self {
        let first = (change.clone(), keys.clone());
        let tenants = tenants(keys);
        Self { change, tenants, first, journal: Vec::new(), clock: Steady::new(reading, None) }
    }

    /// The time by both clocks.
    pub(crate) fn now(&mut self, reading: Reading) -> Timestamp {
        self.clock.tell(reading).0
    }

    /// Takes something in, keeps it, and says what follows.
    pub(crate) fn take(&mut self, input: Input, now: Timestamp) -> Result<Vec<Follows>, String> {
        let is_tick = matches!(input, Input::Share(_, Event::Tick));
        let follows = apply(&mut self.change, &mut self.tenants, input.clone(), now)?;
        if !is_tick || !follows.is_empty() {
            self.journal.push((now, input));
        }
        Ok(follows)
    }

    /// The process ends, and all is as the journal says.
    pub(crate) fn restart(&mut self) {
        let (mut change, keys) = self.first.clone();
        let mut tenants = tenants(keys);
        for (now, input) in &self.journal {
            apply(&mut change, &mut tenants, input.clone(), *now).expect("it was taken once");
        }
        assert_eq!(change, self.change, "the change is rebuilt");
        for (ours, rebuilt) in self.tenants.iter().zip(&tenants) {
            assert_eq!(ours.share, rebuilt.share, "the share is rebuilt");
            assert_eq!(ours.keys, rebuilt.keys, "the keys are rebuilt");
        }
        (self.change, self.tenants) = (change, tenants);
    }
}

fn tenants(keys: Vec<KeyRing>) -> Vec<Tenant> {
    keys.into_iter().map(|keys| Tenant { keys, standing: Vec::new(), share: None }).collect()
}

fn apply(
    change: &mut Change,
    tenants: &mut [Tenant],
    input: Input,
    now: Timestamp,
) -> Result<Vec<Follows>, String> {
    match input {
        Input::Change(event) => {
            let (next, effects) = change.step(event, now).map_err(|refusal| refusal.to_string())?;
            *change = next;
            Ok(effects.into_iter().map(Follows::Change).collect())
        }
        Input::Keys(who, event) => {
            let keys = &mut tenants[who].keys;
            let (next, _) = keys.step(event, now).map_err(|refusal| refusal.to_string())?;
            *keys = next;
            Ok(vec![Follows::Nothing])
        }
        Input::Rule(who, rule) => {
            let tenant = &mut tenants[who];
            let rule = Standing::admit(rule, &tenant.keys, now).map_err(|it| it.to_string())?;
            tenant.standing.push(rule);
            Ok(vec![Follows::Nothing])
        }
        Input::EndRule(who, place) => {
            let rules = &mut tenants[who].standing;
            if place >= rules.len() {
                return Err("no such rule".to_owned());
            }
            let rule = rules.remove(place).withdraw(now);
            rules.insert(place, rule);
            Ok(vec![Follows::Nothing])
        }
        Input::Open(who, plan, author, terms) => {
            let proven = change.proven().map_err(|refusal| refusal.to_string())?;
            let opened = Share::open(proven, plan, author, &terms, now);
            let (share, effects) = opened.map_err(|refusal| refusal.to_string())?;
            tenants[who].share = Some(share);
            Ok(effects.into_iter().map(Follows::Share).collect())
        }
        Input::Share(who, event) => {
            let tenant = &mut tenants[who];
            let share = tenant.share.as_mut().ok_or("there is no share yet")?;
            let context = Context { change, keys: &tenant.keys, standing: &tenant.standing };
            let stepped = share.step(event, &context, now);
            let (next, effects) = stepped.map_err(|refusal| refusal.to_string())?;
            *share = next;
            Ok(effects.into_iter().map(Follows::Share).collect())
        }
    }
}
