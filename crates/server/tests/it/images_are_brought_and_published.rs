//! Images: how they come in, whose they are, and which of them VMs are made from.

use crate::support::laboratory::MAGIC;
use crate::support::{self, Answer, EXPLOITED, World};
use axum::body::Body;
use axum::http::Request;
use domain::cloud::{Access, EventKind, PROVIDER, Role, TenantId};
use serde_json::{Value, json};
use server::LabSettings;

async fn step(world: &World, token: &str, image: &Value, step: &str, body: Value) -> Answer {
    let path = format!("/api/v1/images/{}/{step}", image["id"].as_str().unwrap());
    world.ask_with(token, "POST", &path, Some(body), &[("if-match", "*")]).await
}

async fn read(world: &World, token: &str, image: &Value, what: &str) -> Answer {
    let path = format!("/api/v1/images/{}{what}", image["id"].as_str().unwrap());
    world.ask(token, "GET", &path, None).await
}

async fn admission(world: &World, token: &str, image: &Value) -> Value {
    read(world, token, image, "/admission").await.json()
}

/// A version that stood its test.
async fn tested(world: &World, token: &str, tenant: TenantId, packages: &str) -> Value {
    let image = world.image(token, tenant, packages).await;
    let job = world.queue(token, &image, "test", json!({})).await;
    let working = world.working(LabSettings::default()).await;
    world.until(token, &job, "done").await;
    working.end().await;
    image
}

#[tokio::test]
async fn an_image_is_brought_checked_tested_published_and_superseded() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(a, Role::TenantOwner, Access::Write).await;
    let image = world.image(&token, a, "web 1\n").await;
    assert_eq!(
        (&image["number"], &image["state"], &image["release"], &image["format"]),
        (&json!(1), &json!("candidate"), &json!("debian:12"), &json!("raw"))
    );

    // It is an item like any other: its missing patches are found.
    let advisory = json!({ "osv": support::osv("CVE-2026-1111", "web", "2") });
    let advisory = world.ask(&token, "POST", "/api/v1/advisories", Some(advisory)).await;
    assert_eq!(advisory.status, 201, "{}", advisory.text);
    world.check_fleet().await;
    let query = format!("/api/v1/findings?ci={}", image["ci"].as_str().unwrap());
    let findings = world.ask(&token, "GET", &query, None).await.json();
    assert_eq!(findings["items"][0]["source"], "web");

    // Nothing is published that was not tested, nor admitted that was not published.
    let refused = step(&world, &token, &image, "publish", json!({})).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["help"].as_str().unwrap().contains("test it"), "{}", refused.text);
    let admitted = admission(&world, &token, &image).await;
    assert_eq!(
        (&admitted["admitted"], &admitted["reason"], &admitted["health"]),
        (&json!(false), &json!("not_published"), &json!("usable"))
    );

    let image = tested(&world, &token, a, "web 1\n").await;
    assert_eq!(read(&world, &token, &image, "").await.json()["state"], "tested");
    let published = step(&world, &token, &image, "publish", json!({})).await;
    assert_eq!((published.status.as_u16(), &published.json()["state"]), (200, &json!("current")));
    let stale = format!("/api/v1/images/{}/retire", image["id"].as_str().unwrap());
    let stale = world.ask_with(&token, "POST", &stale, None, &[("if-match", "\"1\"")]).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let without = format!("/api/v1/images/{}/retire", image["id"].as_str().unwrap());
    assert_eq!(world.ask(&token, "POST", &without, None).await.status, 428);
    let current = step(&world, &token, &image, "retire", json!({})).await;
    assert_eq!(current.status, 422, "{}", current.text);
    world.check_fleet().await;
    let admitted = admission(&world, &token, &image).await;
    assert_eq!(
        (&admitted["admitted"], &admitted["reason"], &admitted["help"]),
        (&json!(true), &json!(null), &json!(null))
    );

    // The next one takes its place, and it is refused when the grace is over.
    let next = tested(&world, &token, a, "web 2\n").await;
    assert_eq!(next["number"], 3);
    let long = step(&world, &token, &next, "publish", json!({ "grace_minutes": 200_000 })).await;
    assert_eq!(long.status, 400);
    step(&world, &token, &next, "publish", json!({ "grace_minutes": 0 })).await;
    let old = read(&world, &token, &image, "").await.json();
    assert_eq!((&old["state"], old["refused_from"].is_string()), (&json!("superseded"), true));
    let admitted = admission(&world, &token, &image).await;
    assert_eq!((&admitted["admitted"], &admitted["reason"]), (&json!(false), &json!("cut_off")));
    assert!(admitted["help"].as_str().unwrap().contains("current version"));

    let retired = step(&world, &token, &image, "retire", json!({})).await;
    assert_eq!(retired.json()["state"], "retired");
    let refused = step(&world, &token, &image, "jobs", json!({ "kind": "prove" })).await;
    assert_eq!(refused.status, 422, "nothing is done with what is used no more");
}

#[tokio::test]
async fn what_is_exploited_or_unknown_is_not_admitted() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let image = tested(&world, &token, PROVIDER, "web 1\n").await;
    step(&world, &token, &image, "publish", json!({})).await;

    let unchecked = admission(&world, &token, &image).await;
    assert_eq!((&unchecked["admitted"], &unchecked["reason"]), (&json!(false), &json!("unknown")));
    assert_eq!(unchecked["because"], "it was not checked yet");

    world.check_fleet().await;
    assert_eq!(admission(&world, &token, &image).await["admitted"], true);
    let advisory = json!({ "osv": support::osv(EXPLOITED, "web", "2") });
    let advisory = world.ask(&token, "POST", "/api/v1/advisories", Some(advisory)).await.json();
    let path = format!("/api/v1/advisories/{}/decision", advisory["id"].as_str().unwrap());
    let accepted = json!({ "state": "accepted", "reason": "it is true" });
    let accepted = world.ask_with(&token, "PUT", &path, Some(accepted), &[("if-match", "*")]).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    world.check_fleet().await;

    let refused = admission(&world, &token, &image).await;
    assert_eq!((&refused["admitted"], &refused["reason"]), (&json!(false), &json!("exploited")));
    assert_eq!(refused["because"], format!("web: {EXPLOITED}"));
    assert!(refused["help"].as_str().unwrap().contains("bake"));
}

#[tokio::test]
async fn a_hostile_image_is_refused_with_the_reason_and_leaves_nothing() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;

    let hostile = world.upload(&token, PROVIDER, "no image at all").await;
    assert_eq!(hostile.status, 422);
    assert_eq!(hostile.json()["detail"], "there is no partition table");
    assert_eq!(hostile.json()["help"], "send a raw or qcow2 image");
    let deadly = world.upload(&token, PROVIDER, "deadly").await;
    assert_eq!(deadly.status, 422, "{}", deadly.text);
    assert_eq!(world.upload(&token, PROVIDER, "").await.status, 400);
    let large = format!("{MAGIC}{}", "x".repeat(4 << 20));
    let refused = world.upload(&token, PROVIDER, &large).await;
    assert_eq!(refused.status, 413, "{}", refused.text);
    let body = Some(json!({}));
    let path = "/api/v1/images/content";
    assert_eq!(world.ask(&token, "POST", path, body).await.status, 400, "JSON is no image");

    // What does not say how long it is, is stopped all the same; what breaks off is not taken.
    let send = async |chunks: Vec<Result<String, std::io::Error>>| {
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/octet-stream");
        world.send(request.body(body).unwrap()).await
    };
    let chunk = || Ok("x".repeat(1 << 20));
    let endless = send((0..100).map(|_| chunk()).collect()).await;
    assert_eq!(endless.status, 413, "{}", endless.text);
    let cut = send(vec![Ok(MAGIC.to_owned()), Err(std::io::Error::other("away"))]).await;
    assert_eq!(cut.status, 400, "{}", cut.text);

    assert_eq!(world.image_files(), Vec::<String>::new());
    // Larger than any other body may be, it is taken.
    let packages = (0..250_000).fold(String::new(), |all, at| all + &format!("p{at} 1\n"));
    assert!(packages.len() > 2 << 20);
    let large = world.upload(&token, PROVIDER, &format!("{MAGIC}{packages}")).await;
    assert_eq!(large.status, 201, "{}", large.text);
    assert_eq!(world.image_files(), [large.json()["sha256"].as_str().unwrap()]);
}

#[tokio::test]
async fn a_tenant_keeps_no_more_than_it_may() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let of_a = world.token(a, Role::TenantOwner, Access::Write).await;
    let of_b = world.token(b, Role::TenantOwner, Access::Write).await;
    let image = |which: u32| {
        let packages =
            (which..which + 400_000).fold(String::new(), |all, at| all + &format!("p{at} 1\n"));
        format!("{MAGIC}{packages}")[..3 << 20].trim_end_matches(|it| it != '\n').to_owned()
    };
    for which in 0..4 {
        let taken = world.upload(&of_a, a, &image(which)).await;
        assert_eq!(taken.status, 201, "{}", taken.text);
    }

    let refused = world.upload(&of_a, a, &image(4)).await;

    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.json()["detail"].as_str().unwrap().contains("may keep 12582912"));
    assert_eq!(world.upload(&of_b, b, &image(4)).await.status, 201, "others have room");
    assert_eq!(world.image_files().len(), 5);
}

#[tokio::test]
async fn to_know_a_hash_is_not_to_have_the_bytes() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let of_a = world.token(a, Role::TenantOwner, Access::Write).await;
    let of_b = world.token(b, Role::TenantOwner, Access::Write).await;
    let theirs = world.image(&of_b, b, "web 1\n").await;
    let claim = json!({ "tenant": a, "name": "web", "sha256": theirs["sha256"] });
    let claimed = async || world.ask(&of_a, "POST", "/api/v1/images", Some(claim.clone())).await;

    let refused = claimed().await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    let unknown = json!({ "tenant": a, "name": "web", "sha256": "0".repeat(64) });
    let unknown = world.ask(&of_a, "POST", "/api/v1/images", Some(unknown)).await;
    let without_hash = |answer: &Answer, hash: &str| answer.text.replace(hash, "HASH");
    assert_eq!(
        without_hash(&refused, theirs["sha256"].as_str().unwrap()),
        without_hash(&unknown, &"0".repeat(64)),
        "nothing tells that somebody else has it"
    );
    let parent = json!({
        "tenant": a, "name": "web", "sha256": "0".repeat(64), "parent": theirs["id"],
    });
    assert_eq!(world.ask(&of_a, "POST", "/api/v1/images", Some(parent)).await.status, 404);
    // Whom one does not know, one brings nothing.
    assert_eq!(world.upload(&of_a, b, &format!("{MAGIC}web 1\n")).await.status, 404);

    // Whoever really has the same bytes brings them, and they lie here once.
    assert_eq!(world.upload(&of_a, a, &format!("{MAGIC}web 1\n")).await.status, 201);
    assert_eq!(claimed().await.status, 201);
    assert_eq!(world.image_files().len(), 1);
    let odd = json!({ "tenant": a, "name": "web", "sha256": "../../../etc/passwd" });
    assert_eq!(world.ask(&of_a, "POST", "/api/v1/images", Some(odd)).await.status, 400);
}

#[tokio::test]
async fn bytes_leave_recorded_and_go_when_nobody_needs_them() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let operator = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let viewer = world.token(a, Role::TenantViewer, Access::Read).await;
    let image = world.image(&operator, a, "web 1\n").await;
    let same = world.image(&operator, b, "web 1\n").await;

    let content = read(&world, &viewer, &image, "/content").await;
    assert_eq!((content.status.as_u16(), content.text.as_str()), (200, "an image\nweb 1\n"));
    assert_eq!(content.headers["content-length"], content.text.len().to_string());
    assert!(content.headers["repr-digest"].to_str().unwrap().starts_with("sha-256=:"));
    for _ in 0..2 {
        assert_eq!(read(&world, &operator, &image, "/content").await.status, 200);
    }
    world.store.sequence_events(1000).await.unwrap();
    let events = world.store.sequenced_events(0, 1000).await.unwrap();
    let told: Vec<_> =
        events.iter().filter(|event| event.kind == EventKind::RecordsRetrieved).collect();
    assert_eq!(told.len(), 2, "each person once in an hour");
    assert!(told.iter().all(|event| event.tenant == a && event.object == image["id"]));
    let says: Value = serde_json::from_slice(&told[0].payload).unwrap();
    assert_eq!((&says["what"], &says["sha256"]), (&json!("image"), &image["sha256"]));

    let remove = async |image: &Value| {
        let path = format!("/api/v1/images/{}/content", image["id"].as_str().unwrap());
        world.ask(&operator, "DELETE", &path, None).await.status.as_u16()
    };
    assert_eq!(remove(&image).await, 422, "it may still be used");
    step(&world, &operator, &image, "retire", json!({})).await;
    assert_eq!(remove(&image).await, 204);
    assert_eq!(read(&world, &viewer, &same, "/content").await.status, 404, "not the viewer's");
    assert_eq!(read(&world, &operator, &same, "/content").await.status, 200, "another has them");
    step(&world, &operator, &same, "retire", json!({})).await;
    assert_eq!(world.image_files().len(), 1, "retired bytes stay until somebody says so");
    assert_eq!(remove(&same).await, 204);
    assert_eq!(world.image_files(), Vec::<String>::new());
    let gone = read(&world, &operator, &same, "/content").await;
    assert_eq!(gone.status, 404);
    assert!(gone.json()["help"].as_str().unwrap().contains("removed"), "{}", gone.text);
    assert_eq!(read(&world, &operator, &same, "").await.json()["state"], "retired");
}

#[tokio::test]
async fn a_rehearsal_keeps_nothing_and_a_start_removes_what_nobody_owns() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/images/content?dry_run=true")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/octet-stream")
        .body(Body::from(format!("{MAGIC}web 1\n")));

    let rehearsed = world.send(request.unwrap()).await;

    assert_eq!(rehearsed.status, 201);
    assert_eq!(rehearsed.headers["patchwright-dry-run"], "true");
    assert_eq!(world.image_files(), Vec::<String>::new());
    let kept = world.image(&token, PROVIDER, "web 1\n").await;
    // A process that was killed after it placed them, and one that was while they came in.
    let images = world.directory.path().join("images/sha256");
    std::fs::create_dir_all(images.join("ab")).unwrap();
    std::fs::write(images.join("ab").join("ab".repeat(32)), "x").unwrap();
    assert_eq!(world.image_files().len(), 2);
    drop(world.working(LabSettings::default()).await);
    assert_eq!(world.image_files().len(), 2, "the store may hear of them yet");
    world.let_bytes_age();
    std::fs::write(images.join(".new-1"), "x").unwrap();

    drop(world.working(LabSettings::default()).await);

    assert_eq!(world.image_files(), [kept["sha256"].as_str().unwrap()]);
}

#[tokio::test]
async fn a_control_plane_without_a_lab_says_so() {
    let world = World::without_lab().await;
    let token = world.token(PROVIDER, Role::Operator, Access::Write).await;

    let refused = world.upload(&token, PROVIDER, MAGIC).await;

    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["detail"], "this control plane has no lab");
    assert!(refused.json()["help"].is_string());
    assert_eq!(world.ask(&token, "GET", "/api/v1/images", None).await.json()["items"], json!([]));
}
