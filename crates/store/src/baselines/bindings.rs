//! To which items a baseline applies, or does not.

use std::fmt;

use domain::cloud::{BaselineId, BindingId, CiId, Class, EventKind, GroupId, Side, TenantId};
use domain::configuration::baseline::{BaselineRef, Reach};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;

use super::{must_be_of, side};
use crate::Store;
use crate::actor::Actor;
use crate::answers::Once;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;
use crate::{cis, groups, tenants};

/// Bindings of one tenant, at most.
const MOST: i64 = 1000;

/// Which items are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Those of a class.
    Class(Class),
    /// Those of a group, whichever they are at the moment.
    Group(GroupId),
    /// One.
    Ci(CiId),
}

/// That items are held to a baseline, or are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Its id.
    pub id: BindingId,
    /// Whose items; all tenants', where it is the provider and a class is meant.
    pub tenant: TenantId,
    /// To which baseline.
    pub baseline: BaselineRef,
    /// Whose people said so.
    pub side: Side,
    /// Which items.
    pub target: Target,
    /// Whether they are held to it.
    pub holds: bool,
    /// Since when.
    pub bound_at: Timestamp,
    /// By whom.
    pub bound_by: String,
    /// Until when.
    pub ended_at: Option<Timestamp>,
}

/// What is to be said of a baseline.
#[derive(Debug, Clone)]
pub struct NewBinding {
    /// Whose items, where a class is meant; else it follows from the target.
    pub tenant: TenantId,
    /// Of which baseline.
    pub baseline: BaselineRef,
    /// Which items.
    pub target: Target,
    /// Whether they are held to it.
    pub holds: bool,
}

/// Which bindings are listed.
#[derive(Debug, Clone, Default)]
pub struct BindingFilter {
    /// Of one baseline.
    pub baseline: Option<BaselineRef>,
    /// Also those that ended.
    pub all: bool,
}

impl Target {
    /// How narrowly it is meant.
    pub const fn reach(self) -> Reach {
        match self {
            Self::Class(_) => Reach::Class,
            Self::Group(_) => Reach::Group,
            Self::Ci(_) => Reach::Ci,
        }
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(match parsed(row, "reach")? {
            Reach::Class => Self::Class(parsed(row, "target")?),
            Reach::Group => Self::Group(parsed(row, "target")?),
            Reach::Ci => Self::Ci(parsed(row, "target")?),
        })
    }

    /// Whose items it means; the tenant given, where a class is meant.
    pub(super) async fn tenant(
        self,
        tx: &mut Tx<'_>,
        by: &Actor,
        given: TenantId,
    ) -> Result<TenantId, StoreError> {
        match self {
            Self::Class(_) => {
                tenants::must_exist(tx, by, given).await?;
                Ok(given)
            }
            Self::Group(id) => Ok(groups::find(&mut *tx.connection, by.scope(), id).await?.tenant),
            Self::Ci(id) => Ok(cis::find(&mut *tx.connection, by.scope(), id).await?.tenant),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => fmt::Display::fmt(class, f),
            Self::Group(id) => fmt::Display::fmt(id, f),
            Self::Ci(id) => fmt::Display::fmt(id, f),
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, baseline, side, reach, target, holds, bound_at, bound_by, ended_at
             FROM baseline_bindings ",
            $rest
        )
    };
}

/// To which items baselines apply.
impl Store {
    /// Says that items are held to a baseline, or are not, from the next audit on.
    pub async fn bind_baseline(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewBinding,
    ) -> Result<Binding, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(bind(tx, by, new))).await
    }

    /// What is said.
    pub async fn baseline_bindings(
        &self,
        by: &Actor,
        filter: &BindingFilter,
        page: &PageRequest,
    ) -> Result<Page<Binding>, StoreError> {
        let (low, high) = range(by.scope());
        let (tenant, id) = page.place();
        let rows = sqlx::query(select!(
            "WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
                 AND (ended_at IS NULL OR $5 = 1) AND ($6 = '' OR baseline = $6)
             ORDER BY tenant_id, id LIMIT $7"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant)
        .bind(id)
        .bind(i64::from(filter.all))
        .bind(filter.baseline.as_ref().map(ToString::to_string).unwrap_or_default())
        .bind(page.fetched())
        .fetch_all(&self.pool)
        .await?;
        let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(found, |it: &Binding| Cursor::new(it.tenant, it.id)))
    }

    /// Says it no more.
    pub async fn unbind_baseline(&self, by: &Actor, id: BindingId) -> Result<Binding, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(unbind(tx, by, id))).await
    }
}

async fn bind(tx: &mut Tx<'_>, by: &Actor, new: &NewBinding) -> Result<Binding, StoreError> {
    let tenant = new.target.tenant(tx, by, new.tenant).await?;
    if let BaselineRef::Own(id) = &new.baseline {
        super::meant_for(tx, by, *id, tenant).await?;
    }
    let row = sqlx::query(
        "SELECT COUNT(*) AS items FROM baseline_bindings WHERE tenant_id = $1 AND ended_at IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "items")? >= MOST {
        return Err(StoreError::Refused {
            reason: format!("there are {MOST} bindings already"),
            help: "bind groups, not single items",
        });
    }
    let binding = Binding {
        id: BindingId::new(tx.now, tx.random()),
        tenant,
        baseline: new.baseline.clone(),
        side: side(by),
        target: new.target,
        holds: new.holds,
        bound_at: tx.now,
        bound_by: by.id(),
        ended_at: None,
    };
    sqlx::query(
        "INSERT INTO baseline_bindings
         (id, tenant_id, baseline, side, reach, target, holds, bound_at, bound_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(binding.id.to_string())
    .bind(tenant.to_string())
    .bind(binding.baseline.to_string())
    .bind(binding.side.as_str())
    .bind(binding.target.reach().as_str())
    .bind(binding.target.to_string())
    .bind(i64::from(binding.holds))
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("binding of the baseline to", &binding.target))?;
    record(tx, by, EventKind::BaselineBound, &binding);
    Ok(binding)
}

async fn unbind(tx: &mut Tx<'_>, by: &Actor, id: BindingId) -> Result<Binding, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *tx.connection)
        .await?;
    let mut binding = read(&row.ok_or_else(|| StoreError::not_found("binding", &id))?)?;
    must_be_of(by, binding.side)?;
    end(tx, by, &mut binding).await?;
    Ok(binding)
}

async fn end(tx: &mut Tx<'_>, by: &Actor, binding: &mut Binding) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE baseline_bindings SET ended_at = $1, ended_by = $2
         WHERE id = $3 AND ended_at IS NULL",
    )
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .bind(binding.id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if ended == 0 {
        return Err(StoreError::Refused {
            reason: "the binding has ended before".to_owned(),
            help: "list what is bound now",
        });
    }
    binding.ended_at = Some(tx.now);
    record(tx, by, EventKind::BaselineUnbound, binding);
    Ok(())
}

/// Ends what binds a baseline that is withdrawn.
pub(super) async fn end_of_baseline(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: BaselineId,
) -> Result<(), StoreError> {
    let rows = sqlx::query(select!("WHERE baseline = $1 AND ended_at IS NULL ORDER BY id"))
        .bind(id.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        end(tx, by, &mut read(row)?).await?;
    }
    Ok(())
}

/// Ends what is bound to a group that is dissolved.
pub(crate) async fn end_of_group(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: GroupId,
) -> Result<(), StoreError> {
    let rows = sqlx::query(select!("WHERE target = $1 AND ended_at IS NULL ORDER BY id"))
        .bind(id.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        end(tx, by, &mut read(row)?).await?;
    }
    Ok(())
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, binding: &Binding) {
    tx.record(NewEvent {
        tenant: binding.tenant,
        kind,
        by: by.clone(),
        object: binding.id.to_string(),
        version: 1,
        payload: json!({
            "baseline": binding.baseline, "target": binding.target, "holds": binding.holds,
            "side": binding.side,
        }),
    });
}

fn read(row: &AnyRow) -> Result<Binding, StoreError> {
    Ok(Binding {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        baseline: parsed(row, "baseline")?,
        side: parsed(row, "side")?,
        target: Target::read(row)?,
        holds: get::<i64>(row, "holds")? == 1,
        bound_at: time(row, "bound_at")?,
        bound_by: get(row, "bound_by")?,
        ended_at: time_or_none(row, "ended_at")?,
    })
}
