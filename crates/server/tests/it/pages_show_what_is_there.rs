//! The console's pages: for whoever is signed in, with their own rows, and with nothing in them that
//! a browser would take for a command.

use crate::support::{self, Answer, PASSWORD, World};
use axum::body::Body;
use axum::http::Request;
use domain::agent::{Facts, ProbeOutcome};
use domain::cloud::{Access, Class, Role};
use jiff::SignedDuration;
use store::NewCi;

async fn look(world: &World, cookie: &str, path: &str) -> Answer {
    let request =
        Request::builder().uri(path).header("cookie", cookie).body(Body::empty()).unwrap();
    world.send(request).await
}

async fn sign_in(world: &World, password: &str, site: &str) -> Answer {
    let form = format!("login=root&password={}", password.replace(' ', "+"));
    let request = Request::builder()
        .method("POST")
        .uri("/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", site)
        .body(Body::from(form))
        .unwrap();
    world.send(request).await
}

#[tokio::test]
async fn a_person_signs_in_looks_around_and_signs_out() {
    let world = World::new().await;
    assert_eq!(look(&world, "", "/").await.headers["location"], "/login");
    assert_eq!(sign_in(&world, "wrong", "same-origin").await.status, 401);
    assert_eq!(sign_in(&world, PASSWORD, "cross-site").await.status, 403);

    let signed_in = sign_in(&world, PASSWORD, "same-origin").await;
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();

    for (path, title) in [
        ("/", "There is nothing to look after yet."),
        ("/cis", "Configuration items"),
        ("/ledger", "Whoever keeps a checkpoint"),
        ("/account", "Set up codes"),
        ("/login", "Sign in"),
    ] {
        let page = look(&world, &cookie, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text.contains(title), "{path}: {}", page.text);
        // Ours, by name; none that a page could hold by accident.
        let page = page.text.replace("<script src=\"/console.js\"></script>", "");
        assert!(!page.contains("<script"), "{path}");
    }
    let sign_out = Request::builder()
        .method("POST")
        .uri("/logout")
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin")
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.send(sign_out).await.headers["location"], "/login");
    assert_eq!(look(&world, &cookie, "/").await.headers["location"], "/login");
}

#[tokio::test]
async fn names_are_text_and_never_markup() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'";
    let world = World::new().await;
    let tenant = world.tenant("a").await;
    let token = world.token(tenant, Role::TenantViewer, Access::Read).await;
    let new = NewCi {
        tenant,
        class: Class::Vm,
        name: HOSTILE.parse().unwrap(),
        labels: [("x".parse().unwrap(), HOSTILE.to_owned())].into(),
    };
    let ci = world.store.create_ci(&world.admin, None, new).await.unwrap();

    for path in ["/cis".to_owned(), format!("/cis/{}", ci.id), "/cis?name=%3Cimg".to_owned()] {
        let page = world.ask(&token, "GET", &path, None).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text.contains("&lt;img"), "{path}");
        assert!(!page.text.contains("<img"), "{path}");
    }
    let page = world.ask(&token, "GET", &format!("/cis/{}", ci.id), None).await;
    assert!(page.text.contains("whether it is at its latest is unknown"), "{}", page.text);

    // Nor is what its owner calls a probe, or what a probe says.
    let failure = Some(HOSTILE.to_owned());
    let probes = vec![ProbeOutcome { name: HOSTILE.to_owned(), failure }];
    let facts = Facts { probes, ..Facts::default() };
    world.store.record_facts(&world.admin, ci.id, facts).await.unwrap();
    let page = world.ask(&token, "GET", &format!("/cis/{}", ci.id), None).await;
    assert!(page.text.contains("✗ 1 of 1 fail"), "{}", page.text);
    assert!(!page.text.contains("<img"), "{}", page.text);

    // What a system says it has installed is no more trustworthy than a name.
    let owner = world.token(tenant, Role::TenantOwner, Access::Write).await;
    let body = serde_json::json!({ "osv": support::osv("<b>X", HOSTILE, "2"), "note": HOSTILE });
    let brought = world.ask(&owner, "POST", "/api/v1/advisories", Some(body)).await;
    assert_eq!(brought.status, 201, "{}", brought.text);
    world.observe(ci.id, tenant, &[(HOSTILE, "1")]).await;
    world.check_fleet().await;
    let patches = world.ask(&token, "GET", "/api/v1/patches", None).await.json();
    let patch = format!("/patches/{}", patches["items"][0]["id"].as_str().unwrap());
    for path in ["/patches".to_owned(), patch, format!("/cis/{}", ci.id)] {
        let page = world.ask(&token, "GET", &path, None).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.text.contains("&lt;img") && !page.text.contains("<img"), "{path}");
    }

    // What was seen too long ago is not known any more.
    world.clock.pass(SignedDuration::from_hours(25));
    let token = world.token(tenant, Role::TenantViewer, Access::Write).await;
    let page = world.ask(&token, "GET", &format!("/cis/{}", ci.id), None).await;
    assert!(page.text.contains("as it was seen last"), "{}", page.text);
    assert!(!page.text.contains("1 of 1 fail"), "{}", page.text);
}

#[tokio::test]
async fn a_tenants_pages_hold_nothing_of_anothers() {
    const CANARY: &str = "canary-of-b";
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant(CANARY).await);
    let token = world.token(a, Role::TenantOwner, Access::Read).await;
    let new = NewCi {
        tenant: b,
        class: Class::Vm,
        name: CANARY.parse().unwrap(),
        labels: store::Labels::new(),
    };
    let ci = world.store.create_ci(&world.admin, None, new).await.unwrap();
    let of_b = world.token(b, Role::TenantOwner, Access::Write).await;
    let body = serde_json::json!({ "osv": support::osv(CANARY, CANARY, "2") });
    world.ask(&of_b, "POST", "/api/v1/advisories", Some(body)).await;
    world.observe(ci.id, b, &[(CANARY, "1")]).await;
    world.check_fleet().await;
    let patches = world.ask(&of_b, "GET", "/api/v1/patches", None).await.json();
    let patch = patches["items"][0]["id"].as_str().unwrap();
    let page = world.ask(&token, "GET", &format!("/patches/{patch}"), None).await;
    assert_eq!(page.status, 404, "{}", page.text);
    world.recorder.finish().await.unwrap();

    for path in ["/", "/cis", "/patches", "/ledger"] {
        let page = world.ask(&token, "GET", path, None).await;
        assert_eq!(page.status, 200, "{path}");
        for foreign in [CANARY, &b.to_string(), &ci.id.to_string()] {
            assert!(!page.text.contains(foreign), "{path}");
        }
    }
    let page = world.ask(&token, "GET", &format!("/cis/{}", ci.id), None).await;
    assert_eq!(page.status, 404);
    assert!(!page.text.contains(CANARY), "{}", page.text);
}
