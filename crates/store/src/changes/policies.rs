//! Versions of SLA policies: what both sides agreed to, and since when.

use domain::cloud::{EventKind, PROVIDER, Side, TenantId};
use domain::priority::PolicyRef;
use domain::sla::{Exclusion, InForce, Policy, governing as governs};
use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::load::{corrupt, must_see};
use super::{PolicyState, PolicyVersion, exclusions};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::tenants;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// The default where the provider gave none.
const DEFAULT: &str = "x1642-default";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant_id, version, name, document, proposed_by, proposed_at, agreed_by, since
             FROM sla_policies ",
            $rest
        )
    };
}

pub(super) async fn propose(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    policy: &Policy,
) -> Result<PolicyVersion, StoreError> {
    tenants::must_exist(tx, by, tenant).await?;
    hold_names(tx).await?;
    let reference = policy.reference();
    if is_taken(tx, tenant, &reference).await? {
        return Err(StoreError::Exists {
            what: "version of this policy",
            name: format!("{} {}", reference.name, reference.version),
        });
    }
    let since = (tenant == PROVIDER).then_some(tx.now);
    sqlx::query(
        "INSERT INTO sla_policies (tenant_id, version, name, document, proposed_by, proposed_at,
                                   agreed_by, since, excludes)
         VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $8)",
    )
    .bind(tenant.to_string())
    .bind(reference.version.as_str())
    .bind(reference.name.as_str())
    .bind(policy.to_toml())
    .bind(format!("{}:{}", side_of(by).as_str(), by.id()))
    .bind(tx.now.as_microsecond())
    .bind(since.map(Timestamp::as_microsecond))
    .bind(i64::from(policy.document().exclusions.iter().any(Exclusion::is_exact)))
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("version", &reference.version))?;
    let version = find(tx, tenant, &reference.version).await?;
    record(tx, by, EventKind::SlaPolicyProposed, &version);
    // It is in force at once.
    if tenant == PROVIDER && exclusions::any(tx, PROVIDER).await? {
        exclusions::mark_everywhere(tx).await?;
    }
    Ok(version)
}

pub(super) async fn agree(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    version: &str,
) -> Result<PolicyVersion, StoreError> {
    must_see(by, tenant)?;
    hold_names(tx).await?;
    let before = find(tx, tenant, version).await?;
    let proposed_for = before.proposed_by.split_once(':').map_or("", |(side, _)| side);
    if before.state == PolicyState::Agreed {
        return Err(StoreError::Refused {
            reason: "the version is agreed already".to_owned(),
            help: "propose another version to change it",
        });
    }
    if proposed_for == side_of(by).as_str() {
        return Err(StoreError::Refused {
            reason: format!("the {proposed_for} proposed it; the other side has to agree"),
            help: "have the other side agree",
        });
    }
    // The provider may have published a default of this name since it was proposed.
    if is_in_force_elsewhere(tx, tenant, &before.policy).await? {
        let PolicyRef { name, version } = &before.policy;
        return Err(StoreError::Refused {
            reason: format!("another policy in force is called {name} {version}"),
            help: "propose the same under a version of its own",
        });
    }
    sqlx::query(
        "UPDATE sla_policies SET agreed_by = $1, since = $2
         WHERE tenant_id = $3 AND version = $4 AND since IS NULL",
    )
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .bind(tenant.to_string())
    .bind(version)
    .execute(&mut *tx.connection)
    .await?;
    let after = find(tx, tenant, version).await?;
    record(tx, by, EventKind::SlaPolicyAgreed, &after);
    if exclusions::any(tx, tenant).await? {
        exclusions::mark(tx, tenant, None).await?;
    }
    Ok(after)
}

pub(super) async fn versions(
    pool: &AnyPool,
    tenant: TenantId,
) -> Result<Vec<PolicyVersion>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE tenant_id = $1 OR (tenant_id = $2 AND since IS NOT NULL)
         ORDER BY CASE WHEN tenant_id = $1 THEN 0 ELSE 1 END, proposed_at DESC"
    ))
    .bind(tenant.to_string())
    .bind(PROVIDER.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// The policy that governs what is collected at an instant: the tenant's, else the provider's, else
/// the shipped one.
pub(super) async fn governing(
    connection: &mut AnyConnection,
    tenant: TenantId,
    collected: Timestamp,
) -> Result<Policy, StoreError> {
    Ok(in_force(connection, tenant).await?.at(collected)?.clone())
}

/// All versions that are or were in force for a tenant: its own, and the provider's.
pub(super) struct Versions {
    own: Vec<InForce>,
    providers: Vec<InForce>,
}

impl Versions {
    /// The one that governs what is collected at an instant.
    pub(super) fn at(&self, collected: Timestamp) -> Result<&Policy, StoreError> {
        let agreed = governs(&self.own, collected).or_else(|| governs(&self.providers, collected));
        match agreed {
            Some(policy) => Ok(policy),
            None => Policy::builtin(DEFAULT).map_err(|error| corrupt("the shipped policy", &error)),
        }
    }
}

/// Reads them.
pub(super) async fn in_force(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<Versions, StoreError> {
    let mut versions = Versions { own: Vec::new(), providers: Vec::new() };
    for (whose, list) in [(tenant, &mut versions.own), (PROVIDER, &mut versions.providers)] {
        let rows =
            sqlx::query(select!("WHERE tenant_id = $1 AND since IS NOT NULL ORDER BY since"))
                .bind(whose.to_string())
                .fetch_all(&mut *connection)
                .await?;
        for row in &rows {
            list.push(InForce { since: time(row, "since")?, policy: policy(row)? });
        }
    }
    Ok(versions)
}

/// The version that is meant by a name, among what both sides agreed to and what is shipped: never a
/// proposal, whoever made it. No two that govern a tenant have one name, see [`is_taken`].
pub(super) async fn named(
    connection: &mut AnyConnection,
    tenant: TenantId,
    reference: &PolicyRef,
) -> Result<Policy, StoreError> {
    let row = sqlx::query(select!(
        "WHERE tenant_id IN ($1, $2) AND name = $3 AND version = $4 AND since IS NOT NULL
         ORDER BY CASE WHEN tenant_id = $1 THEN 0 ELSE 1 END LIMIT 1"
    ))
    .bind(tenant.to_string())
    .bind(PROVIDER.to_string())
    .bind(reference.name.as_str())
    .bind(reference.version.as_str())
    .fetch_optional(connection)
    .await?;
    if let Some(row) = row {
        return policy(&row);
    }
    if let Some(shipped) = shipped_as(reference) {
        return Ok(shipped.clone());
    }
    Err(StoreError::not_found("policy", &format!("{} {}", reference.name, reference.version)))
}

/// Names are given out one after the other: two that are checked at once would both be free.
async fn hold_names(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.hold("tenants", "id", &PROVIDER.to_string()).await
}

/// Whether a name and version mean a text already: what governs an obligation is known by them alone.
/// A proposal of a tenant that nobody agreed to takes no name from the provider.
async fn is_taken(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    reference: &PolicyRef,
) -> Result<bool, StoreError> {
    let own = sqlx::query(
        "SELECT 1 AS one FROM sla_policies WHERE tenant_id = $1 AND name = $2 AND version = $3",
    )
    .bind(tenant.to_string())
    .bind(reference.name.as_str())
    .bind(reference.version.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(own.is_some() || is_in_force_elsewhere(tx, tenant, reference).await?)
}

/// Whether they mean another's text that governs: one that is shipped, the provider's for a tenant, any
/// tenant's for the provider.
async fn is_in_force_elsewhere(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    reference: &PolicyRef,
) -> Result<bool, StoreError> {
    if shipped_as(reference).is_some() {
        return Ok(true);
    }
    let row = sqlx::query(
        "SELECT 1 AS one FROM sla_policies
         WHERE name = $1 AND version = $2 AND since IS NOT NULL AND tenant_id <> $3
             AND (tenant_id = $4 OR $3 = $4) LIMIT 1",
    )
    .bind(reference.name.as_str())
    .bind(reference.version.as_str())
    .bind(tenant.to_string())
    .bind(PROVIDER.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(row.is_some())
}

/// The shipped policy of exactly this name and version.
fn shipped_as(reference: &PolicyRef) -> Option<&'static Policy> {
    Policy::builtin(&reference.name).ok().filter(|policy| policy.reference() == *reference)
}

async fn find(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    version: &str,
) -> Result<PolicyVersion, StoreError> {
    let row = sqlx::query(select!("WHERE tenant_id = $1 AND version = $2"))
        .bind(tenant.to_string())
        .bind(version)
        .fetch_optional(&mut *tx.connection)
        .await?;
    read(&row.ok_or_else(|| StoreError::not_found("version of the policy", &version))?)
}

fn side_of(by: &Actor) -> Side {
    match by.scope() {
        None => Side::Provider,
        Some(_) => Side::Tenant,
    }
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, version: &PolicyVersion) {
    tx.record(NewEvent {
        tenant: version.tenant,
        kind,
        by: by.clone(),
        object: version.tenant.to_string(),
        version: 1,
        payload: json!({ "policy": version.policy, "document": version.document }),
    });
}

fn policy(row: &AnyRow) -> Result<Policy, StoreError> {
    let document: String = get(row, "document")?;
    Policy::from_toml(&document).map_err(|error| corrupt("an SLA policy", &error))
}

fn read(row: &AnyRow) -> Result<PolicyVersion, StoreError> {
    let since = time_or_none(row, "since")?;
    Ok(PolicyVersion {
        tenant: parsed(row, "tenant_id")?,
        policy: PolicyRef { name: get(row, "name")?, version: get(row, "version")? },
        document: get(row, "document")?,
        proposed_by: get(row, "proposed_by")?,
        proposed_at: time(row, "proposed_at")?,
        state: if since.is_some() { PolicyState::Agreed } else { PolicyState::Proposed },
        agreed_by: get(row, "agreed_by")?,
        since,
    })
}
