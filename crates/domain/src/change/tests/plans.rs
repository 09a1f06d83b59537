use super::*;

fn with(alter: impl FnOnce(&mut Draft)) -> Result<Plan, InvalidPlan> {
    let mut draft = draft();
    alter(&mut draft);
    Plan::new(draft)
}

fn acting(action: Action) -> Result<Plan, InvalidPlan> {
    with(|draft| draft.stages[0].items[0].actions = vec![action])
}

fn package(name: &str, architecture: &str, version: &str) -> ExactPackage {
    let [name, architecture, version] = [name, architecture, version].map(str::to_owned);
    ExactPackage { name, architecture, version, sha256: FileHash::from([7; 32]) }
}

fn upgrade(packages: &[ExactPackage]) -> Action {
    Action::Upgrade { packages: packages.to_vec() }
}

fn write(path: &str) -> Action {
    let after = FileHash::from([7; 32]);
    Action::AlterFile { path: path.to_owned(), change: FileChange::content(None, after) }
}

#[test]
fn a_plan_does_something_somewhere_some_time_in_order() {
    let stages = |stages: Vec<Stage>| with(|draft| draft.stages = stages);
    assert!(matches!(stages(vec![]), Err(InvalidPlan::Empty { .. })));
    assert!(matches!(stages(vec![stage(1, 2, &[])]), Err(InvalidPlan::Empty { .. })));
    assert!(matches!(stages(vec![stage(2, 2, &[3])]), Err(InvalidPlan::Window { stage: 1, .. })));
    assert!(stages(vec![stage(2, 5, &[3]), stage(2, 3, &[3])]).is_ok());
    let back = stages(vec![stage(2, 5, &[3]), stage(1, 9, &[3])]);
    assert!(matches!(back, Err(InvalidPlan::Order { stage: 2, .. })));
    let twice = stages(vec![stage(2, 5, &[3, 4, 3])]);
    assert!(matches!(twice, Err(InvalidPlan::Twice { stage: 1, .. })));
    let nothing = with(|draft| draft.stages[0].items[0].actions.clear());
    assert!(matches!(nothing, Err(InvalidPlan::Empty { .. })));
}

#[test]
fn a_plan_names_the_one_before_it_and_the_first_none() {
    let parent = Some(plan().hash());
    let first = with(|draft| draft.parent = parent);
    assert_eq!(first, Err(InvalidPlan::Parent { generation: 0 }));
    let later = with(|draft| draft.generation = 1);
    assert_eq!(later, Err(InvalidPlan::Parent { generation: 1 }));

    let next = successor(&plan());
    assert_eq!(next.follows(&plan()), Ok(()));
    let another = with(|draft| draft.stages = vec![stage(1, 2, &[3])]).unwrap();
    let not: [&dyn Fn(&mut Draft); 4] = [
        &|draft| draft.change = id(9),
        &|draft| draft.tenant = id(9),
        &|draft| draft.generation = 2,
        &|draft| draft.parent = Some(another.hash()),
    ];
    for alter in not {
        let mut draft = next.draft().clone();
        alter(&mut draft);
        let refused = Plan::new(draft).unwrap().follows(&plan()).unwrap_err();
        assert_eq!((refused.expected, refused.expected_parent), (1, plan().hash()));
    }
}

#[test]
fn names_and_paths_are_what_they_seem() {
    let long = "x".repeat(256);
    for word in ["", "a b", "a\n", "ä", long.as_str()] {
        for action in [
            upgrade(&[package(word, "amd64", "1")]),
            upgrade(&[package("curl", word, "1")]),
            upgrade(&[package("curl", "amd64", word)]),
            Action::Probe { probe: word.to_owned() },
        ] {
            assert!(matches!(acting(action), Err(InvalidPlan::Word { .. })), "{word:?}");
        }
    }
    assert!(acting(Action::Probe { probe: "x".repeat(255) }).is_ok());
    let long = format!("/{}", "x".repeat(4096));
    for path in ["", "etc/motd", "/", "/a//b", "/a/./b", "/a/../b", "/a/", "/a\tb", &long] {
        assert!(matches!(acting(write(path)), Err(InvalidPlan::Word { .. })), "{path:?}");
    }
    for path in ["/etc/motd", "/srv/..data/ä b", &long[..4096]] {
        assert!(acting(write(path)).is_ok(), "{path:?}");
    }
}

#[test]
fn packages_are_named_once_for_each_architecture_also_on_the_way_back() {
    let [a, b] = ["amd64", "i386"].map(|architecture| package("curl", architecture, "1"));
    let newer = package("curl", "amd64", "2");
    assert!(acting(upgrade(&[a.clone(), b.clone()])).is_ok());
    let twice = acting(upgrade(&[a.clone(), b, newer.clone()]));
    assert!(matches!(twice, Err(InvalidPlan::Twice { .. })));
    assert!(matches!(acting(upgrade(&[])), Err(InvalidPlan::Empty { .. })));
    let packages = vec![a, newer];
    let back = with(|draft| draft.stages[0].items[0].rollback = Rollback::Packages { packages });
    assert!(matches!(back, Err(InvalidPlan::Twice { .. })));
}

#[test]
fn the_same_plan_has_one_hash_and_one_spelling() {
    let [a, b] = ["bash", "curl"].map(|name| package(name, "amd64", "1"));
    let two = |first: u8, second: u8, packages: &[ExactPackage]| {
        with(|draft| {
            draft.stages = vec![stage(48, 60, &[first, second])];
            draft.stages[0].items[0].actions = vec![upgrade(packages)];
            draft.stages[0].items[1].actions = vec![upgrade(packages)];
        })
        .unwrap()
    };
    let plan = two(3, 4, &[a.clone(), b.clone()]);
    assert_eq!(plan.hash(), two(4, 3, &[b.clone(), a.clone()]).hash());

    let text = String::from_utf8(plan.to_bytes()).unwrap();
    assert_eq!(Plan::parse(text.as_bytes()), Ok(plan.clone()));
    let (first, second) = (canonical::to_canonical(&a), canonical::to_canonical(&b));
    let [first, second] = [first, second].map(|it| String::from_utf8(it).unwrap());
    let swapped = text.replace(&format!("{first},{second}"), &format!("{second},{first}"));
    assert_ne!(swapped, text);
    assert!(matches!(Plan::parse(swapped.as_bytes()), Err(InvalidPlan::Spelling(_))));
    let other = text.replace("patchwright.plan/1", "patchwright.plan/2");
    assert!(matches!(Plan::parse(other.as_bytes()), Err(InvalidPlan::Schema { .. })));
    assert!(Plan::parse(format!("{text}\n").as_bytes()).is_err());
}

#[test]
fn a_plan_that_nobody_can_look_over_is_refused() {
    let reason: Reason = "x".repeat(Reason::LONGEST).parse().unwrap();
    let rollback = Rollback::Impossible { reason };
    let stages = |count: i64| {
        with(|draft| {
            let stage = |from| {
                let mut stage = stage(from, from + 1, &[3]);
                stage.items[0].rollback = rollback.clone();
                stage
            };
            draft.stages = (0..count).map(stage).collect();
        })
    };
    assert!(stages(3000).is_ok());
    assert!(matches!(stages(4500), Err(InvalidPlan::TooLong { .. })));
}

#[test]
fn a_plan_knows_how_much_it_disturbs_and_how_large_it_is() {
    let probe = || Action::Probe { probe: "http".to_owned() };
    let unit = Action::RestartUnit { unit: "nginx.service".to_owned() };
    for (actions, disruption) in [
        (vec![probe(), write("/etc/motd")], Disruption::Harmless),
        (vec![upgrade(&[package("curl", "amd64", "1")]), probe()], Disruption::Restarts),
        (vec![probe(), unit.clone()], Disruption::Restarts),
        (vec![Action::Reboot, unit, probe()], Disruption::Reboots),
    ] {
        let plan = with(|draft| draft.stages[0].items[0].actions = actions).unwrap();
        assert_eq!(plan.disruption(), disruption);
    }
    let plan = with(|draft| {
        draft.stages = vec![stage(1, 20, &[3, 4]), stage(2, 9, &[3, 5])];
        draft.stages[1].items[1].duty = Duty::Tenant;
    })
    .unwrap();
    assert_eq!(plan.provider_items(), 2, "an item counts once, a tenant's not at all");
    assert_eq!(plan.span(), Window { from: at(1), until: at(20) });
    let later = with(|draft| draft.stages = vec![stage(1, 5, &[3]), stage(2, 9, &[3])]).unwrap();
    assert_eq!(later.span(), Window { from: at(1), until: at(9) });
    let window = plan.span();
    assert!(window.has(at(1)) && window.has(at(20) - SECOND));
    assert!(!window.has(at(1) - SECOND) && !window.has(at(20)));
}

#[test]
fn a_restart_is_of_one_service() {
    use crate::change::is_restartable;
    for unit in ["nginx.service", "postgresql@15-main.service", "a_b:c.service"] {
        assert!(is_restartable(unit), "{unit}");
    }
    let odd = [
        "",
        ".service",
        "reboot.target",
        "*",
        "ngin?.service",
        "/home",
        "nginx",
        "x.socket",
        "debug-shell.service",
        "systemd-reboot.service",
        "user@1000.service",
        "a b.service",
        "patchwright-agent.service",
        "../x.service",
    ];
    for unit in odd {
        assert!(!is_restartable(unit), "{unit:?}");
        let mut draft = plan().draft().clone();
        draft.stages[0].items[0].actions = vec![Action::RestartUnit { unit: unit.to_owned() }];
        assert!(matches!(Plan::new(draft), Err(InvalidPlan::Unit { .. })), "{unit:?}");
    }
}

#[test]
fn what_was_said_of_files_from_the_beginning_on_is_said_as_it_was_then() {
    let (one, two) = (FileHash::from([1; 32]), FileHash::from([2; 32]));
    let private = Access { mode: "0600".parse().unwrap(), ..Access::usual() };
    let state = |access: &Access| FileState { sha256: one, access: access.clone() };
    let alter = |change| Action::AlterFile { path: "/etc/motd".to_owned(), change };
    let spelt = [
        (
            FileChange::content(Some(one), two),
            format!(r#""after":"{two}","before":"{one}","do":"write_file""#),
        ),
        (
            FileChange::content(None, two),
            format!(r#""after":"{two}","before":null,"do":"write_file""#),
        ),
        (
            FileChange::Create { after: state(&private) },
            format!(
                r#""after":{{"access":{{"group":"root","mode":"0600","owner":"root"}},"sha256":"{one}"}},"before":null,"do":"alter_file""#
            ),
        ),
        (
            FileChange::Remove { before: state(&private) },
            format!(
                r#""after":null,"before":{{"access":{{"group":"root","mode":"0600","owner":"root"}},"sha256":"{one}"}},"do":"alter_file""#
            ),
        ),
    ];
    for (change, text) in spelt {
        let plan = acting(alter(change)).unwrap();
        let bytes = String::from_utf8(plan.to_bytes()).unwrap();
        assert!(bytes.contains(&format!(r#"{{{text},"path":"/etc/motd"}}"#)), "{bytes}");
        assert_eq!(Plan::parse(bytes.as_bytes()).unwrap(), plan);
    }

    // One file has one spelling, and nothing becomes nothing.
    let usual = acting(alter(FileChange::content(None, one))).unwrap();
    let text = String::from_utf8(usual.to_bytes()).unwrap();
    let long = format!(
        r#"{{"after":{{"access":{{"group":"root","mode":"0644","owner":"root"}},"sha256":"{one}"}},"before":null,"do":"alter_file","path":"/etc/motd"}}"#
    );
    let short =
        format!(r#"{{"after":"{one}","before":null,"do":"write_file","path":"/etc/motd"}}"#);
    let other = text.replace(&short, &long);
    assert_ne!(other, text);
    assert!(matches!(Plan::parse(other.as_bytes()), Err(InvalidPlan::Spelling(_))));
    for nothing in [
        r#"{"after":null,"before":null,"do":"alter_file","path":"/etc/motd"}"#,
        r#"{"after":null,"before":null,"do":"write_file","path":"/etc/motd"}"#,
    ] {
        assert!(Plan::parse(text.replace(&short, nothing).as_bytes()).is_err());
    }
}

#[test]
fn no_plan_gives_a_file_the_rights_of_its_owner() {
    let with = |mode: &str| FileState {
        sha256: [1; 32].into(),
        access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
    };
    let planned = |change| acting(Action::AlterFile { path: "/usr/bin/x".to_owned(), change });
    let refused = planned(FileChange::Create { after: with("4755") }).unwrap_err();
    assert!(matches!(refused, InvalidPlan::Rights { .. }), "{refused}");
    assert!(planned(FileChange::Remove { before: with("4755") }).is_ok());
    let taken = FileChange::Replace { before: with("4755"), after: with("0755") };
    assert!(planned(taken).is_ok());
}
