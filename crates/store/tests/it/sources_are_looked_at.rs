//! Sources on both engines: when each is due, what is told of looks, what tenants may, and that what opens one stays
//! where it is.

use crate::changes_and_their_clocks::events;
use crate::support::{World, vm};
use domain::cloud::{CiId, Class, EventKind, Slug};
use domain::device::{DeviceState, HostKeyFingerprint};
use domain::source::{Authority, Form, SourceKind, SourceSettings};
use jiff::SignedDuration;
use store::{
    Actor, HostKeyWish, ImageContent, NewCi, NewImage, NewSource, Retrieval, Source, SourceLooked,
    StoreError,
};

on_both_engines! {
    a_source_is_due_again_and_again
    how_far_it_was_recorded_counts_for_the_same_place
    who_does_not_answer_is_told_of_once_and_nobody_knows_what_is_so
    what_opens_a_source_is_given_again_for_another_place
    tenants_keep_their_own_and_see_no_other
    an_image_is_its_own_source
    an_image_of_a_store_is_one_item_and_named_by_the_provider
    with_its_item_it_is_forgotten
}

const SEALED: &[u8] = b"sealed-canary";

const EVERY: SignedDuration = SignedDuration::from_mins(15);

fn app() -> Slug {
    "app".parse().unwrap()
}

fn key(digit: char) -> HostKeyFingerprint {
    format!("SHA256:{}8", digit.to_string().repeat(42)).parse().unwrap()
}

fn authority() -> Authority {
    let (subject, sha256) = ("CN=Acme root".to_owned(), "0".repeat(64));
    let pem = "-----BEGIN CERTIFICATE-----".to_owned();
    Authority { subject, sha256, until: "2030-01-01T00:00:00Z".parse().unwrap(), pem }
}

fn git(url: &str) -> NewSource {
    let settings = SourceSettings::Git {
        url: url.to_owned(),
        reference: "refs/heads/main".to_owned(),
        user: None,
        files: Vec::new(),
        past: 0,
        authorities: Vec::new(),
    };
    NewSource { settings, every: EVERY, credential: None, host_key: HostKeyWish::Keep }
}

fn http(url: &str) -> NewSource {
    let settings = SourceSettings::Http {
        url: url.to_owned(),
        form: Form::Json,
        volatile: Vec::new(),
        headers: vec!["Authorization".to_owned()],
        authorities: Vec::new(),
    };
    NewSource {
        settings,
        every: EVERY,
        credential: Some(SEALED.to_vec()),
        host_key: HostKeyWish::Keep,
    }
}

/// An item of a tenant, and the tenant's owner.
async fn item(world: &World) -> (CiId, Actor) {
    let tenant = world.tenant("acme").await;
    let ci = world.store.create_ci(&world.admin, None, vm(tenant.id, "web-1")).await.unwrap();
    (ci.id, world.owner(&tenant).await)
}

async fn set(world: &World, by: &Actor, ci: CiId, new: NewSource) -> Result<Source, StoreError> {
    world.store.set_source(by, ci, app(), new).await
}

async fn known(world: &World, ci: CiId) -> Source {
    world.store.source(&world.admin, ci, &app()).await.unwrap()
}

async fn due(world: &World) -> usize {
    world.store.due_sources(10).await.unwrap().len()
}

async fn came(world: &World, ci: CiId, looked: SourceLooked) {
    let source = known(world, ci).await;
    world.store.source_looked(&source, looked).await.unwrap();
}

fn seen(progress: &str) -> SourceLooked {
    let progress = Some(progress.to_owned());
    SourceLooked::Seen { host_key: None, progress, untold: None, has_more: false }
}

fn failed(reason: &str) -> SourceLooked {
    SourceLooked::Failed { reason: reason.to_owned(), offered: None }
}

const URL: &str = "https://git.acme.example/app.git";

async fn a_source_is_due_again_and_again(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    let new = set(world, &owner, ci, git(URL)).await.unwrap();
    assert_eq!((new.state, new.version, new.is_providers), (DeviceState::New, 1, false));
    assert_eq!(due(world).await, 1);

    came(world, ci, seen("c1")).await;
    let source = known(world, ci).await;
    assert_eq!((source.state, source.progress.as_deref()), (DeviceState::Seen, Some("c1")));
    assert_eq!(due(world).await, 0);
    world.environment.pass(EVERY);
    assert_eq!(due(world).await, 1);

    let more = SourceLooked::Seen {
        host_key: None,
        progress: Some("c2".to_owned()),
        untold: Some("a submodule".to_owned()),
        has_more: true,
    };
    came(world, ci, more).await;
    assert_eq!(known(world, ci).await.reason.as_deref(), Some("a submodule"));
    assert_eq!(due(world).await, 1, "there is more of it");
    came(world, ci, seen("c3")).await;
    assert_eq!(due(world).await, 0);
    world.store.wake_source(&owner, ci, app()).await.unwrap();
    assert_eq!(due(world).await, 1, "somebody wants it seen now");

    // What came of a look at what it was before says nothing of what it is.
    let before = known(world, ci).await;
    set(world, &world.admin, ci, git("https://git.acme.example/other.git")).await.unwrap();
    world.store.source_looked(&before, failed("late")).await.unwrap();
    let source = known(world, ci).await;
    assert_eq!((source.state, source.version, source.is_providers), (DeviceState::Seen, 2, true));
    assert_eq!(events(world, EventKind::SourceAdded).await, 1);
    assert_eq!(events(world, EventKind::SourceAltered).await, 1);
}

async fn how_far_it_was_recorded_counts_for_the_same_place(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    let first = set(world, &owner, ci, git(URL)).await.unwrap();
    world.store.source_advanced(&first, "c1".to_owned()).await.unwrap();
    assert_eq!(known(world, ci).await.progress.as_deref(), Some("c1"));

    let again = NewSource { every: EVERY * 2, ..git(URL) };
    let again = set(world, &owner, ci, again).await.unwrap();
    assert_eq!(again.progress.as_deref(), Some("c1"), "the same place and the same files");
    world.store.source_advanced(&first, "late".to_owned()).await.unwrap();
    assert_eq!(known(world, ci).await.progress.as_deref(), Some("c1"), "of another version");

    let mut vouched = git(URL);
    if let SourceSettings::Git { authorities, .. } = &mut vouched.settings {
        authorities.push(authority());
    }
    let vouched = set(world, &owner, ci, vouched).await.unwrap();
    assert_eq!(vouched.progress.as_deref(), Some("c1"), "whoever vouches for it");

    let mut other = git(URL);
    if let SourceSettings::Git { reference, .. } = &mut other.settings {
        "refs/heads/next".clone_into(reference);
    }
    assert_eq!(set(world, &owner, ci, other).await.unwrap().progress, None);
    let refused = set(world, &owner, ci, http(URL)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "another kind: {refused:?}");
}

async fn who_does_not_answer_is_told_of_once_and_nobody_knows_what_is_so(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    set(world, &owner, ci, git(URL)).await.unwrap();
    let seen_at = async || world.store.audit_facts(&owner, ci).await.unwrap().seen_at;
    assert_eq!(seen_at().await, None, "nobody has looked yet");
    came(world, ci, seen("c1")).await;
    assert!(seen_at().await.is_some());
    assert_eq!(world.store.due_audits(EVERY, 10).await.unwrap().len(), 1);

    for waits in [EVERY, EVERY, EVERY * 2, EVERY * 4] {
        world.environment.pass(waits);
        assert_eq!(due(world).await, 1, "after {waits:#}");
        came(world, ci, failed(&"no way through ".repeat(1000))).await;
        assert_eq!(due(world).await, 0);
    }
    let source = known(world, ci).await;
    assert_eq!((source.state, source.failures), (DeviceState::Unreachable, 4));
    assert_eq!(source.progress.as_deref(), Some("c1"), "what was recorded was recorded");
    assert_eq!(source.reason.unwrap().len(), 2000);
    assert_eq!(seen_at().await, None, "what is so now nobody knows");
    assert_eq!(events(world, EventKind::SourceUnreachable).await, 1);

    came(world, ci, seen("c1")).await;
    assert_eq!(events(world, EventKind::SourceRecovered).await, 1);
    assert!(seen_at().await.is_some());
}

async fn what_opens_a_source_is_given_again_for_another_place(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    let is_refused = |outcome| matches!(outcome, Err(StoreError::Refused { .. }));
    let address = "https://acme.example/state";
    let kept = |url: &str| NewSource { credential: None, ..http(url) };
    assert!(is_refused(set(world, &owner, ci, kept(address)).await), "there is none yet");
    assert!(set(world, &owner, ci, http(address)).await.unwrap().has_credential);
    assert!(set(world, &world.admin, ci, kept(address)).await.unwrap().has_credential);
    let (_, sealed) = world.store.due_sources(10).await.unwrap().remove(0);
    assert_eq!(sealed.as_deref(), Some(SEALED));

    assert!(is_refused(set(world, &owner, ci, kept("https://evil.example/state")).await));
    let mut other = kept(address);
    if let SourceSettings::Http { headers, .. } = &mut other.settings {
        headers.push("X-Other".to_owned());
    }
    assert!(is_refused(set(world, &owner, ci, other).await));
    assert!(is_refused(
        set(world, &owner, ci, NewSource { every: EVERY * 1000, ..http(address) }).await
    ));

    // By another authority somebody else could be there.
    let mut other = kept(address);
    if let SourceSettings::Http { authorities, .. } = &mut other.settings {
        authorities.push(authority());
    }
    assert!(is_refused(set(world, &owner, ci, other.clone()).await));
    other.credential = Some(SEALED.to_vec());
    let vouched = set(world, &owner, ci, other.clone()).await.unwrap();
    assert_eq!(vouched.settings.authorities(), [authority()]);
    other.credential = None;
    assert!(set(world, &owner, ci, other).await.unwrap().has_credential);
    assert!(is_refused(set(world, &owner, ci, kept(address)).await));

    // Over SSH, by the host key as well.
    let ssh: Slug = "ssh".parse().unwrap();
    let over = |credential: Option<&[u8]>, host_key| NewSource {
        credential: credential.map(<[u8]>::to_vec),
        host_key,
        ..git("ssh://git@git.acme.example/app.git")
    };
    let set = async |new| world.store.set_source(&owner, ci, ssh.clone(), new).await;
    assert!(is_refused(set(over(None, HostKeyWish::First)).await), "nothing opens it");
    assert!(is_refused(set(over(Some(SEALED), HostKeyWish::Keep)).await), "no key is known");
    set(over(Some(SEALED), HostKeyWish::Pinned(key('a')))).await.unwrap();
    assert!(is_refused(set(over(None, HostKeyWish::First)).await));
    assert!(is_refused(set(over(None, HostKeyWish::Pinned(key('b')))).await));
    set(over(None, HostKeyWish::Keep)).await.unwrap();

    let source = world.store.source(&owner, ci, &ssh).await.unwrap();
    let offered = SourceLooked::Failed { reason: "x".to_owned(), offered: Some(key('b')) };
    world.store.source_looked(&source, offered).await.unwrap();
    let source = world.store.source(&owner, ci, &ssh).await.unwrap();
    assert_eq!((source.state, source.offered_key), (DeviceState::KeyDiffers, Some(key('b'))));
    world.environment.pass(SignedDuration::from_hours(1000));
    assert_eq!(due(world).await, 1, "only the other one");
    assert!(matches!(
        world.store.wake_source(&owner, ci, ssh.clone()).await,
        Err(StoreError::Refused { .. })
    ));
    assert_eq!(events(world, EventKind::SourceKeyDiffers).await, 1);
}

async fn tenants_keep_their_own_and_see_no_other(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    let other = world.owner(&world.tenant("other").await).await;
    let is_missing = |error| matches!(error, StoreError::NotFound { .. });
    assert!(is_missing(set(world, &other, ci, http(URL)).await.unwrap_err()));
    set(world, &owner, ci, http("https://acme.example/state?token=query-canary")).await.unwrap();

    assert_eq!(world.store.sources(&owner, ci).await.unwrap().len(), 1);
    assert!(is_missing(world.store.sources(&other, ci).await.unwrap_err()));
    assert!(is_missing(world.store.source(&other, ci, &app()).await.unwrap_err()));
    assert!(is_missing(world.store.wake_source(&other, ci, app()).await.unwrap_err()));
    assert!(is_missing(world.store.remove_source(&other, ci, app()).await.unwrap_err()));

    // What opens it is in no record.
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    let told = world.store.events(&owner, Retrieval::Events, 0, 1000).await.unwrap();
    assert!(told.iter().any(|event| event.kind == EventKind::SourceAdded));
    assert!(!format!("{told:?}").contains("canary"));
}

async fn an_image_is_its_own_source(world: World) {
    let world = &world;
    let tenant = world.tenant("acme").await;
    let owner = world.owner(&tenant).await;
    let content = ImageContent {
        sha256: "07".repeat(32),
        format: "qcow2".to_owned(),
        size: 1,
        release: "debian:12".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let new = NewImage { tenant: tenant.id, name: "web".parse().unwrap(), parent: None, content };
    let image = world.store.create_image(&world.admin, None, new).await.unwrap();
    assert_eq!(world.store.image_of_ci(image.ci).await.unwrap().id, image.id);

    let (source, sealed) = world.store.due_sources(10).await.unwrap().remove(0);
    assert_eq!((source.ci, source.settings.kind()), (image.ci, SourceKind::Image));
    assert_eq!(sealed, None);
    world.store.source_looked(&source, failed("no bytes")).await.unwrap();
    world.environment.pass(SignedDuration::from_hours(1));
    assert_eq!(due(world).await, 1, "it is tried again");
    world.store.source_looked(&source, seen("0707")).await.unwrap();
    world.environment.pass(SignedDuration::from_hours(1000));
    assert_eq!(due(world).await, 0, "files do not change");
    assert!(world.store.audit_facts(&owner, image.ci).await.unwrap().seen_at.is_some());

    let name: Slug = "image".parse().unwrap();
    for refused in [
        world.store.remove_source(&owner, image.ci, name.clone()).await.err(),
        world.store.set_source(&owner, image.ci, name, git(URL)).await.err(),
    ] {
        assert!(matches!(refused, Some(StoreError::Refused { .. })), "{refused:?}");
    }
}

async fn an_image_of_a_store_is_one_item_and_named_by_the_provider(world: World) {
    let world = &world;
    let (vm_item, owner) = item(world).await;
    let tenant = world.store.ci(&world.admin, vm_item).await.unwrap().tenant;
    let image = async |name: &str| {
        let new = NewCi { class: Class::Image, ..vm(tenant, name) };
        world.store.create_ci(&world.admin, None, new).await.unwrap().id
    };
    let (first, second) = (image("golden 1").await, image("golden 2").await);
    let of = |name: &str| NewSource {
        settings: SourceSettings::ImageStore { store: "rack-1".to_owned(), image: name.to_owned() },
        ..git(URL)
    };
    let refused = |outcome: Result<Source, StoreError>| match outcome {
        Err(StoreError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let admin = &world.admin;
    assert!(refused(set(world, &owner, first, of("a")).await).contains("the provider's people"));
    assert!(refused(set(world, admin, vm_item, of("a")).await).contains("no image"));
    set(world, admin, first, of("a")).await.unwrap();
    let taken = refused(set(world, admin, second, of("a")).await);
    assert!(taken.contains(&first.to_string()), "{taken}");
    let other: Slug = "other".parse().unwrap();
    let again = world.store.set_source(admin, first, other, of("b")).await;
    assert!(refused(again).contains("by an image already"));
    set(world, admin, second, of("b")).await.unwrap();

    // They take long: whoever looks at others does not wait for them.
    assert_eq!(due(world).await, 0);
    let waiting = world.store.due_stored_images(10).await.unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!(world.store.stored_images(&owner).await.unwrap().len(), 2);
    came(world, first, seen("one")).await;
    assert_eq!(world.store.due_stored_images(10).await.unwrap().len(), 1);
    world.environment.pass(EVERY);
    assert_eq!(world.store.due_stored_images(10).await.unwrap().len(), 2);

    // What is seen goes on; what could not be read is read again where somebody says so.
    assert_eq!(set(world, admin, first, of("a")).await.unwrap().progress.as_deref(), Some("one"));
    came(world, first, failed("the image cannot be read")).await;
    assert_eq!(set(world, admin, first, of("a")).await.unwrap().progress, None);
    // Let go, it is free for another.
    world.store.remove_source(&owner, first, app()).await.unwrap();
    world.store.remove_source(admin, second, app()).await.unwrap();
    set(world, admin, second, of("a")).await.unwrap();
}

async fn with_its_item_it_is_forgotten(world: World) {
    let world = &world;
    let (ci, owner) = item(world).await;
    set(world, &owner, ci, git(URL)).await.unwrap();
    world.store.remove_source(&owner, ci, app()).await.unwrap();
    assert!(world.store.remove_source(&owner, ci, app()).await.is_err());

    set(world, &owner, ci, git(URL)).await.unwrap();
    world.store.retire_ci(&world.admin, ci, None).await.unwrap();
    assert_eq!(due(world).await, 0);
    assert_eq!(events(world, EventKind::SourceRemoved).await, 2);
    let refused = set(world, &owner, ci, git(URL)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}
