//! Notices, from what happens to a change until the tenant has them, and what is seen of them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::case::{Case, DAY, proof, tell, wake};
use crate::support::receiver::Receiver;
use crate::support::{self, World};
use domain::change::{Decision, Outcome as Rollout};
use domain::cloud::{Access, PROVIDER, Role};
use domain::priority::{AssetFacts, KevListing, Priority, PriorityInputs, Sourced};
use domain::sla::Facts;
use jiff::{SignedDuration, Timestamp};
use notices::delivery::{Reach, Smtp, SmtpSettings, SmtpTls};
use notices::{ENGLISH, Notice, Templates};
use serde_json::{Value, json};
use server::NoticeSettings;
use store::{Actor, ChangeStep, DeliveryState, Environment as _, Move, NoticeRow};

/// Webhooks may go to this machine.
fn here() -> NoticeSettings {
    let webhooks = Some(Reach::also(vec!["127.0.0.0/8".parse().unwrap()]));
    NoticeSettings { webhooks, ..NoticeSettings::default() }
}

fn said(row: &NoticeRow) -> Notice {
    Notice::parse(&row.document).unwrap()
}

#[tokio::test]
async fn a_webhook_gets_the_signed_event_and_with_it_the_notice_is_given() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(503);
    let case = Case::usual(&world, "a").await;
    let (channel, secret) = case.channel(&world, "webhook", &receiver.address).await;
    let secret = secret.as_str().unwrap();
    case.plan(&world, DAY * 10, None).await;

    world.notices.step().await.unwrap();
    assert_eq!(receiver.got().len(), 1);
    assert_eq!(case.phase(&world).await, "planned", "nobody has it yet");

    receiver.answer(204);
    world.clock.pass(SignedDuration::from_secs(11));
    tell(&world).await;

    assert_eq!(case.phase(&world).await, "notified");
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    for one in &got {
        assert!(one.is_signed_with(secret), "{one:?}");
        assert!(!one.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        assert_eq!(one.header("content-type"), "application/cloudevents+json");
    }
    assert_eq!(got[0].body, got[1].body, "what is sent again is the same");
    let (event, row) = (got[1].event(), &case.notices(&world).await[0]);
    assert_eq!(event["id"], row.id.to_string());
    assert_eq!(event["type"], "patchwright.notice.planned.v1");
    assert_eq!(event["data"]["items"]["first"][0]["name"], "web-of-a");
    assert_eq!(event["data"]["advisories"]["first"], json!(["X-1"]));

    let path = format!("/api/v1/notices/{}", row.id);
    let read = world.ask(&case.owner, "GET", &path, None).await.json();
    assert_eq!(read["kind"], "planned");
    assert_eq!(read["given_at"], json!(row.given_at));
    assert_eq!(read["document"]["schema"], "patchwright.notice/1");
    let path = format!("/api/v1/notices/{}/deliveries", row.id);
    let deliveries = world.ask(&case.owner, "GET", &path, None).await;
    assert!(!deliveries.text.contains("s3cr3t"), "{}", deliveries.text);
    let delivery = &deliveries.json()["items"][0];
    assert_eq!((&delivery["channel"], &delivery["state"]), (&json!(channel), &json!("delivered")));
    assert_eq!((&delivery["attempts"], &delivery["answer"]), (&json!(2), &json!("HTTP 204")));
}

#[tokio::test]
async fn a_notice_says_what_the_contract_the_plan_and_the_findings_say() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let before = world.clock.now();
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;

    assert_eq!(case.phase(&world).await, "notified", "without a channel the console is one");
    let row = &case.notices(&world).await[0];
    let notice = said(row);
    let draft = notice.draft();
    assert_eq!((draft.id, draft.plan, draft.sequence), (row.id, Some(plan.hash()), 0));
    assert_eq!(draft.title.as_str(), case.change.title);
    assert_eq!(draft.news.window(), Some(plan.span()));
    let matter =
        world.store.matter(&world.admin, case.change.change.id, case.tenant).await.unwrap();
    let dates = &matter.obligation.share().unwrap().terms().dates;
    let Some(notices::content::Ask::Answer { by, silence }) = draft.news.ask() else { panic!() };
    assert_eq!(silence, domain::sla::Silence::Approves);
    let agreed = dates.answer_by.unwrap();
    assert!(by <= agreed && agreed - by < SignedDuration::from_mins(1), "{by} {agreed}");
    let start = dates.earliest_start.unwrap().strftime("%Y-%m-%d").to_string();
    let text = draft.description.as_str();
    assert!(text.contains("Installs web 2.\nRestarts 1 system.\n"), "{text}");
    assert!(text.contains(&format!("starts at {start}")), "{text}");
    assert_eq!(draft.due, Some(dates.due));
    assert_eq!(draft.items[0].state, notices::content::ItemState::Pending);
    assert_eq!((draft.rollback.len(), draft.rollback[0].items), (1, 1));
    assert_eq!(draft.rollback[0].by, notices::content::Rollback::Packages);
    assert_eq!(draft.impact, None, "nothing was measured");
    assert_eq!((draft.tenant.zone.name(), draft.contact.name.as_str()), ("UTC", "The provider"));
    assert!(draft.published_at >= before);
}

#[tokio::test]
async fn each_step_is_told_in_order() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    case.answer(&world, &plan, Decision::Approve).await;
    world.clock.pass(DAY * 10);
    wake(&world).await;
    tell(&world).await;
    world.clock.pass(SignedDuration::from_mins(5));
    let finish = Move::Finish { plan: plan.hash(), outcome: Rollout::Done };
    case.does(&world, &world.admin, finish).await;
    // The agent came by, and says what it said before.
    world.store.note_seen(vec![(case.ci, world.clock.now())]).await.unwrap();
    case.does(&world, &world.admin, Move::Scan).await;
    tell(&world).await;
    let set = support::package_set(&[("web", "2")]);
    let by = Actor::System;
    let digest = world.store.add_package_set(&by, case.tenant, set).await.unwrap();
    let now = world.clock.now();
    assert!(world.store.observe(&by, case.ci, digest, now).await.unwrap());
    world.check_fleet().await;
    world.store.note_seen(vec![(case.ci, world.clock.now())]).await.unwrap();
    case.does(&world, &world.admin, Move::Scan).await;
    tell(&world).await;

    let rows = case.notices(&world).await;
    let told: Vec<_> = rows.iter().map(|row| (&*row.kind, row.sequence)).collect();
    assert_eq!(told, [("planned", 0), ("started", 1), ("failed", 2), ("completed", 3)]);
    let failed = said(&rows[2]);
    let shortfall = failed.draft().news.shortfall();
    assert_eq!(shortfall, Some(domain::change::Shortfall::StillMissing));
    let states: Vec<_> = rows.iter().map(|row| said(row).draft().items[0].state.as_str()).collect();
    assert_eq!(states, ["pending", "pending", "failed", "done"]);
    let ran = said(&rows[3]).draft().news.window().unwrap();
    assert_eq!(ran.from, rows[1].created_at, "since it was told that it starts");
    assert!(ran.until - ran.from >= SignedDuration::from_mins(5));
}

#[tokio::test]
async fn what_is_exploited_is_an_emergency_and_what_is_taken_back_is_cancelled() {
    let world = World::new().await;
    let mut osv = support::osv("X-1", "web", "2");
    osv["aliases"] = json!([support::EXPLOITED]);
    let mut case = Case::new(&world, "a", osv, [3; 32]).await;
    let mut facts = Facts {
        priority: Priority::Critical,
        patch: PriorityInputs::default(),
        cves: Vec::new(),
        asset: AssetFacts::default(),
    };
    facts.patch.known_exploited = Some(Sourced::new(KevListing::Listed, "test"));
    case.does(&world, &world.admin, Move::Assess(Box::new(facts))).await;
    case.plan(&world, DAY, None).await;
    tell(&world).await;
    let reason = "The vendor took it back".parse().unwrap();
    case.step(&world, ChangeStep::Withdraw(reason)).await;
    wake(&world).await;
    tell(&world).await;

    let rows = case.notices(&world).await;
    let told: Vec<_> = rows.iter().map(|row| &*row.kind).collect();
    assert_eq!(told, ["emergency", "cancelled"]);
    let first = said(&rows[0]);
    let names: Vec<_> = first.draft().advisories.iter().map(ToString::to_string).collect();
    assert_eq!(names, [support::EXPLOITED, "X-1"]);
    let last = said(&rows[1]);
    assert_eq!(last.draft().news.reason().unwrap().as_str(), "The vendor took it back");
    assert_eq!(last.draft().items[0].state.as_str(), "skipped");
}

#[tokio::test]
async fn what_the_proof_measured_is_told() {
    let world = World::new().await;
    let evidence = proof(&world, json!({})).await;
    let case = Case::new(&world, "a", support::osv("X-1", "web", "2"), evidence).await;
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;

    let notice = said(&case.notices(&world).await[0]);
    let measured = notice.draft().impact.as_ref().unwrap();
    assert_eq!(measured.install_ms, 4200);
    assert_eq!(measured.restarted["web.service"].milliseconds, 900);
}

#[tokio::test]
async fn who_does_not_answer_is_tried_again_for_three_days_and_then_given_up() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(500);
    let case = Case::usual(&world, "a").await;
    let (channel, _) = case.channel(&world, "webhook", &receiver.address).await;
    case.plan(&world, DAY * 20, None).await;
    let begin = world.clock.now();
    world.notices.step().await.unwrap();
    let mut waits = Vec::new();
    while let Some(next) = world.store.next_delivery().await.unwrap() {
        let wait = next - world.clock.now();
        assert!(world.notices.step().await.is_ok());
        waits.push(wait);
        world.clock.pass(wait + SignedDuration::from_millis(1));
        world.notices.step().await.unwrap();
    }

    assert_eq!(receiver.got().len(), waits.len() + 1, "not before their time");
    assert!((20..200).contains(&waits.len()), "{}", waits.len());
    assert!(waits[0] <= SignedDuration::from_secs(10), "{:?}", waits[0]);
    let took = world.clock.now() - begin;
    assert!(took > DAY * 2 && took < DAY * 4, "{took:?}");
    assert_eq!(case.phase(&world).await, "planned", "nobody was told");
    let row = &case.notices(&world).await[0];
    assert_eq!(row.given_at, None);
    let delivery = &world.store.deliveries(&case.person, row.id).await.unwrap()[0];
    assert_eq!(delivery.state, DeliveryState::GivenUp);
    assert!(delivery.answer.as_ref().unwrap().contains("HTTP 500"), "{delivery:?}");

    // Somebody of the provider has it tried again; tenants do not.
    let path = format!("/api/v1/notices/{}/deliveries/{channel}/retry", row.id);
    let of_tenant = world.token(case.tenant, Role::TenantApprover, Access::Write).await;
    assert_eq!(world.ask(&of_tenant, "POST", &path, None).await.status, 403);
    let root = world.token(PROVIDER, Role::Operator, Access::Write).await;
    receiver.answer(200);
    let retried = world.ask(&root, "POST", &path, None).await;
    assert_eq!((retried.status.as_u16(), &retried.json()["state"]), (200, &json!("waiting")));
    tell(&world).await;
    assert_eq!(case.phase(&world).await, "notified");
}

#[tokio::test]
async fn one_that_wants_no_more_is_ended_and_one_that_refuses_gets_the_next() {
    let world = World::telling(here()).await;
    let (gone, picky) = (Receiver::start(410), Receiver::start(422));
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "webhook", &gone.address).await;
    let (picky_id, _) = case.channel(&world, "webhook", &picky.address).await;
    let first = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    case.plan(&world, DAY * 11, Some(&first)).await;
    tell(&world).await;

    assert_eq!(gone.got().len(), 1);
    assert_eq!(picky.got().len(), 2, "each of them once");
    let left = world.store.channels(&case.person, case.tenant).await.unwrap();
    assert_eq!(left.iter().map(|it| it.id.to_string()).collect::<Vec<_>>(), [picky_id]);
    for row in case.notices(&world).await {
        for delivery in world.store.deliveries(&case.person, row.id).await.unwrap() {
            assert_eq!(delivery.state, DeliveryState::GivenUp);
        }
    }
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_else() {
    let world = World::telling(here()).await;
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("http://{}/", silent.local_addr().unwrap());
    let receiver = Receiver::start(200);
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    a.channel(&world, "webhook", &hanging).await;
    b.channel(&world, "webhook", &receiver.address).await;
    a.plan(&world, DAY * 10, None).await;
    b.plan(&world, DAY * 10, None).await;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(std::sync::Arc::clone(&world.notices).run(async {
        // A dropped sender ends it as well.
        let _ = ended.await;
    }));

    let begin = std::time::Instant::now();
    while receiver.got().is_empty() {
        assert!(begin.elapsed().as_secs() < 8, "it waits for the one that hangs");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(end);
    run.await.unwrap();

    let row = &a.notices(&world).await[0];
    let delivery = &world.store.deliveries(&a.person, row.id).await.unwrap()[0];
    assert_eq!(
        (delivery.state, delivery.attempts),
        (DeliveryState::Waiting, 1),
        "noted at the end"
    );
    let lease = world.store.take_lease("notices", "other", DAY).await.unwrap();
    assert!(lease.is_some(), "another process need not wait");
    b.plan(&world, DAY * 11, Some(&b.planned(&world).await)).await;
    assert!(!world.notices.step().await.unwrap());
    assert_eq!(b.notices(&world).await.len(), 1, "the other one writes now");
}

/// A mail server of Python's (aiosmtpd); says a line of JSON for each mail.
struct MailServer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u16,
}

impl MailServer {
    /// None where it is not installed, and the test says so.
    fn start(mode: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join("target/notices/bin/python3");
        if !python.exists() {
            eprintln!("SKIPPED: the mail server is not installed; `cargo xtask test` does that");
            return None;
        }
        let mut child = Command::new(python)
            .arg("-B")
            .arg(root.join("crates/notices/tests/peers/smtp.py"))
            .arg(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self { child, lines, port: 0 };
        server.port = server.next()["port"].as_u64().unwrap().try_into().unwrap();
        Some(server)
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// All mails that were not asked for yet; it ends with that.
    fn rest(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        for line in self.lines.by_ref() {
            rest.push(serde_json::from_str(&line.unwrap()).unwrap());
        }
        rest
    }

    fn settings(&self) -> NoticeSettings {
        let mail = Smtp::new(SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: SmtpTls::None,
            credentials: None,
            roots: None,
            from: "patch@cloud.example".parse().unwrap(),
            from_name: "Cloud patching".parse().unwrap(),
        });
        NoticeSettings { mail: Some(mail.unwrap()), ..NoticeSettings::default() }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_arrives_and_several_that_wait_are_one() {
    let Some(mut server) = MailServer::start("plain") else { return };
    let world = World::telling(server.settings()).await;
    let case = Case::usual(&world, "a").await;
    let (_, secret) = case.channel(&world, "mail", "ops@acme.example").await;
    assert_eq!(secret, Value::Null);
    let first = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;

    let mail = server.next();
    assert_eq!(mail["to"], json!(["ops@acme.example"]));
    let row = case.notices(&world).await.remove(0);
    let message = Templates::english().message(ENGLISH, &said(&row)).unwrap();
    assert_eq!(mail["headers"]["subject"], message.subject.as_str());
    assert_eq!(mail["headers"]["patchwright-notice"], row.id.to_string());
    assert!(mail["shape"].as_array().unwrap().contains(&json!("text/calendar")));
    assert_eq!(case.phase(&world).await, "notified");

    let second = case.plan(&world, DAY * 11, Some(&first)).await;
    case.plan(&world, DAY * 12, Some(&second)).await;
    tell(&world).await;

    let mails = server.rest();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let subject = mails[0]["headers"]["subject"].as_str().unwrap();
    assert!(subject.starts_with("2 of 2 notices need your answer"), "{subject}");
    for row in case.notices(&world).await {
        let delivery = &world.store.deliveries(&case.person, row.id).await.unwrap()[0];
        assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(200);
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    let (channel, _) = b.channel(&world, "webhook", &receiver.address).await;
    b.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let notice = b.notices(&world).await.remove(0).id;

    for path in ["", &format!("?tenant={}", b.tenant)] {
        let list = world.ask(&a.owner, "GET", &format!("/api/v1/notices{path}"), None).await;
        assert_eq!(list.json()["items"], json!([]), "{path}");
    }
    let body = || Some(json!({ "kind": "webhook", "address": receiver.address }));
    for (method, path, body) in [
        ("GET", format!("notices/{notice}"), None),
        ("GET", format!("notices/{notice}/deliveries"), None),
        ("POST", format!("notices/{notice}/acknowledge"), None),
        ("GET", format!("tenants/{}/channels", b.tenant), None),
        ("POST", format!("tenants/{}/channels", b.tenant), body()),
        ("DELETE", format!("channels/{channel}"), None),
        ("GET", format!("tenants/{}/notices.ics", b.tenant), None),
        ("GET", format!("tenants/{}/notices.atom", b.tenant), None),
    ] {
        let answer = world.ask(&a.owner, method, &format!("/api/v1/{path}"), body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    assert_eq!(world.store.channels(&b.person, b.tenant).await.unwrap().len(), 1);

    // The provider sees it, but reads it for nobody.
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let path = format!("/api/v1/notices/{notice}/acknowledge");
    assert_eq!(world.ask(&root, "POST", &path, None).await.status, 422);
    let list = format!("/api/v1/notices?tenant={}", b.tenant);
    let seen = world.ask(&root, "GET", &list, None).await.json();
    assert_eq!(seen["items"][0]["id"], notice.to_string());
    assert_eq!(seen["items"][0]["title"], b.change.title);
    let read = world.ask(&b.owner, "POST", &path, None).await;
    assert_eq!(read.status, 200, "{}", read.text);
    assert!(read.json()["acknowledged_at"].is_string());
}

#[tokio::test]
async fn a_channel_is_taken_only_where_it_can_be_used_and_its_secret_is_told_once() {
    let (off, public) = (World::new().await, {
        let webhooks = Some(Reach::public());
        World::telling(NoticeSettings { webhooks, ..NoticeSettings::default() }).await
    });
    let body = |kind: &str, address: &str| Some(json!({ "kind": kind, "address": address }));
    let https = "https://acme.example/hook/s3cr3t?token=t0k3n";
    let tenant = off.tenant("a").await;
    let owner = off.token(tenant, Role::TenantOwner, Access::Write).await;
    let path = format!("/api/v1/tenants/{tenant}/channels");
    for (kind, address) in [("mail", "ops@acme.example"), ("webhook", https)] {
        let refused = off.ask(&owner, "POST", &path, body(kind, address)).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains("docs/notices.md"), "{}", refused.text);
    }

    let tenant = public.tenant("a").await;
    let owner = public.token(tenant, Role::TenantOwner, Access::Write).await;
    let viewer = public.token(tenant, Role::TenantViewer, Access::Read).await;
    let path = format!("/api/v1/tenants/{tenant}/channels");
    for address in [
        "http://acme.example/hook",
        "https://127.0.0.1/hook",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "file:///etc/passwd",
        "",
    ] {
        let refused = public.ask(&owner, "POST", &path, body("webhook", address)).await;
        assert_eq!(refused.status, 400, "{address}: {}", refused.text);
    }
    let rehearsed = format!("{path}?dry_run=true");
    let made = public.ask(&owner, "POST", &rehearsed, body("webhook", https)).await;
    assert_eq!(made.status, 201);
    assert_eq!(public.ask(&viewer, "GET", &path, None).await.json()["items"], json!([]));

    let made = public.ask(&owner, "POST", &path, body("webhook", https)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let again = public.ask(&owner, "POST", &path, body("webhook", https)).await.json();
    assert!(secret.starts_with("whsec_"));
    assert_ne!(again["secret"], secret);
    let listed = public.ask(&viewer, "GET", &path, None).await;
    assert_eq!(listed.json()["items"][0]["address"], "https://acme.example/…");
    for hidden in ["whsec_", "s3cr3t", "t0k3n"] {
        assert!(!listed.text.contains(hidden), "{}", listed.text);
    }
    let kept = &public.store.channels(&public.admin, tenant).await.unwrap()[0];
    let sealed = kept.sealed.clone().unwrap();
    let digits = secret.strip_prefix("whsec_").unwrap().as_bytes();
    assert!(!sealed.windows(8).any(|part| part == &digits[..8]), "it is kept sealed");
    let ended = public.ask(&owner, "DELETE", &format!("/api/v1/channels/{}", kept.id), None).await;
    assert!(ended.json()["ended_at"].is_string(), "{}", ended.text);
}

#[tokio::test]
async fn calendars_and_readers_get_a_tenants_own_changes() {
    let world = World::new().await;
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    let plan = a.plan(&world, DAY * 10, None).await;
    let later = a.plan(&world, DAY * 11, Some(&plan)).await;
    b.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let viewer = world.token(a.tenant, Role::TenantViewer, Access::Read).await;
    let fetch = async |form: &str| {
        let path = format!("/api/v1/tenants/{}/notices.{form}", a.tenant);
        assert_eq!(world.ask("", "GET", &path, None).await.status, 401);
        let in_query = format!("{path}?token={viewer}");
        assert_eq!(world.ask("", "GET", &in_query, None).await.status, 401, "not in addresses");
        let answer = world.ask(&viewer, "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains(&b.tenant.to_string()), "{}", answer.text);
        (answer.headers["content-type"].to_str().unwrap().to_owned(), answer.text)
    };

    let (kind, calendar) = fetch("ics").await;
    assert_eq!(kind, "text/calendar; charset=utf-8");
    assert_eq!(calendar.matches("BEGIN:VEVENT").count(), 1, "one event for each change");
    let begin = |at: Timestamp| at.strftime("DTSTART:%Y%m%dT%H%M%SZ\r\n").to_string();
    assert!(calendar.contains(&begin(later.span().from)), "as the newest says:\n{calendar}");
    let sequence = calendar.lines().find_map(|line| line.strip_prefix("SEQUENCE:")).unwrap();
    assert!(sequence.parse::<u32>().unwrap() >= 1, "{calendar}");

    let (kind, atom) = fetch("atom").await;
    assert_eq!(kind, "application/atom+xml; charset=utf-8");
    assert_eq!(atom.matches("<entry>").count(), 2, "an entry for each notice");
    for row in a.notices(&world).await {
        assert!(atom.contains(&row.id.to_string()), "{atom}");
    }
}
