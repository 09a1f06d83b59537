//! The owner of an item is told of files that nobody agreed to: once, all of a night in one message, and
//! without a word of what stands in them.

use domain::cloud::{Access, Class, PROVIDER, Role, TenantId};
use jiff::SignedDuration;
use notices::content::{DriftCounts, DriftNotice, MOST_DRIFTS};
use notices::delivery::Reach;
use serde_json::{Value, json};
use server::NoticeSettings;
use store::{Actor, DRIFT, Drift, DriftFilter, DriftState, Labels, NewCi, NoticeFilter, NoticeRow};

use crate::support::World;
use crate::support::case::{ALL, Case, tell};
use crate::support::mailbox::Mailbox;
use crate::support::receiver::Receiver;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What a side was told of drift, the oldest first.
async fn told(world: &World, by: &Actor, to: TenantId) -> Vec<NoticeRow> {
    let filter = NoticeFilter { tenant: Some(to), ..NoticeFilter::default() };
    let mut rows = world.store.notices(by, &filter, &ALL).await.unwrap().items;
    rows.retain(|row| row.kind == DRIFT);
    rows.reverse();
    rows
}

fn read(row: &NoticeRow) -> DriftNotice {
    DriftNotice::parse(&row.document).unwrap()
}

async fn pass(world: &World, time: SignedDuration) {
    world.clock.pass(time);
    tell(world).await;
}

#[tokio::test]
async fn what_drifts_in_one_night_is_one_message() {
    let webhooks = Some(Reach::also(vec!["127.0.0.0/8".parse().unwrap()]));
    let world = World::telling(NoticeSettings { webhooks, ..NoticeSettings::default() }).await;
    let receiver = Receiver::start(200);
    let case = Case::usual(&world, "a").await;
    let (_, secret) = case.channel(&world, "webhook", &receiver.address).await;
    let new = NewCi {
        tenant: case.tenant,
        class: Class::Vm,
        name: "db-of-a".parse().unwrap(),
        labels: Labels::new(),
    };
    let other = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
    let drifts = async |ci, numbers: std::ops::Range<u16>| {
        for number in numbers {
            let path = format!("/etc/app/{number:03}.conf");
            world.alter_by(ci, &path, "x", "anna", "anna by /usr/bin/vim").await;
        }
    };
    drifts(other, 249..250).await;
    pass(&world, MINUTE * 6).await;
    assert_eq!(receiver.got().len(), 1);
    world.clock.pass(MINUTE * 60 * 24);
    drifts(case.ci, 0..240).await;
    drifts(other, 240..249).await;
    assert_eq!(world.store.escalate_drifts(100).await.unwrap(), 1);

    pass(&world, MINUTE * 4).await;
    assert_eq!(receiver.got().len(), 1, "they wait for each other");
    pass(&world, MINUTE * 2).await;

    let [_, got] = &receiver.got()[..] else { panic!("{} messages", receiver.got().len()) };
    assert!(got.is_signed_with(secret.as_str().unwrap()));
    let event = got.event();
    assert_eq!(event["type"], "patchwright.notice.drift.v1");
    let counts = json!({ "escalated": 1, "opened": 249, "items": 2 });
    assert_eq!(
        (&event["data"]["counts"], &event["data"]["drifts"]["total"]),
        (&counts, &json!(250))
    );
    assert_eq!(event["data"]["drifts"]["first"][0]["path"], "/etc/app/249.conf");
    let [_, row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    assert_eq!((row.change, row.plan), (None, None));
    assert!(row.given_at.is_some());
    let notice = read(row);
    assert_eq!(notice.draft().drifts.len(), MOST_DRIFTS);
    assert_eq!(notice.draft().counts, DriftCounts { opened: 249, escalated: 1, items: 2 });
    for _ in 0..12 {
        pass(&world, MINUTE * 30).await;
    }
    assert_eq!(receiver.got().len(), 2, "each is told once");
    assert_eq!(told(&world, &world.admin, PROVIDER).await, [], "they are not the provider's");
}

#[tokio::test]
async fn the_owner_is_told_what_happened_where_since_when_and_what_to_do() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    let by = "anna\u{2028}Bcc: x@example.org<script>";
    for content in ["Port 1", "Port 2", "Port 3"] {
        world.alter_by(case.ci, "/etc/ssh/sshd config<b>", content, "anna", by).await;
    }
    let altered = open(&world, &case).await.remove(0);

    pass(&world, MINUTE * 6).await;

    let subjects = mailbox.subjects();
    let subject = "Unauthorised: /etc/ssh/sshd config<b> on web-of-a";
    assert!(subjects.iter().any(|it| it == subject), "{subjects:?}");
    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    let owner = world.token_of(&case.person, Access::Write).await;
    let page = world.ask(&owner, "GET", &format!("/notices/{}", row.id), None).await;
    for expected in [
        "! Drift",
        "Unauthorised: nobody agreed to it (confidence high)",
        "x@example.org&lt;script&gt;",
        "3 alterations",
        "Open since",
        &format!("Adopt it if it may stay, or put it back: http://localhost/drifts/{}", altered.id),
        &format!("http://localhost/cis/{}/file?path=/etc/ssh/sshd+config%3Cb%3E", case.ci),
        "href=\"/drifts\"",
    ] {
        assert!(page.text.contains(expected), "{expected}: {}", page.text);
    }
    let list = world.ask(&owner, "GET", "/notices", None).await;
    assert!(list.text.contains("drift: 1 opened on 1 item"), "{}", list.text);

    let path = format!("/api/v1/notices/{}", row.id);
    let shown = world.ask(&owner, "GET", &path, None).await.json();
    assert_eq!((&shown["kind"], &shown["change"]), (&json!("drift"), &Value::Null));
    assert_eq!(shown["title"], "drift: 1 opened on 1 item");
    assert_eq!(shown["document"]["schema"], "patchwright.drift/1");
    let seen = world.ask(&owner, "POST", &format!("{path}/acknowledge"), None).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    for form in ["ics", "atom"] {
        let path = format!("/api/v1/tenants/{}/notices.{form}", case.tenant);
        assert_eq!(world.ask(&owner, "GET", &path, None).await.status, 200);
    }

    // Nobody settled it: it is told once more, as that.
    world.clock.pass(MINUTE * 60 * 24);
    assert_eq!(world.store.escalate_drifts(100).await.unwrap(), 1);
    for _ in 0..20 {
        pass(&world, MINUTE * 6).await;
    }
    let subject = "Escalated: Unauthorised: /etc/ssh/sshd config<b> on web-of-a";
    let of_drift = mailbox.subjects().into_iter().filter(|it| it.contains("sshd config"));
    assert_eq!(of_drift.collect::<Vec<_>>()[1..], [subject]);

    // Nobody else reads it.
    let other = world.tenant("b").await;
    let stranger = world.token(other, Role::TenantOwner, Access::Read).await;
    for path in [format!("/api/v1/notices/{}", row.id), format!("/notices/{}", row.id)] {
        assert_eq!(world.ask(&stranger, "GET", &path, None).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_is_settled_is_not_told_and_the_providers_own_is_the_providers() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    for number in 0..4 {
        world.alter_by(case.ci, &format!("/etc/{number}"), "x", "anna", "anna").await;
    }
    let new = NewCi {
        tenant: PROVIDER,
        class: Class::Hypervisor,
        name: "host-1".parse().unwrap(),
        labels: Labels::new(),
    };
    let own = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
    world.alter_by(own, "/etc/own", "x", "anna", "anna").await;
    let drifts = open(&world, &case).await;
    for settled in &drifts[..2] {
        adopt(&world, &case, settled).await;
    }

    pass(&world, MINUTE * 6).await;

    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    let notice = read(row);
    let named: Vec<_> = notice.draft().drifts.iter().map(|it| it.id).collect();
    assert_eq!(named, [drifts[2].id, drifts[3].id]);
    assert_eq!(notice.draft().counts, DriftCounts { opened: 2, escalated: 0, items: 1 });
    let [row] = &told(&world, &world.admin, PROVIDER).await[..] else { panic!() };
    let root = world.token(PROVIDER, Role::Admin, Access::Read).await;
    let page = world.ask(&root, "GET", &format!("/notices/{}", row.id), None).await;
    assert!(page.text.contains("/etc/own") && !page.text.contains("/etc/2"), "{}", page.text);

    // Where all is settled there is nothing to say.
    world.alter_by(case.ci, "/etc/9", "x", "anna", "anna").await;
    for drift in open(&world, &case).await {
        adopt(&world, &case, &drift).await;
    }
    for _ in 0..20 {
        pass(&world, MINUTE * 6).await;
    }
    assert_eq!(told(&world, &case.person, case.tenant).await.len(), 1);
    assert_eq!(world.store.drift_alarms(case.tenant, 9).await.unwrap(), None);
}

/// What is open of a case, the oldest first.
async fn open(world: &World, case: &Case) -> Vec<Drift> {
    let filter = DriftFilter { state: Some(DriftState::Open), ..DriftFilter::default() };
    world.history().drifts(&case.person, filter, &ALL).await.unwrap().items
}

async fn adopt(world: &World, case: &Case, drift: &Drift) {
    let why = "ours".parse().unwrap();
    let (id, seen) = (drift.id, drift.recorded_at);
    world.history().adopt_drift(&case.person, id, seen, why).await.unwrap();
}
