//! What is said to a change has its bounds and its author, and what one side says alone binds nobody.

use domain::cloud::PROVIDER;
use domain::sla::Policy;
use store::{Actor, ClockFilter, Move, StoreError};

use crate::changes_and_their_clocks::{ALL, DAY, done, lacking, now, report, wake};
use crate::support::{World, package_set, vm};

on_both_engines! {
    what_nobody_agreed_to_governs_nothing
    a_name_of_a_policy_means_one_text
    what_is_late_is_found_whoever_looked
}

/// The shipped default under another version, with so many days for what is medium.
fn default_as(version: &str, days: u8) -> Policy {
    let text = format!("version = \"{version}\"\nmedium.deadline = \"{days}d\"");
    Policy::builtin("x1642-default").unwrap().negotiate(&text).unwrap()
}

async fn what_nobody_agreed_to_governs_nothing(world: World) {
    let tenant = world.tenant("a").await;
    let owner = world.owner(&tenant).await;
    let theirs = default_as("2027-1", 60);
    world.store.propose_policy(&owner, tenant.id, theirs).await.unwrap();
    let ours = default_as("2027-1", 30);
    world.store.propose_policy(&world.admin, PROVIDER, ours.clone()).await.unwrap();

    let ci = world.store.create_ci(&owner, None, vm(tenant.id, "web")).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(&world), &[("web", "2", "medium")])).await;
    world.store.open_obligations(10).await.unwrap();

    let change = world.store.changes(&world.admin, &ALL).await.unwrap().items[0].change.id;
    let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
    assert_eq!(matter.policy.to_toml(), ours.to_toml(), "a proposal is nobody's agreement");
    let late = world.store.agree_to_policy(&world.admin, tenant.id, "2027-1".into()).await;
    let late = late.unwrap_err().to_string();
    assert!(late.contains("another policy in force is called x1642-default 2027-1"), "{late}");
    let matter = world.store.matter(&owner, change, tenant.id).await.unwrap();
    assert_eq!(matter.policy.to_toml(), ours.to_toml());
}

async fn a_name_of_a_policy_means_one_text(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let propose = async |world: &World, by: &Actor, tenant, version: &str, days| {
        world.store.propose_policy(by, tenant, default_as(version, days)).await
    };
    let is_taken =
        |outcome: Result<_, StoreError>| matches!(outcome, Err(StoreError::Exists { .. }));

    // What the provider publishes takes its name from tenants, and so does what is shipped.
    propose(&world, &world.admin, PROVIDER, "1", 30).await.unwrap();
    assert!(is_taken(propose(&world, &anna, a.id, "1", 40).await));
    let shipped = Policy::builtin("x1642-default").unwrap().clone();
    assert!(is_taken(world.store.propose_policy(&anna, a.id, shipped.clone()).await));
    assert!(is_taken(world.store.propose_policy(&world.admin, PROVIDER, shipped).await));

    // Two tenants may call theirs alike; the provider may not call its default like one of them.
    for (by, tenant) in [(&anna, a.id), (&bert, b.id)] {
        propose(&world, by, tenant, "2", 40).await.unwrap();
        world.store.agree_to_policy(&world.admin, tenant, "2".into()).await.unwrap();
    }
    assert!(is_taken(propose(&world, &world.admin, PROVIDER, "2", 30).await));
    propose(&world, &world.admin, PROVIDER, "3", 30).await.unwrap();
}

async fn what_is_late_is_found_whoever_looked(world: World) {
    let case = lacking(&world, "critical").await;
    let asked = async |world: &World, overdue, unknown, settled| {
        let filter = ClockFilter { overdue, unknown, settled, ..ClockFilter::default() };
        let found = world.store.clocks(&case.owner, &filter, 100).await.unwrap();
        found.iter().map(|clock| clock.standing.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(asked(&world, true, true, false).await, [""; 0]);
    world.environment.pass(DAY * 2);
    assert_eq!(asked(&world, false, true, false).await, ["unknown"], "nobody looked");
    assert_eq!(asked(&world, true, false, false).await, [""; 0]);
    assert_eq!(asked(&world, true, true, false).await, ["unknown"]);
    world.environment.pass(DAY);
    assert_eq!(
        asked(&world, true, false, false).await,
        ["overdue"],
        "its date passed all the same"
    );

    // What was missed and is settled since, is asked for as well.
    wake(&world).await;
    done(case.does(&world, &world.admin, Move::Withdraw).await);
    assert_eq!(asked(&world, true, false, false).await, [""; 0]);
    assert_eq!(asked(&world, true, false, true).await, ["settled"]);
}
