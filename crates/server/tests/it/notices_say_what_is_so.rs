//! Notices reach whom they are for whatever others do, count as given when they were, and tell no
//! secret; calendars show what is so.

use crate::support::case::{Case, DAY, tell, wake};
use crate::support::mailbox::Mailbox;
use crate::support::receiver::Receiver;
use crate::support::{Answer, World};
use domain::change::{Acceptance, Decision};
use domain::cloud::{Access, PROVIDER, Role};
use jiff::SignedDuration;
use notices::delivery::Reach;
use serde_json::{Value, json};
use server::NoticeSettings;
use store::{DeliveryState, Environment as _};

/// Webhooks may go to this machine.
fn here() -> NoticeSettings {
    let webhooks = Some(Reach::also(vec!["127.0.0.0/8".parse().unwrap()]));
    NoticeSettings { webhooks, ..NoticeSettings::default() }
}

/// As many channels as a tenant may have, to a place where nobody listens.
async fn dead_channels(world: &World, case: &Case) {
    for _ in 0..20 {
        case.channel(world, "webhook", "http://127.0.0.1:9/hook").await;
    }
}

#[tokio::test]
async fn dead_webhooks_of_one_tenant_hold_up_nobody_else() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(200);
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    dead_channels(&world, &a).await;
    let mut plan = a.plan(&world, DAY * 10, None).await;
    for _ in 0..10 {
        plan = a.plan(&world, DAY * 10, Some(&plan)).await;
    }
    world.notices.step().await.unwrap();
    b.channel(&world, "webhook", &receiver.address).await;
    b.plan(&world, DAY * 10, None).await;

    world.notices.step().await.unwrap();

    assert_eq!(receiver.got().len(), 1, "behind 220 that wait");
    assert_eq!(b.phase(&world).await, "notified");
    assert_eq!(a.phase(&world).await, "planned");
    // Of the 20 only four are tried at the same time, and what failed waits as a whole.
    let tried = |rows: &[store::Channel]| rows.iter().filter(|it| it.failures > 0).count();
    let channels = world.store.channels(&a.person, a.tenant).await.unwrap();
    assert!(tried(&channels) <= 8, "{}", tried(&channels));
    for channel in channels.iter().filter(|it| it.failures > 0) {
        assert!(channel.next_at.unwrap() > world.clock.now());
    }
}

/// A digest shows fifty: no more of them count as told with it.
#[tokio::test]
async fn a_mail_tells_all_that_counts_as_told() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    let mut plan = case.plan(&world, DAY * 10, None).await;
    for _ in 1..53 {
        plan = case.plan(&world, DAY * 10, Some(&plan)).await;
    }

    world.notices.step().await.unwrap();
    let [first] = &mailbox.subjects()[..] else { panic!("{:?}", mailbox.subjects()) };
    assert!(first.starts_with("50 of 50 notices need your answer"), "{first}");
    assert_eq!(case.phase(&world).await, "planned", "the newest is not among them");

    tell(&world).await;
    let [_, second] = &mailbox.subjects()[..] else { panic!("{:?}", mailbox.subjects()) };
    assert!(second.starts_with("3 of 3 notices need your answer"), "{second}");
    assert_eq!(case.phase(&world).await, "notified");
}

/// One notice that a server refuses, whatever it is in, takes no other with it.
#[tokio::test]
async fn of_a_refused_digest_each_notice_is_tried_by_itself() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    mailbox.refuse(451, &["Subject:"]);
    let mut plan = case.plan(&world, DAY * 10, None).await;
    for _ in 1..4 {
        plan = case.plan(&world, DAY * 10, Some(&plan)).await;
    }
    world.notices.step().await.unwrap();
    let poisoned = case.notices(&world).await[1].id;
    mailbox.refuse(554, &["4 of 4 notices", &format!("Patchwright-Notice: {poisoned}")]);
    world.clock.pass(SignedDuration::from_secs(11));
    tell(&world).await;

    let rows = case.notices(&world).await;
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let delivery = &world.store.deliveries(&case.person, row.id).await.unwrap()[0];
        let expected =
            if row.id == poisoned { DeliveryState::GivenUp } else { DeliveryState::Delivered };
        assert_eq!(delivery.state, expected, "{delivery:?}");
        assert_eq!(delivery.attempts, 2, "{delivery:?}");
    }
    assert_eq!(mailbox.subjects().len(), 3);
    assert_eq!(case.phase(&world).await, "notified", "the newest arrived");
}

/// What waits is delivered as fast as it is taken, not so many a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_more_to_tell_goes_on_at_once() {
    // A turn that is not taken at once is not taken within this test.
    let look = std::time::Duration::from_hours(24);
    let world = World::telling(NoticeSettings { look, ..here() }).await;
    let receiver = Receiver::start(200);
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "webhook", &receiver.address).await;
    let mut plan = case.plan(&world, DAY * 10, None).await;
    for _ in 1..130 {
        plan = case.plan(&world, DAY * 10, Some(&plan)).await;
    }
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(std::sync::Arc::clone(&world.notices).run(async {
        // A dropped sender ends it as well.
        let _ = ended.await;
    }));

    // 130 are 2 turns of the writer, and 13 of a channel.
    let begin = std::time::Instant::now();
    while receiver.got().len() < 130 {
        assert!(begin.elapsed().as_secs() < 300, "{} of 130", receiver.got().len());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(end);
    run.await.unwrap();
}

/// A channel is written to in its own language, and in English where that has no words.
#[tokio::test]
async fn each_channel_is_written_to_in_its_language() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("de")).unwrap();
    let planned = directory.path().join("de/planned.subject");
    std::fs::write(planned, "Geplant: {{ title }}").unwrap();
    let mailbox = Mailbox::start();
    let templates = notices::Templates::load(directory.path()).unwrap();
    let world = World::telling(NoticeSettings { templates, ..mailbox.settings() }).await;
    let case = Case::usual(&world, "a").await;
    let path = format!("/api/v1/tenants/{}/channels", case.tenant);
    let add = async |language: Value| {
        let address = "ops@acme.example";
        let body = json!({ "kind": "mail", "address": address, "language": language });
        world.ask(&case.owner, "POST", &path, Some(body)).await
    };
    for unknown in ["fr", "de/../en", ""] {
        let refused = add(json!(unknown)).await;
        assert_eq!(refused.status, 400, "{unknown}: {}", refused.text);
        assert!(refused.text.contains("en, de"), "{}", refused.text);
    }
    let german = add(json!("de-AT")).await.json();
    assert_eq!(german["channel"]["language"], "de-AT");
    assert_eq!(add(Value::Null).await.json()["channel"]["language"], Value::Null);
    let first = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;

    let mut subjects = mailbox.subjects();
    subjects.sort();
    assert!(subjects[0].starts_with("Answer by"), "{subjects:?}");
    assert_eq!(subjects[1], format!("Geplant: {}", case.change.title));

    // Both in English now.
    let channel = format!("/api/v1/channels/{}", german["channel"]["id"].as_str().unwrap());
    let unsaid = world.ask(&case.owner, "PATCH", &channel, Some(json!({}))).await;
    assert_eq!(unsaid.status, 400, "{}", unsaid.text);
    let body = Some(json!({ "language": "en" }));
    let altered = world.ask(&case.owner, "PATCH", &channel, body).await;
    assert_eq!(altered.json()["language"], "en", "{}", altered.text);
    case.plan(&world, DAY * 11, Some(&first)).await;
    tell(&world).await;
    let later = &mailbox.subjects()[2..];
    assert!(later.iter().all(|it| it.starts_with("Answer by")), "{later:?}");
    assert_eq!(later.len(), 2);

    let viewer = world.token(case.tenant, Role::TenantViewer, Access::Read).await;
    let page = world.ask(&viewer, "GET", "/notices", None).await;
    assert!(page.text.contains("in en"), "{}", page.text);
}

#[tokio::test]
async fn who_wants_no_more_and_was_the_last_is_told_in_the_console() {
    let world = World::telling(here()).await;
    let gone = Receiver::start(410);
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "webhook", &gone.address).await;
    case.plan(&world, DAY * 10, None).await;

    tell(&world).await;

    assert_eq!(gone.got().len(), 1);
    assert_eq!(case.phase(&world).await, "notified");
    let row = &case.notices(&world).await[0];
    assert!(row.given_at.is_some());
    let delivery = &world.store.deliveries(&case.person, row.id).await.unwrap()[0];
    assert_eq!(delivery.state, DeliveryState::GivenUp);
}

#[tokio::test]
async fn what_the_provider_has_sent_to_itself_is_not_given() {
    let world = World::telling(here()).await;
    let (copies, own) = (Receiver::start(200), Receiver::start(503));
    let case = Case::usual(&world, "a").await;
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let path = format!("/api/v1/tenants/{}/channels", case.tenant);
    let body = json!({ "kind": "webhook", "address": copies.address });
    let made = world.ask(&root, "POST", &path, Some(body)).await.json();
    assert_eq!(made["channel"]["is_own"], false, "{made}");
    case.channel(&world, "webhook", &own.address).await;
    case.plan(&world, DAY * 10, None).await;

    world.notices.step().await.unwrap();

    assert_eq!((copies.got().len(), own.got().len()), (1, 1));
    assert_eq!(case.phase(&world).await, "planned");
    own.answer(200);
    world.clock.pass(SignedDuration::from_secs(11));
    tell(&world).await;
    assert_eq!(case.phase(&world).await, "notified");
}

/// Neither events, which every viewer reads and every archive keeps, nor the database.
#[tokio::test]
async fn a_webhooks_address_is_told_to_nobody() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(200);
    assert!(receiver.address.contains("s3cr3t"));
    let case = Case::usual(&world, "a").await;
    let (channel, _) = case.channel(&world, "webhook", &receiver.address).await;
    case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    assert_eq!(receiver.got().len(), 1, "it is known where it goes");
    let path = format!("/api/v1/channels/{channel}");
    assert_eq!(world.ask(&case.owner, "DELETE", &path, None).await.status, 200);

    world.recorder.finish().await.unwrap();
    let viewer = world.token(case.tenant, Role::TenantViewer, Access::Read).await;
    let events = world.ask(&viewer, "GET", "/api/v1/events?limit=1000", None).await;
    assert!(events.text.contains(&channel), "{}", events.text);
    for event in events.json()["items"].as_array().unwrap() {
        assert!(!event.to_string().contains("s3cr3t"), "{event}");
    }
    for file in std::fs::read_dir(world.directory.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let leaks = bytes.windows(6).any(|part| part == b"s3cr3t");
            assert!(!leaks, "{}", path.display());
        }
    }
}

async fn calendar(world: &World, case: &Case) -> String {
    let viewer = world.token_of(&case.person, Access::Read).await;
    let path = format!("/api/v1/tenants/{}/notices.ics", case.tenant);
    let answer = world.ask(&viewer, "GET", &path, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

/// How a calendar's one event stands, and its sequence.
fn stands(calendar: &str) -> (String, u64) {
    assert_eq!(calendar.matches("BEGIN:VEVENT").count(), 1, "{calendar}");
    let of = |name: &str| {
        let line = calendar.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {calendar}")).to_owned()
    };
    (of("STATUS:"), of("SEQUENCE:").parse().unwrap())
}

#[tokio::test]
async fn a_calendar_shows_what_came_of_an_answer() {
    let world = World::new().await;
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    let (yes, later) = (a.plan(&world, DAY * 10, None).await, b.plan(&world, DAY * 10, None).await);
    tell(&world).await;
    let asked = stands(&calendar(&world, &a).await);
    assert_eq!(asked.0, "TENTATIVE");
    assert_eq!(stands(&calendar(&world, &b).await).0, "TENTATIVE");

    a.answer(&world, &yes, Decision::Approve).await;
    let until = world.clock.now() + DAY * 2;
    let acceptance = Acceptance {
        reason: "Quarter-end close".parse().unwrap(),
        risk_owner: "Ada".parse().unwrap(),
        expiry: until,
    };
    b.answer(&world, &later, Decision::Defer { until, acceptance }).await;

    let text = calendar(&world, &a).await;
    let agreed = stands(&text);
    assert_eq!((&*agreed.0, agreed.1 > asked.1), ("CONFIRMED", true));
    assert!(!text.contains("Please answer"), "{text}");
    let off = stands(&calendar(&world, &b).await);
    assert_eq!(off.0, "CANCELLED");

    // The tenant is asked again once that time is over.
    world.clock.pass(DAY * 2);
    wake(&world).await;
    tell(&world).await;
    let again = stands(&calendar(&world, &b).await);
    assert_eq!((&*again.0, again.1 > off.1), ("TENTATIVE", true));
}

#[tokio::test]
async fn what_missed_its_window_is_delayed_and_did_not_fail() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let plan = case.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    case.answer(&world, &plan, Decision::Approve).await;
    world.clock.pass(DAY * 12);
    wake(&world).await;
    tell(&world).await;

    let rows = case.notices(&world).await;
    let told: Vec<_> = rows.iter().map(|row| &*row.kind).collect();
    assert_eq!(told, ["planned", "delayed"], "{}", case.phase(&world).await);
    let said = notices::Notice::parse(&rows[1].document).unwrap();
    assert_eq!(said.draft().items[0].state.as_str(), "pending", "nobody touched it");
    assert_eq!(said.draft().news.before(), Some(plan.span()));
    assert_eq!(stands(&calendar(&world, &case).await).0, "CANCELLED");
}

#[tokio::test]
async fn who_was_asked_and_does_not_answer_is_reminded_once() {
    let world = World::new().await;
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    let first = a.plan(&world, DAY * 20, None).await;
    tell(&world).await;
    let plan = a.plan(&world, DAY * 10, Some(&first)).await;
    let theirs = b.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    b.answer(&world, &theirs, Decision::Approve).await;
    let kinds = async |case: &Case| -> Vec<String> {
        case.notices(&world).await.into_iter().map(|row| row.kind).collect()
    };
    let said = notices::Notice::parse(&a.notices(&world).await[1].document).unwrap();
    let Some(notices::content::Ask::Answer { by, .. }) = said.draft().news.ask() else { panic!() };
    let time = by - said.draft().published_at;

    world.clock.pass(time * 3 / 4 - SignedDuration::from_mins(10));
    wake(&world).await;
    tell(&world).await;
    assert_eq!(kinds(&a).await, ["planned", "planned"]);
    world.clock.pass(SignedDuration::from_mins(20));
    wake(&world).await;
    tell(&world).await;
    assert_eq!(kinds(&a).await, ["planned", "planned", "reminder"]);
    assert_eq!(kinds(&b).await, ["planned"], "it answered");
    let rows = a.notices(&world).await;
    let reminder = notices::Notice::parse(&rows[2].document).unwrap();
    assert_eq!(reminder.draft().plan, Some(plan.hash()), "of the plan in force");
    assert_eq!(reminder.draft().news.window(), Some(plan.span()));
    let ask = reminder.draft().news.ask();
    assert!(matches!(ask, Some(notices::content::Ask::Answer { by: again, .. }) if again >= by));
    assert!(rows[2].given_at.is_some());

    world.clock.pass(DAY);
    tell(&world).await;
    assert_eq!(kinds(&a).await.len(), 3);
}

async fn fetch(world: &World, address: &Value) -> Answer {
    let path = address.as_str().unwrap().strip_prefix("http://localhost").unwrap();
    world.ask("", "GET", path, None).await
}

#[tokio::test]
async fn a_calendar_subscribes_with_an_address_of_its_own() {
    let world = World::new().await;
    let (a, b) = (Case::usual(&world, "a").await, Case::usual(&world, "b").await);
    a.plan(&world, DAY * 10, None).await;
    b.plan(&world, DAY * 10, None).await;
    tell(&world).await;
    let owner = world.token_of(&a.person, Access::Write).await;
    let path = format!("/api/v1/tenants/{}/feeds", a.tenant);
    let body = || Some(json!({ "name": "my phone", "days": 30 }));
    let theirs = format!("/api/v1/tenants/{}/feeds", b.tenant);
    assert_eq!(world.ask(&owner, "POST", &theirs, body()).await.status, 404);
    let made = world.ask(&owner, "POST", &path, body()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();

    let ics = fetch(&world, &made["calendar"]).await;
    assert_eq!(ics.status, 200, "{}", ics.text);
    assert_eq!(ics.headers["content-type"], "text/calendar; charset=utf-8");
    assert_eq!(ics.headers["cache-control"], "private, no-store");
    assert!(ics.text.contains(&a.tenant.to_string()));
    let atom = fetch(&world, &made["atom"]).await;
    assert_eq!(atom.headers["content-type"], "application/atom+xml; charset=utf-8");
    for text in [&ics.text, &atom.text] {
        assert!(!text.contains(&b.tenant.to_string()), "{text}");
        assert!(!text.contains("pwf_"), "{text}");
    }

    // It opens nothing else, and nothing but it opens it.
    let secret = made["calendar"].as_str().unwrap().split('/').nth(4).unwrap().to_owned();
    assert!(secret.starts_with("pwf_"), "{secret}");
    for (method, path) in [
        ("GET", "/api/v1/notices".to_owned()),
        ("GET", format!("/api/v1/tenants/{}/notices.ics", a.tenant)),
        ("DELETE", format!("/api/v1/tokens/{}", made["feed"]["id"].as_str().unwrap())),
    ] {
        assert_eq!(world.ask(&secret, method, &path, None).await.status, 401, "{path}");
    }
    for other in [&*owner, "pwf_00", "x"] {
        let path = format!("/feeds/{other}/changes.ics");
        assert_eq!(world.ask("", "GET", &path, None).await.status, 404);
    }
    let kept = world.ask(&owner, "GET", &path, None).await;
    assert!(!kept.text.contains("pwf_"), "{}", kept.text);
    assert!(kept.json()["items"][0]["used_at"].is_string(), "{}", kept.text);
    let of_b = world.token_of(&b.person, Access::Write).await;
    assert_eq!(world.ask(&of_b, "GET", &path, None).await.status, 404);
    let bytes = std::fs::read(world.directory.path().join("patchwright.db")).unwrap();
    assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));

    // Its maker ends it, it runs out, and it ends with its maker's access.
    let end = format!("/api/v1/tokens/{}", made["feed"]["id"].as_str().unwrap());
    assert_eq!(world.ask(&owner, "DELETE", &end, None).await.status, 200);
    assert_eq!(fetch(&world, &made["calendar"]).await.status, 404);
    assert_eq!(world.ask(&owner, "GET", &path, None).await.json()["items"], json!([]));
    let second = world.ask(&owner, "POST", &path, body()).await.json();
    assert_eq!(fetch(&world, &second["atom"]).await.status, 200);
    world.clock.pass(DAY * 31);
    assert_eq!(fetch(&world, &second["atom"]).await.status, 404);
    let owner = world.token_of(&a.person, Access::Write).await;
    let third = world.ask(&owner, "POST", &path, body()).await.json();
    assert_eq!(fetch(&world, &third["calendar"]).await.status, 200);
    let store::Actor::Person { user, .. } = a.person else { panic!() };
    world.store.disable_user(&world.admin, user).await.unwrap();
    assert_eq!(fetch(&world, &third["calendar"]).await.status, 404);
}
