//! What looks after orders came to: signed in the commit of what follows from it, and kept for ever.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::change::{FileHash, KeyId, Payload as _, Verified};
use domain::cloud::{ChangeId, CiId, EventKind, ReleaseId, TenantId, VerificationId};
use domain::fleet::SetDigest;
use domain::priority::PolicyRef;
use domain::verification::{Claim, Knowledge, Occasion, Record, Sighting, Verdict};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::orders::small;
use super::runs::corrupt;
use super::{Verification, VerificationFilter};
use crate::actor::Actor;
use crate::changes::load;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::checks;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::value::{get, hex, parsed, parsed_or_none, time_or_none};
use crate::writer::Tx;

/// Who signs what looks came to, with a key that is nobody else's.
pub trait Verifier: Send + Sync + 'static {
    /// The key's id.
    fn key(&self) -> KeyId;

    /// A Statement's bytes in a signed DSSE envelope, in JSON.
    ///
    /// # Errors
    /// If they cannot be signed, in words.
    fn sign(&self, statement: &[u8]) -> Result<String, String>;
}

/// A look at an item after an order on it.
pub(super) struct Look {
    pub(super) release: ReleaseId,
    pub(super) change: ChangeId,
    pub(super) tenant: TenantId,
    pub(super) ci: CiId,
    pub(super) claim: Claim,
    pub(super) occasion: Occasion,
    pub(super) seen: Option<Sighting>,
    pub(super) verdict: Verdict,
}

/// What records of one commit have in common, read once for all of them.
#[derive(Default)]
pub(super) struct Backdrop {
    policies: BTreeMap<(ChangeId, TenantId), PolicyRef>,
    knowledge: BTreeMap<(TenantId, SetDigest), Option<Knowledge>>,
}

impl Backdrop {
    async fn policy(
        &mut self,
        tx: &mut Tx<'_>,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<PolicyRef, StoreError> {
        Ok(match self.policies.entry((change, tenant)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                new.insert(load::policy_of(&mut *tx.connection, change, tenant).await?).clone()
            }
        })
    }

    async fn knowledge(
        &mut self,
        tx: &mut Tx<'_>,
        tenant: TenantId,
        set: SetDigest,
    ) -> Result<Option<Knowledge>, StoreError> {
        Ok(match self.knowledge.entry((tenant, set)) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let report = checks::last_report(&mut *tx.connection, tenant, set).await?;
                let known = report.map(|(report, sha256)| Knowledge::of(&report, sha256));
                new.insert(known).clone()
            }
        })
    }
}

/// Signs and keeps what a look came to, and puts its digest on the way into the ledger. A look that says
/// what the one before it said makes no second record. Says whether it was kept.
pub(super) async fn keep(
    tx: &mut Tx<'_>,
    verifier: &dyn Verifier,
    backdrop: &mut Backdrop,
    look: Look,
) -> Result<Option<VerificationId>, StoreError> {
    let Look { release, change, tenant, ci, claim, occasion, seen, verdict } = look;
    let knowledge = match &seen {
        Some(seen) => backdrop.knowledge(tx, tenant, seen.package_set).await?,
        None => None,
    };
    let record = Record {
        id: VerificationId::new(tx.now, tx.random()),
        release,
        change,
        tenant,
        ci,
        claim,
        occasion,
        seen,
        verdict,
        policy: backdrop.policy(tx, change, tenant).await?,
        knowledge,
        verified_at: tx.now,
    };
    let row = sqlx::query(
        "SELECT id, statement, envelope, key_id FROM verifications
         WHERE order_nonce = $1 ORDER BY id DESC LIMIT 1",
    )
    .bind(record.claim.order.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let before = row.as_ref().map(read).transpose()?;
    if before.is_some_and(|before| record.repeats(&before.record)) {
        return Ok(None);
    }
    let statement = record.to_payload();
    let envelope = verifier.sign(&statement).map_err(|error| corrupt("a verification", &error))?;
    sqlx::query(
        "INSERT INTO verifications (id, tenant_id, ci_id, change_id, order_nonce, statement,
                                    envelope, key_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(record.id.to_string())
    .bind(tenant.to_string())
    .bind(ci.to_string())
    .bind(change.to_string())
    .bind(record.claim.order.to_string())
    .bind(String::from_utf8_lossy(&statement).into_owned())
    .bind(&envelope)
    .bind(verifier.key().to_string())
    .execute(&mut *tx.connection)
    .await?;
    let told = record.verdict.to_string();
    tx.record(NewEvent {
        tenant,
        kind: EventKind::VerificationRecorded,
        by: Actor::System,
        object: ci.to_string(),
        version: 1,
        payload: json!({
            "verification": record.id, "release": release, "change": change,
            "order": record.claim.order, "execution": record.claim.execution,
            "occasion": occasion, "verdict": record.verdict.as_str(),
            "because": (!told.is_empty()).then_some(told), "key": verifier.key(),
            "statement_sha256": hex(&Sha256::digest(&statement)),
        }),
    });
    Ok(Some(record.id))
}

/// What an agent said of an attempt at an item.
pub(super) async fn claim(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    attempt: u32,
) -> Result<Claim, StoreError> {
    let row = sqlx::query(
        "SELECT nonce, plan_hash, stage, agent_id, execution, answer_sha256, answered_at FROM orders
         WHERE release_id = $1 AND ci_id = $2 AND attempt = $3",
    )
    .bind(release.to_string())
    .bind(ci.to_string())
    .bind(i64::from(attempt))
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("order", &ci))?;
    Ok(Claim {
        plan: parsed(&row, "plan_hash")?,
        stage: small(&row, "stage")? + 1,
        order: parsed(&row, "nonce")?,
        agent: parsed_or_none(&row, "agent_id")?,
        execution: parsed_or_none(&row, "execution")?,
        result: parsed_or_none::<FileHash>(&row, "answer_sha256")?,
        answered_at: time_or_none(&row, "answered_at")?,
    })
}

/// What the last look after an order came to, also of a later one; `None` where nobody looked.
pub(crate) async fn last_verdict(
    tx: &mut Tx<'_>,
    order: &str,
) -> Result<Option<Verdict>, StoreError> {
    let row = sqlx::query(
        "SELECT id, statement, envelope, key_id FROM verifications
         WHERE order_nonce = $1 ORDER BY id DESC LIMIT 1",
    )
    .bind(order)
    .fetch_optional(&mut *tx.connection)
    .await?;
    Ok(row.as_ref().map(read).transpose()?.map(|found| found.record.verdict))
}

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT id, tenant_id, statement, envelope, key_id FROM verifications
             WHERE tenant_id BETWEEN $1 AND $2 AND ($3 = '' OR id < $3) AND ",
            $where,
            " ORDER BY id DESC LIMIT $5"
        )
    };
}

pub(super) async fn list(
    pool: &AnyPool,
    by: &Actor,
    filter: VerificationFilter,
    page: &PageRequest,
) -> Result<Page<Verification>, StoreError> {
    let (low, high) = range(by.scope());
    let (_, after) = page.place();
    // One statement for each index.
    let (statement, wanted) = match filter {
        VerificationFilter::All => (select!("$4 = ''"), String::new()),
        VerificationFilter::Item(ci) => (select!("ci_id = $4"), ci.to_string()),
        VerificationFilter::Change(change) => (select!("change_id = $4"), change.to_string()),
    };
    let rows = sqlx::query(statement)
        .bind(low)
        .bind(high)
        .bind(after)
        .bind(wanted)
        .bind(page.fetched())
        .fetch_all(pool)
        .await?;
    let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut(found, |it| Cursor::new(it.record.tenant, it.record.id)))
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    by: &Actor,
    id: VerificationId,
) -> Result<Verification, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query(
        "SELECT id, statement, envelope, key_id FROM verifications
         WHERE id = $1 AND tenant_id BETWEEN $2 AND $3",
    )
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| StoreError::not_found("verification", &id))?;
    read(&row)
}

fn read(row: &AnyRow) -> Result<Verification, StoreError> {
    let (statement, key): (String, KeyId) = (get(row, "statement")?, parsed(row, "key_id")?);
    let record = Verified::<Record>::signed_by(key, statement.as_bytes())
        .map_err(|error| corrupt("a verification", &error))?;
    Ok(Verification { record: record.said().clone(), key, envelope: get(row, "envelope")? })
}

#[cfg(test)]
mod tests {
    /// What is kept for ever has no statement that alters or removes it.
    #[test]
    fn no_statement_alters_or_removes_a_verification() {
        let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
        let mut read = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "rs" || it == "sql") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for verb in ["UPDATE", "DELETE FROM", "DROP TABLE"] {
                        let statement = format!("{verb} {}", "verifications");
                        let found = text.match_indices(&statement).any(|(at, _)| {
                            let next = text[at + statement.len()..].chars().next();
                            !next.is_some_and(|next| next == '_' || next.is_alphanumeric())
                        });
                        assert!(!found, "{statement} in {}", path.display());
                    }
                    read += 1;
                }
            }
        }
        assert!(read > 40, "the sources were looked at");
    }
}
