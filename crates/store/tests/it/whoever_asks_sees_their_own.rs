//! Tenants are kept apart in every statement.

use std::collections::BTreeSet;

use crate::support::{World, actor, person, vm};
use domain::cloud::{Access, Class, RelationKind, Role};
use store::{CiAlteration, CiFilter, NewCi, NewToken, PageRequest, Relation, StoreError, Whose};

on_both_engines! {
    a_tenant_sees_and_alters_its_own_alone
    nobody_acts_for_another_tenant
    a_token_is_taken_back_by_its_person_or_by_whoever_may
    relations_stay_within_a_tenant_or_lead_to_the_provider
    lists_come_in_pages_without_gap_or_double
    filters_find_what_they_say
}

fn all() -> PageRequest {
    PageRequest { after: None, limit: 1000 }
}

async fn a_tenant_sees_and_alters_its_own_alone(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let of_a = world.store.create_ci(&anna, None, vm(a.id, "web")).await.unwrap();
    let of_b = world.store.create_ci(&bert, None, vm(b.id, "web")).await.unwrap();

    let seen = world.store.cis(&anna, &CiFilter::default(), &all()).await.unwrap();
    assert_eq!(seen.items, [of_a]);
    let asked = CiFilter { tenant: Some(b.id), ..CiFilter::default() };
    assert_eq!(world.store.cis(&anna, &asked, &all()).await.unwrap().items, []);
    assert_eq!(world.store.ci_counts(&anna).await.unwrap(), [(Class::Vm, 1)]);
    assert_eq!(world.store.tenants(&anna, &all()).await.unwrap().items, std::slice::from_ref(&a));
    let people = world.store.users(&anna, &all()).await.unwrap().items;
    assert!(people.iter().all(|user| user.tenant == a.id));

    let refusals = [
        world.store.ci(&anna, of_b.id).await.unwrap_err(),
        world.store.alter_ci(&anna, of_b.id, None, CiAlteration::default()).await.unwrap_err(),
        world.store.retire_ci(&anna, of_b.id, None).await.unwrap_err(),
        world.store.relations(&anna, of_b.id).await.unwrap_err(),
        world.store.tenant(&anna, b.id).await.unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, StoreError::NotFound { .. }), "{refused}");
    }
    let everything = world.store.cis(&world.admin, &CiFilter::default(), &all()).await.unwrap();
    assert_eq!(everything.items.len(), 2);
    let events = world.store.events(&anna, store::Retrieval::Events, 0, 1000).await.unwrap();
    assert!(events.iter().all(|event| event.tenant == a.id));
}

async fn nobody_acts_for_another_tenant(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let anna = world.owner(&a).await;

    let refused = world.store.create_ci(&anna, None, vm(b.id, "web")).await.unwrap_err();

    assert!(matches!(refused, StoreError::NotFound { what: "tenant", .. }), "{refused}");
    let strangers = person(b.id, "eve", Role::TenantViewer);
    let refused = world.store.create_user(&anna, None, strangers).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotFound { what: "tenant", .. }), "{refused}");
    let wrong_side = person(b.id, "mallory", Role::Operator);
    let refused = world.store.create_user(&world.admin, None, wrong_side).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
}

async fn relations_stay_within_a_tenant_or_lead_to_the_provider(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let host = NewCi { class: Class::Hypervisor, ..vm(domain::cloud::PROVIDER, "node-1") };
    let host = world.store.create_ci(&world.admin, None, host).await.unwrap();
    let web = world.store.create_ci(&world.admin, None, vm(a.id, "web")).await.unwrap();
    let db = world.store.create_ci(&world.admin, None, vm(a.id, "db")).await.unwrap();
    let other = world.store.create_ci(&world.admin, None, vm(b.id, "web")).await.unwrap();
    let relate = |from, kind, to| world.store.relate(&world.admin, Relation { from, kind, to });

    relate(web.id, RelationKind::RunsOn, host.id).await.unwrap();
    relate(web.id, RelationKind::DependsOn, db.id).await.unwrap();
    relate(web.id, RelationKind::DependsOn, db.id).await.unwrap();

    let refused = relate(web.id, RelationKind::DependsOn, other.id).await.unwrap_err();
    assert!(refused.to_string().contains("different tenants"), "{refused}");
    let refused = relate(db.id, RelationKind::DependsOn, web.id).await.unwrap_err();
    assert!(refused.to_string().contains("circle"), "{refused}");
    relate(db.id, RelationKind::ConnectsTo, web.id).await.unwrap();
    relate(web.id, RelationKind::ConnectsTo, db.id).await.unwrap();
    let of_web = world.store.relations(&world.admin, web.id).await.unwrap();
    assert_eq!(of_web.len(), 4);

    let (mut listed, mut request) = (Vec::new(), PageRequest { after: None, limit: 1 });
    loop {
        let page = world.store.all_relations(&world.admin, &request).await.unwrap();
        listed.extend(page.items);
        match page.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    assert_eq!(listed.len(), of_web.len());
    assert!(of_web.iter().all(|relation| listed.contains(relation)));
    let bert = world.owner(&b).await;
    assert_eq!(world.store.all_relations(&bert, &request).await.unwrap().items, []);
}

async fn lists_come_in_pages_without_gap_or_double(world: World) {
    let mut expected = BTreeSet::new();
    for slug in ["a", "b", "c"] {
        let tenant = world.tenant(slug).await;
        for number in 0..7 {
            let new = vm(tenant.id, &format!("vm-{number}"));
            expected.insert(world.store.create_ci(&world.admin, None, new).await.unwrap().id);
        }
    }

    let mut seen = Vec::new();
    let mut request = PageRequest { after: None, limit: 4 };
    loop {
        let page = world.store.cis(&world.admin, &CiFilter::default(), &request).await.unwrap();
        assert!(page.items.len() <= 4);
        seen.extend(page.items.iter().map(|ci| ci.id));
        match page.next {
            // As a caller would send it back.
            Some(next) => request.after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }

    assert_eq!(seen.len(), 21);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn filters_find_what_they_say(world: World) {
    let a = world.tenant("a").await;
    let labelled = NewCi {
        labels: [("env".parse().unwrap(), "prod".to_owned())].into(),
        ..vm(a.id, "Web_100%")
    };
    let web = world.store.create_ci(&world.admin, None, labelled).await.unwrap();
    let new = NewCi { class: Class::Image, ..vm(a.id, "web image") };
    let image = world.store.create_ci(&world.admin, None, new).await.unwrap();
    let gone = world.store.create_ci(&world.admin, None, vm(a.id, "gone")).await.unwrap();
    world.store.retire_ci(&world.admin, gone.id, Some(1)).await.unwrap();
    let names = |filter| async {
        let filter = filter;
        let page = world.store.cis(&world.admin, &filter, &all()).await.unwrap();
        page.items.into_iter().map(|ci| ci.id).collect::<Vec<_>>()
    };

    let none = CiFilter::default;
    assert_eq!(names(none()).await, [web.id, image.id]);
    assert_eq!(names(CiFilter { retired: true, ..none() }).await.len(), 3);
    assert_eq!(names(CiFilter { class: Some(Class::Image), ..none() }).await, [image.id]);
    assert_eq!(names(CiFilter { name: Some("WEB".into()), ..none() }).await, [web.id, image.id]);
    assert_eq!(names(CiFilter { name: Some("_1".into()), ..none() }).await, [web.id]);
    assert_eq!(names(CiFilter { name: Some("0%".into()), ..none() }).await, [web.id]);
    let label = |value: &str| Some(("env".parse().unwrap(), value.to_owned()));
    assert_eq!(names(CiFilter { label: label("prod"), ..none() }).await, [web.id]);
    assert_eq!(names(CiFilter { label: label("test"), ..none() }).await, []);
}

async fn a_token_is_taken_back_by_its_person_or_by_whoever_may(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let viewer = person(a.id, "victor", Role::TenantViewer);
    let victor = actor(&world.store.create_user(&anna, None, viewer).await.unwrap());
    let hour = jiff::SignedDuration::from_hours(1);
    let new = || NewToken {
        name: "x".parse().unwrap(),
        access: Access::Write,
        lifetime: hour,
        is_strong: false,
    };
    let (of_anna, _) = world.store.create_token(&anna, new()).await.unwrap();
    let (of_victor, _) = world.store.create_token(&victor, new()).await.unwrap();

    let refused = world.store.revoke_token(&victor, Whose::Own, of_anna.id).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotFound { .. }), "{refused}");
    world.store.revoke_token(&anna, Whose::Anybodys, of_victor.id).await.unwrap();
    world.store.revoke_token(&anna, Whose::Own, of_anna.id).await.unwrap();
}
