//! What one item is held to at a time, and what it was held to when an audit was kept.

use std::collections::BTreeMap;

use domain::cloud::{BaselineId, CiId, PROVIDER};
use domain::configuration::audit::Outcomes;
use domain::configuration::baseline::{BaselineRef, Said, Waiver};
use jiff::Timestamp;

use super::waivers::{self, select_waivers};
use super::{BaselineKind, BaselineVersion, KeptBaseline, read, read_version, select_with_content};
use crate::Store;
use crate::actor::Actor;
use crate::cis::Ci;
use crate::error::StoreError;
use crate::groups::member;
use crate::value::{get, parsed};

/// What was said of an item until a time. Who belongs to a group is asked as it is now.
#[derive(Debug, Clone)]
pub struct HeldTo {
    /// The item.
    pub ci: Ci,
    /// What each side said of each baseline.
    pub said: BTreeMap<BaselineRef, Vec<Said>>,
    /// Those among them that people put in, at the version of that time.
    pub own: BTreeMap<BaselineId, (KeptBaseline, BaselineVersion)>,
    /// Waivers that were in force then.
    pub waivers: Vec<Waiver>,
}

/// What an item was held to when an audit was kept.
#[derive(Debug, Clone, Default)]
pub struct KeptTo {
    /// Baselines that people put in, at the versions of then.
    pub own: BTreeMap<BaselineId, (KeptBaseline, BaselineVersion)>,
    /// Waivers that counted.
    pub waivers: Vec<Waiver>,
}

impl Store {
    /// What an item is held to at a time, whoever said so.
    pub async fn held_to(&self, by: &Actor, id: CiId, at: Timestamp) -> Result<HeldTo, StoreError> {
        let ci = self.ci(by, id).await?;
        let rows = sqlx::query(concat!(
            "SELECT b.baseline, b.side, b.reach, b.holds
             FROM baseline_bindings b JOIN cis c ON c.id = $1
             WHERE b.bound_at <= $2 AND (b.ended_at IS NULL OR b.ended_at > $2)
                 AND (b.tenant_id = c.tenant_id OR (b.tenant_id = $3 AND b.reach = 'class'))
                 AND ((b.reach = 'class' AND b.target = c.class)
                     OR (b.reach = 'ci' AND b.target = c.id)
                     OR (b.reach = 'group' AND ",
            member!("b.target"),
            "))
             ORDER BY b.id"
        ))
        .bind(id.to_string())
        .bind(at.as_microsecond())
        .bind(PROVIDER.to_string())
        .fetch_all(&self.pool)
        .await?;
        let mut said: BTreeMap<BaselineRef, Vec<Said>> = BTreeMap::new();
        for row in &rows {
            let one = Said {
                by: parsed(row, "side")?,
                reach: parsed(row, "reach")?,
                holds: get::<i64>(row, "holds")? == 1,
            };
            said.entry(parsed(row, "baseline")?).or_default().push(one);
        }
        let mut own = BTreeMap::new();
        for baseline in said.keys() {
            // What the provider binds to a class is everybody's, but for files: a report shows what differs.
            if let BaselineRef::Own(id) = baseline
                && let Some(found) = self.version_at(*id, at).await?
                && (found.0.kind == BaselineKind::Rules || found.0.tenant == ci.tenant)
            {
                own.insert(*id, found);
            }
        }
        let waivers = self.waivers_at(id, at).await?;
        Ok(HeldTo { ci, said, own, waivers })
    }

    /// What an item was held to when an audit came to this. What is not there any more is left out.
    pub async fn kept_to(
        &self,
        by: &Actor,
        id: CiId,
        outcomes: &Outcomes,
    ) -> Result<KeptTo, StoreError> {
        self.ci(by, id).await?;
        let mut kept = KeptTo::default();
        for judged_by in &outcomes.baselines {
            let Some(id) = judged_by.own else { continue };
            let row = sqlx::query(select_with_content!("WHERE b.id = $1 AND v.word = $2"))
                .bind(id.to_string())
                .bind(judged_by.version.as_str())
                .fetch_optional(&self.pool)
                .await?;
            if let Some(row) = row {
                kept.own.insert(id, (read(&row)?, read_version(&row)?));
            }
        }
        for waiver in &outcomes.waivers {
            let row = sqlx::query(select_waivers!("WHERE w.id = $1"))
                .bind(waiver.to_string())
                .fetch_optional(&self.pool)
                .await?;
            if let Some(row) = row {
                kept.waivers.push(waivers::read(&row)?.into());
            }
        }
        Ok(kept)
    }

    /// The version of a baseline that counted at a time.
    async fn version_at(
        &self,
        id: BaselineId,
        at: Timestamp,
    ) -> Result<Option<(KeptBaseline, BaselineVersion)>, StoreError> {
        let row = sqlx::query(select_with_content!(
            "WHERE b.id = $1 AND (b.withdrawn_at IS NULL OR b.withdrawn_at > $2) AND v.put_at <= $2
             ORDER BY v.number DESC LIMIT 1"
        ))
        .bind(id.to_string())
        .bind(at.as_microsecond())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((read(&row)?, read_version(&row)?))).transpose()
    }

    async fn waivers_at(&self, id: CiId, at: Timestamp) -> Result<Vec<Waiver>, StoreError> {
        let rows = sqlx::query(concat!(
            select_waivers!("JOIN cis c ON c.id = $1 "),
            "WHERE w.tenant_id = c.tenant_id AND w.given_at <= $2 AND w.until > $2
                 AND (w.ended_at IS NULL OR w.ended_at > $2)
                 AND ((w.reach = 'ci' AND w.target = c.id) OR (w.reach = 'group' AND ",
            member!("w.target"),
            ")) ORDER BY w.id"
        ))
        .bind(id.to_string())
        .bind(at.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(waivers::read(row)?.into())).collect()
    }
}
