//! Content history is neither lost nor doubled, read by nobody else, plain nowhere, and gone when it is erased.

use std::path::Path;
use std::sync::Arc;

use domain::cloud::AgentId;
use futures_util::future::join3;
use jiff::{SignedDuration, Timestamp};
use store::{Actor, Erasure, FilePath, NewBatch, Objects, Past, StoreError};

use crate::support::World;
use crate::support::history::{Answer, Fault, HOLDER, Remembering, file};

on_both_engines! {
    whatever_breaks_off_a_sealing_nothing_is_lost_or_doubled
    whatever_breaks_off_a_backfill_nothing_of_it_is_there
    a_backfill_and_what_is_recorded_beside_it_are_both_there
    another_tenants_history_is_not_there
    what_is_erased_is_gone_and_the_record_still_agrees
    what_another_process_erased_is_gone_here_too
    everything_of_a_tenant_can_be_erased
    what_is_forgotten_leaves_the_object_store
    damage_is_found_wherever_it_is
}

async fn whatever_breaks_off_a_sealing_nothing_is_lost_or_doubled(world: World) {
    let mut it = Remembering::new(world, 3).await;
    for fault in [Fault::Before, Fault::After, Fault::Half, Fault::Bit] {
        for _ in 0..10 {
            it.record().await;
        }
        it.objects.set(fault);
        let failed = it.history.seal(it.tenant, HOLDER).await.unwrap_err();
        assert!(matches!(failed, StoreError::Content(_)), "{fault:?}: {failed:?}");
        it.check().await;
        // Meanwhile life goes on, into another partition.
        it.record().await;
        it.check().await;
    }
    it.objects.set(Fault::None);

    let sealed = it.history.seal(it.tenant, HOLDER).await.unwrap();

    assert_eq!(sealed.len(), 5);
    let versions: u64 = sealed.iter().map(|it| it.versions).sum();
    assert_eq!(versions, it.oracle.values().map(|it| it.len() as u64).sum::<u64>());
    it.check().await;
    // What was begun in vain lies there until nobody can work with it any more.
    let begun = it.objects.list().unwrap().len() - sealed.len();
    assert_eq!(begun, 3);
    assert_eq!(it.history.remove_garbage().await.unwrap().named, 0);
    it.world.environment.pass(SignedDuration::from_hours(2));
    assert_eq!(it.history.remove_garbage().await.unwrap().named, 4);
    assert_eq!(it.objects.list().unwrap().len(), sealed.len());
    it.check().await;

    // An object of which nothing is known at all.
    let stray = format!("{}.00000001.00", it.tenant);
    it.objects.put(&stray, b"?").unwrap();
    assert_eq!(it.history.remove_garbage().await.unwrap().unknown, 1);
}

async fn whatever_breaks_off_a_backfill_nothing_of_it_is_there(world: World) {
    let mut it = Remembering::new(world, 5).await;
    for _ in 0..4 {
        it.record().await;
    }
    it.seal().await;
    let batch = |number: u32| NewBatch {
        ci: it.cis[0],
        files: vec![file(it_path(number), Some((vec![b'x'; 100], 0o600)))],
    };
    for fault in [Fault::Before, Fault::After, Fault::Half, Fault::Bit] {
        it.objects.set(fault);
        let batches = (0..5).map(batch).collect();
        let failed = it.history.backfill(&it.owner, batches, HOLDER).await.unwrap_err();
        assert!(matches!(failed, StoreError::Content(_)), "{fault:?}: {failed:?}");
        it.check().await;
    }
    it.objects.set(Fault::None);
    let twice = it_path(1);
    let twice = vec![file(twice.clone(), None), file(twice, None)];
    let twice = vec![batch(0), NewBatch { ci: it.cis[0], files: twice }];
    let refused = it.history.backfill(&it.owner, twice, HOLDER).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused:?}");
    it.backfill().await;
    it.check().await;
    it.world.environment.pass(SignedDuration::from_hours(2));
    it.history.remove_garbage().await.unwrap();
    it.check().await;
}

fn it_path(number: u32) -> FilePath {
    FilePath::new(format!("/srv/{number}")).unwrap()
}

async fn a_backfill_and_what_is_recorded_beside_it_are_both_there(world: World) {
    let it = Remembering::new(world, 6).await;
    let text = |number: u32| Some((format!("number = {number}\n").into_bytes(), 0o600));
    for round in 0..8 {
        let told = |number: u32| vec![file(it_path(number), text(round))];
        let batches = (0..3).map(|number| NewBatch { ci: it.cis[0], files: told(number) });
        let backfill = it.history.backfill(&it.owner, batches.collect(), HOLDER);
        let same = it.history.record(&it.owner, it.cis[0], told(9));
        let other = it.history.record(&it.owner, it.cis[1], told(9));

        let (taken, same, other) = join3(backfill, same, other).await;

        // It may be that it finds no moment at which nobody records.
        assert!(taken.is_ok() || matches!(taken, Err(StoreError::Busy)), "{taken:?}");
        assert!(same.unwrap().is_some() && other.unwrap().is_some());
        for (ci, number, is_told) in [(0, 0, taken.is_ok()), (0, 9, true), (1, 9, true)] {
            let found = it.ask(ci, &it_path(number), Timestamp::MAX).await;
            let (content, mode) = text(round).unwrap();
            let is_there = found == Answer::Content(content, mode);
            assert_eq!(is_there, is_told, "round {round}: {ci} {number}: {found:?}");
        }
        let fsck = it.history.fsck(&it.owner, it.tenant).await.unwrap();
        assert!(fsck.damages.is_empty(), "{:?}", fsck.damages);
    }
}

async fn another_tenants_history_is_not_there(world: World) {
    let mut it = Remembering::new(world, 4).await;
    it.record().await;
    let other = it.world.tenant("other").await;
    let other = it.world.owner(&other).await;
    let agent = Actor::Agent {
        agent: AgentId::new(Timestamp::UNIX_EPOCH, [1; 10]),
        tenant: it.tenant,
        ci: it.cis[1],
    };
    let (ci, path, now) = (it.cis[0], it.path(), Timestamp::MAX);
    for stranger in [&other, &agent] {
        let history = &it.history;
        let answers = [
            history.record(stranger, ci, vec![file(path.clone(), None)]).await.map(drop),
            history
                .backfill(stranger, vec![NewBatch { ci, files: Vec::new() }], HOLDER)
                .await
                .map(drop),
            history.file_at(stranger, ci, &path, now).await.map(drop),
            history.versions(stranger, ci, &path).await.map(drop),
            history.manifest(stranger, ci, now).await.map(drop),
            history.differences(stranger, ci, Timestamp::MIN, now).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(StoreError::NotFound { .. })), "{answer:?}");
        }
    }
    let (tenant, past) = (it.tenant, Timestamp::UNIX_EPOCH);
    let erasing = it.history.erase(&other, tenant, Erasure::Everything, "", HOLDER).await;
    for answer in [
        it.history.fsck(&other, tenant).await.map(drop),
        it.history.forget(&other, tenant, past, HOLDER).await.map(drop),
        erasing,
    ] {
        assert!(matches!(answer, Err(StoreError::NotFound { .. })), "{answer:?}");
    }
    it.check().await;
}

async fn what_is_erased_is_gone_and_the_record_still_agrees(world: World) {
    let mut it = Remembering::new(world, 5).await;
    for _ in 0..4 {
        for _ in 0..15 {
            it.record().await;
        }
        it.seal().await;
    }
    let before = it.fsck().await;

    it.erase(2).await;

    it.check().await;
    let after = it.fsck().await;
    assert_eq!((after.partitions, after.erased), (before.partitions - 1, 1));
    assert!(after.versions < before.versions);
    let gone = |answer: &Answer| *answer == Answer::Erased;
    let mut erased = 0;
    for ((ci, path), versions) in &it.oracle {
        for version in versions {
            erased += usize::from(gone(&it.ask(*ci, path, version.at).await));
        }
    }
    assert_eq!(erased as u64, before.versions - after.versions);
    // A second time there is no such partition that could be read.
    let again =
        it.history.erase(&it.owner, it.tenant, Erasure::Partition(2), "again", HOLDER).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })));
    // What is erased is seen again as if it were new.
    for _ in 0..30 {
        it.record().await;
    }
    it.seal().await;
    it.check().await;
}

async fn what_another_process_erased_is_gone_here_too(world: World) {
    let mut it = Remembering::new(world, 8).await;
    let (path, text) = (it_path(1), Some((b"secret = 1\n".to_vec(), 0o600)));
    it.tell(0, [(path.clone(), text)].into()).await;
    it.seal().await;
    let here = it.world.store.history(Arc::clone(&it.master), it.objects.clone());
    let ask = async || here.file_at(&it.owner, it.cis[0], &path, Timestamp::MAX).await.unwrap();
    // What is open here stays open as long as nothing comes or goes.
    for _ in 0..2 {
        assert!(matches!(ask().await, Past::Kept(Some(_))));
    }

    let what = Erasure::Partition(1);
    it.history.erase(&it.owner, it.tenant, what, "asked for", HOLDER).await.unwrap();

    assert_eq!(ask().await, Past::Erased);
}

async fn everything_of_a_tenant_can_be_erased(world: World) {
    let mut it = Remembering::new(world, 6).await;
    for step in 0..30 {
        it.record().await;
        if step == 20 {
            it.seal().await;
        }
    }
    let last = *it.instants().last().unwrap();

    let everything = Erasure::Everything;
    it.history.erase(&it.owner, it.tenant, everything, "they left", HOLDER).await.unwrap();

    let (ci, path) = (it.cis[0], it.path());
    let asked = it.history.file_at(&it.owner, ci, &path, Timestamp::MAX).await.unwrap();
    assert_eq!(asked, Past::Kept(None));
    let new = file(path.clone(), Some((b"anew".to_vec(), 0)));
    let recorded = it.history.record(&it.owner, ci, vec![new]).await.unwrap().unwrap();
    let asked = it.history.file_at(&it.owner, ci, &path, last).await.unwrap();
    assert!(matches!(asked, Past::Forgotten { .. }), "{asked:?}");
    let asked = it.history.file_at(&it.owner, ci, &path, recorded.at).await.unwrap();
    let Past::Kept(Some(version)) = asked else { panic!("{asked:?}") };
    assert_eq!(version.content.unwrap(), b"anew");
    it.history.seal(it.tenant, HOLDER).await.unwrap();
    let fsck = it.fsck().await;
    assert!(fsck.damages.is_empty(), "{:?}", fsck.damages);
    assert_eq!((fsck.partitions, fsck.erased), (1, 1));
}

async fn what_is_forgotten_leaves_the_object_store(world: World) {
    let mut it = Remembering::new(world, 8).await;
    for _ in 0..8 {
        for _ in 0..20 {
            it.record().await;
        }
        it.seal().await;
    }
    let size = |it: &Remembering| -> u64 {
        let names = it.objects.list().unwrap();
        names.iter().map(|name| it.objects.size(name).unwrap()).sum()
    };
    let (before, versions) = (size(&it), it.fsck().await.versions);
    let instants = it.instants();

    it.forget(instants[instants.len() - 10]).await;
    // Who reads what was there before is not disturbed.
    assert_eq!(it.history.remove_garbage().await.unwrap().named, 0);
    it.world.environment.pass(SignedDuration::from_mins(11));
    it.history.remove_garbage().await.unwrap();

    assert!(size(&it) * 4 < before * 3, "{} of {before}", size(&it));
    it.check().await;
    assert!(it.fsck().await.versions * 2 < versions);
    let (future, by) = (Timestamp::MAX, it.owner.clone());
    let refused = it.history.forget(&by, it.tenant, future, HOLDER).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }));
}

async fn damage_is_found_wherever_it_is(world: World) {
    let mut it = Remembering::new(world, 9).await;
    for step in 0..24 {
        it.record().await;
        match step {
            11 => it.backfill().await,
            17 => it.seal().await,
            _ => {}
        }
    }
    it.check().await;
    let names = it.objects.list().unwrap();
    for name in names {
        let length = usize::try_from(it.objects.size(&name).unwrap()).unwrap();
        let whole = it.objects.read(&name, 0, length).unwrap();
        for at in (0..length).step_by(length / 40) {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            it.objects.put(&name, &altered).unwrap();
            assert!(!it.fsck().await.damages.is_empty(), "byte {at} of {length}");
        }
        it.objects.delete(&name).unwrap();
        assert!(!it.fsck().await.damages.is_empty());
        it.objects.put(&name, &whole).unwrap();
    }
    it.check().await;
    let pool = it.world.raw().await;
    for (alter, repair) in [
        (
            "UPDATE history_tail SET recorded = recorded + 1",
            "UPDATE history_tail SET recorded = recorded - 1",
        ),
        (
            "UPDATE history_tail SET number = number + 100",
            "UPDATE history_tail SET number = number - 100",
        ),
        (
            "UPDATE history_batches SET versions = versions + 1",
            "UPDATE history_batches SET versions = versions - 1",
        ),
        (
            "UPDATE history_contents SET number = number + 100",
            "UPDATE history_contents SET number = number - 100",
        ),
        (
            "UPDATE history_partitions SET size = size, number = number + 100",
            "UPDATE history_partitions SET number = number - 100",
        ),
        (
            "UPDATE events SET kind = 'lost' WHERE kind = 'history.backfilled'",
            "UPDATE events SET kind = 'history.backfilled' WHERE kind = 'lost'",
        ),
    ] {
        sqlx::query(alter).execute(&pool).await.unwrap();
        assert!(!it.fsck().await.damages.is_empty(), "{alter}");
        sqlx::query(repair).execute(&pool).await.unwrap();
        assert!(it.fsck().await.damages.is_empty(), "{repair}");
    }
    another_is_told_of_a_backfill(&it, &pool).await;
    sqlx::query("UPDATE history_files SET spans = path").execute(&pool).await.unwrap();
    assert!(!it.fsck().await.damages.is_empty());
}

/// The event of a backfill says of all its batches at once what was recorded.
async fn another_is_told_of_a_backfill(it: &Remembering, pool: &sqlx::AnyPool) {
    let all = "SELECT id, payload FROM events WHERE kind = 'history.backfilled'";
    let events: Vec<(String, Vec<u8>)> = sqlx::query_as(all).fetch_all(pool).await.unwrap();
    assert!(!events.is_empty());
    let store = async |id: &str, payload: &[u8]| {
        let update = sqlx::query("UPDATE events SET payload = $1 WHERE id = $2");
        update.bind(payload.to_vec()).bind(id.to_owned()).execute(pool).await.unwrap();
    };
    for (id, payload) in &events {
        let mut told: serde_json::Value = serde_json::from_slice(payload).unwrap();
        told["commitment"] = "00".repeat(32).into();
        store(id, &serde_json::to_vec(&told).unwrap()).await;
        let damages = it.fsck().await.damages;
        assert!(damages.len() == 1 && damages[0].contains("taken in"), "{damages:?}");
        store(id, payload).await;
    }
    assert!(it.fsck().await.damages.is_empty());
}

/// Wherever bytes lie, neither contents nor names of files can be read there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_plain_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let file_of = place.path().join("it.db");
    let world = World::at(&file_of).await;
    let mut it = Remembering::new(world, 10).await;
    let canary = "qzjxkvbwyphgfumcldrtnsaioe0193";
    let path = FilePath::new("/etc/canary-of-a-name").unwrap();
    let told = [(path.clone(), Some((canary.as_bytes().to_vec(), 0o600)))];
    it.tell(0, told.into()).await;
    look(&[place.path(), it.folder.path()], &[canary, "canary-of-a-name"]);
    it.seal().await;
    look(&[place.path(), it.folder.path()], &[canary, "canary-of-a-name"]);
    it.check().await;
}

/// A destroyed key lies no more in the database, neither in the file nor in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_key_is_not_in_the_file() {
    let place = tempfile::tempdir().unwrap();
    let world = World::at(&place.path().join("it.db")).await;
    let mut it = Remembering::new(world, 11).await;
    for _ in 0..20 {
        it.record().await;
    }
    it.seal().await;
    let pool = it.world.raw().await;
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT sealed_key FROM history_partitions")
        .fetch_one(&pool)
        .await
        .unwrap();
    let tenant: Vec<u8> = sqlx::query_scalar("SELECT sealed_key FROM history_tenants")
        .fetch_one(&pool)
        .await
        .unwrap();
    pool.close().await;
    assert!(lies(place.path(), &sealed) && lies(place.path(), &tenant));

    it.erase(1).await;
    assert!(!lies(place.path(), &sealed));
    assert!(lies(place.path(), &tenant));
    it.history.erase(&it.owner, it.tenant, Erasure::Everything, "", HOLDER).await.unwrap();
    assert!(!lies(place.path(), &tenant));
}

fn look(folders: &[&Path], texts: &[&str]) {
    for folder in folders {
        for text in texts {
            assert!(!lies(folder, text.as_bytes()), "{text}");
        }
    }
}

fn lies(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return lies(&path, bytes);
        }
        std::fs::read(&path).unwrap().windows(bytes.len()).any(|it| it == bytes)
    })
}
