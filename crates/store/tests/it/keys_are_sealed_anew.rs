//! Another master key comes into force, and the one before opens nothing any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::cloud::EventKind;
use jiff::SignedDuration;
use store::{MasterKey, StoreError, System};

use crate::support::World;
use crate::support::history::Remembering;

on_both_engines! {
    after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing
    nothing_is_rotated_under_a_control_plane
}

async fn after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing(world: World) {
    let mut it = Remembering::new(world, 11).await;
    for step in 0..12 {
        it.record().await;
        if step == 6 {
            it.seal().await;
        }
    }
    let store = it.world.store.clone();
    let old = Arc::clone(&it.master);
    let ledger = store.key(&old, "ledger.signing").await.unwrap();
    let backups = store.backup_keys(&old).await.unwrap();
    let new = MasterKey::open(&it.folder.path().join("another.key"), &System).unwrap();
    let new = Arc::new(new);

    let rotated =
        store.rotate_master_key(&it.world.admin, Arc::clone(&old), Arc::clone(&new)).await.unwrap();

    assert_eq!((rotated.keys, rotated.tenants), (2, 1));
    assert_eq!(store.opens_with(&old).await.unwrap(), Some(false));
    assert_eq!(store.opens_with(&new).await.unwrap(), Some(true));
    assert!(*store.key(&new, "ledger.signing").await.unwrap() == *ledger);
    assert!(store.key(&old, "ledger.signing").await.is_err());
    // What was backed up still opens; what is backed up from now on has a key that was never under the old one.
    let after = store.backup_keys(&new).await.unwrap();
    assert_eq!(after.len(), 2);
    assert!(*after[0] == *backups[0] && *after[1] != *backups[0]);
    it.history = store.history(Arc::clone(&new), it.objects.clone());
    it.check().await;
    it.record().await;
    it.check().await;
    let stranger = store.history(Arc::clone(&old), it.objects.clone());
    assert!(stranger.fsck(&it.owner, it.tenant).await.is_err());
    let again = store.rotate_master_key(&it.world.admin, Arc::clone(&old), new).await;
    assert!(matches!(again, Err(StoreError::Refused { .. })));
    assert_eq!(store.opens_with(&old).await.unwrap(), Some(false));
    store.sequence_events(10_000).await.unwrap();
    let events = store.sequenced_events(0, 10_000).await.unwrap();
    let recorded: Vec<_> =
        events.iter().filter(|event| event.kind == EventKind::MasterKeyRotated).collect();
    assert_eq!(recorded.len(), 1);
    let payload = String::from_utf8(recorded[0].payload.clone()).unwrap();
    assert!(payload.contains(&old.fingerprint()), "{payload}");
}

async fn nothing_is_rotated_under_a_control_plane(world: World) {
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| Arc::new(MasterKey::open(&folder.path().join(name), &System).unwrap());
    let (old, new) = (key("old"), key("new"));
    world.store.key(&old, "ledger.signing").await.unwrap();
    let six = SignedDuration::from_secs(6);
    world.store.take_lease("ledger", "somebody", six).await.unwrap().unwrap();

    let refused = world.store.rotate_master_key(&world.admin, old.clone(), new.clone()).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    assert_eq!(world.store.opens_with(&old).await.unwrap(), Some(true));

    world.environment.pass(six);
    world.store.rotate_master_key(&world.admin, old, new).await.unwrap();
}

/// Whoever adds a column with something sealed says here under what; what is under the master key itself belongs into
/// the rotation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_sealed_is_known() {
    let world = World::sqlite().await;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c
         WHERE m.type = 'table' AND (c.name LIKE '%seal%' OR c.name IN ('secret', 'told')
                                   OR (m.name IN ('devices', 'sources') AND c.name = 'credential'))",
    )
    .fetch_all(&world.raw().await)
    .await
    .unwrap();
    let found: BTreeSet<_> =
        rows.iter().map(|(table, column)| format!("{table}.{column}")).collect();
    let master = ["history_tenants.sealed_key", "sealed_keys.sealed"];
    let others = [
        // Under `factors`.
        "channels.sealed_address",
        "channels.secret",
        "totp.sealed",
        // Under `devices`.
        "devices.credential",
        "sources.credential",
        // Under the tenant's key, and the partition's.
        "alteration_contents.sealed",
        "break_glass.sealed",
        "break_glass.sealed_review",
        "break_glass_files.sealed",
        "drifts.sealed",
        "history_unjudged.told",
        "judged_files.sealed",
        "verdicts.sealed",
        "history_partitions.sealed_key",
        "history_contents.sealed",
    ];
    let known: BTreeSet<_> = master.iter().chain(&others).map(ToString::to_string).collect();
    assert_eq!(found, known);
}
