use super::*;

fn basis(effects: &[Effect]) -> Vec<TenantId> {
    let tenant = |effect: &Effect| match effect {
        Effect::Start(job) => Some(job.warrant.tenant()),
        _ => None,
    };
    effects.iter().filter_map(tenant).collect()
}

#[test]
fn nothing_starts_without_a_permit_for_its_tenants_plan() {
    let mut far = target(2);
    far.tenant = id(2);
    let mut world = Plot::new([target(1), far]).waiting();
    let plans = world.layout.plans().clone();
    assert_eq!(world.tick(0), []);
    let tenant: TenantId = id(1);
    assert_eq!(world.why(1, 0), format!("waiting for consent of {tenant}"));
    let asked =
        Event::Asked { tenant: id(1), plan: plans[&id(1)].hash(), deemed_at: Some(at(120)) };
    world.step(asked, 1);
    assert_eq!(
        world.why(1, 1),
        format!("waiting for consent of {tenant}, deemed at Fri 2026-11-27 02:00Z")
    );

    let permit = permit_for(&plans[&id(2)], at(2));
    world.step(Event::Permitted { tenant: id(2), permit }, 2);

    let effects = world.tick(2);
    assert_eq!((started(&effects), basis(&effects)), (ids([2]), vec![id(2)]));
    assert_eq!(world.tick(2), [], "it began already");
}

#[test]
fn a_stale_plan_is_refused_whatever_is_said_of_it() {
    let mut world = Plot::new([target(1)]).waiting();
    let mut other = Plot::new([target(1), target(2)]);
    other.previous = world.layout.plans().clone();
    let other = other.plan().plans()[&id(1)].clone();
    let (given, current) = (other.hash(), world.layout.plans()[&id(1)].hash());
    let stale = Refusal::StalePlan { tenant: id(1), given, current };

    let permit = permit_for(&other, at(0));
    let permitted = world.try_step(Event::Permitted { tenant: id(1), permit }, 0);
    assert_eq!(permitted, Err(stale.clone()));
    let asked = Event::Asked { tenant: id(1), plan: given, deemed_at: None };
    assert_eq!(world.try_step(asked, 0), Err(stale.clone()));
    let withdrawn = Event::Withdrawn { tenant: id(1), plan: given, at: at(0) };
    assert_eq!(world.try_step(withdrawn, 0), Err(stale));
    let strange = Event::Asked { tenant: id(9), plan: current, deemed_at: None };
    assert_eq!(world.try_step(strange, 0), Err(Refusal::Tenant { tenant: id(9) }));
    assert_eq!(world.tick(0), []);
}

#[test]
fn a_consent_that_is_withdrawn_starts_nothing_more_until_there_is_another() {
    let mut plot = Plot::new([target(1), target(2)]);
    plot.caps.max_unavailable = NonZeroU32::MIN;
    let mut world = plot.run();
    let plan = world.layout.plans()[&id(1)].clone();
    let first = started(&world.tick(0));
    let (one, two) = if first == ids([1]) { (1, 2) } else { (2, 1) };
    let hash = plan.hash();
    let withdrawn = || Event::Withdrawn { tenant: id(1), plan: hash, at: at(5) };
    world.step(withdrawn(), 5);
    world.verify(one, 6);
    assert_eq!(world.tick(6), []);

    world.step(Event::Permitted { tenant: id(1), permit: permit_for(&plan, at(7)) }, 7);
    world.step(withdrawn(), 7);

    assert_eq!(started(&world.tick(10)), ids([two]));
}

#[test]
fn a_window_opens_and_closes_at_an_instant() {
    let mut plot = Plot::new([target(1)]);
    plot.fleet.targets[0].work().windows = within(&[span(26 * 60, 28 * 60)]);
    let mut world = plot.run();
    assert_eq!(world.tick(26 * 60 - 1), []);
    assert_eq!(
        world.why(1, 26 * 60 - 1),
        "waiting for the window, which opens Sat 2026-11-28 02:00Z"
    );
    assert_eq!(world.run.wakes_at(at(26 * 60 - 1)), Some(at(26 * 60)));

    let mut late = plot.run();
    assert_eq!(started(&world.tick(26 * 60)), ids([1]));
    assert_eq!(started(&late.tick(28 * 60 - 10)), ids([1]));

    let mut missed = plot.run();
    let too_late = missed.tick(28 * 60 - 9);
    assert_eq!(missed.phase(1), Phase::Skipped { why: Skip::WindowOver });
    let [
        Effect::WaveDone { wave: 1, .. },
        Effect::TenantDone { outcome, .. },
        Effect::ReleaseDone { end, .. },
    ] = too_late[..]
    else {
        panic!("{too_late:?}")
    };
    assert_eq!((outcome, end), (crate::change::Outcome::Failed, End::Released));
}

#[test]
fn a_wave_begins_when_the_one_before_it_is_settled_and_was_watched() {
    let mut plot = Plot::new((0..10).map(target));
    plot.profile = profile(&[1, 100]);
    plot.canaries = BTreeSet::from([id(3)]);
    let mut world = plot.run();
    assert_eq!(started(&world.tick(0)), ids([3]));
    assert_eq!(world.why(5, 0), "waiting for wave 0: 1 of its items are not settled");
    world.verify(3, 12);
    assert_eq!(world.tick(12), []);
    assert_eq!(world.why(5, 12), "waiting for wave 0 to soak until Fri 2026-11-27 02:12Z");
    assert_eq!(world.run.wakes_at(at(12)), Some(at(132)));
    assert_eq!(world.tick(131), []);

    let effects = world.tick(132);

    let [Effect::WaveDone { wave: 0, tally }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(tally, Tally { done: 1, ..Tally::default() });
    // The plan has a reserve of half an hour for whoever says nothing.
    assert_eq!(started(&world.tick(160)).len(), 9);
}

#[test]
fn the_end_is_told_once_to_each_tenant_and_for_the_release() {
    let mut far = target(2);
    far.tenant = id(2);
    let mut world = Plot::new([target(1), far]).run();
    world.tick(0);
    world.verify(1, 5);
    world.verify(2, 5);
    assert_eq!(world.tick(5), []);

    let effects = world.tick(65);

    let Effect::ReleaseDone { end: End::Released, tally } = effects[3] else {
        panic!("{effects:?}")
    };
    assert_eq!(tally.done, 2);
    let plans: Vec<_> = world.layout.plans().values().map(Plan::hash).collect();
    for (effect, expected) in effects[1..3].iter().zip(plans) {
        let Effect::TenantDone { plan, outcome, .. } = effect else { panic!("{effects:?}") };
        assert_eq!((*plan, *outcome), (expected, crate::change::Outcome::Done));
    }
    assert_eq!((world.tick(65), world.run.ended()), (vec![], Some(End::Released)));
}

#[test]
fn a_restart_comes_after_the_end_of_the_installation_is_verified() {
    let mut plot = Plot::new([target(1)]);
    plot.fleet.targets[0].work().reboot = reboot(&[span(0, 1000)]);
    let mut world = plot.run();
    world.tick(0);
    world.report(1, Report::Started, 1);
    let early = Event::Reported { item: id(1), attempt: 1, report: Report::Verified };
    let refused = world.try_step(early, 2).unwrap_err();
    assert!(matches!(refused, Refusal::Unexpected { phase: Phase::Working, .. }), "{refused}");
    assert_eq!(world.report(1, Report::Succeeded, 3).len(), 1);
    assert_eq!(world.tick(4), []);

    world.report(1, Report::Verified, 5);

    let [Effect::Reboot(job)] = world.tick(10)[..] else { panic!("no restart") };
    assert_eq!((job.attempt, job.stage), (2, 1));
    world.verify(1, 15);
    assert_eq!(world.phase(1), Phase::Done);
}

#[test]
fn what_waits_for_others_says_for_whom() {
    let mut shop = [target(1), target(2), target(3)];
    for target in &mut shop {
        target.member_of = vec![id(50)];
    }
    let mut plot = Plot::new(shop);
    plot.fleet.services = vec![service(50, 2)];
    let mut world = plot.run();
    let first = started(&world.tick(0));
    assert_eq!(first.len(), 1);
    let waiting = world.run.waits(at(0));
    let texts: Vec<_> = waiting.iter().map(|(why, count)| (why.to_string(), *count)).collect();
    assert_eq!(texts[0], ("waiting for service shop: 1 of 3 down already".to_owned(), 2));
    assert_eq!(texts[1].0, "waiting for its report since Fri 2026-11-27 00:00Z");

    let mut behind = target(2);
    behind.depends_on = vec![id(1)];
    let mut world = Plot::new([target(1), behind]).run();
    world.tick(0);
    let on: CiId = id(1);
    assert_eq!(world.why(2, 0), format!("waiting for {on}, which it depends on"));

    let zoned = [1, 2].map(|number| {
        let mut target = target(number);
        target.zone = Some(name(["az-1", "az-2"][number as usize - 1]));
        target
    });
    let mut world = Plot::new(zoned).run();
    assert_eq!(started(&world.tick(0)), ids([1]));
    // It is a second past the time that it was planned for, and the first is not back.
    assert_eq!(world.why(2, 11), "waiting for zone az-1: 1 of its items are out");

    let domain = (1..=5).map(|number| {
        let mut target = target(number);
        target.domain = Some(name("ud-1"));
        target
    });
    let mut world = Plot::new(domain).run();
    let first = started(&world.tick(0));
    let other = (1..=5).find(|&number| !first.contains(&id(number))).unwrap();
    assert_eq!(world.why(other, 50), "waiting for update domain ud-1: 1 of 1 that may be out are");
}

#[test]
fn the_rate_fuse_counts_each_hour_anew() {
    let mut plot = Plot::new((0..5).map(target));
    plot.caps.per_hour = NonZeroU32::new(2).unwrap();
    let mut world = plot.run();
    let first = started(&world.tick(0));
    assert_eq!(first.len(), 2);
    let other = (0..5).find(|&number| !first.contains(&id(number))).unwrap();
    for number in (0..5).filter(|&number| first.contains(&id(number))) {
        world.verify(number, 5);
    }
    assert_eq!(world.tick(59), []);
    assert_eq!(
        world.why(other, 59),
        "waiting for the rate fuse until Fri 2026-11-27 01:00Z: 2 began within an hour"
    );
    assert_eq!(world.run.wakes_at(at(59)), Some(at(60)));

    assert_eq!(started(&world.tick(60)).len(), 2);
}

#[test]
fn reports_that_belong_nowhere_are_refused_and_late_ones_do_nothing() {
    let mut world = Plot::new([target(1)]).run();
    let of = |item, attempt, report| Event::Reported { item: id(item), attempt, report };
    let never = Refusal::Attempt { item: id(1), given: 1, current: 0 };
    assert_eq!(world.try_step(of(1, 1, Report::Started), 0), Err(never));
    assert_eq!(world.try_step(of(9, 1, Report::Started), 0), Err(Refusal::Item { item: id(9) }));
    world.tick(0);
    let before = world.run.to_kept();
    let back = world.try_step(of(1, 1, Report::RolledBack), 0).unwrap_err();
    assert!(matches!(back, Refusal::Unexpected { .. }), "{back}");
    assert_eq!(before, world.run.to_kept(), "a refusal alters nothing");

    assert_eq!(world.report(1, Report::Failed, 1).len(), 2, "held, and sent back");
    assert_eq!(world.step(of(1, 1, Report::Succeeded), 2), []);
    assert_eq!(world.step(of(1, 1, Report::Failed), 2), []);

    let past = world.try_step(Event::Tick, 1).unwrap_err();
    assert_eq!(past, Refusal::TimeWentBack { last: at(2), now: at(1) });
}

#[test]
fn a_run_goes_on_from_where_it_was_kept_and_with_its_layout_alone() {
    let mut plot = Plot::new((0..20).map(target));
    plot.caps.max_unavailable = NonZeroU32::new(3).unwrap();
    let mut world = plot.run();
    let first = started(&world.tick(0));
    let number = (0..20).find(|&number| first.contains(&id(number))).unwrap();
    world.verify(number, 2);

    let json = serde_json::to_string(&world.run.to_kept()).unwrap();
    let kept: Kept = serde_json::from_str(&json).unwrap();
    let other = Plot::new([target(1)]).plan();
    let refused = Run::from_kept(kept.clone(), Arc::new(other.clone())).unwrap_err();
    assert_eq!(refused, Refusal::Layout { given: other.hash(), current: world.layout.hash() });
    let mut loaded = Run::from_kept(kept, Arc::clone(&world.layout)).unwrap();

    assert!(loaded.books_are_right());
    let effects = world.tick(3);
    assert_eq!(loaded.step(Event::Tick, at(3)), Ok(effects.clone()));
    assert_eq!(started(&effects).len(), 1);
    assert_eq!(loaded.to_kept(), world.run.to_kept());
}
