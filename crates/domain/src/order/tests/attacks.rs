//! Somebody holds the order key and the whole control plane. What they try is refused, each by name.

use super::*;
use crate::change::{
    Acceptance, Access, Disruption, FileChange, FileState, InvalidPlan, Kind, Scope, WeeklyWindow,
};

#[test]
fn an_order_of_the_plan_that_the_tenant_agreed_to_is_accepted() {
    let world = World::new();

    let (accepted, next) = world.verify().unwrap();

    assert_eq!(accepted.order(), &world.order);
    assert_eq!(accepted.rollback(), &Rollback::Snapshot);
    assert_eq!(next.sequence(), 7);
}

#[test]
fn nothing_is_signed_by_another_key() {
    let mut world = World::new();
    world.signer = TENANT;
    assert_eq!(world.refusal(), Refusal::Key { key: key(TENANT) });
}

#[test]
fn another_agents_order_is_not_taken() {
    let mut world = World::new();
    world.order.agent = id(6);
    assert_eq!(world.refusal(), Refusal::Agent { given: id(6), ours: id(5) });

    let mut world = World::new();
    world.order.ci = id(4);
    assert_eq!(world.refusal(), Refusal::Item { given: id(4), ours: id(3) });
}

#[test]
fn nothing_is_done_twice() {
    let mut world = World::new();
    world.trusted = world.accepted();
    assert_eq!(world.refusal(), Refusal::Replayed { nonce: nonce(70) });

    world.order.nonce = nonce(71);
    assert_eq!(world.refusal(), Refusal::Sequence { given: 7, seen: 7 });

    // The same consent with a new order: as long as it was not done, it may be tried again.
    world.order.sequence = 8;
    world.trusted = world.accepted().done(&world.order);
    world.order = Order { nonce: nonce(72), sequence: 9, ..world.order };
    assert_eq!(world.refusal(), Refusal::Done { stage: 1 });
}

#[test]
fn no_sequence_ends_the_count() {
    let mut world = World::new();
    world.order.sequence = 1 << 53;
    // As JSON numbers it would be another number elsewhere.
    assert_eq!(world.refusal(), Refusal::Sequence { given: 1 << 53, seen: 0 });
}

#[test]
fn nothing_is_backdated_kept_back_or_from_the_future() {
    let mut world = World::new();
    world.order.issued_at = world.now + SignedDuration::from_mins(6);
    assert!(matches!(world.refusal(), Refusal::Future { .. }));

    let mut world = World::new();
    world.now = at(52);
    assert_eq!(world.refusal(), Refusal::Expired { expires: at(52), now: at(52) });

    let mut world = World::new();
    world.order.expires = at(47 + 7 * 24) + SECOND;
    assert!(matches!(world.refusal(), Refusal::Life { .. }));
    world.order.expires = world.order.issued_at;
    assert!(matches!(world.refusal(), Refusal::Life { .. }));

    let mut world = World::new();
    world.trusted = world.accepted();
    world.order =
        Order { nonce: nonce(71), sequence: 8, issued_at: at(47) - SECOND, ..world.order.clone() };
    assert_eq!(world.refusal(), Refusal::Backdated { issued_at: at(47) - SECOND, seen: at(47) });
}

#[test]
fn a_clock_that_went_back_revives_nothing() {
    let mut world = World::new();
    world.trusted = world.accepted();
    world.order = Order { nonce: nonce(71), sequence: 8, ..world.order };
    world.now = at(48);
    assert_eq!(world.refusal(), Refusal::Clock { now: at(48), seen: at(49) });
}

#[test]
fn the_plan_is_the_one_named_in_its_one_spelling() {
    let world = World::new();
    let other = plan_of(vec![Action::Reboot]);
    let given = world.plan.hash();
    let refusal = world.verify_with(&other.to_bytes()).unwrap_err();
    assert_eq!(refusal, Refusal::OtherPlan { given, carried: other.hash() });

    let spaced = [b" ".as_slice(), &world.plan.to_bytes()].concat();
    assert!(matches!(world.verify_with(&spaced), Err(Refusal::Plan { .. })));
    assert!(matches!(world.verify_with(b"{}"), Err(Refusal::Plan { .. })));
}

#[test]
fn another_tenants_plan_is_not_for_this_host() {
    let mut world = World::new();
    let draft = Draft { tenant: id(9), ..world.plan.draft().clone() };
    world.plan = Plan::new(draft).unwrap();
    world.order.plan = world.plan.hash();
    assert_eq!(world.refusal(), Refusal::Tenant { given: id(9), ours: id(2) });
}

#[test]
fn the_order_says_what_the_plan_says_and_nothing_beside_it() {
    let mut world = World::new();
    world.order.actions.push(Action::RestartUnit { unit: "sshd.service".to_owned() });
    assert_eq!(world.refusal(), Refusal::Actions { at: 3 });
    world.order.actions = vec![upgrade("1.22.1-9+deb12u2"), Action::Reboot];
    assert_eq!(world.refusal(), Refusal::Actions { at: 1 });
    world.order.actions = vec![Action::Reboot];
    assert_eq!(world.refusal(), Refusal::Actions { at: 1 });

    let mut world = World::new();
    world.order.stage = 2;
    assert_eq!(world.refusal(), Refusal::Actions { at: 1 });
    for stage in [0, 3, u32::MAX] {
        world.order.stage = stage;
        assert_eq!(world.refusal(), Refusal::NotPlanned { stage, ci: id(3) });
    }

    let mut world = World::new();
    world.order.window.until = at(400);
    assert!(matches!(world.refusal(), Refusal::Window { .. }));
}

#[test]
fn nothing_begins_outside_its_window() {
    let mut world = World::new();
    world.now = at(48) - SECOND;
    assert_eq!(world.refusal().passes_at(), Some(at(48)));
    world.now = at(52);
    world.order.expires = at(53);
    assert_eq!(world.refusal(), Refusal::Late { closed: at(52), now: at(52) });
}

fn lacks(world: &World) -> String {
    match world.refusal() {
        Refusal::Consent { lacks } => lacks.join("; "),
        other => panic!("{other}"),
    }
}

#[test]
fn what_nobody_agreed_to_is_not_done() {
    let mut world = World::new();
    world.consents.clear();
    assert!(lacks(&world).contains("consent"));

    // The consent is to another plan.
    let mut world = World::new();
    world.replan(vec![upgrade("1.22.1-9+deb12u3")]);
    assert!(lacks(&world).contains("not to"), "{}", lacks(&world));

    // The provider's own key signs for the tenant, or a stranger's.
    for by in [PROVIDER, 9] {
        let mut world = World::new();
        world.consents = vec![signed(by, &statement(&world.plan, Decision::Approve))];
        assert!(lacks(&world).contains("none of the tenant's"), "{}", lacks(&world));
    }

    // Another tenant speaks.
    let mut world = World::new();
    let said = Statement { tenant: id(9), ..statement(&world.plan, Decision::Approve) };
    world.consents = vec![signed(TENANT, &said)];
    assert!(lacks(&world).contains("speaks for"), "{}", lacks(&world));
}

#[test]
fn a_consent_of_the_future_does_not_count() {
    let mut world = World::new();
    let said = Statement { given_at: at(50), ..statement(&world.plan, Decision::Approve) };
    world.consents = vec![signed(TENANT, &said)];
    assert!(lacks(&world).contains("given at"), "{}", lacks(&world));
}

#[test]
fn a_later_no_counts_where_it_is_shown() {
    let mut world = World::new();
    let acceptance = Acceptance {
        reason: "Quarter-end close".parse().unwrap(),
        risk_owner: "Ada".parse().unwrap(),
        expiry: at(100),
    };
    let said = Statement {
        given_at: at(30),
        nonce: nonce(61),
        ..statement(&world.plan, Decision::Refuse { acceptance })
    };
    world.consents.push(signed(TENANT, &said));
    assert!(lacks(&world).contains("refused the plan"), "{}", lacks(&world));

    // Also where nothing has to be signed.
    world.trusted.terms.patches = Demand::Nothing;
    assert!(lacks(&world).contains("refused the plan"));
}

#[test]
fn what_the_server_says_is_needed_is_not_asked() {
    // The plan calls it the provider's duty, and nothing of the tenant's is there.
    let mut world = World::new();
    world.consents.clear();
    assert!(matches!(world.refusal(), Refusal::Consent { .. }));
    // Only what was pinned at joining lets it pass.
    world.trusted.terms.patches = Demand::Nothing;
    world.accepted();
    // A plan that writes a file is an alteration, whatever the server calls it.
    let change = FileChange::content(None, FileHash::from([1; 32]));
    let write = Action::AlterFile { path: "/etc/motd".to_owned(), change };
    world.replan(vec![write]);
    assert!(matches!(world.refusal(), Refusal::Consent { .. }));
}

fn write(path: &str, content: &[u8]) -> Action {
    let change = FileChange::content(None, sha256(content).into());
    Action::AlterFile { path: path.to_owned(), change }
}

#[test]
fn a_file_gets_the_content_that_the_plan_names_and_no_other() {
    let mut world =
        World::with(vec![write("/etc/motd", b"hello\n"), write("/etc/issue", b"hello\n")]);
    let missing =
        |refusal| matches!(refusal, Refusal::NoContent { path, .. } if path == "/etc/motd");
    assert!(missing(world.refusal()));
    assert!(world.refusal().accuses());
    world.contents = vec![b"hullo\n".to_vec()];
    assert!(missing(world.refusal()));

    // What nobody asked for goes no further.
    world.contents.push(b"hello\n".to_vec());
    let (accepted, _) = world.verify().unwrap();
    let contents: Vec<_> = accepted.contents().values().collect();
    assert_eq!(contents, [b"hello\n"]);
}

#[test]
fn files_go_back_by_the_way_that_the_plan_names_and_by_no_other() {
    let alter = |change| Action::AlterFile { path: "/etc/motd".to_owned(), change };
    let write = |before: Option<&[u8]>, after: &[u8]| {
        alter(FileChange::content(before.map(|it| sha256(it).into()), sha256(after).into()))
    };
    let world = |before: Option<&[u8]>, rollback: Rollback| {
        let mut world = World::with(vec![write(before, b"new")]);
        let mut draft = world.plan.draft().clone();
        for item in &mut draft.stages[0].items {
            item.rollback = rollback.clone();
        }
        world.plan = Plan::new(draft).unwrap();
        world.consents = vec![signed(TENANT, &statement(&world.plan, Decision::Approve))];
        world.order.plan = world.plan.hash();
        world.contents = vec![b"old".to_vec(), b"new".to_vec(), b"odd".to_vec()];
        world
    };
    let mut back = world(Some(b"old"), Rollback::Files);
    // What was done is not done again; that says nothing of the way back. Nor does the window bound it.
    back.trusted = back.trusted.done(&back.order);
    assert_eq!(back.refusal(), Refusal::Done { stage: 1 });
    back.order.actions = vec![write(Some(b"new"), b"old")];
    back.order.window = Window { from: at(70), until: at(80) };
    (back.order.issued_at, back.order.expires, back.now) = (at(70), at(80), at(71));
    assert_eq!(back.verify().unwrap().0.rollback(), &Rollback::Files);
    // To nothing else than what was there, and from nothing else than what the plan made of it.
    for other in [write(Some(b"new"), b"odd"), write(Some(b"odd"), b"old"), write(None, b"old")] {
        back.order.actions = vec![other];
        assert!(matches!(back.refusal(), Refusal::Actions { at: 1 }), "{}", back.refusal());
    }
    back.order.actions = vec![write(Some(b"new"), b"old")];
    back.consents.clear();
    assert!(matches!(back.refusal(), Refusal::Consent { .. }), "it is the way back of that plan");

    let mut snapshot = world(Some(b"old"), Rollback::Snapshot);
    snapshot.order.actions = vec![write(Some(b"new"), b"old")];
    assert!(matches!(snapshot.refusal(), Refusal::Actions { .. }));
    let mut new = world(None, Rollback::Files);
    new.order.actions = vec![write(Some(b"new"), b"")];
    assert!(matches!(new.refusal(), Refusal::Actions { .. }));
    // What is new is taken away again, where it is just what the plan made.
    let state = |content: &[u8], access| FileState { sha256: sha256(content).into(), access };
    let remove =
        |content: &[u8], access| alter(FileChange::Remove { before: state(content, access) });
    let private = Access { mode: "0600".parse().unwrap(), ..Access::usual() };
    for other in [remove(b"old", Access::usual()), remove(b"new", private)] {
        new.order.actions = vec![other];
        assert!(matches!(new.refusal(), Refusal::Actions { at: 1 }), "{}", new.refusal());
    }
    new.order.actions = vec![remove(b"new", Access::usual())];
    assert!(new.verify().unwrap().0.contents().is_empty());
    new.policy = Policy::parse("remove_files = \"forbid\"").unwrap();
    let path = "/etc/motd".to_owned();
    assert_eq!(new.refusal(), Refusal::Forbidden(Forbidden::Removal { path }));
}

#[test]
fn nobody_becomes_somebody_else_by_a_file() {
    let hash = FileHash::from(sha256(b"x"));
    let state = |mode: &str| {
        format!(
            r#"{{"access":{{"group":"root","mode":"{mode}","owner":"root"}},"sha256":"{hash}"}}"#
        )
    };
    let action = |after: String, before: String, verb: &str| {
        format!(r#"{{"after":{after},"before":{before},"do":"{verb}","path":"/usr/local/bin/x"}}"#)
    };
    let honest = World::with(vec![write("/usr/local/bin/x", b"x")]);
    let bytes = String::from_utf8(honest.plan.to_bytes()).unwrap();
    let usual = action(format!("\"{hash}\""), "null".to_owned(), "write_file");
    // Whoever signs it: such bytes are no plan.
    for before in ["null".to_owned(), state("0755")] {
        let forged = bytes.replace(&usual, &action(state("4755"), before, "alter_file"));
        assert_ne!(forged, bytes);
        let error = Plan::parse(forged.as_bytes()).unwrap_err();
        assert!(matches!(error, InvalidPlan::Rights { .. }), "{error}");
    }
}

#[test]
fn whose_a_file_is_is_not_altered_unsigned() {
    let state = |mode: &str| FileState {
        sha256: sha256(b"x").into(),
        access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
    };
    let replace = FileChange::Replace { before: state("0600"), after: state("0644") };
    let remove = FileChange::Remove { before: state("0600") };
    for (change, is_signed) in [(replace, true), (remove, false)] {
        let mut world =
            World::with(vec![Action::AlterFile { path: "/etc/app.key".to_owned(), change }]);
        world.contents = vec![b"x".to_vec()];
        world.trusted.terms.alterations = Demand::Nothing;
        world.trusted.terms.patches = Demand::Nothing;
        world.policy = Policy::parse("[files]\nallow = [\"/etc/app.key\"]").unwrap();
        world.accepted();
        world.consents.clear();
        let refused = world.verify().err();
        assert_eq!(matches!(refused, Some(Refusal::Consent { .. })), is_signed, "{refused:?}");
    }
}

#[test]
fn no_order_writes_what_the_agent_goes_by() {
    for path in [
        "/var/lib/agent",
        "/var/lib/agent/trusted.json",
        "/var/lib/agent/orders/journal",
        "/etc/agent.toml",
        "/etc/systemd/system/patchwright-agent.service",
        "/etc/systemd/system/patchwright-agent.service.d/99-policy.conf",
    ] {
        let mut world = World::with(vec![write("/etc/motd", b"x"), write(path, b"x")]);
        world.contents = vec![b"x".to_vec()];
        assert_eq!(world.refusal(), Refusal::OwnFile { path: path.to_owned() });
        assert!(world.refusal().accuses());
    }
    let mut world = World::with(vec![write("/var/lib/agents/list", b"x")]);
    world.contents = vec![b"x".to_vec()];
    world.accepted();
}

#[test]
fn where_the_owner_lets_no_file_be_written_a_signature_does_not_help() {
    let mut world = World::with(vec![write("/etc/ssh/sshd_config", b"x")]);
    world.contents = vec![b"x".to_vec()];
    world.policy = Policy::parse("[files]\nforbid = [\"/etc/ssh/**\"]").unwrap();
    let path = "/etc/ssh/sshd_config".to_owned();
    assert_eq!(world.refusal(), Refusal::Forbidden(Forbidden::File { path }));
}

#[test]
fn no_file_is_written_unsigned_but_those_that_the_owner_names() {
    let mut world = World::with(vec![write("/etc/cron.d/x", b"x")]);
    world.contents = vec![b"x".to_vec()];
    world.trusted.terms.alterations = Demand::Nothing;
    world.trusted.terms.patches = Demand::Nothing;
    world.accepted();
    world.consents.clear();
    assert!(matches!(world.refusal(), Refusal::Consent { .. }));
    for unnamed in ["", "[files]\nallow = [\"/etc/cron.d/y\"]", "[files]\nforbid = [\"/x\"]"] {
        world.policy = Policy::parse(unnamed).unwrap();
        assert!(matches!(world.refusal(), Refusal::Consent { .. }), "{unnamed}");
    }

    world.policy = Policy::parse("[files]\nallow = [\"/etc/cron.d/*\"]").unwrap();
    world.accepted();
    world.trusted.terms.alterations = Demand::Signature;
    assert!(matches!(world.refusal(), Refusal::Consent { .. }), "it narrows, and widens nothing");
}

fn rule(priorities: &[Priority]) -> StandingRule {
    StandingRule {
        tenant: id(2),
        kinds: [Kind::Patch].into(),
        priorities: priorities.iter().copied().collect(),
        items: Scope::All,
        disruption: Disruption::Reboots,
        // All of the week.
        windows: vec![WeeklyWindow { begins: 0, minutes: 7 * 24 * 60 }],
        from: at(0),
        until: at(100),
        given_at: at(1),
        nonce: nonce(50),
    }
}

#[test]
fn a_rule_for_some_priorities_needs_someone_who_ranks() {
    let all = [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];
    let mut world = World::new();
    world.consents.clear();
    world.rules = vec![signed(TENANT, &rule(&all))];
    world.accepted();

    // "It is of low priority", says the server.
    world.rules = vec![signed(TENANT, &rule(&[Priority::Low]))];
    world.order.priority = Priority::Low;
    assert!(lacks(&world).contains("does not speak of"), "{}", lacks(&world));

    world.trusted.terms.ranking = Ranking::Provider;
    world.accepted();
    world.order.priority = Priority::High;
    assert!(lacks(&world).contains("does not speak of high"), "{}", lacks(&world));
}

#[test]
fn a_rule_is_no_ones_but_the_tenants() {
    let mut world = World::new();
    world.consents.clear();
    world.trusted.terms.ranking = Ranking::Provider;
    world.rules = vec![signed(PROVIDER, &rule(&[Priority::Medium]))];
    assert!(lacks(&world).contains("none of the tenant's"), "{}", lacks(&world));
}

#[test]
fn nothing_becomes_older() {
    let older = |world: &World, floor: &str| match world.refusal() {
        Refusal::Older { package, floor: is } => {
            assert_eq!((package.name.as_str(), is.as_str()), ("nginx", floor));
        }
        other => panic!("{other}"),
    };
    let mut world = World::new();
    world.installed.raise("nginx", "amd64", "1.22.1-9+deb12u2");
    older(&world, "1.22.1-9+deb12u2");

    // It was there once, and was taken away since.
    let world = World::new();
    let mut again = World::with(vec![upgrade("1.22.1-9")]);
    again.trusted = world.accepted().done(&world.order);
    again.installed = Versions::none(VersionKind::Dpkg);
    again.order = Order { sequence: 8, nonce: nonce(71), ..again.order };
    older(&again, "1.22.1-9+deb12u1");

    // Under the name of an architecture that stands for all.
    let mut package = package("nginx", "1.0");
    package.architecture = "all".to_owned();
    older(&World::with(vec![Action::Upgrade { packages: vec![package] }]), "1.22.1-9");
}

#[test]
fn a_version_that_is_none_is_refused() {
    for version in ["$(reboot)", "--force-all", "1.0;ls", ":"] {
        let world = World::with(vec![upgrade(version)]);
        assert!(matches!(world.refusal(), Refusal::Version { .. }), "{version}");
    }
}

#[test]
fn the_owner_can_narrow_it_and_nobody_can_widen_it() {
    let forbidden = |text: &str| {
        let mut world = World::new();
        world.policy = Policy::parse(text).unwrap();
        match world.refusal() {
            Refusal::Forbidden(forbidden) => forbidden,
            other => panic!("{other}"),
        }
    };
    let package = || Forbidden::Package { package: "nginx".to_owned() };
    assert_eq!(forbidden("reboot = \"forbid\""), Forbidden::Reboot);
    assert_eq!(forbidden("[packages]\nallow = [\"lib*\"]"), package());
    assert_eq!(forbidden("[packages]\nforbid = [\"ng*\"]"), package());
    assert_eq!(
        forbidden("[[hours]]\nfrom = \"01:00\"\nuntil = \"02:00\""),
        Forbidden::Hours { now: at(49) }
    );
    let freeze = "[[freeze]]\nfrom = \"2027-01-01T00:00:00Z\"\nuntil = \"2027-02-01T00:00:00Z\"";
    assert!(matches!(forbidden(freeze), Forbidden::Freeze { .. }));

    let mut world = World::new();
    world.installed = Versions::none(VersionKind::Dpkg);
    world.policy = Policy::parse("additions = \"forbid\"").unwrap();
    let nginx = "nginx".to_owned();
    assert_eq!(world.refusal(), Refusal::Forbidden(Forbidden::Addition { package: nginx }));

    // A policy that allows all consents to nothing.
    let mut world = World::new();
    world.consents.clear();
    world.policy = Policy::default();
    assert!(matches!(world.refusal(), Refusal::Consent { .. }));
}

#[test]
fn a_refusal_is_told_as_it_is_and_says_the_way_out() {
    let mut world = World::new();
    world.policy = Policy::parse("reboot = \"forbid\"").unwrap();
    for refusal in [world.refusal(), Refusal::Done { stage: 1 }, Refusal::Key { key: key(3) }] {
        let told = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&told).unwrap(), refusal, "{told}");
        assert!(!refusal.help().is_empty());
    }
}
