use super::*;
use crate::cloud::Side;

const NO: &str = "is not possible";

fn notice(notice: Notice, plan: &Plan) -> Effect {
    Effect::Notify { notice, plan: plan.hash() }
}

/// Refused, because of where it stands.
fn not_now(answer: Result<Vec<Effect>, Refusal>) {
    let refusal = answer.unwrap_err();
    let is_so = matches!(refusal, Refusal::Phase { .. } | Refusal::Started { .. });
    assert!(is_so, "{refusal}");
}

#[test]
fn only_the_first_plan_of_a_proven_change_opens_a_share() {
    let terms = terms(dates(0));
    let open = |plan: Plan| {
        Share::open(proven().proven().unwrap(), plan, id(8), &terms, at(0)).map(|it| it.0)
    };
    let other = Plan::new(Draft { change: id(7), ..draft() }).unwrap();
    assert_eq!(open(other).unwrap_err(), Refusal::Change { given: id(7), expected: id(1) });
    assert!(matches!(open(successor(&plan())), Err(Refusal::NoSuccessor(_))));
    let share = open(plan()).unwrap();
    let Dates { earliest_start, answer_by, .. } = share.terms().dates.clone();
    assert_eq!((earliest_start, answer_by), (None, None), "nobody was told yet");
    assert!(found().proven().unwrap_err().to_string().contains(NO));
}

#[test]
fn a_share_goes_its_way_and_each_step_is_recorded() {
    let mut world = World::told();
    world.say(Decision::Approve, at(1), 1).unwrap();
    let at_48 = Phase::Scheduled { at: at(48) };
    let record = |version, event, from, to| Effect::Record { version, event, from, to };
    let scheduled = [record(3, "tick", "approved", "scheduled"), Effect::Schedule { at: at(48) }];
    assert_eq!(world.share.wakes_at(), Some(at(60)), "for its window may pass");
    assert_eq!(world.tick(at(1)), scheduled);
    assert_eq!((world.share.phase(), world.share.wakes_at()), (at_48, Some(at(48))));
    assert!(world.tick(at(48) - SECOND).is_empty());
    let effects = world.tick(at(48));
    assert_eq!(effects[0], record(4, "tick", "scheduled", "rolling_out"));
    let Effect::Start(permit) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!((permit.plan(), permit.granted_at()), (plan().hash(), at(48)));
    assert_eq!(effects[2..], [notice(Notice::Started, &plan())]);
    let effects = world.finish(Outcome::Done, at(49)).unwrap();
    assert_eq!(effects, [record(5, "finish", "rolling_out", "verifying"), Effect::Scan]);
    let effects = world.scan(50, Sight::Clean).unwrap();
    let told = notice(Notice::Completed, &plan());
    assert_eq!(effects, [record(6, "scan", "verifying", "verified"), told]);
    assert!(world.share.is_settled());
    assert_eq!(world.share.holder(at(51)), None);
    let effects = world.step(Event::Close, at(51)).unwrap();
    assert_eq!(effects, [record(7, "close", "verified", "closed")]);
    assert_eq!(world.share.version(), 7);
}

#[test]
fn nothing_happens_in_the_past_or_beside_another_change() {
    let mut world = World::told();
    world.say(Decision::Approve, at(2), 1).unwrap();
    let now = at(2) - SECOND;
    let back = Refusal::TimeWentBack { last: at(2), now };
    assert_eq!(world.step(Event::Tick, now).unwrap_err(), back);
    world.change.id = id(7);
    let other = Refusal::Change { given: id(7), expected: id(1) };
    assert_eq!(world.step(Event::Tick, at(3)).unwrap_err(), other);
}

#[test]
fn what_started_goes_to_its_end_and_is_not_taken_back() {
    let mut world = World::started();
    not_now(world.step(Event::Withdraw, at(49)));
    not_now(world.replan(at(49)));
    not_now(world.countersign(1, at(49)));
    not_now(world.say(no(100), at(49), 2));
    not_now(world.scan(49, Sight::Clean));
    not_now(world.step(Event::Close, at(49)));
    let given = successor(&plan()).hash();
    let other = Event::Finished { plan: given, outcome: Outcome::Done };
    let refusal = world.step(other, at(49)).unwrap_err();
    assert_eq!(refusal, Refusal::Plan { given, current: plan().hash() });
    not_now(World::told().finish(Outcome::Done, at(1)));
    world.finish(Outcome::Done, at(50)).unwrap();
    not_now(world.step(Event::Withdraw, at(51)));
    not_now(world.finish(Outcome::Done, at(51)));
}

#[test]
fn what_is_not_done_is_told_as_what_it_is_and_planned_again() {
    for (outcome, shortfall) in
        [(Outcome::Failed, Shortfall::Failed), (Outcome::RolledBack, Shortfall::RolledBack)]
    {
        let mut world = World::started();
        let effects = world.finish(outcome, at(49)).unwrap();
        assert_eq!(effects[1..], [notice(Notice::Failed, &plan())]);
        assert_eq!(world.share.phase(), Phase::NonCompliant { shortfall });
        assert!(world.replan(at(50)).is_ok());
    }
    for (sight, shortfall) in
        [(Sight::Missing, Shortfall::StillMissing), (Sight::Unknown, Shortfall::Unknown)]
    {
        let mut world = World::started();
        world.finish(Outcome::Done, at(49)).unwrap();
        let effects = world.scan(50, sight).unwrap();
        assert_eq!(effects[1..], [notice(Notice::Failed, &plan())]);
        assert_eq!(world.share.phase(), Phase::NonCompliant { shortfall });
        assert!(world.scan(51, Sight::Clean).is_ok(), "another look sees it");
    }
    let mut world = World::told();
    world.say(Decision::Approve, at(1), 1).unwrap();
    world.settle(at(2));
    let shortfall = Shortfall::WindowMissed;
    assert_eq!(world.settle(at(60)), Phase::NonCompliant { shortfall });
}

#[test]
fn a_scan_says_how_it_is_since_the_last_step_and_no_later_than_now() {
    let scan = |taken_at: Timestamp| {
        let mut world = World::started();
        world.finish(Outcome::Done, at(49)).unwrap();
        world.step(Event::Scanned { taken_at, sight: Sight::Clean }, at(50)).map(|_| ())
    };
    let not = |taken_at| Err(Refusal::ScanTime { taken_at, since: at(49), now: at(50) });
    assert_eq!(scan(at(49) - SECOND), not(at(49) - SECOND));
    assert_eq!((scan(at(49)), scan(at(50))), (Ok(()), Ok(())));
    assert_eq!(scan(at(50) + SECOND), not(at(50) + SECOND));
    // Since when it stands where it stands: what alters nothing of that is no step.
    let mut world = World::told();
    world.countersign(1, at(5)).unwrap();
    let early = Event::Scanned { taken_at: at(3), sight: Sight::Clean };
    assert!(world.step(early, at(6)).is_ok(), "the tenant did it by itself");
    for (sight, is_seen) in [(Sight::Missing, true), (Sight::Unknown, false), (Sight::Clean, false)]
    {
        let mut closed = World::told();
        closed.scan(7, Sight::Clean).unwrap();
        assert_eq!(closed.scan(8, sight).is_ok(), is_seen, "{sight:?}");
        let mut closed = World::told();
        closed.scan(7, Sight::Clean).unwrap();
        closed.step(Event::Close, at(7)).unwrap();
        assert_eq!(closed.scan(8, sight).is_ok(), is_seen, "{sight:?}");
        let phase = if is_seen { Phase::Reopened } else { Phase::Closed };
        assert_eq!(closed.share.phase(), phase);
    }
    not_now(World::told().scan(7, Sight::Missing));
}

#[test]
fn a_withdrawn_change_starts_nowhere_and_an_unproven_one_does_not() {
    let mut world = World::told();
    world.say(Decision::Approve, at(1), 1).unwrap();
    world.settle(at(2));
    let mut closed = world.change.clone();
    let close = ChangeEvent::Close { unsettled: 0 };
    (world.change, closed) = (closed.step(close, at(3)).unwrap().0, world.change);
    assert_eq!(world.settle(at(48)), Phase::Scheduled { at: at(48) }, "not proven at the moment");
    let refusal = world.replan(at(49)).unwrap_err();
    assert!(matches!(refusal, Refusal::NotProven(_)), "{refusal}");
    world.change = closed.step(withdrawal(), at(3)).unwrap().0;
    assert_eq!(world.tick(at(49))[1..], [notice(Notice::Withdrawn, &plan())]);
    assert_eq!(world.share.phase(), Phase::Withdrawn);
    not_now(world.step(Event::Withdraw, at(50)));
    assert!(world.share.is_settled() && world.tick(at(51)).is_empty());
}

#[test]
fn a_new_plan_follows_the_old_one_and_is_told_and_agreed_to_anew() {
    let mut world = World::told();
    world.say(Decision::Approve, at(1), 1).unwrap();
    let again = Event::Replan { plan: plan(), author: id(9) };
    assert!(matches!(world.step(again, at(2)), Err(Refusal::NoSuccessor(_))));
    let effects = world.replan(at(2)).unwrap();
    let next = world.share.plan().clone();
    assert_eq!(effects[1..], [notice(Notice::Planned, &next)]);
    assert_eq!(world.settle(at(48)), Phase::Planned, "the old notice is none of the new plan");
    let Dates { earliest_start, answer_by, .. } = world.share.terms().dates.clone();
    assert_eq!((earliest_start, answer_by), (None, None));
    let old = Event::Notified { plan: plan().hash(), written_at: at(2), dates: dates(2) };
    assert!(matches!(world.step(old, at(49)), Err(Refusal::Plan { .. })));
    // Whoever wrote the new one agrees to nothing; the old author may now.
    assert_eq!(world.countersign(9, at(50)).unwrap_err(), Refusal::OwnPlan { by: id(9) });
    assert!(world.countersign(8, at(50)).is_ok());
    world.tell(50);
    assert_eq!(world.settle(at(51)), Phase::Notified);
}

#[test]
fn what_holds_an_earlier_plan_holds_its_successor() {
    for (decision, phase) in
        [(later(50), Phase::Deferred { until: at(50) }), (no(50), Phase::Refused { until: at(50) })]
    {
        let mut world = World::told();
        world.standing = vec![standing(&rule())];
        world.say(decision, at(1), 1).unwrap();
        world.replan(at(2)).unwrap();
        world.tell(3);
        assert_eq!(world.settle(at(4)), phase);
    }
}

#[test]
fn a_notice_is_about_the_plan_in_force_with_its_due_date_and_a_lead_time() {
    let tell = |dates| {
        let mut world = World::new(plan(), super::dates(0));
        let plan = world.share.plan().hash();
        world.step(Event::Notified { plan, written_at: at(0), dates }, at(0)).map(|_| world)
    };
    let other = Refusal::OtherDue { given: at(241), due: at(240) };
    let answer = tell(Dates { due: at(241), ..dates(0) }).map(|_| ());
    assert_eq!(answer, Err(other));
    let answer = tell(Dates { earliest_start: None, ..dates(0) }).map(|_| ());
    assert_eq!(answer, Err(Refusal::NoLeadTime));
    let mut world = tell(dates(0)).unwrap();
    let plan = world.share.plan().hash();
    not_now(world.step(Event::Notified { plan, written_at: at(1), dates: dates(0) }, at(1)));
}

#[test]
fn people_agree_once_each_to_the_plan_in_force_and_not_to_their_own() {
    let mut world = World::new(
        Plan::new(Draft { stages: vec![stage(48, 60, &[3, 4])], ..draft() }).unwrap(),
        dates(0),
    );
    world.tell(0);
    assert_eq!(world.countersign(8, at(1)).unwrap_err(), Refusal::OwnPlan { by: id(8) });
    world.countersign(1, at(1)).unwrap();
    assert_eq!(world.countersign(1, at(1)).unwrap_err(), Refusal::AgreedAlready { by: id(1) });
    let given = plan().hash();
    let other = Event::Countersign(Countersign { by: id(2), plan: given });
    assert!(matches!(world.step(other, at(1)), Err(Refusal::Plan { .. })));
    world.say(Decision::Approve, at(2), 1).unwrap();
    assert!(matches!(world.settle(at(48)), Phase::Approved { .. }), "one is not enough");
    world.countersign(2, at(49)).unwrap();
    assert_eq!(world.settle(at(49)), Phase::RollingOut);
}

#[test]
fn dates_are_moved_to_a_time_to_come_and_make_no_notice() {
    let reason = || "The priority rose".parse::<Reason>().unwrap();
    let redate = |world: &mut World, dates: Dates, now| {
        let priority = Priority::Medium;
        world.step(Event::Redate { dates, priority, reason: reason() }, now)
    };
    let mut world = World::told();
    let none = redate(&mut world, Dates { earliest_start: None, ..dates(0) }, at(5)).unwrap_err();
    assert_eq!(none, Refusal::NoLeadTime);
    world.say(Decision::Approve, at(6), 1).unwrap();
    world.settle(at(6));
    redate(&mut world, Dates { earliest_start: Some(at(50)), ..dates(0) }, at(7)).unwrap();
    assert_eq!(world.settle(at(7)), Phase::Scheduled { at: at(50) });
    assert_eq!(world.settle(at(50) - SECOND), Phase::Scheduled { at: at(50) });
    assert_eq!(world.settle(at(50)), Phase::RollingOut);

    let mut untold = World::new(plan(), dates(0));
    redate(&mut untold, dates(0), at(1)).unwrap();
    assert_eq!(untold.share.terms().dates.earliest_start, None);
    let mut done = World::told();
    done.scan(2, Sight::Clean).unwrap();
    not_now(redate(&mut done, dates(0), at(3)));
}

#[test]
fn only_what_is_verified_is_closed_and_a_no_is_asked_again() {
    not_now(World::told().step(Event::Close, at(1)));
    let mut refused = World::told();
    refused.say(no(100), at(1), 1).unwrap();
    assert!(!refused.share.is_settled());
    not_now(refused.step(Event::Close, at(2)));
    assert!(World::told().step(Event::Withdraw, at(1)).is_ok());
}

#[test]
fn a_missed_date_is_told_once_of_the_side_that_held_the_ball_before_it() {
    let breach = |due: i64, side| Effect::Breach { due: at(due), side };
    // The tenant was to answer.
    let mut world = World::told();
    world.settle(at(40));
    assert!(world.tick(at(240) - SECOND).is_empty());
    assert_eq!(world.share.wakes_at(), Some(at(240)));
    assert_eq!(world.tick(at(240)), [breach(240, Side::Tenant)]);
    assert_eq!(world.share.wakes_at(), None);
    assert!(world.tick(at(241)).is_empty() && world.tick(at(500)).is_empty());
    // Another date is another breach.
    let another = Dates { due: at(600), ..dates(0) };
    let (priority, reason) = (Priority::Medium, "Agreed".parse().unwrap());
    let redate = Event::Redate { dates: another, priority, reason };
    world.step(redate, at(501)).unwrap();
    assert_eq!(world.tick(at(600)), [breach(600, Side::Tenant)]);

    // What comes at the date comes too late, and is told of whom it was until then.
    let mut world = World::told();
    world.settle(at(40));
    let effects = world.say(Decision::Approve, at(240), 1).unwrap();
    assert_eq!(effects[0], breach(240, Side::Tenant));
    assert!(matches!(effects[1], Effect::Record { .. }));
    // Nobody answered, which is a yes before the date: the provider did not start.
    let mut world = World::told_of(Dates { approval: APPROVES, ..dates(0) });
    assert_eq!(world.tick(at(240))[0], breach(240, Side::Provider));
    // The tenant put it off until the date itself.
    let mut world = World::told();
    world.say(no(240), at(1), 1).unwrap();
    assert_eq!(world.tick(at(240))[0], breach(240, Side::Tenant));
    // Verified, though late to be looked at.
    let mut world = World::told();
    world.scan(239, Sight::Clean).unwrap();
    assert!(world.tick(at(240)).is_empty());
}

#[test]
fn the_ball_is_with_whoever_is_to_act() {
    let world = World::told();
    let holder = |world: &World, hour| world.share.holder(at(hour));
    assert_eq!(holder(&world, 1), Some(Side::Tenant));
    assert_eq!(holder(&world, 40), Some(Side::Tenant), "silence waits");
    let world = World::told_of(Dates { approval: APPROVES, ..dates(0) });
    assert_eq!(
        (holder(&world, 39), holder(&world, 40)),
        (Some(Side::Tenant), Some(Side::Provider))
    );
    for approval in [Approval::Notice, Approval::NotNeeded] {
        let world = World::told_of(Dates { approval, ..dates(0) });
        assert_eq!(holder(&world, 1), Some(Side::Provider));
    }
    let mut world = World::told();
    world.say(later(50), at(1), 1).unwrap();
    assert_eq!(
        (holder(&world, 49), holder(&world, 50)),
        (Some(Side::Tenant), Some(Side::Provider))
    );
    let mut world = World::told();
    assert_eq!(world.settle(at(40)), Phase::Lapsed);
    assert_eq!(holder(&world, 41), Some(Side::Tenant));
    assert_eq!(holder(&World::started(), 49), Some(Side::Provider));
    assert_eq!(holder(&World::new(plan(), dates(0)), 1), Some(Side::Provider));
}
