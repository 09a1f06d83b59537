//! What items are configured by is audited and searched, through the API and on pages: within one's tenant, never
//! unseen, and again with the same result.

use std::sync::Arc;

use domain::cloud::{Access, CiId, EventKind};
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::Audits;
use store::{
    Actor, Environment as _, FilePath, History, Metadata, NewFile, NewState, ObjectDirectory,
};

use crate::support::World;
use crate::support::case::Case;

pub(crate) fn history(world: &World) -> History {
    let objects = ObjectDirectory::open(world.directory.path().join("history")).unwrap();
    world.store.history(Arc::clone(&world.master), Arc::new(objects))
}

async fn record(world: &World, case: &Case, files: &[(&str, &str)]) {
    record_of(world, case.ci, files).await;
}

/// An agent tells files of an item.
pub(crate) async fn record_of(world: &World, ci: CiId, files: &[(&str, &str)]) {
    let file = |(path, text): &(&str, &str)| NewFile {
        path: FilePath::new(*path).unwrap(),
        state: NewState::Present {
            content: text.as_bytes().to_vec(),
            metadata: Metadata {
                mode: 0o100_644,
                owner: "root:root".to_owned(),
                label: Vec::new(),
            },
        },
        observed_at: world.clock.now(),
        source: "test".to_owned(),
        by: None,
        change: None,
    };
    let files = files.iter().map(file).collect();
    history(world).record(&Actor::System, ci, files).await.unwrap();
    let now = world.clock.now();
    let digest = history(world).contents(&Actor::System, ci, now).await.unwrap();
    let store::Past::Kept(manifest) = digest else { panic!() };
    // Where a part was erased nobody can tell what all of it is.
    if let Some(digest) = manifest.digest() {
        let noted = store::FilesNoted { digest, observed_at: now, is_whole: true };
        world.store.note_files(&Actor::System, ci, noted).await.unwrap();
    }
    world.clock.pass(SignedDuration::from_secs(10));
}

const FILES: &[(&str, &str)] = &[
    ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/hostname", "web-1\n"),
    ("/etc/ssh/sshd_config", "PermitRootLogin yes\nBanner <script>alert(1)</script>\n"),
];

pub(crate) async fn events(world: &World, kind: EventKind) -> Vec<Value> {
    world.recorder.finish().await.unwrap();
    let by = world.admin.clone();
    let events = world.store.events(&by, store::Retrieval::Events, 0, 10_000).await.unwrap();
    let of_kind = events.into_iter().filter(|event| event.kind == kind);
    of_kind.map(|event| serde_json::from_slice(&event.payload).unwrap()).collect()
}

pub(crate) fn attribute<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["attributes"].as_array().unwrap();
    &all.iter().find(|it| it["attribute"] == name).unwrap()["outcome"]
}

#[tokio::test]
async fn audits_are_made_kept_and_made_again() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    record(&world, &case, FILES).await;
    let between = world.clock.now();
    let audits = Audits::new(world.store.clone(), history(&world));
    audits.step().await.unwrap();
    audits.step().await.unwrap();

    let owner = world.token_of(&case.person, Access::Read).await;
    let ask = async |token: &str, path: &str| world.ask(token, "GET", path, None).await;
    let listed = ask(&owner, "/api/v1/audits").await.json();
    let [kept] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(kept["outcomes"]["attributes"]["correctness"], "fail", "{kept}");
    assert_eq!(kept["outcomes"]["attributes"]["completeness"], "pass", "{kept}");
    assert!(!kept.to_string().contains("PermitRootLogin"), "what was found is not kept");
    let told = events(&world, EventKind::ConfigurationAudited).await;
    assert_eq!((told.len(), &told[0]["hash"]), (1, &kept["hash"]));

    // What is configured otherwise later alters nothing of what was found.
    world.clock.pass(SignedDuration::from_mins(5));
    record(&world, &case, &[("/etc/ssh/sshd_config", "PermitRootLogin no\n")]).await;
    let path = format!("/api/v1/audits/{}", kept["id"].as_str().unwrap());
    let owner = world.token_of(&case.person, Access::Read).await;
    let again = ask(&owner, &path).await.json();
    assert_eq!(again["is_same"], true, "{again}");
    assert!(again["report"].to_string().contains("sshd.PermitRootLogin=yes"), "{again}");
    let audit = format!("/api/v1/cis/{}/audit", case.ci);
    let now = ask(&owner, &audit).await.json();
    assert_eq!(attribute(&now, "consistency"), "pass", "{now}");
    assert!(!now.to_string().contains("sshd.PermitRootLogin=yes"), "{now}");
    let then = ask(&owner, &format!("{audit}?at={between}")).await.json();
    assert!(then.to_string().contains("sshd.PermitRootLogin=yes"), "{then}");
    assert_eq!(attribute(&then, "validity"), "unknown", "{then}");

    // Others see nothing of it.
    for path in [&path, &audit, &format!("/cis/{}/audit", case.ci)] {
        assert_eq!(ask(&other.owner, path).await.status, 404, "{path}");
    }
    assert_eq!(ask(&other.owner, "/api/v1/audits").await.json(), json!([]));
    assert!(events(&world, EventKind::FilesRead).await.is_empty(), "one's own");
    let admin = world.token_of(&world.admin, Access::Read).await;
    assert_eq!(ask(&admin, &audit).await.status, 200);
    assert_eq!(events(&world, EventKind::FilesRead).await.len(), 1);

    let page = ask(&owner, &format!("/cis/{}/audit", case.ci)).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(
        page.text.contains("correctness") && page.text.contains("sshd-password-authentication")
    );

    // A day later each is due again.
    world.clock.pass(SignedDuration::from_hours(24));
    audits.step().await.unwrap();
    let owner = world.token_of(&case.person, Access::Read).await;
    assert_eq!(ask(&owner, "/api/v1/audits").await.json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_searched_is_found_within_ones_tenant() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    record(&world, &case, FILES).await;
    record(&world, &other, &[("/etc/ssh/sshd_config", "PermitRootLogin no\n# canary\n")]).await;
    let owner = world.token_of(&case.person, Access::Read).await;
    let ask = async |token: &str, query: &str| {
        let path = format!("/api/v1/configuration/search?{query}");
        world.ask(token, "GET", &path, None).await
    };

    let found = ask(&owner, "parameter=sshd.PermitRootLogin%3Dyes").await.json();
    let hit = json!({
        "path": "/etc/ssh/sshd_config", "line": 1, "text": "sshd.PermitRootLogin=yes",
    });
    assert_eq!(found["items"][0]["hits"], json!([hit]), "{found}");
    assert_eq!(found["items"][0]["ci"], case.ci.to_string());
    let found = ask(&owner, "words=LOGIN+permitroot").await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
    assert!(!found.to_string().contains("canary"));
    let found = ask(&owner, "words=canary").await.json();
    assert_eq!(found["items"], json!([]), "{found}");
    let tenant = format!("words=canary&tenant={}", other.tenant);
    assert_eq!(ask(&owner, &tenant).await.json()["items"], json!([]));
    assert!(events(&world, EventKind::FilesRead).await.is_empty(), "one's own");

    for refused in ["", "words=a&regex=b", "regex=(", "parameter=x", "words=%20"] {
        let answer = ask(&owner, refused).await;
        assert_eq!(answer.status, 400, "{refused}: {}", answer.text);
    }

    // The provider finds all, and both tenants are told.
    let admin = world.token_of(&world.admin, Access::Read).await;
    let found = ask(&admin, "regex=^PermitRootLogin").await.json();
    assert_eq!(found["items"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(events(&world, EventKind::FilesRead).await.len(), 2);

    let page = world.ask(&owner, "GET", "/configuration?how=words&what=banner", None).await;
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>alert"));
}
