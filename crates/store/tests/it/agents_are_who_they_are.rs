//! Agents and their tokens on both engines.

use crate::support::{World, package_set, vm};
use domain::agent::Facts;
use domain::cloud::{Class, EventKind};
use domain::fleet::SetDigest;
use jiff::SignedDuration;
use store::{
    Actor, AgentSeen, AgentState, Joining, KeyHash, Labels, NewJoinToken, PageRequest, Secret,
    StoreError, Tenant,
};

on_both_engines! {
    a_token_lets_in_as_often_as_it_says_and_not_longer
    a_token_is_bound_to_its_tenant
    an_agent_speaks_of_its_own_item_alone
    numbers_and_times_only_rise
    a_conflict_is_recorded_once_and_makes_the_item_unknown
}

fn token(tenant: &Tenant, uses: u32) -> NewJoinToken {
    NewJoinToken {
        tenant: tenant.id,
        ci: None,
        class: Class::Vm,
        labels: Labels::new(),
        uses,
        lifetime: SignedDuration::from_hours(1),
    }
}

fn joining(world: &World, token: &Secret, name: &str, key: u8) -> Joining {
    let now = store::Environment::now(&*world.environment);
    Joining {
        token: token.clone(),
        name: name.parse().unwrap(),
        key: KeyHash::from([key; 32]),
        expires_at: now + SignedDuration::from_hours(720),
    }
}

async fn a_token_lets_in_as_often_as_it_says_and_not_longer(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let (made, secret) = world.store.create_join_token(&anna, token(&a, 2)).await.unwrap();
    assert_eq!(made.uses, 2);
    for (name, key) in [("one", 1), ("two", 2)] {
        world.store.join(joining(&world, &secret, name, key)).await.unwrap();
    }
    let spent = world.store.join(joining(&world, &secret, "three", 3)).await;
    assert!(matches!(spent, Err(StoreError::Refused { .. })), "{spent:?}");

    let (_, late) = world.store.create_join_token(&anna, token(&a, 1)).await.unwrap();
    // A name that is taken spends nothing.
    let taken = world.store.join(joining(&world, &late, "one", 4)).await;
    assert!(matches!(taken, Err(StoreError::Exists { .. })), "{taken:?}");
    world.environment.pass(SignedDuration::from_hours(1));
    let expired = world.store.join(joining(&world, &late, "four", 4)).await;
    assert!(matches!(expired, Err(StoreError::Refused { .. })), "{expired:?}");
    for (uses, lifetime) in [(0, 1), (100_001, 1), (1, 0), (1, 200)] {
        let lifetime = SignedDuration::from_hours(lifetime);
        let odd = NewJoinToken { lifetime, ..token(&a, uses) };
        assert!(world.store.create_join_token(&anna, odd).await.is_err(), "{uses} {lifetime}");
    }
}

async fn a_token_is_bound_to_its_tenant(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (anna, bert) = (world.owner(&a).await, world.owner(&b).await);
    let web = world.store.create_ci(&bert, None, vm(b.id, "web")).await.unwrap();

    assert!(world.store.create_join_token(&anna, token(&b, 1)).await.is_err());
    for tenant in [&a, &b] {
        let theirs = NewJoinToken { ci: Some(web.id), ..token(tenant, 1) };
        assert!(world.store.create_join_token(&anna, theirs).await.is_err());
    }
    let (_, secret) = world.store.create_join_token(&anna, token(&a, 1)).await.unwrap();
    let (agent, _) = world.store.join(joining(&world, &secret, "web", 1)).await.unwrap();
    assert_eq!(agent.tenant, a.id);
    assert!(world.store.agent(&bert, agent.id).await.is_err());
    assert!(world.store.revoke_agent(&bert, agent.id).await.is_err());
    let all = PageRequest { after: None, limit: 10 };
    assert_eq!(world.store.agents(&bert, &all).await.unwrap().items, []);
    assert_eq!(world.store.agents(&anna, &all).await.unwrap().items.len(), 1);
}

async fn an_agent_speaks_of_its_own_item_alone(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let other = world.store.create_ci(&anna, None, vm(a.id, "db")).await.unwrap();
    let (_, secret) = world.store.create_join_token(&anna, token(&a, 1)).await.unwrap();
    let (agent, _) = world.store.join(joining(&world, &secret, "web", 1)).await.unwrap();
    let by = Actor::Agent { agent: agent.id, tenant: a.id, ci: agent.ci };
    let set = package_set(&[("web", "1")]);
    let now = store::Environment::now(&*world.environment);
    world.store.add_package_set(&by, a.id, set.clone()).await.unwrap();

    assert!(world.store.observe(&by, agent.ci, set.digest(), now).await.unwrap());
    assert!(world.store.observe(&by, other.id, set.digest(), now).await.is_err());
    world.store.record_facts(&by, agent.ci, Facts::default()).await.unwrap();
    assert!(world.store.record_facts(&by, other.id, Facts::default()).await.is_err());
    let known = world.store.agent_by_key(agent.key).await.unwrap().unwrap();
    assert_eq!(known.package_set, Some(set.digest()));
    assert_eq!(known.facts, Some(Facts::default().digest()));
    assert_eq!(world.store.facts(&anna, agent.ci).await.unwrap().unwrap().0, Facts::default());
}

async fn numbers_and_times_only_rise(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let (_, secret) = world.store.create_join_token(&anna, token(&a, 1)).await.unwrap();
    let (agent, _) = world.store.join(joining(&world, &secret, "web", 1)).await.unwrap();
    let seen = |counter, hours| AgentSeen {
        agent: agent.id,
        ci: agent.ci,
        counter,
        report: Some(SetDigest::from([u8::try_from(counter).unwrap(); 32])),
        at: agent.joined_at + SignedDuration::from_hours(hours),
        returns: 0,
    };
    // Two processes make durable what they know, the one that knows less last.
    world.store.note_agents(vec![seen(7, 2)]).await.unwrap();
    world.store.note_agents(vec![seen(5, 1)]).await.unwrap();

    let after = world.store.agent(&anna, agent.id).await.unwrap();
    assert_eq!((after.counter, after.seen_at), (7, seen(7, 2).at));
    let known = world.store.agent_by_key(agent.key).await.unwrap().unwrap();
    assert_eq!(known.last_report, seen(7, 2).report);
}

async fn a_conflict_is_recorded_once_and_makes_the_item_unknown(world: World) {
    let a = world.tenant("a").await;
    let anna = world.owner(&a).await;
    let (_, secret) = world.store.create_join_token(&anna, token(&a, 1)).await.unwrap();
    let (agent, _) = world.store.join(joining(&world, &secret, "web", 1)).await.unwrap();
    let ci = world.store.ci(&anna, agent.ci).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1")])).await;
    for _ in 0..2 {
        let after = world.store.quarantine_agent(agent.id, "a copy").await.unwrap();
        assert_eq!(after.state, AgentState::Quarantined);
    }
    // What it is heard to say now does not make it known again.
    let late = agent.joined_at + SignedDuration::from_hours(1);
    let seen = |agent, ci| AgentSeen { agent, ci, counter: 9, report: None, at: late, returns: 0 };
    world.store.note_agents(vec![seen(agent.id, agent.ci)]).await.unwrap();
    let report = serde_json::from_value(serde_json::json!({
        "schema": "patchwright.check/1", "target": "", "checked_at": late,
        "os": { "id": "debian", "id_like": [], "version_id": "12", "codename": "bookworm",
            "pretty_name": "Debian 12" },
        "architecture": "amd64", "packages": 1, "sources": [],
        "policy": { "name": "default", "version": "1.0.0" },
        "status": "latest", "findings": [], "unfixed": [], "unknown": [],
    }))
    .unwrap();
    world.checked(&ci, report).await;
    let totals = world.store.check_totals(&anna, agent.joined_at).await.unwrap();
    assert_eq!((totals.latest, totals.silent), (0, 1));

    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let counts = world.store.event_counts().await.unwrap();
    let conflicts: u64 =
        counts.iter().filter(|it| it.1 == EventKind::AgentConflict).map(|it| it.2).sum();
    assert_eq!(conflicts, 1);
    let revoked = world.store.revoke_agent(&anna, agent.id).await.unwrap();
    assert_eq!(revoked.state, AgentState::Revoked);
}
