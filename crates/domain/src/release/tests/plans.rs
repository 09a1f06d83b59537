use super::*;

/// When each item begins, in minutes, by its number.
fn begins(layout: &Layout) -> BTreeMap<CiId, i64> {
    let minute = |turn: Turn<'_>| turn.at.duration_since(at(0)).as_mins();
    let installs = layout.turns().filter(|turn| turn.step == StepKind::Install);
    installs.map(|turn| (turn.ci, minute(turn))).collect()
}

fn minutes(layout: &Layout) -> Vec<i64> {
    begins(layout).into_values().collect()
}

fn sorted(mut minutes: Vec<i64>) -> Vec<i64> {
    minutes.sort_unstable();
    minutes
}

#[test]
fn what_may_go_together_goes_together_and_the_plan_says_what_to_whom_and_when() {
    let mut far = target(3);
    far.tenant = id(2);

    let layout = Plot::new([target(1), target(2), far]).plan();

    assert_eq!(minutes(&layout), [0, 0, 0]);
    let plans: Vec<_> = layout.plans().values().map(Plan::draft).collect();
    assert_eq!(plans.len(), 2);
    assert_eq!((plans[0].tenant, plans[0].change, plans[0].generation), (id(1), id(8), 0));
    let [stage] = &plans[0].stages[..] else { panic!("{:?}", plans[0].stages) };
    assert_eq!(stage.window, span(0, 30 * 24 * 60));
    assert_eq!(stage.items.iter().map(|item| item.ci).collect::<Vec<_>>(), ids([1, 2]));
    assert_eq!(stage.items[0].actions, content().actions);
    assert_eq!(stage.items[0].rollback, Rollback::Files);
    assert_eq!(layout.turns().map(|turn| turn.actions.len()).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn an_item_goes_behind_what_it_depends_on_in_its_wave_and_in_time() {
    let targets = (1..=40).map(|number| {
        let mut target = target(number);
        if number > 1 {
            target.depends_on = vec![id(number - 1)];
        }
        target
    });
    let mut plot = Plot::new(targets);
    plot.profile = profile(&[30, 100]);

    let layout = plot.plan();

    let begins = begins(&layout);
    for number in 2..=40 {
        assert!(begins[&id(number - 1)] + 10 <= begins[&id(number)], "{number}: {begins:?}");
    }
    let waves: Vec<_> = layout.turns().map(|turn| turn.wave).collect();
    assert!(waves.is_sorted());
}

#[test]
fn items_that_depend_on_each_other_in_a_circle_are_named() {
    let mut targets = [target(1), target(2), target(3), target(4)];
    targets[0].depends_on = vec![id(2)];
    targets[1].depends_on = vec![id(3)];
    targets[2].depends_on = vec![id(2)];

    let error = Plot::new(targets).try_plan().unwrap_err();

    let NoLayout::Fleet(InvalidFleet::Circle { items }) = &error else { panic!("{error}") };
    assert_eq!(items, &ids([2, 3]));
    assert!(error.to_string().ends_with(&format!("{} → {}", items[0], items[1])), "{error}");
    assert!(!error.help().is_empty());
}

#[test]
fn what_contradicts_itself_is_refused() {
    let twice = Plot::new([target(1), target(1)]).try_plan().unwrap_err();
    assert_eq!(twice, NoLayout::Fleet(InvalidFleet::Twice { ci: id(1) }));

    let mut lost = target(1);
    lost.runs_on = Some(id(9));
    let unknown = InvalidFleet::Unknown { of: id(1), relation: "runs on", to: id(9) };
    assert_eq!(Plot::new([lost]).try_plan().unwrap_err(), NoLayout::Fleet(unknown));

    let mut hidden = target(1);
    let actions = vec![Action::Reboot];
    hidden.work().content = Arc::new(Content { actions, rollback: Rollback::Files });
    let refused = Plot::new([hidden]).try_plan().unwrap_err();
    assert_eq!(refused, NoLayout::HiddenReboot { ci: id(1) });

    let mut hasty = target(1);
    hasty.work().takes = SignedDuration::from_secs(59);
    let refused = Plot::new([hasty]).try_plan().unwrap_err();
    assert_eq!(refused, NoLayout::Takes { ci: id(1), seconds: 59 });

    let mut late = Plot::new([target(1)]);
    late.until = at(0);
    let refused = NoLayout::NoTime { now: at(0), until: at(0) };
    assert_eq!(late.try_plan().unwrap_err(), refused);
}

#[test]
fn a_fifth_of_an_update_domain_goes_at_a_time_and_always_one() {
    for (size, at_once) in [(1, 1), (4, 1), (9, 1), (10, 2), (15, 3)] {
        let targets = (0..size).map(|number| {
            let mut target = target(number);
            target.domain = Some(name("ud-1"));
            target
        });

        let minutes = sorted(minutes(&Plot::new(targets).plan()));

        for (place, minute) in (0_i64..).zip(minutes) {
            assert_eq!(minute, 10 * (place / at_once), "{size}");
        }
    }
}

#[test]
fn two_zones_never_go_together() {
    let targets = (0..10).map(|number| {
        let mut target = target(number);
        target.zone = (number > 1).then(|| name(["az-1", "az-2"][number as usize % 2]));
        target
    });

    let begins = begins(&Plot::new(targets).plan());

    let minute = |number: u32| begins[&id(number)];
    assert_eq!((minute(0), minute(1)), (0, 0), "what has no zone need not wait");
    assert_eq!((minute(2) - minute(3)).abs(), 10);
    for number in 4..10 {
        assert_eq!(minute(number), minute(number - 2), "{begins:?}");
    }
}

#[test]
fn a_service_keeps_its_members_and_one_that_cannot_is_told_with_its_numbers() {
    let members = |count: u32| {
        (1..=count).map(|number| {
            let mut target = target(number);
            target.member_of = vec![id(50)];
            target
        })
    };
    let mut plot = Plot::new(members(5));
    plot.fleet.services = vec![service(50, 3)];
    assert_eq!(sorted(minutes(&plot.plan())), [0, 0, 10, 10, 20]);

    plot.fleet.services[0].max_unavailable = Some(Amount::Share(Percent::try_from(39).unwrap()));
    assert_eq!(sorted(minutes(&plot.plan())), [0, 10, 20, 30, 40]);

    plot.fleet.services = vec![service(50, 5)];
    let layout = plot.plan();
    let unplaced: Vec<_> = layout.unplaced().values().map(ToString::to_string).collect();
    let expected = "service shop has 5 members, can lack 0, and would lack 1";
    assert_eq!(unplaced, [expected; 5]);
    assert!(layout.plans().is_empty());

    plot.fleet.services = vec![service(50, 4)];
    plot.fleet.targets[0].condition = Condition::Down;
    let layout = plot.plan();
    assert_eq!(layout.unplaced()[&id(1)], Unplaced::Down);
    assert!(matches!(layout.unplaced()[&id(2)], Unplaced::Service { needed: 2, .. }));
}

#[test]
fn windows_and_freezes_are_kept_to_the_minute() {
    let mut plot = Plot::new([target(1)]);
    plot.fleet.targets[0].work().windows = within(&[span(20, 30), span(60, 69), span(100, 120)]);
    assert_eq!(minutes(&plot.plan()), [20]);

    let reason: crate::change::Reason = "Quarter-end close".parse().unwrap();
    let freeze = |tenant| Freeze { tenant, span: span(29, 105), reason: reason.clone() };
    plot.freezes = vec![freeze(Some(id(2)))];
    assert_eq!(minutes(&plot.plan()), [20]);
    plot.freezes = vec![freeze(Some(id(1)))];
    let layout = plot.plan();
    assert_eq!(minutes(&layout), [105]);
    assert_eq!(layout.plans()[&id(1)].draft().stages[0].window, span(105, 120));

    plot.freezes.push(Freeze { tenant: None, span: span(111, 300), reason });
    let frozen = plot.plan().unplaced()[&id(1)].to_string();
    assert_eq!(
        frozen,
        "every window for the install before Sun 2026-12-27 00:00Z lies in a freeze"
    );

    plot.fleet.targets[0].work().takes = mins(21);
    let missing = plot.plan().unplaced()[&id(1)].to_string();
    assert_eq!(
        missing,
        "no window for the install is 21 minutes long before Sun 2026-12-27 00:00Z"
    );
}

#[test]
fn what_finds_no_room_is_told_and_so_is_what_depends_on_it() {
    let targets = [1, 2, 3].map(|number| {
        let mut target = target(number);
        target.domain = Some(name("ud-1"));
        target.work().windows = within(&[span(0, 20)]);
        target
    });
    let mut plot = Plot::new(targets);
    let mut behind = target(4);
    behind.depends_on = ids([1, 2, 3]);
    plot.fleet.targets.push(behind);

    let layout = plot.plan();

    let crowded: Vec<_> = layout.unplaced().iter().collect();
    let [(ci, Unplaced::Crowded { step: StepKind::Install, .. }), (last, behind)] = crowded[..]
    else {
        panic!("{crowded:?}")
    };
    assert_eq!((last, behind), (&id(4), &Unplaced::Behind { on: *ci }));
    assert_eq!(begins(&layout).len(), 2);
}

#[test]
fn caps_bound_a_wave_a_tenant_and_an_hour() {
    let mut plot = Plot::new((1..=20).map(|number| {
        let mut target = target(number);
        target.tenant = id(1 + number % 2);
        target
    }));
    let cap = |most| NonZeroU32::new(most).unwrap();

    plot.caps.per_wave = cap(8);
    let sizes = |layout: &Layout| -> Vec<_> {
        layout.waves().iter().map(|wave| (wave.number, wave.size())).collect()
    };
    assert_eq!(sizes(&plot.plan()), [(1, 8), (2, 8), (3, 4)]);

    plot.caps.per_wave = many();
    plot.caps.per_tenant = cap(4);
    assert_eq!(sizes(&plot.plan()), [(1, 8), (2, 8), (3, 4)]);

    plot.caps.per_tenant = many();
    plot.caps.per_hour = cap(15);
    let minutes = sorted(minutes(&plot.plan()));
    assert_eq!((minutes[14], minutes[15], minutes[19]), (0, 60, 60));

    plot.caps.per_hour = many();
    plot.caps.max_unavailable = cap(12);
    let minutes = sorted(self::minutes(&plot.plan()));
    assert_eq!((minutes[11], minutes[12], minutes[19]), (0, 10, 10));
}

#[test]
fn a_wave_begins_when_the_one_before_it_was_watched() {
    let mut plot = Plot::new((0..100).map(target));
    plot.profile = profile(&[20, 100]);
    plot.canaries = BTreeSet::from([id(5)]);
    plot.fleet.targets[6].labels = BTreeMap::from([("ring".parse().unwrap(), "canary".to_owned())]);

    let layout = plot.plan();

    let begins = layout.turns().map(|turn| (turn.wave, turn.at)).collect::<BTreeSet<_>>();
    assert_eq!(
        begins,
        BTreeSet::from([(0, at(0)), (1, at(10 + 30 + 120)), (2, at(170 + 30 + 60))])
    );
    let canaries = layout.turns().filter(|turn| turn.wave == 0).map(|turn| turn.ci);
    assert_eq!(canaries.collect::<BTreeSet<_>>(), BTreeSet::from([id(5), id(6)]));
}

#[test]
fn a_restart_is_a_step_of_its_own_in_a_window_of_its_own() {
    let mut plot = Plot::new([target(1)]);
    plot.fleet.targets[0].work().reboot = reboot(&[span(5, 12), span(300, 320)]);

    let layout = plot.plan();

    let stages = &layout.plans()[&id(1)].draft().stages;
    assert_eq!(stages.len(), 2);
    assert_eq!(stages[1].window, span(300, 320));
    assert_eq!(stages[1].items[0].actions, [Action::Reboot]);

    plot.fleet.targets[0].work().reboot = reboot(&[span(5, 12)]);
    let layout = plot.plan();
    let no_window = &layout.unplaced()[&id(1)];
    assert!(matches!(no_window, Unplaced::NoWindow { step: StepKind::Reboot, .. }));

    // There is a window, but not after the installation.
    plot.fleet.targets[0].work().reboot = reboot(&[span(0, 12)]);
    let layout = plot.plan();
    let crowded = &layout.unplaced()[&id(1)];
    assert!(matches!(crowded, Unplaced::Crowded { step: StepKind::Reboot, .. }), "{crowded}");
    assert!(layout.plans().is_empty(), "nothing is installed that cannot be ended");
}

#[test]
fn what_stops_with_a_hypervisor_counts_as_out() {
    let mut hypervisor = target(1);
    hypervisor.class = Class::Hypervisor;
    hypervisor.work().reboot = reboot(&[span(0, 1000)]);
    let vms = [2, 3].map(|number| {
        let mut vm = target(number);
        vm.runs_on = Some(id(1));
        vm.mobility = Mobility::Stops;
        vm.member_of = vec![id(50)];
        vm.work = None;
        vm
    });
    let mut plot = Plot::new([hypervisor].into_iter().chain(vms));
    plot.fleet.services = vec![service(50, 1)];
    let layout = plot.plan();
    assert_eq!(
        layout.unplaced()[&id(1)].to_string(),
        "service shop has 2 members, can lack 1, and would lack 2"
    );

    plot.fleet.targets[2].mobility = Mobility::Moves;
    assert!(plot.plan().unplaced().is_empty());
}

#[test]
fn a_plan_made_anew_is_the_same_and_a_larger_fleet_leaves_everybody_in_his_wave() {
    let waves = |plot: &Plot| -> BTreeMap<CiId, u16> {
        plot.plan().turns().map(|turn| (turn.ci, turn.wave)).collect()
    };
    let mut plot = Plot::new((0..300).map(target));
    plot.profile = Profile::builtin("default").unwrap();
    let before = waves(&plot);
    assert_eq!(plot.plan(), plot.plan());

    plot.fleet.targets.extend((300..500).map(target));
    plot.fleet.targets.reverse();

    let after = waves(&plot);
    assert!(before.iter().all(|(ci, wave)| after[ci] == *wave));
    assert_eq!(after.len(), 500);
}

#[test]
fn a_later_plan_names_the_one_whose_place_it_takes() {
    let mut plot = Plot::new([target(1)]);
    let first = plot.plan().plans()[&id(1)].clone();
    plot.previous = BTreeMap::from([(id(1), first.clone())]);
    plot.fleet.targets.push(target(2));

    let second = plot.plan().plans()[&id(1)].clone();

    assert_eq!(second.follows(&first), Ok(()));
    for target in &mut plot.fleet.targets {
        target.tenant = id(3);
    }
    plot.previous = BTreeMap::from([(id(3), first)]);
    let error = plot.try_plan().unwrap_err();
    assert_eq!(error, NoLayout::Previous { tenant: id(3), change: id(8), of: id(1) });
}

#[test]
fn a_layout_reads_back_and_an_altered_one_does_not() {
    let mut plot = Plot::new([target(1), target(2)]);
    plot.fleet.targets[1].zone = Some(name("az-1"));
    plot.fleet.targets[1].condition = Condition::Down;
    let layout = plot.plan();
    let json = serde_json::to_string(&layout).unwrap();

    assert_eq!(Layout::parse(json.as_bytes()), Ok(layout.clone()));
    let altered = json.replacen("\"max_unavailable\":1000", "\"max_unavailable\":9999", 1);
    assert_ne!(altered, json);
    let error = Layout::parse(altered.as_bytes()).unwrap_err();
    assert!(matches!(error, InvalidLayout::Altered { said, .. } if said == layout.hash()));
    assert!(matches!(Layout::parse(b"{}"), Err(InvalidLayout::Unreadable(_))));
}
