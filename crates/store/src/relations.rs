//! How configuration items hang together.

use domain::cloud::{CiId, EventKind, PROVIDER, RelationKind, TenantId};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::cis::{self, Ci};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::releases;
use crate::value::parsed;
use crate::writer::Tx;

/// How one configuration item hangs together with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// From which.
    pub from: CiId,
    /// How.
    pub kind: RelationKind,
    /// To which.
    pub to: CiId,
}

/// Relates two configuration items of one tenant, or a tenant's to one of the provider's.
pub(crate) async fn relate(
    tx: &mut Tx<'_>,
    by: &Actor,
    relation: &Relation,
) -> Result<(), StoreError> {
    let from = cis::find(&mut *tx.connection, by.scope(), relation.from).await?;
    let to = cis::find(&mut *tx.connection, by.scope(), relation.to).await?;
    if to.tenant != from.tenant && to.tenant != PROVIDER {
        return Err(StoreError::Refused {
            reason: "the two belong to different tenants".to_owned(),
            help: "relate items of one tenant, or a tenant's to one of the provider's",
        });
    }
    if relation.kind.is_acyclic() && reaches(tx, relation).await? {
        return Err(StoreError::Refused {
            reason: format!("`{}` {} `{}` would close a circle", from.name, relation.kind, to.name),
            help: "remove the relation that points back first",
        });
    }
    let added = sqlx::query(
        "INSERT INTO relations (tenant_id, from_ci, kind, to_ci, created_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(from.tenant.to_string())
    .bind(from.id.to_string())
    .bind(relation.kind.as_str())
    .bind(to.id.to_string())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if added > 0 {
        tx.record(relation_event(by, &from, relation, EventKind::RelationAdded));
        settle(tx, relation).await?;
    }
    Ok(())
}

/// Ends a relation.
pub(crate) async fn unrelate(
    tx: &mut Tx<'_>,
    by: &Actor,
    relation: &Relation,
) -> Result<(), StoreError> {
    let from = cis::find(&mut *tx.connection, by.scope(), relation.from).await?;
    let removed =
        sqlx::query("DELETE FROM relations WHERE from_ci = $1 AND kind = $2 AND to_ci = $3")
            .bind(relation.from.to_string())
            .bind(relation.kind.as_str())
            .bind(relation.to.to_string())
            .execute(&mut *tx.connection)
            .await?
            .rows_affected();
    if removed == 0 {
        return Err(StoreError::not_found(
            "relation",
            &format!("{} {}", relation.kind, relation.to),
        ));
    }
    tx.record(relation_event(by, &from, relation, EventKind::RelationRemoved));
    settle(tx, relation).await
}

/// Releases reckon with what runs where.
async fn settle(tx: &mut Tx<'_>, relation: &Relation) -> Result<(), StoreError> {
    if relation.kind != RelationKind::RunsOn {
        return Ok(());
    }
    let rows = sqlx::query("SELECT to_ci FROM relations WHERE from_ci = $1 AND kind = $2")
        .bind(relation.from.to_string())
        .bind(relation.kind.as_str())
        .fetch_all(&mut *tx.connection)
        .await?;
    let runs_on: Vec<CiId> =
        rows.iter().map(|row| parsed(row, "to_ci")).collect::<Result<_, _>>()?;
    releases::settled(tx, relation.from, &runs_on).await
}

fn relation_event(by: &Actor, from: &Ci, relation: &Relation, kind: EventKind) -> NewEvent {
    NewEvent {
        tenant: from.tenant,
        kind,
        by: by.clone(),
        object: from.id.to_string(),
        version: from.version,
        payload: json!({ "kind": relation.kind, "to": relation.to }),
    }
}

/// Whether the relation's end already leads to its beginning.
async fn reaches(tx: &mut Tx<'_>, relation: &Relation) -> Result<bool, StoreError> {
    let found = sqlx::query(
        "WITH RECURSIVE onward (ci) AS (
             SELECT $1
             UNION
             SELECT r.to_ci FROM relations r JOIN onward ON r.from_ci = onward.ci WHERE r.kind = $2
         )
         SELECT ci FROM onward WHERE ci = $3",
    )
    .bind(relation.to.to_string())
    .bind(relation.kind.as_str())
    .bind(relation.from.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(found.is_some())
}

/// The relations of a configuration item, out of it and into it, as far as the scope goes.
pub(crate) async fn of(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: CiId,
) -> Result<Vec<Relation>, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(
        "SELECT from_ci, kind, to_ci FROM relations
         WHERE (from_ci = $1 OR to_ci = $1) AND tenant_id BETWEEN $2 AND $3
         ORDER BY from_ci, kind, to_ci",
    )
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// All relations in the scope. A place in this list is both items' ids, which are equally long, and
/// the kind.
pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<Relation>, StoreError> {
    let (low, high) = range(scope);
    let (tenant, place) = request.place();
    let part = |from: usize, to: usize| place.get(from..to).unwrap_or_default();
    let rows = sqlx::query(
        "SELECT tenant_id, from_ci, kind, to_ci FROM relations
         WHERE tenant_id BETWEEN $1 AND $2
             AND (tenant_id, from_ci, to_ci, kind) > ($3, $4, $5, $6)
         ORDER BY tenant_id, from_ci, to_ci, kind LIMIT $7",
    )
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(part(0, ID_LENGTH))
    .bind(part(ID_LENGTH, 2 * ID_LENGTH))
    .bind(part(2 * ID_LENGTH, place.len()))
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let found = rows
        .iter()
        .map(|row| Ok((parsed(row, "tenant_id")?, read(row)?)))
        .collect::<Result<Vec<(TenantId, Relation)>, StoreError>>()?;
    let page = request.cut(found, |(tenant, Relation { from, kind, to })| {
        Cursor::new(*tenant, format!("{from}{to}{kind}"))
    });
    let items = page.items.into_iter().map(|(_, relation)| relation).collect();
    Ok(Page { items, next: page.next })
}

/// Length of an item's id.
const ID_LENGTH: usize = 29;

fn read(row: &AnyRow) -> Result<Relation, StoreError> {
    Ok(Relation {
        from: parsed(row, "from_ci")?,
        kind: parsed(row, "kind")?,
        to: parsed(row, "to_ci")?,
    })
}
