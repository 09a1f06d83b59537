//! The drift board: what nobody agreed to is shown to those whom it concerns, who adopt it or have it put back.

use domain::cloud::{Access, EventKind};
use serde_json::{Value, json};
use store::{Actor, Environment as _};

use crate::support::World;
use crate::support::case::{Case, tell};

const SSHD: &str = "/etc/ssh/sshd_config";

async fn first_drift(world: &World, token: &str) -> Value {
    let list = world.ask(token, "GET", "/api/v1/drifts?state=open", None).await.json();
    list["items"][0].clone()
}

async fn events(world: &World, kind: EventKind) -> usize {
    world.recorder.finish().await.unwrap();
    let by = world.admin.clone();
    let events = world.store.events(&by, store::Retrieval::Events, 0, 10_000).await.unwrap();
    events.iter().filter(|event| event.kind == kind).count()
}

#[tokio::test]
async fn a_drift_is_shown_and_adopted_by_whoever_keeps_the_item() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    world.alter(case.ci, SSHD, "Port 22\nPermitRootLogin no\n", "<i>anna</i>").await;
    world.alter(case.ci, SSHD, "Port 22\nPermitRootLogin yes\n", "<i>anna</i>").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let ask = async |token: &str, path: &str| world.ask(token, "GET", path, None).await;

    let drift = first_drift(&world, &owner).await;
    assert_eq!(drift["path"], SSHD);
    assert_eq!(drift["alterations"], 2);
    assert_eq!(drift["verdict"]["standing"], "unauthorised");
    assert_eq!(drift["verdict"]["actor"]["login"], "<i>anna</i>");
    let id = drift["id"].as_str().unwrap();
    let versions = format!("/api/v1/cis/{}/files/versions?path={SSHD}", case.ci);
    let versions = ask(&owner, &versions).await.json();
    assert_eq!(versions["items"][1]["verdict"]["verdict"]["verdict"], "unauthorised", "{versions}");

    let board = ask(&owner, "/drifts").await.text;
    assert!(board.contains("One file is not as agreed") && board.contains(SSHD), "{board}");
    assert!(board.contains("&lt;i&gt;anna") && !board.contains("<i>anna"), "{board}");
    let page = ask(&owner, &format!("/drifts/{id}")).await.text;
    for part in ["Adopt it", "something that nobody agreed to", "PermitRootLogin yes"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(ask(&other.owner, &format!("/drifts/{id}")).await.status, 404);
    assert!(ask(&other.owner, "/drifts").await.text.contains("Nothing was altered without leave"));

    // The provider's people see it, which is recorded, and do not decide about the tenant's own item.
    let admin = world.token_of(&world.admin, Access::Write).await;
    let page = ask(&admin, &format!("/drifts/{id}")).await.text;
    assert!(page.contains(SSHD) && !page.contains("Adopt it"), "{page}");
    assert_eq!(events(&world, EventKind::FilesRead).await, 1);
    let body = json!({ "reason": "x", "recorded_at": drift["recorded_at"] });
    let adopt = format!("/api/v1/drifts/{id}/adopt");
    let refused = world.ask(&admin, "POST", &adopt, Some(body)).await;
    assert_eq!(refused.status, 422, "{}", refused.text);

    let empty = json!({ "reason": " ", "recorded_at": drift["recorded_at"] });
    assert_eq!(world.ask(&owner, "POST", &adopt, Some(empty)).await.status, 400);
    let stale = json!({ "reason": "x", "recorded_at": world.clock.now() });
    let refused = world.ask(&owner, "POST", &adopt, Some(stale)).await;
    assert!(refused.text.contains("altered again since"), "{}", refused.text);
    let body = json!({ "reason": "a machine of ours", "recorded_at": drift["recorded_at"] });
    let rehearsed = format!("{adopt}?dry_run=true");
    let rehearsed = world.ask(&owner, "POST", &rehearsed, Some(body.clone())).await.json();
    assert_eq!(rehearsed["state"], "adopted", "{rehearsed}");
    let adopted = world.ask(&owner, "POST", &adopt, Some(body)).await.json();
    assert_eq!(
        (&adopted["state"], &adopted["reason"]),
        (&json!("adopted"), &json!("a machine of ours"))
    );
    assert_eq!(events(&world, EventKind::DriftSettled).await, 1);
    assert!(ask(&owner, "/drifts").await.text.contains("Nothing was altered without leave"));
    assert!(ask(&owner, "/drifts?state=adopted").await.text.contains(SSHD));
    assert_eq!(ask(&owner, "/drifts?state=odd").await.status, 400);
}

/// What a file was from the beginning.
async fn was(world: &World, ci: domain::cloud::CiId, content: &str) {
    let metadata =
        store::Metadata { mode: 0o100_644, owner: "root:root".to_owned(), label: Vec::new() };
    let file = store::NewFile {
        path: store::FilePath::new(SSHD).unwrap(),
        state: store::NewState::Present { content: content.as_bytes().to_vec(), metadata },
        observed_at: world.clock.now(),
        source: "agent".to_owned(),
        by: None,
        change: None,
    };
    world.history().record(&Actor::System, ci, vec![file]).await.unwrap();
}

#[tokio::test]
async fn a_file_is_put_back_by_an_alteration() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    was(&world, case.ci, "Port 22\n").await;
    world.alter(case.ci, SSHD, "Port 2222\n", "anna").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let id = first_drift(&world, &admin).await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/drifts/{id}/put-back");

    let dry = format!("{path}?dry_run=true");
    let rehearsed = world.ask(&admin, "POST", &dry, Some(json!({}))).await.json();
    assert!(rehearsed["change"].is_string(), "{rehearsed}");
    assert!(first_drift(&world, &admin).await["change"].is_null(), "nothing is left of it");
    let taken = world.ask(&admin, "POST", &path, Some(json!({}))).await.json();

    let change = taken["change"].as_str().unwrap();
    let found = world.ask(&admin, "GET", &format!("/api/v1/changes/{change}"), None).await.json();
    assert_eq!(found["kind"], "alteration", "{found}");
    assert_eq!(found["stage"]["is"], "proven", "{found}");
    assert!(found["title"].as_str().unwrap().contains(&id), "{found}");
    assert!(!found.to_string().contains(SSHD), "what files are called is not for everybody");
    let again = world.ask(&admin, "POST", &path, Some(json!({}))).await;
    assert_eq!(again.status, 409, "{}", again.text);
    let page = world.ask(&admin, "GET", &format!("/drifts/{id}"), None).await.text;
    assert!(page.contains(change) && !page.contains("Put it back<"), "{page}");

    // Its tenant sees what is to be, and nobody else's.
    let files = format!("/api/v1/changes/{change}/files");
    let listed = world.ask(&owner, "GET", &files, None).await.json();
    assert_eq!((&listed[0]["path"], &listed[0]["bytes"]), (&json!(SSHD), &json!(8)), "{listed}");
    let which = format!("{files}/diff?ci={}&path={SSHD}", case.ci);
    let differs = world.ask(&owner, "GET", &which, None).await.json();
    let diff = differs["diff"].as_str().unwrap();
    assert!(diff.contains("-Port 2222\n+Port 22\n"), "{diff}");
    for path in [&files, &which] {
        assert_eq!(world.ask(&other.owner, "GET", path, None).await.status, 404, "{path}");
    }
    let page = world.ask(&owner, "GET", &format!("/changes/{change}"), None).await.text;
    assert!(page.contains("What it makes of files") && page.contains(SSHD), "{page}");
    let page = world.ask(&owner, "GET", &format!("/changes/{change}/files"), None).await.text;
    assert!(page.contains("Port <b>2222</b>"), "{page}");

    // It is planned as a release, and its tenant is asked.
    let body = json!({ "change": change, "profile": "emergency" });
    let made = world.ask(&admin, "POST", "/api/v1/releases", Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let action = &made.json()["turns"][0]["actions"][0];
    assert_eq!((&action["do"], &action["path"]), (&json!("write_file"), &json!(SSHD)), "{action}");
    assert_eq!(action["after"], listed[0]["after"]);
    let clocks = world.ask(&owner, "GET", "/api/v1/clocks", None).await.json();
    let of_change = clocks.as_array().unwrap().iter().find(|it| it["change"] == change).unwrap();
    assert_eq!(of_change["phase"], "planned", "{of_change}");

    // Altered once more: what would be agreed to is not so any more.
    world.alter(case.ci, SSHD, "Port 2223\n", "anna").await;
    let body = json!({ "change": change });
    let refused = world.ask(&admin, "POST", "/api/v1/releases", Some(body)).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("was altered since that was proposed"), "{}", refused.text);
}

#[tokio::test]
async fn one_click_puts_a_file_back() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    was(&world, case.ci, "Port 22\n").await;
    world.alter(case.ci, SSHD, "Port 2222\n", "anna").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let id = first_drift(&world, &admin).await["id"].as_str().unwrap().to_owned();
    let path = format!("/drifts/{id}/put-back");
    let click = async |token: &str| world.submit(token, &path, "").await;
    let page = world.ask(&admin, "GET", &format!("/drifts/{id}"), None).await.text;
    assert!(page.contains("Put it back"), "{page}");
    assert_eq!(click(&owner).await.status, 403, "its tenant agrees, and does not plan");

    let done = click(&admin).await;

    assert_eq!(done.status, 303, "{}", done.text);
    let releases = world.ask(&admin, "GET", "/api/v1/releases", None).await.json();
    assert_eq!(releases["items"].as_array().unwrap().len(), 1, "{releases}");
    let again = click(&admin).await;
    assert!(again.status == 409 && again.text.contains("puts it back"), "{}", again.text);
}

#[tokio::test]
async fn what_a_file_is_to_hold_is_proposed_without_telling_what_is_secret() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    was(&world, case.ci, "Port 22\n").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let body = json!({ "kind": "alteration", "title": "ports", "tenants": [case.tenant] });
    let made = world.ask(&admin, "POST", "/api/v1/changes", Some(body)).await.json();
    let files = format!("/api/v1/changes/{}/files", made["id"].as_str().unwrap());
    let put = async |path: &str, content: &str| {
        let body = json!({ "ci": case.ci, "path": path, "content": content });
        world.ask(&admin, "PUT", &files, Some(body)).await
    };
    // `Port 2022\n`, and `password = Tr0ub4dor-and-3\n`.
    let (port, secret) = ("UG9ydCAyMDIyCg==", "cGFzc3dvcmQgPSBUcjB1YjRkb3ItYW5kLTMK");
    assert_eq!(put(SSHD, "no base64").await.status, 400);
    assert_eq!(put("etc/passwd", port).await.status, 422);
    assert_eq!(put("/srv/x", port).await.status, 422, "nobody could see it");
    let refused = put("/etc/ssh/app.ini", secret).await;
    assert!(refused.status == 422 && !refused.text.contains("Tr0ub4dor"), "{}", refused.text);
    let proposed = put(SSHD, port).await;
    assert_eq!(proposed.status, 200, "{}", proposed.text);
    assert_eq!(events(&world, EventKind::ChangeFileProposed).await, 1);
    let of_nobody =
        json!({ "ci": domain::cloud::CiId::of_content([9; 16]), "path": SSHD, "content": port });
    assert_eq!(world.ask(&admin, "PUT", &files, Some(of_nobody)).await.status, 404);
}

#[tokio::test]
async fn a_file_is_proposed_to_be_gone_or_somebody_elses() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    was(&world, case.ci, "Port 22\n").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let body = json!({ "kind": "alteration", "title": "ports", "tenants": [case.tenant] });
    let made = world.ask(&admin, "POST", "/api/v1/changes", Some(body)).await.json();
    let change = made["id"].as_str().unwrap();
    let files = format!("/api/v1/changes/{change}/files");
    let put = async |token: &str, query: &str, more: serde_json::Value| {
        let mut body = json!({ "ci": case.ci, "path": SSHD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.ask(token, "PUT", &format!("{files}{query}"), Some(body)).await
    };
    for wrong in [
        json!({}),
        json!({ "absent": true, "mode": "0600" }),
        json!({ "absent": true, "content": "" }),
        json!({ "mode": "rw-r--r--" }),
        json!({ "mode": 384 }),
        json!({ "owner": "a:b" }),
    ] {
        let refused = put(&admin, "", wrong.clone()).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.text);
    }
    let rights = put(&admin, "", json!({ "mode": "4755" })).await;
    assert!(rights.status == 422 && rights.text.contains("have rights"), "{}", rights.text);
    assert_eq!(put(&owner, "", json!({ "absent": true })).await.status, 403);

    let dry = put(&admin, "?dry_run=true", json!({ "absent": true })).await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    assert!(dry.json()["after"].is_null(), "{}", dry.text);
    assert_eq!(world.ask(&admin, "GET", &files, None).await.json(), json!([]));

    let access = |mode: &str, group: &str| json!({ "mode": mode, "owner": "root", "group": group });
    let given = put(&admin, "", json!({ "mode": "0600", "group": "adm" })).await.json();
    assert_eq!(given["held_access"], access("0644", "root"), "{given}");
    assert_eq!(given["access"], access("0600", "adm"), "{given}");
    assert_eq!(given["held"], given["after"], "what it holds stays");
    let page = world.ask(&owner, "GET", &format!("/changes/{change}/files"), None).await.text;
    assert!(page.contains("0644 root:root") && page.contains("0600 root:adm"), "{page}");

    let gone = put(&admin, "", json!({ "absent": true })).await.json();
    assert_eq!((&gone["after"], &gone["access"]), (&json!(null), &json!(null)), "{gone}");
    let which = format!("{files}/diff?ci={}&path={SSHD}", case.ci);
    let differs = world.ask(&owner, "GET", &which, None).await.json();
    let gone = format!("--- {SSHD}\n+++ /dev/null\n@@ -1 +0,0 @@\n-Port 22\n");
    assert_eq!(differs["diff"], gone, "{differs}");
    let page = world.ask(&owner, "GET", &format!("/changes/{change}/files"), None).await.text;
    assert!(page.contains("taken away") && page.contains("Port 22"), "{page}");
    let page = world.ask(&owner, "GET", &format!("/changes/{change}"), None).await.text;
    assert!(page.contains("it is taken away"), "{page}");
}

#[tokio::test]
async fn a_file_that_came_by_a_drift_is_taken_away_by_one_click() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    world.alter(case.ci, SSHD, "Port 2222\n", "anna").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let id = first_drift(&world, &admin).await["id"].as_str().unwrap().to_owned();
    let page = world.ask(&admin, "GET", &format!("/drifts/{id}"), None).await.text;
    assert!(page.contains("Put it back") && page.contains("is taken away again"), "{page}");

    let done = world.submit(&admin, &format!("/drifts/{id}/put-back"), "").await;

    assert_eq!(done.status, 303, "{}", done.text);
    let releases = world.ask(&admin, "GET", "/api/v1/releases", None).await.json();
    let release = releases["items"][0]["id"].as_str().unwrap();
    let release =
        world.ask(&admin, "GET", &format!("/api/v1/releases/{release}"), None).await.json();
    let action = &release["turns"][0]["actions"][0];
    assert_eq!((&action["do"], &action["path"]), (&json!("alter_file"), &json!(SSHD)), "{action}");
    assert!(action["after"].is_null() && action["before"]["access"]["mode"] == "0644", "{action}");
    let clocks = world.ask(&admin, "GET", "/api/v1/clocks", None).await.json();
    let change = release["change"].as_str().unwrap();
    assert!(clocks.to_string().contains(change), "{clocks}");
}

#[tokio::test]
async fn a_form_adopts_it_too() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    world.alter(case.ci, SSHD, "Port 2222\n", "anna").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let drift = first_drift(&world, &owner).await;
    let path = format!("/drifts/{}/adopt", drift["id"].as_str().unwrap());
    let post = async |form: &str| world.submit(&owner, &path, form).await;
    let stale = post("reason=ours&recorded_at=2020-01-01T00:00:00Z").await;
    assert!(stale.text.contains("altered again since") && stale.text.contains("Adopt it"));

    let recorded_at = drift["recorded_at"].as_str().unwrap();
    let adopted = post(&format!("reason=ours&recorded_at={recorded_at}")).await;

    assert_eq!(adopted.status, 303, "{}", adopted.text);
    assert!(first_drift(&world, &owner).await.is_null());
    let _: Actor = case.person;
}

/// An agent tells who logged in.
async fn record_login(world: &World, ci: domain::cloud::CiId, sessions: &str) {
    let metadata = store::Metadata { mode: 0, owner: String::new(), label: Vec::new() };
    let file = store::NewFile {
        path: store::FilePath::new("profile:logins").unwrap(),
        state: store::NewState::Present { content: sessions.as_bytes().to_vec(), metadata },
        observed_at: world.clock.now(),
        source: "agent".to_owned(),
        by: None,
        change: None,
    };
    world.history().record(&Actor::System, ci, vec![file]).await.unwrap();
}

#[tokio::test]
async fn an_item_is_told_on_one_axis() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    world.alter(case.ci, SSHD, "Port 2222\n", "anna").await;
    let owner = world.token_of(&case.person, Access::Read).await;
    let path = format!("/api/v1/cis/{}/timeline", case.ci);

    let login = |at: jiff::Timestamp, account: &str| {
        format!("{at} {account} on pts/0 from 192.0.2.7 until now\n")
    };
    let day = jiff::SignedDuration::from_hours(24);
    let (now, long_ago) = (world.clock.now(), world.clock.now() - day * 40);
    let second = |at: jiff::Timestamp| jiff::Timestamp::from_second(at.as_second()).unwrap();
    let sessions =
        login(second(long_ago), "old") + "no line of it\n" + &login(second(now), "<b>anna");
    record_login(&world, case.ci, &sessions).await;
    world.clock.pass(jiff::SignedDuration::from_mins(6));
    tell(&world).await;

    let told = world.ask(&owner, "GET", &path, None).await.json();

    let moments = told["items"].as_array().unwrap();
    let notice = moments.iter().find(|it| it["kind"] == "notice.published").expect("it was told");
    assert_eq!(notice["payload"]["title"], "drift: 1 opened on 1 item");
    assert_eq!(notice["payload"]["document"], Value::Null, "it is read where it stands");
    let logins: Vec<_> = moments.iter().filter(|it| it["kind"] == "login").collect();
    let [login] = logins[..] else { panic!("{logins:?}") };
    assert_eq!((&login["by"], &login["event"]), (&json!("<b>anna"), &Value::Null));
    assert_eq!(login["payload"]["host"], "192.0.2.7");
    let of_other = format!("/api/v1/cis/{}/timeline", other.ci);
    let of_other = world.ask(&other.owner, "GET", &of_other, None).await.json();
    assert!(!of_other.to_string().contains("notice.published"), "{of_other}");
    let kinds: Vec<_> = moments.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    for kind in ["ci.created", "history.recorded", "files.judged", "drift.opened"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let judged = moments.iter().find(|it| it["kind"] == "files.judged").unwrap();
    assert_eq!(judged["files"], json!([{ "path": SSHD, "standing": "unauthorised" }]));
    let at = |it: &Value| it["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(moments.is_sorted_by(|a, b| at(a) >= at(b)), "the newest first");
    assert_eq!(world.ask(&other.owner, "GET", &path, None).await.status, 404);
    let page = world.ask(&owner, "GET", &format!("/cis/{}/timeline", case.ci), None).await;
    assert!(page.text.contains(SSHD) && page.text.contains("A drift"), "{}", page.text);
    assert!(page.text.contains("A notice</a> was written: drift"), "{}", page.text);
    assert!(page.text.contains("Somebody logged in on"), "{}", page.text);
    assert!(page.text.contains("&lt;b&gt;anna") && !page.text.contains("<b>anna"), "{}", page.text);
    // What is personal goes with the tenant's key, and was in no ledger.
    let all = store::Erasure::Everything;
    world.history().erase(&case.person, case.tenant, all, "asked for", "a test").await.unwrap();
    let told = world.ask(&owner, "GET", &path, None).await.json();
    assert!(!told.to_string().contains("anna"), "{told}");
    let far = world.ask(&owner, "GET", &format!("{path}?limit=0"), None).await;
    assert_eq!(far.status, 400);
    let old = world.ask(&owner, "GET", &format!("{path}?until=2000-01-01T00:00:00Z"), None).await;
    assert_eq!(old.json()["items"], json!([]));
}
