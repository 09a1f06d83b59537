//! What items were configured by, through the API and on pages: within one's tenant, and never unseen.

use domain::cloud::{Access, EventKind};
use jiff::SignedDuration;
use serde_json::{Value, json};
use store::{Actor, Environment as _, FilePath, Metadata, NewFile, NewState};

use crate::support::World;
use crate::support::case::Case;

async fn record(world: &World, case: &Case, path: &str, text: Option<&str>) {
    let state = text.map_or(NewState::Gone, |text| NewState::Present {
        content: text.as_bytes().to_vec(),
        metadata: Metadata { mode: 0o100_644, owner: "root:root".to_owned(), label: Vec::new() },
    });
    let file = NewFile {
        path: FilePath::new(path).unwrap(),
        state,
        observed_at: world.clock.now(),
        source: "test".to_owned(),
        by: None,
        change: None,
    };
    world.history().record(&Actor::System, case.ci, vec![file]).await.unwrap();
    world.clock.pass(SignedDuration::from_secs(10));
}

async fn reads(world: &World) -> usize {
    world.recorder.finish().await.unwrap();
    let by = world.admin.clone();
    let events = world.store.events(&by, store::Retrieval::Events, 0, 10_000).await.unwrap();
    events.iter().filter(|event| event.kind == EventKind::FilesRead).count()
}

#[tokio::test]
async fn files_are_shown_as_they_were_and_who_of_the_provider_looks_is_told() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = Case::new(&world, "b", crate::support::osv("X-2", "db", "2"), [4; 32]).await;
    record(&world, &case, "/etc/motd", Some("hello\nall\n")).await;
    let between = world.clock.now();
    record(&world, &case, "/etc/motd", Some("hello\nyou\n")).await;
    record(&world, &case, "/etc/<b>", Some("<script>alert(1)</script>\n")).await;

    let files = format!("/api/v1/cis/{}/files", case.ci);
    let owner = world.token_of(&case.person, Access::Read).await;
    let ask = async |token: &str, path: String| world.ask(token, "GET", &path, None).await;
    let listed = ask(&owner, files.clone()).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    let old = ask(&owner, format!("{files}/content?path=/etc/motd&at={between}")).await.json();
    assert_eq!((&old["content"], &old["owner"]), (&json!("hello\nall\n"), &json!("root:root")));
    let changes = ask(&owner, format!("{files}/changes?from={between}")).await.json();
    assert_eq!(changes["items"].as_array().unwrap().len(), 2, "{changes}");
    let versions = ask(&owner, format!("{files}/versions?path=/etc/motd")).await.json();
    assert_eq!(versions["items"].as_array().unwrap().len(), 2, "{versions}");
    assert_eq!(reads(&world).await, 0, "one's own");

    let blamed = ask(&owner, format!("{files}/blame?path=/etc/motd")).await.json();
    let told: Vec<_> = blamed.as_array().unwrap().iter().map(|it| &it["text"]).collect();
    assert_eq!(told, [&json!("hello"), &json!("you")]);
    assert_ne!(blamed[0]["recorded_at"], blamed[1]["recorded_at"], "{blamed}");

    // Others see nothing of it, not even that it is there.
    for path in ["/blame?path=/etc/motd", "", "/content?path=/etc/motd", "/versions?path=/etc/motd"]
    {
        let refused = ask(&other.owner, format!("{files}{path}")).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.text);
        assert!(!refused.text.contains("hello"));
    }
    let page = ask(&other.owner, format!("/cis/{}/file?path=/etc/motd", case.ci)).await;
    assert_eq!(page.status, 404);

    // The provider's people are told of, once in an hour each.
    let admin = world.token_of(&world.admin, Access::Read).await;
    for path in ["", "/content?path=/etc/motd"] {
        assert_eq!(ask(&admin, format!("{files}{path}")).await.status, 200);
    }
    assert_eq!(reads(&world).await, 1);
    world.clock.pass(SignedDuration::from_mins(61));
    let admin = world.token_of(&world.admin, Access::Read).await;
    assert_eq!(ask(&admin, files.clone()).await.status, 200);
    assert_eq!(reads(&world).await, 2);

    let owner = world.token_of(&case.person, Access::Read).await;
    let page = ask(&owner, format!("/cis/{}/file?path=/etc/motd", case.ci)).await;
    assert!(page.text.contains("What differs from the version before"), "{}", page.text);
    // Within a line that is another one altogether there is nothing to point at.
    assert!(page.text.contains("<span class=\"added\">+you\n"), "{}", page.text);
    let page = ask(&owner, format!("/cis/{}/file?path=/etc/%3Cb%3E", case.ci)).await;
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>alert"));
    let page = ask(&owner, format!("/cis/{}/files", case.ci)).await;
    assert!(page.text.contains("/etc/motd") && page.text.contains("0644"), "{}", page.text);
    let none = ask(&owner, format!("{files}/content?path=/etc/none")).await;
    assert_eq!(none.status, 404);
    let _: Value = none.json();
}
