//! Baselines that people put in, to which items they apply, and for which rules somebody answers, on both engines.

use domain::cloud::{Class, GroupId, PROVIDER, Side, TenantId};
use domain::configuration::audit::{Attribute, Outcomes};
use domain::configuration::baseline::{
    BaselineRef, GoldenSource, Hold, JudgedBy, Outcome, Reach, Said,
};
use domain::priority::Priority;
use jiff::{SignedDuration, Timestamp};
use store::{
    Actor, BaselineContent, BindingFilter, CiAlteration, KeptBaseline, Labels, NewBaseline,
    NewBinding, NewGroup, NewWaiver, PageRequest, Selector, StoreError, Target,
};

use crate::support::{World, vm};

on_both_engines! {
    versions_are_never_altered
    a_baseline_is_its_tenants_alone
    who_belongs_to_a_group_is_held_to_what_the_group_is
    waivers_count_until_their_end
    a_golden_item_is_one_tenants
    what_an_audit_was_made_by_can_be_read_later
}

fn rules(version: &str) -> String {
    format!(
        "id = \"ours\"\nversion = \"{version}\"\ntitle = \"Ours\"\n[[rule]]\nid = \"motd\"\ntitle = \"t\"\n\
         severity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'present(\"/etc/motd\")'\n"
    )
}

fn ours(tenant: TenantId, version: &str) -> NewBaseline {
    NewBaseline {
        tenant,
        name: "ours".to_owned(),
        title: "Ours".to_owned(),
        version: Some(version.to_owned()),
        content: BaselineContent::Rules(rules(version)),
    }
}

fn everything() -> BindingFilter {
    BindingFilter { baseline: None, all: true }
}

fn page() -> PageRequest {
    PageRequest { after: None, limit: 100 }
}

async fn put(world: &World, by: &Actor, new: NewBaseline) -> KeptBaseline {
    world.store.put_baseline(by, None, new).await.unwrap()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn versions_are_never_altered(world: World) {
    let tenant = world.tenant("one").await;
    let by = world.owner(&tenant).await;
    let first = put(&world, &by, ours(tenant.id, "1")).await;
    assert_eq!(put(&world, &by, ours(tenant.id, "1")).await, first, "the same alters nothing");
    let mut other = ours(tenant.id, "1");
    other.content = BaselineContent::Rules(rules("1") + "# more\n");
    let why = refused(world.store.put_baseline(&by, None, other).await);
    assert_eq!(why, "version 1 of `ours` says something else");

    let second = put(&world, &by, ours(tenant.id, "2")).await;
    assert_eq!((second.id, second.number, second.version.as_str()), (first.id, 2, "2"));
    let versions = world.store.baseline_versions(&by, first.id).await.unwrap();
    let words: Vec<_> = versions.iter().map(|it| it.version.as_str()).collect();
    assert_eq!(words, ["2", "1"]);
    let says = async |version| {
        world.store.baseline_version(&by, first.id, version).await.map(|it| it.content)
    };
    assert_eq!(says(Some("1")).await.unwrap(), BaselineContent::Rules(rules("1")));
    assert_eq!(says(None).await.unwrap(), BaselineContent::Rules(rules("2")), "the newest");
    assert!(matches!(says(Some("3")).await, Err(StoreError::NotFound { .. })));

    let mut taken = ours(tenant.id, "1");
    "sshd".clone_into(&mut taken.name);
    refused(world.store.put_baseline(&by, None, taken).await);

    let withdrawn = world.store.withdraw_baseline(&by, first.id).await.unwrap();
    assert!(withdrawn.withdrawn_at.is_some());
    refused(world.store.withdraw_baseline(&by, first.id).await);
    assert!(world.store.baselines(&by, false, &page()).await.unwrap().items.is_empty());
    assert_eq!(world.store.baselines(&by, true, &page()).await.unwrap().items.len(), 1);
    assert_eq!(world.store.baseline_versions(&by, first.id).await.unwrap().len(), 2);
    let again = put(&world, &by, ours(tenant.id, "1")).await;
    assert_ne!(again.id, first.id, "another one of the same name");
}

async fn a_baseline_is_its_tenants_alone(world: World) {
    let (one, other) = (world.tenant("one").await, world.tenant("other").await);
    let (by, stranger) = (world.owner(&one).await, world.owner(&other).await);
    let kept = put(&world, &by, ours(one.id, "1")).await;
    let ci = world.store.create_ci(&by, None, vm(one.id, "web-1")).await.unwrap().id;
    let bind = |baseline: BaselineRef, target| NewBinding {
        tenant: one.id,
        baseline,
        target,
        holds: true,
    };
    let own = || BaselineRef::Own(kept.id);
    let binding = bind(own(), Target::Ci(ci));
    let bound = world.store.bind_baseline(&by, None, binding.clone()).await.unwrap();
    let twice = world.store.bind_baseline(&by, None, binding.clone()).await;
    assert!(matches!(twice, Err(StoreError::Exists { .. })), "{twice:?}");

    let missing = |outcome: bool| assert!(outcome, "others do not find it");
    let not_found = |error: &StoreError| matches!(error, StoreError::NotFound { .. });
    missing(not_found(&world.store.baseline(&stranger, kept.id).await.unwrap_err()));
    missing(not_found(&world.store.baseline_versions(&stranger, kept.id).await.unwrap_err()));
    let version = world.store.baseline_version(&stranger, kept.id, Some("1")).await;
    missing(not_found(&version.unwrap_err()));
    missing(not_found(&world.store.withdraw_baseline(&stranger, kept.id).await.unwrap_err()));
    missing(not_found(
        &world.store.put_baseline(&stranger, None, ours(one.id, "9")).await.unwrap_err(),
    ));
    missing(not_found(
        &world.store.bind_baseline(&stranger, None, binding.clone()).await.unwrap_err(),
    ));
    let class = NewBinding { tenant: other.id, ..bind(own(), Target::Class(Class::Vm)) };
    missing(not_found(
        &world.store.bind_baseline(&stranger, None, class.clone()).await.unwrap_err(),
    ));
    missing(not_found(&world.store.unbind_baseline(&stranger, bound.id).await.unwrap_err()));
    assert!(world.store.baselines(&stranger, true, &page()).await.unwrap().items.is_empty());
    assert!(
        world
            .store
            .baseline_bindings(&stranger, &everything(), &page())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    // The provider does not hold one tenant's items to what is another's, and does not take back what it did not say.
    let why = refused(world.store.bind_baseline(&world.admin, None, class).await);
    assert!(why.ends_with("another tenant's"), "{why}");
    refused(world.store.unbind_baseline(&world.admin, bound.id).await);
    let class = NewBinding {
        tenant: PROVIDER,
        ..bind(BaselineRef::BuiltIn("sshd".to_owned()), Target::Class(Class::Vm))
    };
    let everybodys = world.store.bind_baseline(&world.admin, None, class).await.unwrap();
    missing(not_found(&world.store.unbind_baseline(&by, everybodys.id).await.unwrap_err()));
    let held = world.store.held_to(&by, ci, world.environment_now()).await.unwrap();
    let sshd = &held.said[&BaselineRef::BuiltIn("sshd".to_owned())];
    assert_eq!(sshd, &[Said { by: Side::Provider, reach: Reach::Class, holds: true }]);
    assert_eq!(held.own[&kept.id].1.version, "1");

    // What is withdrawn binds nothing.
    world.store.withdraw_baseline(&by, kept.id).await.unwrap();
    let held = world.store.held_to(&by, ci, world.environment_now()).await.unwrap();
    assert!(held.own.is_empty() && !held.said.contains_key(&own()));
    refused(world.store.unbind_baseline(&by, bound.id).await);
}

async fn web_group(world: &World, by: &Actor, tenant: TenantId) -> GroupId {
    let labels = Labels::from([("tier".parse().unwrap(), "web".to_owned())]);
    let new = NewGroup {
        tenant,
        name: "web".parse().unwrap(),
        description: String::new(),
        selector: Selector { class: None, labels },
    };
    world.store.create_group(by, None, new).await.unwrap().id
}

async fn who_belongs_to_a_group_is_held_to_what_the_group_is(world: World) {
    let tenant = world.tenant("one").await;
    let by = world.owner(&tenant).await;
    let ci = world.store.create_ci(&by, None, vm(tenant.id, "web-1")).await.unwrap().id;
    let group = web_group(&world, &by, tenant.id).await;
    let kept = put(&world, &by, ours(tenant.id, "1")).await;
    let new = NewBinding {
        tenant: tenant.id,
        baseline: BaselineRef::Own(kept.id),
        target: Target::Group(group),
        holds: true,
    };
    world.store.bind_baseline(&by, None, new).await.unwrap();
    let held = || async { world.store.held_to(&by, ci, world.environment_now()).await.unwrap() };
    assert!(held().await.own.is_empty(), "it does not belong to it yet");

    let labels = Labels::from([("tier".parse().unwrap(), "web".to_owned())]);
    let alteration = CiAlteration { labels: Some(labels), ..CiAlteration::default() };
    world.store.alter_ci(&by, ci, None, alteration).await.unwrap();

    let now = held().await;
    let said = &now.said[&BaselineRef::Own(kept.id)];
    assert_eq!(said, &[Said { by: Side::Tenant, reach: Reach::Group, holds: true }]);
    // The version of then, and none before there was one.
    let before = world.environment_now();
    world.environment.pass(SignedDuration::from_mins(1));
    put(&world, &by, ours(tenant.id, "2")).await;
    let then = world.store.held_to(&by, ci, before).await.unwrap();
    assert_eq!(then.own[&kept.id].1.version, "1");
    assert_eq!(held().await.own[&kept.id].1.version, "2");
    // Where there is no group any more nothing is bound to it.
    world.store.dissolve_group(&by, group, None).await.unwrap();
    assert!(held().await.said.is_empty());
    let bindings = world.store.baseline_bindings(&by, &everything(), &page()).await.unwrap().items;
    assert!(bindings.len() == 1 && bindings[0].ended_at.is_some(), "{bindings:?}");
    // Of one baseline, and of those that still count.
    let (own, sshd) = (BaselineRef::Own(kept.id), BaselineRef::BuiltIn("sshd".to_owned()));
    for (baseline, all, count) in [(&own, true, 1), (&own, false, 0), (&sshd, true, 0)] {
        let filter = BindingFilter { baseline: Some(baseline.clone()), all };
        let found = world.store.baseline_bindings(&by, &filter, &page()).await.unwrap().items;
        assert_eq!(found.len(), count, "{baseline} {all}");
    }
}

async fn waivers_count_until_their_end(world: World) {
    let (one, other) = (world.tenant("one").await, world.tenant("other").await);
    let (by, stranger) = (world.owner(&one).await, world.owner(&other).await);
    let ci = world.store.create_ci(&by, None, vm(one.id, "web-1")).await.unwrap().id;
    let new = |hours: i64, rule: &str| NewWaiver {
        baseline: BaselineRef::BuiltIn("sshd".to_owned()),
        rule: rule.to_owned(),
        target: Target::Ci(ci),
        owner: "Anna".to_owned(),
        reason: "until the move".to_owned(),
        until: world.environment_now() + SignedDuration::from_hours(hours),
    };
    let waive = async |by: &Actor, it| world.store.waive_rule(by, None, it).await;
    let count = || async {
        world.store.held_to(&by, ci, world.environment_now()).await.unwrap().waivers.len()
    };
    let why = refused(waive(&by, new(1, "sshd-none")).await);
    assert!(why.ends_with("has no rule `sshd-none`"), "{why}");
    refused(waive(&by, new(0, "sshd-root-login")).await);
    refused(waive(&by, new(24 * 367, "sshd-root-login")).await);
    let class = NewWaiver { target: Target::Class(Class::Vm), ..new(1, "sshd-root-login") };
    refused(waive(&by, class).await);
    let strange = waive(&stranger, new(1, "sshd-root-login")).await;
    assert!(matches!(strange, Err(StoreError::NotFound { .. })), "{strange:?}");

    let first = waive(&by, new(2, "sshd-root-login")).await.unwrap();
    assert_eq!((first.side, first.tenant, count().await), (Side::Tenant, one.id, 1));
    assert!(world.store.rule_waivers(&stranger, true, &page()).await.unwrap().items.is_empty());
    let strange = world.store.end_waiver(&stranger, first.id).await;
    assert!(matches!(strange, Err(StoreError::NotFound { .. })), "{strange:?}");
    refused(world.store.end_waiver(&world.admin, first.id).await);

    // It is over by itself.
    world.environment.pass(SignedDuration::from_hours(2));
    assert_eq!(count().await, 0);
    assert!(world.store.rule_waivers(&by, false, &page()).await.unwrap().items.is_empty());
    assert_eq!(world.store.rule_waivers(&by, true, &page()).await.unwrap().items.len(), 1);
    refused(world.store.end_waiver(&by, first.id).await);
    // Or taken back.
    let second = waive(&by, new(2, "sshd-root-login")).await.unwrap();
    world.environment.pass(SignedDuration::from_hours(1));
    let before = world.environment_now() - SignedDuration::from_mins(1);
    world.store.end_waiver(&by, second.id).await.unwrap();
    assert_eq!(count().await, 0);
    assert_eq!(world.store.held_to(&by, ci, before).await.unwrap().waivers.len(), 1, "it was then");
}

async fn a_golden_item_is_one_tenants(world: World) {
    let (one, other) = (world.tenant("one").await, world.tenant("other").await);
    let by = world.owner(&one).await;
    let ci = world.store.create_ci(&by, None, vm(one.id, "web-1")).await.unwrap().id;
    let theirs =
        world.store.create_ci(&Actor::System, None, vm(other.id, "web-1")).await.unwrap().id;
    let golden = |tenant, ci| NewBaseline {
        tenant,
        name: "as-web".to_owned(),
        title: "As web".to_owned(),
        version: None,
        content: BaselineContent::Golden(GoldenSource {
            ci,
            at: world.environment_now(),
            paths: vec!["/etc/nginx/**".to_owned().try_into().unwrap()],
            severity: Priority::High,
            files: 3,
        }),
    };
    let missing = world.store.put_baseline(&by, None, golden(one.id, theirs)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
    let why = refused(world.store.put_baseline(&world.admin, None, golden(other.id, ci)).await);
    assert!(why.contains("is not an item of"), "{why}");
    let kept = put(&world, &by, golden(one.id, ci)).await;
    assert_eq!(kept.version, "1");
    world.environment.pass(SignedDuration::from_mins(1));
    assert_eq!(put(&world, &by, golden(one.id, ci)).await.version, "2");
    let version = world.store.baseline_version(&by, kept.id, None).await.unwrap();
    assert!(matches!(&version.content, BaselineContent::Golden(it) if it.files == 3));
    let why = refused(
        world
            .store
            .put_baseline(&by, None, NewBaseline { name: "as-web".to_owned(), ..ours(one.id, "3") })
            .await,
    );
    assert_eq!(why, "`as-web` is made of golden");
    // Not even the provider holds another's items against these files.
    let new = NewBinding {
        tenant: PROVIDER,
        baseline: BaselineRef::Own(kept.id),
        target: Target::Ci(theirs),
        holds: true,
    };
    let why = refused(world.store.bind_baseline(&world.admin, None, new).await);
    assert_eq!(why, "`as-web` is made of another tenant's files");
    // Nor others' items against files of its own, by whatever class it binds.
    let own = world.store.create_ci(&world.admin, None, vm(PROVIDER, "web-0")).await.unwrap().id;
    let house = put(&world, &world.admin, golden(PROVIDER, own)).await;
    let new = NewBinding {
        tenant: PROVIDER,
        baseline: BaselineRef::Own(house.id),
        target: Target::Class(Class::Vm),
        holds: true,
    };
    world.store.bind_baseline(&world.admin, None, new).await.unwrap();
    for (item, is_held) in [(own, true), (ci, false)] {
        let held = world.store.held_to(&Actor::System, item, world.environment_now()).await;
        assert_eq!(held.unwrap().own.contains_key(&house.id), is_held);
    }
}

async fn what_an_audit_was_made_by_can_be_read_later(world: World) {
    let tenant = world.tenant("one").await;
    let by = world.owner(&tenant).await;
    let ci = world.store.create_ci(&by, None, vm(tenant.id, "web-1")).await.unwrap().id;
    let kept = put(&world, &by, ours(tenant.id, "1")).await;
    let new = NewWaiver {
        baseline: BaselineRef::Own(kept.id),
        rule: "motd".to_owned(),
        target: Target::Ci(ci),
        owner: "Anna".to_owned(),
        reason: "r".to_owned(),
        until: world.environment_now() + SignedDuration::from_hours(1),
    };
    let waiver = world.store.waive_rule(&by, None, new).await.unwrap();
    let judged_by = JudgedBy {
        id: "ours".to_owned(),
        version: "1".to_owned(),
        own: Some(kept.id),
        hold: Hold::Tenant,
    };
    let outcomes = Outcomes {
        baselines: vec![judged_by],
        left_out: Vec::new(),
        waivers: vec![waiver.id],
        attributes: [(Attribute::Correctness, Outcome::Unknown)].into(),
        rules: Vec::new(),
    };
    put(&world, &by, ours(tenant.id, "2")).await;
    world.store.withdraw_baseline(&by, kept.id).await.unwrap();
    world.environment.pass(SignedDuration::from_hours(2));

    let then = world.store.kept_to(&by, ci, &outcomes).await.unwrap();

    assert_eq!(then.own[&kept.id].1.content, BaselineContent::Rules(rules("1")));
    assert_eq!(then.waivers[0].id, waiver.id);
}

impl World {
    fn environment_now(&self) -> Timestamp {
        self.store.environment().now()
    }
}
