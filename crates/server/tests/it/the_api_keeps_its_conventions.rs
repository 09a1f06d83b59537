//! What callers may rely on, whatever they ask for.

use crate::support::{PASSWORD, World};
use axum::body::Body;
use axum::http::Request;
use domain::cloud::{Access, PROVIDER, Role};
use serde_json::{Value, json};

#[tokio::test]
async fn a_person_signs_in_works_and_signs_out() {
    let world = World::new().await;
    let sign_in = |password: &str| json!({ "login": "root", "password": password });

    let refused = world.ask("", "POST", "/api/v1/session", Some(sign_in("wrong"))).await;
    assert_eq!(refused.status, 401);
    let unknown = json!({ "login": "nobody", "password": PASSWORD });
    let unknown = world.ask("", "POST", "/api/v1/session", Some(unknown)).await;
    assert_eq!((unknown.status, &unknown.text), (refused.status, &refused.text));

    let session = world.ask("", "POST", "/api/v1/session", Some(sign_in(PASSWORD))).await;
    assert_eq!(session.status, 201);
    let secret = session.json()["secret"].as_str().unwrap().to_owned();
    let account = world.ask(&secret, "GET", "/api/v1/session", None).await.json();
    assert_eq!((&account["role"], &account["access"]), (&json!("admin"), &json!("write")));
    assert_eq!(world.ask(&secret, "DELETE", "/api/v1/session", None).await.status, 204);
    assert_eq!(world.ask(&secret, "GET", "/api/v1/session", None).await.status, 401);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_without_harm() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let body = |name: &str| Some(json!({ "tenant": a, "class": "vm", "name": name }));
    let key = [("idempotency-key", "one")];

    let first = world.ask_with(&token, "POST", "/api/v1/cis", body("web"), &key).await;
    let again = world.ask_with(&token, "POST", "/api/v1/cis", body("web"), &key).await;
    let other = world.ask_with(&token, "POST", "/api/v1/cis", body("db"), &key).await;
    let without = world.ask(&token, "POST", "/api/v1/cis", body("web")).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json(), again.json());
    assert_eq!((other.status.as_u16(), without.status.as_u16()), (422, 409));
    let odd = [("idempotency-key", "")];
    let odd = world.ask_with(&token, "POST", "/api/v1/cis", body("x"), &odd).await;
    assert_eq!(odd.status, 400);
}

#[tokio::test]
async fn nobody_overwrites_what_they_have_not_seen() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let body = json!({ "tenant": a, "class": "vm", "name": "web" });
    let created = world.ask(&token, "POST", "/api/v1/cis", Some(body)).await;
    let path = format!("/api/v1/cis/{}", created.json()["id"].as_str().unwrap());
    let etag = created.headers["etag"].to_str().unwrap().to_owned();
    let rename = |name: &str| Some(json!({ "name": name }));

    let blind = world.ask(&token, "PATCH", &path, rename("x")).await;
    assert_eq!(blind.status, 428);
    let first = world.ask_with(&token, "PATCH", &path, rename("one"), &[("if-match", &etag)]).await;
    assert_eq!(first.status, 200);
    let second =
        world.ask_with(&token, "PATCH", &path, rename("two"), &[("if-match", &etag)]).await;
    assert_eq!(second.status, 412);
    assert!(second.json()["help"].as_str().unwrap().contains("read it again"));
    assert_eq!(world.ask(&token, "GET", &path, None).await.json()["name"], "one");
}

/// Everything is checked and answered, and nothing is done.
#[tokio::test]
async fn a_rehearsal_leaves_no_trace() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let body = |name: &str| Some(json!({ "tenant": a, "class": "vm", "name": name }));
    let rehearsed = "/api/v1/cis?dry_run=true";
    let events = async || world.store.event_counts().await.unwrap();
    let before = events().await;

    let key = [("idempotency-key", "one")];
    let answer = world.ask_with(&token, "POST", rehearsed, body("web"), &key).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["patchwright-dry-run"], "true");
    assert_eq!(answer.json()["name"], "web");
    let path = format!("/api/v1/cis/{}", answer.json()["id"].as_str().unwrap());
    assert_eq!(world.ask(&token, "GET", &path, None).await.status, 404);
    assert_eq!(events().await, before);

    // The key is still free, and so is the name.
    let real = world.ask_with(&token, "POST", "/api/v1/cis", body("web"), &key).await;
    assert_eq!(real.status, 201);
    assert!(!real.headers.contains_key("patchwright-dry-run"));
    let refused = world.ask(&token, "POST", rehearsed, body("web")).await;
    assert_eq!(refused.status, 409, "a rehearsal is refused like the thing itself");

    let id = real.json()["id"].as_str().unwrap().parse().unwrap();
    let agent = world.agent(id, a).await;
    let path = format!("/api/v1/agents/{}", agent.id);
    let answer = world.ask(&token, "DELETE", &format!("{path}?dry_run=true"), None).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("revoked")));
    assert_eq!(world.ask(&token, "GET", &path, None).await.json()["state"], "active");
    let odd = world.ask(&token, "POST", "/api/v1/cis?dry_run=perhaps", body("x")).await;
    assert_eq!(odd.status, 400);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_a_way_out() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let cases: [(&str, &str, Option<Value>, u16); 10] = [
        ("GET", "/api/v1/events?from=9223372036854775808", None, 400),
        ("GET", "/api/v1/cis?limit=0", None, 400),
        ("GET", "/api/v1/cis?after=x", None, 400),
        ("GET", "/api/v1/cis?class=toaster", None, 400),
        ("GET", "/api/v1/cis/ci_x", None, 404),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/api/v1/cis", None, 405),
        (
            "POST",
            "/api/v1/tenants",
            Some(json!({ "slug": "A B", "name": "x", "model": "iaas" })),
            400,
        ),
        (
            "POST",
            "/api/v1/tenants",
            Some(json!({ "slug": "x", "name": "x", "model": "iaas", "version": 7 })),
            400,
        ),
        ("POST", "/api/v1/tenants", Some(json!([])), 400),
    ];

    for (method, path, body, status) in cases {
        let answer = world.ask(&token, method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        let page = world.ask("", "GET", problem["type"].as_str().unwrap(), None).await;
        assert_eq!(page.status, 200);
        assert!(page.text.starts_with(problem["title"].as_str().unwrap()), "{}", page.text);
    }
}

#[tokio::test]
async fn a_browser_session_cannot_be_ridden() {
    let world = World::new().await;
    let sign_in = json!({ "login": "root", "password": PASSWORD });
    let session = world.ask("", "POST", "/api/v1/session", Some(sign_in)).await.json();
    let cookie = format!("patchwright_session={}", session["secret"].as_str().unwrap());
    let tenant = json!({ "slug": "x", "name": "x", "model": "iaas" });
    let with = |site: &'static str| {
        let headers = [("cookie", cookie.clone()), ("sec-fetch-site", site.to_owned())];
        let mut request = Request::builder().method("POST").uri("/api/v1/tenants");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = request.header("content-type", "application/json");
        request.body(Body::from(tenant.to_string())).unwrap()
    };

    assert_eq!(world.send(with("cross-site")).await.status, 403);
    assert_eq!(world.send(with("same-origin")).await.status, 201);
}

#[tokio::test]
async fn answers_are_not_kept_framed_or_guessed() {
    let world = World::new().await;

    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/api/v1/cis"] {
        let answer = world.ask("", "GET", path, None).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-frame-options"], "DENY");
    }
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_read() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let body = Some(json!({ "slug": "x".repeat(3 << 20), "name": "x", "model": "iaas" }));

    assert_eq!(world.ask(&token, "POST", "/api/v1/tenants", body).await.status, 413);
}

#[tokio::test]
async fn events_are_listed_and_followed_by_place() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(a, Role::TenantViewer, Access::Read).await;
    world.store.sequence_events(1000).await.unwrap();

    let events = world.ask(&token, "GET", "/api/v1/events?limit=1", None).await.json();

    assert_eq!(events["items"][0]["kind"], "tenant.created");
    assert_eq!(events["items"][0]["payload"]["slug"], "a");
    let next = events["next"].as_u64().unwrap();
    let more = world.ask(&token, "GET", &format!("/api/v1/events?from={next}"), None).await.json();
    let kinds: Vec<_> =
        more["items"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["user.created", "token.created"]);
}
