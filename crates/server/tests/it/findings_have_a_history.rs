//! What an item lacks, since when, and who bears the risk; and what a tenant brings.

use crate::support::case::Case;
use crate::support::{self, Answer, World, osv};
use domain::cloud::{Access, CiId, PROVIDER, Role, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A VM of a tenant.
async fn vm(world: &World, token: &str, tenant: TenantId, name: &str) -> CiId {
    let body = json!({ "tenant": tenant, "class": "vm", "name": name });
    let ci = world.ask(token, "POST", "/api/v1/cis", Some(body)).await.json();
    ci["id"].as_str().unwrap().parse().unwrap()
}

async fn bring(world: &World, token: &str, record: Value) -> Answer {
    let body = json!({ "osv": record, "note": "seen in the wild" });
    world.ask(token, "POST", "/api/v1/advisories", Some(body)).await
}

async fn findings(world: &World, token: &str) -> Vec<Value> {
    let list = world.ask(token, "GET", "/api/v1/findings", None).await.json();
    list["items"].as_array().unwrap().clone()
}

fn states(findings: &[Value]) -> Vec<(&str, &str)> {
    let state = |it: &'_ Value, field: &str| -> &'static str {
        it[field].as_str().unwrap().to_owned().leak()
    };
    findings.iter().map(|it| (state(it, "source"), state(it, "state"))).collect()
}

#[tokio::test]
async fn a_finding_opens_is_fixed_and_opens_again() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let owner = world.token(a, Role::TenantOwner, Access::Write).await;
    let ci = vm(&world, &owner, a, "web").await;
    bring(&world, &owner, osv("X-1", "web", "2")).await;

    world.observe(ci, a, &[("web", "1")]).await;
    world.check_fleet().await;
    let open = findings(&world, &owner).await;
    assert_eq!(states(&open), [("web", "open")]);
    assert_eq!((&open[0]["candidate"], &open[0]["reopened"]), (&json!("2"), &json!(0)));

    world.observe(ci, a, &[("web", "2")]).await;
    world.check_fleet().await;
    let fixed = findings(&world, &owner).await;
    assert_eq!(states(&fixed), [("web", "fixed")]);
    assert!(fixed[0]["closed_at"].is_string());

    // A snapshot is restored.
    world.observe(ci, a, &[("web", "1")]).await;
    world.check_fleet().await;
    let again = findings(&world, &owner).await;
    assert_eq!(states(&again), [("web", "open")]);
    assert_eq!(again[0]["reopened"], 1);
    assert_eq!(again[0]["first_seen_at"], open[0]["first_seen_at"]);
    assert_eq!(again[0]["closed_at"], Value::Null);
    assert!(again[0]["opened_at"].as_str() > fixed[0]["opened_at"].as_str());

    let patches = world.ask(&owner, "GET", "/api/v1/patches", None).await.json();
    assert_eq!(patches["items"][0]["items"], 1);
    let by_patch =
        format!("/api/v1/findings?patch={}", patches["items"][0]["id"].as_str().unwrap());
    let affected = world.ask(&owner, "GET", &by_patch, None).await.json();
    assert_eq!(affected["items"][0]["ci"], json!(ci));

    world
        .ask_with(&owner, "DELETE", &format!("/api/v1/cis/{ci}"), None, &[("if-match", "*")])
        .await;
    assert_eq!(states(&findings(&world, &owner).await), [("web", "retired")]);
    let patches = world.ask(&owner, "GET", "/api/v1/patches", None).await.json();
    assert_eq!(patches["items"], json!([]));
}

#[tokio::test]
async fn what_a_tenant_brings_concerns_others_only_once_the_provider_accepts_it() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let of_a = world.token(a, Role::TenantOwner, Access::Write).await;
    let of_b = world.token(b, Role::TenantOwner, Access::Write).await;
    let operator = world.token(PROVIDER, Role::Operator, Access::Write).await;
    for (token, tenant) in [(&of_a, a), (&of_b, b)] {
        let ci = vm(&world, token, tenant, "web").await;
        world.observe(ci, tenant, &[("web", "1")]).await;
    }
    world.check_fleet().await;

    let brought = bring(&world, &of_a, osv("X-1", "web", "2")).await;
    assert_eq!(brought.status, 201, "{}", brought.text);
    let brought = brought.json();
    // Whom it concerns is told at once, before any check.
    assert_eq!(brought["concerns"], json!([{ "tenant": a, "items": 1 }]));
    assert_eq!(brought["state"], "submitted");
    world.check_fleet().await;
    assert_eq!(findings(&world, &of_a).await.len(), 1);
    assert_eq!(findings(&world, &of_b).await.len(), 0);
    let path = format!("/api/v1/advisories/{}", brought["id"].as_str().unwrap());
    assert_eq!(world.ask(&of_b, "GET", &path, None).await.status, 404);

    let decision = format!("{path}/decision");
    let accept = json!({ "state": "accepted", "reason": "confirmed" });
    let any = [("if-match", "*")];
    let refused = world.ask_with(&of_a, "PUT", &decision, Some(accept.clone()), &any).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let accepted = world.ask_with(&operator, "PUT", &decision, Some(accept), &any).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    let mut both = [json!({ "tenant": a, "items": 1 }), json!({ "tenant": b, "items": 1 })];
    both.sort_by_key(|it| it["tenant"].as_str().unwrap().to_owned());
    assert_eq!(accepted.json()["concerns"], json!(both));
    world.check_fleet().await;
    assert_eq!(findings(&world, &of_b).await.len(), 1);
    let seen = world.ask(&of_b, "GET", &path, None).await.json();
    assert_eq!(seen["concerns"], json!([{ "tenant": b, "items": 1 }]));
    assert_eq!((&seen["tenant"], &seen["note"]), (&json!(PROVIDER), &json!("")));

    let withdraw = json!({ "state": "withdrawn", "reason": "was wrong" });
    world.ask_with(&of_a, "PUT", &decision, Some(withdraw), &any).await;
    world.check_fleet().await;
    for token in [&of_a, &of_b] {
        assert_eq!(states(&findings(&world, token).await), [("web", "withdrawn")]);
    }
    world.recorder.finish().await.unwrap();
    let events = world.ask(&of_a, "GET", "/api/v1/events?limit=1000", None).await.json();
    let events = events["items"].as_array().unwrap();
    let count = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((count("advisory.submitted"), count("advisory.decided")), (1, 2));
    assert_eq!((count("ci.observed"), count("ci.checked")), (1, 3));
}

#[tokio::test]
async fn the_side_that_must_patch_bears_the_risk_and_for_a_while() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let approver = world.token(a, Role::TenantApprover, Access::Write).await;
    let owner = world.token(a, Role::TenantOwner, Access::Write).await;
    let admin = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let ci = vm(&world, &owner, a, "web").await;
    bring(&world, &owner, osv("X-1", "web", "2")).await;
    world.observe(ci, a, &[("web", "1")]).await;
    world.check_fleet().await;
    let finding = findings(&world, &owner).await.remove(0);
    let path = format!("/api/v1/findings/{}/acceptance", finding["id"].as_str().unwrap());
    let until = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let body = |hours| json!({ "reason": "behind a proxy", "risk_owner": "CISO of A", "until": until(hours) });

    // In IaaS the tenant patches its VMs.
    let others = world.ask(&admin, "PUT", &path, Some(body(24))).await;
    assert_eq!(others.status, 422, "{}", others.text);
    for hours in [-1, 24 * 400] {
        assert_eq!(world.ask(&approver, "PUT", &path, Some(body(hours))).await.status, 422);
    }
    let accepted = world.ask(&approver, "PUT", &path, Some(body(24))).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    assert_eq!(accepted.json()["acceptance"]["risk_owner"], "CISO of A");
    assert_eq!(accepted.json()["state"], "open");

    let ended = world.ask(&approver, "DELETE", &path, None).await.json();
    assert_eq!(ended["acceptance"], Value::Null);
}

#[tokio::test]
async fn what_is_no_advisory_is_refused_with_a_way_out() {
    let world = World::new().await;
    let admin = world.token(PROVIDER, Role::Admin, Access::Write).await;
    for record in [json!({}), json!([]), json!("x"), json!({ "id": "X" }), osv("", "web", "2")] {
        let answer = bring(&world, &admin, record).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("osv"), "{}", answer.text);
    }
    assert_eq!(bring(&world, &admin, osv("X-1", "web", "2")).await.status, 201);
    assert_eq!(bring(&world, &admin, osv("X-1", "web", "2")).await.status, 409);
}

/// A group is whoever has its class and labels at the moment; lists and counts follow.
#[tokio::test]
async fn a_group_stands_as_its_items_do() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(a, Role::TenantOwner, Access::Write).await;
    let osv = json!({ "osv": support::osv("X-1", "web", "2"), "note": "" });
    assert_eq!(world.ask(&token, "POST", "/api/v1/advisories", Some(osv)).await.status, 201);
    for (name, tier, version) in [("w1", "front", "1"), ("w2", "front", "2"), ("d1", "back", "1")] {
        let body = json!({ "tenant": a, "class": "vm", "name": name, "labels": { "tier": tier } });
        let ci = world.ask(&token, "POST", "/api/v1/cis", Some(body)).await.json();
        let id = ci["id"].as_str().unwrap().parse().unwrap();
        world.observe(id, a, &[("web", version)]).await;
    }
    world.check_fleet().await;
    let body = json!({
        "tenant": a, "name": "fronts", "selector": { "class": "vm", "labels": { "tier": "front" } },
    });
    let group = world.ask(&token, "POST", "/api/v1/groups", Some(body)).await;
    assert_eq!(group.status, 201, "{}", group.text);
    let path = format!("/api/v1/groups/{}", group.json()["id"].as_str().unwrap());
    let id = group.json()["id"].as_str().unwrap().to_owned();
    let read = async |what: &str| {
        world.ask(&token, "GET", &format!("/api/v1/{what}?group={id}"), None).await.json()
    };
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };

    assert_eq!(names(&read("cis").await), ["w1", "w2"]);
    assert_eq!(read("findings").await["items"].as_array().unwrap().len(), 1);
    let status = read("status").await;
    let counts = ["items", "latest", "outdated", "unknown", "silent", "unchecked"]
        .map(|word| status[word].as_u64().unwrap());
    assert_eq!(counts[0], 2, "{status}");
    assert_eq!(counts[2], 1, "{status}");
    assert_eq!(status["missing"]["medium"], 1, "{status}");
    assert_eq!(status["tenants"][0]["tenant"], a.to_string());

    let etag = group.headers["etag"].to_str().unwrap();
    let back = json!({ "selector": { "labels": { "tier": "back" } } });
    let altered =
        world.ask_with(&token, "PATCH", &path, Some(back.clone()), &[("if-match", etag)]).await;
    assert_eq!(altered.status, 200, "{}", altered.text);
    let blind = world.ask_with(&token, "PATCH", &path, Some(back), &[("if-match", etag)]).await;
    assert_eq!(blind.status, 412);
    assert_eq!(names(&read("cis").await), ["d1"]);

    let gone = world.ask_with(&token, "DELETE", &path, None, &[("if-match", "*")]).await;
    assert_eq!(gone.status, 204);
    assert_eq!(world.ask(&token, "GET", &path, None).await.status, 404);
    assert_eq!(read("cis").await["items"], json!([]));
    let kinds = world.ask(&token, "GET", "/api/v1/cis", None).await.json();
    assert_eq!(kinds["items"].as_array().unwrap().len(), 3, "its items stay");
}

#[tokio::test]
async fn an_item_whose_agent_is_not_believed_is_not_said_to_be_at_its_latest() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let agent = world.agent(case.ci, case.tenant).await;
    world.observe(case.ci, case.tenant, &[("web", "2")]).await;
    world.check_fleet().await;
    let path = format!("/api/v1/cis/{}/check", case.ci);
    let check = async || world.ask(&case.owner, "GET", &path, None).await.json();
    assert_eq!(check().await["status"], "latest");

    world.store.quarantine_agent(agent.id, "a copy").await.unwrap();

    let after = check().await;
    assert_eq!(after["status"], "unknown", "{after}");
    assert!(after["unknown"][0]["reason"].as_str().unwrap().contains("believed"), "{after}");
}
