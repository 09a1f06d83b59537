//! Configuration items.

use std::collections::BTreeMap;

use domain::cloud::{
    CiId, Class, Duty, EventKind, GroupId, LabelKey, Name, PROVIDER, ServiceModel, TenantId, duty,
};
use domain::priority::Exposure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::actor::Actor;
use crate::changes::{exclusions, open};
use crate::devices;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::{findings, systems};
use crate::groups::member;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::sources;
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;

/// A configuration item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ci {
    /// Its id.
    pub id: CiId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub class: Class,
    /// Unique within its tenant.
    pub name: Name,
    /// Who must patch it.
    pub duty: Duty,
    /// Why, where both sides agreed on something else than what follows from class and model.
    pub agreed: Option<AgreedDuty>,
    /// Labels.
    pub labels: Labels,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Since when it is gone.
    pub retired_at: Option<Timestamp>,
    /// Raised by each alteration.
    pub version: i64,
}

/// Labels of a configuration item.
pub type Labels = BTreeMap<LabelKey, String>;

/// A duty that both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedDuty {
    /// Who must patch.
    pub duty: Duty,
    /// Why, in words.
    pub reason: String,
}

/// A configuration item that is to be.
#[derive(Debug, Clone)]
pub struct NewCi {
    /// Whose it will be.
    pub tenant: TenantId,
    /// What it is.
    pub class: Class,
    /// Unique within its tenant.
    pub name: Name,
    /// Labels.
    pub labels: Labels,
}

/// What is to be altered; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct CiAlteration {
    /// Its name.
    pub name: Option<Name>,
    /// All its labels.
    pub labels: Option<Labels>,
    /// The agreed duty; `Some(None)` takes an agreement back.
    pub agreed: Option<Option<AgreedDuty>>,
}

/// Which configuration items are asked for.
#[derive(Debug, Clone, Default)]
pub struct CiFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of one class.
    pub class: Option<Class>,
    /// With this in the name, capitals aside.
    pub name: Option<String>,
    /// With this label.
    pub label: Option<(LabelKey, String)>,
    /// Of one group.
    pub group: Option<GroupId>,
    /// Also those that are gone.
    pub retired: bool,
}

/// How many configuration items there are, by class.
pub type ClassCounts = Vec<(Class, u64)>;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.tenant_id, c.class, c.name, c.agreed_duty, c.agreed_reason, c.created_at,
                    c.retired_at, c.version, t.model
             FROM cis c JOIN tenants t ON t.id = c.tenant_id ",
            $rest
        )
    };
}

pub(crate) async fn create(tx: &mut Tx<'_>, by: &Actor, new: &NewCi) -> Result<Ci, StoreError> {
    let model = model_of(tx, by, new.tenant).await?;
    let id = CiId::new(tx.now, tx.random());
    sqlx::query(
        "INSERT INTO cis
         (id, tenant_id, class, name, agreed_duty, agreed_reason, created_at, retired_at, version)
         VALUES ($1, $2, $3, $4, NULL, NULL, $5, NULL, 1)",
    )
    .bind(id.to_string())
    .bind(new.tenant.to_string())
    .bind(new.class.as_str())
    .bind(new.name.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("configuration item", &new.name))?;
    insert_labels(tx, new.tenant, id, &new.labels).await?;
    tx.record(NewEvent {
        tenant: new.tenant,
        kind: EventKind::CiCreated,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        payload: json!({ "class": new.class, "name": new.name, "labels": new.labels }),
    });
    Ok(Ci {
        id,
        tenant: new.tenant,
        class: new.class,
        name: new.name.clone(),
        duty: duty_of(new.tenant, new.class, model, None),
        agreed: None,
        labels: new.labels.clone(),
        created_at: tx.now,
        retired_at: None,
        version: 1,
    })
}

/// Alters a configuration item. With `expected` given, only if nobody else did since.
pub(crate) async fn alter(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    expected: Option<i64>,
    alteration: &CiAlteration,
) -> Result<Ci, StoreError> {
    let mut ci = find(&mut *tx.connection, by.scope(), id).await?;
    check_version(&ci, expected)?;
    if ci.retired_at.is_some() {
        return Err(StoreError::Refused {
            reason: format!("`{}` is retired", ci.name),
            help: "create a new configuration item instead",
        });
    }
    let before = ci.version;
    if let Some(name) = &alteration.name {
        ci.name = name.clone();
    }
    if let Some(agreed) = &alteration.agreed {
        ci.agreed.clone_from(agreed);
    }
    ci.version += 1;
    let altered = sqlx::query(
        "UPDATE cis SET name = $1, agreed_duty = $2, agreed_reason = $3, version = $4
         WHERE id = $5 AND version = $6",
    )
    .bind(ci.name.as_str())
    .bind(ci.agreed.as_ref().map(|it| it.duty.as_str()))
    .bind(ci.agreed.as_ref().map(|it| it.reason.clone()))
    .bind(ci.version)
    .bind(id.to_string())
    .bind(before)
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("configuration item", &ci.name))?
    .rows_affected();
    if altered == 0 {
        return Err(stale(&ci, before));
    }
    let is_exposure = |(key, _): &(&LabelKey, &String)| key.as_str() == Exposure::LABEL;
    let (mut said_before, mut said_now) = (None, None);
    if let Some(labels) = &alteration.labels {
        sqlx::query("DELETE FROM ci_labels WHERE ci_id = $1")
            .bind(id.to_string())
            .execute(&mut *tx.connection)
            .await?;
        insert_labels(tx, ci.tenant, id, labels).await?;
        said_before = ci.labels.iter().find(is_exposure).map(|(_, value)| value.clone());
        said_now = labels.iter().find(is_exposure).map(|(_, value)| value.clone());
        ci.labels.clone_from(labels);
    }
    tx.record(NewEvent {
        tenant: ci.tenant,
        kind: EventKind::CiAltered,
        by: by.clone(),
        object: id.to_string(),
        version: ci.version,
        payload: json!({
            "name": ci.name,
            "labels": ci.labels,
            "agreed_duty": ci.agreed.as_ref().map(|it| it.duty),
            "agreed_reason": ci.agreed.as_ref().map(|it| &it.reason),
        }),
    });
    if alteration.labels.is_some() && exclusions::any(tx, ci.tenant).await? {
        exclusions::mark(tx, ci.tenant, Some(id)).await?;
    }
    if said_before != said_now {
        open::expose(tx, id).await?;
    }
    // The duty may follow from the agreement.
    find(&mut *tx.connection, by.scope(), id).await
}

/// Takes a configuration item out of the cloud; its history stays.
pub(crate) async fn retire(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    expected: Option<i64>,
) -> Result<Ci, StoreError> {
    let mut ci = find(&mut *tx.connection, by.scope(), id).await?;
    check_version(&ci, expected)?;
    if ci.retired_at.is_some() {
        return Ok(ci);
    }
    let before = ci.version;
    ci.version += 1;
    ci.retired_at = Some(tx.now);
    let retired =
        sqlx::query("UPDATE cis SET retired_at = $1, version = $2 WHERE id = $3 AND version = $4")
            .bind(tx.now.as_microsecond())
            .bind(ci.version)
            .bind(id.to_string())
            .bind(before)
            .execute(&mut *tx.connection)
            .await?
            .rows_affected();
    if retired == 0 {
        return Err(stale(&ci, before));
    }
    systems::forget(tx, id).await?;
    findings::retire(tx, id).await?;
    devices::forget(tx, by, id).await?;
    sources::forget(tx, by, id).await?;
    tx.record(NewEvent {
        tenant: ci.tenant,
        kind: EventKind::CiRetired,
        by: by.clone(),
        object: id.to_string(),
        version: ci.version,
        payload: json!({ "name": ci.name }),
    });
    Ok(ci)
}

pub(crate) async fn get_one(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: CiId,
) -> Result<Ci, StoreError> {
    find(&mut *pool.acquire().await?, scope, id).await
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    filter: &CiFilter,
    request: &PageRequest,
) -> Result<Page<Ci>, StoreError> {
    // A tenant that asks for another's items finds none.
    let (low, high) = range(scope);
    let (asked_low, asked_high) = range(filter.tenant);
    let (tenant, id) = request.place();
    let (key, value) = filter
        .label
        .clone()
        .map_or((String::new(), String::new()), |(key, value)| (key.to_string(), value));
    let rows = sqlx::query(concat!(
        select!(
            "WHERE c.tenant_id BETWEEN $1 AND $2 AND c.tenant_id BETWEEN $3 AND $4
                 AND (c.tenant_id, c.id) > ($5, $6)
                 AND ($7 = '' OR c.class = $7)
                 AND ($8 = '' OR LOWER(c.name) LIKE $8 ESCAPE '!')
                 AND ($9 = '' OR EXISTS (
                     SELECT 1 FROM ci_labels l
                     WHERE l.ci_id = c.id AND l.key = $9 AND l.value = $10))
                 AND ($11 = 1 OR c.retired_at IS NULL) AND "
        ),
        member!("$13"),
        " ORDER BY c.tenant_id, c.id LIMIT $12"
    ))
    .bind(low)
    .bind(high)
    .bind(asked_low)
    .bind(asked_high)
    .bind(tenant)
    .bind(id)
    .bind(filter.class.map_or("", Class::as_str))
    .bind(filter.name.as_deref().map(contains).unwrap_or_default())
    .bind(key)
    .bind(value)
    .bind(i64::from(filter.retired))
    .bind(request.fetched())
    .bind(filter.group.map(|id| id.to_string()).unwrap_or_default())
    .fetch_all(pool)
    .await?;
    let cis = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let mut page = request.cut(cis, |ci: &Ci| Cursor::new(ci.tenant, ci.id));
    add_labels(pool, &mut page.items).await?;
    Ok(page)
}

/// How many configuration items there are, by class, those that are gone aside.
pub(crate) async fn counts(
    pool: &AnyPool,
    scope: Option<TenantId>,
) -> Result<ClassCounts, StoreError> {
    let (low, high) = range(scope);
    let rows = sqlx::query(
        "SELECT class, COUNT(*) AS total FROM cis
         WHERE tenant_id BETWEEN $1 AND $2 AND retired_at IS NULL GROUP BY class ORDER BY class",
    )
    .bind(low)
    .bind(high)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((parsed(row, "class")?, get::<i64>(row, "total")?.unsigned_abs())))
        .collect()
}

/// A pattern for what holds a text, whatever is in it.
fn contains(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: CiId,
) -> Result<Ci, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE c.id = $1 AND c.tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *connection)
        .await?;
    let mut ci = match row {
        Some(row) => read(&row)?,
        None => return Err(StoreError::not_found("configuration item", &id)),
    };
    let rows = sqlx::query("SELECT key, value FROM ci_labels WHERE ci_id = $1")
        .bind(id.to_string())
        .fetch_all(connection)
        .await?;
    for row in &rows {
        ci.labels.insert(parsed(row, "key")?, get(row, "value")?);
    }
    Ok(ci)
}

/// The service model of a tenant that the actor may act for.
async fn model_of(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
) -> Result<ServiceModel, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query("SELECT model FROM tenants WHERE id = $1 AND id BETWEEN $2 AND $3")
        .bind(tenant.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *tx.connection)
        .await?;
    row.map_or_else(|| Err(StoreError::not_found("tenant", &tenant)), |row| parsed(&row, "model"))
}

async fn insert_labels(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: CiId,
    labels: &Labels,
) -> Result<(), StoreError> {
    for (key, value) in labels {
        sqlx::query("INSERT INTO ci_labels (tenant_id, ci_id, key, value) VALUES ($1, $2, $3, $4)")
            .bind(tenant.to_string())
            .bind(id.to_string())
            .bind(key.as_str())
            .bind(value.as_str())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

/// Reads the labels of a page's items, which lie between its first and last.
async fn add_labels(pool: &AnyPool, cis: &mut [Ci]) -> Result<(), StoreError> {
    for ci in cis {
        let rows = sqlx::query("SELECT key, value FROM ci_labels WHERE ci_id = $1")
            .bind(ci.id.to_string())
            .fetch_all(pool)
            .await?;
        for row in &rows {
            ci.labels.insert(parsed(row, "key")?, get(row, "value")?);
        }
    }
    Ok(())
}

fn check_version(ci: &Ci, expected: Option<i64>) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != ci.version => Err(stale(ci, expected)),
        _ => Ok(()),
    }
}

fn stale(ci: &Ci, expected: i64) -> StoreError {
    StoreError::Stale {
        what: "configuration item",
        id: ci.id.to_string(),
        expected,
        found: ci.version,
    }
}

fn duty_of(
    tenant: TenantId,
    class: Class,
    model: ServiceModel,
    agreed: Option<&AgreedDuty>,
) -> Duty {
    match agreed {
        Some(agreed) => agreed.duty,
        None if tenant == PROVIDER => Duty::Provider,
        None => duty(class, model),
    }
}

fn read(row: &AnyRow) -> Result<Ci, StoreError> {
    let tenant = parsed(row, "tenant_id")?;
    let class = parsed(row, "class")?;
    let agreed = match parsed_or_none(row, "agreed_duty")? {
        Some(duty) => {
            let reason: Option<String> = get(row, "agreed_reason")?;
            Some(AgreedDuty { duty, reason: reason.unwrap_or_default() })
        }
        None => None,
    };
    Ok(Ci {
        id: parsed(row, "id")?,
        tenant,
        class,
        name: parsed(row, "name")?,
        duty: duty_of(tenant, class, parsed(row, "model")?, agreed.as_ref()),
        agreed,
        labels: Labels::new(),
        created_at: time(row, "created_at")?,
        retired_at: time_or_none(row, "retired_at")?,
        version: get(row, "version")?,
    })
}
