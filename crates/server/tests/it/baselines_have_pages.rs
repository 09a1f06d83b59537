//! Baselines, to what they apply, and waivers are made on pages too: by whom it is for, with what is wrong told where it
//! was typed.

use axum::body::Body;
use axum::http::Request;
use domain::cloud::{Access, CiId, PROVIDER, Role, TenantId};
use jiff::SignedDuration;
use serde_json::{Value, json};
use store::Environment as _;

use crate::configuration_is_audited::record_of;
use crate::support::case::Case;
use crate::support::{Answer, World, form};

const BASE: &[(&str, &str)] =
    &[("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("/etc/motd", "welcome\n")];

/// Rules that want a greeting, by a title that would be a tag.
fn rules(version: &str, word: &str) -> String {
    format!(
        "id = \"greeting\"\nversion = \"{version}\"\ntitle = \"Greeting <b>\"\n[[rule]]\nid = \"greets\"\n\
         title = \"It <i>greets\"\nseverity = \"high\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"a <u>greeting\"\n\
         check = 'lines(\"/etc/motd\", \"^{word}\").size() > 0'\n"
    )
}

fn place(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text);
    answer.headers["location"].to_str().unwrap().to_owned()
}

struct Side {
    world: World,
    case: Case,
    owner: String,
}

impl Side {
    async fn new() -> Self {
        let world = World::new().await;
        let case = Case::usual(&world, "a").await;
        record_of(&world, case.ci, BASE).await;
        let owner = world.token_of(&case.person, Access::Write).await;
        Self { world, case, owner }
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.world.ask(&self.owner, "GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.world.submit(&self.owner, path, &form(fields)).await
    }

    async fn audit(&self) -> Value {
        let path = format!("/api/v1/cis/{}/audit", self.case.ci);
        self.world.ask(&self.owner, "GET", &path, None).await.json()
    }

    /// Rules that are kept; gives their page's path.
    async fn kept(&self) -> String {
        place(&self.post("/baselines", &[("rules", &rules("1", "hello"))]).await)
    }
}

fn came_to(report: &Value, baseline: &str) -> Vec<String> {
    let rules = report["rules"].as_array().unwrap().iter();
    rules
        .filter(|it| it["baseline"] == baseline)
        .map(|it| it["outcome"].as_str().unwrap().to_owned())
        .collect()
}

fn all(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn rules_are_written_bound_altered_and_withdrawn() {
    let side = Side::new().await;
    all(&side.page("/audits").await, &["href=\"/baselines\"", "href=\"/waivers\""]);
    let list = side.page("/baselines").await;
    all(&list, &["None yet", "Write rules", "/baselines/sshd\"", "OpenSSH server"]);
    let editor = side.page("/baselines/new").await;
    let example = editor.split("required>\n").nth(1).unwrap().split("</textarea>").next().unwrap();
    let example = example.replace("&quot;", "\"").replace("&#39;", "'");
    place(&side.post("/baselines", &[("rules", &example)]).await);

    // What is wrong is told with its line, and what was typed is there.
    let bad = rules("1", "hello").replace("\"high\"", "\"<awful>\"");
    let refused = side.post("/baselines", &[("rules", &bad)]).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    all(
        &refused.text,
        &["rules: line 7: ", "docs/baselines.md", "   7  severity", "&lt;awful&gt;"],
    );
    all(&refused.text, &["Greeting &lt;b&gt;", "^hello"]);

    // A browser sends its own line breaks: it is the same text.
    let sent = rules("1", "hello").replace('\n', "\r\n");
    let path = place(&side.post("/baselines", &[("rules", &sent)]).await);
    assert_eq!(place(&side.post("/baselines", &[("rules", &rules("1", "hello"))]).await), path);
    let other = side.post("/baselines", &[("rules", &rules("1", "welcome"))]).await;
    assert_eq!(other.status, 422);
    all(&other.text, &["a version is never altered", "^welcome"]);

    let page = side.page(&path).await;
    all(
        &page,
        &[
            "Greeting &lt;b&gt;",
            "It &lt;i&gt;greets",
            "Nothing is held to it yet",
            "How it is asked",
        ],
    );
    assert!(!page.contains("Greeting <b>") && !page.contains("<i>greets"), "{page}");
    // To nothing, to two things, to an item that there is not.
    let bind = format!("{path}/bind");
    let none = side.post(&bind, &[("holds", "true")]).await;
    assert_eq!(none.status, 400, "{}", none.text);
    let both = side.post(&bind, &[("class", "vm"), ("item", "web-of-a"), ("holds", "true")]).await;
    assert_eq!(both.status, 400);
    all(
        &both.text,
        &["name one of a class, a group and an item", "value=\"web-of-a\"", "\"vm\" selected"],
    );
    let nobody = side.post(&bind, &[("item", "<web>"), ("holds", "true")]).await;
    assert_eq!(nobody.status, 404, "{}", nobody.text);
    all(&nobody.text, &["there is no item `&lt;web&gt;`", "value=\"&lt;web&gt;\""]);

    assert_eq!(place(&side.post(&bind, &[("item", "web-of-a"), ("holds", "true")]).await), path);
    assert_eq!(came_to(&side.audit().await, "greeting"), ["fail"]);
    let bound = side.page(&path).await;
    all(&bound, &["✓ held to it", ">web-of-a</a>", "Take it back", "the tenant"]);
    all(&side.page("/baselines").await, &[">web-of-a</a>", &path]);
    let binding = bound.split("name=\"binding\" value=\"").nth(1).unwrap().split('"').next();
    let binding = binding.unwrap().to_owned();

    // Another version, from the newest.
    let id = path.rsplit('/').next().unwrap();
    all(&side.page(&format!("/baselines/new?of={id}")).await, &["^hello"]);
    place(&side.post("/baselines", &[("rules", &rules("2", "welcome"))]).await);
    assert_eq!(came_to(&side.audit().await, "greeting"), ["pass"]);
    let old = side.page(&format!("{path}?version=1")).await;
    all(&old, &["^hello", "version 1, which counts no more"]);
    assert!(!side.page(&path).await.contains("^hello"));

    let unbind = format!("{path}/unbind");
    place(&side.post(&unbind, &[("binding", &binding)]).await);
    let twice = side.post(&unbind, &[("binding", &binding)]).await;
    assert!(twice.status == 422 && twice.text.contains("has ended before"), "{}", twice.text);
    assert!(came_to(&side.audit().await, "greeting").is_empty());

    place(&side.post(&format!("{path}/withdraw"), &[]).await);
    let gone = side.page(&path).await;
    all(&gone, &["withdrawn", "Versions"]);
    assert!(!gone.contains("/bind\"") && !gone.contains("Withdraw it"), "{gone}");
    assert!(!side.page("/baselines").await.contains(&path));
    all(&side.page("/baselines?all=true").await, &[&path, "– withdrawn"]);
}

#[tokio::test]
async fn what_comes_with_the_program_is_read_unbound_and_begun_from() {
    let side = Side::new().await;
    let page = side.page("/baselines/sshd").await;
    all(&page, &["PermitRootLogin", "comes with the program", "begin your own from it"]);
    assert!(!page.contains("Withdraw it"), "{page}");
    let begun = side.page("/baselines/new?of=sshd").await;
    all(&begun, &["id = &quot;our-sshd&quot;", "sshd-root-login"]);
    // From an audit, with the item already there.
    let audit = side.page(&format!("/cis/{}/audit", side.case.ci)).await;
    all(&audit, &["/baselines/sysctl?item=web-of-a", "/baselines?item=web-of-a"]);
    all(&side.page("/baselines?item=web-of-a").await, &["/baselines/sysctl?item=web-of-a"]);
    all(&side.page("/baselines/sysctl?item=web-of-a").await, &["value=\"web-of-a\""]);

    let held = |report: &Value| report["left_out"] != json!(["sysctl"]);
    assert!(held(&side.audit().await));
    let fields = [("item", "web-of-a"), ("holds", "false")];
    place(&side.post("/baselines/sysctl/bind", &fields).await);
    assert!(!held(&side.audit().await));
    all(&side.page("/baselines/sysctl").await, &["– not held to it"]);
    all(&side.page("/baselines").await, &["not <a"]);
}

#[tokio::test]
async fn files_of_a_golden_item_are_chosen_on_a_page() {
    let side = Side::new().await;
    all(&side.page("/baselines/golden?item=web-of-a").await, &["value=\"web-of-a\""]);
    let fields = |paths: &'static str, at: &'static str| {
        [
            ("item", "web-of-a"),
            ("paths", paths),
            ("name", "as-web"),
            ("title", "As <web>"),
            ("severity", "high"),
            ("at", at),
        ]
    };
    for (paths, at, status, why) in [
        ("etc", "", 400, "files: "),
        ("", "", 400, "0 paths are named"),
        ("/srv/**", "", 422, "0 files were recorded"),
        ("/etc/motd", "2999-01-01T00:00", 400, "is still to come"),
        ("/etc/motd", "soon", 400, "the time"),
    ] {
        let refused = side.post("/baselines/golden", &fields(paths, at)).await;
        assert_eq!(refused.status, status, "{paths} {at}: {}", refused.text);
        all(
            &refused.text,
            &[why, "value=\"as-web\"", "As &lt;web&gt;", "\"high\" selected", paths],
        );
    }

    let path = place(&side.post("/baselines/golden", &fields("/etc/motd\r\n/etc/pass*", "")).await);

    let page = side.page(&path).await;
    all(&page, &["As &lt;web&gt;", "/etc/pass*", ">web-of-a</a>", "take another version"]);
    let id = path.rsplit('/').next().unwrap();
    all(&side.page(&format!("/baselines/golden?of={id}")).await, &["/etc/pass*", "As &lt;web&gt;"]);
    let path = format!("/baselines/new?of={id}");
    assert_eq!(side.world.ask(&side.owner, "GET", &path, None).await.status, 422);
}

#[tokio::test]
async fn somebody_answers_for_a_rule_from_the_audit_that_tells_it() {
    let side = Side::new().await;
    let path = side.kept().await;
    let which = path.rsplit('/').next().unwrap();
    place(&side.post(&format!("{path}/bind"), &[("item", "web-of-a"), ("holds", "true")]).await);
    let audit = side.page(&format!("/cis/{}/audit", side.case.ci)).await;
    let link = format!("/waivers/new?baseline={which}&amp;rule=greets&amp;ci={}", side.case.ci);
    all(&audit, &[&link, "id=\"greeting/greets\""]);

    let page = side.page(&link.replace("&amp;", "&")).await;
    all(&page, &["It &lt;i&gt;greets", "a &lt;u&gt;greeting", "web-of-a alone", "type=\"date\""]);
    let day = |hours: i64| {
        let at = side.world.clock.now() + SignedDuration::from_hours(hours);
        at.strftime("%F").to_string()
    };
    let ci = side.case.ci.to_string();
    let fields = |until: &'static str| {
        let (which, ci) = (which.to_owned(), ci.clone());
        let until = if until.is_empty() { day(48) } else { until.to_owned() };
        move |reason: &str| {
            form(&[
                ("baseline", &which),
                ("rule", "greets"),
                ("ci", &ci),
                ("group", ""),
                ("owner", "Anna <b>"),
                ("reason", reason),
                ("until", &until),
            ])
        }
    };
    for (until, reason, status, why) in [
        ("2999-01-01", "the <move>", 422, "366 days from now"),
        ("2000-01-01", "the <move>", 422, "366 days from now"),
        ("never", "the <move>", 400, "until: "),
        ("", "  ", 400, "reason: "),
    ] {
        let refused = side.world.submit(&side.owner, "/waivers", &fields(until)(reason)).await;
        assert_eq!(refused.status, status, "{until}: {}", refused.text);
        all(&refused.text, &[why, "value=\"Anna &lt;b&gt;\""]);
    }

    let given = side.world.submit(&side.owner, "/waivers", &fields("")("the <move>")).await;

    assert_eq!(place(&given), format!("/cis/{ci}/audit"));
    assert_eq!(came_to(&side.audit().await, "greeting"), ["waived"]);
    let list = side.page("/waivers").await;
    all(
        &list,
        &["Anna &lt;b&gt;", "the &lt;move&gt;", ">web-of-a</a>", ">greeting</a>", "in 2 days"],
    );
    let end = list.split("action=\"/waivers/").nth(1).unwrap().split('"').next().unwrap();
    let end = format!("/waivers/{end}");
    assert_eq!(place(&side.post(&end, &[]).await), "/waivers");
    assert_eq!(came_to(&side.audit().await, "greeting"), ["fail"]);
    let twice = side.post(&end, &[]).await;
    assert!(twice.status == 422 && twice.text.contains("the waiver is over"), "{}", twice.text);
    all(&side.page("/waivers").await, &["None. An audit"]);
    all(&side.page("/waivers?all=true").await, &["Anna &lt;b&gt;", "ended "]);
}

#[tokio::test]
async fn a_group_is_answered_for_as_a_whole() {
    let side = Side::new().await;
    let (tenant, path) = (side.case.tenant, side.kept().await);
    let body = json!({ "tenant": tenant, "name": "front <b>", "selector": { "class": "vm" } });
    let made = side.world.ask(&side.owner, "POST", "/api/v1/groups", Some(body)).await;
    let group = made.json()["id"].as_str().unwrap().to_owned();
    place(&side.post(&format!("{path}/bind"), &[("group", &group), ("holds", "true")]).await);
    all(&side.page(&path).await, &["the group front &lt;b&gt;"]);
    let which = path.rsplit('/').next().unwrap();
    let page = side.page(&format!("/waivers/new?baseline={which}&rule=greets")).await;
    all(&page, &["all of the group front &lt;b&gt;"]);

    let until =
        (side.world.clock.now() + SignedDuration::from_hours(24)).strftime("%F").to_string();
    let ci = side.case.ci.to_string();
    let fields = [
        ("baseline", which),
        ("rule", "greets"),
        ("ci", ci.as_str()),
        ("group", group.as_str()),
        ("owner", "Anna"),
        ("reason", "the move"),
        ("until", until.as_str()),
    ];
    assert_eq!(place(&side.post("/waivers", &fields).await), "/waivers");

    assert_eq!(came_to(&side.audit().await, "greeting"), ["waived"]);
    all(&side.page("/waivers").await, &["the group front &lt;b&gt;"]);
}

#[tokio::test]
async fn forms_are_shown_to_whom_they_are_for_and_refused_to_others() {
    let side = Side::new().await;
    let (tenant, path) = (side.case.tenant, side.kept().await);
    place(&side.post(&format!("{path}/bind"), &[("item", "web-of-a"), ("holds", "true")]).await);
    let token = async |tenant: TenantId, role| side.world.token(tenant, role, Access::Write).await;
    let viewer = token(tenant, Role::TenantViewer).await;
    let approver = token(tenant, Role::TenantApprover).await;
    let admin = token(PROVIDER, Role::Admin).await;
    let ask = async |token: &str, path: &str| side.world.ask(token, "GET", path, None).await;
    let audit = format!("/cis/{}/audit", side.case.ci);

    for (token, keeps, waives) in
        [(&viewer, false, false), (&approver, false, true), (&side.owner, true, true)]
    {
        let shown = ask(token, &path).await.text;
        assert_eq!(shown.contains("/bind\""), keeps, "{shown}");
        assert_eq!(shown.contains("Take it back"), keeps);
        assert_eq!(ask(token, "/baselines").await.text.contains("Write rules"), keeps);
        for place in ["/baselines/new", "/baselines/golden"] {
            assert_eq!(ask(token, place).await.status, if keeps { 200 } else { 403 });
        }
        assert_eq!(ask(token, &audit).await.text.contains("answer for it"), waives);
        let form = ask(token, "/waivers/new?baseline=sshd&rule=sshd-root-login").await.status;
        assert_eq!(form, if waives { 200 } else { 403 });
    }
    for action in ["bind", "unbind", "withdraw"] {
        let refused = side.world.submit(&viewer, &format!("{path}/{action}"), "binding=x").await;
        assert_eq!(refused.status, 403, "{action}: {}", refused.text);
    }
    for place in ["/baselines", "/baselines/golden", "/waivers"] {
        assert_eq!(side.world.submit(&viewer, place, "").await.status, 403, "{place}");
    }
    // The tenant keeps its item: nobody of the provider answers for it, nor takes back what it said.
    assert!(!ask(&admin, &audit).await.text.contains("answer for it"));
    let shown = ask(&admin, &path).await.text;
    all(&shown, &["only the tenant takes it back"]);

    // A strange page alters nothing with a cookie.
    let sign_in = json!({ "login": "root", "password": crate::support::PASSWORD });
    let session = side.world.ask("", "POST", "/api/v1/session", Some(sign_in)).await.json();
    let cookie = format!("patchwright_session={}", session["secret"].as_str().unwrap());
    let ridden = async |site: &str| {
        let request = Request::post("/baselines/sysctl/bind")
            .header("cookie", &cookie)
            .header("sec-fetch-site", site)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("class=service&holds=true"));
        side.world.send(request.unwrap()).await.status
    };
    assert_eq!(
        (ridden("cross-site").await.as_u16(), ridden("same-origin").await.as_u16()),
        (403, 303)
    );
    let other = side.world.tenant("other").await;
    let stranger = token(other, Role::TenantOwner).await;
    assert_eq!(ask(&stranger, &path).await.status, 404);
    let id = path.rsplit('/').next().unwrap();
    for place in [
        format!("/baselines/new?of={id}"),
        format!("/baselines/golden?of={id}"),
        format!("/waivers/new?baseline={id}&rule=greets"),
        format!("/waivers/new?baseline=sshd&rule=sshd-root-login&ci={}", side.case.ci),
    ] {
        assert_eq!(ask(&stranger, &place).await.status, 404, "{place}");
    }
    for action in ["bind", "withdraw"] {
        let fields = form(&[("class", "vm"), ("holds", "true")]);
        let refused = side.world.submit(&stranger, &format!("{path}/{action}"), &fields).await;
        assert_eq!(refused.status, 404, "{action}: {}", refused.text);
    }
    let theirs = form(&[("tenant", &tenant.to_string()), ("rules", &rules("9", "x"))]);
    let refused = side.world.submit(&stranger, "/baselines", &theirs).await;
    assert!(refused.status == 404 && refused.text.contains("^x"), "{}", refused.text);
    let item = form(&[("item", "web-of-a"), ("holds", "true")]);
    assert_eq!(side.world.submit(&stranger, "/baselines/sshd/bind", &item).await.status, 404);
    for place in ["/baselines?all=true", "/baselines/sshd", "/waivers?all=true", "/baselines/new"] {
        let page = ask(&stranger, place).await.text;
        assert!(!page.contains("web-of-a") && !page.contains("reeting"), "{place}: {page}");
    }
}

#[tokio::test]
async fn what_the_provider_holds_items_to_is_the_providers_to_alter() {
    let side = Side::new().await;
    let admin = side.world.token(PROVIDER, Role::Admin, Access::Write).await;
    let ours = rules("1", "hello").replace("greeting\"", "house\"");
    let kept = side.world.submit(&admin, "/baselines", &form(&[("rules", &ours)])).await;
    let path = place(&kept);
    let fields = form(&[("class", "vm"), ("tenant", &PROVIDER.to_string()), ("holds", "true")]);
    place(&side.world.submit(&admin, &format!("{path}/bind"), &fields).await);
    let shown = side.world.ask(&admin, "GET", &path, None).await.text;
    all(&shown, &["every VM of every tenant"]);

    assert_eq!(came_to(&side.audit().await, "provider/house"), ["fail"]);
    let audit = side.page(&format!("/cis/{}/audit", side.case.ci)).await;
    assert!(
        !audit.contains("rule=greets") && !audit.contains(&format!("href=\"{path}")),
        "{audit}"
    );
    let of: CiId = side.case.ci;
    let audit = side.world.ask(&admin, "GET", &format!("/cis/{of}/audit"), None).await.text;
    all(&audit, &["rule=greets", &format!("href=\"{path}?item={of}\"")]);

    // A tenant's own rules, kept by the provider for it, are for that tenant's items.
    let tenant = side.case.tenant.to_string();
    let theirs = form(&[("tenant", &tenant), ("rules", &rules("1", "welcome"))]);
    let theirs = place(&side.world.submit(&admin, "/baselines", &theirs).await);
    let fields = form(&[("class", "vm"), ("holds", "true")]);
    place(&side.world.submit(&admin, &format!("{theirs}/bind"), &fields).await);
    assert_eq!(came_to(&side.audit().await, "greeting"), ["pass"]);
    let bound = side.page(&theirs).await;
    all(&bound, &["every VM", "only the provider takes it back"]);
}
