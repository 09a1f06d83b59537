//! Alarms of drifts, by their rows: how drifts come to be and are settled is tested where they are judged.

use domain::cloud::{CiId, DriftId, TenantId};
use store::Environment as _;

use super::World;

/// A drift of this number is opened, of which a side is to be told.
pub(crate) async fn open(world: &World, to: TenantId, ci: CiId, number: u8) -> DriftId {
    raise(world, to, ci, number, 0).await
}

/// Has a side told that nobody settled it.
pub(crate) async fn escalate(world: &World, to: TenantId, ci: CiId, number: u8) {
    raise(world, to, ci, number, 1).await;
}

/// Settles it.
pub(crate) async fn settle(world: &World, number: u8) {
    sqlx::query("DELETE FROM drift_alarms WHERE drift_id = $1")
        .bind(DriftId::of_content([number; 16]).to_string())
        .execute(&world.raw().await)
        .await
        .unwrap();
}

async fn raise(world: &World, to: TenantId, ci: CiId, number: u8, grade: i64) -> DriftId {
    let id = DriftId::of_content([number; 16]);
    let now = world.environment.now();
    let gathered = now + jiff::SignedDuration::from_mins(5);
    sqlx::query(
        "INSERT INTO drift_alarms (to_tenant, drift_id, ci_id, grade, created_at, tell_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(to.to_string())
    .bind(id.to_string())
    .bind(ci.to_string())
    .bind(grade)
    .bind(now.as_microsecond())
    .bind(gathered.as_microsecond())
    .execute(&world.raw().await)
    .await
    .unwrap();
    id
}
