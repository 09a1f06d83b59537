//! What became of notices stands on the axis of each item that they name, and on no other's.

use domain::change::{Decision, Outcome as Rollout};
use domain::cloud::{Access, CiId, Class, PROVIDER, Role};
use jiff::SignedDuration;
use serde_json::{Value, json};
use store::{Actor, Environment as _, Labels, Move, NewCi};

use crate::support::case::{Case, DAY, tell, wake};
use crate::support::mailbox::Mailbox;
use crate::support::{self, World};

/// A change that was planned, done and seen to be so, each told by mail; with an item that has no part in it.
async fn told(world: &World) -> (Case, CiId) {
    let case = Case::usual(world, "a").await;
    case.channel(world, "mail", "ops@acme.example").await;
    let name = "idle".parse().unwrap();
    let new = NewCi { tenant: case.tenant, class: Class::Vm, name, labels: Labels::new() };
    let idle = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
    let plan = case.plan(world, DAY * 10, None).await;
    tell(world).await;
    case.answer(world, &plan, Decision::Approve).await;
    world.clock.pass(DAY * 10);
    wake(world).await;
    tell(world).await;
    world.clock.pass(SignedDuration::from_mins(5));
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    case.does(world, &world.admin, finish).await;
    let set = support::package_set(&[("web", "2")]);
    let digest = world.store.add_package_set(&Actor::System, case.tenant, set).await.unwrap();
    let now = world.clock.now();
    assert!(world.store.observe(&Actor::System, case.ci, digest, now).await.unwrap());
    world.check_fleet().await;
    world.store.note_seen(vec![(case.ci, world.clock.now())]).await.unwrap();
    case.does(world, &world.admin, Move::Scan).await;
    tell(world).await;
    (case, idle)
}

/// Of a timeline what is said of notices, the oldest first.
fn of_notices(timeline: &Value) -> Vec<(String, Value)> {
    let moments = timeline["items"].as_array().unwrap().iter().rev();
    let notices = moments.filter(|it| it["kind"].as_str().unwrap().starts_with("notice."));
    notices.map(|it| (it["kind"].as_str().unwrap().to_owned(), it.clone())).collect()
}

#[tokio::test]
async fn that_a_change_is_planned_starts_and_is_done_was_told_and_reached_the_tenant() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let (case, idle) = told(&world).await;
    assert_eq!(mailbox.subjects().len(), 3, "{:?}", mailbox.subjects());
    let token = world.token_of(&case.person, Access::Write).await;
    let timeline = async |ci: CiId, query: &str| {
        let path = format!("/api/v1/cis/{ci}/timeline{query}");
        world.ask(&token, "GET", &path, None).await.json()
    };

    let told = timeline(case.ci, "").await;

    let rows = case.notices(&world).await;
    let kinds: Vec<_> = rows.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["planned", "started", "completed"]);
    let moments = of_notices(&told);
    for row in &rows {
        let of_it: Vec<_> =
            moments.iter().filter(|(_, it)| it["object"] == row.id.to_string()).collect();
        let mut steps: Vec<_> = of_it.iter().map(|(kind, _)| kind.as_str()).collect();
        steps.sort_unstable();
        assert_eq!(steps, ["notice.delivered", "notice.given", "notice.published"], "{}", row.kind);
        for (kind, it) in of_it {
            assert_eq!(it["payload"]["title"], case.change.title, "{kind}");
            assert!(it["payload"].get("document").is_none(), "it is read where it stands");
            assert!(kind != "notice.published" || it["payload"]["kind"] == row.kind.as_str());
        }
    }
    assert_eq!(moments.len(), 9);
    assert!(of_notices(&timeline(idle, "").await).is_empty(), "they do not name it");

    let page = world.ask(&token, "GET", &format!("/cis/{}/timeline", case.ci), None).await.text;
    for row in &rows {
        assert!(page.contains(&format!("was written: {}", row.kind)), "{page}");
        assert!(page.contains(&format!("href=\"/notices/{}\"", row.id)), "{page}");
    }
    assert_eq!(page.matches("reached the tenant").count(), 3, "{page}");

    // One of long ago is read now.
    world.clock.pass(DAY * 40);
    let token = world.token_of(&case.person, Access::Write).await;
    let path = format!("/api/v1/notices/{}/acknowledge", rows[0].id);
    assert_eq!(world.ask(&token, "POST", &path, None).await.status, 200);
    let path = format!("/api/v1/cis/{}/timeline", case.ci);
    let later = of_notices(&world.ask(&token, "GET", &path, None).await.json());
    let later: Vec<_> = later.iter().map(|(kind, it)| (kind.as_str(), &it["object"])).collect();
    assert_eq!(later, [("notice.acknowledged", &json!(rows[0].id))]);
    let page = world.ask(&token, "GET", &format!("/cis/{}/timeline", case.ci), None).await.text;
    assert!(page.contains("was read") && !page.contains("was written"), "{page}");

    // Others find neither the item nor what became of it.
    let other = world.tenant("other").await;
    let stranger = world.token(other, Role::TenantOwner, Access::Read).await;
    assert_eq!(world.ask(&stranger, "GET", &path, None).await.status, 404);
    let root = world.token(PROVIDER, Role::Admin, Access::Read).await;
    let seen = world.ask(&root, "GET", &path, None).await.json();
    assert_eq!(of_notices(&seen).len(), 1, "the provider sees the same");
}

#[tokio::test]
async fn what_no_channel_took_is_told_as_that() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    mailbox.refuse(550, &["Subject:"]);
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;

    let page = world.ask(&case.owner, "GET", &format!("/cis/{}/timeline", case.ci), None).await;

    assert!(page.text.contains("was given up on a channel"), "{}", page.text);
    assert!(page.text.contains("550 not like this"), "{}", page.text);
    assert!(!page.text.contains("reached the tenant"), "{}", page.text);
}

#[tokio::test]
async fn that_break_glass_was_opened_on_an_item_was_told() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    let owner = world.token_of(&case.person, Access::Write).await;
    let terms = json!({
        "ci": case.ci, "ticket": "INC-1", "reason": "nobody gets in", "files": ["/etc/ssh/**"],
        "logins": ["anna"], "minutes": 30,
    });
    let opened = world.ask(&owner, "POST", "/api/v1/break-glass", Some(terms)).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    world.clock.pass(SignedDuration::from_mins(1));
    tell(&world).await;
    assert_eq!(mailbox.subjects().len(), 1);

    let path = format!("/api/v1/cis/{}/timeline", case.ci);
    let told = of_notices(&world.ask(&owner, "GET", &path, None).await.json());

    let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(kinds.contains(&"notice.published") && kinds.contains(&"notice.given"), "{kinds:?}");
    assert_eq!(told[0].1["payload"]["title"], "break-glass: 1");
}
