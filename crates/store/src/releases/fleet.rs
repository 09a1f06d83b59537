//! What a release is planned from: the items with all that hangs together, who of them lacks what, and
//! the plans that are there already.

use std::collections::{BTreeMap, BTreeSet};

use domain::change::Plan;
use domain::cloud::{ChangeId, CiId, TenantId};
use domain::fleet::SetDigest;
use domain::priority::Priority;

use crate::Store;
use crate::actor::Actor;
use crate::changes::{TrackedChange, load};
use crate::cis::{Ci, CiFilter};
use crate::error::StoreError;
use crate::fleet::findings;
use crate::page::{LONGEST_PAGE, PageRequest};
use crate::relations::Relation;
use crate::value::{get, parsed};

/// What a release of a change is planned from.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The change.
    pub change: TrackedChange,
    /// All items of the cloud.
    pub cis: Vec<Ci>,
    /// How they hang together.
    pub relations: Vec<Relation>,
    /// Who lacks a patch of the change.
    pub lacking: Vec<Lacking>,
    /// The tenants of whose items that is, or of whose items the change alters files, and how urgent it is for them.
    pub concerned: BTreeMap<TenantId, Priority>,
    /// The tenants' plans of the change in force.
    pub plans: BTreeMap<TenantId, Plan>,
    /// The items that do not do what their owners expect of them.
    pub sick: BTreeSet<CiId>,
    /// The items whose machines live at one of the provider's places.
    pub placed: BTreeSet<CiId>,
}

/// An item that lacks patches of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The item.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// What it has installed.
    pub digest: SetDigest,
    /// The source packages that it lacks patches of.
    pub sources: BTreeSet<String>,
    /// How urgent the change is for its tenant.
    pub priority: Priority,
}

pub(super) async fn ground(
    store: &Store,
    by: &Actor,
    change: ChangeId,
) -> Result<Ground, StoreError> {
    let tracked = store.change(by, change).await?;
    let mut cis = Vec::new();
    let mut page = PageRequest { after: None, limit: LONGEST_PAGE };
    loop {
        let found = store.cis(by, &CiFilter::default(), &page).await?;
        cis.extend(found.items);
        if found.next.is_none() {
            break;
        }
        page.after = found.next;
    }
    let mut relations = Vec::new();
    let mut page = PageRequest { after: None, limit: LONGEST_PAGE };
    loop {
        let found = store.all_relations(by, &page).await?;
        relations.extend(found.items);
        if found.next.is_none() {
            break;
        }
        page.after = found.next;
    }
    let lacking = lacking(store, change).await?;
    let mut concerned = altered(store, change).await?;
    concerned.extend(lacking.iter().map(|lacking| (lacking.tenant, lacking.priority)));
    let plans = plans(store, change).await?;
    let sick = items(store, "SELECT ci_id FROM ci_facts WHERE health = 'sick'").await?;
    let placed = items(store, "SELECT ci_id FROM ci_machines").await?;
    Ok(Ground { change: tracked, cis, relations, lacking, concerned, plans, sick, placed })
}

async fn items(store: &Store, which: &'static str) -> Result<BTreeSet<CiId>, StoreError> {
    let rows = sqlx::query(which).fetch_all(&store.pool).await?;
    rows.iter().map(|row| parsed(row, "ci_id")).collect()
}

/// The tenants of whose items a change alters files.
async fn altered(
    store: &Store,
    change: ChangeId,
) -> Result<BTreeMap<TenantId, Priority>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.tenant_id, o.priority FROM obligations o WHERE o.change_id = $1 AND EXISTS (
             SELECT 1 FROM alteration_files f
             WHERE f.change_id = o.change_id AND f.tenant_id = o.tenant_id)",
    )
    .bind(change.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "tenant_id")?, findings::priority(row)?))).collect()
}

async fn lacking(store: &Store, change: ChangeId) -> Result<Vec<Lacking>, StoreError> {
    let rows = sqlx::query(
        "SELECT f.ci_id, f.tenant_id, f.source, s.digest, o.priority FROM findings f
         JOIN change_patches p ON p.patch_id = f.patch_id
         JOIN obligations o ON o.change_id = p.change_id AND o.tenant_id = f.tenant_id
         JOIN systems s ON s.ci_id = f.ci_id
         WHERE p.change_id = $1 AND f.state = 'open'
         ORDER BY f.ci_id, f.source",
    )
    .bind(change.to_string())
    .fetch_all(&store.pool)
    .await?;
    let mut lacking: Vec<Lacking> = Vec::new();
    for row in &rows {
        let (ci, source): (CiId, String) = (parsed(row, "ci_id")?, get(row, "source")?);
        match lacking.last_mut() {
            Some(last) if last.ci == ci => {
                last.sources.insert(source);
            }
            _ => lacking.push(Lacking {
                ci,
                tenant: parsed(row, "tenant_id")?,
                digest: parsed(row, "digest")?,
                sources: BTreeSet::from([source]),
                priority: findings::priority(row)?,
            }),
        }
    }
    Ok(lacking)
}

async fn plans(store: &Store, change: ChangeId) -> Result<BTreeMap<TenantId, Plan>, StoreError> {
    let rows = sqlx::query(
        "SELECT plans.tenant_id AS tenant_id, plans.body AS body, obligations.record AS record
         FROM plans JOIN obligations ON obligations.change_id = plans.change_id
             AND obligations.tenant_id = plans.tenant_id
         WHERE plans.change_id = $1",
    )
    .bind(change.to_string())
    .fetch_all(&store.pool)
    .await?;
    let mut plans = BTreeMap::new();
    for row in &rows {
        let plan = load::read_plan(row)?;
        let kept: domain::obligation::KeptObligation = load::json(row, "record")?;
        if kept.plan() == Some(plan.hash()) {
            plans.insert(parsed(row, "tenant_id")?, plan);
        }
    }
    Ok(plans)
}
