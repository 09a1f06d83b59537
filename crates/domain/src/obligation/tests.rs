use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::change::{
    Action, ChangeEvent, Decision, FileHash, Item, KeyEvent, KeyKind, Kind, NewKey, Nonce, Payload,
    Phase, Rollback, Shortfall, Stage as PlanStage, Window,
};
use crate::cloud::{Id, IdKind};
use crate::priority::{AssetFacts, Exposure, KevListing, Priority, PriorityInputs, Sourced};
use crate::sla::{Errand, Goal, Span, Stage, State};

/// Hours since a Monday, 00:00 UTC.
fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_799_625_600 + hour * 3600).unwrap()
}

fn id<K: IdKind>(number: u8) -> Id<K> {
    Id::of_content([number; 16])
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

fn plan(generation: u32, parent: Option<&Plan>, from: i64, until: i64) -> Plan {
    Plan::new(crate::change::Draft {
        change: id(1),
        tenant: id(2),
        generation,
        parent: parent.map(Plan::hash),
        stages: vec![PlanStage {
            window: Window { from: at(from), until: at(until) },
            items: vec![Item {
                ci: id(3),
                duty: Duty::Provider,
                actions: vec![Action::Reboot],
                rollback: Rollback::Snapshot,
            }],
        }],
    })
    .unwrap()
}

/// An obligation, what stands beside it, and all that followed.
struct World {
    policy: Policy,
    change: Change,
    keys: KeyRing,
    it: Obligation,
    effects: Vec<Effect>,
    nonce: u8,
}

impl World {
    fn of(priority: Priority, extra: &str) -> Self {
        let policy = Policy::builtin("x1642-default").unwrap();
        let policy = policy.negotiate(&format!("version = \"t\"\n{extra}")).unwrap();
        let key = NewKey { id: KeyId::from([1; 32]), kind: KeyKind::Ed25519, holder: id(1) };
        let keys = KeyRing::new(id(2));
        let keys = keys.step(KeyEvent::Register { key, by: id(1) }, at(-1)).unwrap().0;
        let draft = Draft {
            change: id(1),
            tenant: id(2),
            facts: facts(priority),
            duty: Duty::Provider,
            published: None,
            collected: at(0),
        };
        let (it, effects) = Obligation::open(draft, &policy, at(0));
        let change = Change::found(id(1), Kind::Patch, at(0));
        Self { policy, change, keys, it, effects, nonce: 0 }
    }

    /// Evaluated at 1, tested at 2, with a plan at 3.
    fn planned(priority: Priority, extra: &str, from: i64, until: i64) -> Self {
        let mut world = Self::of(priority, extra);
        world.step(Event::Assess { facts: Box::new(facts(priority)) }, 1).unwrap();
        world.prove(2);
        world.plan(plan(0, None, from, until), 3).unwrap();
        world
    }

    fn told(priority: Priority, extra: &str, from: i64, until: i64) -> Self {
        let mut world = Self::planned(priority, extra, from, until);
        world.tell(4).unwrap();
        world
    }

    fn prove(&mut self, hour: i64) {
        let pass = ChangeEvent::Pass { evidence: FileHash::from([1; 32]) };
        let change = self.change.step(ChangeEvent::Prove, at(hour)).unwrap().0;
        self.change = change.step(pass, at(hour)).unwrap().0;
        self.step(Event::Tick, hour).unwrap();
    }

    fn step(&mut self, event: Event, hour: i64) -> Result<(), Refusal> {
        let Self { policy, change, keys, .. } = &*self;
        let context = Context { policy, change, keys, standing: &[] };
        let (next, effects) = self.it.step(event, &context, at(hour))?;
        // What is kept is all there is.
        let kept = serde_json::to_string(&next.to_kept()).unwrap();
        let kept = serde_json::from_str(&kept).unwrap();
        let plan = next.share().map(|share| share.plan().clone());
        assert_eq!(Obligation::from_kept(kept, plan).unwrap(), next);
        self.it = next;
        self.effects.extend(effects);
        Ok(())
    }

    fn tick(&mut self, hour: i64) -> &'static str {
        self.step(Event::Tick, hour).unwrap();
        self.it.phase()
    }

    fn plan(&mut self, plan: Plan, hour: i64) -> Result<(), Refusal> {
        self.step(Event::Plan { plan, author: id(8), two_persons_above: 9 }, hour)
    }

    fn replan(&mut self, from: i64, until: i64, hour: i64) -> Result<(), Refusal> {
        let old = self.it.share().unwrap().plan().clone();
        self.plan(plan(old.draft().generation + 1, Some(&old), from, until), hour)
    }

    fn hash(&self) -> PlanHash {
        self.it.share().unwrap().plan().hash()
    }

    fn tell(&mut self, hour: i64) -> Result<(), Refusal> {
        self.step(Event::Notified { plan: self.hash(), written_at: at(hour) }, hour)
    }

    fn say(&mut self, decision: Decision, hour: i64) -> Result<(), Refusal> {
        self.nonce += 1;
        let nonce = Nonce::from([self.nonce; 16]);
        let (change, tenant, plan, given_at) = (id(1), id(2), self.hash(), at(hour));
        let said = Statement { change, plan, tenant, decision, given_at, nonce };
        let said = Verified::signed_by(KeyId::from([1; 32]), &said.to_payload()).unwrap();
        self.step(Event::Answer(said), hour)
    }

    fn finish(&mut self, hour: i64) -> Result<(), Refusal> {
        self.step(Event::Finished { plan: self.hash(), outcome: Outcome::Done }, hour)
    }

    fn scan(&mut self, sight: Sight, hour: i64) -> Result<(), Refusal> {
        self.step(Event::Scanned { taken_at: at(hour), sight }, hour)
    }

    /// Who held the ball, from hour to hour.
    fn ledger(&self, now: i64) -> Vec<(i64, i64, Party, Stage)> {
        let hours = |time: Timestamp| (time.as_second() - at(0).as_second()) / 3600;
        let spans = self.it.case(&self.policy).attribution(at(now));
        spans
            .into_iter()
            .map(|Span { from, until, party, stage }| (hours(from), hours(until), party, stage))
            .collect()
    }

    fn breaches(&self) -> Vec<&Breach> {
        let breaches = self.effects.iter().filter_map(|effect| match effect {
            Effect::Breach(breach) => Some(breach.as_ref()),
            _ => None,
        });
        breaches.collect()
    }
}

fn acceptance(until: i64) -> Acceptance {
    Acceptance {
        reason: "Quarter-end close".parse().unwrap(),
        risk_owner: "Ada".parse().unwrap(),
        expiry: at(until),
    }
}

fn later(until: i64) -> Decision {
    Decision::Defer { until: at(until), acceptance: acceptance(until) }
}

fn no(until: i64) -> Decision {
    Decision::Refuse { acceptance: acceptance(until) }
}

#[test]
fn the_straight_way_leaves_each_instant_once() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.step(Event::Acknowledged, 5).unwrap();
    world.say(Decision::Approve, 6).unwrap();
    assert_eq!(world.it.phase(), "scheduled");
    assert_eq!(world.tick(80), "rolling_out");
    world.finish(81).unwrap();
    world.scan(Sight::Clean, 82).unwrap();

    let records = world.it.instants().records();
    let moments: Vec<_> = records.iter().map(|record| record.moment).collect();
    assert_eq!(
        moments,
        [
            Moment::Collected,
            Moment::Evaluated,
            Moment::Tested,
            Moment::Notified,
            Moment::Acknowledged,
            Moment::Approved,
            Moment::Scheduled,
            Moment::Installed,
            Moment::Verified,
        ]
    );
    assert_eq!(world.it.clock(&world.policy, at(500)).unwrap().state, State::Met);
    assert_eq!(world.it.wakes_at(&world.policy, at(500)), None);
    assert!(world.effects.iter().any(|effect| effect.permit().is_some()));
}

#[test]
fn publication_is_recorded_unless_its_date_is_wrong() {
    let open = |published: Option<Timestamp>| {
        let policy = Policy::builtin("x1642-default").unwrap();
        let policy = policy.negotiate("version = \"t\"\nregulations = [\"pci-dss-4.0.1\"]");
        let draft = Draft {
            change: id(1),
            tenant: id(2),
            facts: facts(Priority::Critical),
            duty: Duty::Provider,
            published,
            collected: at(0),
        };
        let it = Obligation::open(draft, &policy.unwrap(), at(0)).0;
        let pci = it.dues().all().iter().find(|date| date.pack.name.starts_with("pci")).cloned();
        (it.instants().at(Moment::VendorPublished), pci.unwrap().started)
    };

    assert_eq!(open(Some(at(-48))), (Some(at(-48)), at(-48)));
    assert_eq!(open(Some(at(0))), (Some(at(0)), at(0)));
    for wrong in [Some(at(1)), Some(Timestamp::UNIX_EPOCH), Some(Timestamp::MIN), None] {
        assert_eq!(open(wrong), (None, at(0)), "{wrong:?}");
    }
}

#[test]
fn the_notice_gives_the_share_the_dates_of_the_policy() {
    let world = World::told(Priority::High, "", 80, 100);
    let dates = &world.it.share().unwrap().terms().dates;

    assert_eq!(dates.earliest_start, Some(at(4 + 72)));
    assert_eq!(dates.due, at(14 * 24));
}

#[test]
fn what_waits_before_a_plan_is_escalated_to_the_provider() {
    let mut world = World::of(Priority::High, "");
    world.tick(14 * 24);

    let [breach] = world.breaches()[..] else { panic!("{:?}", world.effects) };
    assert_eq!((breach.by, breach.held_by), (Party::Provider, Party::Provider));
    let rungs = world.effects.iter().filter(|it| matches!(it, Effect::Escalate { .. })).count();
    assert!(rungs >= 2, "{:?}", world.effects);
    let before = world.effects.len();
    world.tick(20 * 24);
    assert_eq!(world.breaches().len(), 1, "told once");
    assert_eq!(world.effects.len(), before);
}

#[test]
fn a_tenant_that_does_not_answer_holds_the_ball_and_answers_for_the_breach() {
    let mut world = World::told(Priority::Low, "", 500, 520);
    // Low waits for a yes.
    world.tick(90 * 24);

    let [breach] = world.breaches()[..] else { panic!("{:?}", world.effects) };
    assert_eq!((breach.by, breach.held_by), (Party::Tenant, Party::Tenant));
}

#[test]
fn after_a_deferral_the_tenant_is_asked_anew_and_the_time_was_its_own() {
    let mut world = World::told(Priority::Medium, "", 300, 320);
    world.say(later(100), 10).unwrap();
    assert_eq!(world.it.phase(), "deferred");
    assert_eq!(world.tick(100), "planned");
    assert_eq!(
        world.ledger(101),
        [
            (0, 1, Party::Provider, Stage::Evaluate),
            (1, 2, Party::Provider, Stage::Test),
            (2, 4, Party::Provider, Stage::Notify),
            (4, 100, Party::Tenant, Stage::Answer),
            (100, 101, Party::Provider, Stage::Notify),
        ]
    );
    world.tell(102).unwrap();
    let dates = world.it.share().unwrap().terms().dates.clone();
    assert_eq!(dates.earliest_start, Some(at(102 + 7 * 24)), "the lead time begins anew");
    assert_eq!(dates.deferrals_left, 0);
    assert_eq!(dates.due, at(30 * 24), "and the date stays");
    world.say(later(110), 103).unwrap_err();
    world.say(Decision::Approve, 104).unwrap();
    assert_eq!(world.it.phase(), "scheduled");
}

#[test]
fn another_plan_is_another_notice_on_the_providers_time() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.say(Decision::Approve, 10).unwrap();
    world.replan(110, 120, 20).unwrap();
    assert_eq!(world.it.phase(), "planned");
    assert_eq!(world.it.instants().at(Moment::Approved), None, "consent was to the other plan");
    assert_eq!(world.ledger(30).last(), Some(&(20, 30, Party::Provider, Stage::Notify)));
    world.tell(30).unwrap();
    let dates = &world.it.share().unwrap().terms().dates;
    assert_eq!(dates.earliest_start, Some(at(30 + 72)));
}

#[test]
fn a_refusal_is_the_tenants_time() {
    let mut world = World::told(Priority::Medium, "", 300, 320);
    world.say(no(400), 10).unwrap();
    assert_eq!(world.it.phase(), "refused");
    assert!(world.effects.iter().any(|effect| effect.acceptance().is_some()));
    let last = world.ledger(350).pop().unwrap();
    assert_eq!((last.1, last.2), (350, Party::Tenant));
    assert_eq!(world.tick(400), "planned");
    assert_eq!(world.ledger(401).pop().unwrap().2, Party::Provider);
}

#[test]
fn a_later_that_is_taken_back_ends_there() {
    let mut world = World::told(Priority::Medium, "", 300, 320);
    world.say(later(100), 10).unwrap();
    world.say(Decision::Approve, 20).unwrap();
    assert_eq!(world.it.phase(), "scheduled");
    assert!(world.ledger(90).iter().all(|span| span.2 != Party::Tenant || span.1 <= 20));
}

#[test]
fn what_was_lost_again_starts_another_clock() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.say(Decision::Approve, 6).unwrap();
    world.tick(80);
    world.finish(81).unwrap();
    world.scan(Sight::Clean, 82).unwrap();
    world.scan(Sight::Missing, 200).unwrap();

    assert_eq!(world.it.phase(), "reopened");
    assert_eq!(world.it.dues().binding().unwrap().due, at(200 + 14 * 24));
    world.replan(400, 410, 201).unwrap();
    world.tell(202).unwrap();
    assert_eq!(world.it.phase(), "notified");
}

#[test]
fn what_becomes_exploited_is_due_earlier_and_told_anew() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.step(Event::Assess { facts: Box::new(exploited(Priority::Critical)) }, 5).unwrap();

    assert_eq!(world.it.dues().binding().unwrap().due, at(72));
    assert_eq!(world.it.instants().at(Moment::KevAdded), Some(at(5)));
    // Nobody is asked any more, and yet nothing rests on a notice that spoke of other terms.
    assert_eq!(world.it.phase(), "planned");
    assert_eq!(world.tick(80), "planned");
    world.tell(81).unwrap();
    assert_eq!(world.it.phase(), "scheduled", "{:?}", world.it.share().unwrap().terms());
    let lead = world.it.share().unwrap().terms().dates.earliest_start.unwrap();
    assert!(at(81) < lead, "{lead}");
}

#[test]
fn a_rise_in_priority_asks_anew_unless_the_tenant_said_yes() {
    let rise = || Event::Assess { facts: Box::new(facts(Priority::Critical)) };
    let mut agreed = World::told(Priority::Low, "", 500, 520);
    agreed.say(Decision::Approve, 5).unwrap();
    agreed.step(rise(), 6).unwrap();
    assert_eq!(agreed.it.phase(), "scheduled", "its yes was to this very plan");

    let mut under_way = World::planned(Priority::Low, "", 500, 520);
    under_way.step(rise(), 6).unwrap();
    let old = Event::Notified { plan: under_way.hash(), written_at: at(5) };
    let refused = under_way.step(old, 7).unwrap_err();
    assert!(refused.to_string().contains("before the terms"), "{refused}");
    under_way.tell(7).unwrap();

    let mut silent = World::told(Priority::Low, "", 500, 520);
    silent.step(rise(), 6).unwrap();
    assert_eq!(silent.it.phase(), "planned");
    assert_eq!(silent.it.share().unwrap().terms().priority, Priority::Critical);
    assert_eq!(silent.tick(510), "planned", "the old notice gives no lead time");

    // A later that is said holds, and the tenant hears why it may think again.
    let mut later_said = World::told(Priority::Low, "", 900, 920);
    later_said.say(later(200), 5).unwrap();
    later_said.step(rise(), 6).unwrap();
    assert_eq!(later_said.it.phase(), "planned");
    later_said.tell(7).unwrap();
    assert_eq!(later_said.it.phase(), "deferred");
}

#[test]
fn a_later_that_holds_through_another_question_is_spent_once() {
    // Low and medium allow two.
    let two = "[medium]\ndeadline = \"40d\"\ndeferrals = { count = 2, longest = \"5d\" }";
    let mut world = World::told(Priority::Low, two, 900, 920);
    world.say(later(200), 5).unwrap();
    let left = |world: &World| world.it.share().unwrap().terms().dates.deferrals_left;
    assert_eq!(left(&world), 1);
    // Asked anew twice: another plan, then other terms.
    world.replan(950, 970, 6).unwrap();
    world.tell(7).unwrap();
    assert_eq!((world.it.phase(), left(&world)), ("deferred", 1));
    world.step(Event::Assess { facts: Box::new(facts(Priority::Medium)) }, 8).unwrap();
    assert_eq!(world.it.phase(), "planned");
    world.tell(9).unwrap();
    assert_eq!((world.it.phase(), left(&world)), ("deferred", 1));
    let last = world.ledger(150).pop().unwrap();
    assert_eq!((last.1, last.2), (150, Party::Tenant), "and the time is still its own");

    assert_eq!(world.tick(200), "planned");
    world.tell(201).unwrap();
    world.say(later(300), 202).unwrap();
    assert_eq!((world.it.phase(), left(&world)), ("deferred", 0));
    assert_eq!(world.tick(300), "planned");
    world.tell(301).unwrap();
    world.say(later(310), 302).unwrap_err();
}

/// Critical, exploited and exposed; collected at 0, evidence until 24, told at 4.
fn emergency(from: i64, until: i64) -> World {
    let mut world = World::of(Priority::Critical, "");
    world.step(Event::Assess { facts: Box::new(exploited(Priority::Critical)) }, 0).unwrap();
    world.prove(2);
    world.plan(plan(0, None, from, until), 3).unwrap();
    world.tell(4).unwrap();
    world
}

fn escalated(world: &World, errand: Errand) -> usize {
    let is_it = |it: &&Effect| matches!(it, Effect::Escalate { rung: Rung::Errand { errand: one, .. }, .. } if *one == errand);
    world.effects.iter().filter(is_it).count()
}

#[test]
fn an_emergency_starts_once_its_evidence_is_saved() {
    let mut world = emergency(10, 60);
    assert_eq!(world.tick(12), "scheduled");
    let context =
        crate::change::Context { change: &world.change, keys: &world.keys, standing: &[] };
    let lacks = world.it.share().unwrap().permit(&context, at(12)).unwrap_err();
    assert!(lacks.to_string().contains("may wipe is not saved"), "{lacks}");
    assert_eq!(lacks.pass_at(), Some(at(24)));

    world.step(Event::EvidenceSaved, 13).unwrap();
    assert_eq!(world.it.phase(), "rolling_out", "at once");
    assert_eq!(world.it.instants().at(Moment::EvidenceSaved), Some(at(13)));
    world.finish(14).unwrap();
    let late = world.step(Event::EvidenceSaved, 15).unwrap_err();
    assert!(matches!(late, Refusal::NotOwed { .. }), "{late}");
    world.tick(50);
    assert_eq!(escalated(&world, Errand::Evidence), 0);
}

#[test]
fn evidence_that_nobody_saves_holds_a_patch_up_until_its_date_and_no_longer() {
    let mut world = emergency(10, 60);
    assert_eq!(world.tick(23), "scheduled");
    assert_eq!(world.tick(24), "rolling_out");
    world.tick(25);
    assert_eq!(escalated(&world, Errand::Evidence), 1);
}

#[test]
fn evidence_that_is_saved_early_sends_nobody_another_notice() {
    let mut world = World::of(Priority::Critical, "");
    world.step(Event::Assess { facts: Box::new(exploited(Priority::Critical)) }, 0).unwrap();
    world.prove(2);
    world.plan(plan(0, None, 10, 60), 3).unwrap();
    world.effects.clear();
    world.step(Event::EvidenceSaved, 4).unwrap();
    let told = |it: &Effect| matches!(it, Effect::Share(change::Effect::Notify { .. }));
    assert!(!world.effects.iter().any(told));
    world.step(Event::Notified { plan: world.hash(), written_at: at(3) }, 5).unwrap();
    assert_eq!(world.tick(10), "rolling_out");
}

#[test]
fn after_an_emergency_it_is_judged_again_or_escalated_once() {
    let mut world = emergency(10, 60);
    world.step(Event::EvidenceSaved, 5).unwrap();
    world.tick(10);
    world.step(Event::ReEvaluated, 11).unwrap_err();
    world.finish(11).unwrap();
    world.scan(Sight::Clean, 12).unwrap();
    world.step(Event::DoneTold { at: at(12) }, 12).unwrap();
    assert!(world.it.is_settled());
    assert_eq!(world.it.wakes_at(&world.policy, at(13)), Some(at(12 + 72)));
    world.step(Event::Close, 20).unwrap();
    assert_eq!(world.tick(83), "closed");
    assert_eq!(escalated(&world, Errand::ReEvaluation), 0);
    for hour in [84, 85, 200] {
        world.tick(hour);
        assert_eq!(escalated(&world, Errand::ReEvaluation), 1, "also where it is closed, and once");
    }
    world.step(Event::ReEvaluated, 201).unwrap();
    world.step(Event::ReEvaluated, 202).unwrap_err();
    assert_eq!(world.it.wakes_at(&world.policy, at(203)), None);
}

#[test]
fn what_is_listed_stays_listed() {
    let mut world = World::of(Priority::High, "");
    world.step(Event::Assess { facts: Box::new(exploited(Priority::High)) }, 1).unwrap();
    world.step(Event::Assess { facts: Box::new(facts(Priority::High)) }, 2).unwrap();
    assert!(world.it.facts().is_exploited());
}

#[test]
fn a_plan_that_cannot_start_in_its_window_is_refused() {
    let mut world = World::of(Priority::High, "");
    world.prove(2);
    let refused = world.plan(plan(0, None, 10, 20), 3).unwrap_err();
    assert!(matches!(refused, Refusal::Untenable { closes, .. } if closes == at(20)), "{refused}");
    assert!(world.it.share().is_none());
    world.plan(plan(0, None, 80, 100), 3).unwrap();
    assert!(matches!(world.replan(10, 20, 4), Err(Refusal::Untenable { .. })));
    assert_eq!(world.it.share().unwrap().plan().draft().generation, 0);
}

#[test]
fn what_somebody_did_before_there_was_a_plan_is_verified() {
    let mut world = World::of(Priority::High, "");
    world.prove(2);
    world.scan(Sight::Missing, 3).unwrap();
    world.scan(Sight::Unknown, 3).unwrap();
    assert_eq!(world.it.phase(), "tested");
    world.scan(Sight::Clean, 5).unwrap();
    assert_eq!(world.it.phase(), "verified");
    assert!(world.it.is_settled());
    assert_eq!(world.it.wakes_at(&world.policy, at(5)), None);
    assert_eq!(world.tick(2000), "verified");
    assert!(!world.effects.iter().any(|it| matches!(it, Effect::Breach(_))));

    world.scan(Sight::Missing, 2001).unwrap();
    assert!(!world.it.is_settled());
    assert_eq!(world.it.dues().binding().unwrap().due, at(2001 + 14 * 24));
}

#[test]
fn a_withdrawn_change_ends_what_has_no_plan_yet() {
    let mut world = World::of(Priority::High, "");
    let reason = "The vendor took it back".parse().unwrap();
    let withdraw = ChangeEvent::Withdraw { by: id(1), reason };
    world.change = world.change.step(withdraw, at(5)).unwrap().0;
    assert_eq!(world.tick(6), "withdrawn");
    assert!(world.it.is_settled());
    assert_eq!(world.it.wakes_at(&world.policy, at(6)), None);
}

#[test]
fn another_policy_judges_nothing() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.policy = Policy::builtin("x1642-default").unwrap().clone();
    assert!(matches!(world.step(Event::Tick, 5), Err(Refusal::Policy { .. })));
}

#[test]
fn a_missed_window_is_the_providers() {
    let mut world = World::told(Priority::High, "", 80, 100);
    world.say(Decision::Approve, 5).unwrap();
    assert_eq!(world.tick(100), "non_compliant");
    let share = world.it.share().unwrap();
    assert_eq!(share.phase(), Phase::NonCompliant { shortfall: Shortfall::WindowMissed });
    assert_eq!(world.it.clock(&world.policy, at(100)).unwrap().holder, Some(Party::Provider));
}

#[derive(Debug, Clone)]
enum Move {
    Wait,
    Assess(bool),
    Tell,
    Approve,
    Later(i64),
    No(i64),
    Replan(i64),
    Finish(Outcome),
    Scan(Sight),
    Unreachable(i64),
    Revoke,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => Just(Move::Wait),
        1 => any::<bool>().prop_map(Move::Assess),
        4 => Just(Move::Tell),
        3 => Just(Move::Approve),
        2 => (1_i64..120).prop_map(Move::Later),
        1 => (1_i64..400).prop_map(Move::No),
        2 => (1_i64..700).prop_map(Move::Replan),
        2 => prop_oneof![Just(Outcome::Done), Just(Outcome::Failed)].prop_map(Move::Finish),
        2 => prop_oneof![Just(Sight::Clean), Just(Sight::Missing)].prop_map(Move::Scan),
        1 => (1_i64..40).prop_map(Move::Unreachable),
        1 => Just(Move::Revoke),
    ]
}

fn priorities() -> impl Strategy<Value = Priority> {
    prop_oneof![
        Just(Priority::Critical),
        Just(Priority::High),
        Just(Priority::Medium),
        Just(Priority::Low)
    ]
}

proptest! {
    /// Whatever happens in whatever order: the ledger sums to the elapsed time without a gap, each
    /// step of escalation is taken once, each date that passed unmet was told once, and nothing
    /// starts before its lead time.
    #[test]
    fn the_record_adds_up(
        priority in priorities(),
        way in prop::collection::vec((moves(), 0_i64..80), 0..30),
    ) {
        let mut world = World::planned(priority, "", 500, 530);
        let mut hour = 3;
        for (step, wait) in way {
            hour += wait;
            let outcome = match step {
                Move::Wait => world.step(Event::Tick, hour),
                Move::Assess(listed) => {
                    let facts = if listed { exploited(priority) } else { facts(priority) };
                    world.step(Event::Assess { facts: Box::new(facts) }, hour)
                }
                Move::Tell => world.tell(hour),
                Move::Approve => world.say(Decision::Approve, hour),
                Move::Later(by) => world.say(later(hour + by), hour),
                Move::No(by) => world.say(no(hour + by), hour),
                Move::Replan(ahead) => world.replan(hour + ahead, hour + ahead + 30, hour),
                Move::Finish(outcome) => {
                    world.step(Event::Finished { plan: world.hash(), outcome }, hour)
                }
                Move::Scan(sight) => world.scan(sight, hour),
                Move::Unreachable(hours) => {
                    let until = Some(at(hour + hours));
                    let interruption =
                        Interruption { cause: crate::sla::Cause::HostUnreachable, from: at(hour), until };
                    world.step(Event::Interrupt { interruption }, hour)
                }
                Move::Revoke => {
                    let revoke = KeyEvent::Revoke { key: KeyId::from([1; 32]), by: id(1) };
                    if let Ok((keys, _)) = world.keys.step(revoke, at(hour)) {
                        world.keys = keys;
                    }
                    world.step(Event::Tick, hour)
                }
            };
            if outcome.is_err() {
                // What is refused leaves no trace; the time that passed is seen by the next tick.
                world.tick(hour);
            }
            check(&world, hour)?;
        }
        world.tick(hour + 4000);
        check(&world, hour + 4000)?;
    }
}

fn check(world: &World, hour: i64) -> Result<(), TestCaseError> {
    let now = at(hour);
    let spans = world.it.case(&world.policy).attribution(now);
    let start = world.it.instants().start().unwrap();
    let mut reached = start;
    for span in &spans {
        prop_assert_eq!(span.from, reached, "a gap or an overlap: {:?}", spans);
        prop_assert!(span.until > span.from);
        reached = span.until;
    }
    let is_over = world.it.instants().at(Moment::Verified).is_some()
        || world.it.instants().at(Moment::Withdrawn).is_some();
    if !is_over && start < now {
        prop_assert_eq!(reached, now, "{:?}", spans);
    }
    let mut taken = BTreeSet::new();
    let mut told = BTreeSet::new();
    let mut versions = BTreeSet::new();
    for effect in &world.effects {
        match effect {
            Effect::Record { version, .. } => {
                prop_assert!(versions.insert(*version), "version {} twice", version);
            }
            Effect::Escalate { rung, .. } => {
                prop_assert!(taken.insert(rung.clone()), "{:?} twice", rung);
            }
            Effect::Breach(breach) => {
                prop_assert!(
                    told.insert((
                        breach.date.pack.name.clone(),
                        breach.date.goal,
                        breach.date.started
                    )),
                    "{:?} twice",
                    breach.date
                );
                let until = breach.ledger.last().map_or(breach.date.due, |span| span.until);
                prop_assert!(until <= breach.date.due);
            }
            Effect::Share(change::Effect::Start(permit)) => {
                prop_assert!(permit.granted_at() <= now);
            }
            Effect::Share(_) => {}
        }
    }
    // Seen from now, every date that was missed was told.
    let missed = world.it.dues().all().iter().filter(|date| {
        let met = world.it.instants().at(date.goal.moment());
        date.due <= met.unwrap_or(now)
    });
    let closed = matches!(world.it.phase(), "withdrawn" | "closed");
    for date in missed.filter(|_| !closed) {
        let key = (date.pack.name.clone(), date.goal, date.started);
        prop_assert!(told.contains(&key), "{:?} was missed and not told", date);
    }
    let holder = world.it.clock(&world.policy, now).unwrap().holder;
    if let Some(share) = world.it.share()
        && share.holder(now).is_none()
    {
        prop_assert_eq!(holder.filter(|_| share.phase() == Phase::Verified), None);
    }
    prop_assert!(world.it.dues().all().iter().any(|date| date.goal == Goal::Verified));
    Ok(())
}
