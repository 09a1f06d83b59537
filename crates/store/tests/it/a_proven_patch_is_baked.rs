//! What is proven is baked at once, on both engines.

use crate::changes_and_their_clocks::{ALL, DAY, lacking, now, report};
use crate::support::{World, package_set};
use domain::change::FileHash;
use domain::cloud::{ChangeId, PROVIDER, TenantId};
use domain::image::Step;
use jiff::SignedDuration;
use serde_json::json;
use store::{
    ChangeStep, Conclusion, Image, ImageContent, Job, JobEnd, JobKind, JobState, NewImage, NewJob,
    Outcome,
};

on_both_engines! {
    a_current_version_that_lacks_it_is_baked_once
    a_bake_that_will_not_have_it_does_not_count
    what_becomes_current_later_is_baked_too
    another_tenants_images_are_not_told
}

const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// A version of a series, published where asked for, whose check says what it lacks.
async fn image(world: &World, tenant: TenantId, name: &str, version: &str) -> Image {
    let content = ImageContent {
        sha256: "ab".repeat(32),
        format: "qcow2".to_owned(),
        size: 1 << 30,
        release: "debian:12".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let new = NewImage { tenant, name: name.parse().unwrap(), parent: None, content };
    let image = world.store.create_image(&world.admin, None, new).await.unwrap();
    let ci = world.store.ci(&world.admin, image.ci).await.unwrap();
    world.observe(&ci, package_set(&[("web", version)])).await;
    let missing: &[_] = if version == "1" { &[("web", "2", "high")] } else { &[] };
    world.checked(&ci, report(now(world), missing)).await;
    image
}

async fn published(world: &World, tenant: TenantId, name: &str, version: &str) -> Image {
    let image = image(world, tenant, name, version).await;
    for step in [Step::Passed, Step::Publish] {
        world.store.step_image(&world.admin, image.id, None, step, DAY).await.unwrap();
    }
    image
}

async fn step(world: &World, change: ChangeId, step: ChangeStep) {
    let outcome = world.store.step_change(&world.admin, change, step).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

async fn prove(world: &World, change: ChangeId) {
    step(world, change, ChangeStep::Prove).await;
    step(world, change, ChangeStep::Pass(FileHash::from([3; 32]))).await;
}

async fn jobs(world: &World) -> Vec<Job> {
    world.store.jobs(&world.admin, None, &ALL).await.unwrap().items
}

/// A bake comes to its end, with a version of these packages.
async fn bakes(world: &World, version: &str) -> Job {
    let job = world.store.claim_job("one", LEASE).await.unwrap().unwrap();
    let content = ImageContent {
        sha256: "cd".repeat(32),
        format: "qcow2".to_owned(),
        size: 1,
        release: "debian:12".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let made = Some((content, package_set(&[("web", version)])));
    let conclusion = Conclusion { result: json!({}), step: None, made, attestations: Vec::new() };
    world.store.conclude_job(job.id, "one", conclusion).await.unwrap().unwrap()
}

async fn a_current_version_that_lacks_it_is_baked_once(world: World) {
    let world = &world;
    let case = lacking(world, "high").await;
    let change = case.change.change.id;
    let old = published(world, PROVIDER, "web", "1").await;
    published(world, PROVIDER, "new", "2").await;
    image(world, PROVIDER, "draft", "1").await;
    published(world, case.tenant.id, "own", "1").await;
    let sides = world.store.bakes_of(&world.admin, change).await.unwrap();
    assert_eq!(sides.len(), 2, "they lack it, and wait for the proof");
    assert!(sides.iter().all(|it| it.job.is_none()) && jobs(world).await.is_empty());

    prove(world, change).await;

    let mut baked: Vec<_> = jobs(world).await;
    baked.sort_by_key(|job| job.tenant != PROVIDER);
    assert_eq!(baked.len(), 2, "the current ones that lack it: {baked:?}");
    assert!(baked.iter().all(|job| job.kind == JobKind::Bake && job.created_by == "system"));
    assert_eq!((baked[0].image, &baked[0].request), (old.id, &json!({})), "all that is open");
    assert_eq!(baked[1].tenant, case.tenant.id);
    let machines = world.store.machines_of(&world.admin, change).await.unwrap();
    assert_eq!((machines.lacking, machines.fixed), (1, 0), "the VM, and no image");

    world.store.cancel_job(&world.admin, baked[1].id).await.unwrap();
    let done = bakes(world, "2").await;
    let sides = world.store.bakes_of(&world.admin, change).await.unwrap();
    let made = sides.iter().find(|it| it.image.id == old.id).unwrap();
    assert_eq!(made.job.as_ref().unwrap().id, done.id);
    assert_eq!(made.made.as_ref().unwrap().number, 2);
    // What was made has it, and is not judged yet: nothing more is asked for.
    let ci = world.store.ci(&world.admin, old.ci).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1"), ("lib", "1")])).await;
    world.checked(&ci, report(now(world), &[])).await;
    world.observe(&ci, package_set(&[("web", "1")])).await;
    world.checked(&ci, report(now(world), &[("web", "2", "high")])).await;
    assert_eq!(jobs(world).await.len(), 2);
}

async fn a_bake_that_will_not_have_it_does_not_count(world: World) {
    let world = &world;
    let case = lacking(world, "high").await;
    let change = case.change.change.id;
    let old = published(world, PROVIDER, "web", "1").await;
    let asked = |request| NewJob { kind: JobKind::Bake, image: old.id, request };
    let part = asked(json!({ "packages": ["other"] }));
    world.store.queue_job(&world.admin, None, part).await.unwrap();

    prove(world, change).await;

    let all = jobs(world).await;
    assert_eq!(all.len(), 2, "a bake of a part has not all");
    let ours = all.iter().find(|job| job.request == json!({})).unwrap().id;

    // One that is on its way serves another change as well.
    let ci = world.store.ci(&world.admin, case.ci.id).await.unwrap();
    world.observe(&ci, package_set(&[("web", "1"), ("lib", "1")])).await;
    let both = [("web", "2", "high"), ("lib", "2", "high")];
    world.checked(&ci, report(now(world), &both)).await;
    world.open_obligations(100).await;
    let image = world.store.ci(&world.admin, old.ci).await.unwrap();
    world.observe(&image, package_set(&[("web", "1"), ("lib", "1")])).await;
    world.checked(&image, report(now(world), &both)).await;
    let changes = world.store.changes(&world.admin, &ALL).await.unwrap().items;
    let second = changes.iter().map(|it| it.change.id).find(|id| *id != change).unwrap();
    prove(world, second).await;
    let sides = world.store.bakes_of(&world.admin, second).await.unwrap();
    assert_eq!(sides[0].job.as_ref().unwrap().id, ours);
    assert_eq!(jobs(world).await.len(), 2);

    // One that failed serves nobody: the next look at what the image lacks asks again.
    let part = world.store.claim_job("one", LEASE).await.unwrap().unwrap();
    world.store.cancel_job(&world.admin, part.id).await.unwrap();
    let job = world.store.claim_job("one", LEASE).await.unwrap().unwrap();
    assert_eq!(job.id, ours);
    let failed = JobEnd::Failed { reason: "no room".to_owned() };
    assert!(world.store.finish_job(job.id, "one", failed).await.unwrap());
    world.observe(&image, package_set(&[("web", "2"), ("lib", "2")])).await;
    world.checked(&image, report(now(world), &[])).await;
    world.observe(&image, package_set(&[("web", "1"), ("lib", "1")])).await;
    world.checked(&image, report(now(world), &both)).await;
    let open: Vec<_> =
        jobs(world).await.into_iter().filter(|job| job.state == JobState::Queued).collect();
    assert_eq!(open.len(), 1, "one for both changes: {open:?}");
}

async fn what_becomes_current_later_is_baked_too(world: World) {
    let world = &world;
    let case = lacking(world, "high").await;
    prove(world, case.change.change.id).await;
    assert!(jobs(world).await.is_empty());

    let late = published(world, PROVIDER, "web", "1").await;

    let baked = jobs(world).await;
    assert_eq!((baked.len(), baked[0].image), (1, late.id));

    // What was made takes its place, and asks for nothing more.
    let done = bakes(world, "2").await;
    let made = done.made.unwrap();
    for step in [Step::Passed, Step::Publish] {
        world.store.step_image(&world.admin, made, None, step, DAY).await.unwrap();
    }
    assert_eq!(jobs(world).await.len(), 1);
    let sides = world.store.bakes_of(&world.admin, case.change.change.id).await.unwrap();
    assert_eq!(sides.len(), 1);
    assert_eq!(sides[0].made.as_ref().unwrap().standing.as_str(), "current");
}

async fn another_tenants_images_are_not_told(world: World) {
    let world = &world;
    let case = lacking(world, "high").await;
    published(world, PROVIDER, "web", "1").await;
    published(world, case.tenant.id, "own", "1").await;
    prove(world, case.change.change.id).await;
    let change = case.change.change.id;

    let seen = world.store.bakes_of(&case.owner, change).await.unwrap();

    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].image.name.as_str(), "own");
    let other = world.tenant("b").await;
    let stranger = world.owner(&other).await;
    assert!(world.store.bakes_of(&stranger, change).await.unwrap().is_empty());
    let machines = world.store.machines_of(&stranger, change).await.unwrap();
    assert_eq!((machines.lacking, machines.fixed), (0, 0));
}
