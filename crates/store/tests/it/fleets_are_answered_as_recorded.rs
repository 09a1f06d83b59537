//! All items of a tenant, or of a group, at a time, and what altered across them: as each of them was recorded, whatever
//! was sealed, taken by retention or erased since, and however long the pages are.

use std::collections::{BTreeMap, BTreeSet};

use domain::cloud::CiId;
use jiff::{SignedDuration, Timestamp};
use store::{
    Across, Actor, CiAlteration, Environment as _, FilePath, NewGroup, Page, PageRequest, Past,
    Placed, Selector, StoreError,
};

use crate::support::history::{Answer, Remembering};
use crate::support::{World, vm};

on_both_engines! {
    any_time_of_a_tenant_is_as_its_items_were
    of_a_group_are_those_that_belong_to_it
    nobody_asks_across_another_tenants_items
}

/// What happens to the history of one engine.
const STEPS: u64 = 120;

type Told<T> = BTreeMap<(CiId, FilePath), Option<T>>;

/// All pages, of a length; where they end, and that nothing is told twice.
async fn all<T>(
    limit: u16,
    ask: impl AsyncFn(PageRequest) -> Past<Page<Placed<T>>>,
) -> Past<Told<T>> {
    let (mut told, mut after) = (BTreeMap::new(), None);
    loop {
        let page = match ask(PageRequest { after, limit }).await {
            Past::Kept(page) => page,
            Past::Erased => return Past::Erased,
            Past::Forgotten { kept_from } => return Past::Forgotten { kept_from },
        };
        assert!(page.items.len() <= usize::from(limit));
        for it in page.items {
            assert!(it.ci_name.starts_with("web-"), "{}", it.ci_name);
            assert!(told.insert((it.ci, it.path), it.told).is_none(), "told twice");
        }
        after = page.next;
        if after.is_none() {
            return Past::Kept(told);
        }
    }
}

async fn any_time_of_a_tenant_is_as_its_items_were(world: World) {
    let mut it = Remembering::new(world, 77).await;
    for step in 0..STEPS {
        match it.random.below(100) {
            0..13 => it.seal().await,
            13..16 if step > STEPS / 3 => {
                let instants = it.instants();
                let oldest = it.random.below(instants.len() as u64 / 3);
                it.forget(instants[usize::try_from(oldest).unwrap()]).await;
            }
            16..18 if step > STEPS / 3 => {
                let number = 1 + i64::try_from(it.random.below(6)).unwrap();
                it.erase(number).await;
            }
            _ => it.record().await,
        }
    }
    let which = Across { tenant: Some(it.tenant), ..Across::default() };
    let (history, owner) = (it.history.clone(), it.owner.clone());
    let mut instants = it.instants();
    instants.push(it.world.environment.now());
    let (mut erased, mut forgotten, mut asked) = (0, 0, 0);
    for _ in 0..150 {
        let mut pick =
            || instants[usize::try_from(it.random.below(instants.len() as u64)).unwrap()];
        let (one, other) = (pick(), pick());
        let limit = 1 + u16::try_from(it.random.below(20)).unwrap();

        let found = all(limit, async |page| {
            history.files_across(&owner, &which, one, &page).await.unwrap()
        });
        let differing = all(limit, async |page| {
            history.differences_across(&owner, &which, (one, other), &page).await.unwrap()
        });
        let (found, differing) = (found.await, differing.await);

        asked += 1;
        if one < it.kept_from || one.min(other) < it.kept_from {
            let kept_from = it.kept_from;
            assert_eq!(matches!(found, Past::Forgotten { .. }), one < kept_from);
            assert!(matches!(differing, Past::Forgotten { .. }));
            forgotten += 1;
            continue;
        }
        let (Past::Kept(mut found), Past::Kept(mut differing)) = (found, differing) else {
            panic!()
        };
        for (ci, path) in it.oracle.keys() {
            let place = (it.cis[*ci], path.clone());
            let (then, later) = (it.expected(*ci, path, one), it.expected(*ci, path, other));
            match (found.remove(&place), &then) {
                (None, Answer::Absent) => {}
                (Some(None), Answer::Erased) => erased += 1,
                (Some(Some(version)), Answer::Content(content, mode)) => {
                    let at = it.history.file_at(&it.owner, it.cis[*ci], path, one).await.unwrap();
                    let Past::Kept(Some(at)) = at else { panic!() };
                    assert_eq!(
                        (at.content.as_ref(), version.recorded_at),
                        (Some(content), at.recorded_at)
                    );
                    let is_it = matches!(&version.state, store::State::Present { metadata, .. } if metadata.mode == *mode);
                    assert!(is_it && version.state == at.state, "{version:?}");
                }
                other => panic!("{path} at {one}: {other:?}"),
            }
            let differs = differing.remove(&place);
            let is_erased = then == Answer::Erased || later == Answer::Erased;
            match differs {
                Some(None) => assert!(is_erased, "{path} from {one} to {other}"),
                Some(Some(difference)) => {
                    assert_ne!(then, later, "{path} from {one} to {other}");
                    assert_eq!(difference.before.is_none(), then == Answer::Absent);
                    assert_eq!(difference.after.is_none(), later == Answer::Absent);
                }
                // What was recorded last before both was the same at both, though nobody knows what.
                None => assert!(then == later, "{path} from {one} to {other}: {then:?}, {later:?}"),
            }
        }
        assert!(found.is_empty() && differing.is_empty());
    }
    assert!(erased > 0 && forgotten > 0 && forgotten < asked, "{erased} {forgotten}");
}

async fn of_a_group_are_those_that_belong_to_it(world: World) {
    let mut it = Remembering::new(world, 3).await;
    let (store, admin) = (it.world.store.clone(), it.world.admin.clone());
    for _ in 0..30 {
        it.record().await;
    }
    let labels = |tier: &str| [("tier".parse().unwrap(), tier.to_owned())].into();
    let alteration = CiAlteration { labels: Some(labels("front")), ..CiAlteration::default() };
    for ci in &it.cis[1..] {
        store.alter_ci(&admin, *ci, None, alteration.clone()).await.unwrap();
    }
    let selector = Selector { class: None, labels: labels("front") };
    let (tenant, description) = (it.tenant, String::new());
    let group = NewGroup { tenant, name: "front".parse().unwrap(), description, selector };
    let group = store.create_group(&admin, None, group).await.unwrap().id;
    let ask = async |which: Across, at: Timestamp| {
        let found = all(7, async |page| {
            it.history.files_across(&it.owner, &which, at, &page).await.unwrap()
        });
        let Past::Kept(found) = found.await else { panic!() };
        found.into_keys().collect::<Vec<_>>()
    };
    let of_group =
        |below: &str| Across { group: Some(group), below: below.to_owned(), ..Across::default() };
    let now = store.environment().now();

    let found = ask(of_group(""), now).await;

    let items: BTreeSet<_> = found.iter().map(|(ci, _)| *ci).collect();
    assert_eq!(items, it.cis[1..].iter().copied().collect());
    let below = ask(of_group("/etc/d1/"), now).await;
    let meant = found.iter().filter(|(_, path)| path.as_str().starts_with("/etc/d1/"));
    assert_eq!(below, meant.cloned().collect::<Vec<_>>());
    assert!(!below.is_empty() && below.len() < found.len());

    // What left the cloud is told of the time when it was there.
    store.retire_ci(&admin, it.cis[1], None).await.unwrap();
    it.world.environment.pass(SignedDuration::from_secs(1));
    let later = ask(of_group(""), store.environment().now()).await;
    assert!(later.iter().all(|(ci, _)| *ci == it.cis[2]) && !later.is_empty());
    assert_eq!(ask(of_group(""), now).await, found);

    // More items than one page looks at, most of them without a file.
    for number in 100..230 {
        let new = vm(tenant, &format!("web-{number}"));
        store.create_ci(&admin, None, new).await.unwrap();
    }
    let last = vm(tenant, "web-last");
    let last = store.create_ci(&admin, None, last).await.unwrap().id;
    let path = FilePath::new("/etc/motd").unwrap();
    let told = crate::support::history::file(path.clone(), Some((b"x".to_vec(), 0o644)));
    it.history.record(&it.owner, last, vec![told]).await.unwrap();
    let all = ask(Across { tenant: Some(tenant), ..Across::default() }, store.environment().now());
    assert!(all.await.contains(&(last, path)));
}

async fn nobody_asks_across_another_tenants_items(world: World) {
    let mut it = Remembering::new(world, 5).await;
    for _ in 0..10 {
        it.record().await;
    }
    let other = it.world.tenant("other").await;
    let stranger = it.world.owner(&other).await;
    let (now, page) = (it.world.environment.now(), PageRequest { after: None, limit: 9 });
    let ask =
        async |by: &Actor, which: Across| it.history.files_across(by, &which, now, &page).await;
    let of_tenant = |tenant| Across { tenant: Some(tenant), ..Across::default() };

    let found = ask(&stranger, of_tenant(it.tenant)).await;
    assert!(matches!(found, Err(StoreError::NotFound { .. })), "{found:?}");
    let nothing = ask(&stranger, of_tenant(other.id)).await.unwrap();
    assert_eq!(nothing, Past::Kept(Page { items: Vec::new(), next: None }));
    let unsaid = ask(&it.owner, Across::default()).await;
    assert!(matches!(unsaid, Err(StoreError::Refused { .. })), "{unsaid:?}");
    let Past::Kept(found) = ask(&it.world.admin, of_tenant(it.tenant)).await.unwrap() else {
        panic!()
    };
    assert!(!found.items.is_empty());
}
