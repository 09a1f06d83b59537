//! Versions of images and the lab's jobs on both engines.

use crate::support::{World, package_set};
use domain::cloud::{Class, EventKind, ImageId, PROVIDER, TenantId};
use domain::image::{Health, Standing, Step};
use jiff::SignedDuration;
use serde_json::json;
use store::{
    CiFilter, Conclusion, Image, ImageContent, ImageFilter, JobEnd, JobKind, JobState, NewImage,
    NewJob, NewVersion, PageRequest, StoreError,
};

on_both_engines! {
    a_series_has_one_current_version_and_its_predecessor_a_cut_off
    a_version_is_a_configuration_item_with_its_lineage
    what_is_attested_is_kept_once
    another_tenants_images_and_jobs_are_not_there
    a_job_is_done_by_one_and_taken_over_when_that_one_is_gone
    tenants_take_turns
    a_job_that_never_ends_is_given_up
    a_job_that_was_called_off_ends_for_its_holder
    a_job_ends_with_all_that_follows_from_it_or_not_at_all
    a_job_that_is_given_back_was_not_begun
    a_version_is_made_of_what_its_tenant_brought
    bytes_are_nobodys_when_no_version_needs_them
    what_images_hold_stays_fresh
}

const ALL: PageRequest = PageRequest { after: None, limit: 1000 };
const DAY: SignedDuration = SignedDuration::from_hours(24);
const LEASE: SignedDuration = SignedDuration::from_mins(1);

fn content(byte: &str) -> ImageContent {
    ImageContent {
        sha256: byte.repeat(32),
        format: "qcow2".to_owned(),
        size: 1 << 30,
        release: "debian:12".to_owned(),
        architecture: "amd64".to_owned(),
    }
}

async fn image(world: &World, tenant: TenantId, parent: Option<ImageId>) -> Image {
    let content = content("ab");
    let new = NewImage { tenant, name: "web".parse().unwrap(), parent, content };
    world.store.create_image(&world.admin, None, new).await.unwrap()
}

async fn step(world: &World, image: &Image, step: Step) -> Result<Image, StoreError> {
    world.store.step_image(&world.admin, image.id, None, step, DAY).await
}

async fn a_series_has_one_current_version_and_its_predecessor_a_cut_off(world: World) {
    let first = image(&world, PROVIDER, None).await;
    let second = image(&world, PROVIDER, Some(first.id)).await;
    assert_eq!((first.number, second.number), (1, 2));
    assert!(matches!(
        step(&world, &first, Step::Publish).await,
        Err(StoreError::Refused { reason, .. }) if reason.contains("scanned clean")
    ));
    for version in [&first, &second] {
        step(&world, version, Step::Passed).await.unwrap();
    }
    step(&world, &first, Step::Publish).await.unwrap();

    let current = step(&world, &second, Step::Publish).await.unwrap();

    assert!(matches!(current.standing, Standing::Current { .. }));
    let old = world.store.image(&world.admin, first.id).await.unwrap();
    let Standing::Superseded { refused_from } = old.standing else { panic!("{old:?}") };
    assert!(old.standing.admits(Health::Usable, refused_from).is_err());
    world.store.sequence_events(1000).await.unwrap();
    let counts = world.store.event_counts().await.unwrap();
    let altered: u64 =
        counts.iter().filter(|it| it.1 == EventKind::ImageAltered).map(|it| it.2).sum();
    assert_eq!(altered, 5, "two passed, two became current, one was superseded");

    // A stale reader alters nothing.
    let stale = world.store.step_image(&world.admin, second.id, Some(1), Step::Retire, DAY).await;
    assert!(matches!(stale, Err(StoreError::Stale { .. })), "{stale:?}");
}

async fn a_version_is_a_configuration_item_with_its_lineage(world: World) {
    let first = image(&world, PROVIDER, None).await;
    let second = image(&world, PROVIDER, Some(first.id)).await;
    let filter = CiFilter { class: Some(Class::Image), ..CiFilter::default() };
    let items = world.store.cis(&world.admin, &filter, &ALL).await.unwrap().items;
    let names: Vec<_> = items.iter().map(|ci| ci.name.as_str()).collect();
    assert_eq!(names, ["web v1", "web v2"]);
    let relations = world.store.relations(&world.admin, second.ci).await.unwrap();
    assert!(relations.iter().any(|it| it.from == second.ci && it.to == first.ci));

    step(&world, &second, Step::Failed).await.unwrap();

    let items = world.store.cis(&world.admin, &filter, &ALL).await.unwrap().items;
    assert_eq!(items.len(), 1, "what is rejected leaves the cloud, its record stays");
    let of_series = ImageFilter { name: Some("web".to_owned()), ..ImageFilter::default() };
    assert_eq!(world.store.images(&world.admin, &of_series, &ALL).await.unwrap().items.len(), 2);
}

async fn what_is_attested_is_kept_once(world: World) {
    let image = image(&world, PROVIDER, None).await;
    for envelope in ["{1}", "{2}", "{1}"] {
        let kind = "https://example.com/proof/v1".to_owned();
        world.store.attest_image(&world.admin, image.id, kind, envelope.to_owned()).await.unwrap();
    }

    let kept = world.store.attestations(&world.admin, image.id).await.unwrap();

    assert_eq!(kept.iter().map(|it| it.envelope.as_str()).collect::<Vec<_>>(), ["{1}", "{2}"]);
}

async fn another_tenants_images_and_jobs_are_not_there(world: World) {
    let owner = world.owner(&world.tenant("acme").await).await;
    let theirs = image(&world, PROVIDER, None).await;
    let new = NewJob { kind: JobKind::Test, image: theirs.id, request: json!({}) };
    let job = world.store.queue_job(&world.admin, None, new.clone()).await.unwrap();

    let missing = |error: StoreError| assert!(matches!(error, StoreError::NotFound { .. }));
    missing(world.store.image(&owner, theirs.id).await.unwrap_err());
    missing(world.store.attestations(&owner, theirs.id).await.unwrap_err());
    missing(world.store.job(&owner, job.id).await.unwrap_err());
    missing(world.store.cancel_job(&owner, job.id).await.unwrap_err());
    missing(world.store.queue_job(&owner, None, new).await.unwrap_err());
    missing(world.store.step_image(&owner, theirs.id, None, Step::Retire, DAY).await.unwrap_err());
    let filter = ImageFilter { tenant: Some(PROVIDER), ..ImageFilter::default() };
    assert!(world.store.images(&owner, &filter, &ALL).await.unwrap().items.is_empty());
    assert!(world.store.jobs(&owner, None, &ALL).await.unwrap().items.is_empty());
}

async fn queued(world: &World) -> store::Job {
    let image = image(world, PROVIDER, None).await;
    let new = NewJob { kind: JobKind::Prove, image: image.id, request: json!({ "patches": [] }) };
    world.store.queue_job(&world.admin, None, new).await.unwrap()
}

async fn a_job_is_done_by_one_and_taken_over_when_that_one_is_gone(world: World) {
    let job = queued(&world).await;
    let claimed = world.store.claim_job("one", LEASE).await.unwrap().unwrap();
    assert_eq!((claimed.id, claimed.state), (job.id, JobState::Running));
    assert_eq!(world.store.claim_job("two", LEASE).await.unwrap(), None);
    assert!(world.store.renew_job(job.id, "one", "boot", LEASE).await.unwrap());
    assert!(!world.store.renew_job(job.id, "two", "boot", LEASE).await.unwrap());

    world.environment.pass(LEASE + LEASE);
    let again = world.store.claim_job("two", LEASE).await.unwrap().unwrap();
    assert_eq!((again.id, again.attempts), (job.id, 2));

    // The first one wakes up: what it has to say counts no more.
    let done = JobEnd::Done { result: json!({ "verdict": "proven" }), made: None };
    assert!(!world.store.finish_job(job.id, "one", done.clone()).await.unwrap());
    assert!(world.store.finish_job(job.id, "two", done.clone()).await.unwrap());
    assert!(!world.store.finish_job(job.id, "two", done).await.unwrap(), "once");
    let ended = world.store.job(&world.admin, job.id).await.unwrap();
    assert_eq!(
        (ended.state, ended.result.unwrap()["verdict"].as_str()),
        (JobState::Done, Some("proven"))
    );
}

async fn tenants_take_turns(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let mut asked = Vec::new();
    for tenant in [&a, &a, &a, &b, &b] {
        let image = image(&world, tenant.id, None).await;
        let new = NewJob { kind: JobKind::Test, image: image.id, request: json!({}) };
        asked.push(world.store.queue_job(&world.admin, None, new).await.unwrap());
        world.environment.pass(SignedDuration::from_secs(1));
    }

    let mut order = Vec::new();
    while let Some(job) = world.store.claim_job("one", LEASE).await.unwrap() {
        order.push(asked.iter().position(|it| it.id == job.id).unwrap());
        let done = JobEnd::Done { result: json!({}), made: None };
        world.store.finish_job(job.id, "one", done).await.unwrap();
        world.environment.pass(SignedDuration::from_secs(1));
    }

    assert_eq!(order, [0, 3, 1, 4, 2], "whoever asks for much does not make others wait");
}

async fn a_job_that_never_ends_is_given_up(world: World) {
    let job = queued(&world).await;
    for _ in 0..3 {
        assert!(world.store.claim_job("one", LEASE).await.unwrap().is_some());
        world.environment.pass(LEASE + LEASE);
    }

    assert_eq!(world.store.claim_job("one", LEASE).await.unwrap(), None);

    let given_up = world.store.job(&world.admin, job.id).await.unwrap();
    assert_eq!(given_up.state, JobState::Failed);
    assert!(given_up.error.unwrap().contains("3 times"));
}

async fn a_job_that_was_called_off_ends_for_its_holder(world: World) {
    let job = queued(&world).await;
    world.store.claim_job("one", LEASE).await.unwrap().unwrap();

    let cancelled = world.store.cancel_job(&world.admin, job.id).await.unwrap();

    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(!world.store.renew_job(job.id, "one", "boot", LEASE).await.unwrap());
    assert!(world.store.cancel_job(&world.admin, job.id).await.is_err());
    assert_eq!(world.store.claim_job("two", LEASE).await.unwrap(), None);
}

fn conclusion(step: Option<Step>) -> Conclusion {
    Conclusion {
        result: json!({ "verdict": "good" }),
        step,
        made: Some((content("cd"), package_set(&[("web", "2")]))),
        attestations: vec![("https://example.com/v1".to_owned(), "{}".to_owned())],
    }
}

async fn events(world: &World) -> Vec<(TenantId, EventKind, u64)> {
    world.store.sequence_events(1000).await.unwrap();
    world.store.event_counts().await.unwrap()
}

async fn a_job_ends_with_all_that_follows_from_it_or_not_at_all(world: World) {
    let job = queued(&world).await;
    world.store.claim_job("one", LEASE).await.unwrap().unwrap();
    world.environment.pass(LEASE + LEASE);
    world.store.claim_job("two", LEASE).await.unwrap().unwrap();
    let before = events(&world).await;

    // Who lost it makes nothing.
    let late = world.store.conclude_job(job.id, "one", conclusion(None)).await.unwrap();
    assert_eq!(late, None);
    assert_eq!(events(&world).await, before);

    let ended =
        world.store.conclude_job(job.id, "two", conclusion(Some(Step::Passed))).await.unwrap();
    let ended = ended.unwrap();
    assert_eq!((ended.state, &ended.error), (JobState::Done, &None));
    let made = world.store.image(&world.admin, ended.made.unwrap()).await.unwrap();
    assert_eq!((made.parent, made.number), (Some(job.image), 2));
    assert_eq!(world.store.attestations(&world.admin, made.id).await.unwrap().len(), 1);
    let systems = world.store.systems(None, 100).await.unwrap();
    assert!(systems.iter().any(|system| system.ci == made.ci), "its packages are known");
    let about = world.store.image(&world.admin, job.image).await.unwrap();
    assert!(matches!(about.standing, Standing::Tested { .. }));

    // Once, whoever says it again.
    let again = world.store.conclude_job(job.id, "two", conclusion(None)).await.unwrap();
    assert_eq!(again, None);
    let of_series = ImageFilter { name: Some("web".to_owned()), ..ImageFilter::default() };
    assert_eq!(world.store.images(&world.admin, &of_series, &ALL).await.unwrap().items.len(), 2);

    // Where one part is refused, nothing of it stays.
    let taken = NewJob { kind: JobKind::Bake, image: job.image, request: json!({}) };
    let second = world.store.queue_job(&world.admin, None, taken).await.unwrap();
    world.store.claim_job("two", LEASE).await.unwrap().unwrap();
    let name = store::NewCi {
        tenant: PROVIDER,
        class: Class::Image,
        name: "web v3".parse().unwrap(),
        labels: store::Labels::new(),
    };
    world.store.create_ci(&world.admin, None, name).await.unwrap();
    let before = events(&world).await;
    let refused = world.store.conclude_job(second.id, "two", conclusion(None)).await;
    assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
    assert_eq!(events(&world).await, before);
    let job = world.store.job(&world.admin, second.id).await.unwrap();
    assert_eq!(job.state, JobState::Running);
}

async fn a_job_that_is_given_back_was_not_begun(world: World) {
    let job = queued(&world).await;
    for _ in 0..5 {
        world.store.claim_job("one", LEASE).await.unwrap().unwrap();
        assert!(!world.store.give_job_back(job.id, "two").await.unwrap());
        assert!(world.store.give_job_back(job.id, "one").await.unwrap());
        let waiting = world.store.job(&world.admin, job.id).await.unwrap();
        assert_eq!((waiting.state, waiting.attempts), (JobState::Queued, 0));
    }
}

async fn a_version_is_made_of_what_its_tenant_brought(world: World) {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let owner = world.owner(&a).await;
    let packages = package_set(&[("web", "1")]);
    world.store.keep_content(&world.admin, b.id, content("ab"), packages.clone()).await.unwrap();
    let new = NewVersion {
        tenant: a.id,
        name: "web".parse().unwrap(),
        parent: None,
        sha256: content("ab").sha256,
    };

    let foreign = world.store.take_up_image(&owner, None, new.clone()).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "{foreign:?}");
    let theirs = world.store.keep_content(&owner, b.id, content("ab"), packages.clone()).await;
    assert!(matches!(theirs, Err(StoreError::NotFound { .. })), "{theirs:?}");
    // The provider's people may act for a tenant, but not with another's bytes either.
    let foreign = world.store.take_up_image(&world.admin, None, new.clone()).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "{foreign:?}");

    assert_eq!(world.store.bytes_of_images(a.id).await.unwrap(), 0);
    world.store.keep_content(&owner, a.id, content("ab"), packages).await.unwrap();
    assert_eq!(world.store.bytes_of_images(a.id).await.unwrap(), 1 << 30);
    let image = world.store.take_up_image(&owner, None, new).await.unwrap();
    assert_eq!((image.tenant, image.content), (a.id, content("ab")));
    let systems = world.store.systems(None, 100).await.unwrap();
    assert_eq!(systems.iter().map(|system| system.ci).collect::<Vec<_>>(), [image.ci]);
    // What the ledger shows everybody tells nobody which bytes somebody has.
    world.store.sequence_events(1000).await.unwrap();
    let all = world.store.sequenced_events(0, 1000).await.unwrap();
    let received: Vec<_> =
        all.iter().filter(|event| event.kind == EventKind::ImageReceived).collect();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|event| event.object.starts_with("img_")), "{received:?}");
}

async fn bytes_are_nobodys_when_no_version_needs_them(world: World) {
    let tenant = world.tenant("a").await;
    let keep = async |whose: TenantId, byte: &str| {
        let packages = package_set(&[("web", "1")]);
        world.store.keep_content(&world.admin, whose, content(byte), packages).await.unwrap();
    };
    let take_up = async |whose: TenantId| {
        let (name, sha256) = ("web".parse().unwrap(), content("ab").sha256);
        let new = NewVersion { tenant: whose, name, parent: None, sha256 };
        world.store.take_up_image(&world.admin, None, new).await.unwrap()
    };
    keep(PROVIDER, "ab").await;
    keep(tenant.id, "ab").await;
    let (first, second, theirs) =
        (take_up(PROVIDER).await, take_up(PROVIDER).await, take_up(tenant.id).await);
    let forget = async |image: &Image| world.store.forget_content(&world.admin, image.id).await;

    step(&world, &first, Step::Retire).await.unwrap();
    let used = forget(&first).await;
    assert!(
        matches!(used, Err(StoreError::Refused { .. })),
        "the second one may be used: {used:?}"
    );
    step(&world, &second, Step::Failed).await.unwrap();
    assert_eq!(forget(&first).await.unwrap(), None, "a tenant has the same");
    step(&world, &theirs, Step::Retire).await.unwrap();
    let owner = world.owner(&world.tenant("b").await).await;
    let foreign = world.store.forget_content(&owner, theirs.id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "{foreign:?}");
    assert!(world.store.is_content_known(&content("ab").sha256).await.unwrap());
    assert_eq!(forget(&theirs).await.unwrap(), Some(content("ab").sha256));
    assert!(!world.store.is_content_known(&content("ab").sha256).await.unwrap());

    // What came in and was never used goes after a while, and nothing else.
    keep(PROVIDER, "ab").await;
    keep(PROVIDER, "cd").await;
    let before = world.environment.as_ref();
    let now = store::Environment::now(before);
    assert_eq!(world.store.forget_unused_contents(now - DAY).await.unwrap(), 0);
    assert_eq!(world.store.forget_unused_contents(now).await.unwrap(), 1, "`ab` has a record");
    assert!(!world.store.is_content_known(&content("cd").sha256).await.unwrap());
}

async fn what_images_hold_stays_fresh(world: World) {
    let packages = package_set(&[("web", "1")]);
    world.store.keep_content(&world.admin, PROVIDER, content("ab"), packages).await.unwrap();
    let (name, sha256) = ("web".parse().unwrap(), content("ab").sha256);
    let new = NewVersion { tenant: PROVIDER, name, parent: None, sha256 };
    let image = world.store.take_up_image(&world.admin, None, new.clone()).await.unwrap();
    let retired = world.store.take_up_image(&world.admin, None, new).await.unwrap();
    step(&world, &retired, Step::Retire).await.unwrap();
    world.environment.pass(DAY);

    assert_eq!(world.store.note_images_seen().await.unwrap(), 1);

    let systems = world.store.systems(None, 100).await.unwrap();
    assert_eq!(systems.iter().map(|system| system.ci).collect::<Vec<_>>(), [image.ci]);
}
