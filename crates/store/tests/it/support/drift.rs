//! Drifts that are opened, escalated and settled.

use std::sync::Arc;

use domain::cloud::{CiId, DriftId, TenantId};
use domain::configuration::verdict::{Actor, Confidence, Judgement, Verdict};
use store::{Drift, DriftState, Environment as _, FilePath, Happening, MasterKey, ObjectDirectory};

use super::World;

/// Opens a drift of this number, of which a side is to be told.
pub(crate) async fn open(world: &World, to: TenantId, ci: CiId, number: u8) -> DriftId {
    put(world, to, ci, number, DriftState::Open, false).await
}

/// Has a side told that nobody settled it.
pub(crate) async fn escalate(world: &World, to: TenantId, ci: CiId, number: u8) {
    put(world, to, ci, number, DriftState::Open, true).await;
}

/// Settles it.
pub(crate) async fn settle(world: &World, to: TenantId, ci: CiId, number: u8) {
    put(world, to, ci, number, DriftState::Adopted, false).await;
}

async fn put(
    world: &World,
    to: TenantId,
    ci: CiId,
    number: u8,
    state: DriftState,
    is_late: bool,
) -> DriftId {
    let directory = tempfile::tempdir().unwrap();
    let objects = ObjectDirectory::open(directory.path().join("objects")).unwrap();
    let master = MasterKey::open(&directory.path().join("key"), &*world.environment).unwrap();
    let history = world.store.history(Arc::new(master), Arc::new(objects));
    let now = world.environment.now();
    let id = DriftId::of_content([number; 16]);
    let drift = Drift {
        id,
        tenant: to,
        ci,
        ci_name: "web".to_owned(),
        path: FilePath::new(format!("/etc/{number}")).unwrap(),
        what: Happening::Altered,
        judgement: Judgement {
            verdict: Verdict::Unauthorised,
            actor: Actor::Unknown,
            confidence: Confidence::High,
            trace: Vec::new(),
        },
        by: None,
        since: now,
        recorded_at: now,
        count: 1,
        state,
        escalated_at: is_late.then_some(now),
    };
    history.stub_drift(to, drift).await.unwrap();
    id
}
