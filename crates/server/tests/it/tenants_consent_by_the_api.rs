//! A tenant's keys, a plan and the answer to it, with nothing but the API; and at the same time as
//! others alter what is answered.

use std::collections::BTreeSet;

use domain::change::{
    Acceptance, Decision, Disruption, Kind, Nonce, Payload as _, Plan, Scope, StandingRule,
    Statement, WeeklyWindow,
};
use domain::cloud::{Access, Class, PROVIDER, Role, TenantId};
use domain::priority::Priority;
use jiff::SignedDuration;
use ledger::attestation::Attestor;
use serde_json::{Value, json};
use store::{Actor, Environment as _, Labels, NewCi, NewToken};

use crate::support::{self, Answer, World};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A tenant that is asked about a patch of its only item, and both sides' tokens.
struct Asked {
    tenant: TenantId,
    owner: String,
    provider: String,
    ci: String,
    change: String,
    attestor: Attestor,
}

impl Asked {
    async fn new(world: &World, slug: &str) -> Self {
        let tenant = world.tenant(slug).await;
        let owner = world.token(tenant, Role::TenantOwner, Access::Write).await;
        let provider = world.token(PROVIDER, Role::Operator, Access::Write).await;
        Self::of(world, slug, tenant, owner, provider).await
    }

    async fn of(
        world: &World,
        slug: &str,
        tenant: TenantId,
        owner: String,
        provider: String,
    ) -> Self {
        let name = format!("web-of-{slug}").parse().unwrap();
        let new = NewCi { tenant, class: Class::Vm, name, labels: Labels::new() };
        let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
        let body = json!({ "osv": support::osv(&format!("X-{slug}"), "web", "2") });
        let brought = world.ask(&owner, "POST", "/api/v1/advisories", Some(body)).await;
        assert_eq!(brought.status, 201, "{}", brought.text);
        world.observe(ci, tenant, &[("web", "1")]).await;
        world.check_fleet().await;
        world.open_obligations(100).await;
        let changes = world.ask(&owner, "GET", "/api/v1/changes", None).await.json();
        let change = changes["items"][0]["id"].as_str().unwrap().to_owned();
        let attestor = Attestor::new(&[9; 32]);
        let asked = Self { tenant, owner, provider, ci: ci.to_string(), change, attestor };
        let steps = format!("/api/v1/changes/{}/steps", asked.change);
        for body in [json!({ "do": "prove" }), json!({ "do": "pass", "evidence": "03".repeat(32) })]
        {
            let stepped = world.ask(&asked.provider, "POST", &steps, Some(body)).await;
            assert_eq!(stepped.status, 200, "{}", stepped.text);
        }
        wake(world).await;
        asked
    }

    fn path(&self, verb: &str) -> String {
        format!("/api/v1/obligations/{}/{}{verb}", self.change, self.tenant)
    }

    async fn register(&self, world: &World) -> Answer {
        let body = json!({ "public_key": self.attestor.key().to_string(), "label": "laptop" });
        let path = format!("/api/v1/keys/{}", self.tenant);
        world.ask(&self.owner, "POST", &path, Some(body)).await
    }

    fn stages(&self, world: &World, version: &str) -> Value {
        let from = world.clock.now() + DAY * 10;
        let package = |version: &str| {
            json!({ "name": "web", "architecture": "amd64", "version": version,
                "sha256": "01".repeat(32) })
        };
        json!({ "stages": [{
            "window": { "from": from, "until": from + DAY },
            "items": [{
                "ci": self.ci, "duty": "tenant",
                "actions": [{ "do": "upgrade", "packages": [package(version)] }],
                "rollback": { "by": "packages", "packages": [package("1")] },
            }],
        }] })
    }

    /// Makes a plan, tells it, and reads its bytes.
    async fn plan(&self, world: &World, version: &str) -> Plan {
        let stages = self.stages(world, version);
        let planned = world.ask(&self.provider, "POST", &self.path("/plan"), Some(stages)).await;
        assert_eq!(planned.status, 200, "{}", planned.text);
        while world.notices.step().await.unwrap() {}
        let is = self.read(world).await;
        assert!(is["share"]["notified_at"].is_string(), "{is}");
        let hash = is["share"]["plan"].as_str().unwrap().to_owned();
        let bytes = world.ask(&self.owner, "GET", &format!("/api/v1/plans/{hash}"), None).await;
        let plan = Plan::parse(bytes.text.as_bytes()).unwrap();
        assert_eq!(plan.hash().to_string(), hash);
        plan
    }

    async fn read(&self, world: &World) -> Value {
        world.ask(&self.owner, "GET", &self.path(""), None).await.json()
    }

    fn signed(&self, world: &World, plan: &Plan, decision: Decision, nonce: u8) -> Value {
        let statement = Statement {
            change: plan.draft().change,
            plan: plan.hash(),
            tenant: plan.draft().tenant,
            decision,
            given_at: world.clock.now(),
            nonce: Nonce::from([nonce; 16]),
        };
        json!(self.attestor.sign(&statement.to_payload()).unwrap())
    }

    async fn answer(&self, world: &World, envelope: &Value) -> Answer {
        world.ask(&self.owner, "POST", &self.path("/answer"), Some(envelope.clone())).await
    }
}

async fn wake(world: &World) {
    while world.store.wake_obligations(100).await.unwrap().0 > 0 {}
}

#[tokio::test]
async fn a_key_a_plan_and_an_answer() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    let registered = asked.register(&world).await;
    assert_eq!(registered.status, 201, "{}", registered.text);
    assert_eq!(registered.json()[0]["id"], asked.attestor.key().id());
    let again = asked.register(&world).await;
    assert_eq!(again.status, 422, "{}", again.text);
    assert!(again.text.contains("sign an order with a key in force"), "{}", again.text);

    let plan = asked.plan(&world, "2").await;
    let yes = asked.signed(&world, &plan, Decision::Approve, 1);
    let approved = asked.answer(&world, &yes).await;

    assert_eq!(approved.status, 200, "{}", approved.text);
    let approved = approved.json();
    assert_eq!(approved["phase"], "scheduled", "{approved}");
    assert_eq!(approved["clock"]["holder"], "provider", "the ball is the provider's now");
    let consents = world.ask(&asked.owner, "GET", &asked.path("/consents"), None).await.json();
    assert_eq!(consents[0]["decision"], "approve");
    let kept = consents[0]["envelope"].to_string();
    let opened = ledger::attestation::open(kept.as_bytes(), &[asked.attestor.key()]).unwrap();
    assert!(String::from_utf8(opened.payload).unwrap().contains(&plan.hash().to_string()));

    let replayed = asked.answer(&world, &yes).await;
    assert_eq!(replayed.status, 422, "{}", replayed.text);
    assert!(replayed.text.contains("nonce"), "{}", replayed.text);
}

#[tokio::test]
async fn what_is_signed_otherwise_is_refused() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    let plan = asked.plan(&world, "2").await;
    let yes = asked.signed(&world, &plan, Decision::Approve, 1);
    let unknown = asked.answer(&world, &yes).await;
    assert_eq!(unknown.status, 422, "no key is registered yet: {}", unknown.text);
    assert_eq!(asked.register(&world).await.status, 201);

    let mut altered = yes.clone();
    let payload = altered["payload"].as_str().unwrap().to_owned();
    altered["payload"] = json!(payload.replacen('a', "b", 1));
    assert_eq!(asked.answer(&world, &altered).await.status, 422);

    // The provider holds the plan, and not the key; nor may it answer for the tenant at all.
    let theirs =
        world.ask(&asked.provider, "POST", &asked.path("/answer"), Some(yes.clone())).await;
    assert_eq!(theirs.status, 403, "{}", theirs.text);

    let other = asked.plan(&world, "3").await;
    let old = asked.answer(&world, &yes).await;
    assert_eq!(old.status, 422, "{}", old.text);
    assert_eq!(asked.read(&world).await["phase"], "notified", "a yes to another plan is none");
    let yes = asked.signed(&world, &other, Decision::Approve, 2);
    assert_eq!(asked.answer(&world, &yes).await.status, 200);
}

#[tokio::test]
async fn a_no_has_a_reason_and_somebody_who_bears_the_risk() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    assert_eq!(asked.register(&world).await.status, 201);
    let plan = asked.plan(&world, "2").await;
    let acceptance = |days| Acceptance {
        reason: "replaced in January".parse().unwrap(),
        risk_owner: "J. Doe, CISO".parse().unwrap(),
        expiry: world.clock.now() + DAY * days,
    };
    let over = Decision::Refuse { acceptance: acceptance(-1) };
    let over = asked.answer(&world, &asked.signed(&world, &plan, over, 1)).await;
    assert_eq!(over.status, 422, "{}", over.text);

    let no = Decision::Refuse { acceptance: acceptance(30) };
    let no = asked.answer(&world, &asked.signed(&world, &plan, no, 2)).await;
    assert_eq!((no.status.as_u16(), &no.json()["phase"]), (200, &json!("refused")), "{}", no.text);
    let findings = world.ask(&asked.owner, "GET", "/api/v1/findings", None).await.json();
    let acceptance = &findings["items"][0]["acceptance"];
    assert_eq!(acceptance["risk_owner"], "J. Doe, CISO", "{findings}");
    assert!(acceptance["reason"].as_str().unwrap().starts_with("replaced in January (signed by "));
}

#[tokio::test]
async fn what_is_agreed_ahead_needs_no_answer_and_can_be_taken_back() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    assert_eq!(asked.register(&world).await.status, 201);
    let now = world.clock.now();
    // Whole weeks from two days on: whatever day it is, one of them holds the plan's.
    let week = |begins| WeeklyWindow { begins, minutes: 7 * 24 * 60 };
    let rule = StandingRule {
        tenant: asked.tenant,
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Low, Priority::Medium, Priority::High]),
        items: Scope::All,
        disruption: Disruption::Reboots,
        windows: vec![week(0), week(3 * 24 * 60)],
        from: now,
        until: now + DAY * 90,
        given_at: now,
        nonce: Nonce::from([5; 16]),
    };
    let path = format!("/api/v1/rules/{}", asked.tenant);
    let envelope = json!(asked.attestor.sign(&rule.to_payload()).unwrap());
    let agreed = world.ask(&asked.owner, "POST", &path, Some(envelope)).await;
    assert_eq!(agreed.status, 201, "{}", agreed.text);

    asked.plan(&world, "2").await;
    wake(&world).await;
    let is = asked.read(&world).await;
    let lacks = is["share"]["lacks"].to_string();
    assert!(!lacks.contains("consent"), "{lacks}");

    let path = format!("{path}/{}", Nonce::from([5; 16]));
    assert_eq!(world.ask(&asked.owner, "DELETE", &path, None).await.status, 200);
    let lacks = asked.read(&world).await["share"]["lacks"].to_string();
    assert!(lacks.contains("consent"), "{lacks}");
}

#[tokio::test]
async fn a_recovery_is_seen_by_all_of_the_tenants_people() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    assert_eq!(asked.register(&world).await.status, 201);
    let other = world.token(asked.tenant, Role::TenantOwner, Access::Read).await;
    let path = format!("/api/v1/keys/{}/recovery", asked.tenant);
    assert_eq!(world.ask(&other, "GET", &path, None).await.status, 404, "none is under way");
    assert!(!page(&world, &other, "/").await.contains("without a signature"));

    let key = json!({ "public_key": support::PUBLIC_KEY, "label": "new" });
    let early = world.ask(&asked.owner, "POST", &path, Some(key.clone())).await;
    assert_eq!(early.status, 422, "an owner of today: {}", early.text);
    let (owner, other) = (who(&world, &asked.owner).await, who(&world, &other).await);
    world.clock.pass(DAY * 3);
    let (owner, other) = (token(&world, &owner).await, token(&world, &other).await);
    let first = world.ask(&owner, "POST", &path, Some(key)).await;
    assert_eq!(first.status, 200, "{}", first.text);

    let told = world.ask(&other, "GET", &path, None).await.json();
    assert_eq!((&told["agreed_by"], &told["completes_at"]), (&Value::Null, &Value::Null));
    assert!(told["asked_by"].as_str().unwrap().starts_with("usr_"), "{told}");
    for place in ["/", "/clocks"] {
        let seen = page(&world, &other, place).await;
        assert!(seen.contains("A key for your tenant is asked for without a signature"), "{seen}");
    }
    let provider = world.token(PROVIDER, Role::Admin, Access::Write).await;
    assert!(!page(&world, &provider, "/").await.contains("without a signature"));
    assert_eq!(world.ask(&owner, "DELETE", &path, None).await.status, 200);
    assert!(!page(&world, &other, "/").await.contains("without a signature"));
}

/// Whose token it is.
async fn who(world: &World, token: &str) -> Actor {
    let session = world.ask(token, "GET", "/api/v1/session", None).await.json();
    let [user, tenant] = ["user", "tenant"].map(|name| session[name].as_str().unwrap());
    let (user, tenant) = (user.parse().unwrap(), tenant.parse().unwrap());
    Actor::Person { user, tenant, role: Role::TenantOwner }
}

/// A token of now: others ended while time passed.
async fn token(world: &World, by: &Actor) -> String {
    let (name, lifetime) = ("now".parse().unwrap(), SignedDuration::from_hours(1));
    let new = NewToken { name, access: Access::Write, lifetime, is_strong: false };
    world.store.create_token(by, new).await.unwrap().1.reveal().to_owned()
}

/// A page of the console, as whoever has a token.
async fn page(world: &World, token: &str, path: &str) -> String {
    let seen = world.ask(token, "GET", path, None).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    seen.text
}

#[tokio::test]
async fn what_is_signed_has_a_size() {
    let world = World::new().await;
    let asked = Asked::new(&world, "a").await;
    assert_eq!(asked.register(&world).await.status, 201);
    let now = world.clock.now();
    let item = |number: u32| {
        let number = number.to_be_bytes();
        domain::cloud::CiId::of_content(
            [number, number, number, number].concat().try_into().unwrap(),
        )
    };
    let rule = |items: u32| StandingRule {
        tenant: asked.tenant,
        kinds: BTreeSet::from([Kind::Patch]),
        priorities: BTreeSet::from([Priority::Low]),
        items: Scope::These { items: (0..items).map(item).collect() },
        disruption: Disruption::Reboots,
        windows: vec![WeeklyWindow { begins: 0, minutes: 60 }],
        from: now,
        until: now + DAY,
        given_at: now,
        nonce: Nonce::from([6; 16]),
    };
    let path = format!("/api/v1/rules/{}", asked.tenant);
    let send = async |items: u32, padding: usize| {
        let mut envelope = json!(asked.attestor.sign(&rule(items).to_payload()).unwrap());
        envelope["padding"] = json!("x".repeat(padding));
        world.ask(&asked.owner, "POST", &path, Some(envelope)).await
    };
    let long = send(2100, 0).await;
    assert_eq!(long.status, 400, "{}", long.text);
    assert!(long.text.contains("more than 65536"), "{}", long.text);
    let padded = send(1, 200_000).await;
    assert_eq!(padded.status, 413, "{}", padded.text);
    assert_eq!(send(1900, 0).await.status, 201);
}

/// Whoever is faster: a tenant's yes, or the provider's other plan or withdrawal. Never both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_yes_and_what_undoes_it_are_never_both() {
    let world = World::new().await;
    let tenant = world.tenant("racer").await;
    let owner = world.token(tenant, Role::TenantOwner, Access::Write).await;
    let provider = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let (mut yes_first, mut yes_last) = (0, 0);
    for round in 0..12_u8 {
        let slug = format!("r{round}");
        let asked = Asked::of(&world, &slug, tenant, owner.clone(), provider.clone()).await;
        if round == 0 {
            assert_eq!(asked.register(&world).await.status, 201);
        }
        let plan = asked.plan(&world, "2").await;
        let yes = asked.signed(&world, &plan, Decision::Approve, 100 + round);
        let (verb, body) = if round % 2 == 0 {
            ("/withdraw", None)
        } else {
            ("/plan", Some(asked.stages(&world, "3")))
        };
        let path = asked.path(verb);
        let (answered, undone) = tokio::join!(
            asked.answer(&world, &yes),
            world.ask(&asked.provider, "POST", &path, body)
        );

        assert_eq!(undone.status, 200, "{}", undone.text);
        let is = asked.read(&world).await;
        let expected = if round % 2 == 0 { "withdrawn" } else { "planned" };
        assert_eq!(is["phase"], expected, "a yes does not outlive what undid it");
        match answered.status.as_u16() {
            200 => yes_first += 1,
            422 => yes_last += 1,
            status => panic!("{status}: {}", answered.text),
        }
    }
    assert_eq!(yes_first + yes_last, 12);
}
