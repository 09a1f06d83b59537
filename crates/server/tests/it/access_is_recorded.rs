//! Who reads records, and who was not let in, stands in the ledger.

use std::time::Duration;

use crate::support::{PASSWORD, World};
use domain::cloud::{Access, EventKind, Role};
use ledger::{Envelope, ReadStorage as _, SignedCheckpoint, Tree};
use serde_json::{Value, json};
use store::Event;

async fn of_kind(world: &World, kind: EventKind) -> Vec<Event> {
    world.recorder.finish().await.unwrap();
    let mut events = world.store.sequenced_events(0, 1000).await.unwrap();
    events.retain(|event| event.kind == kind);
    events
}

/// Waits until there are so many: the answer to a sign-in does not wait for its record.
async fn refusals(world: &World, wanted: usize) -> Vec<Event> {
    for _ in 0..100 {
        let found = of_kind(world, EventKind::SessionRefused).await;
        if found.len() >= wanted {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there are not {wanted} refusals");
}

async fn try_to_sign_in(world: &World, login: &str, password: &str) -> u16 {
    let body = json!({ "login": login, "password": password });
    world.ask("", "POST", "/api/v1/session", Some(body)).await.status.as_u16()
}

#[tokio::test]
async fn records_are_what_entries_commit_to_and_reading_them_is_recorded_first() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("canary-b").await);
    let of_a = world.token(a, Role::TenantViewer, Access::Read).await;
    world.recorder.finish().await.unwrap();

    let answer = world.ask(&of_a, "GET", "/api/v1/ledger/records?limit=2", None).await;

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("canary") && !answer.text.contains(&b.to_string()));
    let page = answer.json();
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let directory = ledger::Directory::new(world.directory.path().join("ledger"));
    let checkpoint = directory.get("checkpoint", 1 << 16).unwrap().unwrap();
    let head = SignedCheckpoint::parse(&checkpoint).unwrap().claimed().clone();
    let tree = Tree::new(directory, head.size, head.root);
    for item in items {
        let entry = tree.entry(item["sequence"].as_u64().unwrap()).unwrap();
        let commitment = &Envelope::parse(&entry).unwrap().commitments[0];
        let salt = ledger::Hash::from_hex(item["salt"].as_str().unwrap()).unwrap();
        assert!(commitment.verify(salt.as_bytes(), item["record"].as_str().unwrap().as_bytes()));
    }
    assert_eq!(page["next"].as_u64(), Some(items[1]["sequence"].as_u64().unwrap() + 1));
    let told = of_kind(&world, EventKind::RecordsRetrieved).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].tenant, a);
    let says: Value = serde_json::from_slice(&told[0].payload).unwrap();
    assert_eq!((&says["what"], &says["count"]), (&"records".into(), &3.into()));
    for wrong in ["limit=0", "limit=1001", "from=x", "from=9223372036854775808"] {
        let path = format!("/api/v1/ledger/records?{wrong}");
        assert_eq!(world.ask(&of_a, "GET", &path, None).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn each_way_to_a_tenants_events_is_recorded() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let of_a = world.token(a, Role::TenantOwner, Access::Read).await;
    let operator = world.token(domain::cloud::PROVIDER, Role::Operator, Access::Read).await;
    let auditor = world.token(domain::cloud::PROVIDER, Role::Auditor, Access::Read).await;
    world.recorder.finish().await.unwrap();
    let events = world.store.sequenced_events(0, 100).await.unwrap();
    let place = events.iter().find(|event| event.tenant == a).unwrap().sequence.unwrap();

    let mut expected = 0;
    for (who, path, is_told) in [
        (&of_a, "/api/v1/events".to_owned(), false),
        (&of_a, "/ledger".to_owned(), false),
        (&operator, "/api/v1/events".to_owned(), true),
        (&operator, "/ledger".to_owned(), false), // Told within the hour.
        (&auditor, "/ledger".to_owned(), true),
        (&operator, format!("/api/v1/events/{place}/proof"), true),
        (&operator, format!("/api/v1/events/{place}/proof"), false),
        (&of_a, format!("/api/v1/events/{place}/proof"), true),
    ] {
        let answer = world.ask(who, "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        expected += usize::from(is_told);
        let told = of_kind(&world, EventKind::RecordsRetrieved).await;
        let told = told.iter().filter(|event| event.tenant == a).count();
        assert_eq!(told, expected, "{path}");
    }
    let seen = world.ask(&of_a, "GET", "/api/v1/events", None).await.json();
    let kinds = seen["items"].as_array().unwrap().iter().map(|event| event["kind"].clone());
    assert_eq!(kinds.filter(|kind| kind == "records.retrieved").count(), expected);
}

#[tokio::test]
async fn refused_sign_ins_are_recorded_and_cannot_fill_the_ledger() {
    let world = World::new().await;
    for number in 0..8 {
        assert_eq!(try_to_sign_in(&world, &format!("guess-{number}"), "wrong").await, 401);
    }
    let found = refusals(&world, 1).await;
    assert_eq!(found.len(), 1, "logins that are nobody's are told of together");
    assert_eq!((found[0].object.as_str(), found[0].role.as_str()), ("nobody", "system"));

    for number in 0..9 {
        let status = try_to_sign_in(&world, "root", "wrong").await;
        assert_eq!(status, if number < 5 { 401 } else { 429 });
    }
    let found = refusals(&world, 3).await;
    let says: Vec<Value> =
        found.iter().map(|event| serde_json::from_slice(&event.payload).unwrap()).collect();
    assert_eq!(
        says,
        [
            json!({ "reason": "password" }),
            json!({ "login": "root", "reason": "password" }),
            json!({ "login": "root", "reason": "stopped" }),
        ]
    );
    assert_eq!(found[2].object, world.admin.id());
    let text = format!("{says:?}");
    assert!(!text.contains("guess") && !text.contains("wrong") && !text.contains(PASSWORD));
}

#[tokio::test]
async fn who_gets_in_was_not_refused() {
    let world = World::new().await;

    assert_eq!(try_to_sign_in(&world, "root", PASSWORD).await, 201);

    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(of_kind(&world, EventKind::SessionRefused).await.len(), 0);
    assert_eq!(of_kind(&world, EventKind::SessionOpened).await.len(), 1);
}
