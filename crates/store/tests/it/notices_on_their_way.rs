//! Notices on their channels: whom nobody holds up, and with what a notice counts as given.

use crate::changes_and_their_clocks::{Case, DAY, channel, events, now, publish};
use crate::support::World;
use domain::cloud::{ChannelId, EventKind, NoticeId, TenantId};
use domain::sla::Moment;
use jiff::SignedDuration;
use sqlx::{Connection as _, PgConnection};
use store::{
    Actor, Attempt, Channel, ChannelKind, DeliveryState, NewChannel, NoticeFilter, PageRequest,
    Retrieval, Tried,
};

on_both_engines! {
    a_notice_is_given_with_the_first_delivery
    what_no_channel_takes_stays_with_the_provider
    a_failing_channel_waits_as_a_whole
    no_tenant_fills_the_window_of_the_others
    what_cannot_be_written_stands_in_nobodys_way
    copies_to_the_provider_s_channels_give_nothing
    with_the_last_channel_what_waits_is_given_in_the_console
    no_event_tells_a_webhooks_address
}

const ALL: PageRequest = PageRequest { after: None, limit: 1000 };

fn new_channel(number: u8) -> NewChannel {
    NewChannel {
        id: ChannelId::of_content([number; 16]),
        kind: ChannelKind::Webhook,
        address: format!("https://hooks.example/s3cr3t/{number}"),
        sealed_address: Some(vec![number; 4]),
        sealed: Some(vec![number; 8]),
        language: None,
    }
}

pub(crate) async fn channel_by(
    world: &World,
    by: &Actor,
    tenant: TenantId,
    number: u8,
) -> ChannelId {
    world.store.create_channel(by, tenant, new_channel(number)).await.unwrap().id
}

/// The channels that are due, none of which is busy.
async fn due(world: &World) -> Vec<Channel> {
    world.store.due_channels(&[], 4, 100).await.unwrap()
}

async fn attempt(world: &World, channel: ChannelId, of: &[(NoticeId, Tried)]) {
    let attempt = Attempt { of: of.to_vec(), again: None };
    world.store.record_attempt(channel, attempt).await.unwrap();
}

fn delivered() -> Tried {
    Tried::Delivered { answer: "200".into() }
}

fn given_up() -> Tried {
    Tried::GivenUp { answer: "gone".into() }
}

/// The channel takes nothing now.
async fn failing(world: &World, channel: ChannelId, notice: NoticeId, wait: SignedDuration) {
    let of = vec![(notice, Tried::Failed { answer: "503".into() })];
    let attempt = Attempt { of, again: Some(now(world) + wait) };
    world.store.record_attempt(channel, attempt).await.unwrap();
}

async fn a_notice_is_given_with_the_first_delivery(world: World) {
    let case = Case::proven(&world, "high").await;
    let (first, second) = (channel(&world, &case, 1).await, channel(&world, &case, 2).await);
    case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    assert_eq!(case.phase(&world).await, "planned", "nobody has it yet");

    let channels = due(&world).await;
    let [one, _] = &channels[..] else { panic!("{channels:?}") };
    assert_eq!(one.sealed.as_deref(), Some(&[1; 8][..]));
    assert_eq!(one.sealed_address.as_deref(), Some(&[1; 4][..]));
    let waiting = world.store.waiting_on(first, 10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].attempts), (1, 0));
    let notice = waiting[0].notice.id;
    failing(&world, first, notice, SignedDuration::from_mins(1)).await;
    assert_eq!(case.phase(&world).await, "planned");
    assert_eq!(due(&world).await.len(), 1);
    attempt(&world, second, &[(notice, delivered())]).await;
    assert_eq!(case.phase(&world).await, "notified");
    let row = world.store.notice(&case.owner, notice).await.unwrap();
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.instants().at(Moment::Notified), row.given_at);

    world.environment.pass(SignedDuration::from_mins(2));
    assert_eq!(due(&world).await[0].failures, 1);
    assert_eq!(world.store.waiting_on(first, 10).await.unwrap()[0].attempts, 1);
    attempt(&world, first, &[(notice, delivered())]).await;
    attempt(&world, first, &[(notice, delivered())]).await;
    assert_eq!(events(&world, EventKind::NoticeDelivered).await, 2);
    assert_eq!(events(&world, EventKind::NoticeGiven).await, 1);
    assert_eq!(world.store.next_delivery().await.unwrap(), None);
    let channels = world.store.channels(&case.owner, case.tenant.id).await.unwrap();
    assert!(channels.iter().all(|it| it.failures == 0 && it.next_at.is_none()), "{channels:?}");
}

async fn what_no_channel_takes_stays_with_the_provider(world: World) {
    let case = Case::proven(&world, "high").await;
    let id = channel(&world, &case, 1).await;
    case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    let notice = world.store.waiting_on(id, 10).await.unwrap()[0].notice.id;
    attempt(&world, id, &[(notice, given_up())]).await;

    assert_eq!(case.phase(&world).await, "planned");
    assert_eq!(events(&world, EventKind::NoticeUndeliverable).await, 1);
    let [delivery] = &world.store.deliveries(&case.owner, notice).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        (delivery.state, delivery.answer.as_deref(), delivery.next_at),
        (DeliveryState::GivenUp, Some("gone"), None)
    );
    assert_eq!(due(&world).await, []);
    let retried = world.store.retry_delivery(&world.admin, notice, id).await.unwrap();
    assert_eq!(retried.state, DeliveryState::Waiting);
    assert!(retried.next_at.is_some());
    assert_eq!(due(&world).await.len(), 1);

    world.store.end_channel(&case.owner, id).await.unwrap();
    assert_eq!(due(&world).await, []);
    assert_eq!(world.store.next_delivery().await.unwrap(), None);
    assert!(world.store.retry_delivery(&world.admin, notice, id).await.is_err());
    assert_eq!(world.store.channels(&case.owner, case.tenant.id).await.unwrap(), []);
}

async fn a_failing_channel_waits_as_a_whole(world: World) {
    let case = Case::proven(&world, "high").await;
    let id = channel(&world, &case, 1).await;
    let first = case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    case.replan(&world, now(&world) + DAY * 6, &first).await;
    publish(&world, 2).await;
    let waiting = world.store.waiting_on(id, 10).await.unwrap();
    let kinds: Vec<_> = waiting.iter().map(|one| one.notice.plan == Some(first.hash())).collect();
    assert_eq!(kinds, [true, false], "the oldest first");

    failing(&world, id, waiting[0].notice.id, SignedDuration::from_mins(5)).await;

    assert_eq!(due(&world).await, [], "neither of them is tried");
    world.environment.pass(SignedDuration::from_mins(6));
    let [channel] = &due(&world).await[..] else { panic!() };
    assert_eq!(channel.failures, 1);
    let attempts: Vec<_> =
        world.store.waiting_on(id, 10).await.unwrap().iter().map(|one| one.attempts).collect();
    assert_eq!(attempts, [1, 0]);
    assert_eq!(world.store.due_channels(&[id], 4, 100).await.unwrap(), [], "it is busy");

    attempt(&world, id, &[(waiting[0].notice.id, given_up())]).await;
    assert_eq!(due(&world).await[0].failures, 1, "nothing was taken");
    attempt(&world, id, &[(waiting[1].notice.id, delivered())]).await;
    assert_eq!(due(&world).await, []);
}

/// A tenant with as many channels as it may have, each with notices that nobody takes.
async fn no_tenant_fills_the_window_of_the_others(world: World) {
    let case = Case::proven(&world, "high").await;
    for number in 1..=20 {
        channel(&world, &case, number).await;
    }
    let mut plan = case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    for number in 2..=11 {
        plan = case.replan(&world, now(&world) + DAY * 5, &plan).await;
        publish(&world, number).await;
    }
    let other = world.tenant("b").await;
    let bert = world.owner(&other).await;
    let theirs = channel_by(&world, &bert, other.id, 99).await;
    case.plan_another(&world, &other).await;
    publish(&world, 50).await;

    let channels = world.store.due_channels(&[], 4, 16).await.unwrap();
    let of = |tenant| channels.iter().filter(|it| it.tenant == tenant).count();
    assert_eq!((of(case.tenant.id), of(other.id)), (4, 1), "of 221 that wait");
    assert_eq!(channels[1].id, theirs, "every tenant's first before anybody's second");
}

async fn what_cannot_be_written_stands_in_nobodys_way(world: World) {
    let case = Case::proven(&world, "high").await;
    let first = case.plan(&world, now(&world) + DAY * 5).await;
    let [unwritable] = &world.store.tidings(1).await.unwrap()[..] else { panic!() };
    let other = world.tenant("b").await;
    case.plan_another(&world, &other).await;
    assert_eq!(world.store.tidings(1).await.unwrap()[0], *unwritable, "it is the oldest");

    let until = now(&world) + SignedDuration::from_mins(5);
    world.store.postpone_tidings(unwritable.clone(), until).await.unwrap();

    let left = world.store.tidings(1).await.unwrap();
    assert_eq!(left[0].tenant, other.id, "even where only one is looked at");
    case.replan(&world, now(&world) + DAY * 6, &first).await;
    let left = world.store.tidings(10).await.unwrap();
    assert!(left.iter().all(|it| it.tenant == other.id), "in order, of one change: {left:?}");
    world.environment.pass(SignedDuration::from_mins(6));
    let all = world.store.tidings(10).await.unwrap();
    assert_eq!((all.len(), &all[0]), (3, unwritable));
}

/// The provider adds a channel for a tenant: what goes there is no proof that the tenant knows.
async fn copies_to_the_provider_s_channels_give_nothing(world: World) {
    let case = Case::proven(&world, "high").await;
    let (own, tenant) = (channel(&world, &case, 1).await, case.tenant.id);
    let copies = channel_by(&world, &world.admin, tenant, 2).await;
    let channels = world.store.channels(&case.owner, tenant).await.unwrap();
    let is_own: Vec<_> = channels.iter().map(|it| (it.id, it.is_own)).collect();
    assert_eq!(is_own, [(own, true), (copies, false)]);
    let first = case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    let notice = world.store.waiting_on(copies, 10).await.unwrap()[0].notice.id;

    attempt(&world, copies, &[(notice, delivered())]).await;

    assert_eq!(case.phase(&world).await, "planned");
    assert_eq!(events(&world, EventKind::NoticeDelivered).await, 1);
    assert_eq!(events(&world, EventKind::NoticeGiven).await, 0);
    attempt(&world, own, &[(notice, delivered())]).await;
    assert_eq!(case.phase(&world).await, "notified");

    // Where all channels are the provider's, the tenant is told in the console.
    world.store.end_channel(&case.owner, own).await.unwrap();
    case.replan(&world, now(&world) + DAY * 6, &first).await;
    publish(&world, 2).await;
    assert_eq!(case.phase(&world).await, "notified");
    assert_eq!(world.store.waiting_on(copies, 10).await.unwrap().len(), 1, "a copy goes there");
}

async fn with_the_last_channel_what_waits_is_given_in_the_console(world: World) {
    let case = Case::proven(&world, "high").await;
    let (first, second) = (channel(&world, &case, 1).await, channel(&world, &case, 2).await);
    let copies = channel_by(&world, &world.admin, case.tenant.id, 3).await;
    case.plan(&world, now(&world) + DAY * 5).await;
    publish(&world, 1).await;
    let notice = world.store.waiting_on(first, 10).await.unwrap()[0].notice.id;
    attempt(&world, first, &[(notice, given_up())]).await;

    world.store.end_channel(&Actor::System, first).await.unwrap();
    world.store.end_channel(&world.admin, copies).await.unwrap();
    assert_eq!(case.phase(&world).await, "planned", "there is one that may take it");
    world.store.end_channel(&case.owner, second).await.unwrap();

    assert_eq!(case.phase(&world).await, "notified");
    let row = world.store.notice(&case.owner, notice).await.unwrap();
    let matter = case.matter(&world).await;
    assert_eq!(matter.obligation.instants().at(Moment::Notified), row.given_at);
    world.store.end_channel(&case.owner, second).await.unwrap();
    assert_eq!(events(&world, EventKind::NoticeGiven).await, 1);
    let all = world.store.notices(&case.owner, &NoticeFilter::default(), &ALL).await.unwrap();
    assert_eq!(all.items.len(), 1);
}

async fn no_event_tells_a_webhooks_address(world: World) {
    let case = Case::proven(&world, "high").await;
    let id = channel(&world, &case, 1).await;
    let read = &world.store.channels(&case.owner, case.tenant.id).await.unwrap()[0];
    assert_eq!(read.address, "https://hooks.example/…");
    world.store.end_channel(&case.owner, id).await.unwrap();
    assert_eq!(events(&world, EventKind::ChannelEnded).await, 1);

    let all = world.store.events(&case.owner, Retrieval::Events, 0, 10_000).await.unwrap();
    let told: Vec<_> = all.iter().filter(|event| event.object == id.to_string()).collect();
    assert_eq!(told.len(), 2);
    for event in told {
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(payload["address"], "https://hooks.example/…");
        assert_eq!(payload["is_own"], true);
    }
}

/// Once all addresses stood in the clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_before_is_sealed() {
    let (world, address) = World::postgres_at().await;
    let case = Case::proven(&world, "high").await;
    let id = channel(&world, &case, 1).await;
    let mut other = PgConnection::connect(&address).await.unwrap();
    let clear =
        "UPDATE channels SET address = 'https://hooks.example/s3cr3t', sealed_address = NULL";
    sqlx::query(clear).execute(&mut other).await.unwrap();
    let [found] = &world.store.unsealed_channels().await.unwrap()[..] else { panic!() };
    assert_eq!((found.id, &*found.address), (id, "https://hooks.example/s3cr3t"));

    world.store.seal_channel(id, vec![9; 4]).await.unwrap();

    let [kept] = &world.store.channels(&case.owner, case.tenant.id).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!(kept.address, "https://hooks.example/…");
    assert_eq!(kept.sealed_address.as_deref(), Some(&[9; 4][..]));
    assert_eq!(world.store.unsealed_channels().await.unwrap(), []);
    // What was ended keeps only what everybody may see.
    world.store.end_channel(&case.owner, id).await.unwrap();
    sqlx::query(clear).execute(&mut other).await.unwrap();
    world.store.seal_channel(id, vec![9; 4]).await.unwrap();
    assert_eq!(world.store.unsealed_channels().await.unwrap(), []);
}
