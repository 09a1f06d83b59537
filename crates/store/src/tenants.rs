//! Tenants.

use domain::cloud::{EventKind, Name, ServiceModel, Slug, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, time};
use crate::writer::Tx;

/// A tenant; the provider has a row of its own under `PROVIDER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// For commands and addresses.
    pub slug: Slug,
    /// For people.
    pub name: Name,
    /// How it uses the cloud.
    pub model: ServiceModel,
    /// Since when.
    pub created_at: Timestamp,
    /// Raised by each alteration.
    pub version: i64,
}

/// A tenant that is to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// For commands and addresses.
    pub slug: Slug,
    /// For people.
    pub name: Name,
    /// How it will use the cloud.
    pub model: ServiceModel,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, slug, name, model, created_at, version FROM tenants ", $rest)
    };
}

pub(crate) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: Option<TenantId>,
    new: &NewTenant,
) -> Result<Tenant, StoreError> {
    let id = id.unwrap_or_else(|| TenantId::new(tx.now, tx.random()));
    sqlx::query(
        "INSERT INTO tenants (id, slug, name, model, created_at, version)
         VALUES ($1, $2, $3, $4, $5, 1)",
    )
    .bind(id.to_string())
    .bind(new.slug.as_str())
    .bind(new.name.as_str())
    .bind(new.model.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("tenant", &new.slug))?;
    tx.record(NewEvent {
        tenant: id,
        kind: EventKind::TenantCreated,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        payload: json!({ "slug": new.slug, "name": new.name, "model": new.model }),
    });
    Ok(Tenant {
        id,
        slug: new.slug.clone(),
        name: new.name.clone(),
        model: new.model,
        created_at: tx.now,
        version: 1,
    })
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<Tenant>, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(select!("WHERE id BETWEEN $1 AND $2 AND id > $3 ORDER BY id LIMIT $4"))
        .bind(low)
        .bind(high)
        .bind(request.place().1)
        .bind(request.fetched())
        .fetch_all(pool)
        .await?;
    let tenants = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(request.cut(tenants, |tenant: &Tenant| Cursor::new(tenant.id, tenant.id)))
}

/// Refuses where there is no such tenant, or the actor may not act for it.
pub(crate) async fn must_exist(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: TenantId,
) -> Result<(), StoreError> {
    let (low, high) = range(by.scope());
    let found = sqlx::query("SELECT id FROM tenants WHERE id = $1 AND id BETWEEN $2 AND $3")
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *tx.connection)
        .await?;
    found.map_or_else(|| Err(StoreError::not_found("tenant", &id)), |_| Ok(()))
}

pub(crate) async fn get_one(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: TenantId,
) -> Result<Tenant, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id BETWEEN $1 AND $2 AND id = $3"))
        .bind(low)
        .bind(high)
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("tenant", &id)), read)
}

/// The tenant with this short name.
pub(crate) async fn by_slug(
    pool: &AnyPool,
    scope: Option<TenantId>,
    slug: &Slug,
) -> Result<Tenant, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id BETWEEN $1 AND $2 AND slug = $3"))
        .bind(low)
        .bind(high)
        .bind(slug.as_str())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("tenant", slug)), read)
}

fn read(row: &AnyRow) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: parsed(row, "id")?,
        slug: parsed(row, "slug")?,
        name: parsed(row, "name")?,
        model: parsed(row, "model")?,
        created_at: time(row, "created_at")?,
        version: get(row, "version")?,
    })
}
