//! Every event becomes one entry, which anybody can verify and nobody can alter unnoticed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use crate::support::World;
use domain::cloud::{Access, Class, Role};
use ledger::errors::VerifyError;
use ledger::verify::{Against, verify};
use ledger::{
    Commitment, Directory, Envelope, Policy, ReadStorage as _, Receipt, SignedCheckpoint, Tree,
};
use server::Recorder;
use store::{CiFilter, MasterKey, NewCi, PageRequest, System};

fn vm(tenant: domain::cloud::TenantId, name: &str) -> NewCi {
    let labels = store::Labels::new();
    NewCi { tenant, class: Class::Vm, name: name.parse().unwrap(), labels }
}

fn published(world: &World) -> Directory {
    Directory::new(world.directory.path().join("ledger"))
}

fn checkpoint(world: &World) -> SignedCheckpoint {
    let bytes = published(world).get("checkpoint", 1 << 16).unwrap().unwrap();
    SignedCheckpoint::parse(&bytes).unwrap()
}

fn entries(world: &World) -> Vec<Envelope> {
    let checkpoint = checkpoint(world);
    let head = checkpoint.claimed();
    let tree = Tree::new(published(world), head.size, head.root);
    (0..head.size).map(|index| Envelope::parse(&tree.entry(index).unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn events_and_entries_are_the_same_in_number_tenant_by_tenant_and_kind_by_kind() {
    let world = World::new().await;
    for slug in ["a", "b"] {
        let tenant = world.tenant(slug).await;
        for number in 0..130 {
            let new = vm(tenant, &format!("vm-{number}"));
            world.store.create_ci(&world.admin, None, new).await.unwrap();
        }
    }
    world.recorder.finish().await.unwrap();

    let policy = Policy::of_logs([world.recorder.key().clone()]);
    let verified = verify(&published(&world), &Against::policy(&policy)).unwrap();
    let mut of_log = BTreeMap::new();
    for entry in entries(&world) {
        *of_log.entry((entry.tenant.unwrap(), entry.kind)).or_insert(0) += 1;
    }
    let of_store = world.store.event_counts().await.unwrap();

    assert_eq!(verified.size, 260 + 4);
    let mut counts: Vec<u64> = of_log.values().copied().collect();
    let mut expected: Vec<u64> = of_store.iter().map(|(_, _, count)| *count).collect();
    counts.sort_unstable();
    expected.sort_unstable();
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn the_ledger_tells_strangers_neither_names_nor_ids() {
    let world = World::new().await;
    let tenant = world.tenant("canary-tenant").await;
    let ci = world.store.create_ci(&world.admin, None, vm(tenant, "canary-vm")).await.unwrap();
    world.recorder.finish().await.unwrap();

    for entry in entries(&world) {
        let text = String::from_utf8(entry.to_canonical().unwrap()).unwrap();
        for secret in ["canary", &ci.id.to_string(), &tenant.to_string(), &world.admin.id()] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_tenant_proves_its_own_event_with_nothing_but_the_answer() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let of_a = world.token(a, Role::TenantViewer, Access::Read).await;
    world.store.create_ci(&world.admin, None, vm(b, "of-b")).await.unwrap();
    let ci = world.store.create_ci(&world.admin, None, vm(a, "web")).await.unwrap();
    world.recorder.finish().await.unwrap();
    let events = world.ask(&of_a, "GET", "/api/v1/events", None).await.json();
    let event = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(event["object"], ci.id.to_string());

    let sequence = event["sequence"].as_u64().unwrap();
    let proof = world.ask(&of_a, "GET", &format!("/api/v1/events/{sequence}/proof"), None).await;
    let proof = proof.json();
    let text = |name: &str| proof[name].as_str().unwrap().to_owned();

    let receipt = Receipt::parse(text("receipt").as_bytes()).unwrap();
    let policy = Policy::of_logs([world.recorder.key().clone()]);
    receipt.verify(text("entry").as_bytes(), &policy).unwrap();
    let entry = Envelope::parse(text("entry").as_bytes()).unwrap();
    let salt: [u8; 32] = (0..32)
        .map(|at| u8::from_str_radix(&text("salt")[2 * at..2 * at + 2], 16).unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let expected = Commitment::new("event", &salt, text("record").as_bytes());
    assert_eq!(entry.commitments, [expected]);
    let record: serde_json::Value = serde_json::from_str(&text("record")).unwrap();
    for name in ["id", "tenant", "at", "kind", "actor", "object", "version", "payload"] {
        assert_eq!(record[name], event[name], "{name}");
    }
    // The place before it is another tenant's.
    let other = format!("/api/v1/events/{}/proof", sequence - 1);
    assert_eq!(world.ask(&of_a, "GET", &other, None).await.status, 404);
}

#[tokio::test]
async fn the_files_verify_over_http_like_on_disk() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let token = world.token(a, Role::TenantViewer, Access::Read).await;
    world.recorder.finish().await.unwrap();

    for path in ["checkpoint", "tile/0/000.p/5", "tile/entries/000.p/5"] {
        let request = axum::http::Request::builder()
            .uri(format!("/ledger/{path}"))
            .header("authorization", format!("Bearer {token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        let response = tower::ServiceExt::oneshot(world.router.clone(), request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let served = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert_eq!(served, published(&world).get(path, 1 << 20).unwrap().unwrap(), "{path}");
    }
    for path in ["", "tile/../master.key", "master.key", "tile/0/..%2F..%2Fmaster.key"] {
        let answer = world.ask(&token, "GET", &format!("/ledger/{path}"), None).await;
        assert!(answer.status == 404 || path.is_empty(), "{path}: {}", answer.status);
    }
    assert_eq!(world.ask("", "GET", "/ledger/checkpoint", None).await.status, 401);
}

#[tokio::test]
async fn a_lost_ledger_is_made_again_byte_by_byte() {
    let world = World::new().await;
    world.tenant("a").await;
    world.recorder.finish().await.unwrap();
    let before = checkpoint(&world).to_bytes();
    let directory = world.directory.path().join("ledger");
    fs::remove_dir_all(&directory).unwrap();

    let master = MasterKey::open(&world.directory.path().join("master.key"), &System).unwrap();
    let again = Recorder::open(world.store.clone(), &Arc::new(master), directory).await.unwrap();
    // The lease is the first recorder's; it records on, from nothing.
    drop(again);
    world.recorder.finish().await.unwrap();

    assert_eq!(checkpoint(&world).to_bytes(), before);
}

#[tokio::test]
async fn an_operator_who_edits_and_signs_anew_is_found_out() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    let ci = world.store.create_ci(&world.admin, None, vm(a, "web")).await.unwrap();
    world.recorder.finish().await.unwrap();
    let kept = checkpoint(&world);

    // With the real database and the real key, in a quiet moment.
    let database = world.directory.path().join("patchwright.db");
    let edited = std::process::Command::new("python3")
        .args(["-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
            c.execute('UPDATE events SET payload = ? WHERE object = ?', (b'{\"name\":\"db\"}', sys.argv[2])); \
            c.commit()"])
        .arg(&database)
        .arg(ci.id.to_string())
        .status()
        .unwrap();
    assert!(edited.success());
    fs::remove_dir_all(world.directory.path().join("ledger")).unwrap();
    world.recorder.finish().await.unwrap();

    let policy = Policy::of_logs([world.recorder.key().clone()]);
    let alone = Against::policy(&policy);
    assert!(verify(&published(&world), &alone).is_ok(), "signed by the real key");
    let against = Against { since: Some(&kept), ..alone };
    let found = verify(&published(&world), &against).unwrap_err();
    assert!(!matches!(found, VerifyError::Storage(_)), "{found}");
    let page = PageRequest { after: None, limit: 10 };
    assert!(world.store.cis(&world.admin, &CiFilter::default(), &page).await.is_ok());
}
