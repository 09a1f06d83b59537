//! Drifts that are opened and settled.

use std::sync::Arc;

use domain::cloud::{CiId, DriftId, TenantId};
use domain::configuration::verdict::{Actor, Confidence, Judgement, Verdict};
use store::{Drift, DriftState, Environment as _, FilePath, Happening, History, ObjectDirectory};

use super::World;

/// A drift of this number that is open since now: somebody altered a file of an item.
pub(crate) fn new(world: &World, tenant: TenantId, ci: CiId, number: u16) -> Drift {
    let now = world.clock.now();
    let bytes = [number.to_be_bytes(); 8].concat().try_into().unwrap();
    Drift {
        id: DriftId::of_content(bytes),
        tenant,
        ci,
        ci_name: "web-of-a".to_owned(),
        path: FilePath::new(format!("/etc/app/{number:03}.conf")).unwrap(),
        what: Happening::Altered,
        judgement: Judgement {
            verdict: Verdict::Unauthorised,
            actor: Actor::Person { login: "anna".to_owned() },
            confidence: Confidence::High,
            trace: Vec::new(),
        },
        by: Some("anna, /usr/bin/vim".to_owned()),
        since: now,
        recorded_at: now,
        count: 1,
        state: DriftState::Open,
        escalated_at: None,
    }
}

/// Opens it, or has it be escalated or settled, and has a side told.
pub(crate) async fn put(world: &World, to: TenantId, drift: Drift) {
    history(world).stub_drift(to, drift).await.unwrap();
}

/// Settles it where nobody takes its alarm back.
pub(crate) async fn settle_unheard(world: &World, id: DriftId) {
    history(world).stub_settled(id).await.unwrap();
}

fn history(world: &World) -> History {
    let objects = ObjectDirectory::open(world.directory.path().join("history")).unwrap();
    world.store.history(Arc::clone(&world.master), Arc::new(objects))
}
