//! Content history whose sealed objects are in an S3-compatible store: nothing else is different.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use s3::{Patience, S3};
use store::{Objects as _, StoreError};

use crate::peer::Peer;
use crate::support::World;
use crate::support::history::{Answer, Fault, HOLDER, Remembering};

on_both_engines! {
    what_is_in_a_store_is_answered_erased_forgotten_and_checked
}

async fn what_is_in_a_store_is_answered_erased_forgotten_and_checked(world: World) {
    let Some(peer) = Peer::start() else { return };
    let address = peer.address("history").parse().unwrap();
    let store = S3::open(&address, Timestamp::now, Patience::default()).unwrap();
    store.claim("a ledger").unwrap();
    let mut it = Remembering::elsewhere(world, 11, Arc::new(store)).await;
    for fault in [Fault::Before, Fault::After, Fault::Half, Fault::None] {
        for _ in 0..15 {
            it.record().await;
        }
        it.objects.set(fault);
        if fault == Fault::None {
            it.seal().await;
        } else {
            let failed = it.history.seal(it.tenant, HOLDER).await.unwrap_err();
            assert!(matches!(failed, StoreError::Content(_)), "{failed:?}");
            it.objects.set(Fault::None);
            it.seal().await;
        }
        it.check().await;
    }

    it.erase(2).await;
    it.check().await;
    let erased = it.oracle.iter().flat_map(|(file, all)| all.iter().map(move |it| (file, it.at)));
    let mut answers = Vec::new();
    for ((ci, path), at) in erased {
        answers.push(it.ask(*ci, path, at).await);
    }
    assert!(answers.contains(&Answer::Erased) && answers.iter().any(|it| *it != Answer::Erased));
    let middle = it.instants()[it.instants().len() / 2];
    it.forget(middle).await;
    it.world.environment.pass(SignedDuration::from_hours(2));
    assert!(it.history.remove_garbage().await.unwrap().named > 0);
    assert_eq!(it.history.remove_garbage().await.unwrap().named, 0);
    it.check().await;

    // What is missing there is found.
    let objects = it.objects.list().unwrap();
    for name in &objects {
        it.objects.delete(name).unwrap();
    }
    assert!(!objects.is_empty() && !it.fsck().await.damages.is_empty());
}
