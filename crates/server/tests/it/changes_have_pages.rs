//! The console's pages about changes, clocks and notices: each shows what is there to whom it concerns,
//! and what alters something comes from our own pages alone.

use axum::body::Body;
use axum::http::Request;
use domain::change::{Acceptance, Decision};
use domain::cloud::{Access, PROVIDER, Role, TenantId};
use jiff::SignedDuration;
use serde_json::{Value, json};
use store::{Actor, ChangeStep, CiAlteration, Environment as _, NewToken, NoticeFilter};

use crate::support::case::{ALL, Case, DAY, tell, wake};
use crate::support::{self, Answer, PASSWORD, World};

async fn look(world: &World, token: &str, path: &str) -> String {
    let page = world.ask(token, "GET", path, None).await;
    assert_eq!(page.status, 200, "{path}: {}", page.text);
    page.text
}

/// A person's session, as a browser keeps it.
async fn session(world: &World, tenant: TenantId, login: &str, role: Role) -> String {
    let (name, login) = (login.parse().unwrap(), login.parse().unwrap());
    let new = world.app.person(tenant, login, name, role, PASSWORD).unwrap();
    let login = new.login.clone();
    world.store.create_user(&Actor::System, None, new).await.unwrap();
    let form = format!("login={login}&password={}", PASSWORD.replace(' ', "+"));
    let signed_in = post(world, "", "same-origin", "/login", &form).await;
    let cookie = signed_in.headers["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn post(world: &World, cookie: &str, site: &str, path: &str, form: &str) -> Answer {
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", site)
        .body(Body::from(form.to_owned()));
    world.send(request.unwrap()).await
}

/// A token of now: others ended while time passed.
async fn token(world: &World, by: &Actor) -> String {
    token_for(world, by, Access::Read).await
}

async fn token_for(world: &World, by: &Actor, access: Access) -> String {
    let (name, lifetime) = ("now".parse().unwrap(), SignedDuration::from_hours(1));
    let new = NewToken { name, access, lifetime, is_strong: false };
    world.store.create_token(by, new).await.unwrap().1.reveal().to_owned()
}

impl Case {
    fn page(&self) -> String {
        format!("/obligations/{}/{}", self.change.change.id, self.tenant)
    }

    async fn newest_notice(&self, world: &World) -> String {
        let rows = world.store.notices(&self.person, &NoticeFilter::default(), &ALL).await.unwrap();
        format!("/notices/{}", rows.items[0].id)
    }
}

#[tokio::test]
async fn a_change_is_followed_from_the_list_to_its_obligation() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let title = &case.change.title;
    let change = format!("/changes/{}", case.change.change.id);

    let list = look(&world, &case.owner, "/changes").await;
    assert!(list.contains(title) && list.contains(&change) && list.contains("✓ proven"), "{list}");
    let page = look(&world, &case.owner, &change).await;
    assert!(page.contains(&"03".repeat(32)), "the evidence: {page}");
    assert!(page.contains(&case.page()) && page.contains("tested"), "{page}");
    let patch = format!("/patches/{}", case.change.patches[0]);
    assert!(page.contains(&patch), "{page}");
    let before = look(&world, &case.owner, &case.page()).await;
    assert!(before.contains("The provider is to plan it and tell a until"), "{before}");
    assert!(before.contains("There is no plan yet"), "{before}");

    world.clock.pass(SignedDuration::from_mins(30));
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let page = look(&world, &case.owner, &case.page()).await;
    for expected in [
        "a is to answer the plan until",
        "x1642-default",
        "The window opens at",
        "It passes by itself.",
        "The tenant has not agreed to this plan.",
        "Consent binds to the hash of this plan",
        &plan.hash().to_string(),
        "web-of-a",
        "installs <span class=\"mono\">web 2</span>",
        "restarts the system",
        "installs <span class=\"mono\">web 1</span> again",
        "Without an answer it counts as agreed",
        "It was proven in the lab.",
        "role=\"img\" aria-label=\"Provider 100 %\"",
        "Provider <strong>30 minutes</strong>",
        "Nothing was said to it yet.",
        "○ Planned",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    case.answer(&world, &plan, Decision::Approve).await;
    let page = look(&world, &case.owner, &case.page()).await;
    assert!(page.contains("It starts by itself at"), "{page}");
    assert!(page.contains("✓ approved") && page.contains("this plan"), "{page}");
    assert!(page.contains(&format!("/api/v1{}/consents", case.page())), "{page}");
}

#[tokio::test]
async fn a_clock_that_passed_or_was_not_looked_at_is_never_shown_as_in_time() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let root = token(&world, &world.admin).await;
    let clocks = look(&world, &root, "/clocks").await;
    assert!(
        clocks.contains("Every clock is in time.") && clocks.contains(&case.page()),
        "{clocks}"
    );
    let none = look(&world, &root, "/clocks?overdue=true").await;
    assert!(none.contains("No clock that is shown here is overdue."), "{none}");

    // The notice is due with the test, and nobody looks at the clock any more.
    let matter =
        world.store.matter(&world.admin, case.change.change.id, case.tenant).await.unwrap();
    let now = world.clock.now();
    let stage = matter.obligation.clock(&matter.policy, now).unwrap().stage_deadline.unwrap();
    world.clock.pass(stage.duration_since(now));
    let (root, owner) = (token(&world, &world.admin).await, token(&world, &case.person).await);
    let unknown = look(&world, &owner, "/clocks").await;
    assert!(unknown.contains("Nothing is known to be overdue; unknown: 1."), "{unknown}");
    assert!(unknown.contains("? unknown: not looked at in time"), "{unknown}");
    assert!(!unknown.contains("✓ in time</span>"), "{unknown}");
    assert!(look(&world, &owner, "/").await.contains("? 1 unknown"));

    wake(&world).await;
    for (reader, path) in [(&root, "/clocks?overdue=true&tenant=a"), (&owner, "/clocks")] {
        let late = look(&world, reader, path).await;
        assert!(late.contains("1 clock is overdue.") && late.contains("✗ overdue"), "{late}");
        assert!(late.contains(&case.page()) && late.contains("provider"), "{late}");
        assert!(!late.contains("✓ in time</span>"), "{late}");
    }
    let overview = look(&world, &owner, "/").await;
    assert!(overview.contains("✗ 1 overdue"), "{overview}");
    let page = look(&world, &owner, &case.page()).await;
    assert!(page.contains("The provider was to plan it and tell a until"), "{page}");

    world.clock.pass(DAY * 30);
    wake(&world).await;
    let owner = token(&world, &case.person).await;
    let page = look(&world, &owner, &case.page()).await;
    assert!(page.contains("✗ due date passed"), "{page}");
    assert!(page.contains("It is attributed to the provider"), "{page}");
}

#[tokio::test]
async fn what_an_emergency_owes_is_shown_until_it_is_recorded() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let root = token_for(&world, &world.admin, Access::Write).await;
    let api = format!("/api/v1{}", case.page());
    let post = async |verb: &str, body: Value| {
        world.ask(&root, "POST", &format!("{api}/{verb}"), Some(body)).await
    };
    let found = json!({ "priority": "critical", "exploited_by": "CISA KEV 2026.11.26" });
    let assessed = post("assess", found).await.json();
    assert_eq!(assessed["is_emergency"], true, "{assessed}");
    assert_eq!((&assessed["exposure"], &assessed["exposure_by"]), (&Value::Null, &Value::Null));
    let page = look(&world, &case.owner, &case.page()).await;
    assert!(page.contains("exposure unknown: counts as open"), "{page}");
    assert!(page.contains("The provider is to save what the patch may wipe until"), "{page}");

    let odd = json!({
        "tenant": case.tenant, "class": "vm", "name": "odd", "labels": { "exposure": "internal" },
    });
    let refused = world.ask(&root, "POST", "/api/v1/cis", Some(odd)).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("open, controlled or small"), "{}", refused.text);
    let labels = Some([("exposure".parse().unwrap(), "open".to_owned())].into());
    let open = CiAlteration { labels, ..CiAlteration::default() };
    world.store.alter_ci(&world.admin, case.ci, None, open).await.unwrap();
    let said = world.ask(&case.owner, "GET", &api, None).await.json();
    assert_eq!((&said["exposure"], said["is_emergency"].as_bool()), (&json!("open"), Some(true)));

    let hash = "05".repeat(32);
    let evidence = json!({ "what": "Memory of web", "sha256": hash });
    let path = format!("{api}/evidence");
    let theirs = world.ask(&case.owner, "POST", &path, Some(evidence.clone())).await;
    assert_eq!(theirs.status, 403);
    let saved = post("evidence", evidence).await.json();
    assert_eq!(saved["errands"][0]["sha256"], json!(hash), "{saved}");
    let page = look(&world, &case.owner, &case.page()).await;
    assert!(page.contains("Evidence was saved: Memory of web"), "{page}");
    assert!(!page.contains("to save what the patch may wipe until"), "{page}");

    let early = post("re-evaluation", json!({ "conclusion": "Nothing" })).await;
    assert!(early.text.contains("is not owed here"), "{}", early.text);
    world.observe(case.ci, case.tenant, &[("web", "2")]).await;
    world.check_fleet().await;
    wake(&world).await;
    assert_eq!(case.phase(&world).await, "verified");
    let clocks = world.ask(&case.owner, "GET", "/api/v1/clocks", None).await.json();
    assert_eq!(
        (&clocks[0]["owed"], &clocks[0]["settled"]),
        (&json!("re_evaluation"), &json!(true))
    );
    let page = look(&world, &case.owner, &case.page()).await;
    assert!(page.contains("The provider is to judge it again until"), "{page}");
    assert!(look(&world, &root, "/clocks").await.contains("is to judge it again until"));
    world.clock.pass(DAY * 4);
    wake(&world).await;
    let root = token_for(&world, &world.admin, Access::Write).await;
    let owner = token(&world, &case.person).await;
    let page = look(&world, &owner, &case.page()).await;
    assert!(page.contains("The provider was to judge it again until"), "{page}");
    let conclusion = Some(json!({ "conclusion": "No trace" }));
    let done = world.ask(&root, "POST", &format!("{api}/re-evaluation"), conclusion).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(world.ask(&owner, "GET", "/api/v1/clocks", None).await.json(), json!([]));
}

#[tokio::test]
async fn whatever_stands_in_a_change_is_text() {
    const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'";
    let world = World::new().await;
    let osv = json!({
        "schema_version": "1.7.0", "id": "<b>X", "modified": "2026-01-02T03:04:05Z",
        "credits": [{ "name": HOSTILE }],
        "affected": support::osv("X", "web", "2")["affected"],
    });
    let mut case = Case::new(&world, "a", osv, [3; 32]).await;
    let title = HOSTILE.to_owned();
    let new = store::NewChange {
        kind: domain::change::Kind::Alteration,
        title,
        patches: Vec::new(),
        tenants: vec![case.tenant],
        priority: domain::priority::Priority::High,
    };
    let own = case.change.clone();
    let hostile = world.store.create_change(&world.admin, None, new).await.unwrap();
    let change = format!("/changes/{}", own.change.id);
    let page = look(&world, &case.owner, &change).await;
    assert!(page.contains("Credit: &lt;img") && page.contains("&lt;b&gt;X"), "{page}");

    case.change = hostile;
    case.step(&world, ChangeStep::Prove).await;
    case.step(&world, ChangeStep::Pass([4; 32].into())).await;
    wake(&world).await;
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let acceptance = Acceptance {
        reason: HOSTILE.parse().unwrap(),
        risk_owner: HOSTILE.parse().unwrap(),
        expiry: world.clock.now() + DAY * 9,
    };
    let until = world.clock.now() + DAY;
    case.answer(&world, &plan, Decision::Defer { until, acceptance }).await;
    let notice = case.newest_notice(&world).await;
    for path in ["/changes", "/clocks", "/notices", &*notice, &*case.page()] {
        let page = look(&world, &case.owner, path).await;
        assert!(page.contains("&lt;img"), "{path}: {page}");
        assert!(!page.contains("<img"), "{path}: {page}");
    }
    let reason = HOSTILE.parse().unwrap();
    case.step(&world, ChangeStep::Withdraw(reason)).await;
    let page = look(&world, &case.owner, &format!("/changes/{}", case.change.change.id)).await;
    assert!(page.contains("taken back") && !page.contains("<img"), "{page}");
}

#[tokio::test]
async fn nothing_of_another_tenants_changes_is_seen() {
    const CANARY: &str = "canary-of-b";
    let world = World::new().await;
    let case = Case::new(&world, CANARY, support::osv(CANARY, "web", "2"), [3; 32]).await;
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let a = world.tenant("a").await;
    let of_a = world.token(a, Role::TenantOwner, Access::Write).await;
    let notice = case.newest_notice(&world).await;
    let change = format!("/changes/{}", case.change.change.id);

    let foreign = [CANARY.to_owned(), case.tenant.to_string(), case.change.change.id.to_string()];
    for path in ["/", "/changes", "/clocks", "/notices", "/notices?unread=true"] {
        let page = look(&world, &of_a, path).await;
        for foreign in &foreign {
            assert!(!page.contains(foreign), "{path}: {page}");
        }
    }
    let filters = [format!("/clocks?tenant={CANARY}"), format!("/notices?tenant={CANARY}")];
    let own = [change, case.page(), notice.clone()];
    for path in filters.iter().chain(&own) {
        let page = world.ask(&of_a, "GET", path, None).await;
        assert_eq!(page.status, 404, "{path}: {}", page.text);
        assert!(!page.text.contains("web-of-"), "{path}: {}", page.text);
    }
    // What it may do for itself it may not do for others.
    let read = world.ask(&of_a, "POST", &format!("{notice}/acknowledge"), None).await;
    assert!(read.status.is_client_error(), "{}", read.text);
    let cookie = session(&world, a, "ann", Role::TenantOwner).await;
    let read = post(&world, &cookie, "same-origin", &format!("{notice}/acknowledge"), "").await;
    assert_eq!(read.status, 404, "{}", read.text);
    assert_eq!(world.store.unread_notices(&case.person).await.unwrap(), 1);

    // Its own are there, for it and for the provider.
    let root = world.token(PROVIDER, Role::Auditor, Access::Read).await;
    for reader in [&case.owner, &root] {
        for path in &own {
            look(&world, reader, path).await;
        }
        for path in ["/changes", "/clocks", "/notices"] {
            assert!(look(&world, reader, path).await.contains(CANARY), "{path}");
        }
    }
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_to_sign_in() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let notice = case.newest_notice(&world).await;
    let change = format!("/changes/{}", case.change.change.id);
    for path in ["/changes", "/clocks", "/notices", &*change, &*case.page(), &*notice] {
        let page = world.ask("", "GET", path, None).await;
        assert_eq!(
            (page.status.as_u16(), &page.headers["location"]),
            (303, &"/login".parse().unwrap())
        );
    }
    for (path, form) in [
        (format!("{}/countersign", case.page()), format!("plan={}", "07".repeat(32))),
        (format!("{}/withdraw", case.page()), String::new()),
        (format!("{}/close", case.page()), String::new()),
        (format!("{notice}/acknowledge"), String::new()),
    ] {
        let refused = post(&world, "", "same-origin", &path, &form).await;
        assert_eq!(refused.headers["location"], "/login", "{path}");
    }
}

#[tokio::test]
async fn a_notice_is_read_as_it_was_sent_and_said_to_be_read() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let notice = case.newest_notice(&world).await;
    let cookie = session(&world, case.tenant, "ann", Role::TenantApprover).await;
    let ann = |path: &str| {
        let request = Request::builder().uri(path.to_owned()).header("cookie", &cookie);
        world.send(request.body(Body::empty()).unwrap())
    };

    let overview = ann("/").await.text;
    assert!(overview.contains("● 1 notice to read"), "{overview}");
    let list = ann("/notices?unread=true").await.text;
    assert!(list.contains("1 notice is to be read.") && list.contains("✓ console"), "{list}");
    assert!(list.contains("told</h2>") && list.contains("In the console alone"), "{list}");
    let page = ann(&notice).await.text;
    assert!(page.contains("Installs web 2.") && page.contains("I have read it"), "{page}");

    let acknowledge = format!("{notice}/acknowledge");
    let foreign = post(&world, &cookie, "cross-site", &acknowledge, "").await;
    assert_eq!(foreign.status, 403, "{}", foreign.text);
    assert_eq!(world.store.unread_notices(&case.person).await.unwrap(), 1);
    let viewer = session(&world, case.tenant, "vic", Role::TenantViewer).await;
    let refused = post(&world, &viewer, "same-origin", &acknowledge, "").await;
    assert_eq!(refused.status, 403, "{}", refused.text);

    let read = post(&world, &cookie, "same-origin", &acknowledge, "unread=true").await;
    assert_eq!(read.headers["location"], "/notices?unread=true");
    assert!(ann("/notices?unread=true").await.text.contains("Everything was read."));
    assert!(ann(&notice).await.text.contains("✓ Read</span> by ann"));
    let page = ann(&case.page()).await.text;
    assert!(page.contains("The tenant said that it read the notice."), "{page}");
}

#[tokio::test]
async fn the_providers_people_agree_withdraw_and_close_from_our_own_pages_alone() {
    let world = World::new().await;
    let mut case = Case::usual(&world, "a").await;
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let countersign = format!("{}/countersign", case.page());
    let form = format!("plan={}", plan.hash());
    let cookie = session(&world, PROVIDER, "paula", Role::Admin).await;
    let page = |cookie: &str| {
        let request = Request::builder().uri(case.page()).header("cookie", cookie);
        world.send(request.body(Body::empty()).unwrap())
    };

    let seen = page(&cookie).await.text;
    assert!(seen.contains("Agree to this plan") && seen.contains("Withdraw it"), "{seen}");
    assert!(!seen.contains("Close it"), "{seen}");
    let owner = session(&world, case.tenant, "olga", Role::TenantOwner).await;
    assert!(!page(&owner).await.text.contains("What you can do"), "a tenant does none of it");
    assert_eq!(post(&world, &owner, "same-origin", &countersign, &form).await.status, 403);
    for site in ["cross-site", "same-site", "none"] {
        for verb in ["countersign", "withdraw", "close"] {
            let path = format!("{}/{verb}", case.page());
            let refused = post(&world, &cookie, site, &path, &form).await;
            assert_eq!(refused.status, 403, "{site} {verb}: {}", refused.text);
        }
    }
    assert_eq!(case.phase(&world).await, "notified");

    let agreed = post(&world, &cookie, "same-origin", &countersign, &form).await;
    assert_eq!(agreed.headers["location"], case.page().as_str());
    let seen = page(&cookie).await.text;
    assert!(seen.contains("Agreed to by") && seen.contains("paula"), "{seen}");
    assert!(!seen.contains("Agree to this plan"), "once: {seen}");
    let close = post(&world, &cookie, "same-origin", &format!("{}/close", case.page()), "").await;
    assert_eq!(close.status, 422);
    assert!(
        close.text.contains("role=\"alert\"") && close.text.contains("close"),
        "{}",
        close.text
    );

    let withdraw = format!("{}/withdraw", case.page());
    let withdrawn = post(&world, &cookie, "same-origin", &withdraw, "").await;
    assert_eq!(withdrawn.headers["location"], case.page().as_str());
    assert_eq!(case.phase(&world).await, "withdrawn");
    let seen = page(&cookie).await.text;
    assert!(seen.contains("It is withdrawn: nothing is waited for."), "{seen}");
    assert!(!seen.contains("What you can do"), "{seen}");
    case.step(&world, ChangeStep::Withdraw("It is over".parse().unwrap())).await;
    let list = look(&world, &case.owner, "/changes").await;
    assert!(list.contains("– withdrawn") && list.contains("settled"), "{list}");
}

/// Which tenant found what concerns others as well is nobody's business, also not through a cursor.
#[tokio::test]
async fn a_list_of_changes_does_not_tell_who_else_found_one() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let of_a = world.token(a, Role::TenantOwner, Access::Read).await;
    let new = store::NewChange {
        kind: domain::change::Kind::Alteration,
        title: "an older one".to_owned(),
        patches: Vec::new(),
        tenants: vec![a],
        priority: domain::priority::Priority::Low,
    };
    world.store.create_change(&world.admin, None, new).await.unwrap();
    let finder = Case::usual(&world, "b").await;
    let advisory = finder.change.advisory.unwrap();
    let decision = json!({ "state": "accepted", "reason": "it concerns everybody" });
    let root = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let path = format!("/api/v1/advisories/{advisory}/decision");
    let decided = world.ask_with(&root, "PUT", &path, Some(decision), &[("if-match", "*")]).await;
    assert_eq!(decided.status, 200, "{}", decided.text);
    let new = store::NewCi {
        tenant: a,
        class: domain::cloud::Class::Vm,
        name: "web-of-a".parse().unwrap(),
        labels: store::Labels::new(),
    };
    let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
    world.observe(ci, a, &[("web", "1")]).await;
    world.check_fleet().await;
    world.open_obligations(100).await;

    let list = world.ask(&of_a, "GET", "/api/v1/changes?limit=1", None).await;
    let id = finder.change.change.id.to_string();
    assert_eq!(list.json()["items"][0]["id"], id, "{}", list.text);
    assert!(list.json()["next"].is_string(), "{}", list.text);
    let page = look(&world, &of_a, &format!("/changes/{id}")).await;
    assert!(page.contains("found by provider"), "{page}");
    for text in [&list.text, &page] {
        assert!(!text.contains(&finder.tenant.to_string()), "{text}");
    }
}
