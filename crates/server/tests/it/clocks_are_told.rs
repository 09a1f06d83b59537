//! Whoever holds the ball is told that a clock warns, is overdue or passed its date: once, and all of a
//! night in one message.

use crate::support::World;
use crate::support::case::{ALL, Case, DAY, tell, wake};
use crate::support::mailbox::Mailbox;
use crate::support::receiver::Receiver;
use domain::change::Kind;
use domain::cloud::{Access, PROVIDER, Role, TenantId};
use domain::priority::{AssetFacts, Priority, PriorityInputs};
use domain::sla::Facts;
use jiff::SignedDuration;
use notices::content::{ClockNotice, Lateness};
use notices::delivery::Reach;
use serde_json::{Value, json};
use server::NoticeSettings;
use store::{Actor, CLOCKS, Move, NewChange, NoticeFilter, NoticeRow};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Webhooks may go to this machine.
fn here() -> NoticeSettings {
    let webhooks = Some(Reach::also(vec!["127.0.0.0/8".parse().unwrap()]));
    NoticeSettings { webhooks, ..NoticeSettings::default() }
}

/// What a side was told of clocks, the oldest first.
async fn told(world: &World, by: &Actor, to: TenantId) -> Vec<NoticeRow> {
    let filter = NoticeFilter { tenant: Some(to), ..NoticeFilter::default() };
    let mut rows = world.store.notices(by, &filter, &ALL).await.unwrap().items;
    rows.retain(|row| row.kind == CLOCKS);
    rows.reverse();
    rows
}

fn read(row: &NoticeRow) -> ClockNotice {
    ClockNotice::parse(&row.document).unwrap()
}

/// Time passes with whoever looks at clocks and tells what there is to tell.
async fn pass(world: &World, time: SignedDuration) {
    world.clock.pass(time);
    wake(world).await;
    tell(world).await;
}

#[tokio::test]
async fn a_thousand_clocks_of_one_night_are_one_message() {
    let world = World::telling(here()).await;
    let receiver = Receiver::start(200);
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let path = format!("/api/v1/tenants/{PROVIDER}/channels");
    let body = json!({ "kind": "webhook", "address": receiver.address });
    let made = world.ask(&root, "POST", &path, Some(body)).await;
    assert_eq!(made.status, 201, "the provider's people have channels too: {}", made.text);
    assert_eq!(made.json()["channel"]["is_own"], true);
    let mut tenants = Vec::new();
    for number in 0..40 {
        tenants.push(world.tenant(&format!("t{number}")).await);
    }
    for number in 0..26 {
        let new = NewChange {
            kind: Kind::Patch,
            title: format!("patch {number}"),
            patches: Vec::new(),
            tenants: tenants.clone(),
            priority: Priority::High,
        };
        world.store.create_change(&world.admin, None, new).await.unwrap();
    }

    // They were to be evaluated within a day.
    pass(&world, HOUR * 25).await;
    assert_eq!(receiver.got().len(), 0, "they wait for each other");
    pass(&world, SignedDuration::from_mins(6)).await;

    let [got] = &receiver.got()[..] else { panic!("{} messages", receiver.got().len()) };
    let event = got.event();
    assert_eq!(event["type"], "patchwright.notice.clocks.v1");
    let counts = json!({ "breached": 0, "overdue": 1040, "warned": 0 });
    assert_eq!(
        (&event["data"]["counts"], &event["data"]["clocks"]["total"]),
        (&counts, &json!(1040))
    );
    assert!(got.body.len() <= notices::LARGEST_EVENT, "{}", got.body.len());
    let [row] = &told(&world, &world.admin, PROVIDER).await[..] else { panic!() };
    assert_eq!((row.change, row.plan), (None, None));
    assert!(row.given_at.is_some());
    let notice = read(row);
    let (draft, first) = (notice.draft(), &notice.draft().clocks[0]);
    assert_eq!(draft.clocks.len(), notices::content::MOST_CLOCKS);
    assert_eq!(first.lateness, Lateness::Overdue);
    assert_eq!(first.stage, Some(domain::sla::Stage::Evaluate));
    assert_eq!(first.late_since, first.stage_deadline);
    for _ in 0..12 {
        pass(&world, HOUR).await;
    }
    assert_eq!(receiver.got().len(), 1, "each step is told once");
    for tenant in tenants {
        assert_eq!(told(&world, &world.admin, tenant).await, [], "the ball is not theirs");
    }

    // At half of the time all of them warn: a night later, in one message again.
    for _ in 0..24 * 7 {
        pass(&world, HOUR).await;
    }
    let rows = told(&world, &world.admin, PROVIDER).await;
    let counts: Vec<_> = rows.iter().map(|row| read(row).draft().counts.warned).collect();
    assert_eq!(counts, [0, 1040]);
}

/// A tenant that was asked, whose silence waits, and whose time is over.
async fn unanswered(world: &World) -> Case {
    let case = Case::usual(world, "a").await;
    let facts = Facts {
        priority: Priority::Low,
        patch: PriorityInputs::default(),
        cves: Vec::new(),
        asset: AssetFacts::default(),
    };
    case.does(world, &world.admin, Move::Assess(Box::new(facts))).await;
    case.plan(world, DAY * 40, None).await;
    tell(world).await;
    assert_eq!(case.phase(world).await, "notified");
    case
}

#[tokio::test]
async fn the_tenant_is_told_what_is_late_since_when_and_what_to_do() {
    let mailbox = Mailbox::start();
    let world = World::telling(mailbox.settings()).await;
    let case = unanswered(&world).await;
    case.channel(&world, "mail", "ops@acme.example").await;

    pass(&world, DAY * 24 + HOUR).await;
    pass(&world, SignedDuration::from_mins(6)).await;

    assert_eq!(told(&world, &world.admin, PROVIDER).await, [], "the ball is not the provider's");
    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };
    let notice = read(row);
    let [clock] = &notice.draft().clocks[..] else { panic!("{notice:?}") };
    assert_eq!(clock.lateness, Lateness::Overdue);
    assert_eq!(clock.holder, Some(domain::sla::Party::Tenant));
    let subjects = mailbox.subjects();
    let subject = format!("Overdue: {}", case.change.title);
    assert!(subjects.contains(&subject), "{subjects:?}");
    let owner = world.token_of(&case.person, Access::Write).await;
    let page = world.ask(&owner, "GET", &format!("/notices/{}", row.id), None).await;
    for expected in [
        "Overdue since",
        "s answer",
        "The ball is with you, since",
        "Next: Answer the plan: approve it, put it off or refuse it.",
        "Priority low; to be done and verified before",
        "! Clocks",
        &format!("/obligations/{}/{}", case.change.change.id, case.tenant),
    ] {
        assert!(page.text.contains(expected), "{expected}: {}", page.text);
    }

    let path = format!("/api/v1/notices/{}", row.id);
    let shown = world.ask(&owner, "GET", &path, None).await.json();
    assert_eq!((&shown["kind"], &shown["change"]), (&json!("clocks"), &Value::Null));
    assert_eq!(shown["title"], "clocks: 1 overdue");
    assert_eq!(shown["document"]["schema"], "patchwright.clocks/1");
    let seen = world.ask(&owner, "POST", &format!("{path}/acknowledge"), None).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    for form in ["ics", "atom"] {
        let path = format!("/api/v1/tenants/{}/notices.{form}", case.tenant);
        assert_eq!(world.ask(&owner, "GET", &path, None).await.status, 200);
    }

    // The day the date passes, and never again.
    for _ in 0..24 * 80 / 6 {
        pass(&world, HOUR * 6).await;
    }
    let rows = told(&world, &case.person, case.tenant).await;
    let worst: Vec<_> = rows.iter().map(|row| read(row).draft().clocks[0].lateness).collect();
    assert_eq!(worst, [Lateness::Overdue, Lateness::Warned, Lateness::Breached], "{rows:?}");
    let breached = read(&rows[2]).draft().clocks[0].clone();
    assert_eq!(breached.late_since, breached.due);
    assert_eq!(told(&world, &world.admin, PROVIDER).await, []);
}

#[tokio::test]
async fn what_is_settled_or_has_moved_on_is_not_told() {
    let world = World::new().await;
    let case = unanswered(&world).await;
    pass(&world, DAY * 24 + HOUR).await;
    assert_eq!(world.store.alarms(case.tenant, 10).await.unwrap().unwrap().total, 1);

    let plan = case.planned(&world).await;
    case.answer(&world, &plan, domain::change::Decision::Approve).await;
    pass(&world, SignedDuration::from_mins(6)).await;

    assert_eq!(told(&world, &case.person, case.tenant).await, []);
    assert_eq!(world.store.alarms(case.tenant, 10).await.unwrap(), None, "it is not kept either");
}

#[tokio::test]
async fn a_digest_of_clocks_is_nobody_elses() {
    let world = World::new().await;
    let case = unanswered(&world).await;
    let other = world.tenant("b").await;
    pass(&world, DAY * 24 + HOUR).await;
    pass(&world, SignedDuration::from_mins(6)).await;
    let [row] = &told(&world, &case.person, case.tenant).await[..] else { panic!() };

    let owner = world.token(other, Role::TenantOwner, Access::Read).await;
    for path in [format!("/api/v1/notices/{}", row.id), format!("/notices/{}", row.id)] {
        assert_eq!(world.ask(&owner, "GET", &path, None).await.status, 404, "{path}");
    }
    let list = world.ask(&owner, "GET", "/notices", None).await;
    assert!(!list.text.contains(&row.id.to_string()), "{}", list.text);
}
