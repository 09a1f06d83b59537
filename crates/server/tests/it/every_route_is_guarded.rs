//! The route matrix, generated from the OpenAPI document: no route can be added without it.

use std::fmt::Write as _;

use crate::support::{self, World};
use domain::cloud::{
    Access, AdvisoryId, AgentId, BreakGlassId, ChangeId, ChannelId, CiId, DriftId, FindingId,
    ImageId, JobId, NoticeId, PROVIDER, PasskeyId, PatchId, ReleaseId, Role, TenantId,
    VerificationId,
};
use serde_json::{Value, json};
use store::{Environment as _, NewCi};

/// `(method, path)` of each route, and whether it is open to anybody.
fn routes() -> Vec<(String, String, bool)> {
    let document: Value = serde_json::from_str(&server::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let is_open = operation["security"] == json!([{}]);
            routes.push((method.to_uppercase(), path.clone(), is_open));
        }
    }
    routes
}

/// A path with objects of somebody's in it.
fn of(path: &str, ids: &[(&str, String)]) -> String {
    let collection = path.split('/').nth(3).unwrap();
    let id = ids.iter().find(|(name, _)| *name == collection).map_or("x", |(_, id)| id);
    let other = ids.iter().find(|(name, _)| *name == "other").map_or("x", |(_, id)| id);
    let tenant = ids.iter().find(|(name, _)| *name == "tenants").map_or("x", |(_, id)| id);
    path.replace("{id}", id)
        .replace("{tenant}", tenant)
        .replace("{channel}", &ChannelId::of_content([7; 16]).to_string())
        .replace("{key}", &"07".repeat(32))
        .replace("{nonce}", &"07".repeat(16))
        .replace("{kind}", "depends_on")
        .replace("{name}", "app")
        .replace("{version}", "1")
        .replace("{to}", other)
        .replace("{sequence}", "0")
}

/// In everything of the other tenant, so that it is seen wherever it leaks.
const CANARY: &str = "canary-of-b";

/// Objects around a change of a tenant.
fn around(change: &str, tenant: TenantId) -> [(&'static str, String); 12] {
    [
        ("changes", change.to_owned()),
        ("obligations", change.to_owned()),
        ("plans", "07".repeat(32)),
        ("keys", tenant.to_string()),
        ("rules", tenant.to_string()),
        ("policies", tenant.to_string()),
        ("notices", NoticeId::of_content([11; 16]).to_string()),
        ("channels", ChannelId::of_content([12; 16]).to_string()),
        ("releases", ReleaseId::of_content([13; 16]).to_string()),
        ("verifications", VerificationId::of_content([14; 16]).to_string()),
        ("drifts", DriftId::of_content([15; 16]).to_string()),
        ("break-glass", BreakGlassId::of_content([16; 16]).to_string()),
    ]
}

fn body_of(method: &str) -> Option<Value> {
    matches!(method, "POST" | "PATCH" | "PUT").then(|| json!({}))
}

#[tokio::test]
async fn nobody_gets_in_without_a_proof() {
    let world = World::new().await;
    let open: Vec<_> = routes().into_iter().filter(|(.., is_open)| *is_open).collect();
    let open: Vec<_> = open.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(
        open,
        [
            "POST /api/v1/session",
            "POST /api/v1/session/passkey",
            "POST /api/v1/session/passkey-challenge",
            "GET /api/v1/session/providers"
        ]
    );

    for (method, path, _) in routes().iter().filter(|(.., is_open)| !is_open) {
        for token in ["", "pwt_0000", "pws_0000", "x"] {
            let path = of(path, &[]);
            let answer = world.ask(token, method, &path, body_of(method)).await;
            assert_eq!(answer.status, 401, "{method} {path} with {token:?}: {}", answer.text);
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

/// Who gets past the gate at each route: operator, approver, auditor, admin; owner, approver, viewer; an
/// admin's reading token.
const GATES: &str = "\
xxxxxxxx GET /api/v1/advisories
xxxxxx-- POST /api/v1/advisories
xxxxxxxx GET /api/v1/advisories/{id}
x--xxx-- PUT /api/v1/advisories/{id}/decision
x--xx--- POST /api/v1/agent-tokens
xxxxxxxx GET /api/v1/agents
xxxxxxxx GET /api/v1/agents/{id}
x--xx--- DELETE /api/v1/agents/{id}
xxxxxxxx GET /api/v1/audits
xxxxxx-- POST /api/v1/audits
xxxxxxxx GET /api/v1/audits/report
xxxxxxxx GET /api/v1/audits/{id}
xxxxxxxx GET /api/v1/baseline-bindings
x--xx--- POST /api/v1/baseline-bindings
x--xx--- DELETE /api/v1/baseline-bindings/{id}
xxxxxxxx GET /api/v1/baselines
x--xx--- POST /api/v1/baselines
xxxxxxxx GET /api/v1/baselines/{id}
x--xx--- DELETE /api/v1/baselines/{id}
xxxxxxxx GET /api/v1/baselines/{id}/versions/{version}
xxxxxxxx GET /api/v1/break-glass
x--xx--- POST /api/v1/break-glass
xxxxxxxx GET /api/v1/break-glass/{id}
x--xx--- POST /api/v1/break-glass/{id}/close
-x-xxx-- POST /api/v1/break-glass/{id}/review
xxxxxxxx GET /api/v1/changes
x--x---- POST /api/v1/changes
xxxxxxxx GET /api/v1/changes/{id}
xxxxxxxx GET /api/v1/changes/{id}/files
x--x---- PUT /api/v1/changes/{id}/files
xxxxxxxx GET /api/v1/changes/{id}/files/diff
xxxxxxxx GET /api/v1/changes/{id}/obligations
xxxxxxxx GET /api/v1/changes/{id}/sides
x--x---- POST /api/v1/changes/{id}/steps
x--xx--- DELETE /api/v1/channels/{id}
x--xx--- PATCH /api/v1/channels/{id}
xxxxxxxx GET /api/v1/cis
x--xx--- POST /api/v1/cis
x--xx--- POST /api/v1/cis/import
xxxxxxxx GET /api/v1/cis/{id}
x--xx--- DELETE /api/v1/cis/{id}
x--xx--- PATCH /api/v1/cis/{id}
xxxxxxxx GET /api/v1/cis/{id}/audit
xxxxxxxx GET /api/v1/cis/{id}/check
xxxxxxxx GET /api/v1/cis/{id}/device
x--x---- PUT /api/v1/cis/{id}/device
x--x---- DELETE /api/v1/cis/{id}/device
x--x---- POST /api/v1/cis/{id}/device/look
xxxxxxxx GET /api/v1/cis/{id}/facts
xxxxxxxx GET /api/v1/cis/{id}/files
xxxxxxxx GET /api/v1/cis/{id}/files/blame
xxxxxxxx GET /api/v1/cis/{id}/files/changes
xxxxxxxx GET /api/v1/cis/{id}/files/content
---xx--- POST /api/v1/cis/{id}/files/original
xxxxxxxx GET /api/v1/cis/{id}/files/versions
xxxxxxxx GET /api/v1/cis/{id}/impact
x--x---- GET /api/v1/cis/{id}/machine
x--x---- PUT /api/v1/cis/{id}/machine
x--x---- DELETE /api/v1/cis/{id}/machine
xxxxxxxx GET /api/v1/cis/{id}/relations
x--xx--- POST /api/v1/cis/{id}/relations
x--xx--- DELETE /api/v1/cis/{id}/relations/{kind}/{to}
xxxxxxxx GET /api/v1/cis/{id}/sources
xxxxxxxx GET /api/v1/cis/{id}/sources/{name}
x--xx--- PUT /api/v1/cis/{id}/sources/{name}
x--xx--- DELETE /api/v1/cis/{id}/sources/{name}
x--xx--- POST /api/v1/cis/{id}/sources/{name}/look
xxxxxxxx GET /api/v1/cis/{id}/timeline
xxxxxxxx GET /api/v1/clocks
xxxxxxxx GET /api/v1/configuration/changes
xxxxxxxx GET /api/v1/configuration/files
xxxxxxxx GET /api/v1/configuration/search
xxxxxxxx GET /api/v1/drifts
xxxxxxxx GET /api/v1/drifts/{id}
-x-xxx-- POST /api/v1/drifts/{id}/adopt
x--x---- POST /api/v1/drifts/{id}/put-back
xxxxxxxx GET /api/v1/events
xxxxxxxx GET /api/v1/events/{sequence}/proof
xxxxxxxx GET /api/v1/findings
xxxxxxxx GET /api/v1/findings/{id}
-x-xxx-- PUT /api/v1/findings/{id}/acceptance
-x-xxx-- DELETE /api/v1/findings/{id}/acceptance
xxxxxxxx GET /api/v1/groups
x--xx--- POST /api/v1/groups
xxxxxxxx GET /api/v1/groups/{id}
x--xx--- DELETE /api/v1/groups/{id}
x--xx--- PATCH /api/v1/groups/{id}
xxxxxxxx GET /api/v1/histories
x--x---- GET /api/v1/image-stores
x--x---- GET /api/v1/image-stores/{name}/images
xxxxxxxx GET /api/v1/images
x--xx--- POST /api/v1/images
x--xx--- POST /api/v1/images/content
xxxxxxxx GET /api/v1/images/{id}
xxxxxxxx GET /api/v1/images/{id}/admission
xxxxxxxx GET /api/v1/images/{id}/attestations
xxxxxxxx GET /api/v1/images/{id}/content
x--xx--- DELETE /api/v1/images/{id}/content
x--xx--- POST /api/v1/images/{id}/jobs
x--xx--- POST /api/v1/images/{id}/publish
x--xx--- POST /api/v1/images/{id}/retire
xxxxxxxx GET /api/v1/jobs
xxxxxxxx GET /api/v1/jobs/{id}
x--xx--- POST /api/v1/jobs/{id}/cancel
xxxxxxxx GET /api/v1/jobs/{id}/log
xxxxxxxx GET /api/v1/keys/{id}
----x--- POST /api/v1/keys/{id}
----x--- POST /api/v1/keys/{id}/orders
----x--- POST /api/v1/keys/{id}/orders/passkey
----x--- POST /api/v1/keys/{id}/passkey
xxxxxxxx GET /api/v1/keys/{id}/recovery
----x--- POST /api/v1/keys/{id}/recovery
----x--- DELETE /api/v1/keys/{id}/recovery
----x--- POST /api/v1/keys/{id}/recovery/completion
----x--- DELETE /api/v1/keys/{id}/{key}
xxxxxxxx GET /api/v1/ledger
xxxxxxxx GET /api/v1/ledger/records
xxxxxxxx GET /api/v1/notices
xxxxxxxx GET /api/v1/notices/{id}
xx-xxx-- POST /api/v1/notices/{id}/acknowledge
xxxxxxxx GET /api/v1/notices/{id}/deliveries
x--x---- POST /api/v1/notices/{id}/deliveries/{channel}/retry
xxxxxxxx GET /api/v1/obligations/{id}/{tenant}
----xx-- POST /api/v1/obligations/{id}/{tenant}/answer
----xx-- POST /api/v1/obligations/{id}/{tenant}/answer/passkey
x--x---- POST /api/v1/obligations/{id}/{tenant}/assess
x--x---- POST /api/v1/obligations/{id}/{tenant}/close
xxxxxxxx GET /api/v1/obligations/{id}/{tenant}/consents
-x-x---- POST /api/v1/obligations/{id}/{tenant}/countersign
x--x---- POST /api/v1/obligations/{id}/{tenant}/evidence
x--x---- POST /api/v1/obligations/{id}/{tenant}/finish
x--x---- POST /api/v1/obligations/{id}/{tenant}/interruptions
x--x---- POST /api/v1/obligations/{id}/{tenant}/plan
x--x---- POST /api/v1/obligations/{id}/{tenant}/re-evaluation
x--x---- POST /api/v1/obligations/{id}/{tenant}/scan
x--x---- POST /api/v1/obligations/{id}/{tenant}/sight
x--x---- POST /api/v1/obligations/{id}/{tenant}/withdraw
xxxxxxxx GET /api/v1/order-keys
---x---- POST /api/v1/order-keys
xxxxxxxx GET /api/v1/orders
xxxxxxxx GET /api/v1/patches
xxxxxxxx GET /api/v1/patches/{id}
xxxxxxxx GET /api/v1/plans/{id}
xxxxxxxx GET /api/v1/policies/{id}
---xx--- POST /api/v1/policies/{id}
---xx--- POST /api/v1/policies/{id}/agreement
xxxxxxxx GET /api/v1/relations
xxxxxxxx GET /api/v1/releases
x--x---- POST /api/v1/releases
xxxxxxxx GET /api/v1/releases/{id}
x--x---- POST /api/v1/releases/{id}/commands
xxxxxxxx GET /api/v1/rule-waivers
-x-xxx-- POST /api/v1/rule-waivers
-x-xxx-- DELETE /api/v1/rule-waivers/{id}
xxxxxxxx GET /api/v1/rules/{id}
----xx-- POST /api/v1/rules/{id}
----xx-- DELETE /api/v1/rules/{id}/{nonce}
xxxxxxxx GET /api/v1/session
xxxxxxx- DELETE /api/v1/session
xxxxxxx- PUT /api/v1/session/codes
xxxxxxx- POST /api/v1/session/codes
xxxxxxx- DELETE /api/v1/session/codes
xxxxxxxx GET /api/v1/session/factors
xxxxxxx- DELETE /api/v1/session/identities/{id}
xxxxxxxx POST /api/v1/session/passkey
xxxxxxxx POST /api/v1/session/passkey-challenge
xxxxxxx- POST /api/v1/session/passkey-registration
xxxxxxx- POST /api/v1/session/passkeys
xxxxxxx- DELETE /api/v1/session/passkeys/{id}
xxxxxxx- PUT /api/v1/session/password
xxxxxxxx GET /api/v1/session/providers
xxxxxxxx GET /api/v1/snapshots
xxxxxxxx GET /api/v1/status
xxxxxxxx GET /api/v1/tenants
---x---- POST /api/v1/tenants
xxxxxxxx GET /api/v1/tenants/{id}
xxxxxxxx GET /api/v1/tenants/{id}/channels
x--xx--- POST /api/v1/tenants/{id}/channels
xxxxxxxx GET /api/v1/tenants/{id}/feeds
xxxxxxx- POST /api/v1/tenants/{id}/feeds
xxxxxxxx GET /api/v1/tenants/{id}/notices.atom
xxxxxxxx GET /api/v1/tenants/{id}/notices.ics
xxxxxxxx GET /api/v1/tokens
xxxxxxx- POST /api/v1/tokens
xxxxxxx- DELETE /api/v1/tokens/{id}
xxxxxxxx GET /api/v1/users
---xx--- POST /api/v1/users
xxxxxxxx GET /api/v1/users/{id}
---xx--- DELETE /api/v1/users/{id}
---xx--- POST /api/v1/users/{id}/reset
xxxxxxxx GET /api/v1/verifications
xxxxxxxx GET /api/v1/verifications/key
xxxxxxxx GET /api/v1/verifications/{id}
";

/// Which roles get past the gate: `x` they do, `-` they are refused with 403.
#[tokio::test]
async fn every_role_meets_the_gate_at_every_route() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let mut tokens = Vec::new();
    for &role in Role::ALL {
        let tenant = if role.side() == domain::cloud::Side::Provider { PROVIDER } else { a };
        tokens.push(world.token(tenant, role, Access::Write).await);
    }
    tokens.push(world.token(PROVIDER, Role::Admin, Access::Read).await);
    let ids = [
        ("cis", CiId::new(jiff::Timestamp::UNIX_EPOCH, [1; 10]).to_string()),
        ("other", CiId::new(jiff::Timestamp::UNIX_EPOCH, [2; 10]).to_string()),
        ("agents", AgentId::new(jiff::Timestamp::UNIX_EPOCH, [6; 10]).to_string()),
        ("findings", FindingId::new(jiff::Timestamp::UNIX_EPOCH, [3; 10]).to_string()),
        ("patches", PatchId::of_content([4; 16]).to_string()),
        ("advisories", AdvisoryId::new(jiff::Timestamp::UNIX_EPOCH, [5; 10]).to_string()),
        ("images", ImageId::new(jiff::Timestamp::UNIX_EPOCH, [7; 10]).to_string()),
        ("jobs", JobId::new(jiff::Timestamp::UNIX_EPOCH, [8; 10]).to_string()),
        ("tenants", TenantId::of_content([10; 16]).to_string()),
    ];
    let change = ChangeId::of_content([9; 16]).to_string();
    let ids = [&ids[..], &around(&change, TenantId::of_content([10; 16]))].concat();

    let mut table = String::new();
    for (method, path, _) in routes() {
        // What ends the caller's own session or takes forever to answer is tested elsewhere.
        if path.ends_with("/stream")
            || (method.as_str(), path.as_str()) == ("POST", "/api/v1/session")
        {
            continue;
        }
        let mut line = String::new();
        for token in &tokens {
            // A body that no route takes: whoever is let in gets 4xx for it, but not 403.
            let answer = world.ask(token, &method, &of(&path, &ids), body_of(&method)).await;
            line.push(if answer.status == 403 { '-' } else { 'x' });
            assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.text);
            assert_ne!(answer.status, 401, "{method} {path}");
        }
        writeln!(table, "{line} {method} {path}").unwrap();
    }

    assert_eq!(table, GATES, "\n{table}");
}

/// A body that a route would take, about things of another tenant.
fn valid(path: &str, b: TenantId, other: CiId, sha256: &Value) -> Value {
    match path {
        "/api/v1/agent-tokens" => json!({ "tenant": b }),
        "/api/v1/channels/{id}" => json!({ "language": "en" }),
        "/api/v1/cis" => json!({ "tenant": b, "class": "vm", "name": "x" }),
        "/api/v1/cis/import" => json!({ "items": [{ "tenant": b, "class": "vm", "name": "x" }] }),
        "/api/v1/cis/{id}" | "/api/v1/groups/{id}" => json!({ "name": "x" }),
        "/api/v1/groups" => json!({ "tenant": b, "name": "x" }),
        "/api/v1/cis/{id}/relations" => json!({ "kind": "depends_on", "to": other }),
        "/api/v1/users" => json!({
            "tenant": b, "login": "mallory", "name": "M", "role": "tenant_owner",
            "password": support::PASSWORD,
        }),
        "/api/v1/findings/{id}/acceptance" => json!({
            "reason": "x", "risk_owner": "x", "until": jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1),
        }),
        "/api/v1/images" => json!({ "tenant": b, "name": "x", "sha256": sha256 }),
        "/api/v1/images/{id}/jobs" => json!({ "kind": "test" }),
        "/api/v1/advisories/{id}/decision" => json!({ "state": "withdrawn", "reason": "x" }),
        "/api/v1/keys/{id}" | "/api/v1/keys/{id}/recovery" => {
            json!({ "public_key": support::PUBLIC_KEY, "label": "x" })
        }
        "/api/v1/keys/{id}/orders" => json!({ "envelope": {} }),
        "/api/v1/keys/{id}/orders/passkey" => {
            json!({ "order": { "do": "revoke", "key": "07".repeat(32) } })
        }
        "/api/v1/keys/{id}/passkey" => {
            json!({ "passkey": PasskeyId::new(jiff::Timestamp::UNIX_EPOCH, [1; 10]) })
        }
        "/api/v1/obligations/{id}/{tenant}/answer/passkey" => {
            json!({ "plan": "07".repeat(32), "decision": { "is": "approve" } })
        }
        "/api/v1/cis/{id}/machine" => json!({ "place": "rack-1", "machine": "x" }),
        "/api/v1/cis/{id}/device" => json!({
            "model": "ios", "address": "192.0.2.7", "user": "x", "password": "x",
            "trust_first_key": true,
        }),
        "/api/v1/audits" => json!({ "ci": other }),
        "/api/v1/baselines" => json!({ "tenant": b, "rules": RULES }),
        "/api/v1/baseline-bindings" => json!({ "baseline": "sshd", "ci": other }),
        "/api/v1/rule-waivers" => json!({
            "baseline": "sshd", "rule": "sshd-root-login", "ci": other, "owner": "x", "reason": "x",
            "until": jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1),
        }),
        "/api/v1/cis/{id}/sources/{name}" => json!({
            "kind": "git", "url": "https://git.example.org/x.git",
        }),
        "/api/v1/changes/{id}/files" => {
            json!({ "ci": other, "path": "/etc/motd", "content": "aGVsbG8K" })
        }
        "/api/v1/cis/{id}/files/original" => json!({ "path": "/etc/x", "reason": "x" }),
        "/api/v1/break-glass" => {
            json!({ "ci": other, "ticket": "x", "reason": "x", "files": ["/etc/**"] })
        }
        "/api/v1/break-glass/{id}/review" => {
            json!({ "outcome": "accepted", "reason": "x", "version": 1 })
        }
        "/api/v1/drifts/{id}/adopt" => {
            json!({ "reason": "x", "recorded_at": jiff::Timestamp::UNIX_EPOCH })
        }
        "/api/v1/releases" => json!({ "change": ChangeId::of_content([9; 16]) }),
        "/api/v1/releases/{id}/commands" => json!({ "do": "hold", "reason": "x" }),
        "/api/v1/policies/{id}" => json!({ "document": "version = \"x\"" }),
        "/api/v1/policies/{id}/agreement" => json!({ "version": "x" }),
        "/api/v1/tenants/{id}/feeds" => json!({ "name": "x", "days": 1 }),
        "/api/v1/tenants/{id}/channels" => json!({ "kind": "mail", "address": "x@example.org" }),
        _ => json!({}),
    }
}

const RULES: &str = "id = \"ours\"\nversion = \"1\"\ntitle = \"canary-of-b\"\n[[rule]]\nid = \"motd\"\n\
    title = \"canary-of-b\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\n\
    check = 'present(\"/etc/motd\")'\n";

/// What a tenant holds its item to, and answers for.
async fn held_to(world: &World, of_b: &str, b: TenantId, ci: CiId) -> [(&'static str, String); 3] {
    let post = async |path: &str, body: Value| {
        let made = world.ask(of_b, "POST", &format!("/api/v1/{path}"), Some(body)).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let baseline = post("baselines", json!({ "tenant": b, "rules": RULES })).await;
    let body = json!({ "baseline": baseline, "ci": ci });
    let binding = post("baseline-bindings", body).await;
    let waiver = post(
        "rule-waivers",
        json!({
            "baseline": baseline, "rule": "motd", "ci": ci, "owner": CANARY, "reason": CANARY,
            "until": world.clock.now() + jiff::SignedDuration::from_hours(1),
        }),
    );
    [
        ("baselines", baseline.clone()),
        ("baseline-bindings", binding),
        ("rule-waivers", waiver.await),
    ]
}

/// Lists that name something of another tenant's show nothing.
async fn lists_are_empty(
    world: &World,
    of_a: &str,
    b: TenantId,
    group: domain::cloud::GroupId,
    image: &Value,
) {
    let image_id = image["id"].as_str().unwrap();
    let empty = [
        format!("cis?tenant={b}"),
        format!("cis?group={group}"),
        "cis?name=canary".into(),
        format!("cis?label=owner={CANARY}"),
        format!("findings?tenant={b}"),
        format!("findings?group={group}"),
        format!("drifts?tenant={b}"),
        format!("break-glass?tenant={b}"),
        format!("images?tenant={b}"),
        format!("jobs?image={image_id}"),
    ];
    for path in empty {
        let answer = world.ask(of_a, "GET", &format!("/api/v1/{path}"), None).await;
        assert_eq!(answer.json()["items"], json!([]), "{path}");
    }
    for query in [format!("tenant={b}"), format!("group={group}")] {
        for path in ["status", "audits/report", "configuration/files", "configuration/changes"] {
            let answer = world.ask(of_a, "GET", &format!("/api/v1/{path}?{query}"), None).await;
            assert_eq!(answer.status, 404, "{path} {query}: {}", answer.text);
        }
    }
    for path in ["baselines", "baseline-bindings", "rule-waivers"] {
        let answer = world.ask(of_a, "GET", &format!("/api/v1/{path}?all=true"), None).await;
        assert_eq!(answer.json()["items"], json!([]), "{path}");
    }
}

/// Every route with every object of another tenant: as if it were not there.
#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant(CANARY).await);
    let of_a = world.token(a, Role::TenantOwner, Access::Write).await;
    let of_b = world.token(b, Role::TenantOwner, Access::Write).await;
    let new = |name: &str| NewCi {
        tenant: b,
        class: domain::cloud::Class::Vm,
        name: format!("{CANARY}-{name}").parse().unwrap(),
        labels: [("owner".parse().unwrap(), CANARY.to_owned())].into(),
    };
    let ci = world.store.create_ci(&world.admin, None, new("1")).await.unwrap();
    let other = world.store.create_ci(&world.admin, None, new("2")).await.unwrap();
    let agent = world.agent(ci.id, b).await;
    let selector = store::Selector::default();
    let description = CANARY.to_owned();
    let group = store::NewGroup { tenant: b, name: CANARY.parse().unwrap(), description, selector };
    let group = world.store.create_group(&world.admin, None, group).await.unwrap();
    let osv = support::osv(CANARY, "web", "2");
    let advisory = json!({ "osv": osv, "note": CANARY });
    let advisory = world.ask(&of_b, "POST", "/api/v1/advisories", Some(advisory)).await.json();
    world.observe(ci.id, b, &[("web", "1")]).await;
    world.check_fleet().await;
    let found = world.ask(&of_b, "GET", "/api/v1/findings", None).await.json();
    let finding = &found["items"][0];
    let image = world.image(&of_b, b, &format!("{CANARY} 1\n")).await;
    let path = format!("/api/v1/images/{}", image["id"].as_str().unwrap());
    let image = world.ask(&of_b, "GET", &path, None).await.json();
    let job = world.queue(&of_b, &image, "test", json!({ "do": CANARY })).await;
    let job = world.job(&of_b, &job).await;
    world.open_obligations(100).await;
    let clock = &world.ask(&of_b, "GET", "/api/v1/clocks", None).await.json()[0];
    assert!(clock["title"].as_str().unwrap().contains(CANARY), "{clock}");
    let change = clock["change"].as_str().unwrap().to_owned();
    let user = world.ask(&of_b, "GET", "/api/v1/session", None).await.json();
    let token = world.ask(&of_b, "GET", "/api/v1/tokens", None).await.json();
    let ids = [
        ("cis", ci.id.to_string()),
        ("other", other.id.to_string()),
        ("tenants", b.to_string()),
        ("users", user["user"].as_str().unwrap().to_owned()),
        ("tokens", token["items"][0]["id"].as_str().unwrap().to_owned()),
        ("findings", finding["id"].as_str().unwrap().to_owned()),
        ("patches", finding["patch"].as_str().unwrap().to_owned()),
        ("agents", agent.id.to_string()),
        ("groups", group.id.to_string()),
        ("advisories", advisory["id"].as_str().unwrap().to_owned()),
        ("images", image["id"].as_str().unwrap().to_owned()),
        ("jobs", job["id"].as_str().unwrap().to_owned()),
    ];
    world.alter(ci.id, &format!("/etc/{CANARY}"), CANARY, CANARY).await;
    let drift = world.ask(&of_b, "GET", "/api/v1/drifts", None).await.json()["items"][0].clone();
    assert!(drift["path"].as_str().unwrap().contains(CANARY), "{drift}");
    let terms =
        json!({ "ci": ci.id, "ticket": CANARY, "reason": CANARY, "files": [format!("/{CANARY}")] });
    let glass = world.ask(&of_b, "POST", "/api/v1/break-glass", Some(terms)).await.json();
    assert_eq!(glass["ticket"], CANARY, "{glass}");
    let drift = [
        ("drifts", drift["id"].as_str().unwrap().to_owned()),
        ("break-glass", glass["id"].as_str().unwrap().to_owned()),
    ];
    let held_to = held_to(&world, &of_b, b, ci.id).await;
    let ids = [&ids[..], &drift, &held_to, &around(&change, b)].concat();
    for (method, path, is_open) in routes() {
        if is_open || path.ends_with("/stream") {
            continue;
        }
        let body = matches!(method.as_str(), "POST" | "PATCH" | "PUT")
            .then(|| valid(&path, b, other.id, &image["sha256"]));
        let mut asked = of(&path, &ids);
        if path == "/api/v1/images/content" {
            asked = format!("{asked}?tenant={b}");
        }
        let answer = world.ask_with(&of_a, &method, &asked, body, &[("if-match", "*")]).await;
        assert!(!answer.text.contains(CANARY), "{method} {path}: {}", answer.text);
        let own = ["/api/v1/tokens", "/api/v1/advisories"];
        if path.starts_with("/api/v1/session/") {
            continue; // One's own, by the session alone.
        }
        let names_an_object =
            path.contains('{') || (method == "POST" && !own.contains(&path.as_str()));
        if names_an_object && path != "/api/v1/tenants" {
            // What no tenant may do is refused before anything is looked for.
            let gate = GATES.lines().find(|line| line.ends_with(&format!(" {method} {path}")));
            let expected = if gate.unwrap().as_bytes()[4] == b'x' { 404 } else { 403 };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text);
        }
        if method == "DELETE" && path == "/api/v1/session" {
            assert_eq!(answer.status, 422);
        }
    }
    lists_are_empty(&world, &of_a, b, group.id, &image).await;
    // Nothing of what was tried has happened.
    let seen = world.ask(&of_b, "GET", "/api/v1/cis", None).await.json();
    assert_eq!(seen["items"].as_array().unwrap().len(), 3);
    assert_eq!(world.ask(&of_b, "GET", &path, None).await.json(), image);
    assert_eq!(world.job(&of_b, &job).await, job);
    let still = world.ask(&of_b, "GET", "/api/v1/findings", None).await.json();
    assert_eq!(still, found);
    assert_eq!(world.ask(&of_b, "GET", "/api/v1/session", None).await.status, 200);
}
