//! Groups of configuration items: those of a tenant that have a class and certain labels.
//!
//! Who belongs to a group is asked when it matters, never kept: an item that gets a label is in its
//! groups from that commit on.

use domain::cloud::{Class, EventKind, GroupId, Name, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::baselines;
use crate::cis::Labels;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::tenants;
use crate::value::{get, parsed, time};
use crate::writer::Tx;

/// A group of configuration items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Whose items.
    pub tenant: TenantId,
    /// Unique within its tenant.
    pub name: Name,
    /// What it is for, in words.
    pub description: String,
    /// Which items belong to it.
    pub selector: Selector,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Raised by each alteration.
    pub version: i64,
}

/// Which items belong to a group: those of the class, where one is named, with all the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Of one class.
    pub class: Option<Class>,
    /// With all of these labels.
    pub labels: Labels,
}

/// A group that is to be.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// Whose items.
    pub tenant: TenantId,
    /// Unique within its tenant.
    pub name: Name,
    /// What it is for, in words.
    pub description: String,
    /// Which items belong to it.
    pub selector: Selector,
}

/// What is to be altered; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct GroupAlteration {
    /// Its name.
    pub name: Option<Name>,
    /// What it is for.
    pub description: Option<String>,
    /// Which items belong to it.
    pub selector: Option<Selector>,
}

/// The condition that the item `c` belongs to a group whose id is bound; an empty id is any item.
macro_rules! member {
    ($id:literal) => {
        concat!(
            "(",
            $id,
            " = '' OR EXISTS (
                 SELECT 1 FROM ci_groups g
                 WHERE g.id = ",
            $id,
            "    AND g.tenant_id = c.tenant_id AND (g.class = '' OR g.class = c.class)
                     AND NOT EXISTS (
                         SELECT 1 FROM group_labels w
                         WHERE w.group_id = g.id AND NOT EXISTS (
                             SELECT 1 FROM ci_labels l
                             WHERE l.ci_id = c.id AND l.key = w.key AND l.value = w.value))))"
        )
    };
}
pub(crate) use member;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, name, description, class, created_at, version FROM ci_groups ",
            $rest
        )
    };
}

pub(crate) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewGroup,
) -> Result<Group, StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    let NewGroup { tenant, name, description, selector } = new.clone();
    let id = GroupId::new(tx.now, tx.random());
    let group = Group { id, tenant, name, description, selector, created_at: tx.now, version: 1 };
    sqlx::query(
        "INSERT INTO ci_groups (id, tenant_id, name, description, class, created_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, 1)",
    )
    .bind(id.to_string())
    .bind(tenant.to_string())
    .bind(group.name.as_str())
    .bind(group.description.as_str())
    .bind(group.selector.class.map_or("", Class::as_str))
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("group", &group.name))?;
    insert_labels(tx, &group).await?;
    record(tx, by, EventKind::GroupCreated, &group);
    Ok(group)
}

/// Alters a group. With `expected` given, only if nobody else did since.
pub(crate) async fn alter(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: GroupId,
    expected: Option<i64>,
    alteration: &GroupAlteration,
) -> Result<Group, StoreError> {
    let mut group = current(tx, by, id, expected).await?;
    let GroupAlteration { name, description, selector } = alteration.clone();
    group.name = name.unwrap_or(group.name);
    group.description = description.unwrap_or(group.description);
    group.selector = selector.unwrap_or(group.selector);
    let before = group.version;
    group.version += 1;
    let altered = sqlx::query(
        "UPDATE ci_groups SET name = $1, description = $2, class = $3, version = $4
         WHERE id = $5 AND version = $6",
    )
    .bind(group.name.as_str())
    .bind(group.description.as_str())
    .bind(group.selector.class.map_or("", Class::as_str))
    .bind(group.version)
    .bind(id.to_string())
    .bind(before)
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("group", &group.name))?
    .rows_affected();
    if altered == 0 {
        return Err(stale(&group, before));
    }
    delete_labels(tx, id).await?;
    insert_labels(tx, &group).await?;
    record(tx, by, EventKind::GroupAltered, &group);
    Ok(group)
}

/// Dissolves a group; its items stay as they are.
pub(crate) async fn delete(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: GroupId,
    expected: Option<i64>,
) -> Result<(), StoreError> {
    let group = current(tx, by, id, expected).await?;
    delete_labels(tx, id).await?;
    let deleted = sqlx::query("DELETE FROM ci_groups WHERE id = $1 AND version = $2")
        .bind(id.to_string())
        .bind(group.version)
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if deleted == 0 {
        return Err(stale(&group, group.version));
    }
    record(tx, by, EventKind::GroupDissolved, &group);
    baselines::end_of_group(tx, by, id).await?;
    Ok(())
}

pub(crate) async fn get_one(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: GroupId,
) -> Result<Group, StoreError> {
    find(&mut *pool.acquire().await?, scope, id).await
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<Group>, StoreError> {
    let (low, high) = range(scope);
    let (tenant, id) = request.place();
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query(select!(
        "WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
         ORDER BY tenant_id, id LIMIT $5"
    ))
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(id)
    .bind(request.fetched())
    .fetch_all(&mut *connection)
    .await?;
    let groups = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut page = request.cut(groups, |group: &Group| Cursor::new(group.tenant, group.id));
    for group in &mut page.items {
        add_labels(&mut connection, group).await?;
    }
    Ok(page)
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: GroupId,
) -> Result<Group, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *connection)
        .await?;
    let row = row.ok_or_else(|| StoreError::not_found("group", &id))?;
    let mut group = read(&row)?;
    add_labels(connection, &mut group).await?;
    Ok(group)
}

/// A group at the version that is expected.
async fn current(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: GroupId,
    expected: Option<i64>,
) -> Result<Group, StoreError> {
    let group = find(&mut *tx.connection, by.scope(), id).await?;
    match expected {
        Some(expected) if expected != group.version => Err(stale(&group, expected)),
        _ => Ok(group),
    }
}

fn stale(group: &Group, expected: i64) -> StoreError {
    StoreError::Stale { what: "group", id: group.id.to_string(), expected, found: group.version }
}

async fn insert_labels(tx: &mut Tx<'_>, group: &Group) -> Result<(), StoreError> {
    for (key, value) in &group.selector.labels {
        sqlx::query("INSERT INTO group_labels (group_id, key, value) VALUES ($1, $2, $3)")
            .bind(group.id.to_string())
            .bind(key.as_str())
            .bind(value.as_str())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

async fn delete_labels(tx: &mut Tx<'_>, id: GroupId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM group_labels WHERE group_id = $1")
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

async fn add_labels(connection: &mut AnyConnection, group: &mut Group) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT key, value FROM group_labels WHERE group_id = $1")
        .bind(group.id.to_string())
        .fetch_all(connection)
        .await?;
    for row in &rows {
        group.selector.labels.insert(parsed(row, "key")?, get(row, "value")?);
    }
    Ok(())
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, group: &Group) {
    tx.record(NewEvent {
        tenant: group.tenant,
        kind,
        by: by.clone(),
        object: group.id.to_string(),
        version: group.version,
        payload: json!({
            "name": group.name, "description": group.description, "selector": group.selector,
        }),
    });
}

fn read(row: &AnyRow) -> Result<Group, StoreError> {
    let class: String = get(row, "class")?;
    let class = if class.is_empty() { None } else { Some(parsed(row, "class")?) };
    Ok(Group {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: parsed(row, "name")?,
        description: get(row, "description")?,
        selector: Selector { class, labels: Labels::new() },
        created_at: time(row, "created_at")?,
        version: get(row, "version")?,
    })
}
