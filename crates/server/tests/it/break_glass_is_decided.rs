//! Break-glass: who opens it, who is told, who reviews it, and where all of that is seen.

use domain::cloud::{Access, CiId, PROVIDER, Role};
use jiff::SignedDuration;
use notices::content::DriftNotice;
use serde_json::{Value, json};
use store::{DRIFT, NoticeFilter};

use crate::support::World;
use crate::support::case::{ALL, Case, tell};
use crate::support::mailbox::Mailbox;

const SSHD: &str = "/etc/ssh/sshd_config";
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn terms(ci: CiId) -> Value {
    json!({
        "ci": ci.to_string(), "ticket": "INC-<i>1", "reason": "nobody <b>gets in", "files": ["/etc/ssh/**"],
        "logins": ["anna"], "minutes": 30,
    })
}

#[tokio::test]
async fn whoever_keeps_the_item_opens_it_and_somebody_else_reviews_it() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let approver = world.token(case.tenant, Role::TenantApprover, Access::Write).await;
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let ask = async |token: &str, method: &str, path: &str, body: Option<Value>| {
        world.ask(token, method, &format!("/api/v1/break-glass{path}"), body).await
    };

    // The tenant keeps it, so the provider's people do not.
    let refused = ask(&root, "POST", "", Some(terms(case.ci))).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("its owners open it"), "{}", refused.text);
    for (name, wrong) in [
        ("files", json!([])),
        ("files", json!(["etc"])),
        ("ticket", json!("a b")),
        ("group", json!("grp_01h455vb4pex5vsknk084sn02q")),
        ("ci", Value::Null),
        ("reason", json!(" ")),
    ] {
        let mut body = terms(case.ci);
        body[name] = wrong;
        let refused = ask(&owner, "POST", "", Some(body)).await;
        assert_eq!(refused.status, 400, "{name}: {}", refused.text);
    }
    let mut long = terms(case.ci);
    long["minutes"] = json!(1441);
    assert_eq!(ask(&owner, "POST", "", Some(long)).await.status, 422);
    let opened = ask(&owner, "POST", "", Some(terms(case.ci))).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let opened = opened.json();
    assert_eq!((&opened["state"], &opened["name"]), (&json!("open"), &json!("web-of-a")));
    let id = opened["id"].as_str().unwrap();
    world.alter(case.ci, SSHD, "PermitRootLogin yes\n", "anna").await;

    assert_eq!(world.ask(&owner, "GET", "/api/v1/drifts", None).await.json()["items"], json!([]));
    let read = ask(&owner, "GET", &format!("/{id}"), None).await.json();
    assert_eq!((&read["altered"], &read["altered_files"][0]["path"]), (&json!(1), &json!(SSHD)));
    assert_eq!(ask(&other.owner, "GET", &format!("/{id}"), None).await.status, 404);
    let versions = format!("/api/v1/cis/{}/files/versions?path={SSHD}", case.ci);
    let versions = world.ask(&owner, "GET", &versions, None).await.json();
    assert_eq!(versions["items"][0]["verdict"]["verdict"]["break_glass"], id, "{versions}");

    let closed = ask(&owner, "POST", &format!("/{id}/close"), Some(json!({}))).await.json();
    assert_eq!(closed["state"], "in_review", "{closed}");
    let verdict = |outcome: &str, version: &Value| {
        Some(json!({ "outcome": outcome, "reason": "no", "version": version }))
    };
    let review = format!("/{id}/review");
    let own = ask(&owner, "POST", &review, verdict("accepted", &closed["version"])).await;
    assert!(own.status == 422 && own.text.contains("whoever opened it"), "{}", own.text);
    let theirs = ask(&root, "POST", &review, verdict("accepted", &closed["version"])).await;
    assert_eq!(theirs.status, 422, "{}", theirs.text);
    assert_eq!(ask(&approver, "POST", &review, verdict("maybe", &json!(1))).await.status, 400);
    let blind = ask(&approver, "POST", &review, verdict("rejected", &json!(1))).await;
    assert!(blind.text.contains("more was done"), "{}", blind.text);
    let done =
        ask(&approver, "POST", &review, verdict("rejected", &closed["version"])).await.json();
    assert_eq!((&done["state"], &done["review"]), (&json!("rejected"), &json!("no")), "{done}");

    let drift = world.ask(&owner, "GET", "/api/v1/drifts?state=open", None).await.json();
    let drift = &drift["items"][0];
    assert_eq!(
        (&drift["path"], &drift["verdict"]["standing"]),
        (&json!(SSHD), &json!("unauthorised"))
    );
    let place = format!("/drifts/{}", drift["id"].as_str().unwrap());
    let page = world.ask(&owner, "GET", &place, None).await.text;
    assert!(page.contains("its review rejected what was done"), "{page}");
    let of_state = |state: &str| format!("?state={state}");
    for (state, count) in [("open", 0), ("in_review", 0), ("rejected", 1)] {
        let found = ask(&owner, "GET", &of_state(state), None).await.json();
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{state}");
    }
    let path = format!("/api/v1/cis/{}/timeline", case.ci);
    let told = world.ask(&owner, "GET", &path, None).await.json();
    let moments = told["items"].as_array().unwrap();
    for kind in
        ["break_glass.opened", "break_glass.used", "break_glass.closed", "break_glass.reviewed"]
    {
        assert!(moments.iter().any(|it| it["kind"] == kind), "{kind}: {told}");
    }
    assert!(!told.to_string().contains("nobody <b>"), "why stays with it");
}

/// Also where nothing was recorded of the tenant, and each step answers as if it were made.
#[tokio::test]
async fn each_step_can_be_rehearsed() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let approver = world.token(case.tenant, Role::TenantApprover, Access::Write).await;
    let steps = "/api/v1/break-glass";
    let list = async || world.ask(&owner, "GET", steps, None).await.json()["items"].clone();
    let dry = |path: &str| format!("{steps}{path}?dry_run=true");

    let opened = world.ask(&owner, "POST", &dry(""), Some(terms(case.ci))).await;
    assert_eq!((opened.status.as_u16(), &opened.json()["state"]), (201, &json!("open")));
    assert_eq!(list().await, json!([]));

    let opened = world.ask(&owner, "POST", steps, Some(terms(case.ci))).await.json();
    let id = opened["id"].as_str().unwrap();
    let close = format!("/{id}/close");
    let closed = world.ask(&owner, "POST", &dry(&close), Some(json!({}))).await.json();
    assert_eq!(closed["state"], "in_review", "{closed}");
    assert_eq!(list().await[0], opened);

    let close = format!("{steps}{close}");
    let closed = world.ask(&owner, "POST", &close, Some(json!({}))).await.json();
    let verdict = json!({ "outcome": "accepted", "reason": "x", "version": closed["version"] });
    let review = dry(&format!("/{id}/review"));
    let reviewed = world.ask(&approver, "POST", &review, Some(verdict)).await.json();
    assert_eq!(reviewed["state"], "accepted", "{reviewed}");
    assert_eq!(list().await[0], closed);
}

#[tokio::test]
async fn it_is_opened_closed_and_reviewed_on_pages_too() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let approver = world.token(case.tenant, Role::TenantApprover, Access::Write).await;
    let page = async |token: &str, path: &str| world.ask(token, "GET", path, None).await.text;
    let form = page(&owner, &format!("/break-glass?ci={}", case.ci)).await;
    assert!(form.contains("Open one") && form.contains("None is open"), "{form}");
    let viewer = world.token(case.tenant, Role::TenantViewer, Access::Read).await;
    assert!(!page(&viewer, &format!("/break-glass?ci={}", case.ci)).await.contains("Open one"));

    let ci = case.ci;
    let open = |files: &str| {
        format!("ci={ci}&ticket=INC-%3Ci%3E1&reason=x&logins=&files={files}&minutes=30")
    };
    let refused = world.submit(&owner, "/break-glass", &open("etc")).await;
    assert!(refused.status == 400 && refused.text.contains("Open one"), "{}", refused.text);
    let opened = world.submit(&owner, "/break-glass", &open("/etc/ssh/**%0A/etc/motd")).await;
    assert_eq!(opened.status, 303, "{}", opened.text);
    let place = opened.headers["location"].to_str().unwrap().to_owned();
    world.alter(case.ci, SSHD, "PermitRootLogin yes\n", "anna").await;

    let shown = page(&owner, &place).await;
    for part in [SSHD, "INC-&lt;i&gt;1", "anybody", "Close it", "/etc/motd"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let board = page(&owner, "/drifts").await;
    assert!(
        board.contains(&format!("href=\"{place}\"")) && board.contains("INC-&lt;i&gt;1"),
        "{board}"
    );
    assert_eq!(world.submit(&owner, &format!("{place}/close"), "").await.status, 303);
    let shown = page(&owner, &place).await;
    assert!(shown.contains("Somebody else than who opened it") && !shown.contains("It may stay"));
    let shown = page(&approver, &place).await;
    assert!(shown.contains("It may stay"), "{shown}");
    let version = shown.split("name=\"version\" value=\"").nth(1).unwrap();
    let version = version.split('"').next().unwrap();
    let review = format!("outcome=accepted&reason=fine&version={version}");
    let own = world.submit(&owner, &format!("{place}/review"), &review).await;
    assert!(own.status == 422 && own.text.contains("whoever opened it"), "{}", own.text);
    assert_eq!(world.submit(&approver, &format!("{place}/review"), &review).await.status, 303);

    assert!(page(&owner, &place).await.contains("accepted by"));
    assert!(page(&owner, "/break-glass?state=accepted").await.contains(&place));
    assert_eq!(world.ask(&owner, "GET", "/break-glass?state=odd", None).await.status, 400);
}

#[tokio::test]
async fn the_owner_is_told_that_it_is_open_and_that_nobody_reviewed_it() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let opened =
        world.ask(&owner, "POST", "/api/v1/break-glass", Some(terms(case.ci))).await.json();
    let id = opened["id"].as_str().unwrap();

    world.clock.pass(MINUTE);
    tell(&world).await;

    let told = async || {
        let filter = NoticeFilter { tenant: Some(case.tenant), ..NoticeFilter::default() };
        let mut rows = world.store.notices(&case.person, &filter, &ALL).await.unwrap().items;
        rows.retain(|row| row.kind == DRIFT);
        rows
    };
    let subjects = mailbox.subjects();
    let subject = "Break-glass: INC-<i>1 on web-of-a: a";
    assert!(
        subjects.iter().any(|it| it.starts_with("Break-glass: INC-<i>1 on web-of-a")),
        "{subject}: {subjects:?}"
    );
    let row = told().await.remove(0);
    let notice = DriftNotice::parse(&row.document).unwrap();
    assert!(notice.draft().drifts.is_empty());
    assert_eq!(notice.draft().break_glass[0].id.to_string(), id);
    let page = world.ask(&owner, "GET", &format!("/notices/{}", row.id), None).await.text;
    for part in ["/etc/ssh/**", "nobody &lt;b&gt;gets in", &format!("/break-glass/{id}")] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let list = world.ask(&owner, "GET", "/notices", None).await.text;
    assert!(list.contains("break-glass: 1"), "{list}");

    world.clock.pass(MINUTE * 60 * 25);
    assert_eq!(world.store.escalate_break_glass(9).await.unwrap(), 1);
    tell(&world).await;

    let subjects = mailbox.subjects();
    assert!(subjects.iter().any(|it| it.starts_with("Not reviewed: INC-<i>1")), "{subjects:?}");
    assert_eq!(told().await.len(), 2);
}
