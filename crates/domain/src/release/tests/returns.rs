use super::*;

fn sent_back(effects: &[Effect]) -> Vec<CiId> {
    let back = |effect: &Effect| match effect {
        Effect::RollBack(job) => Some(job.item),
        _ => None,
    };
    effects.iter().filter_map(back).collect()
}

#[test]
fn what_was_altered_goes_back_last_things_first_under_the_same_limits() {
    let mut chain = [target(1), target(2), target(3), target(4)];
    chain[1].depends_on = vec![id(1)];
    chain[2].depends_on = vec![id(2)];
    chain[3].depends_on = vec![id(3)];
    let mut plot = Plot::new(chain);
    plot.caps.max_unavailable = NonZeroU32::new(2).unwrap();
    let mut world = plot.run();
    for number in 1..=3 {
        assert_eq!(started(&world.tick(10 * i64::from(number))), ids([number]));
        if number < 3 {
            world.verify(number, 10 * i64::from(number) + 5);
        }
    }

    assert_eq!(world.command(roll_back(), 40), []);
    assert_eq!(world.tick(40), []);
    assert_eq!(world.phase(4), Phase::Skipped { why: Skip::RolledBack });
    let last: CiId = id(3);
    assert_eq!(
        world.why(2, 40),
        format!("waiting for {last}, which depends on it, to go back first")
    );
    // What has begun ends first.
    world.verify(3, 41);
    for number in [3, 2, 1] {
        assert_eq!(sent_back(&world.tick(42)), ids([number]));
        assert_eq!(world.report(number, Report::RolledBack, 42), []);
    }
    let effects = world.tick(43);
    let Some(Effect::ReleaseDone { end: End::RolledBack, tally }) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!((tally.rolled_back, tally.skipped), (3, 1));
}

#[test]
fn a_fifth_of_a_domain_goes_back_at_a_time() {
    let domain = (0..10).map(|number| {
        let mut target = target(number);
        target.domain = Some(name("ud-1"));
        target
    });
    let mut world = Plot::new(domain).run();
    let mut minute = 0;
    while world.run.tally().done < 10 {
        for ci in started(&world.tick(minute)) {
            let number = (0..10).find(|&number| ci == id(number)).unwrap();
            world.verify(number, minute + 5);
        }
        minute += 10;
    }
    world.command(roll_back(), minute);

    let first = sent_back(&world.tick(minute));

    assert_eq!(first.len(), 2);
    assert_eq!(world.tick(minute + 1), []);
    let refused = Event::Commanded { id: id(99), by: id(1), command: roll_back() };
    assert!(world.try_step(refused, minute + 1).is_err());
}

#[test]
fn what_has_no_way_back_stays_and_is_counted() {
    let mut stuck = target(1);
    let reason = "The database was migrated".parse().unwrap();
    let rollback = Rollback::Impossible { reason };
    stuck.work().content = Arc::new(Content { rollback, ..(*content()).clone() });
    let mut world = Plot::new([stuck, target(2)]).run();
    world.tick(0);
    assert_eq!(world.report(1, Report::Failed, 1).len(), 1, "held alone");
    world.verify(2, 2);

    assert_eq!(world.command(roll_back(), 3), []);
    assert_eq!(sent_back(&world.tick(3)), ids([2]));
    world.report(2, Report::RolledBack, 4);

    let effects = world.tick(4);
    let Some(Effect::ReleaseDone { end: End::RolledBack, tally }) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!((tally.failed, tally.rolled_back), (1, 1));
}

#[test]
fn a_machine_that_says_nothing_goes_back_from_outside_where_a_snapshot_is_kept() {
    let mut kept = target(1);
    let rollback = Rollback::Snapshot;
    kept.work().content = Arc::new(Content { rollback, ..(*content()).clone() });
    let mut world = Plot::new([kept, target(2)]).run();
    world.tick(0);
    // By itself nobody takes the power from what may only be slow.
    assert_eq!(sent_back(&world.tick(35)), []);

    assert_eq!(
        sent_back(&world.command(roll_back(), 40)),
        ids([1]),
        "the other has to say so itself"
    );

    assert_eq!(world.phase(1), Phase::RollingBack);
    world.report(1, Report::RolledBack, 45);
    assert_eq!(world.phase(1), Phase::RolledBack);
    assert_eq!(world.phase(2), Phase::Ordered);
}

#[test]
fn a_release_that_is_over_or_aborted_can_still_go_back() {
    let mut world = Plot::new([target(1), target(2)]).run();
    world.tick(0);
    world.verify(1, 1);
    world.verify(2, 1);
    world.tick(1);
    world.tick(61);
    assert_eq!(world.run.ended(), Some(End::Released));

    world.command(roll_back(), 100);

    assert_eq!(sent_back(&world.tick(100)).len(), 2);
    assert_eq!(world.run.ended(), None);
}
