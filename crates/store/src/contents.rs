//! Which tenant has which images' bytes, and what is in them. The bytes themselves lie elsewhere, by
//! their hash, once for all tenants; whose they are is told here alone.

use domain::cloud::{EventKind, ImageId, TenantId};
use domain::fleet::{PackageSet, SetDigest};
use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::Store;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::systems;
use crate::images::{self, ImageContent};
use crate::tenants;
use crate::value::{get, parsed};
use crate::writer::Tx;

/// Contents of images.
impl Store {
    /// Notes that a tenant has these bytes, with these packages in them.
    pub async fn keep_content(
        &self,
        by: &Actor,
        tenant: TenantId,
        content: ImageContent,
        packages: PackageSet,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), content, packages), move |tx, (by, content, packages)| {
            Box::pin(async move {
                keep(tx, by, tenant, content, packages).await?;
                Ok(())
            })
        })
        .await
    }

    /// Notes that the tenant of a version that is used no more does without its bytes. Says which
    /// bytes nobody has then, if so.
    pub async fn forget_content(
        &self,
        by: &Actor,
        id: ImageId,
    ) -> Result<Option<String>, StoreError> {
        self.write((by.clone(), id), |tx, (by, id)| Box::pin(forget(tx, by, *id))).await
    }

    /// Notes that bytes which came in before an instant, and of which no version was made, are
    /// nobody's; says of how many tenants they were.
    pub async fn forget_unused_contents(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(forget_unused(tx, before))).await
    }

    /// How many bytes of images a tenant has.
    pub async fn bytes_of_images(&self, tenant: TenantId) -> Result<u64, StoreError> {
        bytes_of(&self.pool, tenant).await
    }

    /// Whether any tenant has these bytes.
    pub async fn is_content_known(&self, sha256: &str) -> Result<bool, StoreError> {
        is_known(&self.pool, sha256).await
    }
}

/// Notes whose bytes these are; the same ones again are read anew.
pub(crate) async fn keep(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    content: &ImageContent,
    packages: &PackageSet,
) -> Result<SetDigest, StoreError> {
    tenants::must_exist(tx, by, tenant).await?;
    let digest = systems::add_set(tx, by, tenant, packages).await?;
    let known =
        sqlx::query("SELECT package_set FROM image_contents WHERE tenant_id = $1 AND sha256 = $2")
            .bind(tenant.to_string())
            .bind(content.sha256.as_str())
            .fetch_optional(&mut *tx.connection)
            .await?;
    sqlx::query(
        "INSERT INTO image_contents
             (tenant_id, sha256, format, size, release, architecture, package_set, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, sha256) DO UPDATE SET
             format = excluded.format, size = excluded.size, release = excluded.release,
             architecture = excluded.architecture, package_set = excluded.package_set,
             created_at = excluded.created_at",
    )
    .bind(tenant.to_string())
    .bind(content.sha256.as_str())
    .bind(content.format.as_str())
    .bind(content.size)
    .bind(content.release.as_str())
    .bind(content.architecture.as_str())
    .bind(digest.to_string())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    if known.is_none() {
        record(
            tx,
            by,
            EventKind::ImageReceived,
            tenant,
            &content.sha256,
            json!({
                "content": content, "package_set": digest,
            }),
        );
    }
    Ok(digest)
}

/// What a tenant has, with its packages.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    tenant: TenantId,
    sha256: &str,
) -> Result<(ImageContent, SetDigest), StoreError> {
    let row = sqlx::query(
        "SELECT sha256, format, size, release, architecture, package_set FROM image_contents
         WHERE tenant_id = $1 AND sha256 = $2",
    )
    .bind(tenant.to_string())
    .bind(sha256)
    .fetch_optional(connection)
    .await?;
    read(&row.ok_or_else(|| StoreError::not_found("content of an image", &sha256))?)
}

async fn forget(tx: &mut Tx<'_>, by: &Actor, id: ImageId) -> Result<Option<String>, StoreError> {
    let image = images::find(&mut *tx.connection, by.scope(), id).await?;
    let sha256 = image.content.sha256.as_str();
    let row = sqlx::query(
        "SELECT
             (SELECT COUNT(*) FROM images
              WHERE tenant_id = $1 AND sha256 = $2 AND state NOT IN ('retired', 'rejected')) AS used,
             (SELECT COUNT(*) FROM jobs j JOIN images i ON i.id = j.image_id
              WHERE i.tenant_id = $1 AND i.sha256 = $2 AND j.state = 'running') AS busy",
    )
    .bind(image.tenant.to_string())
    .bind(sha256)
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "used")? > 0 {
        return Err(StoreError::Refused {
            reason: "a version that may still be used is of these bytes".to_owned(),
            help: "retire it first",
        });
    }
    if get::<i64>(&row, "busy")? > 0 {
        return Err(StoreError::Refused {
            reason: "a job works with these bytes".to_owned(),
            help: "wait for it, or cancel it",
        });
    }
    remove(tx, by, image.tenant, sha256).await?;
    let row = sqlx::query("SELECT COUNT(*) AS left_over FROM image_contents WHERE sha256 = $1")
        .bind(sha256)
        .fetch_one(&mut *tx.connection)
        .await?;
    Ok((get::<i64>(&row, "left_over")? == 0).then(|| sha256.to_owned()))
}

async fn forget_unused(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT c.tenant_id, c.sha256 FROM image_contents c
         WHERE c.created_at < $1 AND NOT EXISTS (
             SELECT 1 FROM images i WHERE i.tenant_id = c.tenant_id AND i.sha256 = c.sha256)
         ORDER BY c.tenant_id, c.sha256 LIMIT 1000",
    )
    .bind(before.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let sha256: String = get(row, "sha256")?;
        remove(tx, &Actor::System, parsed(row, "tenant_id")?, &sha256).await?;
    }
    Ok(rows.len() as u64)
}

async fn remove(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    sha256: &str,
) -> Result<(), StoreError> {
    let removed = sqlx::query("DELETE FROM image_contents WHERE tenant_id = $1 AND sha256 = $2")
        .bind(tenant.to_string())
        .bind(sha256)
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if removed > 0 {
        record(tx, by, EventKind::ImageForgotten, tenant, sha256, json!({ "sha256": sha256 }));
    }
    Ok(())
}

async fn bytes_of(pool: &AnyPool, tenant: TenantId) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM image_contents
         WHERE tenant_id = $1",
    )
    .bind(tenant.to_string())
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(get::<i64>(&row, "bytes")?).unwrap_or(0))
}

async fn is_known(pool: &AnyPool, sha256: &str) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM image_contents WHERE sha256 = $1 LIMIT 1")
        .bind(sha256)
        .fetch_optional(pool)
        .await?;
    Ok(row.is_some())
}

/// Bytes have no id of their own. The ledger shows everybody what is no id, and a hash tells whoever
/// has the same bytes that somebody else does: so the object is made an id of the hash.
fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    kind: EventKind,
    tenant: TenantId,
    sha256: &str,
    payload: serde_json::Value,
) {
    let mut first = [0; 16];
    for (at, byte) in first.iter_mut().enumerate() {
        let digits = sha256.get(2 * at..2 * at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    let object = ImageId::of_content(first).to_string();
    tx.record(NewEvent { tenant, kind, by: by.clone(), object, version: 1, payload });
}

fn read(row: &AnyRow) -> Result<(ImageContent, SetDigest), StoreError> {
    let content = ImageContent {
        sha256: get(row, "sha256")?,
        format: get(row, "format")?,
        size: get(row, "size")?,
        release: get(row, "release")?,
        architecture: get(row, "architecture")?,
    };
    Ok((content, parsed(row, "package_set")?))
}
