//! Items are held to baselines that people put in, through the API and on pages: rules, files of golden items, waivers,
//! and what all of it comes to for a group.

use domain::cloud::{Access, CiId, EventKind, PROVIDER, Role};
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::Audits;
use store::{Environment as _, Erasure, Labels, NewCi};

use crate::configuration_is_audited::{attribute, events, history, record_of};
use crate::support::case::Case;
use crate::support::{Answer, World};

const BASE: &[(&str, &str)] = &[
    ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/hostname", "web\n"),
    ("/etc/motd", "welcome\n"),
];

/// Rules that want a greeting; with the first word of it.
fn rules(version: &str, word: &str) -> String {
    format!(
        "id = \"greeting\"\nversion = \"{version}\"\ntitle = \"Greeting\"\n[[rule]]\nid = \"greets\"\n\
         title = \"It greets\"\nseverity = \"high\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"a greeting\"\n\
         check = 'lines(\"/etc/motd\", \"^{word}\").size() > 0'\n"
    )
}

struct Owned {
    world: World,
    case: Case,
    owner: String,
}

impl Owned {
    async fn new() -> Self {
        let world = World::new().await;
        let case = Case::usual(&world, "a").await;
        record_of(&world, case.ci, BASE).await;
        let owner = world.token_of(&case.person, Access::Write).await;
        Self { world, case, owner }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.world.ask(&self.owner, method, &format!("/api/v1/{path}"), body).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("POST", path, Some(body)).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.text);
        answer.json()
    }

    async fn put(&self, version: &str, word: &str) -> Value {
        let body = json!({ "tenant": self.case.tenant, "rules": rules(version, word) });
        self.post("baselines", body).await
    }

    async fn audit(&self) -> Value {
        self.ask("GET", &format!("cis/{}/audit", self.case.ci), None).await.json()
    }

    async fn item(&self, name: &str, files: &[(&str, &str)]) -> CiId {
        let class = domain::cloud::Class::Vm;
        let (tenant, name) = (self.case.tenant, name.parse().unwrap());
        let new = NewCi { tenant, class, name, labels: Labels::new() };
        let ci = self.world.store.create_ci(&self.world.admin, None, new).await.unwrap().id;
        record_of(&self.world, ci, files).await;
        ci
    }

    fn hence(&self, hours: i64) -> jiff::Timestamp {
        self.world.clock.now() + SignedDuration::from_hours(hours)
    }
}

/// What the rules of a baseline came to in a report.
fn came_to(report: &Value, baseline: &str) -> Vec<String> {
    let rules = report["rules"].as_array().unwrap().iter();
    let of = rules.filter(|it| it["baseline"] == baseline);
    of.map(|it| format!("{} {}", it["rule"].as_str().unwrap(), it["outcome"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn what_is_wrong_in_rules_is_told_with_its_line_and_a_way_out() {
    let owned = Owned::new().await;
    let body = |rules: &str| Some(json!({ "tenant": owned.case.tenant, "rules": rules }));
    let bad = rules("1", "w").replace("severity = \"high\"", "severity = \"awful\"");
    let answer = owned.ask("POST", "baselines", body(&bad)).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap().starts_with("rules: line 7: "), "{problem}");
    assert!(problem["help"].as_str().unwrap().contains("docs/baselines.md"), "{problem}");
    let answer = owned
        .ask("POST", "baselines", body(&rules("1", "w").replace("greeting\"", "sshd\"")))
        .await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let neither =
        owned.ask("POST", "baselines", Some(json!({ "tenant": owned.case.tenant }))).await;
    assert_eq!(neither.status, 400);
}

#[tokio::test]
async fn an_item_is_held_to_rules_of_its_owners_until_they_are_unbound() {
    let owned = Owned::new().await;
    let kept = owned.put("1", "welcome").await;
    let id = kept["id"].as_str().unwrap();
    assert_eq!(came_to(&owned.audit().await, "greeting"), [] as [&str; 0], "it is not bound");
    let bound = owned.post("baseline-bindings", json!({ "baseline": id, "class": "vm" })).await;
    assert_eq!(came_to(&owned.audit().await, "greeting"), ["greets pass"]);

    // An audit that is kept is made again by the version of then.
    let body = json!({ "ci": owned.case.ci });
    let headers = [("idempotency-key", "once")];
    let run = async || {
        let (by, path) = (&owned.owner, "/api/v1/audits");
        owned.world.ask_with(by, "POST", path, Some(body.clone()), &headers).await
    };
    let first = run().await;
    assert_eq!(first.status, 201, "{}", first.text);
    let first = first.json();
    owned.world.clock.pass(SignedDuration::from_mins(1));
    assert_eq!(run().await.json(), first, "the same request has its effect once");
    assert_eq!(events(&owned.world, EventKind::ConfigurationAudited).await.len(), 1);
    owned.put("2", "hello").await;
    owned
        .ask("DELETE", &format!("baseline-bindings/{}", bound["id"].as_str().unwrap()), None)
        .await;
    owned.post("baseline-bindings", json!({ "baseline": id, "ci": owned.case.ci })).await;
    assert_eq!(came_to(&owned.audit().await, "greeting"), ["greets fail"], "by the newest");
    let path = format!("audits/{}", first["id"].as_str().unwrap());
    let again = owned.ask("GET", &path, None).await.json();
    assert_eq!(again["is_same"], true, "{again}");
    assert_eq!(came_to(&again["report"], "greeting"), ["greets pass"]);

    // What comes with the program is unbound for an item, and that is told.
    let not = json!({ "baseline": "sysctl", "ci": owned.case.ci, "holds": false });
    owned.post("baseline-bindings", not).await;
    let report = owned.audit().await;
    assert_eq!(report["left_out"], json!(["sysctl"]), "{report}");
    assert!(came_to(&report, "sysctl").is_empty());
    // But not where the provider holds it to that.
    let admin = owned.world.token_of(&owned.world.admin, Access::Write).await;
    let all = Some(json!({ "baseline": "sysctl", "tenant": PROVIDER, "class": "vm" }));
    let all = owned.world.ask(&admin, "POST", "/api/v1/baseline-bindings", all).await;
    assert_eq!(all.status, 201, "{}", all.text);
    let report = owned.audit().await;
    assert!(report["left_out"].is_null() && !came_to(&report, "sysctl").is_empty(), "{report}");
    let by = json!({ "id": "sysctl", "version": "1", "hold": "provider" });
    assert!(report["baselines"].as_array().unwrap().contains(&by), "{report}");

    let gone = owned.ask("DELETE", &format!("baselines/{id}"), None).await.json();
    assert!(gone["withdrawn_at"].is_string());
    assert!(came_to(&owned.audit().await, "greeting").is_empty());
    let read = owned.ask("GET", &format!("baselines/{id}"), None).await.json();
    assert_eq!(read["versions"][1]["version"], "1", "{read}");
    assert!(!read.to_string().contains("welcome"), "a list has no texts: {read}");
    let first = owned.ask("GET", &format!("baselines/{id}/versions/1"), None).await.json();
    assert_eq!(first["rules"], rules("1", "welcome"));
    assert_eq!(owned.ask("GET", &format!("baselines/{id}/versions/3"), None).await.status, 404);
}

#[tokio::test]
async fn files_of_a_golden_item_are_held_against_others() {
    let owned = Owned::new().await;
    let other = owned.item("web-2", BASE).await;
    let golden = json!({
        "name": "as-web", "title": "As web", "ci": owned.case.ci, "paths": ["/etc/motd"], "severity": "high",
    });
    let body = json!({ "tenant": owned.case.tenant, "golden": golden });
    let kept = owned.post("baselines", body.clone()).await;
    assert_eq!((&kept["kind"], &kept["version"]), (&json!("golden"), &json!("1")));
    owned.post("baseline-bindings", json!({ "baseline": kept["id"], "ci": other })).await;
    let path = format!("cis/{other}/audit");
    let audit = async || owned.ask("GET", &path, None).await.json();
    assert_eq!(came_to(&audit().await, "as-web"), ["/etc/motd pass"]);

    record_of(&owned.world, other, &[("/etc/motd", "go away\n")]).await;
    // What the golden item is now is another matter.
    record_of(&owned.world, owned.case.ci, &[("/etc/motd", "go away\n")]).await;
    let report = audit().await;
    assert_eq!(came_to(&report, "as-web"), ["/etc/motd fail"]);
    assert!(report.to_string().contains("-welcome"), "{report}");
    assert_eq!(attribute(&report, "correctness"), "fail");

    // Whoever of the provider reads it reads the golden item too.
    let admin = owned.world.token_of(&owned.world.admin, Access::Read).await;
    owned.world.ask(&admin, "GET", &format!("/api/v1/{path}"), None).await;
    assert_eq!(events(&owned.world, EventKind::FilesRead).await.len(), 2);

    // What is kept of an audit names no file, nor what it held.
    let run = owned.post("audits", json!({ "ci": other })).await;
    let rules = run["outcomes"]["rules"].as_array().unwrap();
    let of = rules.iter().find(|it| it["baseline"] == "as-web").unwrap();
    assert_eq!((&of["rule"], &of["count"]), (&json!("files"), &json!(1)));
    assert!(!run.to_string().contains("motd"), "{run}");

    // What was erased passes nothing, and fails nothing.
    let history = history(&owned.world);
    let sealed = history.seal(owned.case.tenant, "test").await.unwrap();
    assert!(!sealed.is_empty(), "something is to be erased");
    for partition in sealed {
        let what = Erasure::Partition(partition.number);
        let why = "asked for";
        history.erase(&owned.case.person, owned.case.tenant, what, why, "test").await.unwrap();
    }
    record_of(&owned.world, other, &[("/etc/motd", "welcome\n")]).await;
    assert_eq!(came_to(&audit().await, "as-web"), ["/etc/motd unknown"]);

    let nothing = json!({ "name": "none", "title": "n", "ci": other, "paths": ["/srv/**"] });
    let body = json!({ "tenant": owned.case.tenant, "golden": nothing });
    assert_eq!(owned.ask("POST", "baselines", Some(body)).await.status, 422);
}

#[tokio::test]
async fn a_waived_rule_never_passes_and_counts_again_when_its_time_is_over() {
    let owned = Owned::new().await;
    let kept = owned.put("1", "hello").await;
    let binding = json!({ "baseline": kept["id"], "ci": owned.case.ci });
    owned.post("baseline-bindings", binding).await;
    let given = owned.post("rule-waivers", waiver_of(&owned, &kept)).await;
    let report = owned.audit().await;
    assert_eq!(came_to(&report, "greeting"), ["greets waived"]);
    assert_eq!(report["waivers"], json!([given["id"]]));
    let text = report.to_string();
    assert!(text.contains("it came to fail; Anna answers for it until"), "{text}");
    let page =
        owned.world.ask(&owned.owner, "GET", &format!("/cis/{}/audit", owned.case.ci), None).await;
    assert!(
        page.text.contains("Rules for which somebody answers")
            && page.text.contains("until the move")
    );

    let run = owned.post("audits", json!({ "ci": owned.case.ci })).await;
    owned.world.clock.pass(SignedDuration::from_hours(2));
    let token = owned.world.token_of(&owned.case.person, Access::Write).await;
    let owned = Owned { owner: token, ..owned };
    assert_eq!(came_to(&owned.audit().await, "greeting"), ["greets fail"]);
    let path = format!("audits/{}", run["id"].as_str().unwrap());
    let again = owned.ask("GET", &path, None).await.json();
    assert_eq!(again["is_same"], true, "it was waived then: {again}");

    // Whoever holds an item to a rule waives it.
    let admin = owned.world.token_of(&owned.world.admin, Access::Write).await;
    let rules_of_all = rules("1", "hello").replace("greeting\"", "house\"");
    let body = Some(json!({ "tenant": PROVIDER, "rules": rules_of_all }));
    let house = owned.world.ask(&admin, "POST", "/api/v1/baselines", body).await.json();
    let body = Some(json!({ "baseline": house["id"], "tenant": PROVIDER, "class": "vm" }));
    assert_eq!(
        owned.world.ask(&admin, "POST", "/api/v1/baseline-bindings", body).await.status,
        201
    );
    assert_eq!(came_to(&owned.audit().await, "provider/house"), ["greets fail"]);
    let path = format!("baselines/{}", house["id"].as_str().unwrap());
    assert_eq!(owned.ask("GET", &path, None).await.status, 404, "the provider's are its own");
    let of_house = waiver_of(&owned, &house);
    assert_eq!(owned.ask("POST", "rule-waivers", Some(of_house.clone())).await.status, 404);
    let given = owned.world.ask(&admin, "POST", "/api/v1/rule-waivers", Some(of_house)).await;
    assert_eq!(given.status, 201, "{}", given.text);
    assert_eq!(came_to(&owned.audit().await, "provider/house"), ["greets waived"]);
    let own = Some(waiver_of(&owned, &kept));
    let refused = owned.world.ask(&admin, "POST", "/api/v1/rule-waivers", own).await;
    assert_eq!(refused.status, 422, "the tenant keeps it: {}", refused.text);
}

fn waiver_of(owned: &Owned, baseline: &Value) -> Value {
    json!({
        "baseline": baseline["id"], "rule": "greets", "ci": owned.case.ci, "owner": "Anna",
        "reason": "until the move", "until": owned.hence(2),
    })
}

#[tokio::test]
async fn what_audits_came_to_is_put_together_for_a_group() {
    let owned = Owned::new().await;
    let quiet = owned.item("web-2", BASE).await;
    let path = format!("cis/{quiet}");
    let labels = Some(json!({ "labels": { "tier": "web" } }));
    let headers = [("if-match", "*")];
    let path = format!("/api/v1/{path}");
    let altered = owned.world.ask_with(&owned.owner, "PATCH", &path, labels, &headers).await;
    assert_eq!(altered.status, 200, "{}", altered.text);
    let body = json!({ "tenant": owned.case.tenant, "name": "front <b>", "selector": { "labels": { "tier": "web" } } });
    let group = owned.post("groups", body).await;
    let group = group["id"].as_str().unwrap();
    let kept = owned.put("1", "hello").await;
    owned.post("baseline-bindings", json!({ "baseline": kept["id"], "group": group })).await;

    let report =
        async |query: &str| owned.ask("GET", &format!("audits/report?{query}"), None).await;
    let before = report(&format!("group={group}")).await.json();
    assert_eq!(before["items"][0]["unknown"][0], "it was never audited", "{before}");
    assert_eq!(before["items"][0]["attributes"]["correctness"], "unknown");
    Audits::new(owned.world.store.clone(), history(&owned.world)).step().await.unwrap();

    let now = report(&format!("group={group}")).await.json();
    assert_eq!(now["about"], "group front <b>");
    assert_eq!(now["items"].as_array().unwrap().len(), 1, "{now}");
    let score = now["baselines"].as_array().unwrap().iter().find(|it| it["baseline"] == "greeting");
    assert_eq!((&score.unwrap()["drift"], &score.unwrap()["fail"]), (&json!(100), &json!(1)));
    assert_eq!(now["items"][0]["failing"], json!(["greeting/greets"]), "{now}");
    let all = report(&format!("tenant={}", owned.case.tenant)).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    assert_eq!(all["items"][0]["name"], "web-2", "the worst first: {all}");

    let csv = report(&format!("group={group}&format=csv")).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.text.lines().count(), 2, "{}", csv.text);
    assert!(csv.text.contains("greeting/greets"), "{}", csv.text);
    let html = report(&format!("group={group}&format=html")).await;
    assert!(html.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert!(html.text.contains("front &lt;b&gt;") && !html.text.contains("front <b>"));
    for refused in ["format=pdf", "group=x", &format!("group={group}&tenant={}", owned.case.tenant)]
    {
        assert_eq!(report(refused).await.status, 400, "{refused}");
    }
    let page = owned.world.ask(&owned.owner, "GET", &format!("/audits?group={group}"), None).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(
        page.text.contains("greeting/greets") && page.text.contains("format=html&amp;group=grp_")
    );

    // Others find neither the group nor what is in it.
    let other = owned.world.tenant("other").await;
    let stranger = owned.world.token(other, Role::TenantOwner, Access::Read).await;
    for path in [format!("/api/v1/audits/report?group={group}"), format!("/audits?group={group}")] {
        assert_eq!(owned.world.ask(&stranger, "GET", &path, None).await.status, 404, "{path}");
    }
    let nothing = owned.world.ask(&stranger, "GET", "/api/v1/audits/report", None).await.json();
    assert_eq!(nothing["items"], json!([]));
    assert!(events(&owned.world, EventKind::FilesRead).await.is_empty());
}
