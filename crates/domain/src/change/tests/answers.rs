use super::*;

#[test]
fn a_deferral_is_within_the_sla_or_refused_with_the_reason() {
    let now = at(2);
    let defer = |until: Timestamp, expiry: Timestamp| Decision::Defer {
        until,
        acceptance: Acceptance { expiry, ..acceptance(0) },
    };
    let say = |decision, dues: Dates| {
        let mut world = World::told_of(dues);
        world.say(decision, now, 1).map(|_| world)
    };
    let longest = now + SignedDuration::from_hours(72);
    let granted = say(defer(longest, longest), dates(0)).unwrap();
    assert_eq!(granted.share.phase(), Phase::Deferred { until: longest });
    assert_eq!(granted.share.terms().dates.deferrals_left, 0);
    assert_eq!(granted.share.deferrals(), 1);

    let refused = |decision, dates| say(decision, dates).map(|_| ()).unwrap_err();
    assert_eq!(refused(defer(now, longest), dates(0)), Refusal::Past { until: now, now });
    let none = Dates { deferrals_left: 0, ..dates(0) };
    assert_eq!(refused(later(3), none), Refusal::NoDeferralLeft);
    let until = longest + SECOND;
    let too_long = Refusal::DeferralTooLong { until, now, longest: SignedDuration::from_hours(72) };
    assert_eq!(refused(defer(until, until), dates(0)), too_long);
    let due = Dates { due: at(50), ..dates(0) };
    // What a regulation leaves is in the longest deferral; that the provider was late is no reason.
    assert!(say(later(50), due).is_ok());
    let uncovered = Refusal::RiskUncovered { expiry: at(50) - SECOND, until: at(50) };
    assert_eq!(refused(defer(at(50), at(50) - SECOND), dates(0)), uncovered);
    let no_end = Refusal::RiskUncovered { expiry: now, until: now };
    assert_eq!(refused(no(2), dates(0)), no_end);
    assert!(say(Decision::Refuse { acceptance: acceptance(3) }, dates(0)).is_ok());
}

#[test]
fn whoever_puts_off_or_refuses_bears_the_risk_and_is_asked_again() {
    for (decision, until) in [(later(50), at(50)), (no(50), at(50))] {
        let mut world = World::told();
        let effects = world.say(decision, at(1), 1).unwrap();
        let accepted = Effect::AcceptFinding { acceptance: acceptance(50), key: key(1) };
        assert_eq!(effects[1..], [accepted]);
        assert!(world.tick(until - SECOND).is_empty());
        assert_eq!(world.share.wakes_at(), Some(until));
        let told = Effect::Notify { notice: Notice::Planned, plan: plan().hash() };
        assert_eq!(world.tick(until)[1..], [told]);
        assert_eq!(world.share.phase(), Phase::Planned);
        let Dates { earliest_start, answer_by, .. } = world.share.terms().dates.clone();
        assert_eq!((earliest_start, answer_by), (None, None), "the old notice is none");
        assert!(world.tick(at(55)).is_empty(), "and nothing goes on without a new one");
    }
}

#[test]
fn a_statement_is_about_the_plan_in_force_and_comes_once() {
    let mut world = World::told();
    let other = successor(&plan());
    let answer = |said: &Statement| Event::Answer(signed(1, said));
    let (given, current) = (other.hash(), plan().hash());
    let said = statement(&other, Decision::Approve, at(1), 1);
    let refused = world.step(answer(&said), at(1)).unwrap_err();
    assert_eq!(refused, Refusal::Plan { given, current });
    let said = statement(&plan(), Decision::Approve, at(1), 1);
    let of_other = Statement { change: id(7), ..said.clone() };
    let refused = world.step(answer(&of_other), at(1)).unwrap_err();
    assert_eq!(refused, Refusal::Change { given: id(7), expected: id(1) });

    world.step(answer(&said), at(1)).unwrap();
    let again = world.step(answer(&said), at(2)).unwrap_err();
    assert_eq!(again, Refusal::Replayed { nonce: nonce(1) });
    let with_its_nonce = Statement { given_at: at(2), ..said };
    let again = world.step(answer(&with_its_nonce), at(2)).unwrap_err();
    assert_eq!(again, Refusal::Replayed { nonce: nonce(1) });
    let older = statement(&plan(), no(50), at(1) - SECOND, 2);
    let stale = Refusal::Stale { given_at: at(1) - SECOND, latest: at(1) };
    assert_eq!(world.step(answer(&older), at(2)).unwrap_err(), stale);
    let same = statement(&plan(), Decision::Approve, at(1), 2);
    let stale = Refusal::Stale { given_at: at(1), latest: at(1) };
    assert_eq!(world.step(answer(&same), at(2)).unwrap_err(), stale);
}

#[test]
fn nobody_agrees_to_what_they_were_not_told() {
    let say = |given_at| {
        let mut world = World::new(plan(), dates(0));
        world.tell(10);
        let said = statement(&plan(), Decision::Approve, given_at, 1);
        world.step(Event::Answer(signed(1, &said)), at(11)).map(|_| world.share.phase())
    };
    let earliest = at(10) - CLOCK_TOLERANCE;
    let basis = Basis::Consent { key: key(1), nonce: nonce(1) };
    assert_eq!(say(earliest), Ok(Phase::Approved { basis }));
    let given_at = earliest - SECOND;
    let early = Refusal::BeforeNotice { given_at, notified_at: at(10) };
    assert_eq!(say(given_at), Err(early));
    let untold = World::new(plan(), dates(0)).say(Decision::Approve, at(1), 1).unwrap_err();
    assert_eq!(untold, Refusal::Phase { phase: "planned", event: "answer" });
}

#[test]
fn who_did_not_answer_in_time_still_can() {
    let mut world = World::told();
    assert!(world.tick(at(40) - SECOND).is_empty());
    assert_eq!(world.share.wakes_at(), Some(at(40)));
    let lapsed = Effect::Notify { notice: Notice::Lapsed, plan: plan().hash() };
    assert_eq!(world.tick(at(40))[1..], [lapsed]);
    assert!(world.tick(at(41)).is_empty(), "that is told once");
    world.say(Decision::Approve, at(42), 1).unwrap();
    assert_eq!(world.settle(at(48)), Phase::RollingOut);
    let late = world.say(no(100), at(49), 2).unwrap_err();
    assert_eq!(late, Refusal::Started { at: at(48), event: "answer" });
}

#[test]
fn a_tenant_whose_yes_fell_away_is_asked_again() {
    let mut world = World::told();
    world.say(Decision::Approve, at(1), 1).unwrap();
    assert_eq!(world.settle(at(2)), Phase::Scheduled { at: at(48) });
    world.keys = revoked(&world.keys, 1, at(3));
    let told = Effect::Notify { notice: Notice::Planned, plan: plan().hash() };
    assert_eq!(world.tick(at(3))[1..], [told]);
    assert_eq!(world.share.phase(), Phase::Notified);
}
