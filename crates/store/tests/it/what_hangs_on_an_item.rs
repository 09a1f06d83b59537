//! What fails where an item fails, over the shortest way, within what one may see.

use domain::cloud::{CiId, RelationKind};
use store::{Relation, StoreError};

use crate::support::{World, vm};

on_both_engines! {
    what_hangs_on_an_item_is_found_over_any_distance
}

async fn what_hangs_on_an_item_is_found_over_any_distance(world: World) {
    let tenant = world.tenant("acme").await;
    let mut cis = Vec::new();
    for name in ["host", "web", "database", "shop", "cluster", "monitor", "apart"] {
        let new = vm(tenant.id, name);
        cis.push(world.store.create_ci(&world.admin, None, new).await.unwrap().id);
    }
    let [host, web, database, shop, cluster, monitor, apart] = cis[..] else { panic!() };
    let relate = async |from: CiId, kind, to| {
        world.store.relate(&world.admin, Relation { from, kind, to }).await.unwrap();
    };
    relate(web, RelationKind::RunsOn, host).await;
    relate(database, RelationKind::RunsOn, host).await;
    relate(shop, RelationKind::DependsOn, web).await;
    relate(shop, RelationKind::DependsOn, database).await;
    relate(database, RelationKind::MemberOf, cluster).await;
    relate(monitor, RelationKind::ConnectsTo, host).await;
    relate(shop, RelationKind::DependsOn, host).await;

    let owner = world.owner(&tenant).await;
    let found = world.store.affected(&owner, host).await.unwrap();

    let found: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.distance, it.by)).collect();
    let (runs, depends, member) =
        (RelationKind::RunsOn, RelationKind::DependsOn, RelationKind::MemberOf);
    assert_eq!(
        found,
        [("database", 1, runs), ("shop", 1, depends), ("web", 1, runs), ("cluster", 2, member)]
    );
    assert!(world.store.affected(&owner, apart).await.unwrap().is_empty());
    let other = world.tenant("other").await;
    let stranger = world.owner(&other).await;
    let refused = world.store.affected(&stranger, host).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
    assert!(cluster != monitor);
}
