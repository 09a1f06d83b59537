//! For which rules somebody answers instead of an item that does not keep them.

use domain::cloud::{EventKind, Side, TenantId, WaiverId};
use domain::configuration::baseline::{Baseline, BaselineRef, Waiver};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;

use super::bindings::Target;
use super::{BaselineContent, must_be_of, read_version, side};
use crate::Store;
use crate::actor::Actor;
use crate::answers::Once;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// How long somebody may answer for a rule: as long as risks are accepted.
pub const LONGEST_WAIVER: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Waivers of one tenant in force, at most.
const MOST: i64 = 1000;

/// That somebody answers for a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleWaiver {
    /// Its id.
    pub id: WaiverId,
    /// Whose items.
    pub tenant: TenantId,
    /// Of which baseline.
    pub baseline: BaselineRef,
    /// Which rule; of golden items, which file.
    pub rule: String,
    /// Whose people gave it.
    pub side: Side,
    /// For which items: a group, or one.
    pub target: Target,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub given_at: Timestamp,
    /// By whom it was given.
    pub given_by: String,
    /// Until when it counts.
    pub until: Timestamp,
    /// When it was taken back.
    pub ended_at: Option<Timestamp>,
}

/// A waiver that is to be.
#[derive(Debug, Clone)]
pub struct NewWaiver {
    /// Of which baseline.
    pub baseline: BaselineRef,
    /// Which rule; of golden items, which file.
    pub rule: String,
    /// For which items: a group, or one.
    pub target: Target,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when it counts.
    pub until: Timestamp,
}

impl From<RuleWaiver> for Waiver {
    fn from(it: RuleWaiver) -> Self {
        let RuleWaiver { id, baseline, rule, side, owner, reason, until, .. } = it;
        Self { id, baseline, rule, by: side, owner, reason, until }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT w.id, w.tenant_id, w.baseline, w.rule, w.side, w.reach, w.target, w.owner,
                 w.reason, w.given_at, w.given_by, w.until, w.ended_at
             FROM rule_waivers w ",
            $rest
        )
    };
}
pub(super) use select as select_waivers;

/// For which rules somebody answers.
impl Store {
    /// Lets somebody answer for a rule, for a while.
    pub async fn waive_rule(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewWaiver,
    ) -> Result<RuleWaiver, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(waive(tx, by, new))).await
    }

    /// Those in force; with those that are over, where `all` says so.
    pub async fn rule_waivers(
        &self,
        by: &Actor,
        all: bool,
        page: &PageRequest,
    ) -> Result<Page<RuleWaiver>, StoreError> {
        let (low, high) = range(by.scope());
        let (tenant, id) = page.place();
        let rows = sqlx::query(select!(
            "WHERE w.tenant_id BETWEEN $1 AND $2 AND (w.tenant_id, w.id) > ($3, $4)
                 AND ((w.ended_at IS NULL AND w.until > $5) OR $6 = 1)
             ORDER BY w.tenant_id, w.id LIMIT $7"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant)
        .bind(id)
        .bind(self.environment.now().as_microsecond())
        .bind(i64::from(all))
        .bind(page.fetched())
        .fetch_all(&self.pool)
        .await?;
        let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(found, |it: &RuleWaiver| Cursor::new(it.tenant, it.id)))
    }

    /// Takes one back: from the next audit on the rule counts again.
    pub async fn end_waiver(&self, by: &Actor, id: WaiverId) -> Result<RuleWaiver, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(end(tx, by, id))).await
    }
}

async fn waive(tx: &mut Tx<'_>, by: &Actor, new: &NewWaiver) -> Result<RuleWaiver, StoreError> {
    if matches!(new.target, Target::Class(_)) {
        return Err(StoreError::Refused {
            reason: "a rule is not waived for a whole class".to_owned(),
            help: "name a group or an item; for a class, unbind the baseline",
        });
    }
    // Where no class is meant, whose items they are follows from the target.
    let tenant = new.target.tenant(tx, by, by.tenant()).await?;
    must_have_the_rule(tx, by, new, tenant).await?;
    if new.until <= tx.now || new.until > tx.now + LONGEST_WAIVER {
        return Err(StoreError::Refused {
            reason: format!("a rule cannot be waived until {}", new.until),
            help: "give an instant between now and 366 days from now",
        });
    }
    let row = sqlx::query(
        "SELECT COUNT(*) AS items FROM rule_waivers
         WHERE tenant_id = $1 AND ended_at IS NULL AND until > $2",
    )
    .bind(tenant.to_string())
    .bind(tx.now.as_microsecond())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "items")? >= MOST {
        return Err(StoreError::Refused {
            reason: format!("there are {MOST} waivers in force already"),
            help: "waive for a group, or put in a baseline of your own without the rules",
        });
    }
    let NewWaiver { baseline, rule, target, owner, reason, until } = new.clone();
    let waiver = RuleWaiver {
        id: WaiverId::new(tx.now, tx.random()),
        tenant,
        baseline,
        rule,
        side: side(by),
        target,
        owner,
        reason,
        given_at: tx.now,
        given_by: by.id(),
        until,
        ended_at: None,
    };
    insert(tx, &waiver).await?;
    record(tx, by, EventKind::RuleWaived, &waiver);
    Ok(waiver)
}

/// A waiver of what nobody asks says nothing, and is a slip.
async fn must_have_the_rule(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewWaiver,
    tenant: TenantId,
) -> Result<(), StoreError> {
    let has = |baseline: &Baseline| baseline.rules.iter().any(|rule| rule.id == new.rule);
    let is_there = match &new.baseline {
        BaselineRef::BuiltIn(name) => {
            Baseline::built_in().iter().find(|it| it.id == *name).is_some_and(has)
        }
        BaselineRef::Own(id) => {
            let kept = super::meant_for(tx, by, *id, tenant).await?;
            let row = sqlx::query(super::select_with_content!("WHERE b.id = $1 AND v.number = $2"))
                .bind(id.to_string())
                .bind(kept.number)
                .fetch_one(&mut *tx.connection)
                .await?;
            match read_version(&row)?.content {
                BaselineContent::Rules(text) => Baseline::parse(&text).is_ok_and(|it| has(&it)),
                BaselineContent::Golden(source) => {
                    source.paths.iter().any(|pattern| pattern.has(&new.rule))
                }
                BaselineContent::Release(source) => source.files.contains_key(&new.rule),
            }
        }
    };
    if is_there {
        return Ok(());
    }
    Err(StoreError::Refused {
        reason: format!("the baseline {} has no rule `{}`", new.baseline, new.rule),
        help: "name a rule as the audit tells it; of a baseline of files, the path of one",
    })
}

async fn insert(tx: &mut Tx<'_>, waiver: &RuleWaiver) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rule_waivers
         (id, tenant_id, baseline, rule, side, reach, target, owner, reason, given_at, given_by, until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(waiver.id.to_string())
    .bind(waiver.tenant.to_string())
    .bind(waiver.baseline.to_string())
    .bind(waiver.rule.as_str())
    .bind(waiver.side.as_str())
    .bind(waiver.target.reach().as_str())
    .bind(waiver.target.to_string())
    .bind(waiver.owner.as_str())
    .bind(waiver.reason.as_str())
    .bind(waiver.given_at.as_microsecond())
    .bind(waiver.given_by.as_str())
    .bind(waiver.until.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn end(tx: &mut Tx<'_>, by: &Actor, id: WaiverId) -> Result<RuleWaiver, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query(select!("WHERE w.id = $1 AND w.tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&mut *tx.connection)
        .await?;
    let mut waiver = read(&row.ok_or_else(|| StoreError::not_found("waiver", &id))?)?;
    must_be_of(by, waiver.side)?;
    let ended = sqlx::query(
        "UPDATE rule_waivers SET ended_at = $1, ended_by = $2
         WHERE id = $3 AND ended_at IS NULL AND until > $1",
    )
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if ended == 0 {
        return Err(StoreError::Refused {
            reason: "the waiver is over".to_owned(),
            help: "list those in force",
        });
    }
    waiver.ended_at = Some(tx.now);
    record(tx, by, EventKind::RuleWaiverEnded, &waiver);
    Ok(waiver)
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, waiver: &RuleWaiver) {
    tx.record(NewEvent {
        tenant: waiver.tenant,
        kind,
        by: by.clone(),
        object: waiver.id.to_string(),
        version: 1,
        payload: json!({
            "baseline": waiver.baseline, "rule": waiver.rule, "target": waiver.target,
            "side": waiver.side, "owner": waiver.owner, "reason": waiver.reason,
            "until": waiver.until,
        }),
    });
}

pub(super) fn read(row: &AnyRow) -> Result<RuleWaiver, StoreError> {
    Ok(RuleWaiver {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        baseline: parsed(row, "baseline")?,
        rule: get(row, "rule")?,
        side: parsed(row, "side")?,
        target: Target::read(row)?,
        owner: get(row, "owner")?,
        reason: get(row, "reason")?,
        given_at: time(row, "given_at")?,
        given_by: get(row, "given_by")?,
        until: time(row, "until")?,
        ended_at: time_or_none(row, "ended_at")?,
    })
}
