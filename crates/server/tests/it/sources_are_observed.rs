//! Sources through the API, and what comes of looks at them in the history: a real repository behind git's own server,
//! a real document, a real disk.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use domain::cloud::{Access, CiId, Class, EventKind, PROVIDER, Role};
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::{Observers, Ssh};
use store::{Actor, Environment as _, FilePath, FileVersion, Labels, NewCi, Past};

use crate::sources_support::{Authority, Repository, Server, answer, git_http, here};
use crate::support::World;

const TOKEN: &str = "tok3n-of-the-observer";

const QUARTER: SignedDuration = SignedDuration::from_mins(15);

struct Case {
    world: World,
    ci: CiId,
    token: String,
    observers: Observers,
}

impl Case {
    async fn new() -> Self {
        let world = World::new().await;
        let tenant = world.tenant("acme").await;
        let name = "web-1".parse().unwrap();
        let new = NewCi { tenant, class: Class::Vm, name, labels: Labels::new() };
        let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
        let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
        let vault = store::Vault::new(&world.store.key(&world.master, "factors").await.unwrap());
        let observers = Observers::open(
            world.store.clone(),
            &world.master,
            vault,
            world.history(),
            Arc::new(Ssh::default()),
            (here(), Arc::clone(&world.lab), world.shelf.clone()),
        );
        let observers = observers.await.unwrap();
        Self { world, ci, token, observers }
    }

    async fn ask(&self, method: &str, below: &str, body: Option<Value>) -> (u16, Value) {
        let path = format!("/api/v1/cis/{}/sources{below}", self.ci);
        let answer = self.world.ask(&self.token, method, &path, body).await;
        let body = if answer.text.is_empty() { Value::Null } else { answer.json() };
        assert!(!answer.text.contains("tok3n"), "{}", answer.text);
        (answer.status.as_u16(), body)
    }

    /// Looks once, after so long.
    async fn look(&self, after: SignedDuration) {
        self.world.clock.pass(after);
        self.observers.step().await.unwrap();
    }

    async fn source(&self, name: &str) -> Value {
        self.ask("GET", &format!("/{name}"), None).await.1
    }

    async fn versions(&self, path: &str) -> Vec<FileVersion> {
        let path = FilePath::new(path).unwrap();
        self.world.history().versions(&Actor::System, self.ci, &path).await.unwrap().versions
    }

    async fn content(&self, path: &str) -> Option<String> {
        let (path, now) = (FilePath::new(path).unwrap(), self.world.clock.now());
        let found = self.world.history().file_at(&Actor::System, self.ci, &path, now).await;
        let Past::Kept(found) = found.unwrap() else { panic!("nothing is forgotten") };
        found?.content.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    async fn events(&self, kind: EventKind) -> usize {
        self.world.recorder.finish().await.unwrap();
        let by = self.world.admin.clone();
        let events = self.world.store.events(&by, store::Retrieval::Events, 0, 10_000).await;
        events.unwrap().iter().filter(|event| event.kind == kind).count()
    }
}

fn git(url: &str) -> Value {
    json!({
        "kind": "git", "url": url, "reference": "refs/heads/main", "files": ["/conf/**"],
        "user": "observer", "password": TOKEN,
    })
}

#[tokio::test]
async fn a_branch_is_recorded_commit_by_commit_and_judged() {
    let mut case = Case::new().await;
    let repository = Repository::new();
    repository.write("conf/app.ini", "listen = 80\npassword = Tr0ub4dor-and-3\n");
    repository.write("conf/old.ini", "a = 1\n");
    let first = repository.commit("first");
    let server = git_http(repository.root.path().to_owned());
    let (status, set) = case.ask("PUT", "/app", Some(git(&server.url("/app/.git")))).await;
    assert_eq!((status, &set["state"], &set["has_credential"]), (200, &json!("new"), &json!(true)));
    case.look(SignedDuration::ZERO).await;

    let source = case.source("app").await;
    assert_eq!(
        (&source["state"], &source["progress"]),
        (&json!("seen"), &json!(first)),
        "{source}"
    );
    let content = case.content("git:app/conf/app.ini").await.unwrap();
    assert!(content.starts_with("listen = 80\npassword = <redacted:password:"), "{content}");
    assert!(
        !case.world.history().has_unjudged().await.unwrap(),
        "so it was when it was seen first"
    );

    repository.write("conf/app.ini", "listen = 8080\n");
    let second = repository.commit("second");
    repository.write("conf/app.ini", "listen = 8081\n");
    std::fs::remove_file(repository.place().join("conf/old.ini")).unwrap();
    repository.commit("third");
    case.look(QUARTER).await;

    let versions = case.versions("git:app/conf/app.ini").await;
    assert_eq!(versions.len(), 3, "each commit is one");
    assert_eq!(versions[1].source, format!("git {second}"));
    let by = versions[1].by.as_ref().unwrap();
    let who = "Ada <ada@acme.example>, committed by Bob <bob@acme.example>";
    assert_eq!((by.actor.as_str(), by.confidence), (who, 50));
    assert_eq!(case.content("git:app/conf/old.ini").await, None);
    while case.world.history().judge(100).await.unwrap() > 0 {}
    assert_eq!(case.events(EventKind::DriftOpened).await, 2, "nobody agreed to it");

    // Quiet where nothing moved, and noticed where a history was written anew.
    case.look(QUARTER).await;
    assert_eq!(case.versions("git:app/conf/app.ini").await.len(), 3);
    repository.git(&["reset", "-q", "--hard", &second]);
    repository.write("conf/new.ini", "b = 2\n");
    let other = repository.commit("another third");
    case.look(QUARTER).await;
    let source = case.source("app").await;
    assert_eq!(source["progress"], json!(other));
    assert!(
        source["reason"].as_str().unwrap().starts_with("its history was written anew"),
        "{source}"
    );
    assert_eq!(case.events(EventKind::SourceRewritten).await, 1);
    assert_eq!(case.content("git:app/conf/app.ini").await.as_deref(), Some("listen = 8080\n"));
    assert_eq!(case.versions("git:app/conf/app.ini").await.len(), 4, "what was recorded stays");
    case.look(QUARTER).await;
    assert_eq!(case.events(EventKind::SourceRewritten).await, 1, "told once");

    // Other files are wanted: what is not told any more is gone. Tokens last for an hour.
    case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    let mut wanted = git(&server.url("/app/.git"));
    wanted["files"] = json!(["/conf/new.ini"]);
    wanted["password"] = Value::Null;
    assert_eq!(case.ask("PUT", "/app", Some(wanted)).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.content("git:app/conf/app.ini").await, None);
    assert!(case.content("git:app/conf/new.ini").await.is_some());
    assert_eq!(case.ask("DELETE", "/app", None).await.0, 204);
    assert_eq!(case.ask("GET", "/app", None).await.0, 404);
    assert!(case.content("git:app/conf/new.ini").await.is_some(), "what was recorded stays");
}

/// What was before it was looked at first is its history, which nobody judges.
#[tokio::test]
async fn a_branch_is_taken_in_with_its_past() {
    let case = Case::new().await;
    let repository = Repository::new();
    let mut commits = Vec::new();
    for number in 0..6 {
        repository.write("conf/app.ini", format!("listen = {number}\n"));
        if number == 2 {
            repository.write("conf/old.ini", "a = 1\n");
        } else if number == 4 {
            std::fs::remove_file(repository.place().join("conf/old.ini")).unwrap();
        }
        commits.push(repository.commit(&format!("the {number}th")));
    }
    let server = git_http(repository.root.path().to_owned());
    let mut wanted = git(&server.url("/app/.git"));
    wanted["past"] = json!(10_001);
    assert_eq!(case.ask("PUT", "/app", Some(wanted.clone())).await.0, 400);
    wanted["past"] = json!(4);
    let (status, set) = case.ask("PUT", "/app", Some(wanted.clone())).await;
    assert_eq!((status, &set["past"]), (200, &json!(4)));

    case.look(SignedDuration::ZERO).await;

    assert_eq!(case.source("app").await["progress"], json!(commits[5]));
    let versions = case.versions("git:app/conf/app.ini").await;
    let sources: Vec<_> = versions.iter().map(|version| version.source.clone()).collect();
    let expected: Vec<_> = commits[1..].iter().map(|commit| format!("git {commit}")).collect();
    assert_eq!(sources, expected);
    assert!(versions.iter().all(|it| it.observed_at < it.recorded_at), "when it was committed");
    let old = case.versions("git:app/conf/old.ini").await;
    assert_eq!(old.iter().map(FileVersion::is_present).collect::<Vec<_>>(), [true, false]);
    assert!(!case.world.history().has_unjudged().await.unwrap());
    let by = case.world.admin.clone();
    let tenant = case.world.store.ci(&by, case.ci).await.unwrap().tenant;
    let fsck = case.world.history().fsck(&by, tenant).await.unwrap();
    assert!(fsck.damages.is_empty(), "{:?}", fsck.damages);

    // From then on each commit is judged; and what is known is not taken in once more.
    repository.write("conf/app.ini", "listen = 80\n");
    repository.commit("now");
    case.look(QUARTER).await;
    assert!(case.world.history().has_unjudged().await.unwrap());
    assert_eq!(case.ask("PUT", "/app", Some(wanted)).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.versions("git:app/conf/app.ini").await.len(), 6);
}

#[tokio::test]
async fn a_document_is_recorded_where_it_altered() {
    let case = Case::new().await;
    let said = Arc::new(Mutex::new(Some(r#"{"b":1,"a":2,"at":1}"#.to_owned())));
    let says = Arc::clone(&said);
    let server = Server::start(move |request| match &*says.lock().unwrap() {
        Some(_) if request.headers.get("x-token").is_none_or(|it| it != TOKEN) => {
            answer("401 Unauthorized", &[], b"{}")
        }
        Some(text) => answer("200 OK", &[], text.as_bytes()),
        None => answer("503 Service Unavailable", &[], b"later"),
    });
    let wanted = json!({
        "kind": "http", "url": server.url("/state?format=json"), "volatile": ["/at"],
        "headers": { "X-Token": TOKEN },
    });
    assert_eq!(case.ask("PUT", "/state", Some(wanted)).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    let expected = "{\n  \"a\": 2,\n  \"at\": \"<volatile>\",\n  \"b\": 1\n}\n";
    assert_eq!(case.content("http:state").await.as_deref(), Some(expected));

    for (text, versions) in [(r#"{"a":2,"b":1,"at":2}"#, 1), (r#"{"a":3,"b":1,"at":3}"#, 2)] {
        *said.lock().unwrap() = Some(text.to_owned());
        case.look(QUARTER).await;
        assert_eq!(case.versions("http:state").await.len(), versions, "{text}");
    }
    for (text, reason) in [(None, "HTTP 503"), (Some("<html>".to_owned()), "is no JSON document")] {
        *said.lock().unwrap() = text;
        case.ask("POST", "/state/look", None).await;
        case.look(SignedDuration::ZERO).await;
        let source = case.source("state").await;
        assert_eq!(source["state"], "unreachable");
        assert!(source["reason"].as_str().unwrap().contains(reason), "{source}");
    }
    assert_eq!(case.events(EventKind::SourceUnreachable).await, 1, "told once");
    assert_eq!(case.versions("http:state").await.len(), 2, "nothing is gone for that");
    let path = format!("/api/v1/cis/{}/audit", case.ci);
    let audit = case.world.ask(&case.token, "GET", &path, None).await.json();
    let attributes = audit["attributes"].as_array().unwrap();
    let validity = attributes.iter().find(|it| it["attribute"] == "validity").unwrap();
    assert_eq!(validity["outcome"], "unknown", "{validity}");
    let page = case.world.ask(&case.token, "GET", &format!("/cis/{}", case.ci), None).await;
    assert!(!page.text.contains("tok3n"));
}

/// A disk with these lines in `/etc/app.ini`, and what else is told.
fn stored(file: &Path, port: u16, more: &[(&str, &str)]) {
    std::fs::write(file, "").unwrap();
    disk_with(file, port, more);
}

#[tokio::test]
async fn an_image_of_a_store_is_fetched_where_it_altered_and_judged() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("web.raw");
    let shelf = case.world.shelf.clone();
    let fetched = || shelf.fetched.load(std::sync::atomic::Ordering::SeqCst);
    stored(&file, 80, &[("old.ini", "a = 1\n")]);
    shelf.put("images/web 1.raw", "one", &file);
    let wanted = json!({ "kind": "image_store", "store": "rack-1", "image": "images/web 1.raw" });

    // Only of items that are images.
    let (status, refused) = case.ask("PUT", "/golden", Some(wanted.clone())).await;
    assert!(status == 422 && refused.to_string().contains("is no image"), "{refused}");
    let image = async |name: &str| {
        let name = name.parse().unwrap();
        let new = NewCi { tenant, class: Class::Image, name, labels: Labels::new() };
        case.world.store.create_ci(&case.world.admin, None, new).await.unwrap().id
    };
    let (web, other) = (image("golden web").await, image("golden other").await);
    case.ci = web;
    let (status, set) = case.ask("PUT", "/golden", Some(wanted.clone())).await;
    assert_eq!(
        (status, &set["image"], &set["place"]),
        (200, &json!("images/web 1.raw"), &json!("/"))
    );
    case.look(SignedDuration::ZERO).await;

    let source = case.source("golden").await;
    assert_eq!(
        (&source["state"], &source["progress"]),
        (&json!("seen"), &json!("one")),
        "{source}"
    );
    let ini = case.content("/etc/app.ini").await.unwrap();
    assert!(ini.starts_with("listen = 80\npassword = <redacted:password:"), "{ini}");
    assert!(
        !case.world.history().has_unjudged().await.unwrap(),
        "so it was when it was seen first"
    );

    // As long as the store says that it is the same, nothing is fetched.
    stored(&file, 8080, &[("new.ini", "b = 2\n")]);
    case.look(QUARTER).await;
    assert_eq!((fetched(), case.versions("/etc/app.ini").await.len()), (1, 1));
    shelf.put("images/web 1.raw", "two", &file);
    case.look(QUARTER).await;
    assert_eq!((fetched(), case.versions("/etc/app.ini").await.len()), (2, 2));
    assert!(case.content("/etc/app.ini").await.unwrap().starts_with("listen = 8080\n"));
    assert_eq!(case.content("/etc/old.ini").await, None, "it is gone");
    assert_eq!(case.content("/etc/new.ini").await.as_deref(), Some("b = 2\n"));
    while case.world.history().judge(100).await.unwrap() > 0 {}
    assert!(case.events(EventKind::DriftOpened).await >= 1, "nobody agreed to it");
    assert!(shelf.handed.lock().unwrap().iter().all(|it| !it.exists()), "what was fetched is gone");

    // One image is one item, and the store's images are told with what they are.
    case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    case.ci = other;
    let (status, refused) = case.ask("PUT", "/golden", Some(wanted.clone())).await;
    assert!(status == 422 && refused.to_string().contains(&web.to_string()), "{refused}");
    let mut second = wanted.clone();
    second["image"] = json!("images/other.raw");
    case.ci = web;
    let (status, refused) = case.ask("PUT", "/again", Some(second)).await;
    assert!(status == 422 && refused.to_string().contains("by an image already"), "{refused}");
    shelf.refuse("images/odd.vmdk", "has the format `vmdk`");
    let path = "/api/v1/image-stores/rack-1/images";
    let listed = case.world.ask(&case.token, "GET", path, None).await.json();
    let told: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&told[0]["image"], &told[0]["unfit"]),
        (&json!("images/odd.vmdk"), &json!("has the format `vmdk`"))
    );
    assert_eq!(
        (&told[0]["ci"], &told[1]["ci"]),
        (&Value::Null, &json!(web.to_string())),
        "{listed}"
    );
    let path = format!("/cis/{web}");
    let page = case.world.ask(&case.token, "GET", &path, None).await.text;
    assert!(page.contains("images/web 1.raw in the store rack-1"), "{page}");
}

#[tokio::test]
async fn an_image_of_a_store_that_cannot_be_read_is_told_and_not_fetched_for_nothing() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let name = "golden".parse().unwrap();
    let new = NewCi { tenant, class: Class::Image, name, labels: Labels::new() };
    case.ci = case.world.store.create_ci(&case.world.admin, None, new).await.unwrap().id;
    let place = tempfile::tempdir().unwrap();
    let (file, noise) = (place.path().join("web.raw"), place.path().join("noise"));
    std::fs::write(&noise, vec![0x5a; 1 << 20]).unwrap();
    stored(&file, 80, &[]);
    let shelf = case.world.shelf.clone();
    let fetched = || shelf.fetched.load(std::sync::atomic::Ordering::SeqCst);
    shelf.put("web", "one", &file);
    let wanted = json!({ "kind": "image_store", "store": "rack-1", "image": "web" });
    assert_eq!(case.ask("PUT", "/golden", Some(wanted.clone())).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.source("golden").await["state"], "seen");

    shelf.put("web", "two", &noise);
    case.look(QUARTER).await;
    let reason = "the image cannot be read: ";
    for looks in 0..3 {
        let source = case.source("golden").await;
        assert_eq!(source["state"], "unreachable", "{source}");
        assert!(source["reason"].as_str().unwrap().starts_with(reason), "{source}");
        assert_eq!(fetched(), 2, "after {looks} more looks");
        case.look(QUARTER * 8).await;
        case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    }
    assert_eq!(case.events(EventKind::SourceUnreachable).await, 1, "told once");
    assert_eq!(case.versions("/etc/app.ini").await.len(), 1, "nothing is gone for that");
    let path = format!("/api/v1/cis/{}/audit", case.ci);
    let audit = case.world.ask(&case.token, "GET", &path, None).await.json();
    let attributes = audit["attributes"].as_array().unwrap();
    let validity = attributes.iter().find(|it| it["attribute"] == "validity").unwrap();
    assert_eq!(validity["outcome"], "unknown", "{validity}");
    assert!(shelf.handed.lock().unwrap().iter().all(|it| !it.exists()), "what was fetched is gone");

    // Whoever sets it again has it read again; and what is well again is seen.
    assert_eq!(case.ask("PUT", "/golden", Some(wanted)).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(fetched(), 3);
    for refused in ["is an overlay over another image", "the store does not answer"] {
        shelf.refuse("web", refused);
        case.look(QUARTER * 100).await;
        case.token = case.world.token_of(&case.world.admin, Access::Write).await;
        let source = case.source("golden").await;
        assert_eq!((&source["state"], &source["reason"]), (&json!("unreachable"), &json!(refused)));
    }
    shelf.put("web", "three", &file);
    case.look(QUARTER * 100).await;
    case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    let source = case.source("golden").await;
    assert_eq!(
        (&source["state"], &source["progress"]),
        (&json!("seen"), &json!("three")),
        "{source}"
    );
}

/// An item whose image of a store is seen, and the place where that lies.
async fn golden() -> (Case, tempfile::TempDir, Value) {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let name = "golden".parse().unwrap();
    let new = NewCi { tenant, class: Class::Image, name, labels: Labels::new() };
    case.ci = case.world.store.create_ci(&case.world.admin, None, new).await.unwrap().id;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("web.raw");
    stored(&file, 80, &[("old.ini", "a = 1\n")]);
    case.world.shelf.put("web", "one", &file);
    let wanted = json!({ "kind": "image_store", "store": "rack-1", "image": "web" });
    assert_eq!(case.ask("PUT", "/golden", Some(wanted.clone())).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.source("golden").await["state"], "seen");
    (case, place, wanted)
}

#[tokio::test]
async fn whatever_is_wrong_with_what_came_it_does_not_come_again() {
    let (mut case, place, _) = golden().await;
    let shelf = case.world.shelf.clone();
    let fetched = || shelf.fetched.load(std::sync::atomic::Ordering::SeqCst);
    let odd = place.path().join("odd.raw");
    stored(&odd, 80, &[]);
    made(&odd_root(place.path()), &odd);
    for (number, (version, unfit, reason)) in [
        ("two", None, "the image cannot be read: two of its names are shown as `/etc/a"),
        ("three", Some("it is qcow2"), "the image cannot be read: it is qcow2"),
    ]
    .into_iter()
    .enumerate()
    {
        *shelf.unfit.lock().unwrap() = unfit.map(str::to_owned);
        shelf.put("web", version, &odd);
        for _ in 0..3 {
            case.look(QUARTER * 8).await;
            case.token = case.world.token_of(&case.world.admin, Access::Write).await;
            let source = case.source("golden").await;
            let told = source["reason"].as_str().unwrap_or_default();
            assert!(source["state"] == "unreachable" && told.starts_with(reason), "{source}");
            assert_eq!(fetched(), number + 2);
        }
    }
    assert_eq!(case.versions("/etc/old.ini").await.len(), 1, "nothing is gone for that");
}

#[tokio::test]
async fn what_lies_below_what_cannot_be_read_is_not_gone() {
    let (mut case, place, _) = golden().await;
    let root = place.path().join("root");
    std::fs::create_dir_all(root.join("etc/ssh")).unwrap();
    std::fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    std::fs::write(root.join("etc/ssh/sshd_config"), "PermitRootLogin no\n").unwrap();
    let file = place.path().join("web.raw");
    made(&root, &file);
    case.world.shelf.put("web", "two", &file);
    case.look(QUARTER).await;
    assert_eq!(case.content("/etc/old.ini").await, None, "it is gone");
    assert!(case.content("/etc/ssh/sshd_config").await.is_some());

    // The block that says what lies in the directory.
    let asked = Command::new("debugfs").args(["-R", "blocks /etc/ssh"]).arg(&file).output();
    let blocks = String::from_utf8(asked.unwrap().stdout).unwrap();
    let block: u64 = blocks.split_whitespace().next().unwrap().parse().unwrap();
    let asked = Command::new("debugfs").args(["-R", "show_super_stats -h"]).arg(&file).output();
    let told = String::from_utf8(asked.unwrap().stdout).unwrap();
    let size = told.lines().find_map(|line| line.strip_prefix("Block size:")).unwrap();
    let size: u64 = size.trim().parse().unwrap();
    let disk = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    let noise = vec![0xff; usize::try_from(size).unwrap()];
    std::os::unix::fs::FileExt::write_all_at(&disk, &noise, block * size).unwrap();
    case.world.shelf.put("web", "three", &file);
    case.look(QUARTER).await;

    case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    let source = case.source("golden").await;
    assert_eq!(source["progress"], "three", "{source}");
    let directory = case.content("/etc/ssh").await;
    assert!(directory.as_deref().is_some_and(|it| it.starts_with("<unseen:")), "{directory:?}");
    assert!(case.content("/etc/ssh/sshd_config").await.is_some(), "nobody knows");
}

#[tokio::test]
async fn what_is_let_go_while_it_comes_is_not_recorded() {
    let (case, place, _) = golden().await;
    let file = place.path().join("web.raw");
    stored(&file, 8080, &[]);
    case.world.shelf.put("web", "two", &file);
    let (comes, has_come) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel();
    *case.world.shelf.gate.lock().unwrap() = Some((comes, may_go_on));

    let let_go = async {
        has_come.await.unwrap();
        let (by, name) = (&case.world.admin, "golden".parse().unwrap());
        case.world.store.remove_source(by, case.ci, name).await.unwrap();
        go_on.send(()).unwrap();
    };
    tokio::join!(case.look(QUARTER), let_go);

    assert_eq!(case.versions("/etc/app.ini").await.len(), 1);
}

#[tokio::test]
async fn images_of_stores_are_named_by_the_provider_alone() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let name = "golden".parse().unwrap();
    let new = NewCi { tenant, class: Class::Image, name, labels: Labels::new() };
    case.ci = case.world.store.create_ci(&case.world.admin, None, new).await.unwrap().id;
    let wanted = json!({ "kind": "image_store", "store": "rack-1", "image": "web" });
    for (odd, why) in [
        (json!({ "kind": "image_store", "store": "rack-9", "image": "web" }), "knows no store"),
        (json!({ "kind": "image_store", "store": "rack-1" }), "has a store and its name"),
        (json!({ "kind": "image_store", "store": "rack-1", "image": "a\nb" }), "image: "),
        (
            json!({ "kind": "image_store", "store": "rack-1", "image": "w", "url": "https://x.example/" }),
            "kind: ",
        ),
        (json!({ "kind": "http", "store": "rack-1", "url": "https://x.example/" }), "url: "),
        (json!({ "kind": "http" }), "url: "),
    ] {
        let (status, refused) = case.ask("PUT", "/golden", Some(odd.clone())).await;
        assert!(
            status == 400 && refused["detail"].as_str().unwrap().contains(why),
            "{odd}: {refused}"
        );
    }
    let provider = std::mem::take(&mut case.token);
    case.token = case.world.token(tenant, Role::TenantOwner, Access::Write).await;
    assert_eq!(case.ask("PUT", "/golden", Some(wanted.clone())).await.0, 403);
    for path in ["/api/v1/image-stores", "/api/v1/image-stores/rack-1/images"] {
        assert_eq!(case.world.ask(&case.token, "GET", path, None).await.status, 403, "{path}");
        assert_eq!(case.world.ask(&provider, "GET", path, None).await.status, 200, "{path}");
    }
    let path = "/api/v1/image-stores/rack-9/images";
    assert_eq!(case.world.ask(&provider, "GET", path, None).await.status, 404);
    // What was named for it, the tenant sees and may let go.
    let owner = std::mem::replace(&mut case.token, provider);
    assert_eq!(case.ask("PUT", "/golden", Some(wanted)).await.0, 200);
    case.token = owner;
    assert_eq!(case.source("golden").await["image"], "web");
    assert_eq!(case.ask("DELETE", "/golden", None).await.0, 204);
}

/// A disk in place of the bytes of an image, as the lab of these tests takes others than disks.
fn disk(file: &Path, port: u16) {
    disk_with(file, port, &[]);
}

fn disk_with(file: &Path, port: u16, more: &[(&str, &str)]) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    let ini = format!("listen = {port}\npassword = Tr0ub4dor-and-3\n");
    std::fs::write(root.join("etc/app.ini"), ini).unwrap();
    for (name, content) in more {
        std::fs::write(root.join("etc").join(name), content).unwrap();
    }
    made(&root, file);
}

/// In place of the file, a disk with what lies in a directory.
fn made(root: &Path, file: &Path) {
    std::fs::remove_file(file).unwrap();
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .args([root, file])
        .arg("16M")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn an_image_whose_names_nobody_can_tell_apart_is_told_and_looked_at_later() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    case.token = case.world.token(tenant, Role::TenantOwner, Access::Write).await;
    let image = case.world.image(&case.token, tenant, "odd\n").await;
    let name = case.world.image_files().into_iter().next().unwrap();
    let file = case.world.directory.path().join("images/sha256").join(&name[..2]).join(&name);
    let place = tempfile::tempdir().unwrap();
    made(&odd_root(place.path()), &file);
    case.ci = image["ci"].as_str().unwrap().parse().unwrap();
    case.look(SignedDuration::ZERO).await;

    let (status, found) = case.ask("GET", "", None).await;
    let source = &found["items"][0];
    assert_eq!((status, &source["state"]), (200, &json!("unreachable")), "{found}");
    let reason = source["reason"].as_str().unwrap();
    assert!(reason.contains("two of its names are shown as `/etc/a"), "{reason}");
}

/// Files with names that nobody can tell apart where they are shown.
fn odd_root(place: &Path) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt as _;

    let root = place.join("odd-root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    for name in [b"a\xff", b"a\xfe"] {
        std::fs::write(root.join("etc").join(std::ffi::OsStr::from_bytes(name)), "b\n").unwrap();
    }
    root
}

#[tokio::test]
async fn an_image_is_recorded_as_it_is() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    case.token = case.world.token(tenant, Role::TenantOwner, Access::Write).await;
    let mut items = Vec::new();
    for (number, port) in [(1, 80), (2, 8080)] {
        let before = case.world.image_files();
        let image = case.world.image(&case.token, tenant, &format!("web {number}\n")).await;
        let name = case.world.image_files().into_iter().find(|it| !before.contains(it)).unwrap();
        let shard = case.world.directory.path().join("images/sha256").join(&name[..2]);
        disk(&shard.join(&name), port);
        items.push(image["ci"].as_str().unwrap().parse::<CiId>().unwrap());
    }
    case.look(SignedDuration::ZERO).await;

    let path = format!("/api/v1/cis/{}/files/changes?with={}", items[1], items[0]);
    let found = case.world.ask(&case.token, "GET", &path, None).await.json();
    let paths: Vec<_> = found["items"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
    assert_eq!(paths, ["/etc/app.ini"], "the password that stayed is no difference: {found}");
    assert!(!case.world.history().has_unjudged().await.unwrap(), "nobody altered anything");
    case.ci = items[0];
    let source = case.source("image").await;
    assert_eq!((&source["state"], &source["due_at"]), (&json!("seen"), &Value::Null), "{source}");
    let ini = case.content("/etc/app.ini").await.unwrap();
    assert!(ini.starts_with("listen = 80\npassword = <redacted:password:"), "{ini}");
    assert_eq!(case.ask("DELETE", "/image", None).await.0, 422);

    // What is no disk is told as that.
    let broken = case.world.image(&case.token, tenant, "web 3\n").await;
    case.look(SignedDuration::ZERO).await;
    case.ci = broken["ci"].as_str().unwrap().parse().unwrap();
    let source = case.source("image").await;
    assert_eq!(source["state"], "unreachable");
    assert!(source["reason"].as_str().unwrap().starts_with("the image cannot be read"), "{source}");
}

#[tokio::test]
async fn tenants_reach_the_public_internet_and_nothing_of_ours() {
    let mut case = Case::new().await;
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let server = Server::start(|_| answer("200 OK", &[], b"{}"));
    let inside = json!({ "kind": "http", "url": server.url("/") });
    assert_eq!(case.ask("PUT", "/state", Some(inside.clone())).await.0, 200, "the provider may");
    case.token = case.world.token(tenant, Role::TenantOwner, Access::Write).await;

    for (url, kind) in [
        (server.url("/"), "http"),
        (format!("https://{}/", server.0), "http"),
        ("https://169.254.169.254/".to_owned(), "http"),
        (server.url("/app.git"), "git"),
        ("ssh://10.0.0.1/app.git".to_owned(), "git"),
        ("file:///srv/app.git".to_owned(), "git"),
        ("ext::sh -c id".to_owned(), "git"),
    ] {
        let wanted = json!({ "kind": kind, "url": url, "trust_first_key": kind == "git" });
        let (status, refused) = case.ask("PUT", "/other", Some(wanted)).await;
        assert_eq!(status, 400, "{url}: {refused}");
        assert!(refused["detail"].as_str().unwrap().starts_with("url: "), "{refused}");
    }
    for (wanted, status) in [
        (json!({ "kind": "git", "url": "https://git.acme.example/app.git" }), 200),
        (
            json!({ "kind": "git", "url": "https://git.acme.example/app.git", "reference": "x" }),
            400,
        ),
        (json!({ "kind": "git", "url": "https://git.acme.example/app.git", "form": "json" }), 400),
        (json!({ "kind": "http", "url": "https://acme.example/", "reference": "HEAD" }), 400),
        (
            json!({ "kind": "http", "url": "https://acme.example/", "headers": { "Host": "x" } }),
            400,
        ),
        (
            json!({ "kind": "http", "url": "https://acme.example/", "headers": { "X": "a\r\nb" } }),
            400,
        ),
        (json!({ "kind": "git", "url": "ssh://git@git.acme.example/app.git" }), 422),
        (json!({ "kind": "image", "url": "https://acme.example/" }), 400),
    ] {
        let name = if status == 200 { "/app" } else { "/odd" };
        let (found, answer) = case.ask("PUT", name, Some(wanted.clone())).await;
        assert_eq!(found, status, "{wanted}: {answer}");
    }
    // What the provider set, the tenant sees, and what the tenant sets again is its own.
    let (status, listed) = case.ask("GET", "", None).await;
    assert_eq!((status, listed["items"].as_array().unwrap().len()), (200, 2), "{listed}");
    assert_eq!(listed["items"][1]["is_providers"], true);
    assert_eq!(case.ask("PUT", "/state", Some(inside)).await.0, 400);
    case.token = case.world.token(tenant, Role::TenantViewer, Access::Write).await;
    assert_eq!(case.ask("GET", "/app", None).await.0, 200);
    assert_eq!(case.ask("POST", "/app/look", None).await.0, 403);
    let other = case.world.tenant("other").await;
    case.token = case.world.token(other, Role::TenantOwner, Access::Write).await;
    for (method, below) in [("GET", ""), ("GET", "/app"), ("DELETE", "/app"), ("POST", "/app/look")]
    {
        assert_eq!(case.ask(method, below, None).await.0, 404, "{method} {below}");
    }
}

#[tokio::test]
async fn a_server_of_an_authority_of_ones_own_is_believed_as_long_as_that_counts() {
    let mut case = Case::new().await;
    let (ours, other) = (Authority::new("Acme <root>", 20), Authority::new("Acme <root>", 60));
    let server = Server::start_tls(&ours, |request| {
        match request.headers.get("x-token").map(String::as_str) {
            Some(TOKEN) => answer("200 OK", &[], b"{}"),
            _ => answer("401 Unauthorized", &[], b"{}"),
        }
    });
    let wanted = |url: &str, authority: Option<&str>, token: Option<&str>| {
        let headers = token.map(|token| json!({ "X-Token": token }));
        Some(json!({ "kind": "http", "url": url, "authority": authority, "headers": headers }))
    };
    let url = server.https("/state");
    // Nobody knows its authority.
    let set = case.ask("PUT", "/state", wanted(&url, None, Some(TOKEN))).await.1;
    assert_eq!(set["authorities"], json!([]), "{set}");
    case.look(SignedDuration::ZERO).await;
    let source = case.source("state").await;
    assert_eq!(source["state"], "unreachable");
    let reason = source["reason"].as_str().unwrap();
    assert!(reason.contains("is of no authority that counts for this source"), "{reason}");

    for (authority, why) in [
        ("hello", "authority: there is no certificate in it"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "`PRIVATE KEY`"),
    ] {
        let (status, refused) =
            case.ask("PUT", "/state", wanted(&url, Some(authority), Some(TOKEN))).await;
        assert!(status == 400 && refused["detail"].as_str().unwrap().contains(why), "{refused}");
        assert!(refused["help"].is_string(), "{refused}");
    }
    let open = wanted(&server.url("/state"), Some(&ours.pem), Some(TOKEN));
    let (status, refused) = case.ask("PUT", "/state", open).await;
    assert!(status == 400 && refused.to_string().contains("over https alone"), "{refused}");
    // What opens it was given for whom the public authorities vouch.
    let (status, refused) = case.ask("PUT", "/state", wanted(&url, Some(&ours.pem), None)).await;
    assert!(status == 422 && refused.to_string().contains("or authority"), "{refused}");

    let body = wanted(&url, Some(&ours.pem), Some(TOKEN));
    let (status, set) = case.ask("PUT", "/state", body).await;
    assert_eq!((status, &set["authorities"][0]["subject"]), (200, &json!("CN=Acme <root>")));
    assert!(set["authorities"][0]["until"].is_string() && set["authorities"][0]["pem"].is_null());
    case.look(SignedDuration::ZERO).await;
    let source = case.source("state").await;
    assert_eq!(source["state"], "seen", "{source}");
    case.world.recorder.finish().await.unwrap();
    let events = case.world.ask(&case.token, "GET", "/api/v1/events?limit=1000", None).await.text;
    assert!(events.contains("Acme <root>") && !events.contains("BEGIN CERTIFICATE"), "{events}");
    let item = format!("/cis/{}", case.ci);
    let page = case.world.ask(&case.token, "GET", &item, None).await.text;
    assert!(page.contains("by certificates of CN=Acme &lt;root&gt;"), "{page}");
    assert!(page.contains("! until "), "it is near its end: {page}");

    // Its end is told, and set right with the next one.
    case.world.clock.pass(SignedDuration::from_hours(24 * 21));
    case.token = case.world.token_of(&case.world.admin, Access::Write).await;
    case.look(SignedDuration::ZERO).await;
    let source = case.source("state").await;
    assert_eq!(source["state"], "unreachable", "{source}");
    let reason = source["reason"].as_str().unwrap();
    assert!(reason.starts_with("the authority `CN=Acme <root>` counts no more since"), "{reason}");
    let page = case.world.ask(&case.token, "GET", &item, None).await.text;
    assert!(page.contains("✗ counts no more since"), "{page}");
    let (status, refused) =
        case.ask("PUT", "/state", wanted(&url, Some(&ours.pem), Some(TOKEN))).await;
    assert!(status == 400 && refused.to_string().contains("counts no more since"), "{refused}");
    let body = wanted(&url, Some(&other.pem), Some(TOKEN));
    assert_eq!(case.ask("PUT", "/state", body).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    let source = case.source("state").await;
    let reason = source["reason"].as_str().unwrap();
    assert!(reason.contains("is of no authority"), "it is another one of the same name: {reason}");
}
