//! The console's pages about what both sides agreed to: the SLA, and what a tenant signs with and agreed to
//! ahead.

use std::collections::BTreeSet;

use domain::change::{
    Disruption, KeyId, Kind, Nonce, Payload as _, Scope, StandingRule, Verified, WeeklyWindow,
};
use domain::cloud::{Access, PROVIDER, Role};
use domain::priority::Priority;
use serde_json::json;
use store::{Actor, Environment as _, PolicyState};

use crate::support::World;
use crate::support::case::{Case, DAY, KEY, done};

async fn look(world: &World, token: &str, path: &str) -> String {
    let page = world.ask(token, "GET", path, None).await;
    assert_eq!(page.status, 200, "{path}: {}", page.text);
    page.text
}

#[tokio::test]
async fn an_sla_is_read_in_words_and_agreed_to_by_the_other_side() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let owner = world.token(a, Role::TenantOwner, Access::Write).await;
    let viewer = world.token(a, Role::TenantViewer, Access::Read).await;
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let page = look(&world, &viewer, "/sla").await;
    for expected in [
        "The SLA of a",
        "x1642-default",
        "the default that Patchwright ships",
        "Notice until the earliest start",
        "asked; silence approves after 5d",
        "asked for 24d; silence waits",
        "told before, not asked",
        "2 × 14d",
        "50 %, 75 %, 100 %",
        "In an emergency",
        "None was proposed yet",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }

    let path = format!("/api/v1/policies/{a}");
    let document = "version = \"a-<b>1\"\nmedium.deferrals = { count = 0 }\n";
    let hostile = world.ask(&owner, "POST", &path, Some(json!({ "document": document }))).await;
    let document = "version = \"a-1\"\nmedium.deferrals = { count = 0 }\n";
    let proposed = world.ask(&owner, "POST", &path, Some(json!({ "document": document }))).await;
    assert_eq!(proposed.status, 201, "{}", proposed.text);
    let own = look(&world, &owner, "/sla").await;
    assert!(own.contains("waits for the other side"), "{own}");
    assert!(!own.contains("Agree for the") && !own.contains("<b>1"), "{} {own}", hostile.text);
    assert!(own.contains("<code>medium.deferrals.count</code> changes from 1 to 0"), "{own}");
    let agree = format!("/sla/{a}/agree");
    assert_eq!(world.submit(&owner, &agree, "version=a-1").await.status, 422, "not one's own");
    assert_eq!(world.submit(&viewer, &agree, "version=a-1").await.status, 403);
    let stranger = world.token(b, Role::TenantOwner, Access::Write).await;
    assert_eq!(world.submit(&stranger, &agree, "version=a-1").await.status, 404);
    assert_eq!(world.ask(&stranger, "GET", &format!("/sla?tenant={a}"), None).await.status, 404);
    assert_eq!(world.ask(&stranger, "GET", "/sla?tenant=a", None).await.status, 404);

    let theirs = look(&world, &root, "/sla?tenant=a").await;
    assert!(theirs.contains("2 proposals wait for your side"), "{theirs}");
    assert!(theirs.contains("Agree for the provider") && theirs.contains(&agree), "{theirs}");
    assert!(theirs.contains(&format!("agree a-1 --tenant {a}")), "{theirs}");
    let agreed = world.submit(&root, &agree, "version=a-1").await;
    assert_eq!(agreed.status, 303, "{}", agreed.text);
    let versions = world.store.policy_versions(&world.admin, a).await.unwrap();
    let agreed = versions.iter().find(|it| it.policy.version == "a-1").unwrap();
    assert_eq!(agreed.state, PolicyState::Agreed);
    let page = look(&world, &viewer, "/sla").await;
    assert!(page.contains("agreed by both sides, in force since"), "{page}");
    assert!(page.contains("✓ in force"), "{page}");
    let default = look(&world, &root, "/sla").await;
    assert!(
        default.contains("The default SLA of all tenants") && !default.contains("a-1"),
        "{default}"
    );
}

fn rule(case: &Case, world: &World, nonce: u8) -> StandingRule {
    let now = world.clock.now();
    StandingRule {
        tenant: case.tenant,
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Low, Priority::Medium]),
        items: Scope::These { items: BTreeSet::from([case.ci]) },
        disruption: Disruption::Restarts,
        windows: vec![WeeklyWindow { begins: 24 * 60 + 120, minutes: 240 }],
        from: now,
        until: now + DAY * 90,
        given_at: now,
        nonce: Nonce::from([nonce; 16]),
    }
}

#[tokio::test]
async fn what_is_agreed_ahead_is_read_in_words_and_taken_back() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = world.tenant("b").await;
    let viewer = world.token(case.tenant, Role::TenantViewer, Access::Read).await;
    let page = look(&world, &viewer, "/consent").await;
    assert!(page.contains("a agrees to each plan by itself."), "{page}");
    assert!(page.contains("No rule was given"), "{page}");
    let rule = rule(&case, &world, 5);
    let signed = Verified::signed_by(KeyId::from(KEY), &rule.to_payload()).unwrap();
    let kept = world.store.add_rule(&case.person, case.tenant, signed, "{}".to_owned()).await;
    done(kept.unwrap());

    let page = look(&world, &viewer, "/consent").await;
    for expected in [
        "a agrees ahead by 1 rule.",
        "Agrees to patches of low and medium priority",
        "web-of-a",
        "services, which may restart; the system does not",
        "tue 02:00 UTC for 4h",
        "✓ counts",
        "070707070707",
        "✓ in force",
        "ed25519",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("Take it back") && !page.contains("Revoke"), "{page}");

    // The provider's people look, and touch nothing; another tenant's do not even see it.
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let seen = look(&world, &root, "/consent?tenant=a").await;
    assert!(seen.contains("tue 02:00 UTC") && !seen.contains("Take it back"), "{seen}");
    let stranger = world.token(other, Role::TenantOwner, Access::Write).await;
    for path in ["/consent?tenant=a".to_owned(), format!("/consent?tenant={}", case.tenant)] {
        assert_eq!(world.ask(&stranger, "GET", &path, None).await.status, 404, "{path}");
    }
    let (taken, lost) = (format!("nonce={}", rule.nonce), format!("key={}", KeyId::from(KEY)));
    for (token, rules, keys) in [(&viewer, 403, 403), (&root, 403, 403), (&stranger, 404, 422)] {
        assert_eq!(world.submit(token, "/consent/withdraw", &taken).await.status, rules);
        assert_eq!(world.submit(token, "/consent/revoke", &lost).await.status, keys);
    }

    let own = look(&world, &case.owner, "/consent").await;
    assert!(own.contains("Take the rule back") && own.contains("Revoke it"), "{own}");
    assert_eq!(world.submit(&case.owner, "/consent/withdraw", &taken).await.status, 303);
    let page = look(&world, &case.owner, "/consent").await;
    assert!(page.contains("– withdrawn") && !page.contains("Take the rule back"), "{page}");
    assert_eq!(world.submit(&case.owner, "/consent/revoke", &lost).await.status, 303);
    let page = look(&world, &case.owner, "/consent").await;
    assert!(page.contains("✗ revoked") && page.contains("a has no key to sign with."), "{page}");
    assert!(matches!(case.person, Actor::Person { .. }));
}

#[tokio::test]
async fn the_way_to_contracts_is_where_people_look() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let obligation = format!("/obligations/{}/{}", case.change.change.id, case.tenant);
    let change = format!("/changes/{}", case.change.change.id);
    for path in ["/", &change, &obligation] {
        let page = look(&world, &case.owner, path).await;
        assert!(page.contains("href=\"/sla") && page.contains("href=\"/consent"), "{path}: {page}");
    }
    let page = look(&world, &case.owner, &obligation).await;
    let link = format!("/sla?tenant={}", case.tenant);
    assert!(page.contains(&link), "{page}");
    assert!(look(&world, &case.owner, &link).await.contains("The SLA of a"));
}
