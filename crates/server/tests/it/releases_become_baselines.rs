//! What a release wrote is what others are held against: by the API, on pages, in audits that its tenant sees.

use axum::http::StatusCode;
use domain::change::alteration::Named;
use domain::change::{FileHash, Kind};
use domain::cloud::{Access, EventKind, Role};
use domain::order::Ended;
use domain::priority::Priority;
use jiff::SignedDuration;
use serde_json::{Value, json};
use store::{ChangeStep, Environment as _, Labels, NewChange, NewCi, NewIntended, NewIntendedFile};

use crate::configuration_is_audited::{events, record_of};
use crate::releases_go_out::{Host, running};
use crate::support::case::{Case, wake};
use crate::support::{Answer, World, form};

const MOTD: &str = "/etc/motd";
const BASE: &[(&str, &str)] =
    &[("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"), (MOTD, "welcome\n")];

/// A release that wrote a file, was seen to have done so, and went through.
struct Written {
    world: World,
    host: Host,
    owner: String,
    release: String,
}

impl Written {
    async fn new() -> Self {
        let world = World::new().await;
        let mut case = Case::usual(&world, "a").await;
        record_of(&world, case.ci, BASE).await;
        let new = NewChange {
            kind: Kind::Alteration,
            title: "a <b>banner".to_owned(),
            patches: Vec::new(),
            tenants: vec![case.tenant],
            priority: Priority::High,
        };
        case.change = world.store.create_change(&world.admin, None, new).await.unwrap();
        let (id, path) = (case.change.change.id, store::FilePath::new(MOTD).unwrap());
        let (content, access) = (b"new banner\n".to_vec(), Named::default());
        let intended = NewIntended::Content { content, access };
        let new = NewIntendedFile { ci: case.ci, path, intended };
        world.history().propose_file(&world.admin, id, new).await.unwrap();
        case.step(&world, ChangeStep::Prove).await;
        case.step(&world, ChangeStep::Pass(FileHash::from([3; 32]))).await;
        wake(&world).await;

        let host = Host::of(&world, case, json!({})).await;
        let fetched = host.fetch(&world).await.unwrap();
        host.ends(&world, &fetched, Ended::Done).await;
        host.looks(&world, &[("web", "1")], running()).await;
        record_of(&world, host.agent.ci, &[(MOTD, "new banner\n")]).await;
        world.store.note_files_complete(host.agent.id, world.clock.now()).await.unwrap();
        host.go_on(&world).await;
        world.clock.pass(SignedDuration::from_hours(24));
        host.go_on(&world).await;
        let owner = world.token_of(&host.case.person, Access::Write).await;
        let release = host.release["id"].as_str().unwrap().to_owned();
        Self { world, host, owner, release }
    }

    fn body(&self) -> Value {
        json!({ "tenant": self.host.case.tenant, "release": {
            "name": "banner", "title": "The <i>banner", "release": self.release, "severity": "high",
        } })
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.world.ask(&self.owner, method, &format!("/api/v1/{path}"), body).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("POST", path, Some(body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text);
        answer.json()
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.world.ask(&self.owner, "GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }
}

fn all(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn items_are_held_to_what_a_release_wrote() {
    let it = Written::new().await;
    let (tenant, change) = (it.host.case.tenant, it.host.case.change.change.id);
    let other = {
        let (class, name) = (domain::cloud::Class::Vm, "web-2".parse().unwrap());
        let new = NewCi { tenant, class, name, labels: Labels::new() };
        it.world.store.create_ci(&it.world.admin, None, new).await.unwrap().id
    };
    record_of(&it.world, other, BASE).await;
    let rehearsed = it.ask("POST", "baselines?dry_run=true", Some(it.body())).await;
    assert_eq!(rehearsed.status, 201, "{}", rehearsed.text);
    assert_eq!(it.ask("GET", "baselines", None).await.json()["items"], json!([]));

    let kept = it.post("baselines", it.body()).await;

    assert_eq!((&kept["kind"], &kept["version"]), (&json!("release"), &json!("1")));
    let id = kept["id"].as_str().unwrap();
    let version = it.ask("GET", &format!("baselines/{id}/versions/1"), None).await.json();
    let from = &version["release"];
    assert_eq!(
        (&from["release"], &from["change"]),
        (&json!(it.release), &json!(change)),
        "{version}"
    );
    assert_eq!(from["plan"], it.host.release["plans"][tenant.to_string()]);
    assert_eq!(from["files"][MOTD]["ci"], json!(it.host.agent.ci), "{version}");
    it.post("baseline-bindings", json!({ "baseline": id, "class": "vm" })).await;
    let audit = async |ci| {
        let report = it.ask("GET", &format!("cis/{ci}/audit"), None).await.json();
        let rules = report["rules"].as_array().unwrap().iter();
        let mut of: Vec<_> = rules.filter(|it| it["baseline"] == "banner").cloned().collect();
        assert_eq!(of.len(), 1, "{report}");
        of.remove(0)
    };
    assert_eq!(audit(it.host.agent.ci).await["outcome"], "pass");
    let failing = audit(other).await;
    assert_eq!(
        (&failing["rule"], &failing["outcome"], &failing["severity"]),
        (&json!(MOTD), &json!("fail"), &json!("high"))
    );
    all(&failing.to_string(), &["-new banner", "+welcome", &it.release]);

    // Somebody of the provider who reads that reads the file that was written, too.
    let admin = it.world.token_of(&it.world.admin, Access::Read).await;
    let before = events(&it.world, EventKind::FilesRead).await.len();
    let path = format!("/api/v1/cis/{other}/audit");
    it.world.ask(&admin, "GET", &path, None).await;
    assert_eq!(events(&it.world, EventKind::FilesRead).await.len(), before + 2);

    // An audit that is kept names no file, and is made again by the same.
    let run = it.post("audits", json!({ "ci": other })).await;
    assert!(!run.to_string().contains("motd"), "{run}");
    let again = it.ask("GET", &format!("audits/{}", run["id"].as_str().unwrap()), None).await;
    assert_eq!(again.json()["is_same"], true, "{}", again.text);
}

#[tokio::test]
async fn who_may_not_and_what_is_not_so_is_refused() {
    let it = Written::new().await;
    let tenant = it.host.case.tenant;
    let b = it.world.tenant("b").await;
    let token = async |tenant, role| it.world.token(tenant, role, Access::Write).await;
    let viewer = token(tenant, Role::TenantViewer).await;
    let stranger = token(b, Role::TenantOwner).await;
    let put = async |token: &str, body: Value| {
        it.world.ask(token, "POST", "/api/v1/baselines", Some(body)).await
    };
    assert_eq!(put(&viewer, it.body()).await.status, 403);
    let mut theirs = it.body();
    for of in [tenant, b] {
        theirs["tenant"] = json!(of);
        assert_eq!(put(&stranger, theirs.clone()).await.status, 404, "{of}");
    }
    let with = |name: &str, value: Value| {
        let mut body = it.body();
        body["release"][name] = value;
        body
    };
    for (name, value, status, said) in [
        ("name", json!("No Name"), 400, "no name of a baseline"),
        ("title", json!(""), 400, "title"),
        ("release", json!(domain::cloud::ReleaseId::of_content([7; 16])), 404, "release"),
        ("paths", json!(["/srv/**"]), 422, "nothing is named so"),
        ("ci", json!(domain::cloud::CiId::of_content([7; 16])), 422, "wrote nothing on"),
    ] {
        let refused = put(&it.owner, with(name, value)).await;
        assert_eq!(refused.status, status, "{name}: {}", refused.text);
        assert!(refused.text.contains(said), "{said}: {}", refused.text);
    }
    let two = json!({ "tenant": tenant, "rules": "", "release": it.body()["release"] });
    assert_eq!(put(&it.owner, two).await.status, 400, "one of both");
    // The provider keeps it for the tenant.
    let admin = it.world.token_of(&it.world.admin, Access::Write).await;
    assert_eq!(put(&admin, it.body()).await.status, 201);
}

#[tokio::test]
async fn a_page_makes_a_baseline_of_a_release() {
    let it = Written::new().await;
    let (tenant, change) = (it.host.case.tenant, it.host.case.change.change.id);
    let link = format!("/baselines/released?release={}", it.release);
    all(&it.page(&format!("/changes/{change}")).await, &["Hold items to what it wrote", &link]);
    all(&it.page("/baselines").await, &["href=\"/baselines/released\""]);
    let key = format!("{}/{tenant}", it.release);
    all(&it.page(&link).await, &["a &lt;b&gt;banner", &format!("\"{key}\" selected")]);
    let fields = |item: &'static str, paths: &'static str, severity: &'static str| {
        [
            ("release", key.clone()),
            ("item", item.to_owned()),
            ("paths", paths.to_owned()),
            ("name", "banner".to_owned()),
            ("title", "The <i>banner".to_owned()),
            ("severity", severity.to_owned()),
        ]
    };
    let submit = async |fields: [(&'static str, String); 6]| {
        let fields = fields.each_ref().map(|(name, it)| (*name, it.as_str()));
        it.world.submit(&it.owner, "/baselines/released", &form(&fields)).await
    };
    for (item, paths, severity, status, said) in [
        ("<web>", "", "high", 404, "there is no item `&lt;web&gt;`"),
        ("", "etc", "high", 400, "files: "),
        ("", "/srv/**", "high", 422, "nothing is named so"),
        ("", "", "awful", 400, "severity: "),
    ] {
        let refused = submit(fields(item, paths, severity)).await;
        assert_eq!(refused.status, status, "{item} {paths}: {}", refused.text);
        all(&refused.text, &[said, "The &lt;i&gt;banner", "value=\"banner\"", " selected"]);
    }

    let made = submit(fields("web-of-a", "/etc/*", "high")).await;

    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.text);
    let place = made.headers["location"].to_str().unwrap().to_owned();
    let page = it.page(&place).await;
    let plan = it.host.release["plans"][tenant.to_string()].as_str().unwrap();
    let told = ["The &lt;i&gt;banner", "what a release wrote", MOTD, plan, ">web-of-a</a>"];
    all(&page, &[&told[..], &[&it.release, &change.to_string(), "take another release"]].concat());
    assert!(!page.contains(&format!("href=\"/releases/{}", it.release)), "it is the provider's");
    let admin = it.world.token_of(&it.world.admin, Access::Write).await;
    let shown = it.world.ask(&admin, "GET", &place, None).await.text;
    all(&shown, &[&format!("href=\"/releases/{}", it.release)]);
    let id = place.rsplit('/').next().unwrap();
    all(&it.page(&format!("/baselines/released?of={id}")).await, &["value=\"banner\""]);
    for other in ["golden", "new"] {
        let path = format!("/baselines/{other}?of={id}");
        assert_eq!(it.world.ask(&it.owner, "GET", &path, None).await.status, 422, "{other}");
    }

    let viewer = it.world.token(tenant, Role::TenantViewer, Access::Write).await;
    assert_eq!(it.world.ask(&viewer, "GET", &link, None).await.status, 403);
    assert_eq!(it.world.submit(&viewer, "/baselines/released", "").await.status, 403);
    let change = it.world.ask(&viewer, "GET", &format!("/changes/{change}"), None).await.text;
    assert!(!change.contains("/baselines/released"), "{change}");
    let b = it.world.tenant("b").await;
    let stranger = it.world.token(b, Role::TenantOwner, Access::Write).await;
    let nothing = it.world.ask(&stranger, "GET", &link, None).await.text;
    assert!(!nothing.contains("banner") && nothing.contains("No release that wrote"), "{nothing}");
    let fields = form(&[("release", &key), ("name", "x"), ("title", "x"), ("severity", "low")]);
    let refused = it.world.submit(&stranger, "/baselines/released", &fields).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
}
