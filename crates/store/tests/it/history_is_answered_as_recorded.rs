//! Whatever is sealed, taken by retention or erased: each time is answered as it was recorded.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use store::{Environment as _, Past};

use crate::support::World;
use crate::support::history::{Answer, Remembering};

on_both_engines! {
    any_time_is_as_it_was_recorded
    lists_are_as_they_were_recorded
    what_is_as_it_was_makes_no_version
    batches_that_come_together_stand_one_after_the_other
    who_is_refused_among_others_hinders_nobody
}

/// Questions of one engine; `history`'s own test asks as many as both together.
const QUESTIONS: u64 = 25_000;

/// What happens to the history of one engine.
const STEPS: u64 = 250;

async fn any_time_is_as_it_was_recorded(world: World) {
    let mut it = Remembering::new(world, 42).await;
    let mut seen = BTreeMap::new();
    // Where the database is a file it is lost now and then, and comes back from what was backed up.
    let (mut backup, mut restored) = (it.begin_backup().await, 0);
    for step in 0..STEPS {
        if let Some(going) = &mut backup
            && step % 6 == 5
        {
            let at = going.step(it.world.environment.now()).unwrap().at;
            if step % 24 == 23 {
                it.restore(going, at).await;
                backup = it.begin_backup().await;
                restored += 1;
            }
        }
        match it.random.below(100) {
            0..76 => it.record().await,
            76..82 => it.backfill().await,
            82..93 => it.seal().await,
            93..96 if step > STEPS / 3 => {
                let instants = it.instants();
                let oldest = it.random.below(instants.len() as u64 / 2);
                let before = instants[usize::try_from(oldest).unwrap()];
                it.forget(before).await;
            }
            96..98 => {
                let number = 1 + it.random.below(12).cast_signed();
                it.erase(number).await;
            }
            _ => {
                it.world.environment.pass(SignedDuration::from_hours(8));
                it.history.remove_garbage().await.unwrap();
            }
        }
        let instants = it.instants();
        let (Some(first), Some(last)) = (instants.first(), instants.last()) else { continue };
        let length = u64::try_from(last.duration_since(*first).as_micros()).unwrap() + 2000;
        for _ in 0..QUESTIONS / STEPS {
            let (ci, path) = (usize::try_from(it.random.below(3)).unwrap(), it.path());
            // Half of them at an instant itself, where an error by one would show.
            let at = if it.random.below(2) == 0 {
                instants[usize::try_from(it.random.below(instants.len() as u64)).unwrap()]
            } else {
                let after = first.as_microsecond() - 1000 + it.random.below(length).cast_signed();
                Timestamp::from_microsecond(after).unwrap()
            };
            let (answer, expected) = (it.ask(ci, &path, at).await, it.expected(ci, &path, at));
            assert!(
                answer == expected,
                "step {step}, {ci} {path} at {at}: {answer:?}, not {expected:?}"
            );
            *seen.entry(kind(&answer)).or_insert(0) += 1;
        }
    }
    assert!(seen.len() == 4 && seen.values().all(|&it| it > QUESTIONS / 100), "{seen:?}");
    assert!(backup.is_none() || restored > 4, "{restored}");
    it.check().await;
}

const fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Content(..) => "content",
        Answer::Absent => "absent",
        Answer::Erased => "erased",
        Answer::Forgotten => "forgotten",
    }
}

async fn lists_are_as_they_were_recorded(world: World) {
    let mut it = Remembering::new(world, 7).await;
    for step in 0..60 {
        it.record().await;
        if step % 13 == 12 {
            it.seal().await;
        }
    }
    let instants = it.instants();
    for ((ci, path), remembered) in &it.oracle {
        let listed = it.history.versions(&it.owner, it.cis[*ci], path).await.unwrap();
        let recorded: Vec<_> = listed.versions.iter().map(|it| it.recorded_at).collect();
        assert_eq!(recorded, remembered.iter().map(|it| it.at).collect::<Vec<_>>());
    }
    for at in instants.iter().step_by(7) {
        for ci in 0..3 {
            let asked = it.history.manifest(&it.owner, it.cis[ci], *at).await.unwrap();
            let Past::Kept(manifest) = asked else { panic!("{asked:?}") };
            for path in it.oracle.keys().filter(|(of, _)| *of == ci).map(|(_, path)| path) {
                let is_there = matches!(it.expected(ci, path, *at), Answer::Content(..));
                assert_eq!(manifest.files.contains_key(path), is_there, "{path} at {at}");
            }
        }
    }
    let (before, after) = (instants[10], instants[40]);
    for ci in 0..3 {
        let asked = it.history.differences(&it.owner, it.cis[ci], before, after).await.unwrap();
        let Past::Kept(differences) = asked else { panic!("{asked:?}") };
        for path in it.oracle.keys().filter(|(of, _)| *of == ci).map(|(_, path)| path) {
            let (was, is) = (it.expected(ci, path, before), it.expected(ci, path, after));
            assert_eq!(differences.contains_key(path), was != is, "{path}");
        }
        assert!(!differences.is_empty());
    }
}

async fn what_is_as_it_was_makes_no_version(world: World) {
    let mut it = Remembering::new(world, 1).await;
    let path = it.path();
    let files = BTreeMap::from([(path.clone(), Some((b"one".to_vec(), 0o644)))]);
    it.tell(0, files.clone()).await;
    let events = it.world.store.sequence_events(1000).await.unwrap();
    assert!(events > 0);

    it.tell(0, files.clone()).await;
    it.seal().await;
    it.tell(0, files).await;
    it.tell(
        0,
        BTreeMap::from(
            [("/never/there", None)].map(|(p, s)| (store::FilePath::new(p).unwrap(), s)),
        ),
    )
    .await;

    // Sealing alone was recorded.
    assert_eq!(it.world.store.sequence_events(1000).await.unwrap(), 1);
    let listed = it.history.versions(&it.owner, it.cis[0], &path).await.unwrap();
    assert_eq!(listed.versions.len(), 1);
}

async fn batches_that_come_together_stand_one_after_the_other(world: World) {
    let it = Remembering::new(world, 1).await;
    let path = store::FilePath::new("/etc/contended").unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|number: u32| {
            let (history, by, ci, path) =
                (it.history.clone(), it.owner.clone(), it.cis[0], path.clone());
            let tenant = it.tenant;
            tokio::spawn(async move {
                if number % 10 == 9 {
                    history.seal(tenant, &number.to_string()).await.unwrap();
                    return None;
                }
                let content = format!("by {number}").into_bytes();
                let file = crate::support::history::file(path, Some((content, 0)));
                history.record(&by, ci, vec![file]).await.unwrap().map(|it| (it.at, number))
            })
        })
        .collect();
    let mut recorded = BTreeMap::new();
    for task in tasks {
        recorded.extend(task.await.unwrap());
    }

    assert_eq!(recorded.len(), 36);
    for (at, number) in &recorded {
        let answer = it.ask(0, &path, *at).await;
        assert_eq!(answer, Answer::Content(format!("by {number}").into_bytes(), 0));
    }
    let listed = it.history.versions(&it.owner, it.cis[0], &path).await.unwrap();
    let listed: Vec<_> = listed.versions.iter().map(|it| it.recorded_at).collect();
    assert_eq!(listed, recorded.into_keys().collect::<Vec<_>>());
    let fsck = it.fsck().await;
    assert!(fsck.damages.is_empty(), "{:?}", fsck.damages);
}

async fn who_is_refused_among_others_hinders_nobody(world: World) {
    let it = Remembering::new(world, 1).await;
    let store = &it.world.store;
    let other = it.world.tenant("bolt").await;
    let others = it.world.owner(&other).await;
    let new = crate::support::vm(other.id, "db-0");
    let foreign = store.create_ci(&it.world.admin, None, new).await.unwrap().id;
    let retired = it.cis[2];
    store.retire_ci(&it.world.admin, retired, None).await.unwrap();
    let before = store.sequence_events(1000).await.unwrap();
    assert!(before > 0);

    let file = |number: usize| {
        let path = store::FilePath::new(format!("/etc/{number}")).unwrap();
        crate::support::history::file(path, Some((format!("{number}").into_bytes(), 0)))
    };
    let all = (0..60).map(|number| {
        let (by, ci) = match number % 5 {
            0 | 1 => (&it.owner, it.cis[number % 2]),
            2 => (&others, foreign),
            3 => (&it.owner, retired),
            _ => (&it.owner, foreign),
        };
        it.history.record(by, ci, vec![file(number)])
    });
    let outcomes = futures_util::future::join_all(all).await;

    let mut recorded = Vec::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match (number % 5, outcome) {
            (0..=2, Ok(Some(it))) => recorded.push(it.at),
            (3, Err(store::StoreError::Refused { .. }))
            | (4, Err(store::StoreError::NotFound { .. })) => {}
            (_, outcome) => panic!("{number}: {outcome:?}"),
        }
    }
    assert_eq!(store.sequence_events(1000).await.unwrap(), 36);
    for (number, at) in (0..60).filter(|number| number % 5 < 3).zip(recorded) {
        let (by, ci) =
            if number % 5 == 2 { (&others, foreign) } else { (&it.owner, it.cis[number % 2]) };
        let found = it.history.file_at(by, ci, &file(number).path, at).await.unwrap();
        let Past::Kept(Some(found)) = found else { panic!("{number}: {found:?}") };
        assert_eq!(found.recorded_at, at);
    }
    assert!(it.fsck().await.damages.is_empty());
    let fsck = it.history.fsck(&others, other.id).await.unwrap();
    assert_eq!((fsck.batches, fsck.damages.len()), (12, 0));
}
