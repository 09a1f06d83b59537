//! An obligation with all that it looks at, out of the rows in which it is kept.

use domain::change::{Change, KeyRing, Plan, Standing};
use domain::cloud::{ChangeId, TenantId};
use domain::obligation::{KeptObligation, Obligation};
use domain::priority::PolicyRef;
use domain::sla::Policy;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::policies;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::value::get;
use crate::writer::Tx;

/// An obligation and what stands beside it.
pub(crate) struct Loaded {
    pub(crate) obligation: Obligation,
    pub(crate) change: Change,
    pub(crate) policy: Policy,
    pub(crate) keys: KeyRing,
    pub(crate) standing: Vec<Standing>,
}

impl Loaded {
    pub(crate) fn context(&self) -> domain::obligation::Context<'_> {
        let Self { change, policy, keys, standing, .. } = self;
        domain::obligation::Context { policy, change, keys, standing }
    }
}

/// Refuses what is another tenant's as if it were not there.
pub(super) fn must_see(by: &Actor, tenant: TenantId) -> Result<(), StoreError> {
    match by.scope() {
        Some(own) if own != tenant => Err(StoreError::not_found("tenant", &tenant)),
        _ => Ok(()),
    }
}

/// Reads it without holding anything.
pub(crate) async fn obligation(
    connection: &mut AnyConnection,
    change: ChangeId,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Loaded, StoreError> {
    let row = sqlx::query(
        "SELECT obligations.record AS record, changes.record AS change_record
         FROM obligations JOIN changes ON changes.id = obligations.change_id
         WHERE change_id = $1 AND obligations.tenant_id = $2",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| StoreError::not_found("obligation", &format!("{change} of {tenant}")))?;
    let kept: KeptObligation = json(&row, "record")?;
    let change = json(&row, "change_record")?;
    let plan = match kept.plan() {
        None => None,
        Some(hash) => {
            let row = sqlx::query("SELECT body FROM plans WHERE hash = $1")
                .bind(hash.to_string())
                .fetch_optional(&mut *connection)
                .await?;
            let row = row.ok_or_else(|| corrupt("a plan", &format!("{hash} is gone")))?;
            Some(read_plan(&row)?)
        }
    };
    let policy = policies::named(connection, tenant, kept.policy()).await?;
    let obligation =
        Obligation::from_kept(kept, plan).map_err(|error| corrupt("an obligation", &error))?;
    let keys = key_ring(connection, tenant).await?;
    let standing = standing(connection, tenant, now).await?;
    Ok(Loaded { obligation, change, policy, keys, standing })
}

/// Reads it and holds it, its change and the tenant's keys until the end of the transaction; always
/// in this order, so that nobody waits for each other.
pub(crate) async fn held(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
) -> Result<Loaded, StoreError> {
    tx.hold("changes", "id", &change.to_string()).await?;
    tx.hold("tenants", "id", &tenant.to_string()).await?;
    tx.hold_obligation(change, tenant).await?;
    tx.look_at_clock();
    let now = tx.now;
    obligation(&mut *tx.connection, change, tenant, now).await
}

/// The version of the SLA that governs a tenant's part of a change.
pub(crate) async fn policy_of(
    connection: &mut AnyConnection,
    change: ChangeId,
    tenant: TenantId,
) -> Result<PolicyRef, StoreError> {
    let row = sqlx::query("SELECT record FROM obligations WHERE change_id = $1 AND tenant_id = $2")
        .bind(change.to_string())
        .bind(tenant.to_string())
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| StoreError::not_found("obligation", &format!("{change} of {tenant}")))?;
    let kept: KeptObligation = json(&row, "record")?;
    Ok(kept.policy().clone())
}

/// A tenant's keys; a ring without any where it has none yet.
pub(super) async fn key_ring(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<KeyRing, StoreError> {
    let row = sqlx::query("SELECT record FROM key_rings WHERE tenant_id = $1")
        .bind(tenant.to_string())
        .fetch_optional(connection)
        .await?;
    row.map_or_else(|| Ok(KeyRing::new(tenant)), |row| json(&row, "record"))
}

/// The rules of a tenant that are not over.
async fn standing(
    connection: &mut AnyConnection,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Vec<Standing>, StoreError> {
    let rows = sqlx::query(
        "SELECT record FROM standing_rules
         WHERE tenant_id = $1 AND (ends_at IS NULL OR ends_at > $2) ORDER BY created_at",
    )
    .bind(tenant.to_string())
    .bind(now.as_microsecond())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| json(row, "record")).collect()
}

pub(crate) fn read_plan(row: &AnyRow) -> Result<Plan, StoreError> {
    let bytes: Vec<u8> = get(row, "body")?;
    Plan::parse(&bytes).map_err(|error| corrupt("a plan", &error))
}

/// A column's JSON.
pub(crate) fn json<T: DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: String = get(row, column)?;
    serde_json::from_str(&text).map_err(|error| corrupt(column, &error))
}

pub(super) fn text<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt("a record", &error))
}

pub(super) fn corrupt(what: &str, error: &impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("{what}: {error}") }
}
