//! Audits of what items are configured by: what each came to, and how to make the same report again.
//!
//! What was found is not kept here: it is configuration, and would outlive its erasure. A report is a function of the
//! history at a time and of [`AuditFacts`]; its hash is in the ledger, so that whoever makes it again can tell that it is
//! the same.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::agent::{FileManifest, HostFile};
use domain::cloud::{AuditId, CiId, EventKind, GroupId, TenantId};
use domain::configuration::audit::{AuditReport, Outcomes, Surveyed};
use domain::configuration::document::original_of;
use domain::fleet::SetDigest;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;

use crate::Store;
use crate::actor::Actor;
use crate::answers::Once;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::groups::member;
use crate::history::Manifest;
use crate::page::range;
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;

/// Items that one survey tells of, at most.
const MOST_SURVEYED: usize = 10_000;

/// What of a time is known beside the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFacts {
    /// When the item was heard of last.
    pub seen_at: Option<Timestamp>,
    /// What its agent said its files are.
    pub said: Option<SetDigest>,
}

/// An audit that is to be kept.
#[derive(Debug, Clone)]
pub struct NewAudit {
    /// Of which item.
    pub ci: CiId,
    /// What was known beside the history.
    pub facts: AuditFacts,
    /// What it came to.
    pub report: AuditReport,
}

/// An audit that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its id.
    pub id: AuditId,
    /// Whose item.
    pub tenant: TenantId,
    /// Which item.
    pub ci: CiId,
    /// As it was recorded at this time.
    pub at: Timestamp,
    /// Alterations since then were looked at.
    pub since: Timestamp,
    /// What was known beside the history.
    pub facts: AuditFacts,
    /// When it was kept.
    pub recorded_at: Timestamp,
    /// SHA-256 of the report.
    pub hash: String,
    /// What it came to.
    pub outcomes: Outcomes,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, ci_id, at, since, seen_at, said, recorded_at, hash, outcomes
             FROM audits ",
            $rest
        )
    };
}

/// Audits of what items are configured by.
impl Store {
    /// Keeps what an audit came to, with an event that has its hash.
    pub async fn keep_audit(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewAudit,
    ) -> Result<Audit, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(keep(tx, by, new))).await
    }

    /// Items that the actor may see and that are not retired, of a tenant or of a group where one is named, each with
    /// what its last audit came to.
    ///
    /// # Errors
    /// If they are more than one survey tells of.
    pub async fn surveyed(
        &self,
        by: &Actor,
        tenant: Option<TenantId>,
        group: Option<GroupId>,
    ) -> Result<Vec<Surveyed>, StoreError> {
        let (low, high) = range(by.scope());
        let rows = sqlx::query(concat!(
            "SELECT c.id, c.tenant_id, c.name, c.class, a.at, a.outcomes
             FROM cis c LEFT JOIN audits a
                 ON a.id = (SELECT MAX(x.id) FROM audits x WHERE x.ci_id = c.id)
             WHERE c.retired_at IS NULL AND c.tenant_id BETWEEN $1 AND $2
                 AND ($3 = '' OR c.tenant_id = $3) AND ",
            member!("$4"),
            " ORDER BY c.id LIMIT $5"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant.map(|id| id.to_string()).unwrap_or_default())
        .bind(group.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::try_from(MOST_SURVEYED).unwrap_or(i64::MAX) + 1)
        .fetch_all(&self.pool)
        .await?;
        if rows.len() > MOST_SURVEYED {
            return Err(StoreError::Refused {
                reason: format!("these are more than {MOST_SURVEYED} items"),
                help: "ask for one tenant, or for a group",
            });
        }
        rows.iter().map(surveyed).collect()
    }

    /// Audits of items that the actor may see, the newest first.
    pub async fn audits(
        &self,
        by: &Actor,
        ci: Option<CiId>,
        at_most: u16,
    ) -> Result<Vec<Audit>, StoreError> {
        let (low, high) = range(by.scope());
        let ci = ci.map(|ci| ci.to_string()).unwrap_or_default();
        let rows = sqlx::query(select!(
            "WHERE tenant_id BETWEEN $1 AND $2 AND ($3 = '' OR ci_id = $3) ORDER BY id DESC LIMIT $4"
        ))
        .bind(low)
        .bind(high)
        .bind(ci)
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// One audit.
    pub async fn audit(&self, by: &Actor, id: AuditId) -> Result<Audit, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
            .bind(id.to_string())
            .bind(low)
            .bind(high)
            .fetch_optional(&self.pool)
            .await?;
        read(&row.ok_or_else(|| StoreError::not_found("audit", &id))?)
    }

    /// What is known of an item beside its history, now.
    pub async fn audit_facts(&self, by: &Actor, ci: CiId) -> Result<AuditFacts, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT f.digest, (SELECT MAX(a.seen_at) FROM agents a WHERE a.ci_id = c.id) AS seen_at,
                    (SELECT COUNT(*) FROM sources s WHERE s.ci_id = c.id) AS sources,
                    (SELECT COUNT(*) FROM sources s WHERE s.ci_id = c.id AND s.state <> 'seen') AS unseen,
                    (SELECT MIN(s.seen_at) FROM sources s WHERE s.ci_id = c.id AND s.kind <> 'image')
                        AS source_seen_at
             FROM cis c LEFT JOIN ci_files f ON f.ci_id = c.id
             WHERE c.id = $1 AND c.tenant_id BETWEEN $2 AND $3",
        )
        .bind(ci.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(&self.pool)
        .await?;
        let row = row.ok_or_else(|| StoreError::not_found("configuration item", &ci))?;
        let (seen_at, said) = (time_or_none(&row, "seen_at")?, parsed_or_none(&row, "digest")?);
        let seen_at = match (get::<i64>(&row, "sources")?, get::<i64>(&row, "unseen")?) {
            (0, _) => seen_at,
            // Of what is not seen nobody knows what it is now.
            (_, 1..) => None,
            // What was heard of longest ago; and files of an image are what they were.
            _ => match (seen_at, time_or_none(&row, "source_seen_at")?) {
                (Some(agent), Some(source)) => Some(agent.min(source)),
                (one, None) | (None, one) => one.or_else(|| Some(self.environment.now())),
            },
        };
        Ok(AuditFacts { seen_at, said })
    }

    /// Items that are configured by something and were not audited for so long, each with when it was last.
    pub async fn due_audits(
        &self,
        every: SignedDuration,
        at_most: u16,
    ) -> Result<Vec<(CiId, Option<Timestamp>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.ci_id, d.last FROM (
                 SELECT f.ci_id, (SELECT MAX(a.at) FROM audits a WHERE a.ci_id = f.ci_id) AS last
                 FROM (SELECT ci_id FROM ci_files UNION SELECT ci_id FROM sources) f
                     JOIN cis c ON c.id = f.ci_id WHERE c.retired_at IS NULL) d
             WHERE d.last IS NULL OR d.last <= $1 ORDER BY d.ci_id LIMIT $2",
        )
        .bind((self.environment.now() - every).as_microsecond())
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((parsed(row, "ci_id")?, time_or_none(row, "last")?))).collect()
    }
}

async fn keep(tx: &mut Tx<'_>, by: &Actor, new: &NewAudit) -> Result<Audit, StoreError> {
    let NewAudit { ci, facts, report } = new;
    let found = cis::find(&mut *tx.connection, by.scope(), *ci).await?;
    let audit = Audit {
        id: AuditId::new(tx.now, tx.random()),
        tenant: found.tenant,
        ci: *ci,
        at: report.at,
        since: report.since,
        facts: *facts,
        recorded_at: tx.now,
        hash: report.hash(),
        outcomes: Outcomes::from(report),
    };
    let outcomes = json!(audit.outcomes);
    sqlx::query(
        "INSERT INTO audits
         (id, tenant_id, ci_id, at, since, seen_at, said, recorded_at, hash, outcomes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(audit.id.to_string())
    .bind(audit.tenant.to_string())
    .bind(ci.to_string())
    .bind(audit.at.as_microsecond())
    .bind(audit.since.as_microsecond())
    .bind(facts.seen_at.map(Timestamp::as_microsecond))
    .bind(facts.said.map(|it| it.to_string()))
    .bind(audit.recorded_at.as_microsecond())
    .bind(audit.hash.as_str())
    .bind(outcomes.to_string())
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: audit.tenant,
        kind: EventKind::ConfigurationAudited,
        by: by.clone(),
        object: ci.to_string(),
        version: found.version,
        payload: json!({
            "audit": audit.id, "at": audit.at, "hash": audit.hash,
            "baselines": audit.outcomes.baselines, "attributes": audit.outcomes.attributes,
        }),
    });
    Ok(audit)
}

fn surveyed(row: &AnyRow) -> Result<Surveyed, StoreError> {
    let last = match time_or_none(row, "at")? {
        Some(at) => Some((at, outcomes(row)?)),
        None => None,
    };
    Ok(Surveyed {
        ci: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: get(row, "name")?,
        class: parsed(row, "class")?,
        last,
    })
}

fn outcomes(row: &AnyRow) -> Result<Outcomes, StoreError> {
    let text: String = get(row, "outcomes")?;
    let corrupt = |error| StoreError::Corrupt { what: format!("outcomes of an audit: {error}") };
    serde_json::from_str(&text).map_err(corrupt)
}

fn read(row: &AnyRow) -> Result<Audit, StoreError> {
    Ok(Audit {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        at: time(row, "at")?,
        since: time(row, "since")?,
        facts: AuditFacts {
            seen_at: time_or_none(row, "seen_at")?,
            said: parsed_or_none(row, "said")?,
        },
        recorded_at: time(row, "recorded_at")?,
        hash: get(row, "hash")?,
        outcomes: outcomes(row)?,
    })
}

impl Manifest {
    /// What an agent would say all of it is, where the contents are at hand; nothing where a part was erased.
    pub fn digest(&self) -> Option<SetDigest> {
        let mut digests = BTreeMap::new();
        for (path, version) in self.files.iter().chain(&self.originals) {
            let ::history::State::Present { metadata, .. } = &version.state else { continue };
            let content = version.content.as_deref()?;
            let content = match original_of(path.as_str()) {
                Some(_) => BASE64_STANDARD.encode(content),
                None => str::from_utf8(content).ok()?.to_owned(),
            };
            let file = HostFile {
                path: path.as_str().to_owned(),
                mode: metadata.mode,
                owner: metadata.owner.clone(),
                label: String::from_utf8(metadata.label.clone()).ok()?,
                content,
                by: None,
            };
            digests.insert(file.path.clone(), file.digest());
        }
        self.erased.is_empty().then(|| FileManifest(digests).digest())
    }
}
