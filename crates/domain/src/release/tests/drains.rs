use super::*;

/// A hypervisor that restarts with a VM that moves, one that stops, and another hypervisor.
fn host() -> Plot {
    let mut hypervisor = target(1);
    hypervisor.class = Class::Hypervisor;
    hypervisor.work().reboot = reboot(&[span(10, 2000)]);
    let mut other = target(2);
    (other.class, other.work) = (Class::Hypervisor, None);
    let vms = [(3, Mobility::Moves), (4, Mobility::Stops)].map(|(number, mobility)| {
        let mut vm = target(number);
        (vm.runs_on, vm.mobility, vm.work) = (Some(id(1)), mobility, None);
        vm.member_of = vec![id(50)];
        vm
    });
    let mut plot = Plot::new([hypervisor, other].into_iter().chain(vms));
    plot.fleet.services = vec![service(50, 1)];
    plot
}

fn drained(plot: &Plot) -> World {
    let mut world = plot.run();
    world.tick(0);
    world.verify(1, 5);
    let effects = world.tick(10);
    let [Effect::Drain { job, residents }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((job.attempt, residents), (2, &ids([3, 4])));
    world
}

fn vacated(world: &mut World, vm: u32, how: Vacated, minute: i64) {
    let event = Event::Vacated { vm: id(vm), from: id(1), how };
    assert_eq!(world.step(event, minute), []);
}

#[test]
fn a_hypervisor_restarts_when_it_is_empty_and_not_before() {
    let mut world = drained(&host());
    assert_eq!(world.tick(11), []);
    assert_eq!(world.why(1, 11), "waiting to be emptied: 2 of 2 still run on it");
    vacated(&mut world, 3, Vacated::Moved { to: id(2) }, 12);
    vacated(&mut world, 3, Vacated::Moved { to: id(2) }, 12);
    assert_eq!(world.tick(12), []);
    assert_eq!(world.why(1, 12), "waiting to be emptied: 1 of 1 still run on it");

    vacated(&mut world, 4, Vacated::Off, 13);

    let [Effect::Reboot(job)] = world.tick(13)[..] else { panic!("no restart") };
    assert_eq!(job.attempt, 3);
    world.verify(1, 20);
    assert_eq!(world.phase(1), Phase::Done);
}

#[test]
fn what_stops_is_out_until_the_hypervisor_is_verified() {
    let mut plot = host();
    let mut member = target(5);
    member.member_of = vec![id(50)];
    member.work().windows = within(&[span(11, 1000)]);
    plot.fleet.targets.push(member);
    plot.fleet.services = vec![service(50, 2)];
    let mut world = drained(&plot);

    assert_eq!(world.tick(25), []);
    assert_eq!(world.why(5, 25), "waiting for service shop: 1 of 3 down already");
    vacated(&mut world, 3, Vacated::Moved { to: id(2) }, 26);
    vacated(&mut world, 4, Vacated::Off, 27);
    assert_eq!(world.tick(27).len(), 1);
    assert_eq!(world.tick(28), []);
    world.verify(1, 35);

    assert_eq!(started(&world.tick(35)), ids([5]));
}

#[test]
fn nothing_is_altered_on_a_hypervisor_that_restarts_nor_is_it_emptied_under_work() {
    let mut plot = host();
    plot.fleet.targets[2].work = Some(work());
    plot.fleet.targets[2].work().windows = within(&[span(9, 2000)]);
    let mut world = plot.run();
    assert_eq!(started(&world.tick(0)), ids([1]));
    world.verify(1, 5);
    assert_eq!(started(&world.tick(9)), ids([3]));
    let resident: CiId = id(3);
    assert_eq!(
        world.why(1, 30),
        format!("waiting for {resident}, which runs on it and is at work")
    );
    world.verify(3, 31);
    assert!(matches!(world.tick(31)[..], [Effect::Drain { .. }]));

    plot.fleet.targets[2].work().windows = within(&[span(35, 2000)]);
    let mut world = drained(&plot);
    let on: CiId = id(1);
    assert_eq!(world.tick(35), []);
    assert_eq!(world.why(3, 35), format!("waiting for {on}, which it runs on, to restart"));
}

#[test]
fn a_hold_keeps_an_empty_hypervisor_from_restarting_and_an_end_lets_it_fill() {
    let mut world = drained(&host());
    vacated(&mut world, 3, Vacated::Moved { to: id(2) }, 12);
    world.command(Command::Hold { reason: "Wait".parse().unwrap() }, 12);
    vacated(&mut world, 4, Vacated::Off, 13);
    assert_eq!(world.tick(13), []);

    let effects = world.command(roll_back(), 14);

    assert_eq!(effects, [Effect::Refill { item: id(1), stopped: ids([4]) }]);
    assert!(matches!(world.tick(14)[..], [Effect::RollBack(_)]));
}

#[test]
fn a_drain_that_outlasts_its_window_ends() {
    let mut plot = host();
    plot.fleet.targets[0].work().reboot = reboot(&[span(10, 30)]);
    let mut world = drained(&plot);
    vacated(&mut world, 4, Vacated::Off, 29);
    assert_eq!(world.tick(29), []);

    let effects = world.tick(30);

    assert_eq!(effects[0], Effect::Refill { item: id(1), stopped: ids([4]) });
    assert_eq!(world.phase(1), Phase::Skipped { why: Skip::WindowOver });
}
