//! The owner of an item is told of files that nobody agreed to: once, all of a night in one message, and
//! without a word of what stands in them.

use domain::cloud::{Access, Class, PROVIDER, Role, TenantId};
use domain::configuration::verdict::Verdict;
use jiff::SignedDuration;
use notices::content::{DriftCounts, DriftNotice, MOST_DRIFTS};
use notices::delivery::Reach;
use serde_json::{Value, json};
use server::NoticeSettings;
use store::{
    Actor, DRIFT, DriftState, Environment as _, FilePath, Labels, NewCi, NoticeFilter, NoticeRow,
};

use crate::support::World;
use crate::support::case::{ALL, Case, tell};
use crate::support::drift;
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
    for number in 0..250 {
        let ci = if number < 240 { case.ci } else { other };
        drift::put(&world, case.tenant, drift::new(&world, case.tenant, ci, number)).await;
    }
    let mut late = drift::new(&world, case.tenant, other, 249);
    late.escalated_at = Some(world.clock.now());
    drift::put(&world, case.tenant, late).await;

    pass(&world, MINUTE * 4).await;
    assert_eq!(receiver.got().len(), 0, "they wait for each other");
    pass(&world, MINUTE * 2).await;

    let [got] = &receiver.got()[..] else { panic!("{} messages", receiver.got().len()) };
    assert!(got.is_signed_with(secret.as_str().unwrap()));
    let event = got.event();
    assert_eq!(event["type"], "patchwright.notice.drift.v1");
    let counts = json!({ "escalated": 1, "opened": 249, "items": 2 });
    assert_eq!(
        (&event["data"]["counts"], &event["data"]["drifts"]["total"]),
        (&counts, &json!(250))
    );
    assert_eq!(event["data"]["drifts"]["first"][0]["path"], "/etc/app/249.conf");
    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    assert_eq!((row.change, row.plan), (None, None));
    assert!(row.given_at.is_some());
    let notice = read(row);
    assert_eq!(notice.draft().drifts.len(), MOST_DRIFTS);
    assert_eq!(notice.draft().counts, DriftCounts { opened: 249, escalated: 1, items: 2 });
    for _ in 0..12 {
        pass(&world, MINUTE * 30).await;
    }
    assert_eq!(receiver.got().len(), 1, "each is told once");
    assert_eq!(told(&world, &world.admin, PROVIDER).await, [], "they are not the provider's");
}

#[tokio::test]
async fn the_owner_is_told_what_happened_where_since_when_and_what_to_do() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = Case::usual(&world, "a").await;
    case.channel(&world, "mail", "ops@acme.example").await;
    let mut altered = drift::new(&world, case.tenant, case.ci, 1);
    altered.path = FilePath::new("/etc/ssh/sshd config<b>").unwrap();
    altered.by = Some("anna\r\nBcc: x@example.org\u{1b}[2J<script>".to_owned());
    altered.count = 3;
    drift::put(&world, case.tenant, altered.clone()).await;

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
        "By, as the system tells it: anna Bcc: x@example.org\u{fffd}[2J&lt;script&gt;",
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
    altered.escalated_at = Some(world.clock.now());
    altered.judgement.verdict = Verdict::Unknown;
    drift::put(&world, case.tenant, altered).await;
    for _ in 0..20 {
        pass(&world, MINUTE * 6).await;
    }
    let subject = "Escalated: Unexplained: /etc/ssh/sshd config<b> on web-of-a";
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
async fn what_is_settled_or_anothers_is_not_told() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let other = world.tenant("b").await;
    let drifts: Vec<_> =
        (0..4).map(|number| drift::new(&world, case.tenant, case.ci, number)).collect();
    for one in &drifts {
        drift::put(&world, case.tenant, one.clone()).await;
    }
    drift::put(
        &world,
        case.tenant,
        store::Drift { state: DriftState::Reverted, ..drifts[0].clone() },
    )
    .await;
    drift::settle_unheard(&world, drifts[1].id).await;
    drift::put(&world, other, drifts[2].clone()).await;
    drift::put(&world, PROVIDER, drifts[2].clone()).await;

    pass(&world, MINUTE * 6).await;

    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    let notice = read(row);
    let named: Vec<_> = notice.draft().drifts.iter().map(|it| it.id).collect();
    assert_eq!(named, [drifts[2].id, drifts[3].id]);
    assert_eq!(notice.draft().counts, DriftCounts { opened: 2, escalated: 0, items: 1 });
    assert_eq!(
        told(&world, &world.admin, other).await,
        [],
        "an alarm on the wrong way tells nothing"
    );
    assert_eq!(world.store.drift_alarms(other, 9).await.unwrap(), None, "and is not kept");
    let [row] = &told(&world, &world.admin, PROVIDER).await[..] else { panic!() };
    let root = world.token(PROVIDER, Role::Admin, Access::Read).await;
    let page = world.ask(&root, "GET", &format!("/notices/{}", row.id), None).await;
    assert!(page.text.contains("on web-of-a, of a"), "whose it is: {}", page.text);

    // Where all is settled there is nothing to say.
    let last = drift::new(&world, case.tenant, case.ci, 9);
    drift::put(&world, case.tenant, last.clone()).await;
    drift::settle_unheard(&world, last.id).await;
    for _ in 0..20 {
        pass(&world, MINUTE * 6).await;
    }
    assert_eq!(told(&world, &case.person, case.tenant).await.len(), 1);
    assert_eq!(world.store.drift_alarms(case.tenant, 9).await.unwrap(), None);
}
