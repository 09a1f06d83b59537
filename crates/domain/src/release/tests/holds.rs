use super::*;

/// One wave of 20 that may lose 2.
fn twenty() -> World {
    let mut world = Plot::new((0..20).map(target)).run();
    assert_eq!(started(&world.tick(0)).len(), 20);
    world
}

fn holds(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::Hold(hold) => Some(hold.to_string()),
        _ => None,
    };
    effects.iter().filter_map(text).collect()
}

#[test]
fn a_wave_is_held_when_more_fail_than_its_gate_lets_pass_and_that_is_told_once() {
    let mut plot = Plot::new((0..21).map(target));
    plot.caps.max_unavailable = NonZeroU32::new(20).unwrap();
    plot.profile = profile(&[100]);
    let mut world = plot.run();
    let all = started(&world.tick(0));
    let numbers: Vec<u32> = (0..21).filter(|&number| all.contains(&id(number))).collect();
    let last = (0..21).find(|&number| !all.contains(&id(number))).unwrap();

    let told: Vec<_> = numbers[..4]
        .iter()
        .flat_map(|&number| holds(&world.report(number, Report::Failed, 1)))
        .collect();

    assert_eq!(told, ["3 of 21 failed in wave 1"]);
    assert_eq!(started(&world.tick(2)), []);
    assert_eq!(world.why(last, 2), "held: 3 of 21 failed in wave 1");

    for &number in &numbers[..4] {
        world.report(number, Report::RolledBack, 3);
    }
    assert_eq!(world.command(resume(), 3), []);
    assert_eq!(started(&world.tick(3)), ids([last]), "what failed until now is let pass");
    let again: Vec<_> = numbers[4..7]
        .iter()
        .flat_map(|&number| holds(&world.report(number, Report::Failed, 4)))
        .collect();
    assert_eq!(again, ["7 of 21 failed in wave 1"]);
}

#[test]
fn one_canary_that_fails_holds() {
    let mut plot = Plot::new((0..20).map(target));
    plot.canaries = (0..10).map(id).collect();
    let mut world = plot.run();
    world.tick(0);

    let told = holds(&world.report(4, Report::Failed, 1));

    assert_eq!(told, ["1 of 10 failed in wave 0"]);
}

#[test]
fn who_fails_is_out_until_it_is_back_or_works() {
    let mut plot = Plot::new((0..10).map(target));
    plot.caps.max_unavailable = NonZeroU32::MIN;
    let mut world = plot.run();
    let first = started(&world.tick(0))[0];
    let number = (0..10).find(|&number| first == id(number)).unwrap();

    let effects = world.report(number, Report::Failed, 1);
    assert!(matches!(effects[..], [Effect::RollBack(job)] if job.attempt == 2), "{effects:?}");
    assert_eq!(world.tick(2), []);
    let other = (0..10).find(|&other| other != number).unwrap();
    assert_eq!(world.why(other, 2), "waiting for others: 1 of 1 that may be out are");
    world.report(number, Report::RolledBack, 3);
    let second = started(&world.tick(3))[0];

    let number = (0..10).find(|&number| second == id(number)).unwrap();
    // Neither it nor its way back ends well; then somebody repairs it.
    let effects = world.report(number, Report::Failed, 4);
    assert_eq!(holds(&effects), ["2 of 10 failed in wave 1"]);
    world.report(number, Report::Failed, 5);
    assert_eq!(world.phase(number), Phase::Failed { fault: Fault::NoWayBack });
    world.command(resume(), 5);
    assert_eq!(world.tick(6), []);
    world.look(number, Health::Healthy, 7);
    assert_eq!(world.phase(number), Phase::Mended);
    assert_eq!(started(&world.tick(7)).len(), 1);
}

#[test]
fn who_says_nothing_for_so_long_is_silent_and_out_and_heard_again() {
    let mut plot = Plot::new((0..10).map(target));
    plot.caps.max_unavailable = NonZeroU32::MIN;
    let mut world = plot.run();
    let first = started(&world.tick(0))[0];
    let number = (0..10).find(|&number| first == id(number)).unwrap();
    world.report(number, Report::Started, 5);
    assert_eq!(world.run.wakes_at(at(5)), Some(at(35)));
    assert_eq!(world.tick(34), []);
    assert_eq!(world.run.tally().silent, 0);

    world.tick(35);

    assert_eq!(world.run.tally().silent, 1);
    assert_eq!(world.why(number, 40), "silent since Fri 2026-11-27 00:35Z");
    assert_eq!(world.tick(500), [], "it is out, and the others wait");
    world.verify(number, 501);
    assert_eq!(world.run.tally(), Tally { done: 1, waiting: 9, ..Tally::default() });
    assert_eq!(started(&world.tick(501)).len(), 1);
}

#[test]
fn too_many_silent_ones_hold() {
    let mut world = twenty();
    for number in 0..2 {
        assert_eq!(world.report(number, Report::Silent, 1), []);
        assert_eq!(world.report(number, Report::Silent, 1), []);
    }

    assert_eq!(holds(&world.report(2, Report::Silent, 2)), ["3 of 20 are silent in wave 1"]);
}

#[test]
fn an_agent_and_a_scan_that_contradict_each_other_hold() {
    let mut world = twenty();
    world.report(3, Report::Succeeded, 1);

    let effects = world.report(3, Report::Conflict, 2);

    let item: CiId = id(3);
    let expected = format!("{item} says that it is done, and a scan sees that it is not");
    assert_eq!(holds(&effects), [expected]);
    assert!(matches!(effects[1], Effect::RollBack(_)));
}

#[test]
fn what_was_verified_and_went_back_later_holds_and_is_not_sent_back() {
    let mut world = twenty();
    world.verify(3, 1);

    let effects = world.report(3, Report::Conflict, 2);

    let item: CiId = id(3);
    let expected = format!("{item} says that it is done, and a scan sees that it is not");
    assert_eq!(holds(&effects), [expected]);
    assert_eq!(effects.len(), 1);
    assert_eq!(world.report(3, Report::Conflict, 3), [], "it is told once");
}

#[test]
fn what_falls_sick_while_it_is_watched_counts_as_failed() {
    let mut world = twenty();
    for number in 0..20 {
        world.verify(number, 10);
    }
    world.tick(10);
    assert_eq!(world.look(0, Health::Healthy, 20), []);
    let late = Event::Looked { item: id(0), taken_at: at(19), health: Health::Sick };
    assert_eq!(world.step(late, 21), [], "seen before");

    let told: Vec<_> =
        (0..3).flat_map(|number| holds(&world.look(number, Health::Sick, 22))).collect();

    assert_eq!(told, ["3 of 20 failed in wave 1"]);
    assert_eq!(world.tick(80), [], "the wave is not through");
}

#[test]
fn what_is_seen_to_be_sick_before_it_is_verified_counts_as_failed_with_that() {
    let mut world = twenty();
    let mut told = Vec::new();
    for number in 0..3 {
        let minute = i64::from(10 + 3 * number);
        world.report(number, Report::Succeeded, minute);
        let seen = world.look(number, Health::Sick, minute + 1);
        assert_eq!(seen, [], "it is at work still");
        told.extend(holds(&world.report(number, Report::Verified, minute + 2)));
        assert_eq!(world.phase(number), Phase::RollingBack);
    }
    assert_eq!(told, ["3 of 20 failed in wave 1"]);

    // Who works again before that has not failed.
    world.report(4, Report::Succeeded, 23);
    world.look(4, Health::Sick, 24);
    world.look(4, Health::Healthy, 25);
    assert_eq!(world.report(4, Report::Verified, 26), []);
    assert_eq!(world.phase(4), Phase::Done);
}

#[test]
fn what_does_not_work_before_its_turn_is_left_alone_and_missed() {
    let members = (1..=3).map(|number| {
        let mut target = target(number);
        target.member_of = vec![id(50)];
        target.work().windows = within(&[span(60, 2000)]);
        target
    });
    let mut plot = Plot::new(members);
    plot.fleet.services = vec![service(50, 2)];
    let mut world = plot.run();
    world.look(1, Health::Sick, 1);
    assert_eq!(world.phase(1), Phase::Skipped { why: Skip::Sick });

    assert_eq!(world.tick(100), [], "the service lacks one already");
    assert_eq!(world.why(2, 100), "waiting for service shop: 1 of 3 down already");
    world.look(1, Health::Healthy, 101);
    assert_eq!(started(&world.tick(101)).len(), 1);
}

#[test]
fn an_operator_holds_resumes_and_aborts_and_a_command_counts_once() {
    let mut plot = Plot::new((0..5).map(target));
    plot.caps.max_unavailable = NonZeroU32::MIN;
    let mut world = plot.run();
    let first = started(&world.tick(0))[0];
    let number = (0..5).find(|&number| first == id(number)).unwrap();
    let hold = Command::Hold { reason: "Wait for the call".parse().unwrap() };
    let user: crate::cloud::UserId = id(1);
    let told = world.command(hold.clone(), 1);
    assert_eq!(holds(&told), [format!("by {user}: Wait for the call")]);
    assert_eq!(world.command(hold, 1), []);
    world.verify(number, 2);
    assert_eq!(world.tick(2), []);

    let lift = |world: &mut World| {
        world.step(Event::Commanded { id: id(77), by: id(1), command: resume() }, 3)
    };
    lift(&mut world);
    let second = started(&world.tick(3))[0];
    world.command(Command::Hold { reason: "Again".parse().unwrap() }, 3);
    lift(&mut world);
    assert_eq!(world.run.mode().as_str(), "held", "the same command lifts nothing twice");

    let abort = || Command::Abort { reason: "Enough".parse().unwrap() };
    world.command(abort(), 4);
    assert_eq!(world.tick(4), [], "what has begun ends");
    let refused = Event::Commanded { id: id(78), by: id(1), command: resume() };
    let refused = world.try_step(refused, 4).unwrap_err();
    assert_eq!(refused.to_string(), "the release is aborted: `resume` is not possible");
    let number = (0..5).find(|&number| second == id(number)).unwrap();
    world.verify(number, 5);
    let effects = world.tick(5);
    let Some(Effect::ReleaseDone { end: End::Aborted, tally }) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!((tally.done, tally.skipped), (2, 3));
}

#[test]
fn what_depends_on_something_that_failed_does_not_begin() {
    let mut chain = [target(1), target(2), target(3)];
    chain[1].depends_on = vec![id(1)];
    chain[2].depends_on = vec![id(2)];
    let mut world = Plot::new(chain).run();
    world.tick(0);

    world.report(1, Report::Failed, 1);

    let behind = Phase::Skipped { why: Skip::Behind };
    assert_eq!((world.phase(2), world.phase(3)), (behind, behind));
}

#[test]
fn what_is_set_aside_keeps_other_zones_waiting_no_more() {
    let zoned = (0..4).map(|number| {
        let mut target = target(number);
        target.zone = Some(name(["az-1", "az-2"][number as usize % 2]));
        target
    });
    let mut world = Plot::new(zoned).run();
    let first = started(&world.tick(0));
    let numbers: Vec<u32> = (0..4).filter(|&number| first.contains(&id(number))).collect();
    world.verify(numbers[0], 5);
    world.report(numbers[1], Report::Silent, 6);
    world.command(resume(), 6);
    assert_eq!(started(&world.tick(20)), []);
    let reason: crate::change::Reason = "Its disk is gone".parse().unwrap();

    let items = vec![id(numbers[1])];
    world.command(Command::SetAside { items, reason }, 21);

    assert_eq!(started(&world.tick(21)).len(), 2);
    assert_eq!(world.run.tally().silent, 1);
}
