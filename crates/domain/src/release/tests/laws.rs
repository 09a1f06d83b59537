//! What holds of any fleet, and of anything that may happen to it.

use proptest::prelude::*;

use super::*;

/// A small fleet that uses all that there is.
fn plots() -> impl Strategy<Value = Plot> {
    let item = (0..3_u32, 0..3_usize, 0..2_usize, any::<bool>(), any::<bool>(), 0..6_i64);
    let caps = (1..6_u32, 1..20_u32, 1..12_u32);
    (prop::collection::vec(item, 1..24), caps).prop_map(|(items, (out, wave, hour))| {
        let targets = (0..).zip(items).map(|(number, item)| {
            let (of, zone, domain, restarts, depends, opens) = item;
            let mut target = target(number);
            target.tenant = id(1 + of);
            target.zone = [Some("az-1"), Some("az-2"), None][zone].map(name);
            target.domain = Some(name(["ud-1", "ud-2"][domain]));
            target.member_of = vec![id(50 + number % 2)];
            if depends && number > 0 {
                target.depends_on = vec![id(number / 2)];
            }
            if number % 4 == 3 {
                target.runs_on = Some(id(number - 3));
                target.mobility = if restarts { Mobility::Stops } else { Mobility::Moves };
            }
            if number % 4 == 0 {
                target.class = Class::Hypervisor;
            }
            let windows = [span(opens * 60, opens * 60 + 90), span(1500, 9000)];
            target.work().windows = within(&windows);
            target.work().reboot = restarts.then(|| reboot(&windows)).flatten();
            target
        });
        let mut plot = Plot::new(targets);
        plot.fleet.services = vec![service(50, 2), service(51, 1)];
        plot.profile = profile(&[30, 100]);
        plot.caps.max_unavailable = NonZeroU32::new(out).unwrap();
        plot.caps.per_wave = NonZeroU32::new(wave).unwrap();
        plot.caps.per_hour = NonZeroU32::new(hour).unwrap();
        plot
    })
}

/// What may happen, by numbers: which item, what, how much later.
type Happening = (u32, u8, i64);

fn event(world: &World, (item, what, _): Happening, now: Timestamp) -> Event {
    let command = |command| Event::Commanded { id: id(1000 + u32::from(what)), by: id(1), command };
    let attempt = world.attempts.get(&id(item)).copied().unwrap_or(1);
    let reason: crate::change::Reason = "Chance".parse().unwrap();
    match what {
        0..60 => {
            let report = Report::ALL[usize::from(what) % Report::ALL.len()];
            Event::Reported { item: id(item), attempt, report }
        }
        60..75 => {
            let health = Health::ALL[usize::from(what) % 2];
            Event::Looked { item: id(item), taken_at: now, health }
        }
        75..85 => Event::Vacated { vm: id(item | 3), from: id(item & !3), how: Vacated::Off },
        85..88 => command(Command::Hold { reason }),
        88..94 => command(Command::Resume { reason }),
        94..97 => command(Command::SetAside { items: vec![id(item)], reason }),
        97 => command(Command::RollBack { reason }),
        98 => command(Command::Abort { reason }),
        _ => Event::Tick,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_item_has_its_place_or_a_reason_and_no_limit_is_planned_to_be_broken(plot in plots()) {
        let layout = plot.plan();

        let planned: BTreeSet<CiId> = layout.turns().map(|turn| turn.ci).collect();
        let unplaced: BTreeSet<CiId> = layout.unplaced().keys().copied().collect();
        prop_assert!(planned.is_disjoint(&unplaced));
        prop_assert_eq!(planned.len() + unplaced.len(), plot.fleet.targets.len());
        let of = |ci: CiId| plot.fleet.targets.iter().find(|it| it.ci == ci).unwrap();
        for turn in layout.turns() {
            prop_assert!(turn.window.has(turn.at) && turn.at + turn.takes <= turn.window.until);
            let out: Vec<&Target> = layout
                .turns()
                .filter(|other| other.at <= turn.at && turn.at < other.at + other.takes)
                .map(|other| of(other.ci))
                .collect();
            prop_assert!(out.len() <= plot.caps.max_unavailable.get() as usize);
            let zones: BTreeSet<_> = out.iter().filter_map(|it| it.zone.clone()).collect();
            prop_assert!(zones.len() <= 1);
            for domain in ["ud-1", "ud-2"].map(|text| Some(name(text))) {
                let size = plot.fleet.targets.iter().filter(|it| it.domain == domain).count();
                let down = out.iter().filter(|it| it.domain == domain).count();
                prop_assert!(down <= (size / 5).max(1));
            }
            let hour = layout.turns().filter(|other| {
                other.at <= turn.at && turn.at < other.at + SignedDuration::from_hours(1)
            });
            prop_assert!(hour.count() <= plot.caps.per_hour.get() as usize);
            for &on in &of(turn.ci).depends_on {
                let ends = layout.turns().filter(|it| it.ci == on).map(|it| it.at + it.takes);
                prop_assert!(ends.max().unwrap() <= turn.at);
            }
        }
    }

    #[test]
    fn whatever_happens_twice_happens_once_and_a_run_reads_back(
        plot in plots(),
        happenings in prop::collection::vec((0..24_u32, 0..160_u8, 0..40_i64), 1..60),
    ) {
        let layout = Arc::new(plot.plan());
        let run = Run::new(Arc::clone(&layout), at(0));
        let mut world = World { layout, run, attempts: BTreeMap::new(), commands: 0 };
        world.permit_all(0);
        let mut minute = 0;
        for happening in happenings {
            minute += happening.2;
            let now = at(minute);
            let before = world.run.to_kept();
            let (first, again) = (event(&world, happening, now), event(&world, happening, now));
            if world.try_step(first, minute).is_err() {
                prop_assert_eq!(world.run.to_kept(), before, "a refusal alters nothing");
                continue;
            }
            let after = world.run.tally();
            prop_assert_eq!(world.try_step(again, minute), Ok(Vec::new()));
            prop_assert_eq!(world.run.tally(), after);
            let json = serde_json::to_string(&world.run.to_kept()).unwrap();
            let kept: Kept = serde_json::from_str(&json).unwrap();
            let loaded = Run::from_kept(kept, Arc::clone(&world.layout)).unwrap();
            prop_assert!(loaded.books_are_right());
            prop_assert_eq!(loaded.to_kept(), world.run.to_kept());
            prop_assert_eq!(loaded.wakes_at(now), world.run.wakes_at(now));
        }
    }
}
